"""Where a model looks: what ``vgpo.analyze`` draws."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vgpo.figures.style import (
    GROUND,
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

_BARS: dict[str, dict[str, Any]] = {
    kind: {"facecolor": colour, "edgecolor": GROUND, "lw": 0}
    for kind, colour in ATTENTION_COLOURS.items()
}
_BARS["query"]["hatch"] = "////"
_BARS["generated"]["alpha"] = 0.75

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
        for kind, look in _BARS.items():
            place.bar(x, some[kind], bottom=bottom, width=0.86, **look)
            bottom += some[kind].to_numpy()
        place.set_xticks(x, map(word_label, some["token"]), rotation=90, fontsize=8)
        place.tick_params(axis="x", length=0, pad=1)
        place.set(xlim=(-0.6, per_line - 0.4), ylim=(0, 1), yticks=[0, 0.5, 1])
        place.spines["bottom"].set_visible(False)
    axes[0, 0].legend(
        handles=[Patch(label=kind, **look) for kind, look in _BARS.items()],
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(_BARS), borderaxespad=0.1,
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


NULL_STYLES = {"uniform": ":", "untrained": (0, (4, 2))}
"""Lines of what knows nothing: attention spread evenly, an untrained network."""

_NULL_NAMES = {"uniform": "spread evenly", "untrained": "untrained"}


@in_style
def decay_figure(curves: pd.DataFrame) -> Figure:
    """Shares of attention over generation progress, a panel per kind, a line per
    group, with 95 % bands (``ForgettingAnalysis.curves``).

    The image has a scale of its own, since its share is small. What knows nothing
    (kinds ``uniform`` and ``untrained``) is drawn over it without colour, as the mean
    over groups.
    """
    groups = list(dict.fromkeys(curves["group"]))
    figure, axes = plt.subplots(1, 3, figsize=(7.6, 3.0), layout="constrained")
    looks = {group: PALETTE[i % len(PALETTE)] for i, group in enumerate(groups)}
    for place, (kind, colour) in zip(axes, ATTENTION_COLOURS.items(), strict=True):
        some = curves[curves["kind"] == kind]
        for group, shade in looks.items():
            line = some[some["group"] == group]
            shade = colour if len(groups) == 1 else shade
            look = line_look(shade, marks=False)
            place.plot(line["progress"], line["mean"], **look, zorder=3)
            place.fill_between(
                line["progress"], line["low"], line["high"], color=shade,
                alpha=0.22, lw=0,
            )  # fmt: skip
        place.set_title(kind, loc="left", color=colour)
        place.set(xlim=(0, 100), ylim=(0, 1), xlabel="progress, %")
        if kind == "generated" and len(groups) > 1:
            look_legend(place, looks, marks=False, loc="lower right", fontsize=9)
    _draw_nulls(axes[0], curves)
    axes[0].autoscale(axis="y")
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("share of attention")
    return figure


def _draw_nulls(axes, curves: pd.DataFrame) -> None:
    there = [kind for kind in NULL_STYLES if kind in set(curves["kind"])]
    for i, kind in enumerate(there):
        line = curves[curves["kind"] == kind].groupby("progress")["mean"].mean()
        axes.plot(line.index, line, color=INK, ls=NULL_STYLES[kind], lw=1.6)
        axes.text(
            0.97, 0.97 - 0.085 * i, f"{'·····' if kind == 'uniform' else '– – –'} "
            f"{_NULL_NAMES[kind]}", ha="right", va="top", color=INK, fontsize=9,
            transform=axes.transAxes,
        )  # fmt: skip


@in_style
def ratio_figure(
    responses: pd.DataFrame,
    means: pd.DataFrame,
    group: str | None = None,
    nulls: Mapping[str, pd.DataFrame] | None = None,
) -> Figure:
    """Late/early accumulation ratio of right and wrong answers: a point each, and
    mean and 95 % interval.

    Args:
        responses: A row per answer: ``ratio``, ``correct``.
        means: Their means with intervals, by group and outcome
            (:func:`vgpo.stats.forgetting.mean_ratios`).
        group: A column of both tables, to make a row per group.
        nulls: The same means of ratios where nothing is known, by name; their diamonds
            are empty.
    """
    names = ["all answers"] if group is None else list(dict.fromkeys(responses[group]))
    by: list[str] = ["correct"] if group is None else [group, "correct"]
    means = means.set_index(by)
    empty = {name: table.set_index(by) for name, table in (nulls or {}).items()}
    known = responses.dropna(subset=["ratio"])
    top = float(known["ratio"].quantile(0.99)) if len(known) else 1.0
    height = 0.9 + (0.72 + 0.2 * len(empty)) * len(names) + 0.25 * bool(empty)
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
            jitter = spread.uniform(-0.11, 0.11, len(values))
            axes.scatter(
                values, y + shift + jitter, s=6, alpha=0.9, color=colour, lw=0,
                marker="o" if right else "s", rasterized=True,
            )  # fmt: skip
            key = right if group is None else (name, right)
            mean, low, high = means.loc[key, ["value", "low", "high"]]
            axes.plot([low, high], [y + shift] * 2, color=INK, lw=2.2)
            mark = "D" if right else "s"  # larger than an answer's, with a rim
            axes.plot(mean, y + shift, mark, color=colour, ms=7, mec=INK)
            _draw_null_means(axes, empty, key, y + shift)
            axes.text(
                1.01, y + shift, f"{'right' if right else 'wrong'} {mean:.2f}",
                color=colour, va="center", transform=axes.get_yaxis_transform(),
            )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(1.0, color=INK, lw=0.8, ls=":")
    axes.set(xlabel="late/early visual accumulation ratio", xlim=(0, top * 1.03))
    if empty:
        marks = " and ".join(
            f"{name} ({'◇' if i == 0 else '○'})" for i, name in enumerate(empty)
        )
        axes.set_title(f"empty marks: {marks}", fontsize=9, loc="right")
    return figure


def _draw_null_means(axes, empty, key, y: float) -> None:
    """Means of the nulls, below those of the model."""
    for i, table in enumerate(empty.values()):
        if key not in table.index:
            continue
        mean, low, high = table.loc[key, ["value", "low", "high"]]
        place = y + 0.075 * (i + 1)
        axes.plot([low, high], [place] * 2, color=INK, lw=1.0)
        axes.plot(
            mean, place, "D" if i == 0 else "o", ms=5.5, color=INK, mfc=GROUND,
            mew=1.4,
        )  # fmt: skip


@in_style
def ratio_length_figure(
    responses: pd.DataFrame, group: str | None = None, null: str | None = None
) -> Figure:
    """Late/early accumulation ratio against the length of the answer, with medians
    over fifths of the lengths (columns ``ratio``, ``length``).

    Args:
        responses: A row per answer.
        group: A column, to have a line per group.
        null: A column with the ratio where nothing is known: its medians are dashed.
    """
    known = responses.dropna(subset=["ratio"])
    names = [None] if group is None else list(dict.fromkeys(known[group]))
    figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    for name, colour in zip(names, cycle(PALETTE), strict=False):
        some = known if name is None else known[known[group] == name]
        axes.scatter(
            some["length"], some["ratio"], s=9, alpha=0.9, color=colour, lw=0,
            marker=MARKS[PALETTE.index(colour)], rasterized=True,
        )  # fmt: skip
        middles = _medians_by_length(some, "ratio")
        axes.plot(middles["length"], middles["ratio"], **line_look(colour))
    if null is not None and len(known):
        middles = _medians_by_length(known, null)
        axes.plot(middles["length"], middles[null], "--", color=INK, zorder=4)
        axes.text(
            0.01, 0.02, "– – –  a network that knows nothing", color=INK, fontsize=9,
            transform=axes.transAxes,
        )  # fmt: skip
    if group is not None:
        named = dict(zip(names, cycle(PALETTE), strict=False))
        look_legend(axes, named, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.axhline(1.0, color=INK, lw=0.8, ls=":")
    axes.set(xlabel="length of the answer, tokens", ylabel="late/early ratio")
    if len(known):
        # A few answers far above all others shall not press these together.
        most, usual = known["ratio"].max(), known["ratio"].quantile(0.99)
        top = 1.05 * float(most if most < 1.2 * usual else usual)
        axes.set_ylim(0, top)
        if above := int((known["ratio"] > top).sum()):
            axes.text(
                0.99, 0.98, f"{above} higher, not drawn", color=INK, fontsize=9,
                ha="right", va="top", transform=axes.transAxes,
            )  # fmt: skip
    return figure


def _medians_by_length(table: pd.DataFrame, column: str) -> pd.DataFrame:
    fifth = pd.qcut(table["length"], 5, duplicates="drop")
    return table.groupby(fifth, observed=True)[["length", column]].median()
