"""What training would meet, told before any weights are loaded.

::

    python -m vgpo.train --config recipes/tiny_cpu.yaml --check
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedConfig, ProcessorMixin
from trl import ModelConfig
from trl.data_utils import prepare_multimodal_messages

from vgpo.data.prompts import picture_tokens
from vgpo.memory.estimating import SPARE
from vgpo.models.handle import image_token_id
from vgpo.models.image_grids import image_token_grids
from vgpo.training.build import (
    load_data,
    model_and_processor,
    prompts_of_a_step,
    refuse_too_few_rows,
    reward_functions,
)
from vgpo.training.config import VGPOConfig
from vgpo.training.footprint import footprint, in_words
from vgpo.training.foreseen import lacking, refused
from vgpo.training.settings import TrainArguments
from vgpo.training.traps import traps
from vgpo.training.workarounds import tokenized

ROWS = 64
"""Rows that are processed, evenly spaced over the data set."""

_LISTED = 3


@dataclass
class Preflight:
    """What was found: facts, what deserves a second look, and what must be mended.

    ``str()`` of it is the report.
    """

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether training may start."""
        return not self.problems

    def __str__(self) -> str:
        lines = [
            *self.facts,
            *(f"warning: {one}" for one in self.warnings),
            *(f"PROBLEM: {one}" for one in self.problems),
        ]
        verdict = (
            "Nothing stands against a start."
            if self.passed
            else f"{len(self.problems)} to mend before a start."
        )
        return "\n".join([*lines, verdict])


def preflight(
    arguments: TrainArguments, args: VGPOConfig, model: ModelConfig, rows: int = ROWS
) -> Preflight:
    """Goes the way of a first batch as far as it goes without weights.

    It loads the processor and the data, makes prompts of up to ``rows`` rows, counts
    their tokens and those of their pictures against the family's grid, grades each
    reference against itself and against nothing, asks what the trainer would refuse,
    adds up the memory that is expected, and lists settings that are known to end badly.

    Args:
        arguments: What to train on.
        args: The trainer's settings.
        model: The model's.
        rows: Most rows that are processed; all rows are checked for damage.

    Returns:
        The report.

    Raises:
        ValueError: What :func:`vgpo.training.build.build_trainer` refuses before it
            loads weights.

    Example:
        >>> arguments = TrainArguments(dataset="testbed", testbed_size=8)
        >>> model = ModelConfig(model_name_or_path="testbed")
        >>> args = VGPOConfig.preset("vgpo", output_dir="runs/x", num_generations=4,
        ...     per_device_train_batch_size=8, max_completion_length=128)
        >>> preflight(arguments, args, model).passed
        True
    """
    found = Preflight()
    _, config, processor = model_and_processor(arguments, model)
    train_rows, eval_rows = load_data(
        arguments, args, picture_tokens(config, processor)
    )
    some = _spread(train_rows, rows)
    evaluated = "" if eval_rows is None else f", {len(eval_rows)} to evaluate on"
    found.facts.append(f"data: {len(train_rows)} rows to train on{evaluated}")
    found.problems += refused(train_rows, config, processor, arguments, args, model)
    longest = _look_at_prompts(found, some, config, processor, args)
    _look_at_rewards(found, some, reward_functions(arguments, args), arguments.rewards)
    _look_at_steps(found, len(train_rows), args)
    if longest and not found.problems:
        _look_at_memory(found, config, longest, arguments, args, model)
    found.warnings += traps(train_rows, arguments, args, model)
    # After the memory, which is that of the machine that has all of it.
    found.problems += lacking(args)
    return found


def _look_at_memory(found, config, longest, arguments, args, model) -> None:
    try:
        expected = footprint(config, *longest, arguments, args, model)
    except ValueError as error:
        found.facts.append(f"memory: not estimated ({error})")
        return
    found.facts += in_words(expected)
    if expected.vllm_sequences == 0:
        found.warnings.append(
            "vLLM's share of the card has no room for one rollout: raise "
            "vllm_gpu_memory_utilization, or shorten answers"
        )
    if expected.settings.device == "cuda" and torch.cuda.is_available():
        room = torch.cuda.get_device_properties(0).total_memory
        if expected.total > (1 - SPARE) * room:
            found.warnings.append(
                f"memory: {expected.total / 1e9:.0f} GB are expected, and this card "
                f"has {room / 1e9:.0f} GB; lower per_device_train_batch_size, "
                "steps_per_generation or max_pixels, or set load_in_4bit"
            )


