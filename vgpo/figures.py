"""Figures of the book: one function each, a matplotlib figure out.

All are drawn without a background and in mid-tones, so that they can be read on a
white and on a dark page, at 700 pixels of width, and without telling red from
green. Alt text stands beside each figure in the notebooks' cell metadata.
"""

from collections.abc import Sequence
from contextlib import contextmanager
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from vgpo.method.compensation import (
    SCHEDULES,
    compensate,
    compensation_schedule,
    visual_gate,
)
from vgpo.stats.forgetting import DecaySplit
from vgpo.stats.intervals import mean_interval
from vgpo.studies.departures import within_group_correlation
from vgpo.testbed.images import TILE
from vgpo.testbed.questions import Example, SourcedToken

INK = "#7d7d7d"
"""Text and axes, 4.1 : 1 against white and against the dark theme's ground."""

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
    columns = {name: torch.tensor(table[name].to_numpy()) for name in table}
    length, group = columns["length"], columns["group"]
    r = {
        name: within_group_correlation(columns[name], length, group)
        for name in ("sum", "mean")
    }
    return pd.Series(r, name="r")


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


ATTENTION_COLOURS = {"image": "#e07b00", "query": "#2e8fce", "generated": "#8c8c8c"}
"""What a step attends to: image, question, generated text."""

_GLOW = ListedColormap(
    [(0.88, 0.0, 0.45, alpha) for alpha in np.linspace(0.0, 0.6, 256)], name="glow"
)


def _plain(token: str) -> str:
    """A token as a label: no line breaks, no mathematics."""
    shown = token.strip().replace("\n", "⏎").replace("$", r"\$")
    return shown or "␣"


def attention_split_figure(table: pd.DataFrame, per_line: int = 32) -> Figure:
    """Shares of attention per generated token, stacked over the token's text.

    Args:
        table: One row per token: ``token``, ``image``, ``query``, ``generated``.
        per_line: Tokens in a line of the figure.
    """
    lines = int(np.ceil(len(table) / per_line))
    with style():
        figure, axes = plt.subplots(
            lines, 1, figsize=(7.6, 0.5 + 1.45 * lines), layout="constrained",
            squeeze=False,
        )  # fmt: skip
        for line, place in enumerate(axes[:, 0]):
            some = table.iloc[line * per_line : (line + 1) * per_line]
            x, bottom = np.arange(len(some)), np.zeros(len(some))
            for kind, colour in ATTENTION_COLOURS.items():
                place.bar(
                    x, some[kind], bottom=bottom, width=0.86, color=colour,
                    alpha=0.45 if kind == "generated" else 1.0, linewidth=0,
                )  # fmt: skip
                bottom += some[kind].to_numpy()
            place.set_xticks(x, map(_plain, some["token"]), rotation=90, fontsize=8)
            place.tick_params(axis="x", length=0, pad=1)
            place.set(xlim=(-0.6, per_line - 0.4), ylim=(0, 1), yticks=[0, 0.5, 1])
            place.spines["bottom"].set_visible(False)
        for i, (kind, colour) in enumerate(ATTENTION_COLOURS.items()):
            axes[0, 0].text(
                0.005 + 0.11 * i, 1.06, kind, color=colour, fontsize=10,
                transform=axes[0, 0].transAxes,
            )  # fmt: skip
        figure.supylabel("share of attention", fontsize=10, color=INK)
    plt.close(figure)
    return figure


def attention_maps_figure(
    images: Sequence,
    maps: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    targets: Sequence[Sequence[int]] | None = None,
) -> Figure:
    """Where on the pictures some steps look; the redder, the more.

    A model resizes a picture as a whole before it cuts it into patches, so its grid
    of image tokens covers the picture from edge to edge, whatever the sizes: cell
    (r, c) of a (height, width) grid lies on the r-th of ``height`` equal bands and
    the c-th of ``width``.

    Args:
        images: The pictures of one prompt.
        maps: Per step one (height, width) array per picture: attention on each image
            token. Colours are scaled to the largest value of each step.
        titles: One per step.
        targets: Per step the tokens of the first picture it should look at, counted
            in raster order; outlined.

    Raises:
        ValueError: A step has not one map per picture.
    """
    for step in maps:
        if len(step) != len(images):
            raise ValueError(
                f"maps: need one per picture, got {len(step)} for {len(images)}."
            )
    columns = min(6, len(maps)) if len(images) == 1 else len(images)
    cells = [(step, k) for step in range(len(maps)) for k in range(len(images))]
    lines = int(np.ceil(len(cells) / columns))
    shape = max(image.height / image.width for image in images)
    height = lines * (7.6 / columns * min(shape, 2.0) + 0.35)
    with style():
        figure, axes = plt.subplots(
            lines, columns, figsize=(7.6, min(height, 11)), layout="constrained",
            squeeze=False,
        )  # fmt: skip
        for place in axes.flat:
            place.set_axis_off()
        for place, (step, k) in zip(axes.flat, cells, strict=False):
            image, values = images[k], maps[step][k]
            whole = (0, image.width, image.height, 0)
            place.imshow(image.convert("L"), cmap="gray", alpha=0.75, extent=whole)
            top = max(float(grid.max()) for grid in maps[step]) or 1.0
            place.imshow(
                values, cmap=_GLOW, vmin=0, vmax=top, extent=whole,
                interpolation="nearest",
            )  # fmt: skip
            if targets is not None and k == 0:
                _outline(place, image, values.shape, targets[step])
            if k == 0:
                place.set_title(_plain(titles[step]), fontsize=9)
    plt.close(figure)
    return figure


def _outline(axes, image, shape, tokens) -> None:
    height, width = image.height / shape[0], image.width / shape[1]
    for token in tokens:
        row, column = divmod(token, shape[1])
        box = (column * width, row * height), width, height
        axes.add_patch(plt.Rectangle(*box, fill=False, edgecolor="#f4f4f4", lw=3.4))
        axes.add_patch(plt.Rectangle(*box, fill=False, edgecolor="#0a58a6", lw=1.8))


