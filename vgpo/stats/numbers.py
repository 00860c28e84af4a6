"""Settings of the statistics, checked: a wrong one is named, with what it must be."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def number(value: Any, name: str) -> float:
    """A setting as a number; text is none, even where it spells one.

    Raises:
        ValueError: It is no number.

    Example:
        >>> number(np.float32(0.5), "alpha")
        0.5
    """
    if not isinstance(value, str | bytes):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    raise ValueError(f"{name}: must be a number, got {value!r}.")


def share(value: Any, name: str) -> float:
    """A number in (0, 1).

    Raises:
        ValueError: It is none.
    """
    found = number(value, name)
    if not 0 < found < 1:
        raise ValueError(f"{name}: must be in (0, 1), got {value}.")
    return found


def whole(value: Any, name: str, least: int = 1) -> int:
    """A whole number, from ``least``.

    Raises:
        ValueError: It is none.

    Example:
        >>> whole(3.0, "count")
        3
    """
    found = number(value, name)
    # NaN and infinity are no whole numbers either.
    if not (found >= least and found.is_integer()):
        raise ValueError(f"{name}: must be a whole number from {least}, got {value}.")
    return int(found)


def numbers(values: ArrayLike, name: str) -> np.ndarray:
    """Values as float64, NaN where there is none.

    Raises:
        ValueError: One is no number.
    """
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: must be numbers ({error}).") from error
