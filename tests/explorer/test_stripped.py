"""Views where scripts and styles are taken out, as GitHub does with a notebook."""

from html.parser import HTMLParser

import pytest

from tests.explorer.test_curves import runs
from tests.explorer.test_curves import view as curves
from tests.explorer.test_group import TOKENS
from tests.explorer.test_group import view as group
from tests.explorer.test_tokens import WORDS, answer
from vgpo.explorer.curves import curves_view
from vgpo.explorer.page import View
from vgpo.explorer.tokens import token_view

PNG = b"\x89PNG of a view"


class Stripped(HTMLParser):
    """What a reader meets: no script, no style sheet, no style, no handler.

    Attributes:
        tags: In their order.
        text: All that stands between them.
        sources: Of the pictures that have words for who cannot see them.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text, self.sources = "", []
        self._hidden = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        if tag in ("script", "style"):
            self._hidden = tag
        kept = {k: v for k, v in attrs if k != "style" and not k.startswith("on")}
        self.tags.append(tag)
        if tag == "img" and kept.get("alt"):
            self.sources.append(kept["src"])

    def handle_endtag(self, tag) -> None:
        if tag == self._hidden:
            self._hidden = ""

    def handle_data(self, data) -> None:
        if not self._hidden:
            self.text += data


def drawn_curves() -> View:
    return curves_view(runs(), "dapo", picture=PNG)


VIEWS = {
    "tokens": lambda: token_view(answer(), picture=PNG),
    "group": lambda: group(still=PNG),
    "curves": drawn_curves,
}


@pytest.mark.parametrize("make", VIEWS.values(), ids=VIEWS)
def test_a_picture_and_the_numbers_stay(make):
    view = make()
    left = Stripped(view.fragment())
    [source] = left.sources
    assert source.startswith("data:image/png;base64,")
    assert "vgpoReady" not in left.text and "{" not in left.text
    bundle = view._repr_mimebundle_()
    assert source.endswith(bundle["image/png"])


def test_tokens_and_curves_stay_as_tables_and_a_group_as_a_list():
    tokens = Stripped(VIEWS["tokens"]().fragment())
    assert tokens.tags.count("tr") == 1 + len(WORDS)
    assert "<b>x</b>" in tokens.text
    assert Stripped(drawn_curves().fragment()).tags.count("table") >= 2
    rollouts = Stripped(VIEWS["group"]().fragment())
    assert rollouts.tags.count("li") == len(TOKENS)
    # What stays without a tint: verdict, advantage and phi of each.
    assert rollouts.text.count("advantage ") == len(TOKENS)


def test_without_a_picture_given_there_is_none():
    for view in (token_view(answer()), group(), curves()):
        assert not Stripped(view.fragment()).sources
        assert "image/png" not in view._repr_mimebundle_()
