r"""Trains a vision-language model from the command line.

::

    accelerate launch -m vgpo.train --config recipes/tiny_cpu.yaml
    accelerate launch -m vgpo.train --config recipes/tiny_cpu.yaml --preset dapo
    accelerate launch -m vgpo.train --config recipes/tiny_cpu.yaml \
        --max_steps 50 --resume_from_checkpoint auto

A recipe is a YAML file of fields: of :class:`TrainArguments`, of
:class:`~vgpo.training.config.VGPOConfig` (all of TRL's and Transformers' settings
with it) and of ``trl.ModelConfig``. The order is preset, recipe, command line; what
comes later wins.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset, List, load_dataset, load_from_disk
from datasets import Image as ImageFeature
from transformers import AutoConfig, AutoProcessor, PreTrainedConfig, ProcessorMixin
from trl import ModelConfig, TrlParser, get_peft_config

from vgpo.models.adapters import four_bit_config, lora_config, prepare_4bit_on_cpu
from vgpo.rewards import accuracy_reward, format_reward, soft_overlong_penalty
from vgpo.testbed import CHECKPOINT, load_tiny, make_dataset
from vgpo.training.config import VGPOConfig
from vgpo.training.trainer import VGPOTrainer

TESTBED = "testbed"
"""The small world that comes with the package, named as a data set or a model."""

PROMPT_SUFFIX = (
    "First think through the problem as an internal monologue inside "
    "<think> </think>, then put the final answer in \\boxed{}."
)
"""What is asked of the model after each question; the paper's demand, in our words."""

_FILE_TYPES = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
}


@dataclass
class TrainArguments:
    """What to train on, beside the trainer's and the model's own settings.

    Attributes:
        preset: ``grpo``, ``dapo`` or ``vgpo``: the fields the others start from.
        dataset: ``testbed``, a name on the hub, or a folder or file.
        dataset_split: Its split; the testbed has ``train`` and ``heldout``.
        eval_dataset: What to evaluate on where ``eval_strategy`` is set; by default
            the same data set. It must have the same columns.
        eval_split: Its split.
        question_column: Column of the question, which may hold ``<image>`` where an
            image belongs; without it, images come first.
        answer_column: Column of the reference answer.
        image_column: Column of the image or the list of images.
        prompt_suffix: Put after each question; not on the testbed, whose model was
            not taught it.
        testbed_size: Questions of the testbed.
        testbed_seed: Names the sequence of questions.
        testbed_family: Ask this family only.
        rewards: Any of ``accuracy`` (the paper's), ``format`` and ``overlong``;
            weigh them with ``reward_weights``. Dynamic sampling goes by the first.
        overlong_cache: Last tokens over which ``overlong`` grows to its full -1.
        min_pixels: Smaller images are enlarged. The released recipe's value.
        max_pixels: Larger images are reduced. The released recipe's value.
        lora_vision: LoRA on the vision tower too.
    """

    preset: str = field(default="vgpo", metadata={"help": "grpo, dapo or vgpo."})
    dataset: str | None = field(
        default=None, metadata={"help": "testbed, a hub name, a folder or a file."}
    )
    dataset_split: str = field(default="train", metadata={"help": "Its split."})
    eval_dataset: str | None = field(
        default=None, metadata={"help": "Evaluated on; by default the same."}
    )
    eval_split: str = field(default="test", metadata={"help": "Split to evaluate on."})
    question_column: str = field(default="problem", metadata={"help": "Questions."})
    answer_column: str = field(default="answer", metadata={"help": "Answers."})
    image_column: str = field(default="images", metadata={"help": "Image or images."})
    prompt_suffix: str = field(
        default=PROMPT_SUFFIX, metadata={"help": "Put after each question."}
    )
    testbed_size: int = field(default=1024, metadata={"help": "Questions."})
    testbed_seed: int = field(default=0, metadata={"help": "Names the questions."})
    testbed_family: str | None = field(default=None, metadata={"help": "One family."})
    rewards: list[str] = field(
        default_factory=lambda: ["accuracy"],
        metadata={"help": "Any of accuracy, format, overlong."},
    )
    overlong_cache: int = field(default=512, metadata={"help": "Tokens."})
    min_pixels: int = field(default=262_144, metadata={"help": "Least, per image."})
    max_pixels: int = field(default=4_194_304, metadata={"help": "Most, per image."})
    lora_vision: bool = field(default=False, metadata={"help": "LoRA on vision too."})


