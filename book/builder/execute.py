"""Run notebooks: into throw-away copies, or in place of the frozen ones."""

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from book.builder.convert import code_hash, convert, notebook_sources
from book.builder.kernel import run_notebook
from book.builder.scrub import dumps, scrub
from vgpo.files import write_atomically


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
        write_atomically(target, dumps(ran))
        done[source.stem] = key
        write_atomically(ledger, json.dumps(done, indent=1))
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
        write_atomically(target, frozen)
        return "frozen, unchanged," if same else "frozen"

    each(notebook_sources(root, names), root / "_build" / "freeze", work)
