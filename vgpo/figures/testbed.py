"""The small world: pictures, chains, cold start, whether the model looks."""

import re
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vgpo.figures.style import (
    GROUND,
    INK,
    PALETTE,
    SOURCE_COLOURS,
    Question,
    Token,
    direct_label,
    in_style,
    line_look,
    spread_labels,
    word_label,
)


def draw_picture(
    axes: Axes, image: Image.Image, tiles: tuple[int, int] | None = None
) -> None:
    """Draws a picture, and numbers its tiles in raster order from 0.

    Args:
        axes: Where to draw; its own axes are hidden.
        image: The picture.
        tiles: Its rows and columns of square tiles; by default they have no numbers.
    """
    axes.imshow(np.asarray(image), interpolation="nearest")
    axes.set_axis_off()
    if tiles is None:
        return
    rows, columns = tiles
    side = image.width // columns
    for tile in range(rows * columns):
        y, x = divmod(tile, columns)
        axes.text(
            x * side + 1, y * side + 1, str(tile), fontsize=8, va="top", ha="left",
            color="black",
            bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.6, "linewidth": 0},
        )  # fmt: skip


_TYPE: dict[str, dict[str, Any]] = {
    "question": {"fontweight": "bold"},
    "filler": {"fontstyle": "italic"},
}


