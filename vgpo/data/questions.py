"""Questions from wherever they are: one function for all forms.

:func:`load_questions` finds the columns by itself, leaves rows out that cannot be
asked, and says which and why. Evaluation takes what it returns;
:func:`vgpo.data.loading.load_rows` makes rows to train on of it.
"""

import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from vgpo.data.archives import PictureStore
from vgpo.data.catalogue import CATALOGUE, Entry, locate
from vgpo.data.forms import KNOWN, find_columns, picture_list, plain_rows
from vgpo.data.prompts import (
    BadRow,
    find_bad_rows,
    leave_out,
    prompts_of,
    undecoded,
)
from vgpo.data.splits import PROMPT_SUFFIX, read_split
from vgpo.pictures import as_rgb
from vgpo.texts import require_characters


@dataclass(frozen=True)
class Questions:
    """A set of questions that can be asked, and what was left out.

    Attributes:
        name: Of the set.
        rows: ``prompt``, ``images`` and ``answer``, made on access: pictures are
            decoded when a row is asked for.
        numbers: For each row its index in the source.
        left_out: Rows that cannot be asked, by their index in the source, and why.
        suffix: What is put after each question.
        entry: Of the catalogue, if it is from there.
    """

    name: str
    rows: Dataset
    numbers: tuple[int, ...]
    left_out: tuple[BadRow, ...]
    suffix: str
    entry: Entry | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return f"{self.name}: {len(self)} questions, {len(self.left_out)} left out"


def load_questions(
    source: str | Path | Dataset | Sequence[Mapping[str, Any]],
    split: str | None = None,
    *,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    suffix: str | None = None,
    image_tokens: Sequence[str] = (),
    root: str | Path | None = None,
    limit: int | None = None,
    streaming: bool = False,
    on_bad_row: str = "skip",
) -> Questions:
    """Questions in any form that people keep them in.

    Question, answer, pictures and choices are found by the names of columns
    (:data:`vgpo.data.forms.KNOWN`); conversations (``messages``, ``conversations``,
    ``prompt``) are read, too. A row with a broken picture, without an answer, or
    otherwise not to be asked is left out and listed.

    Args:
        source: A name of ``vgpo.data.CATALOGUE``, ``"testbed"``, a
            Parquet, JSON, JSON lines or CSV file, a folder (of such files, of pictures
            with a ``metadata`` file, or saved by ``datasets``), a name on the hub, a
            data set, or a list of dictionaries.
        split: Of the source, or a part such as ``"train[:90%]"``; needed where it has
            several. The catalogue names its own.
        name: Of the set, in records; by default the catalogue's or the file's.
        columns: Which column holds ``question``, ``answer``, ``images``, ``choices``
            or ``messages``, where the names do not say it.
        suffix: Put after each question; by default what training asks for
            (:data:`vgpo.data.splits.PROMPT_SUFFIX`), and nothing after rows that are
            prompts already. Never after a question that asks for ``\\boxed`` itself.
        image_tokens: Text that the model's tokenizer would take for a picture.
        root: Folder with copies of the catalogue's repositories.
        limit: The first rows alone.
        streaming: Read no more of the source than ``limit`` asks for.
        on_bad_row: ``"skip"``, or ``"raise"``, which refuses a source with a row that
            cannot be asked.

    Raises:
        ValueError: No such source, split or column, or not one row that can be asked.

    Example:
        >>> rows = [{"query": "1 + 1 ?", "answer": 2}, {"query": "?", "answer": None}]
        >>> found = load_questions(rows, name="mine")
        >>> print(found, "-", found.left_out[0])
        mine: 1 questions, 1 left out - row 1: column 'answer': None is no reference \
answer; drop the row, or fill it in
    """
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError(f"limit must be a whole number, at least 1, got {limit!r}")
    if suffix is not None and not isinstance(suffix, str):
        raise ValueError(f"suffix must be text, got {suffix!r}")
    require_characters(suffix or "", "suffix")
    if streaming and limit is None:
        raise ValueError("streaming reads a part of the source: set limit, too")
    entry = CATALOGUE.get(source) if isinstance(source, str) else None
    folder: Path | PictureStore | None = None
    given = dict(columns or {})
    if entry is not None:
        place = locate(entry, root)
        folder, given = place.pictures, entry.columns | given
        wanted = split_of(entry, split)
        some = limit if streaming else None
        rows = read_split(place.data, wanted, entry.config, some)
    elif isinstance(source, str | Path):
        there = os.path.expanduser(str(source))
        rows = read_split(there, split, None, limit if streaming else None)
        path = Path(there)
        folder = path.parent if path.is_file() else path if path.is_dir() else None
    elif isinstance(source, Dataset):
        rows = source
    else:
        rows = _from_dictionaries(source)
    name = name or (entry.name if entry else _name_of(source))
    if unknown := set(given) - set(KNOWN):
        raise ValueError(
            f"columns: {', '.join(sorted(unknown))} is none of {', '.join(KNOWN)}"
        )
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    return _questions(
        rows, given, name, suffix, image_tokens, folder, entry, on_bad_row
    )


