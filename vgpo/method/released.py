"""The same four steps as the authors' released code computes them.

Source: the behaviour of the code released with arXiv 2604.09349, described in
words and formulas and checked against vectors recorded from it (``tests/golden``).
It departs from the paper; :mod:`vgpo.method.focus`, :mod:`vgpo.method.compensation` and
:mod:`vgpo.method.reweighting` follow the paper. The departures:

1. Groups are runs of ``num_generations`` adjacent rows, whatever their prompts. A
   batch smaller than that is one group; rows left over at the end keep factor 1.
2. The cosines are min-maxed over the whole batch, padding (cosine 0) included,
   where Eq. 4 has (cos + 1) / 2.
3. Trajectories are compared by the sum of the min-maxed weights, not of w (Eq. 9).
4. Factors are clamped: 1 + psi to [0.1, 2], 1 + phi to [0.9, 2].
5. Compensation belongs to the token factor; the released code has no run with the
   trajectory factor alone.
6. ``start_ratio`` is where the tail begins, 1 - gamma: see :func:`start_ratio_of`.
7. t/T is t/(T - 1) with t from 0; all scores equal to the gate's threshold pass;
   floors are those of float64; 1e-8 is added to the range of each min-max.
8. Scores are recomputed at every update and rounded to bfloat16: not imitated here.
9. A row without an image has weights 0, so its trajectory factor drops to the
   clamp in a group that has images elsewhere.
10. Sums over tokens grow with length: a property of the paper's Eq. 9 as well.
11. Answers are graded by mathruler: ``vgpo.rewards.recipe_reward``, not here.

The numbers are those of the chapter "The paper against its code", which has what each
of them moves.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vgpo.method._masked import (
    check_mask,
    check_rows,
    row_min_max,
    row_sum,
    token_numbers,
)
from vgpo.method.focus import completion_states, visual_cosine, visual_prototype

_EPS = 1e-8
TOKEN_CLAMP = (0.1, 2.0)
TRAJECTORY_CLAMP = (0.9, 2.0)
_SCHEDULES = ("linear", "exponential", "step", "step-function")


@dataclass(frozen=True)
class AdvantageFactors:
    """What the released code multiplies advantages by, and the steps to it.

    Attributes:
        cosine: Cosine to the visual prototype, (B, T), 0 outside the mask.
        focus: Cosines min-maxed over the whole batch, (B, T) in [0, 1].
        compensation: beta times the schedule, (B, T), 0 outside the mask.
        gate: 1 where the compensation applies, else 0, (B, T) float32. All 1
            without the gate.
        intra_normalized: Weights min-maxed in their row, (B, T), 0 outside.
        intra_factor: 1 + psi, clamped, (B, T), 1 outside the mask.
        inter_factor: 1 + phi, clamped, (B,).

    All are float32 and carry no gradient.
    """

    cosine: Tensor
    focus: Tensor
    compensation: Tensor
    gate: Tensor
    intra_normalized: Tensor
    intra_factor: Tensor
    inter_factor: Tensor


def start_ratio_of(tail_ratio: float) -> float:
    """The released code's flag for a tail of gamma, as ``tail_ratio`` is elsewhere.

    The flag says where the tail starts, ``tail_ratio`` how much of the completion it
    is, so one is 1 less the other. This is the only place that turns one into the
    other.

    Example:
        >>> start_ratio_of(0.25)
        0.75
    """
    return 1 - tail_ratio


@torch.no_grad()
def advantage_factors(
    hidden_states: Tensor,
    input_ids: Tensor,
    completion_mask: Tensor,
    image_token_id: int,
    *,
    strength: float,
    start_ratio: float,
    top_ratio: float,
    schedule: str,
    gated: bool,
    num_generations: int,
    exponent: float = 2.0,
    step_ratio: float = 0.5,
) -> AdvantageFactors:
    """The released code's factors on the advantage, from the last hidden states.

    Args:
        hidden_states: Last-layer states of prompt and completion, (B, P + T, D).
        input_ids: Token ids, (B, P + T).
        completion_mask: bool or 0/1, (B, T), True on real completion tokens. The
            states outside it are taken as zeros, whatever they hold.
        image_token_id: Marks the image tokens in ``input_ids``.
        strength: beta.
        start_ratio: Where the tail begins, as a share of the completion; 1 - gamma,
            see :func:`start_ratio_of`.
        top_ratio: kappa, the share of the tail that passes the gate.
        schedule: ``"linear"``, ``"exponential"`` or ``"step"``, which the released
            code spells ``"step-function"``.
        gated: Whether compensation is limited to the gate.
        num_generations: Rows per group.
        exponent: Used by ``"exponential"``.
        step_ratio: Used by ``"step"``.

    Returns:
        The :class:`AdvantageFactors`.

    Raises:
        ValueError: A shape, schedule or range is wrong, or a state is not finite.

    Example:
        >>> import torch
        >>> states = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
        >>> factors = advantage_factors(
        ...     states, torch.tensor([[7, 1, 2]]), torch.ones(1, 2), 7,
        ...     strength=0.3, start_ratio=0.5, top_ratio=0.2, schedule="linear",
        ...     gated=True, num_generations=8,
        ... )
        >>> factors.intra_factor
        tensor([[1.5000, 0.5000]])
        >>> factors.inter_factor
        tensor([1.])
    """
    if hidden_states.ndim != 3:
        raise ValueError(
            "hidden_states: must have shape (B, P + T, D), got "
            f"{tuple(hidden_states.shape)}."
        )
    image_mask = check_mask(
        input_ids == image_token_id,
        "input_ids",
        tuple(hidden_states.shape[:2]),
        "hidden_states",
    )
    if completion_mask.ndim != 2:
        raise ValueError(
            "completion_mask: must have shape (B, T), got "
            f"{tuple(completion_mask.shape)}."
        )
    prototype = visual_prototype(hidden_states, image_mask)
    states = completion_states(hidden_states, completion_mask.shape[1])
    return factors_from_cosines(
        visual_cosine(states, prototype, completion_mask=completion_mask),
        completion_mask,
        has_image=image_mask.any(dim=1),
        strength=strength,
        start_ratio=start_ratio,
        top_ratio=top_ratio,
        schedule=schedule,
        gated=gated,
        num_generations=num_generations,
        exponent=exponent,
        step_ratio=step_ratio,
    )


@torch.no_grad()
def factors_from_cosines(
    cosines: Tensor,
    completion_mask: Tensor,
    *,
    strength: float,
    start_ratio: float,
    top_ratio: float,
    schedule: str,
    gated: bool,
    num_generations: int,
    exponent: float = 2.0,
    step_ratio: float = 0.5,
    has_image: Tensor | None = None,
) -> AdvantageFactors:
    """The released code's factors, from cosines to the visual prototype.

    Args:
        cosines: Cosine of each completion token to its row's prototype, (B, T).
        completion_mask: bool or 0/1, (B, T), True on real tokens. Cosines outside
            it count as 0.
        strength: See :func:`advantage_factors`, as for all that follow but one.
        start_ratio: See there.
        top_ratio: See there.
        schedule: See there.
        gated: See there.
        num_generations: See there.
        exponent: See there.
        step_ratio: See there.
        has_image: Optional bool, (B,); the cosines of rows without an image count
            as 0 and their weights are 0. Without it every row has one.

    Returns:
        The :class:`AdvantageFactors`.

    Raises:
        ValueError: A shape, schedule or range is wrong.

    Example:
        >>> import torch
        >>> factors = factors_from_cosines(
        ...     torch.tensor([[0.5, -0.5, 0.0], [0.5, 0.1, 0.0]]),
        ...     torch.tensor([[1, 1, 1], [1, 1, 0]]),
        ...     strength=0.0, start_ratio=0.5, top_ratio=0.2, schedule="linear",
        ...     gated=True, num_generations=2,
        ... )
        >>> factors.inter_factor
        tensor([1.5000, 0.9000])
    """
    values = check_rows(cosines, "cosines")
    shape = tuple(values.shape)
    mask = check_mask(completion_mask, "completion_mask", shape, "cosines")
    if has_image is None:
        has_image = mask.new_ones(shape[0])
    has_image = check_mask(has_image, "has_image", shape[:1], "cosines")
    if num_generations < 1:
        raise ValueError(f"num_generations: must be at least 1, got {num_generations}.")

    # Departure 2: one range for the whole batch, in which padding counts as cosine 0.
    cosine = torch.where(mask & has_image[:, None], values, 0)
    lowest, highest = cosine.amin(), cosine.amax()
    focus = (cosine - lowest) / (highest - lowest + _EPS)

    compensation = strength * _schedule(mask, schedule, exponent, step_ratio)
    if gated:
        gate = _gate(focus, mask, start_ratio, top_ratio).to(focus.dtype)
    else:
        gate = torch.ones_like(focus)

    weights = focus * (1 + compensation * gate)
    # Departure 3: these min-maxed weights are also what trajectories are compared by.
    normalized = row_min_max(weights, mask & has_image[:, None], _EPS)
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    total = row_sum(normalized, mask)
    psi = (normalized - total / count).to(focus.dtype)
    return AdvantageFactors(
        cosine=cosine,
        focus=focus,
        compensation=compensation,
        gate=gate,
        intra_normalized=normalized,
        intra_factor=torch.where(mask, (1 + psi).clamp(*TOKEN_CLAMP), 1),
        inter_factor=_inter_factor(total[:, 0].to(focus.dtype), num_generations),
    )


def _schedule(
    mask: Tensor, schedule: str, exponent: float, step_ratio: float
) -> Tensor:
    """The schedule over t/(T - 1) with t from 0, (B, T), 0 outside the mask."""
    if schedule not in _SCHEDULES:
        raise ValueError(f"schedule: must be one of {_SCHEDULES}, got {schedule!r}.")
    # Departure 7: from 0 at the first token to 1 at the last; Eq. 5 starts at 1/T.
    number, count = token_numbers(mask)
    progress = (number - 1).double() / (count - 1).clamp(min=1)
    if schedule == "exponential":
        progress = progress**exponent
    elif schedule != "linear":
        progress = (progress >= step_ratio).double()
    return torch.where(mask, progress, 0).float()


def _gate(focus: Tensor, mask: Tensor, start_ratio: float, top_ratio: float) -> Tensor:
    """Tail tokens that reach the score of the k-th best of the tail."""
    for name, ratio in (("start_ratio", start_ratio), ("top_ratio", top_ratio)):
        if not 0 <= ratio <= 1:
            raise ValueError(f"{name}: must be in [0, 1], got {ratio}.")
    # Floors of float64 products, on purpose: 0.29 of 100 tokens are 28 here, and 29 in
    # vgpo.method.compensation, which counts in fractions.
    number, count = token_numbers(mask)
    start = (count.double() * start_ratio).floor()
    in_tail = mask & (number > start)
    tail_length = in_tail.sum(dim=1, keepdim=True)
    kept = (tail_length.double() * top_ratio).floor().long().clamp(min=1)
    tail = torch.where(in_tail, focus, -torch.inf)
    # A threshold, not a ranking: all that tie with the last winner pass as well.
    ranked = tail.sort(dim=1, descending=True).values
    return in_tail & (tail >= ranked.gather(1, kept - 1))


def _inter_factor(totals: Tensor, num_generations: int) -> Tensor:
    """1 + phi over runs of adjacent rows; 1 for the rows left over."""
    # Departure 1: whoever stands next to each other is a group. Shuffled or cut batches
    # compare answers to different prompts.
    rows = len(totals)
    size = max(1, min(num_generations, rows))
    full = rows // size * size
    runs = totals[:full].view(-1, size)
    normalized = row_min_max(runs, torch.ones_like(runs, dtype=torch.bool), _EPS)
    phi = normalized - normalized.mean(dim=1, keepdim=True)
    factor = torch.ones_like(totals)
    factor[:full] = (1 + phi.flatten()).clamp(*TRAJECTORY_CLAMP)
    return factor
