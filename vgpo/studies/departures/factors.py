"""The paper's factors with any selection of the departures switched on."""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from vgpo.method._masked import check_mask, check_rows, row_min_max, token_numbers
from vgpo.method.compensation import compensate
from vgpo.method.released import factors_from_cosines, start_ratio_of
from vgpo.method.reweighting import inter_trajectory_weights, intra_trajectory_weights
from vgpo.studies.departures.batches import run_ids
from vgpo.studies.departures.effects import row_normalized

SWITCHES = (
    "groups",
    "focus",
    "accumulation",
    "clamps",
    "start_ratio",
    "schedule",
    "bfloat16",
    "no_image",
)
"""Departures that change the factors: numbers 1-4, 6, 7, 8 (its rounding) and 9."""


ALL = tuple(switch for switch in SWITCHES if switch != "bfloat16")
"""What :mod:`vgpo.method.released` imitates: everything but the rounding."""


@torch.no_grad()
def batch_min_max(
    cosines: Tensor, mask: Tensor, batches: Sequence[Tensor], padded: bool = True
) -> Tensor:
    r"""Focus as the released code scales it, over each micro-batch.

    .. math:: \rho = \frac{S - \min(0, S_{\min})}{\max(0, S_{\max}) - \min(0, S_{\min})}

    The zeros are those of the padding.

    Args:
        cosines: Cosines to the prototype, (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.
        batches: From :func:`micro_batches`.
        padded: Whether the padding's zeros take part.

    Returns:
        (B, T) float32 in [0, 1], 0 outside the mask.

    Raises:
        ValueError: A shape does not fit.

    Example:
        >>> import torch
        >>> batch_min_max(
        ...     torch.tensor([[0.25, 0.5]]), torch.ones(1, 2), [torch.tensor([0])]
        ... )
        tensor([[0.5000, 1.0000]])
    """
    values = check_rows(cosines, "cosines")
    mask = check_mask(mask, "mask", tuple(values.shape), "cosines")
    focus = torch.zeros_like(values)
    for rows in batches:
        real = mask[rows]
        flat = torch.where(real, values[rows], 0).flatten()[None]
        counted = real.flatten()[None]
        if padded:
            # At least one zero, also where no row of the micro-batch is padded.
            flat = torch.cat([flat, flat.new_zeros(1, 1)], dim=1)
            counted = torch.ones_like(flat, dtype=torch.bool)
        scaled = row_min_max(flat, counted)[0, : real.numel()].view(real.shape)
        focus[rows] = torch.where(real, scaled, 0)
    return focus


