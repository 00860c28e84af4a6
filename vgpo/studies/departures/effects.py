"""What single departures do to weights, ties and gates."""

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vgpo.method._masked import check_mask, check_rows, row_min_max
from vgpo.method.compensation import compensate


@torch.no_grad()
def row_normalized(weights: Tensor, mask: Tensor) -> Tensor:
    """Weights min-maxed in their row (Eq. 7), which the released code adds up.

    Args:
        weights: (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.

    Returns:
        (B, T) in [0, 1], 0 outside the mask and in rows of equal weights.

    Raises:
        ValueError: A shape does not fit.

    Example:
        >>> import torch
        >>> row_normalized(torch.tensor([[0.25, 0.75, 0.5]]), torch.ones(1, 3))
        tensor([[0.0000, 1.0000, 0.5000]])
    """
    values = check_rows(weights, "weights")
    return row_min_max(values, check_mask(mask, "mask", tuple(values.shape), "weights"))


def tied_share(scores: Tensor, mask: Tensor) -> float:
    """Share of tokens whose score another token of their row has too.

    Args:
        scores: (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.

    Returns:
        In [0, 1]; NaN without a real token.

    Raises:
        ValueError: A shape does not fit.

    Example:
        >>> import torch
        >>> tied_share(torch.tensor([[0.5, 0.5, 0.25, 0.0]]), torch.ones(1, 4))
        0.5
    """
    values = check_rows(scores, "scores")
    mask = check_mask(mask, "mask", tuple(values.shape), "scores")
    tied = tokens = 0
    for row, real in zip(values, mask, strict=True):
        counts = row[real].unique(return_counts=True)[1]
        tied += int(counts[counts > 1].sum())
        tokens += int(real.sum())
    return tied / tokens if tokens else math.nan


@torch.no_grad()
def relative_boost(
    focus: Tensor,
    mask: Tensor,
    strength: float = 0.3,
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
) -> Tensor:
    r"""What compensation adds to each gated token, against its row's spread.

    .. math:: \frac{w_{i,t} - \rho_{i,t}}{\max_t \rho_{i,t} - \min_t \rho_{i,t}}

    Both scalings of the cosine are linear, so the denominator scales alike and the
    numerator does not: it holds the score itself, with its offset.

    Args:
        focus: Visual focus scores, (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.
        strength: beta.
        tail_ratio: gamma.
        top_ratio: kappa.

    Returns:
        (N,) of the gated tokens, row by row; rows of equal scores are left out.

    Raises:
        ValueError: A shape or range is wrong.

    Example:
        >>> import torch
        >>> relative_boost(torch.tensor([[0.5, 1.0]]), torch.ones(1, 2))
        tensor([0.6000])
    """
    scores = check_rows(focus, "focus")
    weights = compensate(scores, mask, strength, tail_ratio, top_ratio)
    mask = mask.bool()
    highest = torch.where(mask, scores, -torch.inf).amax(dim=1, keepdim=True)
    lowest = torch.where(mask, scores, torch.inf).amin(dim=1, keepdim=True)
    boost = (weights - scores) / (highest - lowest)
    return boost[mask & (weights > scores) & (highest > lowest)]


def lost_tokens(longest: int, top_ratio: float) -> list[int]:
    """Tail lengths for which flooring in float64 keeps one token too few.

    Args:
        longest: Tails of 1 to this many tokens are tried.
        top_ratio: kappa, meant in hundredths.

    Returns:
        The lengths n for which ``floor(n * top_ratio)`` is below the exact floor.

    Raises:
        ValueError: ``top_ratio`` is not in hundredths.

    Example:
        >>> lost_tokens(120, 0.29)
        [100]
    """
    hundredths = round(top_ratio * 100)
    if abs(top_ratio * 100 - hundredths) > 1e-9:
        raise ValueError(f"top_ratio: must be in hundredths, got {top_ratio}.")
    lengths = range(1, longest + 1)
    return [n for n in lengths if int(n * top_ratio) < n * hundredths // 100]


def within_group_correlation(values: Tensor, by: Tensor, group_ids: Tensor) -> float:
    """Mean over groups of the Pearson correlation within the group.

    Groups in which one of the two does not vary say nothing and are left out.

    Args:
        values: (B,).
        by: (B,).
        group_ids: (B,).

    Returns:
        In [-1, 1]; NaN if no group is left.

    Raises:
        ValueError: Lengths differ.

    Example:
        >>> import torch
        >>> values = torch.tensor([1.0, 2.0, 9.0, 8.0, 9.0])
        >>> r = within_group_correlation(
        ...     values, torch.tensor([3, 5, 1, 0, 0]), torch.tensor([0, 0, 1, 1, 1])
        ... )
        >>> round(r, 3)
        0.75
    """
    within = correlations_within_groups(values, by, group_ids)
    return math.nan if np.isnan(within).all() else float(np.nanmean(within))


def correlations_within_groups(
    values: Tensor, by: Tensor, group_ids: Tensor
) -> np.ndarray:
    """The Pearson correlation within each group, for an interval over groups.

    Args:
        values: (B,).
        by: (B,).
        group_ids: (B,).

    Returns:
        (groups,), in the order of their ids, in [-1, 1]; NaN where one of the two does
        not vary.

    Raises:
        ValueError: Lengths differ.

    Example:
        >>> import torch
        >>> values = torch.tensor([1.0, 2.0, 9.0, 9.0])
        >>> ids = torch.tensor([0, 0, 1, 1])
        >>> correlations_within_groups(values, torch.tensor([3, 5, 1, 0]), ids).round(3)
        array([ 1., nan])
    """
    if not len(values) == len(by) == len(group_ids):
        raise ValueError(
            "values, by, group_ids: must be of one length, got "
            f"{len(values)}, {len(by)} and {len(group_ids)}."
        )
    table = pd.DataFrame({"values": values.double().numpy(), "by": by.double().numpy()})
    return np.array(
        [
            group["values"].corr(group["by"])
            if (group.nunique() > 1).all()
            else math.nan
            for _, group in table.groupby(group_ids.numpy())
        ]
    )
