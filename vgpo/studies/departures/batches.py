"""Micro-batches and groups as the released code makes them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def micro_batches(lengths: Tensor, budget: int, seed: int = 0) -> list[Tensor]:
    """A batch shuffled and cut into micro-batches of a limited number of tokens.

    Stands for an engine that balances lengths: rows come in random order, and a
    micro-batch is closed before it would hold more than ``budget`` tokens.

    Args:
        lengths: Tokens of each row, (B,).
        budget: Most tokens in a micro-batch; a longer row stands alone.
        seed: Of the order.

    Returns:
        Row indices of each micro-batch; together they are all rows, once.

    Raises:
        ValueError: ``budget`` is not positive.

    Example:
        >>> import torch
        >>> [len(rows) for rows in micro_batches(torch.tensor([3, 3, 3]), 6)]
        [2, 1]
    """
    if budget < 1:
        raise ValueError(f"budget: must be at least 1 token, got {budget}.")
    generator = torch.Generator().manual_seed(seed)
    batches: list[torch.Tensor] = []
    current: list[int] = []
    held = 0
    for row in torch.randperm(len(lengths), generator=generator).tolist():
        length = int(lengths[row])
        if current and held + length > budget:
            batches.append(torch.tensor(current))
            current, held = [], 0
        current.append(row)
        held += length
    if current:
        batches.append(torch.tensor(current))
    return batches


def run_ids(batches: Sequence[Tensor], num_generations: int = 8) -> Tensor:
    """Groups as the released code forms them: runs of adjacent rows.

    A micro-batch of fewer than ``num_generations`` rows is one run. Rows left over
    at the end of a longer one are runs of one, which keep factor 1.

    Args:
        batches: From :func:`micro_batches`.
        num_generations: G, rows of a run.

    Returns:
        (B,) int64; rows with the same number are one run.

    Raises:
        ValueError: ``num_generations`` is not positive.

    Example:
        >>> import torch
        >>> run_ids([torch.tensor([4, 0, 2]), torch.tensor([1, 3])], 2)
        tensor([0, 2, 1, 2, 0])
    """
    if num_generations < 1:
        raise ValueError(f"num_generations: must be at least 1, got {num_generations}.")
    ids = torch.empty(sum(map(len, batches)), dtype=torch.long)
    used = 0
    for rows in batches:
        size = min(num_generations, len(rows))
        place = torch.arange(len(rows))
        full = len(rows) // size * size
        number = torch.where(place < full, place // size, full // size + place - full)
        ids[rows] = used + number
        used += int(number[-1]) + 1
    return ids


def strangers(group_ids: Tensor, runs: Tensor) -> float:
    """Share of the other rows in a row's run that answer another prompt.

    Args:
        group_ids: Prompt of each row, (B,).
        runs: Run of each row, (B,).

    Returns:
        In [0, 1]; NaN if every run has one row.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> import torch
        >>> strangers(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 1, 1]))
        0.5
    """
    if group_ids.shape != runs.shape:
        raise ValueError(
            f"runs: shape {tuple(runs.shape)} does not match group_ids, which needs "
            f"{tuple(group_ids.shape)}."
        )
    together = runs[:, None] == runs[None]
    together.fill_diagonal_(False)
    other = group_ids[:, None] != group_ids[None]
    return float(other[together].float().mean())
