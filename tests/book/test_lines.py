"""Lines of code are elements of the page, and say the same."""

from bs4 import BeautifulSoup

from book.builder.lines import whole_lines

BLOCK = (
    '<div class="{} notranslate"><div class="highlight"><pre><span></span>{}</pre>'
    "</div></div>"
)
CODE = (
    '<span class="gp">&gt;&gt;&gt; </span><span class="k">if</span> a &lt; 2:\n'
    '<span class="gp">... </span>    <span class="n">f</span>()\n'
    '<span class="go">  1</span>\n\n'
)


def test_each_line_knows_how_far_in_it_begins():
    page = BeautifulSoup(
        whole_lines(BLOCK.format("doctest highlight-default", CODE)), "html.parser"
    )
    lines = page.select("pre > .line")
    assert [line["style"] for line in lines] == [
        f"--in: {width}" for width in (4, 8, 2, 0)
    ]


def test_a_line_that_begins_far_in_goes_on_less_far_in():
    page = whole_lines(BLOCK.format("highlight-default", " " * 40 + "a)\n"))
    assert "--in: 16" in page


def test_what_is_copied_is_what_was_written():
    for name in ("highlight-default", "highlight-ipython3", "highlight-yaml"):
        page = BLOCK.format(name, CODE)
        before, after = (
            BeautifulSoup(text, "html.parser").get_text()
            for text in (page, whole_lines(page))
        )
        assert before == after


def test_no_line_ends_within_an_option():
    option = '<span class="o">--</span><span class="n">output</span>'
    page = whole_lines(BLOCK.format("highlight-default", f"python {option} a\n"))
    assert f'<span class="whole">{option}</span>' in page


def test_commands_and_outputs_stay_as_they_are():
    for name in (
        "highlight-bash",
        "highlight-text",
        "output text_plain highlight-none",
    ):
        page = BLOCK.format(name, CODE)
        assert whole_lines(page) == page
