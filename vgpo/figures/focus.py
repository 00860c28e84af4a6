"""The visual focus score against attention, occlusion and the truth."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vgpo.figures.reweighting import DIVERGING
from vgpo.figures.style import (
    INK,
    MARKS,
    NULL_MARKS,
    PALETTE,
    SOURCE_COLOURS,
    in_style,
    interval_bars,
    line_look,
    look_legend,
    null_look,
    word_label,
)

ALIGNMENT_COLOURS = {"token": PALETTE[1], "prediction": PALETTE[0]}
ALIGNMENT_NAMES = {"state at t": PALETTE[1], "state at t−1": PALETTE[0]}


_SOURCE_MARKS = {
    source: MARKS[PALETTE.index(colour)] for source, colour in SOURCE_COLOURS.items()
}


@in_style
def focus_chain_figure(tokens: pd.DataFrame) -> Figure:
    """Focus of each token of one completion, a panel per alignment: stems from 0.5,
    where a state is at right angles to the image, marked by the token's true source
    (rows of one completion of a token table)."""
    x = np.arange(len(tokens))
    colours = [SOURCE_COLOURS[source] for source in tokens["source"]]
    panels = {
        "focus": "state at t (“token”)",
        "focus_prediction": "state at t−1 (“prediction”): the same, one place on →",
    }
    figure, axes = plt.subplots(
        2, 1, figsize=(7.6, 3.9), sharex=True, sharey=True, layout="constrained"
    )
    for place, (column, title) in zip(axes, panels.items(), strict=True):
        place.axhline(0.5, color=INK, lw=0.8)
        place.vlines(x, 0.5, tokens[column], color=colours, lw=1.6)
        for source, mark in _SOURCE_MARKS.items():
            mine = (tokens["source"] == source).to_numpy()
            place.plot(
                x[mine], tokens[column][mine], ls="none", marker=mark, ms=4.5,
                color=SOURCE_COLOURS[source], label=source if mine.any() else None,
            )  # fmt: skip
        place.set_title(title, loc="left")
        place.set_ylabel("focus")
    words = [word_label(token) for token in tokens["token"]]
    axes[1].set_xticks(x, words, rotation=90, fontsize=8, family="monospace")
    axes[1].tick_params(axis="x", length=0)
    for word, colour in zip(axes[1].get_xticklabels(), colours, strict=True):
        word.set_color(colour)
    axes[0].legend(
        loc="lower right", bbox_to_anchor=(1, 0.98), ncols=4, handletextpad=0.1,
        columnspacing=1.0, labelcolor="linecolor", borderaxespad=0,
    )  # fmt: skip
    return figure


def _nulls(table: pd.DataFrame) -> list[str]:
    """Those of a table's scores that need no looking."""
    return [name for name in NULL_MARKS if (table["score"] == name).any()]


@in_style
def auroc_figure(by_family: pd.DataFrame, by_fifth: pd.DataFrame) -> Figure:
    """AUROC of image reads with 95 % intervals, both alignments: per family, and
    per fifth of the chain (tables of :func:`vgpo.studies.focus.auroc_by`). Scores named
    in :data:`~vgpo.figures.style.NULL_MARKS` stand beside them with empty marks."""
    figure, axes = plt.subplots(
        1, 2, figsize=(7.6, 3.1), sharey=True, layout="constrained"
    )
    nulls = _nulls(by_family)
    for place, table, shift in (
        (axes[0], by_family, 0.08),
        (axes[1], by_fifth, 0.08),
    ):
        parts = list(dict.fromkeys(table.iloc[:, 0]))
        for side, (name, colour) in zip(
            (-1, 1), ALIGNMENT_COLOURS.items(), strict=True
        ):
            mine = table[table["score"] == name]
            interval_bars(
                place, np.arange(len(parts)) + side * shift, mine["auroc"], mine,
                colour, line=place is axes[1],
            )  # fmt: skip
        for nth, name in enumerate(nulls):
            mine = table[table["score"] == name]
            x = np.arange(len(mine)) + (2.6 + 1.6 * nth) * shift
            place.plot(x, mine["auroc"], ls="none", **null_look(name))
        place.axhline(0.5, color=INK, lw=0.8, ls=":")
        place.set_xticks(range(len(parts)), parts)
        place.margins(x=0.12)
    axes[1].set_xticks(range(5)[: len(parts)], [f"{20 * (p + 1)} %" for p in parts])
    axes[0].set(ylabel="AUROC of image reads", xlabel="family", ylim=(0, 1.03))
    axes[1].set_xlabel("position in the chain, up to")
    how = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 2}
    look_legend(axes[0], ALIGNMENT_NAMES, **how)
    if nulls:
        look_legend(axes[1], {}, nulls=nulls, **how)
    return figure


