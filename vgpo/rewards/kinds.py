r"""What kind of thing a reference answer is: it decides how answers are compared to it.

The reference is written by people who know what they ask, the answer by a policy that
is after a reward. So the kind is read off the reference alone, and an answer that is
of another kind is wrong, whatever it would evaluate to.
"""

import re
from enum import StrEnum

from vgpo.rewards.names import is_pair, parse_name
from vgpo.rewards.numbers import parse_number
from vgpo.rewards.quantities import NOT_COUNTED, parse_quantities, parse_quantity


class Kind(StrEnum):
    """The kinds, in the order in which they are tried."""

    CHOICE = "choice"  # A, (B), A, C; with or without the text of the option
    NUMBER = "number"  # 5, 1/2, 6.02e23, 50%, $5, 30°
    NAME = "name"  # ranges, scores, ratios, dates, times, telephone numbers
    QUANTITY = "quantity"  # 5 cm, 2\sqrt{3} m^2, 5 apples
    COLLECTION = "collection"  # (1, 2), [1, 2), \{1, 2\}, unions; 1, 2
    RELATION = "relation"  # x = 5, x > 3
    EXPRESSION = "expression"  # 2\sqrt{3}, x^2 + 1, a matrix
    TEXT = "text"  # words, formulas of chemistry, identifiers


def kind_of(reference: str) -> Kind:
    r"""The kind of a normalised reference.

    Example:
        >>> [str(kind_of(text)) for text in ("B", "10-20", "-10", "no", r"\sqrt{8}")]
        ['choice', 'name', 'number', 'text', 'expression']
    """
    if parse_choices(reference) is not None:
        return Kind.CHOICE
    if parse_number(reference) is not None and not is_pair(reference):
        return Kind.NUMBER
    if parse_name(reference) is not None:
        return Kind.NAME
    if parse_quantity(reference) or parse_quantities(reference):
        return Kind.QUANTITY
    if any(is_it(reference) for is_it in _LABELS):
        return Kind.TEXT
    if parse_collection(reference) is not None:
        return Kind.COLLECTION
    if is_mathematics(reference):
        return Kind.RELATION if is_relation(reference) else Kind.EXPRESSION
    return Kind.TEXT


# -- choices ----------------------------------------------------------------------

_LETTER = r"[(\[]?\s*([A-Za-z])\s*[)\]]?"
_OPTION = r"(?:(?:option|choice|answer)\s*:?\s*)?"
_ONE = re.compile(rf"{_OPTION}{_LETTER}\s*[.:)]?", re.IGNORECASE)
_OPTION_WORDS = re.compile(r"\b(?:options?|choices?|answers?|and)\b:?", re.IGNORECASE)
_SEVERAL = re.compile(r"[A-Ja-j,;&()\[\]{}\s]+")
_WITH_TEXT = re.compile(
    rf"{_OPTION}(?:\(\s*([A-Ja-j])\s*\)\s*[.:]?|\[([A-Ja-j])\]|([A-Ja-j])(?:\s*[.:)]|\s+-\s))\s*(\S.*)",
    re.DOTALL | re.IGNORECASE,
)
# Another letter in the text of an option: the answer may be hedging.
_ANOTHER_LETTER = re.compile(
    r"(?<![\w'])(?:[B-J](?![\w'])|A(?=\s*(?:[.:),]|$|or\b|and\b))|[a-j]\s*[):](?!\w)|[b-j]\.)"
)


def parse_choices(text: str) -> tuple[frozenset[str], str] | None:
    r"""The letters of a choice and the text of its option, or None.

    A single letter is a choice if it is a capital, or up to ``e``, or in brackets;
    other small letters are variables. ``AC`` could be anything, and is not taken apart.

    Example:
        >>> parse_choices("(A) red")
        (frozenset({'A'}), 'red')
        >>> sorted(parse_choices("A, C")[0])
        ['A', 'C']
        >>> parse_choices("A or C") is None
        True
    """
    if match := _ONE.fullmatch(text):
        letter = match[1]
        alone = text == letter
        if letter.isupper() or letter in "abcde" or not alone:
            return frozenset(letter.upper()), ""
        return None
    several = _OPTION_WORDS.sub(" ", text)
    if _SEVERAL.fullmatch(several) and not _spans(text):
        letters = re.findall("[A-Za-z]+", several)
        one_case = several.upper() == several or several.lower() == several
        all_single = all(len(letter) == 1 for letter in letters)
        if one_case and all_single and len(set(letters)) == len(letters) > 1:
            return frozenset("".join(letters).upper()), ""
        return None
    if match := _WITH_TEXT.fullmatch(text):
        letter = (match[1] or match[2] or match[3]).upper()
        option = match[4].strip()
        if not _ANOTHER_LETTER.search(option) and not _ONE.fullmatch(option):
            return frozenset(letter), option
    return None


