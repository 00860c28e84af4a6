"""VGPO with one part changed at a time."""

from collections.abc import Mapping, Sequence
from math import ceil

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from vgpo.figures.evidence import difference_mark
from vgpo.figures.reweighting import DIVERGING
from vgpo.figures.style import INK, PALETTE, in_style, line_look


@in_style
def schedules_figure(schedules: pd.DataFrame, tails: Sequence[float]) -> Figure:
    """What compensation adds over a chain, by schedule, and where it may.

    Args:
        schedules: Index t/T, a column per schedule, times beta.
        tails: Values of gamma; each has a bar above the part of the chain it opens.
    """
    figure, axes = plt.subplots(figsize=(7.2, 3.0), layout="constrained")
    for name, colour in zip(schedules, PALETTE, strict=False):
        how = "steps-mid" if name == "step" else "default"
        look = line_look(colour, marks=False)
        axes.plot(schedules.index, schedules[name], **look, drawstyle=how, label=name)
    top = float(schedules.max(axis=None))
    for place, gamma in enumerate(sorted(tails)):
        y = top * (1.12 + 0.11 * place)
        axes.plot([1 - gamma, 1], [y, y], color=INK, lw=3, solid_capstyle="butt")
        axes.text(
            0.99 - gamma, y, f"γ = {gamma:g}", ha="right", va="center", fontsize=9
        )
    axes.set(xlabel="place in the chain, t/T", ylabel="added to 1", xlim=(-0.12, 1.01))
    axes.set_ylim(-0.02 * top, top * (1.2 + 0.11 * len(tails)))
    axes.set_xticks(np.linspace(0, 1, 5))
    axes.legend(loc="center left", bbox_to_anchor=(0.02, 0.55), fontsize=9)
    return figure


@in_style
def factors_figure(factors: Mapping[str, np.ndarray], columns: int = 3) -> Figure:
    """What each arm multiplies the advantages of one group by, token by token.

    Args:
        factors: Title -> (B, T), NaN past a rollout's end; panels share their tints,
            white at 1.
        columns: Panels in a row.
    """
    values = {title: np.asarray(panel, dtype=float) for title, panel in factors.items()}
    limit = max(np.nanmax(np.abs(panel - 1)) for panel in values.values())
    rows = ceil(len(values) / columns)
    figure, places = plt.subplots(
        rows, columns, figsize=(7.6, 0.5 + 1.25 * rows), layout="constrained",
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for axes in places.flat[len(values) :]:
        axes.set_axis_off()
    for axes, (title, panel) in zip(places.flat, values.items(), strict=False):
        shown = np.ma.masked_invalid(panel)
        drawn = axes.imshow(
            shown, cmap=DIVERGING, vmin=1 - limit, vmax=1 + limit, aspect="auto"
        )
        axes.set_title(title, loc="left", fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
    figure.supxlabel("token", fontsize=10)
    figure.supylabel("rollout", fontsize=10)
    figure.colorbar(drawn, ax=places, shrink=0.7, label="factor")
    return figure


@in_style
def ablations_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """A forest of ablations, a panel per arm that they are compared with.

    Args:
        tables: Title -> rows of :func:`vgpo.studies.ablations.ablation_table`. An arm
            with one seed has an empty mark, one without a seed a dash at 0.
    """
    arms = list(dict.fromkeys(arm for table in tables.values() for arm in table.index))
    figure, places = plt.subplots(
        1, len(tables), figsize=(7.6, 1.1 + 0.32 * len(arms)), layout="constrained",
        sharey=True, squeeze=False,
    )  # fmt: skip
    for axes, (title, table) in zip(places[0], tables.items(), strict=True):
        for arm, row in table.iterrows():
            _forest_row(axes, arms.index(arm), row)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_title(title, loc="left", fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.2g}"))
        axes.grid(axis="y", visible=False)
    _room_for_nothing(places[0])
    seeds = dict.fromkeys(arms, 0)
    for table in tables.values():
        seeds |= table["seeds"].to_dict()
    labels = [f"{arm} ({seeds[arm]})" for arm in arms]
    places[0, 0].set_yticks(range(len(arms)), labels)
    places[0, 0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def _forest_row(axes, y: int, row: pd.Series) -> None:
    if not row["seeds"]:
        axes.annotate(
            "not run", (0, y), (5, 0), textcoords="offset points", va="center",
            fontsize=8, color=INK,
        )  # fmt: skip
        return
    difference_mark(axes, y, row, size=6)


def _room_for_nothing(places) -> None:
    """Panels in which nothing is drawn have an axis all the same."""
    for axes in places:
        if not any(line.get_marker() == "o" for line in axes.lines):
            axes.set_xlim(-0.05, 0.05)


@in_style
def sweeps_figure(table: pd.DataFrame, label: str) -> Figure:
    """An outcome over the levels of each number, less the method's own level.

    Args:
        table: From :func:`vgpo.studies.ablations.sweep_table`; levels without a pair
            of seeds are left out.
        label: Of the vertical axis.
    """
    numbers = list(dict.fromkeys(table["number"]))
    figure, places = plt.subplots(
        1, len(numbers), figsize=(7.4, 2.6), layout="constrained", sharey=True,
        squeeze=False,
    )  # fmt: skip
    for axes, number in zip(places[0], numbers, strict=True):
        mine = table[table["number"] == number]
        some = mine.dropna(subset=["difference"])
        axes.plot(some["level"], some["difference"], "o-", color=PALETTE[0], ms=5)
        for row in some.dropna(subset=["low"]).itertuples():
            axes.plot([row.level] * 2, [row.low, row.high], color=INK, lw=1.4)
        axes.axhline(0, color=INK, lw=0.8)
        axes.set_xticks(mine["level"], [f"{level:g}" for level in mine["level"]])
        axes.set_xlabel(number)
    places[0, 0].set_ylabel(label)
    return figure
