"""How a row's image tokens lie on the image, family by family."""

import torch
from torch import nn

from vgpo.models.handle import ModelHandle, resolve


def image_token_grids(
    model: nn.Module | ModelHandle,
    inputs: dict[str, torch.Tensor],
    is_image: torch.Tensor,
) -> list[list[torch.Tensor]]:
    """The grids that each row's image tokens form, in the order of the prompt.

    Qwen2.5-VL, Qwen3-VL and Gemma 3 have one grid per image (Gemma 3 with pan and
    scan: the image, then its crops). Idefics3, SmolVLM and InternVL have one per
    tile, the scaled-down whole image last. LLaVA-OneVision has an overview and,
    where the image was tiled, the tiled image as one grid, without the tokens that
    end its lines. For other families each run of neighbouring image tokens is one
    line.

    Args:
        model: A vision-language model, wrapped or not, or its handle.
        inputs: Arguments of its forward pass.
        is_image: (B, L) bool, True on image tokens.

    Returns:
        For each row a list of (height, width) int64 tensors on the CPU: at each
        place of the grid, which of the row's image tokens lies there, counted from
        the row's first. Empty for a row without image.

    Raises:
        ValueError: The image sizes in ``inputs`` do not account for the image
            tokens.
    """
    return resolve(model).grid_rule(inputs, [_runs(row) for row in is_image.cpu()])


def _runs(is_image: torch.Tensor) -> list[int]:
    """Lengths of the runs of neighbouring image tokens in one row."""
    values, lengths = is_image.unique_consecutive(return_counts=True)
    return lengths[values.bool()].tolist()
