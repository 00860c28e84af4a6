"""How the image's share falls over many answers, and what the fall is made of."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vgpo.method._masked import check_mask
from vgpo.stats.forgetting.checks import checked_masses, late_share, paired
from vgpo.stats.intervals import RESAMPLES, Interval, resampled_ends
from vgpo.stats.numbers import numbers


class DecaySplit(NamedTuple):
    """What the fall of image mass from early to late is made of.

    Attributes:
        total: Mean image mass of late tokens less that of early ones.
        fewer_looks: The part due to a smaller share of tokens that need the image:
            nothing left to look at.
        weaker_looks: The part due to less mass at the tokens that need it: should
            have looked, and did not.
        other_tokens: The part due to less mass at tokens that do not need it.

    The three parts sum to the total.
    """

    total: Interval
    fewer_looks: Interval
    weaker_looks: Interval
    other_tokens: Interval


def decay_curve(
    profile: Tensor | np.ndarray,
    *,
    clusters: Sequence[object] | np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean over responses at each stretch of progress, with a 95 % band.

    Args:
        profile: (B, bins): a profile of one kind of mass.
        clusters: (B,) which question each response belongs to, where several share
            one: whole questions are then drawn.
        resamples: Bootstrap resamples of responses.
        seed: Seed of the resampling.

    Returns:
        One row per stretch: ``progress`` (its middle, 0-100 %), ``mean``, ``low``,
        ``high``, ``count`` of responses or clusters. Rows of NaN are left out; the
        band is NaN for fewer than two of them, and where few have all the same value.

    Raises:
        ValueError: ``profile`` is not two-dimensional, or ``clusters`` differ in
            number.

    Example:
        >>> decay_curve(np.array([[0.4, 0.1], [0.6, 0.3]]))[["progress", "mean"]]
           progress  mean
        0      25.0   0.5
        1      75.0   0.2
    """
    curves = numbers(profile, "profile")
    if curves.ndim != 2:
        raise ValueError(f"profile: must have shape (B, bins), got {curves.shape}.")
    known = ~np.isnan(curves).any(axis=1)
    owner = np.arange(len(curves))
    if clusters is not None:
        owner = paired(np.zeros(len(curves)), clusters, "clusters")[1]
    names, owner = np.unique(owner[known], return_inverse=True)
    curves = curves[known]
    bins = curves.shape[1]
    mean = curves.mean(axis=0) if len(curves) else np.full(bins, np.nan)
    sizes = np.bincount(owner, minlength=len(names))
    sums = [np.bincount(owner, c, minlength=len(names)) for c in curves.T]

    def means(rows: np.ndarray) -> np.ndarray:
        totals = np.stack([stretch[rows].sum(axis=1) for stretch in sums], axis=1)
        return np.asarray(totals / sizes[rows].sum(axis=1)[:, None])

    low, high = resampled_ends(len(names), means, resamples, seed)
    return pd.DataFrame(
        {
            "progress": (np.arange(bins) + 0.5) * 100 / bins,
            "mean": mean,
            "low": np.broadcast_to(low, bins),
            "high": np.broadcast_to(high, bins),
            "count": len(names),
        }
    )


def split_decay(
    image_mass: Tensor,
    needs_image: Tensor,
    completion_mask: Tensor,
    split: float = 0.5,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> DecaySplit:
    r"""Splits the fall of image mass by whether there was anything to look at.

    Of the early and of the late tokens (over all responses), let p be the share that
    needs the image, a its mean image mass, and b that of the others, so that the mean
    is m = p a + (1 - p) b. With a bar for the mean of early and late,

    .. math::
        m_L - m_E ={}
        & \underbrace{(p_L - p_E)(\bar a - \bar b)}_{\text{fewer looks}} \\
        & + \underbrace{\bar p\,(a_L - a_E)}_{\text{weaker looks}} \\
        & + \underbrace{(1 - \bar p)(b_L - b_E)}_{\text{other tokens}}

    the decomposition of E. Kitagawa (1955), "Components of a difference between two
    rates", Journal of the American Statistical Association 50(272).

    Args:
        image_mass: (B, T) float, at least 0.
        needs_image: bool or 0/1, (B, T), True on tokens that depend on the image.
        completion_mask: bool or 0/1, (B, T), True on real tokens.
        split: In (0, 1), where late begins; as in :func:`accumulation_ratio`.
        resamples: Bootstrap resamples of responses.
        seed: Seed of the resampling.

    Returns:
        The total and its three parts. The parts are NaN where early or late has no
        token that needs the image, or none that does not; the total, where one of
        them has no token at all.

    Raises:
        ValueError: A shape or range is wrong, or a mass is negative.

    Example:
        >>> import torch
        >>> mass = torch.tensor([[0.6, 0.2, 0.6, 0.2, 0.6, 0.2, 0.2, 0.2]] * 2)
        >>> needs = torch.tensor([[1, 0, 1, 0, 1, 0, 0, 0]] * 2)
        >>> parts = split_decay(mass, needs, torch.ones(2, 8))
        >>> [round(part.value, 2) for part in parts]  # as strong, but fewer
        [-0.1, -0.1, 0.0, 0.0]
    """
    mass, mask = checked_masses(image_mass, completion_mask)
    needs = check_mask(needs_image, "needs_image", tuple(mask.shape), "image_mass")
    late = late_share(mask, split)
    weights = torch.stack([(1 - late) * mask, late * mask])
    kinds = torch.stack([needs & mask, ~needs & mask]).double()
    # (B, early/late, needs/not): tokens, and their mass.
    tokens = torch.einsum("sbt,kbt->bsk", weights, kinds).numpy(force=True)
    sums = torch.einsum("sbt,kbt->bsk", weights * mass, kinds).numpy(force=True)

    def parts(rows: np.ndarray) -> np.ndarray:
        count, total = tokens[rows].sum(axis=1), sums[rows].sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / count
            share = count[..., 0] / count.sum(axis=-1)
            whole = total.sum(axis=-1) / count.sum(axis=-1)
        change, middle = mean[:, 1] - mean[:, 0], mean.mean(axis=1)
        share_change, share_middle = share[:, 1] - share[:, 0], share.mean(axis=1)
        split_up = np.stack(
            [
                share_change * (middle[:, 0] - middle[:, 1]),
                share_middle * change[:, 0],
                (1 - share_middle) * change[:, 1],
            ],
            axis=1,
        )
        return np.concatenate([whole[:, 1:] - whole[:, :1], split_up], axis=1)

    count = len(tokens)
    values = parts(np.arange(count)[None])[0]
    low, high = resampled_ends(count, parts, resamples, seed)
    low, high = np.broadcast_to(low, 4), np.broadcast_to(high, 4)
    return DecaySplit(
        *(
            Interval(float(v), float(lo), float(hi), count)
            for v, lo, hi in zip(values, low, high, strict=True)
        )
    )
