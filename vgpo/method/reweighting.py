"""Advantages reshaped by vision, within and across trajectories (Eq. 7-12).

Source: Visually-Guided Policy Optimization for Multimodal Reasoning,
arXiv 2604.09349. Nothing here carries a gradient. Results are float32 (float64
for float64 input); sums over a row are accumulated in float64, so that they do not
depend on where its padding stands.

A row without an image (all of its weights 0) and a row without real tokens keep
their advantage: both terms are 0 there, and the group's statistics leave them out.
"""

import torch
from torch import Tensor

from vgpo.method._masked import (
    at_least_float32,
    check_mask,
    check_rows,
    check_tensor,
    row_min_max,
    row_sum,
)


@torch.no_grad()
def intra_trajectory_weights(weights: Tensor, completion_mask: Tensor) -> Tensor:
    r"""Centred weight of each token within its own trajectory (Eq. 7-8).

    .. math::
        \hat w_{i,t} &= \frac{w_{i,t} - \min_t w_{i,t}}
                             {\max_t w_{i,t} - \min_t w_{i,t}} \\
        \psi_{i,t} &= \hat w_{i,t} - \frac{1}{T_i} \sum_t \hat w_{i,t}

    Args:
        weights: Compensated weights (Eq. 5), (B, T).
        completion_mask: bool or 0/1, (B, T), True on real tokens; only they enter
            minimum, maximum and mean.

    Returns:
        psi, (B, T) in (-1, 1), zero mean over the real tokens of each row, 0
        outside the mask. All 0 for a row of one token or of equal weights.

    Raises:
        ValueError: A shape does not fit.

    Example:
        >>> import torch
        >>> weights = torch.tensor([[0.25, 0.75, 0.5, 9.0]])
        >>> mask = torch.tensor([[True, True, True, False]])
        >>> intra_trajectory_weights(weights, mask)
        tensor([[-0.5000,  0.5000,  0.0000,  0.0000]])
    """
    values = check_rows(weights, "weights")
    mask = check_mask(
        completion_mask, "completion_mask", tuple(values.shape), "weights"
    )
    normalized = row_min_max(values, mask)
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    centred = normalized - row_sum(normalized, mask) / count
    return torch.where(mask, centred, 0).to(values.dtype)


@torch.no_grad()
def inter_trajectory_weights(
    weights: Tensor,
    completion_mask: Tensor,
    group_ids: Tensor,
    accumulation: str = "sum",
) -> Tensor:
    r"""Centred visual accumulation of each trajectory in its group (Eq. 9-11).

    .. math::
        s_i &= \sum_t w_{i,t} \\
        \hat s_i &= \frac{s_i - \min_j s_j}{\max_j s_j - \min_j s_j} \\
        \phi_i &= \hat s_i - \frac{1}{G} \sum_j \hat s_j

    with j over the G rollouts of the same prompt. Rows without an image and rows
    without real tokens are not counted among the G.

    Args:
        weights: Compensated weights (Eq. 5), (B, T), not the min-maxed ones.
        completion_mask: bool or 0/1, (B, T), True on real tokens.
        group_ids: Integers, (B,); rows with the same one answer the same prompt.
            Any values, in any order, groups of any sizes.
        accumulation: ``"sum"`` is Eq. 9. ``"mean"`` divides by :math:`T_i`, because the
            sum is nearly a measure of length.

    Returns:
        phi, (B,) in (-1, 1), zero mean over the counted rows of each group. 0 for
        a group of one, a group of equal accumulations, and rows not counted.

    Raises:
        ValueError: A shape does not fit, ``group_ids`` are not integers, or the
            accumulation is unknown.

    Example:
        >>> import torch
        >>> weights = torch.tensor([[0.75, 0.75], [0.25, 0.25], [0.5, 0.5]])
        >>> inter_trajectory_weights(
        ...     weights, torch.ones(3, 2), torch.tensor([7, 7, 7])
        ... )
        tensor([ 0.5000, -0.5000,  0.0000])
    """
    values = check_rows(weights, "weights")
    mask = check_mask(
        completion_mask, "completion_mask", tuple(values.shape), "weights"
    )
    check_tensor(group_ids, "group_ids")
    if tuple(group_ids.shape) != (len(values),):
        raise ValueError(
            f"group_ids: shape {tuple(group_ids.shape)} does not match weights, which "
            f"needs {(len(values),)}."
        )
    if group_ids.is_floating_point() or group_ids.is_complex():
        raise ValueError(f"group_ids: must be integers, got {group_ids.dtype}.")
    if accumulation not in ("sum", "mean"):
        raise ValueError(
            f"accumulation: must be 'sum' or 'mean', got {accumulation!r}."
        )

    accumulated = row_sum(values, mask)[:, 0]
    if accumulation == "mean":
        accumulated = accumulated / mask.sum(dim=1).clamp(min=1)
    # Rounded once: float64 noise between equal rows must not become a ranking.
    accumulated = accumulated.to(values.dtype).double()
    # All weights are 0 only without an image: otherwise a focus score of exactly 0
    # takes a state that points straight away from the prototype, at every token.
    counted = (mask & (values != 0)).any(dim=1)
    return _group_centred(accumulated, counted, group_ids).to(values.dtype)


