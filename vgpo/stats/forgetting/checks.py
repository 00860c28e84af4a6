"""What the statistics of forgetting ask of what they are given."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from vgpo.method._masked import check_mask, check_rows, exact_ratio, token_numbers
from vgpo.stats.numbers import numbers, share


def checked_masses(
    image_mass: Tensor, completion_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Masses in float64 with 0 outside the mask, and the mask as bool, both (B, T).

    Raises:
        ValueError: A shape is wrong, or a mass is negative.
    """
    mass = check_rows(image_mass, "image_mass").double()
    shape = tuple(mass.shape)
    mask = check_mask(completion_mask, "completion_mask", shape, "image_mass")
    mass = torch.where(mask, mass, 0)
    if (mass < 0).any():
        raise ValueError("image_mass: must not be negative.")
    return mass, mask


def split_ratio(split: float) -> Fraction:
    """Where late begins, exactly, so that no token changes sides by rounding.

    Raises:
        ValueError: It is not in (0, 1).
    """
    share(split, "split")
    return exact_ratio(split, "split")


def late_share(mask: Tensor, split: float) -> Tensor:
    """(B, T) float64 in [0, 1]: which part of each token lies past the split."""
    ratio = split_ratio(split)
    number, length = token_numbers(mask)
    past = number * ratio.denominator - length * ratio.numerator
    return (past.double() / ratio.denominator).clamp(0, 1) * mask


def paired(
    values: Sequence[float] | np.ndarray,
    others: Sequence[object] | np.ndarray,
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Values as float64, and what belongs to each, both (N,).

    Raises:
        ValueError: They differ in length; ``name`` is the second's.
    """
    given, partners = numbers(values, "values"), np.asarray(others)
    if given.ndim != 1 or given.shape != partners.shape:
        raise ValueError(
            f"{name}: need one per value, got shape {partners.shape} for {given.shape}."
        )
    return given, partners
