"""The page of answers, in a browser."""

import pytest

from tests.evaluation.records import record, run
from vgpo.evaluation import browse

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    first = [record(i, greedy=i % 2, name="a" if i < 40 else "b") for i in range(50)]
    second = [record(i, greedy=i % 3, name="a" if i < 40 else "b") for i in range(50)]
    second[1]["answers"][0] |= {"text": HOSTILE, "extracted": None}
    first[2]["question"] = f"{HOSTILE} naïve ☕ ?"
    first[3]["question"] = "<image> <image>Is one like <image> ?"
    file = tmp_path_factory.mktemp("page") / "answers.html"
    view = browse(run(first, "before"), run(second, HOSTILE))
    return browser.open(view.save(file))


def count(page):
    return int(page.texts(".vgpo-answers-count")[0].split()[0])


def select(page, place, value):
    page.evaluate(f"document.querySelectorAll('select')[{place}].id = 'now{place}'")
    page.choose(f"#now{place}", value)


def test_it_opens_asks_for_nothing_and_obeys_no_answer(page):
    page.check()
    assert page.evaluate("document.title") != "taken"
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert any(HOSTILE in text for text in page.texts(".vgpo-answers-text"))


def test_it_shows_some_and_more_on_demand(page):
    assert count(page) == 50
    shown = "document.querySelectorAll('article').length"
    assert page.evaluate(shown) == 10
    page.click(".vgpo-view button")
    assert page.evaluate(shown) == 20


def test_marks_of_pictures_are_no_part_of_a_question(page):
    """Pictures stand beside it; only a mark in its midst says which is meant."""
    questions = page.texts(".vgpo-answers-question")
    assert "Is one like [picture] ?" in questions
    assert not any("<image>" in question for question in questions)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("changed", sum((i % 2 == 1) != (i % 3 != 0) for i in range(50))),
        ("gained", sum(i % 2 == 0 and i % 3 != 0 for i in range(50))),
        ("lost", sum(i % 2 == 1 and i % 3 == 0 for i in range(50))),
        ("no answer", 1),
    ],
)
def test_it_filters_by_verdict(page, value, expected):
    select(page, 1, value)
    assert count(page) == expected
    select(page, 1, "all")


def test_it_filters_by_set_and_searches(page):
    select(page, 0, "b")
    assert count(page) == 10
    select(page, 0, "all")
    page.choose("input[type=search]", "NAÏVE")
    assert count(page) == 1
    page.choose("input[type=search]", "nowhere at all")
    assert count(page) == 0
    page.choose("input[type=search]", "")
    assert count(page) == 50
    page.check()


def test_it_fits_a_phone(page):
    page.resize(420, 900)
    assert page.sideways() == 0
    page.resize(1200, 900)


def test_without_a_script_the_numbers_stand_there():
    view = browse(run([record(0, greedy=True)], "<b>"))
    assert "greedy" in view.body and "<table" in view.body
    assert "<b>" not in view.fragment().split('aria-label="')[1][:40]
