"""Visual forgetting on the small world, against its truth."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vgpo.figures.style import (
    DASHES,
    GROUND,
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
        "fewer looks": (PALETTE[2], ""),
        "weaker looks": (PALETTE[1], "////"),
        "idle attention, of tokens that need no image": (PALETTE[0], "\\\\\\\\"),
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
                hatch=hatch, edgecolor=GROUND, lw=0,
            )  # fmt: skip
            ends[value > 0] += value
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor=GROUND, lw=0, label=label)
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
def layers_figure(
    table: pd.DataFrame,
    columns: Sequence[str],
    untrained: pd.DataFrame | None = None,
) -> Figure:
    """Numbers in [0, 1] over the layers of the language model.

    Args:
        table: Rows ``layer``, columns of value, and of ``{column}_low`` and
            ``{column}_high``.
        columns: Those to draw.
        untrained: The same of a network that knows nothing: ``layer`` and the columns
            to draw, dashed and without colour.
    """
    figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    last = {c: table[c].iloc[-1] for c in columns}
    if untrained is not None:
        for column in untrained.columns.drop("layer"):
            axes.plot(untrained["layer"], untrained[column], color=INK, ls="--", lw=1.2)
            last[f"{column}, untrained"] = untrained[column].iloc[-1]
    ends = spread_labels(last, gap=0.075)
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
    for name in [name for name in last if name not in columns]:
        direct_label(axes, table["layer"].iloc[-1], ends[name], name, INK)
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


FOREST_MARKS = {
    "trained": ("o", PALETTE[0], "the model"),
    "untrained": ("D", PALETTE[1], "untrained network"),
    "uniform": ("s", INK, "spread evenly"),
}
"""Marker, colour and name of each null in a forest."""


@in_style
def forest_figure(
    forests: Mapping[str, pd.DataFrame], paper: float | None = None
) -> Figure:
    """Right less wrong for several draws of questions, a panel per world.

    Args:
        forests: World -> rows of
            :func:`vgpo.stats.forgetting.compare_over_question_seeds` with a column
            ``null``, one of :data:`FOREST_MARKS`.
        paper: The paper's difference, for a dashed line.
    """
    figure, places = plt.subplots(
        1, len(forests), figsize=(7.6, 3.7), layout="constrained", sharey=True,
        squeeze=False,
    )  # fmt: skip
    for axes, (world, table) in zip(places[0], forests.items(), strict=True):
        names = list(dict.fromkeys(table["question_seed"].astype(str)))
        for i, (null, (mark, colour, _)) in enumerate(FOREST_MARKS.items()):
            mine = table[table["null"] == null]
            filled = null == "trained"
            for y, (_, row) in enumerate(mine.iterrows()):
                taken = y >= len(names) - 2
                at = y + 0.22 * (i - 1)
                axes.plot([row["low"], row["high"]], [at] * 2, color=INK, lw=1.5)
                axes.plot(
                    row["difference"], at, mark, color=colour, ms=7 if taken else 5,
                    mfc=colour if filled else GROUND,
                )  # fmt: skip
        axes.axhline(len(names) - 2.5, color=INK, lw=0.6)
        axes.axvline(0, color=INK, lw=0.8)
        if paper is not None:
            axes.axvline(paper, color=INK, lw=1.2, ls="--")
            axes.annotate(
                "paper", (paper, -0.65), xytext=(-5, 0), textcoords="offset points",
                ha="right", fontsize=9,
            )  # fmt: skip
        axes.set_title(world, loc="left")
        axes.set_xlabel("right less wrong, same question")
        axes.set_yticks(range(len(names)), names)
    places[0, 0].set_ylim(len(names) - 0.5, -1)
    places[0, 0].set_ylabel("draw of questions")
    handles = [
        plt.Line2D([], [], marker=mark, color=colour, label=name,
                   mfc=colour if null == "trained" else GROUND)
        for null, (mark, colour, name) in FOREST_MARKS.items()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=9)
    return figure


@in_style
def probe_figure(
    panels: Mapping[str, Mapping[str, pd.DataFrame]], ylabel: str, xlabel: str
) -> Figure:
    """Shares along an answer: a panel per world, a line per probe, 95 % intervals.

    Args:
        panels: Title -> name of a line -> rows by fraction of the answer, with
            ``value``, ``low``, ``high``
            (:func:`vgpo.studies.forgetting.mean_by`).
        ylabel: What is shared.
        xlabel: What the fraction is one of.
    """
    figure, places = plt.subplots(
        1, len(panels), figsize=(7.6, 3.5), layout="constrained", sharey=True,
        squeeze=False,
    )  # fmt: skip
    marks = ["o", "s", "^", "D"]
    for axes, (title, lines) in zip(places[0], panels.items(), strict=True):
        for i, (name, table) in enumerate(lines.items()):
            table = table.sort_index()
            aside = 0.012 * (i - (len(lines) - 1) / 2)  # lines that agree stay two
            reach = [table["value"] - table["low"], table["high"] - table["value"]]
            axes.errorbar(
                table.index + aside, table["value"], np.clip(reach, 0, None),
                fmt=marks[i % 4], ls=DASHES[i], ms=5, lw=1.4, color=PALETTE[i],
                mfc=PALETTE[i] if i % 2 == 0 else GROUND, label=name,
            )  # fmt: skip
        axes.set_title(title, loc="left")
        axes.set(xlabel=xlabel, ylim=(-0.02, 1.04))
        # Below: anywhere inside it would lie on lines or on their intervals.
        axes.legend(
            fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.22),
            ncols=min(len(lines), 2), columnspacing=1.2,
        )  # fmt: skip
    places[0, 0].set_ylabel(ylabel)
    return figure
