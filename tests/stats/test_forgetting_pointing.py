"""Looking where one should, on attention known by hand."""

import math

import pytest
import torch

from vgpo.stats.forgetting import (
    pointing_hits,
    share_on_target,
)


def test_pointing_and_share_by_hand():
    attention = torch.tensor([[0.1, 0.3, 0.0], [0.2, 0.1, 0.1], [0.0, 0.0, 0.0]])
    targets = [(1, 2), (1,), (0,)]
    assert pointing_hits(attention, targets).tolist() == [True, False, False]
    share = share_on_target(attention, targets).tolist()
    assert share[:2] == pytest.approx([0.75, 0.25]) and math.isnan(share[2])


def test_a_step_without_target_never_points():
    attention = torch.tensor([[0.1, 0.3]])
    assert not pointing_hits(attention, [()]).any()


@pytest.mark.parametrize("function", [pointing_hits, share_on_target])
def test_bad_targets_are_refused(function):
    attention = torch.ones(2, 3)
    with pytest.raises(ValueError, match="one per step"):
        function(attention, [(0,)])
    with pytest.raises(ValueError, match="step 1"):
        function(attention, [(0,), (3,)])
    with pytest.raises(ValueError, match="image_attention"):
        function(torch.ones(2, 0), [(), ()])
