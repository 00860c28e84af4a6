"""The rule by which each family lays its image tokens out on the image.

A rule is a function of a configuration, the inputs of a forward pass and the lengths
of the runs of neighbouring image tokens in each row (``Runs``). A family without
a rule has no grids, and its attention is not drawn on pictures: a wrong place would
look as convincing as a right one.
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
Grids = list[list[torch.Tensor]]
"""For each row its (height, width) int64 grids, on the CPU."""


class GridRule(Protocol):
    """How a family of models lays the tokens of an image out."""

    def __call__(self, config: PreTrainedConfig, inputs: Inputs, rows: Runs) -> Grids:
        """Grids of all rows of a batch.

        Raises:
            ValueError: The image sizes do not account for the image tokens.
        """


def grid_rule(config: PreTrainedConfig) -> GridRule:
    """The rule of a model's family; for a family without one, a rule of no grids."""
    if config.model_type in ("llava", "mistral3") and (
        config.vision_config.model_type == "pixtral"
    ):
        return _line_by_line
    return _RULES.get(config.model_type, _unknown)


def _unknown(config: PreTrainedConfig, inputs: Inputs, rows: Runs) -> Grids:
    return [[] for _ in rows]


def _grid(start: int, height: int, width: int) -> torch.Tensor:
    return torch.arange(start, start + height * width).view(height, width)


# -- one grid per image, as large as the image ------------------------------------


def _merged_patches(config: PreTrainedConfig, inputs: Inputs, rows: Runs) -> Grids:
    """Patches, merged by squares, line by line."""
    sizes = _merged_sizes(inputs, config.vision_config.spatial_merge_size)
    return [_fill(sum(row), sizes) for row in rows]


def _merged_by_image(config: PreTrainedConfig, inputs: Inputs, rows: Runs) -> Grids:
    """VideoLLaMA 3: how many patches are merged is said image by image."""
    sizes = _merged_sizes(inputs, inputs.get("image_merge_sizes"))
    return [_fill(sum(row), sizes) for row in rows]


def _merged_with_line_ends(
    config: PreTrainedConfig, inputs: Inputs, rows: Runs
) -> Grids:
    """HunYuan-VL: a token opens the image, one ends each line, one closes it."""
    sizes = _merged_sizes(inputs, config.vision_config.spatial_merge_size)
    return [_fill(sum(row), sizes, before=1, line_end=1, after=1) for row in rows]


