"""Where the cells of a grid are: finished, at work, and those of other grids.

A finished cell is a folder that appears by a rename. A cell at work holds a lock on a
file of its own, with its process and machine written into it. The lock is the
operating system's, so it ends with the process, however that ends: a file without a
lock is stale, and its cell is done by whoever comes next.

Grids may share cells (``shares`` of a
:class:`~vgpo.studies.experiments.grid.Grid`): one of the same settings that is
finished, or at work, in another grid's folder is not done again, and is read there.
"""

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgpo.studies.experiments.cells import RECORD, UNTRAINED, Cell
from vgpo.studies.experiments.grid import Grid


@dataclass(frozen=True)
class Places:
    """The folders of a grid.

    Attributes:
        records: Finished cells, one folder each.
        starts: Cold starts in another wording than shipped, shared by all grids.
        shares: The like of ``records``, of grids whose cells are taken as well.
    """

    records: Path
    starts: Path
    shares: tuple[Path, ...] = ()

    @classmethod
    def of(
        cls, grid: Grid, experiments: Path, starts: Path = Path("runs/starts")
    ) -> "Places":
        """Those of a grid whose folder, as those of all grids, is in ``experiments``.

        Example:
            >>> grid = Grid("more", ("dapo",), ("misread",), shares=("headline",))
            >>> places = Places.of(grid, Path("results"))
            >>> [path.name for path in (places.records, *places.shares)]
            ['more', 'headline']
        """
        shares = tuple(experiments / name for name in grid.shares)
        return cls(experiments / grid.name, starts, shares)

    def folder(self, cell: Cell) -> Path:
        """Where a cell's record is, or will be; cold starts' are shared by grids."""
        shared = self.records.parent / UNTRAINED
        return (shared if cell.arm == UNTRAINED else self.records) / cell.name

    def lock(self, cell: Cell) -> Path:
        """The file that whoever works on a cell has locked."""
        return lock_of(self.folder(cell))

    def others(self, cell: Cell) -> list[Path]:
        """Where a cell of this name would be in the grids that are shared."""
        if cell.arm == UNTRAINED:
            return []
        return [folder / cell.name for folder in self.shares]


def lock_of(folder: Path) -> Path:
    """The file to lock for a cell whose record is, or will be, in a folder."""
    return folder.parent / ".locks" / f"{folder.name}.json"


@contextmanager
def locked(path: Path, about: dict[str, Any] | None = None) -> Iterator[bool]:
    """Holds the lock on a file, if nobody else does.

    Args:
        path: The file; it is made, and stays.
        about: Written into it, beside process and machine.

    Yields:
        Whether the lock is ours.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        file.seek(0)
        file.truncate()
        said = {"pid": os.getpid(), "host": platform.node(), "since": time.time()}
        json.dump(said | (about or {}), file)
        file.flush()
        yield True


def holder(path: Path) -> dict[str, Any] | None:
    """Who holds a lock; None if nobody does, whatever the file says.

    Returns:
        ``pid``, ``host`` and ``since``.
    """
    try:
        with path.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                text = file.read()
                return json.loads(text) if text else {}
    except FileNotFoundError:
        pass
    return None


def finished(cell: Cell, places: Places) -> dict[str, Any] | None:
    """A cell's record, or None if it is still to be done.

    Raises:
        ValueError: The record is of a cell of that name with other settings.
    """
    there = find(cell, places)
    return there[1] if there else None


def find(cell: Cell, places: Places) -> tuple[Path, dict[str, Any]] | None:
    """The folder and the record of a finished cell; None if it is still to be done.

    The grid's own folder comes first, then those of the grids that it shares cells
    with. There, a cell of the same name and other settings is simply another cell.

    Raises:
        ValueError: In the grid's own folder is a cell of that name with other
            settings.
    """
    own = places.folder(cell)
    for folder in (own, *places.others(cell)):
        try:
            record = json.loads((folder / RECORD).read_text())
        except FileNotFoundError:
            continue
        other = _differing(cell, record)
        if not other:
            return folder, record
        if folder == own:
            raise ValueError(
                f"{folder} is a cell with other settings ({', '.join(other)}); "
                "choose another output, or move it away"
            )
    return None


def _differing(cell: Cell, record: dict[str, Any]) -> list[str]:
    # Through JSON, where tuples are lists.
    wanted = json.loads(json.dumps(cell.settings()))
    return [name for name in wanted if record.get(name) != wanted[name]]
