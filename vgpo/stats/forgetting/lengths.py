"""A number of each answer against the length of its chain."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from vgpo.stats.forgetting.checks import paired
from vgpo.stats.intervals import FEW, RESAMPLES, Interval, resampled_ends


def length_correlation(
    values: Sequence[float] | np.ndarray,
    lengths: Sequence[float] | np.ndarray,
    *,
    clusters: Sequence[object] | np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    r"""Spearman's rank correlation of a number with the length of the chain.

    Negative for accumulation ratios: the longer the chain, the more is forgotten.

    The interval is a bootstrap over responses, or over clusters of them. For fewer than
    :data:`~vgpo.stats.intervals.FEW` responses that stand for themselves it is

    .. math:: \tanh\left(\operatorname{artanh} \rho \pm
        1.96 \sqrt{\frac{1 + \rho^2 / 2}{n - 3}}\right)

    after D. G. Bonett and T. A. Wright (2000), "Sample size requirements for estimating
    Pearson, Kendall and Spearman correlations", Psychometrika 65(1): ranks of a handful
    take too few values to be resampled. A perfect order is taken to be one exchange of
    neighbours away from it, so that it has an interval; it reaches to -1 or 1. For few
    clusters see :func:`~vgpo.stats.intervals.resampled_ends`. Measured coverage of the
    nominal 95 % at n = 4, 5, 10, 20 and 40, 2,000 samples each: rho of 0 100, 100, 97,
    96 and 96 %, of 0.68 100, 99, 95, 96 and 96 %.

    Args:
        values: One per response; NaN are left out.
        lengths: Its length in any unit.
        clusters: Which question, or picture, each response belongs to, where several
            share one: whole questions or pictures are then drawn.
        resamples: Bootstrap resamples of responses.
        seed: Seed of the resampling.

    Returns:
        Rho in [-1, 1] with its interval, and the number of responses or clusters; NaN
        if either is constant or fewer than three responses are left. The ends are NaN
        for three responses.

    Raises:
        ValueError: The three differ in length.

    Example:
        >>> print(length_correlation([0.9, 0.7, 0.5, 0.6, 0.1], [10, 20, 30, 40, 50]))
        -0.900 [-0.996, 0.169] (n = 5)
    """
    numbers, sizes = paired(values, lengths, "lengths")
    known = ~np.isnan(numbers)
    if clusters is None:
        owner = np.arange(known.sum())
    else:
        owner = paired(values, clusters, "clusters")[1][known]
    numbers, sizes = numbers[known], sizes[known].astype(np.float64)
    names, owner = np.unique(owner, return_inverse=True)
    count = len(names)
    if len(numbers) < 3 or np.ptp(numbers) == 0 or np.ptp(sizes) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), count)
    value = _rank_correlation(numbers, sizes)
    if clusters is None and count < FEW:
        return Interval(value, *_rank_ends(value, count), count)
    members = [np.flatnonzero(owner == cluster) for cluster in range(count)]

    def rho(rows: np.ndarray) -> np.ndarray:
        drawn = [np.concatenate([members[i] for i in some]) for some in rows]
        return np.array(
            [_rank_correlation(numbers[some], sizes[some]) for some in drawn]
        )

    low, high = resampled_ends(count, rho, resamples, seed, bounds=(-1, 1))
    return Interval(value, float(low), float(high), count)


def _rank_ends(rho: float, count: int) -> tuple[float, float]:
    """Bonett and Wright's interval of Spearman's rho."""
    if count < 4:
        return float("nan"), float("nan")
    # Exchanging two neighbours of n ranks costs 6 * 2 / n (n^2 - 1).
    nearest = 1 - 12 / (count * (count**2 - 1))
    inside = np.clip(rho, -nearest, nearest)
    reach = 1.959964 * np.sqrt((1 + inside**2 / 2) / (count - 3))
    low, high = np.tanh(np.arctanh(inside) + np.array([-reach, reach]))
    return (-1.0 if rho < -nearest else float(low)), (
        1.0 if rho > nearest else float(high)
    )


def _rank_correlation(values: np.ndarray, lengths: np.ndarray) -> float:
    ranks = stats.rankdata(np.stack([values, lengths]), axis=1)
    if (np.ptp(ranks, axis=1) == 0).any():
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])
