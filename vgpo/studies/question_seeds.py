r"""Forgetting over several draws of questions, beside networks that know nothing.

::

    python -m vgpo.studies.question_seeds --world misread
    python -m vgpo.studies.question_seeds --world look_away

One draw of questions is one sample: its interval may exclude 0 by chance, and that of
the next draw on the other side. So the same is measured for several, each answer is
written down, and what is claimed is what they say together. The numbers of chapter 01
and of the claims are read from these files (``results/forgetting``).
"""

import argparse
import gzip
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vgpo.files import write_atomically
from vgpo.models.inputs import token_texts
from vgpo.stats.forgetting.questions import compare_over_question_seeds
from vgpo.studies.controls import NULLS, answers_beside_nulls, observations
from vgpo.studies.provenance import digest, write_record
from vgpo.testbed import (
    CHECKPOINTS,
    IMAGE_FAMILIES,
    WORLDS,
    Example,
    World,
    load_tiny,
    trace,
)
from vgpo.testbed.answers import answer

RESULTS = Path("results/forgetting")
"""Where the recorded draws are, from the folder one works in."""

ASKED = WORLDS | {"misread": World(verbosity=0.3)}
"""The questions of each world; in the first, chains with small talk, as its cold start
was taught."""


@dataclass(frozen=True)
class QuestionSeeds:
    """Settings of the measurement.

    Attributes:
        world: A name of ``vgpo.testbed.CHECKPOINTS``.
        seeds: Draws of questions; each also seeds the sampling.
        questions: Of each family, on held-out scans.
        rollouts: Answers to each, at temperature 1.
        families: What is asked.
    """

    world: str = "misread"
    seeds: tuple[int, ...] = (60, 61, 62, 70, 71)
    questions: int = 24
    rollouts: int = 8
    families: tuple[str, ...] = IMAGE_FAMILIES

    def __post_init__(self) -> None:
        if self.world not in CHECKPOINTS:
            raise ValueError(
                f"world must be one of {tuple(CHECKPOINTS)}, got {self.world!r}"
            )
        for name in ("questions", "rollouts"):
            given = getattr(self, name)
            if given < 1:
                raise ValueError(f"{name} must be at least 1, got {given}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: none, or one of them twice: {self.seeds}")


def draw(study: QuestionSeeds, seed: int) -> list[Example]:
    """The questions of one draw, each as often as it is answered."""
    world = ASKED[study.world]
    return [
        world.example(i, seed, "heldout", family)
        for family in study.families
        for i in range(study.questions)
        for _ in range(study.rollouts)
    ]


def measure_draw(model, processor, study: QuestionSeeds, seed: int) -> pd.DataFrame:
    """Answers of one draw of questions, one row each.

    Returns:
        ``question_seed``, ``family``, ``question`` (its number in the draw),
        ``sample``, the columns of
        :func:`~vgpo.studies.controls.answers_beside_nulls`, and ``looks``: of the
        values of tiles, the share that the answer looks up (NaN if it has none).
    """
    asked = draw(study, seed)
    texts = answer(model, processor, asked, 1.0, seed, batch_size=256)
    table = answers_beside_nulls(model, processor, asked, texts)
    number = pd.RangeIndex(len(asked))
    about = {
        "question_seed": seed,
        "family": [example.family for example in asked],
        "question": number // study.rollouts,
        "sample": number % study.rollouts,
    }
    looks = [
        _share_looked_up(processor, example, text)
        for example, text in zip(asked, texts, strict=True)
    ]
    return pd.DataFrame(about).join(table.assign(looks=looks))


def _share_looked_up(processor, example: Example, text: str) -> float:
    ids = processor.tokenizer(text).input_ids
    traced = trace(example, token_texts(processor.tokenizer, ids))
    values = [token.source == "image" for token in traced if token.truth is not None]
    return sum(values) / len(values) if values else float("nan")


def question_of(answers: pd.DataFrame) -> pd.Series:
    """A name for each answer's question, over all draws: what is resampled."""
    return answers["question_seed"].astype(str) + "/" + answers["question"].astype(str)


