"""A tiny random model of every image-text-to-text family of transformers.

A configuration is the family's default with every size cut down by the names that
families share; what is particular to one stands in :data:`OWN`. Nothing is downloaded.
"""

import dataclasses
from copy import deepcopy

import torch
from transformers import CONFIG_MAPPING, BatchFeature, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

FAMILIES = tuple(sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES))

VOCABULARY = 600
PAD, BOS, EOS = 0, 1, 2

TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "ffn_dim": 128,
    "word_embed_proj_dim": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    # mixtures of experts
    "moe_intermediate_size": 32,
    "intermediate_size_mlp": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "shared_expert_intermediate_size": 32,
    "moe_num_experts": 4,
    "moe_num_shared_experts": 1,
    "moe_k": 2,
    # latent and linear attention
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "sliding_window": 8,
    "query_pre_attn_scalar": 16,
}
VISION = {
    "hidden_size": 32,
    "embed_dim": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "depth": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_heads": 2,
    "image_size": 56,
    "patch_size": 14,
    "out_hidden_size": 64,
    "text_hidden_size": 64,
    "projection_dim": 64,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
    "fullatt_block_indexes": [1],
    "vision_use_head": False,
}


def _shrunk(cls: type, sizes: dict) -> dict:
    """Values of ``sizes`` for the fields that a configuration class has."""
    fields = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in sizes.items() if name in fields}


IMAGE, IMAGE_START, IMAGE_END, VIDEO = 500, 501, 502, 503
_IDS = {
    "image_token_id": IMAGE,
    "image_token_index": IMAGE,
    "video_token_id": VIDEO,
    "video_token_index": VIDEO,
    "vision_start_token_id": IMAGE_START,
    "vision_end_token_id": IMAGE_END,
    "image_start_token_id": IMAGE_START,
    "image_end_token_id": IMAGE_END,
    "boi_token_index": IMAGE_START,
    "eoi_token_index": IMAGE_END,
}
_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}

_HALF_MROPE = _ROPE | {"partial_rotary_factor": 0.5, "mrope_section": [1, 1, 2]}
_HYBRID = ["linear_attention", "full_attention", "linear_attention"]

