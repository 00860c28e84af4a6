"""Faults of TRL and Transformers that training runs into: one function each.

Each names the test in ``tests/training/test_trainer_contract.py`` that shows the
fault in the releases pinned here. When such a test fails, the fault is mended, and
the function may go. Two more are in :mod:`vgpo.training.resume`.
"""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig

from vgpo.models.handle import unwrap_model

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


def empty_pixels(module, args, kwargs):
    """Lets a micro-batch of rows without images through a vision-language model.

    A forward pre-hook. TRL cuts pixels into micro-batches, and hands a model the
    empty rest where a micro-batch has no image.
    ``test_model_cannot_take_an_empty_stack_of_images``.
    """
    pixels = kwargs.get("pixel_values")
    if pixels is not None and len(pixels) == 0:
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


def rows_without_image(dataset: Dataset) -> list[int]:
    """Numbers of the rows that have no image; none is read or decoded.

    Example:
        >>> rows = {"prompt": ["a", "b"], "image": ["one.png", None]}
        >>> rows_without_image(Dataset.from_dict(rows))
        [1]
    """
    return [row for row, lacks in enumerate(_lacks_image(dataset)) if lacks]


def any_image(dataset: Dataset) -> bool:
    """Whether a row has an image; reads on to the first that has one.

    Example:
        >>> any_image(Dataset.from_dict({"prompt": ["a"]}))
        False
    """
    return not all(_lacks_image(dataset))


def _lacks_image(dataset: Dataset) -> Iterator[bool]:
    """Row by row."""
    for name in ("images", "image"):
        if name in dataset.column_names:
            break
    else:
        yield from (True for _ in range(len(dataset)))
        return
    column = dataset.select_columns([name]).with_format("arrow")
    for start in range(0, len(dataset), 1000):
        values = column[start : start + 1000].column(0)
        if name == "images":
            yield from (not value.is_valid or len(value) == 0 for value in values)
        else:
            yield from values.is_null().to_pylist()


def refuse_rows_without_image(dataset: Dataset, engine: str) -> None:
    """Refuses data that would end in a hang or a mismatch between processes.

    Where an engine gathers or reduces a vision tower's weights on all processes, one
    whose micro-batch has no image leaves the others waiting, or answers with the
    wrong tensor.

    Raises:
        ValueError: Some rows have an image and some have none.
    """
    without = rows_without_image(dataset)
    if not without or len(without) == len(dataset):
        return
    some = ", ".join(map(str, without[:5])) + (", ..." if len(without) > 5 else "")
    raise ValueError(
        f"train_dataset: {len(without)} of its {len(dataset)} rows have no image (rows "
        f"{some}), which {engine} cannot mix with rows that have one: all processes "
        "must run the vision tower together. Leave these rows out, train without the "
        "engine, or, under ZeRO-1 and 2, train adapters of the language model only"
    )


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
