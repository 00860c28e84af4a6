"""Attention on the image along an answer: its fall, its course, what knows nothing.

Pure functions over attention masses, as
:func:`vgpo.models.attention.attention_split` gives them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vgpo.method._masked import check_alignment, check_mask, token_numbers
from vgpo.stats.forgetting.checks import checked_masses, late_share, split_ratio
from vgpo.stats.numbers import whole


def accumulation_ratio(
    image_mass: Tensor, completion_mask: Tensor, split: float = 0.5
) -> Tensor:
    r"""Late/early visual accumulation ratio of each response.

    .. math:: \frac{\sum_{t > sT_i} a_{i,t}}{\sum_{t \le sT_i} a_{i,t}}

    with image mass a, split s and t from 1 to :math:`T_i`. A token that lies across the
    split counts on both sides in proportion, so that constant mass gives exactly
    (1 - s)/s at any length, odd ones too: 1 for the halves of the paper.

    Args:
        image_mass: (B, T) float, at least 0: attention on the image per token.
        completion_mask: bool or 0/1, (B, T), True on real tokens.
        split: In (0, 1), where late begins.

    Returns:
        (B,) float64, at least 0. NaN where there is no ratio: less than one token
        on a side, or no mass at all on the early side (a response without image).

    Raises:
        ValueError: A shape or range is wrong, or a mass is negative.

    Example:
        >>> import torch
        >>> mass = torch.tensor([[0.4, 0.4, 0.2, 0.2], [0.3, 0.3, 0.3, 0.0]])
        >>> mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
        >>> accumulation_ratio(mass, mask)
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    mass, mask = checked_masses(image_mass, completion_mask)
    late = late_share(mask, split)
    late_sum = (mass * late).sum(dim=1)
    early_sum = (mass * (1 - late)).sum(dim=1)
    ratio = split_ratio(split)
    smaller = mask.sum(dim=1) * min(ratio, 1 - ratio).numerator
    defined = (smaller >= ratio.denominator) & (early_sum > 0)
    return torch.where(defined, late_sum / early_sum, torch.nan)


def progress_profile(masses: Tensor, completion_mask: Tensor, bins: int = 20) -> Tensor:
    """Mean mass over equal stretches of generation progress, response by response.

    Token t of n covers progress from (t - 1)/n to t/n; a stretch averages the
    tokens it meets, each weighted by their overlap. So a response shorter than the
    number of stretches has a value in each, and longer ones are averaged.

    Args:
        masses: (B, T) or (B, T, K) float: masses per token.
        completion_mask: bool or 0/1, (B, T), True on real tokens.
        bins: At least 1: number of stretches.

    Returns:
        (B, bins) or (B, bins, K) float64, NaN for a row without tokens.

    Raises:
        ValueError: A shape or ``bins`` is wrong.

    Example:
        >>> import torch
        >>> mass = torch.tensor([[0.8, 0.4, 0.0]])
        >>> progress_profile(mass, torch.ones(1, 3), bins=2)
        tensor([[0.6667, 0.1333]], dtype=torch.float64)
    """
    bins = whole(bins, "bins")
    if masses.ndim not in (2, 3):
        raise ValueError(
            f"masses: must have shape (B, T) or (B, T, K), got {tuple(masses.shape)}."
        )
    shape = tuple(masses.shape[:2])
    mask = check_mask(completion_mask, "completion_mask", shape, "masses")
    number, length = token_numbers(mask)
    width = bins / length.clamp(min=1).double()[:, None]
    end = number[:, None] * width
    start = end - width
    left = torch.arange(bins, dtype=torch.float64, device=mask.device)[:, None]
    overlap = (torch.minimum(end, left + 1) - torch.maximum(start, left)).clamp(min=0)
    overlap = overlap * mask[:, None]
    values = torch.where(mask.view(*shape, *[1] * (masses.ndim - 2)), masses, 0)
    summed = overlap @ values.double().reshape(*shape, -1)
    profile = summed / overlap.sum(dim=2, keepdim=True)
    return profile if masses.ndim == 3 else profile[..., 0]


def uniform_shares(
    image_tokens: Sequence[int] | Tensor,
    query_tokens: Sequence[int] | Tensor,
    completion_mask: Tensor,
    alignment: str = "prediction",
) -> Tensor:
    r"""Shares of an attention that is spread evenly over all it may look at.

    A control that knows nothing: at token t there are the image tokens V, the query
    tokens Q and t - 1 generated tokens, and each gets the same,

    .. math:: \frac{|V|}{|V| + |Q| + t - 1}

    on the image. The share falls along every response, faster in a long one, and the
    late/early ratio with it, without anything being forgotten: what
    :func:`~vgpo.models.attention.attention_split` measures is to be read beside it.

    Args:
        image_tokens: (B,) whole numbers from 0: image tokens of each prompt.
        query_tokens: (B,) whole numbers from 0: the other prompt tokens that count
            (special tokens do not, where they are left out of the attention).
        completion_mask: bool or 0/1, (B, T), True on real tokens.
        alignment: ``"prediction"``: of the step that chooses token t, as above;
            ``"token"``: of the step that reads it, with t generated tokens.

    Returns:
        (B, T, 3) float64 in the order image, query, generated; sums to 1 on real
        tokens, 0 on others.

    Raises:
        ValueError: A shape or the alignment is wrong, a number is negative, or a
            prompt has no token at all.

    Example:
        >>> import torch
        >>> uniform_shares([4], [1], torch.ones(1, 4))[0, :, 0]
        tensor([0.8000, 0.6667, 0.5714, 0.5000], dtype=torch.float64)
    """
    if completion_mask.ndim != 2:
        raise ValueError(
            "completion_mask: must have shape (B, T), got "
            f"{tuple(completion_mask.shape)}."
        )
    shape = (completion_mask.shape[0], completion_mask.shape[1])
    mask = check_mask(completion_mask, "completion_mask", shape, "completion_mask")
    check_alignment(alignment)
    sizes = []
    for name, given in (("image_tokens", image_tokens), ("query_tokens", query_tokens)):
        size = torch.as_tensor(given, dtype=torch.float64, device=mask.device)
        if size.shape != shape[:1] or (size < 0).any() or (size != size.round()).any():
            raise ValueError(
                f"{name}: must be {shape[0]} whole numbers from 0, got {given}."
            )
        sizes.append(size[:, None].expand(shape))
    if (sizes[0] + sizes[1] == 0).any():
        raise ValueError("query_tokens: a prompt has neither image nor query tokens.")
    number, _ = token_numbers(mask)
    before = number - 1 if alignment == "prediction" else number
    counts = torch.stack([*sizes, before.double()], dim=2) * mask[..., None]
    return counts / counts.sum(dim=2, keepdim=True).clamp(min=1)
