"""Visual attention compensation: lifting visual tokens late in a response (Eq. 5-6).

Source: Visually-Guided Policy Optimization for Multimodal Reasoning,
arXiv 2604.09349; the two other schedules are those of its ablation. Nothing here
carries a gradient. Positions are counted over the real tokens of a row, so it does
not matter where its padding stands. Arithmetic is float32 (float64 for float64
input).

Ratios are read as the fraction they stand for, the nearest one with a denominator
of at most 1,000,000, and compared in integers: 0.29 of 100 tokens are 29, although
``0.29 * 100`` is 28.999999999999996.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vgpo.method._masked import (
    check_mask,
    check_rows,
    check_tensor,
    check_zeros_and_ones,
    exact_ratio,
    token_numbers,
)

SCHEDULES = ("linear", "exponential", "step")


@torch.no_grad()
def compensation_schedule(
    completion_mask: Tensor,
    schedule: str = "linear",
    *,
    exponent: float = 2.0,
    step_ratio: float = 0.5,
) -> Tensor:
    r"""How much a token's place in its response counts, before the strength beta.

    With t from 1 to :math:`T_i` over the real tokens of row i:

    ===============  ===========================  ==========================
    ``linear``       :math:`t/T_i`                Eq. 5
    ``exponential``  :math:`(t/T_i)^e`            ablation, ``exponent`` e
    ``step``         :math:`1[t/T_i \ge r]`       ablation, ``step_ratio`` r
    ===============  ===========================  ==========================

    Args:
        completion_mask: bool or 0/1, (B, T), True on real tokens.
        schedule: One of the three above.
        exponent: Positive; used by ``"exponential"``.
        step_ratio: In [0, 1]; used by ``"step"``.

    Returns:
        (B, T) float32 in [0, 1], 0 outside the mask. The last real token has 1.

    Raises:
        ValueError: A shape, schedule or range is wrong.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[0, 1, 1, 1, 1]])
        >>> compensation_schedule(mask)
        tensor([[0.0000, 0.2500, 0.5000, 0.7500, 1.0000]])
        >>> compensation_schedule(mask, "step")
        tensor([[0., 0., 1., 1., 1.]])
    """
    check_tensor(completion_mask, "completion_mask")
    if completion_mask.ndim != 2:
        raise ValueError(
            "completion_mask: must have shape (B, T), got "
            f"{tuple(completion_mask.shape)}."
        )
    check_zeros_and_ones(completion_mask, "completion_mask")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule: must be one of {SCHEDULES}, got {schedule!r}.")
    if not 0 < exponent < math.inf:
        raise ValueError(f"exponent: must be positive and finite, got {exponent}.")
    step = exact_ratio(step_ratio, "step_ratio")

    mask = completion_mask.bool()
    number, count = token_numbers(mask)
    if schedule == "step":
        progress = (number * step.denominator >= count * step.numerator).float()
    else:
        progress = number.float() / count.clamp(min=1)
        if schedule == "exponential":
            progress = progress**exponent
    return torch.where(mask, progress, 0)


@torch.no_grad()
def visual_gate(
    focus: Tensor,
    completion_mask: Tensor,
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
) -> Tensor:
    r"""Visual gate: the most visual tokens of the tail of each response (Eq. 6).

    .. math::
        G_{i,t} = 1 \iff{} & t > (1 - \gamma) T_i \text{ and } \rho_{i,t} \text{ is} \\
        & \text{among the top } \kappa \text{ of that tail}

    The tail of n tokens keeps exactly min(n, max(1, floor(kappa n))) of them. Of
    equal scores the later token is kept.

    Args:
        focus: Visual focus scores, (B, T).
        completion_mask: bool or 0/1, (B, T), True on real tokens.
        tail_ratio: gamma, in [0, 1]: the share of the response, from its end, in
            which tokens compete. 0 closes the gate, 1 opens it to the full
            trajectory.
        top_ratio: kappa, in (0, 1]: the share of the tail that is kept.

    Returns:
        (B, T) bool. A row without real tokens keeps none, a row of one token
        keeps it unless ``tail_ratio`` is 0.

    Raises:
        ValueError: A shape or range is wrong.

    Example:
        >>> import torch
        >>> focus = torch.tensor([[0.9, 0.8, 0.4, 0.6]])
        >>> visual_gate(focus, torch.ones(1, 4))
        tensor([[False, False, False,  True]])
    """
    scores = check_rows(focus, "focus")
    mask = check_mask(completion_mask, "completion_mask", tuple(scores.shape), "focus")
    tail = exact_ratio(tail_ratio, "tail_ratio")
    top = exact_ratio(top_ratio, "top_ratio", positive=True)

    # t > (1 - gamma) T in whole numbers, so that no rounding moves the border.
    number, count = token_numbers(mask)
    head = 1 - tail
    in_tail = mask & (number * head.denominator > count * head.numerator)
    tail_length = in_tail.sum(dim=1, keepdim=True)
    kept = (tail_length * top.numerator // top.denominator).clamp(min=1)

    # A stable sort keeps equal scores in order: reversed, the later token leads.
    candidates = torch.where(in_tail, scores, -torch.inf).flip(1)
    order = candidates.argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    chosen = torch.zeros_like(in_tail).scatter(1, order, rank < kept).flip(1)
    return chosen & in_tail


class CompensatedWeights(NamedTuple):
    """What :func:`compensated_weights` returns.

    Attributes:
        weights: w of Eq. 5, (B, T), 0 outside the mask.
        gate: G of Eq. 6, (B, T) bool.
    """

    weights: Tensor
    gate: Tensor


@torch.no_grad()
def compensated_weights(
    focus: Tensor,
    completion_mask: Tensor,
    strength: float = 0.3,
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
    schedule: str = "linear",
    *,
    exponent: float = 2.0,
    step_ratio: float = 0.5,
) -> CompensatedWeights:
    r"""Compensated visual weights, and the gate that went into them (Eq. 5-6).

    The arguments and errors are those of :func:`compensate`, which gives the
    weights alone.

    Returns:
        The :class:`CompensatedWeights`.

    Example:
        >>> import torch
        >>> focus = torch.tensor([[0.9, 0.8, 0.4, 0.6]])
        >>> weights, gate = compensated_weights(focus, torch.ones(1, 4))
        >>> weights
        tensor([[0.9000, 0.8000, 0.4000, 0.7800]])
        >>> gate
        tensor([[False, False, False,  True]])
    """
    scores = check_rows(focus, "focus")
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength: must be 0 or more and finite, got {strength}.")
    gate = visual_gate(scores, completion_mask, tail_ratio, top_ratio)
    progress = compensation_schedule(
        completion_mask, schedule, exponent=exponent, step_ratio=step_ratio
    )
    weights = scores * (1 + strength * progress * gate)
    return CompensatedWeights(torch.where(completion_mask.bool(), weights, 0), gate)


@torch.no_grad()
def compensate(
    focus: Tensor,
    completion_mask: Tensor,
    strength: float = 0.3,
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
    schedule: str = "linear",
    *,
    exponent: float = 2.0,
    step_ratio: float = 0.5,
) -> Tensor:
    r"""Compensated visual weights (Eq. 5).

    .. math:: w_{i,t} = \rho_{i,t} \left[1 + G_{i,t}\, \beta\, t/T_i\right]

    Args:
        focus: Visual focus scores, (B, T) in [0, 1].
        completion_mask: bool or 0/1, (B, T), True on real tokens.
        strength: beta, not negative; 0 leaves the focus scores as they are.
        tail_ratio: gamma of :func:`visual_gate`.
        top_ratio: kappa of :func:`visual_gate`.
        schedule: What stands for :math:`t/T_i`, see :func:`compensation_schedule`.
        exponent: See :func:`compensation_schedule`.
        step_ratio: See :func:`compensation_schedule`.

    Returns:
        (B, T) float32 in [0, 1 + beta] without gradient, 0 outside the mask and in
        rows without an image, whose focus is 0.

    Raises:
        ValueError: A shape, schedule or range is wrong.

    Example:
        >>> import torch
        >>> focus = torch.tensor([[0.9, 0.8, 0.4, 0.6]])
        >>> compensate(focus, torch.ones(1, 4))
        tensor([[0.9000, 0.8000, 0.4000, 0.7800]])
    """
    return compensated_weights(
        focus,
        completion_mask,
        strength,
        tail_ratio,
        top_ratio,
        schedule,
        exponent=exponent,
        step_ratio=step_ratio,
    ).weights
