r"""Rewards for completions that end in a ``\boxed{}`` answer."""


def last_boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{...}`` of a completion, or None.

    Braces are matched, so ``\boxed{\frac{1}{2}}`` gives ``\frac{1}{2}``. An
    unclosed box gives None: an answer that was cut off is no answer.

    Example:
        >>> last_boxed(r"so \boxed{12}, no: \boxed{\frac{1}{2}}")
        '\\frac{1}{2}'
        >>> last_boxed(r"\boxed{1") is None
        True
    """
    marker = "\\boxed{"
    start = text.rfind(marker)
    if start < 0:
        return None
    start += len(marker)
    depth = 1
    for position in range(start, len(text)):
        character = text[position]
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return text[start:position]
    return None