def decay_figure(curves: pd.DataFrame) -> Figure:
    """Shares of attention over generation progress, a panel per kind, a line per
    group, with 95 % bands (``ForgettingAnalysis.curves``)."""
    groups = list(dict.fromkeys(curves["group"]))
    with style():
        figure, axes = plt.subplots(
            1, 3, figsize=(7.6, 2.9), layout="constrained", sharey=True
        )
        for place, (kind, colour) in zip(axes, ATTENTION_COLOURS.items(), strict=True):
            some = curves[curves["kind"] == kind]
            ends = {}
            for i, group in enumerate(groups):
                line = some[some["group"] == group]
                shade = colour if len(groups) == 1 else PALETTE[i % len(PALETTE)]
                place.plot(line["progress"], line["mean"], color=shade)
                place.fill_between(
                    line["progress"], line["low"], line["high"], color=shade,
                    alpha=0.22, lw=0,
                )  # fmt: skip
                ends[group] = line["mean"].iloc[-1]
            place.set_title(kind, loc="left", color=colour)
            place.set(xlim=(0, 100), ylim=(0, 1), xlabel="progress of generation, %")
            if kind == "generated" and len(groups) > 1:
                for i, group in enumerate(groups):
                    place.text(
                        97, 0.04 + 0.075 * i, group, ha="right", fontsize=9,
                        color=PALETTE[i % len(PALETTE)],
                    )  # fmt: skip
        axes[0].set_ylabel("share of attention")
    plt.close(figure)
    return figure


def ratio_figure(responses: pd.DataFrame, group: str | None = None) -> Figure:
    """Late/early accumulation ratio of right and wrong answers: a point each, and
    mean and 95 % interval (columns ``ratio``, ``correct``; ``group`` names another
    column to make a row per group)."""
    names = ["all answers"] if group is None else list(dict.fromkeys(responses[group]))
    known = responses.dropna(subset=["ratio"])
    top = float(known["ratio"].quantile(0.99)) if len(known) else 1.0
    height = 0.9 + 0.72 * len(names)
    spread = np.random.default_rng(0)
    with style():
        figure, axes = plt.subplots(figsize=(7.4, height), layout="constrained")
        for y, name in enumerate(names):
            some = known if group is None else known[known[group] == name]
            for right, colour, shift in (
                (True, PALETTE[0], -0.2),
                (False, PALETTE[1], 0.2),
            ):
                values = some.loc[some["correct"] == right, "ratio"].to_numpy()
                if not len(values):
                    continue
                jitter = spread.uniform(-0.13, 0.13, len(values))
                axes.scatter(
                    values, y + shift + jitter, s=7, alpha=0.45, color=colour, lw=0
                )
                mean, low, high, _ = mean_interval(values)
                axes.plot([low, high], [y + shift] * 2, color=INK, lw=2.2)
                axes.plot(mean, y + shift, "D", color=colour, ms=7, mec=INK)
                axes.text(
                    1.01, y + shift, f"{'right' if right else 'wrong'} {mean:.2f}",
                    color=colour, va="center", transform=axes.get_yaxis_transform(),
                )  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.axvline(1.0, color=INK, lw=0.8, ls=":")
        axes.set(xlabel="late/early visual accumulation ratio", xlim=(0, top * 1.03))
    plt.close(figure)
    return figure


def ratio_length_figure(responses: pd.DataFrame, group: str | None = None) -> Figure:
    """Late/early accumulation ratio against the length of the answer, with medians
    over fifths of the lengths (columns ``ratio``, ``length``)."""
    known = responses.dropna(subset=["ratio"])
    names = [None] if group is None else list(dict.fromkeys(known[group]))
    with style():
        figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
        for name, colour in zip(names, cycle(PALETTE), strict=False):
            some = known if name is None else known[known[group] == name]
            axes.scatter(
                some["length"], some["ratio"], s=9, alpha=0.45, color=colour, lw=0
            )
            fifth = pd.qcut(some["length"], 5, duplicates="drop")
            middles = some.groupby(fifth, observed=True)[["length", "ratio"]].median()
            axes.plot(middles["length"], middles["ratio"], "o-", color=colour, ms=4)
        for i, (name, colour) in enumerate(zip(names, cycle(PALETTE), strict=False)):
            if name is not None:
                axes.text(
                    0.99, 0.04 + 0.08 * i, name, color=colour, ha="right",
                    transform=axes.transAxes,
                )  # fmt: skip
        axes.axhline(1.0, color=INK, lw=0.8, ls=":")
        axes.set(xlabel="length of the answer, tokens", ylabel="late/early ratio")
        if len(known):
            axes.set_ylim(0, float(known["ratio"].quantile(0.99)) * 1.05)
    plt.close(figure)
    return figure


