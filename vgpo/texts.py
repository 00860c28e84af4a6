"""Half of a surrogate pair in a text: refused by name, or shown as unknown.

A character outside the first 65,536, as most emoji are, is two units in UTF-16. Text
that was cut between them, in JavaScript or in a JSON file, comes into Python as a
string that no file, tokenizer or table of UTF-8 takes.
"""


def require_characters(text: str, name: str) -> None:
    """Refuses a text that holds half of a surrogate pair.

    Args:
        text: Of a user.
        name: Of the argument, in the message.

    Raises:
        ValueError: It does.

    Example:
        >>> require_characters("How many 🐦 ?", "question")
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half, before = ord(text[error.start]), text[: error.start][-20:]
        raise ValueError(
            f"{name}: holds U+{half:04X} after {before!r}, half of a surrogate pair "
            "and no character by itself; was the text cut there? "
            "vgpo.texts.legible(text) puts pairs together, and U+FFFD for halves"
        ) from None


def legible(text: str) -> str:
    r"""A text with surrogate pairs put together, and U+FFFD for what is half of one.

    Example:
        >>> legible("\ud83d\udc26 and \ud83d") == "🐦 and \ufffd"
        True
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