def parse(
    arguments: Sequence[str] | None = None,
) -> tuple[TrainArguments, VGPOConfig, ModelConfig]:
    """Settings from a command line and the recipe it names.

    Args:
        arguments: The command line; by default this process's.

    Raises:
        ValueError: Unknown preset or field in the recipe, or a wrong value.
        FileNotFoundError: There is no such recipe.
        SystemExit: Unknown field on the command line.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = TrlParser((TrainArguments, VGPOConfig, ModelConfig), prog="vgpo.train")
    # Dropout would blur focus scores, which are taken in training mode.
    parser.set_defaults_with_config(
        lora_dropout=0.0, **VGPOConfig.preset_fields(_preset(arguments))
    )
    return parser.parse_args_and_config(arguments)


def _preset(arguments: list[str]) -> str:
    """The preset, which must be known before all else is read."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path)
    early.add_argument("--preset")
    known, _ = early.parse_known_args(arguments)
    if known.preset is None and known.config is not None:
        if not known.config.is_file():
            raise FileNotFoundError(f"config: there is no file {known.config}")
        recipe = yaml.safe_load(known.config.read_text(encoding="utf-8"))
        known.preset = (recipe or {}).get("preset")
    return known.preset or TrainArguments.preset


# -- data -------------------------------------------------------------------------


def load_rows(arguments: TrainArguments, dataset: str | None, split: str) -> Dataset:
    """The data set in TRL's format: ``prompt``, ``images`` (or ``image``), ``answer``.

    Images are decoded row by row, when the trainer asks for them.

    Args:
        arguments: Its columns, and what is put after each question.
        dataset: Which data set.
        split: Which split.

    Raises:
        ValueError: No data set named, not found, or without such columns.
    """
    if dataset is None:
        raise ValueError(
            f"dataset is missing: name one on the hub, a folder, a file, or {TESTBED!r}"
        )
    if dataset == TESTBED:
        return make_dataset(
            arguments.testbed_size,
            seed=arguments.testbed_seed,
            split=split,
            family=arguments.testbed_family,
        ).select_columns(["prompt", "image", "answer"])
    rows = _load(dataset, split)
    columns = (
        arguments.question_column,
        arguments.answer_column,
        arguments.image_column,
    )
    missing = [name for name in columns if name not in rows.column_names]
    if missing:
        raise ValueError(
            f"dataset: {dataset!r} has no column {', '.join(missing)}, only "
            f"{', '.join(rows.column_names)}; set question_column, answer_column and "
            "image_column"
        )
    return to_prompts(rows, *columns, suffix=arguments.prompt_suffix)


def _load(name: str, split: str) -> Dataset:
    path = Path(name)
    try:
        if (path / "state.json").is_file():
            return load_from_disk(name)
        if path.is_file():
            if path.suffix not in _FILE_TYPES:
                raise ValueError(f"it is none of {', '.join(_FILE_TYPES)}")
            kind = _FILE_TYPES[path.suffix]
            return load_dataset(kind, data_files=name, split="train")
        return load_dataset(name, split=split)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"dataset: {name!r} cannot be loaded, neither from a folder or file nor "
            f"from the hub ({error})"
        ) from error


def to_prompts(
    rows: Dataset, question: str, answer: str, images: str, *, suffix: str = ""
) -> Dataset:
    """Rows of question, answer and images as conversations, made on access.

    Args:
        rows: Any data set with these columns.
        question: Column of the question; ``<image>`` in it marks an image's place.
        answer: Column of the answer.
        images: Column of an image, a list of images, or nothing (None, empty list).
        suffix: Put after each question, on a line of its own.

    Returns:
        The same rows with ``prompt``, ``images`` and ``answer``.

    Example:
        >>> rows = Dataset.from_dict({"q": ["<image>How many?"], "a": [3], "i": [[]]})
        >>> to_prompts(rows, "q", "a", "i")[0]["answer"]
        '3'
    """
    feature = rows.features[images]
    single = isinstance(feature, ImageFeature)
    if not single and feature != List(ImageFeature()):
        if isinstance(feature, List):
            rows = rows.cast_column(images, List(ImageFeature()))
        else:
            rows, single = rows.cast_column(images, ImageFeature()), True

    def convert(batch: dict[str, list]) -> dict[str, list]:
        out: dict[str, list] = {"prompt": [], "images": [], "answer": []}
        for text, label, pictures in zip(
            batch[question], batch[answer], batch[images], strict=True
        ):
            if single:
                pictures = [] if pictures is None else [pictures]
            pictures = pictures or []
            content = _content(text, len(pictures), suffix)
            out["prompt"].append([{"role": "user", "content": content}])
            out["images"].append(pictures)
            out["answer"].append(str(label))
        return out

    return rows.with_transform(convert)


