"""Signals of tokens: their grades, and what methods make of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from vgpo.figures.reweighting import DIVERGING
from vgpo.figures.style import (
    INK,
    MARKS,
    PALETTE,
    SOURCE_COLOURS,
    in_style,
    interval_bars,
    line_look,
    word_label,
)

KIND_COLOURS = {
    "state": PALETTE[0],
    "attention": PALETTE[1],
    "policy": PALETTE[3],
    "view": PALETTE[2],
    "reference": PALETTE[4],
    "baseline": PALETTE[5],
}
"""What a signal is made of."""

TOKEN_COLOURS = SOURCE_COLOURS | {"decision": PALETTE[2], "memory": PALETTE[4]}
"""Where a token comes from, in both worlds."""


@in_style
def signal_grades_figure(
    panels: Mapping[str, pd.DataFrame], blind: Mapping[str, float] | None = None
) -> Figure:
    """AUROC of signals, one panel a comparison, one row a signal.

    Args:
        panels: Title -> table with the columns ``label``, ``kind``, ``auroc``,
            ``low``, ``high``; all with the same labels, which are drawn from the top.
        blind: Title -> an AUROC that a rule on the text reaches, drawn as a line.
    """
    labels = next(iter(panels.values()))["label"].tolist()
    figure, axes = plt.subplots(
        1, len(panels), figsize=(7.6, 1.0 + 0.25 * len(labels)), sharey=True,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for place, (title, table) in zip(axes[0], panels.items(), strict=True):
        for y, row in enumerate(table.itertuples()):
            bounds = pd.DataFrame({"low": [row.low], "high": [row.high]})
            interval_bars(
                place, [y], [row.auroc], bounds, KIND_COLOURS[row.kind], horizontal=True
            )
        place.axvline(0.5, color=INK, lw=0.8, ls=":")
        if blind and title in blind:
            place.axvline(blind[title], color=INK, lw=0.8, ls="--")
        place.set_title(title, loc="left", fontsize=9)
        place.set(xlim=(-0.03, 1.03), xticks=(0, 0.5, 1), xlabel="AUROC")
        place.grid(axis="y")
    axes[0, 0].set_yticks(range(len(labels)), labels)
    axes[0, 0].invert_yaxis()
    return figure


@in_style
def signal_lags_figure(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """AUROC of the values read, by the place of the state that scores them.

    Args:
        panels: Title -> table with ``label``, ``lag``, ``auroc``, ``low``, ``high``.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(7.6, 3.0), sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for place, (title, table) in zip(axes[0], panels.items(), strict=True):
        for number, (label, part) in enumerate(table.groupby("label", sort=False)):
            interval_bars(
                place, part["lag"], part["auroc"], part, PALETTE[number], line=True
            )
            place.plot([], [], **line_look(PALETTE[number]), label=label)
        place.axhline(0.5, color=INK, lw=0.8, ls=":")
        place.set_title(title, loc="left")
        lags = sorted(table["lag"].unique())
        names = {-1: "−1\nwrites", 0: "0\nread"}
        place.set_xticks(
            lags, [names.get(k, f"{k:+d}".replace("-", "−")) for k in lags]
        )
        place.set(xlabel="place of the state, from the value", ylim=(-0.03, 1.05))
    axes[0, 0].set_ylabel("AUROC of values read")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), fontsize=9
    )
    return figure


@in_style
def methods_figure(
    tokens: pd.DataFrame,
    methods: Sequence[str],
    added: str | None = None,
    per_line: int = 22,
) -> Figure:
    """What each method multiplies the advantage of one completion by, token by token.

    Args:
        tokens: A row per token: ``token``, ``source``, and a column per method.
        methods: Those columns, from the top.
        added: A column that is added to an advantage, not a factor of it; drawn below
            the others, 0 as they have 1.
        per_line: Tokens to a line.
    """
    lines = -(-len(tokens) // per_line)
    names = [*methods, *([] if added is None else [added])]
    figure, axes = plt.subplots(
        lines, 1, figsize=(7.6, lines * (0.87 + 0.2 * len(names))),
        layout="constrained", squeeze=False,
    )  # fmt: skip
    neutral = np.array([[1.0]] * len(methods) + [[0.0]] * (added is not None))
    scale = TwoSlopeNorm(vcenter=1.0, vmin=0.0, vmax=2.0)
    for line, place in enumerate(axes[:, 0]):
        some = tokens.iloc[line * per_line : (line + 1) * per_line]
        values = np.full((len(names), per_line), np.nan)
        values[:, : len(some)] = some[names].to_numpy().T
        shown = place.imshow(
            np.ma.masked_invalid(values - neutral + 1),
            cmap=DIVERGING,
            norm=scale,
            aspect="auto",
        )
        for y, x in np.argwhere(np.isfinite(values)):
            value = values[y, x]
            if abs(value - neutral[y, 0]) >= 0.05:
                place.text(
                    x, y, f"{value:.1f}", ha="center", va="center", fontsize=8,
                    color="#222222",
                )  # fmt: skip
        place.set_yticks(range(len(names)), names, fontsize=8.5)
        words = [word_label(token) for token in some["token"]]
        place.set_xticks(range(len(some)), words, rotation=90, fontsize=8.5)
        place.xaxis.tick_top()
        for tick, source in zip(place.get_xticklabels(), some["source"], strict=True):
            tick.set_color(TOKEN_COLOURS[source])
        _mark_sources(place, some["source"], len(names))
        place.tick_params(length=0)
        for side in place.spines.values():
            side.set_visible(False)
    for source in dict.fromkeys(tokens["source"]):
        axes[-1, 0].plot([], [], label=source, **_source_mark(source))
    figure.legend(loc="outside lower center", ncols=6, fontsize=8.5)
    figure.colorbar(
        shown, ax=axes[:, 0].tolist(), label="factor of the advantage", shrink=0.8,
        pad=0.01, aspect=40,
    )  # fmt: skip
    return figure


def _source_mark(source: str) -> dict[str, Any]:
    """How tokens of a source are marked, for those who see no hue."""
    colour = TOKEN_COLOURS[source]
    mark = MARKS[PALETTE.index(colour)]
    return {"color": colour, "marker": mark, "ls": "none", "ms": 4.5}


def _mark_sources(axes: Axes, sources: Sequence[str], rows: int) -> None:
    """A mark under the word of each token, above the cells."""
    axes.set_ylim(rows - 0.5, -1.1)
    for x, source in enumerate(sources):
        axes.plot(x, -0.8, **_source_mark(source))
