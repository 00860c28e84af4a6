"""Visual forgetting on the small world, against its truth."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from vgpo.figures.style import (
    INK,
    PALETTE,
    Split,
    direct_label,
    in_style,
    interval_bars,
    spread_labels,
)


@in_style
def decay_split_figure(splits: Mapping[str, Split]) -> Figure:
    """The change of mean image mass from early to late, split into its parts, with
    95 % intervals, a group of bars per name (values:
    :func:`vgpo.stats.forgetting.split_decay`)."""
    parts = {
        "nothing left to look at": PALETTE[2],
        "should have looked and did not": PALETTE[1],
        "tokens that need no image": PALETTE[0],
        "in all": INK,
    }
    figure, axes = plt.subplots(
        figsize=(7.4, 1.2 + 0.62 * len(splits)), layout="constrained"
    )
    for y, split in enumerate(splits.values()):
        found = split.fewer_looks, split.weaker_looks, split.other_tokens, split.total
        for i, (colour, part) in enumerate(zip(parts.values(), found, strict=True)):
            value, low, high, _ = part
            place = y + (i - 1.5) * 0.2
            axes.barh(
                place, value, height=0.17, color=colour, lw=0,
                alpha=0.45 if part is split.total else 1.0,
            )  # fmt: skip
            axes.plot([low, high], [place] * 2, color=INK, lw=1.2)
    for i, (label, colour) in enumerate(parts.items()):
        axes.text(
            (i % 2) * 0.5, 1.14 - 0.09 * (i // 2), label, color=colour,
            transform=axes.transAxes, fontsize=9.5,
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
        axes.plot(table["layer"], table[column], "o-", color=colour)
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
