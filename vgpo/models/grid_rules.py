"""The rule by which each family lays its image tokens out on the image.

A rule is a pure function of a configuration, the inputs of a forward pass and the
lengths of the runs of neighbouring image tokens in each row (``Runs``).
"""

from collections.abc import Iterator
from math import isqrt, sqrt
from typing import Protocol

import torch
from transformers import PreTrainedConfig
from transformers.models.llava_onevision.modeling_llava_onevision import (
    get_anyres_image_grid_shape,
    unpad_image,
)

Runs = list[list[int]]
"""For each row, the lengths of its runs of neighbouring image tokens."""

Inputs = dict[str, torch.Tensor]


class GridRule(Protocol):
    """Gives for each row a list of (height, width) int64 tensors on the CPU."""

    def __call__(self, inputs: Inputs, rows: Runs) -> list[list[torch.Tensor]]: ...


def grid_rule(config: PreTrainedConfig) -> GridRule:
    """The rule of a model's family, with the numbers of its configuration."""
    side = _tile_side(config)

    def rule(inputs: Inputs, rows: Runs) -> list[list[torch.Tensor]]:
        if "image_grid_thw" in inputs:
            return _merged_patches(config, inputs, rows)
        if config.model_type == "llava_onevision":
            return _overviews_and_details(config, inputs, rows)
        return [_square_tiles(row, side) for row in rows]

    return rule


def _grid(start: int, height: int, width: int) -> torch.Tensor:
    return torch.arange(start, start + height * width).view(height, width)


def _merged_patches(
    config: PreTrainedConfig, inputs: Inputs, rows: Runs
) -> list[list[torch.Tensor]]:
    merge = config.vision_config.spatial_merge_size
    sizes = iter((inputs["image_grid_thw"][:, 1:] // merge).tolist())
    return [_row_of_merged_patches(sum(row), sizes) for row in rows]


def _row_of_merged_patches(
    tokens: int, sizes: Iterator[list[int]]
) -> list[torch.Tensor]:
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


def _overviews_and_details(
    config: PreTrainedConfig, inputs: Inputs, rows: Runs
) -> list[list[torch.Tensor]]:
    sizes = iter(inputs["image_sizes"].tolist() if "image_sizes" in inputs else [])
    return [_overview_and_detail(config, row, sizes) for row in rows]


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
