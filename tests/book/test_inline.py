"""Drawings in the pages, and tables as people read them."""

import re
import textwrap

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from book.builder.inline import VARIABLES, inline
from book.builder.render import finish
from book.builder.spacing import unbroken
from book.builder.tables import readable
from tests.conftest import ROOT
from vgpo.figures.style import INK, PALETTE, in_style
from vgpo.figures.svg import as_svg


@in_style
def drawn():
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    axes.plot([0, 1], [0, 1], color=PALETTE[1], label="<em>rises</em>")
    axes.bar([0.5], [1], facecolor=PALETTE[2], hatch="//", edgecolor="white")
    axes.legend()
    return figure


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images" / "a.svg").write_text(as_svg(drawn()), encoding="utf-8")
    (tmp_path / "_images" / "b.svg").write_text("<svg><path/></svg>", encoding="utf-8")
    return tmp_path


IMAGE = '<img alt="a line &amp; a bar" src="_images/{}.svg" class="x">'


def test_a_drawing_takes_the_place_of_its_picture(folder):
    page = BeautifulSoup(inline(f"<p>{IMAGE.format('a')}</p>", folder), "html.parser")
    assert not page.select("img")
    [svg] = page.select(".figure-scroll > .figure-sheet > svg")
    assert (svg["role"], svg["aria-label"]) == ("img", "a line & a bar")
    assert "<em>rises</em>" in svg.get_text() and not svg.select("em")
    # 6 inches are 576 pixels, less what the tight box leaves off.
    [width] = re.findall(r"--width: (\d+)px", str(page))
    assert 500 < int(width) <= 600
    assert "width" not in svg.attrs and svg["viewbox"]


def test_its_colours_are_the_themes(folder):
    page = inline(IMAGE.format("a"), folder)
    left = set(re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]*\)", "", page)))
    assert left <= {"#ffffff", "#000000"}
    css = (ROOT / "book" / "_static" / "custom.css").read_text(encoding="utf-8")
    for colour in (INK, PALETTE[1], PALETTE[2]):
        assert f"var({VARIABLES[colour]}, {colour})" in page
    for name in VARIABLES.values():
        assert css.count(f"{name}: #") == 2  # light and dark


def test_two_drawings_of_a_page_share_no_name(folder):
    page = BeautifulSoup(inline(IMAGE.format("a") * 2, folder), "html.parser")
    ids = [tag["id"] for tag in page.select("[id]")]
    assert ids and len(ids) == len(set(ids))
    used = set(re.findall(r"url\(#([^)]+)\)", str(page)))
    assert used and used <= set(ids)


@pytest.mark.parametrize("image", [IMAGE.format("b"), '<img src="_images/gone.svg">'])
def test_other_pictures_stay_as_they_are(folder, image):
    assert inline(image, folder) == image


# Tables ---------------------------------------------------------------------------


def cells(table: pd.DataFrame) -> list[list]:
    page = BeautifulSoup(readable(table._repr_html_()), "html.parser")
    return [row.find_all("td") for row in page.select("tbody tr")]


def test_words_stand_left_and_numbers_right():
    table = pd.DataFrame({"what": ["φ, by run", "ψ"], "r": [0.5, -1.25], "n": [1, 2]})
    for row in cells(table):
        assert [cell.get("class") for cell in row] == [["words"], None, None]
    page = BeautifulSoup(readable(table._repr_html_()), "html.parser")
    heads = page.select("thead th")
    assert [head.get("class") for head in heads] == [None, ["words"], None, None]


def test_headings_of_an_index_do_not_shift_those_of_columns():
    table = pd.DataFrame({"k": ["a"], "r": [1.0], "s": ["x"]}).set_index("k")
    page = BeautifulSoup(readable(table._repr_html_()), "html.parser")
    first = page.select("thead tr")[0].find_all("th")
    assert [h.get_text() for h in first if h.get("class") == ["words"]] == ["s"]


def headings(table: pd.DataFrame) -> list[list[str]]:
    page = BeautifulSoup(readable(table._repr_html_()), "html.parser")
    return [
        [head.get_text() for head in row.find_all("th")]
        for row in page.select("thead tr")
    ]


def test_the_name_of_an_index_stands_in_the_row_of_the_columns():
    table = pd.DataFrame({"k": ["a", "b"], "n": [1, 2], "r_low": [0.5, 1.0]})
    assert headings(table.set_index("k")) == [["k", "n", "r_low"]]
    assert headings(table.set_index(["k", "n"])) == [["k", "n", "r_low"]]
    assert headings(table) == [["", "k", "n", "r_low"]]  # as pandas has it
    last = pd.concat({"x": table.set_index("k")})
    assert headings(last) == [["", "k", "n", "r_low"]]
    levels = table.groupby("k")[["n"]].agg(["mean", "max"])
    assert headings(levels) == [["", "n"], ["k", "mean", "max"]]
    # Above its labels, which stand left.
    page = BeautifulSoup(
        readable(table.set_index(["k", "n"])._repr_html_()), "html.parser"
    )
    assert [head.get_text() for head in page.select("thead th.name")] == ["k", "n"]


