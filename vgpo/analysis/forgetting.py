"""Where a model looks while it reasons: the forgetting analysis.

::

    analysis = vgpo.analyze(model, processor, dataset)
    analysis.summary()
    analysis.figures()

For every answer, the attention of each of its tokens on the image, on the question
and on what was generated before; how the image's part falls; and whether right
answers keep more of it than wrong ones.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from torch import nn
from tqdm import tqdm
from transformers import ProcessorMixin

from vgpo.analysis.answers_file import AnswersFile
from vgpo.analysis.controls import untrained_copy
from vgpo.analysis.conversations import conversation_of, rows_of
from vgpo.analysis.forgetting_analysis import ForgettingAnalysis
from vgpo.analysis.forgetting_numbers import KINDS
from vgpo.analysis.pictured import AnsweredImages, images_of
from vgpo.models.attention import attention_split
from vgpo.models.fingerprints import model_fingerprint, question_fingerprint
from vgpo.models.handle import resolve
from vgpo.models.image_grids import shown_whole
from vgpo.models.inputs import (
    add_completion,
    encode_prompt,
    eval_mode,
    mismatch_named,
    read_pictures,
    require_processor,
    special_token_ids,
    token_texts,
)
from vgpo.rewards import accuracy_reward
from vgpo.stats.forgetting.shares import accumulation_ratio, uniform_shares


def analyze(
    model: nn.Module,
    processor: ProcessorMixin,
    messages_or_dataset: Dataset | list,
    completions: Sequence[str] | None = None,
    answers: Sequence[str] | None = None,
    *,
    layers: Sequence[int] | str = (-1,),
    alignment: str = "prediction",
    split: float = 0.5,
    max_new_tokens: int = 2048,
    keep_maps: int = 8,
    completions_file: str | Path | None = None,
    untrained: bool = False,
    progress: bool | None = None,
) -> ForgettingAnalysis:
    r"""Where each token of each answer looks, and how that changes as it reasons.

    One answer at a time: the model writes it unless it is given (greedily, under what
    else its generation configuration says, such as a repetition penalty); then one
    forward pass in which the attention of each generated token is split over image,
    question and generated text (:func:`vgpo.models.attention.attention_split`,
    which says what counts as which, and what it costs). Beside the model, an answer of
    T tokens to an image of M tokens takes 4 T M bytes while its maps are kept: 9.6 MB
    for 2,000 and 1,200.

    Args:
        model: A vision-language model, wrapped or not.
        processor: The model's own processor.
        messages_or_dataset: One conversation (``[{"role": ..., "content": ...}]``),
            several, or a data set as TRL trains on: rows with ``prompt``, ``image``
            or ``images``, and perhaps ``answer`` (``vgpo.data.to_prompts`` makes
            them of other columns).
        completions: The answers to analyse; by default the model writes them.
        answers: Reference answers, to tell right from wrong by the last ``\boxed{}``
            (:func:`vgpo.rewards.accuracy_reward`); by default the data set's.
        layers: See :func:`vgpo.models.attention.attention_split`.
        alignment: See :func:`vgpo.models.attention.attention_split`.
        split: Where late begins, in (0, 1).
        max_new_tokens: Longest answer the model writes.
        keep_maps: For how many answers pictures and attention maps are kept.
        completions_file: JSON lines in which each answer the model writes is kept at
            once. What is in it from the same model (weights, adapters, precision and
            generation settings) to the same conversation (pixels included) is not
            generated again: a stopped analysis goes on.
        untrained: Whether the answers also go through a network of the same shape
            with random weights (:func:`vgpo.analysis.controls.untrained_copy`), to see
            what of a falling share needs no forgetting. It costs another forward pass
            an answer, and the model's memory once more; the column ``uniform``, for
            which a formula is enough, is there in any case.
        progress: Whether to show a progress bar; by default, if there is a terminal.

    Returns:
        The tables, with methods that summarise and draw them. Where the model writes
        an answer, the token that ends it is its last.

    Raises:
        ValueError: What is asked is not one of the above; a conversation without
            image; another model's processor or a tokenizer; completions or answers
            that are not one per conversation. The row is named.

    Example:
        >>> from vgpo.testbed import World, build_processor, build_tiny, make_dataset
        >>> processor = build_processor()
        >>> model = build_tiny(processor, hidden_size=64, layers=2)
        >>> rows = make_dataset(2, family="sum")
        >>> analysis = analyze(model, processor, rows, max_new_tokens=8)
        >>> analysis.tokens.columns[:4].tolist()
        ['row', 'layer', 't', 'length']
        >>> sorted(analysis.figures())
        ['decay', 'example', 'heatmaps', 'length', 'ratio']
    """
    rows = rows_of(messages_or_dataset)
    for name, given in (("completions", completions), ("answers", answers)):
        if isinstance(given, str):
            raise ValueError(
                f"{name}: must be a list with one for each conversation, got one text; "
                f"write [{given[:40]!r}]."
            )
        if given is not None and len(given) != len(rows):
            raise ValueError(
                f"{name}: need one per conversation, got {len(given)} for {len(rows)}."
            )
    if completions is not None and completions_file is not None:
        raise ValueError(
            "completions_file: it keeps what the model writes; with completions given "
            "there is nothing to keep."
        )
    if keep_maps < 0:
        raise ValueError(f"keep_maps: must not be negative, got {keep_maps}.")
    if not 0 < split < 1:
        raise ValueError(f"split: must be in (0, 1), got {split}.")
    handle = resolve(model)
    require_processor(processor)
    special_ids = special_token_ids(processor.tokenizer)
    written = None if completions_file is None else AnswersFile(completions_file)
    if written is not None:
        identity = model_fingerprint(handle)
    null = resolve(untrained_copy(model)) if untrained else None
    tokens: list[pd.DataFrame] = []
    responses: list[dict[str, object]] = []
    kept: dict[int, AnsweredImages] = {}
    disable = None if progress is None else not progress
    with eval_mode(model):
        for row, asked in enumerate(tqdm(rows, desc="answers", disable=disable)):
            try:
                messages = read_pictures(conversation_of(asked))
                completion: str | list[int] | None
                completion = None if completions is None else completions[row]
                prompt = encode_prompt(handle, processor, messages)
                if written is not None:
                    key = question_fingerprint(identity, prompt, max_new_tokens)
                    completion = written.ids.get(key)
                inputs, ids = add_completion(
                    handle,
                    processor,
                    prompt,
                    completion,
                    max_new_tokens=max_new_tokens,
                )
                if written is not None and completion is None:
                    written.add(key, ids.tolist())
                with mismatch_named(handle, inputs):
                    look = partial(
                        attention_split,
                        inputs=inputs,
                        completion_length=len(ids),
                        layers=layers,
                        alignment=alignment,
                        special_token_ids=special_ids,
                    )
                    found = look(handle)
                    knows_nothing = None if null is None else look(null)
                text = processor.tokenizer.decode(ids, skip_special_tokens=True)
                graded = _graded(text, asked, None if answers is None else answers[row])
            except ValueError as error:
                raise ValueError(f"conversation {row}: {error}") from error
            words = token_texts(processor.tokenizer, ids.tolist())
            nulls = _nulls(found, knows_nothing, alignment)
            tokens += _token_tables(row, words, found, nulls)
            responses += [r | graded for r in _response_rows(row, text, found, split)]
            if row < keep_maps:
                maps = [grid.cpu() for grid in found.image_maps[0]]
                images = images_of(messages)
                whole = shown_whole(processor, images)
                kept[row] = AnsweredImages(images, maps, whole)
    table = pd.DataFrame(responses)
    return ForgettingAnalysis(
        pd.concat(tokens, ignore_index=True), table, kept, split, alignment
    )


def _graded(text: str, asked: dict | list, answer: str | None) -> dict:
    if answer is None and isinstance(asked, dict):
        answer = asked.get("answer")
    if answer is None:
        return {}
    return {
        "answer": answer,
        "correct": accuracy_reward([text], answer=[answer]) == [1.0],
    }


def _nulls(found, knows_nothing, alignment) -> dict[str, torch.Tensor]:
    """Shares of the image where nothing is known, (layers, T) by name."""
    images, queries = found.prompt_tokens.cpu().T
    even = uniform_shares(images, queries, found.completion_mask.cpu(), alignment)
    nulls = {"uniform": even[0, :, 0].expand(len(found.layers), -1)}
    if knows_nothing is not None:
        nulls["untrained"] = knows_nothing.layer_masses[:, 0, :, 0].cpu()
    return nulls


def _token_tables(row, words, found, nulls) -> Iterator[pd.DataFrame]:
    masses = found.layer_masses[:, 0].cpu().numpy()
    special = found.special_mass[:, 0].cpu().numpy()
    for index, layer in enumerate(found.layers):
        yield pd.DataFrame(
            {
                "row": row,
                "layer": layer,
                "t": range(1, len(words) + 1),
                "length": len(words),
                "token": words,
                **{kind: masses[index, :, k] for k, kind in enumerate(KINDS)},
                "special": special[index],
                **{name: shares[index].numpy() for name, shares in nulls.items()},
            }
        )


def _response_rows(row, text, found, split) -> Iterator[dict]:
    image = found.layer_masses[:, 0, :, 0].cpu()
    ratios = accumulation_ratio(image, torch.ones_like(image), split)
    for layer, mass, ratio in zip(found.layers, image, ratios, strict=True):
        yield {
            "row": row,
            "layer": layer,
            "length": len(mass),
            "image": float(mass.mean()),
            "ratio": float(ratio),
            "completion": text,
        }
