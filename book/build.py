"""Convert, execute, freeze and render the book's notebooks.

    python book/build.py execute [NAME ...]   run into _build/executed
    python book/build.py freeze  [NAME ...]   run, then replace notebooks/*.ipynb
    python book/build.py html [--executed]    render _build/html

``notebooks/NN_name.py`` is the reviewed source. Its twin ``NN_name.ipynb`` is
frozen: executed from top to bottom with its default parameters, then scrubbed of
everything that differs between two runs. Conversion goes one way only, from
``.py`` to ``.ipynb``.

Every file appears under its final name by one rename of a finished file, so a
failure or a kill at any moment leaves the earlier copy as it was.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbformat
import papermill
import yaml
from jupytext.config import load_jupytext_configuration_file
from nbformat import NotebookNode
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
KERNEL = "python3"
START_TIMEOUT = 120
PRESETS = {"small": Path("recipes") / "notebooks_small.yaml"}
RECORDED_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "vgpo")
KERNEL_SETTINGS = {
    "PYTHONHASHSEED": "0",  # sets and dicts in the same order in every run
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
KEPT_CELL_METADATA = ("tags", "mystnb")
INJECTED = "injected-parameters"
TRACEBACK_LINES = 30

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


class BuildError(Exception):
    """Something the reader of the terminal can act on; shown without a traceback."""


# Sources -----------------------------------------------------------------


def notebook_sources(root: Path, names: Sequence[str] = ()) -> list[Path]:
    """The reviewed sources, in order.

    Args:
        root: The repository.
        names: Stems such as ``00_testbed``; empty for all of them.

    Raises:
        BuildError: A name has no source.
    """
    known = {p.stem: p for p in sorted((root / "notebooks").glob("[0-9]*_*.py"))}
    for name in names:
        if name not in known:
            raise BuildError(
                f"no notebook is called {name!r}; there are: "
                f"{', '.join(known) or 'none'}"
            )
    return [known[name] for name in (sorted(set(names)) or known)]


def source_text(notebook: NotebookNode, root: Path) -> str:
    """A notebook as its ``.py`` source, by the rules of ``jupytext.toml``."""
    rules = load_jupytext_configuration_file(str(root / "jupytext.toml"))
    return jupytext.writes(notebook, fmt="py:percent", config=rules)


def convert(source: Path) -> NotebookNode:
    """Read a ``.py`` source as a notebook without outputs."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": KERNEL,
            },
            "language_info": {"name": "python"},
        }
    )
    name_cells(notebook)
    return notebook


def name_cells(notebook: NotebookNode) -> None:
    """Give each cell an id that depends on its own source alone.

    Inserting a cell then leaves the ids of all others as they were.
    """
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode())
        stem = digest.hexdigest()[:12]
        seen[stem] = seen.get(stem, 0) + 1
        cell["id"] = stem if seen[stem] == 1 else f"{stem}-{seen[stem]}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5


def code_hash(notebook: NotebookNode) -> str:
    """SHA-256 of the code cells, in order; prose may change without a new run."""
    code = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and INJECTED not in cell.metadata.get("tags", [])
    ]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


# Execution ---------------------------------------------------------------


def check_parameters(prepared: Path, parameters: Mapping[str, object]) -> None:
    """Refuse parameters that the notebook's ``parameters`` cell does not assign."""
    declared = papermill.inspect_notebook(str(prepared))
    unknown = sorted(set(parameters) - set(declared))
    if unknown:
        raise BuildError(
            f"{prepared.stem} has no parameter {', '.join(map(repr, unknown))}; "
            f"it has: {', '.join(declared) or 'none'}"
        )


def last_started_cell(notebook: NotebookNode) -> tuple[int, NotebookNode] | None:
    """The last cell that papermill started, numbered as in the source."""
    number, found = 0, None
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "papermill-error-cell-tag" in tags:
            continue
        number += INJECTED not in tags
        if cell.metadata.get("papermill", {}).get("start_time"):
            found = number, cell
    return found


def error_text(error: Exception) -> str:
    """The end of a traceback, without colours."""
    if isinstance(error, papermill.exceptions.PapermillExecutionError):
        text = "\n".join(error.traceback)
    else:
        text = f"{type(error).__name__}: {error}"
    lines = ANSI.sub("", text).splitlines()
    if len(lines) > TRACEBACK_LINES:
        left_out = len(lines) - TRACEBACK_LINES
        lines = [f"... {left_out} lines left out ...", *lines[-TRACEBACK_LINES:]]
    return "\n".join(lines)


