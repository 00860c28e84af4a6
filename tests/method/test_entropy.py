"""Entropy shaping against its formula, written as a loop."""

import pytest
import torch
from neighbours import (
    assert_same_under_padding_and_split,
    rollouts,
    shaped,
    tokens_of,
)

from vgpo.method.entropy import EntropyShaping
from vgpo.method.shaping import make_method


@pytest.mark.parametrize(("alpha", "kappa"), [(0.4, 2.0), (0.1, 1.5), (3.0, 5.0)])
def test_advantages_are_their_formula(alpha, kappa):
    batch = rollouts()
    got = shaped("entropy", batch, alpha=alpha, kappa=kappa)
    for row in range(len(batch.mask)):
        advantage = float(batch.advantages[row])
        for t in tokens_of(batch, row):
            bonus = alpha * float(batch.signals["entropy"][row, t])
            wanted = advantage + min(bonus, abs(advantage) / kappa)
            assert float(got[row, t]) == pytest.approx(wanted, abs=1e-6)


def test_without_alpha_it_is_the_loss_itself():
    batch = rollouts()
    method = EntropyShaping(alpha=0.0)
    assert method.signals == frozenset()
    assert torch.equal(method.shape(batch).advantages, batch.advantages)


def test_no_sign_changes_and_groups_without_advantage_stay_without():
    batch = rollouts()
    got = shaped("entropy", batch, alpha=50.0)
    plain = shaped("dapo", batch)
    assert torch.equal(got.sign(), plain.sign())
    # Positive ones grow by half, negative ones shrink by half.
    torch.testing.assert_close(got[plain > 0], 1.5 * plain[plain > 0])
    torch.testing.assert_close(got[plain < 0], 0.5 * plain[plain < 0])


def test_it_does_not_depend_on_padding_or_on_other_groups():
    assert_same_under_padding_and_split("entropy")


def test_logs_say_how_many_bonuses_are_cut():
    logs = make_method("entropy", {"alpha": 50.0}).shape(rollouts()).logs
    assert logs["entropy_shaping/capped_share"] == pytest.approx(1.0, abs=0.05)
    logs = make_method("entropy", {"alpha": 1e-6}).shape(rollouts()).logs
    assert logs["entropy_shaping/capped_share"] == 0.0
    assert 0 <= logs["entropy_shaping/bonus"] < 1e-5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -0.1}, "alpha must be at least 0"),
        ({"kappa": 1.0}, "kappa must be above 1"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        make_method("entropy", settings)
