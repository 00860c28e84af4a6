"""How a row's image tokens lie on the image, family by family."""

import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedConfig, ProcessorMixin

from vgpo.models.grid_rules import grid_rule
from vgpo.models.handle import ModelHandle, resolve


def image_token_grids(
    model: nn.Module | ModelHandle | PreTrainedConfig,
    inputs: dict[str, torch.Tensor],
    is_image: torch.Tensor,
) -> list[list[torch.Tensor]]:
    """The grids that each row's image tokens form, in the order of the prompt.

    Qwen2-VL to Qwen3.5, GLM-4V, PaddleOCR-VL, Ernie 4.5 VL, VideoLLaMA 3, HunYuan-VL,
    Pixtral, Mistral 3, PaliGemma, LLaVA-1.5, VipLLaVA and Gemma 3 have one grid per
    image (Gemma 3 with pan and scan: the image, then its crops). Idefics3, SmolVLM
    and InternVL have one per tile, the scaled-down whole image last. LLaVA-NeXT and
    LLaVA-OneVision have an overview and, where the image was tiled, the tiled image
    as one grid. Tokens that end lines are in no grid. Other families have no grids.

    Args:
        model: A vision-language model, wrapped or not, its handle or its configuration.
        inputs: Arguments of its forward pass.
        is_image: (B, L) bool, True on image tokens.

    Returns:
        For each row a list of (height, width) int64 tensors on the CPU: at each
        place of the grid, which of the row's image tokens lies there, counted from
        the row's first. Empty for a row without image, and for a family whose places
        are not known.

    Raises:
        ValueError: The image sizes in ``inputs`` do not account for the image
            tokens.
    """
    rows = [_runs(row) for row in is_image.cpu()]
    if isinstance(model, PreTrainedConfig):
        return grid_rule(model)(model, inputs, rows)
    handle = resolve(model)
    return handle.grid_rule(handle.model.config, inputs, rows)


def shown_whole(processor: ProcessorMixin, images: list[Image.Image]) -> bool:
    """Whether the model sees pictures from edge to edge, and nothing beside them.

    CLIP's image processor, LLaVA-1.5's among others, cuts the middle square out of a
    picture. LLaVA's own can pad it to a square instead, and LLaVA-OneVision's does
    where a conversation holds several. Then a grid of image tokens does not lie on
    the picture edge to edge.

    Args:
        processor: The model's own processor.
        images: All pictures of one conversation.
    """
    image_processor = getattr(processor, "image_processor", None)
    if image_processor is None:
        return True  # a reader's own processor; transformers' all have one
    settings, kind = image_processor.to_dict(), type(image_processor).__name__
    cropped = settings.get("do_center_crop")
    # In other families `do_pad` evens out the pictures of a batch.
    padded = (
        settings.get("do_pad")
        if kind.startswith("LlavaImageProcessor")
        else kind.startswith("LlavaOnevisionImageProcessor") and len(images) > 1
    )
    return not (cropped or padded) or all(
        image.width == image.height for image in images
    )


def _runs(is_image: torch.Tensor) -> list[int]:
    """Lengths of the runs of neighbouring image tokens in one row."""
    values, lengths = is_image.unique_consecutive(return_counts=True)
    return lengths[values.bool()].tolist()
