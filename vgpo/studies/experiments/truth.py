"""The truth about tokens, as signals that a method can ask for.

``reads``
    1 on tokens that take something from the image, 0 elsewhere.
``decides``
    1 on words that choose whether a tile is looked at, 0 elsewhere; only the
    look-away world has them.
``chance``
    A random number in [0, 1) per token, the same after resuming: what a placebo
    orders tokens by.

The first two need the column ``truth`` of :func:`with_truth`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor

from vgpo.models.probes.base import Scored, register_probe
from vgpo.seeds import mixed_seed
from vgpo.testbed import LookAwayExample, trace
from vgpo.testbed.images import TILE
from vgpo.testbed.questions import Example

COLUMN = "truth"


def with_truth(rows: Dataset, examples: Sequence[Example]) -> Dataset:
    """Rows to train on, with all that the truth of any completion follows from.

    Args:
        rows: One per example; ``prompt``, ``image`` and ``answer`` are kept of them.
        examples: What the rows ask.

    Returns:
        The three columns, and ``truth``, a text.

    Example:
        >>> from vgpo.testbed import World, make_dataset
        >>> example = World().example(0, seed=5)
        >>> row = with_truth(make_dataset(1, seed=5), [example])[0]
        >>> example_of(row).values == example.values
        True
    """
    about = [
        json.dumps(
            {
                "family": example.family,
                "question": example.question,
                "answer": example.answer,
                "rows": example.rows,
                "columns": example.columns,
                "colours": example.colours,
                "values": example.values,
                "given": _given(example),
            }
        )
        for example in examples
    ]
    kept = rows.select_columns(["prompt", "image", "answer"])
    return kept.add_column(COLUMN, about)


def _given(example: Example) -> list | None:
    return list(example.given) if isinstance(example, LookAwayExample) else None


def example_of(row: Mapping[str, Any]) -> Example:
    """The question of a row of :func:`with_truth`, over an empty picture of its size
    and without a chain."""
    about = json.loads(row[COLUMN])
    given = about.pop("given")
    about["colours"] = tuple(about["colours"])
    about["values"] = tuple(about["values"])
    size = (TILE * about["columns"], TILE * about["rows"])
    image = Image.new("RGB", size) if all(size) else None
    if given is None:
        return Example(image=image, chain=(), **about)
    pairs = tuple((colour, value) for colour, value in given)
    return LookAwayExample(image=image, chain=(), given=pairs, **about)


def _tokens_from(scored: Scored, source: str) -> Tensor:
    """1 where a token's source is ``source``."""
    texts: dict[int, str] = {}
    out = torch.zeros(scored.completion_ids.shape)
    for place, (ids, mask, row) in enumerate(
        zip(
            scored.completion_ids.tolist(),
            scored.completion_mask.tolist(),
            scored.rows,
            strict=True,
        )
    ):
        tokens = [token for token, real in zip(ids, mask, strict=True) if real]
        for token in tokens:
            if token not in texts:
                texts[token] = scored.decode([token])
        traced = trace(example_of(row), [texts[token] for token in tokens])
        out[place, : len(traced)] = torch.tensor(
            [float(token.source == source) for token in traced]
        )
    return out


@register_probe("reads")
def reads(scored: Scored) -> Tensor:
    """1 on tokens that take something from the image, (B, T)."""
    return _tokens_from(scored, "image")


@register_probe("decides")
def decides(scored: Scored) -> Tensor:
    """1 on words that choose whether a tile is looked at, (B, T)."""
    return _tokens_from(scored, "decision")


@register_probe("chance")
def chance(scored: Scored) -> Tensor:
    """Random numbers in [0, 1), (B, T), a function of the run's seed, the generation
    and the row."""
    rows, length = scored.completion_ids.shape
    return torch.stack(
        [
            torch.rand(
                length,
                generator=torch.Generator().manual_seed(mixed_seed(scored.seed, place)),
            )
            for place in range(scored.first_row, scored.first_row + rows)
        ]
    )
