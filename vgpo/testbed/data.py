"""The small world as rows to train on and as batches to teach with."""

from collections.abc import Sequence

import torch
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature

from vgpo.testbed.processor import TestbedProcessor
from vgpo.testbed.questions import Example, World

_FEATURES = Features(
    {
        "prompt": List(
            {
                "role": Value("string"),
                "content": List({"type": Value("string"), "text": Value("string")}),
            }
        ),
        "image": ImageFeature(),
        "answer": Value("string"),
        "family": Value("string"),
        "question": Value("string"),
        "reference": Value("string"),
        "sources": List(Value("string")),
        "tiles": List(List(Value("int64"))),
        "rows": Value("int64"),
        "columns": Value("int64"),
    }
)


def messages(example: Example) -> list[dict]:
    """The user's turn in the conversational format of Hugging Face and TRL.

    Example:
        >>> messages(World().example(0, family="text"))[0]["role"]
        'user'
    """
    parts = [] if example.image is None else [{"type": "image", "text": ""}]
    parts.append({"type": "text", "text": example.question})
    return [{"role": "user", "content": parts}]


def make_dataset(
    size: int,
    world: World | None = None,
    seed: int = 0,
    split: str = "train",
    family: str | None = None,
) -> Dataset:
    """A data set of ``size`` questions in TRL's conversational image format.

    Args:
        size: Number of rows, at least 1.
        world: The rules; by default those of the shipped checkpoint's world
            without its slips and fillers.
        seed: Names the sequence of examples; row ``i`` is its example ``i``.
        split: ``"train"`` or ``"heldout"``.
        family: Ask only this family.

    Returns:
        Columns ``prompt`` and ``image`` (what TRL reads; ``image`` is None for the
        text-only control), ``answer``, ``family``, ``question``, the chain
        that leads there as ``reference`` (TRL takes a column called ``completion``
        for something else) with ``sources`` and ``tiles`` per token, ``rows``,
        ``columns``.

    Raises:
        ValueError: ``size`` is below 1, or as
            :meth:`~vgpo.testbed.questions.World.example`.

    Example:
        >>> make_dataset(2, family="sum")[0]["prompt"][0]["content"][0]["type"]
        'image'
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    world = World() if world is None else world
    rows = []
    for index in range(size):
        example = world.example(index, seed=seed, split=split, family=family)
        rows.append(
            {
                "prompt": messages(example),
                "image": example.image,
                "answer": example.answer,
                "family": example.family,
                "question": example.question,
                "reference": example.completion,
                "sources": [token.source for token in example.chain],
                "tiles": [list(token.tiles) for token in example.chain],
                "rows": example.rows,
                "columns": example.columns,
            }
        )
    return Dataset.from_list(rows, features=_FEATURES)


def encode_prompts(
    processor: TestbedProcessor,
    examples: Sequence[Example],
    suffixes: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, torch.Tensor]:
    """Model inputs of the examples' prompts, padded on the left.

    Args:
        processor: From :func:`~vgpo.testbed.model.load_tiny` or
            :func:`~vgpo.testbed.processor.build_processor`.
        examples: At least one; with and without images may be mixed.
        suffixes: Text to append to each prompt, e.g. completions.
        device: Where the inputs go: that of the model which is to read them.
    """
    texts = list(
        processor.apply_chat_template(
            [messages(e) for e in examples], add_generation_prompt=True
        )
    )
    if suffixes is not None:
        texts = [t + s for t, s in zip(texts, suffixes, strict=True)]
    images = [e.image for e in examples if e.image is not None]
    batch = processor(
        text=texts, images=images or None, padding=True, return_tensors="pt"
    )
    return {name: tensor.to(device) for name, tensor in batch.items()}


def encode_examples(
    processor: TestbedProcessor,
    examples: Sequence[Example],
    device: torch.device | str = "cpu",
) -> dict[str, torch.Tensor]:
    """Prompts with their chains: a batch for teacher forcing.

    Rows are padded on the left, so a chain of n tokens and its ``<|im_end|>`` are
    the last n + 1 positions of its row.

    Args:
        processor: As for :func:`encode_prompts`.
        examples: At least one.
        device: As for :func:`encode_prompts`.

    Returns:
        The model's inputs and ``labels`` (B, L), -100 outside the completion.
    """
    end = processor.tokenizer.eos_token
    batch = encode_prompts(
        processor, examples, [example.completion + end for example in examples], device
    )
    length = batch["input_ids"].shape[1]
    lengths = torch.tensor([len(example.chain) + 1 for example in examples])
    inside = (torch.arange(length) >= length - lengths[:, None]).to(device)
    batch["labels"] = batch["input_ids"].masked_fill(~inside, -100)
    return batch
