"""Estimates and their intervals against independent references."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm, rankdata, t, ttest_1samp
from sklearn.metrics import roc_auc_score

from vgpo.stats.intervals import (
    FEW,
    auroc_interval,
    correlation_interval,
    mean_interval,
    resampled_ends,
    studentized_ends,
)


def _random_tokens(seed, completions=60, length=20):
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(completions), length)
    offset = rng.normal(size=completions)[rows]
    x = rng.normal(size=len(rows)) + offset
    y = 0.6 * x + rng.normal(size=len(rows)) + 2 * offset
    return rng, rows, x, y


def _share_covered(truth, intervals):
    return np.mean([low <= truth <= high for _, low, high, _ in intervals])


@pytest.mark.parametrize("count", [2, 3, 4, 5, 10, 20, 49, 50, 60])
def test_mean_interval_holds_a_normal_mean_as_often_as_it_says(count):
    drawn = np.random.default_rng(count).normal(3, 2, size=(1000, count))
    found = (mean_interval(sample, resamples=400) for sample in drawn)
    # Four standard errors of 1,000 samples are .028.
    assert 0.922 <= _share_covered(3, found) <= 0.978


@pytest.mark.parametrize(
    ("count", "least"), [(4, 0.865), (5, 0.88), (10, 0.905), (20, 0.92), (60, 0.9)]
)
def test_mean_interval_of_skewed_shares(count, least):
    drawn = np.random.default_rng(count).beta(0.5, 4, size=(1000, count))
    found = [mean_interval(s, bounds=(0, 1), resamples=400) for s in drawn]
    assert least <= _share_covered(1 / 9, found) <= 0.98
    assert all(interval.low >= 0 and interval.high <= 1 for interval in found)


@pytest.mark.parametrize("count", [4, 5, 10, 20])
@pytest.mark.parametrize(("shift", "offset"), [(0.7, 0.0), (0.7, 1.5), (3.0, 1.0)])
def test_auroc_interval_of_few_responses(count, shift, offset):
    truth = norm.cdf(shift / np.sqrt(2 * (1 + offset**2)))
    rng, found = np.random.default_rng(count), []
    for _ in range(400):
        rows = np.repeat(np.arange(count), rng.integers(5, 41, size=count))
        positive = rng.random(len(rows)) < 0.3
        scores = rng.normal(size=len(rows)) + shift * positive
        scores += offset * rng.normal(size=count)[rows]
        found.append(auroc_interval(scores, positive, rows))
    # .95 less four standard errors; the bootstrap's was .58 to .92.
    assert _share_covered(truth, found) >= 0.906
    assert all(i.low >= 0 and i.high <= 1 for i in found if not np.isnan(i.low))


@pytest.mark.parametrize("count", [4, 5, 10, 20])
@pytest.mark.parametrize(
    ("offset", "within"), [(0.0, False), (1.5, False), (1.5, True)]
)
def test_correlation_interval_of_few_responses(count, offset, within):
    # x = e + o, y = .6 x + d + o, with variances 1 of e and d and offset^2 of o.
    square = 0.0 if within else offset**2
    covariance = 0.6 * (1 + square) + square
    spread = (1 + square) * (0.36 * (1 + square) + 1 + 2.2 * square)
    truth = covariance / np.sqrt(spread)
    rng, found = np.random.default_rng(count), []
    for _ in range(250):
        rows = np.repeat(np.arange(count), rng.integers(5, 41, size=count))
        shared = offset * rng.normal(size=count)[rows]
        x = rng.normal(size=len(rows)) + shared
        y = 0.6 * x + rng.normal(size=len(rows)) + shared
        found.append(correlation_interval(x, y, rows, within=within))
    assert _share_covered(truth, found) >= 0.88
    assert all(-1 <= i.low <= i.value <= i.high <= 1 for i in found)


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
    members = [np.flatnonzero(rows == row) for row in range(60)]
    drawn = [
        np.concatenate([members[i] for i in rng.integers(60, size=60)])
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
    for row in range(60):
        x[rows == row] -= x[rows == row].mean()
    within = correlation_interval(x, y, rows, within=True)
    for row in range(60):
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


@pytest.mark.parametrize("count", [3, 10, 49])
def test_few_values_without_skewness_have_students_interval(count):
    half = np.random.default_rng(count).random(count // 2) + 0.1
    values = 0.3 + np.concatenate([half, -half, [0.0] * (count % 2)])
    expected = ttest_1samp(values, 0).confidence_interval()
    assert mean_interval(values)[1:3] == pytest.approx(tuple(expected))


def test_skewness_is_removed_by_halls_transformation():
    # g(T) = T + l T^2 / 3 + l^2 T^3 / 27 + l / 6 (Hall 1992) is t at either end.
    for skewness in (-0.8, -1e-3, 1e-3, 0.4):
        ends = studentized_ends(0.0, 1.0, skewness, 7)
        for end, reach in zip(ends, (t.ppf(0.975, 7), t.ppf(0.025, 7)), strict=True):
            x = -end
            g = x + skewness * x**2 / 3 + skewness**2 * x**3 / 27 + skewness / 6
            assert g == pytest.approx(reach)
    plain, slight = (studentized_ends(0.0, 1.0, skew, 7) for skew in (0.0, 1e-9))
    np.testing.assert_allclose(plain, slight)
    low, high = studentized_ends(np.zeros(2), np.array([0.0, np.nan]), 0.0, 7)
    assert np.isnan(low).all() and np.isnan(high).all()


def test_a_share_that_is_mostly_small_has_its_uncertainty_above():
    value, low, high, _ = mean_interval([0.01, 0.02, 0.0, 0.3, 0.03, 0.01])
    assert high - value > 1.5 * (value - low)


def test_few_equal_values_say_nothing_of_their_spread():
    same = mean_interval([0.1 + 0.2, 0.3, 0.3])
    assert same.value == pytest.approx(0.3) and same.count == 3
    assert np.isnan(same[1:3]).all()
    # Sixty of them do: a bootstrap without width.
    assert mean_interval([0.25] * 60) == (0.25, 0.25, 0.25, 60)
    perfect = auroc_interval([1, 2, 1, 2], [0, 1, 0, 1], [0, 0, 1, 1])
    assert perfect.value == 1 and np.isnan(perfect[1:3]).all()


@pytest.mark.parametrize("count", [2, 9, 34, 120])
def test_equal_values_between_bounds_have_the_binomial_interval(count):
    for value in (0, 1):
        found = mean_interval([value] * count, bounds=(0, 1))
        exact = binomtest(value * count, count).proportion_ci(method="exact")
        assert found[1:3] == pytest.approx((exact.low, exact.high))
    middle = mean_interval([0.3] * count, bounds=(-1, 1))
    part = 1 - 0.025 ** (1 / count)
    assert middle[1:3] == pytest.approx((0.3 - 1.3 * part, 0.3 + 0.7 * part))
    assert np.isnan(mean_interval([1], bounds=(0, 1))[1:3]).all()


def test_undefined_without_one_response_is_undefined_for_few():
    # All positives are in one response: without it there is no AUROC.
    found = auroc_interval([3, 1, 2, 4, 0], [1, 1, 0, 0, 0], [0, 0, 1, 2, 3])
    assert found.value == 0.5 and np.isnan(found[1:3]).all()


def test_few_responses_of_which_most_are_perfect_stay_inside():
    scores = [0, 1, 0, 1, 0, 1, 0.5, 0.4]
    found = auroc_interval(scores, [0, 1] * 4, [0, 0, 1, 1, 2, 2, 3, 3])
    assert 0 < found.low < found.value < found.high < 1


def test_undefined_resamples_are_left_out():
    # The largest positive value is undefined where nothing positive is drawn.
    values = np.array([-1.0] * (FEW - 1) + [2.0])

    def largest_positive(rows):
        drawn = values[rows]
        return np.where((drawn > 0).any(axis=1), drawn.max(axis=1), np.nan)

    assert resampled_ends(FEW, largest_positive) == (2.0, 2.0)
    for count in (3, FEW):
        low, high = resampled_ends(count, lambda rows: np.full(len(rows), np.nan))
        assert np.isnan(low) and np.isnan(high)


@pytest.mark.parametrize("count", [5, FEW])
def test_ends_have_the_statistics_shape(count):
    values = np.random.default_rng(8).normal(size=(count, 3, 2))
    values[:, 2, 1] = 1.0
    low, high = resampled_ends(count, lambda rows: values[rows].mean(axis=1))
    assert low.shape == high.shape == (3, 2)
    for place in np.ndindex(3, 2):
        alone = mean_interval(values[(slice(None), *place)])
        np.testing.assert_allclose((low[place], high[place]), alone[1:3])


@pytest.mark.parametrize("count", [12, 80])
def test_clusters_are_drawn_whole(count):
    rng, truth = np.random.default_rng(count), 0.4
    held, too_narrow = [], []
    for _ in range(500):
        question = np.repeat(np.arange(count), rng.integers(1, 9, size=count))
        easy = rng.normal(size=count)[question]
        values = truth + easy + 0.3 * rng.normal(size=len(question))
        shuffled = rng.permutation(len(values))  # clusters need no order
        values, question = values[shuffled], question[shuffled]
        some = mean_interval(values, clusters=question, resamples=300)
        assert some.count == count and some.value == pytest.approx(values.mean())
        held.append(some)
        too_narrow.append(mean_interval(values, resamples=300))
    assert _share_covered(truth, held) >= 0.9
    assert _share_covered(truth, too_narrow) < 0.75


def test_clusters_of_one_are_responses():
    values = [0.1, 0.5, np.nan, 0.2, 0.9]
    alone = mean_interval(values)
    assert mean_interval(values, clusters=list("abcde")) == pytest.approx(alone)
    # The question that has nothing but a NaN is not there.
    assert mean_interval(values, clusters=list("abcaa")).count == 2
    with pytest.raises(ValueError, match="clusters: need one per value"):
        mean_interval(values, clusters=["a"])
    with pytest.raises(ValueError, match="values: must be one-dimensional"):
        mean_interval([[0.1, 0.2]])


def test_the_same_seed_draws_the_same_responses():
    values = np.random.default_rng(7).normal(size=FEW)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values, seed=1) != mean_interval(values)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="positive"):
        auroc_interval([1, 2], [True], [0, 0])
    with pytest.raises(ValueError, match="scores"):
        auroc_interval([1, 2, 3], [True, False], [0, 0])
    with pytest.raises(ValueError, match="y: need one per token"):
        correlation_interval([1, 2, 3], [1, 2], [0, 0, 1])


def test_tokens_without_a_score_change_no_area_under_the_curve():
    rng = np.random.default_rng(3)
    scores, positive = rng.normal(size=60), rng.random(60) < 0.4
    rows = np.arange(60) // 5
    whole = auroc_interval(scores, positive, rows, resamples=200)
    # Among them a response that has no score at all.
    found = auroc_interval(
        np.append(scores, [np.nan] * 6),
        np.append(positive, [True, False] * 3),
        np.append(rows, [0, 0, 1, 1, 99, 99]),
        resamples=200,
    )
    assert found == whole


@pytest.mark.parametrize("within", [False, True])
def test_tokens_without_a_value_change_no_correlation(within):
    rng = np.random.default_rng(4)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    rows = np.arange(60) // 5
    whole = correlation_interval(x, y, rows, within=within, resamples=200)
    found = correlation_interval(
        np.append(x, [np.nan, 5.0, np.nan]),
        np.append(y, [5.0, np.nan, np.nan]),
        np.append(rows, [0, 1, 99]),
        within=within,
        resamples=200,
    )
    assert found == whole
