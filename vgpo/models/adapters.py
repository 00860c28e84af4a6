"""LoRA and QLoRA targets that are right for every family of models.

Names of layers differ from family to family, and a wrong one either trains nothing
or fails late. Here the language model and the vision tower are found as modules, by
Transformers' own accessors, and their names follow.
"""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from vgpo.lazy import training_libraries
from vgpo.models.handle import language_model_of, unwrap_model

with training_libraries("vgpo.models.adapters"):
    from peft import LoraConfig


def lora_config(
    model: PreTrainedModel | PreTrainedConfig,
    r: int = 16,
    alpha: int = 32,
    vision: bool = False,
    dropout: float = 0.0,
) -> LoraConfig:
    """LoRA on every linear layer of the language model, and of the vision tower.

    Experts of a mixture are linear layers too, though one parameter holds all of a
    layer: (experts, out, in). They are adapted as ``target_parameters``, each expert
    with a low-rank update of its own. Routers are left as they are.

    The paper trains all weights, the vision tower included; it is silent on LoRA.

    Args:
        model: The model, or its configuration (then nothing is loaded).
        r: Rank, at least 1.
        alpha: Scale; the update is multiplied by alpha / r.
        vision: Adapt the vision tower too, with its projector where that is part
            of the tower. Never the output head.
        dropout: Off by default: rollouts are scored in training mode, and dropout
            would blur the focus scores. PEFT cannot adapt experts with it: they are
            left out, with a warning that says how much of the model that is.

    Returns:
        What a trainer takes as ``peft_config``.

    Raises:
        ValueError: A number is out of range, or the model has no such layers.

    Example:
        >>> from vgpo.testbed import build_processor, tiny_config
        >>> config = lora_config(tiny_config(build_processor()), r=8)
        >>> config.r, config.lora_dropout
        (8, 0.0)
    """
    if r < 1:
        raise ValueError(f"r must be at least 1, got {r}")
    if alpha <= 0:
        raise ValueError(f"alpha must be above 0, got {alpha}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    skeleton = skeleton_of(model)
    towers = [language_model_of(skeleton)]
    if vision:
        towers.append(_vision_tower(skeleton))
    names = [name for tower in towers for name in _linear_layers(skeleton, tower)]
    if not names:
        raise ValueError(
            f"model: {type(skeleton).__name__} has no linear layers where its language "
            "model should be; pass your own peft.LoraConfig"
        )
    experts = list(_experts(skeleton, towers[0]))
    if dropout and experts:
        warnings.warn(
            f"dropout: PEFT adapts the experts of {type(skeleton).__name__} only "
            f"without it, so they, {_share(skeleton, experts, towers[0]):.0%} of the "
            "weights of its language model, get no adapters; set dropout=0.",
            stacklevel=2,
        )
        experts = []
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=_pattern(names),
        target_parameters=experts or None,
        task_type="CAUSAL_LM",
    )


def four_bit_config(
    model: PreTrainedModel | PreTrainedConfig,
    compute_dtype: torch.dtype = torch.bfloat16,
) -> BitsAndBytesConfig:
    """4-bit NF4 with double quantisation, for the language model alone.

    Vision tower, projector and output head keep their precision: they are small, and
    log-probabilities are computed from the head's weight directly.

    Args:
        model: The model's configuration, or a model of its kind.
        compute_dtype: Type in which products are computed.

    Returns:
        What ``from_pretrained`` and a trainer take as ``quantization_config``.

    Example:
        >>> from vgpo.testbed import build_processor, tiny_config
        >>> four_bit_config(tiny_config(build_processor())).llm_int8_skip_modules
        ['lm_head', 'model.visual']
    """
    skeleton = skeleton_of(model)
    decoder = language_model_of(skeleton)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=sorted(_beside(skeleton, decoder)),
    )


def stored_type(config: PreTrainedConfig) -> torch.dtype:
    """The type of a checkpoint's weights, bfloat16 where it does not say.

    Example:
        >>> stored_type(AutoConfig.for_model("qwen2_5_vl"))
        torch.bfloat16
    """
    return config.get_text_config().dtype or config.dtype or torch.bfloat16


