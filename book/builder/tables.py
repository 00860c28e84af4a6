"""Tables of results as people read them: words to the left, numbers under each other.

pandas writes every cell of a column alike, backticks as they are, NaN where there is
nothing to say, the name of an index in a row of its own, and a table without rows as a
heading of nothing. What is printed in columns must not be broken into other lines.
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
_GOES_ON = re.compile(r"  (?! )([^\s<>]+)")
_CODE = re.compile(r"`([^`<>]+)`")
_THEAD = re.compile(r"<thead>(.*?)</thead>", re.DOTALL)
_NAMES = re.compile(r"<th([^>]*)>(.*?)</th>", re.DOTALL)
_ANY_CELL = re.compile(r"<(t[hd])\b([^>]*)>(.*?)</t[hd]>", re.DOTALL)
_BODY = re.compile(r"<tbody>(\s*)</tbody>")
_LONG_NUMBER = re.compile(r"-?\d{5,}|-?\d{4,}\.0+")
_WHOLE_NUMBER = re.compile(r"(-?)(\d+)(?:\.0+)?")
# Not scoped in any browser: the rules of one table would be those of the page.
_STYLE = re.compile(r"<style scoped>[^<]*\.dataframe[^<]*</style>\s*")
_JOINED = "\u2060"  # what spacing.py puts within a number, for no line to end there
_TAG = re.compile(r"<[^>]*>")
_SPACES = re.compile(r"[ \n]+")  # where a line may end: not at a space that is kept
_SLIM = frozenset(" \u00a0.,:;'|!()[]-/ijlt1I")
_ROOM = 783  # pixels of a page's text where it is widest
_TYPE = 15.2  # pixels of a table's type there
_PADDING = 19.2  # pixels beside each column
_LONGEST = 32  # characters of a row's name that want one line
_WORDY = 20  # characters of a cell that wants a column of some width
_MANY = 8  # columns of a table that needs smaller type to be seen whole
_MOST = 10  # columns of one that needs still smaller type
_FULL = 78  # characters of a line that is full, as the notebooks fill it
_WIDEST = 88  # characters of a line that may be one of columns: more is running text

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
    page = _STYLE.sub("", _PRINTED.sub(_marked, page))
    return _TABLE.sub(lambda match: _readable_table(match[0]), page)


def _marked(match: re.Match[str]) -> str:
    """An output; with a class of its own if it is a tensor or has columns."""
    text = _TAG.sub("", match[2])
    columns = len(_COLUMNS.findall(text)) > 1 or "tensor([" in text
    if not columns or max(map(len, text.splitlines())) > _WIDEST:
        return f"{match[1]}<pre>{_unfilled(match[2])}</pre>"
    return f'{match[1]}<pre class="columns">{match[2]}</pre>'


def _unfilled(text: str) -> str:
    """Printed lines as one, where one goes on, indented, for want of room in the last.

    A sentence that was filled into lines of a terminal would be broken twice on a
    narrow page: where the page ends, and where the terminal's line did.
    """
    said, last, may = [], 0, False
    for line in text.split("\n"):
        found = _GOES_ON.match(line) if may else None
        goes_on = found is not None and last + 1 + len(found[1]) > _FULL
        if goes_on:
            said[-1] += " " + line.lstrip()
        else:
            said.append(line)
        # What was indented from the start is a list, not the rest of a sentence.
        last, may = len(line), goes_on or not line.startswith(" ")
    return "\n".join(said)


def _readable_table(table: str) -> str:
    table = _THEAD.sub(_one_heading, table)
    rows = [_CELL.findall(row) for row in _ROW.findall(table)]
    width = max(map(len, rows), default=0)
    # Those of the index take as much room as any.
    heads = [_NAMES.findall(row) for row in _ROW.findall(table)]
    columns = max(len(h) + len(row) for h, row in zip(heads, rows, strict=True))
    # Cells of the index are <th>, so the n-th <td> of a row is of the n-th column.
    words = {
        column
        for column in range(width)
        for row in rows
        if column < len(row) and not _is_number(row[column])
    }
    wordy = {
        column
        for column in words
        for row in rows
        if column < len(row) and len(row[column].strip()) > _WORDY
    }

    # Where one number is grouped by thousands, so are all of its column.
    grouped = {
        column
        for row in rows
        for column, inside in enumerate(row)
        if _LONG_NUMBER.fullmatch(inside.strip())
    }

    def row(match: re.Match[str]) -> str:
        text = match[0]
        column = -1

        def cell(found: re.Match[str]) -> str:
            nonlocal column
            column += 1
            inside = found[1].strip()
            shown = NOT_APPLICABLE if inside in _NOTHING else found[1]
            shown = _grouped(shown) if column in grouped else shown
            kind = ' class="words"' if column in words else ""
            kind = ' class="words long"' if column in wordy else kind
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
                # Names of columns may be broken after an underscore.
                return f"<th{kind}>{found[1].replace('_', '_<wbr>')}</th>"

            return _HEAD.sub(head, text)
        # Long names of rows get room, numbers of rows do not.
        text = _LABEL.sub(r'<th\1 class="label">\2</th>', text)
        return _CELL.sub(cell, text)

    table = _CODE.sub(r"<code>\1</code>", _ROW.sub(row, table))
    heads = _NAMES.findall(table)
    if columns >= _MANY or _width(table) > _ROOM:
        size = "wide widest" if columns >= _MOST else "wide"
        table = table.replace('class="dataframe"', f'class="dataframe {size}"', 1)
    nothing = f'<tbody><tr><td class="words" colspan="{len(heads)}">none</td></tr>'
    return _BODY.sub(f"{nothing}</tbody>", table)


def _one_heading(match: re.Match[str]) -> str:
    """A table's head with the names of its index in the row of its columns.

    pandas writes them below, in a row that is else empty. If the columns have a name
    as well, it goes above them, in a row of its own.
    """
    rows = _ROW.findall(match[1])
    if len(rows) < 2:
        return match[0]
    *_, columns, names = [_NAMES.findall(row) for row in rows]
    named = [place for place, (_, text) in enumerate(names, start=1) if text.strip()]
    if not named or len(columns) != len(names):
        return match[0]
    count = named[-1]
    index = names[:count]
    corner = [text.strip() for _, text in columns[:count]]
    merged = "".join(f'<th class="name">{text}</th>' for _, text in index)
    merged += "".join(f"<th{how}>{text}</th>" for how, text in columns[count:])
    above = rows[:-2]
    if any(corner):
        # The name of the columns stands in the last cell above the index.
        width = len(columns) - count
        above.append(
            f'<tr><th colspan="{count}"></th>'
            f'<th class="over" colspan="{width}">{corner[-1]}</th></tr>'
        )
    first = re.match(r"<tr[^>]*>", rows[-2])
    opening = first[0] if first else "<tr>"
    return f"<thead>{''.join(above)}{opening}{merged}</tr></thead>"


def _width(table: str) -> float:
    """About how many pixels a table takes at the least, its rows' names on one line.

    Words are broken into lines, numbers and what is short are not. Rows that begin
    below a name of several rows are left out: the others hold the same columns.
    """
    rows = [_ANY_CELL.findall(row) for row in _ROW.findall(table)]
    most = max(map(len, rows), default=0)
    widths = [0.0] * most
    for row in rows:
        if len(row) < most:
            continue
        for column, (tag, how, inside) in enumerate(row):
            text = _TAG.sub("", inside.replace("<wbr>", " ")).strip()
            whole = "long" not in how if tag == "td" else column == 0
            pieces = [text[:_LONGEST]] if whole else _SPACES.split(text)
            taken = max(map(_ems, pieces)) * (1.1 if tag == "th" else 1.0)
            widths[column] = max(widths[column], taken * _TYPE + _PADDING)
    return sum(widths)


def _ems(text: str) -> float:
    """About how wide a text is, in heights of its type."""
    letters = text.replace(_JOINED, "")
    return sum(0.35 if letter in _SLIM else 0.62 for letter in letters)


def _grouped(cell: str) -> str:
    """A whole number by thousands: 1864 and 1864.00 as 1,864."""
    found = _WHOLE_NUMBER.fullmatch(cell.strip())
    return f"{found[1]}{int(found[2]):,}" if found else cell


def _is_number(text: str) -> bool:
    text = text.strip().replace(_JOINED, "")
    return text in _NOTHING or _NUMBER.fullmatch(text) is not None