def _spread(rows: Dataset, most: int) -> list[dict[str, Any]]:
    step = max(1, len(rows) // most)
    return [rows[i] for i in range(0, len(rows), step)][:most]


def _pictures(row: dict[str, Any]) -> list:
    """A row's pictures, which a data set has under one name or the other."""
    if "images" in row:
        return list(row["images"] or [])
    return [row["image"]] if row.get("image") is not None else []


def _look_at_prompts(
    found: Preflight,
    rows: Sequence[dict[str, Any]],
    config: PreTrainedConfig,
    processor: ProcessorMixin,
    args: VGPOConfig,
) -> tuple[int, int] | None:
    """Tokens of the longest prompt, its pictures' apart; None if there is a problem."""
    before = len(found.problems)
    side = processor.tokenizer.padding_side
    if side != "left":
        found.problems.append(f"the tokenizer pads on the {side}; prompts need left")
    token = image_token_id(config)
    lengths, image_tokens, sizes, without_grid = [], [], [], 0
    for row in tqdm(rows, desc="prompts", disable=None, leave=False):
        pictures = _pictures(row)
        prompt = prepare_multimodal_messages(row["prompt"], images=pictures)
        (prompt_ids,), _, inputs = tokenized(processor, [prompt])
        ids = torch.tensor([prompt_ids])
        is_image = ids == token
        lengths.append(ids.shape[1])
        image_tokens.append(int(is_image.sum()))
        sizes += [picture.size for picture in pictures]
        if pictures and not is_image.any():
            found.problems.append(
                f"a prompt with {len(pictures)} pictures holds no image token (id "
                f"{token}); is it this model's processor?"
            )
            return None
        without_grid += _grid_fails(found, config, inputs, is_image, len(pictures))
        if len(found.problems) > before:
            return None
    if sizes:
        pixels = [width * height for width, height in sizes]
        found.facts.append(
            f"pictures: {len(sizes)} in {len(rows)} rows, "
            f"{_range(pixels)} pixels as they are"
        )
        found.facts.append(f"image tokens of a prompt: {_range(image_tokens)}")
        if without_grid:
            found.facts.append(
                f"grids: {config.model_type} lays its image tokens out in a way that "
                "is not known here; scores are right, heat maps are not drawn"
            )
    found.facts.append(f"tokens of a prompt: {_range(lengths)}; padding on the {side}")
    longest = max(lengths) + (args.max_completion_length or 0)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and longest > positions:
        found.problems.append(
            f"prompt and completion may be {longest} tokens long, the model has "
            f"{positions} positions; lower max_completion_length or max_pixels"
        )
    total, pictured = max(zip(lengths, image_tokens, strict=True))
    return total - pictured, pictured


def _grid_fails(found, config, inputs, is_image: torch.Tensor, pictures: int) -> bool:
    """Whether a row with pictures has no grid; notes a grid that does not add up."""
    try:
        grids = image_token_grids(config, inputs, is_image)
    except ValueError as error:
        found.problems.append(f"image tokens against the picture's grid: {error}")
        return False
    return bool(pictures) and not grids[0]


def _look_at_rewards(
    found: Preflight,
    rows: Sequence[dict[str, Any]],
    functions: Sequence[Callable],
    names: Sequence[str],
) -> None:
    references = [row["answer"] for row in rows]
    right = [_said(f"<think> . </think> \\boxed{{{one}}}") for one in references]
    empty = [_said("") for _ in references]
    for name, reward in zip(names, functions, strict=True):
        if name == "overlong":  # goes by length, which is no matter of the data
            continue
        given = reward(completions=right, answer=references)
        nothing = reward(completions=empty, answer=references)
        wrong = [r for r, value in zip(references, given, strict=True) if value != 1]
        found.facts.append(
            f"reward {name}: {len(given) - len(wrong)} of {len(given)} references get "
            f"1, an empty answer gets {max(nothing):g}"
        )
        if wrong:
            listed = ", ".join(repr(one) for one in wrong[:_LISTED])
            found.problems.append(
                f"reward {name} calls the reference itself wrong: {listed}"
                f"{' and more' if len(wrong) > _LISTED else ''}; no completion can "
                "earn it there"
            )
        if max(nothing) > 0:
            found.problems.append(f"reward {name} gives {max(nothing):g} for nothing")


def _said(text: str) -> list[dict[str, str]]:
    """A completion as the trainer hands it to a reward."""
    return [{"role": "assistant", "content": text}]


def _look_at_steps(found: Preflight, rows: int, args: VGPOConfig) -> None:
    # Rows of one optimizer step; a generation is made for several of them.
    step = (
        args.per_device_train_batch_size
        * args.gradient_accumulation_steps
        * args.world_size
    )
    generation, prompts = args.generation_batch_size, prompts_of_a_step(args)
    found.facts.append(
        f"a generation: {prompts} prompt{'s' if prompts > 1 else ''} x "
        f"{args.num_generations} rollouts on {args.world_size} "
        f"process{'es' if args.world_size > 1 else ''}, for "
        f"{max(1, generation // step)} optimizer steps"
    )
    try:
        refuse_too_few_rows(rows, args)
    except ValueError as error:
        found.problems.append(str(error))
        return
    steps = args.max_steps
    if steps <= 0:
        per_generation = max(1, generation // step) * args.num_iterations
        steps = int(args.num_train_epochs * (rows // prompts) * per_generation)
    found.facts.append(
        f"optimizer steps: {steps}, which see {steps * step // args.num_generations} "
        "prompts"
    )


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    if low == high:
        return f"{low:,} each"
    return f"{low:,} to {high:,}, median {median(values):,.0f}"
