"""One notebook in a fresh kernel, and what is said when it fails."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError
from nbformat import NotebookNode
from traitlets.config import Config

from book.builder import BuildError
from book.builder.convert import INJECTED, KERNEL, convert
from book.builder.parameters import check_parameters
from book.builder.scrub import ANSI, ERROR_CELL

START_TIMEOUT = 120
TRACEBACK_LINES = 30
KERNEL_SETTINGS = {
    "PYTHONHASHSEED": "0",  # sets and dicts in the same order in every run
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def last_started_cell(notebook: NotebookNode) -> tuple[int, NotebookNode] | None:
    """The last cell that papermill started, numbered as in the source."""
    number, found = 0, None
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if ERROR_CELL in tags:
            continue
        number += INJECTED not in tags
        if cell.metadata.get("papermill", {}).get("start_time"):
            found = number, cell
    return found


def error_text(error: Exception) -> str:
    """The end of a traceback, without colours."""
    if isinstance(error, CellTimeoutError):
        # Its own message repeats the cell, which stands above, in fragments.
        text = "Timed out: the cell took longer than it may. More time: --timeout 3600"
    elif isinstance(error, papermill.exceptions.PapermillExecutionError):
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
