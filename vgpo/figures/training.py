"""Runs of training, over their steps and before against after."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from vgpo.figures.style import (
    PALETTE,
    direct_label,
    in_style,
    line_look,
    spread_labels,
)

METHOD_COLOURS = {"grpo": PALETTE[5], "dapo": PALETTE[0], "vgpo": PALETTE[1]}


@in_style
def reward_figure(metrics: dict[str, pd.DataFrame], window: int = 5) -> Figure:
    """Sampled reward over the steps of each run (thin), with its running mean over
    ``window`` steps (thick). Keys are methods, values as of
    :func:`vgpo.training.metrics.read_metrics`."""
    figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    ends = {}
    for method, log in metrics.items():
        log = log.dropna(subset=["reward"])
        colour = METHOD_COLOURS[method]
        mean = log["reward"].rolling(window, min_periods=1, center=True).mean()
        axes.plot(log["step"], log["reward"], color=colour, lw=0.7, alpha=0.6)
        axes.plot(log["step"], mean, **line_look(colour, marks=False), lw=2.2)
        ends[method] = float(mean.iloc[-1])
        last = log["step"].iloc[-1]
    for method, height in spread_labels(ends, gap=0.05).items():
        direct_label(axes, last, height, method.upper(), METHOD_COLOURS[method])
    axes.set(xlabel="optimiser step", ylabel="share of right answers, sampled")
    axes.set_ylim(0, 1)
    return figure


@in_style
def visual_metrics_figure(
    log: pd.DataFrame, beside: pd.DataFrame | None = None
) -> Figure:
    """The visual metrics of one VGPO run over its steps, in three panels.

    Args:
        log: Of the run, from :func:`vgpo.training.metrics.read_metrics`.
        beside: Of another run, drawn thin.
    """
    log = log.dropna(subset=["reward"])
    beside = None if beside is None else beside.dropna(subset=["reward"])
    panels = [
        ("focus score", {"focus_early": "first half", "focus_late": "second half"}),
        ("standard deviation", {"psi_std": "ψ", "phi_std": "φ"}),
        ("correlation", {"phi_length_corr": "φ with length"}),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.7), layout="constrained")
    for place, (unit, lines) in zip(axes, panels, strict=True):
        for (name, label), colour in zip(lines.items(), PALETTE, strict=False):
            look = line_look(colour, marks=False)
            place.plot(log["step"], log[f"visual/{name}"], **look, lw=2, label=label)
            if beside is not None:
                place.plot(beside["step"], beside[f"visual/{name}"], **look, lw=0.8)
        place.legend(loc="best", handlelength=2.2)
        place.set(title=unit, xlabel="step")
    return figure


@in_style
def seeds_figure(by_seed: pd.Series) -> Figure:
    """Accuracy before and after training, a line per seed (index levels ``method``,
    ``when``, ``seed``)."""
    methods = list(by_seed.index.unique("method"))
    figure, axes = plt.subplots(figsize=(5.6, 3.0), layout="constrained")
    for i, method in enumerate(methods):
        table = by_seed[method].unstack("when")
        for _, row in table.iterrows():
            axes.plot(
                [i - 0.22, i + 0.22], [row["before"], row["after"]],
                color=METHOD_COLOURS[method], marker="o", ms=4, lw=1.2,
            )  # fmt: skip
        axes.text(i + 0.27, table["after"].mean(), "after", va="center")
        axes.text(i - 0.27, table["before"].mean(), "before", va="center", ha="right")
    axes.set_xticks(range(len(methods)), [m.upper() for m in methods])
    axes.set_xlim(-0.6, len(methods) - 0.4)
    axes.set(ylabel="sampled accuracy, held out", ylim=(0, 1))
    return figure
