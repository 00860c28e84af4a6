"""Where a line must not end: before a unit, within t − 1, p = 1, a date or an interval,
before a comma; and where it may: within a path, after a slash, in a signature, before a
name and after its "(", and in the index, after a dot.

Markdown writes ``95 %`` with a space at which a line may end, and a formula is a box
after which one may end, even before the comma that follows. An arrow of a docstring
is one on a page.
"""

import re

_KEPT = "pre|code|script|style|svg|title|template|textarea"
_PARTS = re.compile(rf"(<({_KEPT})\b.*?</\2>|<[^>]*>)", re.DOTALL)
_UNIT = re.compile(r"(?<=\d) (?=%|(?:[kMGT]i?B|nats|px)\b)")
_NUMBERED = re.compile(r"\b(Fig\.|Figs\.|Eq\.|Table|Tables) (?=\d)")
_HYPHEN = re.compile(
    r"(?<=\de)-(?=\d)|(?<=\bEq\. \d)-(?=\d)|(?<=\bEq\. \d\d)-(?=\d)"
    r"|(?<=\b\d{4})-(?=\d\d-\d\d\b)|(?<=\b\d{4}-\d\d)-(?=\d\d\b)"
)
_BEFORE = re.compile(r"\bt − 1\b")
_INTERVAL = re.compile(r"(\[[-+−]?[\d.]+,) (?=[-+−]?[\d.]+\])")
_EQUALS = re.compile(r"\b([A-Za-zβγκ]) = (?=\d)")
_FORMULA = re.compile(r'(<span class="math[^"]*">[^<]*</span>)([,.;:!?)’”]+|-\w+)')
_SLASH = re.compile(r"(?<![</])/(?=[\w.*-])")
_PATH = re.compile(r'<span class="pre">(?=[^<]*[a-z]{2})[\w.*-]*/[^<&\s]*</span>')
_OPTION = re.compile(r'<span class="pre">(?=--?\w[\w-]{0,27}</span>)')
_SHELL = re.compile(r'(<div class="highlight-bash.*?<pre>)(.*?)(?=</pre>)', re.DOTALL)
_FLAG = re.compile(r"(?<![^\s>])--?[A-Za-z][\w-]*(?=[\s<])")
_SIGNATURE = re.compile(
    r'(<span class="sig-prename descclassname">.*?</span></span>|'
    r'<span class="sig-paren">\(</span>)'
)
_INDEX = re.compile(r"<table [^>]*\bgenindextable\b.*?</table>", re.DOTALL)
_DOT = re.compile(r"(?<=\w)\.(?=\w)(?![^<>]*>)")  # not of an address
_SPACE = "\u00a0"
_JOINED = "\u2060"


def unbroken(page: str) -> str:
    """A page whose lines do not end where they would tear something apart.

    Args:
        page: HTML. Code, scripts and drawings stay as they are.

    Example:
        >>> unbroken("<p>some 95 % of Fig. 3</p>") == (
        ...     "<p>some 95\\u00a0% of Fig.\\u00a03</p>"
        ... )
        True
        >>> unbroken("<p>Eq. 7-8, 1e-6</p>") == (
        ...     "<p>Eq.\\u00a07-\\u20608, 1e-\\u20606</p>"
        ... )
        True
        >>> unbroken("<p>Arm -&gt; its column</p>")
        '<p>Arm → its column</p>'
        >>> unbroken("<code>95 %</code>")
        '<code>95 %</code>'
        >>> unbroken('<span class="math">x</span>, and')
        '<span class="together"><span class="math">x</span>,</span> and'
        >>> unbroken('<span class="pre">vgpo/train.py</span>')
        '<span class="pre">vgpo/<wbr>train.py</span>'
        >>> unbroken('<span class="pre">--max_steps</span>')
        '<span class="pre whole">--max_steps</span>'
        >>> unbroken('<span class="sig-paren">(</span>')
        '<span class="sig-paren">(</span><wbr>'
    """
    page = _PATH.sub(lambda path: _SLASH.sub("/<wbr>", path[0]), page)
    page = _SHELL.sub(lambda lines: lines[1] + _command(lines[2]), page)
    page = _INDEX.sub(lambda table: _DOT.sub(".<wbr>", table[0]), page)
    page = _SIGNATURE.sub(r"\1<wbr>", page)
    page = _OPTION.sub('<span class="pre whole">', page)
    parts = _PARTS.split(page)
    # Text, then a tag or what is kept, then the name that ended it, and so on.
    parts[::3] = [_spaced(text) for text in parts[::3]]
    parts[2::3] = [""] * len(parts[2::3])
    return _FORMULA.sub(r'<span class="together">\1\2</span>', "".join(parts))


def _command(text: str) -> str:
    """Lines for a terminal, which a phone breaks: at slashes, not within an option."""
    return _FLAG.sub(r'<span class="whole">\g<0></span>', _SLASH.sub("/<wbr>", text))


def _spaced(text: str) -> str:
    text = _UNIT.sub(_SPACE, text.replace(" -&gt; ", " → "))
    text = _HYPHEN.sub(f"-{_JOINED}", text)
    text = _NUMBERED.sub(rf"\1{_SPACE}", text)
    text = _EQUALS.sub(rf"\1{_SPACE}={_SPACE}", text)
    text = _INTERVAL.sub(rf"\1{_SPACE}", text)
    return _BEFORE.sub(f"t{_SPACE}−{_SPACE}1", text)
