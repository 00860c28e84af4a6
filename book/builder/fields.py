"""What a function gives back, said once: its type before its description.

Sphinx puts the type in a field of its own, below the errors, as far from the words on
it as they allow, and takes "One row per answer: right, length" for a type and what it
is of. Names of other projects stand with their whole address where a dataclass says
what its fields hold, and without it elsewhere.
"""

import re

_FIELDS = re.compile(r'<dl class="field-list[^"]*">.*?</dl>', re.DOTALL)
_COLON = r'<span class="colon">:</span></dt>\s*<dd class="field-\w+">'
_TYPE = re.compile(
    rf'<dt class="field-\w+">Return type{_COLON}<p>(.*?)</p>\s*</dd>\s*', re.DOTALL
)
_GIVES = re.compile(
    rf'(<dt class="field-\w+">(?:Returns|Yields){_COLON})(<p>)?', re.DOTALL
)
_NO_TYPE = re.compile(
    rf'(<dt class="field-\w+">(?:Returns|Yields){_COLON}<p>)(?:<em>([^<\n]*)</em>|'
    r"((?:(?!</p>|</em> –).)*?)) –(?=\s|<)",
    re.DOTALL,
)
_TWICE = re.compile(r'(<dd class="field-\w+">)<p><p>')
_HOLDS = re.compile(rf'<dt class="field-\w+">Type{_COLON}.*?</dd>', re.DOTALL)
_ADDRESS = re.compile(
    r"\b(?:collections\.abc|datasets|numpy|pandas|pathlib|torch|transformers|typing)"
    r"(?:\.[a-z_]\w*)*\.(?=[A-Za-z])|\bPIL\.Image\."
)
_SHORTENED = re.compile(r"~(?:\w+\.)+(?=\w)")  # left over by Sphinx within a Literal's
_MADE = "&lt;factory&gt;"


def readable_fields(page: str) -> str:
    """A page of the package with types where they are looked for.

    Args:
        page: HTML; only lists of fields, and defaults that a dataclass makes anew for
            each of its own, are touched.

    Example:
        >>> dt = '<dt class="field-odd">{}<span class="colon">:</span></dt>'
        >>> dd = '<dd class="field-odd"><p>{}</p></dd>'
        >>> said = dt.format("Returns") + dd.format("Its length.")
        >>> said += dt.format("Return type") + dd.format("int")
        >>> page = readable_fields(f'<dl class="field-list simple">{said}</dl>')
        >>> page[-56:], "Return type" in page
        ('<dd class="field-odd"><p>int – Its length.</p></dd></dl>', False)
    """
    page = page.replace(_MADE, "…").replace("PosixPath(", "Path(")
    page = _HOLDS.sub(lambda held: _ADDRESS.sub("", held[0]), page)
    return _FIELDS.sub(lambda fields: _gathered(fields[0]), page)


def _gathered(fields: str) -> str:
    # What has several paragraphs, or a table, stands in one more of Sphinx's.
    fields = _TWICE.sub(r"\1<p>", _SHORTENED.sub("", fields))
    fields = _NO_TYPE.sub(r"\1\2\3:", fields)
    found = _TYPE.search(fields)
    if not found:
        return fields
    if not _GIVES.search(fields):
        return fields.replace(">Return type<", ">Returns<")
    fields = _TYPE.sub("", fields)

    def typed(gives: re.Match[str]) -> str:
        # What begins with a list has no words for a type to stand before.
        return f"{gives[1]}<p>{found[1]}" + (" – " if gives[2] else "</p>\n")

    return _GIVES.sub(typed, fields, count=1)