def failure_message(name: str, partial: Path, error: Exception) -> str:
    """Notebook, cell number, cell source and traceback of a failed run."""
    where, source = "before its first cell", ""
    if partial.exists():
        found = last_started_cell(nbformat.read(partial, as_version=4))
        if found:
            number, cell = found
            where = f"in cell {number}"
            source = "\n".join(f"    {line}" for line in cell.source.splitlines())
    return f"{name} failed {where}\n\n{source}\n\n{error_text(error)}"


def run_notebook(
    source: Path,
    *,
    scratch: Path,
    parameters: Mapping[str, object] | None = None,
    timeout: int = 900,
) -> NotebookNode:
    """Execute one source in a fresh kernel, in its own folder.

    Args:
        source: The ``.py`` file.
        scratch: A folder for unfinished files, removed by the caller.
        parameters: Values for the ``parameters`` cell.
        timeout: Seconds that one cell may take.

    Returns:
        The executed notebook, as papermill leaves it.

    Raises:
        BuildError: A cell failed or timed out, the kernel died, or a parameter
            is unknown.
    """
    prepared = scratch / f"{source.stem}.ipynb"
    partial = scratch / f"{source.stem}.partial.ipynb"
    nbformat.write(convert(source), prepared)
    if parameters:
        check_parameters(prepared, parameters)
    try:
        # Sockets rather than ports: no other user can connect, and two runs cannot
        # pick the same number. Their path must be short, hence the system's folder.
        with tempfile.TemporaryDirectory(prefix="vgpo-") as sockets:
            address = {"transport": "ipc", "ip": str(Path(sockets) / "kernel")}
            return papermill.execute_notebook(
                prepared,
                partial,
                parameters=dict(parameters or {}),
                kernel_name=KERNEL,
                progress_bar={"desc": source.stem, "disable": None},
                start_timeout=START_TIMEOUT,
                execution_timeout=timeout,
                cwd=source.parent,
                config=Config(KernelManager=address),
            )
    except Exception as error:
        raise BuildError(failure_message(source.stem, partial, error)) from error


# Scrubbing ---------------------------------------------------------------


def machine_paths(root: Path) -> list[tuple[str, str]]:
    """Folders of this machine and what to print in their place, longest first."""
    replaced = {
        str(root): "<book>",
        sys.prefix: "<env>",
        sys.base_prefix: "<python>",
        str(Path.home()): "~",
        tempfile.gettempdir(): "<tmp>",
    }
    pairs = [(path, word) for path, word in replaced.items() if len(path) > 1]
    return sorted(pairs, key=lambda pair: -len(pair[0]))


def scrub_text(text: str, paths: Iterable[tuple[str, str]]) -> str:
    """Take colours, paths of this machine and memory addresses out of a text."""
    text = ANSI.sub("", text)
    for path, word in paths:
        text = re.sub(rf"{re.escape(path)}(?=[/\\'\"\s:,)\]]|$)", word, text)
    return ADDRESS.sub("0x...", text)


def scrub_outputs(
    outputs: Sequence[NotebookNode],
    execution_count: int,
    paths: Sequence[tuple[str, str]],
) -> list[NotebookNode]:
    """Outputs that are the same for the same results.

    Adjacent pieces of one stream are joined: where they were cut depends on
    timing. Of a line rewritten by carriage returns only the last state is kept.
    """
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if kept and kept[-1].get("name") == output.name:
                kept[-1].text += output.text
            else:
                kept.append(output)
            continue
        output["metadata"] = {}
        if "execution_count" in output:
            output.execution_count = execution_count
        data = output.get("data", {})
        for kind, value in data.items():
            if kind.startswith("text/") and isinstance(value, str):
                data[kind] = scrub_text(value, paths)
        kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            lines = [
                line.rstrip("\r").rsplit("\r", 1)[-1]
                for line in output.text.split("\n")
            ]
            output.text = scrub_text("\n".join(lines), paths)
    return kept


