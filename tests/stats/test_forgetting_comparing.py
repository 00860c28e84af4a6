"""Right against wrong answers, beside classical tests and drawn samples."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vgpo.stats.forgetting import (
    compare_right_wrong,
    compare_within_questions,
    decay_curve,
    length_correlation,
    mean_ratios,
)


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


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="correct"):
        compare_right_wrong([0.1, 0.2], [True])
    with pytest.raises(ValueError, match="question"):
        compare_within_questions([0.1, 0.2], [True, False], [0])
    with pytest.raises(ValueError, match="lengths"):
        length_correlation([0.1, 0.2], [1])


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
