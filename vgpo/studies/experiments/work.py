"""Doing the cells of a grid: once each, by any number of workers, past any kill.

Where they are, and how two workers keep out of each other's way, is in
:mod:`vgpo.studies.experiments.places`.
"""

import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path

import torch

from vgpo.studies.experiments.cells import UNTRAINED, Cell, run_cell
from vgpo.studies.experiments.commits import AGAIN
from vgpo.studies.experiments.grid import Grid
from vgpo.studies.experiments.places import (
    Places,
    find,
    finished,
    holder,
    lock_of,
    locked,
)
from vgpo.studies.experiments.starts import make_start, start_digest, start_folder
from vgpo.studies.provenance import provenance


def do_cell(cell: Cell, places: Places) -> bool:
    """Does a cell, unless it is done or somebody is at it.

    Returns:
        Whether it was done here and now.
    """
    folder, lock = places.folder(cell), places.lock(cell)
    with ExitStack() as stack:
        # Those of the grids that are shared as well: one of them may be at it.
        for path in (lock, *map(lock_of, places.others(cell))):
            if not stack.enter_context(locked(path)):
                return False
        # Looked at under the lock: it may have been finished a moment ago.
        if finished(cell, places):
            return False
        _do(cell, places, folder, alive=lambda: os.utime(lock))
    return True


def do_again(name: str, grid: Grid, places: Places) -> Path:
    """Does a finished cell once more, by the code of this commit.

    Args:
        name: Of the cell's folder.
        grid: That plans it.
        places: Its folders.

    Returns:
        The folder of the new record, ``again/COMMIT/CELL`` beside the grids' folders;
        one that is there is not made again.

    Raises:
        ValueError: The grid has no finished cell of that name, or the package is not
            exactly that of a commit.
    """
    cells = {cell.name: cell for cell in grid.cells() if cell.arm != UNTRAINED}
    if name not in cells or not finished(cells[name], places):
        raise ValueError(f"cell: {grid.name} has no finished cell {name!r}")
    here = provenance()
    if here["commit"] is None or here["changed"]:
        raise ValueError(
            "the package is not that of a commit; commit what has changed in vgpo/"
        )
    cell, commit = cells[name], here["commit"][:12]
    folder = places.records.parent / AGAIN / commit / name
    if not folder.is_dir():
        _do(cell, places, folder)
    return folder


def _do(cell: Cell, places: Places, folder: Path, alive=lambda: None) -> None:
    """Does a cell; its folder appears when it is finished."""
    work = folder.parent / ".work" / folder.name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    start = start_folder(cell.run.world, cell.wording, places.starts)
    run_cell(cell, start, work, alive)
    shutil.rmtree(work / "work", ignore_errors=True)
    os.replace(work, folder)


def make_starts(grid: Grid, places: Places, say: Callable[[str], None]) -> None:
    """Makes the cold starts that are missing; waits for those others are making."""
    for world, wording in grid.starts():
        folder = start_folder(world, wording, places.starts)
        while not folder.is_dir():
            lock = places.starts / ".locks" / f"{folder.name}.json"
            with locked(lock) as ours:
                if ours and not folder.is_dir():
                    say(f"making the cold start of {world}: {wording}")
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
        there = find(cell, places)
        wanted = digests.get((cell.run.world, cell.wording))
        if there and wanted and there[1]["start"] != wanted:
            raise ValueError(
                f"{there[0]} began with other weights than those of the "
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
    missing = [cell for cell in grid.cells() if not finished(cell, places)]
    if not missing:
        say(f"{grid.name} is finished: {progress(grid, places)}")
    done, took = 0, []
    for cell in missing:
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
    Cells of other grids count as finished, and not for the rate.
    """
    now = time.time()
    cells = list(grid.cells())
    there = [(cell, *found) for cell in cells if (found := find(cell, places))]
    text = f"{len(there)} of {len(cells)} cells"
    # By what the record says: files of a fresh clone are as new as the clone.
    ended = [
        datetime.fromisoformat(record["date"]).timestamp()
        for cell, folder, record in there
        if folder == places.folder(cell)
    ]
    recent = sorted(t for t in ended if now - t < 3600)
    if len(recent) > 1 and recent[-1] > recent[0]:
        rate = (len(recent) - 1) / (recent[-1] - recent[0])
        left = (len(cells) - len(there)) / rate / 3600
        text += f", {rate * 3600:.1f} an hour, {left:.1f} hours left"
    return text


def status(grid: Grid, places: Places) -> str:
    """What is done, by arm, and what is being done, as text."""
    cells = list(grid.cells())
    there = {cell.name: found[0] for cell in cells if (found := find(cell, places))}
    lines = [f"{grid.name}: {progress(grid, places)}"]
    for arm in (UNTRAINED, *grid.arms):
        mine = [cell for cell in cells if cell.arm == arm]
        folders = [there[cell.name] for cell in mine if cell.name in there]
        line = f"  {arm:24s} {len(folders):4d} of {len(mine)}"
        for shared in places.shares:
            taken = sum(folder.parent == shared for folder in folders)
            line += f", {taken} of them of {shared.name}" if taken else ""
        lines.append(line)
    for cell in cells:
        if cell.name in there:
            continue
        for path in (places.lock(cell), *map(lock_of, places.others(cell))):
            if who := holder(path):
                since = (time.time() - who.get("since", time.time())) / 60
                lines.append(
                    f"  at work: {cell.name}, process {who.get('pid')} on "
                    f"{who.get('host')}, {since:.0f} minutes"
                )
    return "\n".join(lines)
