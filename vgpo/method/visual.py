"""VGPO as a method: focus scores in, advantages of the tokens out (Eq. 5-12).

The paper's form goes through :mod:`vgpo.method.compensation` and
:mod:`vgpo.method.reweighting`, the released code's through
:mod:`vgpo.method.released`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from vgpo.method.compensation import SCHEDULES, compensated_weights
from vgpo.method.plain import DAPO_LOSS
from vgpo.method.released import (
    TOKEN_CLAMP,
    TRAJECTORY_CLAMP,
    factors_from_cosines,
    start_ratio_of,
)
from vgpo.method.reweighting import (
    inter_trajectory_weights,
    intra_trajectory_weights,
    reweight_advantages,
)
from vgpo.method.shaping import Method, Rollouts, Shaped, register
from vgpo.method.statistics import (
    correlation_within_groups,
    masked_mean,
    masked_std,
)

_CHOICES = {
    "schedule": SCHEDULES,
    "accumulation": ("sum", "mean"),
    "alignment": ("token", "prediction"),
    "variant": ("paper", "released"),
}


@register("vgpo")
@dataclass(frozen=True)
class VGPO(Method):
    """Visually guided policy optimization; the defaults are the paper's.

    Attributes:
        strength: β of Eq. 5, at least 0.
        tail_ratio: γ of Eq. 6, in [0, 1].
        top_ratio: κ of Eq. 6, in (0, 1].
        schedule: ``"linear"``, ``"exponential"`` or ``"step"``.
        intra: Re-weight the tokens of a trajectory (Eq. 7-8).
        inter: Re-weight the trajectories of a prompt (Eq. 9-11).
        accumulation: ``"sum"`` (Eq. 9) or ``"mean"``.
        alignment: ``"token"`` or ``"prediction"``: which state scores a token.
        variant: ``"paper"`` or ``"released"``.

    Raises:
        ValueError: A value is out of range; the message names it.

    Example:
        >>> VGPO(top_ratio=0.0)
        Traceback (most recent call last):
        ...
        ValueError: top_ratio must be in (0, 1], got 0.0
    """

    preset: ClassVar[Mapping[str, Any]] = DAPO_LOSS
    """The loss of DAPO."""

    strength: float = 0.3
    tail_ratio: float = 0.5
    top_ratio: float = 0.2
    schedule: str = "linear"
    intra: bool = True
    inter: bool = True
    accumulation: str = "sum"
    alignment: str = "token"
    variant: str = "paper"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {choices}, got {getattr(self, name)!r}"
                )
        for name in ("intra", "inter"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"{name} must be True or False, got {getattr(self, name)!r}"
                )
        for name in ("strength", "tail_ratio", "top_ratio"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ValueError(f"{name} must be a number, got {value!r}")
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"strength must be at least 0, got {self.strength}")
        if not 0 <= self.tail_ratio <= 1:
            raise ValueError(f"tail_ratio must be in [0, 1], got {self.tail_ratio}")
        if not 0 < self.top_ratio <= 1:
            raise ValueError(f"top_ratio must be in (0, 1], got {self.top_ratio}")
        if self.variant == "released" and self.alignment != "token":
            raise ValueError(
                "alignment must be 'token' with variant='released', which scores "
                f"tokens at their own position, got {self.alignment!r}"
            )
        if self.variant == "released" and self.inter and not self.intra:
            raise ValueError(
                "intra must be on with variant='released', unless both terms are off: "
                "the released code has no compensation without it; use "
                "variant='paper' for that row of the ablation"
            )

    @property
    def by_group(self) -> bool:
        # The released code takes least and largest cosine over the whole batch.
        return self.variant == "paper"

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({"focus"}) if self.intra or self.inter else frozenset()

    @property
    def signal_settings(self) -> Mapping[str, Mapping[str, Any]]:
        return {"focus": {"alignment": self.alignment}}

    def shape(self, rollouts: Rollouts) -> Shaped:
        if not self.signals:
            return Shaped(rollouts.advantages)
        mask, groups = rollouts.mask, rollouts.group_ids
        factors = visual_factors(rollouts.signals["focus"], mask, groups, self)
        logs = visual_statistics(factors, mask, groups)
        if self.variant == "released":
            logs |= clamped_shares(factors, mask)
        return Shaped(
            reweight_advantages(rollouts.advantages, factors.psi, factors.phi),
            logs=logs,
        )


@dataclass(frozen=True)
class VisualFactors:
    """What the advantages of a batch of rollouts are multiplied by.

    Attributes:
        focus: Visual focus scores, (B, T).
        gate: Visual gate, (B, T) bool.
        psi: Token term, (B, T); the factor is 1 + psi.
        phi: Trajectory term, (B,); the factor is 1 + phi.
    """

    focus: Tensor
    gate: Tensor
    psi: Tensor
    phi: Tensor


@torch.no_grad()
def visual_factors(
    focus: Tensor,
    completion_mask: Tensor,
    group_ids: Tensor,
    settings: VGPO,
) -> VisualFactors:
    """Factors of a batch of rollouts.

    Args:
        focus: Visual focus scores (Eq. 4), (B, T); rows of zeros have no image.
        completion_mask: bool or 0/1, (B, T).
        group_ids: Integers, (B,); rows with the same one answer the same prompt.
            ``variant="released"`` takes runs of adjacent rows, as many as the first
            row's group has.
        settings: Which of Eq. 5-11, and how.

    Returns:
        The :class:`VisualFactors`; terms that are switched off are 0.

    Example:
        >>> focus = torch.tensor([[0.9, 0.8, 0.4, 0.6]])
        >>> visual_factors(focus, torch.ones(1, 4), torch.tensor([0]), VGPO()).psi
        tensor([[ 0.3600,  0.1600, -0.6400,  0.1200]])
    """
    mask = completion_mask.bool()
    psi, phi = torch.zeros_like(focus), focus.new_zeros(len(focus))
    if settings.variant == "released":
        has_image = (focus != 0).any(dim=1)
        factors = factors_from_cosines(
            torch.where(mask, 2 * focus - 1, 0),
            mask,
            has_image=has_image,
            strength=settings.strength,
            start_ratio=start_ratio_of(settings.tail_ratio),
            top_ratio=settings.top_ratio,
            schedule=settings.schedule,
            gated=True,
            num_generations=int((group_ids == group_ids[0]).sum()),
        )
        if settings.intra:
            psi = factors.intra_factor - 1
        if settings.inter:
            # Rows without an image are left as they are, where the released code
            # would lower them to its clamp.
            phi = torch.where(has_image, factors.inter_factor - 1, 0)
        return VisualFactors(focus, factors.gate.bool(), psi, phi)

    weights, gate = compensated_weights(
        focus,
        mask,
        settings.strength,
        settings.tail_ratio,
        settings.top_ratio,
        settings.schedule,
    )
    if settings.intra:
        psi = intra_trajectory_weights(weights, mask)
    if settings.inter:
        phi = inter_trajectory_weights(weights, mask, group_ids, settings.accumulation)
    return VisualFactors(focus, gate, psi, phi)


def visual_statistics(
    factors: VisualFactors, completion_mask: Tensor, group_ids: Tensor
) -> dict[str, float]:
    """What a run logs of VGPO: means and spreads over the tokens that have an image.

    Args:
        factors: From :func:`visual_factors`.
        completion_mask: bool or 0/1, (B, T).
        group_ids: Integers, (B,).

    Returns:
        ``visual/focus_early``, ``visual/focus_late``, ``visual/gate_rate``,
        ``visual/psi_std``, ``visual/phi_std``, ``visual/phi_length_corr``,
        ``visual/cosine_negative_fraction`` and ``visual/factor_late_early``, the mean
        token factor of the second halves over that of the first; NaN where there is
        nothing to average over.
    """
    mask = completion_mask.bool()
    seen = mask & (factors.focus != 0).any(dim=1, keepdim=True)
    counts = mask.sum(dim=1, keepdim=True)
    early = seen & (mask.cumsum(dim=1) * 2 <= counts)
    rows = seen.any(dim=1)
    return {
        "visual/focus_early": masked_mean(factors.focus, early),
        "visual/focus_late": masked_mean(factors.focus, seen & ~early),
        "visual/gate_rate": masked_mean(factors.gate.float(), seen),
        "visual/psi_std": masked_std(factors.psi, seen),
        "visual/phi_std": masked_std(factors.phi, rows),
        "visual/phi_length_corr": correlation_within_groups(
            factors.phi, counts[:, 0], rows, group_ids
        ),
        "visual/cosine_negative_fraction": masked_mean(
            (factors.focus < 0.5).float(), seen
        ),
        "visual/factor_late_early": (
            masked_mean(1 + factors.psi, seen & ~early)
            / masked_mean(1 + factors.psi, early)
        ),
    }


def clamped_shares(factors: VisualFactors, completion_mask: Tensor) -> dict[str, float]:
    """What the released variant's clamps hold back, which a run of it logs.

    Args:
        factors: From :func:`visual_factors` with ``variant="released"``.
        completion_mask: bool or 0/1, (B, T).

    Returns:
        ``visual/psi_clamped_share``, of the tokens, and ``visual/phi_clamped_share``,
        of the completions that have an image; NaN without any.
    """
    seen = completion_mask.bool() & (factors.focus != 0).any(dim=1, keepdim=True)

    def share(term: Tensor, bounds: tuple[float, float], counted: Tensor) -> float:
        # The terms are factors less 1, so a bound comes back rounded.
        low, high = (bound - 1 for bound in bounds)
        at_bound = (term <= low + 1e-6) | (term >= high - 1e-6)
        return masked_mean(at_bound.float(), counted)

    return {
        "visual/psi_clamped_share": share(factors.psi, TOKEN_CLAMP, seen),
        "visual/phi_clamped_share": share(
            factors.phi, TRAJECTORY_CLAMP, seen.any(dim=1)
        ),
    }
