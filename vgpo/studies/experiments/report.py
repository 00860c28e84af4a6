"""What the finished cells of a grid say: every arm against the baseline, over seeds.

Primary outcomes were fixed before any arm was looked at: the area under the sampled
training reward, and the sampled accuracy on held-out scans. Everything else is
secondary. Per world, setting and outcome, all arms are compared with the baseline
pair by pair (:func:`vgpo.stats.seeds.compare_arms`), p-values corrected by Holm.
"""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from vgpo.files import write_atomically
from vgpo.stats.seeds import compare_arms
from vgpo.studies.experiments.grid import Grid
from vgpo.studies.experiments.records import outcome_table, read_records
from vgpo.studies.experiments.work import Places, finished

PRIMARY: Mapping[str, float] = {"reward/area": 0.01, "accuracy/sampled": 0.02}
"""The primary outcomes, and the differences that would not matter."""

SECONDARY = (
    "accuracy/greedy",
    "accuracy/untrained",
    "accuracy/text",
    "accuracy/larger",
    "accuracy/noise",
    "accuracy/patches",
    "accuracy/grey",
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
        cold start) and the columns of :func:`vgpo.stats.seeds.compare_arms`.
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
            table = compare_arms(
                runs.rename(columns={"arm": "method"}),
                baseline,
                margin=PRIMARY.get(outcome),
            )
            table = table.rename_axis("arm").reset_index()
            table.insert(0, "world", world)
            table.insert(1, "setting", setting)
            table.insert(2, "outcome", outcome)
            table.insert(4, "primary", outcome in PRIMARY)
            table.insert(5, "before", runs["before"].mean())
            found.append(table)
    if not found:
        return pd.DataFrame(columns=["world", "setting", "outcome", "arm"])
    return pd.concat(found, ignore_index=True)


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


def cost_table(records: list[dict[str, Any]]) -> pd.DataFrame:
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
    planned = [cell for cell in grid.cells() if cell.arm in grid.arms]
    done = [cell for cell in planned if finished(cell, places)]
    outcomes = outcome_table(places.records)
    outcomes = outcomes[outcomes["arm"].isin(grid.arms)]
    records = read_records(places.records)
    comparisons = compare_grid(outcomes, grid.baseline)
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
        "finished": len(done),
        "commits": sorted({str(record["commit"]) for record in records}),
        "machines": sorted({record["cpu"] for record in records}),
        "comparisons": _rows(comparisons),
        "step_sizes": _rows(step_sizes(outcomes, grid.baseline)),
        "cost": _rows(cost_table(records)),
        "means": _rows(means),
    }


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """As JSON takes them: NaN and infinity become null."""
    return json.loads(table.to_json(orient="records", double_precision=8))


def as_markdown(report: dict[str, Any]) -> str:
    """The primary outcomes, the step sizes that differ and the cost, as tables."""
    lines = [
        f"Grid *{report['grid']}*, {report['finished']} of {report['planned']} cells. "
        f"Each arm against {report['baseline']}, paired by seed: difference with t "
        "interval, exact sign-flip p corrected by Holm, and the smallest difference "
        "that so many seeds find with 80 % power."
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
            f"{row['seeds']} | {row['verdict']} |"
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
