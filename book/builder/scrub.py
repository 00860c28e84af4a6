"""An executed notebook without what differs between two runs of it."""

import json
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from book.builder.convert import INJECTED, code_hash, name_cells

RECORDED_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "vgpo")
KEPT_CELL_METADATA = ("tags", "mystnb")
ERROR_CELL = "papermill-error-cell-tag"  # papermill's tag of a cell about a failure

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


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
        and ERROR_CELL not in cell.metadata.get("tags", [])
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