def decay_split_figure(splits: dict[str, DecaySplit]) -> Figure:
    """The change of mean image mass from early to late, split into its parts, with
    95 % intervals, a group of bars per name."""
    parts = {
        "fewer_looks": ("nothing left to look at", PALETTE[2]),
        "weaker_looks": ("should have looked and did not", PALETTE[1]),
        "other_tokens": ("tokens that need no image", PALETTE[0]),
        "total": ("in all", INK),
    }
    with style():
        figure, axes = plt.subplots(
            figsize=(7.4, 1.2 + 0.62 * len(splits)), layout="constrained"
        )
        for y, split in enumerate(splits.values()):
            for i, (name, (_, colour)) in enumerate(parts.items()):
                value, low, high, _ = getattr(split, name)
                place = y + (i - 1.5) * 0.2
                axes.barh(
                    place, value, height=0.17, color=colour, lw=0,
                    alpha=0.45 if name == "total" else 1.0,
                )  # fmt: skip
                axes.plot([low, high], [place] * 2, color=INK, lw=1.2)
        for i, (label, colour) in enumerate(parts.values()):
            axes.text(
                (i % 2) * 0.5, 1.14 - 0.09 * (i // 2), label, color=colour,
                transform=axes.transAxes, fontsize=9.5,
            )  # fmt: skip
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_yticks(range(len(splits)), splits)
        axes.invert_yaxis()
        axes.set_xlabel("change of image attention, late less early")
    plt.close(figure)
    return figure


def layers_figure(table: pd.DataFrame, columns: Sequence[str]) -> Figure:
    """Numbers in [0, 1] over the layers of the language model (rows ``layer``,
    columns of value, and of ``{column}_low`` and ``{column}_high``)."""
    with style():
        figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
        ends = _spread({c: table[c].iloc[-1] for c in columns}, gap=0.075)
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
    plt.close(figure)
    return figure


def reads_figure(tables: dict[str, pd.DataFrame]) -> Figure:
    """Numbers in [0, 1] at the first, second, ... read of an answer (name -> table of
    ``forgetting_study.mean_by`` over ``nth_read``), with 95 % intervals."""
    with style():
        figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
        tables = {name: table.sort_index() for name, table in tables.items()}
        last = {name: table["value"].iloc[-1] for name, table in tables.items()}
        ends = _spread(last, gap=0.075)
        for (name, table), colour in zip(tables.items(), PALETTE, strict=False):
            _intervals(axes, table.index, table["value"], table, colour, line=True)
            _direct_label(axes, table.index[-1], ends[name], name, colour)
        axes.set(xlabel="which value the answer reads", ylim=(-0.02, 1.02))
        axes.set_xticks(table.index)
    plt.close(figure)
    return figure


def occlusion_figure(table: pd.DataFrame) -> Figure:
    """Share of answers that move when a tile is covered, with 95 % intervals (rows:
    what was covered and when; columns ``value``, ``low``, ``high``)."""
    with style():
        figure, axes = plt.subplots(
            figsize=(7.2, 0.9 + 0.36 * len(table)), layout="constrained"
        )
        y = np.arange(len(table))
        axes.barh(y, table["value"], height=0.62, color=PALETTE[0], lw=0)
        axes.hlines(y, table["low"], table["high"], color=INK, lw=2)
        for place, value, high in zip(y, table["value"], table["high"], strict=True):
            axes.text(max(value, high) + 0.012, place, f"{value:.2f}", va="center")
        axes.set_yticks(y, table.index)
        axes.invert_yaxis()
        axes.set(xlabel="share of answers that moved", xlim=(0, 1.08))
    plt.close(figure)
    return figure


METHOD_COLOURS = {"grpo": PALETTE[5], "dapo": PALETTE[0], "vgpo": PALETTE[1]}


def reward_figure(metrics: dict[str, pd.DataFrame], window: int = 5) -> Figure:
    """Sampled reward over the steps of each run (thin), with its running mean over
    ``window`` steps (thick). Keys are methods, values as :func:`read_metrics`."""
    with style():
        figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
        ends = {}
        for method, log in metrics.items():
            log = log.dropna(subset=["reward"])
            colour = METHOD_COLOURS[method]
            mean = log["reward"].rolling(window, min_periods=1, center=True).mean()
            axes.plot(log["step"], log["reward"], color=colour, lw=0.7, alpha=0.6)
            axes.plot(log["step"], mean, color=colour, lw=2.2)
            ends[method] = float(mean.iloc[-1])
            last = log["step"].iloc[-1]
        for method, height in _spread(ends, gap=0.05).items():
            _direct_label(axes, last, height, method.upper(), METHOD_COLOURS[method])
        axes.set(xlabel="optimiser step", ylabel="share of right answers, sampled")
        axes.set_ylim(0, 1)
    plt.close(figure)
    return figure


def visual_metrics_figure(log: pd.DataFrame) -> Figure:
    """The visual metrics of one VGPO run over its steps, in three panels."""
    log = log.dropna(subset=["reward"])
    panels = [
        ("focus score", {"focus_early": "first half", "focus_late": "second half"}),
        ("standard deviation", {"psi_std": "ψ", "phi_std": "φ"}),
        ("correlation", {"phi_length_corr": "φ with length"}),
    ]
    with style():
        figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.7), layout="constrained")
        for place, (unit, lines) in zip(axes, panels, strict=True):
            for (name, label), colour in zip(lines.items(), PALETTE, strict=False):
                place.plot(log["step"], log[f"visual/{name}"], color=colour)
                place.plot([], [], color=colour, label=label)
            place.legend(loc="best", handlelength=1.2)
            place.set(title=unit, xlabel="step")
    plt.close(figure)
    return figure


def seeds_figure(by_seed: pd.Series) -> Figure:
    """Accuracy before and after training, a line per seed (index levels ``method``,
    ``when``, ``seed``)."""
    methods = list(by_seed.index.unique("method"))
    with style():
        figure, axes = plt.subplots(figsize=(5.6, 3.0), layout="constrained")
        for i, method in enumerate(methods):
            table = by_seed[method].unstack("when")
            for _, row in table.iterrows():
                axes.plot(
                    [i - 0.22, i + 0.22], [row["before"], row["after"]],
                    color=METHOD_COLOURS[method], marker="o", ms=4, lw=1.2,
                )  # fmt: skip
            axes.text(i + 0.27, table["after"].mean(), "after", va="center")
            axes.text(
                i - 0.27, table["before"].mean(), "before", va="center", ha="right"
            )
        axes.set_xticks(range(len(methods)), [m.upper() for m in methods])
        axes.set_xlim(-0.6, len(methods) - 0.4)
        axes.set(ylabel="sampled accuracy, held out", ylim=(0, 1))
    plt.close(figure)
    return figure


ALIGNMENT_COLOURS = {"token": PALETTE[1], "prediction": PALETTE[0]}


