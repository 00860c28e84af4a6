"""A trainer out of settings: rewards, model, adapters, data."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import wraps
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    ProcessorMixin,
)
from trl import ModelConfig, get_peft_config

from vgpo.data.catalogue import CATALOGUE
from vgpo.data.loading import load_rows, shared_rows, split_or_default
from vgpo.data.prompts import picture_tokens
from vgpo.data.splits import TESTBED
from vgpo.models.adapters import (
    four_bit_config,
    lora_config,
    prepare_4bit_on_cpu,
    stored_type,
)
from vgpo.models.loading import load_processor, require_model
from vgpo.rewards import (
    accuracy_reward,
    format_reward,
    recipe_reward,
    soft_overlong_penalty,
)
from vgpo.testbed import CHECKPOINT, load_tiny
from vgpo.training.config import VGPOConfig
from vgpo.training.machine import refuse_missing_vllm
from vgpo.training.settings import TrainArguments
from vgpo.training.trainer import VGPOTrainer

logger = logging.getLogger(__name__)


def reward_functions(arguments: TrainArguments, args: VGPOConfig) -> list[Callable]:
    """The reward functions by name.

    Raises:
        ValueError: ``overlong`` without a ``max_completion_length``.
    """
    known: dict[str, Callable] = {
        "accuracy": _bounded(accuracy_reward, arguments.grading_seconds),
        "recipe": _bounded(recipe_reward, arguments.grading_seconds),
        "format": format_reward,
    }
    longest = args.max_completion_length
    if longest is not None:
        cache = min(arguments.overlong_cache, longest)
        known["overlong"] = soft_overlong_penalty(longest, cache)
    elif "overlong" in arguments.rewards:
        raise ValueError(
            "max_completion_length is missing: the reward overlong counts back from it"
        )
    return [known[name] for name in arguments.rewards]


def _bounded(reward: Callable, seconds: float) -> Callable:
    """A reward function, under its own name, that takes no longer than ``seconds``."""

    @wraps(reward)
    def bounded(*completions, **columns):
        return reward(*completions, **(columns | {"grading_seconds": seconds}))

    return bounded


def model_and_processor(
    arguments: TrainArguments, model: ModelConfig
) -> tuple[str, PreTrainedConfig, ProcessorMixin]:
    """Where the weights are, the model's configuration, and its processor.

    Raises:
        ValueError: No model is named, or it cannot be loaded.
    """
    name = model.model_name_or_path
    if name is None:
        raise ValueError(
            "model_name_or_path is missing: name a model on the hub, a folder, or "
            f"{TESTBED!r}"
        )
    if name == TESTBED:
        tiny, processor = load_tiny()
        return str(CHECKPOINT), tiny.config, processor
    try:
        require_model(name)
        config = AutoConfig.from_pretrained(name, revision=model.model_revision)
        processor = load_processor(
            name,
            revision=model.model_revision,
            min_pixels=arguments.min_pixels,
            max_pixels=arguments.max_pixels,
            padding_side="left",
            truncation_side="left",
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model_name_or_path: {name!r} cannot be loaded, neither from a folder nor "
            f"from the hub ({error})"
        ) from error
    return name, config, processor


def load_data(
    arguments: TrainArguments, args: VGPOConfig, image_tokens: Sequence[str]
) -> tuple[Dataset, Dataset | None]:
    """Rows to train on, and to evaluate on where that is asked for.

    Raises:
        ValueError: They cannot be loaded, or are the same rows.
    """

    def load(dataset: str | None, split: str) -> Dataset:
        return load_rows(
            dataset,
            split,
            question_column=arguments.question_column,
            answer_column=arguments.answer_column,
            image_column=arguments.image_column,
            prompt_suffix=arguments.prompt_suffix,
            image_tokens=image_tokens,
            on_bad_row=arguments.on_bad_row,
            root=arguments.dataset_root,
            testbed_size=arguments.testbed_size,
            testbed_seed=arguments.testbed_seed,
            testbed_family=arguments.testbed_family,
        )

    split = split_or_default(arguments.dataset, arguments.dataset_split)
    _warn_of_benchmark(arguments.dataset)
    train_rows = load(arguments.dataset, split)
    if args.eval_strategy == "no":
        return train_rows, None
    eval_from = arguments.eval_dataset or arguments.dataset
    default = "test" if arguments.eval_dataset is None else None
    eval_split = arguments.eval_split or default
    eval_split = split_or_default(eval_from, eval_split, "test")
    if (eval_from, eval_split) == (arguments.dataset, split):
        raise ValueError(
            f"eval_split: {eval_split!r} of {eval_from!r} is what is trained "
            "on; name another split (of a file: train on train[:90%], evaluate on "
            "train[90%:]) or another eval_dataset"
        )
    try:
        eval_rows = load(eval_from, eval_split)
    except ValueError as error:
        raise ValueError(f"eval_dataset, eval_split: {error}") from error
    # One set of rows has many names: train[:100%], another file, a folder's path.
    shared = shared_rows(eval_rows, train_rows)
    told = f"eval_dataset, eval_split: {shared} of {len(eval_rows)} rows are trained on"
    if shared == len(eval_rows):
        raise ValueError(f"{told}; name others")
    if shared:
        logger.warning("%s", told)
    return train_rows, eval_rows


def _warn_of_benchmark(dataset: str | None) -> None:
    entry = CATALOGUE.get(dataset or "")
    if entry is not None and entry.role != "training":
        logger.warning(
            "dataset: %s is there for %s; what is trained on it cannot be measured by "
            "it any more",
            dataset,
            entry.role,
        )


def adapters(
    arguments: TrainArguments, config: PreTrainedConfig, model: ModelConfig
) -> LoraConfig | None:
    """LoRA as the settings describe it; a setting acts, or is refused by name."""
    if not model.use_peft:
        changed = [
            one.name
            for one in fields(model)
            # Dropout has another default here, which the parser has filled in.
            if (one.name.startswith("lora_") and one.name != "lora_dropout")
            or one.name in ("use_rslora", "use_dora")
            if getattr(model, one.name) != one.default
        ]
        if changed or arguments.lora_vision:
            names = ", ".join(changed or ["lora_vision"])
            raise ValueError(f"{names}: there are no adapters to set; set use_peft")
        return None
    if model.lora_task_type != "CAUSAL_LM":
        raise ValueError(
            f"lora_task_type must be CAUSAL_LM, got {model.lora_task_type!r}"
        )
    if model.lora_target_modules:
        return get_peft_config(model)
    return replace(
        lora_config(
            config,
            r=model.lora_r,
            alpha=model.lora_alpha,
            vision=arguments.lora_vision,
            dropout=model.lora_dropout,
        ),
        use_rslora=model.use_rslora,
        use_dora=model.use_dora,
        modules_to_save=model.lora_modules_to_save,
        target_parameters=model.lora_target_parameters,
    )


def quantization(config: PreTrainedConfig, model: ModelConfig):
    """4-bit weights as the settings describe them, or None."""
    if model.load_in_8bit:
        raise ValueError("load_in_8bit is not supported here; use load_in_4bit")
    if not model.load_in_4bit:
        changed = [
            one.name
            for one in fields(model)
            if "bnb" in one.name and getattr(model, one.name) != one.default
        ]
        if changed:
            raise ValueError(
                f"{', '.join(changed)}: weights are not quantised; set load_in_4bit"
            )
        return None
    if not model.use_peft:
        raise ValueError("load_in_4bit trains adapters only: set use_peft")
    if model.bnb_4bit_quant_type != "nf4":
        raise ValueError(
            f"bnb_4bit_quant_type must be 'nf4', got {model.bnb_4bit_quant_type!r}: "
            "nothing here was measured with another"
        )
    if model.bnb_4bit_quant_storage is not None:
        raise ValueError("bnb_4bit_quant_storage is not supported here; leave it out")
    return four_bit_config(config, weight_type(config, model))


def weight_type(config: PreTrainedConfig, model: ModelConfig) -> torch.dtype:
    """The type that weights are loaded in; ``auto`` is the checkpoint's own."""
    if model.dtype in (None, "auto"):
        return stored_type(config)
    dtype = getattr(torch, model.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype must name a type of torch, got {model.dtype!r}")
    return dtype


def prompts_of_a_step(args: VGPOConfig) -> int:
    """Prompts that one generation is made for, those of all processes."""
    return args.generation_batch_size // args.num_generations


def refuse_too_few_rows(rows: int, args: VGPOConfig) -> None:
    """Refuses data that do not fill one step.

    Raises:
        ValueError: There are fewer rows than prompts of a step.
    """
    prompts = prompts_of_a_step(args)
    if rows < prompts:
        raise ValueError(
            f"dataset: its {rows} rows are fewer than the {prompts} prompts of a step, "
            "so that no step would be taken; lower per_device_train_batch_size or "
            "gradient_accumulation_steps, or give more rows"
        )


def build_trainer(
    arguments: TrainArguments, args: VGPOConfig, model: ModelConfig
) -> VGPOTrainer:
    """The trainer that the settings describe.

    Raises:
        ValueError: Model, data set or a reward is missing, or a setting would do
            nothing; the message says which.
    """
    refuse_missing_vllm(args.use_vllm)
    rewards = reward_functions(arguments, args)
    if args.dynamic_sampling_reward in arguments.rewards:
        # The command line's word for it; the trainer knows functions by their names.
        place = arguments.rewards.index(args.dynamic_sampling_reward)
        args.dynamic_sampling_reward = rewards[place].__name__
    name, config, processor = model_and_processor(arguments, model)
    four_bit = quantization(config, model)
    peft_config = adapters(arguments, config, model)
    tokens = picture_tokens(config, processor)
    train_rows, eval_rows = load_data(arguments, args, tokens)
    init: dict[str, Any] = {
        "revision": model.model_revision,
        "dtype": model.dtype,
        "attn_implementation": model.attn_implementation,
    }
    args.model_init_kwargs = init | (args.model_init_kwargs or {})
    trainer = VGPOTrainer(
        model=name,
        reward_funcs=rewards,
        args=args,
        train_dataset=train_rows,
        eval_dataset=eval_rows,
        processing_class=processor,
        quantization_config=four_bit,
        peft_config=peft_config,
    )
    refuse_too_few_rows(len(train_rows), args)
    trainer.told = arguments, model
    if trainer.accelerator.device.type == "cpu":
        prepare_4bit_on_cpu(trainer.model)
    return trainer
