"""Claims by verdict: the buttons count rows, and a click leaves out the others."""

import pytest

from book.builder.verdicts import with_verdicts

HEAD = "<thead><tr><th><p>No.</p></th>\n<th><p>Verdict</p></th>\n</tr>\n</thead>"


def ledger(*verdicts: str, head: str = HEAD) -> str:
    rows = "".join(
        f'<tr class="row"><td><p>C{n}</p></td>\n'
        f"<td><p><strong>{verdict}</strong>: since <em>so</em></p></td>\n</tr>\n"
        for n, verdict in enumerate(verdicts)
    )
    return f'<table class="ledger table">{head}<tbody>{rows}</tbody></table>'


@pytest.fixture
def page() -> str:
    first = ledger("proved", "not decided", "not decided")
    second = ledger("not decided")
    return (
        f"<!doctype html><body><h1>Claims</h1><section id='a'><h2>A</h2>{first}"
        f"</section><section id='b'><h2>B</h2>{second}</section></body>"
    )


def test_a_button_for_each_verdict_with_its_number_above_the_first_section(page):
    found = with_verdicts(page)
    assert found.index("all 4") < found.index("<h2>A</h2>")
    for text in ("all 4", "proved 1", "not decided 3"):
        assert f">{text}</button>" in found
    assert found.count('data-verdict="not decided"') == 3
    # Nothing of the page is lost.
    assert found.count("since <em>so</em>") == 4


def test_other_tables_are_left_alone():
    other = ledger("proved", head=HEAD.replace("Verdict", "Place"))
    assert with_verdicts(other) == other


def test_a_click_shows_one_verdict_and_hides_tables_without_it(browser, page, tmp_path):
    path = tmp_path / "claims.html"
    path.write_text(with_verdicts(page))
    tab = browser.open(path)
    shown = (
        "[...document.querySelectorAll('tbody tr')]"
        ".filter(row => row.getClientRects().length).length"
    )
    assert tab.evaluate(shown) == 4
    tab.click("button[data-show='proved']")
    assert tab.evaluate(shown) == 1
    assert tab.texts("button[aria-pressed='true']") == ["proved 1"]
    assert tab.evaluate("document.querySelectorAll('table')[1].hidden") is True
    tab.click("button[data-show='']")
    assert tab.evaluate(shown) == 4
    tab.check()
