"""Advantages, re-weighted within and between rollouts."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vgpo.figures.style import (
    INK,
    MARKS,
    PALETTE,
    in_style,
)

# A digit beside the palette's: a page of the book puts a stronger colour of its theme
# in place of the palette's own, and the dark type of a cell could not be read there.
_ORANGE, _BLUE, _GREEN = "#d97501", "#2e8fcf", "#1ba37b"
DIVERGING = sns.blend_palette([_ORANGE, "#f4f4f4", _BLUE], as_cmap=True)
"""Orange below zero, near white at zero, blue above; under type of :data:`CELL_INK`."""

CELL_INK = "#222222"
"""Type in cells, 4.5 : 1 and more on all of :data:`DIVERGING`."""


def _heat(axes, values, mask, limit: float, colours=DIVERGING, low=None) -> None:
    shown = np.ma.masked_where(~np.asarray(mask, dtype=bool), np.asarray(values))
    low = -limit if low is None else low
    axes.imshow(shown, cmap=colours, vmin=low, vmax=limit, aspect="auto")
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)


@in_style
def reweighting_figure(weights, mask, psi, phi, shaped, advantages) -> Figure:
    """Weights, psi, summed weights, phi and shaped advantages of a few short rollouts,
    as numbers in coloured cells (Eq. 7-12), and under the sums the group's mean, which
    they are compared with. Where a rollout has ended, cells are hatched.

    Args:
        weights: w, (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.
        psi: (B, T).
        phi: (B,).
        shaped: The advantages of Eq. 12, (B, T).
        advantages: Those of the group, (B,), which name the rows.
    """
    plain = sns.light_palette(_GREEN, as_cmap=True)
    one = np.ones((len(phi), 1))
    sums = (weights * mask).sum(1)[:, None]
    panels = [
        ("w", weights, mask, plain, 0.0, 1.0),
        ("ψ", psi, mask, DIVERGING, -1.0, 1.0),
        ("Σ w", sums, one, plain, 0.0, 2 * float(sums.max())),
        ("φ", phi[:, None], one, DIVERGING, -1.0, 1.0),
        ("advantage", shaped, mask, DIVERGING, -2.0, 2.0),
    ]
    long = weights.shape[1]
    figure, axes = plt.subplots(
        1, 5, figsize=(7.6, 2.2), width_ratios=[long, long, 1.4, 1.4, long],
        layout="constrained",
    )  # fmt: skip
    for place, (name, values, seen, colours, low, high) in zip(
        axes, panels, strict=True
    ):
        _heat(place, values, seen, high, colours, low)
        for y, x in np.argwhere(np.asarray(seen, dtype=bool)):
            value = float(values[y, x])
            place.text(
                x, y, f"{value:.1f}".replace("-", "−"), ha="center", va="center",
                fontsize=8, color="#222222",
            )  # fmt: skip
        for y, x in np.argwhere(~np.asarray(seen, dtype=bool)):
            ended = {"fill": False, "hatch": "////", "lw": 0, "edgecolor": INK}
            place.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, **ended))
        place.set(title=name, xticks=[], yticks=[])
    for place, mean in zip(axes[2:4], (sums.mean(), phi.mean()), strict=True):
        place.set_xlabel(f"mean\n{abs(float(mean)):.1f}", fontsize=8)
    signed = [f"{a:+.0f}".replace("-", "−") for a in advantages]
    axes[0].set_yticks(range(len(weights)), signed)
    axes[0].set_ylabel("group advantage")
    return figure


@in_style
def length_figure(table: pd.DataFrame, correlations: Mapping[str, float]) -> Figure:
    """phi against length less its group's mean, for both accumulations.

    Args:
        table: A row per rollout: ``group``, ``length``, and phi in ``sum`` and
            ``mean``.
        correlations: Mean correlation of the two with length within a group, by name.
    """
    length = table["length"] - table.groupby("group")["length"].transform("mean")
    figure, axes = plt.subplots(
        1, 2, figsize=(7.4, 3.0), sharey=True, layout="constrained"
    )
    for place, how, colour in zip(
        axes, ("sum", "mean"), (PALETTE[0], PALETTE[1]), strict=True
    ):
        place.scatter(
            length, table[how], s=8, alpha=0.9, color=colour, rasterized=True,
            marker=MARKS[PALETTE.index(colour)],
        )  # fmt: skip
        place.set_title(
            f"{how}: mean r in a group = {correlations[how]:.2f}", loc="left"
        )
        place.set_xlabel("length less the group's mean, tokens")
    axes[0].set_ylabel("φ")
    return figure
