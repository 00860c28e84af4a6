"""A view in one piece: what is inside, what is escaped, what a browser makes of it."""

import base64
import html
import json
import re
import zlib

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from vgpo.explorer.page import View, asset, pack, page, picture_address, safe_json

HOSTILE = [
    "</script><script>window.bad = 1</script>",
    "<!-- <script>",
    "<img src=x onerror='window.bad = 1'>",
    "\u2028\u2029 ' \" \\ $x$ \\(y\\)",
    "é漢🐈",
]


# Escaping -------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_data_come_back_as_they_were_and_hold_no_markup(text):
    written = safe_json({"token": text})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {"token": text}


def test_numbers_that_json_has_no_form_for_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        View("v", "", data={"x": float("nan")}).fragment()


def test_a_title_is_text():
    html = View("<b>&\"'", "").page()
    assert "<b>" not in html
    assert html.count("&lt;b&gt;&amp;&quot;&#x27;") == 3  # title, heading, label


def test_an_asset_is_a_name_in_the_folder(tmp_path):
    with pytest.raises(ValueError, match="name of a file"):
        asset("../page.py")
    with pytest.raises(FileNotFoundError):
        View("v", "", scripts=("none.js",)).fragment()


def test_start_is_the_name_of_a_function():
    with pytest.raises(ValueError, match="alert"):
        View("v", "", start="alert(1);")


# What it carries ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "int32", "float32"])
def test_packed_arrays_are_zlib_and_little_endian(kind):
    values = np.arange(24).reshape(2, 3, 4).astype(kind)
    for given in (values, values.astype(values.dtype.newbyteorder(">"))):
        packed = pack(given)
        data = zlib.decompress(base64.b64decode(packed["deflate"]))
        there = np.frombuffer(data, np.dtype(kind).newbyteorder("<"))
        assert packed["type"] == kind
        np.testing.assert_array_equal(there.reshape(packed["shape"]), values)


def test_types_a_browser_has_no_array_for_are_refused():
    with pytest.raises(ValueError, match="float64"):
        pack(np.zeros(3))


def test_pictures_are_scaled_down_and_photographs_become_jpeg():
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8)
    photograph = Image.fromarray(noise).resize((1800, 1200), Image.Resampling.BICUBIC)
    assert picture_address(photograph).startswith("data:image/jpeg")
    drawn = picture_address(Image.new("RGBA", (4000, 10), (255, 0, 0, 0)), longest=400)
    assert drawn.startswith("data:image/png")


def test_a_notebook_gets_html_text_and_a_picture():
    view = View("A title", "<p>x</p>", text="in words", picture=b"\x89PNG")
    bundle = view._repr_mimebundle_()
    assert bundle["text/html"] == view._repr_html_() == view.fragment()
    assert bundle["text/plain"] == "in words"
    assert base64.b64decode(bundle["image/png"]) == b"\x89PNG"
    assert repr(view) == "View('A title')"


def test_the_same_view_has_the_same_bytes_and_another_has_another_name():
    one, same, other = (View("v", "<p></p>", data={"n": n}) for n in (1, 1, 2))
    assert one.fragment() == same.fragment()
    names = [
        re.search(r'data-vgpo-view="(\w+)"', v.fragment())[1] for v in (one, other)
    ]
    assert names[0] != names[1]


def test_markdown_takes_a_view_for_one_piece_of_html():
    """As nbconvert writes it into a page of Markdown; an empty line would end it."""
    body = "<pre>one\n\n \n\ntwo</pre>"
    view = View("a\n\ntitle", body, "tokenView", scripts=("tokens.js",))
    text = view.fragment()
    [block] = MarkdownIt().parse(f"before\n\n{text}\n\nafter")[3:-3]
    assert (block.type, block.content.strip()) == ("html_block", text)
    assert html.unescape(text).count(body) == 1