def scrub(notebook: NotebookNode, source: NotebookNode, root: Path) -> NotebookNode:
    """Keep what a reader needs of an executed notebook, and nothing of the run.

    Dropped: the injected parameters, papermill's metadata, times, paths and
    memory addresses. Execution counts become 1..n, cell ids those of
    :func:`name_cells`. Recorded in the metadata: the hash of the code cells and
    the versions of the packages that the results depend on.

    Args:
        notebook: The executed notebook; not changed.
        source: The notebook as converted from its ``.py``.
        root: The repository, whose path is taken out of outputs.
    """
    paths = machine_paths(root)
    executed = [
        cell
        for cell in notebook.cells
        if INJECTED not in cell.metadata.get("tags", [])
        and "papermill-error-cell-tag" not in cell.metadata.get("tags", [])
    ]
    cells, count = [], 0
    # Metadata come from the source: files on the way have sorted them.
    for cell, written in zip(executed, source.cells, strict=True):
        clean = NotebookNode(
            cell_type=cell.cell_type,
            id="",
            metadata={
                key: written.metadata[key]
                for key in KEPT_CELL_METADATA
                if key in written.metadata
            },
            source=cell.source,
        )
        if cell.cell_type == "code":
            ran = cell.execution_count is not None
            count += ran
            clean.execution_count = count if ran else None
            clean.outputs = scrub_outputs(cell.outputs, count, paths)
        cells.append(clean)
    frozen = nbformat.from_dict(
        {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {
                **source.metadata,
                "frozen": {
                    "code_sha256": code_hash(source),
                    "versions": {name: version(name) for name in RECORDED_PACKAGES},
                },
            },
            "cells": cells,
        }
    )
    name_cells(frozen)
    nbformat.validate(frozen)
    return frozen