def load_four_bit(
    name: str | Path,
    compute_dtype: torch.dtype | None = torch.bfloat16,
    *,
    local_files_only: bool = True,
) -> PreTrainedModel:
    """A model in 4 bits, to answer with or to train adapters on.

    Args:
        name: A folder with its configuration and weights, which are not quantised; or
            a name on the hub.
        compute_dtype: Type of the products, and of all that keeps its precision. None
            takes the checkpoint's own.
        local_files_only: Whether the hub is left alone.

    Returns:
        The model, in evaluation mode.

    Example:
        >>> from vgpo.testbed import CHECKPOINT
        >>> model = load_four_bit(CHECKPOINT, torch.float32)
        >>> type(model.model.language_model.layers[0].mlp.up_proj).__name__
        'Linear4bit'
    """
    config = AutoConfig.from_pretrained(name, local_files_only=local_files_only)
    if compute_dtype is None:
        compute_dtype = stored_type(config)
    model = AutoModelForImageTextToText.from_pretrained(
        name,
        quantization_config=four_bit_config(config, compute_dtype),
        dtype=compute_dtype,
        local_files_only=local_files_only,
        use_safetensors=True,
    )
    if model.device.type == "cpu":
        prepare_4bit_on_cpu(model)
    return model.eval()


def prepare_4bit_on_cpu(model: nn.Module) -> int:
    """Keeps 4-bit layers on a CPU usable in training and evaluation by turns.

    On CPUs with AVX512-BF16, bitsandbytes repacks a layer's weight the first time it
    runs without gradients, and training it fails from then on. Call this once after
    loading; on a GPU there is nothing to do.

    Args:
        model: The quantised model, wrapped or not.

    Returns:
        Number of layers seen to.
    """
    from bitsandbytes.nn import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def skeleton_of(model: PreTrainedModel | PreTrainedConfig) -> PreTrainedModel:
    """The model itself, or one of its configuration without any memory for weights."""
    if not isinstance(model, PreTrainedConfig):
        return unwrap_model(model)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(model)


def _vision_tower(model: PreTrainedModel) -> nn.Module:
    tower = model.get_encoder(modality="image")
    if tower is model:
        raise ValueError(
            f"vision: no vision tower found in {type(model).__name__}; pass your own "
            "peft.LoraConfig"
        )
    return tower


def _linear_layers(model: PreTrainedModel, tower: nn.Module) -> Iterator[str]:
    prefix = _name(model, tower)
    for name, module in tower.named_modules():
        # A model's own kind of linear layer, such as Llama 4's router, gives something
        # else than a product, which no adapter can be added to.
        is_own = type(module).__module__.startswith("transformers.models.")
        if isinstance(module, nn.Linear) and not is_own:
            yield f"{prefix}.{name}"


def _experts(model: PreTrainedModel, tower: nn.Module) -> Iterator[str]:
    """Names of the parameters that hold all experts of a layer."""
    prefix = _name(model, tower)
    for name, module in tower.named_modules():
        if isinstance(module, _ConvNd):
            continue  # (out, in, width), of three dimensions as well
        for key, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 3 and min(parameter.shape) > 1:
                yield f"{prefix}.{name}.{key}"


def _share(model: PreTrainedModel, names: list[str], tower: nn.Module) -> float:
    """Part of the tower's weights that the named parameters hold."""
    named = sum(model.get_parameter(name).numel() for name in names)
    return named / sum(weight.numel() for weight in tower.parameters())


def _name(model: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)


def _pattern(names: list[str]) -> str:
    """A regular expression for these names, one alternative per kind of layer."""
    numbers: dict[str, list[list[str]]] = {}
    for name in names:
        parts = name.split(".")
        kind = ".".join("#" if part.isdigit() else part for part in parts)
        numbers.setdefault(kind, []).append([p for p in parts if p.isdigit()])
    alternatives = []
    for kind, found in sorted(numbers.items()):
        pattern = re.escape(kind)
        for place in zip(*found, strict=True):
            choice = "|".join(sorted(set(place), key=int))
            pattern = pattern.replace(re.escape("#"), f"({choice})", 1)
        alternatives.append(pattern)
    return "|".join(alternatives)


def _beside(model: nn.Module, kept: nn.Module, prefix: str = "") -> Iterator[str]:
    """Names of the largest modules that hold linear layers but nothing of ``kept``."""
    for name, child in model.named_children():
        if child is kept:
            continue
        if any(module is kept for module in child.modules()):
            yield from _beside(child, kept, f"{prefix}{name}.")
        elif any(isinstance(module, nn.Linear) for module in child.modules()):
            yield prefix + name
