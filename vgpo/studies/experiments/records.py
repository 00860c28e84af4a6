"""The records of a grid, as tables for statistics and figures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from vgpo.studies.experiments.cells import (
    LOOKING,
    METRICS,
    RECORD,
    UNTRAINED,
    VERDICTS,
    read_table,
)

KEYS = ["world", "setting", "arm", "seed"]
"""What names a cell."""


def read_records(folder: str | Path) -> list[dict[str, Any]]:
    """The records of a grid's finished cells, each with its ``folder``.

    Args:
        folder: Of a grid, or of the untrained cold starts.

    Raises:
        FileNotFoundError: There are none.
    """
    files = sorted(Path(folder).glob(f"[!.]*/{RECORD}"))
    if not files:
        raise FileNotFoundError(f"no finished cells in {folder}")
    return [json.loads(f.read_text()) | {"folder": f.parent} for f in files]


def outcome_table(folder: str | Path) -> pd.DataFrame:
    """All outcomes of all cells, tidy: ``world``, ``setting``, ``arm``, ``seed``,
    ``wording``, ``outcome``, ``value`` and ``before``, the same outcome of the
    untrained cold start (NaN where it has none, as of a training).

    Cold starts are looked for beside the grid's folder; without them ``before`` is
    NaN throughout.

    Raises:
        FileNotFoundError: No cell is finished.
    """
    folder = Path(folder)
    rows = [
        {key: record[key] for key in [*KEYS, "wording", "start"]}
        | {"evaluation": json.dumps(record["evaluation"])}
        | {"outcome": name, "value": value}
        for record in read_records(folder)
        for name, value in record["outcomes"].items()
    ]
    table = pd.DataFrame(rows).astype({"value": float})
    same = ["start", "evaluation", "outcome"]
    before = _before(folder.parent / UNTRAINED)
    if before.empty:
        table["before"] = float("nan")
    else:
        table = table.merge(before, on=same, how="left", validate="many_to_one")
    return table.drop(columns=["start", "evaluation"])


def _before(folder: Path) -> pd.DataFrame:
    if not any(folder.glob(f"[!.]*/{RECORD}")):
        return pd.DataFrame()
    rows = [
        {
            "start": record["start"],
            "evaluation": json.dumps(record["evaluation"]),
            "outcome": name,
            "before": value,
        }
        for record in read_records(folder)
        for name, value in record["outcomes"].items()
    ]
    return pd.DataFrame(rows).astype({"before": float})


def curve_table(folder: str | Path, columns: list[str] | None = None) -> pd.DataFrame:
    """What was logged, one row per cell and step.

    Args:
        folder: Of a grid.
        columns: Of the log; by default the reward and what tells arms apart.

    Returns:
        ``world``, ``setting``, ``arm``, ``seed``, ``step`` and the columns.
    """
    columns = columns or [
        "reward",
        "rewards/looks/mean",
        "rewards/reads_right/mean",
        "completions/mean_length",
        "entropy",
        "grad_norm",
        "advantages/mean_abs",
    ]
    return pd.concat(
        [
            table.reindex(columns=["step", *columns])
            for table in _tables(folder, METRICS)
        ],
    ).reset_index(KEYS)[[*KEYS, "step", *columns]]


def verdict_table(folder: str | Path) -> pd.DataFrame:
    """The verdict of every answer of every cell, with what names the cell."""
    return pd.concat(_tables(folder, VERDICTS)).reset_index(KEYS)


def looking_table(folder: str | Path) -> pd.DataFrame:
    """Attention of answers, one row each, with what names the cell (Fig. 6)."""
    return pd.concat(_tables(folder, LOOKING)).reset_index(KEYS)


def _tables(folder: str | Path, name: str) -> Iterator[pd.DataFrame]:
    for record in read_records(folder):
        table = read_table(record["folder"] / name)
        # Cold starts have no setting and no seed.
        keys = [record.get(key) for key in KEYS]
        yield table.set_index(
            pd.MultiIndex.from_tuples([tuple(keys)] * len(table), names=KEYS)
        )
