"""What a run is expected to take on a card, from its own settings."""

import torch
from transformers import PreTrainedConfig
from trl import ModelConfig

from vgpo.memory.estimating import Estimate, estimate
from vgpo.memory.settings import CARDS, Settings
from vgpo.training.build import weight_type
from vgpo.training.config import VGPOConfig
from vgpo.training.settings import TrainArguments


def footprint(
    config: PreTrainedConfig,
    prompt_tokens: int,
    image_tokens: int,
    arguments: TrainArguments,
    args: VGPOConfig,
    model: ModelConfig,
) -> Estimate:
    """What :func:`~vgpo.memory.estimating.estimate` says of a run.

    Args:
        config: Of the model.
        prompt_tokens: Of the longest prompt, without its pictures.
        image_tokens: Of its pictures.
        arguments: What is trained on.
        args: The trainer's settings.
        model: The model's.

    Returns:
        For this machine's processes, on the smallest of the calculator's cards that
        it fits; for vLLM, whose share is of a card, on one of 80 GB.

    Raises:
        ValueError: The calculator does not know the kind of model or of setting.
    """
    dtype = weight_type(config, model)
    plugin = args.deepspeed_plugin
    settings = Settings(
        dtype="float32" if dtype == torch.float32 else "bfloat16",
        bf16=bool(args.bf16 or args.fp16),
        load_in_4bit=model.load_in_4bit,
        use_peft=model.use_peft,
        lora_r=model.lora_r,
        lora_vision=arguments.lora_vision,
        optim=_optimizer(str(args.optim)),
        gradient_checkpointing=bool(args.gradient_checkpointing),
        prompt_tokens=max(1, prompt_tokens),
        image_tokens=image_tokens,
        max_completion_length=args.max_completion_length or 1,
        per_device_train_batch_size=args.per_device_train_batch_size,
        steps_per_generation=args.steps_per_generation,
        beta=args.beta,
        use_vllm=args.use_vllm,
        vllm_mode=args.vllm_mode,
        vllm_gpu_memory_utilization=args.vllm_gpu_memory_utilization,
        vllm_tensor_parallel_size=args.vllm_tensor_parallel_size,
        vllm_enable_sleep_mode=args.vllm_enable_sleep_mode,
        processes=args.world_size,
        zero_stage=0 if plugin is None else plugin.zero_stage,
        card="80 GB",
        device="cuda" if _is_for_a_card(args) else "cpu",
    )
    found = estimate(config, settings)
    if settings.colocated:
        return found
    for card in CARDS:
        one = estimate(found.shape, settings, card=card)
        if one.fits:
            return one
    return one


def _is_for_a_card(args: VGPOConfig) -> bool:
    """Whether there is a card, or a recipe for one is looked at where there is none."""
    if args.use_cpu or torch.cuda.is_available():
        return not args.use_cpu
    return bool(args.bf16) and not torch.accelerator.is_available()


def _optimizer(name: str) -> str:
    """The kind that the calculator knows, of Transformers' names."""
    name = name.rpartition(".")[2].lower()
    if "8bit" in name and "adam" in name:
        return "adamw_8bit"
    if "sgd" in name:
        return "sgd"
    if "adam" in name:
        return "adamw"
    raise ValueError(f"optim: what {name!r} keeps is not known here")


def in_words(found: Estimate) -> list[str]:
    """The estimate as lines of a report, with what it takes for granted."""
    s = found.settings
    parts = {**found.kept, **found.moments[found.peak]}
    largest = sorted(parts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{n} {_size(b)}" for n, b in largest if b > 0.01 * found.total)
    lines = [
        f"memory, expected on one {'card' if s.device == 'cuda' else 'CPU'}: "
        f"{_size(found.total)}, most of it while {_WHILE[found.peak]} ({listed})",
        f"    assumed: every prompt as long as the longest seen, "
        f"{s.prompt_tokens:,} + {s.image_tokens:,} of its pictures, every answer "
        f"{s.max_completion_length:,} tokens; nothing for the driver's context and "
        "fragmentation",
    ]
    if s.device == "cuda" and not s.colocated:
        smallest = f"smallest card that leaves a tenth free: {s.card}"
        lines.append(f"    {smallest if found.fits else 'no card holds it'}")
    if found.vllm_sequences is not None:
        lines.append(
            f"    vLLM's cache holds {found.vllm_sequences:,} rollouts of full length, "
            f"if the card is one of {s.card}"
        )
    return lines


_WHILE = {
    "reading prompts": "all rollouts' prompts are read",
    "sampling": "answers are sampled",
    "scoring": "rollouts are scored",
    "loss": "the loss is computed",
    "backward": "gradients flow back",
}


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"