def focus_chain_figure(tokens: pd.DataFrame) -> Figure:
    """Focus of each token of one completion, a panel per alignment, bars coloured by
    the token's true source (rows of one completion of a token table)."""
    x = np.arange(len(tokens))
    colours = [SOURCE_COLOURS[source] for source in tokens["source"]]
    panels = {
        "focus": "state at t (“token”)",
        "focus_prediction": "state at t−1 (“prediction”)",
    }
    with style():
        figure, axes = plt.subplots(
            2, 1, figsize=(7.6, 3.9), sharex=True, sharey=True, layout="constrained"
        )
        for place, (column, title) in zip(axes, panels.items(), strict=True):
            place.bar(x, tokens[column], width=0.75, lw=0, color=colours)
            place.set_title(title, loc="left")
            place.set_ylabel("focus")
        axes[0].set_ylim(tokens[list(panels)].min().min() - 0.05, None)
        words = [w.strip().replace("$", r"\$") for w in tokens["token"]]
        axes[1].set_xticks(x, words, rotation=90, fontsize=8, family="monospace")
        axes[1].tick_params(axis="x", length=0)
        for word, colour in zip(axes[1].get_xticklabels(), colours, strict=True):
            word.set_color(colour)
        present = [s for s in SOURCE_COLOURS if s in set(tokens["source"])]
        for i, source in enumerate(reversed(present)):
            axes[0].text(
                1 - 0.11 * i, 1.04, source, color=SOURCE_COLOURS[source], ha="right",
                transform=axes[0].transAxes,
            )  # fmt: skip
    plt.close(figure)
    return figure


def auroc_figure(by_family: pd.DataFrame, by_fifth: pd.DataFrame) -> Figure:
    """AUROC of image reads with 95 % intervals, both alignments: per family, and
    per fifth of the chain (tables of ``focus_study.auroc_by``)."""
    with style():
        figure, axes = plt.subplots(
            1, 2, figsize=(7.6, 3.1), sharey=True, layout="constrained"
        )
        for place, table, shift in (
            (axes[0], by_family, 0.08),
            (axes[1], by_fifth, 0.08),
        ):
            parts = list(dict.fromkeys(table.iloc[:, 0]))
            for side, (name, colour) in zip(
                (-1, 1), ALIGNMENT_COLOURS.items(), strict=True
            ):
                mine = table[table["score"] == name]
                _intervals(
                    place, np.arange(len(parts)) + side * shift, mine["auroc"], mine,
                    colour, line=place is axes[1],
                )  # fmt: skip
            place.axhline(0.5, color=INK, lw=0.8, ls=":")
            place.set_xticks(range(len(parts)), parts)
            place.margins(x=0.12)
        axes[1].set_xticks(range(5)[: len(parts)], [f"{20 * (p + 1)} %" for p in parts])
        axes[0].set(ylabel="AUROC of image reads", xlabel="family", ylim=(0, 1.03))
        axes[1].set_xlabel("position in the chain, up to")
        for y, (name, colour) in zip(
            (0.06, 0.14), ALIGNMENT_COLOURS.items(), strict=True
        ):
            when = "t" if name == "token" else "t−1"
            axes[0].text(
                0.02, y, f"state at {when}", color=colour, transform=axes[0].transAxes
            )
    plt.close(figure)
    return figure


def _intervals(axes, x, y, table, colour, line=False, horizontal=False) -> None:
    """Points with the bars of ``low`` and ``high``."""
    y = np.asarray(y, dtype=float)
    reach = np.vstack([y - table["low"], table["high"] - y]).clip(min=0)
    how = {"fmt": "o-" if line else "o", "ms": 5, "lw": 1.4, "color": colour}
    if horizontal:
        axes.errorbar(y, x, xerr=reach, **how)
    else:
        axes.errorbar(x, y, yerr=reach, **how)


def focus_around_reads_figure(lags: pd.DataFrame) -> Figure:
    """Mean focus of the states around a value that is read, with the middle 80 % of
    reads (table of ``focus_study.focus_around_reads``)."""
    grouped = lags.groupby("lag")["focus"]
    mean, low, high = grouped.mean(), grouped.quantile(0.1), grouped.quantile(0.9)
    with style():
        figure, axes = plt.subplots(figsize=(7.2, 2.9), layout="constrained")
        axes.fill_between(mean.index, low, high, color=INK, alpha=0.2, lw=0)
        axes.plot(mean.index, mean, color=INK, marker="o", ms=4)
        for lag, name in ((0, "token"), (-1, "prediction")):
            colour = ALIGNMENT_COLOURS[name]
            axes.plot(lag, mean[lag], "o", ms=9, color=colour)
            axes.annotate(
                f"“{name}”", (lag, mean[lag]), xytext=(10, 0 if lag else -10),
                textcoords="offset points", color=colour, va="center",
            )  # fmt: skip
        names = {-2: "−2\ncolour", -1: "−1\n=", 0: "t\nvalue", 1: "+1\n. or yes/no"}
        axes.set_xticks(
            mean.index, [names.get(i, f"{i:+d}".replace("-", "−")) for i in mean.index]
        )
        axes.set(
            ylabel="focus of the state there", xlabel="position, counted from the value"
        )
        axes.margins(y=0.16)
    plt.close(figure)
    return figure


def states_figure(points: pd.DataFrame) -> Figure:
    """Hidden states on two axes (columns ``x``, ``y``, ``kind``), named directly."""
    kinds = list(dict.fromkeys(points["kind"]))
    with style():
        figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        colours = [PALETTE[i] for i in (5, 1, 3, 2, 4, 0)]
        for kind, colour in zip(kinds, colours, strict=False):
            mine = points[points["kind"] == kind]
            axes.scatter(mine["x"], mine["y"], s=8, alpha=0.45, lw=0, color=colour)
            axes.plot([], [], "o", color=colour, label=f"{kind} ({len(mine)})")
        legend = axes.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), labelcolor="linecolor",
            handletextpad=0.1, title="this state",
        )  # fmt: skip
        legend.get_title().set_color(INK)
        axes.set(xlabel="first principal axis", ylabel="second", xticks=[], yticks=[])
    plt.close(figure)
    return figure


