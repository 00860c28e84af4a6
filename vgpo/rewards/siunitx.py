r"""Quantities as LaTeX's package siunitx writes them: ``\SI{5}{cm}``."""

import re

_SIUNITX = re.compile(
    r"\\(?:(?:SI|qty)\s*\{([^{}]*)\}\s*|(?:si|unit)\s*)\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_BARE_NUMBER = re.compile(r"\\num\s*\{([^{}]*)\}")
_ANGLE = re.compile(r"\\ang\s*\{([^{};]*)\}")
_UNIT_COMMANDS = [
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\\per(?![a-zA-Z])\s*", "/"),
        (r"\\squared(?![a-zA-Z])\s*", "^2"),
        (r"\\cubed(?![a-zA-Z])\s*", "^3"),
        (r"\\(square|cubic)(?![a-zA-Z])\s*\\?", r" \1 "),
        (r"\\(nano|micro|milli|centi|deci|kilo|mega|giga|tera)(?![a-z])\s*\\?", r" \1"),
        (r"(?<=/)\s*\\(?=[a-z])", ""),
        (r"\\(?=[a-z]{3})", " "),
    )
]


def without_siunitx(text: str) -> str:
    r"""``5 cm`` for ``\SI{5}{cm}``; likewise of ``\qty``, ``\num`` and ``\ang``.

    Example:
        >>> without_siunitx(r"\qty{5}{\meter\per\second\squared}")
        '5 meter/second^2'
        >>> without_siunitx(r"\SI{2}{\kilo\gram}"), without_siunitx(r"\ang{60}")
        ('2 kilogram', '60°')
    """

    def spelled(unit: str) -> str:
        for command, sign in _UNIT_COMMANDS:
            unit = command.sub(sign, unit)
        return unit.strip()

    text = _SIUNITX.sub(lambda m: f"{m[1] or ''} {spelled(m[2])}", text)
    return _BARE_NUMBER.sub(r"\1", _ANGLE.sub(r"\1°", text))
