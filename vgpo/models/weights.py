"""Where a model's parameters are, and the bytes that they take, counted.

Of a model, or of a configuration alone: then a model without memory is built, so that
shapes of billions are counted in a second.
"""

import math

import pandas as pd
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, Qwen2_5_VLConfig

from vgpo.models.adapters import four_bit_config, skeleton_of

BLOCK = 64
"""Numbers that share one scale in NF4."""

SCALE_BLOCK = 256
"""Scales that share one scale of their own."""

PARTS = ("language layers", "token embedding", "output head", "vision tower", "norms")
"""What a model's parameters belong to. Only the first is quantised."""

# Of the published config.json files: what differs between the sizes.
_SIZES = {
    "3B": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tied": True,
        "vision_intermediate_size": 3420,
    },
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tied": False,
        "vision_intermediate_size": 3420,
    },
    "32B": {
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "vocab_size": 152064,
        "tied": False,
        "vision_intermediate_size": 3456,
    },
}

SIZES = tuple(_SIZES)
"""Sizes of Qwen2.5-VL that the paper trains."""


def qwen2_5_vl_config(size: str, layers: int | None = None) -> Qwen2_5_VLConfig:
    """The published shape of a Qwen2.5-VL model, without its weights.

    Args:
        size: ``"3B"``, ``"7B"`` or ``"32B"``.
        layers: Layers of the language model; by default all of them.

    Raises:
        ValueError: Unknown size.

    Example:
        >>> qwen2_5_vl_config("7B").text_config.num_hidden_layers
        28
    """
    if size not in _SIZES:
        raise ValueError(f"size must be one of {SIZES}, got {size!r}")
    shape = dict(_SIZES[size])
    tied, vision_width = shape.pop("tied"), shape.pop("vision_intermediate_size")
    if layers is not None:
        shape["num_hidden_layers"] = layers
    return Qwen2_5_VLConfig(
        text_config={
            **shape,
            "max_position_embeddings": 128_000,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1_000_000.0,
                "mrope_section": [16, 24, 24],
            },
            "bos_token_id": 151_643,
            "eos_token_id": 151_645,
            "tie_word_embeddings": tied,
        },
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": vision_width,
            "num_heads": 16,
            "out_hidden_size": shape["hidden_size"],
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        image_token_id=151_655,
        video_token_id=151_656,
        vision_start_token_id=151_652,
        vision_end_token_id=151_653,
        tie_word_embeddings=bool(tied),
    )


def nf4_bytes(parameters: int, double: bool = True) -> int:
    """Bytes of one weight matrix in NF4.

    Half a byte per number and a scale per block of 64 numbers. With double
    quantisation a scale takes one byte, and four more per 256 scales (Dettmers et al.,
    QLoRA, arXiv 2305.14314, section 3); without, four. The tables of levels and the
    mean of the scales take 1,092 bytes, or 64 without, whatever the matrix.

    Args:
        parameters: Numbers in the matrix.
        double: Quantise the scales too, as training does.

    Example:
        >>> numbers = 3584 * 18944
        >>> [round(8 * nf4_bytes(numbers, d) / numbers, 3) for d in (True, False)]
        [4.127, 4.5]
    """
    blocks = math.ceil(parameters / BLOCK)
    packed = math.ceil(parameters / 2)
    if not double:
        return packed + 4 * blocks + 4 * 16
    scales = blocks + 4 * math.ceil(blocks / SCALE_BLOCK)
    return packed + scales + 4 * (16 + 256 + 1)


def weight_table(
    model: PreTrainedModel | PreTrainedConfig, bytes_per_number: int = 2
) -> pd.DataFrame:
    """Where a model's parameters are, and the bytes they take.

    Args:
        model: A model that is not quantised, or a configuration, of which a model
            without memory is built.
        bytes_per_number: Of what is not quantised: 2 for bfloat16, 4 for float32.

    Returns:
        Index ``part``, one of :data:`PARTS`, those that the model has. Columns
        ``parameters``, ``quantised`` (how many of them would be in 4 bits),
        ``bytes`` as it is and ``bytes_4bit``.
    """
    model = skeleton_of(model)
    decoder, tower = model.get_decoder(), model.get_encoder(modality="image")
    layers = four_bit_layers(model)
    in_four_bits = {id(layer.weight) for layer in layers.values()}
    embedding = id(model.get_input_embeddings().weight)
    owner = {id(p): "vision tower" for p in tower.parameters()}
    for layer in decoder.layers.modules():
        if isinstance(layer, nn.Linear):
            owner |= {id(p): "language layers" for p in layer.parameters()}
    rows = []
    for parameter in model.parameters():  # tied ones once
        if id(parameter) == embedding:
            part = "token embedding"
        elif parameter is model.get_output_embeddings().weight:
            part = "output head"
        else:
            part = owner.get(id(parameter), "norms")
        count = parameter.numel()
        full = count * bytes_per_number
        small = id(parameter) in in_four_bits
        rows.append(
            (part, count, count * small, full, nf4_bytes(count) if small else full)
        )
    table = pd.DataFrame(
        rows, columns=["part", "parameters", "quantised", "bytes", "bytes_4bit"]
    )
    return (
        table.groupby("part").sum().reindex([p for p in PARTS if p in set(table.part)])
    )


def stored_bytes(model: nn.Module) -> int:
    """Bytes of all parameters of a model as they are, quantised or not.

    Counts packed weights, their scales and tables; a tied parameter once.
    """
    total = 0
    for parameter in model.parameters():
        total += parameter.numel() * parameter.element_size()
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            kept = [state.absmax, state.code]
            if state.nested:
                kept += [state.offset, state.state2.absmax, state.state2.code]
            total += sum(tensor.numel() * tensor.element_size() for tensor in kept)
    return total


def four_bit_layers(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The layers that would be in 4 bits, by name: the language model's linear ones."""
    kept = four_bit_config(model).llm_int8_skip_modules
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not any(name == k or name.startswith(f"{k}.") for k in kept)
    }
