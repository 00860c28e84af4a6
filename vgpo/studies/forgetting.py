"""Is it forgetting, or is there nothing left to look at?

What the chapter on visual forgetting measures: attention beside the true dependence
of each token, layer by layer; and answers that go on over a picture with a covered
tile. On real models, whose tokens have no known truth, only
:func:`analyze_checkpoints` and :func:`paired_changes` apply.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vgpo.analysis.forgetting import analyze
from vgpo.analysis.forgetting_analysis import ForgettingAnalysis
from vgpo.data import PROMPT_SUFFIX, load_rows
from vgpo.models.inputs import token_texts
from vgpo.models.loading import load_model
from vgpo.rewards import last_boxed
from vgpo.stats.forgetting.comparing import Comparison
from vgpo.stats.forgetting.pointing import pointing_hits, share_on_target
from vgpo.stats.intervals import Interval, auroc_interval, mean_interval
from vgpo.studies.tables import check_one_per_example
from vgpo.testbed.answers import answer
from vgpo.testbed.changes import occlude
from vgpo.testbed.data import messages
from vgpo.testbed.questions import Example, trace


def as_rows(examples: Sequence[Example]) -> list[dict]:
    """Questions of a small world as rows for ``vgpo.analyze``.

    Example:
        >>> from vgpo.testbed import World
        >>> sorted(as_rows([World().example(0, family="sum")])[0])
        ['answer', 'image', 'prompt']
    """
    return [
        {"prompt": messages(example), "image": example.image, "answer": example.answer}
        for example in examples
    ]


def analyze_checkpoints(
    names: Sequence[str | Path],
    dataset: str,
    dataset_split: str,
    questions: int,
    *,
    question_column: str = "problem",
    answer_column: str = "answer",
    image_column: str = "images",
    prompt_suffix: str | None = None,
    max_pixels: int | None = 1_048_576,
    max_new_tokens: int = 2048,
    completions_file: str | Path | None = None,
    untrained: bool = False,
) -> dict[str, ForgettingAnalysis]:
    """The forgetting analysis of several checkpoints on the same questions.

    One checkpoint is in memory at a time; each answers greedily.

    Args:
        names: Model ids on the hub, or folders.
        dataset: A data set on the hub, a folder or a file.
        dataset_split: Its split.
        questions: How many of its first rows are asked.
        question_column: Column of the question.
        answer_column: Column of the reference answer.
        image_column: Column of the image or images.
        prompt_suffix: Put after each question; by default
            ``vgpo.data.PROMPT_SUFFIX``, as in training.
        max_pixels: Larger images are reduced; ``None`` leaves it to the processor.
        max_new_tokens: Longest answer.
        completions_file: Keeps the answers of all models as they are written, so
            that a stopped run goes on; see :func:`vgpo.analysis.forgetting.analyze`.
        untrained: Whether a network with random weights reads the answers as well.

    Returns:
        Name -> analysis.

    Raises:
        ValueError: No names, fewer than one question, or as
            :func:`vgpo.analysis.forgetting.analyze`,
            :func:`vgpo.models.loading.load_model` and
            :func:`vgpo.data.loading.load_rows`.
    """
    if not names:
        raise ValueError("names: at least one model is needed.")
    if questions < 1:
        raise ValueError(f"questions: must be at least 1, got {questions}.")
    rows = load_rows(
        dataset,
        dataset_split,
        question_column=question_column,
        answer_column=answer_column,
        image_column=image_column,
        prompt_suffix=PROMPT_SUFFIX if prompt_suffix is None else prompt_suffix,
    )
    rows = rows.select(range(min(questions, len(rows))))
    found = {}
    for name in names:
        model, processor = load_model(name, max_pixels=max_pixels)
        found[str(name)] = analyze(
            model,
            processor,
            rows,
            max_new_tokens=max_new_tokens,
            completions_file=completions_file,
            untrained=untrained,
        )
        del model
        gc.collect()
        torch.cuda.empty_cache()
    return found


def comparison_table(comparisons: dict[str, Comparison]) -> pd.DataFrame:
    """Comparisons of right with wrong answers, one per row.

    Returns:
        Index name; ``right``, ``wrong``, ``difference`` (means), ``low``, ``high``
        (95 % interval of the difference), ``p_value``, ``count`` (of answers, or of
        questions where the comparison is within questions).

    Example:
        >>> from vgpo.stats.forgetting import compare_right_wrong
        >>> ratios, correct = [0.9, 0.7, 0.2, 0.4], [True, True, False, False]
        >>> outcome = compare_right_wrong(ratios, correct)
        >>> comparison_table({"all": outcome})[["right", "wrong", "count"]]
             right  wrong  count
        all    0.8    0.3      4
    """
    found = {
        name: {
            "right": c.right.value,
            "wrong": c.wrong.value,
            "difference": c.difference.value,
            "low": c.difference.low,
            "high": c.difference.high,
            "p_value": c.p_value,
            "count": c.difference.count,
        }
        for name, c in comparisons.items()
    }
    return pd.DataFrame(found).T.astype({"count": int})


def paired_changes(
    before: ForgettingAnalysis, after: ForgettingAnalysis
) -> pd.DataFrame:
    """What changed between two checkpoints that were asked the same questions.

    Args:
        before: Of the first checkpoint.
        after: Of the second, on the same questions in the same order.

    Returns:
        One row each for ``image`` (share of attention on it), ``ratio`` (late/early),
        ``length`` and, where answers are known, ``correct``; columns ``before`` and
        ``after`` (means), ``value``, ``low``, ``high``, ``count`` (mean of the
        differences per question, with its 95 % interval). Questions where one of the
        two has no ratio are left out of that row.

    Raises:
        ValueError: Not the same number of questions.
    """
    first, second = before.per_answer, after.per_answer
    if len(first) != len(second):
        raise ValueError(
            f"after: {len(second)} questions were asked, {len(first)} before; the "
            "changes are those of each question."
        )
    found = {}
    for name in ("image", "ratio", "length", "correct"):
        if name not in first or name not in second:
            continue
        both = pd.DataFrame({"before": first[name], "after": second[name]})
        both = both.astype(float).dropna()
        change = mean_interval(both["after"] - both["before"])
        found[name] = both.mean().to_dict() | change._asdict()
    return pd.DataFrame(found).T.astype({"count": int})


def true_dependence(
    analysis: ForgettingAnalysis, examples: Sequence[Example]
) -> pd.DataFrame:
    """Attention of each token beside what it truly depends on.

    Args:
        analysis: Of answers to ``examples``, with all maps kept.
        examples: What was asked.

    Returns:
        One row per token (layers averaged): ``row``, ``t``, ``length``, ``token``,
        ``image``, ``query``, ``generated``; ``family``; ``source``, ``tiles``,
        ``truth``, ``faithful`` (:func:`vgpo.testbed.questions.trace`); ``nth_read``
        (from 1, where a value is read); ``points`` (whether the image token it looks
        at most shows what it reads) and ``on_tile`` (share of its image attention
        there), both NaN where nothing is read, and ``chance`` of pointing right
        blindly.

    Raises:
        ValueError: Another number of examples than answers, or maps not kept.
    """
    answered = analysis.per_answer.index
    if len(answered) != len(examples):
        raise ValueError(
            f"examples: need one per answer, got {len(examples)} for {len(answered)}."
        )
    if missing := set(answered) - set(analysis.kept):
        raise ValueError(
            f"analysis: the maps of {len(missing)} answers were not kept; analyze with "
            "keep_maps of at least the number of answers."
        )
    parts = []
    for row, part in analysis.per_token.reset_index().groupby("row"):
        example = examples[row]
        traced = trace(example, list(part["token"]))
        tiles = [token.tiles for token in traced]
        reads = np.array([len(t) > 0 for t in tiles])
        attention = analysis.kept[row].maps[0].flatten(1)
        points = pointing_hits(attention, tiles).double()
        on_tile = share_on_target(attention, tiles)
        value = np.array([token.truth is not None for token in traced])
        parts.append(
            part.assign(
                family=example.family,
                source=[token.source for token in traced],
                tiles=tiles,
                truth=[token.truth for token in traced],
                faithful=[token.faithful for token in traced],
                nth_read=np.where(value, value.cumsum(), np.nan),
                points=np.where(reads, points.numpy(), np.nan),
                on_tile=np.where(reads, on_tile.numpy(), np.nan),
                chance=[
                    len(t) / attention.shape[1] if len(t) else np.nan for t in tiles
                ],
            )
        )
    return pd.concat(parts, ignore_index=True)


def mean_by(
    table: pd.DataFrame,
    by: str,
    value: str,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> pd.DataFrame:
    """Mean of a column in each part of the tokens, with a 95 % interval.

    Tokens of one answer are not independent: each answer counts with its own mean.

    Args:
        table: One row per token, with ``row``.
        by: The column that parts the tokens.
        value: The column to average; NaN are left out.
        bounds: What it cannot exceed, as in :func:`vgpo.stats.intervals.mean_interval`.

    Returns:
        Index ``by``; ``value``, ``low``, ``high``, ``count`` of answers.

    Example:
        >>> table = pd.DataFrame({"row": [0, 0, 1], "kind": "a", "x": [1.0, 3.0, 4.0]})
        >>> float(mean_by(table, "kind", "x").loc["a", "value"])
        3.0
    """
    per_answer = table.groupby([by, "row"], sort=False)[value].mean()
    found = {
        part: mean_interval(values, bounds=bounds)
        for part, values in per_answer.groupby(by, sort=False)
    }
    frame = pd.DataFrame.from_dict(found, orient="index", columns=Interval._fields)
    return frame.rename_axis(by)


def compare_layers(
    model,
    processor,
    examples: Sequence[Example],
    completions: Sequence[str],
    layers: Sequence[int],
) -> pd.DataFrame:
    """How well the attention of each layer tells what a token depends on.

    Args:
        model: A model of the small world.
        processor: Its processor.
        examples: What was asked.
        completions: What was answered.
        layers: From 0.

    Returns:
        One row per layer: ``layer``; ``AUROC`` of image attention for tokens that
        read the image; ``pointing`` accuracy of reads; ``image attention of reads``;
        ``image attention of others``; each with ``_low`` and ``_high``, 95 %
        intervals over answers.
    """
    found = []
    for layer in layers:
        analysis = analyze(
            model,
            processor,
            as_rows(examples),
            completions,
            layers=(layer,),
            keep_maps=len(examples),
            progress=False,
        )
        table = true_dependence(analysis, examples)
        reads = table["source"] == "image"
        numbers = {
            "AUROC": auroc_interval(table["image"], reads, table["row"]),
            "pointing": _mean_over_answers(table, "points"),
            "image attention of reads": _mean_over_answers(table[reads], "image"),
            "image attention of others": _mean_over_answers(table[~reads], "image"),
        }
        entry: dict[str, float] = {"layer": layer}
        for name, interval in numbers.items():
            entry |= interval.as_columns(name)
        found.append(entry)
    return pd.DataFrame(found)


def _mean_over_answers(table: pd.DataFrame, column: str) -> Interval:
    return mean_interval(table.groupby("row")[column].mean().to_numpy())


@dataclass(frozen=True)
class _Case:
    """One continuation: from where, over which picture."""

    row: int
    example: Example
    prefix: str
    t: int
    when: str
    covered: str


def covered_continuations(
    model,
    processor,
    examples: Sequence[Example],
    completions: Sequence[str],
    seed: int = 0,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Covers a tile before or after an answer reads it, and lets the answer go on.

    In each answer one read of a value is drawn. The answer is cut right before, or
    right after, the value; a tile of the picture is covered with grey (the tiles of a
    column, in a chart): the one that is read there, or another one that is not read
    again from there on; and the model goes on greedily over the covered picture.

    Args:
        model: A model of the small world.
        processor: Its processor.
        examples: Questions with an image.
        completions: The model's own greedy answers over the whole picture.
        seed: Of the draws.
        batch_size: Continuations generated at once.

    Returns:
        One row per continuation: ``row``, ``family``, ``t`` of the read, ``when``
        (``"before"``, ``"after"``), ``covered`` (``"the tile it reads"``, ``"another
        tile"``), ``value_moved`` (always False after) and ``answer_moved``: whether
        value and boxed answer differ from the answer over the whole picture. Answers
        that read nothing are left out, and other tiles where there is none.

    Raises:
        ValueError: Not one completion per example.
    """
    check_one_per_example("completions", completions, examples)
    generator = np.random.default_rng(seed)
    cases = [
        case
        for row, (example, text) in enumerate(zip(examples, completions, strict=True))
        for case in _cases(processor, row, example, text, generator)
    ]
    texts = answer(
        model,
        processor,
        [case.example for case in cases],
        batch_size=batch_size,
        prefixes=[case.prefix for case in cases],
    )
    found = []
    for case, text in zip(cases, texts, strict=True):
        before = completions[case.row]
        written, now = (_tokens(processor, t) for t in (before, text))
        found.append(
            {
                "row": case.row,
                "family": case.example.family,
                "t": case.t,
                "when": case.when,
                "covered": case.covered,
                "value_moved": written[case.t - 1]
                != (now[case.t - 1 : case.t] or [""])[0],
                "answer_moved": last_boxed(text) != last_boxed(before),
            }
        )
    return pd.DataFrame(found)


def _tokens(processor, text: str) -> list[str]:
    return token_texts(processor.tokenizer, processor.tokenizer(text).input_ids)


def _cases(processor, row, example, text, generator) -> list[_Case]:
    tokens = _tokens(processor, text)
    traced = trace(example, tokens)
    reads = [i for i, token in enumerate(traced) if token.truth is not None]
    if not reads:
        return []
    place = reads[generator.integers(len(reads))]
    needed = {tiles for token in traced[place:] if (tiles := token.tiles)}
    others = [
        tiles
        for entry in range(len(example.colours))
        if (tiles := example.tiles_of(entry)) not in needed
    ]
    covers = {"the tile it reads": traced[place].tiles}
    if others:
        covers["another tile"] = others[generator.integers(len(others))]
    return [
        _Case(row, occlude(example, tiles), prefix, place + 1, when, covered)
        for covered, tiles in covers.items()
        for when, prefix in (
            ("before", "".join(tokens[:place])),
            ("after", "".join(tokens[: place + 1])),
        )
    ]
