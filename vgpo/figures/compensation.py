"""Compensation and its gate."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vgpo.figures.style import (
    DASHES,
    INK,
    NULL_MARKS,
    PALETTE,
    SCORE_LABELS,
    SOURCE_COLOURS,
    in_style,
    line_look,
    null_look,
    word_label,
)


def _gate_bars(axes: Axes, chain: pd.DataFrame) -> None:
    """Focus as bars coloured by source, what compensation adds on top, and a grey
    ground under the tail."""
    focus, weight = chain["focus"].to_numpy(), chain["weight"].to_numpy()
    gate = chain["gated"].to_numpy()
    place = np.arange(1, len(chain) + 1)
    colours = [SOURCE_COLOURS[source] for source in chain["source"]]
    axes.bar(place, focus, color=colours, width=0.8, alpha=0.75, lw=0)
    axes.bar(
        place[gate], (weight - focus)[gate], bottom=focus[gate], width=0.8,
        facecolor="none", edgecolor=INK, hatch="/////", lw=0.8,
    )  # fmt: skip
    axes.plot(place[gate], weight[gate] + 0.06, ls="", marker="v", ms=4, color=INK)
    _shade(axes, place[chain["tail"]])


def _shade(axes: Axes, places: np.ndarray) -> None:
    """A grey ground under neighbouring tokens."""
    if len(places):
        axes.axvspan(places[0] - 0.5, places[-1] + 0.5, color=INK, alpha=0.13, lw=0)


def _legend_below(figure: Figure, axes: Axes, ncols: int) -> None:
    """The legend of one panel, for all of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, ncols=ncols, loc="outside lower center", fontsize=9,
        handlelength=3,
    )  # fmt: skip


@in_style
def compensation_figure(
    schedules: pd.DataFrame, chains: Mapping[str, pd.DataFrame]
) -> Figure:
    """One chain: the schedules, then for each score its bars, the shaded tail, the
    gated tokens (triangles) and what they gain (hatched).

    Args:
        schedules: A row per token and a column per schedule, times beta
            (:func:`vgpo.studies.gates.schedule_table`).
        chains: Name of a score -> the chain's tokens under it
            (:func:`vgpo.studies.gates.compensated_chain`).
    """
    length = len(schedules)
    place = np.arange(1, length + 1)
    figure, axes = plt.subplots(
        1 + len(chains), 1, figsize=(7.6, 1.4 + 1.75 * len(chains)),
        sharex=True, layout="constrained",
        height_ratios=[0.75, *[1.0] * len(chains)],
    )  # fmt: skip
    for schedule, colour in zip(schedules, PALETTE, strict=False):
        how = "steps-mid" if schedule == "step" else "default"
        look = line_look(colour, marks=False)
        axes[0].plot(place, schedules[schedule], **look, drawstyle=how, label=schedule)
    axes[0].legend(ncols=3, loc="upper left", fontsize=8, handlelength=2.2)
    highest = round(float(schedules.max(axis=None)), 6)  # 0.3, not 0.30000001 (float32)
    axes[0].set(ylabel="β · schedule", ylim=(0, highest * 1.5))
    for axis, (score, chain) in zip(axes[1:], chains.items(), strict=True):
        _gate_bars(axis, chain)
        axis.set(ylabel="ρ and w", ylim=(0, 1.25))
        axis.set_title(SCORE_LABELS.get(score, score), loc="left")
    _shade(axes[0], place[chain["tail"]])
    words = [word_label(token) for token in chain["token"]]
    axes[-1].set_xticks(place, words, rotation=90, fontsize=8, family="monospace")
    axes[-1].set_xlim(0.4, length + 0.6)
    for i, (source, colour) in enumerate(SOURCE_COLOURS.items()):
        axes[1].text(
            0.42 + 0.15 * i, 1.03, source, color=colour, fontsize=9,
            transform=axes[1].transAxes,
        )  # fmt: skip
    return figure


