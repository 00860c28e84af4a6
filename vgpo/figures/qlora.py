"""Training in 4 bits: what it costs and what it keeps."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vgpo.figures.style import (
    INK,
    MARKS,
    PALETTE,
    in_style,
    interval_bars,
    line_look,
)

WAY_COLOURS = {"all weights": PALETTE[5], "LoRA": PALETTE[0], "QLoRA": PALETTE[1]}
WAY_LOOKS = {
    way: {"color": colour, "ls": "none", "marker": MARKS[PALETTE.index(colour)]}
    for way, colour in WAY_COLOURS.items()
}


@in_style
def nf4_figure(normalised, levels) -> Figure:
    """A histogram of weights over their block's largest, and the levels they are
    rounded to."""
    figure, axes = plt.subplots(figsize=(7.2, 2.7), layout="constrained")
    axes.hist(
        np.asarray(normalised).ravel(), bins=101, range=(-1.01, 1.01),
        color=PALETTE[0], alpha=0.7, density=True, histtype="stepfilled", lw=0,
    )  # fmt: skip
    top = axes.get_ylim()[1]
    for level in np.asarray(levels):
        axes.plot([level] * 2, [0, top], color=PALETTE[1], lw=1.0)
    axes.plot([], [], color=PALETTE[1], lw=1.0, label="the 16 levels")
    axes.set(xlabel="weight / largest of its block", yticks=[], xlim=(-1.05, 1.05))
    axes.set_ylim(0, top)
    axes.spines["left"].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@in_style
def training_memory_figure(tables: dict[str, pd.DataFrame], cards=(24, 80)) -> Figure:
    """Gigabytes that training keeps, by size of the model and way of training, and
    the memory of common cards (dashed)."""
    figure, axes = plt.subplots(figsize=(7.2, 2.9), layout="constrained")
    for i, table in enumerate(tables.values()):
        axes.plot(table["bytes"] / 1e9, [i] * len(table), color=INK, lw=0.8)
        for way, size in (table["bytes"] / 1e9).items():
            axes.plot(size, i, ms=8, **WAY_LOOKS[way])
            axes.annotate(
                f"{size:.0f}" if size >= 10 else f"{size:.1f}", (size, i),
                xytext=(1, 8), textcoords="offset points", ha="right", fontsize=9,
            )  # fmt: skip
    for way, look in WAY_LOOKS.items():
        axes.plot([], [], ms=8, **look, label=way)
    for card in cards:
        axes.axvline(card, color=INK, lw=0.9, ls="--")
        axes.annotate(
            f"{card} GB", (card, 1), xycoords=("data", "axes fraction"),
            xytext=(3, -2), textcoords="offset points", va="top", fontsize=9,
        )  # fmt: skip
    axes.set_yticks(range(len(tables)), list(tables))
    axes.set(
        xscale="log",
        xlabel="gigabytes, without rollouts",
        ylim=(len(tables) - 0.5, -0.75),
    )
    ticks = [3, 10, 30, 100, 300]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@in_style
def precision_figure(table: pd.DataFrame, clip: float = 0.2) -> Figure:
    """Change of each token's focus in 4 bits (alignment "token"), and how far the
    probability of a sampled token moves; dashed, where the loss would clip it."""
    figure, axes = plt.subplots(
        1, 2, figsize=(7.4, 3.2), layout="constrained", width_ratios=(1, 1.25)
    )
    before = table["focus_before"]
    axes[0].scatter(
        before,
        table["focus"] - before,
        s=3,
        alpha=0.9,
        lw=0,
        color=PALETTE[0],
        rasterized=True,
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
    return figure


@in_style
def paired_accuracy_figure(table: pd.DataFrame) -> Figure:
    """Differences in accuracy with their intervals, a line per family (the columns
    ``difference``, ``low``, ``high``)."""
    figure, axes = plt.subplots(figsize=(6.4, 2.5), layout="constrained")
    axes.axvline(0, color=INK, lw=0.9)
    places = range(len(table))
    interval_bars(axes, places, table["difference"], table, PALETTE[0], horizontal=True)
    for place, row in zip(places, table.itertuples(), strict=True):
        if row.low == row.difference == row.high == 0:
            axes.annotate(
                "no answer changed", (0, place), xytext=(8, 7), fontsize=9,
                textcoords="offset points",
            )  # fmt: skip
    axes.set_yticks(places, table.index)
    reach = 1.2 * max(0.05, table["high"].max(), -table["low"].min())
    axes.set(xlabel="accuracy in 4 bits less in full precision")
    axes.set(xlim=(-reach, reach), ylim=(len(table) - 0.5, -0.5))
    return figure


@in_style
def adapter_runs_figure(by_seed: pd.Series) -> Figure:
    """Accuracy before and after training, a line per seed (index levels ``way``,
    ``when``, ``seed``), a column per way of training."""
    ways = [way for way in WAY_COLOURS if way in by_seed.index.unique("way")]
    figure, axes = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
    for i, way in enumerate(ways):
        table = by_seed[way].unstack("when").dropna()
        for _, row in table.iterrows():
            axes.plot(
                [i - 0.22, i + 0.22], [row["before"], row["after"]],
                **line_look(WAY_COLOURS[way]), lw=1.2,
            )  # fmt: skip
    axes.text(-0.27, table["before"].mean(), "before", va="center", ha="right")
    axes.text(i + 0.27, table["after"].mean(), "after", va="center")
    axes.set_xticks(range(len(ways)), ways)
    axes.set_xlim(-0.7, len(ways) - 0.3)
    axes.set(ylabel="sampled accuracy, held out", ylim=(0, 1))
    return figure
