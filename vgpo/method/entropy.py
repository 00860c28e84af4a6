"""Entropy shaping: uncertain tokens count for more (arXiv 2506.14758)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vgpo.method.plain import DAPO_LOSS
from vgpo.method.shaping import Method, Rollouts, Shaped, register
from vgpo.method.statistics import masked_mean


@register("entropy")
@dataclass(frozen=True)
class EntropyShaping(Method):
    r"""A bonus for entropy, kept below a share of the advantage.

    .. math:: A_{i,t} = A_i + \min(\alpha H_{i,t}, |A_i| / \kappa)

    Exactly an advantage. With κ above 1 no sign changes, and groups without
    advantage stay without. Positive advantages grow and negative ones shrink.

    H is the entropy of the policy that is being updated, without gradient, as in the
    ports that were read (no code of the authors is known). The loss computes it
    anyway, so the bonus costs no forward pass.

    Attributes:
        alpha: α, at least 0. The paper's value for GRPO: 0.4.
        kappa: κ, above 1. The paper: 2.

    Raises:
        ValueError: A value is out of range; the message names it.

    Example:
        >>> EntropyShaping().alpha, EntropyShaping().kappa
        (0.4, 2.0)
    """

    preset: ClassVar[Mapping[str, Any]] = DAPO_LOSS
    """The loss of DAPO."""
    in_loss: ClassVar[bool] = True

    alpha: float = 0.4
    kappa: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be at least 0, got {self.alpha}")
        if not 1 < self.kappa < math.inf:
            raise ValueError(f"kappa must be above 1, got {self.kappa}")

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({"entropy"}) if self.alpha else frozenset()

    def shape(self, rollouts: Rollouts) -> Shaped:
        if not self.signals:
            return Shaped(rollouts.advantages)
        mask, entropy = rollouts.mask, rollouts.signals["entropy"]
        advantages = rollouts.advantages[:, None]
        bonus = entropy_bonus(rollouts.advantages, entropy, self.alpha, self.kappa)
        bonus = torch.where(mask, bonus, 0)
        capped = self.alpha * entropy >= advantages.abs() / self.kappa
        taught = mask & (advantages != 0)
        return Shaped(
            advantages + bonus,
            logs={
                "entropy_shaping/bonus": masked_mean(bonus, mask),
                "entropy_shaping/capped_share": masked_mean(capped.float(), taught),
            },
        )


@torch.no_grad()
def entropy_bonus(
    advantages: Tensor, entropy: Tensor, alpha: float, kappa: float
) -> Tensor:
    """What is added to the advantage of each token, (B, T).

    Args:
        advantages: (B,).
        entropy: In nats, (B, T).
        alpha: α.
        kappa: κ.

    Example:
        >>> entropy_bonus(torch.tensor([-1.0]), torch.tensor([[0.5, 2.0]]), 0.4, 2.0)
        tensor([[0.2000, 0.5000]])
    """
    return torch.minimum(alpha * entropy, advantages.abs()[:, None] / kappa)
