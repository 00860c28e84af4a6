"""One conversation and one answer as the inputs of a forward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from vgpo.models.handle import ModelHandle, resolve
from vgpo.models.image_grids import image_token_grids

_UNKNOWN = "\ufffd"
_BYTES_OF_A_CHARACTER = 4  # at most, in UTF-8, so it takes no more tokens than that


def token_texts(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]
) -> list[str]:
    """Each token as text.

    A character that is spread over several tokens, as many a sign of mathematics
    is, stands at the last of them; the others are empty. Bytes that never become a
    character are shown as U+FFFD.

    Args:
        tokenizer: Of the model.
        token_ids: Ids of one completion, T.

    Returns:
        T strings. Joined they are the completion, where the tokenizer keeps spaces.

    Example:
        >>> from vgpo.testbed import build_processor
        >>> tokenizer = build_processor().tokenizer
        >>> token_texts(tokenizer, tokenizer("5 ∠").input_ids)
        ['5', ' ', '', '', '∠']
    """

    def decode(ids):
        return tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    texts = [decode([token_id]) for token_id in token_ids]
    start = 0
    for end, alone in enumerate(texts, start=1):
        if _UNKNOWN not in alone:
            start = end
            continue
        for first in range(max(start, end - _BYTES_OF_A_CHARACTER), end - 1):
            together = decode(token_ids[first:end])
            if _UNKNOWN not in together:
                texts[first:end] = [""] * (end - first - 1) + [together]
                start = end
                break
    return texts


def prepare_inputs(
    model: nn.Module | ModelHandle,
    processor: ProcessorMixin,
    messages: list[dict],
    completion: str | Sequence[int] | None = None,
    *,
    max_new_tokens: int = 512,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Forward arguments for one conversation followed by one completion.

    Args:
        model: A vision-language model, wrapped or not, or its handle.
        processor: The model's own processor, with a chat template.
        messages: One conversation that holds an image, as the processor's chat
            template takes it.
        completion: The answer, as text or as its token ids. ``None`` lets the model
            answer greedily.
        max_new_tokens: Longest answer, where the model writes it.

    Returns:
        ``(inputs, completion_ids)``: what the processor made of the messages, on
        the model's device, with the completion appended to ``input_ids``,
        ``attention_mask`` and token types (as text); and the (T,) completion ids.

    Raises:
        ValueError: No image in ``messages``; a model without image token; a
            tokenizer, or another model's processor, for ``processor``; an empty
            completion.
    """
    if isinstance(processor, PreTrainedTokenizerBase):
        raise ValueError(
            "processor: this is a tokenizer, which cannot read images. AutoProcessor "
            "falls back to one where the image processor's needs are missing; load "
            "the model's processor class itself."
        )
    _require_image(messages)
    handle = resolve(model)
    token_id = handle.image_token_id
    inputs = dict(
        processor.apply_chat_template(
            messages,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        ).to(handle.device)
    )
    if not (inputs["input_ids"] == token_id).any():
        raise ValueError(
            f"processor: the prompt it wrote holds no image token (id {token_id} of "
            "the model's configuration); is it this model's processor, and does its "
            "chat template write images?"
        )
    with mismatch_named():
        image_token_grids(handle, inputs, inputs["input_ids"] == token_id)

    if completion is None:
        completion_ids = _answer(handle, inputs, max_new_tokens)
    else:
        if isinstance(completion, str):
            encoded = processor.tokenizer(completion, add_special_tokens=False)
            completion = encoded["input_ids"]
        completion_ids = torch.tensor(
            completion, dtype=torch.long, device=inputs["input_ids"].device
        )
        if (completion_ids == token_id).any():
            raise ValueError(
                "completion: it contains the image token, for which there is no image."
            )
    if not len(completion_ids):
        raise ValueError(
            "completion: it has no token to score"
            + (" (the model answered nothing)." if completion is None else ".")
        )
    return _append(inputs, completion_ids), completion_ids


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Puts ``model`` in eval mode, and every module back as it was afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def mismatch_named() -> Iterator[None]:
    """Names the processor as the cause of errors about the number of image tokens."""
    try:
        yield
    except ValueError as error:
        if "do not match" not in str(error):
            raise
        raise ValueError(
            "processor: it wrote another number of image tokens than the model has "
            f"image features; use the model's own processor, unchanged. ({error})"
        ) from error


def _require_image(messages: list[dict]) -> None:
    if not messages or not all(isinstance(message, dict) for message in messages):
        raise ValueError(
            "messages: must be one conversation, a list of "
            '{"role": ..., "content": ...} dictionaries.'
        )
    parts = [
        part
        for message in messages
        if isinstance(message["content"], list)
        for part in message["content"]
    ]
    if not any(part.get("type") == "image" for part in parts):
        raise ValueError(
            "messages: no image in the conversation; visual focus is defined against "
            'one. Add {"type": "image", "image": ...} to a message\'s content.'
        )


def _answer(handle, inputs, max_new_tokens):
    with eval_mode(handle.wrapped), torch.no_grad(), mismatch_named():
        sequences = handle.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            suppress_tokens=[handle.image_token_id],
        )
    return sequences[0, inputs["input_ids"].shape[1] :]


def _append(inputs, completion_ids):
    """The inputs with the completion as further, text, tokens."""
    row = completion_ids[None]
    extended = dict(inputs)
    for name, value in inputs.items():
        if name == "input_ids":
            extended[name] = torch.cat([value, row], dim=1)
        elif name == "attention_mask":
            extended[name] = torch.cat([value, value.new_ones(row.shape)], dim=1)
        elif name.endswith("token_type_ids"):
            extended[name] = torch.cat([value, value.new_zeros(row.shape)], dim=1)
    return extended