# -- collections ------------------------------------------------------------------

_OPENING = {"(": ")", "[": "]", "{": "}"}
_AND_OR = re.compile(r"\s*(?:,\s*)?\b(?:and|or)\b\s*|\s*\\(?:lor|vee|land|wedge)\s*")


def parse_collection(text: str) -> tuple[str, list[str]] | None:
    r"""The brackets and the elements of a tuple, an interval, a set or a list.

    The brackets are ``()``, ``[)`` and so on, ``{}`` for a set, ``\cup`` for a union of
    several collections, and nothing for a list without any.

    Example:
        >>> parse_collection(r"(-\infty, 1]"), parse_collection("1, 2")
        (('(]', ['-\\infty', '1']), ('', ['1', '2']))
        >>> parse_collection("x+1") is None
        True
    """
    pieces = split_outside_brackets(text, (r"\cup",))
    if len(pieces) > 1:
        return (r"\cup", pieces) if all(pieces) else None
    inner = None
    if text.startswith(r"\{") and text.endswith(r"\}"):
        brackets, inner = "{}", text[2:-2]
    elif text[:1] in "([" and text[-1:] in ")]" and _spans(text):
        brackets, inner = text[0] + text[-1], text[1:-1]
    if inner is not None:
        elements = split_outside_brackets(inner, (",", ";"))
        if brackets == "{}" and len(elements) == 1 and re.search(r"\\mid|\||:", inner):
            return None  # {x : x > 3} is said, not listed
        if all(elements) and (len(elements) > 1 or brackets in ("{}", "[]")):
            return brackets, elements
        return None
    elements = split_outside_brackets(text, (",", ";"))
    if len(elements) == 1:
        elements = [part.strip() for part in _AND_OR.split(text)]
    else:
        # "1, 2 and 3", "1, 2, and 3"
        last = [part.strip() for part in _AND_OR.split(" " + elements.pop())]
        elements += last if last[0] else last[1:]
    if len(elements) > 1 and all(elements):
        return "", elements
    return None


def split_outside_brackets(text: str, separators: tuple[str, ...]) -> list[str]:
    """The parts of a text between separators that are in no brackets.

    A comma between digits, three of which follow, is part of a number in a list whose
    other commas have blanks.
    """
    spaced = ", " in text
    parts, start, depth, position = [], 0, 0, 0
    while position < len(text):
        character = text[position]
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0:
            separator = next(
                (one for one in separators if text.startswith(one, position)), None
            )
            thousands = (
                separator == ","
                and spaced
                and re.match(r"\d{3}(?!\d)", text[position + 1 :])
                and text[max(position - 1, 0)].isdigit()
            )
            if separator and not thousands:
                parts.append(text[start:position].strip())
                position += len(separator)
                start = position
                continue
        position += 1
    parts.append(text[start:].strip())
    return parts


def _spans(text: str) -> bool:
    """Whether the bracket a text begins with is closed at its end and not before."""
    if text[:1] not in ("(", "[", "{"):
        return False
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return position == len(text) - 1
    return False


# -- chemistry --------------------------------------------------------------------

# Subscripts or a charge: without them, letters may be anything.
_FORMULA = re.compile(
    r"(?=.*[_+-])(?:[A-Z][a-z]?(?:_\{?\d+\}?|\d+)?|\((?=[A-Z])|\)(?:_\{?\d+\}?|\d+)?|\s)+"
    r"(?:\^\{?\d*[+-]\}?)?"
)
# Names with places in them: 2,3-dimethylbutane, N,N-dimethylaniline, cis-2-butene
_COMPOUND = re.compile(r"[\w(),'-]*(?:\d|\b[A-Z])-[A-Za-z]{3,}[\w(),'-]*")


def parse_formula(text: str) -> str | None:
    """A formula of chemistry without its typography, or None.

    Example:
        >>> parse_formula("H_{2}O"), parse_formula("Ca^{2+}"), parse_formula("x_1")
        ('H2O', 'Ca2+', None)
    """
    return re.sub(r"[_{}^\s]", "", text) if _FORMULA.fullmatch(text) else None


