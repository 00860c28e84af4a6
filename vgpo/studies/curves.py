"""Recorded training runs, as the explorer shows them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from vgpo.explorer.curves import curves_view, shown_at_first
from vgpo.explorer.page import View
from vgpo.figures.evidence import course_figure
from vgpo.figures.svg import as_png
from vgpo.studies.evidence import course
from vgpo.studies.experiments.records import Record, curve_table, outcome_table
from vgpo.studies.experiments.report import MARGINS
from vgpo.studies.experiments.runs import TRAINED_FAMILIES, load_runs

METRICS = {
    "reward": "share of right answers, sampled in training",
    "rewards/looks/mean": "share of reads that look at the picture",
    "rewards/reads_right/mean": "share of reads that are right",
    "completions/mean_length": "length of an answer, tokens",
    "entropy": "entropy of the policy, nats",
    "grad_norm": "norm of the gradient",
    "advantages/mean_abs": "size of the advantages",
}
"""What is drawn of a log, where it was logged, and what it is called."""

OUTCOMES = {
    "accuracy/sampled": "accuracy on held-out scans, sampled",
    "accuracy/greedy": "accuracy on held-out scans, greedy",
    "accuracy/text": "accuracy without a picture, sampled",
}
"""What is compared of a grid's cells beside the curves."""


def grid_view(
    cells: str | Path | Sequence[Record],
    baseline: str = "dapo",
    shown: Sequence[str] | None = None,
) -> View:
    """The curves of a grid of trainings.

    Args:
        cells: Of :func:`~vgpo.studies.experiments.records.grid_records`; or a grid's
            folder, such as ``results/experiments/headline``. Finished cells are taken,
            the others left out.
        baseline: The arm that the others are compared with.
        shown: Arms that are drawn at first.

    Raises:
        FileNotFoundError: No cell is finished.
        ValueError: No cell of the baseline is.
    """
    curves = _world_of(curve_table(cells, list(METRICS)))
    outcomes = _world_of(outcome_table(cells))
    outcomes = outcomes[outcomes["outcome"].isin(OUTCOMES)]
    return curves_view(
        curves,
        baseline,
        metrics=_logged(curves),
        outcomes=outcomes.assign(outcome=outcomes["outcome"].map(OUTCOMES)),
        shown=shown,
        margins=_margins(),
        title=f"Recorded trainings, {_seeds(curves)}",
        picture=_picture(curves, baseline, shown),
    )


def _picture(
    curves: pd.DataFrame, baseline: str, shown: Sequence[str] | None
) -> bytes | None:
    """Rewards of the first world, of the arms that the page shows at first; None if
    it has no run of the baseline."""
    named = curves.rename(columns={"method": "arm"})
    runs = named[named["world"] == named["world"].iloc[0]]
    if baseline not in set(runs["arm"]):
        return None
    arms = shown_at_first(curves, baseline) if shown is None else shown
    found = course(runs[runs["arm"].isin([baseline, *arms])], "reward", baseline)
    label = METRICS["reward"]
    if named["world"].nunique() > 1:
        label += f"\n{runs['world'].iloc[0]}"
    return as_png(course_figure(found, baseline, label))


def _margins() -> dict[str, float]:
    """Those of a grid's report, by the names of the view."""
    named = {OUTCOMES[name]: m for name, m in MARGINS.items() if name in OUTCOMES}
    return named | {"reward": MARGINS["reward/area"]}


def _seeds(curves: pd.DataFrame) -> str:
    """How many seeds the arms have: a grid half done must not look done."""
    counts = curves.groupby(["world", "method"])["seed"].nunique()
    least, most = counts.min(), counts.max()
    return f"{least} to {most} seeds an arm" if least < most else f"{most} seeds an arm"


def _world_of(table: pd.DataFrame) -> pd.DataFrame:
    """World and setting in one, arms as methods."""
    world = table["world"] + ", " + table["setting"]
    return table.assign(world=world).rename(columns={"arm": "method"})


def runs_view(folder: str | Path, baseline: str = "dapo") -> View:
    """The curves of single runs, such as those of ``results/rl``.

    Args:
        folder: As ``python -m vgpo.studies.experiments.runs`` writes it.
        baseline: The method that the others are compared with.

    Raises:
        FileNotFoundError: There are none.
        ValueError: None of the baseline.
    """
    accuracies = load_runs(folder)
    world = "runs of " + Path(folder).name
    curves = pd.concat(
        pd.read_csv(Path(folder) / f"{method}-seed{seed}" / "metrics.csv")
        .dropna(subset=["reward"])
        .assign(world=world, method=method, seed=seed)
        for method, seed in accuracies[["method", "seed"]].drop_duplicates().values
    )
    curves = curves.reindex(columns=["world", "method", "seed", "step", *METRICS])
    trained = accuracies["family"].isin(TRAINED_FAMILIES)
    after = accuracies[trained & (accuracies["when"] == "after")]
    outcomes = after.groupby(["method", "seed"], as_index=False)["accuracy"].mean()
    outcomes = outcomes.rename(columns={"accuracy": "value"})
    return curves_view(
        curves,
        baseline,
        metrics=_logged(curves),
        outcomes=outcomes.assign(world=world, outcome=OUTCOMES["accuracy/sampled"]),
        title=f"Training runs of {Path(folder).name}",
        picture=_picture(curves, baseline, None),
    )


def _logged(curves: pd.DataFrame) -> dict[str, str]:
    """The measures that some run has logged."""
    return {
        name: label for name, label in METRICS.items() if curves[name].notna().any()
    }
