r"""What a small world can show: the five criteria of visual forgetting, measured.

::

    python -m vgpo.studies.worlds --world look_away --output results/worlds

lets a cold start answer questions over held-out scans and measures whether its wrong
answers are wrong because it stopped looking:

(a) wrong late reads have less image attention on their tile, and a lower focus,
    than right ones of the same place in the chain;
(b) right answers have a higher late/early ratio of image attention than wrong
    answers to the same question;
(c) reads get worse along the chain;
(d) neither a lower temperature nor greedy decoding repairs it, and supervised
    training without the lapse does;
(e) no rule on the text finds the reads.

A late read is one in the second half of its response. Questions are what is resampled:
all samples of a question are drawn together.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from vgpo.models.attention import attention_split
from vgpo.models.inputs import special_token_ids
from vgpo.stats.forgetting.comparing import Comparison
from vgpo.stats.forgetting.pointing import share_on_target
from vgpo.stats.forgetting.questions import compare_within_questions
from vgpo.stats.forgetting.shares import accumulation_ratio
from vgpo.stats.intervals import (
    Interval,
    auroc_interval,
    correlation_interval,
    mean_interval,
    resampled_ends,
)
from vgpo.studies.tables import batches_of_one_length, padded, token_table
from vgpo.testbed import CHECKPOINTS, WORLDS, load_tiny
from vgpo.testbed.answers import answer, correct
from vgpo.testbed.look_away import LOOKS
from vgpo.testbed.questions import Example, World

TEMPERATURES = (1.0, 0.8, 0.6, 0.4, 0.0)
"""At which accuracy is measured; 0 is greedy decoding."""

SCORES = ("on_tile", "focus_prediction", "focus")
"""What should be lower at reads that are wrong for want of a look."""

REACH = 4
"""Tokens before a value that a rule on the text may see."""


@dataclass(frozen=True)
class WorldStudy:
    """Settings of the measurement.

    Attributes:
        families: What is asked.
        questions: Held-out questions per family.
        samples: Sampled answers to each, at temperature 1.
        accuracy_questions: Held-out questions per family and temperature; one answer
            to each.
        seed: Of questions and sampling.
        resamples: Bootstrap resamples of questions.
        max_new_tokens: Longer answers are cut off.
        layer: Whose attention is taken, from 0 or, as -1 for the last, from the end.
    """

    families: tuple[str, ...] = ("sum", "count")
    questions: int = 100
    samples: int = 8
    accuracy_questions: int = 300
    seed: int = 80
    resamples: int = 1000
    max_new_tokens: int = 128
    layer: int = -1

    def __post_init__(self):
        for name in (
            "questions", "samples", "accuracy_questions", "resamples", "max_new_tokens"
        ):  # fmt: skip
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2")


def answers_table(
    model,
    processor,
    examples: Sequence[Example],
    completions: Sequence[str],
    layer: int = -1,
) -> pd.DataFrame:
    """Every token of answers: its truth, its focus, and its attention on the image.

    Args:
        model: A model of a small world.
        processor: Its processor.
        examples: What was asked, all with an image.
        completions: What was answered, one per example.
        layer: Whose attention is taken.

    Returns:
        The table of ``vgpo.studies.tables.token_table`` with the share of the
        layer's attention, from the position before, on the ``image`` and on the
        token's own tiles (``on_tile``; NaN where there are none); and ``nth_value``,
        the number in its chain (from 1) of a value that stands for a colour, 0 for
        all other tokens.
    """
    table = token_table(model, processor, examples, completions)
    image = np.zeros(len(table))
    on_tile = np.full(len(table), np.nan)
    where = table.groupby("row").indices
    special = special_token_ids(processor.tokenizer)
    for some, length, inputs in batches_of_one_length(
        processor, examples, completions, device=model.device
    ):
        split = attention_split(
            model, inputs, length, layers=(layer,), special_token_ids=special
        )
        for i, row in enumerate(some):
            at = where[row]
            image[at] = split.masses[i, :, 0].cpu().numpy()
            tiles = table["tiles"].to_numpy()[at]
            share = share_on_target(split.image_maps[i][0].flatten(1).cpu(), tiles)
            has_tiles = np.array([len(t) > 0 for t in tiles])
            on_tile[at] = np.where(has_tiles, image[at] * share.numpy(), np.nan)
    value = stands_for_a_colour(table)
    return table.assign(
        image=image,
        on_tile=on_tile,
        nth_value=value.groupby(table["row"]).cumsum().where(value, 0),
    )


def stands_for_a_colour(table: pd.DataFrame) -> pd.Series:
    """True at the values of colours, wherever from: looked up, remembered, quoted."""
    number = table["token"].str.fullmatch(r" \d+")
    before = table["source"].groupby(table["row"]).shift(2)
    named = before.isin(["question", "image"])
    return number & named & (_earlier(table, 1) == " =")


def _earlier(table: pd.DataFrame, steps: int) -> pd.Series:
    return table["token"].groupby(table["row"]).shift(steps, fill_value="")


def auroc_same_place(
    scores: Sequence[float],
    positive: Sequence[bool],
    place: Sequence,
    question: Sequence,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """AUROC over pairs of tokens from the same place only.

    The chance that a random positive token scores above a random other one *of the
    same place*; a place counts by its number of such pairs.

    Args:
        scores: (N,) one score per token.
        positive: (N,) bool, True on tokens that should score high.
        place: (N,) which stratum each token belongs to.
        question: (N,) what is resampled.
        resamples: Bootstrap resamples of questions.
        seed: Seed of the resampling.

    Returns:
        The AUROC in [0, 1] and its interval, with the number of questions; NaN where
        no place has both kinds.

    Example:
        >>> auroc_same_place([1, 2, 8, 9], [0, 1, 0, 1], [1, 1, 2, 2], [0, 0, 1, 1],
        ...                  resamples=10).value
        1.0
    """
    score = np.asarray(scores, dtype=np.float64)
    high = np.asarray(positive, dtype=bool)
    names, owner = np.unique(np.asarray(question), return_inverse=True)
    strata = [
        (score[at], high[at], owner[at])
        for at in pd.Series(np.arange(len(score))).groupby(np.asarray(place)).groups
        .values()
    ]  # fmt: skip

    def auroc(counts: np.ndarray) -> float:
        wins = pairs = 0.0
        for s, p, o in strata:
            weight = counts[o].astype(float)
            size = weight[p].sum() * weight[~p].sum()
            if size:
                kept = weight > 0
                wins += size * roc_auc_score(
                    p[kept], s[kept], sample_weight=weight[kept]
                )
                pairs += size
        return wins / pairs if pairs else float("nan")

    def of_drawn(rows):
        return np.array([auroc(np.bincount(r, minlength=len(names))) for r in rows])

    ends = resampled_ends(len(names), of_drawn, resamples, seed, bounds=(0, 1))
    value = float(auroc(np.ones(len(names), dtype=int)))
    return Interval(value, float(ends[0]), float(ends[1]), len(names))


def text_rules(table: pd.DataFrame, study: WorldStudy) -> dict[str, Interval]:
    """AUROC of looked-up values among numbers after an equals sign, by the text alone.

    Numbers after the same equals sign are looked up, remembered, quoted from the
    question, or results of arithmetic. Beside the rules, the scores that see the
    picture.

    Args:
        table: From :func:`answers_table`, with ``question``.
        study: Resamples and seed.

    Returns:
        ``equals_all``: "the token before is =", among all tokens. The others are among
        numbers after =: ``equals``, the same, constant there; ``colour``, "a colour
        before the ="; ``look_word``, "a word that looks among the last four tokens";
        ``learned``, a logistic regression on the last four tokens, fitted on half of
        the questions and graded on the other; ``focus_prediction`` and ``image``
        (share of attention). ``colour_values_*``: the same among values of colours.
        NaN where all of them are looked up, so that nothing is left to tell apart.
    """
    looked_up = (table["source"] == "image") & table["truth"].notna()
    before = [_earlier(table, k) for k in range(1, REACH + 1)]
    looks = {f" {word}" for word in LOOKS}
    rules = pd.DataFrame(
        {
            "equals": before[0] == " =",
            "colour": stands_for_a_colour(table),
            "look_word": np.logical_or.reduce([b.isin(looks) for b in before]),
            "focus_prediction": table["focus_prediction"],
            "image": table["image"],
        }
    ).astype(float)
    number = table["token"].str.fullmatch(r" \d+") & (before[0] == " =")
    rules.loc[number, "learned"] = _learned_rule(
        pd.DataFrame({k: b[number] for k, b in enumerate(before)}),
        looked_up[number],
        # Questions of the families stand by turns.
        table.loc[number, "question"] // len(study.families) % 2 == 0,
    )

    def graded(name, among):
        known = among & rules[name].notna()
        return auroc_interval(
            rules.loc[known, name],
            looked_up[known],
            table.loc[known, "question"],
            resamples=study.resamples,
            seed=study.seed,
        )

    found = {"equals_all": graded("equals", pd.Series(True, index=table.index))}
    found |= {name: graded(name, number) for name in rules}
    among = number & stands_for_a_colour(table)
    found |= {
        f"colour_values_{name}": graded(name, among)
        for name in ("look_word", "learned", "focus_prediction", "image")
    }
    return found


def _learned_rule(before: pd.DataFrame, positive, fitted) -> np.ndarray:
    """Held-out log-odds; NaN where ``fitted``, which is what it is fitted on."""
    fitted = fitted.to_numpy()
    if positive[fitted].nunique() < 2:
        return np.full(len(before), np.nan)
    words = [{f"{k}{w}": 1 for k, w in zip(before, row, strict=True)}
             for row in before.to_numpy()]  # fmt: skip
    seen = DictVectorizer().fit_transform(words)
    model = LogisticRegression(max_iter=1000).fit(seen[fitted], positive[fitted])
    return np.where(fitted, np.nan, model.decision_function(seen))


def accuracy_by_temperature(
    model,
    processor,
    world: World,
    study: WorldStudy,
    temperatures: Sequence[float] = TEMPERATURES,
) -> dict[str, dict[str, Interval]]:
    """Accuracy on held-out scans at every temperature, by family and pooled.

    Returns:
        Family, or ``"all"`` -> temperature as text -> accuracy with its interval.
    """
    asked = {
        family: world.examples(
            study.accuracy_questions, [family], seed=study.seed + 1, split="heldout"
        )
        for family in study.families
    }
    found: dict[str, dict[str, Interval]] = {f: {} for f in (*asked, "all")}
    for temperature in temperatures:
        hits = {}
        for family, examples in asked.items():
            texts = answer(
                model, processor, examples, temperature, study.seed,
                study.max_new_tokens,
            )  # fmt: skip
            pairs = zip(texts, examples, strict=True)
            hits[family] = [correct(text, example) for text, example in pairs]
        hits["all"] = [hit for right in hits.values() for hit in right]
        for family, right in hits.items():
            found[family][str(temperature)] = mean_interval(
                right, resamples=study.resamples, seed=study.seed
            )
    return found


def measure(model, processor, world: World, study: WorldStudy) -> dict:
    """All that the five criteria need, for any world and checkpoint.

    Args:
        model: A model of a small world.
        processor: Its processor.
        world: The questions.
        study: The settings.

    Returns:
        ``late_reads`` (a): score -> AUROC of right against wrong late reads of the
        same family and place, with the mean of either kind; ``ratio`` (b);
        ``places`` (c): accuracy, share of looks and mean scores of reads by place, and
        ``place_correlation``; ``accuracy`` (d); ``text_rules`` (e);
        ``quoted_share``, of the values of colours.
    """
    examples = world.examples(
        study.questions, study.families, seed=study.seed, split="heldout"
    )
    asked = [example for example in examples for _ in range(study.samples)]
    completions = answer(model, processor, asked, 1.0, study.seed, study.max_new_tokens)
    table = answers_table(model, processor, asked, completions, study.layer)
    table["question"] = table["row"] // study.samples
    reads = table[table["truth"].notna() & (table["nth_value"] > 0)].copy()
    reads["right"] = reads["token"] == reads["truth"]
    reads["looked"] = reads["source"] == "image"
    late = reads[reads["t"] > reads["length"] / 2]
    places = late["family"] + late["nth_value"].astype(str)
    options = {"resamples": study.resamples, "seed": study.seed}

    late_reads = {}
    for score in SCORES:
        auroc = auroc_same_place(
            late[score], late["right"], places, late["question"], **options
        )
        means = late.groupby("right")[score].mean().reindex([True, False])
        late_reads[score] = auroc._asdict() | {
            "right": means[True], "wrong": means[False]
        }  # fmt: skip

    mass, mask = padded(table, "image")
    first = table.groupby("row").first()
    ratio = accumulation_ratio(mass, mask).numpy()
    by_place = reads.groupby("nth_value").agg(
        reads=("right", "size"),
        right=("right", "mean"),
        looked=("looked", "mean"),
        on_tile=("on_tile", "mean"),
        focus_prediction=("focus_prediction", "mean"),
    )
    values = table[stands_for_a_colour(table)]
    return {
        "late_reads": late_reads,
        "late_reads_right_share": float(late["right"].mean()),
        "ratio": _comparison(
            compare_within_questions(
                ratio, first["correct"], first["question"], **options
            )
        ),
        "places": by_place.reset_index().to_dict("records"),
        "place_correlation": correlation_interval(
            reads["nth_value"],
            reads["right"],
            reads["question"],
            resamples=study.resamples,
            seed=study.seed,
        )._asdict(),
        "accuracy": {
            family: {t: i._asdict() for t, i in at.items()}
            for family, at in accuracy_by_temperature(
                model, processor, world, study
            ).items()
        },
        "text_rules": {
            name: interval._asdict()
            for name, interval in text_rules(table, study).items()
        },
        "quoted_share": float((values["source"] == "question").mean()),
        "mean_length": float(first["length"].mean()),
    }


def _comparison(comparison: Comparison) -> dict:
    return {
        "right": comparison.right.value,
        "wrong": comparison.wrong.value,
        "difference": comparison.difference._asdict(),
        "p_value": comparison.p_value,
    }


def criteria(measured: dict, supervised: float | None = None) -> pd.DataFrame:
    """The five criteria, each with what was measured and whether it is met.

    Args:
        measured: From :func:`measure`.
        supervised: Accuracy after supervised training without the lapse, greedily,
            over the same families; None where it was not measured.

    Returns:
        One row per condition: ``criterion`` (a to e), ``quantity``, ``value``,
        ``low``, ``high`` (95 %, NaN where there is no interval), ``wanted``, ``met``.
    """
    found = []

    def row(criterion, quantity, estimate, wanted, met):
        numbers = (estimate[name] for name in ("value", "low", "high"))
        found.append((criterion, quantity, *numbers, wanted, bool(met)))

    late = measured["late_reads"]
    best = max(late["on_tile"]["value"], late["focus_prediction"]["value"])
    for name in ("on_tile", "focus_prediction"):
        row("a", f"late reads: {name}, right against wrong", late[name],
            "one of the two >= .7", best >= 0.7)  # fmt: skip
    difference = measured["ratio"]["difference"]
    row("b", "late/early ratio, right less wrong", difference,
        "interval above 0", difference["low"] > 0)  # fmt: skip
    place = measured["place_correlation"]
    row("c", "correlation of right with place", place,
        "interval below 0", place["high"] < 0)  # fmt: skip
    sampled = measured["accuracy"]["all"]
    warm = [t for t in sampled if t != "0.0"]
    warmest = max(warm, key=lambda t: sampled[t]["value"])
    for name, at in (
        ("temperature 1", sampled["1.0"]),
        (f"best temperature ({warmest})", sampled[warmest]),
        ("greedy", sampled["0.0"]),
    ):
        row("d", f"accuracy, {name}", at, ".3 to .6", 0.3 <= at["value"] <= 0.6)
    if supervised is not None:
        whole = {"value": supervised, "low": np.nan, "high": np.nan}
        row("d", "accuracy, taught without the lapse", whole, ">= .9",
            supervised >= 0.9)  # fmt: skip
    rules = measured["text_rules"]
    for name, most in (
        ("colour", 0.7),
        ("colour_values_look_word", 0.7),
        ("colour_values_learned", 0.75),
    ):
        row("e", f"rule on the text: {name}", rules[name], f"<= {most}",
            rules[name]["value"] <= most)  # fmt: skip
    names = ["criterion", "quantity", "value", "low", "high", "wanted", "met"]
    return pd.DataFrame(found, columns=names)


def _plain(value):
    """The same without numpy's types and with None for NaN, which JSON has no word
    for."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value


