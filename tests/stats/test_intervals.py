"""Estimates and their intervals against independent references."""

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from vgpo.stats.intervals import (
    auroc_interval,
    bootstrap_ends,
    correlation_interval,
    mean_interval,
)


def _random_tokens(seed, completions=30, length=20):
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(completions), length)
    offset = rng.normal(size=completions)[rows]
    x = rng.normal(size=len(rows)) + offset
    y = 0.6 * x + rng.normal(size=len(rows)) + 2 * offset
    return rng, rows, x, y


def test_mean_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        interval = mean_interval(generator.exponential(1.0, 60), resamples=400)
        hits += interval.low <= 1.0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


@pytest.mark.parametrize("seed", range(3))
def test_auroc_is_scikit_learns_ties_included(seed):
    rng, rows, x, _ = _random_tokens(seed)
    scores = x.round()  # many ties
    positive = rng.random(len(x)) < 0.3
    found = auroc_interval(scores, positive, rows)
    assert found.value == pytest.approx(roc_auc_score(positive, scores))


def test_auroc_interval_is_a_bootstrap_over_completions():
    rng, rows, x, _ = _random_tokens(3)
    positive = rng.random(len(x)) < 0.3
    scores = x + 0.5 * positive
    found = auroc_interval(scores, positive, rows)
    members = [np.flatnonzero(rows == row) for row in range(30)]
    drawn = [
        np.concatenate([members[i] for i in rng.integers(30, size=30)])
        for _ in range(600)
    ]
    by_hand = []
    for some in drawn:  # the Mann-Whitney form: quick, and another route
        rank, hit = rankdata(scores[some]), positive[some]
        low = hit.sum() * (hit.sum() + 1) / 2
        by_hand.append((rank[hit].sum() - low) / (hit.sum() * (~hit).sum()))
    expected = np.quantile(by_hand, [0.025, 0.975])
    np.testing.assert_allclose(found[1:3], expected, atol=0.012)


def test_auroc_without_both_kinds_is_undefined():
    assert np.isnan(auroc_interval([1, 2], [1, 1], [0, 1])[:3]).all()
    assert np.isnan(auroc_interval([1, 2], [0, 0], [0, 1])[:3]).all()


def test_correlations_pooled_and_within_completions():
    _, rows, x, y = _random_tokens(4)
    pooled = correlation_interval(x, y + 1e4, rows)
    assert pooled.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    for row in range(30):
        x[rows == row] -= x[rows == row].mean()
    within = correlation_interval(x, y, rows, within=True)
    for row in range(30):
        y[rows == row] -= y[rows == row].mean()
    assert within.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert within.low < within.value < within.high < pooled.value


def test_correlation_interval_of_independent_pairs_is_fishers():
    rng = np.random.default_rng(5)
    x = rng.normal(size=400)
    y = x + rng.normal(size=400)
    found = correlation_interval(x, y, np.arange(400), resamples=3000)
    z = np.arctanh(found.value) + np.array([-1.96, 1.96]) / np.sqrt(397)
    np.testing.assert_allclose(found[1:3], np.tanh(z), atol=0.012)


def test_mean_interval_is_the_normal_one_for_many_values():
    values = np.random.default_rng(6).normal(3, 2, size=500)
    found = mean_interval([*values, np.nan], resamples=3000)
    error = 1.96 * values.std() / np.sqrt(500)
    assert found.value == pytest.approx(values.mean())
    np.testing.assert_allclose(
        found[1:3], values.mean() + np.array([-error, error]), atol=0.02
    )


def test_fewer_than_two_responses_have_no_interval():
    alone = mean_interval([0.5, np.nan])
    assert alone.value == 0.5 and alone.count == 1 and np.isnan(alone[1:3]).all()
    nobody = mean_interval([])
    assert np.isnan(nobody[:3]).all() and nobody.count == 0
    single = auroc_interval([1, 2], [0, 1], [7, 7])
    assert single.value == 1 and np.isnan(single[1:3]).all()


def test_undefined_resamples_are_left_out():
    # The largest positive value is undefined where nothing positive is drawn.
    values = np.array([-1.0, -1.0, 2.0])

    def largest_positive(rows):
        drawn = values[rows]
        return np.where((drawn > 0).any(axis=1), drawn.max(axis=1), np.nan)

    assert bootstrap_ends(3, largest_positive) == (2.0, 2.0)
    low, high = bootstrap_ends(3, lambda rows: np.full(len(rows), np.nan))
    assert np.isnan(low) and np.isnan(high)


def test_the_same_seed_draws_the_same_responses():
    values = np.random.default_rng(7).normal(size=40)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values, seed=1) != mean_interval(values)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="positive"):
        auroc_interval([1, 2], [True], [0, 0])
    with pytest.raises(ValueError, match="scores"):
        auroc_interval([1, 2, 3], [True, False], [0, 0])
    with pytest.raises(ValueError, match="y: need one per token"):
        correlation_interval([1, 2, 3], [1, 2], [0, 0, 1])
