"""Estimates with their confidence intervals, over responses.

Tokens of one response are not independent of each other, so what is drawn, or left
out, is whole responses; where several responses share a question, or several questions
a picture, whole questions or pictures (``clusters``). Training runs over a few seeds
are compared by :mod:`vgpo.stats.seeds`.

From :data:`FEW` responses on, an interval is the middle 95 % of a bootstrap, seeded, so
that a number that is printed twice is the same number twice. Below, that would be too
narrow: at 2, 4, 10 and 20 responses it holds the mean of normal values in 46, 79, 90
and 92 % of samples, and an AUROC of .93 in 77 % at 10. There the interval is the
studentized one of :func:`resampled_ends`: Student's t, a jackknife's standard error and
a correction for skewness.

Measured coverage in % of the nominal 95 % (means 3,000 samples, others 1,000; at 50
responses 300 of AUROC and correlation; 5-40 tokens a response, and with "offset" what
the tokens of a response share is 1 to 1.5 times as wide as what they do not):

================================  ===  ===  ===  ===  ===  ===
Responses                          3    4    5   10   20   50
================================  ===  ===  ===  ===  ===  ===
mean, normal                      95   95   94   95   96   94
mean, uniform                     94   94   95   97   96   95
mean, exponential                 91   92   91   94   94   92
mean, shares of Beta(0.5, 4)      89   90   92   94   95   93
mean, 1-8 answers a question      93   93   93   93   93   93
AUROC 0.69                        95   95   95   95   94   95
AUROC 0.61, offset                94   95   94   95   95   95
AUROC 0.98                        89   94   95   96   96   94
AUROC 0.93, offset                94   95   95   95   95   89
correlation 0.51                  94   94   95   95   95   93
correlation 0.87, offset          95   94   93   95   95   89
correlation 0.51, within          95   94   93   95   94   95
================================  ===  ===  ===  ===  ===  ===

What all of few responses agree on has no interval, NaN, and counts as a miss in the
table; but a mean has one if its ``bounds`` are given. For single shares of right
answers take :func:`vgpo.stats.seeds.wilson_interval`.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from vgpo.stats.numbers import numbers, whole

RESAMPLES = 2000
"""Resamples, where nothing else is said."""

FEW = 50
"""Responses below which intervals are studentized, and no bootstrap."""


class Interval(NamedTuple):
    """An estimate with its 95 % interval, and from how many responses.

    ``count`` is what was drawn: responses, or clusters of them. The ends are NaN where
    nothing is known of the spread.
    """

    value: float
    low: float
    high: float
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.count})"

    def as_columns(self, name: str) -> dict[str, float]:
        """The cells of a table's row: ``name``, ``{name}_low`` and ``{name}_high``.

        Example:
            >>> Interval(0.5, 0.4, 0.6, 10).as_columns("auroc")
            {'auroc': 0.5, 'auroc_low': 0.4, 'auroc_high': 0.6}
        """
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


class Scale(NamedTuple):
    """A scale on which a statistic is nearer to normal than on its own.

    Attributes:
        to: Rising function of the statistic.
        back: Its inverse.
    """

    to: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


def resampled_ends(
    count: int,
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    scale: Scale | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Ends of the 95 % interval of any statistic of ``count`` responses.

    From :data:`FEW` responses on, the 2.5 % and 97.5 % quantiles of the statistic over
    ``resamples`` drawn with replacement. Below, :func:`studentized_ends` with n - 1
    degrees of freedom and the jackknife: with the statistic :math:`\theta_{-i}` without
    response i,

    .. math::
        u_i &= (n - 1)(\bar\theta_{-} - \theta_{-i}) \\
        \mathrm{se}^2 &= \frac{\sum_i u_i^2}{n(n-1)} \\
        \lambda &= \frac{\overline{u^3}}{\overline{u^2}^{3/2} \sqrt n}

    For a mean, :math:`u_i = x_i - \bar x` and se is its standard error.

    Args:
        count: Responses, or clusters of them; independent of each other.
        statistic: From responses, (resamples, k) indices below ``count``, to the
            statistic of each resample, (resamples, ...). k is ``count``, or one less.
        resamples: How many to draw.
        seed: Of the drawing.
        bounds: What the statistic cannot exceed; the ends do not either.
        scale: On which the studentized interval is made; by default the statistic's.

    Returns:
        Low and high end, each of the statistic's shape. Resamples in which it is
        undefined (NaN) are left out of the bootstrap; the ends are NaN where it always
        is. They are NaN as well for fewer than two responses; and, for fewer than
        :data:`FEW`, where the statistic is undefined or infinite without one of the
        responses, and where it is the same whichever is left out: no spread was seen,
        which of so few is no evidence that there is none.

    Example:
        >>> values = np.array([0.1, 0.3, 0.3, 0.7])
        >>> low, high = resampled_ends(4, lambda rows: values[rows].mean(axis=1))
        >>> (round(float(low), 2), round(float(high), 2))
        (0.04, 1.95)
    """
    resamples, seed = whole(resamples, "resamples"), whole(seed, "seed", least=0)
    if count < 2:
        return np.array(np.nan), np.array(np.nan)
    if count < FEW:
        low, high = _jackknife_ends(count, statistic, scale)
    else:
        rows = np.random.default_rng(seed).integers(0, count, (resamples, count))
        with warnings.catch_warnings():
            # Of what is undefined in every resample, the interval is NaN.
            warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
            low, high = np.nanquantile(statistic(rows), [0.025, 0.975], axis=0)
    return np.clip(low, *bounds), np.clip(high, *bounds)


