"""Colours of figures and charts: legible, and told apart without red and green."""

import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from tests.conftest import ROOT
from vgpo.figures.reweighting import CELL_INK, DIVERGING
from vgpo.figures.style import DASHES, INK, MARKS, PALETTE

GROUNDS = {"light": "#ffffff", "dark": "#121212"}
"""Of the book's pages."""

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of luminances."""
    light = sorted(
        float(linear(c) @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in (one, other)
    )
    return light[1] / light[0]


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = [
        [0.4124, 0.3576, 0.1805],
        [0.2126, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9505],
    ]
    x = np.clip(rgb, 0, 1) @ np.array(to_xyz).T / [0.9505, 1.0, 1.089]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one: str, other: str, sight: str) -> float:
    """CIE 1976 colour difference as that eye sees it; 2.3 is just noticed."""
    seen = [lab(SIGHTS[sight] @ linear(colour)) for colour in (one, other)]
    return float(np.linalg.norm(seen[0] - seen[1]))


def of_the_book(theme: str) -> list[str]:
    """The figures' colours of a theme, the ink last."""
    css = (ROOT / "book" / "_static" / "custom.css").read_text(encoding="utf-8")
    where = r"html \{" if theme == "light" else r'html\[data-theme="dark"\] \{'
    blocks = re.findall(where + r"([^}]*--figure-ink[^}]*)\}", css)
    found = dict(re.findall(r"--figure-(\w+): (#[0-9a-f]{6})", blocks[0]))
    return [found[str(i)] for i in range(5)] + [found["ink"]]


def of_the_explorer(theme: str) -> list[str]:
    css = (ROOT / "vgpo/explorer/assets/curves.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--series-\d: light-dark\((#\w{6}), (#\w{6})\)", css)
    return [pair[theme == "dark"] for pair in pairs]


def test_the_measures_of_contrast_and_distance():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert distance("#ffffff", "#000000", "normal") == pytest.approx(100, abs=0.1)
    # Red and green of one lightness: far apart, and nearly one for a deuteranope.
    assert distance("#c04040", "#6a7a20", "normal") > 60
    assert distance("#c04040", "#6a7a20", "deuteranopia") < 25


@pytest.mark.parametrize("theme", GROUNDS)
@pytest.mark.parametrize("palette", [of_the_book, of_the_explorer])
def test_words_in_any_colour_can_be_read(palette, theme):
    colours = palette(theme)
    assert len(colours) == 6
    assert min(contrast(c, GROUNDS[theme]) for c in colours) >= 4.5


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("theme", GROUNDS)
@pytest.mark.parametrize("palette", [of_the_book, of_the_explorer])
def test_colours_are_told_apart_by_every_eye(palette, theme, sight):
    pairs = combinations(palette(theme), 2)
    assert min(distance(*pair, sight) for pair in pairs) >= 15


SIDE_BY_SIDE = {
    "page.css": [r"--image", r"--query", r"--generated"],
    "tokens.css": [r"--warm", r"--cool"],
    "tokens.css, lines": [r"--warm-line", r"--cool-line"],
    "group.css": [r"--gain", r"--loss"],
    "answers.css": [r"-text\.right \{ [^}]*", r"-text\.wrong \{ [^}]*"],
}
"""Colours of the explorer that mean something beside each other, and where."""


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("theme", GROUNDS)
@pytest.mark.parametrize("where", SIDE_BY_SIDE)
def test_colours_of_a_view_are_told_apart_by_every_eye(where, theme, sight):
    sheet = ROOT / "vgpo/explorer/assets" / where.split(",")[0]
    css = sheet.read_text(encoding="utf-8")
    colours = []
    for name in SIDE_BY_SIDE[where]:
        [pair] = re.findall(name + r":? ?light-dark\((#\w{6}), (#\w{6})\)", css)
        colours.append(pair[theme == "dark"])
    pairs = combinations(colours, 2)
    assert min(distance(*pair, sight) for pair in pairs) >= 15


def test_wrong_answers_have_a_line_of_another_kind():
    css = (ROOT / "vgpo/explorer/assets/answers.css").read_text(encoding="utf-8")
    right, wrong = (
        re.search(rf"-text\.{verdict} \{{([^}}]*)\}}", css)[1]
        for verdict in ("right", "wrong")
    )
    assert "dashed" in wrong and "dashed" not in right


@pytest.mark.parametrize("theme", GROUNDS)
def test_outside_the_book_the_same_colours_serve_both_grounds(theme):
    """A notebook's drawing does not know what it lies on."""
    assert min(contrast(c, GROUNDS[theme]) for c in PALETTE) >= 3
    assert contrast(INK, "#ffffff") >= 4.5


@pytest.mark.parametrize("theme", GROUNDS)
@pytest.mark.parametrize("tint", ["gain", "loss"])
def test_words_can_be_read_on_the_strongest_tint(tint, theme):
    folder = ROOT / "vgpo" / "explorer" / "assets"

    def shade(sheet: str, name: str) -> np.ndarray:
        text = (folder / sheet).read_text(encoding="utf-8")
        [pair] = re.findall(rf"--{name}: light-dark\((#\w{{6}}), (#\w{{6}})\)", text)
        colour = pair[theme == "dark"]
        return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])

    [most] = re.findall(r"share \* (\d+)\)", (folder / "group.js").read_text())
    share = int(most) / 100
    mixed = share * shade("group.css", tint) + (1 - share) * shade("page.css", "ground")
    ground, ink = (
        "#{:02x}{:02x}{:02x}".format(*rgb.round().astype(int))
        for rgb in (mixed, shade("page.css", "ink"))
    )
    assert contrast(ink, ground) >= 4.5


def test_type_in_cells_can_be_read_whatever_their_value():
    """No cell has a colour of the palette, which a page would make a stronger one."""
    shades = {to_hex(DIVERGING(i)) for i in range(DIVERGING.N)}
    assert not shades & set(PALETTE)
    assert min(contrast(shade, CELL_INK) for shade in shades) >= 4.5


def test_colours_come_with_a_dash_and_a_mark_of_their_own():
    assert len(set(PALETTE)) == len(PALETTE) == 6
    assert len(set(map(str, DASHES))) == len(set(MARKS)) == 6
