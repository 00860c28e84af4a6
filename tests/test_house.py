"""The floors of the package, held by its imports, and the page that shows them."""

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from book.builder import BuildError, house
from book.builder.imports import circle, definition, folder, imports, read_modules
from tests.conftest import ROOT

FLOOR = {entry["name"]: entry["floor"] for entry in house.read_house(ROOT)["floors"]}
MODULES = read_modules(ROOT / "vgpo")
EDGES = imports(MODULES)
PAGE = (ROOT / "book" / "house.md").read_text(encoding="utf-8")


# The package -------------------------------------------------------------


def test_every_folder_has_a_floor_and_every_floor_its_folder():
    assert {folder(name) for name in MODULES} - {""} == set(FLOOR), house.TABLE


def test_imports_go_down():
    upward = [
        f"{one} (floor {FLOOR[folder(one)]}) imports {other} ({FLOOR[folder(other)]})"
        for one, other in EDGES
        if folder(one) and folder(other) and folder(one) != folder(other)
        if FLOOR[folder(one)] <= FLOOR[folder(other)]
    ]
    assert upward == []


def test_nothing_in_the_house_goes_through_the_front_door():
    """Public names are for users; inside, a name is taken from where it lives."""
    assert [one for one, other in EDGES if not folder(other)] == []


@pytest.mark.parametrize("name", FLOOR)
def test_no_circle_within_a_folder(name):
    inside = [edge for edge in EDGES if {folder(module) for module in edge} == {name}]
    assert circle(inside) == []


# Reading imports ---------------------------------------------------------


@pytest.fixture
def package(tmp_path) -> Path:
    """A package whose modules import in every way there is."""
    files = {
        "__init__": "_HOME = {'a': 'pack.low.a'}\n",
        "low/__init__": "",
        "low/a": "import os, numpy.random\n\n\nLIMIT: int = 3\n",
        "low/b": "from pack.low import a\n",
        "mid": "import pack.low.a as x\nfrom pack.low.b import anything\n",
        "top": (
            "from typing import TYPE_CHECKING\n\n"
            "if TYPE_CHECKING:\n    from pack.mid import Thing\n\n\n"
            "class One:\n"
            "    def late(self):\n        from pack.low.a import LIMIT\n"
        ),
    }
    for name, code in files.items():
        path = tmp_path / "pack" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return tmp_path / "pack"


def test_imports_are_found_wherever_they_stand(package):
    assert imports(read_modules(package)) == [
        ("pack", "pack.low.a"),
        ("pack.low.b", "pack.low.a"),
        ("pack.mid", "pack.low.a"),
        ("pack.mid", "pack.low.b"),
        ("pack.top", "pack.low.a"),
        ("pack.top", "pack.mid"),
    ]


def test_a_relative_import_is_not_overlooked(package):
    (package / "low" / "c.py").write_text("from . import a\n")
    with pytest.raises(ValueError, match=r"pack\.low\.c, line 1"):
        imports(read_modules(package))


def test_a_circle_is_named_in_order(package):
    assert circle([("a", "b"), ("b", "c"), ("a", "c")]) == []
    assert circle([("a", "b"), ("b", "c"), ("c", "a")]) in (
        list("abca"),
        list("bcab"),
        list("cabc"),
    )


def test_definitions_are_found_by_name(package):
    found = {
        name: definition(f"pack.{name}", package.parent)
        for name in ("top.One.late", "low.a.LIMIT", "low", "_HOME")
    }
    lines = {
        name: (path.relative_to(package).as_posix(), line)
        for name, (path, line) in found.items()
    }
    assert lines == {
        "top.One.late": ("top.py", 8),
        "low.a.LIMIT": ("low/a.py", 4),
        "low": ("low/__init__.py", 1),
        "_HOME": ("__init__.py", 1),
    }


