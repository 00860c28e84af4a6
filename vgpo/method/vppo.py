"""VPPO: only the tokens that depend on the image most are learnt (arXiv 2510.09285).

Facts are those of the released code (huaixuheqing/VPPO-RL, commit a23c54b).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vgpo.method._masked import exact_ratio, token_numbers
from vgpo.method.dependence import check_view, k3
from vgpo.method.plain import DAPO_LOSS
from vgpo.method.shaping import LossStep, Method, Rollouts, Shaped, register
from vgpo.method.statistics import (
    correlation_within_groups,
    masked_mean,
    masked_std,
)

STATISTICS = ("group", "batch", "micro_batch")


@register("vppo")
@dataclass(frozen=True)
class VPPO(Method):
    r"""VPPO: a mask over tokens and a factor per trajectory.

    With :math:`d_t` the estimate :func:`~vgpo.method.dependence.k3` of the rollout
    policy before a masked image, of each response the
    :math:`\lceil 0.4\, T \rceil` tokens of largest d keep their advantage and the
    others have 0. The trajectory's factor grows with its mean d, see
    :func:`trajectory_factors`. Rows without an image keep advantages as they are.

    A non-negative factor goes through the clipped loss, so both are exactly an
    advantage. The loss goes on averaging over all tokens, as the release's does: what
    is masked is lost, and nothing is scaled up for it.

    Added to the loss is :math:`-\eta` times the mean log-probability of the sampled
    tokens of a micro-batch, which the release calls an entropy.

    Departure: the release takes its statistics over what happens to share a device
    and a micro-batch, so factors change with the number of devices. Here they are
    over the rollouts of a prompt, unless ``statistic`` says otherwise.

    Attributes:
        top_ratio: Share of a response's tokens that are kept, in (0, 1]. Scripts:
            0.4.
        floor: Least factor of a trajectory, in (0, 1]; 1 switches factors off.
            Scripts: 0.9.
        entropy: η, at least 0. Scripts: 0.06.
        statistic: What least, largest and mean dependence are taken over:
            ``"group"``, the rollouts of a prompt; ``"batch"``, all of a generation,
            as in the paper's text; ``"micro_batch"``, as released.
        micro_batch: Rows that share a mean, with ``"micro_batch"``. Scripts: 16.
        mini_batch: Rows that share least and largest; None: all. Scripts: what
            128 prompts of 8 rollouts leave on each device.
        probability: That a square is blacked out, in [0, 1]. Scripts: 0.5.
        patch: Side of a square, in pixels of the processed picture.

    Raises:
        ValueError: A value is out of range; the message names it.

    Example:
        >>> VPPO(top_ratio=0.0)
        Traceback (most recent call last):
        ...
        ValueError: top_ratio: must be in (0, 1], got 0.0.
    """

    preset: ClassVar[Mapping[str, Any]] = {**DAPO_LOSS, "delta": 3.0}

    top_ratio: float = 0.4
    floor: float = 0.9
    entropy: float = 0.06
    statistic: str = "group"
    micro_batch: int = 16
    mini_batch: int | None = None
    probability: float = 0.5
    patch: int = 14

    def __post_init__(self) -> None:
        exact_ratio(self.top_ratio, "top_ratio", positive=True)
        if not 0 < self.floor <= 1:
            raise ValueError(f"floor must be in (0, 1], got {self.floor}")
        if not 0 <= self.entropy < math.inf:
            raise ValueError(f"entropy must be at least 0, got {self.entropy}")
        if self.statistic not in STATISTICS:
            raise ValueError(
                f"statistic must be one of {STATISTICS}, got {self.statistic!r}"
            )
        for name in ("micro_batch", "mini_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        check_view(self.probability, self.patch)

    @property
    def by_group(self) -> bool:
        return self.statistic == "group"

    @property
    def signals(self) -> frozenset[str]:
        if self.top_ratio == 1 and self.floor == 1:
            return frozenset()
        return frozenset({"log_probs", "masked_log_probs"})

    @property
    def signal_settings(self) -> Mapping[str, Mapping[str, Any]]:
        view = {"probability": self.probability, "patch": self.patch}
        return {"masked_log_probs": {**view, "per": "row", "on": "pixels"}}

    def shape(self, rollouts: Rollouts) -> Shaped:
        if not self.signals:
            return Shaped(rollouts.advantages)
        mask, has_image = rollouts.mask, rollouts.has_image
        depends = k3(
            rollouts.signals["masked_log_probs"], rollouts.signals["log_probs"]
        )
        depends = torch.where(mask, depends, 0)
        kept = most_dependent(depends, mask, self.top_ratio) | ~has_image[:, None]
        spread_over, mean_over = self._segments(rollouts)
        factors = trajectory_factors(
            depends,
            mask,
            has_image,
            spread_over=spread_over,
            mean_over=mean_over,
            floor=self.floor,
        )
        weights = (kept & mask) * factors[:, None]
        seen = mask & has_image[:, None]
        rows = has_image & mask.any(dim=1)
        return Shaped(
            rollouts.advantages[:, None] * weights,
            logs={
                "vppo/dependence": masked_mean(depends, seen),
                "vppo/kept_dependence": masked_mean(depends, seen & kept),
                "vppo/kept_share": masked_mean(kept.float(), seen),
                "vppo/factor_std": masked_std(factors, rows),
                "vppo/factor_max": float(factors.max()),
                "vppo/factor_length_corr": correlation_within_groups(
                    factors, mask.sum(dim=1), rows, rollouts.group_ids
                ),
            },
        )

    def _segments(self, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """Which rows share least and largest, and which share a mean, (B,) each."""
        place = torch.arange(len(rollouts.mask), device=rollouts.mask.device)
        if self.statistic == "group":
            return rollouts.group_ids, rollouts.group_ids
        if self.statistic == "batch":
            return place * 0, place * 0
        mini = len(place) if self.mini_batch is None else self.mini_batch
        return place // mini, place // self.micro_batch

    def extra_loss(self, step: LossStep) -> Tensor | None:
        if not self.entropy:
            return None
        total = torch.where(step.mask, step.log_probs, 0).sum()
        return -self.entropy * total / step.mask.sum().clamp(min=1)


@torch.no_grad()
def most_dependent(depends: Tensor, mask: Tensor, top_ratio: float) -> Tensor:
    """The tokens of each response that depend on the image most.

    Args:
        depends: (B, T).
        mask: bool, (B, T), True on real tokens.
        top_ratio: In (0, 1], read as the fraction it stands for.

    Returns:
        bool, (B, T): of n tokens, ceil(top_ratio n). Of equal ones the earlier is
        kept.

    Example:
        >>> real = torch.ones(1, 4).bool()
        >>> most_dependent(torch.tensor([[0.1, 0.5, 0.0, 0.5]]), real, 0.25)
        tensor([[False,  True, False, False]])
    """
    top = exact_ratio(top_ratio, "top_ratio", positive=True)
    _, count = token_numbers(mask)
    number = -(-count * top.numerator // top.denominator)
    order = torch.where(mask, depends, -torch.inf).argsort(
        dim=1, descending=True, stable=True
    )
    rank = torch.arange(depends.shape[1], device=depends.device).expand_as(order)
    return torch.zeros_like(mask).scatter(1, order, rank < number) & mask


@torch.no_grad()
def trajectory_factors(
    depends: Tensor,
    mask: Tensor,
    has_image: Tensor,
    *,
    spread_over: Tensor,
    mean_over: Tensor,
    floor: float,
) -> Tensor:
    r"""Factor of each trajectory, of mean 1 over the rows of ``mean_over``.

    .. math::
        s_i &= \tfrac{1}{T_i} \textstyle\sum_t d_{i,t}, \quad
        n_i = \frac{s_i - \min s}{\max s - \min s} \\
        f_i &= b + n_i (c - b), \quad c = b + \frac{1 - b}{\bar n}

    The largest factor, c, is without bound: with one trajectory of 16 above the
    rest, it is b + 16 (1 - b).

    Args:
        depends: (B, T).
        mask: bool, (B, T).
        has_image: bool, (B,). Rows without image, or without tokens, have factor 1
            and enter no statistic.
        spread_over: Integers, (B,): rows with the same one share min and max.
        mean_over: The same, for the mean of n.
        floor: The least factor, b.

    Returns:
        (B,) float32; 1 where all s are equal.

    Example:
        >>> depends = torch.tensor([[0.0], [1.0], [1.0], [2.0]])
        >>> one = torch.zeros(4).long()
        >>> trajectory_factors(depends, torch.ones(4, 1).bool(), torch.ones(4).bool(),
        ...                    spread_over=one, mean_over=one, floor=0.9)
        tensor([0.9000, 1.0000, 1.0000, 1.1000])
    """
    counted = has_image & mask.any(dim=1)
    scores = torch.where(mask, depends, 0).sum(dim=1, dtype=torch.float64)
    scores = scores / mask.sum(dim=1).clamp(min=1)
    lowest = _over(torch.where(counted, scores, torch.inf), spread_over, "amin")
    highest = _over(torch.where(counted, scores, -torch.inf), spread_over, "amax")
    spread = highest - lowest
    varies = counted & (spread > 1e-6)
    scaled = ((scores - lowest) / spread).clamp(0, 1)
    scaled = torch.where(varies, scaled, 0)
    # Rows whose own segment does not vary have n = 0 in the mean, as in the release.
    number = _over(counted.double(), mean_over, "sum").clamp(min=1)
    mean = _over(scaled, mean_over, "sum") / number
    largest = floor + (1 - floor) / (mean + 1e-8)
    factors = floor + scaled * (largest - floor)
    return torch.where(varies, factors, 1).float()


def _over(values: Tensor, segments: Tensor, reduction: str) -> Tensor:
    """Sum, ``amin`` or ``amax`` over each segment's rows, put back to them, (B,)."""
    inverse: Tensor
    _, inverse = torch.unique(segments, return_inverse=True)
    out = values.new_zeros(int(inverse.max()) + 1)
    out = out.scatter_reduce(0, inverse, values, reduction, include_self=False)
    return out[inverse]
