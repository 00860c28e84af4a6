"""A model's answers to sets of questions: the records, and what they add up to."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vgpo.evaluation.decoding import LENGTH
from vgpo.files import read_json_lines
from vgpo.stats.intervals import Interval, mean_interval
from vgpo.stats.seeds import wilson_interval

GREEDY = -1
"""The number of the greedy answer, beside samples 0, 1, ..."""

GRADERS = ("accuracy", "recipe")

SETTINGS, RECORDS, LEFT_OUT, PICTURES = (
    "run.json",
    "records.jsonl",
    "left_out.jsonl",
    "pictures",
)
"""Files of a run's folder."""


@dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """Every question of a run with every answer and every verdict.

    Attributes:
        settings: Model, decoding, prompts, pixels, versions, and the sets.
        records: One per question: ``set``, ``row`` (in the source), ``question_id``,
            ``question``, ``prompt``, ``reference``, ``pictures`` (id, width, height),
            ``pixels``, ``prompt_tokens``, ``image_tokens``, ``view`` and ``answers``
            (``sample``, ``text``, ``tokens``, ``finish``, ``extracted``, ``accuracy``,
            ``recipe``).
        left_out: Rows that were not asked: ``set``, ``row``, ``reason``.
        folder: Where it is kept.
    """

    settings: dict[str, Any]
    records: list[dict[str, Any]]
    left_out: list[dict[str, Any]] = field(default_factory=list)
    folder: Path | None = None

    def __repr__(self) -> str:
        sets = dict.fromkeys(record["set"] for record in self.records)
        return (
            f"EvaluatedRun({self.name}: {len(self.records)} questions of "
            f"{', '.join(sets) or 'no set'}, {len(self.left_out)} left out)"
        )

    @property
    def name(self) -> str:
        """Of the model, for tables and pages."""
        return str(self.settings.get("name", "model"))

    def answers(self) -> pd.DataFrame:
        """One row per answer.

        Returns:
            ``set``, ``question_id``, ``row``, ``pictures`` (their ids as one text; of a
            question without, its own id), ``sample``, ``accuracy``, ``recipe``,
            ``extracted``, ``finish``, ``tokens``.
        """
        rows = [
            {
                "set": record["set"],
                "question_id": record["question_id"],
                "row": record["row"],
                "pictures": pictures_of(record),
                **{
                    name: answer[name]
                    for name in (
                        "sample",
                        *GRADERS,
                        "extracted",
                        "finish",
                        "tokens",
                    )
                },
            }
            for record in self.records
            for answer in record["answers"]
        ]
        return pd.DataFrame(rows)

    def summary(self) -> pd.DataFrame:
        """One row per set: how often right, with its interval, and what went wrong.

        Returns:
            ``questions``, ``left_out``; ``greedy`` with ends (Wilson, or drawn by
            pictures where questions share one); ``avg`` over samples with ends drawn
            by pictures, ``pass@k`` for k = 1, 2, 4, ... up to the samples; of all
            answers, greedy and sampled, the shares ``recipe`` (right by the other
            grader), ``disagree`` (the graders differ), ``no_answer`` (no closed box)
            and ``cut_off`` (at the limit of tokens); ``tokens``, their mean.
        """
        rows = {}
        for name, mine in self._by_set():
            rows[name] = summarise(mine)
        for one in self.left_out:  # a set may have been left out as a whole
            rows.setdefault(one["set"], {"questions": 0, "left_out": 0})[
                "left_out"
            ] += 1
        return pd.DataFrame.from_dict(rows, orient="index")

    def disagreements(self) -> pd.DataFrame:
        """Answers on which the two graders differ, for a person to look at."""
        columns = ["set", "row", "sample", "reference", "extracted", *GRADERS]
        found = [
            {
                **{name: record[name] for name in ("set", "row", "reference")},
                **{name: answer[name] for name in ("sample", "extracted", *GRADERS)},
            }
            for record in self.records
            for answer in record["answers"]
            if answer["recipe"] is not None and answer["recipe"] != answer["accuracy"]
        ]
        return pd.DataFrame(found, columns=columns)

    def _by_set(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for name in dict.fromkeys(record["set"] for record in self.records):
            yield name, [one for one in self.records if one["set"] == name]


def load_run(folder: str | Path) -> EvaluatedRun:
    """A run from its folder, whole or stopped.

    Raises:
        ValueError: The folder holds no run, or a damaged one.
    """
    folder = Path(folder)
    path = folder / SETTINGS
    if not path.is_file():
        there = ", ".join(
            sorted(one.parent.name for one in folder.glob(f"*/{SETTINGS}"))
        )
        hint = f"; there are runs in {there}" if there else ""
        raise ValueError(f"{folder} holds no run: there is no {SETTINGS} in it{hint}")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict) or "sets" not in settings:
            raise ValueError("it does not name the sets that were asked")
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); name another folder, or remove this one"
        ) from error
    return EvaluatedRun(
        settings,
        in_order(settings, _lines(folder / RECORDS)),
        _lines(folder / LEFT_OUT),
        folder,
    )


