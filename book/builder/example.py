"""The views of the package that pages of the book can be touched on.

A page asks for one by a comment of its own line, ``<!-- explorer: example -->`` or
``<!-- explorer: memory -->``. It is made anew in every build, so it is what the package
shows today.
"""

import re

from book.builder import BuildError

MARKER = "<!-- explorer: example -->"

_COMMENT = re.compile(r"^<!-- explorer: (\w+) -->$", re.MULTILINE)

# Longer than any run of them in a script, and no fence of a page.
_FENCE = "~" * 12


def with_example(text: str) -> str:
    """A page's Markdown with views in the place of its comments.

    Raises:
        BuildError: There is no such view, or its HTML would end the block it stands
            in.
    """

    def block(found: re.Match) -> str:
        if found[1] not in _VIEWS:
            raise BuildError(f"explorer: there is no view {found[1]!r}")
        fragment = _VIEWS[found[1]]().fragment()
        if _FENCE in fragment:
            raise BuildError(
                f"the {found[1]} view holds {_FENCE}, which ends its block"
            )
        return f"{_FENCE}{{raw}} html\n{fragment}\n{_FENCE}"

    return _COMMENT.sub(block, text)


def example():
    """One question of the small world, answered by the shipped model: focus, gate,
    attention of all layers, and the signals of other methods."""
    import vgpo
    from vgpo.testbed import World, load_tiny

    model, processor = load_tiny()
    asked = World().example(3, seed=60, split="heldout", family="sum")
    scores = vgpo.score(model, processor, asked.image, asked.question, layers="all")
    ids = scores.token_ids.tolist()
    signals = vgpo.signals(model, processor, asked.image, asked.question, ids)
    kept = signals[["log_prob", "entropy", "k3", "contrast"]]
    return scores.view(columns=kept, title="One answer of the small world's model")


def memory():
    """What training takes on a card, with sliders."""
    from vgpo.memory.page import memory_page

    return memory_page()


_VIEWS = {"example": example, "memory": memory}
