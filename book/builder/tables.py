"""Tables of results as people read them: words to the left, numbers under each other.

pandas writes every cell of a column alike, backticks as they are, and NaN where there
is nothing to say. What is printed in columns must not be broken into other lines.
"""

import re

_TABLE = re.compile(r'<table border="1" class="dataframe">.*?</table>', re.DOTALL)
_ROW = re.compile(r"<tr\b.*?</tr>", re.DOTALL)
_CELL = re.compile(r"<td>(.*?)</td>", re.DOTALL)
_HEAD = re.compile(r"<th>(.*?)</th>", re.DOTALL)
_NUMBER = re.compile(r"[-+−]?[\d,.]+(e[-+]?\d+)?( ?%)?|[-+]?inf|True|False|–|")
_NOTHING = ("NaN", "nan", "None", "NaT", "&lt;NA&gt;")
_LABEL = re.compile(r"<th((?: [^>]*)?)>([^<>]{12,})</th>")
_PRINTED = re.compile(r'(<div class="output [^>]*><div class="highlight">)<pre>(.*?)'
                      r"</pre>", re.DOTALL)  # fmt: skip
_COLUMNS = re.compile(r"^\s*\S.*?\S {2,}\S", re.MULTILINE)
_CODE = re.compile(r"`([^`<>]+)`")

NOT_APPLICABLE = '<span class="not-applicable" title="not applicable">n/a</span>'


def readable(page: str) -> str:
    """A page with its tables of results made readable.

    Args:
        page: HTML; only tables that pandas wrote are touched, and outputs that are
            printed in columns, which are marked for the style sheet.

    Example:
        >>> table = '<table border="1" class="dataframe"><tr><td>{}</td></tr></table>'
        >>> readable(table.format("`a`"))[36:]
        '<tr><td class="words"><code>a</code></td></tr></table>'
        >>> readable(table.format("0.5")) == table.format("0.5")
        True
    """
    page = _PRINTED.sub(_marked, page)
    return _TABLE.sub(lambda match: _readable_table(match[0]), page)


def _marked(match: re.Match[str]) -> str:
    """An output; with a class of its own if it is a tensor or has columns."""
    text = re.sub(r"<[^>]*>", "", match[2])
    if len(_COLUMNS.findall(text)) < 2 and "tensor([[" not in text:
        return match[0]
    return f'{match[1]}<pre class="columns">{match[2]}</pre>'


def _readable_table(table: str) -> str:
    rows = [_CELL.findall(row) for row in _ROW.findall(table)]
    width = max(map(len, rows), default=0)
    # Cells of the index are <th>, so the n-th <td> of a row is of the n-th column.
    words = {
        column
        for column in range(width)
        for row in rows
        if column < len(row) and not _is_number(row[column])
    }

    def row(match: re.Match[str]) -> str:
        text = match[0]
        column = -1

        def cell(found: re.Match[str]) -> str:
            nonlocal column
            column += 1
            inside = found[1].strip()
            shown = NOT_APPLICABLE if inside in _NOTHING else found[1]
            kind = ' class="words"' if column in words else ""
            return f"<td{kind}>{shown}</td>"

        heads = _HEAD.findall(text)
        if heads and not _CELL.search(text):
            # A row of headings: the last ones are of the columns.
            first, count = len(heads) - width, 0

            def head(found: re.Match[str]) -> str:
                nonlocal count
                count += 1
                column = count - 1 - first
                kind = ' class="words"' if column in words else ""
                return f"<th{kind}>{found[1]}</th>"

            return _HEAD.sub(head, text)
        # Long names of rows get room, numbers of rows do not.
        text = _LABEL.sub(r'<th\1 class="label">\2</th>', text)
        return _CELL.sub(cell, text)

    return _CODE.sub(r"<code>\1</code>", _ROW.sub(row, table))


def _is_number(text: str) -> bool:
    text = text.strip()
    return text in _NOTHING or _NUMBER.fullmatch(text) is not None
