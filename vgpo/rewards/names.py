r"""Labels that look like arithmetic and are names: ranges, scores, dates, times.

``10-20`` is not -10, ``3-1`` is not ``4-2`` and ``10:30`` is not 1/3. Each kind has its
own spellings; beyond them, what is written differently is different.
"""

import math
import re
from collections.abc import Hashable

from vgpo.rewards.numbers import Number, parse_number
from vgpo.rewards.quantities import parse_unit

_MONTHS = (
    "january february march april may june july august september october november "
    "december"
)
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]*\.?"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"

_ISO_DATE = re.compile(r"(\d{4})([-/.年])(\d{1,2})[-/.月](\d{1,2})日?")
_MONTH_FIRST = re.compile(rf"{_MONTH}\s*{_DAY}(?:\s*,?\s*(\d{{4}}))?", re.IGNORECASE)
_DAY_FIRST = re.compile(
    rf"{_DAY}\s*(?:of\s+)?{_MONTH}(?:\s*,?\s*(\d{{4}}))?", re.IGNORECASE
)
_MONTH_AND_YEAR = re.compile(rf"{_MONTH}\s*,?\s*(\d{{4}})", re.IGNORECASE)
_OTHER_DATE = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})")

_HALF = r"(?:\s*(a|p)\.?\s*m\.?)"
_CLOCK = re.compile(rf"(\d{{1,2}})\s*:\s*(\d{{2}})(?:\s*:\s*(\d{{2}}))?{_HALF}?", re.I)
_HOUR = re.compile(rf"(\d{{1,2}}){_HALF}", re.I)
_O_CLOCK = re.compile(r"(\d{1,2})\s*o'?\s*clock", re.I)
_RATIO = re.compile(r"\d[\d,.]*(?:\s*:\s*\d[\d,.]*)+")

_TIMES = re.compile(r"\s*(?:\\times|(?<=[\da-z°])\s*[xX]\s*(?=[\d.])|\bby\b)\s*")
_FACTOR = re.compile(
    r"(\d+(?:,\d{3})*(?:\.\d+)?)(?:\s*\^\s*\{?(\d+)\}?)?\s*([a-zA-Z]*)"
)

# A factorisation may be written with any sign of multiplication.
_WRITTEN_TIMES = re.compile(r"\\cdot(?![a-zA-Z])\s*|\*")
_OVER = re.compile(r"(\d{2,3})\s*/\s*(\d{2,3})")
_FRACTION = re.compile(r"\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")

_SIDE = r"[+-]?\s*(?:[$€£¥₹]\s*)?\.?\d[\d,.]*(?:\s?[%°])?(?:\s?[$€£¥₹])?"
_RANGE = re.compile(
    rf"(?:from\s+)?({_SIDE})\s*(?:-|~|\\sim|\bto\b|\\to|\bthrough\b)"
    rf"\s*({_SIDE})\s*([a-zA-Z%°].*)?",
    re.IGNORECASE,
)
_UNIT_TWICE = re.compile(
    rf"(?:from\s+)?({_SIDE})\s*([a-zA-Z°]+)\s*(?:-|\bto\b)\s*({_SIDE})\s*\2"
)
_BETWEEN = re.compile(
    rf"between\s+({_SIDE})\s*(?:-|\band\b)\s*({_SIDE})\s*([a-zA-Z%°].*)?",
    re.IGNORECASE,
)
_PHONE = re.compile(r"\+?[\d() .-]+")
_DOTTED = re.compile(r"[vV]?\d+(?:\.\d+){2,}")


def parse_name(text: str) -> Hashable | None:
    """What a normalised text names, to be compared by ``==``; None if it is no name.

    Sizes and factorisations, pairs such as a blood pressure of 120/80, dates, times of
    day, ratios and scores, ranges, telephone numbers and the like, versions and
    addresses.

    Example:
        >>> parse_name("10 to 20") == parse_name("10-20") != parse_name("20-30")
        True
        >>> parse_name("Jan 2, 2020") == parse_name("2020-01-02")
        True
        >>> parse_name("10:30 pm") == parse_name("22:30")
        True
        >>> parse_name("-10") is None
        True
    """
    return (
        _product(text)
        or _pair(text)
        or _date(text)
        or _time(text)
        or _ratio(text)
        or _range(text)
        or _digits(text)
    )


def same_name(answer: str, reference: Hashable) -> bool:
    """Whether an answer names what the reference does."""
    if reference[0] == "product":
        answer = _WRITTEN_TIMES.sub(r"\\times ", answer)
    if reference[0] == "pair" and (match := _FRACTION.fullmatch(answer)):
        answer = f"{match[1]}/{match[2]}"
    name = parse_name(answer)
    if name is None and reference[0] == "digits" and answer.isdigit():
        return reference == ("digits", answer)
    if name is not None and (name[0], reference[0]) == ("range", "colon"):
        # "3 to 4" is a ratio where the reference is one.
        return "to" in answer and ("colon", *map(str, name[1:3])) == reference
    if name is None or name[0] != "range" or reference[0] != "range":
        return name == reference
    *ends, sign, unit = name
    *wanted, wanted_sign, wanted_unit = reference
    # Money may go without its sign, as in numbers; a percentage may not.
    signs_agree = sign == wanted_sign or (
        "" in (sign, wanted_sign) and "%" not in (sign, wanted_sign)
    )
    return ends == wanted and unit == wanted_unit and signs_agree


