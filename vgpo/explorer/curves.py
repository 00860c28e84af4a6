"""Curves of training runs, and their differences to a baseline, to be pointed at."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vgpo.explorer.page import View, picture_element
from vgpo.stats.arms import compare_so_far
from vgpo.stats.seeds import paired_differences

_KEYS = ["world", "method", "seed", "step"]
_DIGITS = 6  # significant, of what is shown in a chart


def curves_view(
    curves: pd.DataFrame,
    baseline: str,
    *,
    metrics: Mapping[str, str] | None = None,
    outcomes: pd.DataFrame | None = None,
    shown: Sequence[str] | None = None,
    margins: Mapping[str, float] | None = None,
    title: str = "Training runs",
    picture: bytes | None = None,
) -> View:
    """Training runs by world, method and seed, to be compared by pointing at them.

    Above, the mean over seeds of what was logged at each step, smoothed by a running
    mean that a slider widens; below, the difference to the baseline, paired by seed,
    with Student's t interval over the seeds
    (:func:`vgpo.stats.seeds.t_interval`). Tables compare whole runs: the mean over
    steps of each measure, and ``outcomes``
    (:func:`vgpo.stats.arms.compare_so_far`, p-values corrected by Holm).

    Args:
        curves: A row per step of a run: ``world``, ``method``, ``seed``, ``step``, and
            columns of what was logged; NaN where nothing was.
        baseline: The method that the others are compared with.
        metrics: Columns to offer, with what to call them; by default all.
        outcomes: What came out of whole runs: ``world``, ``method``, ``seed``,
            ``outcome`` and ``value``.
        shown: Methods that are drawn at first; by default the baseline and the
            two others with most seeds.
        margins: Differences that would not matter, by outcome or column of what was
            logged (there of the mean over steps); without one a verdict can be
            "difference found" or "not decided".
        title: Of the view.
        picture: A PNG of curves, for where no script runs.

    Returns:
        A view: the value of a notebook's cell, or ``.save(path)``. Without a script it
        shows the picture and the tables.

    Raises:
        ValueError: A column or the baseline is missing, a step is there twice, or a
            method of ``shown`` has no run.

    Example:
        >>> steps = {"world": "w", "step": [1, 2, 1, 2], "reward": [0.4, 0.5, 0.4, 0.6]}
        >>> runs = pd.DataFrame(steps | {"method": ["dapo"] * 2 + ["vgpo"] * 2})
        >>> curves_view(runs.assign(seed=0), "dapo")
        View('Training runs')
    """
    data = curves_data(
        curves,
        baseline,
        metrics=metrics,
        outcomes=outcomes,
        shown=shown,
        margins=margins,
    )
    return View(
        title,
        picture_element(picture, "the curves, which the tables below compare")
        + static_comparisons(data),
        start="curvesView",
        data=data,
        scripts=("statistics.js", "curves.js"),
        styles=("curves.css",),
        text=f"{title}: {', '.join(data['methods'])}",
        picture=picture,
    )


def curves_data(
    curves: pd.DataFrame,
    baseline: str,
    *,
    metrics: Mapping[str, str] | None = None,
    outcomes: pd.DataFrame | None = None,
    shown: Sequence[str] | None = None,
    margins: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """What the page is given, checked; the arguments are those of
    :func:`curves_view`.

    Returns:
        ``baseline``, ``methods``, ``metrics``, ``shown``, ``quantiles`` and
        ``worlds``, of lists, numbers and texts alone.

    Raises:
        ValueError: as :func:`curves_view` says.
    """
    _check(curves, _KEYS, "curves")
    if curves.empty:
        raise ValueError("curves: there are no runs.")
    if metrics is None:
        metrics = {name: name for name in curves.columns if name not in _KEYS}
    _check(curves, list(metrics), "curves")
    twice = curves[curves.duplicated(_KEYS)]
    if len(twice):
        raise ValueError(f"curves: a step twice, {twice.iloc[0][_KEYS].to_dict()}.")
    methods = list(dict.fromkeys(curves["method"]))
    if baseline not in methods:
        raise ValueError(f"baseline: no runs of {baseline!r}, there are {methods}.")
    methods.remove(baseline)
    methods.insert(0, baseline)
    if shown is None:
        shown = shown_at_first(curves, baseline)
    if unknown := set(shown) - set(methods):
        raise ValueError(f"shown: no runs of {sorted(unknown)}, there are {methods}.")
    ends = _means_over_steps(curves, metrics)
    if outcomes is not None:
        _check(outcomes, ["world", "method", "seed", "outcome", "value"], "outcomes")
        ends = pd.concat([outcomes.assign(metric=None), ends], ignore_index=True)
    most = int(curves.groupby(["world", "method"])["seed"].nunique().max())
    return {
        "baseline": baseline,
        "methods": methods,
        "metrics": dict(metrics),
        "shown": list(shown),
        # Of n seeds, at place n; there is no interval of one.
        "quantiles": [None, None]
        + [float(stats.t.ppf(0.975, n - 1)) for n in range(2, most + 1)],
        "worlds": [
            {
                "name": str(world),
                "runs": _runs(part, metrics),
                "comparisons": _comparisons(
                    ends[ends["world"] == world], baseline, margins or {}
                ),
            }
            for world, part in curves.groupby("world", sort=False)
        ],
    }


def shown_at_first(curves: pd.DataFrame, baseline: str) -> list[str]:
    """The baseline, and the two other methods of which most seeds are known.

    Args:
        curves: As :func:`curves_view` takes it.
        baseline: One of its methods.

    Example:
        >>> runs = pd.DataFrame({"method": ["a", "b", "b"], "seed": [0, 0, 1]})
        >>> shown_at_first(runs, "a")
        ['a', 'b']
    """
    seeds = curves.groupby("method", sort=False)["seed"].nunique()
    others = sorted(seeds.index.drop(baseline), key=lambda method: -seeds[method])
    return [baseline, *others[:2]]


def _check(table: pd.DataFrame, columns: list[str], name: str) -> None:
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"{name}: lacks the columns {missing}.")


def _rounded(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _runs(part: pd.DataFrame, metrics: Mapping[str, str]) -> list[dict[str, Any]]:
    runs = []
    for (method, seed), run in part.groupby(["method", "seed"], sort=False):
        run = run.sort_values("step")
        runs.append(
            {
                "method": method,
                "seed": int(seed),
                "steps": [int(step) for step in run["step"]],
                "values": {name: list(map(_rounded, run[name])) for name in metrics},
            }
        )
    return runs


def _means_over_steps(curves: pd.DataFrame, metrics: Mapping[str, str]) -> pd.DataFrame:
    """The area under each curve over its length, as outcomes."""
    means = curves.groupby(["world", "method", "seed"], sort=False)[list(metrics)]
    tidy = means.mean().melt(var_name="metric", ignore_index=False).reset_index()
    labels = tidy["metric"].map(metrics) + ", mean over steps"
    return tidy.assign(outcome=labels)


def _comparisons(
    outcomes: pd.DataFrame, baseline: str, margins: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Every method against the baseline, for each outcome, over the seeds of both."""
    found = []
    outcomes = outcomes[np.isfinite(outcomes["value"])]
    for outcome, runs in outcomes.groupby("outcome", sort=False):
        of_baseline = runs[runs["method"] == baseline].set_index("seed")["value"]
        runs = runs[runs["seed"].isin(of_baseline.index)]
        if runs["method"].nunique() < 2 or of_baseline.empty:
            continue
        rows, metric = [], runs["metric"].iloc[0]
        margin = margins.get(outcome if pd.isna(metric) else metric)
        for method, row in compare_so_far(runs, baseline, margin=margin).iterrows():
            mine = runs[runs["method"] == method].set_index("seed")["value"]
            paired = paired_differences(mine, of_baseline.loc[mine.index])
            rows.append(
                {
                    "method": method,
                    "mean": _rounded(row["mean"]),
                    "difference": _rounded(row["difference"]),
                    "low": _rounded(row["low"]),
                    "high": _rounded(row["high"]),
                    "p": _rounded(row["p_corrected"]),
                    "verdict": row["verdict"],
                    "seeds": {
                        str(seed): _rounded(value)
                        for seed, value in zip(mine.index, paired, strict=True)
                    },
                }
            )
        found.append({"label": outcome, "metric": metric, "rows": rows})
    return found


# The page without a script ---------------------------------------------


def static_comparisons(data: dict[str, Any]) -> str:
    """The differences to the baseline as HTML tables, without script or style sheet.

    Args:
        data: From :func:`curves_data`.
    """
    parts = []
    for world in data["worlds"]:
        parts.append(f"<h4>{html.escape(world['name'])}</h4>")
        for comparison in world["comparisons"]:
            rows = "".join(
                f"<tr><th scope='row'>{html.escape(row['method'])}</th>"
                f"<td>{_signed(row['difference'])}</td>"
                f"<td>[{_signed(row['low'])}, {_signed(row['high'])}]</td>"
                f"<td>{len(row['seeds'])}</td><td>{row['verdict']}</td></tr>"
                for row in comparison["rows"]
            )
            parts.append(
                f"<p>{html.escape(comparison['label'])}</p><table><thead><tr>"
                f"<th>method</th><th>less {html.escape(data['baseline'])}</th>"
                "<th>95 %</th><th>seeds</th><th>verdict</th></tr></thead>"
                f"<tbody>{rows}</tbody></table>"
            )
    return "".join(parts)


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"
