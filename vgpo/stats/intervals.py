"""Estimates with their confidence intervals, by bootstrap over responses.

Tokens of one response are not independent of each other, so what is drawn again and
again, with replacement, is whole responses (or questions, or seeds: whatever was
drawn in the first place). Intervals are the middle 95 % of the resamples, seeded, so
that a number that is printed twice is the same number twice.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

RESAMPLES = 2000
"""Resamples, where nothing else is said."""


class Interval(NamedTuple):
    """An estimate with its 95 % interval, and from how many responses."""

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


def bootstrap_ends(
    count: int,
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval of any statistic of ``count`` responses.

    Args:
        count: Responses.
        statistic: From the responses drawn, (resamples, count) indices, to the
            statistic of each resample, (resamples, ...).
        resamples: How many to draw.
        seed: Of the drawing.

    Returns:
        Low and high end, each of the statistic's shape. Resamples in which it is
        undefined (NaN) are left out; the ends are NaN where it always is, and for
        fewer than two responses.

    Example:
        >>> values = np.array([0.0, 1.0, 2.0, 3.0])
        >>> low, high = bootstrap_ends(4, lambda rows: values[rows].max(axis=1))
        >>> (float(low), float(high))
        (1.0, 3.0)
    """
    if count < 2:
        return np.array(np.nan), np.array(np.nan)
    rows = np.random.default_rng(seed).integers(0, count, (resamples, count))
    with warnings.catch_warnings():
        # Of what is undefined in every resample, the interval is NaN, as said above.
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        low, high = np.nanquantile(statistic(rows), [0.025, 0.975], axis=0)
    return low, high


def mean_interval(
    values: Sequence[float] | np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of one value per response.

    Args:
        values: One per response; NaN are left out.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        The interval; its ends are NaN for fewer than two values.

    Example:
        >>> mean_interval([0.2, 0.4, float("nan")]).count
        2
    """
    values = np.asarray(values, dtype=np.float64)
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else float("nan")
    low, high = bootstrap_ends(
        len(known), lambda rows: known[rows].mean(axis=1), resamples, seed
    )
    return Interval(mean, float(low), float(high), len(known))


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
        scores: (N,) one score per token.
        positive: (N,) bool, True on tokens that should score high.
        rows: (N,) which response each token belongs to.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        The AUROC in [0, 1] and its interval; NaN where there are no positives or
        nothing but positives.

    Raises:
        ValueError: The three differ in length.

    Example:
        >>> auroc_interval([1, 2, 3, 4], [0, 1, 0, 1], [0, 0, 1, 1]).value
        0.75
    """
    scores = np.asarray(scores, dtype=np.float64)
    positive = np.asarray(positive, dtype=bool)
    owner, size = _owners(rows, scores=scores, positive=positive)
    # A resample repeats responses, so all it needs is how often the positives of
    # one response beat the others of another.
    wins = np.zeros((size, size))
    for other in range(size):
        beaten = np.sort(scores[(owner == other) & ~positive])
        below = np.searchsorted(beaten, scores[positive], side="left")
        up_to = np.searchsorted(beaten, scores[positive], side="right")
        np.add.at(wins[:, other], owner[positive], (below + up_to) / 2)
    hits = np.bincount(owner[positive], minlength=size)
    rest = np.bincount(owner[~positive], minlength=size)

    def auroc(counts: np.ndarray) -> np.ndarray:
        pairs = (counts @ hits) * (counts @ rest)
        won = ((counts @ wins) * counts).sum(axis=1)
        return np.asarray(won / pairs)

    return _of_counts(auroc, size, resamples, seed)


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
        x: (N,) one value per token.
        y: (N,) one value per token.
        rows: (N,) which response each token belongs to.
        within: Subtract each response's own means first, so that differences
            between responses do not count.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        r in [-1, 1] and its interval; NaN where ``x`` or ``y`` is constant.

    Raises:
        ValueError: The three differ in length.

    Example:
        >>> round(correlation_interval([1, 2, 5, 6], [2, 4, 1, 3], [0, 0, 1, 1],
        ...                            within=True).value, 6)
        1.0
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    owner, size = _owners(rows, x=x, y=y)
    data = pd.DataFrame({"x": x, "y": y})
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

    return _of_counts(pearson, size, resamples, seed)


def _owners(
    rows: Sequence[int] | np.ndarray, **values: np.ndarray
) -> tuple[np.ndarray, int]:
    """The response of each token as 0, 1, ..., and how many there are."""
    rows = np.asarray(rows)
    for name, value in values.items():
        if value.shape != rows.shape:
            raise ValueError(
                f"{name}: need one per token, got {value.shape} for {rows.shape} rows."
            )
    names, owner = np.unique(rows, return_inverse=True)
    return owner, len(names)


def _of_counts(
    statistic: Callable[[np.ndarray], np.ndarray], size: int, resamples: int, seed: int
) -> Interval:
    """Interval of a statistic of how often each response counts: (R, size) -> (R,)."""

    def of_drawn(rows: np.ndarray) -> np.ndarray:
        start = size * np.arange(len(rows))[:, None]
        counts = np.bincount((rows + start).ravel(), minlength=size * len(rows))
        return statistic(counts.reshape(len(rows), size).astype(np.float64))

    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(np.ones((1, size)))[0])
        low, high = bootstrap_ends(size, of_drawn, resamples, seed)
    return Interval(value, float(low), float(high), size)