@torch.no_grad()
def advantage_factors_with(
    switches: Collection[str],
    cosines: Tensor,
    mask: Tensor,
    group_ids: Tensor,
    batches: Sequence[Tensor],
    *,
    has_image: Tensor | None = None,
    strength: float = 0.3,
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
    num_generations: int = 8,
) -> tuple[Tensor, Tensor]:
    """The two factors of Eq. 12 with a selection of the departures.

    Args:
        switches: Some of :data:`SWITCHES`; ``()`` is the paper, :data:`ALL` the
            released code.
        cosines: Cosines to the prototype, (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.
        group_ids: Prompt of each row, (B,).
        batches: From :func:`micro_batches`.
        has_image: bool, (B,); by default every row has one.
        strength: beta.
        tail_ratio: gamma. With the switch ``"start_ratio"`` the same number says
            where the tail starts.
        top_ratio: kappa.
        num_generations: Rows of a run.

    Returns:
        ``(1 + psi, 1 + phi)``, (B, T) and (B,) float32; 1 outside the mask.

    Raises:
        ValueError: A switch is unknown or a shape does not fit.

    Example:
        >>> import torch
        >>> cosines, mask = torch.tensor([[0.9, 0.1], [0.5, 0.3]]), torch.ones(2, 2)
        >>> same, batches = torch.tensor([0, 0]), [torch.tensor([0, 1])]
        >>> advantage_factors_with((), cosines, mask, same, batches)[1]
        tensor([1.5000, 0.5000])
        >>> advantage_factors_with(("clamps",), cosines, mask, same, batches)[1]
        tensor([1.5000, 0.9000])
    """
    unknown = set(switches) - set(SWITCHES)
    if unknown:
        raise ValueError(f"switches: must be of {SWITCHES}, got {sorted(unknown)}.")
    values = check_rows(cosines, "cosines")
    mask = check_mask(mask, "mask", tuple(values.shape), "cosines")
    if has_image is None:
        has_image = mask.new_ones(len(mask))
    seen = mask & check_mask(has_image, "has_image", (len(mask),), "cosines")[:, None]
    values = torch.where(seen, values, 0)

    focus = batch_min_max(values, mask, batches) if "focus" in switches else None
    focus = torch.where(seen, (values + 1) / 2 if focus is None else focus, 0)
    if "bfloat16" in switches:
        focus = focus.bfloat16().to(values.dtype)

    start = tail_ratio if "start_ratio" in switches else start_ratio_of(tail_ratio)
    if "schedule" in switches:
        theirs = factors_from_cosines(
            focus,
            mask,
            strength=strength,
            start_ratio=start,
            top_ratio=top_ratio,
            schedule="linear",
            gated=True,
            num_generations=num_generations,
        )
        weights = focus * (1 + theirs.compensation * theirs.gate)
    else:
        weights = compensate(focus, mask, strength, 1 - start, top_ratio)

    psi = intra_trajectory_weights(weights, mask)
    if "accumulation" in switches:
        weights = row_normalized(weights, mask)
    # The package leaves rows of weight 0 out of a group. One weight next to nothing
    # lets a row in: always one that has an image (min-maxed weights can all be 0),
    # and one that has none where the departure asks for it.
    counted = mask if "no_image" in switches else seen
    first = counted & (token_numbers(mask)[0] == 1)
    weights = torch.where(first & (weights == 0), 1e-30, weights)
    ids = run_ids(batches, num_generations) if "groups" in switches else group_ids
    phi = inter_trajectory_weights(weights, mask, ids)

    token, trajectory = 1 + psi, 1 + phi
    if "clamps" in switches:
        token, trajectory = token.clamp(0.1, 2), trajectory.clamp(0.9, 2)
    return token, trajectory


def factor_changes(
    selections: Mapping[str, Collection[str]],
    cosines: Tensor,
    mask: Tensor,
    group_ids: Tensor,
    batches: Sequence[Tensor],
    **settings,
) -> pd.DataFrame:
    """How far selections of departures move a token's factor from the paper's.

    Args:
        selections: Name of each selection of :data:`SWITCHES`.
        cosines: See :func:`advantage_factors_with`, as for all that follow.
        mask: See there.
        group_ids: See there.
        batches: See there.
        **settings: Its keyword arguments.

    Returns:
        One row per selection and prompt: ``selection``, ``prompt``, ``change``
        (mean over the prompt's tokens of the absolute difference of
        (1 + psi)(1 + phi)) and ``factor`` (mean of that factor).

    Raises:
        ValueError: See :func:`advantage_factors_with`.

    Example:
        >>> import torch
        >>> cosines, mask = torch.tensor([[0.9, 0.1], [0.5, 0.3]]), torch.ones(2, 2)
        >>> same, batches = torch.tensor([0, 0]), [torch.tensor([0, 1])]
        >>> changes = factor_changes(
        ...     {"floor": ["clamps"]}, cosines, mask, same, batches
        ... )
        >>> changes["change"].round(2).tolist()
        [0.2]
    """
    mask = mask.bool()
    arguments = (cosines, mask, group_ids, batches)
    prompt = group_ids[:, None].expand_as(mask)[mask].numpy()

    def factor(switches):
        token, trajectory = advantage_factors_with(switches, *arguments, **settings)
        return (token * trajectory[:, None])[mask]

    paper = factor(())
    tables = []
    for name, switches in selections.items():
        theirs = factor(switches)
        table = pd.DataFrame(
            {
                "selection": name,
                "prompt": prompt,
                "change": (theirs - paper).abs().numpy(),
                "factor": theirs.numpy(),
            }
        )
        tables.append(table.groupby(["selection", "prompt"], as_index=False).mean())
    return pd.concat(tables, ignore_index=True)