def test_the_name_of_the_columns_stands_above_them():
    table = pd.DataFrame({"k": ["a"], "x": [1], "y": [2]}).set_index("k")
    table.columns.name = "arm"
    assert headings(table) == [["", "arm"], ["k", "x", "y"]]
    page = BeautifulSoup(readable(table._repr_html_()), "html.parser")
    assert page.select_one("th.over")["colspan"] == "2"


def test_no_table_has_rules_for_the_others_of_its_page():
    table = pd.DataFrame({"n": [1]})
    assert "<style scoped>" in table._repr_html_()
    assert "<style" not in readable(table._repr_html_())


def test_long_numbers_are_grouped_and_others_are_left():
    shown = cells(pd.DataFrame({"n": [787456, -65664], "r": [11864.0, 0.125]}))
    assert [[cell.get_text() for cell in row] for row in shown] == [
        ["787,456", "11,864"], ["-65,664", "0.125"],
    ]  # fmt: skip
    assert cells(pd.DataFrame({"year": [2026]}))[0][0].get_text() == "2026"
    # In one column all are written alike.
    column = cells(pd.DataFrame({"n": [787456, 1152, -4608, 0]}))
    assert [cell.get_text() for [cell] in column] == ["787,456", "1,152", "-4,608", "0"]


def test_a_table_without_rows_says_so():
    [[cell]] = cells(pd.DataFrame({"set": [], "row": []}))
    assert (cell.get_text(), cell["colspan"]) == ("none", "3")


def test_columns_of_sentences_are_marked_and_those_of_words_are_not():
    table = pd.DataFrame({"verdict": ["not decided (too few seeds)"], "arm": ["dapo"]})
    [[verdict, arm]] = cells(table)
    assert (verdict["class"], arm["class"]) == (["words", "long"], ["words"])


def test_nothing_to_say_is_said_and_code_is_code():
    table = pd.DataFrame({"r": [float("nan"), 0.5], "how": ["`beta`", None]})
    shown = cells(table)
    assert shown[0][0].span["title"] == "not applicable"
    assert shown[1][1].get_text() == "n/a"
    assert shown[0][1].code.get_text() == "beta"
    assert shown[0][0].get("class") is None  # still a column of numbers


def test_long_names_of_rows_are_marked_and_short_ones_are_not():
    table = pd.DataFrame({"r": [0.5, 1.0]}, index=["late/early ratio", "ratio"])
    page = BeautifulSoup(readable(table._repr_html_()), "html.parser")
    heads = page.select("tbody th")
    assert [head.get("class") for head in heads] == [["label"], None]
    assert [head.get_text() for head in heads] == ["late/early ratio", "ratio"]


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        ("tensor([[1., 2.],\n        [3., 4.]])", True),
        ("sum: tensor([1., 2.])", True),
        (f"before  80%\nafter   90%\n{'a long answer ' * 8}", False),
        ("sum      Total ?\ncount    Count 2 ?", True),
        ("how many?  two\nand a long answer in one line", False),
        ("  indented\n  indented", False),
    ],
)
def test_what_is_printed_in_columns_is_marked(printed, kept):
    output = (
        '<div class="output stream highlight-myst-ansi notranslate">'
        '<div class="highlight"><pre><span></span>{}</pre></div></div>'
    )
    page = output.format(printed)
    assert (readable(page) != page) is kept
    found = BeautifulSoup(readable(page), "html.parser").pre
    assert found.get("class") == (["columns"] if kept else None)
    assert found.get_text() == printed


def test_whole_pages_are_finished_where_they_need_it(folder):
    (folder / "one.html").write_text(IMAGE.format("a"), encoding="utf-8")
    (folder / "two.html").write_text("<p>`a` NaN</p>", encoding="utf-8")
    finish(folder)
    assert "figure-scroll" in (folder / "one.html").read_text(encoding="utf-8")
    assert (folder / "two.html").read_text(encoding="utf-8") == "<p>`a` NaN</p>"


def test_a_table_of_many_columns_is_set_smaller_those_of_its_index_counted():
    table = pd.DataFrame([range(7)])
    assert "dataframe wide" in readable(table._repr_html_())
    assert "dataframe wide" not in readable(table[[0, 1, 2, 3, 4, 5]]._repr_html_())
    assert "wide widest" not in readable(table._repr_html_())
    assert "wide widest" in readable(pd.DataFrame([range(9)])._repr_html_())
    nested = table.set_index([0, 1, 2])
    assert "dataframe wide" not in readable(nested._repr_html_())