@torch.no_grad()
def reweight_advantages(advantages: Tensor, psi: Tensor, phi: Tensor) -> Tensor:
    r"""Visually guided advantages of every token (Eq. 12).

    .. math:: \hat A^V_{i,t} = \hat A_i (1 + \psi_{i,t}) (1 + \phi_i)

    Both factors lie in (0, 2), so no advantage changes its sign.

    Args:
        advantages: Group-relative advantages, (B,).
        psi: From :func:`intra_trajectory_weights`, (B, T); zeros switch it off.
        phi: From :func:`inter_trajectory_weights`, (B,); zeros switch it off.

    Returns:
        (B, T) float32 without gradient.

    Raises:
        ValueError: A shape does not fit.

    Example:
        >>> import torch
        >>> psi = torch.tensor([[-0.5, 0.5]])
        >>> reweight_advantages(torch.tensor([-1.0]), psi, torch.tensor([0.25]))
        tensor([[-0.6250, -1.8750]])
    """
    token = check_rows(psi, "psi")
    for name, values in (("advantages", advantages), ("phi", phi)):
        check_tensor(values, name)
        if tuple(values.shape) != (len(token),):
            raise ValueError(
                f"{name}: shape {tuple(values.shape)} does not match psi, which needs "
                f"{(len(token),)}."
            )
    row = at_least_float32(advantages.detach()) * (1 + at_least_float32(phi.detach()))
    return row[:, None] * (1 + token)


def _group_centred(values: Tensor, counted: Tensor, group_ids: Tensor) -> Tensor:
    """Min-max, then minus the mean, over the counted rows of each group."""
    # Ids may be any integers, on any device: sorted, a new group starts wherever one
    # differs from the id before it, and the running count of starts numbers the groups
    # from 0. (unique() would do the same, and wait for a GPU to say how many.)
    order = group_ids.argsort(stable=True)
    ids = group_ids[order]
    starts = torch.zeros_like(ids, dtype=torch.long)
    starts[1:] = ids[1:] != ids[:-1]
    group = torch.empty_like(starts).scatter(0, order, starts.cumsum(0))

    # Every row gets its group's result: one place per row is room for any number of
    # groups, so nothing has to be counted first.
    def reduce(source: Tensor, initial: float, how: str) -> Tensor:
        start = torch.full_like(values, initial)
        return start.scatter_reduce(0, group, source, how)[group]

    lowest = reduce(torch.where(counted, values, torch.inf), torch.inf, "amin")
    highest = reduce(torch.where(counted, values, -torch.inf), -torch.inf, "amax")
    spread = counted & (highest > lowest)
    normalized = torch.where(spread, (values - lowest) / (highest - lowest), 0)
    size = reduce(counted.to(values.dtype), 0, "sum").clamp(min=1)
    mean = reduce(normalized, 0, "sum") / size
    return torch.where(counted, normalized - mean, 0)
