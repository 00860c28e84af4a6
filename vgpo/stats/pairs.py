"""Two models on the same questions: the difference of their shares of right answers."""

import numpy as np
from scipy import optimize, stats

from vgpo.stats.intervals import Interval
from vgpo.stats.numbers import share, whole


def paired_shares_interval(
    first_only: int, second_only: int, count: int, *, confidence: float = 0.95
) -> Interval:
    r"""Difference of two shares of right answers to the same questions.

    Tango's score interval (Statistics in Medicine 17(8), 1998): all :math:`\delta`
    that a score test does not reject. With b questions that the second alone got right,
    c that the first alone did, and n in all,

    .. math::
        \frac{|b - c - n\delta|}{\sqrt{n (2 \tilde p + \delta (1 - \delta))}} \le z

    with :math:`\tilde p` the likeliest share of c under :math:`\delta`. Unlike an
    interval from the spread of the differences it has width where the models never
    differ, and a fair one where they rarely do.

    Args:
        first_only: How many only the first got right, c.
        second_only: How many only the second got right, b.
        count: n; questions independent of each other, as for
            :func:`vgpo.stats.seeds.mcnemar`.
        confidence: In (0, 1).

    Returns:
        (b - c) / n, second less first, with its ends in [-1, 1]; NaN for no question.

    Raises:
        ValueError: A count is not a whole number from 0, or they are more than n;
            ``confidence`` is out of range.

    Example:
        >>> print(paired_shares_interval(0, 2, 40))
        0.050 [-0.042, 0.165] (n = 40)
    """
    b = whole(second_only, "second_only", least=0)
    c = whole(first_only, "first_only", least=0)
    n = whole(count, "count", least=0)
    if b + c > n:
        raise ValueError(
            f"count: must be at least first_only + second_only, got {c} + {b} of {n}."
        )
    share(confidence, "confidence")
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    z = float(stats.norm.ppf((1 + confidence) / 2))

    def away(delta: float, side: float) -> float:
        """Below 0 where the score test rejects on that side."""
        linear = (2 * n - b + c) * delta - b - c
        root = np.sqrt(max(linear**2 + 8 * n * c * delta * (1 - delta), 0.0))
        likeliest = (root - linear) / (4 * n)
        spread = n * (2 * likeliest + delta * (1 - delta))
        return z * float(np.sqrt(max(spread, 0.0))) - side * (b - c - n * delta)

    value = (b - c) / n
    ends = []
    for side, end in ((1.0, -1.0), (-1.0, 1.0)):
        # A little off: with b = c = 0 both sides of the equation are 0 at the value.
        edge, start = end * (1 - 1e-12), value + end * 1e-9
        if abs(start) >= 1 or away(edge, side) >= 0:
            ends.append(end)
        else:
            ends.append(float(optimize.brentq(away, edge, start, args=(side,))))
    return Interval(value, ends[0], ends[1], n)
