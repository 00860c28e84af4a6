r"""Comparisons over seeds, and over questions: intervals, p-values, verdicts.

What may be resampled with what, and which function does it:

=============================  ====================  ===================================
What is claimed of             Drawn at random       Function
=============================  ====================  ===================================
a method against another       seeds of training     :func:`compare_arms`,
                               (paired runs)         :func:`t_interval`,
                                                     :func:`sign_flip_p_value`
one model, its share of right  questions, one        :func:`wilson_interval`
                               answer each
two models, same questions     questions, one        :func:`mcnemar`
                               answer each
one model, any other number    answers, questions    :mod:`vgpo.stats.intervals`, with
                               or pictures           ``clusters`` where several answers
                                                     share a question, or several
                                                     questions a picture
=============================  ====================  ===================================

Tokens of one answer are never drawn by themselves: whole answers are. Questions are
not drawn for a claim about a method: one trained model that is asked many questions
is one run, and its questions only make that run's value less noisy.

Few seeds are the rule, and a percentile bootstrap is no help there: its nominal 95 %
interval of a mean over n normal values holds the truth in 75 % of cases at n = 3, 84 %
at 5 and 90 % at 10. Student's t holds it in 95 % at any n, exactly for normal values.
Runs of two methods with the same seed share the cold start, the prompts and the
sampling seed; so they are compared by their difference, seed by seed.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats import contingency_tables, multitest, proportion

from vgpo.stats.intervals import Interval
from vgpo.stats.numbers import number, numbers, share, whole
from vgpo.stats.power import detectable_by_sign_flips

EXACT = 16
"""Most differences of which all sign flips are counted, :math:`2^{16}` of them."""

FEWEST_PAIRS = 6
"""Pairs with which a test by sign flips can reach .05; fewer decide nothing."""

RESAMPLES = 100_000
"""Sign flips drawn at random where there are more differences than :data:`EXACT`."""

DIFFERENCE = "difference found"
"""The interval does not hold 0, and the p-value is small enough."""

SMALL_DIFFERENCE = "difference found, within the margin"
"""The same, and every effect in the interval would be too small to matter."""

NO_EFFECT = "no effect within the margin"
"""No difference was found, and no effect in the interval would matter; it may leave 0
out all the same."""

NOT_DECIDED = "not decided"
"""No difference was found, and the interval holds effects that would matter."""

VERDICTS = (DIFFERENCE, SMALL_DIFFERENCE, NO_EFFECT, NOT_DECIDED)
"""What :func:`verdict` may say."""

Correction = Literal["holm", "benjamini-hochberg", "none"]
"""Of p-values for several comparisons in one table."""

_STATSMODELS_NAMES = {"holm": "holm", "benjamini-hochberg": "fdr_bh"}


class McNemar(NamedTuple):
    """Two models on the same questions.

    Attributes:
        first_only: Questions that the first alone got right.
        second_only: Questions that the second alone got right.
        p_value: Two-sided and exact, of no difference between the two.
    """

    first_only: int
    second_only: int
    p_value: float


# Over seeds --------------------------------------------------------------


def t_interval(
    values: Sequence[float] | np.ndarray, *, confidence: float = 0.95
) -> Interval:
    r"""Mean over seeds with Student's t interval.

    .. math:: \bar x \pm t_{n-1}\, \frac{s}{\sqrt n}

    Of the paired differences of two methods this is the paired t interval. Exact for
    normal values; measured coverage of the nominal 95 %, 20,000 samples each: normal
    95 % at n = 3, 5, 8 and 10; uniform 92 % (3) to 95 % (10); exponential 88 % (3) to
    89 % (10), so of strongly skewed values it is still too narrow.

    Args:
        values: One per seed. Seeds, or means of whole runs, are independent of each
            other; answers of one question and tokens of one answer are not, and have
            no place here.
        confidence: In (0, 1).

    Returns:
        Mean, ends and number of seeds. The ends are NaN where nothing is known of the
        spread: for one seed, and where all values are the same (a measured spread of
        zero would give an interval without width, of no matter how few seeds).

    Raises:
        ValueError: Not one-dimensional, none, or not finite: a run without a value
            has to be run again, or left out together with its partner, by the caller.

    Example:
        >>> print(t_interval([0.017, 0.029, 0.027]))
        0.024 [0.008, 0.040] (n = 3)
    """
    values = _finite(values, "values")
    share(confidence, "confidence")
    mean, count = float(values.mean()), len(values)
    if _constant(values):
        return Interval(mean, float("nan"), float("nan"), count)
    # The t distribution of two degrees of freedom at n = 3 reaches out 2.2 times as
    # far as the normal one: 4.30 standard errors instead of 1.96.
    reach = stats.t.ppf((1 + confidence) / 2, count - 1) * stats.sem(values)
    return Interval(mean, float(mean - reach), float(mean + reach), count)


def paired_differences(
    values: Sequence[float] | np.ndarray, baseline: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Value less baseline, seed by seed.

    Args:
        values: (n,) of one method. If this and ``baseline`` are pandas Series, they
            are paired by their index, the seed, in whatever order.
        baseline: (n,) of the other, with the same seeds.

    Returns:
        (n,) float64, in the order of ``values``. What is equal but for rounding
        (12 digits of the largest value) is made equal, so that ties count as ties.

    Raises:
        ValueError: Another number of seeds, other seeds, a seed twice, or a value
            that is not finite.

    Example:
        >>> arm = pd.Series({0: 0.53, 1: 0.50, 2: 0.55})
        >>> paired_differences(arm, pd.Series({2: 0.54, 1: 0.51, 0: 0.51}))
        array([ 0.02, -0.01,  0.01])
    """
    if isinstance(values, pd.Series) != isinstance(baseline, pd.Series):
        raise ValueError(
            "baseline: give two Series, paired by their index, or none, paired by "
            f"order; got {type(values).__name__} and {type(baseline).__name__}."
        )
    if isinstance(values, pd.Series):
        baseline = _in_the_order_of(values, baseline)
    ours, theirs = _finite(values, "values"), _finite(baseline, "baseline")
    if len(ours) != len(theirs):
        raise ValueError(
            f"baseline: need one per seed of values, {len(ours)}, got {len(theirs)}."
        )
    # 0.3 - 0.295 and 0.7 - 0.695 are the same difference to a reader.
    scale = max(np.abs(ours).max(), np.abs(theirs).max())
    if scale == 0:
        return np.zeros(len(ours))
    return np.asarray(np.round((ours - theirs) / scale, 12) * scale)


