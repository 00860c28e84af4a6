"""Attention on the image along one answer, on masses known by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stats.masses import MASK, MASS
from vgpo.stats.forgetting import (
    accumulation_ratio,
    progress_profile,
    uniform_shares,
)


def test_ratio_by_hand():
    # Five tokens: the third lies across the middle, and counts half on each side.
    early, late = 0.9 + 0.3 + 0.1, 0.1 + 0.1 + 0.1
    assert accumulation_ratio(MASS, MASK).item() == pytest.approx(late / early)
    # One fifth: early is the first token alone.
    fifth = accumulation_ratio(MASS, MASK, split=0.2).item()
    assert fifth == pytest.approx((0.3 + 0.2 + 0.1 + 0.1) / 0.9)


@pytest.mark.parametrize("length", [2, 3, 7, 100])
@pytest.mark.parametrize("split", [0.5, 0.25, 0.29])
def test_constant_mass_gives_the_ratio_of_the_parts(length, split):
    ratio = accumulation_ratio(
        torch.full((1, length), 0.3), torch.ones(1, length), split
    ).item()
    if length * min(split, 1 - split) < 1:
        assert math.isnan(ratio)
    else:
        assert ratio == pytest.approx((1 - split) / split)


def test_padding_on_either_side_does_not_matter():
    left = torch.cat([torch.full((1, 3), 7.0), MASS], dim=1)
    mask = torch.cat([torch.zeros(1, 3), MASK], dim=1)
    assert accumulation_ratio(left, mask) == accumulation_ratio(MASS, MASK)


def test_responses_without_a_ratio():
    mass = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.2, 0.0], [1.0] * 3])
    mask = torch.tensor([[1, 0, 0], [1, 1, 1], [1, 1, 0], [0, 0, 0]])
    one_token, no_image, two_tokens, empty = accumulation_ratio(mass, mask).tolist()
    assert math.isnan(one_token) and math.isnan(no_image) and math.isnan(empty)
    assert two_tokens == pytest.approx(0.4)


def test_image_that_is_never_looked_at_again_gives_zero():
    mass = torch.tensor([[0.5, 0.0]])
    assert accumulation_ratio(mass, torch.ones(1, 2)).item() == 0.0


@pytest.mark.parametrize("split", [0.0, 1.0, -0.1, math.nan])
def test_split_outside_the_response_is_refused(split):
    with pytest.raises(ValueError, match="split"):
        accumulation_ratio(MASS, MASK, split)


def test_bad_masses_are_refused():
    with pytest.raises(ValueError, match="completion_mask"):
        accumulation_ratio(MASS, MASK[:, :3])
    with pytest.raises(ValueError, match="negative"):
        accumulation_ratio(-MASS, MASK)
    with pytest.raises(ValueError, match="image_mass"):
        accumulation_ratio(MASS[0], MASK[0])


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 23), min_size=1, max_size=4),
    bins=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_profile_is_the_mean_of_the_response_as_a_step_function(lengths, bins, seed):
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    mass = torch.rand(len(lengths), width, generator=generator, dtype=torch.float64)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    profile = progress_profile(mass, mask, bins)
    for row, length in enumerate(lengths):
        # lcm(length, bins) cells are fine enough for both grids.
        fine = mass[row, :length].repeat_interleave(bins).view(bins, length)
        torch.testing.assert_close(profile[row], fine.mean(dim=1))


def test_profile_of_shares_still_sums_to_one():
    shares = torch.rand(3, 9, 3)
    shares /= shares.sum(dim=2, keepdim=True)
    mask = torch.arange(9) < torch.tensor([[9], [4], [1]])
    profile = progress_profile(shares, mask, bins=5)
    torch.testing.assert_close(
        profile.sum(dim=2), torch.ones(3, 5, dtype=torch.float64)
    )


@pytest.mark.parametrize("alignment", ["prediction", "token"])
def test_uniform_shares_are_those_of_equal_weights_over_a_causal_row(alignment):
    image, query = [5, 0, 3], [2, 4, 0]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]])
    found = uniform_shares(image, query, mask, alignment)
    assert found.dtype == torch.float64 and found.shape == (3, 4, 3)
    for row in range(3):
        steps = torch.nonzero(mask[row])[:, 0].tolist()
        kinds = [0] * image[row] + [1] * query[row] + [2] * len(steps)
        scores = torch.zeros(len(kinds), len(kinds), dtype=torch.float64)
        causal = torch.ones_like(scores).tril().bool()
        weights = scores.masked_fill(~causal, -torch.inf).softmax(dim=1)
        for t, step in enumerate(steps):
            at = image[row] + query[row] + t - (alignment == "prediction")
            sums = [
                sum(
                    w
                    for w, kind in zip(weights[at].tolist(), kinds, strict=True)
                    if kind == k
                )
                for k in range(3)
            ]
            assert found[row, step].tolist() == pytest.approx(sums)
    assert (found[~mask.bool()] == 0).all()


def test_nothing_is_forgotten_and_long_answers_have_the_lower_ratio():
    lengths = torch.tensor([4, 8, 16, 64, 256])
    mask = torch.arange(256) < lengths[:, None]
    share = uniform_shares([9] * 5, [20] * 5, mask)[..., 0]
    ratio = accumulation_ratio(share, mask)
    assert (ratio < 1).all() and (ratio.diff() < 0).all()
    profile = progress_profile(share, mask, bins=5)
    assert (profile.diff(dim=1) < 0).all()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([1], [1], torch.ones(2, 3)), "image_tokens: must be 2 whole"),
        (([1, 1], [1, -1], torch.ones(2, 3)), "query_tokens: must be 2 whole"),
        (([1, 1.5], [1, 1], torch.ones(2, 3)), "image_tokens: must be 2 whole"),
        (([1, 0], [1, 0], torch.ones(2, 3)), "query_tokens: a prompt has neither"),
        (([1], [1], torch.ones(3)), "completion_mask: must have shape"),
        (([1], [1], torch.ones(1, 3), "next"), "alignment: must be"),
    ],
)
def test_uniform_shares_of_nothing_are_refused(arguments, name):
    with pytest.raises(ValueError, match=name):
        uniform_shares(*arguments)
