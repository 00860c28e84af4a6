"""What a figure says by hue it says by line, mark or pattern as well; its drawing."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from PIL import Image

from tests.figures.samples import NO_SERIES, SERIES, looking, states
from vgpo import figures
from vgpo.figures.reweighting import CELL_INK
from vgpo.figures.style import GROUND, INK, PALETTE, in_style
from vgpo.figures.svg import CLASS, as_png, as_svg

each_figure = pytest.mark.parametrize("make", SERIES.values(), ids=SERIES)


def look_of(line) -> tuple[str, str]:
    dash = str(line.get_linestyle()) if line.get_linestyle() != "None" else ""
    dash += str(line._unscaled_dash_pattern) if dash else ""
    return dash, str(line.get_marker())


def legends_of(figure) -> list:
    """Of its panels, and its own."""
    return [*figure.legends, *filter(None, (a.get_legend() for a in figure.axes))]


def looks_in(legend) -> dict[str, set]:
    """How the lines, marks and patches of a legend look, hue aside."""
    found = defaultdict(set)
    for line in legend.get_lines():
        found[to_hex(line.get_color())].add(look_of(line))
    for patch in legend.get_patches():
        found[to_hex(patch.get_facecolor())].add(patch.get_hatch())
    return {colour: found[colour] for colour in PALETTE if colour in found}


def looks(axes) -> dict[str, set]:
    """How lines, marks and bars of each colour of the house look, hue aside."""
    found = defaultdict(set)
    for line in axes.lines:
        # Lines across a panel and thin raw curves under a mean are not series.
        if len(line.get_xdata()) and line.get_linewidth() > 1.0:
            found[to_hex(line.get_color())].add(look_of(line))
    for points in axes.collections:
        if isinstance(points, PathCollection) and len(points.get_facecolor()):
            path = points.get_paths()[0].vertices.round(2)
            found[to_hex(points.get_facecolor()[0])].add(path.tobytes())
    for bar in axes.patches:
        found[to_hex(bar.get_facecolor())].add(bar.get_hatch())
    return {colour: found[colour] for colour in PALETTE if colour in found}


def test_every_figure_has_a_sample_or_a_reason_to_have_none():
    drawn = {
        n.removesuffix("_figure") for n in figures.__all__ if n.endswith("_figure")
    }
    assert not set(SERIES) & set(NO_SERIES)
    assert drawn == set(SERIES) | set(NO_SERIES)
    assert all(NO_SERIES.values())


@each_figure
def test_no_two_series_differ_by_hue_alone(make):
    figure = make()
    seen = [looks(axes) for axes in figure.axes]
    seen += [looks_in(legend) for legend in legends_of(figure)]
    for each in seen:
        for (one, ours), (other, theirs) in combinations(each.items(), 2):
            if INK in (one, other):
                continue  # marks of a mean, axes
            assert not ours & theirs, (one, other)


@each_figure
def test_every_figure_has_a_drawing_in_the_colours_of_the_house(make):
    text = as_svg(make())
    root = ElementTree.fromstring(text)
    assert root.get("class") == CLASS
    told = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", text))
    # White: patterns and rims. The rest would not follow the theme.
    # Type in cells stands on tints that are the same on both grounds.
    assert told <= {*PALETTE, GROUND, CELL_INK, "#ffffff", "#000000"}, told
    assert len(text) < 400_000


def test_the_same_figure_has_the_same_drawing():
    @in_style
    def draw():
        figure, axes = plt.subplots(layout="constrained")
        axes.plot([0, 1], [0, 1], label="a line & <more>")
        axes.bar([0], [1], hatch="//")
        axes.legend()
        return figure

    assert as_svg(draw()) == as_svg(draw())
    assert "a line &amp; &lt;more&gt;</text>" in as_svg(draw())


def test_numbers_on_a_drawing_keep_their_digits_and_places_do_not():
    @in_style
    def draw():
        figure, axes = plt.subplots(layout="constrained")
        axes.set(xlim=(-0.0375, 0.0375), xticks=[-0.025, 0.0, 0.0125])
        axes.text(0, 0.123456, "0.350 > 0.290")
        return figure

    text = as_svg(draw())
    written = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert {"\u22120.0250", "0.0125", "0.350 &gt; 0.290"} <= set(written)
    places = re.findall(r' d="([^"]*)"', text)
    assert places
    assert not re.search(r"\.\d{3}", " ".join(places))


def test_clouds_of_points_are_pixels_and_the_rest_is_not():
    assert as_svg(states()).count("<image") == 2  # one a panel
    assert "<image" not in as_svg(looking())


def test_a_notebook_shows_the_drawing(capsys):
    shown = []
    figure = looking()  # of bars, whose inside is ink through and through
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
        figure._ipython_display_()
    assert shown[0]["image/svg+xml"].startswith("<svg")
    # What JupyterLab shows of a notebook that is not trusted.
    content = base64.b64decode(shown[0]["image/png"])
    picture = Image.open(io.BytesIO(content)).convert("RGBA")
    assert picture.width > 700 and len(content) < 60_000
    assert picture.getextrema()[3] == (0, 255)  # ink, and nothing behind it
    assert content == as_png(figure)
    assert np.isfinite(figure.get_size_inches()).all()
