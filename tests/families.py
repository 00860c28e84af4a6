"""Tiny random vision-language models, one per family, and batches to feed them.

Nothing is downloaded: configurations are written by hand, weights are random,
and pixel values are drawn directly in the shape the family's image processor
would have produced. ``build(name)`` gives the model, ``batch(name, ...)`` the
keyword arguments of its forward pass.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

import torch
import transformers

VOCABULARY = 128
PAD, IMAGE, VIDEO, VISION_START, VISION_END = 0, 120, 121, 122, 123

TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@dataclass(frozen=True)
class Family:
    """What a batch for this family must look like."""

    grid: tuple[int, int]
    """Rows and columns of one image's tokens on the image."""
    extra_tokens: int = 0
    """Image tokens beyond the grid (a second resolution, line ends)."""

    @property
    def tokens_per_image(self) -> int:
        return self.grid[0] * self.grid[1] + self.extra_tokens


FAMILIES = {
    "qwen2_5_vl": Family(grid=(2, 3)),
    "qwen3_vl": Family(grid=(2, 3)),
    "gemma3": Family(grid=(2, 2)),
    "idefics3": Family(grid=(2, 2)),
    "smolvlm": Family(grid=(2, 2)),
    # Two rows of four positions and a line end each, after the 2 x 2 overview.
    "llava_onevision": Family(grid=(2, 2), extra_tokens=10),
    "internvl": Family(grid=(2, 2)),
}


def _qwen2_5_vl(text):
    config = transformers.Qwen2_5_VLConfig(
        text_config=TEXT | {"rope_parameters": _MROPE} | text,
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        },
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )
    return transformers.Qwen2_5_VLForConditionalGeneration, config


def _qwen3_vl(text):
    config = transformers.Qwen3VLConfig(
        text_config=TEXT
        | {"head_dim": 16, "rope_parameters": _MROPE | {"mrope_interleaved": True}}
        | text,
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )
    return transformers.Qwen3VLForConditionalGeneration, config


def _gemma3(text):
    config = transformers.Gemma3Config(
        text_config=TEXT
        | {
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        }
        | text,
        vision_config=_VISION
        | {"model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
        boi_token_index=VISION_START,
        eoi_token_index=VISION_END,
    )
    return transformers.Gemma3ForConditionalGeneration, config


def _idefics3_like(model_class, config_class):
    def settings(text):
        config = config_class(
            text_config=TEXT | {"model_type": "llama"} | text,
            vision_config=_VISION | {"image_size": 56, "patch_size": 14},
            scale_factor=2,
            image_token_id=IMAGE,
        )
        return model_class, config

    return settings


def _llava_onevision(text):
    config = transformers.LlavaOnevisionConfig(
        text_config=TEXT | {"model_type": "qwen2"} | text,
        vision_config=_VISION
        | {
            "model_type": "siglip_vision_model",
            "image_size": 28,
            "patch_size": 14,
            "vision_use_head": False,
        },
        image_grid_pinpoints=[[28, 56]],
        image_token_index=IMAGE,
        video_token_index=VIDEO,
    )
    return transformers.LlavaOnevisionForConditionalGeneration, config


def _internvl(text):
    config = transformers.InternVLConfig(
        text_config=TEXT | {"model_type": "qwen2"} | text,
        vision_config=_VISION | {"image_size": [56, 56], "patch_size": [14, 14]},
        image_seq_length=4,
        downsample_ratio=0.5,
        image_token_id=IMAGE,
    )
    return transformers.InternVLForConditionalGeneration, config


_SETTINGS = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "gemma3": _gemma3,
    "idefics3": _idefics3_like(
        transformers.Idefics3ForConditionalGeneration, transformers.Idefics3Config
    ),
    "smolvlm": _idefics3_like(
        transformers.SmolVLMForConditionalGeneration, transformers.SmolVLMConfig
    ),
    "llava_onevision": _llava_onevision,
    "internvl": _internvl,
}


def build(name: str, *, attention: str = "sdpa", **text_config):
    """A tiny random model of the family, in eval mode and float32.

    Calls with the same arguments give models with the same weights.
    """
    if text_config:
        return _build(name, attention, text_config)
    return deepcopy(_build_once(name, attention))


@cache
def _build_once(name, attention):
    return _build(name, attention, {})


def _build(name, attention, text_config):
    model_class, config = _SETTINGS[name](text_config)
    config._attn_implementation = attention
    torch.manual_seed(0)
    model = model_class(config).eval()
    # The usual initialisation leaves states of different tokens nearly
    # parallel; larger weights tell the positions apart.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model


def batch(
    name: str,
    *,
    images_per_row: Sequence[int] = (1, 2, 1),
    completion_length: int = 5,
    prompt_padding: str = "left",
    completion_lengths: Sequence[int] | None = None,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Forward arguments for ragged prompts with images and random completions.

    Row i holds ``3 + 2 i`` words, ``images_per_row[i]`` images with a word after
    each, and its completion. ``prompt_padding="left"`` is the layout of rollouts:
    prompts padded on the left, completions (shorter ones) on the right, the last
    ``completion_length`` positions are the completions. With ``"right"``, the
    completion follows its prompt and all padding comes last.
    """
    family = FAMILIES[name]
    generator = torch.Generator().manual_seed(seed)

    def words(number):
        return torch.randint(3, 100, (number,), generator=generator)

    lengths = completion_lengths or [completion_length] * len(images_per_row)
    prompts, completions = [], []
    for row, images in enumerate(images_per_row):
        parts = [words(3 + 2 * row)]
        for _ in range(images):
            image = torch.full((family.tokens_per_image,), IMAGE)
            parts += [
                torch.tensor([VISION_START]),
                image,
                torch.tensor([VISION_END]),
                words(1),
            ]
        prompts.append(torch.cat(parts))
        completions.append(words(lengths[row]))

    longest = max(len(prompt) for prompt in prompts)
    width = longest + completion_length
    input_ids = torch.full((len(prompts), width), PAD)
    attention_mask = torch.zeros_like(input_ids)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        start = longest - len(prompt) if prompt_padding == "left" else 0
        tokens = torch.cat([prompt, completion])
        input_ids[row, start : start + len(tokens)] = tokens
        attention_mask[row, start : start + len(tokens)] = 1

    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    total = sum(images_per_row)
    if total:
        inputs |= _pixels(name, images_per_row, total, generator)
    is_image = (input_ids == IMAGE).int()
    if name in ("qwen2_5_vl", "qwen3_vl"):
        inputs["mm_token_type_ids"] = is_image
    if name == "gemma3":
        inputs["token_type_ids"] = is_image
    return inputs


def _pixels(name, images_per_row, total, generator):
    def noise(*shape):
        return torch.randn(*shape, generator=generator)

    if name in ("qwen2_5_vl", "qwen3_vl"):
        patch = 14 if name == "qwen2_5_vl" else 16
        rows, columns = (2 * side for side in FAMILIES[name].grid)
        return {
            "pixel_values": noise(total * rows * columns, 3 * 2 * patch * patch),
            "image_grid_thw": torch.tensor([[1, rows, columns]] * total),
        }
    if name in ("idefics3", "smolvlm"):
        pixels = noise(len(images_per_row), max(images_per_row), 3, 56, 56)
        for row, images in enumerate(images_per_row):
            pixels[row, images:] = 0.0  # an all-zero image is padding to this family
        return {"pixel_values": pixels}
    if name == "llava_onevision":
        return {
            "pixel_values": noise(total, 3, 3, 28, 28),
            "image_sizes": torch.tensor([[28, 56]] * total),
        }
    return {"pixel_values": noise(total, 3, 56, 56)}
