"""The token view: what goes into it, and what a reader can do with it."""

import base64
import json
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from vgpo.explorer.page import View
from vgpo.explorer.tokens import Answer, token_view

WORDS = ["<think>", " red", " =", " 5", ".", "\n", "", "é", " </script>", "<b>x</b>"]
COLOURS = [(200, 40, 40), (40, 160, 60), (50, 80, 220), (230, 200, 60)]
LOOKS = [0, 3, 1, 2, 0, 0, 1, 2, 3, 3]
"""Which of four cells each token looks at, in layer 5; in layer 2, the next one."""


def picture() -> Image.Image:
    image = Image.new("RGB", (80, 80))
    for cell, colour in enumerate(COLOURS):
        left, top = 40 * (cell % 2), 40 * (cell // 2)
        image.paste(colour, (left, top, left + 40, top + 40))
    return image


def answer(name: str = "mine", words=tuple(WORDS), **changes) -> Answer:
    """Ten tokens and two layers; each token looks at one cell of a 2 x 2 grid."""
    count = len(words)
    maps = np.zeros((2, count, 2, 2))
    for t, cell in enumerate(LOOKS[:count]):
        maps[0, t].flat[(cell + 1) % 4] = 0.2
        maps[1, t].flat[cell] = 0.1 + 0.05 * t
    shares = np.zeros((2, count, 3))
    shares[..., 0] = maps.sum(axis=(2, 3))
    shares[..., 1] = 0.25
    shares[..., 2] = 1 - shares[..., 0] - 0.25
    focus = np.linspace(0.4, 0.6, count)
    return Answer(
        **{
            "name": name,
            "tokens": words,
            "measures": {
                "focus_token": focus,
                "advantage": np.linspace(-1, 1, count),
                "mine <i>": np.where(np.arange(count) == 4, np.nan, 1.0),
            },
            "gate": focus > 0.5,
            "shares": shares,
            "layers": (2, 5),
            "pictures": [picture()],
            "maps": [maps],
            **changes,
        }
    )


def unpacked(packed: dict) -> np.ndarray:
    data = zlib.decompress(base64.b64decode(packed["deflate"]))
    return np.frombuffer(data, packed["type"]).reshape(packed["shape"])


# What goes in ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": []}, "has none"),
        ({"measures": {"entropy": [1.0]}}, "entropy: need 10 values"),
        ({"gate": [True]}, "gate: need 10 values"),
        ({"shares": np.zeros((1, 10, 3))}, r"shares: need the shape \(2, 10, 3\)"),
        ({"maps": [np.zeros((2, 10, 4))]}, "maps: the one of grid 0"),
        ({"maps": [np.zeros((3, 10, 2, 2))]}, "maps: the one of grid 0"),
        ({"pictures": []}, "1 grids cannot lie on 0 pictures"),
        ({"maps": [np.full((2, 10, 2, 2), np.nan)]}, "maps: they hold a number"),
        ({"measures": {}, "shares": None}, "measures: need one"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        answer(**changes)


def test_unknown_measures_and_no_answers_are_refused():
    with pytest.raises(ValueError, match="'entropy' is not among"):
        token_view(answer(), measure="entropy")
    with pytest.raises(ValueError, match="need one"):
        token_view([])


def test_maps_keep_a_255th_of_each_tokens_largest_value():
    drawn = np.random.default_rng(0).random((1, 10, 6, 7)) ** 4
    written = token_view(answer(maps=[drawn])).data["answers"][0]["maps"]
    back = unpacked(written["values"]) * unpacked(written["peaks"])[..., None] / 255
    error = np.abs(back.reshape(drawn.shape) - drawn)
    assert (error <= drawn.max(axis=(2, 3), keepdims=True) / 255).all()


def test_too_many_layers_become_their_mean_and_then_cells_are_joined():
    drawn = np.random.default_rng(0).random((2, 10, 5, 4))
    whole = answer(maps=[drawn])
    for limit, layers, grid, note in (
        (400, 2, [5, 4], ""),
        (399, 1, [5, 4], "means over the layers"),
        (199, 1, [3, 2], "2 x 2 image tokens"),
    ):
        data = token_view(whole, map_bytes=limit).data["answers"][0]
        assert data["maps"]["values"]["shape"][0] == layers
        assert data["maps"]["grids"] == [grid]
        assert data["fine"] == [[5, 4]]
        assert note in data["note"] and bool(note) == bool(data["note"])
        back = unpacked(data["maps"]["values"]) * (
            unpacked(data["maps"]["peaks"])[..., None] / 255
        )
        # Nothing is lost from a token's share of attention.
        expected = drawn.sum(axis=(2, 3)) if layers == 2 else drawn.mean(0).sum((1, 2))
        np.testing.assert_allclose(
            back.sum(axis=2), expected.reshape(layers, 10), rtol=0.02
        )


def long_view() -> View:
    """3,000 tokens over 1,200 image tokens, one layer."""
    rng = np.random.default_rng(0)
    count, grid = 3000, (30, 40)
    # Independent exponentials: noisier, so larger when deflated, than attention is.
    maps = rng.exponential(size=(1, count, *grid)).astype(np.float32)
    maps /= maps.sum(axis=(2, 3), keepdims=True) * 2
    shares = np.full((1, count, 3), 1 / 3)
    noise = rng.integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    large = answer(
        words=[f" word{t}" for t in range(count)],
        measures={name: rng.random(count) for name in ("focus_token", "entropy")},
        gate=None,
        shares=shares,
        layers=(27,),
        maps=[maps],
        pictures=[Image.fromarray(noise)],
    )
    return token_view(large)


TOUCHED = """(() => {
  window.touched = new Set();
  new MutationObserver((records) => {
    for (const record of records) window.touched.add(record.target);
  }).observe(document.body,
    { subtree: true, childList: true, attributes: true, characterData: true });
})()"""
"""Counts the nodes that scripts change from now on."""


@pytest.mark.slow
def test_three_thousand_tokens_and_a_large_picture_can_be_worked(browser, tmp_path):
    path = long_view().save(tmp_path / "large.html")
    size = path.stat().st_size
    print(f"{size:,} bytes")
    assert 1e6 < size < 10e6
    page = browser.open(path)
    page.evaluate(TOUCHED)

    def touched() -> int:
        count = page.evaluate("window.touched.size")
        page.evaluate("window.touched.clear()")
        print(f"{count} nodes")
        return count

    # However many tokens there are, one step changes the two that it leaves and
    # enters, and what is told of them.
    page.hover(token(1500))
    assert which(page).endswith("token 1501 of 3000")
    assert 0 < touched() < 30
    page.click(token(1500))
    touched()
    for step in (1502, 1503, 1504):
        page.key("ArrowRight")
        page.hover("h1")
        assert which(page).endswith(f"token {step} of 3000")
        assert 0 < touched() < 30
    page.check()


def test_without_a_script_the_text_and_its_numbers_are_there_escaped():
    view = token_view(answer(), facts=[("a <b>", "1 & 2")], picture=b"png")
    assert "<b>x" not in view.body and "&lt;b&gt;x&lt;/b&gt;" in view.body
    assert "a &lt;b&gt;: 1 &amp; 2" in view.body
    assert "mine &lt;i&gt;" in view.body
    assert view.body.count("<tr>") == 1 + len(WORDS)
    assert "data:image/png;base64,cG5n" in view.body
    assert view._repr_mimebundle_()["text/plain"] == "".join(WORDS)


# In a browser ---------------------------------------------------------------------


@pytest.fixture
def opened(browser, tmp_path):
    page = browser.open(token_view(answer()).save(tmp_path / "view.html"))
    yield page
    page.check()


def token(t: int) -> str:
    return f'.vgpo-token[data-t="{t}"]'


def veil(page, pane: int = 0) -> list[int]:
    """How dark each cell of the map is, 0 where the picture is as it is."""
    return page.evaluate(
        f"(c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        f".filter((_, i) => i % 4 === 3))"
        f"(document.querySelectorAll('.vgpo-map')[{pane}])"
    )


def lit(page, pane: int = 0) -> int:
    """The cell that is darkened least."""
    shades = veil(page, pane)
    assert shades.count(min(shades)) == 1
    return shades.index(min(shades))


def which(page) -> str:
    return page.texts(".vgpo-which")[0]


def test_tokens_are_shown_as_text_whatever_they_hold(opened):
    texts = opened.texts(".vgpo-token")
    assert texts[:5] == WORDS[:5]
    assert texts[5:7] == ["⏎\n", "·"]
    assert texts[7:] == WORDS[7:]
    assert opened.evaluate("document.querySelectorAll('.vgpo-token b').length") == 0


def test_pointing_shows_where_a_token_looks_and_leaving_shows_the_mean(opened):
    assert which(opened) == "mean over 10 tokens"
    opened.choose('[data-choice="map scale"]', "token")
    opened.choose(".vgpo-layer input", 2)  # layer 5
    for t in (1, 3, 9):
        opened.hover(token(t))
        assert which(opened).endswith(f"token {t + 1} of 10")
        assert lit(opened) == LOOKS[t]
        assert min(veil(opened)) == 0
    opened.hover("h1")
    assert which(opened) == "mean over 10 tokens"


def test_a_click_holds_a_token_and_a_second_click_lets_go(opened):
    opened.click(token(3))
    opened.hover("h1")
    assert which(opened).endswith("token 4 of 10")
    assert opened.evaluate(
        "[...document.querySelectorAll('[aria-selected=true]')].map(x => x.dataset.t)"
    ) == ["3"]
    assert "Token 4 of 10, 5" in opened.texts("[role=status]")[0]
    opened.hover(token(1))  # a preview does not lose what is held
    assert which(opened).endswith("token 2 of 10")
    opened.click(token(3))
    opened.hover("h1")
    assert which(opened) == "mean over 10 tokens"


def test_keys_step_through_the_text(opened):
    opened.evaluate("document.querySelector('.vgpo-text').focus()")
    opened.key("ArrowRight")
    assert which(opened).endswith("token 1 of 10")
    opened.key("ArrowRight", 3)
    opened.key("ArrowLeft")
    assert which(opened).endswith("token 3 of 10")
    opened.key("End")
    opened.key("ArrowRight")
    assert which(opened).endswith("token 10 of 10")
    active = (
        "document.querySelector('.vgpo-text').getAttribute('aria-activedescendant')"
    )
    assert opened.evaluate(f"document.getElementById({active}).dataset.t") == "9"
    opened.key("Home")
    opened.key("ArrowDown")  # past the line break
    assert int(re.search(r"token (\d+)", which(opened))[1]) > 6
    opened.key("ArrowUp")
    assert int(re.search(r"token (\d+)", which(opened))[1]) <= 6
    opened.key("Escape")
    assert which(opened) == "mean over 10 tokens"


def test_keys_go_on_from_a_click_and_a_click_on_the_strip_finds_its_token(opened):
    opened.click(token(3))
    opened.key("ArrowRight")
    opened.hover("h1")
    assert which(opened).endswith("token 5 of 10")
    left, width = opened.evaluate(
        "(box => [box.left, box.width])"
        "(document.querySelector('.vgpo-strip').getBoundingClientRect())"
    )
    _, middle = opened.middle(".vgpo-strip")
    opened.click("", at=(left + width * 0.75, middle))
    assert which(opened).endswith("token 8 of 10")


def test_on_paper_all_text_is_there_in_light_colours(opened):
    opened.send(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    opened.settle()
    assert luminance(painted(opened, ".vgpo-token", "color")) < 0.1
    assert opened.style(".vgpo-text", "max-height") == "none"
    assert opened.style(".vgpo-choice", "display") == "none"


def test_the_slider_goes_through_the_layers(opened):
    opened.click(token(1))
    opened.choose('[data-choice="map scale"]', "token")
    assert opened.texts(".vgpo-layer output") == ["mean of 2"]
    share = {}
    for place, layer in ((1, "2"), (2, "5")):
        opened.choose(".vgpo-layer input", place)
        assert opened.texts(".vgpo-layer output") == [layer]
        assert lit(opened) == (LOOKS[1] + (place == 1)) % 4
        share[layer] = opened.texts(".vgpo-of-image b")[0]
    assert share == {"2": "20 %", "5": "15 %"}


def test_shares_are_those_that_went_in(opened):
    opened.click(token(9))
    opened.choose(".vgpo-layer input", 2)
    assert opened.texts(".vgpo-parts b") == ["55 %", "25 %", "20 %"]
    widths = opened.evaluate(
        "[...document.querySelectorAll('.vgpo-bar span')]"
        ".map(x => Math.round(parseFloat(x.style.width)))"
    )
    assert widths == [55, 25, 20]
    assert opened.texts("figcaption") == ["55 % of the attention"]


def test_a_fixed_scale_leaves_a_faint_look_faint(opened):
    opened.choose(".vgpo-layer input", 2)
    opened.hover(token(0))  # 0.10 of 0.55
    faint = min(veil(opened))
    opened.choose('[data-choice="map scale"]', "token")
    opened.hover(token(0))
    assert min(veil(opened)) == 0
    assert faint == pytest.approx(205 * (1 - 0.1 / 0.55), abs=3)


def parts(page) -> list[float]:
    return page.evaluate(
        "[...document.querySelectorAll('.vgpo-token')]"
        ".map(x => parseFloat(x.style.getPropertyValue('--part')))"
    )


def test_another_measure_tints_anew(opened):
    np.testing.assert_allclose(parts(opened), np.linspace(0, 100, 10), atol=0.1)
    opened.choose('[data-choice="tint"]', "advantage")
    expected = np.abs(np.linspace(-100, 100, 10))
    np.testing.assert_allclose(parts(opened), expected, atol=0.1)
    minus = opened.evaluate("document.querySelectorAll('.vgpo-minus').length")
    assert minus == 5
    opened.choose('[data-choice="tint"]', "mine <i>")
    opened.click(token(4))
    assert opened.texts("dd.vgpo-chosen") == ["–"]
    opened.choose('[data-choice="tint"]', "image")
    opened.choose(".vgpo-layer input", 2)
    np.testing.assert_allclose(parts(opened), np.linspace(0, 100, 10), atol=0.5)


def test_gated_tokens_are_underlined(opened):
    assert "underline" in opened.style(token(9), "text-decoration-line")
    assert opened.style(token(0), "text-decoration-line") == "none"


def test_the_table_holds_every_number(opened):
    assert opened.texts("table td") == opened.texts(".vgpo-still td")  # not made yet
    opened.click(".vgpo-tokens summary")
    rows = opened.evaluate(
        "[...document.querySelectorAll('.vgpo-table tbody tr')]"
        ".map(row => [...row.children].map(cell => cell.textContent))"
    )
    assert len(rows) == 10
    assert rows[9][:3] == ["10", "<b>x</b>", "0.600"]


def luminance(colour: list[float]) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour
    ]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def painted(page, selector: str, name: str) -> list[float]:
    """A colour as the browser paints it, over nothing."""
    return page.evaluate(
        "(colour => { const pen = new OffscreenCanvas(1, 1).getContext('2d');"
        "pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);"
        "return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map(x => x / 255) })"
        f"({json.dumps(page.style(selector, name))})"
    )


def contrast(one: list[float], other: list[float]) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_every_tint(opened, scheme):
    opened.prefer(scheme)
    opened.choose('[data-choice="tint"]', "advantage")
    ground = painted(opened, "body", "background-color")
    assert (luminance(ground) < 0.1) == (scheme == "dark")
    for t in (0, 9):  # the fullest of either colour
        background = painted(opened, token(t), "background-color")
        assert background != ground
        assert contrast(painted(opened, token(t), "color"), background) >= 4.5
    quiet = ".vgpo-which .vgpo-help .vgpo-about .vgpo-of-generated .vgpo-numbers>dt"
    for selector in [*quiet.split(), ".vgpo-of-image", ".vgpo-of-query"]:
        assert contrast(painted(opened, selector, "color"), ground) >= 4.5, selector
    for selector in (".vgpo-image", ".vgpo-query"):
        mark = painted(opened, selector, "background-color")
        assert contrast(mark, ground) >= 3, selector


def test_in_jupyterlab_keys_and_widths_are_its_own(opened):
    assert opened.keys_for_others() == []
    opened.dress_as_lab()
    opened.settle()
    wide = "(one => one.scrollWidth > one.clientWidth || one.clientHeight > 30)"
    labels = "[...document.querySelectorAll('.vgpo-numbers > dt')]"
    assert opened.evaluate(f"{labels}.length") > 2
    assert opened.evaluate(f"{labels}.filter{wide}.length") == 0
    assert opened.style(".vgpo-numbers > dt", "float") == "none"


@pytest.mark.parametrize("size", [(40, 120), (120, 40), (900, 1400)])
def test_a_tall_picture_leaves_room_for_what_is_said_of_it(browser, tmp_path, size):
    tall = answer(pictures=[Image.new("RGB", size, "white")])
    page = browser.open(token_view(tall).save(tmp_path / "view.html"))
    page.wait("document.querySelector('.vgpo-picture img').complete")
    page.settle()
    boxes = [
        page.evaluate(
            f"(box => [box.width, box.height])"
            f"(document.querySelector('{selector}').getBoundingClientRect())"
        )
        for selector in (".vgpo-picture img", ".vgpo-map")
    ]
    (width, height), _ = boxes
    assert 0 < height <= 322 and width <= 320
    assert width / height == pytest.approx(size[0] / size[1], rel=0.03)
    np.testing.assert_allclose(boxes[0], boxes[1], atol=0.5)


def test_a_phone_shows_it_without_sideways_scrolling(browser, tmp_path):
    words = ["<think>", *["supercalifragilistic" * 5] * 9]
    view = token_view(
        [answer("one", words=words), answer("a " + "long " * 30 + "name", words=words)],
        facts=[("a long name of a fact " * 3, "0.123 [0.1, 0.2]")],
    )
    page = browser.open(view.save(tmp_path / "view.html"))
    for width in (320, 420, 700, 1200):
        page.resize(width, 800)
        page.settle()
        assert page.sideways() <= 0, width
    page.check()


def test_answers_beside_each_other_move_together_if_their_tokens_are_the_same(
    browser, tmp_path
):
    others = [answer("before"), answer("after"), answer("other", words=WORDS[:4])]
    others[2] = answer(
        "other",
        words=WORDS[:4],
        gate=None,
        measures={"entropy": np.arange(4.0)},
    )
    page = browser.open(token_view(others).save(tmp_path / "view.html"))
    assert page.texts("h4") == ["before", "after"]
    page.click(token(3))
    page.hover("h1")
    assert page.texts(".vgpo-which") == ["5 token 4 of 10"] * 2
    page.choose('[data-choice="beside"]', 2)
    assert page.texts("h4") == ["before", "other"]
    page.click(token(3))
    page.hover("h1")
    assert page.texts(".vgpo-which") == ["5 token 4 of 10", "mean over 4 tokens"]
    page.choose('[data-choice="beside"]', "")
    assert page.texts("h4") == ["before"]
    page.check()


def test_grids_that_do_not_lie_on_the_pictures_stand_beside_them(browser, tmp_path):
    loose = answer(aligned=False, pictures=[picture(), picture()])
    page = browser.open(token_view(loose).save(tmp_path / "view.html"))
    assert page.evaluate("document.querySelectorAll('.vgpo-tokens img').length") == 2
    assert page.style(".vgpo-map", "position") == "static"
    page.hover(token(3))
    page.check()


def test_several_pictures_share_one_scale(browser, tmp_path):
    first, second = np.zeros((1, 10, 1, 2)), np.zeros((1, 10, 2, 1))
    first[..., 0, 1], second[..., 1, 0] = 0.1, 0.2
    two = answer(maps=[first, second], pictures=[picture(), picture()])
    page = browser.open(token_view(two).save(tmp_path / "view.html"))
    page.hover(token(2))
    assert page.texts("figcaption") == [
        "10 % of the attention",
        "20 % of the attention",
    ]
    assert veil(page, 1) == [205, 0]
    assert veil(page, 0)[0] == 205 and 95 < veil(page, 0)[1] < 110
    page.check()


def test_joined_cells_lie_where_their_image_tokens_do(browser, tmp_path):
    drawn = np.zeros((1, 10, 3, 5))
    drawn[..., 2, 4] = 0.5
    view = token_view(answer(maps=[drawn]), map_bytes=100)
    page = browser.open(view.save(tmp_path / "view.html"))
    box = page.evaluate(
        "(() => { const whole = document.querySelector('.vgpo-picture')"
        ".getBoundingClientRect(), map = document.querySelector('.vgpo-map')"
        ".getBoundingClientRect();"
        "return [map.width / whole.width, map.height / whole.height]; })()"
    )
    # Three cells of two stand for five columns, two for three rows.
    assert box == pytest.approx([6 / 5, 4 / 3], rel=0.03)
    page.check()
