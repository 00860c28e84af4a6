"""The command line; ``python book/build.py`` and ``python -m book.builder``."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from book.builder import ROOT, BuildError
from book.builder.execute import execute, freeze, say
from book.builder.kernel import KERNEL_SETTINGS
from book.builder.parameters import PRESETS, chosen_parameters
from book.builder.render import html


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python book/build.py", description="Execute, freeze and render the book."
    )
    top.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    commands = top.add_subparsers(dest="command", required=True)

    run = commands.add_parser("execute", help="run notebooks into throw-away copies")
    run.add_argument("--preset", choices=sorted(PRESETS), help="named parameters")
    run.add_argument("-f", "--file", type=Path, help="YAML file of parameters")
    run.add_argument(
        *("-p", "--parameter"),
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="one parameter; may be given several times",
    )
    run.add_argument(
        "--out", type=Path, help="default: _build/executed, or _build/tried"
    )

    keep = commands.add_parser("freeze", help="run and replace the committed copies")
    for command in (run, keep):
        command.add_argument("names", nargs="*", metavar="NAME", help="e.g. 00_testbed")
        command.add_argument(
            "--timeout", type=int, default=900, help="seconds a cell may take (900)"
        )

    pages = commands.add_parser("html", help="render the pages")
    pages.add_argument(
        "--executed",
        action="store_true",
        help="show what `execute` has just run instead of the frozen copies",
    )
    pages.add_argument("--out", type=Path, help="default: _build/html")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    root = options.root.resolve()
    os.environ.update(KERNEL_SETTINGS)
    # One thread: sums come out in the same order on any number of cores, and the
    # testbed's models are too small to gain from more. A larger model may ask for it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start = time.monotonic()
    try:
        if options.command == "execute":
            tried = bool(options.preset or options.file or options.parameter)
            execute(
                root,
                options.names,
                out=options.out or root / "_build" / ("tried" if tried else "executed"),
                parameters=lambda name: chosen_parameters(
                    name, root, options.preset, options.file, options.parameter
                ),
                timeout=options.timeout,
            )
        elif options.command == "freeze":
            freeze(root, options.names, timeout=options.timeout)
        else:
            out = options.out or root / "_build" / "html"
            executed = root / "_build" / "executed"
            html(
                root,
                notebooks=executed if options.executed else root / "notebooks",
                out=out.resolve(),
            )
            say(f"open {out / 'index.html'}  ({time.monotonic() - start:.0f} s)")
    except BuildError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; finished notebooks are kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
