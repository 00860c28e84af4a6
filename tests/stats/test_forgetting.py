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
    OVER_SEEDS,
    POOLED,
    accumulation_ratio,
    compare_over_question_seeds,
    compare_right_wrong,
    compare_within_questions,
    decay_curve,
    length_correlation,
    mean_ratios,
    pointing_hits,
    progress_profile,
    share_on_target,
    split_decay,
    uniform_shares,
)
from vgpo.stats.intervals import mean_interval

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


# Few responses ------------------------------------------------------------


@pytest.mark.parametrize(("right", "wrong"), [(3, 12), (10, 30)])
def test_right_less_wrong_of_small_groups_holds_the_truth(right, wrong):
    rng, held = np.random.default_rng(right), []
    correct = [1] * right + [0] * wrong
    for _ in range(200):
        values = rng.normal(1.3, 0.5, size=right + wrong)
        values[right:] = rng.normal(1.0, 0.2, size=wrong)
        found = compare_right_wrong(values, correct, resamples=2).difference
        held.append(found.low <= 0.3 <= found.high)
    assert np.mean(held) > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 200)


def test_right_less_wrong_of_small_groups_is_welchs_without_skewness():
    right, wrong = [0.2, 0.5, 0.8], [0.1, 0.2, 0.3, 0.15, 0.25]
    found = compare_right_wrong(right + wrong, [1] * 3 + [0] * 5).difference
    welch = stats.ttest_ind(right, wrong, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high))
    alike = compare_right_wrong([0.5, 0.5, 0.1, 0.2], [1, 1, 0, 0]).difference
    assert alike.value == pytest.approx(0.35) and math.isnan(alike.low)


@pytest.mark.parametrize("count", [5, 10, 20])
@pytest.mark.parametrize("r", [0.0, -0.7])
def test_length_correlation_of_few_holds_the_truth(count, r):
    truth = 6 / math.pi * math.asin(r / 2)  # Spearman's rho of normal pairs
    rng, held = np.random.default_rng(count), []
    for _ in range(600):
        lengths = rng.normal(size=count)
        values = r * lengths + math.sqrt(1 - r**2) * rng.normal(size=count)
        found = length_correlation(values, lengths)
        assert -1 <= found.low <= found.value <= found.high <= 1
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) > 0.91


@pytest.mark.parametrize("count", [4, 8, 30])
def test_a_perfect_order_of_few_has_an_interval(count):
    lengths = np.arange(count)
    for sign in (1, -1):
        found = length_correlation(sign * lengths, lengths)
        ends = sorted((sign * found.low, sign * found.high))
        assert found.value == pytest.approx(sign)
        assert ends[1] == 1 and ends[0] < 1 - 12 / (count * (count**2 - 1))
    assert np.isnan(length_correlation([1, 2, 3], [1, 2, 4])[1:3]).all()


def test_length_correlation_over_clusters():
    # Eight answers to each of 60 questions, with all of the length in the question.
    rng = np.random.default_rng(0)
    question = np.repeat(np.arange(60), 8)
    lengths = rng.normal(size=60)[question] + 0.1 * rng.normal(size=480)
    values = rng.normal(size=60)[question] + 0.1 * rng.normal(size=480)
    alone = length_correlation(values, lengths, resamples=300)
    drawn = length_correlation(values, lengths, clusters=question, resamples=300)
    assert drawn.value == alone.value and drawn.count == 60
    # As wide as 60 pairs, not as 480.
    assert drawn.high - drawn.low == pytest.approx(
        (alone.high - alone.low) * math.sqrt(8), rel=0.25
    )
    few = length_correlation(values[:80], lengths[:80], clusters=question[:80])
    assert few.count == 10 and few.low < few.value < few.high
    with pytest.raises(ValueError, match="clusters"):
        length_correlation(values, lengths, clusters=question[:5])


# Pictures and draws of questions -------------------------------------------


def _answers(rng, questions, difference, shared=0.0, pictures=None):
    """Two answers to each question, right and wrong; ``difference`` and, per picture,
    a deviation from it of size ``shared``."""
    question = np.repeat(np.arange(questions), 2)
    picture = question if pictures is None else question % pictures
    correct = np.tile([True, False], questions)
    values = rng.normal(size=questions)[question] + 0.1 * rng.normal(size=2 * questions)
    off = difference + shared * rng.normal(size=questions)
    values[correct] += off[picture[correct]]
    return values, correct, question, picture


def test_pictures_are_drawn_and_flipped_whole():
    rng, held, found = np.random.default_rng(1), [], []
    for _ in range(60):
        values, correct, question, picture = _answers(rng, 64, 0.0, 1.0, pictures=8)
        some = compare_within_questions(
            values, correct, question, picture=picture, resamples=200
        )
        assert some.difference.count == 8
        held.append(some.difference.low <= 0 <= some.difference.high)
        found.append(some.p_value <= 0.05)
    assert np.mean(held) > 0.83 and np.mean(found) < 0.17  # four standard errors
    alone = compare_within_questions(values, correct, question)
    assert alone.difference.count == 64
    assert alone.difference.value == pytest.approx(some.difference.value)


def test_a_picture_for_each_question_changes_nothing():
    values, correct, question, _ = _answers(np.random.default_rng(2), 12, 0.3)
    plain = compare_within_questions(values, correct, question)
    named = compare_within_questions(
        values, correct, question, picture=[f"{q:02}" for q in question]
    )
    assert plain == named
    with pytest.raises(ValueError, match="picture: must be the same"):
        compare_within_questions(values, correct, question, picture=[0, 1] * 12)


