"""Faults of TRL and Transformers that training runs into: one function each.

Each names the test in ``tests/training/test_trainer_contract.py`` that shows the
fault in the releases pinned here. When such a test fails, the fault is mended, and
the function may go. Two more are in :mod:`vgpo.training.resume`; what cannot be worked
around is refused in :mod:`vgpo.training.refusals`.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig, ProcessorMixin
from trl.data_utils import prepare_multimodal_messages

from vgpo.models.handle import suppressed_tokens, unwrap_model
from vgpo.models.inputs import completion_token_type, without_padding

logger = logging.getLogger(__name__)

# What TRL sets itself, and what belongs to a model and not to a way of sampling.
_SET_BY_TRL = (
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "max_length",
    "max_new_tokens",
)
_OF_THE_MODEL = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "suppress_tokens",
    "bad_words_ids",
    "use_cache",
    "cache_implementation",
    "cache_config",
    "transformers_version",
)


@contextmanager
def quiet_about_old_names() -> Iterator[None]:
    """Without the warning of a name that TRL and PEFT ask for, renamed in Transformers.

    It is theirs to mend, says nothing of a run, and would be the first thing that a
    newcomer reads. All other warnings are shown.
    ``test_plain_trl_asks_for_a_name_that_is_going``.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning
        )
        yield


def trained_parameters(model: Any) -> dict[str, Tensor]:
    """Copies of what a model with adapters, if it is one, has to train.

    What :func:`undo_rounding_of_adapters` restores.
    """
    if not isinstance(model, PeftModel):
        return {}
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def undo_rounding_of_adapters(model: torch.nn.Module, given: dict[str, Tensor]) -> None:
    """Adapters over quantised weights, back in float32.

    TRL rounds them to bfloat16, in which a step of 1e-6, or 1e-5, is less than half
    the distance of most weights to their neighbour: they would stand still. And an
    adapter is reloaded in float32, in which the same numbers score otherwise.
    ``test_plain_trl_rounds_adapters_over_4_bits``.

    Args:
        model: After TRL has prepared it.
        given: Its trained parameters before, from :func:`trained_parameters`; those
            of adapters that TRL made itself are absent, and are widened as they are.
    """
    # Transformers sets this on quantised models only.
    if not getattr(unwrap_model(model), "is_loaded_in_4bit", False):
        return
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype == torch.bfloat16:
            parameter.data = given.get(name, parameter.data).float()


