"""Statistics of forgetting, on masses whose answers are known by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from vgpo.stats.forgetting import (
    accumulation_ratio,
    compare_right_wrong,
    compare_within_questions,
    decay_curve,
    length_correlation,
    mean_ratios,
    pointing_hits,
    progress_profile,
    share_on_target,
    split_decay,
)

MASS = torch.tensor([[0.9, 0.3, 0.2, 0.1, 0.1, 0.0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 0]])


# Late/early visual accumulation ratio -------------------------------------


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


# Curves over progress -------------------------------------------------------


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


# Right against wrong --------------------------------------------------------


def test_comparison_agrees_with_the_t_test():
    generator = np.random.default_rng(2)
    right, wrong = generator.normal(0.68, 0.2, 80), generator.normal(0.60, 0.2, 90)
    values = np.concatenate([right, wrong, [np.nan]])
    correct = [True] * 80 + [False] * 90 + [True]
    outcome = compare_right_wrong(values, correct, resamples=4000)
    reference = stats.ttest_ind(right, wrong)
    interval = reference.confidence_interval()
    assert outcome.difference.value == pytest.approx(right.mean() - wrong.mean())
    assert outcome.difference.low == pytest.approx(interval.low, abs=0.01)
    assert outcome.difference.high == pytest.approx(interval.high, abs=0.01)
    assert outcome.p_value == pytest.approx(reference.pvalue, abs=0.02)
    assert (outcome.right.count, outcome.wrong.count) == (80, 90)


def test_comparison_needs_two_of_each():
    outcome = compare_right_wrong([0.5, 0.6, 0.7], [True, True, False])
    assert outcome.difference.value == pytest.approx(-0.15)
    assert math.isnan(outcome.p_value) and math.isnan(outcome.difference.low)
    nobody = compare_right_wrong([0.5, 0.6], [True, True])
    assert math.isnan(nobody.difference.value) and nobody.wrong.count == 0


def test_hard_questions_make_no_difference_within_questions():
    # Ratios depend on the question alone; harder ones have higher ratios and are
    # more often answered wrongly.
    question = np.repeat(np.arange(60), 8)
    values = 0.25 + question / 64  # exact in binary, so that means of equals are equal
    right = np.random.default_rng(3).random(480) < 0.95 - 0.015 * question
    pooled = compare_right_wrong(values, right)
    within = compare_within_questions(values, right, question)
    assert pooled.difference.high < 0 and pooled.p_value < 0.01
    assert within.difference.value == 0 and within.p_value == 1


def test_a_difference_within_questions_is_found():
    generator = np.random.default_rng(4)
    question = np.repeat(np.arange(40), 4)
    right = generator.random(160) < 0.5
    values = 0.1 * question + 0.05 * right + generator.normal(0, 0.02, 160)
    outcome = compare_within_questions(values, right, question)
    assert outcome.difference.low > 0 and outcome.p_value < 0.01
    mixed = pd.Series(right).groupby(question).nunique().eq(2).sum()
    assert outcome.difference.count == mixed


def test_no_question_with_both_kinds():
    outcome = compare_within_questions([0.1, 0.2], [True, False], [0, 1])
    assert outcome.difference.count == 0 and math.isnan(outcome.p_value)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="correct"):
        compare_right_wrong([0.1, 0.2], [True])
    with pytest.raises(ValueError, match="question"):
        compare_within_questions([0.1, 0.2], [True, False], [0])
    with pytest.raises(ValueError, match="lengths"):
        length_correlation([0.1, 0.2], [1])


def test_length_correlation_agrees_with_scipy():
    generator = np.random.default_rng(5)
    lengths = generator.integers(5, 30, 50)
    values = -0.01 * lengths + generator.normal(0, 0.1, 50)
    found = length_correlation(values, lengths)
    assert found.value == pytest.approx(stats.spearmanr(values, lengths).statistic)
    assert found.low < found.value < found.high
    assert math.isnan(length_correlation([0.1, 0.2, 0.3], [4, 4, 4]).value)
    assert math.isnan(length_correlation([0.1, 0.2], [4, 5]).value)


# What the fall is made of ---------------------------------------------------


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


# Where on the image ---------------------------------------------------------


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


def test_mean_ratios_are_those_of_each_group_and_outcome():
    answers = pd.DataFrame(
        {
            "model": ["a", "a", "a", "b", "b"],
            "ratio": [1.0, 2.0, 5.0, math.nan, 3.0],
            "correct": [True, True, False, True, None],
        }
    )
    means = mean_ratios(answers, "model")
    assert means[["model", "correct", "value", "count"]].to_numpy().tolist() == [
        ["a", False, 5.0, 1],
        ["a", True, 1.5, 2],
    ]
    assert math.isnan(means["low"][0]) and means["low"][1] < 1.5 < means["high"][1]
    assert mean_ratios(answers)["correct"].tolist() == [False, True]
    nobody = mean_ratios(answers[:0])
    assert nobody.columns.tolist() == ["correct", "value", "low", "high", "count"]
