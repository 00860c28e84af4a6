"""The look of the book's figures, and what several of them draw.

All are drawn without a background and in mid-tones, so that they can be read on a
white and on a dark page, at 700 pixels of width, and without telling red from
green. Alt text stands beside each figure in the notebooks' cell metadata.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, Protocol

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

_Arguments = ParamSpec("_Arguments")

INK = "#7d7d7d"
"""Text and axes, 4.1 : 1 against white and against the dark theme's ground."""

PALETTE = ["#2e8fce", "#e07b00", "#1ba37a", "#b06fbf", "#c9a227", "#8c8c8c"]
"""Series colours, after Okabe and Ito, lightened to be seen on black too."""

SOURCE_COLOURS = {
    "image": "#e07b00",
    "question": "#2e8fce",
    "text": "#8c8c8c",
    "filler": "#b06fbf",
}
"""Where a token of the small world comes from."""

SCORE_LABELS = {"focus": "state at t", "focus_prediction": "state at t − 1"}
"""Which alignment the two focus columns of a token table belong to."""


# What figures need to know of a question of the small world, and of a measured
# change. The worlds and the statistics themselves stay out of this folder: whoever
# only analyses a model does not load them.


class Token(Protocol):
    """A token of a chain, and what is known of it.

    Attributes:
        text: The token.
        source: A key of :data:`SOURCE_COLOURS`.
        tiles: Raster indices of the tiles it reads.
        faithful: Whether it says what the picture shows there.
    """

    text: str
    source: str
    tiles: Sequence[int]
    faithful: bool


class Question(Protocol):
    """A question over a picture or none, its answer, and the chain that leads there."""

    image: Image.Image | None
    rows: int
    columns: int
    question: str
    answer: str
    chain: Sequence[Token]


class Split(Protocol):
    """A change in its parts, each a value with the ends of its 95 % interval and the
    number of responses it comes from."""

    fewer_looks: tuple[float, float, float, int]
    weaker_looks: tuple[float, float, float, int]
    other_tokens: tuple[float, float, float, int]
    total: tuple[float, float, float, int]


def in_style(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """Draws in the look of the book, and leaves no figure open.

    Args:
        draw: Draws a figure with pyplot and returns it.

    Returns:
        The same function. A notebook shows its figure once, as the value of the cell,
        not a second time as an open figure; and a loop over figures keeps none of
        them in pyplot's memory.
    """

    @wraps(draw)
    def drawn(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Figure:
        with _style():
            figure = draw(*args, **kwargs)
        plt.close(figure)
        return figure

    return drawn


@contextmanager
def _style() -> Iterator[None]:
    quiet: Any = {
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


def direct_label(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A line's name to the right of the point (x, y), in the line's colour."""
    axes.annotate(
        text, (x, y), xytext=(6, 0), textcoords="offset points", color=colour,
        va="center", fontsize=10, annotation_clip=False,
    )  # fmt: skip


def spread_labels(values: dict[str, float], gap: float) -> dict[str, float]:
    """Heights of labels, moved upwards until they are ``gap`` from each other.

    Example:
        >>> spread_labels({"high": 0.5, "low": 0.25}, gap=0.5)
        {'low': 0.25, 'high': 0.75}
    """
    names = sorted(values, key=values.__getitem__)
    heights = [values[n] for n in names]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    return dict(zip(names, heights, strict=True))


def interval_bars(
    axes: Axes,
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    table: pd.DataFrame,
    colour: str,
    line: bool = False,
    horizontal: bool = False,
) -> None:
    """Points with the bars of a table's ``low`` and ``high``.

    Args:
        axes: Where to draw.
        x: Places of the points.
        y: Their values.
        table: A row per point.
        colour: Of points, bars and line.
        line: Whether to join the points.
        horizontal: Whether values run along the horizontal axis.
    """
    values = np.asarray(y, dtype=float)
    # Lengths of a bar's two halves. An end on the wrong side of the value, by rounding
    # or because a bootstrap may put it there, would be an error to matplotlib.
    reach = np.vstack([values - table["low"], table["high"] - values]).clip(min=0)
    how: dict[str, Any] = {
        "fmt": "o-" if line else "o",
        "ms": 5,
        "lw": 1.4,
        "color": colour,
    }
    if horizontal:
        axes.errorbar(values, x, xerr=reach, **how)
    else:
        axes.errorbar(x, values, yerr=reach, **how)


def word_label(token: str) -> str:
    r"""A token as a label: no line breaks, no mathematics, and never nothing.

    Example:
        >>> [word_label(token) for token in (" red", "\n", "\n\n$x", "")]
        ['red', '␣', '\\$x', '␣']
    """
    shown = token.strip().replace("\n", "⏎").replace("$", r"\$")
    return shown or "␣"
