r"""One spelling for what is written in many: Unicode, markdown and LaTeX cosmetics.

`normalise` changes how an answer looks and never what it says: digits of any script
become ASCII, ``²`` becomes ``^{2}``, ``√3`` and ``sqrt(3)`` become ``\sqrt{3}``,
``\text{}``, bold face, ``$`` and full stops go. Deciding what an answer is comes after
it (`vgpo.rewards.kinds`), comparing last (`vgpo.rewards.compare`).
"""

import html
import re
import unicodedata

from vgpo.rewards.siunitx import without_siunitx

_GREEK_LETTERS = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho "
    "sigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon "
    "Phi Psi Omega"
)
_GREEK_NAMES = _GREEK_LETTERS.split()
GREEK_LETTER = rf"(\\(?:{'|'.join(_GREEK_NAMES)}))(?![a-zA-Z])"
"""A pattern: LaTeX's command for such a letter, as a group."""

_GREEK = dict(zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ", _GREEK_NAMES, strict=True))

# Before compatibility normalisation, which would lose them (² would become 2).
_SIGNS = {
    # dashes and minus signs
    **dict.fromkeys("‐‑‒–—―−﹣－⁃", "-"),
    # blanks between the digits of a number are narrow or not to be broken
    **dict.fromkeys("\u2009\u202f\u00a0\u2007\u2008", r"\,"),
    # Asian punctuation
    "。": ".",
    "｡": ".",
    "、": ",",
    "，": ",",
    "；": ";",
    **dict.fromkeys("：∶", ":"),
    # Arabic punctuation, within numbers too
    "٫": ".",
    **dict.fromkeys("٬،", ","),
    "؛": ";",
    "٪": "%",
    "【": "[",
    "】": "]",
    **dict.fromkeys("～〜∼", "~"),
    **dict.fromkeys("“”„‟«»「」『』", '"'),
    **dict.fromkeys("‘’‚‛′´`", "'"),
    "″": "''",
    # degrees
    **dict.fromkeys("˚º", "°"),
    "℃": "°C",
    "℉": "°F",
    # signs of mathematics
    **dict.fromkeys("×✕✖⨯", r"\times "),
    **dict.fromkeys("·⋅∙•∗", r"\cdot "),
    **dict.fromkeys("÷∕⁄／", "/"),
    "∞": r"\infty ",
    **dict.fromkeys("≤⩽≦", r"\le "),
    **dict.fromkeys("≥⩾≧", r"\ge "),
    "≠": r"\ne ",
    "±": r"\pm ",
    "∓": r"\mp ",
    **dict.fromkeys("≈≃≅", r"\approx "),
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "∠": r"\angle ",
    "△": r"\triangle ",
    "…": r"\ldots ",
    "→": r"\to ",
    "⇒": r"\Rightarrow ",
    "∴": r"\therefore ",
    "∧": r"\land ",
    "∨": r"\lor ",
    "¬": r"\neg ",
    "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}",
    "ℕ": r"\mathbb{N}",
    "ℚ": r"\mathbb{Q}",
    "Ω": "Ω",
    "µ": "μ",
}

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True))

_ORDINAL = r"(st|nd|rd|th)"
_UPRIGHT = r"\\(?:text|textrm|mathrm|textsuperscript)"
_VARIABLES = r"\(?\s*[a-zA-Z](?:\s*,\s*[a-zA-Z])*\s*\)?"

_CELLS = (
    r"\\begin\s*\{(?:array\}\s*\{[^{}]*|(?:small)?matrix)\}((?:(?!\\begin|\\end)[\s\S])*)"
    r"\\end\s*\{(?:array|(?:small)?matrix)\}"
)