def draw_tokens(
    axes: Axes,
    tokens: Sequence[Token],
    width: int = 46,
    fontsize: float = 9.5,
) -> None:
    """Writes tokens as boxes coloured by source, with the tiles they read below; for
    those who see no hue, the question's are bold and fillers are italic.

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
            x + room / 2, -line * 2.2, word_label(word), ha="center",
            va="center", family="monospace", fontsize=fontsize, color=INK,
            **_TYPE.get(token.source, {}),
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
                fontsize=8, color=colour,
            )  # fmt: skip
        x += room
    axes.set_xlim(-0.5, width + 0.5)
    axes.set_ylim(-line * 2.2 - 1.6, 1.2)


@in_style
def source_figure(example: Question) -> Figure:
    """An example as a person reads it: the picture, the question, and each token of
    the chain with its source; orange ones read the tiles numbered beneath them,
    dashed ones misreport what they read. Its title has the true answer, and the
    chain's where it is another.

    Example:
        >>> from vgpo.testbed import World
        >>> source_figure(World().example(0, family="sum")).axes[0].get_title()
        ''
    """
    characters = sum(len(t.text.strip()) + 1.6 for t in example.chain)
    lines = int(np.ceil(characters / 44))
    height = max(1.9, 0.8 + 0.42 * lines)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(7.6, height), width_ratios=(1, 3.1), layout="constrained"
    )
    if example.image is None:
        left.set_axis_off()
        left.text(0.5, 0.5, "(no image)", ha="center", transform=left.transAxes)
    else:
        draw_picture(left, example.image, (example.rows, example.columns))
    draw_tokens(right, example.chain)
    question = example.question
    if len(question) > 60:
        cut = question.rfind(" ", 0, 60)
        question = f"{question[:cut]}\n{question[cut + 1 :]}"
    boxed = re.search(r"\\boxed\{(.*?)\}", "".join(t.text for t in example.chain))
    answer = example.answer
    if boxed and boxed[1] != answer:
        answer = f"{answer}, boxed {boxed[1]}"
    right.set_title(f"{question}   → {answer}", loc="left", fontsize=10)
    seen = {t.source for t in example.chain}
    for i, source in enumerate(s for s in SOURCE_COLOURS if s in seen):
        right.text(
            0.01 + 0.19 * i, -0.02, source, color=SOURCE_COLOURS[source], fontsize=9,
            transform=right.transAxes, va="top", **_TYPE.get(source, {}),
        )  # fmt: skip
    return figure


@in_style
def gallery_figure(examples: Sequence[Question]) -> Figure:
    """Pictures side by side, each with its question and its answer; of the first, the
    tile or bar on the left is said in words."""
    figure, axes = plt.subplots(
        1, len(examples), figsize=(7.6, 2.5), layout="constrained", squeeze=False
    )
    named = ""
    for place, example in zip(axes[0], examples, strict=True):
        place.set_axis_off()
        if example.image is not None:
            draw_picture(place, example.image)
        words = example.question.replace(" ,", ",").split(" ")
        half = (len(words) + 1) // 2
        lines = [" ".join(words)] if len(words) < 4 else [
            " ".join(words[:half]), " ".join(words[half:])
        ]  # fmt: skip
        place.set_title("\n".join([*lines, f"→ {example.answer}"]), fontsize=9)
        if example.image is not None and not named:
            # One tile in words, and the task is understood.
            named = f"top left:\n{example.colours[0]} = {example.values[0]}"
            place.text(0.5, -0.06, named, fontsize=9, ha="center", va="top",
                       transform=place.transAxes)  # fmt: skip
    return figure


@in_style
def cold_start_figure(
    curve: pd.DataFrame, families: Sequence[str], tiles: Sequence[int]
) -> Figure:
    """Held-out accuracy per family over the steps of the cold start, sampled and
    greedy; lines across where pictures grew, with the most tiles they had from there.

    Args:
        curve: A row per evaluation: ``step``, ``stage`` of the curriculum from 0, and
            ``sampled_{family}`` and ``greedy_{family}``.
        families: Which, in the order of their colours.
        tiles: Most tiles of a picture, stage by stage.
    """
    figure, axes = plt.subplots(
        1, 2, figsize=(7.6, 3.4), sharey=True, layout="constrained"
    )
    titles = {"sampled": "sampled at temperature 1", "greedy": "greedy"}
    last = curve["step"].iloc[-1]
    for place, (how, title) in zip(axes, titles.items(), strict=True):
        ends = {f: curve[f"{how}_{f}"].iloc[-1] for f in families}
        heights = spread_labels(ends, gap=0.075)
        for family, colour in zip(families, PALETTE, strict=False):
            place.plot(curve["step"], curve[f"{how}_{family}"], **line_look(colour))
            direct_label(place, last, heights[family], family, colour)
        grew = curve.loc[curve["stage"].diff() > 0, ["step", "stage"]].to_numpy()
        for i, (step, stage) in enumerate(grew):
            place.axvline(step, color=INK, lw=0.8)
            words = f" ≤ {tiles[int(stage)]}" + (" tiles" if i == 0 else "")
            place.text(step, 1.03, words, fontsize=8, va="bottom")
        place.set_title(title, loc="left", pad=16)
        place.set(xlabel="optimiser step", ylim=(-0.02, 1.02))
    axes[0].set_ylabel("held-out accuracy")
    return figure


@in_style
def looking_figure(looking: pd.DataFrame) -> Figure:
    """Greedy accuracy per family with the true, a swapped and a blank picture, and
    what the best guesser who never looks would get (rows: families)."""
    columns = {
        "true": ("true picture", PALETTE[0], ""),
        "swapped": ("another picture", PALETTE[1], "////"),
        "blank": ("grey picture", PALETTE[5], "----"),
        "never_looks": ("best blind guess", PALETTE[3], "xxxx"),
    }
    figure, axes = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
    for i, (column, (label, colour, hatch)) in enumerate(columns.items()):
        y = np.arange(len(looking)) + (i - 1.5) * 0.2
        axes.barh(
            y, looking[column], height=0.18, facecolor=colour, hatch=hatch,
            edgecolor=GROUND, lw=0, label=label,
        )  # fmt: skip
        for yy, value in zip(y, looking[column], strict=True):
            axes.text(value + 0.008, yy, f"{value:.2f}", va="center", fontsize=8)
    figure.legend(loc="outside upper center", ncols=len(columns), columnspacing=1.2)
    axes.set_yticks(range(len(looking)), looking.index)
    axes.invert_yaxis()
    axes.set(xlabel="greedy accuracy on held-out scans", xlim=(0, 1.08))
    return figure
