r"""Answers that say what the value is called: 5, in ``x = 5`` and ``the area = 5``."""

import re

from vgpo.rewards.kinds import split_outside_brackets

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


def without_name(answer: str) -> str:
    r"""What an answer says the value is: 5 in x = 5; the answer itself if it says none.

    In a chain such as ``x = 10/2 = 5`` every value must be the same one, which is left
    to nobody to check: it stays as it is, and is not a number.

    Example:
        >>> without_name(r"\angle A = 30°"), without_name("10/2 = 5")
        ('30°', '10/2 = 5')
    """
    name, value = name_and_value(answer)
    return answer if name is None else value


def name_and_value(text: str) -> tuple[str | None, str]:
    """Both sides of ``x = 5``; None and the text for all else.

    Example:
        >>> name_and_value("f(x) = x^2"), name_and_value("x > 5")
        (('f(x)', 'x^2'), (None, 'x > 5'))
    """
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
