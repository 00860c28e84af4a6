r"""The answer of a completion: what stands in its last ``\boxed{}``."""

import re

_BOX = "\\boxed"

# Without braces: a number, or one capital letter. Any other word after \boxed is
# prose ("I put it into \boxed form"), and no answer.
_UNBRACED = re.compile(r"\s*([+\-−]?[\d.]*\d[\d.,/]*%?|[A-Z](?![A-Za-z]))")


_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def last_boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{...}`` of a completion, or None.

    Braces are matched, so ``\boxed{\frac{1}{2}}`` gives ``\frac{1}{2}``. Blanks before
    the brace do not matter, and a number or a capital letter may stand without braces
    (``\boxed 5``). An unclosed box gives None: an answer that was cut off is no answer.

    Example:
        >>> last_boxed(r"so \boxed{12}, no: \boxed {\frac{1}{2}}")
        '\\frac{1}{2}'
        >>> last_boxed(r"\boxed{1") is None
        True
        >>> last_boxed(r"\boxed 5.")
        '5'
    """
    position = text.rfind(_BOX)
    while position >= 0:
        start = position + len(_BOX)
        brace = start
        while brace < len(text) and text[brace].isspace():
            brace += 1
        if brace < len(text) and text[brace] == "{":
            end = _closing_brace(text, brace)
            return None if end is None else text[brace + 1 : end]
        match = _UNBRACED.match(text, start)
        if match:
            return match[1].rstrip(".,/")
        position = text.rfind(_BOX, 0, position)
    return None


def last_boxed_plainly(text: str) -> str | None:
    r"""The last ``\boxed{...}`` by mathruler's rule, or None.

    Only ``\boxed{`` without a blank opens a box, and every brace counts, ``\{`` too.

    Example:
        >>> last_boxed_plainly(r"\boxed{ 5 }")
        '5'
        >>> last_boxed_plainly(r"\boxed {5}") is None
        True
    """
    position = text.rfind(_BOX + "{")
    if position < 0:
        return None
    start = position + len(_BOX)
    depth = 0
    for end in range(start, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return text[start + 1 : end].strip()
    return None


def _closing_brace(text: str, opening: int) -> int | None:
    r"""Where the brace at ``opening`` is closed; ``\{`` and ``\}`` are no braces."""
    depth = 0
    for match in _BRACE.finditer(text, opening):
        # What belongs to a backslash is passed over.
        depth += (match[0] == "{") - (match[0] == "}")
        if depth == 0 and match[0] == "}":
            return match.start()
    return None