@pytest.mark.parametrize("gone", ["top.Two", "top.One.early", "low.c", "mid.anything"])
def test_a_name_that_is_gone_is_told(package, gone):
    with pytest.raises(LookupError, match=gone):
        definition(f"pack.{gone}", package.parent)


# The page ----------------------------------------------------------------


@pytest.fixture(scope="module")
def filled() -> BeautifulSoup:
    return BeautifulSoup(house.fill(PAGE, ROOT), "html.parser")


def test_every_box_and_every_import_is_drawn(filled):
    figure = filled.select_one("figure#tower")
    boxes = {text.get_text() for text in figure.select("g.box text[font-weight]")}
    assert boxes == set(FLOOR)
    drawn = {tuple(cable["class"][1:]) for cable in figure.select("path.cable")}
    between = {(folder(one), folder(other)) for one, other in EDGES}
    assert drawn == {
        (f"of-{one}", f"of-{other}")
        for one, other in between
        if one and other and one != other
    }


def test_cables_end_lower_and_cross_no_box(filled):
    figure = filled.select_one("figure#tower")
    numbers = ("x", "y", "width", "height")
    boxes = {
        group["class"][1].removeprefix("box-"): [float(rect[n]) for n in numbers]
        for group in figure.select("g.box")
        for rect in group.select("rect")
    }
    for cable in figure.select("path.cable"):
        of, to = (name.removeprefix("of-") for name in cable["class"][1:])
        points = [float(n) for n in re.findall(r"[\d.]+", cable["d"])]
        assert points[1] == boxes[of][1] + boxes[of][3]
        assert points[1] < points[-1] < boxes[to][1]
        for down in re.finditer(r"([\d.]+) [\d.]+ V", cable["d"]):
            for x, _, width, _ in boxes.values():
                assert not x <= float(down[1]) <= x + width


def test_every_step_of_the_way_names_code_that_is_there(filled):
    shown = filled.select_one("figure#way").get_text()
    for step in house.read_house(ROOT)["way"]:
        assert step["title"] in shown
        for name in step["code"]:
            file, line = house.place(name, ROOT).split(", line ")
            assert f"{file}, line {line}" in shown
            if file.startswith("vgpo/"):
                code = (ROOT / file).read_text().splitlines()[int(line) - 1]
                assert name.rpartition(".")[2] in code


def test_a_renamed_function_stops_the_build():
    with pytest.raises(BuildError, match=r"gone.* mend book/house\.toml"):
        house.place("vgpo.files.gone", ROOT)


def test_an_unknown_part_of_a_page_stops_the_build():
    with pytest.raises(BuildError, match="'attic'"):
        house.fill("# Title\n\n<!-- house: attic -->\n", ROOT)


def test_drawings_can_be_read_aloud_and_survive_markdown(filled):
    for figure in filled.select("figure.house"):
        svg = figure.svg
        assert svg["role"] == "img"
        for name in svg["aria-labelledby"].split():
            assert len(svg.select_one(f"#{name}").get_text()) > 15
        # An empty line would end the block of HTML in the page.
        assert "\n\n" not in str(figure)


def test_the_words_of_a_drawing_are_inside_it(filled):
    for figure in filled.select("figure.house"):
        width = float(figure.svg["viewbox"].split()[2])
        for text in figure.select("text"):
            size = float(text["font-size"])
            # Wide for the letters of most fonts.
            length = len(text.get_text()) * size * 0.58
            start = float(text["x"])
            if text.get("text-anchor") == "middle":
                start -= length / 2
            assert start >= 0 and start + length <= width, text.get_text()


def test_what_the_page_names_is_there():
    named = re.findall(r"`([\w./]+)`", PAGE)
    paths = [name for name in named if "/" in name]
    assert len(paths) > 30
    missing = [name for name in paths if not (ROOT / name).exists()]
    for dotted in re.findall(r"\{py:\w+\}`~?([\w.]+)`", PAGE):
        definition(dotted, ROOT)
    assert missing == []
