"""The generated parts of the page "How the pieces fit".

A page asks for them by a comment of its own line, ``<!-- house: tower -->``. They are
drawn anew in every build, out of ``book/house.toml`` and the package's source.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from book.builder import BuildError
from book.builder.drawings import Box, Step, tower, way
from book.builder.imports import between_folders, definition, imports, read_modules

TABLE = "book/house.toml"
ACROSS = 3  # boxes in a row
MARKER = re.compile(r"^<!-- house: (\w+) -->$", re.MULTILINE)


def read_house(root: Path) -> dict:
    """``book/house.toml``: ``floors`` and ``way``."""
    with (root / TABLE).open("rb") as file:
        return tomllib.load(file)


def measured(root: Path) -> Counter[tuple[str, str]]:
    """Imports from one folder of ``vgpo`` to another, most first.

    The package's own module names everything and is no room of the house.
    """
    counted = between_folders(imports(read_modules(root / "vgpo")))
    inside = {pair: n for pair, n in counted.most_common() if all(pair)}
    known = {entry["name"] for entry in read_house(root)["floors"]}
    for name in {name for pair in inside for name in pair} - known:
        raise BuildError(f"vgpo/{name} has no floor yet; give it one in {TABLE}")
    return Counter(inside)


def draw_tower(root: Path) -> str:
    """The floors and the measured imports between them."""
    floors: dict[int, list[Box]] = {}
    for entry in read_house(root)["floors"]:
        files = len(list((root / "vgpo" / entry["name"]).rglob("*.py"))) or 1
        note = "one file" if files == 1 else f"{files} files"
        floors.setdefault(entry["floor"], []).append(Box(entry["name"], note))
    rows = []
    for floor in sorted(floors, reverse=True):
        boxes = floors[floor]
        # A floor of more than three is drawn in two rows, to be read on a telephone.
        half = len(boxes) if len(boxes) <= ACROSS else (len(boxes) + 1) // 2
        for some in filter(None, (boxes[:half], boxes[half:])):
            rows.append((str(floor), some))
    return tower(rows, measured(root))


def list_floors(root: Path) -> str:
    """The floors as a table, with the number behind each cable."""
    counted = measured(root)
    lines = ["| part | floor | holds | imports from |", "|---|---|---|---|"]
    for entry in sorted(read_house(root)["floors"], key=lambda e: -e["floor"]):
        name = entry["name"]
        slash = "/" if (root / "vgpo" / name).is_dir() else ".py"
        used = ", ".join(f"{to} {n}" for (of, to), n in counted.items() if of == name)
        lines.append(
            f"| `{name}{slash}` | {entry['floor']} | {entry['holds']} | {used} |"
        )
    return "\n".join(lines)


def draw_way(root: Path) -> str:
    """The way of a batch, each step with the place of its code."""
    steps = []
    for entry in read_house(root)["way"]:
        code = [(short(name), place(name, root)) for name in entry["code"]]
        steps.append(Step(**{**entry, "code": code}))
    return way(steps)


def short(dotted: str) -> str:
    """A method with its class, anything else alone."""
    *_, owner, name = dotted.split(".")
    return f"{owner}.{name}" if owner[:1].isupper() else name


def place(dotted: str, root: Path) -> str:
    """``vgpo.files.write_atomically`` -> ``vgpo/files.py, line 13``.

    Raises:
        BuildError: Nothing is defined under that name.
    """
    package = dotted.partition(".")[0]
    if not (root / package).is_dir():
        spec = find_spec(package)
        if spec is None:
            raise BuildError(f"{dotted}: {package} is not installed")
        root = Path(spec.submodule_search_locations[0]).parent
    try:
        path, line = definition(dotted, root)
    except LookupError as error:
        raise BuildError(f"{error.args[0]}; mend {TABLE}") from error
    return f"{path.relative_to(root).as_posix()}, line {line}"


PARTS: dict[str, Callable[[Path], str]] = {
    "tower": draw_tower,
    "floors": list_floors,
    "way": draw_way,
}


def fill(page: str, root: Path) -> str:
    """A page with its generated parts in the place of their markers.

    Raises:
        BuildError: A marker that nothing is drawn for, or a drawing that names what
            is no longer there.
    """

    def part(found: re.Match) -> str:
        name = found[1]
        if name not in PARTS:
            raise BuildError(
                f"no part of a page is called {name!r}: {', '.join(PARTS)}"
            )
        return PARTS[name](root)

    return MARKER.sub(part, page)
