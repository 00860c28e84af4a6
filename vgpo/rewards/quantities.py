r"""Quantities: a number or an expression, and a unit.

Units are compared, not converted: 5 m is 5 metres and not 500 cm. Names and symbols of
one unit are the same, the case of a symbol counts (mW, MW), and a unit nobody has heard
of is a word: ``5 apples``.
"""

import re
from dataclasses import dataclass

from vgpo.rewards.numbers import Number, parse_number

_PREFIXES = {
    "nano": "n",
    "micro": "μ",
    "milli": "m",
    "centi": "c",
    "deci": "d",
    "kilo": "k",
    "mega": "M",
    "giga": "G",
    "tera": "T",
}
# Those that take the prefixes above.
_METRIC = {
    "meter": "m",
    "metre": "m",
    "gram": "g",
    "gramme": "g",
    "second": "s",
    "liter": "L",
    "litre": "L",
    "ampere": "A",
    "amp": "A",
    "volt": "V",
    "watt": "W",
    "joule": "J",
    "newton": "N",
    "pascal": "Pa",
    "hertz": "Hz",
    "ohm": "Ω",
    "farad": "F",
    "coulomb": "C",
    "tesla": "T",
    "henry": "H",
    "mole": "mol",
    "calorie": "cal",
    "byte": "B",
    "bit": "bit",
    "electronvolt": "eV",
    "kelvin": "K",
    "bar": "bar",
}
_SYMBOLS = {symbol for symbol in _METRIC.values() if symbol != "bit"} | {"l"}
_OTHERS = {
    "inch": "in",
    "inche": "in",
    "in": "in",
    "foot": "ft",
    "feet": "ft",
    "ft": "ft",
    "yard": "yd",
    "yd": "yd",
    "mile": "mi",
    "mi": "mi",
    "pound": "lb",
    "lb": "lb",
    "ounce": "oz",
    "oz": "oz",
    "sec": "s",
    "minute": "min",
    "min": "min",
    "hour": "h",
    "hr": "h",
    "h": "h",
    "day": "day",
    "week": "week",
    "month": "month",
    "year": "year",
    "yr": "year",
    "gallon": "gal",
    "gal": "gal",
    "acre": "acre",
    "hectare": "ha",
    "ha": "ha",
    "kph": "km/h",
    "kmh": "km/h",
    "mph": "mi/h",
    "kilohm": "kΩ",
    "megohm": "MΩ",
    "radian": "rad",
    "rad": "rad",
    "unit": "unit",
    "cent": "cent",
    "¢": "cent",
    # Capitals that are in no unit's symbol, and are often written
    "Kg": "kg",
    "KG": "kg",
    "Km": "km",
    "KM": "km",
    "CM": "cm",
    "°C": "°C",
    "°F": "°F",
    "厘米": "cm",
    "米": "m",
    "毫米": "mm",
    "千米": "km",
    "公里": "km",
    "克": "g",
    "千克": "kg",
    "公斤": "kg",
    "秒": "s",
    "分钟": "min",
    "小时": "h",
}

_TEMPERATURE = re.compile(
    r"(?:°|deg(?:ree)?s?)\s*(C(?:elsius)?|centigrade|F(?:ahrenheit)?)(?![a-zA-Z])",
    re.IGNORECASE,
)
_GREEK_UNITS = ((r"\mu", "μ"), (r"\Omega", "Ω"), ("Ω", "Ω"))
_FACTOR = re.compile(
    r"(?P<power>(?:square|sq\.?|cubic|cu\.?)\s+|平方|立方)?"
    r"(?P<name>[a-zA-Zμ°Ω¢\u4e00-\u9fff]+)\.?"
    r"(?:\s*\^\s*\{?\s*(?P<exponent>-?\d)\s*\}?|(?P<digit>[23])(?!\d))?"
)
_JOIN = re.compile(r"\s*(/|\bper\b|\\cdot|\*|\s)\s*")
_NUMBER = (
    r"[+-]?\s*(?:"
    r"\d+\s+\d+\s*/\s*\d+|\d*\s*\\frac\s*\{[^{}]*\}\s*\{[^{}]*\}"
    r"|(?:\d[\d,.]*\s*(?:\\times|\\cdot|\*|x)\s*)?10\s*\^\s*(?:\{[^{}]*\}|-?\d+)"
    r"|[\d.]+[eE][+-]?\d+|\d[\d,. ]*/\s*\d+|\d{1,3}(?: \d{3})+(?:\.\d+)?|\.?\d[\d,.]*"
    r")(?:\s*(?:hundred|thousand|million|billion|trillion)(?![a-z]))?"
)
_NUMBER_AND_REST = re.compile(rf"({_NUMBER})\s*(\S.*)", re.DOTALL)
_NUMBER_OF_UNITS = re.compile(rf"({_NUMBER})\s*([a-zA-Zμ°Ω][^\d]*?)\s*(?=\d|$)")
_JOINED = re.compile(r"\s*(?:,\s*and|,|(?<=\s)and)\s+(?=\d)")
# Each unit a part of those before it.
_PARTS = ("year month week day h min s", "mi yd ft in", "lb oz")
# Decades and ordinals: 1990s are no seconds.
NOT_COUNTED = re.compile(r"(?:the\s+)?'?\d+(?:st|nd|rd|th|(?<=\d0)s)", re.IGNORECASE)
_HAN_OR_KANA = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
_WORDS = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+){0,4}")
# A number and one of these is a sentence, and may say anything.
_NO_UNITS = "or and not is are was be but to than the a an no nor neither either if"

Unit = frozenset[tuple[str, int]] | str


