"""A reviewed ``.py`` source as a notebook, and back."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat
from jupytext.config import load_jupytext_configuration_file
from nbformat import NotebookNode

from book.builder import BuildError

KERNEL = "python3"
INJECTED = "injected-parameters"  # papermill's tag of the cell that it adds


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