def test_a_table_that_would_be_cut_is_set_smaller_one_that_fits_is_not():
    told = "-0.009 [-0.011, -0.006]"
    five = pd.DataFrame([[told] * 5], index=["looks, all steps"])
    page = unbroken(five._repr_html_())
    assert "dataframe wide" in readable(page)
    assert "dataframe wide" not in readable(unbroken(five[[0, 1, 2]]._repr_html_()))
    # A sentence may be broken into lines, a row's name had better not be.
    said = pd.DataFrame([["word " * 40] * 5], index=["looks"])
    assert "dataframe wide" not in readable(said._repr_html_())
    named = pd.DataFrame([["untrained"] * 6], index=["attention, keenest layer, t−1"])
    assert "dataframe wide" in readable(named._repr_html_())


def test_powers_of_ten_are_numbers_though_no_line_ends_in_them():
    small = pd.DataFrame({"small": [-6e-4, 1.2e-3], "words": ["one", "two"]})
    html = small.to_html(float_format="{:.1e}".format)
    page = BeautifulSoup(readable(unbroken(html)), "html.parser")
    assert ["words" in (cell.get("class") or []) for cell in page.find_all("td")] == [
        False, True, False, True,
    ]  # fmt: skip


def test_sentences_filled_for_a_terminal_are_lines_of_their_own_again():
    said = ["word " * 40 + "end.", "A short one.", "more " * 30 + "end."]
    filled = "\n".join(textwrap.fill(s, 78, subsequent_indent="  ") for s in said)
    page = '<div class="output stream"><div class="highlight"><pre>{}</pre></div></div>'
    assert readable(page.format(filled)) == page.format("\n".join(said))
    listed = f"Asked:\n  shown: {'x' * 70}\n  said: {'x' * 70}"
    for kept in ("Asked:\n  what is it?", "def f():\n  return 1\n    2", listed):
        assert readable(page.format(kept)) == page.format(kept)


# Spaces ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("its 95 % interval", "95\u00a0% interval"),
        ("a card of 24 GB", "24\u00a0GB"),
        ("Fig. 5 and Eq. 7-8", "Fig.\u00a05 and Eq.\u00a07-\u20608"),
        ("state at t − 1", "t\u00a0−\u00a01"),
        ("greedy and T = 1", "T\u00a0=\u00a01"),
        ("it was -0.010 [-0.020, +0.000]", "[-0.020,\u00a0+0.000]"),
        ("on 2026-11-25", "2026-\u206011-\u206025"),
        ("rates of 1e-6", "1e-\u20606"),
        ("5 questions", "5 questions"),
    ],
)
def test_no_line_ends_before_a_unit(text, kept):
    assert kept in unbroken(f"<p>{text}</p>")
    for tag in ("code", "pre", "script", "svg"):
        page = f"<{tag} class='x'>{text}</{tag}>"
        assert unbroken(page) == page


def test_a_comma_stays_with_its_formula():
    formula = '<span class="math notranslate nohighlight">\\(x\\)</span>'
    page = BeautifulSoup(unbroken(f"<p>{formula}, and {formula} of</p>"), "html.parser")
    assert [span.get_text() for span in page.select(".together")] == ["\\(x\\),"]
    assert page.get_text() == "\\(x\\), and \\(x\\) of"


def test_paths_may_be_broken_after_a_slash_and_options_may_not_be_broken():
    name = '<code><span class="pre">{}</span></code>'
    page = BeautifulSoup(unbroken(name.format("tests/a/b.py")), "html.parser")
    assert page.get_text() == "tests/a/b.py"
    assert len(page.select("wbr")) == 2
    for plain in ("a/", "x", "a//b", "1/3"):
        assert unbroken(name.format(plain)) == name.format(plain)
    option = BeautifulSoup(unbroken(name.format("--max_steps")), "html.parser")
    assert option.span["class"] == ["pre", "whole"]


def test_commands_are_broken_at_slashes_and_not_within_an_option():
    command = "python -m vgpo.train --config a/b.yaml --check\n"
    page = (
        '<div class="highlight-{} x"><div class="highlight"><pre>{}</pre></div></div>'
    )
    found = BeautifulSoup(unbroken(page.format("bash", command)), "html.parser")
    assert found.get_text() == command
    whole = [span.get_text() for span in found.select(".whole")]
    assert whole == ["-m", "--config", "--check"] and len(found.select("wbr")) == 1
    assert unbroken(page.format("python", command)) == page.format("python", command)
    # Pygments puts a space of a command into a tag of its own.
    space = '<span class="w"> </span>'
    spaced = page.format("bash", f"--load_in_4bit{space}<span>true</span>{space}\\")
    found = BeautifulSoup(unbroken(spaced), "html.parser")
    assert [span.get_text() for span in found.select(".whole")] == ["--load_in_4bit"]


def test_names_of_the_index_are_broken_after_their_dots_and_addresses_are_not():
    link = '<a href="book/api.html#vgpo.stats.a">a (in module vgpo.stats)</a>'
    page = '<table class="{}"><tr><td>{}</td></tr></table>'
    found = unbroken(page.format("indextable genindextable", link))
    assert found == page.format(
        "indextable genindextable", link.replace("vgpo.stats)", "vgpo.<wbr>stats)")
    )
    assert unbroken(page.format("table", link)) == page.format("table", link)
