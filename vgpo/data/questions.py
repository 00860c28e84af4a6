"""Questions to evaluate on, from wherever they are: one function for all forms.

What :func:`vgpo.data.loading.load_rows` is for training, :func:`load_questions` is for
evaluation: it finds the columns by itself, leaves rows out that cannot be asked, and
says which and why.
"""

import io
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, get_dataset_split_names, load_dataset
from datasets.exceptions import DatasetsError
from PIL import Image

from vgpo.data.archives import PictureStore
from vgpo.data.catalogue import CATALOGUE, SUITES, Entry, locate
from vgpo.data.forms import KNOWN, find_columns, picture_list, plain_rows
from vgpo.data.loading import PROMPT_SUFFIX, TESTBED, file_arguments, load_split
from vgpo.data.prompts import (
    BadRow,
    find_bad_rows,
    prompts_of,
    undecoded,
    undecoded_feature,
)
from vgpo.method.shaping import did_you_mean
from vgpo.pictures import as_rgb
from vgpo.testbed import make_dataset

logger = logging.getLogger(__name__)


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
        split: Of the source; needed where it has several. The catalogue names its own.
        name: Of the set, in records; by default the catalogue's or the file's.
        columns: Which column holds ``question``, ``answer``, ``images``, ``choices``
            or ``messages``, where the names do not say it.
        suffix: Put after each question; by default what training asks for
            (:data:`vgpo.data.loading.PROMPT_SUFFIX`), and nothing after rows that are
            prompts already. Never after a question that asks for ``\\boxed`` itself.
        image_tokens: Text that the model's tokenizer would take for a picture.
        root: Folder with copies of the catalogue's repositories.
        limit: The first rows alone.
        streaming: Read no more of the source than ``limit`` asks for.

    Raises:
        ValueError: No such source, split or column, or not one row that can be asked.

    Example:
        >>> rows = [{"query": "1 + 1 ?", "answer": 2}, {"query": "?", "answer": None}]
        >>> found = load_questions(rows, name="mine")
        >>> print(found, "-", found.left_out[0])
        mine: 1 questions, 1 left out - row 1: column 'answer': None is no reference \
answer; drop the row, or fill it in
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    if streaming and limit is None:
        raise ValueError("streaming reads a part of the source: set limit, too")
    entry = CATALOGUE.get(source) if isinstance(source, str) else None
    folder: Path | PictureStore | None = None
    given = dict(columns or {})
    if entry is not None:
        place = locate(entry, root)
        split = split or entry.split
        folder, given = place.pictures, entry.columns | given
        # A file holds one split, under the library's own name.
        wanted = "train" if entry.file else split
        rows = _read(place.data, wanted, entry.config, limit if streaming else None)
    elif isinstance(source, str | Path):
        rows = _read(str(source), split, None, limit if streaming else None)
        path = Path(source)
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
    return _questions(rows, given, name, suffix, image_tokens, folder, entry)


def _questions(
    rows: Dataset,
    given: Mapping[str, str],
    name: str,
    suffix: str | None,
    image_tokens: Sequence[str],
    folder: Path | PictureStore | None,
    entry: Entry | None,
) -> Questions:
    if not len(rows):
        raise ValueError(f"{name}: there are no rows")
    try:
        found = find_columns(rows.column_names, **given)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
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
    if left_out:
        logger.warning(
            "%s: %d of %d rows left out: %s",
            name,
            len(left_out),
            len(plain),
            "; ".join(map(str, left_out[:20])),
        )
    if not numbers:
        raise ValueError(
            f"{name}: not one of {len(plain)} rows can be asked; {left_out[0]}"
        )
    kept = prompts_of(plain.select(numbers), *asked, suffix=suffix, **where)
    return Questions(name, kept, numbers, left_out, suffix, entry)


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


def _read(
    name: str, split: str | None, config: str | None, first: int | None
) -> Dataset:
    if name == TESTBED:
        return make_dataset(first or 64, split=split or "heldout").select_columns(
            ["prompt", "image", "answer"]
        )
    path = Path(name)
    saved = (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()
    if split is None:
        split = _only_split(name, config, saved)
    if first is None or saved:
        return load_split(name, split, config)
    try:
        kind, how = file_arguments(path) if path.is_file() else (name, {})
        stream = load_dataset(kind, config, split=split, streaming=True, **how)
        features = stream.features
        if features is not None:
            for column, feature in features.items():
                kept = undecoded_feature(feature)
                if kept is not None:
                    stream = stream.cast_column(column, kept)
            features = Features(stream.features)
        some = list(itertools.islice(stream, first))
    except (OSError, ValueError, DatasetsError) as error:
        raise ValueError(f"{name!r} cannot be read ({error})") from error
    return Dataset.from_list(some, features=features)


def _only_split(name: str, config: str | None, saved: bool) -> str:
    path = Path(name)
    if path.is_file():
        return "train"
    try:
        names = (
            sorted(p.name for p in path.iterdir() if (p / "state.json").is_file())
            or ["train"]
            if saved
            else get_dataset_split_names(name, config)
        )
    except (OSError, ValueError, DatasetsError) as error:
        raise ValueError(
            f"{name!r} is no file, no folder with a data set, and cannot be reached on "
            f"the hub ({_cause(error)})"
            f"{did_you_mean(name, [*CATALOGUE, *SUITES, TESTBED])}"
        ) from error
    if len(names) != 1:
        raise ValueError(
            f"{name!r} has splits {', '.join(names)}; say which one as split, so that "
            "rows that were trained on are not evaluated by accident"
        )
    return names[0]


def _cause(error: BaseException) -> BaseException:
    """What the library met first; what it says itself is that it met something."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _from_dictionaries(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    if isinstance(rows, Mapping) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(
            "source must be a name, a path, a data set or a list of dictionaries"
        )
    names = dict.fromkeys(name for row in rows for name in row)
    kept: dict[str, list[Any]] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if name in KNOWN["images"]:
            values = [_kept_pictures(value) for value in values]
        elif name not in KNOWN["messages"] and not _alike(values):
            # Answers of several types; references are texts in the end.
            values = [value if value is None else str(value) for value in values]
        kept[name] = values
    try:
        return Dataset.from_dict(kept)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"source: the rows fit no table ({error})") from error


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
    if isinstance(value, Mapping):
        return {"bytes": value.get("bytes"), "path": value.get("path")}
    return {"bytes": None, "path": None if value is None else str(value)}


def _name_of(source: Any) -> str:
    if isinstance(source, str | Path):
        return Path(source).stem or str(source)
    return "questions"
