"""How large a difference has to be for so many seeds to find it."""

from functools import lru_cache

import numpy as np
from scipy import optimize, stats

from vgpo.stats.numbers import number, share, whole

COUNTED = 12
"""Most seeds of which the power of a test by sign flips is simulated, over all
:math:`2^{12}` signs. With more, that test finds as much as a t test of the same
level."""

_SAMPLES = 4_000


def detectable_difference(
    count: int, spread: float = 1.0, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    r"""Smallest true paired difference that a t test finds with the given power.

    The difference :math:`\delta` for which the two-sided paired t test at level
    alpha rejects with probability ``power``, by the noncentral t distribution with
    noncentrality :math:`\delta \sqrt n / s`. In standard deviations of the paired
    difference, at 80 %, rounded up: n = 3: 3.27, 5: 1.69, 6: 1.44, 8: 1.16, 10: 1.00,
    16: 0.75, 20: 0.67. (``TTestPower.solve_power`` of statsmodels agrees with these,
    but not everywhere: five seeds at level 0.0025 need 3.78, it says 2.98.)

    For verdicts by an interval alone. The sign-flip test finds such a difference less
    often with few seeds: see :func:`detectable_by_sign_flips`.

    Args:
        count: Seeds of either method, paired.
        spread: Standard deviation of the paired difference; with 1 the answer is in
            such standard deviations. Estimated from few seeds it is itself uncertain:
            five measured differences hold it within a factor of 0.6 to 2.9.
        power: In (0, 1), above ``alpha``.
        alpha: In (0, 1): level of the test; of m arms corrected by Holm, ``0.05 / m``
            for a difference that is to be found alone.

    Returns:
        In the units of ``spread``; infinite for one seed.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> round(detectable_difference(10), 2)
        1.0
        >>> round(detectable_difference(3, spread=0.01), 3)
        0.033
    """
    count = _checked(count, spread, power, alpha)
    if count == 1:
        return float("inf")
    return float(spread) * _detectable_in_spreads(count, power, alpha)


def detectable_by_sign_flips(
    count: int, spread: float = 1.0, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    r"""Smallest true paired difference that a verdict finds with the given power.

    :func:`vgpo.stats.seeds.verdict` finds a difference where the 95 % t interval is
    clear of 0 and the p-value of the sign flips is at most alpha. Of n seeds that
    p-value is a multiple of :math:`2^{1-n}`, so that few seeds find nothing, however
    large; and where only the smallest multiple will do, every seed has to point the
    same way, for which :math:`\Phi(\delta / s)^n` is the chance.

    In standard deviations of the paired difference, at 80 % and level .05: n = 6: 1.79,
    7: 1.35, 8: 1.20, 10: 1.02. At .05 / 9, as of nine arms corrected by Holm, n = 8:
    infinite, 9: 1.97, 10: 1.67, 16: 1.04. Up to :data:`COUNTED` seeds it is simulated
    over 4,000 samples of normal differences, always the same ones (standard error of
    the power 0.006); beyond, it is :func:`detectable_difference`.

    Args:
        count: Seeds of either method, paired.
        spread: Standard deviation of the paired difference.
        power: In (0, 1), above ``alpha``.
        alpha: In (0, 1): level of the sign-flip p-value; of m arms corrected by Holm,
            ``0.05 / m`` for a difference that is to be found alone.

    Returns:
        In the units of ``spread``; infinite where no difference can be found.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> [round(detectable_by_sign_flips(n), 1) for n in (5, 6, 10)]
        [inf, 1.8, 1.0]
        >>> detectable_by_sign_flips(6, alpha=0.05 / 2)
        inf
    """
    count = _checked(count, spread, power, alpha)
    if 2.0 ** (1 - count) > alpha:
        return float("inf")
    if count > COUNTED:
        return detectable_difference(count, spread, power=power, alpha=alpha)
    return float(spread) * _by_sign_flips_in_spreads(count, power, alpha)


def _checked(count: int, spread: float, power: float, alpha: float) -> int:
    """The number of seeds, where all four are in range."""
    seeds = whole(count, "count")
    share(alpha, "alpha")
    if not alpha < number(power, "power") < 1:
        raise ValueError(f"power: must be between alpha and 1, got {power}.")
    if not 0 <= number(spread, "spread") < np.inf:
        raise ValueError(f"spread: must be finite and at least 0, got {spread}.")
    return seeds


@lru_cache
def _detectable_in_spreads(count: int, power: float, alpha: float) -> float:
    # Student's t of n paired differences is noncentral t if their mean is not 0. Both
    # tails reject; the lower one, P(T < -bound), is taken as the upper one of the
    # mirrored distribution, since scipy's cdf is NaN far out.
    freedom = count - 1
    bound = stats.t.ppf(1 - alpha / 2, freedom)

    def lacking(shift: float) -> float:
        return float(stats.nct.sf(bound, freedom, [shift, -shift]).sum() - power)

    # At a shift of 2 bounds + 2 it is found nearly always; few degrees of freedom need
    # more, since then the standard error itself may come out far too large.
    most = 2 * bound + 2
    while lacking(most) < 0:
        most *= 2
    return float(optimize.brentq(lacking, 0, most) / np.sqrt(count))


@lru_cache
def _by_sign_flips_in_spreads(count: int, power: float, alpha: float) -> float:
    noise = np.random.default_rng(0).standard_normal((_SAMPLES, count))
    # All signs of all but the first seed: the others are these turned round, with the
    # same distance from 0.
    ways = 2 ** (count - 1)
    signs = 1.0 - 2.0 * ((np.arange(ways)[:, None] >> np.arange(count)) & 1)
    flipped, turned = noise @ signs.T, signs.sum(axis=1)
    bound = stats.t.ppf(0.975, count - 1) / np.sqrt(count)
    mean, deviation = noise.mean(axis=1), noise.std(axis=1, ddof=1)

    def lacking(shift: float) -> float:
        found = np.abs(flipped + shift * turned)
        # The first way changes no sign. Ties count, rounding aside.
        as_far = (found >= found[:, :1] - 1e-9).mean(axis=1)
        clear = np.abs(mean + shift) > bound * deviation
        return float(((as_far <= alpha + 1e-12) & clear).mean() - power)

    most = 2.0
    while lacking(most) < 0:
        most *= 2
    return float(optimize.bisect(lacking, 0, most, xtol=1e-3))
