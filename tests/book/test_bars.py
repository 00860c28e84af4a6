"""Hidden cells with nothing between them share a bar, and lose nothing by it."""

from bs4 import BeautifulSoup

from book.builder.bars import one_bar

BAR = (
    '<summary aria-label="Toggle hidden content">\n'
    '<p class="collapsed admonition-title">Show code cell source</p>\n'
    '<p class="expanded admonition-title">Hide code cell source</p>\n</summary>\n'
)


def cell(code: str, output: str = "", tags: str = "tag_hide-input") -> str:
    hidden = f'<details class="admonition hide above-input">\n{BAR}<pre>{code}</pre>\n'
    shown = f'<div class="cell_output">{output}</div>\n' if output else ""
    return f'<div class="cell {tags} docutils">\n{hidden}</details>\n{shown}</div>\n'


def bars(page: str) -> list[list[str]]:
    """What lies under each bar."""
    found = BeautifulSoup(one_bar(page), "html.parser").find_all("details")
    return [[code.text for code in bar.find_all("pre")] for bar in found]


def test_cells_in_a_row_share_the_first_ones_bar_and_the_last_ones_output():
    page = cell("a") + cell("b") + cell("c", output="three") + "<p>Prose.</p>"
    assert bars(page) == [["a", "b", "c"]]
    page = BeautifulSoup(one_bar(page), "html.parser")
    # The output is the cell's, outside of what is folded away; the prose is neither's.
    [output] = page.select(".cell > .cell_output")
    assert output.text == "three"
    assert [tag.name for tag in page.find_all(recursive=False)] == ["div", "p"]


def test_what_is_seen_between_two_cells_keeps_them_apart():
    assert bars(cell("a", output="one") + cell("b")) == [["a"], ["b"]]
    assert bars(cell("a") + "<p>Prose.</p>" + cell("b")) == [["a"], ["b"]]
    seen = '<div class="cell docutils"><pre>seen</pre></div>'
    assert bars(cell("a") + seen + cell("b")) == [["a"], ["b"]]


def test_other_folded_text_takes_no_cell_in():
    solution = '<div><details class="sd-dropdown"><pre>solution</pre></details></div>'
    assert bars(solution + cell("a")) == [["solution"], ["a"]]


def test_the_bar_of_the_parameters_says_so():
    page = cell("n = 1", tags="tag_parameters tag_hide-input") + cell("import vgpo")
    page = one_bar(page + "<p>Prose.</p>" + cell("draw()"))
    titles = BeautifulSoup(page, "html.parser").select("p.collapsed")
    assert [title.text for title in titles] == [
        "Show parameters and set-up",
        "Show code cell source",
    ]
