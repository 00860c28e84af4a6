"""Two runs, question by question: is one better, and could this have told?"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vgpo.evaluation.runs import EvaluatedRun, pictures_of, scores
from vgpo.stats.intervals import Interval, mean_interval
from vgpo.stats.pairs import paired_shares_interval
from vgpo.stats.power import detectable_difference
from vgpo.stats.seeds import correct_p_values, mcnemar, verdict

TOGETHER = "together"
"""The row of all questions of all sets."""

_SAME = ("decoding", "suffix", "view", "pixels", "max_prompt_tokens")


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Two runs on the same questions.

    Attributes:
        table: One row per set and one for all of them, :data:`TOGETHER`; see
            :func:`compare`.
        names: Of the two models.
        settings: Settings in which the runs differ, with both values; a difference in
            accuracy may come from these.
        only_first: Questions that the second run lacks.
        only_second: Questions that the first run lacks.
        grader: Whose verdicts were compared.
        greedy: Whether greedy answers were, or the means of samples.
    """

    table: pd.DataFrame
    names: tuple[str, str]
    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    only_first: int = 0
    only_second: int = 0
    grader: str = "accuracy"
    greedy: bool = True

    def __str__(self) -> str:
        row = self.table.loc[TOGETHER]
        return (
            f"{self.names[1]} less {self.names[0]}: {row['difference']:+.3f} "
            f"[{row['difference_low']:+.3f}, {row['difference_high']:+.3f}] on "
            f"{row['questions']} questions, {row['verdict']}"
        )

    def _repr_html_(self) -> str:
        return self.table.to_html(float_format="{:.3f}".format)


def compare(
    first: EvaluatedRun,
    second: EvaluatedRun,
    *,
    grader: str = "accuracy",
    greedy: bool | None = None,
    margin: float | None = None,
) -> RunComparison:
    """Two runs compared on the questions that both were asked.

    A question is the same in both if its text, its reference and the pixels of its
    pictures are, before any degraded view. Differences are second less first.

    Args:
        first: A run, the baseline.
        second: Another.
        grader: ``accuracy`` or ``recipe``.
        greedy: Greedy answers, or the mean of each question's samples; by default the
            greedy ones where both runs have them.
        margin: Differences below it would not matter; needed for "no effect".

    Returns:
        For each set, and for all questions together:

        - ``questions``, ``pictures`` (fewer than questions where some share one);
        - ``first`` and ``second``, shares of right answers;
        - ``difference`` with ends: Tango's score interval for greedy answers to
          questions with pictures of their own; else whole pictures are drawn;
        - ``first_only``, ``second_only``: questions that one alone got right (more
          samples right than the other);
        - ``p_value``: McNemar's exact test of greedy answers; for means of samples, and
          where questions share pictures, a t test over the pictures;
        - ``corrected``: Benjamini and Hochberg's, over the sets;
        - ``detectable``: the smallest true difference that so many pictures would have
          shown in four of five cases, NaN where the two never differ;
        - ``verdict``: :func:`vgpo.stats.seeds.verdict` of interval and corrected p.

    Raises:
        ValueError: No question in common, or a grader without verdicts.
    """
    if greedy is None:
        greedy = bool(
            first.settings["decoding"]["greedy"]
            and second.settings["decoding"]["greedy"]
        )
    mine = {(one["set"], one["question_id"]): one for one in first.records}
    its = {(one["set"], one["question_id"]): one for one in second.records}
    shared = [key for key in mine if key in its]
    if not shared:
        raise ValueError(
            "second: the two runs have no question in common; were they asked the same "
            "sets, by the same names?"
        )
    sets = list(dict.fromkeys(name for name, _ in shared))
    rows = {}
    for name in [*sets, TOGETHER]:
        pairs = [(mine[key], its[key]) for key in shared if name in (key[0], TOGETHER)]
        rows[name] = _row(pairs, grader, greedy)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table["corrected"] = [
        *correct_p_values(table.loc[sets, "p_value"].to_numpy(), "benjamini-hochberg"),
        table.loc[TOGETHER, "p_value"],  # one comparison, planned beforehand
    ]
    table["verdict"] = [
        verdict(_interval(row), row["corrected"], margin=margin)
        for _, row in table.iterrows()
    ]
    return RunComparison(
        table,
        (first.name, second.name),
        {
            name: (first.settings.get(name), second.settings.get(name))
            for name in _SAME
            if first.settings.get(name) != second.settings.get(name)
        },
        len(mine) - len(shared),
        len(its) - len(shared),
        grader,
        greedy,
    )


def _row(
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], grader: str, greedy: bool
) -> dict[str, Any]:
    before = np.array([np.mean(scores(one, grader, greedy)) for one, _ in pairs])
    after = np.array([np.mean(scores(one, grader, greedy)) for _, one in pairs])
    pictures = np.array([pictures_of(one) for one, _ in pairs])
    differences = after - before
    by_picture = pd.Series(differences).groupby(pictures).mean().to_numpy()
    alone = len(by_picture) == len(pairs)
    if greedy and alone:
        interval = paired_shares_interval(
            int((differences < 0).sum()), int((differences > 0).sum()), len(pairs)
        )
        p_value = mcnemar(before == 1, after == 1).p_value
    else:
        interval = mean_interval(differences, clusters=pictures, bounds=(-1, 1))
        p_value = _t_test(by_picture)
    spread = float(by_picture.std(ddof=1)) if len(by_picture) > 1 else 0.0
    return {
        "questions": len(pairs),
        "pictures": len(by_picture),
        "first": float(before.mean()),
        "second": float(after.mean()),
        **interval.as_columns("difference"),
        "first_only": int((differences < 0).sum()),
        "second_only": int((differences > 0).sum()),
        "p_value": p_value,
        # Of models that never differ no spread is known.
        "detectable": detectable_difference(len(by_picture), spread)
        if spread
        else float("nan"),
    }


def _t_test(differences: np.ndarray) -> float:
    if np.ptp(differences) == 0:
        return 1.0 if differences[0] == 0 else float("nan")
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def _interval(row: pd.Series) -> Interval:
    return Interval(
        row["difference"],
        row["difference_low"],
        row["difference_high"],
        row["pictures"],
    )