def _merged_sizes(inputs: Inputs, merge: int | torch.Tensor) -> Iterator[list[int]]:
    if "image_grid_thw" not in inputs:
        return iter([])
    patches = inputs["image_grid_thw"][:, 1:]
    if isinstance(merge, torch.Tensor):
        merge = merge.to(patches.device)[:, None]
    return iter((patches // merge).tolist())


def _fill(
    tokens: int,
    sizes: Iterator[list[int]],
    before: int = 0,
    line_end: int = 0,
    after: int = 0,
) -> list[torch.Tensor]:
    """Takes images from ``sizes`` until they account for a row's image tokens."""
    grids, used = [], 0
    while used < tokens:
        height, width = next(sizes, (0, 0))
        taken = before + height * (width + line_end) + after
        if height * width == 0 or used + taken > tokens:
            raise ValueError(
                "inputs: image_grid_thw and image tokens do not match in a row of "
                f"{tokens}; images and rows must be those of one batch."
            )
        lines = _grid(used + before, height, width + line_end)
        grids.append(lines[:, :width])
        used += taken
    return grids


def _line_by_line(config: PreTrainedConfig, inputs: Inputs, rows: Runs) -> Grids:
    """Pixtral's tower: a run of tokens for each line, other tokens between lines."""
    vision = config.vision_config
    cell = vision.patch_size
    if config.model_type == "mistral3":
        cell *= config.spatial_merge_size
    sizes = iter(inputs["image_sizes"].tolist() if "image_sizes" in inputs else [])
    grids = []
    for row in rows:
        lines, grids_of_row, start = list(row), [], 0
        while lines:
            height, width = (pixels // cell for pixels in next(sizes, (0, 0)))
            if not height or lines[:height] != [width] * height:
                raise ValueError(
                    "inputs: image_sizes and image tokens do not match in a row with "
                    f"lines of {row} tokens; images and rows must be those of one "
                    "batch."
                )
            grids_of_row.append(_grid(start, height, width))
            start += height * width
            del lines[:height]
        grids.append(grids_of_row)
    return grids


# -- square tiles -----------------------------------------------------------------


def _square_tiles(config: PreTrainedConfig, inputs: Inputs, rows: Runs) -> Grids:
    """Each run is one or several squares of the same side."""
    side = _tile_side(config)
    grids = []
    for row in rows:
        starts = range(0, sum(row), side**2)
        # A run that is no whole number of squares holds tokens of another kind.
        whole = all(run % side**2 == 0 for run in row)
        grids.append([_grid(start, side, side) for start in starts] if whole else [])
    return grids


def _tile_side(config: PreTrainedConfig) -> int:
    """Image tokens along one side of a tile."""
    vision = config.vision_config
    if config.model_type == "gemma3":
        return isqrt(config.mm_tokens_per_image)
    if config.model_type in ("idefics3", "smolvlm"):
        return vision.image_size // vision.patch_size // config.scale_factor
    if config.model_type == "internvl":
        return isqrt(config.image_seq_length)
    return vision.image_size // vision.patch_size


# -- an overview, then the image in detail ----------------------------------------


def _overviews_and_details(
    config: PreTrainedConfig, inputs: Inputs, rows: Runs
) -> Grids:
    """LLaVA-NeXT and -OneVision: the image as one square; then, where it is tiled,
    all of it in detail, each line with an end."""
    sizes = inputs["image_sizes"].tolist() if "image_sizes" in inputs else []
    tiled: list[bool | None] = [None] * len(sizes)
    if "batch_num_images" in inputs:
        # LLaVA-OneVision tiles only an image that is alone in its conversation.
        counts = inputs["batch_num_images"].tolist()
        tiled = [count == 1 for count in counts for _ in range(count)]
    images = iter(list(zip(sizes, tiled, strict=True)))
    return [_overviews_of_row(config, row, images) for row in rows]


def _overviews_of_row(
    config: PreTrainedConfig,
    runs: list[int],
    images: Iterator[tuple[list[int], bool | None]],
) -> list[torch.Tensor]:
    side = config.vision_config.image_size // config.vision_config.patch_size
    grids, start = [], 0
    for run in runs:
        end = start + run
        # Images written next to each other are one run.
        while start < end:
            size, tiled = next(images, (None, None))
            if size is None:
                raise ValueError(
                    "inputs: image_sizes and image tokens do not match: the prompts "
                    "hold more images."
                )
            if tiled is None:
                # One token after the overview, which ends its line: not tiled.
                tiled = end - start != side**2 + 1
            height, width = _detail_shape(config, size, side) if tiled else (1, 0)
            taken = side**2 + height * (width + 1)
            if start + taken > end:
                raise ValueError(
                    f"inputs: image_sizes and image tokens do not match: size {size} "
                    f"takes {taken} tokens, there are {end - start}."
                )
            grids.append(_grid(start, side, side))
            if tiled:
                lines = _grid(start + side**2, height, width + 1)
                grids.append(lines[:, :-1])
            start += taken
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
    if config.model_type == "llava_onevision":
        most = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
        ratio = sqrt(height * width / (most * side**2))
        if ratio > 1.1:
            height, width = int(height // ratio), int(width // ratio)
    return height, width


_RULES: dict[str, GridRule] = {
    **dict.fromkeys(
        (
            "ernie4_5_vl_moe",
            "glm46v",
            "glm4v",
            "glm4v_moe",
            "paddleocr_vl",
            "qwen2_5_vl",
            "qwen2_vl",
            "qwen3_5",
            "qwen3_5_moe",
            "qwen3_vl",
            "qwen3_vl_moe",
        ),
        _merged_patches,
    ),
    "video_llama_3": _merged_by_image,
    "hunyuan_vl": _merged_with_line_ends,
    **dict.fromkeys(
        (
            "gemma3",
            "idefics3",
            "internvl",
            "llava",
            "paligemma",
            "smolvlm",
            "vipllava",
        ),
        _square_tiles,
    ),
    **dict.fromkeys(("llava_next", "llava_onevision"), _overviews_and_details),
}
"""Families whose places were checked: a cell of the picture is painted, and the token
of that cell is the one whose feature moves."""
