"""Settings that are allowed and known to disappoint."""

from datasets import Dataset
from trl import ModelConfig

from vgpo.data.splits import TESTBED
from vgpo.training.config import VGPOConfig
from vgpo.training.refusals import any_image
from vgpo.training.settings import TrainArguments
from vgpo.training.signals import Signals

NARROW = 1e-5
"""Learning rate below which AdamW's steps vanish in bfloat16: such numbers lie 2^-8 of
their size apart, 1e-4 for a common weight of 0.03."""


def traps(
    rows: Dataset, arguments: TrainArguments, args: VGPOConfig, model: ModelConfig
) -> list[str]:
    """A sentence for each trap that these settings walk into.

    Those that only a run can see are warned of at its first steps
    (:mod:`vgpo.training.first_steps`).

    Args:
        rows: To train on.
        arguments: What is trained on.
        args: The trainer's settings.
        model: The model's.
    """
    found: list[str] = []
    warn = found.append
    suffix = arguments.prompt_suffix
    if (
        "format" in arguments.rewards
        and "<think>" not in suffix
        and arguments.dataset != TESTBED
    ):
        warn(
            "the reward format wants <think>...</think>, and prompt_suffix does not "
            "ask for it: it will be 0 at the start, and may stay so"
        )
    if args.beta and model.use_peft and model.lora_dropout:
        warn(
            f"lora_dropout={model.lora_dropout:g} with beta={args.beta:g}: from the "
            "first update on the KL term measures dropout as well, which the policy "
            "has and the reference has not"
        )
    if (
        _is_narrow(model)
        and not model.use_peft
        and args.deepspeed_plugin is None
        and float(args.learning_rate) < NARROW
    ):
        warn(
            f"learning_rate={float(args.learning_rate):g} on weights in bfloat16: "
            "steps are far smaller than the distance of two such numbers and are "
            "rounded away; set dtype to float32, or train adapters"
        )
    judge = args.dynamic_sampling_reward or arguments.rewards[0]
    if args.dynamic_sampling and judge == "overlong":
        warn(
            "dynamic sampling goes by the reward overlong, which is not in [0, 1]; put "
            "accuracy first, or set dynamic_sampling_reward"
        )
    if args.use_vllm and not args.vllm_importance_sampling_correction:
        warn(
            "vLLM samples with other kernels than the trainer scores with, and "
            "vllm_importance_sampling_correction is off; watch "
            "sampling/sampling_logp_difference/mean"
        )
    method = args.make_method()
    both = Signals.of(method), Signals.of_loss(method)
    if any(signals.of_image for signals in both) and not any_image(rows):
        warn(
            f"method {args.method!r} weighs tokens by what they have to do with an "
            "image, and no row has one: advantages will stay as they are"
        )
    return found


def _is_narrow(model: ModelConfig) -> bool:
    """Whether weights are asked for in 16 bits."""
    return model.dtype in ("bfloat16", "float16")
