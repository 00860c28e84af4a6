"""What the paper reports, number by number (arXiv 2604.09349; one seed, greedy, %)."""

from collections.abc import Mapping

import pandas as pd

MATH = ("MathVista", "MathVerse", "We-Math", "MMK12", "GeoMath", "Geo3K")
"""Benchmarks of the paper's average over mathematics."""

VISION = ("LogicVista", "Counting", "MMMU-Pro", "MathVerse-V")
"""Benchmarks of its average over questions that need the image."""

ACCURACIES: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("3B", "DAPO"): (63.9, 57.1, 62.9, 64.1, 47.6, 36.3, 43.0, 65.5, 31.5, 53.1),
    ("3B", "VGPO"): (65.0, 61.4, 62.1, 71.6, 50.2, 36.1, 45.9, 78.0, 32.5, 58.1),
    ("7B", "DAPO"): (68.7, 69.6, 70.8, 77.0, 51.3, 45.6, 47.4, 85.5, 39.0, 66.6),
    ("7B", "VGPO"): (74.1, 71.6, 72.5, 81.5, 54.3, 45.8, 49.4, 95.5, 40.5, 67.6),
    ("32B", "DAPO"): (69.7, 73.0, 78.7, 82.0, 55.2, 51.6, 59.1, 85.5, 47.3, 67.4),
    ("32B", "VGPO"): (75.3, 73.8, 78.7, 87.3, 56.5, 52.3, 59.3, 90.0, 47.3, 70.1),
}
"""Size and method -> accuracies on :data:`MATH`, then :data:`VISION` (Tables 1, 2)."""

AVERAGES: Mapping[str, tuple[float, float]] = {
    "untrained": (50.0, 48.7),
    "GRPO": (62.6, 58.8),
    "DAPO": (63.8, 59.6),
    "PAPO": (65.5, 60.4),
    "VPPO": (65.7, 61.3),
    "VGPO": (66.6, 63.3),
}
"""Method at 7B -> the averages over mathematics and over vision."""


def gains() -> pd.DataFrame:
    """VGPO less DAPO in points, by benchmark and size.

    Returns:
        Index: the benchmarks, each group followed by its mean; columns: the sizes.

    Example:
        >>> found = gains()
        >>> print(found.loc["Counting", "7B"].round(1), found.loc["mean, vision", "7B"])
        10.0 3.6
    """
    table = pd.DataFrame(ACCURACIES, index=[*MATH, *VISION])
    less = table.xs("VGPO", axis=1, level=1) - table.xs("DAPO", axis=1, level=1)
    parts = []
    for name, benchmarks in (("mathematics", MATH), ("vision", VISION)):
        part = less.loc[list(benchmarks)]
        parts += [part, part.mean().to_frame(f"mean, {name}").T]
    return pd.concat(parts).round(1)