# Said differently in LaTeX itself.
_LATEX = [
    (r"\{\s*\\(?:rm|bf|it|sf|tt)(?![a-zA-Z])\s*([^{}]*)\}", r"\\text{\1}"),
    (r"\{\s*\\?%\s*\}", "%"),
    (r"(?<![a-zA-Z}\\])\{\s*\}(?=\s*[\^_])", ""),  # 60{}^\circ
    # 1st, 1^{st}, 1^{\text{st}}
    (
        rf"(?<=\d)\s*(?:\^\s*\{{\s*{_UPRIGHT}\s*\{{\s*{_ORDINAL}\s*\}}\s*\}}"
        rf"|\^?\s*{_UPRIGHT}\s*\{{\s*{_ORDINAL}\s*\}}|\^\s*\{{\s*{_ORDINAL}\s*\}})",
        r"\1\2\3",
    ),
    # 60^o, 60^{\text{o}}
    (
        rf"(?<=\d)\s*\^\s*(?:o(?![a-z])|\{{\s*o\s*\}}|{_UPRIGHT}\{{o\}}"
        rf"|\{{\s*{_UPRIGHT}\{{o\}}\s*\}})",
        "°",
    ),
    (r"\\phantom\s*\{[^{}]*\}", ""),  # is not to be seen, so it says nothing
    (r"\\(?:textcolor|colorbox)\s*\{[^{}]*\}|\\color\s*\{[^{}]*\}", ""),
    (r"\\(?:[dtcs]|nice)frac(?![a-zA-Z])", r"\\frac"),
    (r"\{([^{}]*)\\over(?![a-zA-Z])([^{}]*)\}", r"\\frac{\1}{\2}"),
    (r"^([^{}]*)\\over(?![a-zA-Z])([^{}]*)$", r"\\frac{\1}{\2}"),
    # \frac\pi2, \sqrt\pi, \sqrt[3]2: arguments without braces
    (rf"\\(frac|sqrt(?:\[\w+\])?)\s*{GREEK_LETTER}", r"\\\1{\2}"),
    (rf"(\\frac\s*(?:\{{[^{{}}]*\}}|\w))\s*{GREEK_LETTER}", r"\1{\2}"),
    (r"(\\sqrt\[\w+\])\s*(\w)", r"\1{\2}"),
    (r"\\(?:left|right|[bB]igg?[lrm]?)\s*(?=[\\()\[\]{}|.<>/])", ""),
    (r"\\(?:displaystyle|textstyle|limits|bf|rm|it|sf|tt)(?![a-zA-Z])", ""),
    (r"\\mathbb\s*([A-Z])(?![a-zA-Z])", r"\\mathbb{\1}"),
    (r"\\hspace\*?\s*\{[^{}]*\}", " "),
    (r"\\!", ""),
    (r"\{,\}", ","),
    (r"(?<=\d)\\[,:; ](?=\d{3}(?!\d))", ","),  # 1\,234
    (r"\\(?:quad|qquad|enspace|thinspace|nobreakspace)(?![a-zA-Z])", "  "),
    (r"(?<!\\)\\[,:;> ]", " "),
    (r"(?<=\d)\s?~\s?(?=\d)", "-"),
    (r"(?<!\\)~", " "),
    (r"\\%", "%"),
    (r"\\[$]", "\ue000"),  # a dollar, and not the end of a formula
    (r"\^\s*\{?\s*\\circ\s*\}?|\\(?:text)?degree(?![a-zA-Z])", "°"),
    (r"\^\s*\{\s*\\prime\s*\}", "'"),
    (r"\\colon(?![a-zA-Z])", ":"),
    (r"\\(?:leq|leqslant)(?![a-zA-Z])", r"\\le "),
    (r"\\(?:geq|geqslant)(?![a-zA-Z])", r"\\ge "),
    (r"\\(?:neq|not\s*=)(?![a-zA-Z])", r"\\ne "),
    (r"\\lt(?![a-zA-Z])", "<"),
    (r"\\gt(?![a-zA-Z])", ">"),
    (r"\\div(?![a-zA-Z])", "/"),
    (r"\\ast(?![a-zA-Z])", "*"),
    (r"\\(?:long)?rightarrow(?![a-zA-Z])", r"\\to "),
    (r"\\(?:dots|cdots|dotsc)(?![a-zA-Z])", r"\\ldots "),
    (r"\\(?:varnothing)(?![a-zA-Z])", r"\\emptyset "),
    (r"\\lbrace(?![a-zA-Z])", r"\\{"),
    (r"\\rbrace(?![a-zA-Z])", r"\\}"),
    (r"\\(?:lbrack)(?![a-zA-Z])", "["),
    (r"\\(?:rbrack)(?![a-zA-Z])", "]"),
    (r"\\\{\s*\\\}", r"\\emptyset "),
    (r"\\(?:euro|texteuro)(?![a-zA-Z])", "€"),
    (r"\\pounds(?![a-zA-Z])", "£"),
    (r"\\big(cup|cap)(?![a-zA-Z_])", r"\\\1 "),
    (r"\\lg(?![a-zA-Z])", r"\\log_{10}"),
    # A matrix is one, with whatever its brackets are made
    (rf"\(\s*{_CELLS}\s*\)", r"\\begin{pmatrix}\1\\end{pmatrix}"),
    (rf"\[\s*{_CELLS}\s*\]", r"\\begin{bmatrix}\1\\end{bmatrix}"),
    (rf"\|\s*{_CELLS}\s*\|", r"\\begin{vmatrix}\1\\end{vmatrix}"),
    # The rule of a set: {x : x > 3}, {x | x > 3}
    (
        rf"(\\\{{\s*{_VARIABLES}(?:\s*\\in\s*\\mathbb\{{[A-Z]\}}(?:\^\{{?[+*\d]\}}?)?)?)"
        r"\s*(?::|\||\\(?:mid|vert)(?![a-zA-Z]))\s*",
        r"\1 \\mid ",
    ),
]
_LATEX = [(re.compile(pattern), new) for pattern, new in _LATEX]

