r"""Numbers as people write them, read exactly: ``1,234.5``, ``1 1/2``, ``6.02e23``.

Two rules are decisions, and stand here once:

- **Percent.** ``n%`` is n/100. If the reference has the sign, its bare number n is
  right as well (the question has said "in percent"). If only the answer has it, n is
  right for a reference n above 1, which no share can be.
- **Rounding.** Numbers are compared exactly. Only where one of them has no finite
  decimal form (1/3, pi) is a decimal right that is it, rounded, to at least six
  decimals and six digits.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

# A tower of digits is refused, not computed: 10^400 is beyond every answer.
_LARGEST_EXPONENT = 400
_DECIMALS_OF_A_ROUNDED_NUMBER = 6

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:\.\d*)?|\.\d+"
_TIMES = r"\s*(?:\\times|\\cdot|\*|x|X)\s*"
_SUFFIX_OF_TEN = r"10\s*\^\s*(?:\{\s*([+-]?\d+)\s*\}|\(([+-]?\d+)\)|([+-]?\d+))"

_DECIMAL = re.compile(_PLAIN)
_RATIO = re.compile(rf"({_PLAIN})\s*/\s*({_PLAIN})")
_FRACTION = re.compile(
    rf"\\frac\s*(?:\{{\s*([+-]?)\s*({_PLAIN})\s*\}}|()(\d))"
    rf"\s*(?:\{{\s*({_PLAIN})\s*\}}|(\d))"
)
_MIXED = re.compile(
    r"(\d+)\s*(?:\s(\d+)\s*/\s*(\d+)|\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}"
    r"|\\frac\s*(\d)\s*(\d))"
)
_SCIENTIFIC = re.compile(
    rf"({_PLAIN})[eE]([+-]?\d+)|(?:({_PLAIN}){_TIMES})?{_SUFFIX_OF_TEN}"
)
_REPEATING = re.compile(
    r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*\{\s*(\d+)\s*\}|\\(?:overline|bar|dot)\s*(\d)"
    r"|\((\d+)\))"
)
_MAGNITUDES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_MAGNITUDE = re.compile(rf"(.*\d)\s*({'|'.join(_MAGNITUDES)})", re.IGNORECASE)

_PERCENT = re.compile(r"(.*\S)\s*(?:%|per\s?cents?)", re.IGNORECASE)
_DEGREES = re.compile(r"(.*\S)\s*(?:°|度|deg(?:ree)?s?)", re.IGNORECASE)
_CURRENCIES = {
    "$": "$",
    "US$": "$",
    "USD": "$",
    "€": "€",
    "EUR": "€",
    "£": "£",
    "GBP": "£",
    "¥": "¥",
    "JPY": "JPY",
    "CNY": "CNY",
    "RMB": "CNY",
    "₹": "₹",
    "INR": "₹",
    "Rs": "₹",
    "Rs.": "₹",
    "₩": "₩",
    "₽": "₽",
}
_CURRENCY_WORDS = {
    "dollar": "$",
    "dollars": "$",
    "us dollars": "$",
    "usd": "$",
    "euro": "€",
    "euros": "€",
    "eur": "€",
    "gbp": "£",
    "yen": "JPY",
    "jpy": "JPY",
    "yuan": "CNY",
    "cny": "CNY",
    "rmb": "CNY",
    "元": "CNY",
    "美元": "$",
    "欧元": "€",
    "日元": "JPY",
    "円": "JPY",
    "rupee": "₹",
    "rupees": "₹",
    "inr": "₹",
    "$": "$",
    "€": "€",
    "£": "£",
    "¥": "¥",
    "₹": "₹",
}


def _any_of(texts) -> str:
    """A pattern for any of some texts, the longest first."""
    return "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))


_BEFORE = re.compile(
    rf"([+-]?)\s*({_any_of(_CURRENCIES)})"
    r"\s*(?=[\d.+-])(.*)"
)
_AFTER = re.compile(
    rf"(.*\d(?:\s*(?:{'|'.join(_MAGNITUDES)}))?)\s*({_any_of(_CURRENCY_WORDS)})",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Number:
    """A number that was written down.

    Attributes:
        value: Exactly what was written, a percentage divided by 100.
        places: Decimals after the point for a plain decimal, else None.
        sign: ``%``, ``°``, a currency, or nothing.
    """

    value: Fraction
    places: int | None = None
    sign: str = ""


def parse_number(text: str) -> Number | None:
    r"""The number that a normalised text is, or None if it is something else.

    Integers and decimals with thousands separators, ``a/b`` and ``\frac{a}{b}``, mixed
    numbers, powers of ten, repeating decimals, percentages, money and degrees.

    Example:
        >>> parse_number("1 1/2").value, parse_number(r"6.02 \times 10^{23}").value
        (Fraction(3, 2), Fraction(602000000000000000000000, 1))
        >>> parse_number("50%")
        Number(value=Fraction(1, 2), places=2, sign='%')
        >>> parse_number("10-20") is None
        True
    """
    text = text.strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()  # what is left of (1, 2) is no number
    if match := _PERCENT.fullmatch(text):
        number = _bare(match[1])
        if number is None:
            return None
        places = None if number.places is None else number.places + 2
        return Number(number.value / 100, places, "%")
    if match := _DEGREES.fullmatch(text):
        number = _bare(match[1])
        return number and Number(number.value, number.places, "°")
    if match := _BEFORE.fullmatch(text):
        number = _bare(match[1] + match[3])
        return number and Number(number.value, number.places, _CURRENCIES[match[2]])
    if match := _AFTER.fullmatch(text):
        number = _bare(match[1])
        sign = _CURRENCY_WORDS[match[2].lower()]
        return number and Number(number.value, number.places, sign)
    return _bare(text)


def equal_numbers(answer: Number, reference: Number) -> bool:
    """Whether two numbers are the same, by the two rules of this module.

    Degrees and money may go without their sign; two different signs are two different
    things.
    """
    if "%" in (answer.sign, reference.sign):
        return _equal_shares(answer, reference)
    if answer.sign and reference.sign and answer.sign != reference.sign:
        return False
    return _close(answer, reference)


def rounding_error(number: Number) -> Fraction | None:
    """How far a decimal may be from what it is rounded from; None if it is too short.

    Example:
        >>> rounding_error(parse_number("0.333333"))
        Fraction(1, 2000000)
        >>> rounding_error(parse_number("0.33")) is None
        True
    """
    places = number.places
    if places is None or places < _DECIMALS_OF_A_ROUNDED_NUMBER:
        return None
    digits = len(str(abs(number.value * 10**places)))
    if digits < _DECIMALS_OF_A_ROUNDED_NUMBER:
        return None
    # A program prints its own rounding errors behind the fifteenth digit.
    return max(Fraction(1, 2 * 10**places), abs(number.value) / 10**14)


def _equal_shares(answer: Number, reference: Number) -> bool:
    """The rule for percentages; any other sign does not go with one."""
    if not {answer.sign, reference.sign} <= {"%", ""}:
        return False
    if _close(answer, reference):
        return True
    if reference.sign == answer.sign:
        return False
    if reference.sign == "%":
        return answer.value == reference.value * 100
    return answer.value * 100 == reference.value and abs(reference.value) > 1


def _close(answer: Number, reference: Number) -> bool:
    """Equal, or a decimal and the endless number it is rounded from."""
    if answer.value == reference.value:
        return True
    for decimal, endless in ((answer, reference), (reference, answer)):
        if not _is_finite_decimal(endless.value):
            error = rounding_error(decimal)
            if error is not None:
                return abs(answer.value - reference.value) <= error
    return False


def _is_finite_decimal(value: Fraction) -> bool:
    """Whether a number can be written with finitely many decimals."""
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def _bare(text: str) -> Number | None:
    """A number without percent, currency or degrees."""
    text = text.strip()
    sign = 1
    if text[:1] in ("+", "-"):
        sign = -1 if text[0] == "-" else 1
        text = text[1:].lstrip()
    number = _unsigned(text)
    if number is None:
        return None
    return Number(sign * number.value, number.places)


def _unsigned(text: str) -> Number | None:
    if _DECIMAL.fullmatch(text):
        return Number(_decimal(text), _places(text))
    if match := _RATIO.fullmatch(text):
        return _quotient(_decimal(match[1]), _decimal(match[2]))
    if match := _FRACTION.fullmatch(text):
        numerator = _decimal(match[2] or match[4])
        if match[1] == "-":
            numerator = -numerator
        return _quotient(numerator, _decimal(match[5] or match[6]))
    if match := _MIXED.fullmatch(text):
        whole, *parts = (int(group) for group in match.groups() if group is not None)
        numerator, denominator = parts
        if not 0 < numerator < denominator:
            return None
        return Number(whole + Fraction(numerator, denominator))
    if match := _SCIENTIFIC.fullmatch(text):
        mantissa = match[1] or match[3] or "1"
        exponent = int((match[2] or match[4] or match[5] or match[6])[:6])
        if abs(exponent) > _LARGEST_EXPONENT:
            return None
        value = _decimal(mantissa) * Fraction(10) ** exponent
        return Number(value, max(_places(mantissa) - exponent, 0))
    if match := _REPEATING.fullmatch(text):
        before, start = match[1] or "0", match[2]
        period = match[3] or match[4] or match[5]
        nines = Fraction(int(period), 10 ** len(period) - 1)
        return Number(Fraction(f"{before}.{start}0") + nines / 10 ** len(start))
    if match := _MAGNITUDE.fullmatch(text):
        number = _unsigned(match[1])
        if number is None:
            return None
        return Number(number.value * 10 ** _MAGNITUDES[match[2].lower()])
    return None


def _quotient(numerator: Fraction, denominator: Fraction) -> Number | None:
    return Number(numerator / denominator) if denominator else None


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", ""))


def _places(text: str) -> int:
    return len(text.partition(".")[2])
