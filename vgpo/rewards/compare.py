r"""Whether an answer is the reference, within the reference's kind.

What is plain is decided here, exactly and at once. What needs algebra is asked of
``ask(answer, reference, tolerance)``, which is math-verify behind a fence
(`vgpo.rewards.verify`) when the rewards call, and may be anything in a test.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from vgpo.rewards.chains import parse_chain
from vgpo.rewards.kinds import (
    Kind,
    as_symbols,
    is_mathematics,
    is_relation,
    kind_of,
    parse_choices,
    parse_collection,
    split_outside_brackets,
)
from vgpo.rewards.names import parse_name, same_name
from vgpo.rewards.normalise import normalise
from vgpo.rewards.numbers import equal_numbers, parse_number, rounding_error
from vgpo.rewards.quantities import parse_quantities, parse_quantity

Ask = Callable[[str, str, Fraction | None], bool]

# No reference answer of a short-answer data set comes near it; an answer that long
# is right only if it is the reference, letter by letter.
LONGEST_ANSWER = 256

_DEEPEST_NESTING = 10
_MOST_ELEMENTS = 30

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

# The left-hand side of an answer such as x = 5: a name for what is asked.
_NAME = re.compile(
    r"""
      (?: \\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])\s* | \\Delta\s* )?
      (?: m\s*(?=\\(?:measured)?angle) )?
      (?: \\(?:angle|triangle|overline|vec|mathbf|measuredangle|bar|hat|tilde|widehat
              |overrightarrow)\s*\{?\s* )?
      (?: [a-zA-Z]{1,4} | \\(?!pi\b)[a-zA-Z]+ | [A-Za-z]{5,20} )
      (?: _\s*\w{1,10}
        | _\{\s* (?:\\(?:triangle|angle|square|odot)\s*)?
              \w{1,10} (?:\s*[+-]\s*\w{1,10})? \s*\} )?
      '{0,2} \s* \}?
      (?: \s*\(\s*[\w,\s\\|=+-]{1,16}\s*\) )? \s*
    | (?: m\s*)? \\(?:measured)?angle\s*\d{1,2} \s*
    | \|\s* (?: [A-Z]{2}
            | \\(?:vec|overline|overrightarrow)\s*\{?\s*[a-zA-Z]{1,2}\s*\}? ) \s*\|\s*
    """,
    re.VERBOSE,
)
# Several words are a name if none of them takes back, or leaves open, what is said.
_SEVERAL_WORDS = re.compile(r"[A-Za-z]+(?:\s+[A-Za-z]+){1,5}")
_NO_PART_OF_A_NAME = re.compile(
    r"\b(?:not|no|never|n?either|n?or|none|and|but|except|without|unless|if|maybe|wrong"
    r"|incorrect|false|than|above|below|greater|less|more|fewer|about|around"
    r"|approximately|at\s+(?:least|most))\b",
    re.IGNORECASE,
)
_NOT_NAMES = frozenset(
    ["not", "no", "never", r"\neg", r"\ne", r"\pm", r"\sqrt", r"\frac"]
)
_IMAGINARY_ROOT = re.compile(r"\\sqrt\s*\{\s*-\s*[\d\\]")
_LETTER_I = re.compile(r"(?<![a-zA-Z\\_])i(?![a-zA-Z_])")
_OR = re.compile(r"\bor\b|\\(?:lor|vee)(?![a-zA-Z])")
_DIFFERENCE = re.compile(r"[\d.,/ ]+-[\d.,/ ]+")  # a range, or the like
_MEMBER = re.compile(r"[a-zA-Z]\s*\\in\s*")
_ARTICLE = re.compile(r"(?:the\s+(?=\S)|an?\s+(?=\S{2}))", re.IGNORECASE)

_CHEMICAL = re.compile(r"(?:[A-Z][a-z]?\d*|[()\[\]+\-.^]|\d+[+-])+")
# Symbols of elements that, in capitals, are compounds of two others: Co is not CO.
_TWO_MEANINGS = (
    "BI BK CF CN CO CS CU HF HO HS IN NB NH NI NP OS PB PO PU SB SC SI SN YB"
)


def equal(answer: str, reference: str, ask: Ask) -> bool:
    r"""Whether a boxed answer, written by anyone, is the reference answer.

    Args:
        answer: The content of a box.
        reference: The reference answer, as it is in the data.
        ask: Called with two formulas, and with how far two numbers may differ if one of
            them was rounded; says whether they are equal.

    Example:
        >>> equal("(B) red", "B", ask=None), equal("10-20", "20-30", ask=None)
        (True, False)
        >>> equal("x = 1/2", "0.5", ask=None)
        True
    """
    if answer.strip() == reference.strip():
        return bool(answer.strip())
    if max(len(answer), len(reference)) > LONGEST_ANSWER:
        return False
    answer, reference = normalise(answer), normalise(reference)
    if not answer or not reference or not answer.isprintable():
        return False
    return _equal(answer, reference, ask)


def _equal(answer: str, reference: str, ask: Ask) -> bool:
    """The same for normalised texts."""
    if answer == reference:
        return True
    kind = kind_of(reference)
    if kind is not Kind.CHOICE:
        # An option's letter before its text says which option, and the text is asked.
        choice = parse_choices(answer)
        if choice and choice[1] and not parse_choices(reference):
            answer = choice[1]
    return _COMPARISONS[kind](answer, reference, ask)


def _equal_choices(answer: str, reference: str, ask: Ask) -> bool:
    letters, option = parse_choices(reference)
    chosen = parse_choices(answer)
    if chosen is None:
        if len(letters) > 1:
            # AC for A, C
            return answer.isascii() and answer.isupper() and _is_all_of(answer, letters)
        # The option's text instead of its letter
        return bool(option) and _equal(answer, normalise(option), ask)
    if chosen[0] != letters:
        return False
    if not option or not chosen[1]:
        return True
    return _equal(normalise(chosen[1]), normalise(option), ask)


def _is_all_of(word: str, letters: frozenset[str]) -> bool:
    return len(word) == len(letters) and set(word) == letters


def _equal_to_number(answer: str, reference: str, ask: Ask) -> bool:
    answer = _without_name(answer)
    number, wanted = parse_number(answer), parse_number(reference)
    if number is not None:
        return equal_numbers(number, wanted)
    answer = _only_element(answer)
    if parse_number(answer) is not None:
        return equal_numbers(parse_number(answer), wanted)
    name = parse_name(answer)
    if (name and name[0] != "product") or not _CLOSED_FORM.fullmatch(answer):
        return False
    if _DIFFERENCE.fullmatch(answer):
        return False
    if wanted.sign == "%":
        return False
    return _asked(answer, _plain(wanted.value), ask, rounding_error(wanted))


def _plain(value: Fraction) -> str:
    """A fraction in LaTeX."""
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _equal_names(answer: str, reference: str, ask: Ask) -> bool:
    return same_name(answer, parse_name(reference))


def _equal_quantities(answer: str, reference: str, ask: Ask) -> bool:
    answer = _without_name(answer)
    wanted = parse_quantity(reference)
    if wanted is None:
        several = parse_quantities(answer)
        return several is not None and _same_several(
            several, parse_quantities(reference)
        )
    quantity = parse_quantity(answer)
    if quantity is None or quantity.unit != wanted.unit:
        return False
    if isinstance(quantity.magnitude, str) or isinstance(wanted.magnitude, str):
        magnitudes = [
            one if isinstance(one, str) else _plain(one.value)
            for one in (quantity.magnitude, wanted.magnitude)
        ]
        return _equal(*magnitudes, ask)
    return equal_numbers(quantity.magnitude, wanted.magnitude)


def _same_several(quantities: list, wanted: list) -> bool:
    return len(quantities) == len(wanted) and all(
        one.unit == other.unit and equal_numbers(one.magnitude, other.magnitude)
        for one, other in zip(quantities, wanted, strict=True)
    )


def _equal_collections(answer: str, reference: str, ask: Ask) -> bool:
    r"""Element by element; the order is free in sets, unions and short lists.

    Two solutions come in either order. A longer list may be a ranking, and words one
    after the other may be a path: there the order counts.
    """
    brackets, wanted = parse_collection(reference)
    answer = _MEMBER.sub("", answer, count=1) if _MEMBER.match(answer) else answer
    parsed = parse_collection(_in_pairs(answer))
    if parsed is None:
        if len(wanted) == 1 and brackets == "{}":
            return _equal(answer, wanted[0], ask)
        crossed = brackets not in ("", "{}") and is_relation(answer)
        return crossed and _asked(answer, reference, ask)
    found, elements = parsed
    # Solutions are x = 1 or x = 2, and x = 1, 2; of words, "or" leaves one open.
    same_join = bool(_OR.search(answer)) == bool(_OR.search(reference))
    if not same_join and not all(map(_is_formula_or_relation, wanted)):
        return False
    if {found, brackets} == {"", r"\cup"} and _OR.search(answer + reference):
        # x < 0 or x > 2 says a union
        listed = elements if found == "" else wanted
        if not all(map(is_relation, listed)):
            return False
        found = brackets = r"\cup"
    # A set may be listed, and a list be written as a set.
    if found != brackets and {found, brackets} != {"", "{}"}:
        return False
    if len(elements) != len(wanted) or len(wanted) > _MOST_ELEMENTS:
        return found == brackets == r"\cup" and _asked(answer, reference, ask)
    named = all(is_relation(one) for one in wanted)
    free = (
        brackets in ("{}", r"\cup")
        or named
        or (brackets == "" and len(wanted) == 2 and all(map(_is_formula, wanted)))
        or (brackets == "" and found == "{}")
    )
    if not free:
        pairs = zip(elements, wanted, strict=True)
        return all(_equal(*map(normalise, pair), ask) for pair in pairs)
    left = list(map(normalise, elements))
    for one in map(normalise, wanted):
        match = next((other for other in left if _equal(other, one, ask)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _is_formula_or_relation(text: str) -> bool:
    return is_relation(text) or _is_formula(text)


def _is_formula(text: str) -> bool:
    if parse_number(text) is not None:
        return True
    return parse_name(text) is None and is_mathematics(text)


def _in_pairs(text: str) -> str:
    r"""``\pm 3`` as ``3, -3``: what has one such sign stands for two."""
    if text.count(r"\pm") != 1 or r"\mp" in text:
        return text
    plus, minus = (
        re.sub(r"^\+", "", text.replace(r"\pm", sign).replace("+ ", "+")).strip()
        for sign in "+-"
    )
    return f"{plus}, {minus}"


def _equal_relations(answer: str, reference: str, ask: Ask) -> bool:
    if answer.replace(" ", "") == reference.replace(" ", ""):
        return True
    name, value = _name_and_value(reference)
    if name is not None:
        its_name, its_value = _name_and_value(answer)
        if its_name is not None:
            if its_name.replace(" ", "") == name.replace(" ", ""):
                return _equal(its_value, value, ask)
        elif not is_relation(answer):
            return _equal(answer, value, ask)
    chain = _same_chain(answer, reference, ask)
    if chain is not None:
        return chain
    if not is_relation(answer) and parse_collection(answer) is None:
        return False
    return _asked(answer, reference, ask)


def _same_chain(answer: str, reference: str, ask: Ask) -> bool | None:
    """Whether two chains put the same things in one order; None if algebra may know.

    Names are the same if they are written the same, numbers if they have one value.
    """

    def same(one: str, other: str) -> bool:
        plain = [re.sub(r"[\s{}]", "", text) for text in (one, other)]
        if plain[0] == plain[1]:
            return True
        if _CLOSED_FORM.fullmatch(other):
            return _equal(normalise(one), normalise(other), ask)
        # Words in any case; a and A, a side and an angle, are two things.
        words = [_words(text) for text in (one, other)]
        are_words = min(map(len, words)) > 2 and not any(map(str.isupper, words))
        return are_words and words[0].casefold() == words[1].casefold()

    wanted = parse_chain(reference)
    found = parse_chain(answer) if wanted else None
    if not wanted or not found:
        return None
    if found.same(wanted, same):
        return True
    decided = len(wanted.steps) > 2 and wanted.is_plain and found.is_plain
    return False if decided else None


def _equal_expressions(answer: str, reference: str, ask: Ask) -> bool:
    if r"\pm" in reference and parse_collection(_in_pairs(reference)):
        return _equal_collections(_in_pairs(answer), _in_pairs(reference), ask)
    # An equation for a value: only what it calls the value may stand before it.
    answer = _without_name(answer)
    if answer == reference:
        return True
    if is_relation(answer) or parse_collection(answer) is not None:
        return False
    number = parse_number(answer)
    if number is not None:
        if number.sign not in ("", "°") or not _CLOSED_FORM.fullmatch(reference):
            return False
        tolerance = rounding_error(number)
        return _asked(_plain(number.value), reference, ask, tolerance)
    name = parse_name(answer)
    if name is not None and name[0] != "product":
        return False
    return _asked(answer, reference, ask)


def _equal_texts(answer: str, reference: str, ask: Ask) -> bool:
    if _letters_of(reference) and parse_choices(answer):
        # A, C for AC
        chosen, option = parse_choices(answer)
        return not option and chosen == _letters_of(reference)
    if _same_chain(answer, reference, ask):
        return True
    formulas = _formula(answer), _formula(reference)
    if None not in formulas and any(map(str.isdigit, formulas[1])):
        return formulas[0] == formulas[1]
    if None not in formulas and formulas[0] == formulas[1]:
        return True  # H+ for H^+
    if _is_genotype(reference):
        return False
    words = _words(answer), _words(reference)
    if words[0].casefold() != words[1].casefold():
        return False
    return (
        words[0] == words[1]
        or words[1].upper() not in _TWO_MEANINGS.split()
        or (not all(word[:1].isupper() for word in words))
    )


def _is_genotype(reference: str) -> bool:
    """Pairs of one letter, large or small, where the size is what is said: AaBb."""
    pairs = re.findall("..?", reference)
    return bool(re.fullmatch("[A-Za-z]{2,8}", reference)) and all(
        len(pair) == 2 and pair[0].lower() == pair[1].lower() for pair in pairs
    )


def _letters_of(reference: str) -> frozenset[str] | None:
    """The choices of ``AC``: capitals in the order of the alphabet."""
    if re.fullmatch("[A-J]{2,}", reference) and list(reference) == sorted(
        set(reference)
    ):
        return frozenset(reference)
    return None


def _formula(text: str) -> str | None:
    """A formula of chemistry without its typography: H_{2}O is H2O."""
    bare = re.sub(r"[_{}\s]", "", text)
    return bare.replace("^", "") if _CHEMICAL.fullmatch(bare) else None


def _words(text: str) -> str:
    """Words with one blank between them, without an article before them."""
    text = re.sub(r"_\{(\w+)\}", r"_\1", text.rstrip("!? "))
    text = re.sub(r"\\frac\s*\{(\w+)\}\s*\{(\w+)\}", r"\1/\2", text)
    # U.S.A. and Mr. Smith, with and without full stops
    text = re.sub(
        r"(?<![\w.])(?:[A-Za-z]\.)+[A-Za-z]\.?(?!\w)|\b(?i:[MD]rs?|Ms|St|Jr|Sr|No|vs)\.",
        lambda match: match[0].replace(".", ""),
        text,
    )
    text = re.sub(r"(\\[a-zA-Z]+)\s*\{(\w+)\}", r"\1 \2", text)
    text = re.sub(r"(?<=\w)-(?=\w)", " ", text)
    text = re.sub(
        r"\s*(\\to(?![a-zA-Z])|->|[,;:/()&+])\s*", r"\1", " ".join(text.split())
    )
    return _ARTICLE.sub("", text, count=1) if _ARTICLE.match(text) else text


_COMPARISONS = {
    Kind.CHOICE: _equal_choices,
    Kind.NUMBER: _equal_to_number,
    Kind.NAME: _equal_names,
    Kind.QUANTITY: _equal_quantities,
    Kind.COLLECTION: _equal_collections,
    Kind.RELATION: _equal_relations,
    Kind.EXPRESSION: _equal_expressions,
    Kind.TEXT: _equal_texts,
}


# -- equations --------------------------------------------------------------------


def _without_name(answer: str) -> str:
    """What an answer says the value is: 5 in x = 5; the answer itself if it says none.

    In a chain such as ``x = 10/2 = 5`` every value must be the same one, which is left
    to nobody to check: it stays as it is, and is not a number.
    """
    name, value = _name_and_value(answer)
    return answer if name is None else value


def _name_and_value(text: str) -> tuple[str | None, str]:
    """Both sides of ``x = 5``; None and the text for all else."""
    parts = split_outside_brackets(text.replace(r"\approx", "="), ("=",))
    if len(parts) == 2 and not re.search(r"[<>]|\\(?:le|ge|ne)(?![a-zA-Z])", text):
        name, value = parts
        if value and _is_name(name):
            return name, value
    return None, text


def _is_name(text: str) -> bool:
    if _SEVERAL_WORDS.fullmatch(text):
        return _NO_PART_OF_A_NAME.search(text) is None
    return _NAME.fullmatch(text + " ") is not None and text.lower() not in _NOT_NAMES


def _only_element(answer: str) -> str:
    r"""5 for ``\{5\}``: a set of one value says that value."""
    parsed = parse_collection(answer)
    if parsed and parsed[0] == "{}" and len(parsed[1]) == 1:
        return normalise(parsed[1][0])
    return answer


# -- algebra ----------------------------------------------------------------------


def _asked(
    answer: str, reference: str, ask: Ask, tolerance: Fraction | None = None
) -> bool:
    """The verdict of algebra, for an answer that is mathematics and can be computed."""
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
    return ask(*pair, tolerance)


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
