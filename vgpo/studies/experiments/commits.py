"""Cells of several commits: which may be compared, and how that was shown.

A grid takes days, and the package goes on meanwhile. Two cells of different commits may
be compared only if the commits give the same numbers. That is shown by doing a finished
cell again::

    python -m vgpo.studies.experiments again headline look_away-shipped-dapo-seed0

writes its record to ``again/COMMIT/CELL`` beside the grids' folders. The two commits
count as the same for this arm in this world if the tables of both records are equal to
the last digit: what was logged at every step, but for the time it took, the verdict of
every answer, and the attention of those looked at. One seed stands for all of them.

For an arm against a baseline it is enough that this holds for one of the two: if the
baseline gives the same numbers at the arm's commit, the pair is of that commit.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vgpo.studies.experiments.cells import (
    LOOKING,
    METRICS,
    RECORD,
    VERDICTS,
    read_table,
)

AGAIN = "again"
"""The folder of cells that were done a second time, beside the grids' folders."""

UNKNOWN = "unknown"
"""In place of a commit where there was no checkout."""

_SETTINGS = (
    "arm", "world", "wording", "evaluation", "setting", "seed", "run", "fields", "start"
)  # fmt: skip


def commit_of(record: Mapping[str, Any]) -> str:
    """The commit that made a record, ``+`` after it if the package differed from it.

    Example:
        >>> commit_of({"commit": "abc", "changed": True})
        'abc+'
        >>> commit_of({"commit": None, "changed": False})
        'unknown'
    """
    if record["commit"] is None:
        return UNKNOWN
    return record["commit"] + ("+" if record["changed"] else "")


def numbers_digest(folder: Path) -> str:
    """SHA-256 of a record's tables, less the time that the steps took."""
    digest = hashlib.sha256()
    for name in (METRICS, VERDICTS, LOOKING):
        table = read_table(folder / name).drop(columns="step_time", errors="ignore")
        digest.update(table.to_csv(index=False).encode())
    return digest.hexdigest()


def again_table(experiments: Path) -> pd.DataFrame:
    """Every cell that was done again, against the same cell in a grid's folder.

    Args:
        experiments: The folder of all grids' folders.

    Returns:
        ``cell``, ``world``, ``arm``, ``first`` and ``second`` (commits), ``same``
        (whether their numbers are equal), ``digest`` (of the second). A cell that is
        in no grid's folder with these settings is left out.
    """
    rows = []
    for file in sorted(experiments.glob(f"{AGAIN}/*/*/{RECORD}")):
        second, name = json.loads(file.read_text()), file.parent.name
        digest = numbers_digest(file.parent)
        for other in sorted(experiments.glob(f"[!.]*/{name}/{RECORD}")):
            first = json.loads(other.read_text())
            if all(first[key] == second[key] for key in _SETTINGS):
                rows.append(
                    {
                        "cell": name,
                        "world": second["world"],
                        "arm": second["arm"],
                        "first": commit_of(first),
                        "second": commit_of(second),
                        "same": numbers_digest(other.parent) == digest,
                        "digest": digest,
                    }
                )
    columns = ["cell", "world", "arm", "first", "second", "same", "digest"]
    return pd.DataFrame(rows, columns=columns)


def same_commits(again: pd.DataFrame) -> Callable[[Mapping[str, Any]], frozenset[str]]:
    """A function of a record: all commits known to give its arm these numbers.

    Args:
        again: Of :func:`again_table`.

    Returns:
        The function. What is unknown, or was changed, is the same as nothing, itself
        included; so is a pair that was once seen to differ.
    """
    groups: dict[tuple[str, str], list[set[str]]] = {}
    for key, rows in again.groupby(["world", "arm"]):
        pairs = {frozenset(p) for p in zip(rows["first"], rows["second"], strict=True)}
        no = rows[~rows["same"].astype(bool)]
        pairs -= {frozenset(p) for p in zip(no["first"], no["second"], strict=True)}
        groups[key] = _joined(pairs)

    def known(record: Mapping[str, Any]) -> frozenset[str]:
        own = commit_of(record)
        if not _exact(own):
            return frozenset()
        mine = groups.get((record["world"], record["arm"]), [])
        return frozenset({own}.union(*(group for group in mine if own in group)))

    return known


def _exact(commit: str) -> bool:
    return commit != UNKNOWN and not commit.endswith("+")


def _joined(pairs: set[frozenset[str]]) -> list[set[str]]:
    """Sets of what is the same, directly or by way of another."""
    groups: list[set[str]] = []
    for pair in pairs:
        if not all(map(_exact, pair)):
            continue
        touching = [group for group in groups if group & pair]
        groups = [group for group in groups if not group & pair]
        groups.append(set(pair).union(*touching))
    return groups


def commit_table(records: list[Mapping[str, Any]]) -> pd.DataFrame:
    """How many cells of each arm are of which commit.

    Returns:
        ``arm``, ``commit``, ``cells``.
    """
    rows = pd.DataFrame(
        {"arm": record["arm"], "commit": commit_of(record)} for record in records
    )
    return rows.value_counts(sort=False).rename("cells").reset_index()
