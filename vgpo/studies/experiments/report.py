"""What the finished cells of a grid say: every arm against the baseline, over seeds.

Primary outcomes were fixed before any arm was looked at: the area under the sampled
training reward, and the sampled accuracy on held-out scans. Everything else is
secondary. Per world, setting and outcome, all arms are compared with the baseline
pair by pair (:func:`vgpo.stats.arms.compare_so_far`), p-values corrected by Holm over
the arms that have seeds enough for a p-value to say anything: an arm that is still
being run must not change what is said of those that are done.

Pairs of an arm and a baseline that different commits made are counted and named, unless
a cell that was done again shows that the commits give the same numbers
(:mod:`vgpo.studies.experiments.commits`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vgpo.files import write_atomically
from vgpo.stats.arms import compare_so_far
from vgpo.stats.seeds import FEWEST_PAIRS
from vgpo.studies.experiments.cells import Cell
from vgpo.studies.experiments.commits import again_table, commit_table
from vgpo.studies.experiments.grid import Grid
from vgpo.studies.experiments.places import Places
from vgpo.studies.experiments.records import Record, grid_records, outcome_table

PRIMARY: Mapping[str, float] = {"reward/area": 0.01, "accuracy/sampled": 0.02}
"""The primary outcomes, and the differences that would not matter."""

MARGINS: Mapping[str, float] = {**PRIMARY, "validation/area": 0.02}
"""All outcomes with a difference that would not matter, fixed before they were looked
at: accuracy on the way counts as accuracy does."""

SECONDARY = (
    "accuracy/greedy",
    "accuracy/untrained",
    "accuracy/text",
    "accuracy/larger",
    "accuracy/noise",
    "accuracy/patches",
    "accuracy/grey",
    "validation/area",
    "looks/area",
    "reads_right/area",
    "looking/looks",
    "looking/image_at_reads",
    "looking/focus_at_reads",
    "looking/late_early",
    "length/sampled",
    "entropy/last_third",
)
"""Outcomes that are compared as well; what a world does not have is left out."""

STEP_SIZE = ("abs_advantage/area", "grad_norm/area")
"""Where an arm has over 5 % more or less of these than the baseline, it may differ by
the size of its steps; a baseline with its learning rate scaled to match would tell."""


def compare_grid(outcomes: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Every arm against the baseline, for each world, setting and outcome.

    Args:
        outcomes: From :func:`~vgpo.studies.experiments.records.outcome_table`; of an
            unfinished grid, too: a seed counts where arm and baseline both have it.
        baseline: An arm.

    Returns:
        ``world``, ``setting``, ``outcome``, ``arm``, ``primary``, ``before`` (of the
        cold start), ``mixed`` (how many of the pairs are of commits that are not known
        to give the same numbers) and the columns of
        :func:`vgpo.stats.seeds.compare_arms`. P-values are corrected for the arms with
        :data:`~vgpo.stats.seeds.FEWEST_PAIRS` pairs and more; what arms with fewer have
        says :func:`vgpo.stats.arms.compare_so_far`.
        Places without the baseline, or with nothing but it, are left out.
    """
    wanted = [*PRIMARY, *SECONDARY]
    found = []
    for (world, setting), place in outcomes.groupby(["world", "setting"], sort=False):
        for outcome in wanted:
            runs = place[(place["outcome"] == outcome) & place["value"].notna()]
            seeds = set(runs.loc[runs["arm"] == baseline, "seed"])
            runs = runs[runs["seed"].isin(seeds)]
            if runs["arm"].nunique() < 2:
                continue
            table = compare_runs(runs, baseline, MARGINS.get(outcome))
            table.insert(0, "world", world)
            table.insert(1, "setting", setting)
            table.insert(2, "outcome", outcome)
            table.insert(4, "primary", outcome in PRIMARY)
            table.insert(5, "before", runs["before"].mean())
            found.append(table)
    if not found:
        return pd.DataFrame(columns=["world", "setting", "outcome", "arm"])
    return pd.concat(found, ignore_index=True)


def compare_runs(
    runs: pd.DataFrame, baseline: str, margin: float | None
) -> pd.DataFrame:
    """Arms with seeds enough compared; of the others, what is known of the difference.

    Args:
        runs: ``arm``, ``seed``, ``value`` and ``commits`` of one outcome in one world
            and setting, of the baseline and at least one arm more; the baseline has
            all the seeds.
        baseline: An arm.
        margin: As of :func:`vgpo.stats.seeds.compare_arms`.

    Returns:
        ``arm``, ``mixed`` and the columns of :func:`vgpo.stats.seeds.compare_arms`, as
        :func:`compare_grid` has them.
    """
    named = runs.rename(columns={"arm": "method"})
    table = compare_so_far(named, baseline, margin=margin)
    table = table.rename_axis("arm").reset_index()
    table.insert(1, "mixed", table["arm"].map(_mixed_pairs(runs, baseline)))
    return table


