"""Tables and figures of recorded trainings."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.conftest import ROOT
from vgpo import figures
from vgpo.studies import evidence
from vgpo.studies.experiments.grid import RECIPES, read_grid
from vgpo.studies.experiments.records import grid_records, outcome_table

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
    further = sum(grid.further_seeds.values())
    assert row["planned"] == len(grid.arms) * len(grid.seeds) + further
    # The headline's cells count, up to as many seeds as are planned here.
    first = [f"{a} {len(grid.seeds_of(a))}" for a in ("dapo", "vgpo_token")]
    assert row["seeds"].startswith(", ".join(first))
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
    vgpo = curves.assign(arm="vgpo", reward=curves["reward"] + [0, 0, 0.1, 0.1])
    course = evidence.course(pd.concat([curves, vgpo]), "reward", "dapo", window=1)
    figure = figures.course_figure(course, "dapo", "reward")
    whole, less = figure.axes
    np.testing.assert_allclose(whole.lines[0].get_ydata(), [0.2, 0.3])
    np.testing.assert_allclose(less.lines[-1].get_ydata(), [0.05, 0.05])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["dapo (2 seeds)", "vgpo (2 seeds)"]
    answers = {"before": pd.DataFrame({"x": [0.1, 0.3]}),
               "dapo": pd.DataFrame({"x": [0.2, 0.4]})}  # fmt: skip
    axes = figures.attention_shift_figure(answers, {"x": "all"}).axes[0]
    np.testing.assert_allclose(axes.lines[1].get_xdata(), [0.2, 0.4])


def test_the_course_is_a_t_interval_step_by_step_of_smoothed_runs():
    rng = np.random.default_rng(1)
    values = {
        (arm, seed): rng.normal(size=5)
        for arm, seeds in (("dapo", 4), ("vgpo", 3), ("one", 1))
        for seed in range(seeds)
    }
    curves = pd.concat(
        pd.DataFrame({"arm": arm, "seed": seed, "step": range(1, 6), "x": line})
        for (arm, seed), line in values.items()
    )
    found = evidence.course(curves, "x", "dapo").set_index(["arm", "step"])
    assert list(found.index.unique("arm")) == ["dapo", "vgpo", "one"]
    # By hand: the mean of each step and its neighbours, three in the middle, two at
    # an end.
    smooth = {
        run: [line[max(0, i - 1) : i + 2].mean() for i in range(5)]
        for run, line in values.items()
    }
    for step in (1, 3, 5):
        own = [smooth["vgpo", seed][step - 1] for seed in range(3)]
        less = [own[seed] - smooth["dapo", seed][step - 1] for seed in range(3)]
        for name, prefix, sample in (("value", "", own), ("difference", "difference_",
                                                          less)):  # fmt: skip
            row = found.loc["vgpo", step]
            ends = stats.t.interval(
                0.95, 2, loc=np.mean(sample), scale=stats.sem(sample)
            )
            assert row[name] == pytest.approx(np.mean(sample))
            assert (row[f"{prefix}low"], row[f"{prefix}high"]) == pytest.approx(ends)
    assert found.loc["dapo", "difference"].isna().all()
    assert (
        found.loc["one", "low"].isna().all() and found.loc["one", "value"].notna().all()
    )
    assert found["seeds"].groupby("arm").first().to_dict() == {
        "dapo": 4, "vgpo": 3, "one": 1
    }  # fmt: skip
    plain = evidence.course(curves, "x", "dapo", window=1)
    assert plain.loc[plain["arm"] == "one", "value"].tolist() == pytest.approx(
        values["one", 0].tolist()
    )


def test_a_course_needs_its_baseline():
    curves = pd.DataFrame({"arm": ["vgpo"], "seed": [0], "step": [1], "x": [0.1]})
    with pytest.raises(ValueError, match="baseline: no run of 'dapo'"):
        evidence.course(curves, "x", "dapo")
    with pytest.raises(ValueError, match="window: must be at least 1"):
        evidence.course(curves, "x", "vgpo", window=0)


PLANNED = ["papo", "vppo", "gpg"]
NOISE = [0.003, -0.002, 0.001, -0.003, 0.002, -0.001]


def runs_of(gains, commits=None):
    rows = [
        ("w", "s", arm, seed, "reward/area", 0.5 + gain, 0.4,
         frozenset({(commits or {}).get(arm, "c")}))
        for arm, some in gains.items()
        for seed, gain in enumerate(some)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=evidence.COLUMNS)


def planned(outcomes, arms=PLANNED):
    return evidence.planned_table(outcomes, arms, "dapo", "reward/area")


def test_of_what_was_not_run_every_arm_has_a_row_that_says_so():
    for outcomes in (runs_of({}), runs_of({"dapo": NOISE})):
        table = planned(outcomes)
        assert table.index.tolist() == PLANNED
        assert (table["verdict"] == "not run").all()
        assert (table["seeds"] == 0).all() and table["difference"].isna().all()
        assert evidence.in_words(table, "dapo") == [
            "Not run, so that nothing can be said of them: papo, vppo, gpg."
        ]


def test_one_seed_is_a_difference_without_interval_and_verdict():
    table = planned(runs_of({"dapo": NOISE, "papo": [0.1]}))
    row = table.loc["papo"]
    assert row["seeds"] == 1 and row["difference"] == pytest.approx(0.1 - NOISE[0])
    assert np.isnan(row["low"]) and np.isnan(row["p_corrected"])
    first, second = evidence.in_words(table, "dapo")
    assert first == "papo less dapo: +0.097, one seed, so no interval and no verdict."
    assert second.endswith("vppo, gpg.")


def test_six_seeds_of_three_arms_cannot_find_a_difference_and_say_so():
    far = [0.1, 0.11, 0.12, 0.1, 0.11, 0.13]
    gains = {"dapo": NOISE, "papo": far, "vppo": NOISE[::-1], "gpg": far[::-1]}
    table = planned(runs_of(gains, {"vppo": "d"}))
    assert table["verdict"].tolist() == [
        "not decided", "no effect within the margin", "not decided"
    ]  # fmt: skip
    # All six of one sign: 2 of 64 ways; Holm over three arms.
    assert table.loc["papo", "smallest_p"] == pytest.approx(3 * 2 / 64)
    *_, mixed, gpg, powerless = evidence.in_words(table, "dapo")
    assert mixed.endswith("; 6 pairs of different commits.") and "gpg" in gpg
    assert "a corrected p of 0.09 at best" in powerless
    alone = planned(runs_of({"dapo": NOISE, "papo": far}), ["papo"])
    (said,) = evidence.in_words(alone, "dapo")
    assert said.endswith("6 seeds: difference found.")


def test_what_is_said_is_wrapped_loses_no_word_and_names_what_it_is_about():
    said = ["vgpo_token less dapo: " + "-0.012 " * 20 + "end.", "Short."]
    page = evidence.wrapped(said, about="reward")
    assert max(map(len, page.splitlines())) <= 78
    first, second = page.split("\nreward: ")
    assert first.split() == f"reward: {said[0]}".split() and second == said[1]
    assert evidence.wrapped(said[1:]) == "Short." and evidence.wrapped([]) == ""


def test_cells_of_the_headline_count_for_the_neighbours():
    plan = read_grid(ROOT / RECIPES / "neighbours.yaml")
    outcomes = outcome_table(grid_records(plan, HEADLINE.parent))
    others = [arm for arm in plan.arms if arm != "dapo"]
    table = evidence.planned_table(outcomes, others, "dapo", "reward/area")
    assert table.index.tolist() == others

    def reward(grid, arm, seed):
        cell = f"look_away-shipped-{arm}-seed{seed}"
        record = json.loads((HEADLINE.parent / grid / cell / "record.json").read_text())
        return record["outcomes"]["reward/area"]

    # A cell of the grid itself goes before one of another that has the same arm.
    for arm, grid in (("vgpo_token", "neighbours"), ("vgpo_prediction", "headline")):
        assert (
            HEADLINE.parent / "headline" / f"look_away-shipped-{arm}-seed0"
        ).is_dir()
        less = [
            reward(grid, arm, seed) - reward("neighbours", "dapo", seed)
            for seed in plan.seeds
        ]
        assert table.loc[arm, "seeds"] == 6
        assert table.loc[arm, "difference"] == pytest.approx(np.mean(less))


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
