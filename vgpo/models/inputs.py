"""One conversation and one answer as the inputs of a forward pass."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from vgpo.models.handle import ModelHandle, resolve, suppressed_tokens
from vgpo.models.image_grids import image_token_grids
from vgpo.pictures import open_picture, refuse_address
from vgpo.texts import require_characters

_UNKNOWN = "\ufffd"
_SOURCES = ("image", "url", "path", "base64")  # of a picture, in transformers' chats
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


def special_token_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that are no text: those that decoding without special tokens drops.

    ``tokenizer.all_special_ids`` alone holds only tokens with a named role. The marks
    of a chat's turns, Gemma 3's ``<start_of_turn>`` or Llama 3's
    ``<|start_header_id|>``, are flagged special and have none.

    Example:
        >>> from vgpo.testbed import build_processor
        >>> tokenizer = build_processor().tokenizer
        >>> sorted(tokenizer.convert_ids_to_tokens(special_token_ids(tokenizer)))[:3]
        ['<|endoftext|>', '<|im_end|>', '<|im_start|>']
    """
    flagged = {
        token_id
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special
    }
    return flagged | set(tokenizer.all_special_ids)


def read_pictures(messages: list[dict]) -> list[dict]:
    """A conversation whose pictures are upright, RGB and of 8 bits.

    Args:
        messages: One conversation. Pictures may be Pillow images of any mode, bytes of
            a file, paths or undecoded rows of a data set
            (:func:`vgpo.pictures.open_picture`); paths as text, base64 and arrays are
            left to the processor. Web addresses are refused, as everywhere.

    Returns:
        A new conversation; ``messages`` is left as it was.

    Raises:
        ValueError: It is no conversation, or a picture cannot be read; the turn is
            named. A picture is an address.
    """
    check_messages(messages)
    return [
        turn
        if isinstance(turn["content"], str)
        else {**turn, "content": [_read_part(part) for part in turn["content"]]}
        for turn in messages
    ]


def _read_part(part: dict) -> dict:
    image = part.get("image")
    if part["type"] == "image" and all(part.get(name) is None for name in _SOURCES):
        raise ValueError(
            "messages: an image without its picture; give it in the same place, "
            '{"type": "image", "image": ...}, where a data set has a column of its own.'
        )
    if part["type"] == "image" and isinstance(image, Image.Image | bytes | Path | dict):
        return {**part, "image": open_picture(image)}
    for name in _SOURCES if part["type"] == "image" else ():
        if isinstance(part.get(name), str):
            refuse_address(part[name])
    return part  # paths as text, base64 and arrays: the processor's own business


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
    inputs = encode_prompt(model, processor, messages)
    return add_completion(
        model, processor, inputs, completion, max_new_tokens=max_new_tokens
    )


def encode_prompt(
    model: nn.Module | ModelHandle,
    processor: ProcessorMixin,
    messages: list[dict],
    *,
    needs_image: bool = True,
) -> dict[str, torch.Tensor]:
    """What the processor makes of one conversation, on the model's device.

    Args:
        model: As for :func:`prepare_inputs`.
        processor: As for :func:`prepare_inputs`.
        messages: As for :func:`prepare_inputs`.
        needs_image: Whether a conversation without any image is refused.

    Returns:
        Arguments of the model's forward pass, the answer's turn opened.

    Raises:
        ValueError: No image in ``messages``; a model without image token; a
            tokenizer, or another model's processor, for ``processor``.
    """
    require_processor(processor)
    messages = read_pictures(messages)
    if needs_image:
        _require_image(messages)
    handle = resolve(model)
    inputs = dict(
        processor.apply_chat_template(
            messages,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        ).to(handle.device)
    )
    # A processor may return what only training needs: PaliGemma's makes `labels` of
    # the prompt, which fit no completion.
    inputs.pop("labels", None)
    if needs_image and not (inputs["input_ids"] == handle.image_token_id).any():
        raise ValueError(
            "processor: the prompt it wrote holds no image token (id "
            f"{handle.image_token_id} of the model's configuration); is it this "
            "model's processor, and does its chat template write images?"
        )
    return inputs


