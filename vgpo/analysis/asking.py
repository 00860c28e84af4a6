"""What a user asks, in the forms in which it is convenient to ask."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vgpo.pictures import open_picture
from vgpo.texts import require_characters

_PICTURES = (Image.Image, bytes, Path, str)


def asked(
    first: Any, texts: Sequence[Any], completion: Any = None
) -> tuple[list[dict], Any]:
    """A conversation and its answer out of the arguments of ``vgpo.score``.

    Args:
        first: A conversation, a picture, or several pictures.
        texts: For a conversation, its answer or nothing; for pictures, the question
            and perhaps the answer.
        completion: The answer, given by name.

    Returns:
        ``(messages, completion)``; ``completion`` is None where the model answers.

    Raises:
        ValueError: Pictures without a question, too many texts, two answers, a picture
            that cannot be read or is an array, a turn in a conversation's place.

    Example:
        >>> picture = Image.new("RGB", (56, 56))
        >>> messages, completion = asked(picture, ["What is this?", "Nothing."])
        >>> [part["type"] for part in messages[0]["content"]], completion
        (['image', 'text'], 'Nothing.')
    """
    _refuse_other_forms(first)
    several = isinstance(first, list | tuple) and len(first) > 0
    if several and all(isinstance(one, _PICTURES) for one in first):
        pictures = list(first)
    elif isinstance(first, (*_PICTURES, dict)):
        pictures = [first]
    else:
        pictures = []
    rest = list(texts)
    messages = first
    if pictures:
        if not rest or not isinstance(rest[0], str):
            raise ValueError(
                "messages: a picture needs a question after it, "
                'score(model, processor, picture, "question").'
            )
        require_characters(rest[0], "question")
        parts: list[dict] = [
            {"type": "image", "image": open_picture(picture)} for picture in pictures
        ]
        parts.append({"type": "text", "text": rest.pop(0)})
        messages = [{"role": "user", "content": parts}]
    if len(rest) > 1 or (rest and completion is not None):
        raise ValueError(
            "completion: one answer is scored, got more: "
            f"{[*rest, *([] if completion is None else [completion])]!r:.80}."
        )
    return messages, rest[0] if rest else completion


def _refuse_other_forms(first: Any) -> None:
    """Refuses near misses, with the way to the forms that are known."""
    if isinstance(first, dict) and "role" in first:
        raise ValueError(
            "messages: this is one turn; a conversation is a list of them."
        )
    for one in first if isinstance(first, list | tuple) else [first]:
        if not isinstance(one, (*_PICTURES, dict, list)):
            raise ValueError(
                "messages: must be one conversation or a picture (Pillow, bytes or a "
                f"path), got {type(one).__name__}; PIL.Image.fromarray makes a picture "
                "of an array."
            )
