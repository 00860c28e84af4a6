"""Signals, graded: against references written out, and what must hold in a world."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import vgpo
from vgpo.studies.signals import (
    AGAINST,
    grade,
    lags,
    load_measured,
    signal_table,
    summary,
)
from vgpo.studies.signals.grading import questions_of
from vgpo.studies.signals.measure import SIGNALS
from vgpo.studies.signals.methods import BONUS, METHODS, shaped_by_methods
from vgpo.studies.signals.record import SignalStudy, costs, write
from vgpo.testbed import WORLDS, load_tiny, messages
from vgpo.testbed.answers import correct


@pytest.fixture(scope="module")
def tiny():
    return load_tiny("look_away")


@pytest.fixture(scope="module")
def examples():
    world = WORLDS["look_away"]
    return world.examples(3, ("sum", "chart"), seed=90, split="heldout")


@pytest.fixture(scope="module")
def chains(examples):
    return [example.completion for example in examples]


@pytest.fixture(scope="module")
def table(tiny, examples, chains):
    return signal_table(*tiny, examples, chains, seed=3)


def test_every_signal_has_a_number_for_every_token(table, examples):
    assert len(table) == sum(len(e.chain) for e in examples)
    assert table[list(SIGNALS)].notna().all().all()
    assert (table["occlusion"] >= -1e-6).all()
    has_tiles = table["tiles"].map(len) > 0
    assert (table["occlusion_true"].notna() == has_tiles).all()


def test_signals_are_those_of_the_public_call(tiny, table, examples, chains):
    """In batches here; one conversation at a time, without the small world, there."""
    model, processor = tiny
    chat = messages(examples[1])
    chat[0]["content"][0]["image"] = examples[1].image
    theirs = vgpo.signals(model, processor, chat, chains[1])
    mine = table[table["row"] == 1].reset_index(drop=True)
    assert mine["token"].str.strip().tolist() == theirs["token"].str.strip().tolist()
    same = [
        "log_prob", "focus_token", "focus_prediction", "attention_last",
        "attention_most", "attention_mean", "layer_cosine", "entropy",
        "absolute_contrast",
    ]  # fmt: skip
    for name in same:
        np.testing.assert_allclose(mine[name], theirs[name], atol=2e-4, err_msg=name)


def test_both_alignments_are_the_same_states_one_place_apart(table):
    for _, answer in table.groupby("row"):
        for token, prediction in (
            ("focus_token", "focus_prediction"),
            ("layer_cosine", "layer_cosine_prediction"),
            ("attention_token", "attention_last"),
        ):
            np.testing.assert_allclose(
                answer[token].to_numpy()[:-1],
                answer[prediction].to_numpy()[1:],
                atol=1e-4,
            )


def test_degraded_views_leave_what_they_leave(table):
    """The contrast is the difference of the two log-probabilities; k3 follows."""
    gap = table["masked_log_prob"] - table["log_prob"]
    np.testing.assert_allclose(table["contrast"], -gap, atol=1e-4)
    k3 = np.minimum(np.exp(gap) - gap - 1, 10)
    np.testing.assert_allclose(table["k3"], k3, atol=1e-3)


def test_answers_to_one_question_share_a_masked_picture(tiny, examples):
    asked, twice = [examples[0]] * 2, [examples[0].completion] * 2
    shared = signal_table(*tiny, asked, twice, [0, 0])
    apart = signal_table(*tiny, asked, twice)
    for found, same in ((shared, True), (apart, False)):
        first, second = (found.loc[found["row"] == i, "k3"].to_numpy() for i in (0, 1))
        assert np.allclose(first, second, atol=1e-4) is same


def test_hiding_the_true_tile_is_what_a_look_feels(table):
    """The causal reference: it finds the reads, and at each of them the tile."""
    read = table["source"] == "image"
    assert table.loc[read, "finds_tile"].mean() > 0.9
    assert table.loc[read, "occlusion"].median() > 10 * (
        table.loc[~read, "occlusion"].median()
    )


def test_shuffled_scores_are_the_answers_own(table):
    for _, answer in table.groupby("row"):
        assert sorted(answer["shuffled"]) == sorted(answer["focus_prediction"])
    assert (table["shuffled"] != table["focus_prediction"]).mean() > 0.8


# Grades --------------------------------------------------------------------


def made_up() -> pd.DataFrame:
    """Two answers to one question and one to another, of six tokens each."""
    tokens = [" look", " red", " =", " 5", " .", " 8"]
    sources = ["decision", "question", "text", "image", "text", "text"]
    table = pd.DataFrame({"row": np.repeat([0, 1, 2], 6), "token": tokens * 3})
    table["source"] = sources * 3
    table.loc[9, ["source", "token"]] = ["memory", " 4"]
    table.loc[6, "token"] = " recall"
    table["truth"] = None
    table.loc[[3, 9, 15], "truth"] = [" 5", " 5", " 6"]
    table["t"] = [1, 2, 3, 4, 5, 6] * 3
    table["length"] = 6
    table["family"] = "sum"
    table["question"] = np.repeat([0, 0, 1], 6)
    table["truly"] = (table["source"] == "image").astype(float)
    table["occlusion"] = table["truly"] + 0.01 * table["t"]
    table["focus_token"] = -table["truly"]
    table["focus_prediction"] = table["truly"]
    return table


def test_each_comparison_has_the_tokens_it_says():
    table = made_up()
    found = {name: (among, positive) for name, among, positive in questions_of(table)}
    assert list(found) == list(AGAINST)
    for name, (among, positive) in {
        "numbers": ([3, 9, 15], [3, 15]),
        "looked": ([3, 9, 15], [3, 15]),
        "decides": (range(18), [0, 6, 12]),
        "chooses": ([0, 6, 12], [0, 12]),
        "faithful": ([3, 15], [3]),
    }.items():
        assert list(np.flatnonzero(found[name][0])) == list(among), name
        inside = found[name][0] & found[name][1]
        assert list(np.flatnonzero(inside)) == list(positive), name


def test_the_truth_has_grade_one_and_its_inverse_zero():
    table = made_up()
    grades = grade(table, ("truly", "focus_token"), resamples=20)
    at = grades.set_index(["against", "part", "signal"])["auroc"]
    assert at["reads", "all", "truly"] == at["looked", "all", "truly"] == 1
    assert at["reads", "all", "focus_token"] == 0
    assert at["faithful", "all", "truly"] == 0.5
    # The fourth of six tokens lies in the third fifth, beside no other.
    assert set(grades["part"]) == {"all", "sum"} | {f"fifth {i}" for i in (3,)}


def test_what_is_chosen_and_how_it_agrees():
    table = made_up()
    found = summary(table, ("truly", "focus_token"), top_ratio=0.2, resamples=20)
    value = found.set_index(["signal", "quantity"])["value"]
    # Two of six tokens are chosen in each answer; a tie goes to the earlier token.
    assert value["truly", "overlap_prediction"] == 1
    assert value["truly", "reads_chosen"] == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert value["focus_token", "reads_chosen"] == 0
    assert value["truly", "spearman"] > 0.5 > value["focus_token", "spearman"]
    assert np.isnan(value["truly", "length"])  # all answers are as long


def test_a_state_is_graded_for_what_comes_after_it():
    table = made_up()
    table["state"] = 0.0
    table.loc[[2, 14], "state"] = 1.0  # the equals sign before a look
    found = lags(table, ("state",), 1, resamples=20).set_index("lag")["auroc"]
    assert found[-1] == 1.0 and found[0] < 0.5


# Methods on one completion ---------------------------------------------------


@pytest.fixture(scope="module")
def group(tiny):
    example = WORLDS["look_away"].example(3, family="sum", seed=91, split="heldout")
    right = example.completion
    wrong = right[: right.rindex("{")] + "{99}"
    return (
        example,
        [right, wrong, wrong],
        shaped_by_methods(*tiny, example, [right, wrong, wrong]),
    )


def test_all_methods_shape_the_same_group(group):
    example, completions, shaped = group
    assert [correct(c, example) for c in completions] == [True, False, False]
    assert set(shaped.shaped) == set(METHODS)
    one = shaped.of(0)
    assert "".join(one["token"]) == completions[0]
    assert (one["DAPO"] == 1).all()
    # A factor of mean 1 over a completion, and never negative.
    for name in ("PEPO", "SRPO, our reading"):
        assert one[name].mean() == pytest.approx(1, abs=1e-4)
        assert (one[name] > 0).all()
    kept = (one["VPPO"] > 0).mean()
    assert kept == pytest.approx(math.ceil(0.4 * len(one)) / len(one))
    # Psi has mean 0 and reach 1 in a completion, phi mean 0 in a group (Eq. 7-11).
    for name in ("VGPO, state at t", "VGPO, state at t−1"):
        factors = [shaped.of(row)[name] for row in range(3)]
        assert np.mean([f.mean() for f in factors]) == pytest.approx(1, abs=1e-4)
        for factor in factors:
            reach = (factor.max() - factor.min()) / factor.mean()
            assert reach == pytest.approx(1, abs=1e-4)


def test_entropy_shaping_adds_at_most_half(group):
    _, _, shaped = group
    right, wrong = shaped.of(0)["entropy shaping"], shaped.of(1)["entropy shaping"]
    assert right.between(1, 1.5 + 1e-5).all() and wrong.between(0.5 - 1e-5, 1).all()


def test_papo_bonus_by_its_formula(group):
    _, _, shaped = group
    table = shaped.tokens[shaped.tokens["row"] == 0].sort_values("t")
    gap = (table["masked_log_prob"] - table["log_prob"]).to_numpy()
    inside = np.exp(gap) - gap - 1 <= 10
    wanted = np.where(inside, 1 - np.exp(gap), 0)
    np.testing.assert_allclose(shaped.of(0)[BONUS], wanted, atol=1e-4)


def test_a_group_without_a_difference_is_refused(tiny, group):
    example, completions, _ = group
    with pytest.raises(ValueError, match="same reward"):
        shaped_by_methods(*tiny, example, completions[1:])


# Bad input and records -------------------------------------------------------


def test_bad_input_is_named(tiny, examples, tmp_path):
    text = WORLDS["look_away"].example(0, family="text")
    with pytest.raises(ValueError, match="examples: all must have an image"):
        signal_table(*tiny, [text], [text.completion])
    with pytest.raises(ValueError, match="question: need one per example"):
        signal_table(*tiny, examples[:1], [examples[0].completion], [1, 2])
    with pytest.raises(ValueError, match="world must be one of"):
        SignalStudy(world="mars")
    with pytest.raises(ValueError, match="questions must be at least 2"):
        SignalStudy(questions=1)
    with pytest.raises(FileNotFoundError, match="make it with"):
        load_measured(tmp_path, "misread")


def test_a_record_is_written_and_read(tmp_path):
    study = SignalStudy(
        families=("sum",), questions=3, samples=2, resamples=20, steps=0,
        max_new_tokens=70,
    )  # fmt: skip
    said = []
    write(study, tmp_path, say=said.append)
    assert said == ["look_away: cold start", "look_away: cold start, untrained"]
    found = load_measured(tmp_path, "look_away")
    assert set(found.grades["stage"]) == {"cold start", "untrained"}
    assert set(found.grades["signal"]) == set(found.summary["signal"]) == set(SIGNALS)
    assert found.record["study"]["questions"] == 3
    assert {"versions", "commit", "cpu", "threads"} <= set(found.record)
    assert found.record["stages"]["cold start"]["answers"] == 6


def test_a_killed_run_goes_on_with_the_next_stage(tmp_path, monkeypatch):
    study = SignalStudy(
        families=("sum",), questions=2, resamples=20, samples=2, steps=0,
        max_new_tokens=70,
    )  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    write(study, whole, say=lambda text: None)

    def killed(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(study, cut, say=killed)
    said = []
    write(study, cut, say=said.append)
    assert said == ["look_away: cold start, untrained"]
    ours, wanted = (load_measured(folder, "look_away") for folder in (cut, whole))
    for name in ("grades", "summary", "lags"):
        pd.testing.assert_frame_equal(getattr(ours, name), getattr(wanted, name))
    assert ours.record["stages"] == wanted.record["stages"]
    # Nothing is left to do; other settings begin afresh.
    write(study, cut, say=said.append)
    assert len(said) == 1
    write(replace(study, seed=1), cut, say=said.append)
    assert said[1:] == ["look_away: cold start", "look_away: cold start, untrained"]


def test_costs_are_measured_beside_vgpo(tiny, examples, chains):
    table = costs(*tiny, examples[:2], chains[:2], repeats=1)
    assert table.set_index("measurement")["time"]["focus"] == 1
    assert (table["time"] > 0).all()
