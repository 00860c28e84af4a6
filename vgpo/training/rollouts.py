"""Batches of rollouts, row by row: taken apart, put together, kept in a file.

A batch is the dictionary TRL's scoring step returns: prompts padded on the left,
completions on the right, pixels of all rows in one tensor.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import pad
from trl.trainer.utils import split_pixel_values_by_grid

from vgpo.training.workarounds import stacked_by_row

_PROMPT_KEYS = ("prompt_ids", "prompt_mask")
_SEQUENCE_KEYS = ("token_type_ids", "mm_token_type_ids")
# One number per reward function, not per token.
_ROW_KEYS = ("rewards",)
# What TRL has at padded tokens, where it is not 0. VESPO takes the logarithm of the
# ratio, and 0 would make its sum over a row infinite.
_FILLS = {"tool_mask": 1, "importance_sampling_ratio": 1}
# What TRL splits by image or by tile into a list with one tensor per row, except in
# families that have one padded stack of images per row.
_PIXEL_KEYS = (
    "pixel_values",
    "pixel_attention_mask",
    "image_grid_thw",
    "image_sizes",
    "image_position_ids",
    "spatial_shapes",
)


def take_row(batch: dict[str, Any], row: int) -> dict[str, Any]:
    """One row of a batch, without its prompt's padding.

    Args:
        batch: A batch after TRL's ``split_pixel_values_by_grid``.
        row: Its index.

    Returns:
        The row; scalars, which belong to the batch, are left out.
    """
    # Padding is the round's, not the row's: in another batch, other rows will be the
    # longest. It goes on the left, where it stands in front of the prompt; on the
    # right it stays, as it counts for nothing and `stack_rows` may only add to it.
    real = batch["prompt_mask"][row].bool()
    prompt, width = int(real.sum()), len(real)
    out = {}
    for key, values in batch.items():
        if values is None or (isinstance(values, Tensor) and values.ndim == 0):
            continue
        value = values[row]
        if key in _PIXEL_KEYS and isinstance(values, Tensor):
            # A padded stack with one entry per row, which TRL has not cut: kept as
            # a stack of one, so that rows of both kinds are joined alike.
            value = values[row : row + 1]
        elif key in _PROMPT_KEYS:
            value = value[width - prompt :]
        elif key in _SEQUENCE_KEYS:
            # Token types of prompt and completion. The completion's are 0 and as
            # many as the new batch is long, so only the prompt's are taken.
            value = value[width - prompt : width]
        out[key] = value
    return out


def stack_rows(rows: list[dict[str, Any]], pad_token_id: int) -> dict[str, Any]:
    """Rows of any batches, as one batch.

    Args:
        rows: From :func:`take_row`, at least one.
        pad_token_id: Fills ids.

    Returns:
        The batch, as TRL's scoring step gives it, without its scalars.
    """
    prompt = max(len(row["prompt_ids"]) for row in rows)
    completion = max(len(row["completion_ids"]) for row in rows)
    batch: dict[str, Any] = {}
    stacked = any(stacked_by_row(row) for row in rows)
    for key in dict.fromkeys(key for row in rows for key in row):
        like = next(row[key] for row in rows if key in row)
        values = [
            row[key] if key in row else _absent(key, row, like, stacked) for row in rows
        ]
        if key == "num_images" and stacked:
            values = [1] * len(rows)
        if not isinstance(like, Tensor):
            batch[key] = values
            continue
        if key in _PIXEL_KEYS:
            batch[key] = _join(values)
            continue
        # Length 1 throughout is a value per row (sequence-level ratios).
        per_token = key not in _ROW_KEYS and any(len(v) > 1 for v in values if v.ndim)
        if key in _PROMPT_KEYS:
            fill = pad_token_id if key == "prompt_ids" else 0
            values = [_pad(v, prompt - len(v), 0, fill) for v in values]
        elif key in _SEQUENCE_KEYS:
            values = [_pad(v, prompt - len(v), completion, 0) for v in values]
        elif per_token:
            fill = pad_token_id if key == "completion_ids" else _FILLS.get(key, 0)
            values = [_pad(v, 0, completion - len(v), fill) for v in values]
        batch[key] = torch.stack(values)
    return batch


def in_order(
    batches: list[dict[str, Any]], key: str, pad_token_id: int
) -> list[dict[str, Any]]:
    """The rows of micro-batches, ordered by a number that each has, in as many.

    Args:
        batches: Micro-batches of one generation, of equally many rows.
        key: Under which the numbers are, (b,).
        pad_token_id: Fills ids.

    Returns:
        Micro-batches of as many rows, each padded to its own longest prompt.
    """
    rows = []
    for batch in batches:
        cut = split_pixel_values_by_grid(batch)
        rows += [take_row(cut, row) for row in range(len(batch[key]))]
    rows.sort(key=lambda row: int(row[key]))
    size = len(rows) // len(batches)
    of_batch = {
        name: value
        for name, value in batches[0].items()
        if isinstance(value, Tensor) and value.ndim == 0
    }
    return [
        stack_rows(rows[start : start + size], pad_token_id) | of_batch
        for start in range(0, len(rows), size)
    ]


def _absent(key: str, row: dict[str, Any], like: Any, stacked: bool) -> Any:
    """What a row has under a key that its own batch lacked and others have.

    Batches without any image lack all that comes from images. Where every row has a
    stack of images, padded with zeros, it is one of padding.
    """
    if key in _SEQUENCE_KEYS:
        return torch.zeros_like(row["prompt_ids"])
    if key == "num_tiles":
        # TRL counts tiles only in rounds in which an image has several of them.
        return row.get("num_images", 0)
    if not isinstance(like, Tensor):
        return 0
    return torch.zeros_like(like[:1]) if stacked else like[:0]


def _join(values: list[Tensor]) -> Tensor:
    """Concatenation, with trailing dimensions padded to the largest."""
    shape = [max(sizes) for sizes in zip(*(v.shape[1:] for v in values), strict=True)]
    return torch.cat(
        [
            pad(
                v,
                [
                    amount
                    for have, want in zip(v.shape[:0:-1], shape[::-1], strict=True)
                    for amount in (0, want - have)
                ],
            )
            for v in values
        ]
    )


def _pad(values: Tensor, left: int, right: int, fill: int) -> Tensor:
    return pad(values, (left, right), value=fill)


def to_device(row: dict[str, Any], device: torch.device | str) -> dict[str, Any]:
    """The row with its tensors on ``device``."""
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in row.items()}


def save_batches(
    path: Path, batches: list[dict[str, Any]], notes: dict[str, Any]
) -> None:
    """Writes batches, and notes on them, to one safetensors file.

    Args:
        path: The file; its folder is made.
        batches: Of tensors and lists of numbers; None values are left out.
        notes: Numbers, texts, lists and dictionaries to keep with them.
    """
    tensors, lists = {}, {}
    for i, batch in enumerate(batches):
        for key, value in batch.items():
            if isinstance(value, Tensor):
                # Micro-batches are views of one batch, which the format refuses.
                tensors[f"{i}.{key}"] = value.detach().clone().contiguous()
            elif value is not None:
                lists[f"{i}.{key}"] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"batches": len(batches), "lists": lists, "notes": notes}
    save_file(tensors, path, metadata={"rollouts": json.dumps(about)})


def load_batches(
    path: Path, device: torch.device | str = "cpu"
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Batches and notes from :func:`save_batches`."""
    # Read on the CPU and moved: the format refuses the "cpu:0" that a process among
    # several calls its device.
    with safe_open(path, "pt", device="cpu") as file:
        about = json.loads(file.metadata()["rollouts"])
        values = {
            key: file.get_tensor(key).to(device)
            for key in file.keys()  # noqa: SIM118
        }
    batches: list[dict[str, Any]] = [{} for _ in range(about["batches"])]
    for name, value in (values | about["lists"]).items():
        place, key = name.split(".", 1)
        batches[int(place)][key] = value
    return batches, about["notes"]
