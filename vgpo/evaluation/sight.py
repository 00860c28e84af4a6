"""How much of a score is sight: the same questions over degraded pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import ProcessorMixin

from vgpo.evaluation.asking import evaluate
from vgpo.evaluation.comparing import TOGETHER, compare
from vgpo.evaluation.runs import EvaluatedRun
from vgpo.evaluation.views import VIEWS, View


@dataclass(frozen=True, eq=False)
class Robustness:
    """One model on the same questions under several views of their pictures.

    Attributes:
        runs: By view, ``none`` first.
        table: See :func:`drops`.
    """

    runs: dict[View, EvaluatedRun]
    table: pd.DataFrame


def robustness(
    model,
    processor: ProcessorMixin,
    dataset: Any,
    *,
    views: Sequence[View] = VIEWS,
    out: str | Path | None = None,
    **settings: Any,
) -> Robustness:
    """Evaluates a model on sets of questions once for each view of their pictures.

    Args:
        model: As for :func:`~vgpo.evaluation.asking.evaluate`.
        processor: As for :func:`~vgpo.evaluation.asking.evaluate`.
        dataset: As for :func:`~vgpo.evaluation.asking.evaluate`.
        views: Beside ``none``, which is always there.
        out: Folder with a folder for each view.
        **settings: As for :func:`~vgpo.evaluation.asking.evaluate`.

    Returns:
        Runs and their table.

    Raises:
        ValueError: As :func:`~vgpo.evaluation.asking.evaluate`; or ``view`` among the
            settings; or no degraded view, an unknown one, or ``swapped`` where no row
            has a picture of its own to swap.
    """
    if "view" in settings:
        raise ValueError("view: name the views in views")
    _require_views(views)
    runs: dict[View, EvaluatedRun] = {}
    for view in dict.fromkeys(("none", *views)):
        folder = None if out is None else Path(out) / view
        runs[view] = evaluate(
            model, processor, dataset, out=folder, view=view, **settings
        )
        if not runs[view].records and runs["none"].records:
            # Rows that are left out under any view say nothing of this one.
            always = {(one["set"], one["row"]) for one in runs["none"].left_out}
            reason = next(
                one["reason"]
                for one in runs[view].left_out
                if (one["set"], one["row"]) not in always
            )
            raise ValueError(f"views: {view} leaves no question to ask: {reason}")
    return Robustness(runs, drops(runs))


def _require_views(views: Sequence[View]) -> None:
    for view in views:
        if view not in VIEWS:
            raise ValueError(f"views: {view!r} is none of {', '.join(VIEWS)}")
    if not set(views) - {"none"}:
        degraded = ", ".join(VIEWS[1:])
        raise ValueError(
            f"views: name at least one degraded view, of {degraded}; the pictures as "
            "they are are always asked about"
        )


def drops(runs: Mapping[View, EvaluatedRun]) -> pd.DataFrame:
    """What each view costs, paired by question.

    Args:
        runs: By view; ``none`` has to be there.

    Returns:
        A row per set and view, and per view for all sets together: ``questions``,
        ``accuracy`` as it is, ``degraded``, ``drop`` with ends, ``corrected`` p and
        ``verdict`` as in :func:`vgpo.evaluation.comparing.compare`, and ``sight``: the
        drop as a share of the accuracy, NaN where nothing was right.
    """
    rows = []
    for view, run in runs.items():
        if view == "none":
            continue
        table = compare(runs["none"], run).table
        for name, row in table.iterrows():
            drop = 0.0 - row["difference"]  # and no -0.0
            rows.append(
                {
                    "set": name,
                    "view": view,
                    "questions": row["questions"],
                    "accuracy": row["first"],
                    "degraded": row["second"],
                    "drop": drop,
                    "drop_low": -row["difference_high"],
                    "drop_high": -row["difference_low"],
                    "corrected": row["corrected"],
                    "verdict": row["verdict"],
                    "sight": drop / row["first"] if row["first"] else float("nan"),
                }
            )
    table = pd.DataFrame(rows)
    if table["set"].nunique() == 2:  # one set: "together" would repeat it
        table = table[table["set"] != TOGETHER]
    return table.reset_index(drop=True)
