"""Tables of what the recorded trainings did, for the chapter on evaluation."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pandas as pd

from vgpo.stats.seeds import t_interval
from vgpo.studies.experiments.arms import find_arm
from vgpo.studies.experiments.grid import Grid
from vgpo.studies.experiments.records import grid_records
from vgpo.studies.experiments.report import compare_grid

PARTS: Mapping[str, str] = {
    "accuracy/sampled/sum": "sums, sampled",
    "accuracy/sampled/count": "counts, sampled",
    "accuracy/greedy": "sums and counts, greedy",
    "accuracy/untrained": "families never trained, sampled",
    "accuracy/untrained greedy": "families never trained, greedy",
    "accuracy/text": "no picture, sampled",
    "accuracy/text greedy": "no picture, greedy",
    "accuracy/larger": "larger grids, longer chains",
    "accuracy/noise": "noise, greedy",
    "accuracy/patches": "a third of the tiles hidden",
    "accuracy/grey": "grey picture",
}
"""Outcomes of an evaluation, and what they are."""

TEMPERATURES: Mapping[str, float] = {
    "accuracy/sampled": 1.0,
    "accuracy/temperature 0.8": 0.8,
    "accuracy/temperature 0.6": 0.6,
    "accuracy/temperature 0.4": 0.4,
    "accuracy/greedy": 0.0,
}
"""Outcomes of the sweep over temperatures; 0 is greedy decoding."""


def with_seeds(outcomes: pd.DataFrame, least: int) -> pd.DataFrame:
    """The rows of arms that were run with at least so many seeds."""
    seeds = outcomes.groupby("arm")["seed"].transform("nunique")
    return outcomes[seeds >= least]


def compared(outcomes: pd.DataFrame, outcome: str, baseline: str) -> pd.DataFrame:
    """Every arm against the baseline in one outcome, whatever its seeds.

    Args:
        outcomes: From
            :func:`~vgpo.studies.experiments.records.outcome_table`, of one world and
            setting.
        outcome: One of those that
            :func:`~vgpo.studies.experiments.report.compare_grid` compares.
        baseline: An arm.

    Returns:
        The columns of :func:`vgpo.stats.seeds.compare_arms` and ``arm``. P-values are
        corrected for the arms with two seeds and more; arms with a single seed have
        their difference and nothing else; they come last.
    """
    return compare_grid(outcomes[outcomes["outcome"] == outcome], baseline)


def before_and_after(
    outcomes: pd.DataFrame, names: Mapping[str, object], column: str = "part"
) -> pd.DataFrame:
    """Outcomes before and after, by arm.

    Args:
        outcomes: From
            :func:`~vgpo.studies.experiments.records.outcome_table`.
        names: Outcome -> what stands for it in the table.
        column: Where that stands.

    Returns:
        ``column``, ``arm``, ``before``, ``value`` (mean over seeds), ``low``,
        ``high`` (Student's t; NaN for one seed), ``seeds``.
    """
    rows = []
    for outcome, name in names.items():
        for arm, mine in outcomes[outcomes["outcome"] == outcome].groupby(
            "arm", sort=False
        ):
            found = t_interval(mine["value"].to_numpy())
            rows.append(
                {
                    column: name,
                    "arm": arm,
                    "before": mine["before"].iloc[0],
                    "value": found.value,
                    "low": found.low,
                    "high": found.high,
                    "seeds": found.count,
                }
            )
    return pd.DataFrame(rows)


def planned_cells(grid: Grid, experiments: str | Path) -> pd.DataFrame:
    """How much of a grid is there, cells of grids that it shares them with included.

    Args:
        grid: The plan.
        experiments: The folder of all grids' folders.

    Returns:
        One row per world and setting: ``grid``, ``world``, ``setting``, ``cells``
        (finished), ``planned``, and ``seeds``, by arm where an arm has any.
    """
    try:
        records = grid_records(grid, experiments)
    except FileNotFoundError:
        records = []
    keys = ["world", "setting"]
    there = pd.DataFrame(
        [{key: r[key] for key in [*keys, "arm"]} for r in records],
        columns=[*keys, "arm"],
    )
    rows = []
    for world, setting in product(grid.worlds, grid.settings):
        mine = there[(there["world"] == world) & (there["setting"] == setting)]
        counts = mine["arm"].value_counts(sort=False)
        arms = [arm for arm in grid.arms if world in find_arm(arm).worlds]
        rows.append(
            {
                "grid": grid.name,
                "world": world,
                "setting": setting,
                "cells": len(mine),
                "planned": len(arms) * len(grid.seeds),
                "seeds": ", ".join(f"{a} {counts[a]}" for a in arms if a in counts),
            }
        )
    return pd.DataFrame(rows)
