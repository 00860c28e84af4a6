"""Cells of a ledger say which column they are of: on a phone a row is a block of its
own, without the table's head above it.

The style sheet shows the name of a column (``data-label``) where rows are stacked.
"""

import re
from html import escape, unescape

_LEDGER = re.compile(r'<table class="[^"]*\bledger\b.*?</table>', re.DOTALL)
_HEAD = re.compile(r"<thead>.*?</thead>", re.DOTALL)
_ROW = re.compile(r"<tr\b.*?</tr>", re.DOTALL)
_NAME = re.compile(r"<th\b[^>]*>(.*?)</th>", re.DOTALL)
_CELL = re.compile(r"<td\b")
_TAG = re.compile(r"<[^>]*>")
_EMPTY = re.compile(r"\s*(<p>\s*</p>)?\s*</td>")
_PLAIN = re.compile(r'<table class="table">(?=\s*<thead>).*?</table>', re.DOTALL)
_INSIDE = re.compile(r"<td\b[^>]*>(.*?)</td>", re.DOTALL)
_FEWEST = 3  # columns: the second of two needs no name


def with_labels(page: str) -> str:
    """A page whose ledgers name the column in each cell but the first of a row.

    Args:
        page: HTML. A cell without text, and one whose column has no name, get none;
            nor do ledgers of two columns and those of claims, which say it in bold.

    Example:
        >>> head = "<thead><tr><th>a</th><th>b</th><th>c</th></tr></thead>"
        >>> row = "<tr><td>1</td><td></td><td>3</td></tr>"
        >>> with_labels(f'<table class="ledger">{head}{row}</table>')[-47:-13]
        '<td></td><td data-label="c">3</td>'
    """
    return _LEDGER.sub(lambda table: _labelled(table[0]), page)


def with_ledgers(page: str) -> str:
    """A page of the package whose tables of words are ledgers.

    Args:
        page: HTML; a docstring cannot give its tables a class that `help()` would not
            show. Other pages, tables of numbers and those of two columns stay.

    Example:
        >>> head = "<thead><tr><th>a</th><th>b</th><th>c</th></tr></thead>"
        >>> row = "<tr><td>β</td><td>{}</td><td>0.3</td></tr>"
        >>> page = f'<dl class="py"></dl><table class="table">{head}{row}</table>'
        >>> "ledger" in with_ledgers(page.format("strength"))
        True
        >>> "ledger" in with_ledgers(page.format("0.5"))
        False
    """
    if '<dl class="py' not in page:
        return page
    return _PLAIN.sub(lambda table: _as_ledger(table[0]), page)


def _as_ledger(table: str) -> str:
    rows = [_INSIDE.findall(row) for row in _ROW.findall(table)]
    said = "".join(_words(cell) for row in rows for cell in row[1:])
    if max(map(len, rows)) < _FEWEST or not any(map(str.isalpha, said)):
        return table
    return table.replace('class="table"', 'class="ledger table"', 1)


def _labelled(table: str) -> str:
    head = _HEAD.search(table)
    names = [_words(name) for name in _NAME.findall(head[0])] if head else []
    if len(names) < _FEWEST or names[-1] == "Verdict":
        return table

    def row(found: re.Match[str]) -> str:
        text, column = found[0], -1

        def cell(opening: re.Match[str]) -> str:
            nonlocal column
            column += 1
            inside = text.index(">", opening.end()) + 1
            named = 0 < column < len(names) and names[column]
            if not named or _EMPTY.match(text, inside):
                return opening[0]
            return f'{opening[0]} data-label="{escape(names[column])}"'

        return _CELL.sub(cell, text)

    return _ROW.sub(row, table)


def _words(heading: str) -> str:
    return unescape(_TAG.sub("", heading)).strip()
