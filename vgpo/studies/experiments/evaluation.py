"""What a model of a small world can do, question by question, before and after.

An :class:`Evaluation` is a list of :class:`Part`: which questions, over which picture,
how warm, how often. All parts are answered together, in batches of chains of similar
length, and a question's sample is drawn from random numbers of its own: the same for
every model, so that two models differ only where their distributions do.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
import torch

from vgpo.evaluation.batches import batches_by_length
from vgpo.seeds import mixed_seed
from vgpo.studies.experiments.runs import TRAINED_FAMILIES
from vgpo.testbed import WORLDS
from vgpo.testbed.answers import correct
from vgpo.testbed.changes import blank, occlude, perturb
from vgpo.testbed.data import encode_prompts
from vgpo.testbed.decoding import decode
from vgpo.testbed.questions import Example, World

_LARGER_LOOK_AWAY = {"grids": ((2, 5), (5, 2)), "min_terms": 7, "max_terms": 8}

LARGER = {
    "misread": {"grids": ((3, 4), (4, 3)), "max_terms": 8},
    "look_away": _LARGER_LOOK_AWAY,
    "look_away_wordy": _LARGER_LOOK_AWAY,
    # There are no more colours for more tiles: the chains are longer.
    "look_away_large": {"grids": ((2, 5), (5, 2)), "min_terms": 10, "max_terms": 11},
}
"""What is different where grids are larger, and chains longer, than trained on."""


def _noisy(example: Example, seed: int) -> Example:
    return perturb(example, "noise", 40, seed)


def _patched(example: Example, seed: int) -> Example:
    """A third of the tiles hidden, but at most what the question does not need."""
    generator = torch.Generator().manual_seed(seed)
    tiles = example.rows * example.columns
    order = torch.randperm(tiles, generator=generator).tolist()
    return occlude(example, order[: tiles // 3])


CHANGES: dict[str, Callable[[Example, int], Example]] = {
    "none": lambda example, seed: example,
    "noise": _noisy,
    "patches": _patched,
    "grey": lambda example, seed: blank(example),
}
"""Pictures other than the true one, by name. Pixels with noise of 40 of 255 levels, a
third of the tiles hidden, nothing but grey."""


@dataclass(frozen=True)
class Part:
    """One part of an evaluation.

    Attributes:
        name: In the table of verdicts, with ``families`` and ``temperature``.
        families: What is asked.
        questions: Of each family, on held-out scans.
        temperature: 0 decodes greedily.
        samples: Answers to each question.
        change: One of :data:`CHANGES`.
        larger: Whether grids are larger and chains longer than trained on.
    """

    name: str
    families: tuple[str, ...] = TRAINED_FAMILIES
    questions: int = 50
    temperature: float = 1.0
    samples: int = 1
    change: str = "none"
    larger: bool = False


def standard_parts(questions: int = 400, samples: int = 4, rest: int = 100):
    """The parts of every cell's evaluation.

    Args:
        questions: Of the primary outcome, over both trained families.
        samples: Of the primary outcome.
        rest: Questions of each secondary part, over all its families.

    Returns:
        ``sampled`` (the primary outcome) and ``greedy`` on the same questions, the
        sweep of temperatures between, families that were not trained, the text-only
        control, larger grids, and three changed pictures.
    """
    half, few = questions // 2, max(1, rest // 2)
    return (
        Part("sampled", questions=half, samples=samples),
        Part("greedy", questions=half, temperature=0.0),
        *(
            Part(f"temperature {t}", questions=few, temperature=t)
            for t in (0.8, 0.6, 0.4)
        ),
        Part("untrained", ("compare", "chart"), few),
        Part("untrained greedy", ("compare", "chart"), few, 0.0),
        Part("text", ("text",), rest),
        Part("text greedy", ("text",), rest, 0.0),
        Part("larger", questions=few, larger=True),
        Part("larger greedy", questions=few, temperature=0.0, larger=True),
        *(
            Part(change, questions=few, temperature=0.0, change=change)
            for change in ("noise", "patches", "grey")
        ),
    )


@dataclass(frozen=True)
class Evaluation:
    """All that is asked of a model.

    Attributes:
        parts: See :func:`standard_parts`.
        looked_at: Answers of the part ``sampled`` whose tokens are looked at: focus,
            attention, looks (:mod:`vgpo.studies.experiments.looking`).
        seed: Of questions and samples. It is not that of the training: every run is
            asked the same.
        max_new_tokens: Longer answers are cut off.
        batch_size: Answers written at once. Without effect but on rounding.
    """

    parts: tuple[Part, ...] = standard_parts()
    looked_at: int = 100
    seed: int = 7
    max_new_tokens: int = 160
    batch_size: int = 256

    def as_dict(self) -> dict:
        """For records."""
        return asdict(self)


QUICK = Evaluation(standard_parts(4, 2, 2), looked_at=2, max_new_tokens=48)
"""A handful of questions, for tests and live cells."""

EVALUATIONS = {
    "standard": Evaluation(),
    "long": Evaluation(max_new_tokens=224),
    "quick": QUICK,
}
"""By the name under which a grid asks for them."""


@lru_cache(maxsize=64)
def questions_of(part: Part, world: str, seed: int) -> tuple[Example, ...]:
    """The questions of a part, kept for the next cell.

    Larger grids are those that :data:`LARGER` says.
    """
    rules: World = WORLDS[world]
    if part.larger:
        rules = replace(rules, **LARGER[world])
    examples = rules.examples(part.questions, part.families, seed=seed, split="heldout")
    change = CHANGES[part.change]
    return tuple(
        change(example, mixed_seed(seed, place))
        for place, example in enumerate(examples)
    )


@dataclass(frozen=True)
class _Asked:
    part: Part
    place: int
    sample: int
    example: Example


def evaluate(
    model,
    processor,
    world: str,
    evaluation: Evaluation,
    on_batch: Callable[[], None] = lambda: None,
) -> tuple[pd.DataFrame, list[str]]:
    """Asks a model everything.

    Args:
        model: Of the small world.
        processor: Its processor.
        world: A name of ``vgpo.testbed.WORLDS``.
        evaluation: What is asked.
        on_batch: Called after each batch.

    Returns:
        One row per answer: ``part``, ``family``, ``temperature``, ``question`` (its
        number in the part), ``sample``, ``right`` (0 or 1), ``length`` in tokens, and
        ``ended`` (0 if it was cut off); and the answers' texts.
    """
    asked = [
        _Asked(part, place, sample, example)
        for part in evaluation.parts
        for place, example in enumerate(questions_of(part, world, evaluation.seed))
        for sample in range(part.samples)
    ]
    # Of similar length together; those that share a picture next to each other.
    expected = [_expected_length(one.example) for one in asked]
    batches = batches_by_length(expected, evaluation.batch_size, longest_first=False)
    texts, lengths = [""] * len(asked), np.zeros(len(asked), dtype=int)
    ended = np.zeros(len(asked), dtype=int)
    was_training = model.training
    model.eval()
    for some in batches:
        ids, ends = _answer(model, processor, [asked[i] for i in some], evaluation)
        for i, row, end in zip(some, ids, ends, strict=True):
            texts[i] = processor.tokenizer.decode(row, skip_special_tokens=True)
            lengths[i], ended[i] = len(row), end
        on_batch()
    model.train(was_training)
    table = pd.DataFrame(
        {
            "part": [a.part.name for a in asked],
            "family": [a.example.family for a in asked],
            "temperature": [a.part.temperature for a in asked],
            "question": [a.place for a in asked],
            "sample": [a.sample for a in asked],
            "right": [
                int(correct(text, a.example))
                for text, a in zip(texts, asked, strict=True)
            ],
            "length": lengths,
            "ended": ended,
        }
    )
    return table, texts


def _expected_length(example: Example) -> int:
    return len(example.chain) + example.rows * example.columns // 4


def _answer(model, processor, asked: Sequence[_Asked], evaluation: Evaluation):
    """Token ids of each answer, and whether it came to its end."""
    longest = evaluation.max_new_tokens
    uniforms = torch.stack(
        [_uniforms(evaluation.seed, a.place, a.sample, longest) for a in asked]
    )
    temperatures = torch.tensor([a.part.temperature for a in asked])
    # A question that is asked several times is encoded once.
    own = list({id(a.example): a.example for a in asked}.values())
    number = {id(example): place for place, example in enumerate(own)}
    ids = decode(
        model,
        encode_prompts(processor, own),
        uniforms,
        temperatures,
        prompts=torch.tensor([number[id(a.example)] for a in asked]),
    )
    end = model.generation_config.eos_token_id
    rows, ends = [], []
    for row in ids.tolist():
        ends.append(int(end in row))
        rows.append(row[: row.index(end)] if end in row else row)
    return rows, ends


@lru_cache(maxsize=8192)
def _uniforms(seed: int, question: int, sample: int, longest: int) -> torch.Tensor:
    """What an answer is drawn from, the same for every model."""
    generator = torch.Generator().manual_seed(mixed_seed(seed, question, sample))
    return torch.rand(longest, generator=generator)


def outcomes(verdicts: pd.DataFrame) -> dict[str, float]:
    """Share of right answers by part, and by part and family; mean length by part.

    Args:
        verdicts: From :func:`evaluate`.

    Returns:
        ``accuracy/PART``, ``accuracy/PART/FAMILY``, ``length/PART`` and, over all
        answers, ``ended``.
    """
    found = {}
    for part, rows in verdicts.groupby("part", sort=False):
        found[f"accuracy/{part}"] = float(rows["right"].mean())
        if rows["family"].nunique() > 1:
            for family, mine in rows.groupby("family", sort=True):
                found[f"accuracy/{part}/{family}"] = float(mine["right"].mean())
        found[f"length/{part}"] = float(rows["length"].mean())
    found["ended"] = float(verdicts["ended"].mean())
    return found
