"""Rendering the pages of a small book."""

import json
from pathlib import Path

import pytest

from book.builder.convert import convert
from book.builder.scrub import dumps
from tests.book.small_projects import PLAIN, add, run


@pytest.fixture
def small_book(project: Path) -> Path:
    """A project whose book is one page and one notebook."""
    book = project / "book"
    book.mkdir()
    (project / "_config.yml").write_text(
        "title: T\nonly_build_toc_files: true\nexecute: {execute_notebooks: 'off'}\n"
    )
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n- file: notebooks/00_try\n"
    )
    (book / "intro.md").write_text("# Hello\n")
    source = add(project, "00_try", PLAIN)
    notebook = convert(source)
    source.with_suffix(".ipynb").write_text(dumps(notebook))
    return project


def test_pages_are_replaced_only_by_a_build_without_warnings(small_book, capsys):
    out = small_book / "_build" / "html"
    assert run(small_book, "html") == 0
    page = out / "book" / "intro.html"
    assert "Hello" in page.read_text()
    assert (out / "notebooks" / "00_try.html").exists()

    before = page.read_bytes()
    (small_book / "book" / "intro.md").write_text("# Bye\n\n{doc}`nowhere`\n")
    assert run(small_book, "html") == 1
    assert "nowhere" in capsys.readouterr().err
    assert page.read_bytes() == before
    assert [p.name for p in out.parent.iterdir()] == ["html"]


def test_a_missing_frozen_notebook_says_how_to_make_it(small_book, capsys):
    (small_book / "notebooks" / "00_try.ipynb").unlink()
    assert run(small_book, "html") == 1
    assert "make freeze NOTEBOOK=00_try" in capsys.readouterr().err


def test_pages_of_executed_notebooks_show_those(small_book):
    executed = small_book / "_build" / "executed"
    executed.mkdir(parents=True)
    frozen = json.loads((small_book / "notebooks" / "00_try.ipynb").read_text())
    frozen["cells"][0]["source"] = "# Executed copy"
    (executed / "00_try.ipynb").write_text(json.dumps(frozen))
    assert run(small_book, "html", "--executed") == 0
    assert (
        "Executed copy"
        in (small_book / "_build/html/notebooks/00_try.html").read_text()
    )
