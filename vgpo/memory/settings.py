"""What is trained, and how; the names are those of a training recipe."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from vgpo.method.plain import RECIPE

CARDS = {f"{size} GB": size * 2**30 for size in (24, 40, 48, 80, 141)}
"""Memory of common cards. What is sold as 24 GB has about 24 GiB."""

OPTIMIZERS = ("adamw", "adamw_8bit", "sgd")
"""Kinds of optimizer, which keep two moments a number, the same in 8 bits, or none."""

_WORDS = {
    "dtype": ("bfloat16", "float32"),
    "optim": OPTIMIZERS,
    "logits": ("chunked", "whole"),
    "vllm_mode": ("colocate", "server"),
    "zero_stage": (0, 1, 2, 3),
    "device": ("cuda", "cpu"),
}
_LEAST = {
    "lora_r": 1,
    "per_device_train_batch_size": 1,
    "steps_per_generation": 1,
    "prompt_tokens": 1,
    "image_tokens": 0,
    "max_completion_length": 1,
    "vllm_tensor_parallel_size": 1,
    "processes": 1,
}


_OF_RECIPE = (
    "dtype",
    "bf16",
    "load_in_4bit",
    "use_peft",
    "lora_r",
    "lora_vision",
    "gradient_checkpointing",
    "max_completion_length",
    "beta",
    "use_vllm",
    "vllm_mode",
    "vllm_gpu_memory_utilization",
    "vllm_tensor_parallel_size",
    "vllm_enable_sleep_mode",
)


@dataclass(frozen=True)
class Settings:
    """One training run, as far as its memory goes.

    Fields that a recipe has are called as there.

    Args:
        dtype: Of the weights, ``"bfloat16"`` or ``"float32"``; of what is not in 4
            bits, where others are.
        bf16: Products in bfloat16, whatever the weights are (autocast).
        load_in_4bit: The language model's linear layers in NF4; trains adapters only.
        double_quantisation: Their scales in 8 bits, as training has it.
        use_peft: Train adapters (LoRA), not the weights.
        lora_r: Their rank, on every linear layer of the language model.
        lora_vision: Adapters on the vision tower too.
        optim: One of :data:`OPTIMIZERS`.
        gradient_checkpointing: Keep a layer's input alone, and compute the rest again.
        prompt_tokens: Words of a prompt, without its pictures.
        image_tokens: Of all its pictures.
        max_completion_length: Tokens of a response.
        per_device_train_batch_size: Rollouts of a forward and backward pass.
        steps_per_generation: How many of these one generation is made for; the product
            is the rollouts that are sampled at once.
        logits: ``"chunked"`` as TRL's fused head makes them, or ``"whole"``, as
            trainers do that know no such head.
        beta: Above 0, a reference model is kept beside weights that are trained;
            adapters are switched off instead.
        use_vllm: vLLM samples; else transformers does, all rollouts at once.
        vllm_mode: ``"colocate"`` on the same card, or ``"server"`` on others.
        vllm_gpu_memory_utilization: Share of the card that vLLM takes, in (0, 1).
        vllm_tensor_parallel_size: Cards that one copy of vLLM's weights lies on.
        vllm_enable_sleep_mode: vLLM gives its memory back while there is training.
        processes: Cards that train together.
        zero_stage: DeepSpeed's: 0 (none) to 3; what is shared among the processes.
        card: One of :data:`CARDS`, or None to fit nothing.
        device: ``"cuda"``; on ``"cpu"`` the head works on every position, with more
            tiles at once.

    Raises:
        ValueError: A value is unknown, out of range, or refused by training.

    Example:
        >>> Settings(load_in_4bit=True)
        Traceback (most recent call last):
        ...
        ValueError: load_in_4bit trains adapters only: set use_peft
    """

    dtype: str = "bfloat16"
    bf16: bool = True
    load_in_4bit: bool = False
    double_quantisation: bool = True
    use_peft: bool = False
    lora_r: int = 16
    lora_vision: bool = False
    optim: str = "adamw"
    gradient_checkpointing: bool = True
    prompt_tokens: int = 150
    image_tokens: int = 334
    max_completion_length: int = 1024
    per_device_train_batch_size: int = 2
    steps_per_generation: int = 16
    logits: str = "chunked"
    beta: float = 0.0
    use_vllm: bool = False
    vllm_mode: str = "colocate"
    vllm_gpu_memory_utilization: float = 0.3
    vllm_tensor_parallel_size: int = 1
    vllm_enable_sleep_mode: bool = False
    processes: int = 1
    zero_stage: int = 0
    card: str | None = "80 GB"
    device: str = "cuda"

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise ValueError(
                    f"{name} must be one of {', '.join(map(str, words))}, got "
                    f"{getattr(self, name)!r}"
                )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.card is not None and self.card not in CARDS:
            raise ValueError(
                f"card must be one of {', '.join(CARDS)}, or None, got {self.card!r}"
            )
        if not self.beta >= 0:
            raise ValueError(f"beta must be at least 0, got {self.beta}")
        if self.load_in_4bit and not self.use_peft:
            raise ValueError("load_in_4bit trains adapters only: set use_peft")
        if self.lora_vision and not self.use_peft:
            raise ValueError("lora_vision: there are no adapters to set; set use_peft")
        self._check_vllm()

    def _check_vllm(self) -> None:
        if not 0 < self.vllm_gpu_memory_utilization < 1:
            raise ValueError(
                "vllm_gpu_memory_utilization must be in (0, 1), got "
                f"{self.vllm_gpu_memory_utilization}"
            )
        if self.colocated and self.card is None:
            raise ValueError(
                "card: vllm_gpu_memory_utilization is a share of it; name one of "
                f"{', '.join(CARDS)}"
            )

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any], **changes: Any) -> "Settings":
        """Of the fields of a training recipe, as on a machine with a GPU.

        What the recipe leaves out is as training has it: checkpointing, products in
        bfloat16, 2,048 tokens of response. Pictures are taken to be as large as
        ``max_pixels`` allows, 28 x 28 pixels to a token, as Qwen2.5-VL has it.

        Args:
            recipe: Fields and values, of the YAML.
            **changes: Fields that are other.

        Example:
            >>> s = Settings.of_recipe({"use_peft": True, "max_pixels": 262144})
            >>> s.image_tokens, s.max_completion_length, s.gradient_checkpointing
            (334, 2048, True)
        """
        own = {name: recipe[name] for name in _OF_RECIPE if name in recipe}
        own.setdefault("max_completion_length", RECIPE["max_completion_length"])
        own["per_device_train_batch_size"] = recipe.get(
            "per_device_train_batch_size", 8
        )
        accumulated = recipe.get("gradient_accumulation_steps", 1)
        own["steps_per_generation"] = recipe.get("steps_per_generation", accumulated)
        own["image_tokens"] = recipe.get("max_pixels", 4_194_304) // 28**2
        return cls(**own | changes)

    @property
    def colocated(self) -> bool:
        """Whether vLLM is on the card that is trained on."""
        return self.use_vllm and self.vllm_mode == "colocate"

    @property
    def rollouts(self) -> int:
        """Rollouts of one process in one generation."""
        return self.per_device_train_batch_size * self.steps_per_generation

    @property
    def tokens(self) -> int:
        """Of a prompt with its pictures, and its response."""
        return self.prompt_tokens + self.image_tokens + self.max_completion_length
