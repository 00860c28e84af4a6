"""Objections of reviewers that need no training, recorded for the ledger.

::

    python -m vgpo.studies.objections

writes three files to ``results/controls``, each with its settings and provenance:

- ``robustness.json``: is the score robust to changes of the picture?
- ``gate.json``: which tokens does compensation lift, and do they read?
- ``tile_probe.json``: late in an answer, can the model still say what a tile shows?

The chapters measure the same with more detail.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from vgpo.stats.intervals import RESAMPLES, mean_interval
from vgpo.studies.focus.robustness import robustness_summary, robustness_table
from vgpo.studies.gates import grade_gates
from vgpo.studies.probes import tile_probe
from vgpo.studies.provenance import write_record
from vgpo.studies.question_seeds import ASKED
from vgpo.studies.tables import table_beside_controls
from vgpo.testbed import CHECKPOINTS, IMAGE_FAMILIES, load_tiny
from vgpo.testbed.answers import answer
from vgpo.testbed.changes import blank, perturb
from vgpo.testbed.questions import Example

CHANGES = (("noise", 32), ("brightness", 0.8), ("brightness", 1.25), ("shift", 3),
           ("jpeg", 20))  # fmt: skip
"""Changes of the picture, each in the strongest form that chapter 02 shows."""

PROBED = {"misread": ("",), "look_away": (" look", " recall")}
"""Worlds whose tiles are asked for, and the words put before."""


def robustness(
    model, processor, examples: Sequence[Example], resamples: int = RESAMPLES
) -> pd.DataFrame:
    """``vgpo.studies.focus.robustness_summary`` of :data:`CHANGES`, with two
    controls: the picture of another question, and a grey one.

    Returns:
        One row per ``variant``.
    """
    variants = {
        f"{kind} {amount}": [
            perturb(example, kind, amount, place)
            for place, example in enumerate(examples)
        ]
        for kind, amount in CHANGES
    }
    others = [*examples[1:], *examples[:1]]
    variants["another picture"] = [
        replace(mine, image=other.image)
        for mine, other in zip(examples, others, strict=True)
    ]
    variants["grey picture"] = [blank(example) for example in examples]
    table = robustness_table(model, processor, examples, variants)
    return robustness_summary(table, resamples).reset_index()


def gate(
    model, processor, examples: Sequence[Example], seed: int, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """``vgpo.studies.gates.grade_gates`` at the paper's setting, over one sampled
    answer to each question; one row per ``score`` (both alignments, and what needs no
    looking: the score over a grey picture, and the rule "the token before is ="), the
    interval of ``precision`` under ``precision_low`` and ``precision_high``."""
    texts = answer(model, processor, list(examples), temperature=1.0, seed=seed)
    table = table_beside_controls(model, processor, examples, texts)
    columns = ("focus", "focus_prediction", "grey_prediction", "rule")
    grades = grade_gates(table, columns, resamples=resamples)
    return grades.rename(columns={"low": "precision_low", "high": "precision_high"})


def still_named(
    model,
    processor,
    examples: Sequence[Example],
    leads: Sequence[str],
    seed: int,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """How often the model names a tile's digit before and after its own answer.

    Args:
        model: Of a small world.
        processor: Its processor.
        examples: What is asked.
        leads: As :func:`~vgpo.studies.probes.tile_probe`.
        seed: Of the answers and of the tiles that are named.
        resamples: Of answers.

    Returns:
        One row per ``lead`` and ``picture`` (``"true"`` or ``"grey"``): ``beginning``
        and ``end``, shares of right digits, and ``change``, the second less the first
        answer by answer; each with ``_low`` and ``_high``.
    """
    texts = answer(model, processor, list(examples), 1.0, seed)
    found = []
    for grey in (False, True):
        table = tile_probe(
            model, processor, examples, texts, leads, (0.0, 1.0), grey=grey, seed=seed
        )
        for lead, part in table.groupby("lead", sort=False):
            right = part.pivot(index="row", columns="fraction", values="right")
            first, last = (right[f].to_numpy(dtype=float) for f in (0.0, 1.0))
            entry: dict[str, Any] = {
                "lead": lead,
                "picture": "grey" if grey else "true",
            }
            for name, values in (("beginning", first), ("end", last)):
                entry |= _columns(values, (0, 1), name, resamples)
            found.append(entry | _columns(last - first, (-1, 1), "change", resamples))
    return pd.DataFrame(found)


def _columns(
    values: np.ndarray, bounds: tuple[float, float], name: str, resamples: int
) -> dict[str, Any]:
    interval = mean_interval(values, bounds=bounds, resamples=resamples)
    return interval.as_columns(name)


def record(
    output: Path, questions: int = 40, seed: int = 60, resamples: int = RESAMPLES
) -> None:
    """Writes the three files.

    Args:
        output: Their folder.
        questions: Of each family with an image, on held-out scans.
        seed: Of questions and samples.
        resamples: Bootstrap resamples of whole answers.
    """
    settings = {"questions": questions, "families": list(IMAGE_FAMILIES), "seed": seed}

    def write(name: str, measure: Callable[[], pd.DataFrame]) -> None:
        started = time.monotonic()
        rows = measure().to_json(orient="records", double_precision=6)
        write_record(
            output / f"{name}.json",
            settings | {"rows": json.loads(rows)},
            command="python -m vgpo.studies.objections",
            started=started,
        )

    def asked(world: str) -> list[Example]:
        return ASKED[world].examples(
            questions, IMAGE_FAMILIES, seed=seed, split="heldout"
        )

    first = load_tiny(CHECKPOINTS["misread"])
    write("robustness", lambda: robustness(*first, asked("misread"), resamples))
    write("gate", lambda: gate(*first, asked("misread"), seed, resamples))
    write(
        "tile_probe",
        lambda: pd.concat(
            still_named(
                *load_tiny(CHECKPOINTS[world]), asked(world), leads, seed, resamples
            ).assign(world=world)
            for world, leads in PROBED.items()
        ),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m vgpo.studies.objections")
    parser.add_argument("--output", type=Path, default=Path("results/controls"))
    parser.add_argument("--questions", type=int, default=40)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record(options.output, options.questions)
    for name in ("robustness", "gate", "tile_probe"):
        print(f"wrote {options.output / name}.json")


if __name__ == "__main__":
    main()
