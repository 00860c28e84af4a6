"""Where the released code departs from the paper."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vgpo.figures.style import GROUND, INK, MARKS, PALETTE, in_style


@in_style
def runs_figure(phi, phi_runs, correlation: float, alone) -> Figure:
    """phi among the rollouts of a prompt against phi in a run of adjacent rows.

    Args:
        phi: Among the rollouts of the prompt, (B,).
        phi_runs: In the run of rows, (B,).
        correlation: Of the two.
        alone: bool, (B,), True for rows left over in a run of their own, whose phi
            there is 0 for want of company.
    """
    figure, axes = plt.subplots(figsize=(4.2, 4.0), layout="constrained")
    axes.axhline(0, color=INK, lw=0.6)
    axes.axvline(0, color=INK, lw=0.6)
    phi, phi_runs = np.asarray(phi), np.asarray(phi_runs)
    alone = np.asarray(alone, dtype=bool)
    kinds = {"in a run of several": (~alone, 0), "left over, alone": (alone, 1)}
    for name, (chosen, i) in kinds.items():
        if chosen.any():
            axes.scatter(
                phi[chosen], phi_runs[chosen], s=12 + 14 * i, alpha=0.9,
                color=PALETTE[i], marker=MARKS[i], lw=0, rasterized=True, label=name,
            )  # fmt: skip
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.08), ncols=2, fontsize=9,
        handletextpad=0.1, columnspacing=1.0, borderaxespad=0, borderpad=0,
    )  # fmt: skip
    axes.set_title(f"r = {correlation:.2f}, {len(phi)} rollouts", loc="left")
    axes.set(
        xlabel="φ among rollouts of the prompt", ylabel="φ in the run of rows",
        xlim=(-1, 1), ylim=(-1, 1),
    )  # fmt: skip
    return figure


@in_style
def clamp_figure(factor, floor: float = 0.9) -> Figure:
    """Histogram of a factor; what a floor lifts is drawn in orange."""
    values = np.asarray(factor)
    edges = np.arange(0.0, 2.0001, 0.05).tolist()
    figure, axes = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
    axes.hist(
        values[values < floor], edges, color=PALETTE[1], lw=0, rwidth=0.9,
        hatch="////", edgecolor=GROUND,
    )  # fmt: skip
    axes.hist(values[values >= floor], edges, color=PALETTE[0], lw=0, rwidth=0.9)
    axes.axvline(floor, color=INK, lw=1.2, ls="--")
    share = (values < floor).mean()
    axes.text(
        0.02, 0.98, f"lifted to {floor}: {share:.0%}", va="top",
        color=PALETTE[1], transform=axes.get_xaxis_transform(),
    )  # fmt: skip
    axes.set(xlabel="1 + φ", ylabel="rollouts", xlim=(0, 2))
    return figure


@in_style
def departures_figure(changes: pd.DataFrame) -> Figure:
    """Mean absolute change of a token's factor by selection of departures, with
    95 % intervals over prompts; what changes nothing is named under the rows.

    Args:
        changes: A row per prompt and selection: ``selection``, ``change``.
    """
    means = changes.groupby("selection", sort=False)["change"].mean()
    nothing = means.index[means < 0.0005]  # what would be written as 0.000
    means = means.drop(nothing)
    changes = changes[changes["selection"].isin(means.index)]
    figure, axes = plt.subplots(
        figsize=(7.0, 0.9 + 0.33 * len(means)), layout="constrained"
    )
    sns.pointplot(
        changes, x="change", y="selection", errorbar=("ci", 95), n_boot=1000,
        seed=0, linestyle="none", color=PALETTE[0], markersize=6, ax=axes,
        err_kws={"linewidth": 1.6},
    )  # fmt: skip
    for y, value in enumerate(means):
        axes.annotate(
            f"{value:.3f}", (value, y), xytext=(0, 6),
            textcoords="offset points", ha="center", fontsize=8,
        )  # fmt: skip
    axes.grid(axis="y")
    below = f"\n0.000, not drawn: {'; '.join(nothing)}" if len(nothing) else ""
    axes.set(xlabel=f"mean |change| of a token's factor{below}", ylabel="")
    axes.set_xlim(left=-0.02)
    axes.margins(y=0.08)
    return figure
