"""The log of a training run, as a file beside its checkpoints."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import TrainerCallback

FILE_NAME = "metrics.jsonl"


class MetricsFile(TrainerCallback):
    """Appends every log of a run to ``metrics.jsonl`` in its output folder.

    One JSON object per line, with ``step``. A resumed run first drops what was
    logged after the checkpoint it starts from, so that no step appears twice.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        path = Path(args.output_dir) / FILE_NAME
        kept = []
        if path.exists() and state.global_step:
            kept = [row for row in _rows(path) if row["step"] <= state.global_step]
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        beside.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(beside, path)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs:
            return
        row = {"step": state.global_step}
        for name, value in logs.items():
            finite = not isinstance(value, float) or math.isfinite(value)
            row[name] = value if finite else None
        with (Path(args.output_dir) / FILE_NAME).open("a") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(output_dir: str | Path) -> pd.DataFrame:
    """The metrics of a run, one row per log, in the order they were written.

    Raises:
        FileNotFoundError: no run has logged there.
    """
    path = Path(output_dir) / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(f"no {FILE_NAME} in {output_dir}; has a run begun?")
    return pd.DataFrame(_rows(path))


def _rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines(keepends=True)
    # A run that was killed may have left half a line at the end.
    return [json.loads(line) for line in lines if line.endswith("\n")]