def test_where_no_script_runs_a_view_says_that_it_could():
    assert "trusted" in View("v", "<p>still</p>", "tokenView").fragment()
    assert "trusted" not in View("v", "<p>all there is</p>").fragment()


def test_a_saved_page_may_load_nothing(tmp_path):
    path = View("v", "").save(tmp_path / "folder" / "v.html")
    text = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert set(re.findall(r"""\b(?:src|href)=["']?(\w+:)""", text)) == {"data:"}
    assert "://" not in text


# In a browser ---------------------------------------------------------------------

PROBE = {
    "texts": HOSTILE,
    "packed": pack(np.array([[1.5, -2.0], [0.25, 3e8]], dtype=np.float32)),
}


@pytest.fixture
def probe(monkeypatch):
    """A view that shows what its data have become; made of no file."""
    import vgpo.explorer.page as module

    code = """
    async function probe(root, data) {
      const array = await unpack(data.packed);
      root.append(element("ul", {}, data.texts.map((t) => element("li", {}, t))));
      root.append(element("output", { id: uniqueId("out") },
        `${array.shape} ${[...array.values]}`));
    }
    function keys(root) {
      root.append(element("button", { id: "touch" }, "touch"));
    }
    function themed(root) {
      root.append(element("output", { class: "times" }, "0"));
      onThemeChange(root, () => { root.querySelector(".times").textContent += "+"; });
    }
    async function broken() { throw new Error("no such thing"); }
    """
    real = module.asset
    monkeypatch.setattr(module, "asset", lambda n: code if n == "probe.js" else real(n))
    return lambda start="probe": View(
        "A probe", "<p class='still'>still</p>", start, PROBE, scripts=("probe.js",)
    )


def test_texts_and_arrays_arrive_whole_in_the_page(browser, probe, tmp_path):
    opened = browser.open(probe().save(tmp_path / "v.html"))
    assert opened.texts("li") == HOSTILE
    assert opened.texts("output") == ["2,2 1.5,-2,0.25,300000000"]
    assert opened.evaluate("window.bad") is None
    assert opened.style(".vgpo-still", "display") == "none"
    opened.check()


def test_one_view_shown_twice_works_in_both_places(browser, probe, tmp_path):
    path = tmp_path / "v.html"
    path.write_text(page("Twice", [probe(), probe()]), encoding="utf-8")
    opened = browser.open(path)
    assert len(opened.texts("output")) == 2
    ids = opened.evaluate("[...document.querySelectorAll('[id]')].map(x => x.id)")
    assert len(set(ids)) == len(ids) == 2
    opened.check()


def test_a_notebook_that_runs_scripts_anew_starts_the_view(browser, probe, tmp_path):
    """As JupyterLab does it: HTML is set, which runs nothing, and then each script is
    replaced by a copy, which runs; a cell that is run again does so once more."""
    path = tmp_path / "notebook.html"
    path.write_text("<body data-jp-theme-light='true'><div></div>", encoding="utf-8")
    opened = browser.open(path)
    html = json.dumps(probe().fragment())
    for times in (1, 2):
        opened.evaluate(
            f"(() => {{ const host = document.createElement('div');"
            f"host.innerHTML = {html};"
            "for (const script of host.querySelectorAll('script')) {"
            "const copy = document.createElement('script');"
            "for (const { name, value } of script.attributes)"
            "copy.setAttribute(name, value);"
            "copy.textContent = script.textContent; script.replaceWith(copy); }"
            "document.body.append(host); })()"
        )
        opened.wait(f"document.querySelectorAll('output').length === {times}")
    assert opened.evaluate("document.querySelectorAll('.vgpo-live').length") == 2
    opened.check()


