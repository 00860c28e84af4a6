"""Evaluated runs: accuracy by set, differences, and what sight is worth."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vgpo.figures.style import INK, MARKS, PALETTE, in_style


@in_style
def accuracy_by_set_figure(summaries: Mapping[str, pd.DataFrame]) -> Figure:
    """Greedy accuracy by set with 95 % intervals, one mark per run (columns
    ``greedy``, ``greedy_low``, ``greedy_high``; one summary per run's name)."""
    sets = list(dict.fromkeys(name for table in summaries.values() for name in table.T))
    figure, axes = plt.subplots(
        figsize=(7.0, 0.9 + 0.5 * len(sets)), layout="constrained"
    )
    steps = np.linspace(-0.16, 0.16, len(summaries)) if len(summaries) > 1 else [0.0]
    for place, (name, table) in enumerate(summaries.items()):
        y = [sets.index(one) + steps[place] for one in table.index]
        _intervals(axes, table, "greedy", y, place, label=name)
    _rows(axes, sets)
    # A little beyond 1, so that marks of a perfect score are whole.
    axes.set(xlabel="share of right answers, greedy", xlim=(0, 1.02))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=3, frameon=False)
    return figure


@in_style
def difference_figure(table: pd.DataFrame, label: str) -> Figure:
    """Differences between two runs by set with 95 % intervals, the smallest that would
    have been found drawn beside each as a band (columns ``difference`` with ends,
    ``detectable``)."""
    sets = list(table.index)
    figure, axes = plt.subplots(
        figsize=(7.0, 0.7 + 0.42 * len(sets)), layout="constrained"
    )
    y = np.arange(len(sets))
    reach = table["detectable"].to_numpy()
    axes.barh(y, 2 * reach, left=-reach, height=0.62, color=INK, alpha=0.18, lw=0)
    _intervals(axes, table, "difference", y, 0)
    axes.axvline(0, color=INK, lw=0.8)
    _rows(axes, sets)
    axes.use_sticky_edges = False  # bands end inside the panel, too
    axes.autoscale(axis="x")
    axes.set(xlabel=label)
    return figure


@in_style
def sight_figure(table: pd.DataFrame) -> Figure:
    """What each degraded view leaves of the accuracy by set (columns ``set``, ``view``,
    ``accuracy``, ``degraded``, ``drop`` with ends)."""
    sets = list(table["set"].unique())
    views = list(table["view"].unique())
    figure, axes = plt.subplots(
        figsize=(7.0, 0.9 + 0.62 * len(sets)), layout="constrained"
    )
    steps = np.linspace(-0.27, 0.27, len(views)) if len(views) > 1 else [0.0]
    for place, view in enumerate(views):
        mine = table[table["view"] == view]
        y = [sets.index(one) + steps[place] for one in mine["set"]]
        _intervals(axes, mine, "drop", y, place, label=view)
    whole = table.groupby("set", sort=False)["accuracy"].first()
    for place, name in enumerate(sets):
        axes.plot([whole[name]] * 2, [place - 0.4, place + 0.4], color=INK, lw=1.6)
    axes.axvline(0, color=INK, lw=0.8)
    _rows(axes, sets)
    axes.set(xlabel="accuracy lost (grey stroke: all there was to lose)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=4, frameon=False)
    return figure


def _intervals(axes, table: pd.DataFrame, name: str, y, place: int, label=None) -> None:
    """Values with their ends, told by mark as well as by colour."""
    values = table[name].to_numpy(dtype=float)
    ends = [
        values - table[f"{name}_low"].to_numpy(dtype=float),
        table[f"{name}_high"].to_numpy(dtype=float) - values,
    ]
    axes.errorbar(
        values, y, xerr=np.nan_to_num(np.maximum(ends, 0)), fmt=MARKS[place], ms=5,
        lw=1.6, color=PALETTE[place], label=label,
    )  # fmt: skip


def _rows(axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
