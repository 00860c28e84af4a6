"""One file of modules becomes an index and a page for each group."""

import ast
import inspect
import re
from dataclasses import fields
from importlib import import_module

import pytest
import yaml

import vgpo
from book.builder import BuildError
from book.builder.api import public_names, split, write_pages
from tests.conftest import ROOT

TEXT = """# The package

Words.

<!-- How to add. -->

## The first

Some words.

### One

### Two

## A second
"""


def test_every_group_is_a_page_and_the_index_leads_to_it():
    pages = split(TEXT, "| a table |")
    assert list(pages) == ["api", "api_the_first", "api_a_second"]
    assert pages["api_the_first"].startswith("# The first\n\nSome words.\n\n## One\n")
    assert "| a table |" in pages["api"] and "How to add" not in pages["api"]
    assert "- {doc}`api_the_first`: One; Two" in pages["api"]


def test_two_groups_of_one_name_are_told():
    with pytest.raises(BuildError, match="A second"):
        split(TEXT + "\n## A second\n", "")


def test_the_names_of_the_package_are_listed_with_their_equations():
    table = public_names(ROOT)
    named = re.findall(r"^\| \{py:(?:func|class)\}`~([\w.]+)`", table, re.MULTILINE)
    assert {name.rpartition(".")[2] for name in named} == {
        name for name in vgpo.__all__ if callable(getattr(vgpo, name))
    }
    [gate] = [row for row in table.splitlines() if "visual_gate`" in row]
    assert gate.endswith("| 6 |") and "(Eq." not in gate
    assert all(len(row.split("|")) == 5 for row in table.splitlines())


def test_the_settings_shown_are_those_that_trl_does_not_have():
    """Its own two hundred would stand above the first word on ours."""
    text = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"autoclass:: vgpo\.training\.config\.(VGPOConfig.*)", text)
    [call] = ast.parse(shown.replace("*, ", "")).body
    told = {k.arg: ast.literal_eval(k.value) for k in call.value.keywords if k.arg}
    known = {field.name: field.default for field in fields(vgpo.VGPOConfig)}
    own = set(inspect.get_annotations(vgpo.VGPOConfig)) - {"_VALID_DICT_FIELDS"}
    assert set(told) == own | {"output_dir"}
    assert told == {name: known[name] for name in told}


def test_signatures_written_out_have_the_arguments_of_the_class():
    text = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    written = re.findall(r"autoclass:: ([\w.]+)\.(\w+)\((.*)\)", text)
    assert len(written) >= 4
    for module, name, arguments in written:
        shown = ast.parse(f"def f({arguments}): pass").body[0].args
        names = [a.arg for a in (*shown.args, *shown.kwonlyargs)]
        known = list(inspect.signature(getattr(import_module(module), name)).parameters)
        expected = [n for n in known if n in names] if shown.kwarg else known
        assert sorted(names) == sorted(expected), name


def test_no_argument_is_described_by_a_letter_alone():
    """ "share: a." begins a list for Sphinx, whose first point is empty."""
    letter = re.compile(r"^ +\w+: [A-Za-z]\.(?: .*)?$", re.MULTILINE)
    for path in (ROOT / "vgpo").rglob("*.py"):
        assert letter.findall(path.read_text(encoding="utf-8")) == [], path


def test_commands_in_a_docstring_are_a_block_of_code():
    """Without "::" their "--" is a dash, and lines run together."""
    command = re.compile(r"([^\n]*)\n\n    (?:python|accelerate|papermill) ")
    for path in (ROOT / "vgpo").rglob("*.py"):
        code = ast.parse(path.read_text(encoding="utf-8"))
        above = command.findall(ast.get_docstring(code) or "")
        assert all(line.endswith("::") for line in above), path


def test_nothing_of_the_file_is_lost_and_the_contents_know_the_pages(tmp_path):
    (tmp_path / "book").mkdir()
    text = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    for name in ("api.md", "_toc.yml"):
        copied = (ROOT / "book" / name).read_text(encoding="utf-8")
        (tmp_path / "book" / name).write_text(copied, encoding="utf-8")
    write_pages(ROOT, tmp_path)
    whole = "".join(page.read_text() for page in (tmp_path / "book").glob("api_*.md"))
    modules = re.compile(r"auto(?:module|class):: (\S+)")
    assert sorted(modules.findall(whole)) == sorted(modules.findall(text))
    toc = yaml.safe_load((tmp_path / "book" / "_toc.yml").read_text())
    [entry] = [
        chapter
        for part in toc["parts"]
        for chapter in part["chapters"]
        if chapter["file"] == "book/api"
    ]
    pages = {f"book/{p.stem}" for p in (tmp_path / "book").glob("api_*.md")}
    assert {section["file"] for section in entry["sections"]} == pages
