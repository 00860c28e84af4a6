"""Gates on the committed notebooks: sources, frozen copies, and that they run."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from book.builder.convert import (
    INJECTED,
    code_hash,
    convert,
    notebook_sources,
    source_text,
)
from book.builder.execute import execute
from book.builder.parameters import PRESETS, chosen_parameters, read_parameters
from book.builder.render import listed_notebooks
from tests.conftest import ROOT

SOURCES = notebook_sources(ROOT)
LONGEST_LINE = 80
LARGEST_NOTEBOOK = 4_000_000

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def frozen(source: Path) -> nbformat.NotebookNode:
    path = source.with_suffix(".ipynb")
    assert path.exists(), f"make freeze NOTEBOOK={source.stem}"
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def prose(path: Path) -> list[list[str]]:
    """Pieces of Markdown, each as its lines: a page, or the cells of a notebook."""
    if path.suffix == ".md":
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
        return [text.splitlines()]
    cells = convert(path).cells
    return [cell.source.splitlines() for cell in cells if cell.cell_type == "markdown"]


@pytest.mark.parametrize(
    "path",
    [*SOURCES, *sorted((ROOT / "book").glob("*.md"))],
    ids=lambda path: path.stem,
)
def test_no_paragraph_turns_into_a_list(path):
    """A line of a paragraph that begins with "1. " would be read as one."""
    item, faults = r" *(\d+[.)]|[-+*]) ", []
    for lines in prose(path):
        for line, following in pairwise(lines):
            inside = line.strip() and not re.match(item + r"|  |[#|>:{]", line)
            if inside and re.match(r"1[.)] ", following):
                faults.append(f"{line}\n{following}")
    assert not faults, "\n\n".join(faults)


def test_every_notebook_has_its_source():
    twins = {path.with_suffix(".py") for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert twins == set(SOURCES)


def test_every_notebook_is_in_the_table_of_contents():
    assert listed_notebooks(ROOT) == [source.stem for source in SOURCES]


def test_presets_are_for_notebooks_that_exist():
    presets = read_parameters(ROOT / PRESETS["small"])
    assert set(presets) <= {source.stem for source in SOURCES}


@each_source
def test_the_frozen_copy_goes_back_to_its_source(source):
    assert source_text(frozen(source), ROOT) == source.read_text()


@each_source
def test_the_frozen_copy_is_of_this_code(source):
    recorded = frozen(source).metadata.frozen.code_sha256
    fresh = code_hash(convert(source))
    assert recorded == fresh, f"stale: make freeze NOTEBOOK={source.stem}"


@each_source
def test_the_frozen_copy_ran_from_top_to_bottom_without_error(source):
    cells = code_cells(frozen(source))
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert "error" not in kinds
    tags = {tag for cell in cells for tag in cell.metadata.get("tags", [])}
    assert INJECTED not in tags


@each_source
def test_outputs_are_free_of_warnings_and_progress_bars(source):
    for cell in code_cells(frozen(source)):
        for output in cell.outputs:
            assert output.get("name") != "stderr", output.text
            assert "application/vnd.jupyter.widget-view+json" not in output.get(
                "data", {}
            )


@each_source
def test_the_frozen_copy_is_not_too_large(source):
    assert source.with_suffix(".ipynb").stat().st_size <= LARGEST_NOTEBOOK


@each_source
def test_every_figure_has_alt_text(source):
    for cell in code_cells(frozen(source)):
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        if any(kind.startswith("image/") for kind in kinds):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 20, f"no alt text in mystnb.image.alt:\n{cell.source}"
    for cell in frozen(source).cells:
        assert "![](" not in cell.source


@each_source
def test_parameters_are_literals_with_a_comment_each(source):
    tagged = [
        cell
        for cell in code_cells(convert(source))
        if "parameters" in cell.metadata.get("tags", [])
    ]
    assert len(tagged) == 1
    lines = tagged[0].source.splitlines()
    for node in ast.parse(tagged[0].source).body:
        assert isinstance(node, ast.Assign | ast.AnnAssign), ast.unparse(node)
        assert node.value is not None and is_literal(node.value), ast.unparse(node)
        assert "#" in lines[node.end_lineno - 1], ast.unparse(node)


@each_source
def test_code_fits_the_page(source):
    cells = code_cells(convert(source))
    wide = [
        line
        for cell in cells
        for line in cell.source.splitlines()
        if len(line) > LONGEST_LINE
    ]
    assert wide == []


@pytest.mark.slow
@each_source
def test_it_runs_with_its_small_preset(source, tmp_path):
    execute(
        ROOT,
        [source.stem],
        out=tmp_path,
        parameters=lambda name: chosen_parameters(name, ROOT, "small"),
        timeout=240,
    )
    ran = nbformat.read(tmp_path / f"{source.stem}.ipynb", as_version=4)
    assert all(cell.execution_count for cell in code_cells(ran))
