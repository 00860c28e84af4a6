"""Splits of files, folders and data sets on the hub, as they are kept."""

import codecs
import glob
import itertools
import re
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
    get_dataset_split_names,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetsError
from datasets.load import CachedDatasetModuleFactory

from vgpo.data.catalogue import CATALOGUE, SUITES
from vgpo.data.prompts import undecoded_feature
from vgpo.hub import require_hub
from vgpo.method.shaping import did_you_mean
from vgpo.testbed import make_dataset

TESTBED = "testbed"
"""The small world that comes with the package, named as a data set or a model."""

PROMPT_SUFFIX = (
    "First think through the problem as an internal monologue inside "
    "<think> </think>, then put the final answer in \\boxed{}."
)
"""What is asked of the model after each question; the paper's demand, in our words."""

FILE_TYPES = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
}
"""Kinds of files by their endings, as the ``datasets`` library calls them."""

_SEPARATORS = ",;\t"

_GZIP = b"\x1f\x8b"
# Bytes of a file that are looked at for its encoding, in 0.2 s; a longer one is mostly
# pictures.
_LOOKED_AT = 1 << 28

# What the library says of a split without rows: of any kind of file, of Parquet.
_NO_ROWS = ("corresponds to no data", "BatchSize must be greater than 0, got 0")


def read_split(
    name: str, split: str | None, config: str | None, first: int | None
) -> Dataset:
    """A split, the only one there is if ``split`` is None; of it the ``first`` rows."""
    if not name:
        raise ValueError("the data set's name is empty; give a name or a path")
    if name == TESTBED:
        return make_dataset(first or 64, split=split or "heldout").select_columns(
            ["prompt", "image", "answer"]
        )
    path = Path(name)
    saved = _is_saved(path)
    if split is None:
        split = _only_split(name, config, saved)
    if first is None or saved:
        return load_split(name, split, config)
    try:
        kind, how = file_arguments(path) if path.is_file() else (name, {})
        _require_there(path)
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
        _require_there(path)
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


def _require_there(path: Path) -> None:
    """Refuses a name that nothing here bears while the hub does not answer.

    The library would ask for 24 s. A copy that it has prepared earlier is found without
    the hub.

    Raises:
        ConnectionError: As ``vgpo.hub.require_hub`` says.
    """
    if path.exists():
        _refuse_null_first(path)
        return
    name = path.as_posix()
    try:
        require_hub(name, "dataset")
    except ConnectionError:
        try:
            CachedDatasetModuleFactory(name).get_module()
        except FileNotFoundError:
            pass
        else:
            return
        raise


def _cause(error: BaseException) -> BaseException:
    """What the library met first; what it says itself is that it met something."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def load_split(name: str, split: str, config: str | None = None) -> Dataset:
    """One split of a file, of a folder or of a data set on the hub, as it is kept.

    Raises:
        ValueError: It cannot be loaded, or has no such split.
    """
    path = Path(name)
    try:
        if _is_saved(path):
            return _saved(load_from_disk(name), split)
        if path.is_file():
            kind, how = file_arguments(path)
            return load_dataset(kind, split=split, **how)
        _require_there(path)
        rows = load_dataset(name, config, split=split)
    except StopIteration as error:  # what the library's reader of JSON ends in
        raise ValueError(f"dataset: {name!r} has no rows") from error
    except (OSError, ValueError, DatasetsError) as error:
        # The library says that an error occurred; which, its cause says.
        cause = error.__cause__ if isinstance(error, DatasetsError) else None
        said = str(cause or error)
        if any(words in said for words in _NO_ROWS):
            part = "" if split == "train" else f" in {split!r}"
            raise ValueError(f"dataset: {name!r} has no rows{part}") from error
        if path.exists():
            raise ValueError(f"dataset: {name!r} cannot be loaded ({said})") from error
        raise ValueError(
            f"dataset: {name!r} cannot be loaded, neither from a folder or file nor "
            f"from the hub ({said}){did_you_mean(name, [*CATALOGUE, TESTBED])}"
        ) from error
    if path.is_dir() and set(rows.column_names) <= {"image", "label"}:
        return _from_its_table(path, split) or rows
    return rows


def _refuse_other_encoding(path: Path) -> None:
    """Refuses text that is not in UTF-8, as far as :data:`_LOOKED_AT` goes.

    pyarrow's reader of JSON takes it, and it would fail row by row, without a name.

    Raises:
        ValueError: The file is text in another encoding.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        if file.read(2) == _GZIP:
            return
        file.seek(0)
        try:
            for _ in range(_LOOKED_AT >> 20):
                piece = file.read(1 << 20)
                decoder.decode(piece, final=not piece)
                if not piece:
                    return
        except UnicodeDecodeError as error:
            raise ValueError(f"it is not in UTF-8, save it as that: {error}") from error


def file_arguments(path: Path) -> tuple[str, dict[str, Any]]:
    """What ``load_dataset`` is called with for a file: its kind, and settings.

    A CSV file's values are texts as they stand there: 007, NA and True are answers.

    Raises:
        ValueError: It is of no known kind, not in UTF-8, has no header that can be read
            or one that has a name twice, or begins with null.
    """
    kind = FILE_TYPES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"it is none of {', '.join(FILE_TYPES)}")
    if kind in ("json", "csv"):
        _refuse_other_encoding(path)
    if kind == "json":
        _refuse_null_first(path)
    # In a name, the library would take [ and * for a pattern.
    how: dict[str, Any] = {"data_files": glob.escape(str(path))}
    if kind == "csv":
        # index_col: else a row that ends in a comma has its values moved by one column.
        plain = {"index_col": False, "na_filter": False}
        names, mark = max(
            (
                (list(pd.read_csv(path, sep=mark, nrows=0, **plain)), mark)
                for mark in _SEPARATORS
            ),
            key=lambda found: len(found[0]),
        )
        _refuse_name_twice(path, mark)
        text = Features({name: Value("string") for name in names})
        how |= {"sep": mark, "features": text, **plain}
    return kind, how


def _refuse_name_twice(path: Path, mark: str) -> None:
    """Refuses a table with two columns of one name, of which one would be passed over.

    Raises:
        ValueError: A name stands twice.
    """
    plain = {"index_col": False, "na_filter": False, "dtype": str}
    names = list(pd.read_csv(path, sep=mark, header=None, nrows=1, **plain).iloc[0])
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"several of its columns are called {', '.join(twice)}")


def _refuse_null_first(path: Path) -> None:
    """Refuses a null in the place of the first row, at which pyarrow's reader crashes.

    With a segmentation fault, as of pyarrow 26, which ends the whole process.

    Args:
        path: A file, or a folder that may have JSON files at any depth.

    Raises:
        ValueError: A JSON file begins with null.
    """
    files = (f for f in path.rglob("*.json*") if f.is_file())
    for one in files if path.is_dir() else [path]:
        with one.open("rb") as file:
            start = file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()
        if re.match(rb"null\b", start):
            raise ValueError(f"{one.name} begins with null, which is no row")


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


def _is_saved(path: Path) -> bool:
    """Whether ``save_to_disk`` wrote it."""
    return any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))


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
