"""Figures of the book: one function each, a matplotlib figure out.

All are drawn without a background and in mid-tones, so that they can be read on a
white and on a dark page, at 700 pixels of width, and without telling red from
green. Alt text stands beside each figure in the notebooks' cell metadata.
"""

from collections.abc import Sequence
from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vgpo.testbed.images import TILE
from vgpo.testbed.questions import Example, SourcedToken

INK = "#7d7d7d"
"""Text and axes: 4.1 : 1 against white and against the dark theme's ground."""

SOURCE_COLOURS = {
    "image": "#e07b00",
    "question": "#2e8fce",
    "text": "#8c8c8c",
    "filler": "#b06fbf",
}

PALETTE = ["#2e8fce", "#e07b00", "#1ba37a", "#b06fbf", "#c9a227", "#8c8c8c"]
"""Series colours, after Okabe and Ito, lightened to be seen on black too."""


@contextmanager
def style():
    """The look of the book's figures, for the duration of a ``with`` block."""
    quiet = {
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "axes.labelsize": 10,
        "axes.prop_cycle": plt.cycler(color=PALETTE),
        "figure.facecolor": "none",
        "figure.dpi": 110,
        "savefig.facecolor": "none",
        "savefig.transparent": True,
        "font.size": 10,
        "grid.color": INK,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "legend.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "lines.linewidth": 1.8,
    }
    with sns.axes_style("ticks"), plt.rc_context(quiet):
        yield


def _direct_label(axes, x, y, text, colour) -> None:
    axes.annotate(
        text, (x, y), xytext=(6, 0), textcoords="offset points", color=colour,
        va="center", fontsize=10, annotation_clip=False,
    )  # fmt: skip


def draw_picture(axes, example: Example, numbers: bool = True) -> None:
    """Draws an example's picture, its tiles numbered in raster order from 0."""
    axes.imshow(example.image, interpolation="nearest")
    axes.set_axis_off()
    if not numbers:
        return
    for tile in range(example.rows * example.columns):
        y, x = divmod(tile, example.columns)
        axes.text(
            x * TILE + 1, y * TILE + 1, str(tile), fontsize=7, va="top", ha="left",
            color="black",
            bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.6, "linewidth": 0},
        )  # fmt: skip


def draw_tokens(
    axes,
    tokens: Sequence[SourcedToken],
    width: int = 46,
    fontsize: float = 9.5,
) -> None:
    """Writes tokens as boxes coloured by source, with the tiles they read below.

    Args:
        axes: Where to draw; its own axes are hidden.
        tokens: A chain of the small world.
        width: Characters per line.
        fontsize: Size of the tokens in points.
    """
    axes.set_axis_off()
    x, line = 0.0, 0
    for token in tokens:
        word = token.text.strip()
        room = len(word) + 1.6
        if x and x + room > width:
            x, line = 0.0, line + 1
        colour = SOURCE_COLOURS[token.source]
        wrong = not token.faithful
        axes.text(
            x + room / 2, -line * 2.2, word.replace("$", r"\$"), ha="center",
            va="center", family="monospace", fontsize=fontsize, color=INK,
            bbox={
                "boxstyle": "round,pad=0.22",
                "facecolor": colour + "38",
                "edgecolor": colour,
                "linestyle": "--" if wrong else "-",
                "linewidth": 1.5 if token.tiles else 0.8,
            },
        )  # fmt: skip
        if token.tiles:
            places = ",".join(map(str, token.tiles))
            axes.text(
                x + room / 2, -line * 2.2 - 0.98, places, ha="center", va="center",
                fontsize=6.5, color=colour,
            )  # fmt: skip
        x += room
    axes.set_xlim(-0.5, width + 0.5)
    axes.set_ylim(-line * 2.2 - 1.6, 1.2)


