r"""Whether an answer is the reference, within the reference's kind.

What is plain is decided here, exactly and at once. What needs algebra is asked of
``ask(answer, reference, tolerance)``, which is math-verify behind a fence
(`vgpo.rewards.verify`) when the rewards call, and may be anything in a test.
"""

import re

from vgpo.rewards.algebra import Ask, equal_by_algebra, in_latex, is_closed_form
from vgpo.rewards.chains import parse_chain
from vgpo.rewards.equations import name_and_value, without_name
from vgpo.rewards.kinds import (
    Kind,
    is_mathematics,
    is_relation,
    kind_of,
    parse_choices,
    parse_collection,
)
from vgpo.rewards.names import parse_name, same_name
from vgpo.rewards.normalise import normalise
from vgpo.rewards.numbers import equal_numbers, parse_number, rounding_error
from vgpo.rewards.quantities import parse_quantities, parse_quantity
from vgpo.rewards.words import letters_of, plain_words, same_words

# No reference answer of a short-answer data set comes near it; an answer that long
# is right only if it is the reference, letter by letter.
LONGEST_ANSWER = 256

_MOST_ELEMENTS = 30

_OR = re.compile(r"\bor\b|\\(?:lor|vee)(?![a-zA-Z])")
_DIFFERENCE = re.compile(r"[\d.,/ ]+-[\d.,/ ]+")  # a range, or the like
_MEMBER = re.compile(r"[a-zA-Z]\s*\\in\s*")


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
    answer, reference = _as_interval(answer), _as_interval(reference)
    kind = kind_of(reference)
    if kind is not Kind.CHOICE:
        # An option's letter before its text says which option, and the text is asked.
        choice = parse_choices(answer)
        if choice and choice[1] and not parse_choices(reference):
            answer = choice[1]
    return _COMPARISONS[kind](answer, reference, ask)


def _as_interval(text: str) -> str:
    """All real numbers, which have a sign of their own, as the interval they are."""
    return r"(-\infty, \infty)" if text == r"\mathbb{R}" else text


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
    answer = without_name(answer)
    number, wanted = parse_number(answer), parse_number(reference)
    if number is not None:
        return equal_numbers(number, wanted)
    answer = _only_element(answer)
    if parse_number(answer) is not None:
        return equal_numbers(parse_number(answer), wanted)
    name = parse_name(answer)
    if (name and name[0] != "product") or not is_closed_form(answer):
        return False
    if _DIFFERENCE.fullmatch(answer):
        return False
    if wanted.sign == "%":
        return False
    return equal_by_algebra(answer, in_latex(wanted.value), ask, rounding_error(wanted))


def _only_element(answer: str) -> str:
    r"""5 for ``\{5\}``: a set of one value says that value."""
    parsed = parse_collection(answer)
    if parsed and parsed[0] == "{}" and len(parsed[1]) == 1:
        return normalise(parsed[1][0])
    return answer


def _equal_names(answer: str, reference: str, ask: Ask) -> bool:
    return same_name(answer, parse_name(reference))


def _equal_quantities(answer: str, reference: str, ask: Ask) -> bool:
    answer = without_name(answer)
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
            one if isinstance(one, str) else in_latex(one.value)
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
    if _MEMBER.match(answer):
        answer = _as_interval(_MEMBER.sub("", answer, count=1))
    parsed = parse_collection(_in_pairs(answer))
    if parsed is None:
        if len(wanted) == 1 and brackets == "{}":
            return _equal(answer, wanted[0], ask)
        crossed = brackets not in ("", "{}") and is_relation(answer)
        return crossed and equal_by_algebra(answer, reference, ask)
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
        return found == brackets == r"\cup" and equal_by_algebra(answer, reference, ask)
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
    name, value = name_and_value(reference)
    if name is not None:
        its_name, its_value = name_and_value(answer)
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
    return equal_by_algebra(answer, reference, ask)


def _same_chain(answer: str, reference: str, ask: Ask) -> bool | None:
    """Whether two chains put the same things in one order; None if algebra may know.

    Names are the same if they are written the same, numbers if they have one value.
    """

    def same(one: str, other: str) -> bool:
        plain = [re.sub(r"[\s{}]", "", text) for text in (one, other)]
        if plain[0] == plain[1]:
            return True
        if is_closed_form(other):
            return _equal(normalise(one), normalise(other), ask)
        # Words in any case; a and A, a side and an angle, are two things.
        words = [plain_words(text) for text in (one, other)]
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
    answer = without_name(answer)
    if answer == reference:
        return True
    if is_relation(answer) or parse_collection(answer) is not None:
        return False
    number = parse_number(answer)
    if number is not None:
        if number.sign not in ("", "°") or not is_closed_form(reference):
            return False
        tolerance = rounding_error(number)
        return equal_by_algebra(in_latex(number.value), reference, ask, tolerance)
    name = parse_name(answer)
    if name is not None and name[0] != "product":
        return False
    return equal_by_algebra(answer, reference, ask)


def _equal_texts(answer: str, reference: str, ask: Ask) -> bool:
    if letters_of(reference) and parse_choices(answer):
        # A, C for AC
        chosen, option = parse_choices(answer)
        return not option and chosen == letters_of(reference)
    if _same_chain(answer, reference, ask):
        return True
    return same_words(answer, reference)


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
