r"""What a model can still say about the picture, at any place of an answer.

Attention and cosine show where a model looks, not what it could say if it were asked.
Two probes ask it, after VAPO (arXiv 2509.25848):

- :func:`tile_probe`: cut an answer, name a tile, and see which digit the model puts
  there. If it still names the right one, nothing was forgotten, only not looked at.
- :func:`early_answers`: cut an answer, close the chain, and take the answer it then
  gives; over the picture, and over a grey one.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from vgpo.models.inputs import token_texts
from vgpo.rewards import last_boxed
from vgpo.studies.tables import check_one_per_example
from vgpo.testbed.answers import answer
from vgpo.testbed.changes import blank
from vgpo.testbed.data import encode_prompts
from vgpo.testbed.questions import Example

FRACTIONS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Of the steps of a chain, after which it is cut."""


CLOSING = "</think>"
"""The word that ends a chain; the boxed answer follows."""


def cuts(tokens: Sequence[str], fraction: float) -> int:
    """How many tokens of an answer stand before the cut.

    A chain is cut between its steps, which end on a full stop: at fraction 0 only the
    word that opens it is left, at 1 all of its steps.

    Args:
        tokens: Of an answer, one text each.
        fraction: Of its steps, in [0, 1], rounded to whole ones.

    Example:
        >>> tokens = ["<think>", " red", " =", " 5", " .", " blue", " =", " 2", " ."]
        >>> [cuts(tokens, fraction) for fraction in (0, 0.5, 1)]
        [1, 5, 9]
    """
    ends = [i + 1 for i, token in enumerate(tokens) if token == " ."]
    kept = round(fraction * len(ends))
    return ends[kept - 1] if kept else 1


def _prefixes(processor, completions, fraction) -> list[str]:
    tokens = [
        token_texts(processor.tokenizer, processor.tokenizer(text).input_ids)
        for text in completions
    ]
    return ["".join(words[: cuts(words, fraction)]) for words in tokens]


def tile_probe(
    model,
    processor,
    examples: Sequence[Example],
    completions: Sequence[str],
    leads: Sequence[str] = ("",),
    fractions: Sequence[float] = FRACTIONS,
    *,
    grey: bool = False,
    seed: int = 0,
    batch_size: int = 64,
) -> pd.DataFrame:
    """Names a tile after each part of an answer; which digit does the model put there?

    A colour of the picture is drawn for each answer, the same at every fraction. The
    answer is cut, ``"LEAD COLOUR ="`` is appended, and the next token is looked at.

    Args:
        model: Of a small world.
        processor: Its processor.
        examples: What was asked, all with an image.
        completions: What was answered, one per example.
        leads: Words put before the colour, each a probe of its own: none in the first
            world; in the one that looks away, ``" look"`` or ``" recall"``.
        fractions: Of the steps of the answer, after which it is asked.
        grey: Whether the picture is replaced by grey, for the chance level.
        seed: Of the draw of colours.
        batch_size: Answers per forward pass.

    Returns:
        One row per answer, fraction and lead: ``row``, ``family``, ``fraction``,
        ``lead``, ``named`` (whether the colour stands in what was written before),
        ``right`` (whether the likeliest value is what the tile shows) and
        ``probability`` of that value.

    Raises:
        ValueError: Not one completion per example.
    """
    check_one_per_example("completions", completions, examples)
    rng = np.random.default_rng(seed)
    entries = [int(rng.integers(len(example.colours))) for example in examples]
    colours = [e.colours[i] for e, i in zip(examples, entries, strict=True)]
    shown = [e.values[i] for e, i in zip(examples, entries, strict=True)]
    target = [processor.tokenizer(f" {v}").input_ids[0] for v in shown]
    pictures = [blank(e) for e in examples] if grey else list(examples)
    parts = []
    for fraction in fractions:
        prefixes = _prefixes(processor, completions, fraction)
        for lead in leads:
            asked = [
                f"{prefix}{lead} {colour} ="
                for prefix, colour in zip(prefixes, colours, strict=True)
            ]
            chances = _next_token(model, processor, pictures, asked, batch_size)
            mine = torch.tensor(target)
            parts.append(
                pd.DataFrame(
                    {
                        "row": range(len(examples)),
                        "family": [e.family for e in examples],
                        "fraction": fraction,
                        "lead": lead.strip(),
                        "named": [
                            f" {colour} =" in prefix
                            for prefix, colour in zip(prefixes, colours, strict=True)
                        ],
                        "right": (chances.argmax(dim=1) == mine).numpy(),
                        "probability": chances.gather(1, mine[:, None])[:, 0].numpy(),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


@torch.no_grad()
def _next_token(model, processor, examples, texts, batch_size) -> torch.Tensor:
    """(B, vocabulary) probabilities of what follows each text."""
    found = []
    for start in range(0, len(examples), batch_size):
        some = slice(start, start + batch_size)
        batch = encode_prompts(processor, examples[some], texts[some], model.device)
        # Rows are padded on the left: the last position is each row's last token.
        logits = model(**batch, logits_to_keep=1).logits[:, -1]
        found.append(logits.float().softmax(dim=-1).cpu())
    return torch.cat(found)


def early_answers(
    model,
    processor,
    examples: Sequence[Example],
    completions: Sequence[str],
    fractions: Sequence[float] = FRACTIONS,
    *,
    grey: bool = False,
) -> pd.DataFrame:
    r"""Closes the chain of each answer early and takes the answer it then gives.

    Args:
        model: Of a small world.
        processor: Its processor.
        examples: What was asked, all with an image.
        completions: What was answered, one per example.
        fractions: Of the steps of the answer, after which it is closed.
        grey: Whether the picture is replaced by grey from there on.

    Returns:
        One row per answer and fraction: ``row``, ``family``, ``fraction``, ``right``
        (whether the forced answer is the true one) and ``same`` (whether it is the
        one that the whole answer gave).
    """
    pictures = [blank(e) for e in examples] if grey else list(examples)
    parts = []
    for fraction in fractions:
        forced = answer(
            model,
            processor,
            pictures,
            max_new_tokens=8,
            prefixes=[
                prefix + CLOSING + " \\boxed{"
                for prefix in _prefixes(processor, completions, fraction)
            ],
        )
        said = [last_boxed(text) for text in forced]
        parts.append(
            pd.DataFrame(
                {
                    "row": range(len(examples)),
                    "family": [e.family for e in examples],
                    "fraction": fraction,
                    "right": [
                        s == e.answer for s, e in zip(said, examples, strict=True)
                    ],
                    "same": [
                        s == last_boxed(text)
                        for s, text in zip(said, completions, strict=True)
                    ],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