# Said in ASCII what LaTeX has a command for.
_ASCII = [
    (r"(?<=\d)--(?=\d)", "-"),  # a dash between numbers, as TeX writes it
    (r"\+/-|\+-(?=\s*[\d\\])", r"\\pm "),
    (r"[-=]+>(?=\s*\S)", r"\\to "),
    (r"<=|=<", r"\\le "),
    (r">=|=>", r"\\ge "),
    (r"!=", r"\\ne "),
    (r"(?<=\S)\*\*(?=\S)", "^"),
    (r"(?<![a-zA-Z\\])(?:infinity|infty|inf(?!\s*[({_])|oo)(?![a-zA-Z])", r"\\infty "),
    (r"(?<=[\])}])\s*U\s*(?=[\[\](]|\\\{)", r"\\cup "),
    (rf"(?<![a-zA-Z\\])({'|'.join(_GREEK_NAMES)})(?![a-zA-Z])", r"\\\1 "),
    (r"\\(times|cdot)\s*", r"\\\1 "),
    (
        r"(?<![a-zA-Z\\])((?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|log|ln|exp)"
        r"(?=\s*[(\\\d^_]|\s[a-z]\b)",
        r"\\\1 ",
    ),
]
_ASCII = [(re.compile(pattern), new) for pattern, new in _ASCII]

# 3'100, as the Swiss write it; 5'100'' would be an angle.
_APOSTROPHES = re.compile(r"(?<![\w.,'])\d{1,3}(?:'\d{3})+(?![\d'])")

_FONTS = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|emph|mathrm|mathbf"
    r"|mathit|mathsf|mathtt|mathnormal|boldsymbol|bm|mbox|hbox|operatorname\*?"
    r"|underline|boxed|fbox|ce|textcircled)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_BOLD = re.compile(r"(?<![\w*])(\*\*|__)(?=\S)(.+?)(?<=\S)\1(?![\w*])")
_FORMULA = re.compile(r"(?<![\w\\])\$([^$]+)\$(?!\w)")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|[a-zA-Z]{2,8});")
_NEW_LINE = re.compile(r"(?<=[\d%])\s*\n\s*(?=[\d+-])")
_ROOT = re.compile(r"√|(?<![a-zA-Z\\])sqrt(?=\s*\()")
_ROOT_OF = re.compile(r"\s*([\d.]+|[a-zA-Z])")

