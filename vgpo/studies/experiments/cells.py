"""One cell: an arm trained in a world from a seed, evaluated, and its record.

A record is a folder of small files: ``record.json`` (settings, provenance, outcomes),
``metrics.csv.gz`` (all that was logged, by step), ``verdicts.csv.gz`` (one row per
answer of the evaluation) and ``looking.csv.gz`` (attention, for some of the answers);
where the grid asks for it, ``validation.csv.gz`` (held-out questions on the way).
The untrained cold start has a record of the same form, but for the metrics.
"""

import gzip
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PrinterCallback, TrainerCallback, set_seed

from vgpo.rewards import accuracy_reward
from vgpo.studies.experiments.arms import find_arm
from vgpo.studies.experiments.evaluation import (
    Evaluation,
    evaluate,
    outcomes,
    questions_of,
)
from vgpo.studies.experiments.looking import looking, watchers
from vgpo.studies.experiments.runs import TRAINED_FAMILIES, TestbedRun, is_whole
from vgpo.studies.experiments.starts import WORDINGS, start_digest
from vgpo.studies.experiments.truth import with_truth
from vgpo.studies.experiments.validation import Validation
from vgpo.studies.provenance import provenance
from vgpo.testbed import CHECKPOINTS, WORLDS, make_dataset
from vgpo.testbed.decoding import decode_faster
from vgpo.testbed.model import load_tiny
from vgpo.training.metrics import read_metrics
from vgpo.training.trainer import VGPOTrainer

UNTRAINED = "untrained"
"""The arm of a cold start's own record."""

RECORD = "record.json"
METRICS = "metrics.csv.gz"
VERDICTS = "verdicts.csv.gz"
LOOKING = "looking.csv.gz"
VALIDATED = "validation.csv.gz"

DEVICES = ("cpu", "cuda")
"""Where a cell may be done."""

_QUESTIONS_FROM = 1000  # the training questions of seed s are those of 1000 + s


@dataclass(frozen=True)
class Cell:
    """What is done in one cell.

    Attributes:
        arm: A name that :func:`~vgpo.studies.experiments.arms.find_arm` knows, or
            :data:`UNTRAINED`.
        setting: Name of the settings.
        wording: Which cold start, a name of
            :data:`~vgpo.studies.experiments.starts.WORDINGS`.
        run: World, seed and settings of the training. Its ``method`` is the arm's.
        evaluation: What the model is asked.
        validate_every: Steps between held-out questions on the way; 0: none.
        device: One of :data:`DEVICES`. Numbers depend on it; those of a GPU are not
            the same twice to the last bit.

    Raises:
        ValueError: Unknown arm, wording or device, an arm that the world cannot have,
            settings whose method is not the arm's, or ``validate_every`` below 0.
    """

    arm: str
    setting: str
    wording: str
    run: TestbedRun
    evaluation: Evaluation
    validate_every: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {DEVICES}, got {self.device!r}")
        if not is_whole(self.validate_every, least=0):
            raise ValueError(
                f"validate_every must be 0 or more, got {self.validate_every}"
            )
        if self.wording not in WORDINGS:
            raise ValueError(
                f"wording must be one of {tuple(WORDINGS)}, got {self.wording!r}"
            )
        if self.wording != "shipped" and self.run.world not in CHECKPOINTS:
            raise ValueError(
                f"wording: {self.run.world!r} has none but 'shipped', got "
                f"{self.wording!r}"
            )
        if self.arm == UNTRAINED:
            return
        arm = find_arm(self.arm)
        if self.run.world not in arm.worlds:
            raise ValueError(f"arm {self.arm!r} has no meaning in {self.run.world!r}")
        if self.run.method != arm.method:
            raise ValueError(
                f"run: arm {self.arm!r} is of method {arm.method!r}, got "
                f"{self.run.method!r}"
            )

    @property
    def name(self) -> str:
        """Of its folder. That of a cold start names what it was asked, since grids
        share it."""
        if self.arm == UNTRAINED:
            asked = json.dumps(self.evaluation.as_dict()).encode()
            about = hashlib.sha256(asked).hexdigest()[:8]
            return f"{self.run.world}-{self.wording}-{about}"
        return f"{self.run.world}-{self.setting}-{self.arm}-seed{self.run.seed}"

    def settings(self) -> dict[str, Any]:
        """All that the cell's numbers follow from, given the code and the start."""
        asked = {
            "arm": self.arm,
            "world": self.run.world,
            "wording": self.wording,
            "evaluation": self.evaluation.as_dict(),
            # Records of before there was a choice have no such entry.
            **({"device": self.device} if self.device != "cpu" else {}),
        }
        if self.arm == UNTRAINED:
            return asked
        return asked | {
            "setting": self.setting,
            "seed": self.run.seed,
            "run": asdict(self.run),
            "fields": dict(find_arm(self.arm).fields),
            # A training is the same without; records of those have no such entry.
            **({"validate_every": self.validate_every} if self.validate_every else {}),
        }


class _Alive(TrainerCallback):
    """Says after each step that the cell is at work."""

    def __init__(self, say: Callable[[], None]) -> None:
        self._say = say

    def on_step_end(self, args, state, control, **kwargs):
        self._say()


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase] = round(now - self._last, 2)
        self._last = now


