"""The page that can be touched: its example, and what it tells the reader to see."""

import base64
import zlib

import numpy as np
import pytest

from book.builder import example
from tests.conftest import ROOT
from vgpo.explorer.page import page
from vgpo.testbed import COLOURS

PAGE = (ROOT / "book" / "explorer.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def view():
    return example.example()


@pytest.fixture(scope="module")
def answer(view) -> dict:
    return view.data["answers"][0]


def unpacked(packed: dict) -> np.ndarray:
    data = zlib.decompress(base64.b64decode(packed["deflate"]))
    return np.frombuffer(data, packed["type"]).reshape(packed["shape"])


def values(tokens: list[str]) -> list[int]:
    """Where the chain takes a value from the picture: ``colour = value``."""
    colours = {f" {colour}" for colour in COLOURS}
    return [
        t for t in range(2, len(tokens)) if tokens[t - 2] in colours
        and tokens[t - 1] == " ="
    ]  # fmt: skip


def test_the_example_takes_the_place_of_its_comment(view):
    assert PAGE.count(example.MARKER) == 1
    filled = example.with_example(PAGE)
    assert example.MARKER not in filled
    assert view.fragment() in filled
    assert example.with_example("# Another page\n") == "# Another page\n"


def test_the_first_value_is_the_five_of_the_blue_tile(answer):
    tokens = answer["tokens"]
    assert tokens[1:4] == [" blue", " =", " 5"]
    assert " 5 + 5 =" in "".join(tokens)


def test_layer_2_looks_when_a_colour_is_named_and_layer_3_when_its_value_is_read(
    answer,
):
    shares = unpacked(answer["shares"])[..., 0] / 65_535
    maps = unpacked(answer["maps"]["values"])
    read = values(answer["tokens"])
    assert len(read) == 6  # tiles of the picture, in the order of the chain
    for tile, t in enumerate(read):
        assert maps[3, t].argmax() == tile
        assert shares[3, t] > 0.5 > shares[2, t]
        assert shares[2, t - 2] > 0.5
    added = "".join(answer["tokens"]).index(" 5 + 5")
    ends = np.cumsum([len(token) for token in answer["tokens"]])
    assert shares[:, int((ends <= added).sum())].mean() < 0.1


def test_focus_rises_before_a_value(answer):
    table = unpacked(answer["table"])
    at = dict(zip(answer["measures"], table, strict=True))
    read = np.array(values(answer["tokens"]))
    for name, shift in (("focus_token", -1), ("focus_prediction", 0)):
        rest = np.delete(at[name], read + shift)
        assert at[name][read + shift].min() > np.quantile(rest, 0.95)


def test_it_can_be_touched_in_a_page_with_a_theme(browser, view, tmp_path):
    path = tmp_path / "page.html"
    html = page("Book", [view]).replace("<html", '<html data-theme="dark"', 1)
    path.write_text(html, encoding="utf-8")
    opened = browser.open(path)
    opened.choose(".vgpo-layer input", 4)
    opened.click('.vgpo-token[data-t="3"]')
    assert opened.texts(".vgpo-which") == ["5 token 4 of 62"]
    opened.check()