def role_auroc_figure(against: pd.DataFrame) -> Figure:
    """AUROC of values read against one other role at a time, with intervals (table
    of ``focus_study.auroc_against_roles``)."""
    order = (
        against[against["score"] == "prediction"].sort_values("auroc")["role"].tolist()
    )
    with style():
        figure, axes = plt.subplots(figsize=(7.2, 3.3), layout="constrained")
        for side, (name, colour) in zip(
            (-1, 1), ALIGNMENT_COLOURS.items(), strict=True
        ):
            mine = against[against["score"] == name].set_index("role").loc[order]
            y = np.arange(len(order)) + side * 0.13
            _intervals(axes, y, mine["auroc"], mine, colour, horizontal=True)
            when = "t" if name == "token" else "t−1"
            axes.text(
                0.32 if name == "token" else 0.72, len(order) - 0.35,
                f"state at {when}", color=colour,
            )  # fmt: skip
        counts = against.drop_duplicates("role").set_index("role")["others"]
        axes.set_yticks(range(len(order)), [f"{r} ({counts[r]})" for r in order])
        axes.axvline(0.5, color=INK, lw=0.8, ls=":")
        axes.set(xlabel="AUROC of values read against …", xlim=(-0.03, 1.03))
    plt.close(figure)
    return figure


def attention_correlation_figure(correlations: pd.DataFrame) -> Figure:
    """Pearson r of focus with image attention per layer, both taken at the same
    position and one apart (table of ``focus_study.attention_correlations``)."""
    pairs = {
        ("prediction", "prediction"): "both at t−1",
        ("token", "token"): "both at t",
        ("token", "prediction"): "focus at t, attention at t−1",
        ("prediction", "token"): "focus at t−1, attention at t",
    }
    colours = [PALETTE[0], PALETTE[2], PALETTE[1], PALETTE[3]]
    titles = {"pooled": "all tokens pooled", "within": "within completions"}
    with style():
        figure, axes = plt.subplots(
            1, 2, figsize=(7.6, 3.2), sharey=True, layout="constrained"
        )
        for place, (scope, title) in zip(axes, titles.items(), strict=True):
            for i, ((focus, attention), colour) in enumerate(
                zip(pairs, colours, strict=True)
            ):
                mine = correlations[
                    (correlations["focus"] == focus)
                    & (correlations["attention"] == attention)
                    & (correlations["scope"] == scope)
                ]
                x = mine["layer"] + (i - 1.5) * 0.06
                _intervals(place, x, mine["r"], mine, colour, line=True)
            place.axhline(0, color=INK, lw=0.8, ls=":")
            place.set_xticks(sorted(correlations["layer"].unique()))
            place.set_title(title, loc="left")
            place.set_xlabel("layer of the attention, from 0")
        axes[0].set_ylabel("Pearson r with focus")
        for i, (label, colour) in enumerate(zip(pairs.values(), colours, strict=True)):
            figure.text(
                0.09 + 0.48 * (i % 2), -0.04 - 0.07 * (i // 2), label, color=colour
            )
    plt.close(figure)
    return figure


def dependence_figure(table: pd.DataFrame) -> Figure:
    """Per role, mean focus against the mean fall of the log-probability when the
    picture is grey, both alignments (table of ``focus_study.occlusion_table``)."""
    panels = {"focus": "state at t", "focus_prediction": "state at t−1"}
    drop = table.groupby("role")["drop_image"].mean()
    shown = {
        "value read": SOURCE_COLOURS["image"],
        "colour read": SOURCE_COLOURS["image"],
        "= before a read": INK,
        "number repeated": PALETTE[0],
        "result": PALETTE[0],
    }
    with style():
        figure, axes = plt.subplots(
            1, 2, figsize=(7.6, 3.0), sharex=True, sharey=True, layout="constrained"
        )
        for place, (column, title) in zip(axes, panels.items(), strict=True):
            focus = table.groupby("role")[column].mean()
            for role in drop.index:
                colour = shown.get(role, INK)
                place.plot(focus[role], drop[role], "o", ms=6, color=colour)
                if role in ("value read", "colour read"):
                    place.annotate(
                        role, (focus[role], drop[role]), xytext=(0, -12),
                        textcoords="offset points", color=colour, ha="center",
                        va="center",
                    )  # fmt: skip
            top = focus.drop(["value read", "colour read"], errors="ignore").idxmax()
            place.annotate(
                top, (focus[top], drop[top]), xytext=(0, 11), ha="center",
                textcoords="offset points", color=INK,
            )  # fmt: skip
            place.axhline(0, color=INK, lw=0.8, ls=":")
            place.set_title(title, loc="left")
            place.set_xlabel("mean focus of the role")
            place.margins(0.16)
        axes[0].set_ylabel("fall of log-probability\nwithout the picture, nats")
    plt.close(figure)
    return figure


def robustness_figure(summary: pd.DataFrame) -> Figure:
    """Rank correlation of the scores before and after a change of the picture, with
    intervals; beside it, whether the model can still read (table of
    ``focus_study.robustness_summary``)."""
    y = np.arange(len(summary))
    with style():
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(7.6, 0.9 + 0.24 * len(summary)), sharey=True,
            width_ratios=(1.6, 1), layout="constrained",
        )  # fmt: skip
        for side, (name, colour) in zip(
            (-1, 1), ALIGNMENT_COLOURS.items(), strict=True
        ):
            bounds = pd.DataFrame(
                {"low": summary[f"{name}_low"], "high": summary[f"{name}_high"]}
            )
            _intervals(
                left, y + side * 0.13, summary[name], bounds, colour, horizontal=True
            )
            when = "t" if name == "token" else "t−1"
            left.text(
                0.02 if name == "token" else 0.3, 1.02, f"state at {when}",
                color=colour, transform=left.transAxes,
            )  # fmt: skip
        right.barh(y, summary["read_probability"], height=0.6, lw=0, color=PALETTE[5])
        left.set_yticks(y, summary.index)
        left.invert_yaxis()
        left.set(xlabel="Spearman correlation with the score before", xlim=(0, 1.02))
        right.set(xlabel="probability of what was read")
    plt.close(figure)
    return figure


