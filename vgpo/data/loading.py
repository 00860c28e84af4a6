"""A data set by name, as rows to train on or to evaluate with."""

import glob
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    ReadInstruction,
    Value,
    concatenate_datasets,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetsError

from vgpo.data.prompts import PICTURES, to_prompts
from vgpo.testbed import make_dataset

TESTBED = "testbed"
"""The small world that comes with the package, named as a data set or a model."""

PROMPT_SUFFIX = (
    "First think through the problem as an internal monologue inside "
    "<think> </think>, then put the final answer in \\boxed{}."
)
"""What is asked of the model after each question; the paper's demand, in our words."""

_COMPARED_AT_ONCE = 64

FILE_TYPES = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
}
"""Kinds of files by their endings, as the ``datasets`` library calls them."""

_SEPARATORS = ",;\t"


def load_rows(
    dataset: str | None,
    split: str = "train",
    *,
    question_column: str = "problem",
    answer_column: str = "answer",
    image_column: str = "images",
    prompt_suffix: str = PROMPT_SUFFIX,
    image_tokens: Sequence[str] = (),
    on_bad_row: str = "raise",
    testbed_size: int = 1024,
    testbed_seed: int = 0,
    testbed_family: str | None = None,
) -> Dataset:
    """A data set in TRL's format: ``prompt``, ``images`` (or ``image``), ``answer``.

    Every row is checked here (:func:`vgpo.data.prompts.to_prompts`); pictures are
    decoded again row by row, when the trainer asks for them.

    Args:
        dataset: ``"testbed"``, a name on the hub, a folder, or a Parquet, JSON, JSON
            lines or CSV file. Paths of pictures in a file begin at its folder.
        split: Its split. A file has one, ``"train"``; parts of it are
            ``"train[:90%]"``, ``"train[90%:]"``.
        question_column: Column of the question, which may hold ``<image>``.
        answer_column: Column of the reference answer.
        image_column: Column of the picture or the list of pictures; a data set without
            it has none.
        prompt_suffix: Put after each question; not on the testbed, whose model was not
            taught it.
        image_tokens: Text that the model's tokenizer would take for a picture.
        on_bad_row: ``"raise"`` or ``"skip"``.
        testbed_size: Questions of the testbed.
        testbed_seed: Names their sequence.
        testbed_family: Ask this family only.

    Raises:
        ValueError: No data set named, not found, no such split, no such columns, or
            rows that cannot be trained on.

    Example:
        >>> load_rows("testbed", testbed_size=2).column_names
        ['prompt', 'image', 'answer']
    """
    if dataset is None:
        raise ValueError(
            f"dataset is missing: name one on the hub, a folder, a file, or {TESTBED!r}"
        )
    if not isinstance(dataset, str):
        raise ValueError(
            f"dataset must be a name or a path, got {dataset!r} "
            f"({type(dataset).__name__})"
        )
    if dataset == TESTBED:
        return make_dataset(
            testbed_size, seed=testbed_seed, split=split, family=testbed_family
        ).select_columns(["prompt", "image", "answer"])
    rows = load_split(dataset, split)
    if not len(rows):
        raise ValueError(f"dataset: {dataset!r} has no rows in split {split!r}")
    wanted = {"question_column": question_column, "answer_column": answer_column}
    missing = [name for name in wanted.values() if name not in rows.column_names]
    if missing:
        raise ValueError(
            f"dataset: {dataset!r} has no column {', '.join(missing)}, only "
            f"{', '.join(rows.column_names)}; set {' and '.join(wanted)}"
        )
    if image_column not in rows.column_names and any(
        "image" in name.lower() or "picture" in name.lower()
        for name in rows.column_names
    ):
        raise ValueError(
            f"dataset: {dataset!r} has no column {image_column}, only "
            f"{', '.join(rows.column_names)}; set image_column"
        )
    path = Path(dataset)
    folder = path.parent if path.is_file() else path if path.is_dir() else None
    try:
        return to_prompts(
            rows,
            question_column,
            answer_column,
            image_column,
            suffix=prompt_suffix,
            folder=folder,
            image_tokens=image_tokens,
            on_bad_row=on_bad_row,
        )
    except ValueError as error:
        raise ValueError(f"dataset: {dataset!r}: {error}") from error


