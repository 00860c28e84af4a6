"""Tables of what the recorded trainings did, for the chapter on evaluation."""

from collections.abc import Mapping, Sequence

import pandas as pd

from vgpo.stats.seeds import t_interval
from vgpo.studies.experiments.report import compare_grid

PARTS: Mapping[str, str] = {
    "accuracy/sampled/sum": "sums, sampled",
    "accuracy/sampled/count": "counts, sampled",
    "accuracy/greedy": "sums and counts, greedy",
    "accuracy/untrained": "families never trained, sampled",
    "accuracy/untrained greedy": "families never trained, greedy",
    "accuracy/text": "no picture, sampled",
    "accuracy/text greedy": "no picture, greedy",
    "accuracy/larger": "larger grids, longer chains",
    "accuracy/noise": "noise, greedy",
    "accuracy/patches": "a third of the tiles hidden",
    "accuracy/grey": "grey picture",
}
"""Outcomes of an evaluation, and what they are."""

TEMPERATURES: Mapping[str, float] = {
    "accuracy/sampled": 1.0,
    "accuracy/temperature 0.8": 0.8,
    "accuracy/temperature 0.6": 0.6,
    "accuracy/temperature 0.4": 0.4,
    "accuracy/greedy": 0.0,
}
"""Outcomes of the sweep over temperatures; 0 is greedy decoding."""


def with_seeds(outcomes: pd.DataFrame, least: int) -> pd.DataFrame:
    """The rows of arms that were run with at least so many seeds."""
    seeds = outcomes.groupby("arm")["seed"].transform("nunique")
    return outcomes[seeds >= least]


def compared(outcomes: pd.DataFrame, outcome: str, baseline: str) -> pd.DataFrame:
    """Every arm against the baseline in one outcome, whatever its seeds.

    Args:
        outcomes: From
            :func:`~vgpo.studies.experiments.records.outcome_table`, of one world and
            setting.
        outcome: One of those that
            :func:`~vgpo.studies.experiments.report.compare_grid` compares.
        baseline: An arm.

    Returns:
        The columns of :func:`vgpo.stats.seeds.compare_arms` and ``arm``. P-values are
        corrected for the arms with two seeds and more; arms with a single seed have
        their difference and nothing else; they come last.
    """
    return compare_grid(outcomes[outcomes["outcome"] == outcome], baseline)


def before_and_after(
    outcomes: pd.DataFrame, names: Mapping[str, object], column: str = "part"
) -> pd.DataFrame:
    """Outcomes before and after, by arm.

    Args:
        outcomes: From
            :func:`~vgpo.studies.experiments.records.outcome_table`.
        names: Outcome -> what stands for it in the table.
        column: Where that stands.

    Returns:
        ``column``, ``arm``, ``before``, ``value`` (mean over seeds), ``low``,
        ``high`` (Student's t; NaN for one seed), ``seeds``.
    """
    rows = []
    for outcome, name in names.items():
        for arm, mine in outcomes[outcomes["outcome"] == outcome].groupby(
            "arm", sort=False
        ):
            found = t_interval(mine["value"].to_numpy())
            rows.append(
                {
                    column: name,
                    "arm": arm,
                    "before": mine["before"].iloc[0],
                    "value": found.value,
                    "low": found.low,
                    "high": found.high,
                    "seeds": found.count,
                }
            )
    return pd.DataFrame(rows)


def not_recorded(planned: Sequence[str], outcomes: pd.DataFrame | None) -> pd.DataFrame:
    """How many seeds of each planned arm are there."""
    there = {} if outcomes is None else outcomes.groupby("arm")["seed"].nunique()
    return pd.DataFrame({"seeds recorded": {a: int(there.get(a, 0)) for a in planned}})
