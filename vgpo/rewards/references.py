"""Reference answers: what of a data set's column can be matched at all.

A reference that no answer can equal costs a training run its signal without a word. So
the forms that data sets are known to wrap answers in are taken off, and what is no
answer is an error, when the data are loaded.
"""

import math
import numbers
import re
from collections.abc import Sequence

from vgpo.rewards.boxed import last_boxed
from vgpo.rewards.compare import LONGEST_ANSWER

_TAGS = re.compile(r"<(answer|solution|final_answer|ans)>(.*?)</\1>", re.I | re.DOTALL)
# Whatever a data set calls it, what stands in one pair of tags alone
_ANY_TAG = re.compile(r"<([a-z_]+)>((?:(?!</?\1>).)*)</\1>", re.I | re.DOTALL)
_FENCE = re.compile(r"```(?:\w+\n|\n)?(.*?)\n?```", re.DOTALL)
_THINKING = re.compile(r".*</think>", re.I | re.DOTALL)
_HASHES = re.compile(r".*####(.*)", re.DOTALL)
# At the end of a text: "..., so the answer is 3."
_PROSE = re.compile(
    r"(?:.*[\n.,:;!?*]\s*|)(?:(?:so|thus|hence|therefore),?\s+)?\**(?:(?:the|my)\s+)?"
    r"(?:final\s+|correct\s+|right\s+)?(?:answer|option|choice)\**\s*(?:is\b|[:=])\s*:?\**\s*(\S.{0,255}?)\s*",
    re.IGNORECASE | re.DOTALL,
)
_CHINESE_PROSE = re.compile(
    r"(?:.*[\n。，；]|)\s*(?:所以|因此|故)?(?:正确|最终)?答案(?:是|为|：|:)\s*[：:]?(.{1,255}?)[。\s]*",
    re.DOTALL,
)

_NOTHING = frozenset(["nan", "null", "<na>", "nat"])
_CONTAINER = re.compile(
    r"[\[{(]\s*['\"].*['\"]\s*,?\s*[\]})]|\{\s*['\"].*\}", re.DOTALL
)
# What Python prints for an object in the place of its value
_PRINTED = re.compile(
    r"(?:(?:np|numpy|torch|datetime|decimal)\.)*(?:array|tensor|Decimal|Fraction|Timestamp"
    r"|u?int\d*|float\d*|bool_|str_|date|datetime)\(.*\)|b'.*'|b\".*\"|<.* at 0x\w+>",
    re.DOTALL,
)
# What binary arithmetic leaves behind: 3.0000000000000004, 0.30000000000000004
_NOISE = re.compile(r"[+-]?\d*\.\d*(?:0{6,}|9{6,})\d{1,3}")
_DIGITS_OF_A_FLOAT = 15


def strip_reference(text: str) -> str:
    r"""A reference without the wrapping that data sets are known to have.

    ``<answer>D</answer>``, ``#### 3``, ``The answer is 3.``, ``\boxed{3}`` after any
    text; what is in none of them stays as it is.

    Example:
        >>> strip_reference("<think>...</think><answer> D </answer>")
        'D'
        >>> strip_reference("5 + 5 = 10\n#### 10"), strip_reference("The answer is 3.")
        ('10', '3')
        >>> strip_reference("3 apples")
        '3 apples'
    """
    text = _THINKING.sub("", text.strip(), count=1).strip()
    tags = list(_TAGS.finditer(text))
    if tags:
        text = tags[-1][2].strip()
    elif match := _ANY_TAG.fullmatch(text):
        text = match[2].strip()
    if match := _FENCE.fullmatch(text):
        text = match[1].strip()
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed.strip()
    if match := _HASHES.fullmatch(text):
        text = match[1].strip()
    if match := _PROSE.fullmatch(text):
        return match[1].rstrip(".").strip("* ") or text
    if "答案" in text and (match := _CHINESE_PROSE.fullmatch(text)):
        return match[1].strip("* ") or text
    return text


def parse_reference(value, label_names: Sequence[str] | None = None) -> str:
    """One value of an answer column as the text that answers are compared to.

    For whoever loads data: an error here, with the row's number added, is worth more
    than a run without rewards.

    Args:
        value: Text, or a number.
        label_names: For a column of label ids, what they mean, in their order.

    Returns:
        The text, without what data sets wrap around answers (:func:`strip_reference`).

    Raises:
        ValueError: ``value`` is missing, empty, a truth value, a list, a dictionary or
            anything else that is not text or a number; a number whose printed form
            nobody writes; a text that is such a thing, printed; or a text too long for
            an answer to equal it.

    Example:
        >>> parse_reference(" #### 3 "), parse_reference(0.5), parse_reference(3.0)
        ('3', '0.5', '3')
        >>> parse_reference(1, label_names=["cat", "dog"])
        'dog'
        >>> parse_reference(["3", "three"])
        Traceback (most recent call last):
        ValueError: ['3', 'three'] is a list, not a reference answer; give one text
    """
    if label_names is not None:
        return _label(value, label_names)
    if isinstance(value, str):
        return _text(value)
    if value is None:
        raise ValueError("None is no reference answer; drop the row, or fill it in")
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        raise ValueError(
            f"{value!r} is a truth value, not a reference answer; write what is "
            "expected in the box, such as 'yes' or 'True'"
        )
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Rational):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, numbers.Real):
        return _float(float(value))
    kinds = {dict: "a dictionary", list: "a list", tuple: "a list", set: "a list"}
    kind = kinds.get(type(value), f"of type {type(value).__name__}")
    raise ValueError(
        f"{_short(value)} is {kind}, not a reference answer; give one text"
    )


def _label(value, label_names: Sequence[str]) -> str:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{_short(value)} is no label id; give an integer")
    if not 0 <= value < len(label_names):
        raise ValueError(
            f"{value} is no label id: there are {len(label_names)} labels, and ids "
            "begin at 0"
        )
    return _text(label_names[value])


def _text(value: str) -> str:
    text = strip_reference(value)
    if not text:
        raise ValueError(
            f"{_short(value)} is no reference answer but empty; drop the row, or fill "
            "it in"
        )
    if text.casefold() in _NOTHING:
        raise ValueError(
            f"{_short(value)} is what a missing value is printed as; drop the row, or "
            "fill it in"
        )
    if _CONTAINER.fullmatch(text):
        raise ValueError(
            f"{_short(value)} is a printed list or dictionary, not a reference answer; "
            "give one text"
        )
    if _PRINTED.fullmatch(text):
        raise ValueError(
            f"{_short(value)} is how Python prints an object, not a reference answer; "
            "give its value as text"
        )
    if _NOISE.fullmatch(text):
        raise ValueError(
            f"{_short(value)} is a rounding error of binary arithmetic, which nobody "
            "writes; round the column"
        )
    if len(text) > LONGEST_ANSWER:
        raise ValueError(
            f"{_short(value)} has {len(text)} characters, which no answer will repeat; "
            f"give the answer alone, of at most {LONGEST_ANSWER}"
        )
    return text


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{value} is no reference answer; drop the row, or fill it in")
    printed = repr(value)
    digits = len(re.sub(r"e.*|[-.]", "", printed).strip("0"))
    if "e" in printed or digits > _DIGITS_OF_A_FLOAT:
        raise ValueError(
            f"{printed} is a form in which nobody writes this number; give it as the "
            "text that is expected"
        )
    return printed.removesuffix(".0")


def _short(value) -> str:
    printed = repr(value)
    return printed if len(printed) <= 60 else f"{printed[:57]}..."