def dumps(notebook: NotebookNode) -> str:
    """The one spelling of a notebook; metadata keep the order of the source."""
    split = nbformat.v4.rwbase.split_lines(nbformat.from_dict(notebook))
    return json.dumps(split, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_atomically(text: str, target: Path, scratch: Path) -> None:
    """Write in ``scratch``, on the same disk, then rename into place."""
    finished = scratch / f"{target.name}.finished"
    with finished.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    finished.replace(target)


# Commands ----------------------------------------------------------------


def read_parameters(path: Path) -> dict:
    """A YAML mapping, or a clear error."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BuildError(f"cannot read parameters from {path}: {error}") from error
    if not isinstance(loaded, dict):
        raise BuildError(f"{path} must be a mapping of names to values")
    return loaded


def chosen_parameters(
    name: str,
    root: Path,
    preset: str | None = None,
    file: Path | None = None,
    pairs: Iterable[tuple[str, str]] = (),
) -> dict[str, object]:
    """Parameters of one notebook; a pair wins over the file, the file over the preset.

    Args:
        name: The notebook's stem.
        root: The repository.
        preset: A key of ``PRESETS``: a YAML file of notebook -> parameters.
        file: A YAML file of parameters.
        pairs: Names and values as typed; values are read as YAML.
    """
    chosen: dict[str, object] = {}
    if preset:
        chosen.update(read_parameters(root / PRESETS[preset]).get(name) or {})
    if file:
        chosen.update(read_parameters(file))
    chosen.update({key: yaml.safe_load(value) for key, value in pairs})
    return chosen


def inputs_hash(root: Path, source: Path, parameters: Mapping[str, object]) -> str:
    """What an executed copy depends on: code, parameters, package, recorded data."""
    digest = hashlib.sha256(code_hash(convert(source)).encode())
    digest.update(json.dumps(parameters, sort_keys=True, default=str).encode())
    for folder in ("vgpo", "recipes", "results"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def say(text: str) -> None:
    print(text, flush=True)


def each(
    sources: Sequence[Path], scratch_parent: Path, work: Callable[[Path, Path], str]
) -> None:
    """Call ``work(source, scratch)`` for each source, telling which and how long."""
    scratch_parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch_parent, prefix="run-") as scratch:
        for i, source in enumerate(sources, start=1):
            say(f"[{i}/{len(sources)}] {source.stem}")
            start = time.monotonic()
            outcome = work(source, Path(scratch))
            say(f"      {outcome} in {time.monotonic() - start:.0f} s")
    with contextlib.suppress(OSError):
        scratch_parent.rmdir()


def printed(cell: NotebookNode) -> list[str]:
    """What a code cell shows, as text: streams, tables, values; not pixels."""
    shown = []
    for output in cell.outputs:
        data = output.get("data", {})
        shown += [output.get("text", "")]
        shown += [data.get(kind, "") for kind in ("text/plain", "text/html")]
    return ["".join(text) for text in shown]


def against_published(ran: NotebookNode, frozen: Path) -> str:
    """Whether a run with default parameters prints what the committed copy does."""
    if not frozen.exists():
        return "executed"
    published = nbformat.read(frozen, as_version=4)
    recorded = published.metadata.get("frozen", {})
    if recorded.get("code_sha256") != ran.metadata.frozen.code_sha256:
        return "executed, of other code than the published copy,"
    theirs = [cell for cell in published.cells if cell.cell_type == "code"]
    numbered = [(n, c) for n, c in enumerate(ran.cells, 1) if c.cell_type == "code"]
    differing = [
        str(number)
        for (number, cell), other in zip(numbered, theirs, strict=True)
        if printed(cell) != printed(other)
    ]
    if not differing:
        return "executed, every output as published,"
    cells = "cell" if len(differing) == 1 else "cells"
    return f"executed, other output than published in {cells} {', '.join(differing)},"


def execute(
    root: Path,
    names: Sequence[str] = (),
    *,
    out: Path,
    parameters: Callable[[str], Mapping[str, object]] = lambda name: {},
    timeout: int = 900,
) -> None:
    """Run notebooks into ``out``; the checkout stays as it is.

    An interrupted or failed run is taken up where it stopped: what it finished is
    kept if nothing it depends on has changed. A finished one starts afresh.
    """
    ledger = out / "unfinished.json"
    done = json.loads(ledger.read_text()) if ledger.exists() else {}

    def work(source: Path, scratch: Path) -> str:
        chosen = parameters(source.stem)
        key = inputs_hash(root, source, chosen)
        target = out / f"{source.stem}.ipynb"
        if done.get(source.stem) == key and target.exists():
            return "kept from the interrupted run"
        ran = run_notebook(source, scratch=scratch, parameters=chosen, timeout=timeout)
        ran = scrub(ran, convert(source), root)
        write_atomically(dumps(ran), target, scratch)
        done[source.stem] = key
        write_atomically(json.dumps(done, indent=1), ledger, scratch)
        if chosen:
            return "executed"
        return against_published(ran, source.with_suffix(".ipynb"))

    each(notebook_sources(root, names), out / ".unfinished", work)
    ledger.unlink(missing_ok=True)


def freeze(root: Path, names: Sequence[str] = (), *, timeout: int = 900) -> None:
    """Run notebooks with their default parameters and replace the frozen copies."""

    def work(source: Path, scratch: Path) -> str:
        ran = run_notebook(source, scratch=scratch, timeout=timeout)
        frozen = dumps(scrub(ran, convert(source), root))
        target = source.with_suffix(".ipynb")
        same = target.exists() and target.read_text(encoding="utf-8") == frozen
        write_atomically(frozen, target, scratch)
        return "frozen, unchanged," if same else "frozen"

    each(notebook_sources(root, names), root / "_build" / "freeze", work)


def listed_notebooks(root: Path) -> list[str]:
    """Stems of the notebooks in the table of contents, in its order."""
    contents = (root / "book" / "_toc.yml").read_text(encoding="utf-8")
    return re.findall(r"\bnotebooks/(\w+)", contents)


def stage(root: Path, notebooks: Path, folder: Path) -> None:
    """Copy what the book is made of, with the notebooks of one folder."""
    shutil.copytree(
        root / "book", folder / "book", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy2(root / "_config.yml", folder)
    (folder / "notebooks").mkdir()
    frozen = notebooks == root / "notebooks"
    for name in listed_notebooks(root):
        notebook = notebooks / f"{name}.ipynb"
        if not notebook.exists():
            cure = f"`make freeze NOTEBOOK={name}` makes it" if frozen else "execute it"
            raise BuildError(f"{notebook.relative_to(root)} is missing: {cure}")
        shutil.copy2(notebook, folder / "notebooks")


def html(root: Path, *, notebooks: Path, out: Path) -> None:
    """Render the pages, treating every warning as an error.

    Args:
        root: The repository.
        notebooks: The folder of executed notebooks to show.
        out: The folder of pages; replaced only by a build without warnings.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix="stage-") as scratch:
        staged = Path(scratch) / "source"
        staged.mkdir()
        stage(root, notebooks, staged)
        command = [
            *(sys.executable, "-c", "from jupyter_book.cli.main import main; main()"),
            *("build", str(staged)),
            *("--toc", str(staged / "book" / "_toc.yml")),
            *(
                "--path-output",
                str(Path(scratch).resolve()),
                "-W",
                "--keep-going",
                "-n",
                "-q",
            ),
        ]
        # Run from the root, the API page documents the package that lies there.
        result = subprocess.run(
            command, cwd=root, text=True, capture_output=True, check=False
        )
        if result.returncode:
            log = ANSI.sub("", result.stdout + result.stderr).replace(f"{staged}/", "")
            raise BuildError(f"the pages were not built:\n\n{log.strip()}")
        earlier = Path(scratch) / "earlier"
        if out.exists():
            out.replace(earlier)
        (Path(scratch) / "_build" / "html").replace(out)


# Command line ------------------------------------------------------------


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