def source_figure(example: Example) -> Figure:
    """An example as a person reads it: the picture, the question, and each token of
    the chain with its source; orange ones read the tiles numbered beneath them,
    dashed ones misreport what they read.

    Example:
        >>> from vgpo.testbed import World
        >>> source_figure(World().example(0, family="sum")).axes[0].get_title()
        ''
    """
    characters = sum(len(t.text.strip()) + 1.6 for t in example.chain)
    lines = int(np.ceil(characters / 44))
    height = max(1.9, 0.8 + 0.42 * lines)
    with style():
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(7.6, height), width_ratios=(1, 3.1), layout="constrained"
        )
        if example.image is None:
            left.set_axis_off()
            left.text(0.5, 0.5, "(no image)", ha="center", transform=left.transAxes)
        else:
            draw_picture(left, example)
        draw_tokens(right, example.chain)
        question = example.question
        if len(question) > 60:
            cut = question.rfind(" ", 0, 60)
            question = f"{question[:cut]}\n{question[cut + 1 :]}"
        right.set_title(f"{question}   → {example.answer}", loc="left", fontsize=10)
        seen = {t.source for t in example.chain}
        for i, (source, colour) in enumerate(SOURCE_COLOURS.items()):
            right.text(
                0.01 + 0.19 * i, -0.02, source, color=colour, fontsize=9,
                alpha=1.0 if source in seen else 0.35, transform=right.transAxes,
                va="top",
            )  # fmt: skip
    plt.close(figure)
    return figure


def gallery_figure(examples: Sequence[Example]) -> Figure:
    """Pictures side by side, each with its question and its answer."""
    with style():
        figure, axes = plt.subplots(
            1, len(examples), figsize=(7.6, 2.5), layout="constrained", squeeze=False
        )
        for place, example in zip(axes[0], examples, strict=True):
            draw_picture(place, example, numbers=False)
            words = example.question.split(" ")
            half = (len(words) + 1) // 2
            lines = [" ".join(words)] if len(words) < 4 else [
                " ".join(words[:half]), " ".join(words[half:])
            ]  # fmt: skip
            place.set_title("\n".join([*lines, f"→ {example.answer}"]), fontsize=9)
    plt.close(figure)
    return figure


def cold_start_figure(curve: pd.DataFrame, families: Sequence[str]) -> Figure:
    """Held-out accuracy per family over the steps of the cold start: sampled at
    temperature 1 (solid) and greedy (dotted), with the size of the pictures."""
    with style():
        figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
        ends = {f: curve[f"sampled_{f}"].iloc[-1] for f in families}
        heights = _spread(ends, gap=0.065)
        for family, colour in zip(families, PALETTE, strict=False):
            axes.plot(curve["step"], curve[f"sampled_{family}"], color=colour)
            axes.plot(
                curve["step"], curve[f"greedy_{family}"], color=colour, ls=":", lw=1.2
            )
            _direct_label(axes, curve["step"].iloc[-1], heights[family], family, colour)
        for step in curve.loc[curve["stage"].diff() > 0, "step"]:
            axes.axvline(step, color=INK, lw=0.6, alpha=0.6)
        axes.set(
            xlabel="optimiser step", ylabel="held-out accuracy", ylim=(-0.02, 1.02)
        )
        axes.set_title("solid: sampled at temperature 1; dotted: greedy", loc="left")
    plt.close(figure)
    return figure


def _spread(values: dict[str, float], gap: float) -> dict[str, float]:
    """Moves labels apart vertically until they are ``gap`` from each other."""
    names = sorted(values, key=values.get)
    heights = [values[n] for n in names]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    return dict(zip(names, heights, strict=True))


def looking_figure(looking: pd.DataFrame) -> Figure:
    """Greedy accuracy per family with the true, a swapped and a blank picture, and
    what the best guesser who never looks would get (rows: families)."""
    columns = {
        "true": ("true picture", PALETTE[0]),
        "swapped": ("another picture", PALETTE[1]),
        "blank": ("grey picture", PALETTE[5]),
        "never_looks": ("best blind guess", PALETTE[3]),
    }
    with style():
        figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
        for i, (column, (label, colour)) in enumerate(columns.items()):
            y = np.arange(len(looking)) + (i - 1.5) * 0.2
            axes.barh(y, looking[column], height=0.18, color=colour)
            for yy, value in zip(y, looking[column], strict=True):
                axes.text(value + 0.008, yy, f"{value:.2f}", va="center", fontsize=8)
            axes.text(1.08, i * 0.35 - 0.2, label, color=colour, fontsize=10)
        axes.set_yticks(range(len(looking)), looking.index)
        axes.invert_yaxis()
        axes.set(xlabel="greedy accuracy on held-out scans", xlim=(0, 1.02))
    plt.close(figure)
    return figure


