"""A run beside the paper's own figures: ten benchmarks, two averages."""

from importlib.resources import files

import pandas as pd

from vgpo.data.catalogue import SUITES
from vgpo.evaluation.runs import EvaluatedRun, accuracy_interval


def reported() -> pd.DataFrame:
    """What the paper prints (one seed, greedy, in per cent), as shares.

    Returns:
        Rows by ``size`` and ``method``; a column per benchmark and per average.

    Example:
        >>> float(reported().loc[("7B", "VGPO"), "counting"])
        0.955
    """
    path = files("vgpo.evaluation").joinpath("reported.csv")
    with path.open(encoding="utf-8") as file:
        table = pd.read_csv(file).set_index(["size", "method"])
    return (table / 100).round(4)


def beside_the_paper(run: EvaluatedRun, size: str = "7B") -> pd.DataFrame:
    """Greedy accuracy of a run beside what the paper reports.

    An average is over its benchmarks, each counted alike; it is there only if all of
    them are. The paper gives no intervals; these are those of the run.

    Args:
        run: With greedy answers to sets of the paper.
        size: ``3B``, ``7B`` or ``32B``.

    Returns:
        A row per benchmark that the run has, and per average that is whole:
        ``questions``, ``measured`` with ends (none for an average), ``DAPO``, ``VGPO``.

    Raises:
        ValueError: No such size, or no benchmark of the paper in the run.
    """
    figures = reported()
    if size not in figures.index.get_level_values("size"):
        raise ValueError(f"size must be 3B, 7B or 32B, got {size!r}")
    rows = {}
    for name in SUITES["paper"]:
        mine = [one for one in run.records if one["set"] == name]
        if mine:
            interval = accuracy_interval(mine)
            rows[name] = {"questions": len(mine), **interval.as_columns("measured")}
    if not rows:
        raise ValueError(
            f"run: it has no set of the paper, which are {', '.join(SUITES['paper'])}"
        )
    for average in ("math", "vision"):
        parts = SUITES[average]
        if all(part in rows for part in parts):
            rows[average] = {
                "questions": sum(rows[part]["questions"] for part in parts),
                "measured": sum(rows[part]["measured"] for part in parts) / len(parts),
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    for method in ("DAPO", "VGPO"):
        table[method] = figures.loc[(size, method)].reindex(table.index)
    return table