SCORE_LABELS = {"focus": "state at t", "focus_prediction": "state at t − 1"}
"""Which alignment the two focus columns of a token table belong to."""


def _gate_bars(axes, focus, weights, gate, source) -> None:
    """Focus as bars coloured by source, what compensation adds on top."""
    place = np.arange(1, len(focus) + 1)
    colours = [SOURCE_COLOURS[s] for s in source]
    axes.bar(place, focus, color=colours, width=0.8, alpha=0.75, lw=0)
    axes.bar(
        place[gate], (weights - focus)[gate], bottom=focus[gate], width=0.8,
        facecolor="none", edgecolor=INK, hatch="/////", lw=0.8,
    )  # fmt: skip
    axes.plot(place[gate], weights[gate] + 0.06, ls="", marker="v", ms=4, color=INK)


def _shade_tail(axes, length: int, tail_ratio: float) -> None:
    start = np.floor((1 - tail_ratio) * length + 1e-9) + 0.5
    axes.axvspan(start, length + 0.5, color=INK, alpha=0.13, lw=0)


def compensation_figure(
    chain: pd.DataFrame,
    columns: Sequence[str] = ("focus", "focus_prediction"),
    strength: float = 0.3,
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
) -> Figure:
    """One chain of a token table: the three schedules, then for each score its
    bars, the shaded tail, the gated tokens (triangles) and what they gain (hatched).
    """
    length = len(chain)
    place = np.arange(1, length + 1)
    mask = torch.ones(1, length)
    with style():
        figure, axes = plt.subplots(
            1 + len(columns), 1, figsize=(7.6, 1.4 + 1.75 * len(columns)),
            sharex=True, layout="constrained",
            height_ratios=[0.75, *[1.0] * len(columns)],
        )  # fmt: skip
        for schedule, colour in zip(SCHEDULES, PALETTE, strict=False):
            line = strength * compensation_schedule(mask, schedule)[0]
            how = "steps-mid" if schedule == "step" else "default"
            axes[0].plot(place, line, color=colour, drawstyle=how, label=schedule)
        axes[0].legend(ncols=3, loc="upper left", fontsize=8, handlelength=1.2)
        axes[0].set(ylabel="β · schedule", ylim=(0, strength * 1.5))
        for axis, column in zip(axes[1:], columns, strict=True):
            focus = torch.tensor(chain[column].to_numpy(np.float32))[None]
            gate = visual_gate(focus, mask, tail_ratio, top_ratio)[0].numpy()
            weights = compensate(focus, mask, strength, tail_ratio, top_ratio)
            values = focus[0].numpy()
            _gate_bars(axis, values, weights[0].numpy(), gate, chain["source"])
            axis.set(ylabel="ρ and w", ylim=(0, 1.25))
            axis.set_title(SCORE_LABELS.get(column, column), loc="left")
        for axis in axes:
            _shade_tail(axis, length, tail_ratio)
        words = [word.strip().replace("$", r"\$") for word in chain["token"]]
        axes[-1].set_xticks(place, words, rotation=90, fontsize=7, family="monospace")
        axes[-1].set_xlim(0.4, length + 0.6)
        for i, (source, colour) in enumerate(SOURCE_COLOURS.items()):
            axes[1].text(
                0.42 + 0.15 * i, 1.03, source, color=colour, fontsize=9,
                transform=axes[1].transAxes,
            )  # fmt: skip
    plt.close(figure)
    return figure


def knobs_figure(
    chain: pd.DataFrame,
    column: str,
    settings: Sequence[tuple[str, Sequence[dict[str, float]]]],
) -> Figure:
    """Small multiples of one chain: a row per knob, a panel per setting of it
    (keyword arguments of :func:`vgpo.compensate`)."""
    mask = torch.ones(1, len(chain))
    focus = torch.tensor(chain[column].to_numpy(np.float32))[None]
    columns = max(len(values) for _, values in settings)
    with style():
        figure, axes = plt.subplots(
            len(settings), columns, figsize=(7.6, 1.25 * len(settings) + 0.2),
            sharex=True, sharey=True, layout="constrained", squeeze=False,
        )  # fmt: skip
        for row, (symbol, values) in zip(axes, settings, strict=True):
            for axis, value in zip(row, values, strict=False):
                weights = compensate(focus, mask, **value)[0].numpy()
                gate = visual_gate(
                    focus, mask, value.get("tail_ratio", 0.5),
                    value.get("top_ratio", 0.2),
                )[0].numpy()  # fmt: skip
                _gate_bars(axis, focus[0].numpy(), weights, gate, chain["source"])
                _shade_tail(axis, len(chain), value.get("tail_ratio", 0.5))
                shown = ", ".join(f"{v:g}" for v in value.values())
                axis.set_title(f"{symbol} = {shown}", loc="left", fontsize=9)
                axis.set(xticks=[], ylim=(0, 1.75))
    plt.close(figure)
    return figure