def in_order(settings: dict, records: list[dict]) -> list[dict]:
    """Records by set, in the order of the run, and by row; each question once."""
    once = {(one["set"], one["question_id"]): one for one in records}
    place = {name: number for number, name in enumerate(settings["sets"])}
    return sorted(once.values(), key=lambda one: (place.get(one["set"], 0), one["row"]))


def _lines(path: Path) -> list[dict[str, Any]]:
    return read_json_lines(path) if path.is_file() else []


def pictures_of(record: dict[str, Any]) -> str:
    """What a question shares with others: its pictures' ids; without any, its own."""
    ids = [picture["id"] for picture in record["pictures"]]
    return " ".join(ids) or record["question_id"]


def scores(record: dict[str, Any], grader: str, greedy: bool) -> list[bool]:
    """Verdicts of one question: of its greedy answer, or of its samples.

    Raises:
        ValueError: The grader gave none.
    """
    found = [
        answer[grader]
        for answer in record["answers"]
        if (answer["sample"] == GREEDY) == greedy
    ]
    if any(one is None for one in found):
        raise ValueError(
            f"the grader {grader} gave no verdict: mathruler was not installed, "
            "pip install 'vgpo[recipe]'"
        )
    return found


def pass_at(right: int, count: int, k: int) -> float:
    r"""Chance that one of k answers is right, without bias, from more of them.

    :math:`1 - \binom{n-c}{k} / \binom{n}{k}` for c of n right (arXiv 2107.03374).

    Raises:
        ValueError: k is not among 1 ... count.

    Example:
        >>> pass_at(1, 4, 1), pass_at(1, 4, 4), pass_at(0, 4, 2)
        (0.25, 1.0, 0.0)
    """
    if not 1 <= k <= count or not 0 <= right <= count:
        raise ValueError(f"k must be from 1 to {count}, got {k} ({right} right)")
    return 1 - comb(count - right, k) / comb(count, k)


def accuracy_interval(
    records: Sequence[dict[str, Any]], grader: str = "accuracy", greedy: bool = True
) -> Interval:
    """Share of right answers with its 95 % interval.

    Wilson's for one answer each to questions with pictures of their own; else whole
    pictures are drawn, with all questions over them and all their answers.

    Args:
        records: Of a run.
        grader: ``accuracy`` or ``recipe``.
        greedy: The greedy answers, or the samples.

    Returns:
        NaN throughout where there are no such answers.
    """
    values, clusters = [], []
    for record in records:
        for one in scores(record, grader, greedy):
            values.append(float(one))
            clusters.append(pictures_of(record))
    if len(set(clusters)) == len(clusters):
        return wilson_interval(int(sum(values)), len(values))
    return mean_interval(values, clusters=clusters, bounds=(0, 1))


def summarise(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row of :meth:`EvaluatedRun.summary` for some records."""
    row: dict[str, Any] = {"questions": len(records), "left_out": 0}
    answers = [answer for record in records for answer in record["answers"]]
    if any(answer["sample"] == GREEDY for answer in answers):
        row |= accuracy_interval(records).as_columns("greedy")
    counts = [scores(record, "accuracy", greedy=False) for record in records]
    samples = min((len(one) for one in counts), default=0)
    if samples:
        sampled = accuracy_interval(records, greedy=False)
        row |= sampled.as_columns("avg")
        for k in _powers_of_two(samples):
            row[f"pass@{k}"] = float(
                np.mean([pass_at(sum(one), len(one), k) for one in counts])
            )
    graded = [answer for answer in answers if answer["recipe"] is not None]
    if graded:
        row["recipe"] = float(np.mean([a["recipe"] for a in graded]))
        row["disagree"] = float(np.mean([a["recipe"] != a["accuracy"] for a in graded]))
    row["no_answer"] = float(np.mean([a["extracted"] is None for a in answers]))
    row["cut_off"] = float(np.mean([a["finish"] == LENGTH for a in answers]))
    row["tokens"] = float(np.mean([a["tokens"] for a in answers]))
    return row


def _powers_of_two(most: int) -> list[int]:
    found = [1]
    while found[-1] * 2 <= most:
        found.append(found[-1] * 2)
    return found
