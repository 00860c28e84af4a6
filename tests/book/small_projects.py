"""Throw-away repositories with one or two small notebooks."""

from pathlib import Path

import nbformat

from book.builder.__main__ import main

PLAIN = """\
# %% [markdown]
# # A try
#
# Some prose.

# %% tags=["parameters"]
seed = 0  # where the numbers come from
size = 3  # how many of them

# %%
numbers = [seed + i for i in range(size)]
print(numbers)
"""


UNSTEADY = """\
# %%
import sys
import tempfile
import time
from pathlib import Path

print(Path.cwd(), sys.prefix, Path.home() / "x", object())
for i in range(4):
    print("piece", i)
    sys.stdout.flush()
    time.sleep(0.05)
    print(f"{i} of 4", end="\\r")
print({"a", "b", "c", "d"})

# %% mystnb={"image": {"alt": "A line that rises."}, "b": {"d": 1, "c": 2}}
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(2, 1))
ax.plot(range(3))
"""


def add(project: Path, name: str, code: str) -> Path:
    source = project / "notebooks" / f"{name}.py"
    source.write_text(code)
    return source


def run(project: Path, *arguments: str) -> int:
    return main(["--root", str(project), *arguments])


def outputs_text(notebook: nbformat.NotebookNode) -> str:
    return "".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


def everything_but_the_run(project: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(project)): path.read_bytes() if path.is_file() else b""
        for path in sorted(project.rglob("*"))
        if "_build" not in path.parts
    }