@in_style
def gate_precision_figure(grades: pd.DataFrame) -> Figure:
    """Precision of the gate over kappa, a panel per gamma and a line per score, with
    95 % bands; dashed: a gate that knows nothing, dotted: one that knows the truth
    (columns of :func:`vgpo.studies.gates.grade_gates`). Scores named in
    :data:`~vgpo.figures.style.NULL_MARKS` have empty marks."""
    figure, axes = plt.subplots(
        1, grades["tail_ratio"].nunique(), figsize=(7.6, 2.8), sharey=True,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for axis, (tail, panel) in zip(axes[0], grades.groupby("tail_ratio"), strict=True):
        null = panel["score"].isin(list(NULL_MARKS))
        for (score, line), colour in zip(
            panel[~null].groupby("score", sort=False), (PALETTE[1], PALETTE[0]),
            strict=False,
        ):  # fmt: skip
            label = SCORE_LABELS.get(score, score)
            axis.fill_between(
                line["top_ratio"], line["low"], line["high"], color=colour, alpha=0.25,
                lw=0,
            )  # fmt: skip
            look = line_look(colour)
            axis.plot(line["top_ratio"], line["precision"], **look, label=label)
        for score, line in panel[null].groupby("score", sort=False):
            axis.plot(line["top_ratio"], line["precision"], ls="none", label=score,
                      **null_look(score))  # fmt: skip
        line = panel[panel["score"] == panel["score"].iloc[0]]
        axis.plot(line["top_ratio"], line["base"], color=INK, ls="--", lw=1.2,
                  label="knows nothing")  # fmt: skip
        best = panel.groupby("top_ratio")["best"].max()
        axis.plot(best.index, best, color=INK, ls=":", lw=1.4,
                  label="knows the truth")  # fmt: skip
        axis.set_title(f"γ = {tail:g}", loc="left")
        axis.set(xlabel="κ", ylim=(-0.03, 1.03), xticks=line["top_ratio"])
    axes[0, 0].set_ylabel("share of gated tokens\nthat read the image")
    _legend_below(figure, axes[0, 0], ncols=3)
    return figure


@in_style
def psi_strength_figure(tables: dict[str, pd.DataFrame]) -> Figure:
    """Mean psi of head, tail and gated tokens over beta, a panel per score (tables
    of :func:`vgpo.studies.gates.psi_by_part`)."""
    figure, axes = plt.subplots(
        1, len(tables), figsize=(7.6, 2.8), sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axis, (score, table) in zip(axes[0], tables.items(), strict=True):
        axis.axhline(0, color=INK, lw=0.6)
        for (part, line), colour in zip(
            table.groupby("part", sort=False),
            (PALETTE[5], PALETTE[1], PALETTE[0]), strict=True,
        ):  # fmt: skip
            axis.plot(line["strength"], line["psi"], **line_look(colour), label=part)
        axis.set_title(SCORE_LABELS.get(score, score), loc="left")
        axis.set_xlabel("β")
    axes[0, 0].set_ylabel("mean ψ")
    _legend_below(figure, axes[0, 0], ncols=3)
    return figure


@in_style
def along_the_chain_figure(table: pd.DataFrame) -> Figure:
    """What compensation changes in psi, over the place in the chain: a line per way
    of compensating with its 95 % band over chains, a panel per score.

    Args:
        table: ``score``, ``compensation``, ``chain``, ``progress`` and ``value``, psi
            less psi of the same tokens without compensation.
    """
    scores = table["score"].unique()
    figure, axes = plt.subplots(
        1, len(scores), figsize=(7.6, 3.0), sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axis, score in zip(axes[0], scores, strict=True):
        axis.axhline(0, color=INK, lw=0.6)
        lines = table[table["score"] == score]
        names = lines["compensation"].unique()
        colours = dict(zip(names, [PALETTE[i] for i in (0, 2, 1, 3)], strict=False))
        sns.lineplot(
            lines, x="progress", y="value", hue="compensation", ax=axis,
            errorbar=("ci", 95), n_boot=200, seed=0, palette=colours,
        )  # fmt: skip
        for line in axis.lines:  # those of the legend as well
            if line.get_color() in colours.values():
                line.set_linestyle(DASHES[PALETTE.index(line.get_color())])
        axis.get_legend().remove()
        axis.set_title(SCORE_LABELS.get(score, score), loc="left")
        axis.set(xlabel="place in the chain, t/T", ylabel="change of mean ψ")
    _legend_below(figure, axes[0, 0], ncols=4)
    return figure
