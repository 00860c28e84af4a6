"""Timing, machine description and records, shared by all benchmarks.

Times on a shared machine drift by a factor of two within a minute. So the things to
be compared run in turn, round after round, and a ratio is the median of the ratios
of the rounds, not the ratio of two medians.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import torch

from vgpo.files import write_atomically
from vgpo.studies.provenance import cpu, git

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "bench"


class Rounds:
    """Seconds of several functions, one entry per round each."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        self.seconds = seconds

    def milliseconds(self, name: str) -> float:
        """Median time of one call."""
        return 1e3 * statistics.median(self.seconds[name])

    def ratio(self, name: str, base: str) -> float:
        """Median over rounds of the time of ``name`` over that of ``base``."""
        return statistics.median(self._ratios(name, base))

    def spread(self, name: str, base: str) -> tuple[float, float]:
        """First and third quartile of that ratio over rounds."""
        low, _, high = statistics.quantiles(self._ratios(name, base), n=4)
        return low, high

    def _ratios(self, name, base):
        pairs = zip(self.seconds[name], self.seconds[base], strict=True)
        return [ours / theirs for ours, theirs in pairs]


def measure(
    functions: dict[str, Callable[[], object]],
    *,
    rounds: int = 15,
    warm_up: int = 2,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> Rounds:
    """Runs every function once per round, in turn.

    Args:
        functions: What to time, by name.
        rounds: Timed rounds, at least 2.
        warm_up: Rounds before them that do not count.
        device: ``"cuda"`` times with device events, anything else with the clock.
        clock: Seconds; ``time.process_time`` for those of the processor, which count
            all threads and not the waiting for others.

    Returns:
        The :class:`Rounds`.
    """
    timer = _time_on_device if device == "cuda" else partial(_time_by, clock)
    seconds = {name: [] for name in functions}
    for turn in range(-warm_up, rounds):
        for name, function in functions.items():
            elapsed = timer(function)
            if turn >= 0:
                seconds[name].append(elapsed)
    return Rounds(seconds)


def _time_by(clock, function):
    start = clock()
    function()
    return clock() - start


def _time_on_device(function):
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def machine() -> dict[str, object]:
    """What the figures were measured on: kinds and versions, no names or paths."""
    description = {
        "date": date.today().isoformat(),
        "commit": git(ROOT, "rev-parse", "--short", "HEAD"),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "load_per_core": round(os.getloadavg()[0] / _cores(), 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        description["gpu"] = torch.cuda.get_device_name()
        description["cuda"] = torch.version.cuda
    return description


def _cores() -> int:
    """Cores this process may use; macOS cannot restrict them, so all it has."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write(name: str, figures: dict[str, object], folder: Path = RESULTS) -> Path:
    """Writes ``results/bench/NAME.json``: the machine, then the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    record = {"machine": machine(), **figures}
    write_atomically(path, json.dumps(record, indent=2) + "\n")
    return path


def print_table(title: str, header: list[str], rows: list[list[object]]) -> None:
    """Prints a table with its columns aligned; numbers to three digits."""

    def text(cell):
        return f"{cell:.3g}" if isinstance(cell, float) else str(cell)

    cells = [header, *([text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    print(f"\n{title}")
    for row in cells:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join([first, *rest]))
