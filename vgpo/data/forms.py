"""The forms in which people keep questions: one reading for all of them.

A row holds a question, an answer and pictures under one name or another, or it is a
conversation (ShareGPT's ``messages``, ``conversations``, TRL's ``prompt``) whose user
asks and whose assistant answers. Choices may stand in a column of their own.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset, Value, concatenate_datasets

from vgpo.rewards import parse_reference

MARK = "<image>"
"""Stands in a question where a picture belongs."""

KNOWN = {
    "question": ("problem", "question", "query"),
    "answer": ("answer", "ground_truth", "solution", "final_answer", "label"),
    "images": ("images", "decoded_image", "image", "pictures", "picture"),
    "choices": ("choices", "options"),
    "messages": ("messages", "conversations", "prompt"),
}
"""Names of columns by what they hold, the likelier first."""

_NUMBERED = re.compile(r"<image[ _]?(\d{1,2})>", re.IGNORECASE)
_LETTERED = re.compile(r"(?:^|\n|\s)\(?A[).:]\s*\S")
_ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "system": "system",
}


@dataclass(frozen=True)
class Columns:
    """Which column holds what; None where there is no such column.

    Attributes:
        question: Text of the question.
        answer: The reference; with ``messages`` alone, the assistant's turn is it.
        images: A picture or a list of pictures.
        choices: A list of texts, or such a list printed.
        messages: A conversation of one question.
    """

    question: str | None = None
    answer: str | None = None
    images: str | None = None
    choices: str | None = None
    messages: str | None = None


def find_columns(names: Sequence[str], **given: str | None) -> Columns:
    """The columns that hold a question, by :data:`KNOWN` unless they are given.

    Args:
        names: All columns of a data set.
        **given: ``question``, ``answer``, ``images``, ``choices`` or ``messages``:
            the column that is to be taken.

    Returns:
        The columns found. A conversation is taken only where no column of the
        question is there.

    Raises:
        ValueError: A given column is not there; no question; no answer; or no
            pictures, where a column's name says that it may hold some.

    Example:
        >>> find_columns(["id", "question", "decoded_image", "answer"]).images
        'decoded_image'
        >>> find_columns(["messages", "images"]).messages
        'messages'
    """
    found: dict[str, str | None] = {}
    # Question for question; where both are there, the one in small letters.
    spelled = {name.strip().lower(): name for name in names} | dict(
        zip(names, names, strict=True)
    )
    for what, likely in KNOWN.items():
        chosen = given.get(what)
        if chosen is not None and chosen not in names:
            raise ValueError(
                f"{what} column: there is no column {chosen!r}, only {', '.join(names)}"
            )
        there = (spelled[name] for name in likely if name in spelled)
        found[what] = chosen or next(there, None)
    if found["question"] and not given.get("messages"):
        found["messages"] = None
    else:
        found["question"] = None
    if found["images"] is None:
        _refuse_unread_pictures(names)
    columns = Columns(**found)
    if columns.question is None and columns.messages is None:
        raise ValueError(
            f"no column of a question among {', '.join(names)}; it is looked for as "
            f"{', '.join((*KNOWN['question'], *KNOWN['messages']))}; name it"
        )
    if columns.answer is None and columns.messages is None:
        raise ValueError(
            f"no column of an answer among {', '.join(names)}; it is looked for as "
            f"{', '.join(KNOWN['answer'])}; name it"
        )
    return columns


def _refuse_unread_pictures(names: Sequence[str]) -> None:
    """Questions about pictures must not become questions about nothing."""
    likely = [
        name for name in names if "image" in name.lower() or "picture" in name.lower()
    ]
    if likely:
        raise ValueError(
            f"no column of pictures among {', '.join(names)}; it is looked for as "
            f"{', '.join(KNOWN['images'])}; name it (perhaps {likely[0]}; image_column "
            "in training), or drop what is none"
        )


def plain_rows(rows: Dataset, columns: Columns) -> tuple[Dataset, dict[int, str]]:
    """Rows in any form as ``problem``, ``answer`` and ``images``.

    Pictures stay as they are kept and are not read, except that their number is looked
    up where a question has numbered marks (``<image1>``).

    Args:
        rows: With undecoded pictures.
        columns: From :func:`find_columns`.

    Returns:
        The rows, and for each that cannot be read its index and what is wrong with it;
        its question and answer are None.
    """
    texts: dict[str, list[str | None]] = {"problem": [], "answer": []}
    wrong: dict[int, str] = {}
    wanted = [
        name
        for name in (
            columns.question,
            columns.answer,
            columns.choices,
            columns.messages,
        )
        if name is not None
    ]
    feature = rows.features.get(columns.answer) if columns.answer else None
    labels = feature.names if isinstance(feature, ClassLabel) else None
    for number, row in enumerate(rows.select_columns(wanted)):
        question: str | None
        answer: str | None
        try:
            question, answer = read_row(row, columns, labels)
            if _NUMBERED.search(question):
                there = rows[number][columns.images] if columns.images else None
                question = mark_pictures(question, len(picture_list(there)))
        except ValueError as error:
            wrong[number] = str(error)
            question = answer = None
        texts["problem"].append(question)
        texts["answer"].append(answer)
    plain = Dataset.from_dict(texts)
    for name in texts:
        plain = plain.cast_column(name, Value("string"))
    if columns.images is None:
        return plain, wrong
    pictures = rows.select_columns([columns.images])
    if columns.images != "images":
        pictures = pictures.rename_column(columns.images, "images")
    return concatenate_datasets([plain, pictures], axis=1), wrong


def read_row(
    row: Mapping[str, Any], columns: Columns, labels: Sequence[str] | None = None
) -> tuple[str, str]:
    """Question and reference of one row.

    Args:
        row: Values by column.
        columns: From :func:`find_columns`.
        labels: Names, where the answers are label ids.

    Returns:
        The question with its choices and ``<image>`` where pictures belong, and the
        reference (:func:`vgpo.rewards.parse_reference`).

    Raises:
        ValueError: No question, no reference, or a conversation of several questions.

    Example:
        >>> chat = [{"role": "user", "content": "<image>How many?"},
        ...         {"role": "assistant", "content": "3"}]
        >>> read_row({"messages": chat}, Columns(messages="messages"))
        ('<image>How many?', '3')
        >>> row = {"q": "Which?", "a": "B", "o": ["red", "blue"]}
        >>> print(read_row(row, Columns(question="q", answer="a", choices="o"))[0])
        Which?
        (A) red
        (B) blue
    """
    answer: Any
    if columns.messages is not None:
        question, answer = _from_messages(row[columns.messages], columns.messages)
        if columns.answer is not None:
            answer = row[columns.answer]
        name = columns.answer or columns.messages
    else:
        assert columns.question is not None and columns.answer is not None
        question, answer, name = (
            row[columns.question],
            row[columns.answer],
            columns.answer,
        )
        if not isinstance(question, str):
            raise ValueError(
                f"column {columns.question!r} must hold text, it holds "
                f"{type(question).__name__}{_hint(question)}"
            )
    if not question.replace(MARK, "").strip():
        raise ValueError(f"column {columns.question or columns.messages!r} is empty")
    if columns.choices is not None:
        question = with_choices(question, row[columns.choices], columns.choices)
    try:
        return question, parse_reference(answer, labels)
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error


def _hint(question: Any) -> str:
    if not isinstance(question, list):
        return ""
    return (
        "; a column of chat messages is no question: name it as messages, or the "
        "column that holds the question's text as question"
    )


def with_choices(question: str, choices: Any, name: str = "choices") -> str:
    """A question with its choices under letters, unless they stand in it already.

    Args:
        question: Text.
        choices: A list of texts or numbers, such a list printed, or nothing.
        name: Of the column, for errors.

    Raises:
        ValueError: ``choices`` is something else, or has more than 26 entries.

    Example:
        >>> with_choices("Which? (A) red (B) blue", ["red", "blue"])
        'Which? (A) red (B) blue'
        >>> with_choices("How many?", "[]")
        'How many?'
    """
    if isinstance(choices, str):
        choices = _printed_list(choices, name)
    if choices is None or len(choices) == 0:
        return question
    if not isinstance(choices, Sequence) or len(choices) > 26:
        raise ValueError(f"column {name!r} must hold a list of at most 26 choices")
    if any(isinstance(one, list | dict | bytes) or one is None for one in choices):
        raise ValueError(f"column {name!r} holds a choice that is no text")
    letters = [chr(ord("A") + place) for place in range(len(choices))]
    said = [str(one).strip() for one in choices]
    # Letters alone name what the picture shows; listing them would add nothing.
    if _LETTERED.search(question) or said == letters:
        return question
    lines = (f"({letter}) {one}" for letter, one in zip(letters, said, strict=True))
    return "\n".join([question.rstrip(), *lines])


def mark_pictures(question: str, pictures: int) -> str:
    """Numbered marks as plain ones, where they name the pictures in order.

    Marks of pictures that are not there (parts of one picture, in MathVision) become
    words, and so do repeated ones.

    Example:
        >>> mark_pictures("Is <image1> like <image2>?", 2)
        'Is <image> like <image>?'
        >>> mark_pictures("<image1> Which part? (A) <image2> (B) <image3>", 1)
        '<image> Which part? (A) picture 2 (B) picture 3'
    """
    numbers = [int(match[1]) for match in _NUMBERED.finditer(question)]
    first = [n for n in dict.fromkeys(numbers) if n <= pictures]
    in_order = first == list(range(1, pictures + 1)) and MARK not in question
    seen: set[int] = set()

    def mark(match: re.Match[str]) -> str:
        number = int(match[1])
        if in_order and number <= pictures and number not in seen:
            seen.add(number)
            return MARK
        return f"picture {number}"

    return _NUMBERED.sub(mark, question)


def _from_messages(turns: Any, name: str) -> tuple[str, Any]:
    """The user's question and the assistant's answer, None if there is none."""
    if isinstance(turns, str):  # a column of this name that holds questions as text
        return turns, None
    if not isinstance(turns, list) or not all(isinstance(t, dict) for t in turns):
        raise ValueError(f"column {name!r} must hold a conversation, a list of turns")
    said: dict[str, list[str]] = {role: [] for role in set(_ROLES.values())}
    for turn in turns:
        role = turn.get("role") or turn.get("from")
        content = turn.get("content") if "content" in turn else turn.get("value")
        if role not in _ROLES:
            raise ValueError(f"column {name!r} has a turn of {role!r}")
        said[_ROLES[role]].append(_words(content, name))
    if len(said["user"]) != 1 or len(said["assistant"]) > 1:
        raise ValueError(
            f"column {name!r} has {len(said['user'])} turns of the user and "
            f"{len(said['assistant'])} of the assistant; one question and one answer "
            "are needed"
        )
    question = "\n".join([*said["system"], *said["user"]])
    return question, next(iter(said["assistant"]), None)


def _words(content: Any, name: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"column {name!r} has a turn without text")
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("image", "image_url"):
            parts.append(MARK)
        elif kind == "text":
            parts.append(part.get("text") or "")
        else:
            raise ValueError(f"column {name!r} has a part of type {kind!r}")
    return "".join(parts)


def _printed_list(text: str, name: str) -> Sequence[Any]:
    if not text.strip():
        return []
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list | tuple):
            return found
    raise ValueError(f"column {name!r} holds {text[:60]!r}, which is no printed list")


def picture_list(value: Any) -> list[Any]:
    """What a column of pictures holds in one row, as a list.

    Example:
        >>> picture_list("a.png"), picture_list("['a.png', 'b.png']"), picture_list("")
        (['a.png'], ['a.png', 'b.png'], [])
    """
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") and text.endswith("]"):  # a CSV file has no lists
            try:
                return list(_printed_list(text, "images"))
            except ValueError:  # a path of this look
                pass
        return [value] if text else []
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
