"""A larger model that begins by doing exactly what a smaller one does.

A model of 22 million parameters takes long to find out what a digit looks like, and a
shipped one of 1.5 million knows. So it is grown from it, as Net2Net grows networks
(Chen, Goodfellow and Shlens, arXiv 1511.05641): the weights of the small model become a
block of those of the large one. What is new hears everything and says nothing yet:

- a matrix that writes to the residual stream is zero beside its block, so new channels,
  heads, hidden units and layers change nothing;
- all others keep the random weights of a new model beside theirs, so that every new
  weight has a gradient from the first or the second step on;
- a norm divides by the root mean square over all channels, of which the new ones are
  zero: its weights are divided by the root of how much wider the stream is.
"""

import re
from math import sqrt

import torch
from torch import Tensor, nn

_WRITERS = re.compile(
    r"(o_proj|down_proj|attn\.proj|merger\.mlp\.2|patch_embed\.proj|embed_tokens)\.\w+$"
)
"""Parameters whose output is added to the residual stream, or is its beginning."""

_LAYER = re.compile(r"(layers|blocks)\.(\d+)\.")


@torch.no_grad()
def grow(known: nn.Module, model: nn.Module) -> nn.Module:
    """Gives a larger model the function of a smaller one.

    Args:
        known: A Qwen2.5-VL, of the shape :func:`~vgpo.testbed.model.tiny_config` gives.
        model: A new one, of the same vocabulary, at least as wide and deep; changed in
            place. Heads have to be of the same size, which that function sees to.

    Returns:
        ``model``. Its logits are those of ``known``, but for rounding and the norms'
        epsilon.

    Raises:
        ValueError: ``model`` is narrower, has fewer layers, or another vocabulary.
    """
    small, large = dict(known.named_parameters()), dict(model.named_parameters())
    places = {name: _place(name, known.config, model.config) for name in small}
    for place in places.values():
        if place not in large:
            raise ValueError(f"model has fewer layers than known: no {place}")
    taken = set(places.values())
    for name, parameter in large.items():
        # A layer that is new reads, and adds nothing.
        if name not in taken and _WRITERS.search(name):
            parameter.zero_()
    for name, parameter in small.items():
        _grow_one(name, parameter, large[places[name]])
    return model


def _place(name: str, small, large) -> str:
    """The name that a parameter of the small model has in the large one."""
    found = _LAYER.search(name)
    if not found:
        return name
    kind, number = found[1], int(found[2])
    if kind == "layers":
        # New layers come before each, so that the last, whose attention is what studies
        # look at, is the last of the small one.
        depths = large.text_config, small.text_config
        deep, shallow = (config.num_hidden_layers for config in depths)
        number = max(number, (number + 1) * deep // shallow - 1)
    elif number == small.vision_config.depth - 1:
        # The last one looks at the whole picture, the others at windows.
        number = large.vision_config.depth - 1
    return f"{name[: found.start()]}{kind}.{number}.{name[found.end() :]}"


def _grow_one(name: str, small: Tensor, large: Tensor) -> None:
    parts = [1] * small.ndim
    if "attn.qkv" in name:
        parts[0] = 3  # queries, keys and values, below one another
    if name.endswith("merger.mlp.0.weight"):
        parts[1] = 4  # the four patches of an image token, beside one another
    wider = any(s > t for s, t in zip(small.shape, large.shape, strict=True))
    other_words = name.endswith("embed_tokens.weight") and len(small) != len(large)
    if wider or other_words:
        raise ValueError(
            f"model cannot hold {name}: {tuple(large.shape)} for {tuple(small.shape)}"
        )
    if _WRITERS.search(name):
        large.zero_()
    if "norm" in name or "ln_q" in name:
        small = small / sqrt(len(large) / len(small))
    rows = [
        _rows(s, t, part)
        for s, t, part in zip(small.shape, large.shape, parts, strict=True)
    ]
    large[torch.meshgrid(*rows, indexing="ij")] = small.to(large)


def _rows(small: int, large: int, parts: int) -> Tensor:
    """Where ``small`` entries lie among ``large``: at the beginning of each part."""
    step = large // parts
    starts = step * torch.arange(parts)
    return (starts[:, None] + torch.arange(small // parts)).flatten()
