"""The five criteria: each against a count by hand, and on the shipped cold starts."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT
from vgpo.studies.worlds import (
    WorldStudy,
    answers_table,
    auroc_same_place,
    criteria,
    main,
    measure,
    stands_for_a_colour,
    text_rules,
)
from vgpo.testbed import WORLDS, LookAwayWorld, World, load_tiny
from vgpo.testbed.look_away import LOOKS, RECALLS

SMALL = WorldStudy(
    questions=14, samples=5, accuracy_questions=30, seed=5, resamples=200
)


def pairs_won(scores, positive, place):
    """AUROC within places, pair by pair."""
    won = [
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
        for i in range(len(scores))
        for j in range(len(scores))
        if place[i] == place[j] and positive[i] and not positive[j]
    ]
    return np.mean(won)


def test_only_pairs_of_the_same_place_are_compared():
    draw = np.random.default_rng(0)
    place = draw.integers(0, 4, 60)
    scores = draw.integers(0, 5, 60) + 10 * place
    positive = draw.random(60) < 0.2 + 0.2 * place
    found = auroc_same_place(scores, positive, place, np.arange(60) // 3, resamples=50)
    assert found.value == pytest.approx(pairs_won(scores, positive, place))
    assert found.low <= found.value <= found.high and found.count == 20


def test_without_a_place_of_both_kinds_there_is_no_auroc():
    found = auroc_same_place([1, 2], [True, False], [1, 2], [0, 1], resamples=5)
    assert np.isnan(found.value)


def as_table(example):
    """The columns of a token table that need no model, of a reference chain."""
    return pd.DataFrame(
        {
            "row": 0,
            "token": [t.text for t in example.chain],
            "source": [t.source for t in example.chain],
            "truth": [t.truth for t in example.chain],
        }
    )


@pytest.mark.parametrize("family", ["sum", "count", "compare", "chart"])
@pytest.mark.parametrize("world", [World(), LookAwayWorld(forgetfulness=0.7)])
def test_values_of_colours_are_found_wherever_they_come_from(world, family):
    for index in range(30):
        example = world.example(index, family=family)
        texts = [t.text for t in example.chain]
        named = {f" {colour}" for colour in example.colours}
        named |= {f" {colour}" for colour, _ in getattr(example, "given", ())}
        expected = [
            i >= 2 and texts[i - 1] == " =" and texts[i - 2] in named
            for i in range(len(texts))
        ]
        assert stands_for_a_colour(as_table(example)).tolist() == expected


def written_chains():
    """Look-away chains as a table, the scores of a seer beside them."""
    world = LookAwayWorld(forgetfulness=0.7)
    parts = []
    for index, example in enumerate(world.examples(60, ("sum", "count"))):
        looked = [t.source == "image" for t in example.chain]
        parts.append(
            as_table(example).assign(
                row=index,
                question=index,
                image=np.array(looked, dtype=float),
                focus_prediction=0.5,
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_rules_on_the_text_are_graded_as_counted_by_hand():
    table = written_chains()
    found = text_rules(table, WorldStudy(resamples=20))
    values = table[stands_for_a_colour(table)]
    number_after_equals = table["token"].str.fullmatch(r" \d+") & (
        table.groupby("row")["token"].shift(1) == " ="
    )
    looked, others = values["source"] == "image", values["source"] != "image"
    results = number_after_equals.sum() - len(values)
    # "A colour before the =": all that were looked up, and the others of the values.
    share = others.sum() / (others.sum() + results)
    assert found["colour"].value == pytest.approx(1 - share / 2)
    assert found["equals"].value == 0.5
    assert found["image"].value == found["colour_values_image"].value == 1.0
    assert found["focus_prediction"].value == 0.5
    # A look word stands before each value looked up or quoted, and without small talk
    # before no other.
    quoted = (values["source"] == "question").sum() / others.sum()
    assert found["colour_values_look_word"].value == pytest.approx(1 - quoted / 2)
    assert looked.any() and set(LOOKS).isdisjoint(RECALLS)


def measured(**changes):
    def at(value, low=0.0, high=1.0):
        return {"value": value, "low": low, "high": high}

    base = {
        "late_reads": {"on_tile": at(0.8), "focus_prediction": at(0.5)},
        "ratio": {"difference": at(0.1, 0.05, 0.2)},
        "place_correlation": at(-0.4, -0.5, -0.3),
        "accuracy": {"all": {"1.0": at(0.4), "0.6": at(0.5), "0.0": at(0.45)}},
        "text_rules": {
            "colour": at(0.6),
            "colour_values_look_word": at(0.6),
            "colour_values_learned": at(0.7),
        },
    }
    return base | changes


def verdicts(**changes):
    table = criteria(measured(**changes), supervised=0.95)
    return table.groupby("criterion")["met"].all().to_dict()


def test_a_world_that_meets_all_criteria_is_said_to():
    assert verdicts() == dict.fromkeys("abcde", True)


@pytest.mark.parametrize(
    ("criterion", "changes"),
    [
        ("a", {"late_reads": {n: {"value": 0.6, "low": 0.5, "high": 0.7}
                              for n in ("on_tile", "focus_prediction")}}),
        ("b", {"ratio": {"difference": {"value": 0.1, "low": -0.01, "high": 0.2}}}),
        ("c", {"place_correlation": {"value": -0.1, "low": -0.3, "high": 0.1}}),
        ("d", {"accuracy": {"all": {
            "1.0": {"value": 0.4, "low": 0, "high": 1},
            "0.0": {"value": 0.8, "low": 0, "high": 1}}}}),
        ("e", {"text_rules": {n: {"value": np.nan, "low": np.nan, "high": np.nan}
                              for n in ("colour", "colour_values_look_word",
                                        "colour_values_learned")}}),
    ],
)  # fmt: skip
def test_each_criterion_fails_by_its_own_number(criterion, changes):
    found = verdicts(**changes)
    assert not found.pop(criterion) and all(found.values())


def test_teaching_without_the_lapse_has_to_reach_nine_tenths():
    assert not criteria(measured(), supervised=0.85)["met"].all()
    assert criteria(measured())["met"].all()


def recorded(world):
    return json.loads((ROOT / "results" / "worlds" / f"{world}.json").read_text())


@pytest.mark.parametrize(
    ("world", "not_met"),
    [("look_away", []), ("look_away_wordy", ["accuracy, greedy"])],
)
def test_the_records_say_which_criteria_a_world_meets(world, not_met):
    record = recorded(world)
    taught = record["measured"].get("supervised")
    table = criteria(record["measured"], taught and taught["all"]["0.0"]["value"])
    assert table.loc[~table["met"], "quantity"].tolist() == not_met
    assert table["met"].tolist() == [row["met"] for row in record["criteria"]]
    # The one that is not met misses its limit by less than its own interval is wide.
    for row in table[~table["met"]].itertuples():
        assert row.low < 0.6 < row.high


def errors_apart(sample, recorded):
    """How many standard errors a small sample's number lies from the recorded one.

    The record's own follows from its interval; the sample's, from how few questions it
    has of the same kind.
    """
    error = (recorded["high"] - recorded["low"]) / (2 * 1.96)
    both = error * np.sqrt(1 + recorded["count"] / sample["count"])
    return abs(sample["value"] - recorded["value"]) / both


@pytest.mark.slow
@pytest.mark.parametrize("world", ["look_away", "look_away_wordy"])
def test_cold_starts_that_look_away_do_what_their_record_says(world):
    """All five criteria, of which `look_away_wordy` misses one, (d) when greedy.

    The limits themselves are checked in the record, which has some hundred questions
    for each of these. Here a sample of 28 questions, or 60 of accuracy, has to agree
    with it within three standard errors; and with a limit, where that is further away
    than so many. Not so (b), whose interval takes more questions to leave 0, and the
    nine tenths of (d), which are of weights that are not shipped.
    """
    found = measure(*load_tiny(world), WORLDS[world], SMALL)
    record = recorded(world)["measured"]
    pairs = {
        name: (found["late_reads"][name], record["late_reads"][name])
        for name in ("on_tile", "focus_prediction")
    }
    pairs["ratio"] = (found["ratio"]["difference"], record["ratio"]["difference"])
    pairs["place"] = (found["place_correlation"], record["place_correlation"])
    for temperature, at in found["accuracy"]["all"].items():
        pairs[f"accuracy {temperature}"] = (at, record["accuracy"]["all"][temperature])
    for rule in ("colour", "colour_values_look_word", "colour_values_learned"):
        pairs[rule] = (found["text_rules"][rule], record["text_rules"][rule])
    apart = {name: errors_apart(*pair) for name, pair in pairs.items()}
    assert max(apart.values()) < 3, apart

    on_tile = found["late_reads"]["on_tile"]
    assert on_tile["value"] > 0.7 and on_tile["right"] > 5 * on_tile["wrong"]
    assert found["late_reads"]["focus_prediction"]["value"] > 0.55
    assert found["ratio"]["difference"]["value"] > 0
    assert found["place_correlation"]["high"] < 0
    looked = [place["looked"] for place in found["places"]]
    assert looked[0] > 0.9 and looked[3] < 0.6
    for at in found["accuracy"]["all"].values():
        # Two standard errors of 60 answers around the limits: 2 sqrt(.25 / 60) = .13.
        assert 0.3 - 0.13 < at["value"] < 0.6 + 0.13
    assert found["text_rules"]["colour_values_look_word"]["value"] < 0.7
    assert found["text_rules"]["colour_values_image"]["value"] > 0.95
    assert 0.3 < found["quoted_share"] < 0.6
    assert found["mean_length"] == pytest.approx(record["mean_length"], rel=0.15)


@pytest.mark.slow
def test_in_the_first_world_wrong_reads_look_as_right_ones_do():
    found = measure(*load_tiny("misread"), WORLDS["misread"], SMALL)
    assert all(place["looked"] == 1 for place in found["places"])
    on_tile = found["late_reads"]["on_tile"]
    assert on_tile["low"] < 0.6 and on_tile["wrong"] > 0.8 * on_tile["right"]
    table = criteria(found)
    met = table.groupby("criterion")["met"].all()
    assert not met["a"] and not met["d"] and not met["e"]
    assert np.isnan(found["text_rules"]["colour_values_look_word"]["value"])


def test_answers_of_other_lengths_get_their_own_attention():
    model, processor = load_tiny("look_away")
    examples = WORLDS["look_away"].examples(3, ("sum", "count"), split="heldout")
    texts = [example.completion for example in examples]
    table = answers_table(model, processor, examples, texts)
    for row in (0, 3):
        alone = answers_table(model, processor, [examples[row]], [texts[row]])
        mine = table[table["row"] == row].reset_index(drop=True)
        for name in ("image", "on_tile", "focus_prediction"):
            np.testing.assert_allclose(mine[name], alone[name], atol=1e-5)
    assert table["image"].between(0, 1).all()
    assert (table["on_tile"].notna() == table["tiles"].map(len).gt(0)).all()
    assert (table["on_tile"].dropna() <= table["image"][table["on_tile"].notna()]).all()


@pytest.mark.slow
def test_the_command_writes_the_record(tmp_path, capsys):
    words = ["--world", "look_away", "--questions", "2", "--samples", "2"]
    words += ["--accuracy-questions", "2", "--output", str(tmp_path)]
    main(words)
    record = json.loads((tmp_path / "look_away.json").read_text())
    assert {row["criterion"] for row in record["criteria"]} == set("abcde")
    assert record["threads"] == 1 and record["study"]["samples"] == 2
    assert "late/early ratio" in capsys.readouterr().out


def test_wrong_settings_are_named(tmp_path, capsys):
    with pytest.raises(ValueError, match="samples"):
        WorldStudy(samples=1)
    with pytest.raises(SystemExit):
        main(["--world", "look_away", "--questions", "1", "--output", str(tmp_path)])
    assert "questions" in capsys.readouterr().err
