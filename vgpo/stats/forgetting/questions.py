"""Right against wrong answers to the same question, of one draw or of several."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from vgpo.stats.forgetting.checks import paired
from vgpo.stats.forgetting.comparing import Comparison
from vgpo.stats.intervals import RESAMPLES, mean_interval
from vgpo.stats.seeds import sign_flip_p_value, t_interval


def compare_within_questions(
    values: Sequence[float] | np.ndarray,
    correct: Sequence[bool] | np.ndarray,
    question: Sequence[object] | np.ndarray,
    *,
    picture: Sequence[object] | np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compares right with wrong answers to the same question.

    Several answers to each question are needed. Image, wording and what there is to
    look at are then equal on both sides, and hard questions, which have longer
    chains and more wrong answers, no longer make a difference by themselves. Per
    question with both kinds: mean over its right less mean over its wrong answers.
    The test flips the signs of these differences.

    Args:
        values: One per response; NaN are left out.
        correct: Whether the answer was right, one per response.
        question: Which question was answered, one per response.
        picture: Which picture it was about, one per response, where several questions
            share one: all questions of a picture are then drawn, and flipped, together.
        resamples: Of the bootstrap over questions, where there are enough for one,
            and of the permutation test.
        seed: Seed of both.

    Returns:
        The comparison over questions with both kinds; ``count`` is their number, or
        that of their pictures.

    Raises:
        ValueError: Lengths differ, or a question has several pictures.

    Example:
        >>> values, correct = [0.9, 0.5, 0.7, 0.3, 0.4], [1, 0, 1, 0, 0]
        >>> outcome = compare_within_questions(values, correct, list("aabbc"))
        >>> round(outcome.difference.value, 2), outcome.difference.count
        (0.4, 2)
    """
    numbers, answers = paired(values, correct, "correct")
    _, questions = paired(values, question, "question")
    _, pictures = paired(values, question if picture is None else picture, "picture")
    means, clusters = _means_of_questions(numbers, answers, questions, pictures)
    difference = means[True] - means[False]
    # Under a flip of signs a mean is as good as the sum: pictures count by the
    # questions they have.
    flipped = difference.groupby(clusters, sort=False).sum().to_numpy()
    p_value = float("nan")
    if len(flipped) >= 2:
        p_value = float(
            stats.permutation_test(
                (flipped,),
                np.mean,
                permutation_type="samples",
                n_resamples=resamples,
                rng=np.random.default_rng(seed),
            ).pvalue
        )
    right, wrong, between = (
        mean_interval(v, clusters=clusters, resamples=resamples, seed=seed)
        for v in (means[True], means[False], difference)
    )
    return Comparison(right, wrong, between, p_value)


POOLED, OVER_SEEDS = "pooled", "over seeds"
"""Rows of :func:`compare_over_question_seeds` below those of the seeds."""