def gate_precision_figure(grades: pd.DataFrame) -> Figure:
    """Precision of the gate over kappa, a panel per gamma and a line per score, with
    95 % bands; dashed: a gate that knows nothing, dotted: one that knows the truth
    (columns of :func:`vgpo.studies.gates.grade_gates`)."""
    with style():
        figure, axes = plt.subplots(
            1, grades["gamma"].nunique(), figsize=(7.6, 2.8), sharey=True,
            layout="constrained", squeeze=False,
        )  # fmt: skip
        for axis, (gamma, panel) in zip(axes[0], grades.groupby("gamma"), strict=True):
            for (score, line), colour in zip(
                panel.groupby("score", sort=False), (PALETTE[1], PALETTE[0]),
                strict=False,
            ):  # fmt: skip
                label = SCORE_LABELS.get(score, score)
                axis.fill_between(
                    line["kappa"], line["low"], line["high"], color=colour, alpha=0.25,
                    lw=0,
                )  # fmt: skip
                axis.plot(
                    line["kappa"], line["precision"], color=colour, marker="o", ms=4,
                    label=label,
                )  # fmt: skip
            line = panel[panel["score"] == panel["score"].iloc[0]]
            axis.plot(line["kappa"], line["base"], color=INK, ls="--", lw=1.2,
                      label="knows nothing")  # fmt: skip
            best = panel.groupby("kappa")["best"].max()
            axis.plot(best.index, best, color=INK, ls=":", lw=1.4,
                      label="knows the truth")  # fmt: skip
            axis.set_title(f"γ = {gamma:g}", loc="left")
            axis.set(xlabel="κ", ylim=(-0.03, 1.03), xticks=line["kappa"])
        axes[0, 0].set_ylabel("share of gated tokens\nthat read the image")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, ncols=4, loc="outside lower center", fontsize=9)
    plt.close(figure)
    return figure


def psi_strength_figure(tables: dict[str, pd.DataFrame]) -> Figure:
    """Mean psi of head, tail and gated tokens over beta, a panel per score (tables
    of :func:`vgpo.studies.gates.psi_by_part`)."""
    with style():
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
                axis.plot(line["strength"], line["psi"], color=colour, marker="o",
                          ms=3.5, label=part)  # fmt: skip
            axis.set_title(SCORE_LABELS.get(score, score), loc="left")
            axis.set_xlabel("β")
        axes[0, 0].set_ylabel("mean ψ")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, ncols=3, loc="outside lower center", fontsize=9)
    plt.close(figure)
    return figure


def along_the_chain_figure(table: pd.DataFrame) -> Figure:
    """Mean psi over the place in the chain, a line per way of compensating with its
    95 % band over chains, a panel per score (columns ``score``, ``compensation``,
    ``chain``, ``progress``, ``value``)."""
    with style():
        scores = table["score"].unique()
        figure, axes = plt.subplots(
            1, len(scores), figsize=(7.6, 3.0), sharey=True, layout="constrained",
            squeeze=False,
        )  # fmt: skip
        for axis, score in zip(axes[0], scores, strict=True):
            axis.axhline(0, color=INK, lw=0.6)
            lines = table[table["score"] == score]
            names = lines["compensation"].unique()
            sns.lineplot(
                lines, x="progress", y="value", hue="compensation", ax=axis,
                errorbar=("ci", 95), n_boot=200, seed=0,
                palette=dict(zip(names, [PALETTE[i] for i in (5, 0, 2, 1)],
                                 strict=False)),
            )  # fmt: skip
            axis.get_legend().remove()
            axis.set_title(SCORE_LABELS.get(score, score), loc="left")
            axis.set(xlabel="place in the chain, t/T", ylabel="mean ψ")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, ncols=4, loc="outside lower center", fontsize=9)
    plt.close(figure)
    return figure


def runs_figure(phi, phi_runs) -> Figure:
    """phi among the rollouts of a prompt against phi in a run of adjacent rows."""
    with style():
        figure, axes = plt.subplots(figsize=(4.2, 3.8), layout="constrained")
        axes.axhline(0, color=INK, lw=0.6)
        axes.axvline(0, color=INK, lw=0.6)
        axes.scatter(phi, phi_runs, s=10, alpha=0.6, color=PALETTE[0])
        r = np.corrcoef(phi, phi_runs)[0, 1]
        axes.set_title(f"r = {r:.2f}", loc="left")
        axes.set(
            xlabel="φ among rollouts of the prompt", ylabel="φ in the run of rows",
            xlim=(-1, 1), ylim=(-1, 1),
        )  # fmt: skip
    plt.close(figure)
    return figure


def clamp_figure(factor, floor: float = 0.9) -> Figure:
    """Histogram of a factor; what a floor lifts is drawn in orange."""
    values = np.asarray(factor)
    edges = np.arange(0.0, 2.0001, 0.05)
    with style():
        figure, axes = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
        axes.hist(values[values < floor], edges, color=PALETTE[1], lw=0, rwidth=0.9)
        axes.hist(values[values >= floor], edges, color=PALETTE[0], lw=0, rwidth=0.9)
        axes.axvline(floor, color=INK, lw=1.2, ls="--")
        share = (values < floor).mean()
        axes.text(
            0.02, 0.98, f"lifted to {floor}: {share:.0%}", va="top",
            color=PALETTE[1], transform=axes.get_xaxis_transform(),
        )  # fmt: skip
        axes.set(xlabel="1 + φ", ylabel="rollouts", xlim=(0, 2))
    plt.close(figure)
    return figure


def departures_figure(changes: pd.DataFrame) -> Figure:
    """Mean absolute change of a token's factor by selection of departures, with
    95 % intervals over prompts (columns ``selection``, ``change``)."""
    with style():
        names = changes["selection"].unique()
        figure, axes = plt.subplots(
            figsize=(7.0, 0.7 + 0.33 * len(names)), layout="constrained"
        )
        sns.pointplot(
            changes, x="change", y="selection", errorbar=("ci", 95), n_boot=1000,
            seed=0, linestyle="none", color=PALETTE[0], markersize=6, ax=axes,
            err_kws={"linewidth": 1.6},
        )  # fmt: skip
        means = changes.groupby("selection", sort=False)["change"].mean()
        for y, value in enumerate(means):
            axes.annotate(
                f"{value:.3f}", (value, y), xytext=(0, 6),
                textcoords="offset points", ha="center", fontsize=8,
            )  # fmt: skip
        axes.grid(axis="y")
        axes.set(xlabel="mean |change| of a token's factor", ylabel="")
        axes.set_xlim(left=-0.02)
        axes.margins(y=0.08)
    plt.close(figure)
    return figure


