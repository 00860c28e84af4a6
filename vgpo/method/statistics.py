"""Numbers for the log of a run, over the tokens or rows that count."""

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> float:
    """Mean of ``values`` where ``mask`` is True; NaN where it nowhere is.

    Example:
        >>> masked_mean(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([1, 1, 0]).bool())
        2.0
    """
    return float(torch.where(mask, values, 0).sum() / mask.sum())


def masked_std(values: Tensor, mask: Tensor) -> float:
    """Standard deviation of ``values`` where ``mask`` is True, over their number.

    Example:
        >>> masked_std(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([1, 1, 0]).bool())
        1.0
    """
    centred = torch.where(mask, values - masked_mean(values, mask), 0)
    return float((centred.square().sum() / mask.sum()).sqrt())


def correlation_within_groups(
    a: Tensor, b: Tensor, counted: Tensor, group_ids: Tensor
) -> float:
    """Pearson's correlation within each group, averaged over the groups.

    Args:
        a: One number per row, (B,).
        b: Another, (B,).
        counted: bool, (B,): the rows that enter.
        group_ids: Integers, (B,): rows with the same one form a group.

    Returns:
        The mean over the groups in which both vary; NaN if there is none.

    Example:
        >>> a = torch.tensor([1.0, 2.0, 5.0, 4.0])
        >>> b = torch.tensor([2.0, 4.0, 1.0, 3.0])
        >>> rows, groups = torch.ones(4).bool(), torch.tensor([0, 0, 1, 1])
        >>> correlation_within_groups(a, b, rows, groups)
        0.0
    """
    groups: Tensor
    _, groups = torch.unique(group_ids, return_inverse=True)
    number = int(groups.max()) + 1

    def total(values: Tensor) -> Tensor:
        """Sum over the rows of each group that count, (number of groups,)."""
        values = torch.where(counted, values.double(), 0)
        return values.new_zeros(number).index_add(0, groups, values)

    size = total(torch.ones_like(a)).clamp(min=1)

    def centred(values: Tensor) -> tuple[Tensor, Tensor]:
        values = values.double()
        off = torch.where(counted, values - (total(values) / size)[groups], 0)
        # Rounding leaves a constant with a tiny spread, which would correlate with
        # anything.
        return off, total(off * off) > 1e-12 * total(values * values)

    (a, a_varies), (b, b_varies) = centred(a), centred(b)
    correlation = total(a * b) / (total(a * a) * total(b * b)).sqrt()
    return float(correlation[a_varies & b_varies].mean())