def _made_by(folder: str | Path) -> str:
    """The command that made a cold start's checkpoint."""
    return json.loads((Path(folder) / "cold_start.json").read_text())["command"]


def main(arguments: list[str] | None = None) -> None:
    """The command line; writes one file per world."""
    parser = argparse.ArgumentParser(prog="python -m vgpo.studies.worlds")
    parser.add_argument("--world", choices=list(WORLDS), required=True)
    parser.add_argument("--checkpoint", help="a folder; by default the shipped one")
    parser.add_argument(
        "--supervised", help="folder of a cold start taught without the lapse"
    )
    parser.add_argument("--questions", type=int, default=WorldStudy.questions)
    parser.add_argument("--samples", type=int, default=WorldStudy.samples)
    parser.add_argument(
        "--accuracy-questions", type=int, default=WorldStudy.accuracy_questions
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=WorldStudy.max_new_tokens,
        help="chains of look_away_large want 192",
    )  # fmt: skip
    parser.add_argument(
        "--layer", type=int, default=WorldStudy.layer, help="whose attention is taken"
    )
    parser.add_argument("--seed", type=int, default=WorldStudy.seed)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        study = WorldStudy(
            questions=options.questions,
            samples=options.samples,
            accuracy_questions=options.accuracy_questions,
            seed=options.seed,
            max_new_tokens=options.max_new_tokens,
            layer=options.layer,
        )
    except ValueError as error:
        parser.error(str(error))
    started = time.monotonic()
    world = WORLDS[options.world]
    folder = options.checkpoint or CHECKPOINTS.get(options.world, options.world)
    try:
        model, processor = load_tiny(folder)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    measured = measure(model, processor, world, study)
    commands = {"cold_start": _made_by(folder)}
    supervised = None
    if options.supervised:
        commands["supervised"] = _made_by(options.supervised)
        taught = accuracy_by_temperature(
            *load_tiny(options.supervised), world, study, (1.0, 0.0)
        )
        measured["supervised"] = {
            family: {t: i._asdict() for t, i in at.items()}
            for family, at in taught.items()
        }
        supervised = taught["all"]["0.0"].value
    table = criteria(measured, supervised)
    record = {
        "world": options.world,
        "commands": commands,
        "study": asdict(study),
        "seconds": round(time.monotonic() - started),
        "threads": options.threads,
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("torch", "transformers")},
        "criteria": table.to_dict("records"),
        "measured": measured,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / f"{options.world}.json"
    file.write_text(json.dumps(_plain(record), indent=2, allow_nan=False) + "\n")
    with pd.option_context("display.width", 120, "display.max_columns", None):
        print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
