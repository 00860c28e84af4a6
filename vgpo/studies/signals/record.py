"""Recorded grades of all signals, and how they are made.

::

    python -m vgpo.studies.signals --world look_away --output results/signals

lets the cold start of a world answer held-out questions, grades every signal of every
token, does the same with a network that was never trained, and once more after a
short training. Files per world: ``WORLD_grades.csv``, ``WORLD_summary.csv``,
``WORLD_lags.csv``, and ``WORLD.json``, which has the settings, the costs and where it
all comes from. They are written after every stage; after a kill the same command goes
on with the next.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vgpo.analysis.controls import untrained_copy
from vgpo.files import write_atomically
from vgpo.method.dependence import entropy_of, jensen_shannon
from vgpo.models.attention import attention_split
from vgpo.models.capture import capture_focus
from vgpo.models.distributions import log_distributions, of_tokens
from vgpo.models.layers import capture_layer_cosines
from vgpo.studies.provenance import provenance
from vgpo.studies.signals.grading import grade, lags, summary
from vgpo.studies.signals.measure import signal_table
from vgpo.studies.tables import batches_of_one_length
from vgpo.testbed import CHECKPOINTS, IMAGE_FAMILIES, WORLDS, load_tiny
from vgpo.testbed.answers import accuracy, answer
from vgpo.testbed.questions import Example

STAGES = ("cold start", "untrained", "trained")
"""Of the network that scores the answers. The second knows nothing, and scores those
of the cold start."""

LAGGED = {
    "focus_token": "focus",
    "attention_token": "attention, last layer",
    "layer_cosine": "cosine, all layers",
}
"""Signals that score a token by the state at its own position, and their names for a
state at any."""

TABLES = ("grades", "summary", "lags")


@dataclass(frozen=True)
class SignalStudy:
    """Settings of the measurement.

    Attributes:
        world: A name of ``vgpo.testbed.CHECKPOINTS``.
        families: What is asked.
        questions: Held-out questions per family.
        samples: Sampled answers to each, at temperature 1.
        seed: Of questions, sampling, masks and noise.
        resamples: Bootstrap resamples of questions.
        method: What the short training trains with.
        steps: Its steps; 0 leaves it out.
        max_new_tokens: Longer answers are cut off.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    world: str = "look_away"
    families: tuple[str, ...] = tuple(IMAGE_FAMILIES)
    questions: int = 20
    samples: int = 3
    seed: int = 90
    resamples: int = 500
    method: str = "dapo"
    steps: int = 16
    max_new_tokens: int = 128

    def __post_init__(self):
        if self.world not in CHECKPOINTS:
            raise ValueError(
                f"world must be one of {tuple(CHECKPOINTS)}, got {self.world!r}"
            )
        for name, least in (
            ("questions", 2), ("samples", 1), ("resamples", 2), ("steps", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}")

    def asked(self) -> tuple[list[Example], list[int]]:
        """The questions, each ``samples`` times, and their numbers."""
        examples = WORLDS[self.world].examples(
            self.questions, self.families, seed=self.seed, split="heldout"
        )
        numbers = [i for i in range(len(examples)) for _ in range(self.samples)]
        return [examples[i] for i in numbers], numbers

    def answers(self, model, processor) -> list[str]:
        """Sampled answers to :meth:`asked`."""
        examples, _ = self.asked()
        return answer(model, processor, examples, 1.0, self.seed, self.max_new_tokens)


@dataclass(frozen=True)
class Measured:
    """What is recorded of a world, at the stages that are done.

    Attributes:
        grades: Tables of :func:`~vgpo.studies.signals.grading.grade`, with ``stage``.
        summary: Those of :func:`~vgpo.studies.signals.grading.summary`, likewise.
        lags: Those of :func:`~vgpo.studies.signals.grading.lags`, likewise.
        record: Settings, stages, costs, provenance.
    """

    grades: pd.DataFrame
    summary: pd.DataFrame
    lags: pd.DataFrame
    record: dict


def measure(study: SignalStudy, done: Measured | None = None) -> Iterator[Measured]:
    """Grades of all signals, stage after stage.

    Args:
        study: The settings.
        done: The stages that are known already, by the same settings.

    Yields:
        All that is known after each further stage.
    """
    started = time.monotonic() - (done.record["seconds"] if done else 0)
    model, processor = load_tiny(study.world)
    examples, question = study.asked()
    completions = study.answers(model, processor)
    few = slice(0, 32 * study.samples)
    spent = (
        done.record["costs"]
        if done
        else costs(model, processor, examples[few], completions[few]).to_dict("records")
    )
    options = {"resamples": study.resamples, "seed": study.seed}
    tables: dict[str, list[pd.DataFrame]] = {
        name: [getattr(done, name)] if done else [] for name in TABLES
    }
    stages = dict(done.record["stages"]) if done else {}
    for stage in STAGES:
        if stage in stages:
            continue
        network, answered = model, completions
        if stage == "untrained":
            network = untrained_copy(model, study.seed)
        elif stage == "trained":
            if not study.steps:
                continue
            network = _trained(study)
            answered = study.answers(network, processor)
        table = signal_table(
            network, processor, examples, answered, question, seed=study.seed
        )
        for name, found in (
            ("grades", grade(table, **options)),
            ("summary", summary(table, **options)),
            ("lags", lags(table, tuple(LAGGED), **options)),
        ):
            found.insert(0, "stage", stage)
            tables[name].append(found)
        stages[stage] = _about(table, answered, examples)
        record = {
            "study": asdict(study),
            "seconds": round(time.monotonic() - started),
            **provenance(),
            "stages": stages,
            "costs": spent,
        }
        yield Measured(**{n: pd.concat(t) for n, t in tables.items()}, record=record)


def _about(table: pd.DataFrame, completions, examples) -> dict:
    """What there was to grade."""
    value = table["truth"].notna()
    read = value & (table["source"] == "image")
    shares = {
        "accuracy": accuracy(completions, examples),
        "reads_share": (table["source"] == "image").mean(),
        "looks": (table.loc[value, "source"] == "image").mean(),
        "faithful": (table.loc[read, "token"] == table.loc[read, "truth"]).mean(),
        "occlusion_finds_tile": table.loc[read, "finds_tile"].mean(),
        "mean_length": table.groupby("row")["length"].first().mean(),
    }
    # JSON has no word for NaN.
    known = {n: None if np.isnan(v) else float(v) for n, v in shares.items()}
    return {"answers": len(completions), "tokens": len(table), **known}


def _trained(study: SignalStudy) -> torch.nn.Module:
    """The cold start after a short training on sums and counts."""
    from vgpo.studies.experiments.runs import TestbedRun, testbed_trainer

    run = TestbedRun(method=study.method, steps=study.steps, world=study.world)
    with tempfile.TemporaryDirectory() as folder:
        trainer = testbed_trainer(run, folder)
        trainer.train()
    return trainer.model.eval()


def costs(
    model,
    processor,
    examples: Sequence[Example],
    completions: Sequence[str],
    repeats: int = 5,
) -> pd.DataFrame:
    """What measuring a signal costs beside the scoring pass that a training has anyway.

    All are measured in turn over the same batches, ``repeats`` times, in seconds of
    the processor, which other programs change less than those of the clock; the
    median of their ratios to VGPO's pass is what is given. Preparing degraded pictures
    is not counted.

    Args:
        model: Of a small world.
        processor: Its processor.
        examples: What was asked.
        completions: What was answered.
        repeats: How often.

    Returns:
        One row per measurement: ``measurement``, ``passes`` (beyond the scoring
        pass), ``time`` (scoring included, as a multiple of VGPO's), ``signals``.
    """
    batches = list(
        batches_of_one_length(processor, examples, completions, device=model.device)
    )

    def scored(inputs, length):
        plain = log_distributions(model, inputs, length)
        return plain, of_tokens(plain, inputs["input_ids"][:, -length:])

    def watched(capture):
        def run(inputs, length):
            with ExitStack() as stack:
                if capture is not None:
                    stack.enter_context(capture(model, completion_length=length))
                scored(inputs, length)

        return run

    def with_entropy(inputs, length):
        entropy_of(scored(inputs, length)[0])

    def second(inputs, length):
        scored(inputs, length)
        scored(inputs, length)

    def distributions(inputs, length):
        one, other = (log_distributions(model, inputs, length) for _ in range(2))
        jensen_shannon(one, other), entropy_of(one), entropy_of(other)

    def attention(inputs, length):
        scored(inputs, length)
        attention_split(model, inputs, length, layers="all")

    measured = {
        "focus": (watched(capture_focus), 0, "VGPO"),
        "nothing": (watched(None), 0, "scoring alone"),
        "layer cosines": (watched(capture_layer_cosines), 0, "PEPO"),
        "entropy": (with_entropy, 0, "entropy shaping"),
        "degraded view, tokens": (second, 1, "PAPO, VPPO, SRPO, ToR"),
        "degraded view, vocabulary": (distributions, 1, "VEPO"),
        "attention, all layers": (attention, 1, ""),
    }
    seconds = {name: [] for name in measured}
    with torch.no_grad():
        for _ in range(repeats):
            for name, (run, *_) in measured.items():
                started = time.process_time()
                for _, length, inputs in batches:
                    run(inputs, length)
                seconds[name].append(time.process_time() - started)
    times = pd.DataFrame(seconds)
    ratio = times.div(times["focus"], axis=0).median()
    return pd.DataFrame(
        [
            {"measurement": name, "passes": passes, "time": ratio[name], "signals": of}
            for name, (_, passes, of) in measured.items()
        ]
    )


def write(
    study: SignalStudy, folder: str | Path, say: Callable[[str], object] = print
) -> None:
    """Measures, and writes the files of a world after every stage; see the module.

    Stages that are there already, by the same settings and the same code, are kept.

    Args:
        study: The settings.
        folder: Where they go.
        say: Is told how far it is.
    """
    folder = Path(folder)
    for found in measure(study, _done(study, folder)):
        for name in TABLES:
            text = getattr(found, name).to_csv(index=False, float_format="%.4f")
            write_atomically(folder / f"{study.world}_{name}.csv", text)
        text = json.dumps(found.record, indent=2, allow_nan=False) + "\n"
        write_atomically(folder / f"{study.world}.json", text)
        say(f"{study.world}: {', '.join(found.record['stages'])}")


def _done(study: SignalStudy, folder: Path) -> Measured | None:
    """What a killed run of the same settings and code has left, if anything."""
    try:
        found = load_measured(folder, study.world)
    except FileNotFoundError:
        return None
    here = provenance()
    same = all(
        found.record[name] == here[name] for name in ("versions", "commit", "changed")
    )
    # Through JSON and back, which has lists for tuples.
    settings = json.loads(json.dumps(asdict(study)))
    if not same or found.record["study"] != settings:
        return None
    # Tables are written first, and may be a stage ahead.
    whole = {
        name: table[table["stage"].isin(list(found.record["stages"]))]
        for name in TABLES
        for table in [getattr(found, name)]
    }
    return replace(found, **whole)


def load_measured(folder: str | Path, world: str) -> Measured:
    """What is recorded of a world.

    Raises:
        FileNotFoundError: It is not there; says how to make it.
    """
    folder = Path(folder)
    files = {name: folder / f"{world}_{name}.csv" for name in TABLES}
    about = folder / f"{world}.json"
    for file in (*files.values(), about):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} is missing; make it with `python -m vgpo.studies.signals "
                f"--world {world} --output {folder}`"
            )
    tables = {name: pd.read_csv(file) for name, file in files.items()}
    return Measured(**tables, record=json.loads(about.read_text()))