@dataclass(frozen=True)
class Quantity:
    """A magnitude, which is a number or else the text of an expression, and a unit."""

    magnitude: Number | str
    unit: Unit


def parse_quantity(text: str) -> Quantity | None:
    r"""The quantity that a normalised text is, or None.

    Example:
        >>> a, b = parse_quantity("5 square centimeters"), parse_quantity("5cm^{2}")
        >>> a == b
        True
        >>> parse_quantity("5 or 6 cm") is None
        True
    """
    if NOT_COUNTED.fullmatch(text):
        return None
    text = _TEMPERATURE.sub(lambda match: "°" + match[1][0].upper(), text)
    for written, unit in _GREEK_UNITS:
        text = re.sub(re.escape(written) + r"(?![a-zA-Z])\s*", unit, text)
    if match := _NUMBER_AND_REST.fullmatch(text):
        number = parse_number(match[1])
        glued = text[match.end(1) : match.start(2)] == ""
        # 2x is no two of anything; Chinese and Japanese have no blanks.
        is_noun = not glued or _HAN_OR_KANA.match(match[2])
        unit = parse_unit(match[2]) or (_noun(match[2]) if is_noun else None)
        if number is not None and unit is not None:
            return Quantity(number, unit)
    # An expression has a unit only if it is a known one: 2x is not 2 of x.
    for position in range(len(text) - 1, 0, -1):
        if text[position] == " " and (unit := parse_unit(text[position + 1 :])):
            magnitude = text[:position].strip()
            # What ends with an operator or a function goes on: B \cup A, \sin A.
            goes_on = re.search(r"\\(?!pi$)[a-zA-Z]+$", magnitude)
            if (
                "\\" in magnitude
                and not goes_on
                and not parse_unit(magnitude.rpartition(" ")[2])
            ):
                return Quantity(magnitude, unit)
    return None


def parse_quantities(text: str) -> list[Quantity] | None:
    """Several in a row, as in ``5 ft 3 in`` or ``1 h 30 min``; None if it is no such.

    With a comma or an "and" between them they are one quantity only if each unit is a
    part of the one before: ``5 cm and 3 cm`` are two.

    Example:
        >>> parse_quantities("1 h 30 min") == parse_quantities("1 hour 30 minutes")
        True
    """
    joined = _JOINED.sub(" ", text)
    if joined != text:
        found = parse_quantities(joined)
        return found if found and _is_one(found) else None
    parts = list(_NUMBER_OF_UNITS.finditer(text))
    if len(parts) < 2 or "".join(part[0] for part in parts) != text:
        return None
    quantities = []
    for part in parts:
        number, unit = parse_number(part[1]), parse_unit(part[2])
        if number is None or unit is None:
            return None
        quantities.append(Quantity(number, unit))
    return quantities


def _is_one(quantities: list[Quantity]) -> bool:
    for units in map(str.split, _PARTS):
        parts = [
            unit for unit in units if any({(unit, 1)} == q.unit for q in quantities)
        ]
        if [frozenset({(unit, 1)}) for unit in parts] == [q.unit for q in quantities]:
            return True
    return False


def parse_unit(text: str) -> Unit | None:
    """Symbols and exponents of a known unit, such as ``m/s`` or ``square feet``.

    Example:
        >>> sorted(parse_unit("km per hour")), parse_unit("apples")
        ([('h', -1), ('km', 1)], None)
    """
    text = re.sub(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", text.strip())
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    powers: dict[str, int] = {}
    position, sign = 0, 1
    while True:
        match = _FACTOR.match(text, position)
        symbols = match and _symbol(match["name"])
        if not symbols:
            return None
        power = 1
        if match["power"]:
            power = 2 if match["power"][0] in "s平" else 3
        power *= int(match["exponent"] or match["digit"] or 1)
        for index, symbol in enumerate(symbols.split("/")):
            powers[symbol] = powers.get(symbol, 0) + sign * power * (1 - 2 * index)
        position = match.end()
        if position == len(text):
            return frozenset((name, n) for name, n in powers.items() if n)
        join = _JOIN.match(text, position)
        if join is None:
            return None
        if join[1] in ("/", "per"):
            sign = -1
        position = join.end()


def _symbol(name: str) -> str | None:
    """The symbol of a unit that is written in any way, or None."""
    if name in _OTHERS:
        return _OTHERS[name]
    for symbol in _SYMBOLS:
        if name == symbol or (
            name.endswith(symbol)
            and name.removesuffix(symbol) in (*_PREFIXES.values(), "u")
        ):
            return name.replace("l", "L") if symbol == "l" else name.replace("u", "μ")
    word = name.lower()
    for plain in (word, word.removesuffix("s")):
        if plain in _OTHERS and (
            len(plain) > 2 or plain in ("ft", "lb", "yd", "oz", "hr", "yr")
        ):
            return _OTHERS[plain]
        if plain in _METRIC:
            return _METRIC[plain]
        for prefix, sign in _PREFIXES.items():
            rest = plain.removeprefix(prefix)
            if rest != plain and rest in _METRIC:
                return sign + _METRIC[rest]
    return None


def _noun(text: str) -> str | None:
    """What is counted, if it is no unit: a few words, without their plural."""
    if not _WORDS.fullmatch(text) or len(text) < 2:
        return None
    words = text.split()
    if any(word.lower() in _NO_UNITS.split() for word in words):
        return None
    last = words[-1]
    if last[1:].islower() and len(last) > 3 and not last.endswith("ss"):
        words[-1] = last.removesuffix("s")
    joined = " ".join(words)
    # An unknown symbol keeps its case; a word does not.
    return joined if len(joined) <= 3 else joined.casefold()