def sign_flip_p_value(
    differences: Sequence[float] | np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> float:
    """Two-sided p-value of the sign-flip permutation test of a mean of zero.

    If two methods do the same, the sign of each seed's difference is a coin's throw:
    p is the share of the :math:`2^n` ways to set the signs of which the mean is at
    least as far from 0 as the one that was found. Nothing is assumed of the
    distribution but its symmetry. All ways are counted up to n = 16; beyond,
    ``resamples`` of them are drawn, the one that was found included
    (``scipy.stats.permutation_test``).

    Args:
        differences: One per pair of runs (or per question, where each has a value
            under both models and is independent of the others).
        resamples: Sign flips drawn where there are too many to count all.
        seed: Of that drawing; without effect up to n = 16.

    Returns:
        In (0, 1], never below :func:`smallest_sign_flip_p_value`: five seeds cannot
        reach .05. 1 for one difference, and where all are 0.

    Raises:
        ValueError: Not one-dimensional, none, or not finite.

    Example:
        >>> sign_flip_p_value([0.02, 0.03, 0.01, 0.02, 0.04])  # 2 of 32 ways
        0.0625
    """
    differences = _finite(differences, "differences")
    resamples, seed = whole(resamples, "resamples"), whole(seed, "seed", least=0)
    largest = np.abs(differences).max()
    if largest == 0 or len(differences) == 1:
        return 1.0
    outcome = stats.permutation_test(
        (differences / largest,),  # ties are told with an absolute tolerance there
        np.mean,
        permutation_type="samples",
        n_resamples=np.inf if len(differences) <= EXACT else resamples,
        vectorized=True,
        batch=10_000,
        rng=np.random.default_rng(seed),
    )
    return float(outcome.pvalue)


def smallest_sign_flip_p_value(
    count: int, comparisons: int = 1, correction: Correction = "holm"
) -> float:
    """The smallest p-value that so many seeds can give, corrected.

    All n differences of one sign: 2 of the :math:`2^n` ways. With Holm the smallest of
    m p-values is multiplied by m; with Benjamini-Hochberg that holds for a difference
    that is found alone, and if all m are that small together they stay as they are:
    the least favourable, alone, is what is given here.

    Args:
        count: Seeds, at least 1.
        comparisons: Arms that are compared with the baseline in the same table.
        correction: As in :func:`correct_p_values`.

    Returns:
        In (0, 1].

    Raises:
        ValueError: A number below 1, or no such correction.

    Example:
        >>> [smallest_sign_flip_p_value(n) for n in (3, 5, 6)]
        [0.25, 0.0625, 0.03125]
        >>> smallest_sign_flip_p_value(6, comparisons=4)
        0.125
    """
    whole(count, "count")
    whole(comparisons, "comparisons")
    _check_correction(correction)
    factor = 1 if correction == "none" else comparisons
    return min(1.0, factor * 2.0 ** (1 - count))


def seeds_needed(
    comparisons: int = 1, correction: Correction = "holm", alpha: float = 0.05
) -> int:
    """Fewest seeds with which a sign-flip p-value can come out at ``alpha``.

    A plan with fewer cannot find anything, however large: all its rows will be
    :data:`NOT_DECIDED` or :data:`NO_EFFECT`.

    Args:
        comparisons: Arms that are compared with the baseline in the same table.
        correction: As in :func:`correct_p_values`.
        alpha: In (0, 1): level of the test.

    Returns:
        At least 2.

    Raises:
        ValueError: A number out of range, or no such correction.

    Example:
        >>> [seeds_needed(m) for m in (1, 2, 5, 12)]
        [6, 7, 8, 9]
    """
    share(alpha, "alpha")
    count = 2
    while smallest_sign_flip_p_value(count, comparisons, correction) > alpha:
        count += 1
    return count


def correct_p_values(
    p_values: Sequence[float] | np.ndarray, correction: Correction
) -> np.ndarray:
    """P-values of several comparisons in one table, corrected for their number.

    Args:
        p_values: (m,) in [0, 1]; NaN, of what was not tested, do not count as
            comparisons.
        correction: ``"holm"`` bounds the chance of a single false find in the whole
            table (ablations: few arms, each a claim); ``"benjamini-hochberg"`` bounds
            the share of false finds among the finds (benchmarks: many rows);
            ``"none"`` for one comparison that was planned beforehand.

    Returns:
        (m,) float64 in [0, 1], in the order of ``p_values``, NaN where they are.

    Raises:
        ValueError: A value is out of range, or no such correction.

    Example:
        >>> correct_p_values([0.01, 0.04, 0.03], "holm")
        array([0.03, 0.06, 0.06])
        >>> correct_p_values([0.01, 0.04, 0.03], "benjamini-hochberg")
        array([0.03, 0.04, 0.04])
    """
    _check_correction(correction)
    corrected = numbers(p_values, "p_values")
    if corrected.ndim != 1:
        raise ValueError(f"p_values: must be one-dimensional, got {corrected.shape}.")
    tested = ~np.isnan(corrected)
    if ((corrected[tested] < 0) | (corrected[tested] > 1)).any():
        raise ValueError(f"p_values: must be in [0, 1], got {p_values}.")
    if correction != "none" and tested.any():
        corrected[tested] = multitest.multipletests(
            corrected[tested], method=_STATSMODELS_NAMES[correction]
        )[1]
    return corrected


def verdict(
    interval: Interval,
    p_value: float | None = None,
    *,
    margin: float | None = None,
    alpha: float = 0.05,
) -> str:
    """What an interval of a difference allows to be said.

    :data:`DIFFERENCE`: the interval does not hold 0, and the p-value, if there is
    one, is at most ``alpha``. :data:`NO_EFFECT`: the whole interval lies inside
    (-margin, margin), the effects that would not matter; never without a margin,
    since an interval that holds 0 may hold a great deal besides.
    :data:`SMALL_DIFFERENCE`: both. :data:`NOT_DECIDED`: neither, and where there is
    no interval.

    Args:
        interval: Of a difference.
        p_value: Corrected, where several are compared.
        margin: Above 0, in the units of the difference, stated before the data are
            looked at.
        alpha: In (0, 1): level of the p-value.

    Returns:
        One of :data:`VERDICTS`.

    Raises:
        ValueError: The margin is not positive, or a number is out of range.

    Example:
        >>> verdict(Interval(0.024, 0.008, 0.040, 3))
        'difference found'
        >>> verdict(Interval(0.024, 0.008, 0.040, 3), p_value=0.25)
        'not decided'
        >>> verdict(Interval(0.001, -0.004, 0.006, 10), margin=0.01)
        'no effect within the margin'
    """
    share(alpha, "alpha")
    if margin is not None and not number(margin, "margin") > 0:
        raise ValueError(f"margin: must be above 0, got {margin}.")
    if p_value is not None:
        # NaN, of what was not tested, is neither below 0 nor above 1.
        p = number(p_value, "p_value")
        if p < 0 or p > 1:
            raise ValueError(f"p_value: must be in [0, 1], got {p_value}.")
    # Comparisons with NaN are False: no interval, no verdict.
    found = interval.low > 0 or interval.high < 0
    found = found and (p_value is None or p_value <= alpha)
    inside = margin is not None and -margin < interval.low and interval.high < margin
    if found:
        return SMALL_DIFFERENCE if inside else DIFFERENCE
    return NO_EFFECT if inside else NOT_DECIDED


def compare_arms(
    runs: pd.DataFrame,
    baseline: str,
    *,
    value: str = "value",
    correction: Correction = "holm",
    margin: float | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Every method against a baseline, paired by seed.

    Args:
        runs: One row per run: ``method``, ``seed`` and the column ``value``. An arm
            may have fewer seeds than the baseline has (its partners are then taken),
            never others.
        baseline: The method that the others are compared with.
        value: Name of the column that is compared.
        correction: Of the p-values of all arms, as in :func:`correct_p_values`.
        margin: Above 0: differences that would not matter, for :data:`NO_EFFECT`.
        alpha: In (0, 1): level of the corrected p-value.
        seed: Of the sign flips, where there are more than 16 seeds.

    Returns:
        Index ``method``, in the order of ``runs``; columns:

        - ``mean``, ``baseline``: of the seeds that both have.
        - ``difference``, ``low``, ``high``: :func:`t_interval` of the paired
          differences, 95 %, not corrected.
        - ``p_value``: :func:`sign_flip_p_value`; ``p_corrected``, and by which
          ``correction``; ``smallest_p``: what could have come out at best
          (:func:`smallest_sign_flip_p_value`). Where it is above ``alpha`` there were
          too few seeds to find anything: see :func:`seeds_needed`.
        - ``seeds``: pairs; ``spread``: standard deviation of their differences.
        - ``detectable``: :func:`~vgpo.stats.power.detectable_by_sign_flips` of this
          many seeds and this spread, at ``alpha`` / arms (at ``alpha`` uncorrected):
          what an arm that differs alone would have to reach for the verdict to find
          it four times in five. Infinite where so few seeds can find nothing; NaN
          where the spread is 0.
        - ``verdict``: of the interval and of ``p_corrected``, so that a difference
          needs both.

    Raises:
        ValueError: A column is missing; the baseline or every other method is not
            there; a run is there twice; a value is not finite; an arm has a seed
            that the baseline has not.

    Example:
        >>> runs = pd.DataFrame({
        ...     "method": ["dapo"] * 6 + ["vgpo"] * 6,
        ...     "seed": [*range(6)] * 2,
        ...     "value": [0.51, 0.50, 0.55, 0.53, 0.52, 0.54,
        ...               0.53, 0.53, 0.56, 0.56, 0.53, 0.56]})
        >>> row = compare_arms(runs, "dapo").loc["vgpo"]
        >>> [round(float(row[name]), 3) for name in ("difference", "low", "high")]
        [0.02, 0.011, 0.029]
        >>> print(row["p_value"], row["verdict"])
        0.03125 difference found
    """
    share(alpha, "alpha")
    if missing := {"method", "seed", value} - set(runs.columns):
        raise ValueError(f"runs: lacks the columns {sorted(missing)}.")
    runs = runs.assign(**{value: numbers(runs[value], f"runs: {value}")})
    twice = runs[runs.duplicated(["method", "seed"])]
    if len(twice):
        method, at = twice.iloc[0][["method", "seed"]]
        raise ValueError(f"runs: method {method!r} has seed {at} more than once.")
    if not np.isfinite(runs[value]).all():
        broken = runs[~np.isfinite(runs[value])].iloc[0]
        raise ValueError(
            f"runs: {value} of method {broken['method']!r} with seed "
            f"{broken['seed']} is {broken[value]}; run it again, or leave its seed out."
        )
    methods = list(dict.fromkeys(runs["method"]))
    if baseline not in methods:
        raise ValueError(f"baseline: no runs of {baseline!r}, there are {methods}.")
    arms = [method for method in methods if method != baseline]
    if not arms:
        raise ValueError(f"runs: there is nothing but the baseline, {baseline!r}.")
    of_method = {
        method: part.set_index("seed")[value]
        for method, part in runs.groupby("method", sort=False)
    }
    differences = {}
    for arm in arms:
        mine, other = of_method[arm], of_method[baseline]
        if alone := sorted(set(mine.index) - set(other.index)):
            raise ValueError(
                f"runs: method {arm!r} has seeds {alone}, which the baseline "
                f"{baseline!r} has not: nothing to pair them with."
            )
        differences[arm] = paired_differences(mine, other.loc[mine.index])
    p_values = [sign_flip_p_value(d, seed=seed) for d in differences.values()]
    corrected = correct_p_values(p_values, correction)
    level = alpha if correction == "none" else alpha / len(arms)
    rows = []
    for arm, p_value, p_corrected in zip(arms, p_values, corrected, strict=True):
        mine, paired = of_method[arm], differences[arm]
        interval = t_interval(paired)
        count = interval.count
        spread = float("nan") if _constant(paired) else float(paired.std(ddof=1))
        detectable = float("nan")
        if not np.isnan(spread):
            detectable = detectable_by_sign_flips(count, spread, alpha=level)
        rows.append(
            {
                "method": arm,
                "mean": mine.mean(),
                "baseline": of_method[baseline].loc[mine.index].mean(),
                **interval.as_columns("difference"),
                "p_value": p_value,
                "p_corrected": p_corrected,
                "correction": correction,
                "smallest_p": smallest_sign_flip_p_value(count, len(arms), correction),
                "seeds": count,
                "spread": spread,
                "detectable": detectable,
                "verdict": verdict(interval, p_corrected, margin=margin, alpha=alpha),
            }
        )
    table = pd.DataFrame(rows).set_index("method")
    return table.rename(columns={"difference_low": "low", "difference_high": "high"})


# Over questions ----------------------------------------------------------


def wilson_interval(right: int, count: int, *, confidence: float = 0.95) -> Interval:
    """A single proportion with Wilson's score interval.

    Unlike a bootstrap it has width at 0 of n and n of n, and never leaves [0, 1].

    Args:
        right: Successes, such as questions answered right.
        count: Trials, independent of each other: one answer each to questions that
            share no picture. Of several answers to a question, or several questions
            to a picture, it is too narrow.
        confidence: In (0, 1).

    Returns:
        The proportion in [0, 1] with its ends; all NaN for 0 trials.

    Raises:
        ValueError: ``right`` is not among 0 ... ``count``.

    Example:
        >>> print(wilson_interval(0, 60))
        0.000 [0.000, 0.060] (n = 60)
    """
    share(confidence, "confidence")
    count = whole(count, "count", least=0)
    if not number(right, "right").is_integer() or not 0 <= right <= count:
        raise ValueError(
            f"right: must be a whole number from 0 to count, got {right} of {count}."
        )
    if count == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    low, high = proportion.proportion_confint(
        right, count, alpha=1 - confidence, method="wilson"
    )
    # Rounding may leave a hair beyond the ends that are meant exactly.
    return Interval(right / count, max(float(low), 0.0), min(float(high), 1.0), count)


def mcnemar(
    first: Sequence[bool] | np.ndarray, second: Sequence[bool] | np.ndarray
) -> McNemar:
    """McNemar's exact test of two models that answered the same questions.

    Only the questions count that one of the two alone got right: if the models are
    equally good, those fall to either side like a coin (binomial, two-sided).

    Args:
        first: Whether the first model was right, one per question.
        second: Whether the second was, on the same questions in the same order.
            Questions have to be independent of each other: one answer each, no shared
            picture. For runs of a method over seeds use :func:`compare_arms`; many
            questions to one run say nothing about the next run.

    Returns:
        Both counts and p; p is 1 where the two never disagree.

    Raises:
        ValueError: Lengths differ, or an entry is neither true nor false.

    Example:
        >>> mcnemar([1, 1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1])
        McNemar(first_only=6, second_only=0, p_value=0.03125)
    """
    first, second = _verdicts(first, "first"), _verdicts(second, "second")
    if first.shape != second.shape:
        raise ValueError(
            f"second: need one per question of first, {len(first)}, got {len(second)}."
        )
    first_only = int((first & ~second).sum())
    second_only = int((~first & second).sum())
    if first_only + second_only == 0:
        return McNemar(0, 0, 1.0)
    table = [[0, first_only], [second_only, 0]]
    p_value = contingency_tables.mcnemar(table, exact=True).pvalue
    return McNemar(first_only, second_only, float(p_value))


# -------------------------------------------------------------------------


def _in_the_order_of(values: pd.Series, baseline: pd.Series) -> pd.Series:
    """``baseline`` with its seeds in the order of ``values``, which has the same."""
    for name, series in (("values", values), ("baseline", baseline)):
        if twice := sorted(set(series.index[series.index.duplicated()])):
            raise ValueError(f"{name}: seeds {twice} are there more than once.")
    lacking = sorted(set(values.index) - set(baseline.index))
    extra = sorted(set(baseline.index) - set(values.index))
    if lacking or extra:
        raise ValueError(
            f"baseline: must have the seeds of values; it lacks {lacking} and "
            f"has {extra} besides. Run those, or leave them out of both."
        )
    return baseline.loc[values.index]


def _finite(values: Sequence[float] | np.ndarray, name: str) -> np.ndarray:
    found = numbers(values, name)
    if found.ndim != 1 or not len(found):
        raise ValueError(
            f"{name}: must be one-dimensional and not empty, got shape {found.shape}."
        )
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: must be finite, got {found.tolist()}.")
    return found


def _constant(values: np.ndarray) -> bool:
    """Whether no spread can be told from the values, rounding aside."""
    if len(values) < 2:
        return True
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _verdicts(values: Sequence[bool] | np.ndarray, name: str) -> np.ndarray:
    given = np.asarray(values)
    if given.ndim != 1 or not np.isin(given, (0, 1)).all():
        raise ValueError(f"{name}: must be one-dimensional, True or False each.")
    return given.astype(bool)


def _check_correction(correction: str) -> None:
    if correction not in get_args(Correction):
        raise ValueError(
            f"correction: must be one of {get_args(Correction)}, got {correction!r}."
        )
