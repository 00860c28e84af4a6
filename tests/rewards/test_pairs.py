"""The table of answers: what is right, what is wrong, and how often graders agree.

``pairs.tsv`` has one answer a line, with its reference, 1 or 0, the kind of the
reference and a note. A wrong verdict that anybody finds becomes a line of it, with its
neighbours.
"""

import importlib.util
import json
from pathlib import Path

import pytest

from vgpo.rewards import accuracy_reward, recipe_reward
from vgpo.rewards.confusion import GRADERS, Pair, confusion, read_pairs
from vgpo.rewards.kinds import Kind, kind_of
from vgpo.rewards.normalise import normalise
from vgpo.rewards.references import strip_reference

pytestmark = pytest.mark.timeout(300)

TABLE = Path(__file__).with_name("pairs.tsv")
PAIRS = read_pairs(TABLE)

with_mathruler = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None
        for name in ("mathruler", "pylatexenc", "sympy", "tqdm")
    ),
    reason="needs mathruler, the grader of the paper's recipe",
)


def rewards(pairs: list[Pair], reward=accuracy_reward) -> list[float]:
    return reward(
        [rf"<think>2+2</think> so \boxed{{{pair.answer}}}." for pair in pairs],
        answer=[pair.reference for pair in pairs],
        grading_seconds=float("inf"),
    )


def test_the_table_is_large_and_has_both_directions_of_every_kind():
    assert len({(pair.answer, pair.reference) for pair in PAIRS}) == len(PAIRS) >= 500
    for kind in Kind:
        assert {pair.expected for pair in PAIRS if pair.kind == kind} == {True, False}


@pytest.mark.parametrize("kind", list(Kind))
def test_every_verdict_of_the_table(kind):
    pairs = [pair for pair in PAIRS if pair.kind == kind]
    got = rewards(pairs)
    wrong = [
        f"{pair.answer!r} for {pair.reference!r}: {value}"
        for pair, value in zip(pairs, got, strict=True)
        if value != pair.expected
    ]
    assert wrong == []


def test_every_kind_of_the_table():
    kinds = {pair.reference: pair.kind for pair in PAIRS}
    got = {text: kind_of(normalise(strip_reference(text))) for text in kinds}
    assert got == kinds


def test_every_reference_is_right_for_itself():
    references = sorted({strip_reference(pair.reference) for pair in PAIRS})
    pairs = [Pair(text, text, True, "", "") for text in references]
    assert rewards(pairs) == [1.0] * len(pairs)


def test_what_stands_around_an_answer_does_not_change_the_verdict():
    pairs = [
        pair._replace(answer=around % pair.answer)
        for pair in PAIRS
        if not set("$*`\n") & set(pair.answer) and "..." not in pair.answer
        for around in (r"$%s$", " %s ", r"\(%s\)")
    ][::7]
    got = rewards(pairs)
    wrong = [
        pair for pair, value in zip(pairs, got, strict=True) if value != pair.expected
    ]
    assert wrong == []


def test_several_answers_are_no_answer():
    """Two answers, one of them right, in every way to write two: nothing is earned."""
    singles = [
        pair
        for pair in PAIRS
        if pair.expected
        and pair.kind in (Kind.NUMBER, Kind.CHOICE, Kind.QUANTITY, Kind.EXPRESSION)
        and pair.answer == pair.reference.strip("$")
        and not set(",;") & set(pair.reference)
    ]
    other = {Kind.CHOICE: "E", Kind.QUANTITY: "77 cm"}
    hedges = [
        pair._replace(answer=joined.format(pair.answer, other.get(pair.kind, "77")))
        for pair in singles
        for joined in (
            "{0} or {1}",
            "{1} or {0}",
            "{0}, {1}",
            "{1}, {0}",
            "{0} and {1}",
            "{0}; {1}",
            r"{0} \text{{ or }} {1}",
            r"{1} \lor {0}",
            "{0}/{1}/{0}",
            "{1} = {0}",
            r"{0} \quad {1}",
            "not {1}, {0}",
            "{0}, not {1}",
        )
    ]
    assert len(hedges) > 100
    got = rewards(hedges)
    earned = [pair for pair, value in zip(hedges, got, strict=True) if value]
    assert earned == []


def test_confusion_counts():
    pairs = [
        Pair("1", "1", True, "a", ""),
        Pair("1", "2", True, "a", ""),
        Pair("1", "1", False, "b", ""),
        Pair("1", "2", False, "b", ""),
    ]

    def same(completions, answer, grading_seconds):
        inside = [text.removeprefix(r"\boxed{")[:-1] for text in completions]
        return [float(one == two) for one, two in zip(inside, answer, strict=True)]

    counts = confusion(same, pairs)
    assert counts["all"] == {
        "right_accepted": 1,
        "right_refused": 1,
        "wrong_accepted": 1,
        "wrong_refused": 1,
    }
    assert counts["a"]["right_accepted"] == 1 and counts["a"]["wrong_accepted"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\n", "the columns must be answer, reference"),
        ("answer\treference\texpected\tkind\tnote\n1\t1\tyes\tnumber\t\n", "line 2"),
        ("answer\treference\texpected\tkind\tnote\n\n1\t1\t1\n", "line 3"),
    ],
)
def test_a_bad_table_is_named(tmp_path, text, message):
    path = tmp_path / "pairs.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pairs(path)


RECORD = "results/grading/confusion.json"


def test_the_record_of_accuracy_reward_is_what_it_does(root):
    record = json.loads((root / RECORD).read_text())
    assert record["pairs"] == len(PAIRS)
    assert set(record["graders"]) == set(GRADERS)
    got = confusion(accuracy_reward, PAIRS)
    assert record["graders"]["accuracy_reward"] == got
    assert got["all"]["wrong_accepted"] == got["all"]["right_refused"] == 0


@with_mathruler
def test_the_record_of_the_recipe_is_what_it_does(root):
    record = json.loads((root / RECORD).read_text())
    assert record["graders"]["recipe_reward"] == confusion(recipe_reward, PAIRS)


@with_mathruler
def test_the_recipe_grades_as_mathruler_does_in_this_process():
    from mathruler.grader import grade_answer

    # Plain answers only: here it has no fence.
    plain = [
        pair
        for pair in PAIRS
        if len(pair.answer) < 12 and not set("^!*'\"\\") & set(pair.answer)
    ]
    got = rewards(plain, recipe_reward)
    expected = [float(grade_answer(pair.answer, pair.reference)) for pair in plain]
    assert len(plain) > 500
    assert got == expected


@with_mathruler
def test_no_answer_gets_out_of_the_recipes_process(tmp_path):
    target = tmp_path / "written"
    attacks = [
        f"open('{target}','w')",
        f"__import__('os').system('touch {target}')",
        "9**9**9**9",
        "eval('1')",
        "(lambda:0)()",
    ]
    got = recipe_reward([rf"\boxed{{{one}}}" for one in attacks], answer=["5"] * 5)
    assert got == [0.0] * 5
    assert not target.exists()


def test_without_mathruler_the_message_names_the_cure(monkeypatch):
    from vgpo.rewards import functions
    from vgpo.rewards.verify import Verifier

    monkeypatch.setattr(functions, "_recipe_verifier", Verifier(grader="mathruler"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'vgpo\[recipe\]'"):
        recipe_reward([r"\boxed{1}"], answer=["1"])