def split_of(entry: Entry, split: str | None) -> str:
    """A split of the catalogue's entry as its files have it.

    Args:
        entry: Of the catalogue.
        split: By default the entry's own; or a part of it.

    Raises:
        ValueError: The entry's file holds no such split.

    Example:
        >>> split_of(CATALOGUE["counting"], "BUAADreamer_clevr_count_70k[:10]")
        'train[:10]'
    """
    split = split or entry.split
    if entry.file is None:
        return split
    # A file holds one split, under the library's own name.
    base, bracket, part = split.partition("[")
    if base not in (entry.split, "train"):
        raise ValueError(
            f"{entry.name}: {entry.file} holds the split {entry.split!r}, not "
            f"{base!r}; leave the split out, or name a part such as "
            f"{entry.split}[:10%]"
        )
    return f"train{bracket}{part}"


def _questions(
    rows: Dataset,
    given: Mapping[str, str],
    name: str,
    suffix: str | None,
    image_tokens: Sequence[str],
    folder: Path | PictureStore | None,
    entry: Entry | None,
    on_bad_row: str,
) -> Questions:
    if not len(rows):
        raise ValueError(f"{name}: there are no rows")
    try:
        found = find_columns(rows.column_names, **given)
    except ValueError as error:
        raise ValueError(f"{name}: {error}{_within(rows)}") from error
    if suffix is None:
        suffix = "" if found.messages == "prompt" else PROMPT_SUFFIX
    # A transform would decode pictures, and this reads columns as they are kept.
    rows = rows.with_format(None)
    if found.images is not None:
        rows = undecoded(rows, found.images)
    plain, wrong = plain_rows(rows, found)
    plain = undecoded(plain, "images")
    asked = ("problem", "answer", "images")
    where = {"folder": folder, "image_tokens": image_tokens}
    reasons = {bad.row: bad.reason for bad in find_bad_rows(plain, *asked, **where)}
    if found.images is not None and "images" not in given:
        reasons |= _elsewhere(rows, found.images)
    reasons |= wrong
    left_out = tuple(BadRow(row, reasons[row]) for row in sorted(reasons))
    numbers = tuple(row for row in range(len(plain)) if row not in reasons)
    leave_out(left_out, len(plain), on_bad_row, name)
    kept = prompts_of(plain.select(numbers), *asked, suffix=suffix, **where)
    return Questions(name, kept, numbers, left_out, suffix, entry)


def _within(rows: Dataset) -> str:
    """Where the rows may be, of a file that is one object with a list in it."""
    if len(rows) == 1:
        for column, value in rows.with_format(None)[0].items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                return (
                    f"; column {column!r} is a list of rows: write that list alone to "
                    "a file"
                )
    return ""


