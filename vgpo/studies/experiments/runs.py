r"""Training runs on the small world, by method and seed, with their record.

::

    python -m vgpo.studies.experiments.runs --methods dapo vgpo --seeds 0 1 2 \
        --output results/rl

trains each pair from the shipped cold start and writes, per run, the metrics of
every step and accuracy before and after on held-out scans. Finished runs are kept:
after a kill the same command goes on with the next.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from math import inf
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vgpo.method.shaping import METHODS
from vgpo.models.adapters import load_four_bit, lora_config
from vgpo.rewards import accuracy_reward
from vgpo.testbed import (
    CHECKPOINTS,
    FAMILIES,
    WORLDS,
    World,
    load_tiny,
    make_dataset,
)
from vgpo.testbed.answers import accuracy, answer
from vgpo.training.config import VGPOConfig
from vgpo.training.metrics import read_metrics
from vgpo.training.trainer import VGPOTrainer

ADAPTERS = ("none", "lora", "qlora")

TRAINED_FAMILIES = ("sum", "count")
"""The families that the runs train on, of long chains in which most is forgotten."""


_COUNTS = {
    "seed": 0,
    "steps": 1,
    "prompts_per_step": 1,
    "rollouts": 1,
    "warmup_steps": 0,
    "max_completion_length": 1,
}
"""Fields that are whole numbers, and the least of each."""


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether a setting is a whole number from ``least``; True and 3.0 are none."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and value >= least


@dataclass(frozen=True)
class TestbedRun:
    """Settings of one training run on the small world.

    They were found with GRPO, before VGPO was looked at, and are the same for all
    methods.

    Attributes:
        method: A registered method (:mod:`vgpo.method.shaping`); its preset is used.
        seed: Of prompts, sampling and adapters.
        steps: Optimiser steps.
        prompts_per_step: Prompts per step, with ``rollouts`` completions each.
        rollouts: Of each prompt, G.
        learning_rate: Peak rate of AdamW, reached after ``warmup_steps``.
        warmup_steps: Steps over which the rate rises.
        max_completion_length: Longer completions are cut off.
        adapters: What is trained: ``"none"`` trains all weights, ``"lora"`` adapters
            of the language model, ``"qlora"`` the same over weights in 4 bits. They
            want a higher learning rate.
        world: Whose cold start is trained, and on whose questions: a name of
            ``vgpo.testbed.WORLDS``.
    """

    method: str = "vgpo"
    seed: int = 0
    steps: int = 24
    prompts_per_step: int = 16
    rollouts: int = 8
    learning_rate: float = 2e-4
    warmup_steps: int = 5
    max_completion_length: int = 128
    adapters: str = "none"
    world: str = "misread"

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(
                f"method must be one of {tuple(METHODS)}, got {self.method!r}"
            )
        if self.adapters not in ADAPTERS:
            raise ValueError(
                f"adapters must be one of {ADAPTERS}, got {self.adapters!r}"
            )
        if self.world not in WORLDS:
            raise ValueError(
                f"world must be one of {tuple(WORLDS)}, got {self.world!r}"
            )
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            if not is_whole(value, least):
                raise ValueError(
                    f"{name} must be a whole number, at least {least}, got {value!r}"
                )
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= rate < inf:
            hint = "; YAML reads 1e-4 as text, and 1.0e-4 as a number"
            raise ValueError(
                "learning_rate must be a number, at least 0, "
                f"got {rate!r}{hint if isinstance(rate, str) else ''}"
            )

    def config(self, output_dir: str | Path, **fields) -> VGPOConfig:
        """The trainer's settings; ``fields`` change any of them."""
        rows = self.prompts_per_step * self.rollouts
        micro_batch = 4 * self.rollouts if rows % (4 * self.rollouts) == 0 else rows
        return VGPOConfig.preset(
            self.method,
            **{
                "output_dir": str(output_dir),
                "seed": self.seed,
                "max_steps": self.steps,
                "learning_rate": self.learning_rate,
                "lr_scheduler_type": "constant_with_warmup",
                "warmup_steps": self.warmup_steps,
                "per_device_train_batch_size": micro_batch,
                "gradient_accumulation_steps": rows // micro_batch,
                "num_generations": self.rollouts,
                "max_completion_length": self.max_completion_length,
                "top_p": 1.0,
                "dynamic_sampling_max_attempts": 2,
                "logging_steps": 1,
                "save_strategy": "no",
                "disable_tqdm": True,
                # A small model's numbers are those of a CPU, on a GPU as well.
                "bf16": False,
                **fields,
            },
        )


