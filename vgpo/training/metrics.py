"""The log of a training run, as a file beside its checkpoints."""

import json
import logging
import math
from pathlib import Path

import pandas as pd
from transformers import TrainerCallback

from vgpo.files import append_json_line, read_json_lines, write_atomically

FILE_NAME = "metrics.jsonl"

logger = logging.getLogger(__name__)


class MetricsFile(TrainerCallback):
    """Appends every log of a run to ``metrics.jsonl`` in its output folder.

    One JSON object per line, with ``step``. A resumed run first drops what was
    logged after the checkpoint it starts from, so that no step appears twice. A new
    run in the folder of an earlier one renames that one's file (``metrics-1.jsonl``),
    and says so.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        path = Path(args.output_dir) / FILE_NAME
        kept: list[dict] = []
        if path.exists() and state.global_step:
            kept = read_json_lines(path)
        elif path.exists() and path.stat().st_size:
            earlier = _free_name(path)
            path.rename(earlier)
            logger.warning("%s holds an earlier run, now %s", path, earlier.name)
        # Summaries are those of a run's end, which is yet to come.
        before = (
            row
            for row in kept
            if row["step"] <= state.global_step and "train_runtime" not in row
        )
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in before))

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs:
            return
        row = {"step": state.global_step}
        for name, value in logs.items():
            finite = not isinstance(value, float) or math.isfinite(value)
            row[name] = value if finite else None
        append_json_line(Path(args.output_dir) / FILE_NAME, row)


def _free_name(path: Path) -> Path:
    number = 1
    while (free := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    return free


def read_metrics(output_dir: str | Path) -> pd.DataFrame:
    """The metrics of a run, one row per log, in the order they were written.

    Raises:
        FileNotFoundError: no run has logged there.
    """
    path = Path(output_dir) / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(f"no {FILE_NAME} in {output_dir}; has a run begun?")
    return pd.DataFrame(read_json_lines(path))