@in_style
def focus_around_reads_figure(lags: pd.DataFrame) -> Figure:
    """Mean focus of the states around a value that is read, with the middle 80 % of
    reads (table of :func:`vgpo.studies.focus.focus_around_reads`)."""
    grouped = lags.groupby("lag")["focus"]
    mean, low, high = grouped.mean(), grouped.quantile(0.1), grouped.quantile(0.9)
    figure, axes = plt.subplots(figsize=(7.2, 2.9), layout="constrained")
    axes.fill_between(mean.index, low, high, color=INK, alpha=0.2, lw=0)
    axes.plot(mean.index, mean, color=INK, marker="o", ms=4)
    for lag, name, mark in ((0, "token", "o"), (-1, "prediction", "s")):
        colour = ALIGNMENT_COLOURS[name]
        axes.plot(lag, mean[lag], mark, ms=9, color=colour)
        axes.annotate(
            f"“{name}”", (lag, mean[lag]), xytext=(10, 0 if lag else -10),
            textcoords="offset points", color=colour, va="center",
        )  # fmt: skip
    names = {-2: "−2\ncolour", -1: "−1\n=", 0: "t\nvalue", 1: "+1\n. or yes/no"}
    axes.set_xticks(
        mean.index, [names.get(i, f"{i:+d}".replace("-", "−")) for i in mean.index]
    )
    axes.set(
        ylabel="focus of the state there", xlabel="position, counted from the value"
    )
    axes.margins(y=0.16)
    return figure


@in_style
def states_figure(points: pd.DataFrame) -> Figure:
    """Hidden states, a kind a colour and a mark: on two axes, and the cosine of each
    with the prototype, which two axes cannot show, on a strip per kind with its median.

    Args:
        points: ``x``, ``y``, ``cosine`` and ``kind``; kinds are drawn in the order in
            which they come.
    """
    kinds = list(dict.fromkeys(points["kind"]))
    figure, (plane, strips) = plt.subplots(
        1, 2, figsize=(7.6, 3.9), width_ratios=(1, 1.05), layout="constrained"
    )
    jitter = np.random.default_rng(0)
    for i, kind in enumerate(kinds):
        colour = PALETTE[(5, 1, 3, 2, 4, 0)[i % 6]]
        mine = points[points["kind"] == kind]
        look = {"color": colour, "marker": MARKS[PALETTE.index(colour)], "lw": 0}
        plane.scatter(mine["x"], mine["y"], s=8, alpha=0.9, rasterized=True, **look)
        y = i + jitter.uniform(-0.3, 0.1, len(mine))
        strips.scatter(mine["cosine"], y, s=7, alpha=0.9, rasterized=True, **look)
        middle = mine["cosine"].median()
        strips.plot([middle] * 2, [i - 0.4, i + 0.2], color=INK, lw=2.2)
        strips.text(
            0, i + 0.2, f"{kind} ({len(mine)})", color=colour, fontsize=9, va="top",
            transform=strips.get_yaxis_transform(),
        )  # fmt: skip
    plane.set(xlabel="first principal axis", ylabel="second", xticks=[], yticks=[])
    strips.axvline(0, color=INK, lw=0.8, ls=":")
    strips.set(xlabel="cosine with the prototype", yticks=[])
    strips.set_ylim(len(kinds) - 0.4, -0.6)
    strips.spines["left"].set_visible(False)
    return figure