def testbed_trainer(
    run: TestbedRun,
    output_dir: str | Path,
    world: World | None = None,
    families: Sequence[str] = TRAINED_FAMILIES,
    model=None,
    **fields,
) -> VGPOTrainer:
    """A trainer that goes on from the shipped cold start.

    Args:
        run: The settings.
        output_dir: Where metrics and checkpoints go.
        world: The questions; by default those of ``run.world``.
        families: What is asked.
        model: A model to train in place of the shipped one.
        **fields: Any field of :class:`~vgpo.training.config.VGPOConfig`, and
            ``peft_config``.

    Returns:
        The trainer; call its ``train()``.
    """
    shipped, processor = load_tiny(run.world)
    if world is None:
        world = replace(WORLDS[run.world], families=tuple(families))
    if model is None:
        quantised = run.adapters == "qlora"
        checkpoint = CHECKPOINTS[run.world]
        model = load_four_bit(checkpoint, torch.float32) if quantised else shipped
    peft_config = fields.pop("peft_config", None)
    if run.adapters != "none" and peft_config is None:
        peft_config = lora_config(model)
    return VGPOTrainer(
        model=model,
        reward_funcs=accuracy_reward,
        args=run.config(output_dir, **fields),
        train_dataset=make_dataset(
            run.steps * run.prompts_per_step, world, seed=1000 + run.seed
        ),
        processing_class=processor,
        peft_config=peft_config,
    )


def heldout_accuracy(
    model,
    processor,
    questions: int = 100,
    temperature: float = 1.0,
    seed: int = 0,
    world: str = "misread",
) -> dict[str, float]:
    """Accuracy per family on held-out scans, the text-only control included."""
    scores = {}
    for family in FAMILIES:
        asked = WORLDS[world].examples(questions, [family], seed=7, split="heldout")
        texts = answer(model, processor, asked, temperature, seed)
        scores[family] = accuracy(texts, asked)
    return scores


def run_once(run: TestbedRun, folder: str | Path, questions: int = 200) -> dict:
    """Trains once and records it in ``folder``: ``run.json`` and ``metrics.csv``.

    The folder appears when the run is complete. A folder that is there is read and
    not made again.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    folder = Path(folder)
    record_file = folder / "run.json"
    if record_file.exists():
        record = json.loads(record_file.read_text())
        # Settings that an older record does not name had the values they have now.
        if TestbedRun(**record["run"]) != run:
            raise ValueError(f"{folder} holds a run with other settings: {record}")
        return record
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        trainer = testbed_trainer(run, scratch / "work")
        model, processor = trainer.model, trainer.processing_class
        before = heldout_accuracy(model, processor, questions, world=run.world)
        started = time.monotonic()
        trainer.train()
        record = {
            "run": asdict(run),
            "seconds": round(time.monotonic() - started),
            "threads": torch.get_num_threads(),
            "heldout_questions_per_family": questions,
            "before": before,
            "after": heldout_accuracy(model, processor, questions, world=run.world),
            "versions": {n: version(n) for n in ("torch", "transformers", "trl")},
        }
        metrics = read_metrics(scratch / "work")
        shutil.rmtree(scratch / "work")
        metrics.to_csv(scratch / "metrics.csv", index=False)
        (scratch / "run.json").write_text(json.dumps(record, indent=2) + "\n")
        scratch.chmod(0o755)
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return record


def load_runs(folder: str | Path) -> pd.DataFrame:
    """Sampled accuracies of all runs in ``folder``, tidy: ``method``, ``seed``,
    ``when`` (before or after), ``family``, ``accuracy``.

    Raises:
        FileNotFoundError: there are none.
    """
    rows = []
    for file in sorted(Path(folder).glob("*/run.json")):
        record = json.loads(file.read_text())
        about = {name: record["run"][name] for name in ("method", "seed")}
        for when in ("before", "after"):
            for family, value in record[when].items():
                rows.append(about | {"when": when, "family": family, "accuracy": value})
    if not rows:
        raise FileNotFoundError(f"no runs recorded in {folder}")
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> None:
    """The command line; runs are done one after another, seeds before methods."""
    parser = argparse.ArgumentParser(prog="python -m vgpo.studies.experiments.runs")
    parser.add_argument("--methods", nargs="+", default=["dapo", "vgpo"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--adapters", choices=ADAPTERS, default="none")
    parser.add_argument("--world", choices=list(WORLDS), default=TestbedRun.world)
    parser.add_argument("--steps", type=int, default=TestbedRun.steps)
    parser.add_argument("--learning-rate", type=float, default=TestbedRun.learning_rate)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        for method in options.methods:
            try:
                run = TestbedRun(
                    method=method,
                    seed=seed,
                    steps=options.steps,
                    learning_rate=options.learning_rate,
                    adapters=options.adapters,
                    world=options.world,
                )
            except ValueError as error:
                parser.error(str(error))
            folder = options.output / f"{method}-seed{seed}"
            record = run_once(run, folder, options.questions)
            means = [
                sum(record[when][f] for f in TRAINED_FAMILIES) / len(TRAINED_FAMILIES)
                for when in ("before", "after")
            ]
            print(f"{folder.name}: sampled accuracy {means[0]:.3f} -> {means[1]:.3f}")


if __name__ == "__main__":
    main()