# Text that has digits and is no mathematics; math-verify does not know the base of
# 1010_2.
_LABELS = (
    parse_formula,
    _COMPOUND.fullmatch,
    NOT_COUNTED.fullmatch,
    # Angles, triangles and lines are named by points, whose order says which.
    re.compile(
        r"\\(?:(?:measured)?angle|triangle|square|odot|vec|over[a-z]*|wide[a-z]*)"
        r"\s*\{?\s*[A-Za-z']+\s*\}?"
    ).fullmatch,
    re.compile(r"\(?[\dA-F]*\d[\dA-F]*\)?_\{?\d+\}?").fullmatch,
    # What becomes what: reactions, ways, rules. A limit has an arrow, too.
    re.compile(r"(?!.*\\lim)(?=.*\\to(?![a-zA-Z])).*", re.DOTALL).fullmatch,
)


# -- mathematics ------------------------------------------------------------------

_FUNCTIONS = (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp lg max "
    "min gcd lcm det mod pmatrix bmatrix vmatrix matrix cases array begin end "
    "dx dy dz dt"
)
# Two or three letters that are words. Longer ones are taken for words anyway.
_SHORT_WORDS = (
    "am an and any are as at be big bus but by car cat day do dog for go had has he "
    "her him his how if in is it its let low man may me men my new no nor not now of "
    "off old on one or our out per red saw say see set she six so sun ten the to too "
    "top two up us use was way we who why yes yet you"
)
_COMMAND = re.compile(r"\\[a-zA-Z]+\*?")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[a-z]*matrix\}")
_LETTERS = re.compile(r"[^\W\d_]+")
_RELATION = re.compile(
    r"[<>=]|\\(?:le|ge|ne|in|neq|subset|subseteq|approx)(?![a-zA-Z])"
)


def is_mathematics(text: str) -> bool:
    r"""Whether a normalised text is a formula, and not words with signs between them.

    Words would be products of their letters, so that ``stop`` equals ``pots``; and so
    would be numbers with nothing but blanks between them.

    Example:
        >>> [is_mathematics(text) for text in (r"2\sqrt{3}", "x^2+1", "no", "1 2")]
        [True, True, False, False]
    """
    plain = _COMMAND.sub("·", _ENVIRONMENT.sub("·", text))
    if re.search(r"\d\s+\d", plain.replace("\\\\", ";")) and not re.search(
        r"\\(?:frac|begin|sqrt|log|binom)", text
    ):
        return False
    if re.search(r"[?!#@~;\"]{2,}|[?#@~\"]", plain):
        return False
    has_sign = bool(re.search(r"[\d+*/^_=<>|()-]|\\", text))
    # Letters before digits name something: H2O, B12, A1. So do digits before capitals
    # (3D, 7B), where nothing else is.
    if re.fullmatch(r"[\w-]*[^\W\d_]\d[\w-]*|\d+[A-Z]+", plain) and "\\" not in text:
        return False
    for letters in _LETTERS.findall(plain):
        if not letters.isascii():
            return False
        if len(letters) == 1 or letters in _FUNCTIONS.split():
            continue
        if len(letters) > 3 or letters.lower() in _SHORT_WORDS.split():
            return False
        if not re.search(r"[\d+*^=<>\\]", text):
            return False  # DNA/RNA is no quotient of products
    return bool(plain.strip() or "\\" in text) and has_sign


# Segments, arcs and the like, named by points: AB, ABC.
_POINTS = re.compile(r"(?<![A-Za-z\\])[A-Z]{2,3}(?![A-Za-z])")


def as_symbols(answer: str, reference: str) -> tuple[str, str]:
    r"""Names of several capitals as one symbol each, where a reference has no others.

    In AB + CD, AB is a segment, a matrix product or a label: no product of numbers
    whose factors may change places. In GMm/r^2 letters are factors.

    Example:
        >>> as_symbols("CD+AB", "AB+CD"), as_symbols("GmM", "GMm+1")
        (('x_{2}+x_{1}', 'x_{1}+x_{2}'), ('GmM', 'GMm+1'))
    """
    letters = _LETTERS.findall(_COMMAND.sub(" ", reference))
    if not letters or not all(map(re.compile("[A-Z]{2,3}").fullmatch, letters)):
        return answer, reference
    seen: dict[str, str] = {}

    def symbol(match: re.Match) -> str:
        return seen.setdefault(match[0], f"x_{{{len(seen) + 1}}}")

    reference = _POINTS.sub(symbol, reference)
    return _POINTS.sub(symbol, answer), reference


def is_relation(text: str) -> bool:
    r"""Whether a formula says that something equals, or is more than, something.

    Example:
        >>> is_relation("x > 3"), is_relation("x + 3")
        (True, False)
    """
    return _RELATION.search(text) is not None
