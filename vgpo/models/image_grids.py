"""How a row's image tokens lie on the image, family by family."""

from collections.abc import Iterator
from math import isqrt, sqrt

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.models.llava_onevision.modeling_llava_onevision import (
    get_anyres_image_grid_shape,
    unpad_image,
)

from vgpo.models.capture import unwrap_model


def image_token_grids(
    model: nn.Module, inputs: dict[str, torch.Tensor], is_image: torch.Tensor
) -> list[list[torch.Tensor]]:
    """The grids that each row's image tokens form, in the order of the prompt.

    Qwen2.5-VL, Qwen3-VL and Gemma 3 have one grid per image (Gemma 3 with pan and
    scan: the image, then its crops). Idefics3, SmolVLM and InternVL have one per
    tile, the scaled-down whole image last. LLaVA-OneVision has an overview and,
    where the image was tiled, the tiled image as one grid, without the tokens that
    end its lines. For other families each run of neighbouring image tokens is one
    line.

    Args:
        model: A vision-language model, wrapped or not.
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
    config = unwrap_model(model).config
    runs = [_runs(row) for row in is_image.cpu()]
    if "image_grid_thw" in inputs:
        merge = config.vision_config.spatial_merge_size
        sizes = iter((inputs["image_grid_thw"][:, 1:] // merge).tolist())
        return [_merged_patches(sum(row), sizes) for row in runs]
    if config.model_type == "llava_onevision":
        sizes = iter(inputs["image_sizes"].tolist() if "image_sizes" in inputs else [])
        return [_overview_and_detail(config, row, sizes) for row in runs]
    side = _tile_side(config)
    return [_square_tiles(row, side) for row in runs]


def _runs(is_image: torch.Tensor) -> list[int]:
    """Lengths of the runs of neighbouring image tokens in one row."""
    values, lengths = is_image.unique_consecutive(return_counts=True)
    return lengths[values.bool()].tolist()


def _grid(start: int, height: int, width: int) -> torch.Tensor:
    return torch.arange(start, start + height * width).view(height, width)


def _merged_patches(tokens: int, sizes: Iterator[list[int]]) -> list[torch.Tensor]:
    grids, used = [], 0
    while used < tokens:
        height, width = next(sizes, (0, 0))
        if height * width == 0 or used + height * width > tokens:
            raise ValueError(
                "inputs: image_grid_thw and image tokens do not match in a row of "
                f"{tokens}; images and rows must be those of one batch."
            )
        grids.append(_grid(used, height, width))
        used += height * width
    return grids


def _tile_side(config: PreTrainedConfig) -> int | None:
    """Image tokens along one side of a tile, for families of square tiles."""
    if config.model_type == "gemma3":
        return isqrt(config.mm_tokens_per_image)
    if config.model_type in ("idefics3", "smolvlm"):
        vision = config.vision_config
        return vision.image_size // vision.patch_size // config.scale_factor
    if config.model_type == "internvl":
        return isqrt(config.image_seq_length)
    return None


def _square_tiles(runs: list[int], side: int | None) -> list[torch.Tensor]:
    grids, start = [], 0
    for run in runs:
        if side is not None and run % side**2 == 0:
            tiles = range(start, start + run, side**2)
            grids += [_grid(tile, side, side) for tile in tiles]
        else:
            grids.append(_grid(start, 1, run))
        start += run
    return grids


def _overview_and_detail(
    config: PreTrainedConfig, runs: list[int], sizes: Iterator[list[int]]
) -> list[torch.Tensor]:
    side = config.vision_config.image_size // config.vision_config.patch_size
    grids, start = [], 0
    for run in runs:
        size = next(sizes, None)
        if size is None:
            raise ValueError(
                "inputs: image_sizes and image tokens do not match: the prompts hold "
                "more images."
            )
        grids.append(_grid(start, side, side))
        # One token after the overview alone ends its line: the image was not tiled.
        if run > side**2 + 1:
            height, width = _detail_shape(config, size, side)
            if run != side**2 + height * (width + 1):
                raise ValueError(
                    f"inputs: image_sizes and image tokens do not match: size {size} "
                    f"takes {side**2 + height * (width + 1)} tokens, there are {run}."
                )
            lines = _grid(start + side**2, height, width + 1)
            grids.append(lines[:, :-1])
        start += run
    return grids


def _detail_shape(
    config: PreTrainedConfig, size: list[int], side: int
) -> tuple[int, int]:
    """Rows and columns of the tiled image, by the model's own rules."""
    tiles = get_anyres_image_grid_shape(
        size, config.image_grid_pinpoints, config.vision_config.image_size
    )
    canvas = torch.empty(1, tiles[0] * side, tiles[1] * side)
    _, height, width = unpad_image(canvas, size).shape
    most = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
    ratio = sqrt(height * width / (most * side**2))
    if ratio > 1.1:
        height, width = int(height // ratio), int(width // ratio)
    return height, width
