"""The forms in which people keep questions: one reading for all of them.

A row holds a question, an answer and pictures under one name or another, or it is a
conversation (ShareGPT's ``messages``, ``conversations``, TRL's ``prompt``) whose user
asks and whose assistant answers. Choices may stand in a column of their own.
"""

import ast
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from datasets import ClassLabel, Dataset, Value, concatenate_datasets

from vgpo.rewards import parse_reference
from vgpo.texts import require_characters

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
        lettered: Columns A, B, ... with one choice each, where no other column has
            choices.
    """

    question: str | None = None
    answer: str | None = None
    images: str | None = None
    choices: str | None = None
    messages: str | None = None
    lettered: tuple[str, ...] = ()


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
    lettered = tuple(
        itertools.takewhile(lambda letter: letter in names, ascii_uppercase)
    )
    # One letter alone, or one that holds something else, is no list of choices.
    if found["choices"] or len(lettered) < 2 or set(lettered) & set(found.values()):
        lettered = ()
    columns = Columns(**found, lettered=lettered)
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
            *columns.lettered,
        )
        if name is not None
    ]
    inside: list[list[str]] = []
    feature = rows.features.get(columns.answer) if columns.answer else None
    labels = feature.names if isinstance(feature, ClassLabel) else None
    for number, row in enumerate(rows.select_columns(wanted)):
        question: str | None
        answer: str | None
        try:
            question, answer = read_row(row, columns, labels)
            if columns.images is None and columns.messages is not None:
                inside.append(_pictures_in(row[columns.messages], columns.messages))
            if _NUMBERED.search(question):
                there = rows[number][columns.images] if columns.images else None
                question = mark_pictures(question, len(picture_list(there)))
        except ValueError as error:
            wrong[number] = str(error)
            question = answer = None
            inside = [*inside[:number], []]
        texts["problem"].append(question)
        texts["answer"].append(answer)
    plain = Dataset.from_dict(texts)
    for name in texts:
        plain = plain.cast_column(name, Value("string"))
    if any(inside):
        return plain.add_column("images", inside), wrong
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
    choices = None if columns.choices is None else row[columns.choices]
    if columns.lettered:
        choices = {letter: row[letter] for letter in columns.lettered}
    listed = _listed_choices(choices, columns.choices or "A")
    question = _with_listed(question, listed)
    try:
        reference = parse_reference(answer, labels)
        _refuse_an_index(reference, listed)
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error
    require_characters(question, f"column {columns.question or columns.messages!r}")
    require_characters(reference, f"column {name!r}")
    return question, reference


def _refuse_an_index(reference: str, listed: dict[str, str]) -> None:
    """An index among choices is what no model is asked for, and 0 may be the first or
    none of them.

    Raises:
        ValueError: The reference is a whole number and the choices are others.
    """
    known = {*listed, *listed.values()}
    if listed and reference.isdigit() and reference not in known:
        texts = listed.values()
        if not all(any(map(str.isdigit, text)) for text in texts):
            raise ValueError(
                f"{reference} is neither letter nor text of a choice; if it counts "
                "them, write the letter"
            )


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
        choices: A list of texts or numbers, such a list printed, a dictionary by
            letters, one of ``label`` and ``text``, or nothing.
        name: Of the column, for errors.

    Raises:
        ValueError: ``choices`` is something else, or has more than 26 entries.

    Example:
        >>> with_choices("Which? (A) red (B) blue", ["red", "blue"])
        'Which? (A) red (B) blue'
        >>> with_choices("How many?", "[]")
        'How many?'
    """
    return _with_listed(question, _listed_choices(choices, name))


def _with_listed(question: str, listed: dict[str, str]) -> str:
    # Letters alone name what the picture shows; listing them would add nothing.
    if _LETTERED.search(question) or all(a == b for a, b in listed.items()):
        return question
    lines = (f"({letter}) {text}" for letter, text in listed.items())
    return "\n".join([question.rstrip(), *lines])


def _listed_choices(choices: Any, name: str) -> dict[str, str]:
    """Choices by their letters, of a list, of ``{"A": ...}``, or of ``{"label": [...],
    "text": [...]}``."""
    if isinstance(choices, str):
        choices = _printed_list(choices, name)
    if isinstance(choices, Mapping) and {"label", "text"} <= set(choices):
        pairs = list(zip(choices["label"], choices["text"], strict=False))
    elif isinstance(choices, Mapping):
        # A table has a column for each letter of any of its rows.
        pairs = [(k, v) for k, v in choices.items() if v is not None and v != ""]
    elif isinstance(choices, Sequence):
        if len(choices) > len(ascii_uppercase):
            raise ValueError(f"column {name!r} must hold a list of at most 26 choices")
        pairs = list(zip(ascii_uppercase, choices, strict=False))
    elif choices is None:
        return {}
    else:
        raise ValueError(f"column {name!r} must hold a list of at most 26 choices")
    if any(isinstance(one, list | dict | bytes) or one is None for _, one in pairs):
        raise ValueError(f"column {name!r} holds a choice that is no text")
    return {str(letter): str(one).strip() for letter, one in pairs}


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
    turns = _turns(turns)
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


def _turns(value: Any) -> Any:
    """A conversation, read where a CSV file or the like has it printed."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            return list(_printed_list(value, ""))
        except ValueError:
            pass
    return value


def _pictures_in(turns: Any, name: str) -> list[str]:
    """Paths, addresses or base64 of pictures that stand in a conversation itself."""
    turns, found = _turns(turns), []
    parts = [
        part
        for turn in (turns if isinstance(turns, list) else [])
        for part in (
            turn.get("content") if isinstance(turn.get("content"), list) else []
        )
        if part.get("type") in ("image", "image_url")
    ]
    for part in parts:
        values = (part.get(key) for key in ("image", "image_url", "url", "path"))
        value = next((one for one in values if one is not None), None)
        value = value.get("url") if isinstance(value, dict) else value
        if isinstance(value, str):
            found.append(value)
        elif value is not None:
            raise ValueError(
                f"column {name!r} has a picture of type {type(value).__name__}; put "
                "pictures into a column images"
            )
    return found


def _words(content: Any, name: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, bool | int | float):
        # The library reads texts of a column as JSON if some of its rows are lists.
        return json.dumps(content)
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
