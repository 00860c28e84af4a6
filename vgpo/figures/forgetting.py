"""Visual forgetting on the small world, against its truth."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vgpo.figures.style import (
    INK,
    PALETTE,
    Split,
    direct_label,
    in_style,
    interval_bars,
    line_look,
    spread_labels,
)


@in_style
def decay_split_figure(splits: Mapping[str, Split]) -> Figure:
    """The change of mean image mass from early to late, a row per name: in all, with
    its 95 % interval, and under it the parts that it is the sum of, end to end, those
    that add to the fall on one side and those that make up for it on the other
    (values: :func:`vgpo.stats.forgetting.split_decay`)."""
    parts = {
        "nothing left to look at": (PALETTE[2], ""),
        "should have looked and did not": (PALETTE[1], "////"),
        "tokens that need no image": (PALETTE[0], "\\\\\\\\"),
    }
    figure, axes = plt.subplots(
        figsize=(7.4, 1.2 + 0.62 * len(splits)), layout="constrained"
    )
    for y, split in enumerate(splits.values()):
        value, low, high, _ = split.total
        axes.barh(y - 0.2, value, height=0.26, facecolor="none", edgecolor=INK)
        axes.plot([low, high], [y - 0.2] * 2, color=INK, lw=2)
        found = split.fewer_looks, split.weaker_looks, split.other_tokens
        ends = {True: 0.0, False: 0.0}  # where the next part of either sign begins
        for (colour, hatch), (value, *_) in zip(parts.values(), found, strict=True):
            axes.barh(
                y + 0.16, value, left=ends[value > 0], height=0.34, facecolor=colour,
                hatch=hatch, edgecolor="white", lw=0,
            )  # fmt: skip
            ends[value > 0] += value
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", lw=0, label=label)
        for label, (colour, hatch) in parts.items()
    ]
    whole = Patch(facecolor="none", edgecolor=INK, label="in all, 95 % interval")
    axes.legend(
        handles=[whole, *handles], ncols=2, loc="lower left", bbox_to_anchor=(0, 1),
        fontsize=9,
    )  # fmt: skip
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(range(len(splits)), splits)
    axes.invert_yaxis()
    axes.set_xlabel("change of image attention, late less early")
    return figure


@in_style
def layers_figure(table: pd.DataFrame, columns: Sequence[str]) -> Figure:
    """Numbers in [0, 1] over the layers of the language model (rows ``layer``,
    columns of value, and of ``{column}_low`` and ``{column}_high``)."""
    figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    ends = spread_labels({c: table[c].iloc[-1] for c in columns}, gap=0.075)
    for column, colour in zip(columns, PALETTE, strict=False):
        axes.plot(table["layer"], table[column], **line_look(colour))
        axes.fill_between(
            table["layer"], table[f"{column}_low"], table[f"{column}_high"],
            color=colour, alpha=0.2, lw=0,
        )  # fmt: skip
        axes.annotate(
            column, (table["layer"].iloc[-1], ends[column]), color=colour,
            xytext=(8, 0), textcoords="offset points", va="center", fontsize=9.5,
            annotation_clip=False,
        )  # fmt: skip
    axes.set(xlabel="layer of the language model, from 0", ylim=(-0.02, 1.02))
    axes.set_xticks(table["layer"])
    return figure


@in_style
def reads_figure(tables: dict[str, pd.DataFrame]) -> Figure:
    """Numbers in [0, 1] at the first, second, ... read of an answer (name -> table of
    :func:`vgpo.studies.forgetting.mean_by` over ``nth_read``), with 95 % intervals."""
    figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    tables = {name: table.sort_index() for name, table in tables.items()}
    last = {name: table["value"].iloc[-1] for name, table in tables.items()}
    ends = spread_labels(last, gap=0.075)
    for (name, table), colour in zip(tables.items(), PALETTE, strict=False):
        interval_bars(axes, table.index, table["value"], table, colour, line=True)
        direct_label(axes, table.index[-1], ends[name], name, colour)
    axes.set(xlabel="which value the answer reads", ylim=(-0.02, 1.02))
    axes.set_xticks(table.index)
    return figure


@in_style
def occlusion_figure(table: pd.DataFrame) -> Figure:
    """Share of answers that move when a tile is covered, with 95 % intervals (rows:
    what was covered and when; columns ``value``, ``low``, ``high``)."""
    figure, axes = plt.subplots(
        figsize=(7.2, 0.9 + 0.36 * len(table)), layout="constrained"
    )
    y = range(len(table))
    axes.barh(y, table["value"], height=0.62, color=PALETTE[0], lw=0)
    axes.hlines(y, table["low"], table["high"], color=INK, lw=2)
    for place, value, high in zip(y, table["value"], table["high"], strict=True):
        axes.text(max(value, high) + 0.012, place, f"{value:.2f}", va="center")
    axes.set_yticks(y, table.index)
    axes.invert_yaxis()
    axes.set(xlabel="share of answers that moved", xlim=(0, 1.08))
    return figure