def shared_rows(
    rows: Dataset, others: Dataset, question_column: str, answer_column: str
) -> int:
    """How many of ``rows`` are among the ``others``.

    Args:
        rows: From :func:`load_rows`.
        others: The same.
        question_column: Where both have it, rows are told apart by it, by
            ``answer_column`` and by their pictures, as these are kept: by their bytes,
            or else by their paths. Else by all columns.
        answer_column: See there.

    Example:
        >>> some = load_rows("testbed", testbed_size=4)
        >>> shared_rows(some.select([0, 1]), some.select([1, 2]), "problem", "answer")
        1
    """
    names = {question_column, answer_column, PICTURES}
    told_by = [
        frozenset(names & set(one.column_names))
        if question_column in one.column_names
        else frozenset(one.column_names)
        for one in (rows, others)
    ]
    if told_by[0] != told_by[1]:
        return 0
    columns = sorted(told_by[0])
    known = set(_fingerprints(others, columns))
    return sum(one in known for one in _fingerprints(rows, columns))


def _fingerprints(rows: Dataset, columns: list[str]) -> Iterator[bytes]:
    plain = rows.select_columns(columns).with_format("arrow")
    for start in range(0, len(rows), _COMPARED_AT_ONCE):
        for row in plain[start : start + _COMPARED_AT_ONCE].to_pylist():
            yield blake2b(repr(row).encode()).digest()


def load_split(name: str, split: str, config: str | None = None) -> Dataset:
    """One split of a file, of a folder or of a data set on the hub, as it is kept.

    Raises:
        ValueError: It cannot be loaded, or has no such split.
    """
    path = Path(name)
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return _saved(load_from_disk(name), split)
        if path.is_file():
            kind, how = file_arguments(path)
            return load_dataset(kind, split=split, **how)
        rows = load_dataset(name, config, split=split)
    except StopIteration as error:  # what the library's reader of JSON ends in
        raise ValueError(f"dataset: {name!r} has no rows") from error
    except (OSError, ValueError, DatasetsError) as error:
        # The library says that an error occurred; which, its cause says.
        cause = error.__cause__ if isinstance(error, DatasetsError) else None
        raise ValueError(
            f"dataset: {name!r} cannot be loaded, neither from a folder or file nor "
            f"from the hub ({cause or error})"
        ) from error
    if path.is_dir() and set(rows.column_names) <= {"image", "label"}:
        return _from_its_table(path, split) or rows
    return rows


def file_arguments(path: Path) -> tuple[str, dict[str, Any]]:
    """What ``load_dataset`` is called with for a file: its kind, and settings.

    A CSV file's values are texts as they stand there: 007, NA and True are answers.

    Raises:
        ValueError: It is of no known kind, or has no header that can be read.
    """
    kind = FILE_TYPES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"it is none of {', '.join(FILE_TYPES)}")
    # In a name, the library would take [ and * for a pattern.
    how: dict[str, Any] = {"data_files": glob.escape(str(path))}
    if kind == "csv":
        # index_col: else a row that ends in a comma has its values moved by one column.
        plain = {"index_col": False, "na_filter": False}
        try:
            names, mark = max(
                (
                    (list(pd.read_csv(path, sep=mark, nrows=0, **plain)), mark)
                    for mark in _SEPARATORS
                ),
                key=lambda found: len(found[0]),
            )
        except UnicodeDecodeError as error:
            raise ValueError(f"it is not in UTF-8, save it as that: {error}") from error
        text = Features({name: Value("string") for name in names})
        how |= {"sep": mark, "features": text, **plain}
    return kind, how


def _from_its_table(folder: Path, split: str) -> Dataset | None:
    """Rows of the one table beside a folder's pictures; None if there is no table.

    The library takes a folder with more pictures than tables for a set of pictures.
    """
    tables = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in FILE_TYPES and path.is_file()
    )
    if not tables:
        return None
    if len(tables) == 1:
        return load_split(str(tables[0]), split)
    raise ValueError(
        f"dataset: {str(folder)!r} holds pictures and {len(tables)} tables "
        f"({', '.join(path.name for path in tables[:5])}); name the table itself, "
        "whose split is train"
    )


def _saved(found: Dataset | DatasetDict, split: str) -> Dataset:
    """The split of what ``save_to_disk`` wrote, which is one data set or several."""
    if isinstance(found, Dataset):
        name = str(found.split or "train")
        found = DatasetDict({name: found})
    sizes = {name: len(rows) for name, rows in found.items()}
    try:
        parts = ReadInstruction.from_spec(split).to_absolute(sizes)
    except (ValueError, AssertionError) as error:
        raise ValueError(
            f"it has no split {split!r}, only {', '.join(sorted(found))} and parts of "
            f"them such as {min(found)}[:90%] ({error})"
        ) from error
    return concatenate_datasets(
        [found[part.splitname].select(range(part.from_, part.to)) for part in parts]
    )
