"""Where a model looks: what ``vgpo.analyze`` draws."""

from collections.abc import Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from vgpo.figures.style import (
    INK,
    MARKS,
    PALETTE,
    in_style,
    line_look,
    look_legend,
    word_label,
)

ATTENTION_COLOURS = {"image": PALETTE[1], "query": PALETTE[0], "generated": PALETTE[5]}
"""What a step attends to: image, question, generated text."""

_GLOW = ListedColormap(
    [(0.88, 0.0, 0.45, alpha) for alpha in np.linspace(0.0, 0.6, 256)], name="glow"
)


@in_style
def attention_split_figure(table: pd.DataFrame, per_line: int = 32) -> Figure:
    """Shares of attention per generated token, stacked over the token's text.

    Args:
        table: One row per token: ``token``, ``image``, ``query``, ``generated``.
        per_line: Tokens in a line of the figure.
    """
    lines = int(np.ceil(len(table) / per_line))
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
        place.set_xticks(x, map(word_label, some["token"]), rotation=90, fontsize=8)
        place.tick_params(axis="x", length=0, pad=1)
        place.set(xlim=(-0.6, per_line - 0.4), ylim=(0, 1), yticks=[0, 0.5, 1])
        place.spines["bottom"].set_visible(False)
    for i, (kind, colour) in enumerate(ATTENTION_COLOURS.items()):
        axes[0, 0].text(
            0.005 + 0.11 * i, 1.06, kind, color=colour, fontsize=10,
            transform=axes[0, 0].transAxes,
        )  # fmt: skip
    figure.supylabel("share of attention", fontsize=10, color=INK)
    return figure


@in_style
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
    for grids in maps:
        if len(grids) != len(images):
            raise ValueError(
                f"maps: need one per picture, got {len(grids)} for {len(images)}."
            )
    columns = min(6, len(maps)) if len(images) == 1 else len(images)
    cells = [(step, k) for step in range(len(maps)) for k in range(len(images))]
    lines = int(np.ceil(len(cells) / columns))
    shape = max(image.height / image.width for image in images)
    height = lines * (7.6 / columns * min(shape, 2.0) + 0.35)
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
            place.set_title(word_label(titles[step]), fontsize=9)
    return figure


def _outline(axes, image, shape, tokens) -> None:
    height, width = image.height / shape[0], image.width / shape[1]
    for token in tokens:
        row, column = divmod(token, shape[1])
        box = (column * width, row * height), width, height
        axes.add_patch(plt.Rectangle(*box, fill=False, edgecolor="#f4f4f4", lw=3.4))
        axes.add_patch(plt.Rectangle(*box, fill=False, edgecolor="#0a58a6", lw=1.8))


@in_style
def decay_figure(curves: pd.DataFrame) -> Figure:
    """Shares of attention over generation progress, a panel per kind, a line per
    group, with 95 % bands (``ForgettingAnalysis.curves``). The image has a scale of
    its own: its share is small, and it is what the figure is about."""
    groups = list(dict.fromkeys(curves["group"]))
    figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.9), layout="constrained")
    looks = {group: PALETTE[i % len(PALETTE)] for i, group in enumerate(groups)}
    for place, (kind, colour) in zip(axes, ATTENTION_COLOURS.items(), strict=True):
        some = curves[curves["kind"] == kind]
        for group, shade in looks.items():
            line = some[some["group"] == group]
            shade = colour if len(groups) == 1 else shade
            place.plot(line["progress"], line["mean"], **line_look(shade, marks=False))
            place.fill_between(
                line["progress"], line["low"], line["high"], color=shade,
                alpha=0.22, lw=0,
            )  # fmt: skip
        place.set_title(kind, loc="left", color=colour)
        top = 1.0 if kind != "image" else min(1.0, 1.1 * float(some["high"].max()))
        place.set(xlim=(0, 100), ylim=(0, top), xlabel="progress of generation, %")
        if kind == "generated" and len(groups) > 1:
            look_legend(place, looks, marks=False, loc="lower right", fontsize=9)
    axes[0].set_ylabel("share of attention")
    return figure


@in_style
def ratio_figure(
    responses: pd.DataFrame, means: pd.DataFrame, group: str | None = None
) -> Figure:
    """Late/early accumulation ratio of right and wrong answers: a point each, and
    mean and 95 % interval.

    Args:
        responses: A row per answer: ``ratio``, ``correct``.
        means: Their means with intervals, by group and outcome
            (:func:`vgpo.stats.forgetting.mean_ratios`).
        group: A column of both tables, to make a row per group.
    """
    names = ["all answers"] if group is None else list(dict.fromkeys(responses[group]))
    means = means.set_index(["correct"] if group is None else [group, "correct"])
    known = responses.dropna(subset=["ratio"])
    top = float(known["ratio"].quantile(0.99)) if len(known) else 1.0
    height = 0.9 + 0.72 * len(names)
    spread = np.random.default_rng(0)
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
                values, y + shift + jitter, s=7, alpha=0.45, color=colour, lw=0,
                rasterized=True,
            )  # fmt: skip
            key = right if group is None else (name, right)
            mean, low, high = means.loc[key, ["value", "low", "high"]]
            axes.plot([low, high], [y + shift] * 2, color=INK, lw=2.2)
            mark = "D" if right else "s"
            axes.plot(mean, y + shift, mark, color=colour, ms=7, mec=INK)
            axes.text(
                1.01, y + shift, f"{'right' if right else 'wrong'} {mean:.2f}",
                color=colour, va="center", transform=axes.get_yaxis_transform(),
            )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(1.0, color=INK, lw=0.8, ls=":")
    axes.set(xlabel="late/early visual accumulation ratio", xlim=(0, top * 1.03))
    return figure


@in_style
def ratio_length_figure(responses: pd.DataFrame, group: str | None = None) -> Figure:
    """Late/early accumulation ratio against the length of the answer, with medians
    over fifths of the lengths (columns ``ratio``, ``length``)."""
    known = responses.dropna(subset=["ratio"])
    names = [None] if group is None else list(dict.fromkeys(known[group]))
    figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    for name, colour in zip(names, cycle(PALETTE), strict=False):
        some = known if name is None else known[known[group] == name]
        axes.scatter(
            some["length"], some["ratio"], s=10, alpha=0.45, color=colour, lw=0,
            marker=MARKS[PALETTE.index(colour)], rasterized=True,
        )  # fmt: skip
        fifth = pd.qcut(some["length"], 5, duplicates="drop")
        middles = some.groupby(fifth, observed=True)[["length", "ratio"]].median()
        axes.plot(middles["length"], middles["ratio"], **line_look(colour))
    if group is not None:
        named = dict(zip(names, cycle(PALETTE), strict=False))
        look_legend(axes, named, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.axhline(1.0, color=INK, lw=0.8, ls=":")
    axes.set(xlabel="length of the answer, tokens", ylabel="late/early ratio")
    if len(known):
        axes.set_ylim(0, float(known["ratio"].quantile(0.99)) * 1.05)
    return figure