def studentized_ends(
    value: np.ndarray | float,
    error: np.ndarray | float,
    skewness: np.ndarray | float,
    freedom: np.ndarray | float,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Student's t interval, corrected for the skewness of what it is made from.

    With :math:`\theta` for ``value``, the ends are :math:`\theta - \mathrm{se}\,
    g^{-1}(\pm t)`, where t is the 97.5 % quantile of Student's t and

    .. math:: g^{-1}(y) = \frac{3}{\lambda}
        \left(\sqrt[3]{1 + \lambda (y - \lambda / 6)} - 1\right)

    the inverse of the transformation by which P. Hall (1992), "On the removal of
    skewness by transformation", Journal of the Royal Statistical Society B 54(1), makes
    a studentized statistic symmetric. Without skewness this is the t interval. Of
    shares that are mostly small and sometimes large, the interval reaches further up
    than down, since few responses rarely hold one of the large ones.

    Args:
        value: The estimate.
        error: Its standard error.
        skewness: :math:`\lambda`, that of the estimate: of a mean of n values, their
            skewness over :math:`\sqrt n`.
        freedom: Degrees of freedom of the standard error.

    Returns:
        Low and high end; NaN where the error is 0 or not finite.

    Example:
        >>> [round(float(end), 2) for end in studentized_ends(0.0, 1.0, 0.0, 9)]
        [-2.26, 2.26]
        >>> [round(float(end), 2) for end in studentized_ends(0.0, 1.0, 0.3, 9)]
        [-1.85, 3.26]
    """
    skewness = np.asarray(skewness, dtype=np.float64)
    reach = stats.t.ppf(0.975, freedom)
    known = np.isfinite(error) & (np.asarray(error) > 0)

    def unskewed(y: np.ndarray) -> np.ndarray:
        # Towards no skewness it tends to y, where the formula is 0 / 0.
        slight = np.abs(skewness) < 1e-6
        safe = np.where(slight, 1.0, skewness)
        return np.where(slight, y, 3 / safe * (np.cbrt(1 + safe * (y - safe / 6)) - 1))

    with np.errstate(invalid="ignore"):
        low, high = (value - error * unskewed(y) for y in (reach, -reach))
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def mean_interval(
    values: Sequence[float] | np.ndarray,
    *,
    clusters: Sequence[object] | np.ndarray | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of one value per response.

    Args:
        values: One per response; NaN are left out.
        clusters: Which question, or picture, each response belongs to: what is drawn
            is then whole questions or pictures, with all their responses. Needed
            wherever responses share one, as several answers to a question do, or the
            interval is too narrow. By default each response stands for itself.
        bounds: What a value cannot exceed, such as ``(0, 1)`` for a share; the ends
            do not either. With both of them, values that are all alike have an
            interval: with v for each of n, a part :math:`1 - 0.025^{1/n}` of the way
            from v to either bound (Clopper and Pearson's, if v is a bound).
        resamples: Bootstrap resamples, where there are enough responses for one.
        seed: Seed of the resampling.

    Returns:
        The interval, with the mean over all responses, and the number of responses or
        clusters. Its ends are NaN for fewer than two of them, and, below :data:`FEW`
        and without ``bounds``, where all values (means of clusters) are the same.

    Raises:
        ValueError: Values are no numbers or not one-dimensional, ``clusters`` differ
            in number, or ``resamples`` or ``seed`` is no whole number.

    Example:
        >>> print(mean_interval([0.2, 0.4, 0.5, float("nan")]))
        0.367 [-0.412, 0.663] (n = 3)
        >>> print(mean_interval([1.0] * 8, bounds=(0, 1)))
        1.000 [0.631, 1.000] (n = 8)
        >>> values, questions = [0.1, 0.2, 0.5, 0.4, 0.3], ["a", "a", "b", "b", "c"]
        >>> mean_interval(values, clusters=questions).count
        3
    """
    given = numbers(values, "values")
    if given.ndim != 1:
        raise ValueError(f"values: must be one-dimensional, got shape {given.shape}.")
    known = ~np.isnan(given)
    if clusters is None:
        owner, count = np.arange(known.sum()), int(known.sum())
    else:
        groups = np.asarray(clusters)
        if groups.shape != given.shape:
            raise ValueError(
                f"clusters: need one per value, got {groups.shape} for {given.shape}."
            )
        names, owner = np.unique(groups[known], return_inverse=True)
        count = len(names)
    given = given[known]
    mean = float(given.mean()) if len(given) else float("nan")
    sizes = np.bincount(owner, minlength=count)
    sums = np.bincount(owner, given - mean, minlength=count)

    def mean_of(rows: np.ndarray) -> np.ndarray:
        return np.asarray(mean + sums[rows].sum(axis=1) / sizes[rows].sum(axis=1))

    if count > 1 and np.ptp(given) == 0 and np.isfinite(bounds).all():
        # All alike: with a share of others above this, so many alike are a surprise of
        # 2.5 %; and those others may lie at either bound.
        others = 1 - 0.025 ** (1 / count)
        low, high = (mean + others * (bound - mean) for bound in bounds)
        return Interval(mean, low, high, count)
    low, high = resampled_ends(count, mean_of, resamples, seed, bounds=bounds)
    return Interval(mean, float(low), float(high), count)


def auroc_interval(
    scores: Sequence[float] | np.ndarray,
    positive: Sequence[bool] | np.ndarray,
    rows: Sequence[int] | np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Area under the ROC curve over tokens.

    The chance that a random positive token scores above a random other one, ties
    counting half.

    Args:
        scores: (N,) one score per token; tokens without one, NaN, are left out.
        positive: (N,) bool, True on tokens that should score high.
        rows: (N,) which response each token belongs to.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        The AUROC in [0, 1] and its interval over responses; NaN where there are no
        positives or nothing but positives. The ends are NaN, too, for one response,
        and, below :data:`FEW`, where leaving one out leaves no positives (or others),
        or changes nothing.

    Raises:
        ValueError: The three differ in length.

    Example:
        >>> auroc_interval([1, 2, 3, 4], [0, 1, 0, 1], [0, 0, 1, 1]).value
        0.75
    """
    scores = numbers(scores, "scores")
    positive = np.asarray(positive, dtype=bool)
    owner, size, known = _owners(rows, scores=scores, positive=positive)
    # A NaN would be sorted above all numbers.
    values, flags = scores[known], positive[known]
    # A resample repeats responses, so all it needs is how often the positives of
    # one response beat the others of another.
    wins = np.zeros((size, size))
    for other in range(size):
        beaten = np.sort(values[(owner == other) & ~flags])
        below = np.searchsorted(beaten, values[flags], side="left")
        up_to = np.searchsorted(beaten, values[flags], side="right")
        np.add.at(wins[:, other], owner[flags], (below + up_to) / 2)
    hits = np.bincount(owner[flags], minlength=size)
    rest = np.bincount(owner[~flags], minlength=size)

    def auroc(counts: np.ndarray) -> np.ndarray:
        pairs = (counts @ hits) * (counts @ rest)
        won = ((counts @ wins) * counts).sum(axis=1)
        return np.asarray(won / pairs)

    # Log odds, as the AUROC of few responses is far from normal near 0 and 1. Half a
    # pair is kept from either end: without one response the rest may be perfect.
    half = 0.5 / max(int(hits.sum()) * int(rest.sum()), 1)
    odds = Scale(
        lambda value: special.logit(np.clip(value, half, 1 - half)), special.expit
    )
    return _of_counts(auroc, size, resamples, seed, bounds=(0, 1), scale=odds)


def correlation_interval(
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    rows: Sequence[int] | np.ndarray,
    *,
    within: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Pearson correlation over tokens.

    Args:
        x: (N,) one value per token; tokens for which this or ``y`` is NaN are left out.
        y: (N,) one value per token.
        rows: (N,) which response each token belongs to.
        within: Subtract each response's own means first, so that differences
            between responses do not count.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        r in [-1, 1] and its interval over responses; NaN where ``x`` or ``y`` is
        constant.

    Raises:
        ValueError: The three differ in length.

    Example:
        >>> round(correlation_interval([1, 2, 5, 6], [2, 4, 1, 3], [0, 0, 1, 1],
        ...                            within=True).value, 6)
        1.0
    """
    x, y = numbers(x, "x"), numbers(y, "y")
    owner, size, known = _owners(rows, x=x, y=y)
    data = pd.DataFrame({"x": x[known], "y": y[known]})
    if within:
        data -= data.groupby(owner).transform("mean")
    # Far from zero, sums of squares would lose the digits that matter.
    data -= data.mean()
    moments = pd.DataFrame(
        {
            "n": 1.0,
            "x": data["x"],
            "y": data["y"],
            "xx": data["x"] ** 2,
            "yy": data["y"] ** 2,
            "xy": data["x"] * data["y"],
        }
    )
    sums = moments.groupby(owner).sum().to_numpy()

    def pearson(counts: np.ndarray) -> np.ndarray:
        n, sx, sy, sxx, syy, sxy = (counts @ sums).T
        spread = np.sqrt(np.clip((n * sxx - sx**2) * (n * syy - sy**2), 0, None))
        return np.asarray((n * sxy - sx * sy) / spread)

    return _of_counts(pearson, size, resamples, seed, bounds=(-1, 1))


def _jackknife_ends(
    count: int,
    statistic: Callable[[np.ndarray], np.ndarray],
    scale: Scale | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The studentized interval of :func:`resampled_ends`."""
    rows = np.arange(count)
    # (n, n - 1): all but i.
    others = np.broadcast_to(rows, (count, count))[~np.eye(count, dtype=bool)]
    without = np.asarray(statistic(others.reshape(count, count - 1)), np.float64)
    value = np.asarray(statistic(rows[None]), np.float64)[0]
    with np.errstate(invalid="ignore"):
        # Whether leaving one out changes anything, rounding aside.
        moved = np.ptp(without, axis=0) > 1e-12 * np.abs(without).max(axis=0)
        if scale is not None:
            without, value = scale.to(without), scale.to(value)
        u = (count - 1) * (without.mean(axis=0) - without)
        second, third = (u**2).mean(axis=0), (u**3).mean(axis=0)
        skewness = third / np.where(moved, second, 1) ** 1.5 / np.sqrt(count)
    error = np.sqrt(second / (count - 1))
    low, high = studentized_ends(value, error, skewness, count - 1)
    if scale is not None:
        low, high = scale.back(low), scale.back(high)
    return np.where(moved, low, np.nan), np.where(moved, high, np.nan)


def _owners(
    rows: Sequence[int] | np.ndarray, **values: np.ndarray
) -> tuple[np.ndarray, int, np.ndarray]:
    """The response of each token without a NaN as 0, 1, ..., how many there are, and
    which tokens these are.
    """
    rows = np.asarray(rows)
    for name, value in values.items():
        if value.shape != rows.shape:
            raise ValueError(
                f"{name}: need one per token, got {value.shape} for {rows.shape} rows."
            )
    missing = [np.isnan(np.asarray(value, np.float64)) for value in values.values()]
    known = ~np.logical_or.reduce(missing)
    names, owner = np.unique(rows[known], return_inverse=True)
    return owner, len(names), known


def _of_counts(
    statistic: Callable[[np.ndarray], np.ndarray],
    size: int,
    resamples: int,
    seed: int,
    bounds: tuple[float, float],
    scale: Scale | None = None,
) -> Interval:
    """Interval of a statistic of how often each response counts: (R, size) -> (R,)."""

    def of_drawn(rows: np.ndarray) -> np.ndarray:
        start = size * np.arange(len(rows))[:, None]
        counts = np.bincount((rows + start).ravel(), minlength=size * len(rows))
        return statistic(counts.reshape(len(rows), size).astype(np.float64))

    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(np.ones((1, size)))[0])
        low, high = resampled_ends(
            size, of_drawn, resamples, seed, bounds=bounds, scale=scale
        )
    return Interval(value, float(low), float(high), size)
