"""Ledgers on a phone: each cell but a row's first is named by its column."""

from bs4 import BeautifulSoup

from book.builder.labels import with_labels, with_ledgers
from book.builder.verdicts import with_verdicts
from tests.conftest import ROOT

HEAD = "<thead><tr><th><p>{}</p></th></tr></thead>"


def ledger(names: list[str], *rows: list[str]) -> str:
    head = HEAD.format("</p></th><th><p>".join(names))
    body = "".join(
        "<tr>" + "".join(f"<td><p>{cell}</p></td>\n" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<table class="ledger table">{head}<tbody>{body}</tbody></table>'


def labels(page: str) -> list[str | None]:
    cells = BeautifulSoup(with_labels(page), "html.parser").find_all("td")
    return [cell.get("data-label") for cell in cells]


def test_cells_are_named_but_the_first_of_a_row_and_those_without_a_word():
    page = ledger(["letter", "in <code>Config</code>", "value"], ["a", "", "0.3"])
    assert labels(page) == [None, None, "value"]
    page = ledger(["letter", "in <code>Config</code>", "value"], ["a", "b", "0.3"])
    assert labels(page) == [None, "in Config", "value"]


def test_a_column_without_a_name_names_nothing():
    assert labels(ledger(["a", "", "c"], ["1", "2", "3"])) == [None, None, "c"]


def test_two_columns_claims_and_other_tables_stay_as_they_are():
    two = ledger(["moment", "takes"], ["loss", "much"])
    claims = with_verdicts(
        ledger(["No.", "Run", "Verdict"], ["C1", "it", "<strong>proved</strong>"])
    )
    other = two.replace("ledger", "plain")
    for page in (two, claims, other):
        assert with_labels(page) == page


def test_a_name_is_no_markup():
    page = with_labels(ledger(["a", "b &lt;c&gt; &quot;d&quot;", "e"], ["1", "2", "3"]))
    assert 'data-label="b &lt;c&gt; &quot;d&quot;"' in page


def test_words_are_in_the_order_in_which_they_are_looked_up():
    page = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    listed = page.split(":::{glossary}\n")[1].split("\n:::")[0]
    words = [entry.split("\n")[0] for entry in listed.split("\n\n")]
    assert len(words) > 20 and words == sorted(words, key=str.lower)


def test_tables_of_words_in_docstrings_are_ledgers_and_those_of_numbers_are_not():
    def of_package(*row: str) -> str:
        table = ledger(["letter", "field", "default"], list(row))
        return f'<dl class="py function"></dl>{table.replace("ledger table", "table")}'

    words = of_package("β", "strength", "0.3")
    assert labels(with_ledgers(words)) == [None, "field", "default"]
    numbers = of_package("normal", "95", "0.3")
    assert with_ledgers(numbers) == numbers
    elsewhere = words.replace('class="py function"', "")
    assert with_ledgers(elsewhere) == elsewhere