WAY_COLOURS = {"all weights": PALETTE[5], "LoRA": PALETTE[0], "QLoRA": PALETTE[1]}


def nf4_figure(normalised, levels) -> Figure:
    """A histogram of weights over their block's largest, and the levels they are
    rounded to."""
    with style():
        figure, axes = plt.subplots(figsize=(7.2, 2.7), layout="constrained")
        axes.hist(
            np.asarray(normalised).ravel(), bins=101, range=(-1.01, 1.01),
            color=PALETTE[0], alpha=0.65, density=True, histtype="stepfilled", lw=0,
        )  # fmt: skip
        top = axes.get_ylim()[1]
        for level in np.asarray(levels):
            axes.plot([level] * 2, [0, top], color=PALETTE[1], lw=1.0)
        axes.plot([], [], color=PALETTE[1], lw=1.0, label="the 16 levels")
        axes.set(xlabel="weight / largest of its block", yticks=[], xlim=(-1.05, 1.05))
        axes.set_ylim(0, top)
        axes.spines["left"].set_visible(False)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    plt.close(figure)
    return figure


def training_memory_figure(tables: dict[str, pd.DataFrame], cards=(24, 80)) -> Figure:
    """Gigabytes that training keeps, by size of the model and way of training, and
    the memory of common cards (dashed)."""
    with style():
        figure, axes = plt.subplots(figsize=(7.2, 2.9), layout="constrained")
        for i, table in enumerate(tables.values()):
            axes.plot(table["bytes"] / 1e9, [i] * len(table), color=INK, lw=0.8)
            for way, size in (table["bytes"] / 1e9).items():
                axes.plot(size, i, "o", ms=8, color=WAY_COLOURS[way])
                axes.annotate(
                    f"{size:.0f}" if size >= 10 else f"{size:.1f}", (size, i),
                    xytext=(1, 8), textcoords="offset points", ha="right", fontsize=9,
                )  # fmt: skip
        for way, colour in WAY_COLOURS.items():
            axes.plot([], [], "o", ms=8, color=colour, label=way)
        for card in cards:
            axes.axvline(card, color=INK, lw=0.9, ls="--")
            axes.annotate(
                f"{card} GB", (card, 1), xycoords=("data", "axes fraction"),
                xytext=(3, -2), textcoords="offset points", va="top", fontsize=9,
            )  # fmt: skip
        axes.set_yticks(range(len(tables)), list(tables))
        axes.set(xscale="log", xlabel="gigabytes", ylim=(len(tables) - 0.5, -0.75))
        ticks = [3, 10, 30, 100, 300]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    plt.close(figure)
    return figure


def precision_figure(table: pd.DataFrame, clip: float = 0.2) -> Figure:
    """Change of each token's focus in 4 bits (alignment "token"), and how far the
    probability of a sampled token moves; dashed, where the loss would clip it."""
    with style():
        figure, axes = plt.subplots(
            1, 2, figsize=(7.4, 3.2), layout="constrained", width_ratios=(1, 1.25)
        )
        before = table["focus_before"]
        axes[0].scatter(
            before, table["focus"] - before, s=5, alpha=0.5, lw=0, color=PALETTE[0]
        )
        axes[0].axhline(0, color=INK, lw=0.8)
        axes[0].set(xlabel="focus, full precision", ylabel="change in 4 bits")
        ordered = np.sort((table["ratio"] - 1).abs())[::-1]
        share = np.arange(1, len(ordered) + 1) / len(ordered)
        axes[1].plot(ordered, share, color=PALETTE[0])
        axes[1].axvline(clip, color=INK, ls="--", lw=0.9)
        axes[1].annotate(
            "clip", (clip, 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
            textcoords="offset points", va="top", fontsize=9,
        )  # fmt: skip
        axes[1].set(
            xscale="log", yscale="log", xlim=(1e-4, max(1.0, ordered[0])),
            xlabel="change of a token's probability, relative",
            ylabel="share of tokens above",
        )  # fmt: skip
    plt.close(figure)
    return figure


def paired_accuracy_figure(table: pd.DataFrame) -> Figure:
    """Differences in accuracy with their intervals, a line per family (the columns
    ``difference``, ``low``, ``high``)."""
    with style():
        figure, axes = plt.subplots(figsize=(6.4, 2.5), layout="constrained")
        axes.axvline(0, color=INK, lw=0.9)
        places = range(len(table))
        _intervals(
            axes, places, table["difference"], table, PALETTE[0], horizontal=True
        )
        axes.set_yticks(places, table.index)
        reach = 1.2 * max(0.05, table["high"].max(), -table["low"].min())
        axes.set(xlabel="accuracy in 4 bits less in full precision")
        axes.set(xlim=(-reach, reach), ylim=(len(table) - 0.5, -0.5))
    plt.close(figure)
    return figure


def adapter_runs_figure(by_seed: pd.Series) -> Figure:
    """Accuracy before and after training, a line per seed (index levels ``way``,
    ``when``, ``seed``), a column per way of training."""
    ways = [way for way in WAY_COLOURS if way in by_seed.index.unique("way")]
    with style():
        figure, axes = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
        for i, way in enumerate(ways):
            table = by_seed[way].unstack("when").dropna()
            for _, row in table.iterrows():
                axes.plot(
                    [i - 0.22, i + 0.22], [row["before"], row["after"]],
                    color=WAY_COLOURS[way], marker="o", ms=4, lw=1.2,
                )  # fmt: skip
        axes.text(-0.27, table["before"].mean(), "before", va="center", ha="right")
        axes.text(i + 0.27, table["after"].mean(), "after", va="center")
        axes.set_xticks(range(len(ways)), ways)
        axes.set_xlim(-0.7, len(ways) - 0.3)
        axes.set(ylabel="sampled accuracy, held out", ylim=(0, 1))
    plt.close(figure)
    return figure
