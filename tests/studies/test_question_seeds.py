"""Recorded draws of questions: complete, and equal to what they were made from."""

import json

import pandas as pd
import pytest

from tests.conftest import ROOT
from vgpo.studies.controls import NULLS
from vgpo.studies.question_seeds import (
    QuestionSeeds,
    draw,
    forests,
    main,
    question_of,
    read_answers,
    record,
    tables,
)

RECORDED = ROOT / "results" / "forgetting"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    study = QuestionSeeds("look_away", (3, 4), questions=3, rollouts=4)
    folder = tmp_path_factory.mktemp("forgetting")
    return study, record(study, folder), read_answers("look_away", folder)


def test_a_draw_asks_each_question_several_times():
    study = QuestionSeeds(questions=2, rollouts=3, families=("sum", "count"))
    asked = draw(study, 60)
    assert len(asked) == 12
    assert len({id(example.image) for example in asked}) == 12
    assert len({example.image.tobytes() for example in asked[:3]}) == 1
    assert [e.family for e in asked] == ["sum"] * 6 + ["count"] * 6
    assert asked[0].image.tobytes() != draw(study, 61)[0].image.tobytes()


def test_answers_are_written_with_their_nulls_and_provenance(small):
    _, found, answers = small
    assert len(answers) == found["answers"] == 2 * 4 * 3 * 4
    assert answers.groupby(["question_seed", "question"]).size().eq(4).all()
    assert question_of(answers).nunique() == 24
    for null in NULLS:
        assert answers[f"{null}_first"].between(0, 1).all()
    assert answers["looks"].dropna().between(0, 1).all()
    assert {"versions", "commit", "cpu", "threads", "seconds", "start"} <= set(found)
    assert found["accuracy"] == pytest.approx(answers["right"].mean(), abs=1e-6)


def test_the_same_study_gives_the_same_answers(small, tmp_path):
    study, _, answers = small
    record(study, tmp_path)
    pd.testing.assert_frame_equal(read_answers("look_away", tmp_path), answers)


@pytest.mark.parametrize("options", [
    {"world": "moon"}, {"questions": 0}, {"seeds": ()}, {"seeds": (1, 1)},
])  # fmt: skip
def test_bad_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        QuestionSeeds(**options)


def test_the_command_line_says_what_is_wrong(capsys):
    with pytest.raises(SystemExit):
        main(["--world", "misread", "--seeds", "1", "1"])
    assert "seeds: none, or one of them twice" in capsys.readouterr().err


@pytest.mark.parametrize("world", ["misread", "look_away"])
def test_recorded_tables_follow_from_the_recorded_answers(world):
    answers = read_answers(world, RECORDED)
    recorded = json.loads((RECORDED / f"{world}.json").read_text())
    assert recorded["seeds"] == [60, 61, 62, 70, 71]
    assert recorded["changed"] is False and recorded["commit"]
    assert recorded["answers"] == len(answers)
    fresh = tables(answers)
    for name in ("observations", "forests"):
        pd.testing.assert_frame_equal(
            pd.DataFrame(fresh[name]), pd.DataFrame(recorded[name]), atol=1e-5
        )
    forest = forests(answers)
    mine = forest[forest["null"] == "trained"].set_index("question_seed")
    assert mine.loc["over seeds", "count"] == 5
    # Over draws: the mean of what each draw says.
    assert mine.loc["over seeds", "difference"] == pytest.approx(
        mine["difference"].iloc[:5].mean()
    )
