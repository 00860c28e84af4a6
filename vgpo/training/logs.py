"""What TRL logs of a step, put right where a step is not what TRL takes it for.

With dynamic sampling a step has several rounds of generation, of different sizes, and
trains on some of their rollouts only. And a run may be stopped between two logs.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import TrainerCallback
from trl.trainer.utils import strip_images_from_messages

_COLUMNS = ("images", "prompt", "completion", "advantages")
_NESTED = ("rewards", "extra")


def merge_rounds(
    metrics: dict[str, list[float]], before: Mapping[str, int], rounds: Sequence[int]
) -> None:
    """One number per step in the log, where each round of a step has left its own.

    TRL takes the plain mean over the numbers that it has noted, in which a round of
    one group would count as much as one of sixteen.

    Args:
        metrics: What has been noted since the last log; changed in place.
        before: How many numbers were noted under each name before the step.
        rounds: Groups of each round of the step.
    """
    for name, values in metrics.items():
        start = before.get(name, 0)
        if len(values) - start != len(rounds):
            continue  # not one per round
        pairs = [
            (value, size)
            for value, size in zip(values[start:], rounds, strict=True)
            if not math.isnan(value)
        ]
        total = sum(size for _, size in pairs)
        mean = sum(value * size for value, size in pairs) / total if total else math.nan
        values[start:] = [mean]


def empty_table() -> dict[str, Any]:
    """A table of completions as TRL fills it, with room for any number of rows.

    TRL's own has room for one batch, and would forget the first round's rows.
    """
    return {name: [] for name in _COLUMNS} | {
        name: defaultdict(list) for name in _NESTED
    }


def keep_rows(
    table: dict[str, Any], sampled: Mapping[str, Any], rows: Sequence[int]
) -> None:
    """Moves the rows that are trained on into TRL's table of completions.

    Args:
        table: TRL's, changed in place.
        sampled: A table from :func:`empty_table`, filled by all rounds.
        rows: Numbers of the rows that are trained on.
    """
    pairs = [(table[name], sampled[name]) for name in _COLUMNS]
    for name in _NESTED:
        pairs += [(table[name][key], values) for key, values in sampled[name].items()]
    for kept, values in pairs:
        # Images are logged if asked for, extra columns where a reward function had one.
        if len(values) > max(rows):
            kept.extend(values[row] for row in rows)


def without_images(table: Mapping[str, Any]) -> dict[str, Any]:
    """TRL's table of completions as JSON can hold it."""
    kept = {
        name: [strip_images_from_messages(row) for row in table[name]]
        for name in _COLUMNS
        if name != "images"
    }
    kept |= {
        name: {key: list(values) for key, values in table[name].items()}
        for name in _NESTED
    }
    return json.loads(json.dumps(kept, default=str))


def refill(table: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """Puts what :func:`without_images` kept back into TRL's table."""
    for name, values in kept.items():
        if name in _NESTED:
            for key, column in values.items():
                table[name][key].extend(column)
        else:
            table[name].extend(values)


def mean_advantages(advantages: Tensor, mask: Tensor) -> list[float]:
    """One advantage per row for the table: the mean over its tokens.

    Args:
        advantages: (B, T), or (B,).
        mask: bool, (B, T).

    Example:
        >>> import torch
        >>> mask = torch.tensor([[True, True, False]])
        >>> mean_advantages(torch.tensor([[1.0, 2.0, 9.0]]), mask)
        [1.5]
    """
    if advantages.ndim == 2:
        total = advantages.where(mask, 0).sum(dim=1)
        advantages = total / mask.sum(dim=1).clamp(min=1)
    return advantages.tolist()


class OnTrainBegin(TrainerCallback):
    """Calls a function once Trainer has reset what it has logged."""

    def __init__(self, function: Callable[[], None]):
        self._function = function

    def on_train_begin(self, args, state, control, **kwargs):
        self._function()
