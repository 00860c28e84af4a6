"""Runs of training, over their steps and before against after."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vgpo.figures.style import (
    INK,
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
        axes.plot(log["step"], log["reward"], color=colour, lw=0.7, alpha=0.85)
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
        beside: Of another run, drawn thin, and where nine in ten of its steps lie as
            a band: what differs by less is noise of the steps.
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
                others = beside[f"visual/{name}"]
                place.plot(beside["step"], others, **look, lw=0.8)
                place.axhspan(*others.quantile([0.05, 0.95]), color=colour, alpha=0.13,
                              lw=0)  # fmt: skip
        place.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.22), handlelength=2.2,
            fontsize=9, ncols=len(lines), columnspacing=1.0,
        )  # fmt: skip
        place.set(title=unit, xlabel="step")
    return figure


@in_style
def seeds_figure(by_seed: pd.Series, gain: pd.Series, interval) -> Figure:
    """Accuracy before and after training, a line per seed; and which method is ahead,
    seed by seed.

    Args:
        by_seed: Index levels ``method``, ``when``, ``seed``.
        gain: Of each seed, the accuracy of one method less that of the other, named
            by what it is.
        interval: Mean of ``gain`` with the ends of its 95 % interval, first of all.
    """
    methods = list(by_seed.index.unique("method"))
    figure, (axes, ahead) = plt.subplots(
        1, 2, figsize=(7.4, 3.0), width_ratios=(1.35, 1), layout="constrained"
    )
    for i, method in enumerate(methods):
        table = by_seed[method].unstack("when")
        for _, row in table.iterrows():
            axes.plot(
                [i - 0.22, i + 0.22], [row["before"], row["after"]],
                **line_look(METHOD_COLOURS[method]), lw=1.2,
            )  # fmt: skip
    axes.text(-0.27, by_seed[methods[0], "before"].mean(), "before", va="center",
              ha="right")  # fmt: skip
    axes.text(i + 0.27, table["after"].mean(), "after", va="center")
    axes.set_xticks(range(len(methods)), [m.upper() for m in methods])
    axes.set_xlim(-0.8, len(methods) - 0.3)
    axes.set(ylabel="sampled accuracy, held out", ylim=(0, 1))
    _ahead(ahead, gain, interval)
    return figure


def _ahead(axes: Axes, gain: pd.Series, interval) -> None:
    """A difference per seed, and under them the mean with its interval."""
    mean, low, high = interval[:3]
    names = [f"seed {seed}" for seed in gain.index]
    axes.axvline(0, color=INK, lw=0.8)
    axes.plot(gain, range(len(gain)), "o", color=PALETTE[1], ms=6)
    axes.plot([low, high], [len(gain)] * 2, color=INK, lw=1.8)
    axes.plot(mean, len(gain), "D", color=INK, ms=6)
    axes.set_yticks(range(len(gain) + 1), [*names, "mean, 95 %"])
    axes.set_ylim(len(gain) + 0.5, -0.5)
    axes.margins(x=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel(str(gain.name))
