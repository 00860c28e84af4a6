"""What the trainer would refuse at its construction, asked before there is one."""

from collections.abc import Callable, Sequence
from functools import partial

from datasets import Dataset
from transformers import PreTrainedConfig, ProcessorMixin
from trl import ModelConfig

from vgpo.training import machine, refusals
from vgpo.training.build import adapters, quantization, reward_functions
from vgpo.training.config import VGPOConfig
from vgpo.training.settings import TrainArguments
from vgpo.training.trainer import FORWARD_KEYS


def refused(
    rows: Dataset,
    config: PreTrainedConfig,
    processor: ProcessorMixin,
    arguments: TrainArguments,
    args: VGPOConfig,
    model: ModelConfig,
) -> list[str]:
    """Each refusal in its own words; an empty list if there is none.

    Asked of :mod:`vgpo.training.refusals` and :mod:`vgpo.training.build`, so that they
    say the same. One cannot be asked without weights: whether TRL gives tokens the
    log-probabilities that the model gives them.

    Args:
        rows: To train on.
        config: Of the model.
        processor: Its own.
        arguments: What is trained on.
        args: The trainer's settings.
        model: The model's.
    """
    questions: list[Callable[[], object]] = [
        partial(quantization, config, model),
        partial(adapters, arguments, config, model),
        partial(refusals.refuse_what_is_left_out, processor, FORWARD_KEYS),
        partial(refusals.refuse_questions_without_image, processor, rows),
    ]
    text_config = config.get_text_config()
    if hasattr(text_config, "output_router_logits") and args.router_aux_loss_coef:
        questions.append(partial(refusals.refuse_uncounted_experts, text_config))
    if args.dynamic_sampling:
        combined = args.multi_objective_aggregation
        questions.append(partial(refusals.refuse_other_aggregations, combined))
    if (judge := args.dynamic_sampling_reward) is not None:
        functions = [reward.__name__ for reward in reward_functions(arguments, args)]
        known = [*arguments.rewards, *functions]
        questions.append(partial(refusals.refuse_unknown_reward, judge, known))
    if engine := _together(arguments, args, model):
        questions.append(partial(refusals.refuse_rows_without_image, rows, engine))
    return _answers(questions)


def lacking(args: VGPOConfig) -> list[str]:
    """What the settings ask for and this machine has not, each in its own words.

    Args:
        args: The trainer's settings.
    """
    bf16 = bool(args.bf16 or args.bf16_full_eval)
    gpu = partial(machine.refuse_missing_gpu, bf16, args.fp16, args.use_cpu)
    return _answers([gpu, partial(machine.refuse_missing_vllm, args.use_vllm)])


def _answers(questions: Sequence[Callable[[], object]]) -> list[str]:
    """What those that refuse say."""
    found = []
    for ask in questions:
        try:
            ask()
        except ValueError as error:
            found.append(str(error))
    return found


def _together(
    arguments: TrainArguments, args: VGPOConfig, model: ModelConfig
) -> str | None:
    """The engine that has all processes run the vision tower together, if any."""
    if args.fsdp:
        return "FSDP"
    if args.deepspeed_plugin is None:
        return None
    stage = args.deepspeed_plugin.zero_stage
    trained = not model.use_peft or arguments.lora_vision
    return f"DeepSpeed ZeRO-{stage}" if stage == 3 or (stage and trained) else None
