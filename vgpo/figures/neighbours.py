"""The methods beside VGPO, side by side."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vgpo.figures.reweighting import DIVERGING
from vgpo.figures.style import (
    INK,
    PALETTE,
    direct_label,
    in_style,
    line_look,
    spread_labels,
)


@in_style
def papo_figure(gap, term, advantage, tokens, gained) -> Figure:
    """PAPO's term of a token and the advantage that it amounts to, against the
    log-probability that the masked picture takes away.

    Args:
        gap: log π before the picture less log π before the masked one, (N,), rising.
        term: What is subtracted from the loss, γ k, (N,).
        advantage: What is added to the advantage on-policy, (N,).
        tokens: The gap of some tokens to mark.
        gained: Their added advantage.
    """
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 2.9), layout="constrained")
    for place, values, name in (
        (axes[0], term, "taken off the loss, γ k"),
        (axes[1], advantage, "added to the advantage, γ (1 − eˣ)"),
    ):
        place.axhline(0, color=INK, lw=0.8)
        place.axvline(0, color=INK, lw=0.8)
        place.plot(gap, values, color=PALETTE[0])
        place.set_title(name, loc="left")
        place.set_xlabel("log-probability that the mask takes away")
    axes[1].scatter(tokens, gained, color=PALETTE[1], s=22, zorder=3)
    return figure


@in_style
def shaped_figure(panels: Mapping[str, object], mask, limit: float = 2.0) -> Figure:
    """Advantages of a few short rollouts by several methods, numbers in cells.

    Args:
        panels: By name, (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.
        limit: Value of the darkest colours.
    """
    columns = 3
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(7.6, 1.5 * lines), layout="constrained"
    )
    real = np.asarray(mask, dtype=bool)
    for place in axes.flat:
        place.set_axis_off()
    for place, (name, values) in zip(axes.flat, panels.items(), strict=False):
        shown = np.ma.masked_where(~real, np.asarray(values))
        place.imshow(shown, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        for y, x in np.argwhere(real):
            said = f"{shown[y, x]:+.2f}".replace("-", "−")
            place.text(
                x, y, "0" if said[1:] == "0.00" else said,
                ha="center", va="center", fontsize=8, color="#222222",
            )  # fmt: skip
        place.set_title(name, loc="left")
    return figure


@in_style
def statistic_figure(group, batch, groups) -> Figure:
    """Factors of VPPO over the rollouts of a prompt, against those over a micro-batch.

    Args:
        group: Over the rollouts of each prompt, (B,).
        batch: As released, (B,).
        groups: The prompt of each rollout, (B,); those of one are joined by a line.
    """
    figure, place = plt.subplots(figsize=(4.4, 3.4), layout="constrained")
    group, batch, groups = (np.asarray(each) for each in (group, batch, groups))
    low, high = min(group.min(), batch.min()), max(group.max(), batch.max())
    place.plot([low, high], [low, high], color=INK, lw=0.8)
    for prompt in np.unique(groups):
        mine = np.flatnonzero(groups == prompt)
        mine = mine[np.argsort(group[mine])]
        place.plot(group[mine], batch[mine], color=PALETTE[0], lw=0.9, alpha=0.6)
    place.scatter(group, batch, color=PALETTE[0], s=14)
    place.set_xlabel("factor over the rollouts of a prompt")
    place.set_ylabel("factor as released")
    return figure


@in_style
def entropy_term_figure(curves: Mapping[str, Sequence[float]]) -> Figure:
    """Entropy over steps, one line per kind of term, named at its end."""
    figure, place = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
    ends = {name: curve[-1] for name, curve in curves.items()}
    span = max(map(max, curves.values())) - min(map(min, curves.values()))
    heights = spread_labels(ends, 0.09 * span)
    for (name, curve), colour in zip(curves.items(), PALETTE, strict=False):
        place.plot(curve, **line_look(colour, marks=False))
        direct_label(place, len(curve) - 1, heights[name], name, colour)
    place.set_xlabel("steps of the term alone")
    place.set_ylabel("entropy, nats")
    place.set_xlim(0, max(len(curve) for curve in curves.values()) - 1)
    return figure


@in_style
def cost_figure(costs: Mapping[str, pd.DataFrame]) -> Figure:
    """Time of a step over DAPO's, one panel per setting.

    Args:
        costs: By setting, a row per method with ``time``, its quartiles ``low`` and
            ``high``, and ``limit`` (NaN without one).
    """
    figure, axes = plt.subplots(
        1, len(costs), figsize=(7.4, 2.7), sharey=True, sharex=True,
        layout="constrained",
    )  # fmt: skip
    for place, (setting, table) in zip(np.atleast_1d(axes), costs.items(), strict=True):
        y = np.arange(len(table))
        reach = np.vstack(
            [table["time"] - table["low"], table["high"] - table["time"]]
        ).clip(min=0)
        place.axvline(1, color=INK, lw=0.8)
        place.errorbar(table["time"], y, xerr=reach, fmt="o", ms=5, lw=1.4)
        place.scatter(table["limit"], y, marker="|", s=90, color=PALETTE[1])
        place.set_yticks(y, table.index)
        place.set_title(fill(setting, 20), loc="left", fontsize=10)
        place.set_xlabel("time of a step / DAPO's")
    np.atleast_1d(axes)[0].invert_yaxis()
    return figure