DIVERGING = sns.blend_palette(["#e07b00", "#f4f4f4", "#2e8fce"], as_cmap=True)
"""Orange below zero, near white at zero, blue above."""


def _heat(axes, values, mask, limit: float, colours=DIVERGING, low=None) -> None:
    shown = np.ma.masked_where(~np.asarray(mask, dtype=bool), np.asarray(values))
    low = -limit if low is None else low
    axes.imshow(shown, cmap=colours, vmin=low, vmax=limit, aspect="auto")
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)


def reweighting_figure(weights, mask, psi, phi, advantages) -> Figure:
    """Weights, psi, phi and shaped advantages of a few short rollouts, as numbers
    in coloured cells (Eq. 7-12)."""
    shaped = advantages[:, None] * (1 + psi) * (1 + phi)[:, None]
    plain = sns.light_palette(PALETTE[2], as_cmap=True)
    panels = [
        ("w", weights, mask, plain, 0.0, 1.0),
        ("ψ", psi, mask, DIVERGING, -1.0, 1.0),
        ("φ", phi[:, None], np.ones((len(phi), 1)), DIVERGING, -1.0, 1.0),
        ("advantage", shaped, mask, DIVERGING, -2.0, 2.0),
    ]
    widths = [weights.shape[1], weights.shape[1], 1.3, weights.shape[1]]
    with style():
        figure, axes = plt.subplots(
            1, 4, figsize=(7.6, 2.0), width_ratios=widths, layout="constrained"
        )
        for place, (name, values, seen, colours, low, high) in zip(
            axes, panels, strict=True
        ):
            _heat(place, values, seen, high, colours, low)
            for y, x in np.argwhere(np.asarray(seen, dtype=bool)):
                value = float(values[y, x])
                place.text(
                    x, y, f"{value:.1f}", ha="center", va="center", fontsize=8,
                    color="#222222",
                )  # fmt: skip
            place.set(title=name, xticks=[], yticks=[])
        axes[0].set_yticks(range(len(weights)), [f"{a:+.0f}" for a in advantages])
        axes[0].set_ylabel("group advantage")
    plt.close(figure)
    return figure


def group_figure(shaped, mask, rewards) -> Figure:
    """Shaped advantages of one group: a row per rollout, a cell per token."""
    with style():
        figure, axes = plt.subplots(
            figsize=(7.4, 0.6 + 0.28 * len(shaped)), layout="constrained"
        )
        limit = float(np.abs(np.asarray(shaped)).max()) or 1.0
        _heat(axes, shaped, mask, limit)
        names = ["right" if reward else "wrong" for reward in rewards]
        axes.set_yticks(range(len(shaped)), names)
        axes.set_xlabel("token of the completion")
        axes.set_xlim(-0.5, int(np.asarray(mask).sum(1).max()) - 0.5)
        figure.colorbar(axes.images[0], ax=axes, label="advantage", shrink=0.9)
    plt.close(figure)
    return figure


def within_group_correlations(table: pd.DataFrame) -> pd.Series:
    """Pearson correlation of length with phi within a group, for ``sum`` and
    ``mean`` accumulation, averaged over the groups whose lengths differ."""
    groups = [g for _, g in table.groupby("group") if g["length"].nunique() > 1]
    within = [g[["sum", "mean"]].corrwith(g["length"]) for g in groups]
    return pd.DataFrame(within).mean().rename("r")


def length_figure(table: pd.DataFrame) -> Figure:
    """phi against length less its group's mean, for both accumulations (columns
    ``group``, ``length``, ``sum``, ``mean``)."""
    length = table["length"] - table.groupby("group")["length"].transform("mean")
    r = within_group_correlations(table)
    with style():
        figure, axes = plt.subplots(
            1, 2, figsize=(7.4, 3.0), sharey=True, layout="constrained"
        )
        for place, how, colour in zip(
            axes, ("sum", "mean"), (PALETTE[0], PALETTE[1]), strict=True
        ):
            place.scatter(length, table[how], s=9, alpha=0.6, color=colour)
            place.set_title(f"{how}: mean r in a group = {r[how]:.2f}", loc="left")
            place.set_xlabel("length less the group's mean, tokens")
        axes[0].set_ylabel("φ")
    plt.close(figure)
    return figure
