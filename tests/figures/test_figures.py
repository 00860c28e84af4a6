"""Figures: drawn in the book's style, closed, and where the numbers say."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vgpo import figures
from vgpo.figures.style import INK, in_style


def test_a_figure_is_styled_and_closed_and_the_style_ends_with_it():
    before, open_before = plt.rcParams.copy(), plt.get_fignums()

    @in_style
    def line_figure(height: float):
        """A line."""
        figure, axes = plt.subplots()
        axes.plot([0, height])
        return figure

    figure = line_figure(height=2.0)
    assert figure.axes[0].spines["left"].get_edgecolor() == pytest.approx(
        plt.matplotlib.colors.to_rgba(INK)
    )
    assert plt.get_fignums() == open_before
    assert plt.rcParams == before
    assert (line_figure.__name__, line_figure.__doc__) == ("line_figure", "A line.")


def test_every_public_figure_is_in_style():
    drawn = [name for name in figures.__all__ if name.endswith("_figure")]
    assert len(drawn) >= 38
    for name in drawn:
        assert getattr(figures, name).__wrapped__ is not None


@pytest.mark.parametrize("side", [28, 14])
def test_tiles_are_numbered_where_they_are_whatever_their_size(side):
    _, axes = plt.subplots()
    picture = Image.new("RGB", (3 * side, 2 * side))
    figures.draw_picture(axes, picture)
    assert not axes.texts
    figures.draw_picture(axes, picture, tiles=(2, 3))
    plt.close()
    places = {t.get_text(): t.get_position() for t in axes.texts}
    assert len(places) == 6
    assert places["4"] == (side + 1, side + 1)


def chain(length: int, first_of_tail: int) -> pd.DataFrame:
    place = np.arange(length)
    return pd.DataFrame(
        {
            "token": [f" w{i}" for i in place],
            "source": "text",
            "focus": 0.5,
            "weight": 0.5,
            "tail": place >= first_of_tail,
            "gated": False,
        }
    )


@pytest.mark.parametrize(("first", "edges"), [(3, (3.5, 5.5)), (0, (0.5, 5.5))])
def test_the_grey_ground_lies_under_the_tail(first, edges):
    schedules = pd.DataFrame({"linear": np.arange(1, 6) / 5})
    panels = figures.compensation_figure(schedules, {"focus": chain(5, first)}).axes
    for axes in panels:  # the schedules, and the score
        ground = axes.patches[-1]
        assert (ground.get_x(), ground.get_x() + ground.get_width()) == edges
    without_tail = figures.compensation_figure(schedules, {"focus": chain(5, 5)}).axes
    assert len(without_tail[1].patches) == len(panels[1].patches) - 1


def test_mean_ratios_are_drawn_as_given():
    answers = pd.DataFrame(
        {"ratio": [0.5, 0.7, 0.9], "correct": [True, True, False], "of": "sum"}
    )
    means = pd.DataFrame(
        {"of": "sum", "correct": [False, True], "value": [0.9, 0.25]}
    ).assign(low=0.1, high=1.0)
    for table, group in ((means.drop(columns="of"), None), (means, "of")):
        axes = figures.ratio_figure(answers, table, group).axes[0]
        assert [t.get_text() for t in axes.texts] == ["right 0.25", "wrong 0.90"]


def test_pushed_words_stand_in_order_with_their_own_numbers():
    rollouts = [[" red", " =", " 7"], [" it"]]
    values = [[0.5, 0.0, -2.0], [1.0, 9.0, 9.0]]
    figure = figures.pushes_figure(rollouts, ["right", "wrong"], {"GRPO": values})
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written == [
        "right", "red", "+0.50", "=", "0", "7", "−2.00", "wrong", "it", "+1.00",
    ]  # fmt: skip


def test_a_long_rollout_goes_on_in_the_next_line_below():
    words = ["word"] * 30
    figure = figures.pushes_figure([words], ["right"], {"GRPO": [[1.0] * 30]}, width=40)
    places = [t.get_position() for t in figure.axes[0].texts if t.get_text() == "word"]
    heights = [y for _, y in places]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == 5
    assert max(x for x, _ in places) < 40


def test_a_run_beside_another_is_thin_and_has_its_own_numbers():
    names = ["focus_early", "focus_late", "psi_std", "phi_std", "phi_length_corr"]
    runs = [
        pd.DataFrame(
            {"step": [1, 2], "reward": 0.5}
            | {f"visual/{name}": level for name in names}
        )
        for level in (0.25, 0.75)
    ]
    alone = figures.visual_metrics_figure(runs[0])
    both = figures.visual_metrics_figure(runs[0], beside=runs[1])
    for axes, own in zip(both.axes, alone.axes, strict=True):
        thin = [line for line in axes.lines if line.get_linewidth() < 1]
        drawn = [line for line in own.lines if len(line.get_xdata())]
        assert len(thin) == len(drawn)
        assert all(line.get_ydata().tolist() == [0.75, 0.75] for line in thin)
        assert all(line.get_ydata().tolist() == [0.25, 0.25] for line in drawn)


def test_answers_that_would_press_the_others_together_are_counted():
    ratios = [0.2, 0.4, 0.6, 0.8] * 60
    table = pd.DataFrame({"ratio": ratios, "length": range(240)})
    inside = figures.ratio_length_figure(table)
    assert inside.axes[0].get_ylim()[1] > 0.8
    assert not inside.axes[0].texts
    above = figures.ratio_length_figure(pd.concat([table, table[:1].assign(ratio=9.0)]))
    assert above.axes[0].get_ylim()[1] < 1
    assert [text.get_text() for text in above.axes[0].texts] == ["1 higher, not drawn"]