def _elsewhere(rows: Dataset, column: str) -> dict[int, str]:
    """Rows that would be asked without the picture that another column of theirs has,
    as where sets were put together that call it ``image`` and ``images``.
    """
    others = [o for o in KNOWN["images"] if o != column and o in rows.column_names]
    found: dict[int, str] = {}
    for other in others:
        both = undecoded(rows.select_columns([column, other]), other)
        for number, row in enumerate(both):
            if not picture_list(row[column]) and picture_list(row[other]):
                found[number] = (
                    f"column {column!r} has no picture, and {other!r} has one; write "
                    "all of them into one column, or name it in columns"
                )
    return found


def _from_dictionaries(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    listed = isinstance(rows, Sequence) and not isinstance(rows, bytes)
    if not listed or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(
            "source must be a name, a path, a data set or a list of dictionaries, got "
            f"{type(rows).__name__}"
        )
    names = dict.fromkeys(name for row in rows for name in row)
    kept: dict[str, list[Any]] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if name in KNOWN["images"]:
            values = [_kept_pictures(value) for value in values]
        elif name in KNOWN["messages"]:
            values = [_printed(value) for value in values]
        elif not _alike(values):
            # Answers of several types; references are texts in the end.
            values = [value if value is None else str(value) for value in values]
        kept[name] = values
    try:
        return Dataset.from_dict(kept)
    except UnicodeEncodeError as error:
        _require_characters(kept)
        raise ValueError(f"source: the rows fit no table ({error})") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"source: the rows fit no table ({error})") from error


def _require_characters(columns: Mapping[str, Sequence[Any]]) -> None:
    """Refuses texts that no table of UTF-8 takes, by row and column."""
    for name, values in columns.items():
        require_characters(name, f"source: the name of column {name!r}")
        for row, value in enumerate(values):
            for text in value if isinstance(value, list | tuple) else [value]:
                if isinstance(text, str):
                    require_characters(text, f"source: row {row}, column {name!r}")


def _printed(turns: Any) -> Any:
    """A conversation as JSON: a table has no room for a turn that is a text beside one
    that is a list of parts."""
    if not isinstance(turns, list | tuple):
        return turns
    return json.dumps(turns, default=_as_text) if turns else None


def _as_text(value: Any) -> str:
    """A picture within a conversation as a data address, whatever else as text."""
    content = _kept_picture(value)["bytes"]
    if content is None:
        return str(value)
    return "data:;base64," + base64.b64encode(content).decode()


def _alike(values: Sequence[Any]) -> bool:
    return len({type(value) for value in values if value is not None}) <= 1


def _kept_pictures(value: Any) -> list[dict[str, Any]]:
    """Pictures of any kind as one type of column: bytes or a path each."""
    if value is None:
        return []
    values = value if isinstance(value, list | tuple) else [value]
    return [_kept_picture(one) for one in values]


def _kept_picture(value: Any) -> dict[str, Any]:
    if isinstance(value, Image.Image):
        buffer = io.BytesIO()
        try:
            as_rgb(value).save(buffer, "PNG")
        except (ValueError, OSError):
            # Of a scale or a mode that as_rgb will refuse again, then with its row.
            value.save(buffer, "TIFF")
        return {"bytes": buffer.getvalue(), "path": None}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": bytes(value), "path": None}
    if isinstance(value, np.ndarray | torch.Tensor):
        raise ValueError(
            "source: a picture is an array; make an image of it, by "
            "PIL.Image.fromarray of height x width x 3 values in uint8"
        )
    if isinstance(value, io.IOBase):
        return {"bytes": value.read(), "path": None}
    if isinstance(value, Mapping):
        path = value.get("path") or value.get("url")  # an address, to be refused as one
        return {"bytes": value.get("bytes"), "path": path}
    return {"bytes": None, "path": None if value is None else str(value)}


def _name_of(source: Any) -> str:
    if isinstance(source, str | Path):
        return Path(source).stem or str(source)
    return "questions"
