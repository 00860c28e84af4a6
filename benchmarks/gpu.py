"""Everything that wants a GPU, in one command of at most nine minutes.

    python -m benchmarks.gpu           on a machine with an NVIDIA GPU
    python -m benchmarks.gpu --tiny    the same code in small, on a CPU
    python -m benchmarks.gpu --parts scoring,lora_3b

The parts, each in a process of its own and with a time of its own: tests marked
``gpu``; scoring (Eq. 3-12), capture and attention at the shape of a 7B model (width
3,584, 28 layers, 1,200 image tokens, an answer of 2,048, bfloat16) beside their plain
form; steps of GRPO and VGPO with LoRA and QLoRA at 3B and 7B, random weights, few
tokens. Nothing is downloaded. A part that fails or is too slow says so in its record,
and the others go on. Records are ``results/bench/gpu_PART.json``, written as the
figures come.

The tests have been run on a GPU (``results/gpu``), the other parts have not yet:
figures are welcome, with the card.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import RESULTS, ROOT, print_table, write
from vgpo.versions import installed_versions

SECONDS = {
    "tests": 50,
    "scoring": 40,
    "capture": 60,
    "attention": 60,
    "lora_3b": 70,
    "qlora_3b": 70,
    "lora_7b": 85,
    "qlora_7b": 85,
}
"""What each part may take, imports included: 520 s, under nine minutes."""

LIBRARIES = ("transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets")


class Record:
    """Figures of a part, on disk as soon as they are known."""

    def __init__(self, part: str, folder: Path, tiny: bool) -> None:
        self._part, self._folder = part, folder
        self._figures: dict[str, Any] = {
            "part": part,
            "tiny": tiny,
            "versions": installed_versions(LIBRARIES),
        }
        if torch.cuda.is_available():
            total = torch.cuda.get_device_properties(0).total_memory
            self._figures["gpu_memory_bytes"] = total
        self()

    def __call__(self, **figures: Any) -> None:
        self._figures |= figures
        write(f"gpu_{self._part}", self._figures, self._folder)


def run_part(part: str, folder: Path, tiny: bool) -> None:
    """Runs a part in this process; a failure is recorded, then raised."""
    record = Record(part, folder, tiny)
    start = time.monotonic()
    try:
        # Imported late, so that a package that is missing is a failure of the part.
        from benchmarks import gpu_parts as parts

        work = {
            "tests": parts.run_tests,
            "scoring": parts.bench_scoring,
            "capture": parts.bench_capture,
            "attention": parts.bench_attention,
        } | {
            f"{way}_{size.lower()}": partial(
                parts.bench_training, size=size, four_bit=way == "qlora"
            )
            for way in ("lora", "qlora")
            for size in ("3B", "7B")
        }
        work[part](parts.TINY if tiny else parts.FULL, record)
    except Exception as error:
        record(failed=_words(error), seconds=round(time.monotonic() - start, 3))
        raise
    record(seconds=round(time.monotonic() - start, 3))


def _words(error: Exception) -> str:
    """One line, without this machine's paths."""
    text = f"{type(error).__name__}: {error}"
    for place in (str(ROOT), sys.prefix, tempfile.gettempdir()):
        text = text.replace(place, ".")
    return " ".join(text.split())[:300]


def run_all(
    parts: Sequence[str], folder: Path, tiny: bool, seconds: float
) -> dict[str, dict[str, Any]]:
    """Runs parts one after another, each in its own process and within its time.

    Args:
        parts: Names of :data:`SECONDS`.
        folder: Of the records.
        tiny: Whether on a CPU, in small.
        seconds: For all together; parts that find none left are not started.

    Returns:
        For each part ``seconds`` and, where it did not end well, ``failed``.
    """
    end = time.monotonic() + seconds
    done: dict[str, dict[str, Any]] = {}
    for number, part in enumerate(parts, start=1):
        print(f"[{number}/{len(parts)}] {part}", flush=True)
        _path(folder, part).unlink(missing_ok=True)
        left = min(
            SECONDS[part] * (seconds / sum(SECONDS.values())), end - time.monotonic()
        )
        start = time.monotonic()
        failed = _run_apart(part, folder, tiny, left)
        done[part] = {"seconds": round(time.monotonic() - start, 1)}
        if failed:
            done[part]["failed"] = _note_failure(part, folder, tiny, failed)
        write(
            "gpu_summary",
            {"tiny": tiny, "versions": installed_versions(LIBRARIES), "parts": done},
            folder,
        )
        print(f"      {done[part]['seconds']} s {done[part].get('failed', '')}")
    return done


def _run_apart(part: str, folder: Path, tiny: bool, seconds: float) -> str | None:
    """What went wrong, or None."""
    if seconds <= 0:
        return "not started: no time left"
    command = [sys.executable, "-m", "benchmarks.gpu", "--here", part]
    command += ["--output", str(folder.resolve()), *(["--tiny"] if tiny else [])]
    # A group of its own, so that what it has started ends with it.
    child = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        code = child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return f"stopped: it took more than {seconds:.0f} s"
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    return f"ended with status {code}" if code else None


def _note_failure(part: str, folder: Path, tiny: bool, failed: str) -> str:
    """Adds a failure to what the part has recorded, unless it said so itself."""
    path = _path(folder, part)
    figures = json.loads(path.read_text()) if path.is_file() else {}
    figures.pop("machine", None)
    if "failed" not in figures:
        figures |= {"part": part, "tiny": tiny, "failed": failed}
        write(f"gpu_{part}", figures, folder)
    return figures["failed"]


def _path(folder: Path, part: str) -> Path:
    return folder / f"gpu_{part}.json"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--tiny", action="store_true", help="in small, on a CPU")
    parser.add_argument("--parts", help=f"of {','.join(SECONDS)}; by default all")
    parser.add_argument("--output", type=Path, default=RESULTS, help="of the records")
    parser.add_argument(
        "--seconds",
        type=float,
        default=sum(SECONDS.values()),
        help="for all parts together, shared out as by default",
    )
    parser.add_argument("--here", metavar="PART", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        parser.error(
            "there is no NVIDIA GPU that PyTorch can use; --tiny runs the same code in "
            "small on a CPU"
        )
    parts = options.parts.split(",") if options.parts else list(SECONDS)
    if unknown := set([options.here] if options.here else parts) - set(SECONDS):
        parser.error(
            f"no part called {', '.join(sorted(unknown))}: {', '.join(SECONDS)}"
        )
    options.output.mkdir(parents=True, exist_ok=True)
    if options.here:
        run_part(options.here, options.output, options.tiny)
        return 0
    done = run_all(parts, options.output, options.tiny, options.seconds)
    print_table(
        f"Records in {options.output}",
        ["part", "seconds", ""],
        [[part, one["seconds"], one.get("failed", "ok")] for part, one in done.items()],
    )
    return int(any("failed" in one for one in done.values()))


if __name__ == "__main__":
    sys.exit(main())