def _product(text: str) -> tuple | None:
    """Sizes and factorisations, which are asked for as such: 3 x 4 is not 12."""
    parts = _TIMES.split(text)
    dotted = _WRITTEN_TIMES.split(text)
    if len(parts) < 2 < 1 + len(dotted) and all(map(_is_power_of_a_prime, dotted)):
        # Nobody but who factorises leaves 2^3·3 like that; 12·11 may be worked out.
        parts = [part.strip() for part in dotted]
    if len(parts) < 2:
        return None
    factors = []
    for part in parts:
        match = _FACTOR.fullmatch(part)
        unit = match and (parse_unit(match[3]) if match[3] else "")
        if unit is None or not match:
            return None
        power = int(match[2] or 1) if not match[2] or len(match[2]) < 5 else None
        factors.append((parse_number(match[1]).value, power, unit))
    if all(factor[0] == 10 for factor in factors[1:]) and factors[1][1] != 1:
        return None  # a power of ten
    # The last unit is that of all: 8 x 10 in.
    factors = [(value, power, unit or factors[-1][2]) for value, power, unit in factors]
    has_powers = any(power != 1 for _, power, _ in factors)
    if has_powers or len(factors) > 2:
        factors.sort(key=str)  # the factors of a number come in any order
    return ("product", *factors)


def _is_power_of_a_prime(text: str) -> bool:
    match = _FACTOR.fullmatch(text.strip())
    base = match and not match[3] and match[1].isdigit() and int(match[1][:6])
    return (
        bool(base)
        and base > 1
        and all(base % i for i in range(2, math.isqrt(base) + 1))
    )


def is_pair(text: str) -> bool:
    """Whether a normalised text is two large numbers, one over the other.

    Example:
        >>> is_pair("120/80"), is_pair("50/50"), is_pair("12/15"), is_pair("4/2")
        (True, True, False, False)
    """
    return _pair(text) is not None


def _pair(text: str) -> tuple | None:
    """Two large numbers that are no fraction, or it would be reduced: 120/80, 50/50.

    A share such as 12/15 may be left as it was counted.
    """
    match = _OVER.fullmatch(text)
    if not match:
        return None
    over, under = int(match[1]), int(match[2])
    if over >= under and math.gcd(over, under) > 1:
        return ("pair", match[1], match[2])
    return None


def _date(text: str) -> tuple | None:
    if match := _ISO_DATE.fullmatch(text):
        return ("date", int(match[1]), int(match[3]), int(match[4]))
    if match := _MONTH_FIRST.fullmatch(text):
        month, day, year = match.groups()
    elif match := _DAY_FIRST.fullmatch(text):
        day, month, year = match.groups()
    elif match := _MONTH_AND_YEAR.fullmatch(text):
        month, year = match.groups()
        return ("month", int(year), _month(month))
    elif match := _OTHER_DATE.fullmatch(text):
        # Day or month first, nobody knows: only the same order is the same date.
        return ("day", int(match[1]), int(match[3]), match[4])
    else:
        return None
    return ("date", int(year) if year else None, _month(month), int(day))


def _month(name: str) -> int:
    starts = [month[:3] for month in _MONTHS.split()]
    return starts.index(name[:3].lower()) + 1


def _time(text: str) -> tuple | None:
    """A time of day, which is written like a ratio and compared like one."""
    if match := _CLOCK.fullmatch(text):
        hour, minute, second, half = match.groups()
    elif match := _HOUR.fullmatch(text):
        (hour, half), minute, second = match.groups(), "00", None
    elif match := _O_CLOCK.fullmatch(text):
        hour, minute, second, half = match[1], "00", None, None
    else:
        return None
    number = int(hour)
    if half:
        if not 1 <= number <= 12:
            return None
        number = number % 12 + (12 if half.lower() == "p" else 0)
    return ("colon", str(number), minute, *([second] if second else []))


def _ratio(text: str) -> tuple | None:
    if not _RATIO.fullmatch(text):
        return None
    first, *rest = (part.strip().replace(",", "") for part in text.split(":"))
    return ("colon", first.lstrip("0") or "0", *rest)


def _range(text: str) -> tuple | None:
    text = _UNIT_TWICE.sub(r"\1-\3 \2", text) if _UNIT_TWICE.fullmatch(text) else text
    match = _RANGE.fullmatch(text) or _BETWEEN.fullmatch(text)
    if not match:
        return None
    ends = [parse_number(side) for side in match.groups()[:2]]
    if None in ends:
        return None
    signs = {end.sign for end in ends} - {""}
    if len(signs) > 1:
        return None
    sign = signs.pop() if signs else ""
    values = [_unscaled(end) for end in ends]
    unit = (match[3] or "").strip().lower().replace("percent", "%")
    if unit in ("%", "$", "dollars"):
        sign, unit = {"dollars": "$"}.get(unit, unit), ""
    # 5-2i and 3-2x are mathematics: only a unit, or a word, may follow a range.
    known = parse_unit(unit) if unit else ""
    if known is None:
        if not re.fullmatch(r"[^\W\d_]{3,}(?: [^\W\d_]+)*", unit):
            return None
        known = unit.removesuffix("s")
    return ("range", *values, sign, known)


def _unscaled(end: Number):
    """10 for 10 %: in 10-20 % the sign belongs to both ends."""
    return end.value * 100 if end.sign == "%" else end.value


def _digits(text: str) -> tuple | None:
    if _DOTTED.fullmatch(text):
        return ("dotted", text.lower().removeprefix("v"))
    if _PHONE.fullmatch(text):
        digits = re.sub(r"\D", "", text)
        groups = len(re.findall(r"\d+", text))
        if len(digits) >= 6 and groups >= 3 and re.search(r"[-()+]", text):
            return ("digits", digits)
        if re.fullmatch(r"\d+(?:-\d+){2,}", text):
            return ("digits", text)
    return None