@in_style
def role_auroc_figure(against: pd.DataFrame) -> Figure:
    """AUROC of values read against one other role at a time, with intervals (table
    of :func:`vgpo.studies.focus.auroc_against_roles`); empty marks as in
    :func:`auroc_figure`."""
    order = (
        against[against["score"] == "prediction"].sort_values("auroc")["role"].tolist()
    )
    figure, axes = plt.subplots(figsize=(7.2, 3.3), layout="constrained")
    for side, (name, colour) in zip((-1, 1), ALIGNMENT_COLOURS.items(), strict=True):
        mine = against[against["score"] == name].set_index("role").loc[order]
        y = np.arange(len(order)) + side * 0.13
        interval_bars(axes, y, mine["auroc"], mine, colour, horizontal=True)
    nulls = _nulls(against)
    for name in nulls:
        mine = against[against["score"] == name].set_index("role").loc[order]
        axes.plot(mine["auroc"], range(len(order)), ls="none", **null_look(name))
    look_legend(axes, ALIGNMENT_NAMES, nulls=nulls, loc="lower center",
                bbox_to_anchor=(0.5, 1), ncols=4)  # fmt: skip
    counts = against.drop_duplicates("role").set_index("role")["others"]
    axes.set_yticks(range(len(order)), [f"{r} ({counts[r]})" for r in order])
    axes.axvline(0.5, color=INK, lw=0.8, ls=":")
    axes.set(xlabel="AUROC of values read against …", xlim=(-0.03, 1.03))
    return figure


@in_style
def attention_correlation_figure(correlations: pd.DataFrame) -> Figure:
    """Pearson r of focus with image attention: over the layers where both are taken
    at one position, and in the last layer for each pair of positions, as numbers
    (:func:`vgpo.studies.focus.attention_correlations`)."""
    scopes = {"within": "within completions", "pooled": "all tokens pooled"}
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(7.6, 3.0), width_ratios=(1.5, 1), layout="constrained"
    )
    # Both at t and both at t - 1 are the same pairs but for the ends.
    same = correlations[
        (correlations["focus"] == "prediction")
        & (correlations["attention"] == "prediction")
    ]
    for i, (scope, title) in enumerate(scopes.items()):
        mine = same[same["scope"] == scope].sort_values("layer")
        x = mine["layer"] + (i - 0.5) * 0.06
        interval_bars(left, x, mine["r"], mine, PALETTE[i], line=True)
        left.plot([], [], **line_look(PALETTE[i]), label=title)
    left.axhline(0, color=INK, lw=0.8, ls=":")
    left.set_xticks(sorted(correlations["layer"].unique()))
    left.set_title("at the same position", loc="left")
    left.set(xlabel="layer of the attention, from 0", ylabel="Pearson r with focus")
    left.legend(loc="upper left", bbox_to_anchor=(0, -0.22), ncols=2, fontsize=9)
    _pairs_of_positions(right, correlations)
    return figure


