"""The records of a grid, as tables for statistics and figures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vgpo.studies.experiments.cells import (
    LOOKING,
    METRICS,
    RECORD,
    UNTRAINED,
    VALIDATED,
    VERDICTS,
    read_table,
)
from vgpo.studies.experiments.commits import again_table, same_commits
from vgpo.studies.experiments.grid import Grid
from vgpo.studies.experiments.places import Places, find

KEYS = ["world", "setting", "arm", "seed"]
"""What names a cell."""


Record = Mapping[str, Any]
"""What ``record.json`` of a cell holds, and the ``folder`` it lies in."""


def read_records(folder: str | Path) -> list[Record]:
    """The records of all finished cells of a folder, each with its ``folder``.

    Args:
        folder: Of a grid, or of the untrained cold starts.

    Raises:
        FileNotFoundError: There are none.
    """
    files = sorted(Path(folder).glob(f"[!.]*/{RECORD}"))
    if not files:
        raise FileNotFoundError(f"no finished cells in {folder}")
    return [json.loads(f.read_text()) | {"folder": f.parent} for f in files]


def grid_records(grid: Grid, experiments: str | Path) -> list[Record]:
    """The records of the finished cells that a grid plans, each with its ``folder``.

    Cells of the same settings in the folders of other grids count, if the grid shares
    them; cells that lie in its own folder and are not planned do not.

    Args:
        grid: The plan.
        experiments: The folder of all grids' folders.

    Raises:
        FileNotFoundError: There are none.
        ValueError: As :func:`~vgpo.studies.experiments.places.find`.
    """
    places = Places.of(grid, Path(experiments))
    planned = [cell for cell in grid.cells() if cell.arm != UNTRAINED]
    there = [found for cell in planned if (found := find(cell, places))]
    if not there:
        raise FileNotFoundError(f"no finished cells of {grid.name} in {experiments}")
    return [record | {"folder": folder} for folder, record in there]


def _records(cells: str | Path | Sequence[Record]) -> Sequence[Record]:
    return read_records(cells) if isinstance(cells, str | Path) else cells


def outcome_table(cells: str | Path | Sequence[Record]) -> pd.DataFrame:
    """All outcomes of all cells, tidy.

    Args:
        cells: Records of :func:`grid_records` or :func:`read_records`; or a folder,
            for the latter.

    Returns:
        ``world``, ``setting``, ``arm``, ``seed``, ``wording``, ``outcome``, ``value``;
        ``before``, the same outcome of the untrained cold start (NaN where it has
        none, as of a training); ``commits``, all commits that are known to give a cell
        of this arm the same numbers (:mod:`vgpo.studies.experiments.commits`).

        Cold starts, and cells that were done again, are looked for beside the folder
        of the cells; without the former ``before`` is NaN throughout.

    Raises:
        FileNotFoundError: No cell is finished.
    """
    records = _records(cells)
    experiments = records[0]["folder"].parent.parent
    known = same_commits(again_table(experiments))
    rows = [
        {key: record[key] for key in [*KEYS, "wording", "start"]}
        | {"evaluation": json.dumps(record["evaluation"])}
        | {"commits": known(record)}
        | {"outcome": name, "value": value}
        for record in records
        for name, value in record["outcomes"].items()
    ]
    table = pd.DataFrame(rows).astype({"value": float})
    same = ["start", "evaluation", "outcome"]
    before = _before(experiments / UNTRAINED)
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


def curve_table(
    cells: str | Path | Sequence[Record], columns: list[str] | None = None
) -> pd.DataFrame:
    """What was logged, one row per cell and step.

    Args:
        cells: As of :func:`outcome_table`.
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
            for table in _tables(cells, METRICS)
        ],
    ).reset_index(KEYS)[[*KEYS, "step", *columns]]


def validation_table(cells: str | Path | Sequence[Record]) -> pd.DataFrame:
    """Share of held-out questions answered right on the way, a row per cell and step.

    Args:
        cells: As of :func:`outcome_table`, all of a grid that validates.

    Returns:
        ``world``, ``setting``, ``arm``, ``seed``, ``step`` (updates before), ``right``.

    Raises:
        FileNotFoundError: A cell was not validated.
    """
    table = pd.concat(_tables(cells, VALIDATED)).reset_index(KEYS)
    return table.groupby([*KEYS, "step"], sort=False)["right"].mean().reset_index()


def verdict_table(cells: str | Path | Sequence[Record]) -> pd.DataFrame:
    """The verdict of every answer of every cell, with what names the cell."""
    return pd.concat(_tables(cells, VERDICTS)).reset_index(KEYS)


def looking_table(cells: str | Path | Sequence[Record]) -> pd.DataFrame:
    """Attention of answers, one row each, with what names the cell (Fig. 6)."""
    return pd.concat(_tables(cells, LOOKING)).reset_index(KEYS)


def _tables(cells: str | Path | Sequence[Record], name: str) -> Iterator[pd.DataFrame]:
    for record in _records(cells):
        table = read_table(record["folder"] / name)
        # Cold starts have no setting and no seed.
        keys = [record.get(key) for key in KEYS]
        yield table.set_index(
            pd.MultiIndex.from_tuples([tuple(keys)] * len(table), names=KEYS)
        )
