"""The example that the page "Where each token looks" can be touched on.

A page asks for it by a comment of its own line, ``<!-- explorer: example -->``. It is
measured and written anew in every build, so it is what the package shows today.
"""

from book.builder import BuildError

MARKER = "<!-- explorer: example -->"

# Longer than any run of them in a script, and no fence of a page.
_FENCE = "~" * 12


def with_example(text: str) -> str:
    """A page's Markdown with the example in the place of its comment.

    Raises:
        BuildError: The example's HTML would end the block it stands in.
    """
    if MARKER not in text:
        return text
    fragment = example().fragment()
    if _FENCE in fragment:
        raise BuildError(f"the example holds {_FENCE}, which ends its block")
    block = f"{_FENCE}{{raw}} html\n{fragment}\n{_FENCE}"
    return text.replace(MARKER, block)


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
