"""Half of a surrogate pair: where text comes in it is named, and where it is shown
it does no harm."""

import json

import pytest
from PIL import Image

import vgpo
from vgpo.data import load_questions
from vgpo.explorer.page import View, page
from vgpo.explorer.tokens import Answer, token_view
from vgpo.testbed import load_tiny
from vgpo.texts import legible, require_characters

HALF, BIRD = "Total \ud83d ?", "\ud83d\udc26"
PICTURE = Image.new("RGB", (56, 56))
GOOD = {"question": "Total ?", "answer": "3", "image": PICTURE}


@pytest.fixture(scope="module")
def tiny():
    return load_tiny()


def chat(text):
    parts = [{"type": "image", "image": PICTURE}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ((PICTURE, HALF), "question"),
        ((PICTURE, "Total ?", HALF), "completion"),
        ((chat("Total ?"), HALF), "completion"),
        ((chat(HALF),), "messages: the text of turn 0"),
        (
            ([*chat("Total ?"), {"role": "user", "content": HALF}],),
            "messages: the text of turn 1",
        ),
    ],
)
def test_what_is_asked_is_refused_by_its_name(tiny, asked, named):
    message = rf"^{named}: holds U\+D83D after 'Total '"
    for ask in (vgpo.score, vgpo.signals):
        with pytest.raises(ValueError, match=message):
            ask(*tiny, *asked)


def test_a_pair_in_two_units_is_no_half(tiny):
    # Python takes two units for two characters, both of them halves.
    with pytest.raises(ValueError, match=r"^question: holds U\+D83D after ''"):
        vgpo.score(*tiny, PICTURE, BIRD)
    assert len(vgpo.score(*tiny, PICTURE, legible(BIRD), "5")) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"question": HALF},
        {"answer": HALF},
        {"choices": ["a", HALF], "answer": "A"},
        {"hint": HALF},
    ],
    ids=lambda row: next(iter(row)),
)
def test_a_row_is_refused_by_its_number_and_column(row):
    column = next(iter(row))
    with pytest.raises(ValueError, match=rf"row 1, column '{column}': holds"):
        load_questions([GOOD, GOOD | row])


def test_a_conversation_is_left_out_and_named():
    rows = [
        {"messages": [*chat(text), {"role": "assistant", "content": "3"}]}
        for text in ("Total ?", HALF)
    ]
    found = load_questions(rows)
    assert found.numbers == (0,)
    assert str(found.left_out[0]).startswith("row 1: column 'messages': holds U+D83D")


def test_a_suffix_is_refused():
    with pytest.raises(ValueError, match=r"^suffix: holds"):
        load_questions([GOOD], suffix=HALF)


def test_what_is_shown_can_be_written(tmp_path):
    view = View(HALF, f"<p>{HALF}{BIRD}</p>", data={"text": HALF}, text=HALF)
    written = view.save(tmp_path / "view.html").read_text(encoding="utf-8")
    assert written.count("Total \ufffd ?") == 4  # title, h1, label, body
    assert "\N{BIRD}" in written
    json.dumps(view._repr_mimebundle_(), ensure_ascii=False).encode()
    page(HALF, [view]).encode()


def test_tokens_with_halves_can_be_written(tmp_path):
    answer = Answer(HALF, [HALF, "5"], {"entropy": [0.1, 0.2]}, note=HALF)
    view = token_view(answer, title=HALF, facts=[(HALF, HALF)])
    assert "Total \ufffd ?" in view.save(tmp_path / "a.html").read_text("utf-8")
    json.dumps(view._repr_mimebundle_(), ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["", "5 ∠ \N{BIRD}", "\0\ufffd\uffff"])
def test_all_other_text_is_left_as_it_is(text):
    require_characters(text, "text")
    assert legible(text) == text
