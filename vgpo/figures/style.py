"""The look of the book's figures, and what several of them draw.

All are drawn without a background and in mid-tones, so that they can be read on a
white and on a dark page, at 700 pixels of width, and without telling red from
green. In the pages of the book these tones stand for those of the reader's theme
(``book/_static/custom.css``), which are stronger. Where several lines share a panel,
:func:`line_look` tells them apart by dashes and marks as well. Alt text stands beside
each figure in the notebooks' cell metadata.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, ParamSpec, Protocol

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from vgpo.figures.svg import show

_Arguments = ParamSpec("_Arguments")

INK = "#757575"
"""Text and axes, 4.6 : 1 against white and 4.1 : 1 against the dark theme's ground."""

PALETTE = ["#2e8fce", "#d97500", "#1ba37a", "#b06fbf", "#a88715", INK]
"""Series colours, after Okabe and Ito, each at least 3 : 1 against both grounds."""

GROUND = "#fdfdfd"
"""What is empty: in the book the ground of the page, elsewhere as good as white."""

DASHES = [
    "-",
    (0, (5, 2)),
    (0, (1, 1.3)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
]
"""Line styles that go with the colours of :data:`PALETTE`."""

MARKS = ["o", "s", "^", "D", "v", "P"]
"""Marks that go with the colours of :data:`PALETTE`."""

SOURCE_COLOURS = {
    "image": PALETTE[1],
    "question": PALETTE[0],
    "text": PALETTE[5],
    "filler": PALETTE[3],
}
"""Where a token of the small world comes from."""

SCORE_LABELS = {"focus": "state at t", "focus_prediction": "state at t − 1"}
"""Which alignment the two focus columns of a token table belong to."""


NULL_MARKS = {"grey picture": "o", "= before": "d"}
"""Marks, empty and without colour, of what finds reads without looking: a score over a
grey picture, and the rule "the token before is ="."""


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
    """A question over a picture or none, its answer, the chain that leads there, and
    what the picture shows, tile by tile or bar by bar."""

    image: Image.Image | None
    rows: int
    columns: int
    question: str
    answer: str
    chain: Sequence[Token]
    colours: Sequence[str]
    values: Sequence[int]


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
        not a second time as an open figure, and as a drawing rather than as pixels
        (:mod:`vgpo.figures.svg`); and a loop over figures keeps none of them in
        pyplot's memory.
    """

    @wraps(draw)
    def drawn(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Figure:
        with _style():
            figure = draw(*args, **kwargs)
        plt.close(figure)
        # What IPython asks a value for before it looks for formats of its class.
        figure._ipython_display_ = partial(show, figure)  # type: ignore[attr-defined]
        return figure

    return drawn


def line_look(colour: str, *, marks: bool = True) -> dict[str, Any]:
    """How a line of a colour of :data:`PALETTE` is drawn, for those who see no hue.

    Args:
        colour: One of :data:`PALETTE`.
        marks: Whether points have marks; without, dashes alone tell lines apart.

    Returns:
        Arguments of ``Axes.plot``.

    Example:
        >>> line_look(PALETTE[0])
        {'color': '#2e8fce', 'ls': '-', 'marker': 'o', 'ms': 4}
    """
    i = PALETTE.index(colour)
    look = {"color": colour, "ls": DASHES[i]}
    return look | {"marker": MARKS[i], "ms": 4} if marks else look


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
        "hatch.linewidth": 0.7,
    }
    with sns.axes_style("ticks"), plt.rc_context(quiet):
        yield


def null_look(name: str) -> dict[str, Any]:
    """How a key of :data:`NULL_MARKS` is drawn, as arguments of ``Axes.plot``.

    Example:
        >>> null_look("grey picture")["marker"]
        'o'
    """
    return {
        "color": INK, "marker": NULL_MARKS[name], "markerfacecolor": "none", "ms": 5,
        "lw": 1.0,
    }  # fmt: skip


def look_legend(
    axes: Axes,
    names: Mapping[str, str],
    *,
    marks: bool = True,
    nulls: Sequence[str] = (),
    **how: Any,
) -> None:
    """A legend of lines by what :func:`line_look` draws for their colour.

    Args:
        axes: Where it stands.
        names: What a line is called -> its colour, of :data:`PALETTE`.
        marks: Whether the lines have marks.
        nulls: Keys of :data:`NULL_MARKS` to name as well.
        how: Arguments of ``Axes.legend``.
    """
    handles = [
        Line2D([], [], label=name, **line_look(colour, marks=marks))
        for name, colour in names.items()
    ]
    handles += [
        Line2D([], [], label=name, ls="none", **null_look(name)) for name in nulls
    ]
    axes.legend(handles=handles, labelcolor="linecolor", **how)


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
    look = line_look(colour) if colour in PALETTE else {"color": colour, "marker": "o"}
    how: dict[str, Any] = look | {"ms": 5, "lw": 1.4, "elinewidth": 1.4}
    if not line:
        how["ls"] = "none"
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
