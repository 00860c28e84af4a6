"""Tables and figures of recorded trainings."""

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT
from vgpo import figures
from vgpo.studies import evidence
from vgpo.studies.experiments.grid import RECIPES, read_grid
from vgpo.studies.experiments.records import outcome_table

HEADLINE = ROOT / "results" / "experiments" / "headline"


@pytest.fixture(scope="module")
def outcomes():
    rng = np.random.default_rng(0)
    rows = [
        (arm, seed, outcome, rng.normal(0.8 + shift, 0.01), 0.5)
        for arm, shift, seeds in (("dapo", 0, 6), ("vgpo", 0.1, 6), ("oracle", 0.2, 1))
        for seed in range(seeds)
        for outcome in ("reward/area", "accuracy/sampled", "accuracy/greedy")
    ]
    table = pd.DataFrame(rows, columns=["arm", "seed", "outcome", "value", "before"])
    about = {"world": "w", "setting": "s", "wording": "shipped"}
    return table.assign(**about, commits=[frozenset({"a"})] * len(table))


def test_an_arm_of_one_seed_has_a_difference_and_no_interval(outcomes):
    table = evidence.compared(outcomes, "reward/area", "dapo").set_index("arm")
    assert list(table.index) == ["vgpo", "oracle"]
    assert np.isfinite(
        table.loc["vgpo", ["low", "high", "p_corrected"]].astype(float)
    ).all()
    assert table.loc["oracle", "verdict"] == "one seed"
    assert np.isnan(table.loc["oracle", "low"])
    values = outcomes[outcomes["outcome"] == "reward/area"].set_index(["arm", "seed"])
    first = values["value"]
    assert table.loc["oracle", "difference"] == pytest.approx(
        first["oracle", 0] - first["dapo", 0]
    )
    # It does not count as a comparison: one p-value, so no correction.
    assert table.loc["vgpo", "p_corrected"] == table.loc["vgpo", "p_value"]


def test_before_and_after_over_seeds(outcomes):
    table = evidence.before_and_after(outcomes, {"accuracy/greedy": "greedy"})
    assert table["part"].unique().tolist() == ["greedy"]
    row = table.set_index("arm").loc["vgpo"]
    mine = outcomes.query("arm == 'vgpo' and outcome == 'accuracy/greedy'")["value"]
    assert row["value"] == pytest.approx(mine.mean())
    assert row["low"] < row["value"] < row["high"] and row["before"] == 0.5
    assert np.isnan(table.set_index("arm").loc["oracle", "low"])


def test_planned_and_not_recorded(tmp_path):
    grid = read_grid(ROOT / RECIPES / "ablations.yaml")
    (row,) = evidence.planned_cells(grid, HEADLINE.parent).to_dict("records")
    assert row["planned"] == len(grid.arms) * len(grid.seeds)
    # The headline's cells count, up to as many seeds as are planned here.
    assert row["seeds"].startswith("dapo 6, vgpo_token 6, vgpo_prediction 6")
    assert 18 <= row["cells"] <= row["planned"]
    (row,) = evidence.planned_cells(grid, tmp_path).to_dict("records")
    assert (row["cells"], row["seeds"]) == (0, "")
    words = read_grid(ROOT / RECIPES / "headline_words.yaml")
    places = evidence.planned_cells(words, tmp_path)
    # The misread world has no words that decide.
    planned = places.groupby("world")["planned"].sum().to_dict()
    assert planned == {"look_away": 120, "misread": 100}


def test_recorded_cells_know_what_was_before():
    table = outcome_table(HEADLINE)
    parts = evidence.before_and_after(table, evidence.PARTS)
    assert parts["before"].between(0, 1).all()
    assert set(parts["part"]) == set(evidence.PARTS.values())


def test_figures_of_arms_say_how_many_seeds(outcomes):
    tables = {"reward": evidence.compared(outcomes, "reward/area", "dapo")}
    axes = figures.arms_figure(tables, "dapo").axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["vgpo (6)", "oracle (1)"]
    assert axes.get_xlabel() == "less dapo"


def test_other_figures_draw_what_they_are_given(outcomes):
    parts = evidence.before_and_after(outcomes, {"accuracy/greedy": "greedy"})
    axes = figures.before_after_figure(parts, ["dapo", "vgpo"]).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["greedy"]
    sweep = evidence.before_and_after(
        outcomes, {"accuracy/greedy": 0.0, "accuracy/sampled": 1.0}, "temperature"
    )
    axes = figures.temperature_figure(sweep, ["dapo", "vgpo"]).axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["greedy", "1"]
    curves = pd.DataFrame({"arm": "dapo", "seed": [0, 0, 1, 1], "step": [1, 2, 1, 2],
                           "reward": [0.1, 0.2, 0.3, 0.4]})  # fmt: skip
    axes = figures.arm_curves_figure(curves, "reward", "reward").axes[0]
    mean = axes.lines[-1]
    np.testing.assert_allclose(mean.get_ydata(), [0.2, 0.3])
    answers = {"before": pd.DataFrame({"x": [0.1, 0.3]}),
               "dapo": pd.DataFrame({"x": [0.2, 0.4]})}  # fmt: skip
    axes = figures.attention_shift_figure(answers, {"x": "all"}).axes[0]
    np.testing.assert_allclose(axes.lines[1].get_xdata(), [0.2, 0.4])


def test_a_forest_has_a_row_per_draw_and_the_pooled_ones():
    table = pd.DataFrame(
        {
            "question_seed": [60, 61, "pooled", "over seeds"] * 2,
            "null": ["trained"] * 4 + ["untrained"] * 4,
            "difference": [0.1, 0.2, 0.15, 0.15, 0, 0, 0, 0],
            "low": -0.1,
            "high": 0.3,
        }
    )
    axes = figures.forest_figure({"misread": table}, paper=0.148).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["60", "61", "pooled", "over seeds"]
    lines = {"asked": pd.DataFrame({"value": [0.9, 0.8], "low": 0.7, "high": 1.0},
                                   index=[0.0, 1.0])}  # fmt: skip
    axes = figures.probe_figure({"misread": lines}, "right", "part").axes[0]
    assert axes.get_ylabel() == "right" and axes.get_title(loc="left") == "misread"
