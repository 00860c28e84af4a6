"""The fall of the image's share over answers, and its parts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.stats.masses import MASK, MASS
from vgpo.stats.forgetting import (
    decay_curve,
    progress_profile,
    split_decay,
)


def test_profile_of_a_row_without_tokens_is_undefined():
    profile = progress_profile(MASS, torch.zeros_like(MASK), bins=2)
    assert profile.isnan().all()
    curve = decay_curve(profile)
    assert curve["mean"].isna().all() and (curve["count"] == 0).all()


def test_curve_has_a_band_around_its_mean():
    profile = np.random.default_rng(0).normal([0.5, 0.2], 0.1, (200, 2))
    curve = decay_curve(profile)
    assert list(curve["progress"]) == [25.0, 75.0]
    np.testing.assert_allclose(curve["mean"], profile.mean(axis=0))
    # Percentile bootstrap of a mean: about 1.96 standard errors each way.
    error = 1.96 * profile.std(axis=0) / np.sqrt(200)
    np.testing.assert_allclose(curve["high"] - curve["mean"], error, rtol=0.15)
    np.testing.assert_allclose(curve["mean"] - curve["low"], error, rtol=0.15)


def test_one_response_has_no_band():
    curve = decay_curve(progress_profile(MASS, MASK, 3))
    assert curve["mean"].notna().all() and curve["low"].isna().all()


def test_bad_profiles_are_refused():
    with pytest.raises(ValueError, match="bins"):
        progress_profile(MASS, MASK, 0)
    with pytest.raises(ValueError, match="masses"):
        progress_profile(MASS[0], MASK[0])
    with pytest.raises(ValueError, match="profile"):
        decay_curve(np.ones(3))


def test_only_fewer_looks():
    mass = torch.tensor([[0.6, 0.2, 0.6, 0.2, 0.6, 0.2, 0.2, 0.2]] * 3)
    needs = mass > 0.5
    parts = split_decay(mass, needs, torch.ones_like(mass))
    assert parts.total.value == pytest.approx(-0.1)
    assert parts.fewer_looks.value == pytest.approx(-0.1)
    assert parts.weaker_looks.value == pytest.approx(0)
    assert parts.other_tokens.value == pytest.approx(0)


def test_only_weaker_looks():
    mass = torch.tensor([[0.6, 0.2, 0.6, 0.2, 0.4, 0.2, 0.4, 0.2]] * 3)
    needs = torch.tensor([[1, 0] * 4] * 3)
    parts = split_decay(mass, needs, torch.ones_like(mass))
    assert parts.weaker_looks.value == pytest.approx(-0.1)
    assert parts.fewer_looks.value == pytest.approx(0)
    assert parts.other_tokens.value == pytest.approx(0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), split=st.floats(0.2, 0.8))
@example(seed=5113, split=0.75)  # every late token needs the image, or none does
def test_parts_sum_to_the_difference_of_the_means(seed, split):
    generator = torch.Generator().manual_seed(seed)
    mass = torch.rand(4, 12, generator=generator, dtype=torch.float64)
    needs = torch.rand(4, 12, generator=generator) < 0.5
    lengths = torch.tensor([12, 9, 11, 5])
    mask = torch.arange(12) < lengths[:, None]
    sums = {"early": [0.0, 0.0], "late": [0.0, 0.0]}
    kinds = set()
    for row, length in enumerate(lengths.tolist()):
        for t in range(1, length + 1):
            late = min(1.0, max(0.0, t - split * length))
            for side, part in (("late", late), ("early", 1 - late)):
                sums[side][0] += part * mass[row, t - 1].item()
                sums[side][1] += part
                if part > 0:
                    kinds.add((side, needs[row, t - 1].item()))
    parts = split_decay(mass, needs, mask, split, resamples=10)
    expected = sums["late"][0] / sums["late"][1] - sums["early"][0] / sums["early"][1]
    three = parts.fewer_looks, parts.weaker_looks, parts.other_tokens
    assert parts.total.value == pytest.approx(expected, abs=1e-5)
    if len(kinds) == 4:
        assert sum(p.value for p in three) == pytest.approx(parts.total.value)
    else:
        assert any(math.isnan(p.value) for p in three)
