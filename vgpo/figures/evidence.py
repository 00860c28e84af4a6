"""What trainings did: arms against a baseline, before and after."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from vgpo.figures.style import INK, MARKS, PALETTE, in_style, line_look

_LINES = ["-", "--", "-.", ":"]


def difference_mark(axes, y: int, row: pd.Series, size: float) -> None:
    """A row of a forest: its ``difference``, with ``low`` and ``high`` if it has them.

    Without an interval the mark is empty.
    """
    known = np.isfinite(row["low"])
    if known:
        axes.plot([row["low"], row["high"]], [y, y], color=INK, lw=1.8)
    axes.plot(
        row["difference"], y, "o", ms=size, color=PALETTE[0],
        mfc=PALETTE[0] if known else "none",
    )  # fmt: skip


@in_style
def arms_figure(tables: Mapping[str, pd.DataFrame], baseline: str) -> Figure:
    """Each arm less the baseline, a panel per outcome.

    Args:
        tables: Name of an outcome -> rows with ``arm``, ``difference``, ``low``,
            ``high`` (NaN for one seed, whose mark is empty) and ``seeds``.
        baseline: What the differences are to.
    """
    arms = list(dict.fromkeys(arm for table in tables.values() for arm in table["arm"]))
    figure, places = plt.subplots(
        1, len(tables), figsize=(7.6, 1.2 + 0.34 * len(arms)), layout="constrained",
        sharey=True, squeeze=False,
    )  # fmt: skip
    for axes, (name, table) in zip(places[0], tables.items(), strict=True):
        for y, arm in enumerate(arms):
            for _, row in table[table["arm"] == arm].iterrows():
                difference_mark(axes, y, row, size=7)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_title(name, loc="left")
        axes.set_xlabel(f"less {baseline}")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.2g}"))
    seeds = {arm: 0 for arm in arms}
    for table in tables.values():
        seeds |= dict(zip(table["arm"], table["seeds"], strict=True))
    labels = [f"{arm} ({seeds[arm]:.0f})" for arm in arms]
    places[0, 0].set_yticks(range(len(arms)), labels)
    places[0, 0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


@in_style
def course_figure(course: pd.DataFrame, baseline: str, ylabel: str) -> Figure:
    """A logged number over the steps by arm, and beside it the paired difference from
    the baseline; bands are 95 % intervals over seeds, step by step.

    Args:
        course: From :func:`vgpo.studies.evidence.course`; an arm without an interval
            has a line and no band.
        baseline: What the differences are to.
        ylabel: What the number is.
    """
    figure, (whole, less) = plt.subplots(1, 2, figsize=(7.6, 3.6), layout="constrained")
    less.axhline(0, color=INK, lw=0.8)
    for i, (arm, mine) in enumerate(course.groupby("arm", sort=False)):
        look = line_look(PALETTE[i % len(PALETTE)], marks=False)
        seeds = mine["seeds"].iloc[0]
        name = f"{arm} ({seeds} seed{'s' if seeds > 1 else ''})"
        for axes, value, low, high in (
            (whole, "value", "low", "high"),
            (less, "difference", "difference_low", "difference_high"),
        ):
            axes.plot(mine["step"], mine[value], **look, lw=2,
                      label=name if axes is whole else None)  # fmt: skip
            axes.fill_between(mine["step"], mine[low], mine[high], lw=0, alpha=0.16,
                              color=look["color"])  # fmt: skip
    whole.set(xlabel="step", ylabel=ylabel)
    less.set(xlabel="step")
    less.set_title(f"less {baseline}, seed by seed", loc="left")
    figure.legend(loc="outside upper center", ncols=3, fontsize=9)
    return figure


@in_style
def before_after_figure(table: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Shares of right answers before and after, a row per part of the evaluation.

    Args:
        table: Rows ``part``, ``arm``, ``before``, ``value``, ``low`` and ``high``
            (over seeds; NaN for one).
        arms: Which, in their order.
    """
    parts = list(dict.fromkeys(table["part"]))
    figure, axes = plt.subplots(
        figsize=(7.4, 1.0 + 0.42 * len(parts)), layout="constrained"
    )
    for y, part in enumerate(parts):
        some = table[table["part"] == part].set_index("arm")
        before = some["before"].iloc[0]
        axes.plot(before, y, "|", color=INK, ms=16, mew=2.4)
        for i, arm in enumerate(arms):
            if arm not in some.index:
                continue
            at = y + 0.2 * (i - (len(arms) - 1) / 2)
            row = some.loc[arm]
            axes.plot([row["low"], row["high"]], [at, at], color=INK, lw=1.4)
            axes.plot(row["value"], at, MARKS[i % 6], color=PALETTE[i], ms=5)
    handles = [plt.Line2D([], [], marker="|", ms=12, mew=2.4, ls="", color=INK,
                          label="before")]  # fmt: skip
    handles += [
        plt.Line2D([], [], marker=MARKS[i % 6], ls="", color=PALETTE[i], label=arm)
        for i, arm in enumerate(arms)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, fontsize=9)
    axes.set_yticks(range(len(parts)), parts)
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.set(xlabel="share of right answers", xlim=(-0.02, 1.02))
    axes.grid(axis="y")
    return figure


@in_style
def temperature_figure(table: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Share of right answers over the temperature, before and after.

    Args:
        table: Rows ``temperature`` (0 is greedy), ``arm``, ``before``, ``value``.
        arms: Which, in their order.
    """
    figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    places = sorted(table["temperature"].unique())
    before = table.groupby("temperature")["before"].first()
    axes.plot(before.index, before, "o--", color=INK, mfc="none", label="before")
    for i, arm in enumerate(arms):
        mine = table[table["arm"] == arm].sort_values("temperature")
        axes.plot(
            mine["temperature"], mine["value"], f"{MARKS[i % 6]}{_LINES[i % 4]}",
            color=PALETTE[i], ms=5, label=arm,
        )  # fmt: skip
    axes.set_xticks(places, ["greedy" if t == 0 else f"{t:g}" for t in places])
    axes.set(xlabel="temperature", ylabel="share of right answers", ylim=(0.3, 1.02))
    axes.legend(fontsize=9, loc="lower left", ncols=2)
    return figure


@in_style
def attention_shift_figure(
    answers: Mapping[str, pd.DataFrame], columns: Mapping[str, str]
) -> Figure:
    """Distribution over answers of the image's share, before and after (Fig. 6).

    Args:
        answers: Name -> a row per answer, with the columns.
        columns: Column -> title of its panel.
    """
    figure, places = plt.subplots(
        1, len(columns), figsize=(7.6, 3.0), layout="constrained", squeeze=False
    )
    for axes, (column, title) in zip(places[0], columns.items(), strict=True):
        for i, (name, table) in enumerate(answers.items()):
            values = np.sort(table[column].dropna())
            colour = INK if i == 0 else PALETTE[i - 1]
            axes.step(
                values, np.arange(1, len(values) + 1) / len(values), where="post",
                color=colour, ls="--" if i == 0 else _LINES[(i - 1) % 4], label=name,
            )  # fmt: skip
        axes.set_title(title, loc="left")
        axes.set(xlabel="attention on the image", ylim=(0, 1))
    places[0, 0].set_ylabel("share of answers at or below")
    places[0, -1].legend(fontsize=9, loc="lower right")
    return figure
