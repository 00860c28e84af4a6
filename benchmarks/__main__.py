"""Run the performance harness: every ``benchmarks/bench_*.py``, one after another.

    python -m benchmarks            all of them
    python -m benchmarks --list     their names
    python -m benchmarks focus      only bench_focus.py

Each one runs as ``python -m benchmarks.bench_NAME`` in a process of its own, so
that the peak memory and warm caches of one do not show in the next.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path


def bench_names(folder: Path) -> list[str]:
    """Names of the bench modules in a folder, without the ``bench_`` prefix."""
    return sorted(p.stem.removeprefix("bench_") for p in folder.glob("bench_*.py"))


def main(arguments: list[str] | None = None) -> int:
    known = bench_names(Path(__file__).parent)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--list", action="store_true", help="list them and stop")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(
            f"no benchmark called {', '.join(unknown)}; there are: {', '.join(known)}"
        )
    chosen = options.names or known
    if options.list:
        print("\n".join(known))
        return 0
    failed = []
    for i, name in enumerate(chosen, start=1):
        print(f"[{i}/{len(chosen)}] {name}", flush=True)
        start = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.bench_{name}"]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        print(f"      {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
