"""Arithmetic over the real tokens of padded rows, shared by the mathematics."""

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

# A ratio such as 0.29 is meant as 29/100, not as the binary number next to it:
# 0.29 * 100 is 28.999999999999996 and would lose a token to floor().
_LARGEST_DENOMINATOR = 1_000_000


def exact_ratio(value: float, name: str, *, positive: bool = False) -> Fraction:
    """The fraction a ratio stands for, with a denominator of at most 10^6."""
    if not 0 <= value <= 1 or (positive and value == 0):
        interval = "(0, 1]" if positive else "[0, 1]"
        raise ValueError(f"{name}: must be in {interval}, got {value}.")
    return Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)


def check_alignment(alignment: str) -> None:
    """Refuses what is neither of the two ways to book a state on a token."""
    if alignment not in ("token", "prediction"):
        raise ValueError(
            f"alignment: must be 'token' or 'prediction', got {alignment!r}."
        )


def check_tensor(value: Any, name: str) -> None:
    """Refuses a list or an array where a tensor is due, and says how to make one."""
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name}: must be a torch.Tensor, got {type(value).__name__}; "
            "torch.as_tensor makes one of a list or an array."
        )


def check_zeros_and_ones(mask: Tensor, name: str) -> None:
    """Refuses token ids, lengths or weights where a mask is due.

    On a CPU only: elsewhere the look at the values would make the program wait for the
    device at every call.
    """
    if mask.device.type != "cpu" or mask.dtype == torch.bool:
        return
    odd = mask[(mask != 0) & (mask != 1)]
    if len(odd):
        raise ValueError(
            f"{name}: must be True or 1 at the tokens that count and False or 0 "
            f"elsewhere, got {odd[0].item()}; of token ids, `ids == image_token_id` "
            "makes a mask."
        )


def check_mask(mask: Tensor, name: str, shape: tuple[int, ...], like: str) -> Tensor:
    """``mask`` as bool, after checking that it belongs to a tensor of ``shape``."""
    check_tensor(mask, name)
    if tuple(mask.shape) != shape:
        raise ValueError(
            f"{name}: shape {tuple(mask.shape)} does not match {like}, which needs "
            f"{shape}."
        )
    check_zeros_and_ones(mask, name)
    return mask.bool()


def check_rows(values: Tensor, name: str) -> Tensor:
    """``values`` (B, T) in float32, or in float64 if that is what they are."""
    check_tensor(values, name)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(
            f"{name}: must have shape (B, T) with T at least 1, got "
            f"{tuple(values.shape)}."
        )
    return at_least_float32(values.detach())


def at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def token_numbers(mask: Tensor) -> tuple[Tensor, Tensor]:
    """t = 1..T_i at the real tokens of each row (B, T), and T_i as (B, 1)."""
    # A running count, so padding may stand on either side, or in between.
    return mask.cumsum(dim=1), mask.sum(dim=1, keepdim=True)


def row_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the real tokens of each row, (B, 1) float64.

    In float32 the last bit of a sum depends on where the padding stands, and a
    min-max over rows that are otherwise equal would blow it up to 1.
    """
    return torch.where(mask, values, 0).sum(dim=1, keepdim=True, dtype=torch.float64)


def row_min_max(values: Tensor, mask: Tensor, eps: float = 0.0) -> Tensor:
    """Min-max of each row over its real tokens; 0 elsewhere and if constant."""
    # Padding is set to the other end of the range, so that it never wins; a row without
    # real tokens then has its ends the wrong way round, and is caught by the last line.
    lowest = torch.where(mask, values, torch.inf).amin(dim=1, keepdim=True)
    highest = torch.where(mask, values, -torch.inf).amax(dim=1, keepdim=True)
    scaled = (values - lowest) / (highest - lowest + eps)
    return torch.where(mask & (highest > lowest), scaled, 0)