def test_of_views_that_are_thrown_away_nothing_stays(browser, probe, tmp_path):
    """A cell that is run again throws its view away; the page, and all that listens to
    its theme, stays."""
    opened = browser.open(probe("themed").save(tmp_path / "v.html"))
    opened.prefer("light")
    opened.evaluate(
        "(() => { const now = () => document.querySelector('.vgpo-view');"
        "const html = now().outerHTML, parser = document.createRange();"
        "window.again = () => {"
        "now().replaceWith(parser.createContextualFragment(html));"
        "const made = now();"
        "delete made.dataset.vgpoStarted; delete made.dataset.vgpoReady;"
        "made.querySelectorAll('output').forEach(one => one.remove());"
        "const script = made.querySelector('script:not([type])');"
        "const copy = document.createElement('script');"
        "copy.textContent = script.textContent; script.replaceWith(copy); }; })()"
    )
    for _ in range(4):
        opened.evaluate("window.again()")
        opened.wait("document.querySelector('[data-vgpo-ready] .times')")
    assert opened.alive("HTMLDivElement", ".vgpo-view") == 1
    opened.prefer("dark")
    opened.wait("document.querySelector('.times').textContent === '0+'")
    opened.check()


def test_chords_are_the_notebooks_and_plain_keys_the_views(browser, probe, tmp_path):
    """JupyterLab hears keys at the document and leaves those of marked elements."""
    opened = browser.open(probe("keys").save(tmp_path / "v.html"))
    opened.evaluate(
        "(() => { window.heard = []; document.addEventListener('keydown', (event) => {"
        "if (!event.target.hasAttribute('data-lm-suppress-shortcuts'))"
        "window.heard.push(event.key); event.preventDefault(); }, true);"
        "document.querySelector('#touch').focus(); })()"
    )
    for key in ("x", "ArrowDown", "Enter"):
        opened.key(key)
    opened.key("ArrowDown", held=["Shift"])
    assert opened.evaluate("window.heard") == []
    opened.key("s", held=["Control"])
    opened.key("s", held=["Meta"])
    opened.key("Enter", held=["Shift"])
    opened.key("x")
    assert opened.evaluate("window.heard") == ["s", "s", "Enter"]
    assert opened.keys_for_others() == []


def test_where_the_script_fails_the_body_stays_and_the_console_says_why(
    browser, probe, tmp_path
):
    opened = browser.open(probe("broken").save(tmp_path / "v.html"))
    assert opened.style(".vgpo-still", "display") == "block"
    with pytest.raises(AssertionError, match="no such thing"):
        opened.check()


def test_a_request_is_noticed(browser, tmp_path):
    path = tmp_path / "v.html"
    path.write_text("<img src='http://127.0.0.1:9/none.png'>", encoding="utf-8")
    opened = browser.open(path)
    opened.complaints.clear()  # that nobody answers is another matter
    with pytest.raises(AssertionError, match=r"127\.0\.0\.1:9/none\.png"):
        opened.check()


@pytest.mark.parametrize(
    ("attributes", "system", "dark"),
    [
        ("", "dark", True),
        ("", "light", False),
        ("data-theme='dark'", "light", True),
        ("data-theme='light'", "dark", False),
    ],
)
def test_colours_follow_the_page_before_the_system(
    browser, tmp_path, attributes, system, dark
):
    html = View("v", "<p>x</p>").page().replace("<html", f"<html {attributes}", 1)
    path = tmp_path / "v.html"
    path.write_text(html, encoding="utf-8")
    opened = browser.open(path)
    opened.prefer(system)
    ink = "rgb(227, 230, 234)" if dark else "rgb(31, 35, 40)"
    assert opened.style(".vgpo-view", "color") == ink
    opened.check()


def test_colours_follow_jupyterlab(browser, tmp_path):
    opened = browser.open(View("v", "<p>x</p>").save(tmp_path / "v.html"))
    opened.prefer("light")
    opened.evaluate("document.body.dataset.jpThemeLight = 'false'")
    assert opened.style(".vgpo-view", "color") == "rgb(227, 230, 234)"
    opened.evaluate("document.body.dataset.jpThemeLight = 'true'")
    opened.prefer("dark")
    assert opened.style(".vgpo-view", "color") == "rgb(31, 35, 40)"
