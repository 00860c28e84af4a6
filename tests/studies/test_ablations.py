"""VGPO taken apart: what the tables say, whatever has been recorded."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from vgpo import figures
from vgpo.stats.arms import ONE_SEED
from vgpo.stats.seeds import FEWEST_PAIRS
from vgpo.studies import ablations, evidence
from vgpo.studies.experiments.arms import ARMS
from vgpo.studies.experiments.grid import read_grid

BASE, OUTCOME = "vgpo_token", "reward/area"
REWARDS = {
    "dapo": [0.50, 0.51, 0.55, 0.53, 0.52, 0.54],
    "vgpo_token": [0.53, 0.52, 0.56, 0.56, 0.53, 0.56],
    "vgpo_token_intra": [0.52, 0.53, 0.55, 0.55, 0.53, 0.55],
    "vgpo_token_step": [0.55, 0.54, 0.58, 0.58],
    "vgpo_token_beta_0": [0.60],
}


def outcomes_of(rewards, commits=frozenset({"a"})):
    rows = [
        ("w", "s", arm, seed, OUTCOME, value, 0.4, commits)
        for arm, values in rewards.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=evidence.COLUMNS)


def test_every_ablation_of_the_plan_is_asked_about(root):
    plan = read_grid(root / "recipes" / "experiments" / "ablations.yaml")
    for base in ("vgpo_token", "vgpo_prediction"):
        asked = ablations.arms_of(base)
        assert set(asked) == {a for a in plan.arms if a.startswith(f"{base}_")}
        assert set(asked) <= set(ARMS)


def test_against_the_method_by_hand():
    table = ablations.ablation_table(outcomes_of(REWARDS), BASE, BASE, OUTCOME)
    assert set(table.index) == set(ablations.arms_of(BASE))
    row = table.loc["vgpo_token_intra"]
    change = np.array(REWARDS["vgpo_token_intra"]) - REWARDS["vgpo_token"]
    low, high = stats.t.interval(0.95, 5, change.mean(), stats.sem(change))
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(
        (change.mean(), low, high)
    )
    assert row["seeds"] == 6 and row["part"] == "which term"
    assert row["paper"] == pytest.approx(-0.7)
    assert table.loc["vgpo_token_step", "seeds"] == 4
    one = table.loc["vgpo_token_beta_0"]
    assert one["difference"] == pytest.approx(0.07)
    assert one["verdict"] == ONE_SEED and np.isnan(one["low"])
    none = table.loc["vgpo_token_full"]
    assert none["verdict"] == evidence.NOT_RUN and none["seeds"] == 0
    assert np.isnan(none["difference"])
    # DAPO is no ablation, so Holm counts two rows.
    assert row["p_corrected"] <= 1 and "dapo" not in table.index


def test_against_another_arm_the_method_is_a_row_too():
    table = ablations.ablation_table(outcomes_of(REWARDS), BASE, "dapo", OUTCOME)
    assert table.index[0] == BASE and table.loc[BASE, "part"] == "the method"
    change = np.subtract(REWARDS["vgpo_token"], REWARDS["dapo"])
    assert table.loc[BASE, "difference"] == pytest.approx(change.mean())


@pytest.mark.parametrize(
    "rewards",
    [
        {},
        {"dapo": [0.5, 0.5]},
        {"vgpo_token": [0.5]},
        # No seed in common with the method: nothing to compare.
        {"vgpo_token": [0.5], "vgpo_token_intra": [np.nan, 0.4]},
    ],
)
@pytest.mark.parametrize("against", [BASE, "dapo"])
def test_nothing_recorded_is_a_table_that_says_so(rewards, against):
    outcomes = outcomes_of(rewards)
    table = ablations.ablation_table(outcomes, BASE, against, OUTCOME)
    assert (table["verdict"] == evidence.NOT_RUN).all()
    assert len(table) == 11 + (against != BASE)
    said = evidence.in_words(table, against)
    (line,) = said
    assert line.startswith("Not run") and all(arm in line for arm in table.index)
    assert "not run" in {
        text.get_text() for text in figures.ablations_figure({"x": table}).axes[0].texts
    }
    sweep = ablations.sweep_table(outcomes, BASE, OUTCOME)
    assert sweep["low"].isna().all()
    assert len(figures.sweeps_figure(sweep, "less").axes) == 3


def test_sentences_say_what_the_seeds_allow():
    table = ablations.ablation_table(outcomes_of(REWARDS), BASE, BASE, OUTCOME)
    said = {line.split()[0]: line for line in evidence.in_words(table, BASE)}
    assert "6 seeds" in said["vgpo_token_intra"]
    assert "4 seeds, and fewer than 6 can find nothing" in said["vgpo_token_step"]
    assert "no interval and no verdict" in said["vgpo_token_beta_0"]
    assert "fewer" not in said["vgpo_token_intra"]
    # Six seeds are the fewest that can reach .05.
    assert 2 / 2**FEWEST_PAIRS < 0.05 < 2 / 2 ** (FEWEST_PAIRS - 1)
    mixed = outcomes_of(REWARDS)
    other = mixed["arm"] == "vgpo_token_intra"
    mixed.loc[other, "commits"] = pd.Series(
        [frozenset({"b"})] * other.sum(), index=mixed.index[other]
    )
    table = ablations.ablation_table(mixed, BASE, BASE, OUTCOME)
    said = evidence.in_words(table, BASE)
    assert "6 pairs of different commits" in said[0]


def test_a_sweep_is_a_difference_to_the_methods_own_level():
    sweep = ablations.sweep_table(outcomes_of(REWARDS), BASE, OUTCOME)
    levels = sweep.groupby("number")["level"].agg(list).to_dict()
    assert levels == {
        "beta": [0, 0.3, 1],
        "gamma": [0.25, 0.5, 0.75],
        "kappa": [0.1, 0.2, 0.5],
    }
    beta = sweep[sweep["number"] == "beta"].set_index("level")
    assert beta.loc[0.0, "difference"] == pytest.approx(0.07)
    assert beta.loc[0.3, "difference"] == 0 and beta.loc[0.3, "seeds"] == 6
    assert np.isnan(beta.loc[1.0, "difference"])


@pytest.fixture(scope="module")
def rollouts():
    """Three rollouts of unequal length, with scores of our own."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        {"row": row, "t": t, "focus": score, "focus_prediction": 1 - score}
        for row, length in enumerate((6, 9, 4))
        for t, score in enumerate(torch.rand(length, generator=generator).tolist())
    ]
    return pd.DataFrame(rows)