def compare_over_question_seeds(
    values: Sequence[float] | np.ndarray,
    correct: Sequence[bool] | np.ndarray,
    question: Sequence[object] | np.ndarray,
    question_seed: Sequence[object] | np.ndarray,
    *,
    picture: Sequence[object] | np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Right less wrong within the same question, for several draws of questions.

    One draw of questions is one sample: its interval may exclude 0 by chance, and that
    of the next draw on the other side. So several are asked, shown beside each other
    (a forest), and taken together in two ways: all questions of all draws pooled, and
    drawn by question; and the differences of the draws as so many values, with
    Student's t. If the draws differ by more than their own intervals allow for, as
    ``p_equal`` says, the second is the one to believe: the first takes all questions
    for equally good samples of what is asked.

    Args:
        values: One per response; NaN are left out.
        correct: Whether the answer was right, one per response.
        question: Which question of its draw was answered, one per response. Question 3
            of one draw is another question than question 3 of the next.
        question_seed: Which draw it belongs to, one per response.
        picture: Which picture of its draw, as in :func:`compare_within_questions`.
        resamples: Of bootstraps and permutation tests.
        seed: Seed of both.

    Returns:
        Index ``question_seed``: the draws in their order, then ``"pooled"`` and
        ``"over seeds"``. Columns ``right``, ``wrong``, ``difference`` (means over
        questions with both kinds; over draws in the last row), ``low`` and ``high``
        (95 % interval of the difference), ``p_value`` (sign flips of questions; of
        draws in the last row), ``count`` (questions or pictures; draws), ``p_equal``:
        Cochran's Q test that all draws have the same difference, in the row
        ``"pooled"``, NaN elsewhere and where fewer than two draws have a spread. It
        is approximate, and finds too much with a dozen questions a draw or fewer.

    Raises:
        ValueError: Lengths differ, or a draw has no question with both kinds.

    Example:
        >>> table = compare_over_question_seeds(
        ...     [0.9, 0.5, 0.7, 0.5, 0.6, 0.5, 0.4, 0.3], [1, 0] * 4,
        ...     [0, 0, 1, 1, 0, 0, 1, 1], [60] * 4 + [61] * 4)
        >>> [f"{name}: {d:.1f}" for name, d in table["difference"].items()]
        ['60: 0.3', '61: 0.1', 'pooled: 0.2', 'over seeds: 0.2']
        >>> table["count"].tolist()
        [2, 2, 4, 2]
    """
    numbers, answers = paired(values, correct, "correct")
    _, questions = paired(values, question, "question")
    _, draws = paired(values, question_seed, "question_seed")
    _, pictures = paired(values, question if picture is None else picture, "picture")
    # Named by their number, as question 3 of one draw is not that of another.
    table = pd.DataFrame({"draw": draws, "question": questions, "picture": pictures})
    asked = table.groupby(["draw", "question"]).ngroup().to_numpy()
    shown = table.groupby(["draw", "picture"]).ngroup().to_numpy()

    def compare(some: np.ndarray) -> Comparison:
        return compare_within_questions(
            numbers[some],
            answers[some],
            asked[some],
            picture=shown[some],
            resamples=resamples,
            seed=seed,
        )

    found = {draw: compare(draws == draw) for draw in pd.unique(draws)}
    if empty := [draw for draw, c in found.items() if not c.difference.count]:
        raise ValueError(
            f"question_seed: no question of {empty} was answered both right and wrong."
        )
    pooled = compare(np.ones(len(numbers), dtype=bool))
    rows = [
        {
            "question_seed": name,
            "right": c.right.value,
            "wrong": c.wrong.value,
            **c.difference.as_columns("difference"),
            "p_value": c.p_value,
            "count": c.difference.count,
        }
        for name, c in [*found.items(), (POOLED, pooled)]
    ]
    own = np.array([c.difference.value for c in found.values()])
    rows.append(
        {
            "question_seed": OVER_SEEDS,
            "right": np.mean([c.right.value for c in found.values()]),
            "wrong": np.mean([c.wrong.value for c in found.values()]),
            **t_interval(own).as_columns("difference"),
            "p_value": sign_flip_p_value(own, seed=seed),
            "count": len(own),
        }
    )
    forest = pd.DataFrame(rows).set_index("question_seed")
    forest = forest.rename(columns={"difference_low": "low", "difference_high": "high"})
    parts = []
    for draw in found:
        some = draws == draw
        means, clusters = _means_of_questions(
            numbers[some], answers[some], asked[some], shown[some]
        )
        parts.append(((means[True] - means[False]).to_numpy(), clusters))
    return forest.assign(p_equal=pd.Series({POOLED: _equal_means(parts)}))


def _means_of_questions(
    numbers: np.ndarray,
    answers: np.ndarray,
    questions: np.ndarray,
    pictures: np.ndarray,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Means over the right (``True``) and the wrong answers (``False``) to each
    question that has both, and the picture of each."""
    table = pd.DataFrame(
        {
            "value": numbers,
            "correct": answers.astype(bool),
            "question": questions,
            "picture": pictures,
        }
    ).dropna()
    of_question = table.groupby("question")["picture"]
    if (of_question.nunique() > 1).any():
        raise ValueError("picture: must be the same for all answers to a question.")
    means = table.groupby(["question", "correct"])["value"].mean().unstack()
    means = means.reindex(columns=[True, False]).dropna()
    return means, of_question.first().reindex(means.index).to_numpy()


def _equal_means(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """p of Cochran's Q, for values and their clusters in each part.

    Parts without a standard error, of one cluster or without spread, do not count.
    """
    means, weights = [], []
    for values, clusters in parts:
        away = pd.Series(values - values.mean()).groupby(clusters).sum().to_numpy()
        count = len(away)
        squared = (away**2).sum() * count / max(count - 1, 1) / len(values) ** 2
        if count > 1 and squared > 0:
            means.append(values.mean())
            weights.append(1 / squared)
    if len(means) < 2:
        return float("nan")
    middle = np.average(means, weights=weights)
    spread = float((weights * (np.array(means) - middle) ** 2).sum())
    return float(stats.chi2.sf(spread, len(means) - 1))