def image_of_none(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with a list of ``images`` each, empty where there is none.

    TRL takes an empty list of ``images`` in a batch where others have some; it does
    not take an ``image`` of None.
    ``test_plain_trl_cannot_mix_rows_with_and_without_image``.
    """
    if "images" in inputs[0]:
        return [{**row, "images": row["images"] or []} for row in inputs]
    if "image" in inputs[0]:
        return [
            {**row, "images": [] if row["image"] is None else [row["image"]]}
            for row in inputs
        ]
    return inputs


def images_of_none(images: list[list | None] | None) -> list[list] | None:
    """The images of a batch of prompts, with an empty list where TRL has None.

    Processors take rows without an image as empty lists only.
    ``test_prompts_come_with_their_images``.
    """
    return None if images is None else [row or [] for row in images]


def tokenized(
    processor: ProcessorMixin, conversations: list[list[dict]], **template: Any
) -> tuple[list[list[int]], list[list], dict[str, Any]]:
    """Ids of prompts, their images, and what else the processor makes of them.

    TRL asks for no padding, without which some processors make nothing of prompts of
    unequal length; others pad all the same, and TRL, which drops the attention mask,
    takes their padding for the beginning of the shorter prompts.
    ``test_plain_trl_counts_padding_of_a_processor_as_prompt``.

    Args:
        processor: The model's own.
        conversations: One per prompt; images are in their messages.
        **template: As ``apply_chat_template`` takes it.
    """
    conversations = [prepare_multimodal_messages(one) for one in conversations]
    encoded = processor.apply_chat_template(
        conversation=conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
        **template,
    )
    images = [
        [
            part["image"]
            for message in conversation
            if isinstance(message["content"], list)
            for part in message["content"]
            if part["type"] == "image"
        ]
        for conversation in conversations
    ]
    prompt_ids, fields = without_padding(encoded)
    fields.pop("labels", None)  # PaliGemma's, of the prompt alone
    return prompt_ids, images, fields


def stacked_by_row(batch: Mapping[str, Any]) -> bool:
    """Whether pixels are one padded stack of images per row (Idefics, SmolVLM)."""
    pixels = batch.get("pixel_values")
    if isinstance(pixels, list):
        pixels = pixels[0]
    # With their sizes, 5 dimensions are images and their tiles (LLaVA-NeXT).
    return pixels is not None and pixels.ndim == 5 and "image_sizes" not in batch


def entries_of_rows(batch: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """``num_images`` by which TRL cuts the pixels of a batch right.

    TRL takes a padded stack per row for a tensor of all images where there happen to
    be as many images as rows, and deals out rows of other pictures. An entry per row
    is what both readings cut alike.
    ``test_plain_trl_takes_a_stack_of_images_per_row_for_a_list_of_images``.

    Args:
        batch: With ``pixel_values``, or none.
        rows: Its number of rows.

    Returns:
        What is to be put into ``batch``; how many images a row really has is lost.
    """
    return {"num_images": [1] * rows} if stacked_by_row(batch) else {}


def types_of_completions(
    model: torch.nn.Module, types: Tensor | None, length: int
) -> dict[str, Tensor]:
    """``token_type_ids`` whose last ``length`` are those of generated tokens.

    TRL gives completions type 0, which in PaliGemma is the prefix: its tokens would see
    those that come after them.
    ``test_plain_trl_gives_completions_the_type_of_a_prompt``.
    """
    kind = completion_token_type(unwrap_model(model).config.model_type)
    if types is None or not kind:
        return {}
    types = types.clone()
    types[:, -length:] = kind
    return {"token_type_ids": types}


@contextmanager
def images_of_rows(
    model: torch.nn.Module, num_images: list[int] | None
) -> Iterator[None]:
    """Tells LLaVA-OneVision how many images each row of a pass has.

    It cuts the only image of a row into tiles, and none of several. TRL leaves the
    numbers out, by which every image has tiles.
    ``test_plain_trl_leaves_the_number_of_images_of_a_row_out``.

    Args:
        model: The one that is run; passes go over the rows in order.
        num_images: Of each row.
    """
    plain = unwrap_model(model)
    takes = signature(type(plain).forward).parameters
    if num_images is None or "batch_num_images" not in takes:
        yield
        return
    done = 0

    def add(module, args, kwargs):
        nonlocal done
        rows = num_images[done : done + len(kwargs["input_ids"])]
        done += len(rows)
        if kwargs.get("pixel_values") is not None:
            device = kwargs["input_ids"].device
            kwargs = kwargs | {"batch_num_images": torch.tensor(rows, device=device)}
        return args, kwargs

    hook = plain.register_forward_pre_hook(add, with_kwargs=True, prepend=True)
    try:
        yield
    finally:
        hook.remove()


def empty_pixels(module, args, kwargs):
    """Lets a micro-batch of rows without images through a vision-language model.

    A forward pre-hook. TRL cuts pixels into micro-batches, and hands a model the
    empty rest where a micro-batch has no image; or stacks of padding alone, of which
    some models make features for no token.
    ``test_model_cannot_take_an_empty_stack_of_images``.
    """
    pixels = kwargs.get("pixel_values")
    if pixels is not None and (
        len(pixels) == 0 or (stacked_by_row(kwargs) and not pixels.any())
    ):
        gone = ("pixel_values", "image_grid_thw", "image_sizes", "pixel_attention_mask")
        kwargs = {name: value for name, value in kwargs.items() if name not in gone}
    return args, kwargs


def let_empty_pixels_through(model: torch.nn.Module) -> None:
    """Registers :func:`empty_pixels`, once however many trainers a model has had.

    ``test_model_cannot_take_an_empty_stack_of_images``.
    """
    if empty_pixels not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(empty_pixels, with_kwargs=True)


def set_aside_generation_leftovers(model: torch.nn.Module) -> list[str]:
    """Has rollouts sampled from the policy, whatever came with the checkpoint.

    TRL passes temperature, top-p and their like; all else that a checkpoint's
    ``generation_config.json`` holds stays in force. With ``num_beams: 4`` the rollouts
    of a group are one and the same, and teach nothing. What is set aside is logged;
    ``generation_kwargs`` brings it back.
    ``test_plain_trl_generates_with_leftovers_of_the_checkpoint``.

    Args:
        model: Its generation configuration is changed in place.

    Returns:
        The names of what is set aside.
    """
    config = unwrap_model(model).generation_config
    # None everywhere; what that stands for is told apart, and is no leftover.
    neutral = GenerationConfig()
    meant = neutral._get_default_generation_params()
    left = {
        name: value
        for name, value in config.to_dict().items()
        if name not in (*_SET_BY_TRL, *_OF_THE_MODEL)
        and not name.startswith("_")
        and value not in (False, getattr(neutral, name, None), meant.get(name))
    }
    for name in left:
        setattr(config, name, getattr(neutral, name, None))
    if left:
        logger.warning(
            "The model's generation_config holds %s, which would shape rollouts; set "
            "aside (generation_kwargs brings them back)",
            ", ".join(f"{name}={value}" for name, value in left.items()),
        )
    return list(left)


def never_sample_placeholders(
    config: GenerationConfig, placeholder_ids: Iterable[int]
) -> None:
    """Has no token sampled that stands for features of an image or a video.

    A completion that holds one ends the run at the next pass over it: "image features
    and image tokens do not match". TRL suppresses the image token alone, and not any
    more where ``generation_kwargs`` name ``suppress_tokens`` of their own.
    ``test_plain_trl_suppresses_only_the_image_token``.

    Args:
        config: Of the rollouts; changed in place.
        placeholder_ids: Of the model.
    """
    config.suppress_tokens = suppressed_tokens(config, placeholder_ids)


def all_processes_have_images(
    accelerator: Accelerator, inputs: list[dict[str, Any]]
) -> bool:
    """Whether images can be logged at all.

    TRL gathers images for its log on those processes only that have some, and the
    others would wait for ever.
    ``test_plain_trl_gathers_logged_images_only_where_there_are_some``.
    """
    mine = any(row.get("images") for row in inputs)
    flag = torch.tensor([mine], device=accelerator.device)
    return bool(accelerator.gather(flag).all())
