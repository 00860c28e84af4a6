"""Right against wrong answers to the same question, in drawn samples."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vgpo.stats.forgetting import (
    OVER_SEEDS,
    POOLED,
    compare_over_question_seeds,
    compare_right_wrong,
    compare_within_questions,
)
from vgpo.stats.intervals import mean_interval


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
