"""Controls of the book's measurements on the small worlds, each beside its figure.

- :func:`answers_beside_nulls` and :func:`observations`: forgetting as measured, in a
  network that knows nothing, and in an attention spread evenly;
- :func:`rule_and_grey`: how well a score finds the values read from the picture,
  beside a rule on the text and the same score over a grey picture.

::

    python -m vgpo.studies.controls

records the second, for the claims. Temperature is a control of its own
(:func:`vgpo.studies.worlds.accuracy_by_temperature`), and part of the evaluation of
every training (:mod:`vgpo.studies.experiments.evaluation`).
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from vgpo.analysis.controls import untrained_copy
from vgpo.models.attention import attention_split
from vgpo.models.inputs import special_token_ids
from vgpo.stats.forgetting.comparing import compare_right_wrong
from vgpo.stats.forgetting.lengths import length_correlation
from vgpo.stats.forgetting.questions import compare_within_questions
from vgpo.stats.forgetting.shares import (
    accumulation_ratio,
    progress_profile,
    uniform_shares,
)
from vgpo.stats.intervals import RESAMPLES, auroc_interval, mean_interval
from vgpo.studies.provenance import write_record
from vgpo.studies.tables import batches_of_one_length, table_beside_controls
from vgpo.testbed import CHECKPOINTS, IMAGE_FAMILIES, World, load_tiny
from vgpo.testbed.answers import correct
from vgpo.testbed.data import encode_prompts
from vgpo.testbed.questions import Example

NULLS = ("trained", "untrained", "uniform")
"""The model; a network of its shape with random weights; attention spread evenly."""


def attention_shares(
    model, processor, examples: Sequence[Example], completions: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of every token of answers, split over image, query and earlier text.

    Args:
        model: Of a small world, trained or not.
        processor: Its processor.
        examples: What was asked, all with an image.
        completions: What was answered.

    Returns:
        ``(masses, mask)``: (B, T, 3) float64 of the final layer, special tokens left
        out, padded on the right with 0; and (B, T) bool.
    """
    lengths = [len(processor.tokenizer(text).input_ids) for text in completions]
    masses = torch.zeros(len(examples), max(lengths), 3, dtype=torch.float64)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    special = special_token_ids(processor.tokenizer)
    for some, length, inputs in batches_of_one_length(
        processor, examples, completions, device=model.device
    ):
        split = attention_split(model, inputs, length, special_token_ids=special)
        masses[some, :length] = split.masses.double().cpu()
    return masses, mask


def uniform_attention(
    processor, examples: Sequence[Example], mask: torch.Tensor
) -> torch.Tensor:
    """What :func:`attention_shares` would be if attention were spread evenly.

    Args:
        processor: Of the small world.
        examples: What was asked.
        mask: bool, (B, T), of the answers' tokens.

    Returns:
        (B, T, 3) float64.
    """
    special = torch.tensor(sorted(special_token_ids(processor.tokenizer)))
    images, queries = [], []
    for example in examples:
        ids = encode_prompts(processor, [example])["input_ids"]
        image = ids == processor.image_token_id
        images.append(int(image.sum()))
        queries.append(int((~image & ~torch.isin(ids, special)).sum()))
    return uniform_shares(images, queries, mask)


