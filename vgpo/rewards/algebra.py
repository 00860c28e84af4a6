r"""What algebra is asked: whether it may be asked at all, and in which symbols.

Policies write what costs a killed process, and integrals that they leave undone: such
answers are wrong before math-verify sees them.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from vgpo.rewards.kinds import as_symbols, is_mathematics
from vgpo.rewards.normalise import GREEK_LETTER
from vgpo.rewards.numbers import parse_number

Ask = Callable[[str, str, Fraction | None], bool]
"""Two formulas, and by how much numbers may differ; whether they are equal."""

_DEEPEST_NESTING = 10

# Not a fence, the limits of the process are that: these, and deep nesting, are what
# a policy finds first, and each would cost a killed process.
_TOO_BIG = re.compile(
    r"""
      (?:\^|\*\*) [\s{(+-]* [0-9]{4,}               # 10^{10000}
    | [0-9][\s})]* (?:\^|\*\*) [\s{(+-]* [0-9.]+    # 9^{9^{9...
      [\s}]* (?:\^|\*\*) [\s{(+-]* [0-9]
    | [0-9]{4,} [\s})\]]* !                         # 1000!
    | ! \s* [!)}]* \s* !                            # 9!!, (9!)!
    | (?:\\?exp .*){3}                              # \exp(\exp(\exp(9)))
    | (?:\^ \s* \{ [^^]*){3} \^                       # e^{e^{e^{e^9}}}
    """,
    re.VERBOSE,
)

# Work that an answer leaves undone, unless the reference leaves it undone, too.
_UNDONE = re.compile(
    r"\\(?:int|iint|iiint|oint|sum|prod|lim|limsup|liminf|partial|nabla|det|binom"
    r"|operatorname|Gamma|gcd|mod|pmod|bmod|equiv)(?![a-zA-Z])|\\frac\s*\{d"
)
# All that a number in closed form is made of.
_CLOSED_FORM = re.compile(
    r"(?:[\d\s.+\-*/^(){}|!]|\\(?:frac|sqrt|binom|pi|cdot|times|log|ln|sin|cos|tan|cot|exp"
    r"|arcsin|arccos|arctan)(?![a-zA-Z])|\[\d+\]|(?<=\\log)_|(?<![a-zA-Z])[ei](?![a-zA-Z])"
    r"|(?<![a-zA-Z\\])(?:log|ln|sin|cos|tan|exp)(?![a-zA-Z]))+"
)

_IMAGINARY_ROOT = re.compile(r"\\sqrt\s*\{\s*-\s*[\d\\]")
_LETTER_I = re.compile(r"(?<![a-zA-Z\\_])i(?![a-zA-Z_])")

# A letter with a number right behind it. Arguments without braces stay as they are, as
# in \frac x2, and so do what is lowered, other commands, and 4\pi 10^{-7}.
_ARGUMENT = r"\s*(?:\\[a-zA-Z]+|\w)"
_INDEXED = re.compile(
    rf"\\frac(?:{_ARGUMENT}){{2}}|\\sqrt(?:\[\w+\])?{_ARGUMENT}"
    rf"|{GREEK_LETTER}\s*(\d+(?:\.\d+)?)(?!\d|\s*\^)"
    r"|\\[a-zA-Z]+|_\s*(?:\{[^{}]*\}|\w)|([a-zA-Z])(\d+(?:\.\d+)?)"
)
_REAL_PART = re.compile(r"\d\s*[+-]\s*$")


def is_closed_form(text: str) -> bool:
    r"""Whether a normalised text holds only what numbers in closed form are made of.

    Example:
        >>> is_closed_form(r"2\sqrt{3}"), is_closed_form("2x")
        (True, False)
    """
    return _CLOSED_FORM.fullmatch(text) is not None


def in_latex(value: Fraction) -> str:
    r"""A fraction in LaTeX.

    Example:
        >>> in_latex(Fraction(-1, 2))
        '-\\frac{1}{2}'
    """
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def equal_by_algebra(
    answer: str, reference: str, ask: Ask, tolerance: Fraction | None = None
) -> bool:
    """The verdict of algebra, for an answer that is mathematics and can be computed.

    Args:
        answer: Normalised.
        reference: Normalised; a formula.
        ask: The one who knows algebra.
        tolerance: By how much two numbers may differ, if one of them was rounded.

    Example:
        >>> equal_by_algebra("9^9^9", "5", ask=None)
        False
        >>> equal_by_algebra("2 x", "2x", ask=None)
        True
    """
    if answer.replace(" ", "") == reference.replace(" ", ""):
        return True
    is_unit = answer == "i" and _IMAGINARY_ROOT.search(reference)
    if not is_unit and not is_mathematics(answer) and parse_number(answer) is None:
        return False
    if _is_too_big(answer):
        return False
    if _UNDONE.search(answer) and not _UNDONE.search(reference):
        return False
    pair = as_symbols(*_with_imaginary_unit(answer, reference))
    return ask(*map(_with_indices, pair), tolerance)


def _with_indices(text: str) -> str:
    r"""``x_{2}`` for ``x2``, which would be read as twice x, and is no product.

    It is a name with an index, or has lost its exponent. The 4 of 3 + i4 is a factor.
    """

    def indexed(match: re.Match) -> str:
        letter, index = match[1] or match[3], match[2] or match[4]
        before = text[: match.start()]
        if letter is None or (letter in ("i", "j") and _REAL_PART.search(before)):
            return match[0]
        return f"{letter}_{{{index}}}"

    return _INDEXED.sub(indexed, text)


def _with_imaginary_unit(answer: str, reference: str) -> tuple[str, str]:
    """``i`` as algebra knows it, where a root of a negative number says what it is.

    Elsewhere it stays a letter like any other.
    """
    if not _IMAGINARY_ROOT.search(answer + reference):
        return answer, reference
    return _LETTER_I.sub("I", answer), _LETTER_I.sub("I", reference)


def _is_too_big(answer: str) -> bool:
    """Whether evaluating or parsing an answer would plainly take too long."""
    depth = deepest = 0
    for character in answer:
        depth += (character in "{[(") - (character in "}])")
        deepest = max(deepest, depth)
    return deepest > _DEEPEST_NESTING or _TOO_BIG.search(answer) is not None
