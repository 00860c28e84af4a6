"""Figures of the neighbours: what is drawn is what was given."""

import numpy as np
import pandas as pd
import torch

from vgpo import figures


def test_cells_hold_numbers_where_there_are_tokens():
    mask = torch.tensor([[1, 1], [1, 0]])
    values = torch.tensor([[1.0, -0.25], [0.0, torch.nan]])
    figure = figures.shaped_figure({"one": values, "two": values}, mask)
    first, second, *others = figure.axes
    assert [text.get_text() for text in first.texts] == ["+1.00", "−0.25", "0"]
    assert second.get_title(loc="left") == "two"
    assert not any(place.texts or place.images for place in others)


def test_factors_stand_where_they_are():
    group, batch = torch.tensor([0.9, 1.1, 1.0]), torch.tensor([1.0, 1.3, 0.9])
    figure = figures.statistic_figure(group, batch, torch.tensor([0, 0, 1]))
    (points,) = figure.axes[0].collections
    np.testing.assert_allclose(points.get_offsets(), np.stack([group, batch], 1))


def test_term_and_advantage_are_drawn_with_their_tokens():
    gap = torch.linspace(-1, 2, 5)
    figure = figures.papo_figure(gap, gap**2, -gap, torch.zeros(2), torch.ones(2))
    left, right = figure.axes
    curve = left.lines[-1]
    np.testing.assert_allclose(curve.get_ydata(), gap**2)
    assert len(right.collections[0].get_offsets()) == 2


def test_each_curve_of_entropy_is_named_at_its_end():
    curves = {"flat": [2.0, 2.0, 2.0], "falls": [2.0, 1.5, 1.0]}
    (place,) = figures.entropy_term_figure(curves).axes
    assert {text.get_text() for text in place.texts} == set(curves)
    assert [list(line.get_ydata()) for line in place.lines] == list(curves.values())


def test_costs_are_points_with_limits_where_there_are_any():
    table = pd.DataFrame(
        {
            "time": [1.0, 1.3],
            "low": [1.0, 1.2],
            "high": [1.0, 1.4],
            "limit": [np.nan, 1.35],
        },
        index=["dapo", "vppo"],
    )
    left, right = figures.cost_figure({"once": table, "twice": table}).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["dapo", "vppo"]
    limits = left.collections[-1].get_offsets()
    assert np.ma.count(limits[:, 0]) == 1
    assert right.get_title(loc="left") == "twice"