def forests(answers: pd.DataFrame) -> pd.DataFrame:
    """Right less wrong to the same question: every draw, pooled and over draws.

    Returns:
        The table of :func:`vgpo.stats.forgetting.compare_over_question_seeds` for each
        of ``vgpo.studies.controls.NULLS``, with it in a column ``null``; and for
        ``same length``, answers to the same question of the same length.
    """
    same_length = answers["question"].astype(str) + " " + answers["length"].astype(str)
    keys = {null: (f"{null}_ratio", answers["question"]) for null in NULLS}
    keys["same length"] = ("trained_ratio", same_length)
    return pd.concat(
        [
            compare_over_question_seeds(
                answers[column],
                answers["right"],
                question,
                answers["question_seed"],
                picture=answers["question"],
            )
            .assign(null=name)
            .reset_index()
            for name, (column, question) in keys.items()
        ],
        ignore_index=True,
    )


def record(study: QuestionSeeds, output: Path = RESULTS) -> dict[str, Any]:
    """Measures all draws of a world and writes them down.

    Args:
        study: The settings.
        output: ``WORLD.csv.gz`` (the answers) and ``WORLD.json`` (what they say, with
            provenance) are written there.

    Returns:
        What is in the JSON file: the settings and provenance, ``accuracy``,
        ``observations`` (over all draws) and ``forests``.
    """
    started = time.monotonic()
    model, processor = load_tiny(CHECKPOINTS[study.world])
    parts = []
    for seed in study.seeds:
        parts.append(measure_draw(model, processor, study, seed))
        print(
            f"{study.world}, question seed {seed}: {len(parts[-1])} answers, "
            f"{parts[-1]['right'].mean():.0%} right, "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
    answers = pd.concat(parts, ignore_index=True)
    text = answers.to_csv(index=False, float_format="%.6g")
    write_atomically(
        output / f"{study.world}.csv.gz", gzip.compress(text.encode(), mtime=0)
    )
    # From what was written, so that the tables can be made from the file alone.
    answers = read_answers(study.world, output)
    weights = CHECKPOINTS[study.world] / "model.safetensors"
    found = {
        **asdict(study),
        "start": digest(weights),
        "answers": len(answers),
        "accuracy": round(float(answers["right"].mean()), 6),
        **tables(answers),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return write_record(
        output / f"{study.world}.json",
        found,
        command=f"python -m vgpo.studies.question_seeds --world {study.world}",
        started=started,
    )


def tables(answers: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """``observations`` and ``forests`` of recorded answers, as JSON takes them."""
    return {
        "observations": _rows(observations(answers, question_of(answers))),
        "forests": _rows(forests(answers)),
    }


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(table.to_json(orient="records", double_precision=6))


def read_answers(world: str, folder: str | Path = RESULTS) -> pd.DataFrame:
    """The recorded answers of a world, one row each.

    Args:
        world: A name of ``vgpo.testbed.CHECKPOINTS``.
        folder: Where they were written.

    Returns:
        As :func:`measure_draw`, all draws.

    Raises:
        FileNotFoundError: None were recorded there.
    """
    return pd.read_csv(Path(folder) / f"{world}.csv.gz")


def read_record(world: str, folder: str | Path = RESULTS) -> dict[str, Any]:
    """What was recorded of a world: settings, provenance and tables.

    Args:
        world: A name of ``vgpo.testbed.CHECKPOINTS``.
        folder: Where it was written.

    Returns:
        As :func:`record`; ``observations`` and ``forests`` are data frames.

    Raises:
        FileNotFoundError: None was recorded there.
    """
    found = json.loads((Path(folder) / f"{world}.json").read_text())
    frames = {n: pd.DataFrame(found[n]) for n in ("observations", "forests")}
    return found | frames


def beside_nulls(observations: pd.DataFrame) -> pd.DataFrame:
    """Values of observations side by side: a row per quantity, a column per null."""
    table = observations.pivot(index="quantity", columns="null", values="value")
    order = list(dict.fromkeys(observations["quantity"]))
    return table.loc[order, list(NULLS)].rename_axis(columns=None)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vgpo.studies.question_seeds",
        description="Measures forgetting over several draws of questions.",
    )
    parser.add_argument("--world", choices=list(CHECKPOINTS), required=True)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(QuestionSeeds.seeds)
    )
    parser.add_argument("--questions", type=int, default=QuestionSeeds.questions)
    parser.add_argument("--rollouts", type=int, default=QuestionSeeds.rollouts)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        study = QuestionSeeds(
            world=options.world,
            seeds=tuple(options.seeds),
            questions=options.questions,
            rollouts=options.rollouts,
        )
    except ValueError as error:
        parser.error(str(error))
    found = record(study, options.output)
    with pd.option_context("display.width", 120, "display.max_columns", None):
        print(pd.DataFrame(found["forests"]).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