def run_cell(
    cell: Cell, start: Path, folder: Path, alive: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Does a cell and writes its record.

    The same cell from the same start gives the same numbers, on one machine with one
    thread to the last bit, whatever the process did before.

    Args:
        cell: What is done.
        start: Folder of the cold start.
        folder: Of the record; it has to be there and is filled.
        alive: Called every few seconds.

    Returns:
        The record.
    """
    clock = _Clock()
    model, processor = load_tiny(start)
    decode_faster(model.to(cell.device))
    found: dict[str, float] = {}
    clock.lap("load")
    if cell.arm != UNTRAINED:
        metrics, validated = _train(cell, model, processor, folder / "work", alive)
        found |= _training_outcomes(metrics)
        _write_table(metrics, folder / METRICS)
        if validated is not None:
            found["validation/area"] = float(validated["right"].mean())
            _write_table(validated, folder / VALIDATED)
        clock.lap("train")
    verdicts, texts = evaluate(model, processor, cell.run.world, cell.evaluation, alive)
    _write_table(verdicts, folder / VERDICTS)
    found |= outcomes(verdicts)
    clock.lap("evaluate")
    answers, looked = _look(cell, model, processor, verdicts, texts)
    _write_table(answers, folder / LOOKING)
    found |= looked
    clock.lap("look")
    record = {
        **cell.settings(),
        "start": start_digest(start),
        "outcomes": {name: _rounded(value) for name, value in found.items()},
        "seconds": clock.seconds,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance(),
        **({"gpu": torch.cuda.get_device_name()} if cell.device == "cuda" else {}),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return record


def _train(
    cell: Cell, model, processor, work: Path, alive
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Trains ``model`` in place; returns what was logged, and what was validated."""
    run = cell.run
    world = replace(WORLDS[run.world], families=TRAINED_FAMILIES)
    size, seed = run.steps * run.prompts_per_step, _QUESTIONS_FROM + run.seed
    examples = [world.example(index, seed) for index in range(size)]
    rows = with_truth(make_dataset(size, world, seed), examples)
    watch = watchers(partial(processor.tokenizer.decode, skip_special_tokens=True))
    callbacks: list[TrainerCallback] = [_Alive(alive)]
    every, validation = cell.validate_every, None
    if every:
        validation = Validation(model, processor, run.world, every, alive)
        callbacks.append(validation)
    # Nothing of the cells before may be left in the generators.
    set_seed(run.seed)
    trainer = VGPOTrainer(
        model=model,
        reward_funcs=[accuracy_reward, *watch],
        args=run.config(
            work,
            report_to="none",
            reward_weights=[1.0] + [0.0] * len(watch),
            use_cpu=cell.device == "cpu",
            **find_arm(cell.arm).fields,
        ),
        train_dataset=rows,
        processing_class=processor,
        callbacks=callbacks,
    )
    # It would print every step of every cell.
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    metrics = read_metrics(work)
    logged = metrics[metrics["reward"].notna()].dropna(axis="columns", how="all")
    return logged, None if validation is None else validation.table()


def _training_outcomes(metrics: pd.DataFrame) -> dict[str, float]:
    """Means over all steps of what tells arms apart, and of the last third."""
    last = metrics.tail(max(1, len(metrics) // 3))
    found = {
        "reward/area": metrics["reward"].mean(),
        "reward/last_third": last["reward"].mean(),
        "length/last_third": last["completions/mean_length"].mean(),
        "entropy/area": metrics["entropy"].mean(),
        "entropy/last_third": last["entropy"].mean(),
        "grad_norm/area": metrics["grad_norm"].mean(),
        "abs_advantage/area": metrics["advantages/mean_abs"].mean(),
        "looks/area": metrics["rewards/looks/mean"].mean(),
        "reads_right/area": metrics["rewards/reads_right/mean"].mean(),
    }
    return {name: float(value) for name, value in found.items()}


def _look(
    cell: Cell, model, processor, verdicts: pd.DataFrame, texts: list[str]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Of the first sampled answers: what :func:`looking` says, with their questions."""
    parts = {part.name: part for part in cell.evaluation.parts}
    first = verdicts[(verdicts["part"] == "sampled") & (verdicts["sample"] == 0)]
    first = first.head(cell.evaluation.looked_at)
    examples = questions_of(parts["sampled"], cell.run.world, cell.evaluation.seed)
    answers, found = looking(
        model,
        processor,
        [examples[place] for place in first["question"]],
        [texts[row] for row in first.index],
    )
    answers.insert(0, "question", first["question"].to_numpy())
    return answers, found


def _rounded(value: float) -> float | None:
    """Six digits; None where there is no number, for which JSON has no form."""
    return None if value != value else float(f"{value:.6g}")


def _write_table(table: pd.DataFrame, path: Path) -> None:
    """A table as CSV, packed so that equal tables give equal bytes."""
    text = table.to_csv(index=False, float_format="%.6g")
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_table(path: Path) -> pd.DataFrame:
    """What :func:`run_cell` wrote."""
    return pd.read_csv(path)