def _draws(rng, differences, questions=60):
    parts = [_answers(rng, questions, d) for d in differences]
    values, correct, question, _ = (np.concatenate(x) for x in zip(*parts, strict=True))
    draw = np.repeat(np.arange(60, 60 + len(parts)), 2 * questions)
    return values, correct, question, draw


def test_draws_of_questions_each_pooled_and_over_them():
    rng = np.random.default_rng(3)
    values, correct, question, draw = _draws(rng, [0.1, 0.0, -0.1, 0.05])
    table = compare_over_question_seeds(values, correct, question, draw)
    assert table.index.tolist() == [60, 61, 62, 63, POOLED, OVER_SEEDS]
    for seed in range(60, 64):
        mine = draw == seed
        alone = compare_within_questions(values[mine], correct[mine], question[mine])
        row = table.loc[seed]
        assert row["difference"] == pytest.approx(alone.difference.value)
        assert (row["low"], row["high"]) == pytest.approx(alone.difference[1:3])
        assert row["p_value"] == alone.p_value and row["count"] == 60
    # Question 3 of one draw is not question 3 of another.
    own = values[correct] - values[~correct]
    pooled = mean_interval(own)
    assert table.loc[POOLED, "difference"] == pytest.approx(pooled.value)
    assert table.loc[POOLED, ["low", "high"]].tolist() == pytest.approx(pooled[1:3])
    assert table.loc[POOLED, "count"] == 240
    means = own.reshape(4, 60).mean(axis=1)
    expected = stats.ttest_1samp(means, 0).confidence_interval()
    last = table.loc[OVER_SEEDS]
    assert (last["low"], last["high"]) == pytest.approx(tuple(expected))
    assert last["count"] == 4 and last["right"] - last["wrong"] == pytest.approx(
        last["difference"]
    )
    assert table["p_equal"].notna().tolist() == [False] * 4 + [True, False]


def test_whether_draws_differ_is_found_as_often_as_it_should():
    rng, same, other = np.random.default_rng(4), [], []
    for _ in range(30):
        for found, differences in ((same, [0.1] * 4), (other, [0.1, -0.1, 0.1, 0.0])):
            table = compare_over_question_seeds(*_draws(rng, differences), resamples=9)
            found.append(table.loc[POOLED, "p_equal"] <= 0.05)
    assert np.mean(same) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 30)
    assert np.mean(other) > 0.9


def test_draws_that_say_nothing_are_named():
    values, correct, question, draw = _draws(np.random.default_rng(5), [0.1, 0.0])
    with pytest.raises(ValueError, match=r"question_seed: no question of \[.*61.*\]"):
        compare_over_question_seeds(values, correct | (draw == 61), question, draw)
    with pytest.raises(ValueError, match="question_seed: need one per value"):
        compare_over_question_seeds(values, correct, question, draw[:3])
    one = compare_over_question_seeds(
        values[:120], correct[:120], question[:120], draw[:120]
    )
    assert np.isnan(one.loc[OVER_SEEDS, "low"]) and one["p_equal"].isna().all()


# Attention that knows nothing ----------------------------------------------


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


# Answers that share a question -------------------------------------------


def test_saying_the_same_thing_again_teaches_nothing():
    """Each answer four times: intervals over questions are those of one answer each,
    and those over answers are half as wide."""
    rng = np.random.default_rng(5)
    values, right = rng.normal(size=60), rng.random(60) < 0.5
    once = compare_right_wrong(values, right, clusters=range(60))
    four = [np.repeat(each, 4) for each in (values, right, np.arange(60))]
    again = compare_right_wrong(four[0], four[1], clusters=four[2])
    alone = compare_right_wrong(four[0], four[1])
    for name in ("right", "wrong", "difference"):
        np.testing.assert_allclose(getattr(again, name), getattr(once, name))
    width = again.difference.high - again.difference.low
    assert alone.difference.high - alone.difference.low == pytest.approx(
        width / 2, rel=0.2
    )
    assert math.isnan(again.p_value) and again.difference.count == 60
    profile = rng.random((60, 3))
    pd.testing.assert_frame_equal(
        decay_curve(profile.repeat(4, axis=0), clusters=four[2]), decay_curve(profile)
    )
    table = pd.DataFrame({"ratio": four[0], "correct": four[1], "question": four[2]})
    means = mean_ratios(table, clusters="question").set_index("correct")
    assert means.loc[True, "count"] == right.sum()
    assert tuple(means.loc[True, ["value", "low", "high"]]) == pytest.approx(
        once.right[:3]
    )


@pytest.mark.slow
def test_right_less_wrong_over_questions_holds_the_truth():
    """Eight answers a question, which share most of what they are: drawn singly, the
    interval is far too narrow."""
    rng = np.random.default_rng(0)
    question = np.repeat(np.arange(40), 8)
    held = {"questions": 0, "answers": 0}
    for _ in range(300):
        values = rng.normal(size=40)[question] + 0.5 * rng.normal(size=320)
        # Hard questions go wrong more often, of whatever value.
        right = rng.random(320) < rng.beta(2, 2, 40)[question]
        for name, clusters in (("questions", question), ("answers", None)):
            found = compare_right_wrong(
                values, right, clusters=clusters, resamples=300
            ).difference
            held[name] += found.low <= 0 <= found.high
    assert held["questions"] >= 0.9 * 300
    assert held["answers"] < 0.85 * 300
