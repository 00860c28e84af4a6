"""Rank correlation with length, beside SciPy's and on drawn samples."""

import math

import numpy as np
import pytest
from scipy import stats

from vgpo.stats.forgetting import (
    length_correlation,
)


def test_length_correlation_agrees_with_scipy():
    generator = np.random.default_rng(5)
    lengths = generator.integers(5, 30, 50)
    values = -0.01 * lengths + generator.normal(0, 0.1, 50)
    found = length_correlation(values, lengths)
    assert found.value == pytest.approx(stats.spearmanr(values, lengths).statistic)
    assert found.low < found.value < found.high
    assert math.isnan(length_correlation([0.1, 0.2, 0.3], [4, 4, 4]).value)
    assert math.isnan(length_correlation([0.1, 0.2], [4, 5]).value)


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
