"""Rollouts as words, each tinted by how far training pushes it."""

from collections.abc import Mapping, Sequence
from math import ceil

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vgpo.figures.reweighting import CELL_INK, DIVERGING
from vgpo.figures.style import INK, PALETTE, in_style, word_label
from vgpo.figures.testbed import draw_picture

_LINE = 2.3  # height of a line of words with its numbers, in characters


def _room(word: str) -> float:
    """Width of a word's box, or of the number below it, in characters."""
    return max(len(word_label(word)), 4) + 1.4


def _placed(words: Sequence[str], width: float) -> list[tuple[float, int]]:
    """Middle and line of each word, in characters, broken at ``width``."""
    places, x, line = [], 0.0, 0
    for word in words:
        room = _room(word)
        if x and x + room > width:
            x, line = 0.0, line + 1
        places.append((x + room / 2, line))
        x += room
    return places


def _lines(rollouts: Sequence[Sequence[str]], width: float) -> int:
    return sum(_placed(words, width)[-1][1] + 1 for words in rollouts)


def _draw(axes: Axes, rollouts, labels, values, limit, width) -> None:
    axes.set_axis_off()
    top = 0
    for words, label, row in zip(rollouts, labels, values, strict=True):
        axes.text(-1.0, -top * _LINE, label, ha="right", va="center", fontsize=9)
        places = _placed(words, width)
        for word, (x, line), value in zip(words, places, row, strict=False):
            still = abs(value) < 0.005  # what would be written as 0.00
            y = -(top + line) * _LINE
            axes.text(
                x, y, word_label(word), ha="center", va="center", fontsize=9,
                family="monospace", color=CELL_INK,
                bbox={"boxstyle": "round,pad=0.2", "linewidth": 0.8,
                      "facecolor": DIVERGING(0.5 + value / limit / 2),
                      "edgecolor": INK if still else PALETTE[value < 0]},
            )  # fmt: skip
            written = "0" if still else f"{value:+.2f}".replace("-", "\u2212")
            axes.text(
                x, y - 1.1, written, ha="center", va="center", fontsize=8, color=INK
            )
        top += places[-1][1] + 1
    axes.set_xlim(-9, width + 0.5)
    axes.set_ylim(-(top - 1) * _LINE - 1.8, 1.2)


@in_style
def pushes_figure(
    rollouts: Sequence[Sequence[str]],
    labels: Sequence[str],
    panels: Mapping[str, Sequence[Sequence[float]]],
    image: Image.Image | None = None,
    question: str = "",
    width: int = 62,
) -> Figure:
    """The tokens of a few rollouts as words: blue is pushed up, orange down.

    Args:
        rollouts: The words of each.
        labels: What stands left of each.
        panels: By title, a number for every token, (B, T); what lies beyond a
            rollout's last word is not shown. Panels share one scale of tints.
        image: The picture that was asked about, if it is to be shown.
        question: What was asked of it.
        width: Most characters in a line of words.

    Example:
        >>> figure = pushes_figure([["red", "7"]], ["right"], {"GRPO": [[0.9, 0.9]]})
        >>> [text.get_text() for text in figure.axes[0].texts][:3]
        ['right', 'red', '+0.90']
    """
    shown = [abs(float(v)) for panel in panels.values()
             for words, row in zip(rollouts, panel, strict=True)
             for v in list(row)[: len(words)]]  # fmt: skip
    limit = max(shown, default=1.0) or 1.0
    longest = max(sum(_room(word) for word in words) for words in rollouts)
    width = min(width, ceil(longest) + 1)
    lines = _lines(rollouts, width)
    heights = [0.45 + 0.37 * lines] * len(panels)
    first = [] if image is None else [0.95]
    figure, axes = plt.subplots(
        len(first) + len(panels), 1, figsize=(7.6, sum(first + heights)),
        height_ratios=first + heights, layout="constrained", squeeze=False,
    )  # fmt: skip
    places = list(axes[:, 0])
    if image is not None:
        asked = places.pop(0)
        draw_picture(asked, image)
        asked.set_anchor("W")
        asked.annotate(
            question, (1, 0.5), xycoords="axes fraction", xytext=(14, 0),
            textcoords="offset points", va="center", fontsize=10,
        )  # fmt: skip
    for place, (title, values) in zip(places, panels.items(), strict=True):
        rows = [[float(v) for v in row] for row in values]
        _draw(place, rollouts, labels, rows, limit, width)
        place.set_title(title, loc="left", fontsize=10)
    return figure
