"""The page "Questions people ask": its code runs and prints what stands below it."""

import re
from contextlib import redirect_stdout
from io import StringIO

import pytest
import yaml

from tests.conftest import ROOT
from vgpo.method.shaping import METHODS

PAGE = ROOT / "book" / "questions.md"
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\s*```text\n(.*?)```)?", re.DOTALL)
OPENING, *SECTIONS = re.split(r"(?m)^\((q-[a-z]+)\)=\n", PAGE.read_text("utf-8"))
QUESTIONS = dict(zip(SECTIONS[::2], SECTIONS[1::2], strict=True))


def run(text, names):
    """What each block of a text printed, beside what the page says."""
    for code, said in BLOCK.findall(text):
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(code, str(PAGE), "exec"), names)
        yield printed.getvalue(), said


@pytest.fixture(autouse=True)
def no_method_is_left():
    """One of the answers registers a method of its own."""
    yield
    METHODS.pop("uncertain_tokens", None)


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_an_answer_prints(name, tmp_path, monkeypatch):
    """By itself, after the lines that the page begins with."""
    monkeypatch.chdir(tmp_path)  # a trainer makes its output folder
    names = {"__name__": "questions"}
    found = [*run(OPENING, names), *run(QUESTIONS[name], names)]
    assert len(found) > 1
    for printed, said in found:
        assert printed == said


def test_every_question_is_answered_in_words_and_by_code():
    assert len(QUESTIONS) >= 12
    for text in QUESTIONS.values():
        title, *body = text.strip().splitlines()
        assert title.startswith("## ")
        assert body and not body[1].startswith("```")
        assert all(said for _, said in BLOCK.findall(text))


def test_readers_are_led_to_it():
    contents = (ROOT / "book" / "_toc.yml").read_text("utf-8")
    assert "book/questions" in {
        chapter["file"]
        for part in yaml.safe_load(contents)["parts"]
        for chapter in part["chapters"]
    }
    assert "questions" in (ROOT / "book" / "intro.md").read_text("utf-8")
    assert "book/questions.md" in (ROOT / "README.md").read_text("utf-8")