OWN: dict[str, dict] = {
    "florence2": {
        "text_config": {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
        },
        "vision_config": {
            "embed_dim": [16] * 4,
            "depths": [1] * 4,
            "num_heads": [2] * 4,
            "num_groups": [2] * 4,
            "patch_size": [7, 3, 3, 3],
            "projection_dim": 64,
            "window_size": 4,
        },
        "is_encoder_decoder": True,
    },
    "hunyuan_vl": {
        "text_config": {
            "rope_parameters": _ROPE | {"mrope_section": [2, 2, 2, 2]},
        },
        "vision_config": {"patch_size": 16, "max_image_size": 256},
    },
    "llama4": {
        "text_config": {
            "num_hidden_layers": 2,
            "no_rope_layers": [1, 1],
            "num_experts_per_tok": 1,
        },
        "vision_config": {
            "intermediate_size": 128,
            "vision_output_dim": 64,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
            "pixel_shuffle_ratio": 0.5,
        },
    },
    "llava_onevision": {
        "image_grid_pinpoints": [[56, 56], [56, 112], [112, 56], [112, 112]],
    },
    "aria": {
        "projector_patch_to_query_dict": {1225: 4, 4900: 8},
        "vision_config": {"image_size": 490},
    },
    "idefics2": {
        "perceiver_config": {
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 2,
        }
    },
    "internvl": {
        "image_seq_length": 4,
        "downsample_ratio": 0.5,
        "vision_config": {"image_size": [56, 56], "patch_size": [14, 14]},
    },
    "qwen2_vl": {
        "vision_config": {"hidden_size": 64, "embed_dim": 32},
        "text_config": {"rope_parameters": _MROPE},
    },
    "qwen2_5_vl": {"text_config": {"rope_parameters": _MROPE}},
    "paddleocr_vl": {"text_config": {"rope_parameters": _MROPE}},
    "qwen4_exp": {"text_config": {"layer_types": _HYBRID}},
    "ernie4_5_vl_moe": {"text_config": {"moe_intermediate_size": [32, 32]}},
    "gemma3": {"mm_tokens_per_image": 4},
    "idefics3": {"scale_factor": 2},
    "smolvlm": {"scale_factor": 2},
    "llava_next": {"image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]]},
    "llava_next_video": {"image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]]},
    "mllama": {
        "text_config": {"cross_attention_layers": [1], "rope_parameters": _ROPE},
        "vision_config": {
            "attention_heads": 2,
            "num_global_layers": 1,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 64,
            "max_num_tiles": 1,
            "supported_aspect_ratios": [[1, 1]],
        },
    },
    "paligemma": {
        "projection_dim": 64,
        "vision_config": {"model_type": "siglip_vision_model"},
        "text_config": {"model_type": "gemma"},
    },
    "vipllava": {"vision_feature_layers": [-1, -2]},
    "qwen3_5": {"text_config": {"layer_types": _HYBRID}},
    "qwen3_5_moe": {"text_config": {"layer_types": _HYBRID}},
    "glm4v": {"text_config": {"rope_parameters": _HALF_MROPE}},
    "glm46v": {"text_config": {"rope_parameters": _HALF_MROPE}},
    "glm4v_moe": {"text_config": {"rope_parameters": _HALF_MROPE}},
    "ovis2": {"hidden_size": 64, "vocab_size": VOCABULARY},
}
"""What a family needs beside the common sizes, or has in another form."""


def config_of(name: str, **text_config) -> PreTrainedConfig:
    """The tiny configuration of a family.

    Args:
        name: A ``model_type`` of :data:`FAMILIES`.
        **text_config: Settings of the language model.
    """
    cls = CONFIG_MAPPING[name]
    own = deepcopy(OWN.get(name, {}))
    # Default configurations of the parts, to see what classes and fields they have.
    default = cls(**{k: v for k, v in own.items() if not isinstance(v, dict)})
    text = default.get_text_config(decoder=True)
    settings = {} if text is not default else _shrunk(cls, TEXT)
    for key in cls.sub_configs or ():
        part = getattr(default, key, None)
        if part is None:
            continue
        is_text = part is text or "text" in key
        sizes = _shrunk(type(part), TEXT if is_text else VISION)
        settings[key] = {"model_type": part.model_type, **sizes, **own.pop(key, {})}
        if part is text:
            settings[key] |= text_config
    config = cls(**settings, **own)
    for key, token_id in _IDS.items():
        if hasattr(config, key):
            setattr(config, key, token_id)
    return config


def build(name: str, attention: str = "sdpa", **text_config) -> torch.nn.Module:
    """The tiny model, see :func:`random_model`."""
    config = config_of(name, **text_config)
    config._attn_implementation = attention
    return random_model(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)], config)


def random_model(cls: type, config: PreTrainedConfig) -> torch.nn.Module:
    """A model in float32 and eval mode whose weights are the same at every call."""
    torch.manual_seed(0)
    model = cls(config).float().eval()
    # The usual initialisation leaves states of different tokens nearly parallel.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model


def prompt(image_tokens: int, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Words, a start, image tokens, an end and words; ``more`` beside the ids."""
    ids = [10, 11, IMAGE_START, *[IMAGE] * image_tokens, IMAGE_END, 12, 13, 14]
    input_ids = torch.tensor([ids])
    return {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        **more,
    }


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class HandMade:
    """A processor that returns tensors made by hand, whatever it is asked."""

    def __init__(self, inputs, tokenizer):
        self.inputs, self.tokenizer = inputs, tokenizer

    def apply_chat_template(self, messages, **_):
        return BatchFeature({key: value.clone() for key, value in self.inputs.items()})


def reference_focus(states, input_ids, count, alignment="token"):
    """Eq. 3-4 in float64 for the last ``count`` tokens of one row."""
    states = states[0].double()
    prototype = states[input_ids[0] == IMAGE].mean(dim=0)
    end = len(states) - (alignment == "prediction")
    chosen = states[end - count : end]
    cosine = (chosen @ prototype) / chosen.norm(dim=1) / prototype.norm()
    return (cosine + 1) / 2


def skeleton(name: str) -> torch.nn.Module:
    """The model without any memory for weights."""
    config = config_of(name)
    with torch.device("meta"):
        return MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)](config).eval()


TEXT_OF_LLAMA = {"model_type": "llama", **_shrunk(CONFIG_MAPPING["llama"], TEXT)}
