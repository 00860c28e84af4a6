"""The departures in words, and a table of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Departure:
    """One place where the released code does something else than the paper.

    Attributes:
        title: What it is about.
        paper: What the paper says.
        released: What the released code does.
        here: What this package does.
    """

    title: str
    paper: str
    released: str
    here: str


DEPARTURES = (
    Departure(
        "groups",
        "rollouts of one prompt",
        "runs of adjacent rows of a shuffled micro-batch",
        "rollouts of one prompt, by `group_ids`",
    ),
    Departure(
        "focus",
        "(cos + 1) / 2",
        "min-max over the micro-batch, padding included",
        "(cos + 1) / 2",
    ),
    Departure("accumulation", "sum of w", "sum of the min-maxed w", "sum of w"),
    Departure(
        "clamps",
        "none",
        "1 + ψ in [0.1, 2], 1 + φ in [0.9, 2]",
        "none",
    ),
    Departure(
        "inter only",
        "φ of compensated w",
        "no compensation without ψ",
        "each switch on its own",
    ),
    Departure("γ", "tail = last γ", "tail = last 1 − γ", "tail = last γ"),
    Departure(
        "schedule and gate",
        "t/T; top κ",
        "t/(T − 1); ties all pass; float64 floors",
        "t/T; later token wins ties; exact ratios",
    ),
    Departure(
        "scores",
        "silent",
        "current policy at each update, bf16, token by token",
        "old policy, once a batch, float32, vectorised",
    ),
    Departure("no image", "silent", "s = 0, hence factor 0.9", "factor 1"),
    Departure(
        "length",
        "sum over tokens",
        "sum over tokens",
        'the paper\'s; `accumulation="mean"` beside it',
    ),
    Departure(
        "grading",
        "exact match of the box",
        "mathruler, which drops units and signs",
        "`accuracy_reward`; `recipe_reward` beside it",
    ),
)
"""The departures, in the order of their numbers (from 1)."""


def departure_table(measured: Mapping[int, str]) -> pd.DataFrame:
    """The departures with what was measured of each.

    Args:
        measured: Text for the departures by number, from 1; those without one
            have a dash.

    Returns:
        One row per departure.

    Raises:
        ValueError: There is no such number.

    Example:
        >>> departure_table({3: "r = 0.9"}).loc[3, "measured"]
        'r = 0.9'
    """
    numbers = range(1, len(DEPARTURES) + 1)
    unknown = set(measured) - set(numbers)
    if unknown:
        raise ValueError(f"measured: there is no departure {sorted(unknown)}.")
    return pd.DataFrame(
        [
            {
                "about": departure.title,
                "paper": departure.paper,
                "released code": departure.released,
                "measured": measured.get(number, "–"),
                "this package": departure.here,
            }
            for number, departure in zip(numbers, DEPARTURES, strict=True)
        ],
        index=pd.Index(numbers, name="no."),
    )
