"""Objections that need no training: what is recorded of them."""

import json

import numpy as np
import pytest

from vgpo.studies import objections
from vgpo.studies.question_seeds import ASKED
from vgpo.testbed import CHECKPOINTS, load_tiny


def asked(world, questions=2):
    return ASKED[world].examples(questions, ["sum"], seed=3, split="heldout")


@pytest.fixture(scope="module")
def misread():
    return load_tiny(CHECKPOINTS["misread"])


def test_an_unchanged_picture_would_rank_as_before_and_a_grey_one_not(misread):
    table = objections.robustness(*misread, asked("misread"), resamples=20)
    table = table.set_index("variant")
    assert len(table) == len(objections.CHANGES) + 2
    assert table["prediction"].between(-1, 1).all()
    assert table.loc["jpeg 20", "token"] > table.loc["grey picture", "token"]
    # A rule on the text does not see the picture.
    assert table["rule"].nunique() == 1 and table["rule"].between(0.5, 1).all()
    # Nothing can be read off a grey picture.
    assert table.loc["grey picture", "read_probability"] < 0.3


def test_a_model_that_is_made_to_look_names_what_the_picture_shows():
    model = load_tiny(CHECKPOINTS["look_away"])
    table = objections.still_named(
        *model, asked("look_away", 8), (" look", " recall"), seed=0, resamples=20
    ).set_index(["picture", "lead"])
    assert set(table.index) == {
        (picture, lead) for picture in ("true", "grey") for lead in ("look", "recall")
    }
    np.testing.assert_allclose(table["change"], table["end"] - table["beginning"])
    assert table.loc[("true", "look"), "end"] > table.loc[("grey", "look"), "end"]


def test_the_command_writes_what_the_ledger_may_quote(tmp_path):
    objections.record(tmp_path, questions=1, resamples=20)
    found = {
        name: json.loads((tmp_path / f"{name}.json").read_text())
        for name in ("robustness", "gate", "tile_probe")
    }
    for record in found.values():
        assert record["questions"] == 1 and "objections" in record["command"]
        assert {"commit", "changed", "threads", "seconds", "rows"} <= set(record)
    scores = {row["score"] for row in found["gate"]["rows"]}
    # Beside the score stands what finds reads without looking.
    assert scores == {"focus", "focus_prediction", "grey_prediction", "rule"}
    for row in found["gate"]["rows"]:
        # So few chains may have no interval, but they have a precision.
        assert 0 <= row["precision"] <= 1 and "precision_low" in row
    rows = found["tile_probe"]["rows"]
    places = [(row["world"], row["lead"], row["picture"]) for row in rows]
    assert len(places) == len(set(places)) == 6
