"""Doing the cells of a grid: once each, by any number of workers, past any kill.

A finished cell is a folder that appears by a rename. A cell at work holds a lock on a
file of its own, with its process and machine written into it. The lock is the
operating system's, so it ends with the process, however that ends: a file without a
lock is stale, and its cell is done by whoever comes next.
"""

import fcntl
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vgpo.studies.experiments.cells import RECORD, UNTRAINED, Cell, run_cell
from vgpo.studies.experiments.grid import Grid
from vgpo.studies.experiments.starts import make_start, start_digest, start_folder


@dataclass(frozen=True)
class Places:
    """The folders of a grid.

    Attributes:
        records: Finished cells, one folder each.
        starts: Cold starts in another wording than shipped, shared by all grids.
    """

    records: Path
    starts: Path

    def folder(self, cell: Cell) -> Path:
        """Where a cell's record is, or will be; cold starts' are shared by grids."""
        shared = self.records.parent / UNTRAINED
        return (shared if cell.arm == UNTRAINED else self.records) / cell.name

    def lock(self, cell: Cell) -> Path:
        """The file that whoever works on a cell has locked."""
        folder = self.folder(cell)
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
    file = places.folder(cell) / RECORD
    try:
        record = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    # Through JSON, where tuples are lists.
    wanted = json.loads(json.dumps(cell.settings()))
    other = [name for name in wanted if record.get(name) != wanted[name]]
    if other:
        raise ValueError(
            f"{file.parent} is a cell with other settings ({', '.join(other)}); "
            "choose another output, or move it away"
        )
    return record


def do_cell(cell: Cell, places: Places) -> bool:
    """Does a cell, unless it is done or somebody is at it.

    Returns:
        Whether it was done here and now.
    """
    folder, lock = places.folder(cell), places.lock(cell)
    with locked(lock) as ours:
        # Looked at under the lock: it may have been finished a moment ago.
        if not ours or finished(cell, places):
            return False
        work = folder.parent / ".work" / folder.name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        start = start_folder(cell.run.world, cell.wording, places.starts)
        run_cell(cell, start, work, alive=lambda: os.utime(lock))
        shutil.rmtree(work / "work", ignore_errors=True)
        os.replace(work, folder)
    return True


def make_starts(grid: Grid, places: Places, say: Callable[[str], None]) -> None:
    """Makes the cold starts that are missing; waits for those others are making."""
    for world, wording in grid.starts():
        folder = start_folder(world, wording, places.starts)
        while not folder.is_dir():
            lock = places.starts / ".locks" / f"{folder.name}.json"
            with locked(lock) as ours:
                if ours and not folder.is_dir():
                    say(f"teaching the {world} cold start to be {wording}")
                    work = places.starts / ".work" / folder.name
                    shutil.rmtree(work, ignore_errors=True)
                    work.mkdir(parents=True)
                    make_start(world, wording, work)
                    os.replace(work, folder)
            if not folder.is_dir():
                time.sleep(1)


def check_starts(grid: Grid, places: Places) -> None:
    """Whether finished cells of one setting began with the weights that are there.

    Raises:
        ValueError: One began with others: its numbers are not comparable.
    """
    digests = {
        pair: start_digest(folder)
        for pair in grid.starts()
        if (folder := start_folder(*pair, places.starts)).is_dir()
    }
    for cell in grid.cells():
        record = finished(cell, places)
        wanted = digests.get((cell.run.world, cell.wording))
        if record and wanted and record["start"] != wanted:
            raise ValueError(
                f"{places.folder(cell)} began with other weights than those of the "
                f"{cell.wording} cold start of {cell.run.world} that is there now"
            )


def work(
    grid: Grid,
    places: Places,
    limit_minutes: float | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Does all cells that nobody has done or is doing, in order.

    Args:
        grid: The plan.
        places: Its folders.
        limit_minutes: No cell is begun that would probably end later.
        say: What happens with progress.

    Returns:
        How many cells were done.
    """
    started = time.monotonic()
    make_starts(grid, places, say)
    check_starts(grid, places)
    cells = list(grid.cells())
    done, took = 0, []
    for cell in cells:
        if finished(cell, places):
            continue
        spent = time.monotonic() - started
        expected = statistics.median(took) if took else 0.0
        if limit_minutes is not None and spent + expected > 60 * limit_minutes:
            say(f"stopping: {spent / 60:.0f} of {limit_minutes:.0f} minutes are over")
            break
        before = time.monotonic()
        if do_cell(cell, places):
            done += 1
            took.append(time.monotonic() - before)
            say(f"{cell.name}: {took[-1]:.0f} s; {progress(grid, places)}")
    return done


def run(
    grid: Grid, places: Places, workers: int = 1, limit_minutes: float | None = None
) -> int:
    """Does the cells of a grid in several processes of one thread each.

    Args:
        grid: The plan.
        places: Its folders.
        workers: Processes; one is this one.
        limit_minutes: As in :func:`work`.

    Returns:
        0, or the exit status of a process that failed.
    """
    # Numbers depend on how many threads there are. Processes that are started here
    # read this before they have any.
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    if workers == 1:
        _work_alone(grid, places, limit_minutes)
        return 0
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_work_alone, args=(grid, places, limit_minutes))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return max(abs(process.exitcode or 0) for process in processes)


def _work_alone(grid: Grid, places: Places, limit_minutes: float | None) -> None:
    torch.set_num_threads(1)
    work(grid, places, limit_minutes, say=partial(print, flush=True))


def progress(grid: Grid, places: Places) -> str:
    """How many cells are finished, at what rate, and the time that is left.

    The rate is that of the last hour: with all workers, at the machine's present load.
    """
    now = time.time()
    cells = list(grid.cells())
    ended = []
    for cell in cells:
        try:
            ended.append((places.folder(cell) / RECORD).stat().st_mtime)
        except FileNotFoundError:
            continue
    text = f"{len(ended)} of {len(cells)} cells"
    recent = sorted(t for t in ended if now - t < 3600)
    if len(recent) > 1 and recent[-1] > recent[0]:
        rate = (len(recent) - 1) / (recent[-1] - recent[0])
        left = (len(cells) - len(ended)) / rate / 3600
        text += f", {rate * 3600:.1f} an hour, {left:.1f} hours left"
    return text


def status(grid: Grid, places: Places) -> str:
    """What is done, by arm, and what is being done, as text."""
    cells = list(grid.cells())
    there = {c.name for c in cells if (places.folder(c) / RECORD).exists()}
    lines = [f"{grid.name}: {progress(grid, places)}"]
    for arm in (UNTRAINED, *grid.arms):
        mine = [cell for cell in cells if cell.arm == arm]
        count = sum(cell.name in there for cell in mine)
        lines.append(f"  {arm:24s} {count:4d} of {len(mine)}")
    for cell in cells:
        if cell.name in there:
            continue
        who = holder(places.lock(cell))
        if who:
            since = (time.time() - who.get("since", time.time())) / 60
            lines.append(
                f"  at work: {cell.name}, process {who.get('pid')} on "
                f"{who.get('host')}, {since:.0f} minutes"
            )
    return "\n".join(lines)