def _mixed_pairs(runs: pd.DataFrame, baseline: str) -> dict[str, int]:
    """By arm, how many seeds have a cell that shares no commit with the baseline's.

    Args:
        runs: ``arm``, ``seed``, ``commits`` of
            :func:`~vgpo.studies.experiments.records.outcome_table`, for one outcome
            in one world and setting; the baseline has all the seeds.
        baseline: An arm.
    """
    commits = runs.set_index(["arm", "seed"])["commits"]
    mixed = dict.fromkeys(runs["arm"], 0)
    for (arm, seed), mine in commits.items():
        mixed[arm] += mine.isdisjoint(commits[baseline, seed])
    return mixed


def step_sizes(outcomes: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Mean absolute advantage and gradient norm of each arm over those of the baseline.

    Returns:
        ``world``, ``setting``, ``arm``, a ratio per name of :data:`STEP_SIZE` (over
        the seeds that both have) and ``differs``, whether one is over 5 % from 1.
    """
    sizes = outcomes[outcomes["outcome"].isin(STEP_SIZE)].pivot_table(
        index=["world", "setting", "seed", "arm"], columns="outcome", values="value"
    )
    base = sizes.xs(baseline, level="arm")
    ratios = sizes.div(base).groupby(["world", "setting", "arm"]).mean()
    ratios = ratios.reindex(columns=list(STEP_SIZE))
    ratios["differs"] = ((ratios - 1).abs() > 0.05).any(axis=1)
    return ratios.reset_index()


def cost_table(records: Sequence[Record]) -> pd.DataFrame:
    """What each arm cost: ``arm``, ``cells``, ``threads``, and seconds: ``train`` and
    ``evaluate`` of all cells together, ``per_cell`` of the median one."""
    rows = pd.DataFrame(
        {
            "arm": record["arm"],
            "threads": record["threads"],
            "train": record["seconds"].get("train", 0.0),
            "total": sum(record["seconds"].values()),
        }
        for record in records
    )
    rows["evaluate"] = rows["total"] - rows["train"]
    cost = rows.groupby("arm", sort=False).agg(
        cells=("total", "size"),
        threads=("threads", "max"),
        train=("train", "sum"),
        evaluate=("evaluate", "sum"),
        per_cell=("total", "median"),
    )
    return cost.round(1).reset_index()


def make_report(grid: Grid, places: Places) -> dict[str, Any]:
    """All that :func:`write_report` writes, as one object for JSON.

    Raises:
        FileNotFoundError: No cell is finished.
        ValueError: A finished cell is not of this grid's settings.
    """
    experiments = places.records.parent
    planned = [cell for cell in grid.cells() if cell.arm in grid.arms]
    records = grid_records(grid, experiments)
    outcomes = outcome_table(records)
    comparisons = compare_grid(outcomes, grid.baseline)
    again = again_table(experiments)
    means = (
        outcomes.groupby(["world", "setting", "arm", "outcome"], sort=False)
        .agg(
            mean=("value", "mean"),
            before=("before", "mean"),
            spread=("value", "std"),
            seeds=("seed", "nunique"),
        )
        .reset_index()
    )
    return {
        "grid": grid.name,
        "description": grid.description,
        "baseline": grid.baseline,
        "planned": len(planned),
        "finished": len(records),
        "seeds": _seeds(planned, records),
        "shared": _shared(records, places),
        "commits": _rows(commit_table(records)),
        "again": _rows(again[again["arm"].isin(grid.arms)]),
        "machines": sorted({record["cpu"] for record in records}),
        "comparisons": _rows(comparisons),
        "step_sizes": _rows(step_sizes(outcomes, grid.baseline)),
        "cost": _rows(cost_table(records)),
        "means": _rows(means),
    }


def _seeds(planned: Sequence[Cell], records: Sequence[Record]) -> list[dict[str, Any]]:
    """How many seeds of each arm are there, and how many were planned, by place."""
    keys = ["world", "setting", "arm"]
    wanted = pd.DataFrame(
        {"world": c.run.world, "setting": c.setting, "arm": c.arm} for c in planned
    )
    there = pd.DataFrame({key: record[key] for key in keys} for record in records)
    counts = wanted.value_counts(sort=False).rename("planned").to_frame()
    counts["finished"] = there.value_counts().reindex(counts.index, fill_value=0)
    return _rows(counts.reset_index())


def _shared(records: Sequence[Record], places: Places) -> dict[str, int]:
    """How many records are read from which other grid."""
    folders = [record["folder"].parent for record in records]
    counts = {folder.name: folders.count(folder) for folder in places.shares}
    return {name: count for name, count in counts.items() if count}


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """As JSON takes them: NaN and infinity become null."""
    return json.loads(table.to_json(orient="records", double_precision=8))


def as_markdown(report: dict[str, Any]) -> str:
    """The primary outcomes, the step sizes that differ and the cost, as tables."""
    lines = [
        f"Grid *{report['grid']}*, {report['finished']} of {report['planned']} cells. "
        f"Each arm against {report['baseline']}, paired by seed: difference with t "
        "interval, exact sign-flip p corrected by Holm over the arms with "
        f"{FEWEST_PAIRS} seeds or more, and the smallest difference that so many seeds "
        "find with 80 % power (-: none is large enough).",
        *_about_cells(report),
    ]
    primary = [row for row in report["comparisons"] if row["primary"]]
    for place in dict.fromkeys(
        (r["world"], r["setting"], r["outcome"]) for r in primary
    ):
        rows = [
            row
            for row in primary
            if (row["world"], row["setting"], row["outcome"]) == place
        ]
        world, setting, outcome = place
        started = rows[0]["before"]
        lines += [
            "",
            f"**{outcome}**, world {world}, {setting}; {report['baseline']} "
            f"{_number(rows[0]['baseline'])}"
            + (f", before training {_number(started)}" if started else ""),
            "",
            "| arm | mean | difference | 95 % | p | found from | seeds | verdict |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['arm']} | {_number(row['mean'])} | "
            f"{_signed(row['difference'])} | "
            f"[{_signed(row['low'])}, {_signed(row['high'])}] | "
            f"{_number(row['p_corrected'])} | {_number(row['detectable'])} | "
            f"{row['seeds']} | {row['verdict']}{_flag(row)} |"
            for row in rows
        ]
    differing = [row for row in report["step_sizes"] if row["differs"]]
    if differing:
        lines += ["", "Steps of another size than the baseline's (ratio):", ""]
        lines += [
            f"- {row['arm']}, {row['world']}, {row['setting']}: "
            + ", ".join(f"{name} {_number(row[name])}" for name in STEP_SIZE)
            for row in differing
        ]
    lines += ["", "| arm | cells | seconds a cell | threads |", "|---|---|---|---|"]
    lines += [
        f"| {row['arm']} | {row['cells']} | {row['per_cell']:.0f} | {row['threads']} |"
        for row in report["cost"]
    ]
    return "\n".join(lines) + "\n"


def _about_cells(report: dict[str, Any]) -> list[str]:
    """What a reader has to know before the tables: what is missing, what is mixed."""
    lines = []
    short = [row for row in report["seeds"] if row["finished"] < row["planned"]]
    if short:
        lines += ["", "**Not finished.** Seeds that are there, of those planned:", ""]
        lines += [
            f"- {row['arm']}, {row['world']}, {row['setting']}: {row['finished']} of "
            f"{row['planned']}"
            for row in short
        ]
    for name, count in report["shared"].items():
        lines += ["", f"{count} of the cells are those of the grid *{name}*."]
    mixed: dict[str, int] = {}
    for row in report["comparisons"]:
        mixed[row["arm"]] = max(mixed.get(row["arm"], 0), row["mixed"])
    if any(mixed.values()):
        lines += [
            "",
            "**Mixed commits.** Of these pairs, arm and "
            f"{report['baseline']} were made by different commits, and nothing shows "
            "that both give the same numbers: "
            + ", ".join(f"{arm} ({count})" for arm, count in mixed.items() if count)
            + ". Their differences hold what changed in the code as well. Do a cell "
            "again: `python -m vgpo.studies.experiments again NAME CELL`.",
        ]
    if len({row["commit"] for row in report["commits"]}) > 1:
        lines += ["", "| arm | commit | cells |", "|---|---|---|"]
        lines += [
            f"| {row['arm']} | {_short(row['commit'])} | {row['cells']} |"
            for row in report["commits"]
        ]
    if report["again"]:
        lines += ["", "Cells that were done again:", ""]
    for row in report["again"]:
        said = "the same numbers as" if row["same"] else "**other numbers** than"
        lines.append(
            f"- {row['cell']} at {_short(row['second'])}: {said} at "
            f"{_short(row['first'])}"
        )
    return lines


def _flag(row: Mapping[str, Any]) -> str:
    return f" ({row['mixed']} pairs of mixed commits)" if row["mixed"] else ""


def _short(commit: str) -> str:
    """A commit as it is quoted, with its mark of changes."""
    return commit[:8] + ("+" if commit.endswith("+") else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def write_report(grid: Grid, places: Places) -> str:
    """Writes ``report.json`` and ``report.md`` beside the records.

    Returns:
        The text of the latter.
    """
    report = make_report(grid, places)
    text = as_markdown(report)
    write_atomically(
        places.records / "report.json", json.dumps(report, indent=1) + "\n"
    )
    write_atomically(places.records / "report.md", text)
    return text
