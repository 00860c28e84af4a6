"""Tables of what the recorded trainings did, for the chapter on evaluation."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from vgpo.stats.seeds import FEWEST_PAIRS, t_interval
from vgpo.studies.experiments.arms import find_arm
from vgpo.studies.experiments.grid import Grid
from vgpo.studies.experiments.records import Record, grid_records, outcome_table
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


COLUMNS = ("world", "setting", "arm", "seed", "outcome", "value", "before", "commits")
"""What is read of a table of outcomes; an empty one of these says that nothing ran."""

NOT_RUN = "not run"
"""In place of a verdict, where there is no pair of seeds."""


def recorded(grid: Grid, experiments: str | Path) -> tuple[list[Record], pd.DataFrame]:
    """What is there of a grid; of one that was never run, nothing.

    Args:
        grid: The plan.
        experiments: The folder of all grids' folders.

    Returns:
        Its records (:func:`~vgpo.studies.experiments.records.grid_records`) and their
        outcomes (:func:`~vgpo.studies.experiments.records.outcome_table`); an empty
        list and an empty table of :data:`COLUMNS` without a finished cell.

    Raises:
        ValueError: As :func:`~vgpo.studies.experiments.records.grid_records`.
    """
    try:
        cells = grid_records(grid, experiments)
    except FileNotFoundError:
        return [], pd.DataFrame(columns=list(COLUMNS))
    return cells, outcome_table(cells)


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
        As :func:`~vgpo.studies.experiments.report.compare_grid` says; arms with too
        few seeds for a p-value come last.
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


def course(
    curves: pd.DataFrame, column: str, baseline: str, window: int = 3
) -> pd.DataFrame:
    """A logged number over the steps, and each arm's paired difference from a baseline.

    Args:
        curves: From :func:`~vgpo.studies.experiments.records.curve_table`, of one world
            and setting; the baseline among the arms.
        column: Of the log.
        baseline: An arm.
        window: Steps of the running mean, centred, that each run is smoothed by first;
            at the ends over the steps that there are.

    Returns:
        One row per arm and step: ``arm``, ``step``, ``value`` (mean over seeds) with
        ``low`` and ``high``, and ``difference`` (mean over the seeds that both have)
        with ``difference_low`` and ``difference_high``, NaN for the baseline; the ends
        are of Student's t over seeds, step by step, and NaN for one seed. ``seeds``
        counts those of the arm.

    Raises:
        ValueError: No run of the baseline, or no such window.
    """
    if window < 1:
        raise ValueError(f"window: must be at least 1, got {window}.")
    if baseline not in set(curves["arm"]):
        raise ValueError(f"baseline: no run of {baseline!r} is in curves.")
    runs = curves.pivot(index="step", columns=["arm", "seed"], values=column)
    runs = runs.rolling(window, center=True, min_periods=1).mean()
    found = []
    for arm in dict.fromkeys(curves["arm"]):
        parts = [_over_seeds(runs[arm], "value", "")]
        less = (runs[arm] - runs[baseline]).dropna(axis=1, how="all")
        if arm != baseline and not less.empty:
            parts.append(_over_seeds(less, "difference", "difference_"))
        found.append(pd.concat(parts, axis=1).assign(arm=arm, seeds=runs[arm].shape[1]))
    columns = ["value", "low", "high"]
    columns += ["difference", "difference_low", "difference_high"]
    table = pd.concat(found).reset_index()
    return table.reindex(columns=["arm", "step", *columns, "seeds"])


def _over_seeds(runs: pd.DataFrame, name: str, prefix: str) -> pd.DataFrame:
    """Mean and ends over the columns of each row."""
    rows = {step: t_interval(row.dropna().to_numpy()) for step, row in runs.iterrows()}
    return pd.DataFrame(
        [{name: i.value, f"{prefix}low": i.low, f"{prefix}high": i.high}
         for i in rows.values()],
        index=runs.index,
    )  # fmt: skip


def planned_cells(grid: Grid, experiments: str | Path) -> pd.DataFrame:
    """How much of a grid is there, cells of grids that it shares them with included.

    Args:
        grid: The plan.
        experiments: The folder of all grids' folders.

    Returns:
        One row per world and setting: ``grid``, ``world``, ``setting``, ``cells``
        (finished), ``planned``, and ``seeds``, by arm where an arm has any.
    """
    records, _ = recorded(grid, experiments)
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
                "planned": sum(len(grid.seeds_of(arm)) for arm in arms),
                "seeds": ", ".join(f"{a} {counts[a]}" for a in arms if a in counts),
            }
        )
    return pd.DataFrame(rows)


def seed_pairs(runs: pd.DataFrame, arm: str, against: str) -> pd.DataFrame:
    """Values of two arms side by side, for the seeds that both have.

    Args:
        runs: ``arm``, ``seed`` and ``value``, of one outcome, world and setting.
        arm: One arm.
        against: The other.

    Returns:
        Index ``seed``, columns ``arm`` and ``against``; no rows where one of the two
        has none.
    """
    values = runs.pivot(index="seed", columns="arm", values="value")
    return values.reindex(columns=[arm, against]).dropna()


def planned_table(
    outcomes: pd.DataFrame, arms: Sequence[str], against: str, outcome: str
) -> pd.DataFrame:
    """Every planned arm against another, whatever has been recorded.

    Args:
        outcomes: From :func:`~vgpo.studies.experiments.records.outcome_table`, of one
            world and setting; or an empty table of :data:`COLUMNS`.
        arms: That have a row each, run or not.
        against: The arm that they are compared with.
        outcome: One that
            :func:`~vgpo.studies.experiments.report.compare_grid` compares.

    Returns:
        Index ``arm``; ``difference``, ``low``, ``high``, ``p_corrected`` (Holm, over
        the rows that have one), ``smallest_p`` (what that could have been at best),
        ``detectable``, ``seeds`` (pairs), ``mixed`` (pairs of different commits) and
        ``verdict``: :data:`NOT_RUN` without a pair.
    """
    rows = outcomes[outcomes["arm"].isin([against, *arms])]
    rows = rows[(rows["outcome"] == outcome) & rows["value"].notna()]
    rows = rows[rows["seed"].isin(rows.loc[rows["arm"] == against, "seed"])]
    numbers = ["difference", "low", "high", "p_corrected", "smallest_p", "detectable"]
    columns = [*numbers, "seeds", "mixed", "verdict"]
    table = pd.DataFrame(index=pd.Index(arms, name="arm"), columns=columns)
    if rows["arm"].nunique() > 1:
        found = compared(rows, outcome, against).set_index("arm")
        table = found.reindex(index=table.index, columns=columns)
    table["verdict"] = table["verdict"].fillna(NOT_RUN)
    counts = table[["seeds", "mixed"]].fillna(0).astype(int)
    return table.assign(**counts, **table[numbers].astype(float))


def in_words(table: pd.DataFrame, against: str) -> list[str]:
    """Rows of :func:`planned_table` as sentences, with what they do not allow.

    Example:
        >>> row = {"seeds": [0], "verdict": NOT_RUN, "mixed": [0]}
        >>> in_words(pd.DataFrame(row, index=["vgpo_token_step"]), "vgpo_token")
        ['Not run, so that nothing can be said of them: vgpo_token_step.']
    """
    run = table[table["seeds"] > 0]
    said = [_sentence(arm, row, against) for arm, row in run.iterrows()]
    if rest := [arm for arm in table.index if arm not in run.index]:
        said.append(f"Not run, so that nothing can be said of them: {', '.join(rest)}.")
    enough = run[run["seeds"] >= FEWEST_PAIRS]
    if len(enough) and (least := enough["smallest_p"].min()) > 0.05:
        said.append(
            f"So few seeds for so many arms give a corrected p of {least:.2f} at best: "
            "no difference can be found, only that none would matter."
        )
    return said


def wrapped(sentences: Sequence[str], about: str = "") -> str:
    """Sentences of :func:`in_words` for a page: one after the other, 78 columns wide.

    Args:
        sentences: What is said.
        about: What each of them is about, put before it.

    Example:
        >>> print(wrapped(["no cell", "one cell"], about="reward"))
        reward: no cell
        reward: one cell
    """
    lead = f"{about}: " if about else ""
    return "\n".join(
        textwrap.fill(lead + sentence, 78, subsequent_indent="  ")
        for sentence in sentences
    )


def _sentence(arm: str, row: pd.Series, against: str) -> str:
    said = f"{arm} less {against}: {row['difference']:+z.3f}"
    if row["seeds"] == 1:
        return f"{said}, one seed, so no interval and no verdict."
    said += f" [{row['low']:+z.3f}, {row['high']:+z.3f}], {row['seeds']} seeds"
    if row["seeds"] < FEWEST_PAIRS:
        said += f", and fewer than {FEWEST_PAIRS} can find nothing"
    else:
        said += f": {row['verdict']}"
    if row["mixed"]:
        pairs = "pair" if row["mixed"] == 1 else "pairs"
        said += f"; {row['mixed']} {pairs} of different commits"
    return said + "."
