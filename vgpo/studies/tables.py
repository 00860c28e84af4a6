"""Tidy tables of what a model does, token by token, beside the truth."""

from collections.abc import Iterator, Sequence

import pandas as pd
import torch

from vgpo.analysis.controls import untrained_copy
from vgpo.models.capture import capture_focus
from vgpo.models.inputs import token_texts
from vgpo.rewards import last_boxed
from vgpo.testbed.changes import blank
from vgpo.testbed.data import encode_prompts
from vgpo.testbed.questions import Example, trace


def token_table(
    model,
    processor,
    examples: Sequence[Example],
    completions: Sequence[str] | None = None,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Visual focus of every completion token under both alignments, with its truth.

    One forward pass per batch over prompts and completions (teacher forcing).

    Args:
        model: A model of the small world.
        processor: Its processor.
        examples: What was asked; an example may stand there several times.
        completions: What was answered; by default the reference chains.
        batch_size: Rows per forward pass.

    Returns:
        One row per token: ``row`` (index into ``examples``), ``family``, ``t``
        (1..T), ``length`` (T), ``token``, ``source``, ``tiles``, ``truth`` (what
        the picture shows, for a read), ``faithful``, ``correct`` (whether the
        completion's boxed answer is right), ``log_prob`` of the token, ``focus``
        (alignment ``"token"``) and ``focus_prediction``. The closing ``<|im_end|>``
        is not part of it.

    Raises:
        ValueError: as many completions as examples are needed.
    """
    if completions is None:
        completions = [example.completion for example in examples]
    check_one_per_example("completions", completions, examples)
    tables = []
    for start in range(0, len(examples), batch_size):
        some = slice(start, start + batch_size)
        tables += _tables(model, processor, examples[some], completions[some], start)
    return pd.concat(tables, ignore_index=True)


def _tables(model, processor, examples, completions, first) -> list[pd.DataFrame]:
    ids = [processor.tokenizer(text).input_ids for text in completions]
    batch = encode_prompts(processor, examples, completions, model.device)
    width = batch["input_ids"].shape[1]
    lengths = torch.tensor([len(row) for row in ids])
    completion_mask = torch.arange(width) >= width - lengths[:, None]
    with (
        torch.no_grad(),
        capture_focus(model, completion_mask=completion_mask) as at_token,
        capture_focus(
            model, completion_mask=completion_mask, alignment="prediction"
        ) as at_prediction,
    ):
        logits = model(**batch).logits
    log_probs = logits[:, :-1].log_softmax(dim=-1).cpu()
    tables = []
    for row, (example, tokens) in enumerate(zip(examples, ids, strict=True)):
        texts = token_texts(processor.tokenizer, tokens)
        sourced = trace(example, texts)
        length = len(tokens)
        mine = slice(width - length, width)
        before = slice(width - length - 1, width - 1)
        picked = log_probs[row, before].gather(1, torch.tensor(tokens)[:, None])
        tables.append(
            pd.DataFrame(
                {
                    "row": first + row,
                    "family": example.family,
                    "t": range(1, length + 1),
                    "length": length,
                    "token": texts,
                    "source": [t.source for t in sourced],
                    "tiles": [t.tiles for t in sourced],
                    "truth": [t.truth for t in sourced],
                    "faithful": [t.faithful for t in sourced],
                    "correct": last_boxed(completions[row]) == example.answer,
                    "log_prob": picked[:, 0].numpy(),
                    "focus": at_token.focus[row, mine].cpu().numpy(),
                    "focus_prediction": at_prediction.focus[row, mine].cpu().numpy(),
                }
            )
        )
    return tables


def table_beside_controls(
    model,
    processor,
    examples: Sequence[Example],
    completions: Sequence[str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The table of :func:`token_table`, and scores of its tokens that need no looking.

    What a score finds is worth as much as it is better than these, of the same tokens.

    Args:
        model: A model of the small world.
        processor: Its processor.
        examples: What was asked.
        completions: What was answered; by default the reference chains.
        seed: Of the untrained weights.

    Returns:
        :func:`token_table`, with ``rule`` (1.0 where the token before is ``=``, else
        0.0); ``grey`` and ``grey_prediction`` (the two alignments of focus over a
        uniformly grey picture); ``untrained`` and ``untrained_prediction`` (in a
        network of the same shape whose weights were never trained).
    """
    table = token_table(model, processor, examples, completions)
    texts = [e.completion for e in examples] if completions is None else completions
    controls = {
        "grey": token_table(model, processor, [blank(e) for e in examples], texts),
        "untrained": token_table(
            untrained_copy(model, seed), processor, examples, texts
        ),
    }
    for name, scored in controls.items():
        table[name] = scored["focus"]
        table[f"{name}_prediction"] = scored["focus_prediction"]
    return table.assign(rule=equals_before(table))


def equals_before(table: pd.DataFrame) -> pd.Series:
    """A rule on the text: 1.0 where the token before is ``=``, else 0.0.

    Args:
        table: From :func:`token_table`.

    Returns:
        One number per row of ``table``; 0.0 at the first token of a chain.

    Example:
        >>> chain = {"row": [0, 0, 0, 1], "token": [" red", " =", " 5", " 5"]}
        >>> equals_before(pd.DataFrame(chain)).tolist()
        [0.0, 0.0, 1.0, 0.0]
    """
    before = table["token"].groupby(table["row"]).shift(1)
    return (before.str.strip() == "=").astype(float)


def check_one_per_example(
    name: str, values: Sequence[object], examples: Sequence[Example]
) -> None:
    """Refuses an argument that does not hold one value for each example.

    Raises:
        ValueError: It does not; the argument is named.
    """
    if len(values) != len(examples):
        raise ValueError(
            f"{name}: need one per example, got {len(values)} for {len(examples)}"
        )


def batches_of_one_length(
    processor,
    examples: Sequence[Example],
    completions: Sequence[str],
    batch_size: int = 64,
    *,
    device: torch.device | str,
) -> Iterator[tuple[list[int], int, dict[str, torch.Tensor]]]:
    """Prompts with their completions, in batches of completions of one length.

    Completions of one length are the last positions of every row of their batch, which
    is what :func:`vgpo.models.attention.attention_split` takes.

    Args:
        processor: Of a small world.
        examples: What was asked.
        completions: What was answered, one per example.
        batch_size: Most rows of a batch.
        device: That of the model which is to read them.

    Yields:
        ``(rows, length, inputs)``: indices into ``examples``; T; the forward pass's
        arguments.
    """
    by_length: dict[int, list[int]] = {}
    for row, text in enumerate(completions):
        length = len(processor.tokenizer(text).input_ids)
        by_length.setdefault(length, []).append(row)
    for length, rows in by_length.items():
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            inputs = encode_prompts(
                processor,
                [examples[row] for row in some],
                [completions[row] for row in some],
                device,
            )
            yield some, length, inputs


def padded(table: pd.DataFrame, column: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A column of :func:`token_table` as the method's functions take it.

    Returns:
        ``(values, mask)``: (B, T) float32 padded on the right with 0, and (B, T)
        bool.
    """
    rows = [
        torch.tensor(values.to_numpy(), dtype=torch.float32)
        for _, values in table.groupby("row", sort=True)[column]
    ]
    mask = [torch.ones(len(row), dtype=torch.bool) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(rows, batch_first=True), pad(mask, batch_first=True)
