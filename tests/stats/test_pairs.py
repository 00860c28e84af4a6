"""Tango's interval of a paired difference of shares."""

import numpy as np
import pytest
from scipy import optimize, stats

from vgpo.stats.pairs import paired_shares_interval

Z = stats.norm.ppf(0.975)


def score(b, c, n, delta):
    """The score statistic with the restricted maximum found numerically."""

    def unlikely(p):  # p: share of c; that of b is p + delta
        other = 1 - 2 * p - delta
        terms = [(b, p + delta), (c, p), (n - b - c, other)]
        return -sum(k * np.log(max(q, 1e-300)) for k, q in terms if k)

    low, high = max(0.0, -delta), (1 - delta) / 2
    p = optimize.minimize_scalar(
        unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    ).x
    return (b - c - n * delta) / np.sqrt(n * (2 * p + delta * (1 - delta)))


@pytest.mark.parametrize("counts", [(2, 0, 40), (8, 2, 40), (1, 9, 30), (12, 10, 40)])
def test_the_ends_are_where_the_score_test_turns(counts):
    b, c, n = counts
    _, low, high, _ = paired_shares_interval(c, b, n)
    assert score(b, c, n, low) == pytest.approx(Z, abs=2e-3)
    assert score(b, c, n, high) == pytest.approx(-Z, abs=2e-3)


@pytest.mark.parametrize("n", [1, 10, 200])
def test_models_that_never_differ_have_an_interval(n):
    found = paired_shares_interval(0, 0, n)
    reach = Z**2 / (n + Z**2)  # Tango's closed form
    assert found[:3] == pytest.approx((0, -reach, reach), abs=1e-6)


def test_it_turns_with_the_models():
    one, other = paired_shares_interval(3, 9, 50), paired_shares_interval(9, 3, 50)
    assert other[:3] == pytest.approx((-one.value, -one.high, -one.low), abs=1e-9)


@pytest.mark.parametrize("counts", [(0, 5, 5), (5, 0, 5), (2, 3, 5)])
def test_it_stays_within_what_a_difference_can_be(counts):
    found = paired_shares_interval(*counts)
    assert -1 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("shares", [(0.2, 0.1), (0.05, 0.0), (0.3, 0.3), (0.02, 0.01)])
def test_it_holds_the_truth_as_often_as_it_says(shares):
    n, (gained, lost) = 24, shares
    covered = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            chance = stats.multinomial.pmf(
                [b, c, n - b - c], n, [gained, lost, 1 - gained - lost]
            )
            if chance > 1e-9:
                _, low, high, _ = paired_shares_interval(c, b, n)
                covered += chance * (low <= gained - lost <= high)
    assert 0.93 <= covered <= 0.9999


def test_wrong_counts_are_named():
    with pytest.raises(ValueError, match="count: must be at least"):
        paired_shares_interval(3, 3, 5)
    with pytest.raises(ValueError, match="confidence"):
        paired_shares_interval(0, 1, 5, confidence=1)
    assert np.isnan(paired_shares_interval(0, 0, 0).low)
