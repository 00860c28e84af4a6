"""What holds for every answer, and not for those of a table alone."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgpo.rewards import parse_reference
from vgpo.rewards.boxed import last_boxed, last_boxed_plainly
from vgpo.rewards.compare import equal
from vgpo.rewards.kinds import Kind, kind_of
from vgpo.rewards.names import is_pair
from vgpo.rewards.normalise import normalise
from vgpo.rewards.numbers import parse_number

# The pieces answers are made of, the confusing ones among them.
PIECES = [
    *"0123456789abxyiABCDHO+-*/^_!,.:;=<>|()[]{}$%& '\"~`#@?\\",
    *("°", "²", "½", "٣", "５", "，", "。", "（", "√", "−", "∞", "红", "é", "\u200b"),
    *(r"\frac", r"\sqrt", r"\text{", r"\left(", r"\right]", r"\pi", r"\pm", r"\cup"),
    *(r"\cdot", r"\times", r"\\", r"\{", r"\}", r"\,", r"\overline{", "10^{", "**"),
    *("1,000", " cm", " or ", " and ", "the answer is ", "A. ", "e5", "\x00", "\n"),
]
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    # One or two pieces over and over, which is what regular expressions are slow at
    st.tuples(
        st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join),
        st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join),
    ).map(lambda two: (two[0] * 40 + two[1] * 40)[:256]),
)


def refuse(answer, reference, tolerance):
    return False


@pytest.mark.timeout(120)
@settings(deadline=2_000, max_examples=400)
@given(TEXTS, TEXTS)
def test_no_text_raises_or_takes_long(answer, reference):
    assert equal(answer, reference, refuse) in (True, False)
    kind_of(normalise(reference))


@settings(deadline=2_000, max_examples=200)
@given(TEXTS)
def test_a_reference_is_text_or_a_clear_error(text):
    try:
        assert parse_reference(text).strip()
    except ValueError as error:
        assert str(error)


@settings(deadline=2_000, max_examples=200)
@given(TEXTS)
def test_normalising_twice_changes_nothing_for_plain_text(text):
    once = normalise(text)
    if text.isascii() and text.replace(" ", "").isalnum():
        assert normalise(once) == once


NAMES = st.sampled_from(["red", "light blue", "north", "yes", "George Washington"])
NUMBERS = st.integers(-(10**9), 10**9)
PLAIN_ANSWERS = st.one_of(
    NUMBERS.map(str),
    st.decimals(-1000, 1000, places=3).map(str),
    st.tuples(NUMBERS, st.integers(1, 99)).map(lambda two: f"{two[0]}/{two[1]}"),
    st.sampled_from("ABCDEFGH"),
    NAMES,
    st.tuples(st.integers(0, 99), st.integers(0, 99)).map(
        lambda two: f"{two[0]}-{two[1]}"
    ),
    st.tuples(st.integers(0, 23), st.integers(0, 59)).map(
        lambda two: f"{two[0]}:{two[1]:02}"
    ),
    st.tuples(st.integers(0, 99), st.sampled_from(["cm", "kg", "apples", "m/s"])).map(
        lambda two: f"{two[0]} {two[1]}"
    ),
    st.tuples(NUMBERS, NUMBERS).map(lambda two: f"({two[0]}, {two[1]})"),
)
DRESSED = st.sampled_from(
    ["%s", " %s ", "$%s$", "**%s**", "%s.", r"\text{%s}", "{%s}", "The answer is %s."]
)


@settings(deadline=2_000, max_examples=200)
@given(PLAIN_ANSWERS, DRESSED)
def test_an_answer_is_itself_in_every_dress(answer, dress):
    assert equal(dress % answer, answer, refuse)
    assert equal(answer, dress % answer, refuse)


@settings(deadline=2_000, max_examples=300)
@given(PLAIN_ANSWERS, PLAIN_ANSWERS)
def test_plain_answers_are_equal_both_ways_or_neither(one, other):
    assert equal(one, other, refuse) == equal(other, one, refuse)


def written(value: Fraction) -> st.SearchStrategy[str]:
    """Ways to write a fraction, a plain decimal among them if it is one."""
    p, q = value.numerator, value.denominator
    ways = [f"{p}/{q}", rf"\frac{{{p}}}{{{q}}}", f"{3 * p}/{3 * q}"]
    whole, rest = divmod(abs(p), q)
    sign = "-" if p < 0 else ""
    if rest and whole:
        ways += [f"{sign}{whole} {rest}/{q}", rf"{sign}{whole}\frac{{{rest}}}{{{q}}}"]
    if q == 1:
        ways += [f"{p}", f"{p:,}", f"{p}.0", rf"{p}\times 10^{{0}}", f"{p}e0"]
    if 1000 % q == 0:
        thousandths = abs(p) * (1000 // q)
        ways += [
            f"{sign}{thousandths // 1000}.{thousandths % 1000:03}",
            f"{sign}{thousandths}e-3",
            rf"{sign}{thousandths} \times 10^{{-3}}",
        ]
    return st.sampled_from([way for way in ways if "/1" not in way[-2:]])


FRACTIONS = st.builds(Fraction, st.integers(-9999, 9999), st.integers(1, 60))


@settings(deadline=2_000, max_examples=400)
@given(st.data())
def test_numbers_are_equal_if_and_only_if_their_fractions_are(data):
    one = data.draw(FRACTIONS)
    other = data.draw(st.one_of(st.just(one), FRACTIONS))
    texts = data.draw(written(one)), data.draw(written(other))
    numbers = [parse_number(text) for text in texts]
    # 70/70, 120/80 and their kind are no fractions but names.
    if None not in numbers and not is_pair(texts[1]):
        assert [number.value for number in numbers] == [one, other]
        assert equal(*texts, refuse) == (one == other)


@settings(deadline=2_000, max_examples=200)
@given(
    st.integers(1, 10**6),
    st.integers(-30, 30),
    st.integers(1, 10**6),
    st.integers(-30, 30),
)
def test_powers_of_ten_are_exact(a, m, b, n):
    same = Fraction(a) * Fraction(10) ** m == Fraction(b) * Fraction(10) ** n
    assert equal(f"{a}e{m}", rf"{b} \times 10^{{{n}}}", refuse) == same


@settings(deadline=2_000, max_examples=200)
@given(*[st.integers(0, 3000)] * 4)
def test_ranges_are_equal_if_their_ends_are(a, b, c, d):
    reference = f"{c}-{d}"
    assert kind_of(reference) == Kind.NAME
    assert equal(f"{a}–{b}", reference, refuse) == ((a, b) == (c, d))
    assert not equal(str(c - d), reference, refuse)
    assert not equal(reference, str(c - d), refuse)


WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=8)


@settings(deadline=2_000, max_examples=200)
@given(WORDS, st.randoms())
def test_anagrams_are_other_words(word, random):
    letters = list(word)
    random.shuffle(letters)
    anagram = "".join(letters)
    assert equal(anagram, word, lambda *_: True) == (anagram == word)


@settings(deadline=2_000, max_examples=200)
@given(TEXTS)
def test_boxes(text):
    balanced = text.replace("{", "").replace("}", "").replace("\\", "")
    assert last_boxed(rf"a \boxed{{{balanced}}} b") == balanced
    assert last_boxed_plainly(rf"a \boxed{{{balanced}}} b") == balanced.strip()
    last_boxed(text), last_boxed_plainly(text)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed {5}", "5"),
        ("\\boxed\n{5}", "5"),
        (r"\boxed 5", "5"),
        (r"\boxed 12.5.", "12.5"),
        (r"\boxed B", "B"),
        (r"\boxed{5}, put in \boxed form", "5"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{[1, 2\}}", r"[1, 2\}"),
        (r"\boxed", None),
        (r"\boxed {5", None),
        (r"\boxed Because", None),
    ],
)
def test_spellings_of_a_box(text, content):
    assert last_boxed(text) == content
