"""The scores of one answer: what ``vgpo.score`` draws."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vgpo.figures.attention import ATTENTION_COLOURS
from vgpo.figures.focus import ALIGNMENT_COLOURS
from vgpo.figures.style import INK, in_style, word_label


@in_style
def token_scores_figure(table: pd.DataFrame, per_line: int = 32) -> Figure:
    """Focus at t (dots) and at t - 1 (crosses) over the words of one answer, and below
    it the attention on the image, where that is known. Ticks mark open gates.

    Args:
        table: One row per token: ``token``, ``focus_token``, ``focus_prediction``,
            ``gate``, and perhaps ``image`` (``TokenScores.to_frame``).
        per_line: Tokens in a line of the figure.
    """
    with_attention = "image" in table
    panels = 2 if with_attention else 1
    lines = int(np.ceil(len(table) / per_line))
    figure, axes = plt.subplots(
        lines * panels, 1, figsize=(7.6, 0.5 + lines * (1.5 + 0.75 * with_attention)),
        layout="constrained", squeeze=False,
        height_ratios=([2.2, 1] if with_attention else [1]) * lines,
    )  # fmt: skip
    both = table[["focus_token", "focus_prediction"]]
    low, high = both.min().min(), both.max().max()
    margin = 0.12 * (high - low or 0.1)
    most = max(float(table["image"].max()), 1e-6) if with_attention else 1.0
    for line in range(lines):
        some = table.iloc[line * per_line : (line + 1) * per_line]
        x = np.arange(len(some))
        top = axes[line * panels, 0]
        for column, key, mark in (
            ("focus_token", "token", "o"),
            ("focus_prediction", "prediction", "x"),
        ):
            top.plot(x, some[column], mark, ms=5, mew=1.6, color=ALIGNMENT_COLOURS[key])
        open_gates = x[some["gate"].to_numpy(dtype=bool)]
        top.plot(open_gates, np.full(len(open_gates), low - margin), "|", color=INK)
        top.set(ylim=(low - 2 * margin, high + margin), ylabel="focus")
        last = top
        if with_attention:
            top.set_xticks([])
            last = axes[line * panels + 1, 0]
            last.bar(
                x, some["image"], width=0.86, lw=0, color=ATTENTION_COLOURS["image"]
            )
            last.set(ylim=(0, most), ylabel="image")
        last.set_xticks(x, map(word_label, some["token"]), rotation=90, fontsize=8)
        last.tick_params(axis="x", length=0, pad=1)
    for place in axes[:, 0]:
        place.set_xlim(-0.6, min(per_line, max(len(table), 8)) - 0.4)
    for i, (name, mark, words) in enumerate(
        (("token", "●", "state at t"), ("prediction", "×", "state at t − 1"))
    ):
        axes[0, 0].text(
            0.005 + 0.2 * i, 1.05, f"{mark} {words}", color=ALIGNMENT_COLOURS[name],
            transform=axes[0, 0].transAxes,
        )  # fmt: skip
    axes[0, 0].text(
        0.42, 1.05, "| gate open", color=INK, transform=axes[0, 0].transAxes
    )
    return figure
