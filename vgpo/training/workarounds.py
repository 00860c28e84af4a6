"""Faults of TRL and Transformers that training runs into: one function each.

Each names the test in ``tests/training/test_trainer_contract.py`` that shows the
fault in the releases pinned here. When such a test fails, the fault is mended, and
the function may go. Two more are in :mod:`vgpo.training.resume`.
"""

from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor

from vgpo.models.handle import unwrap_model


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