def _content(text: str, images: int, suffix: str) -> list[dict[str, str]]:
    """A question's parts: images where it marks them, else all of them first."""

    def part(kind: str, words: str = "") -> dict[str, str]:
        return {"type": kind, "text": words}

    pieces = [piece.strip() for piece in text.split("<image>")]
    if len(pieces) - 1 == images:
        content = []
        for i, piece in enumerate(pieces):
            content += [part("image")] if i else []
            content += [part("text", piece)] if piece else []
    else:
        content = [part("image") for _ in range(images)]
        content.append(part("text", " ".join(filter(None, pieces))))
    if suffix:
        content.append(part("text", f"\n{suffix}"))
    return content


# -- rewards, model, trainer ------------------------------------------------------


def reward_functions(arguments: TrainArguments, args: VGPOConfig) -> list[Callable]:
    """The reward functions by name.

    Raises:
        ValueError: None, or one that is unknown.
    """
    known = {
        "accuracy": accuracy_reward,
        "format": format_reward,
        "overlong": soft_overlong_penalty(
            args.max_completion_length,
            min(arguments.overlong_cache, args.max_completion_length),
        ),
    }
    unknown = [name for name in arguments.rewards if name not in known]
    if unknown or not arguments.rewards:
        raise ValueError(
            f"rewards must be among {', '.join(known)}, got {arguments.rewards}"
        )
    return [known[name] for name in arguments.rewards]


def _model_and_processor(
    arguments: TrainArguments, model: ModelConfig
) -> tuple[str, PreTrainedConfig, ProcessorMixin]:
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
        config = AutoConfig.from_pretrained(name, revision=model.model_revision)
        processor = AutoProcessor.from_pretrained(
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


def build_trainer(
    arguments: TrainArguments, args: VGPOConfig, model: ModelConfig
) -> VGPOTrainer:
    """The trainer that the settings describe.

    Raises:
        ValueError: Model, data set or a reward is missing; the message says which.
    """
    if model.load_in_8bit:
        raise ValueError("load_in_8bit is not supported here; use load_in_4bit")
    if model.load_in_4bit and not model.use_peft:
        raise ValueError("load_in_4bit trains adapters only: set use_peft")
    rewards = reward_functions(arguments, args)
    name, config, processor = _model_and_processor(arguments, model)
    train_rows = load_rows(arguments, arguments.dataset, arguments.dataset_split)
    eval_rows = None
    if args.eval_strategy != "no":
        eval_from = arguments.eval_dataset or arguments.dataset
        eval_rows = load_rows(arguments, eval_from, arguments.eval_split)

    init: dict[str, Any] = {
        "revision": model.model_revision,
        "dtype": model.dtype,
        "attn_implementation": model.attn_implementation,
    }
    args.model_init_kwargs = init | (args.model_init_kwargs or {})
    quantization = peft_config = None
    if model.load_in_4bit:
        quantization = four_bit_config(config, getattr(torch, model.dtype))
    if model.use_peft and model.lora_target_modules:
        peft_config = get_peft_config(model)
    elif model.use_peft:
        peft_config = lora_config(
            config,
            r=model.lora_r,
            alpha=model.lora_alpha,
            vision=arguments.lora_vision,
            dropout=model.lora_dropout,
        )
    trainer = VGPOTrainer(
        model=name,
        reward_funcs=rewards,
        args=args,
        train_dataset=train_rows,
        eval_dataset=eval_rows,
        processing_class=processor,
        quantization_config=quantization,
        peft_config=peft_config,
    )
    if trainer.accelerator.device.type == "cpu":
        prepare_4bit_on_cpu(trainer.model)
    return trainer


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The newest checkpoint in a folder that was written to its end, or None.

    Example:
        >>> last_checkpoint("runs/nothing-here") is None
        True
    """
    found = [
        # The trainer's state is the last file of a checkpoint.
        (int(state.parent.name.removeprefix("checkpoint-")), str(state.parent))
        for state in Path(output_dir).glob("checkpoint-*/trainer_state.json")
        if state.parent.name.removeprefix("checkpoint-").isdigit()
    ]
    return max(found)[1] if found else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, and saves the model in ``output_dir``."""
    try:
        script, args, model = parse(arguments)
        trainer = build_trainer(script, args, model)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"vgpo.train: {error}") from error
    resume = args.resume_from_checkpoint
    if resume == "auto":
        resume = last_checkpoint(args.output_dir)
        trainer.accelerator.print(
            f"Resuming from {resume}." if resume else "No checkpoint yet: a new run."
        )
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model(args.output_dir)
    trainer.accelerator.print(f"Model and metrics.jsonl are in {args.output_dir}.")
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