def answers_beside_nulls(
    model,
    processor,
    examples: Sequence[Example],
    completions: Sequence[str],
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """What each answer gives to the image, as measured and where nothing is known.

    The same answers go through the model, through a network of the same shape that
    was never trained, and through an attention that is spread evenly over image,
    query and earlier text.

    Args:
        model: Of a small world.
        processor: Its processor.
        examples: What was asked, all with an image.
        completions: What was answered, one per example.
        seed: Of the untrained weights.

    Returns:
        One row per answer: ``right``, ``length`` in tokens and, for each of
        :data:`NULLS`, ``NULL_first`` and ``NULL_last`` (share of the image in the
        first and the last fifth), ``NULL_text`` (of generated text in the last) and
        ``NULL_ratio`` (late/early).
    """
    trained, mask = attention_shares(model, processor, examples, completions)
    untrained, _ = attention_shares(
        untrained_copy(model, seed), processor, examples, completions
    )
    uniform = uniform_attention(processor, examples, mask)
    table = pd.DataFrame(
        {
            "right": [
                correct(c, e) for c, e in zip(completions, examples, strict=True)
            ],
            "length": mask.sum(dim=1).numpy(),
        }
    )
    for null, masses in zip(NULLS, (trained, untrained, uniform), strict=True):
        fifths = progress_profile(masses, mask, bins=5).numpy()
        table[f"{null}_first"] = fifths[:, 0, 0]
        table[f"{null}_last"] = fifths[:, -1, 0]
        table[f"{null}_text"] = fifths[:, -1, 2]
        table[f"{null}_ratio"] = accumulation_ratio(masses[..., 0], mask).numpy()
    return table


def observations(
    answers: pd.DataFrame,
    question: Sequence[object],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """The paper's observations on forgetting, from answers measured beside the nulls.

    What an untrained network and an evenly spread attention show as well is not
    forgetting, but what a growing context does to any attention.

    Args:
        answers: From :func:`answers_beside_nulls`.
        question: Which question each answer belongs to: whole questions are drawn.
        resamples: Bootstrap resamples.
        seed: Of resampling.

    Returns:
        One row per quantity and null: ``null`` (of :data:`NULLS`), ``quantity``,
        ``value``, ``low``, ``high``, ``count``. Quantities: share of the image in the
        first and the last fifth, and their difference; of generated text in the last;
        the late/early ratio, and its correlation with length; right less wrong, over
        all answers and over answers to the same question (NaN where no question has
        both).
    """
    options = {"resamples": resamples, "seed": seed}
    by_question = {"clusters": list(question), **options}
    right = answers["right"]
    found = []
    for null in NULLS:
        first, last = answers[f"{null}_first"], answers[f"{null}_last"]
        ratio = answers[f"{null}_ratio"]
        quantities = {
            "image, first fifth": mean_interval(first, **by_question),
            "image, last fifth": mean_interval(last, **by_question),
            "image, last less first": mean_interval(last - first, **by_question),
            "generated text, last fifth": mean_interval(
                answers[f"{null}_text"], **by_question
            ),
            "late/early ratio": mean_interval(ratio, **by_question),
            "ratio against length": length_correlation(
                ratio, answers["length"], **by_question
            ),
            "right less wrong": compare_right_wrong(
                ratio, right, **by_question
            ).difference,
            "right less wrong, same question": compare_within_questions(
                ratio, right, list(question), **options
            ).difference,
        }
        found += [
            {"null": null, "quantity": name} | interval._asdict()
            for name, interval in quantities.items()
        ]
    return pd.DataFrame(found)


def rule_and_grey(
    model,
    processor,
    examples: Sequence[Example],
    completions: Sequence[str] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """How well values read from the picture are found: by focus, and without looking.

    Args:
        model: Of a small world.
        processor: Its processor.
        examples: Questions with an image.
        completions: Their answers; by default the reference chains.
        resamples: Bootstrap resamples of answers.
        seed: Of resampling.

    Returns:
        One row per score and comparison: ``score``: the rule ``"= before"`` ("the
        token before is ="), and focus by either alignment over the true picture and
        over a uniformly grey one; ``against``: ``"all others"``, or ``"results"``, the
        numbers after an equals sign that come from the text, where the rule says
        nothing; ``auroc``, ``low``, ``high``, ``reads``, ``others``.
    """
    table = table_beside_controls(model, processor, examples, completions)
    read = table["truth"].notna() & (table["source"] == "image")
    scores = {
        "= before": table["rule"],
        "focus, prediction": table["focus_prediction"],
        "focus, prediction, grey picture": table["grey_prediction"],
        "focus, token": table["focus"],
        "focus, token, grey picture": table["grey"],
    }
    result = (
        (table["rule"] == 1)
        & table["token"].str.fullmatch(r" \d+")
        & (table["source"] == "text")
    )
    found = []
    for against, others in (("all others", ~read), ("results", result & ~read)):
        among = read | others
        for name, score in scores.items():
            auroc, low, high, _ = auroc_interval(
                score[among],
                read[among],
                table.loc[among, "row"],
                resamples=resamples,
                seed=seed,
            )
            found.append((name, against, auroc, low, high, read.sum(), others.sum()))
    return pd.DataFrame(
        found,
        columns=["score", "against", "auroc", "low", "high", "reads", "others"],
    )


def record(output: Path, questions: int = 40, seed: int = 50) -> dict:
    """Writes :func:`rule_and_grey` of the first world, over its reference chains.

    Args:
        output: ``rule_and_grey.json`` is written there.
        questions: Of each family with an image.
        seed: Of questions and resampling.

    Returns:
        What is in the file: settings, provenance and ``rows``.
    """
    started = time.monotonic()
    model, processor = load_tiny(CHECKPOINTS["misread"])
    world = World(verbosity=0.3)
    examples = world.examples(questions, IMAGE_FAMILIES, seed=seed, split="heldout")
    table = rule_and_grey(model, processor, examples, seed=seed)
    found = {
        "world": "misread",
        "questions": questions,
        "families": list(IMAGE_FAMILIES),
        "seed": seed,
        "rows": json.loads(table.to_json(orient="records", double_precision=6)),
    }
    return write_record(
        output / "rule_and_grey.json",
        found,
        command="python -m vgpo.studies.controls",
        started=started,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(pd.DataFrame(record(Path("results/controls"))["rows"]).round(3))