_DELIMITERS = (
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("*", "*"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("``", "''"),
)
_PROSE = re.compile(
    r"(?:(?:so|thus|hence|therefore),?\s+)?"
    r"(?:(?:the|my)\s+)?(?:final\s+|correct\s+)?(?:answer|ans\.?)(?:\s+is\b|\s*[:=])\s*:?\s*"
    r"|(?:故|所以|因此)?(?:正确)?答案(?:是|为)?\s*:?\s*(?=[\dA-J($\\+.-])"
    r"|(?:故|应)?选(?:项|择)?\s*:?\s*(?=\(?[A-J])",
    re.IGNORECASE,
)
# Intervals in which a bracket that is turned away leaves the end out: [1, 2[
_INTERVAL = re.compile(
    r"(?:(?<![\w)\]}])|(?<=\\cup)|(?<=\\cap)|(?<=\\in))"
    r"([\[\]])([^\[\],;]+[,;][^\[\],;]+)([\[\]])"
)
_LEADING = re.compile(
    r"(?:\\(?:approx|sim|simeq|therefore|implies|(?:Long)?[Rr]ightarrow(?<!\\rightarrow))"
    r"(?![a-zA-Z])|[:=])\s*"
)


def normalise(text: str) -> str:
    r"""An answer in one spelling, with nothing around it.

    Args:
        text: The content of a box, or a reference answer.

    Returns:
        The same answer. A dollar that stands for money is ``$``, degrees are ``°``,
        and mathematics is LaTeX. The empty string where nothing is left.

    Example:
        >>> normalise("**（１，２）**。")
        '(1,2)'
        >>> normalise(r"$5\,\text{cm}^2$"), normalise("5 cm²")
        ('5 cm^2', '5 cm^{2}')
    """
    text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = _NEW_LINE.sub(" ; ", without_siunitx(text))
    text = _unicode(text)
    text = _APOSTROPHES.sub(lambda match: match[0].replace("'", ","), text)
    for pattern, new in _LATEX:
        text = pattern.sub(new, text)
    text = _without_fonts(text)
    text = _BOLD.sub(r"\2", text)
    text = _undressed(text)
    text = _FORMULA.sub(r"\1", text)
    text = _roots(text)
    for pattern, new in _ASCII:
        text = pattern.sub(new, text)
    text = _INTERVAL.sub(_with_round_brackets, _undressed(text))
    return text.replace("\ue000", "$")


def _with_round_brackets(interval: re.Match) -> str:
    r"""``[1,2)`` for ``[1,2[``."""
    opening, ends, closing = interval.groups()
    return {"]": "("}.get(opening, opening) + ends + {"[": ")"}.get(closing, closing)


def _unicode(text: str) -> str:
    """ASCII and LaTeX for signs that Unicode has twice."""
    out: list[str] = []
    script = ""  # "^" or "_" while within a run of raised or lowered characters
    for position, character in enumerate(text):
        raised = character in _SUPERSCRIPTS
        lowered = character in _SUBSCRIPTS
        wanted = "^" if raised else "_" if lowered else ""
        if script != wanted:
            if script:
                out.append("}")
            if wanted:
                out.append(wanted + "{")
            script = wanted
        if wanted:
            out.append((_SUPERSCRIPTS if raised else _SUBSCRIPTS)[character])
        elif character in _SIGNS:
            out.append(_SIGNS[character])
        elif character in _GREEK and not _within_a_word(text, position):
            out.append(f"\\{_GREEK[character]} ")
        else:
            after = out[-1][-1:] if out else ""
            plain = _plain_character(
                character, after, text[position + 1 : position + 2]
            )
            if plain:
                out.append(plain)
    if script:
        out.append("}")
    return unicodedata.normalize("NFKC", "".join(out))


def _plain_character(character: str, after: str, following: str) -> str:
    """A digit of any script, a fraction in one sign, or the character itself."""
    if character.isascii():
        return character
    if unicodedata.category(character) == "Cf" or character in "\ufe0e\ufe0f\u20e3":
        return ""  # has no width, or only says how its neighbour is drawn
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    spelled = unicodedata.normalize("NFKC", character)
    if "\u2044" in spelled:  # ½
        if not after.isdigit() and (following.isalpha() or following in tuple("(\\√")):
            over, under = spelled.split("\u2044")
            return rf"\frac{{{over}}}{{{under}}}"  # a factor: ½x
        return (" " if after.isdigit() else "") + spelled.replace("\u2044", "/")
    return character


def _within_a_word(text: str, position: int) -> bool:
    """Whether a Greek letter has a neighbour that is no ASCII letter, as in words."""
    neighbours = (
        text[max(position - 1, 0) : position] + text[position + 1 : position + 2]
    )
    return any(other.isalpha() and not other.isascii() for other in neighbours)


def _without_fonts(text: str) -> str:
    r"""``5\text{cm}`` as ``5 cm``: the words of ``\text`` stay apart from the rest."""

    def apart(match: re.Match) -> str:
        inside = match[1]
        before, after = text[: match.start()][-1:], text[match.end() :][:1]
        left = (
            " " if (before.isalnum() or before in "})") and inside[:1].isalpha() else ""
        )
        if not before:
            left = ""
        right = " " if inside[-1:].isalpha() and after.isalnum() else ""
        return left + inside + right

    # From the inside out; ten deep is more than anybody means.
    for _ in range(10):
        plain = _FONTS.sub(apart, text)
        if plain == text:
            break
        text = plain
    return text


def _undressed(text: str) -> str:
    """Without delimiters, quotes, braces, prose and punctuation around it."""
    before = None
    while text != before:
        before = text
        # A backslash at the end is what is left of a line break, or of LaTeX's blank.
        text = " ".join(text.split()).rstrip("\\")
        for opening, closing in _DELIMITERS:
            if len(text) > len(opening + closing) - 1:
                inside = text.removeprefix(opening).removesuffix(closing)
                dressed = len(text) - len(inside) == len(opening + closing)
                if dressed and opening not in inside and closing not in inside:
                    text = inside.strip()
        if text.startswith("{") and text.endswith("}") and _is_one_group(text):
            text = text[1:-1].strip()
        if not text.endswith((r"\ldots", "...", "\\,", "\\;")):
            text = text.rstrip(".,;: ")
        text = _PROSE.sub("", text, count=1) if _PROSE.match(text) else text
        text = _LEADING.sub("", text, count=1) if _LEADING.match(text) else text
    return text


def _is_one_group(text: str) -> bool:
    """Whether the first brace is closed by the last one."""
    depth = 0
    escaped = False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
            continue
        escaped = character == "\\"
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return position == len(text) - 1
    return False


def _roots(text: str) -> str:
    r"""``√3``, ``√(x+1)`` and ``sqrt(3)`` as ``\sqrt{3}``."""
    for _ in range(10):
        match = _ROOT.search(text)
        if match is None:
            break
        start = match.end()
        rest = text[start:].lstrip()
        end = _closing_bracket(rest) if rest[:1] in ("(", "{") else None
        if end is not None:
            inside, rest = rest[1:end], rest[end + 1 :]
        else:
            operand = _ROOT_OF.match(text, start)
            if operand is None:
                break
            inside, rest = operand[1], text[operand.end() :]
        text = f"{text[: match.start()]}\\sqrt{{{inside}}}{rest}"
    return text


def _closing_bracket(text: str) -> int | None:
    """Where the bracket that ``text`` begins with is closed."""
    opening = text[0]
    closing = {"(": ")", "{": "}"}[opening]
    depth = 0
    for position, character in enumerate(text):
        depth += (character == opening) - (character == closing)
        if depth == 0:
            return position
    return None