def test_factors_of_a_group_are_what_the_formulas_say(rollouts):
    arms = [BASE, *ablations.arms_of(BASE), "vgpo_prediction"]
    factors = ablations.group_factors(rollouts, arms)
    both = factors[BASE]
    real = ~both.isnan()
    assert real.sum(1).tolist() == [6, 9, 4]
    # Every factor lies within (0, 4), and the two terms multiply.
    assert ((both[real] > 0) & (both[real] < 4)).all()
    product = factors[f"{BASE}_intra"] * factors[f"{BASE}_inter"]
    torch.testing.assert_close(product[real], both[real])
    # Intra only has mean 1 within a rollout, inter only between rollouts.
    intra, inter = factors[f"{BASE}_intra"], factors[f"{BASE}_inter"]
    torch.testing.assert_close(intra.nanmean(1), torch.ones(3))
    torch.testing.assert_close(inter[:, 0].mean(), torch.tensor(1.0))
    assert (inter.nan_to_num() == inter[:, :1] * real).all()
    # Without compensation Eq. 7-8 are a min-max of focus itself.
    focus = torch.tensor(rollouts.loc[rollouts["row"] == 1, "focus"].to_numpy())
    hat = (focus - focus.min()) / (focus.max() - focus.min())
    plain = factors[f"{BASE}_beta_0"][1]
    torch.testing.assert_close((plain / plain.nanmean()).double(), 1 + hat - hat.mean())
    assert not torch.equal(factors["vgpo_prediction"][real], both[real])


def test_what_tells_the_factors_apart(rollouts):
    arms = [BASE, f"{BASE}_inter"]
    factors = ablations.group_factors(rollouts, arms)
    reads = torch.zeros(3, 9, dtype=torch.bool)
    reads[0, :2] = True
    table = ablations.factor_table(factors, BASE, reads)
    assert table.loc[BASE, "moved"] == 0 < table.loc[f"{BASE}_inter", "moved"]
    assert table.loc[BASE, "reads"] == pytest.approx(factors[BASE][0, :2].mean().item())


def test_only_vgpo_has_these_factors():
    with pytest.raises(ValueError, match="arm must be one of VGPO, got 'papo'"):
        ablations.arm_method("papo")


def test_figures_show_what_they_are_given(rollouts):
    table = ablations.ablation_table(outcomes_of(REWARDS), BASE, BASE, OUTCOME)
    axes = figures.ablations_figure({"less the method": table}).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:2] == ["vgpo_token_intra (6)", "vgpo_token_inter (0)"]
    factors = ablations.group_factors(rollouts, [BASE, f"{BASE}_intra"])
    panels = figures.factors_figure(factors).axes
    assert [a.get_title(loc="left") for a in panels[:2]] == [BASE, f"{BASE}_intra"]
    schedules = pd.DataFrame({"linear": [0.1, 0.3], "step": [0, 0.3]}, index=[0.5, 1.0])
    axes = figures.schedules_figure(schedules, (0.25, 0.5)).axes[0]
    assert [text.get_text() for text in axes.texts] == ["γ = 0.25", "γ = 0.5"]
