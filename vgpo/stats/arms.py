"""Arms against a baseline while some of them are still being run.

:func:`vgpo.stats.seeds.compare_arms` corrects p-values for all that it is given. An arm
with too few seeds can find nothing, and would only make the p of the others larger. So
it is kept apart here, with what is known of it.
"""

import pandas as pd

from vgpo.stats.seeds import FEWEST_PAIRS, Correction, compare_arms

ONE_SEED = "one seed"
"""Stands in place of a verdict, as one pair has a difference and no spread."""

FEW_SEEDS = "too few seeds"
"""Stands in place of a verdict where an arm has an interval, and fewer pairs than
:data:`~vgpo.stats.seeds.FEWEST_PAIRS`."""

_COLUMNS = ["method", "mean", "baseline", "difference", "low", "high", "p_value",
            "p_corrected", "correction", "smallest_p", "seeds", "spread", "detectable",
            "verdict"]  # fmt: skip


def compare_so_far(
    runs: pd.DataFrame, baseline: str, *, margin: float | None = None
) -> pd.DataFrame:
    """Every method against a baseline, paired by seed, whatever its number of seeds.

    Args:
        runs: ``method``, ``seed`` and ``value``, as of
            :func:`~vgpo.stats.seeds.compare_arms`; the baseline has all the seeds.
        baseline: A method of it.
        margin: Above 0: differences that would not matter.

    Returns:
        The columns of :func:`~vgpo.stats.seeds.compare_arms`, by method. P-values are
        corrected by Holm over the methods with
        :data:`~vgpo.stats.seeds.FEWEST_PAIRS` pairs and more, which come first. Then
        those with fewer: their interval, no corrected p, and :data:`FEW_SEEDS` for a
        verdict. Last those with one: their difference and :data:`ONE_SEED`.

    Raises:
        ValueError: As :func:`~vgpo.stats.seeds.compare_arms`.

    Example:
        >>> values = [0.5, 0.4, 0.6, 0.5, 0.7, 0.5]
        >>> half = {"method": "half", "seed": [0, 1], "value": [0.6, 0.4]}
        >>> runs = pd.concat([
        ...     pd.DataFrame({"method": "dapo", "seed": range(6), "value": values}),
        ...     pd.DataFrame(half)])
        >>> compare_so_far(runs, "dapo").loc["half", "verdict"]
        'too few seeds'
    """
    pairs = runs["method"].map(runs.groupby("method")["seed"].nunique())
    base, found = runs["method"] == baseline, []
    enough, few = pairs >= FEWEST_PAIRS, (pairs > 1) & (pairs < FEWEST_PAIRS)
    if (enough & ~base).any():
        found.append(_compared(runs[enough | base], baseline, "holm", margin))
    if (few & ~base).any():
        table = _compared(runs[few | base], baseline, "none", None)
        table[["p_corrected", "detectable"]] = float("nan")
        found.append(table.assign(correction=None, verdict=FEW_SEEDS))
    values = runs.pivot(index="seed", columns="method", values="value")
    single = [
        {"method": method, "mean": mean, "baseline": own, "difference": mean - own,
         "seeds": 1, "verdict": ONE_SEED}
        for method in dict.fromkeys(runs.loc[(pairs == 1) & ~base, "method"])
        for mean, own in values[[method, baseline]].dropna().to_numpy()
    ]  # fmt: skip
    if single:
        found.append(pd.DataFrame(single, columns=_COLUMNS))
    if not found:
        # Nothing but the baseline, or no baseline: the reason is told there.
        return compare_arms(runs, baseline, margin=margin)
    return pd.concat(found, ignore_index=True).set_index("method")


def _compared(
    runs: pd.DataFrame, baseline: str, correction: Correction, margin: float | None
) -> pd.DataFrame:
    table = compare_arms(runs, baseline, correction=correction, margin=margin)
    return table.reset_index()