def _pairs_of_positions(axes: Axes, correlations: pd.DataFrame) -> None:
    """r within completions in the last layer, for either place of either."""
    last = correlations[
        (correlations["layer"] == correlations["layer"].max())
        & (correlations["scope"] == "within")
    ].set_index(["focus", "attention"])
    names = {"token": "t", "prediction": "t−1"}
    table = np.array([[last.loc[(f, a), "r"] for a in names] for f in names])
    axes.imshow(table, cmap=DIVERGING, vmin=-1, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(table):
        row = last.loc[(list(names)[y], list(names)[x])]
        bounds = f"[{row['low']:+.2f}, {row['high']:+.2f}]"
        axes.text(x, y - 0.1, f"{value:+.2f}".replace("-", "−"), ha="center",
                  va="center", fontsize=13, color="black")  # fmt: skip
        axes.text(x, y + 0.2, bounds.replace("-", "−"), ha="center", va="center",
                  fontsize=8.5, color="black")  # fmt: skip
    axes.set_xticks((0, 1), [f"at {name}" for name in names.values()])
    axes.set_yticks((0, 1), [f"at {name}" for name in names.values()])
    axes.set(xlabel="attention", ylabel="focus")
    axes.set_title("last layer, within completions", loc="left")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


@in_style
def dependence_figure(table: pd.DataFrame) -> Figure:
    """Per role, each with a mark of its own, mean focus against the mean fall of the
    log-probability when the picture is grey, both alignments
    (:func:`vgpo.studies.focus.occlusion_table`)."""
    panels = {"focus": "state at t", "focus_prediction": "state at t−1"}
    drop = table.groupby("role")["drop_image"].mean()
    # Colours are used again after six roles, marks are not.
    looks = {
        role: (PALETTE[i % 6], [*MARKS, *"X*<>ph"][i % 12])
        for i, role in enumerate(drop.sort_values(ascending=False).index)
    }
    figure, axes = plt.subplots(
        1, 2, figsize=(7.6, 3.0), sharex=True, sharey=True, layout="constrained"
    )
    for place, (column, title) in zip(axes, panels.items(), strict=True):
        focus = table.groupby("role")[column].mean()
        for role, (colour, mark) in looks.items():
            place.plot(
                focus[role], drop[role], ls="none", marker=mark, ms=6.5, color=colour,
                label=role if place is axes[0] else None,
            )  # fmt: skip
        place.axhline(0, color=INK, lw=0.8, ls=":")
        place.set_title(title, loc="left")
        place.set_xlabel("mean focus of the role")
        place.margins(0.16)
    axes[0].set_ylabel("fall of log-probability\nwithout the picture, nats")
    figure.legend(loc="outside right center", labelcolor="linecolor", fontsize=9,
                  handletextpad=0.1)  # fmt: skip
    return figure


@in_style
def robustness_figure(summary: pd.DataFrame) -> Figure:
    """Rank correlation of the scores before and after a change of the picture, with
    intervals; beside it, whether the model can still read, and how well the score at
    t - 1 still tells reads (table of
    :func:`vgpo.studies.focus.robustness_summary`)."""
    y = np.arange(len(summary))
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(7.6, 0.9 + 0.24 * len(summary)), sharey=True,
        width_ratios=(1.5, 0.9, 1), layout="constrained",
    )  # fmt: skip
    for side, (name, colour) in zip((-1, 1), ALIGNMENT_COLOURS.items(), strict=True):
        bounds = pd.DataFrame(
            {"low": summary[f"{name}_low"], "high": summary[f"{name}_high"]}
        )
        interval_bars(
            left, y + side * 0.13, summary[name], bounds, colour, horizontal=True
        )
    look_legend(left, ALIGNMENT_NAMES, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    middle.barh(y, summary["read_probability"], height=0.6, lw=0, color=PALETTE[5])
    graded = {end: summary[f"auroc_{end}"] for end in ("low", "high")}
    interval_bars(
        right, y, summary["auroc"], pd.DataFrame(graded),
        ALIGNMENT_COLOURS["prediction"], horizontal=True,
    )  # fmt: skip
    right.axvline(0.5, color=INK, lw=0.8, ls=":")
    left.set_yticks(y, summary.index)
    left.invert_yaxis()
    left.set(xlabel="rank correlation with\nthe score before", xlim=(0, 1.02))
    middle.set(xlabel="probability of\nwhat was read", xlim=(0, 1.02))
    right.set(xlabel="AUROC of reads,\nscore at t−1", xlim=(0.45, 1.02))
    return figure
