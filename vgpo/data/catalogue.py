"""The public data sets of the paper and its neighbours, and where each fact is from.

``CATALOGUE`` is read from ``catalogue.toml`` beside this module. No entry could be
checked against the hub when it was written; the loading code is tested on small data
sets in the very same schema. Loading: :func:`vgpo.data.questions.load_questions`.
"""

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import pandas as pd
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from vgpo.data.archives import PictureStore
from vgpo.hub import require_hub


@dataclass(frozen=True)
class Entry:
    """A public data set.

    Attributes:
        name: Its key in ``CATALOGUE``.
        title: Its name in the paper's tables.
        role: ``training``, ``validation`` or ``evaluation``.
        repository: Its id on the hub.
        split: Of the repository.
        answers: Kinds of answers.
        columns: Which column holds what, as in
            :class:`vgpo.data.forms.Columns`; empty where it is not known.
        config: Of the repository, if it has several.
        file: The one file that holds the rows, if that is known.
        archive: The zip file of the pictures, if they are in one.
        average: ``math`` or ``vision``: the paper's average that it counts for.
        rows: How many it should have.
        size: Of the download.
        licence: Only where a source names it; else ask :attr:`page`.
        facts: For each fact where it was read.
        checked: Whether the entry was compared with the hub.
        note: What else to know.
    """

    name: str
    title: str
    role: str
    repository: str
    split: str
    answers: str
    columns: dict[str, str] = field(default_factory=dict)
    config: str | None = None
    file: str | None = None
    archive: str | None = None
    average: str | None = None
    rows: int | None = None
    size: str | None = None
    licence: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    checked: bool = False
    note: str = ""

    @property
    def page(self) -> str:
        """Its page on the hub, which names licence and citation."""
        return f"https://huggingface.co/datasets/{self.repository}"


def _read() -> tuple[dict[str, Entry], dict[str, str]]:
    text = files("vgpo.data").joinpath("catalogue.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    sources = tables.pop("sources")
    entries = {}
    for name, table in tables.items():
        facts = {fact: sources[where] for fact, where in table.pop("facts").items()}
        entries[name] = Entry(name=name, facts=facts, **table)
    return entries, sources


CATALOGUE, SOURCES = _read()

SUITES: dict[str, tuple[str, ...]] = {
    "math": tuple(n for n, e in CATALOGUE.items() if e.average == "math"),
    "vision": tuple(n for n, e in CATALOGUE.items() if e.average == "vision"),
    "paper": tuple(n for n, e in CATALOGUE.items() if e.average is not None),
}
"""Benchmarks by the averages that the paper prints; ``paper`` is all ten."""


def describe(names: Sequence[str] | None = None) -> pd.DataFrame:
    """The catalogue as a table.

    Args:
        names: Of entries; by default all.

    Returns:
        One row per entry: title, role, repository, split, rows, size, answers,
        licence (or where it is to be read), checked, note.

    Raises:
        ValueError: No such entry.

    Example:
        >>> describe(["counting"]).loc["counting", "rows"]
        200
    """
    rows = {}
    for name in CATALOGUE if names is None else names:
        one = entry(name)
        rows[name] = {
            "title": one.title,
            "role": one.role,
            "repository": one.repository,
            "split": one.split,
            "rows": one.rows,
            "size": one.size or "",
            "answers": one.answers,
            "licence": one.licence or f"see {one.page}",
            "checked": one.checked,
            "note": one.note,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.astype({"rows": object})


def entry(name: str) -> Entry:
    """One entry by its name.

    Raises:
        ValueError: No such entry.
    """
    if name not in CATALOGUE:
        raise ValueError(
            f"there is no data set {name!r} in the catalogue, only "
            f"{', '.join(sorted(CATALOGUE))}"
        )
    return CATALOGUE[name]


@dataclass(frozen=True)
class Place:
    """Where the rows of an entry are, ready to be loaded.

    Attributes:
        data: A file, a folder, or the repository's id on the hub.
        pictures: Where its pictures are looked for; None if its rows hold them.
    """

    data: str
    pictures: PictureStore | None


def locate(one: Entry, root: str | Path | None = None) -> Place:
    """Where an entry's files are, fetched from the hub unless ``root`` has them.

    Args:
        one: The entry.
        root: A folder with copies of repositories, each under its id
            (``root/PAPO-Galaxy/PAPO_eval``), or the copy of this one itself.

    Raises:
        ValueError: A file is not there, or cannot be fetched.
    """
    if root is None:
        if one.file is None:
            return Place(one.repository, None)
        data = _fetched(one, one.file)
        if one.archive is None:
            return Place(data, PictureStore(Path(data).parent))
        archive = _fetched(one, one.archive)
        return Place(data, PictureStore(Path(data).parent, [archive]))
    base = Path(os.path.expanduser(root))
    if (base / one.repository).is_dir():
        base = base / one.repository
    if not base.is_dir():
        raise ValueError(f"root: there is no folder {root}")
    archives = [base / one.archive] if one.archive else []
    archives = [archive for archive in archives if archive.is_file()]
    if one.file is None:
        return Place(str(base), PictureStore(base, archives))
    if not (base / one.file).is_file():
        raise ValueError(
            f"root: {one.title} needs {one.file} in {base}; fetch it from {one.page}"
        )
    file = base / one.file
    return Place(str(file), PictureStore(base, archives, [file.parent]))


def _fetched(one: Entry, file: str) -> str:
    try:
        require_hub(one.repository, "dataset")
        return hf_hub_download(one.repository, file, repo_type="dataset")
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ValueError(
            f"{one.title}: {file} cannot be fetched from {one.page} ({error}); fetch "
            "it yourself and name the folder as root"
        ) from error