def add_completion(
    model: nn.Module | ModelHandle,
    processor: ProcessorMixin,
    inputs: dict[str, torch.Tensor],
    completion: str | Sequence[int] | None = None,
    *,
    max_new_tokens: int = 512,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A prompt with its completion, given or written by the model.

    Args:
        model: As for :func:`prepare_inputs`.
        processor: As for :func:`prepare_inputs`.
        inputs: From :func:`encode_prompt`; left as they are.
        completion: As for :func:`prepare_inputs`.
        max_new_tokens: As for :func:`prepare_inputs`.

    Returns:
        As :func:`prepare_inputs`.

    Raises:
        ValueError: An empty completion, or one that holds the image token or ids that
            the model does not know.
    """
    handle = resolve(model)
    if completion is None:
        completion_ids = _answer(handle, inputs, max_new_tokens)
    else:
        ids = _token_ids(processor.tokenizer, completion)
        completion_ids = torch.tensor(
            ids, dtype=torch.long, device=inputs["input_ids"].device
        )
        if (completion_ids == handle.image_token_id).any():
            raise ValueError(
                "completion: it contains the image token, for which there is no image."
            )
        # On a GPU an id out of range would end the process, and name nothing.
        known = handle.model.get_input_embeddings().num_embeddings
        if ids and not 0 <= min(ids) <= max(ids) < known:
            raise ValueError(
                f"completion: token ids must lie in 0 to {known - 1}, got "
                f"{min(ids)} to {max(ids)}; are they another tokenizer's?"
            )
    if not len(completion_ids):
        raise ValueError(
            "completion: it has no token to score"
            + (" (the model answered nothing)." if completion is None else ".")
        )
    return _append(handle, inputs, completion_ids), completion_ids


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
def mismatch_named(
    handle: ModelHandle, inputs: dict[str, torch.Tensor]
) -> Iterator[None]:
    """Names the processor where a model fails over the number of image tokens.

    Most models say so themselves; some fail over a shape before. Whether the numbers
    fit is asked only after a failure, so that a rule of grids never stands in the way
    of a pass that needs none.
    """
    try:
        yield
    except (ValueError, RuntimeError, IndexError) as error:
        cause = str(error)
        if "do not match" not in cause:
            is_image = inputs["input_ids"] == handle.image_token_id
            try:
                image_token_grids(handle, inputs, is_image)
            except ValueError as misfit:
                cause = str(misfit)
            else:
                raise
        raise ValueError(
            "processor: it wrote another number of image tokens than the model has "
            f"image features; use the model's own processor, unchanged. ({cause})"
        ) from error


def without_padding(
    encoded: Mapping[str, Any],
) -> tuple[list[list[int]], dict[str, Any]]:
    """Prompts without the padding that a processor put around them.

    Args:
        encoded: What a processor returned for a batch of prompts, as tensors, padded
            on either side, with the ``attention_mask`` that tells padding apart. A
            token of a prompt that is the padding token stays.

    Returns:
        ``(prompt_ids, fields)``: the ids of each prompt, and everything else but the
        mask. What has an entry for each token, such as token types, becomes lists as
        long as the prompts; the rest is as it was.

    Example:
        >>> rows = {
        ...     "input_ids": torch.tensor([[0, 0, 5, 6], [0, 5, 5, 6]]),
        ...     "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]),
        ...     "mm_token_type_ids": torch.tensor([[0, 0, 1, 0], [0, 1, 1, 0]]),
        ... }
        >>> without_padding(rows)
        ([[5, 6], [0, 5, 5, 6]], {'mm_token_type_ids': [[1, 0], [0, 1, 1, 0]]})
    """
    fields = dict(encoded)
    prompt_ids, real = fields.pop("input_ids"), fields.pop("attention_mask").bool()

    def unpadded(values: torch.Tensor) -> list[list[int]]:
        return [row[kept].tolist() for row, kept in zip(values, real, strict=True)]

    per_token = {
        name
        for name, value in fields.items()
        if name.endswith("token_type_ids") and value.shape == real.shape
    }
    return unpadded(prompt_ids), {
        name: unpadded(value) if name in per_token else value
        for name, value in fields.items()
    }


@runtime_checkable
class _Processor(Protocol):
    """All that is asked of a processor here; one written by hand may have no more."""

    tokenizer: PreTrainedTokenizerBase

    def apply_chat_template(self, conversation, **kwargs): ...


def require_processor(processor: Any) -> None:
    """Refuses what is none, such as a tokenizer, which ``AutoProcessor`` may give."""
    if isinstance(processor, PreTrainedTokenizerBase):
        raise ValueError(
            "processor: this is a tokenizer, which cannot read images. AutoProcessor "
            "falls back to one where the image processor's needs are missing; load "
            "the model's processor class itself."
        )
    if not isinstance(processor, _Processor):
        raise ValueError(
            "processor: must be the model's processor, got "
            f"{type(processor).__name__}; AutoProcessor.from_pretrained(name) loads it."
        )


def check_messages(messages: list[dict]) -> None:
    """Refuses what is no conversation; the turn at fault is named."""
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(turn, dict) for turn in messages)
    ):
        raise ValueError(
            "messages: must be one conversation, a list of "
            '{"role": ..., "content": ...} dictionaries.'
        )
    for number, turn in enumerate(messages):
        if "role" not in turn or "content" not in turn:
            raise ValueError(
                f"messages: turn {number} needs 'role' and 'content', it has "
                f"{sorted(turn)}."
            )
        content = turn["content"]
        if isinstance(content, str):
            require_characters(content, f"messages: the text of turn {number}")
            continue
        if not isinstance(content, list) or not all(
            isinstance(part, dict) and "type" in part for part in content
        ):
            raise ValueError(
                f"messages: the content of turn {number} must be a text, or a list of "
                f'{{"type": ...}} dictionaries, got {content!r:.80}; an empty turn is '
                '"".'
            )
        for part in content:
            if isinstance(part.get("text"), str):
                require_characters(part["text"], f"messages: the text of turn {number}")


def _require_image(messages: list[dict]) -> None:
    parts = [
        part
        for turn in messages
        if not isinstance(turn["content"], str)
        for part in turn["content"]
    ]
    if not any(part["type"] == "image" for part in parts):
        raise ValueError(
            "messages: no image in the conversation; visual focus is defined against "
            'one. Add {"type": "image", "image": ...} to a message\'s content.'
        )


def _token_ids(
    tokenizer: PreTrainedTokenizerBase, completion: str | Sequence[int]
) -> list[int]:
    if isinstance(completion, str):
        require_characters(completion, "completion")
        return tokenizer(completion, add_special_tokens=False)["input_ids"]
    if isinstance(completion, torch.Tensor | np.ndarray):
        completion = completion.tolist()
    if not isinstance(completion, Sequence) or not all(
        isinstance(token_id, int) for token_id in completion
    ):
        raise ValueError(
            f"completion: must be a text or a list of token ids, got {completion!r:.80}"
        )
    return list(completion)


def _answer(handle, inputs, max_new_tokens):
    if not handle.model.can_generate():
        raise ValueError(
            f"model: {type(handle.model).__name__} has no head, and writes "
            "no answer; pass the whole model, or the answer as completion=..."
        )
    with eval_mode(handle.wrapped), torch.no_grad(), mismatch_named(handle, inputs):
        sequences = handle.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            # Greedy, and one sequence of ids, whatever the generation configuration
            # says of sampling, beams and the form of the result.
            do_sample=False,
            num_beams=1,
            num_return_sequences=1,
            return_dict_in_generate=False,
            suppress_tokens=suppressed_tokens(
                handle.model.generation_config, handle.placeholder_ids
            ),
        )
    return sequences[0, inputs["input_ids"].shape[1] :]


# In PaliGemma type 0 is the prefix, whose tokens see each other, and 1 what follows.
# Elsewhere types tell image tokens from text, which is 0.
_COMPLETION_TYPES = {"paligemma": 1}


def completion_token_type(model_type: str) -> int:
    """The ``token_type_ids`` of generated tokens, in a family of models."""
    return _COMPLETION_TYPES.get(model_type, 0)


def _append(handle, inputs, completion_ids):
    """The inputs with the completion as further, text, tokens."""
    row = completion_ids[None]
    kind = completion_token_type(handle.model.config.model_type)
    extended = dict(inputs)
    for name, value in inputs.items():
        if name == "input_ids":
            extended[name] = torch.cat([value, row], dim=1)
        elif name == "attention_mask":
            extended[name] = torch.cat([value, value.new_ones(row.shape)], dim=1)
        elif name.endswith("token_type_ids"):
            types = value.new_full(row.shape, kind)
            extended[name] = torch.cat([value, types], dim=1)
    return extended
