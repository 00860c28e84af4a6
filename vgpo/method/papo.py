"""PAPO: a term of the loss that rewards dependence on the image (arXiv 2507.06448).

Facts are those of the released code (MikeWangWZHL/PAPO, commit fb63bf4).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vgpo.method.dependence import CEILING, LIMIT, check_view, k3
from vgpo.method.plain import DAPO_LOSS
from vgpo.method.shaping import LossStep, Method, Rollouts, Shaped, register
from vgpo.method.statistics import masked_mean

_DUAL_CLIP = {"delta": 3.0}


@register("papo")
@dataclass(frozen=True)
class PAPO(Method):
    r"""PAPO over DAPO: the policy is kept away from itself before a masked image.

    Added to the loss, with averages over the tokens of a micro-batch:

    .. math:: -\gamma\, \overline{k_t} - \eta_{mask}\, \overline{m_t}
        - \eta\, \overline{\log \pi(y_t)}

    k is :func:`~vgpo.method.dependence.k3` of the policy before the masked image,
    m its log-probability there, which is measured once per rollout and carries no
    gradient; so :math:`\eta_{mask}`'s term is a constant, in the released code too.
    The release calls both terms of η entropies: they are the mean of
    :math:`-\log \pi` of sampled tokens, whose expected gradient is 0 on-policy.

    The term is not an advantage. Only on-policy (one optimizer step per rollout) it
    has the gradient of one, see :func:`papo_advantages`.

    The defaults are those of the released scripts of PAPO over DAPO (3B and 7B).
    Options of the release that its scripts leave off are left out: terms weighted by
    correctness, a mask over tokens, an annealed γ, a supervised term.

    Attributes:
        gamma: γ, at least 0.
        mask_entropy: :math:`\eta_{mask}`, at least 0.
        entropy: η, at least 0.
        probability: That a square of the picture is blacked out, in [0, 1].
        patch: Side of a square, in pixels of the picture as it is in the data.

    Raises:
        ValueError: A value is out of range; the message names it.

    Example:
        >>> PAPO().gamma, PAPO().preset["epsilon_high"]
        (0.01, 0.28)
    """

    preset: ClassVar[Mapping[str, Any]] = {**DAPO_LOSS, **_DUAL_CLIP}

    gamma: float = 0.01
    mask_entropy: float = 0.03
    entropy: float = 0.03
    probability: float = 0.6
    patch: int = 14

    def __post_init__(self) -> None:
        for name in ("gamma", "mask_entropy", "entropy"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0, got {value}")
        check_view(self.probability, self.patch)

    @property
    def signals(self) -> frozenset[str]:
        needed = self.gamma > 0 or self.mask_entropy > 0
        return frozenset({"masked_log_probs"}) if needed else frozenset()

    @property
    def signal_settings(self) -> Mapping[str, Mapping[str, Any]]:
        view = {"probability": self.probability, "patch": self.patch}
        return {"masked_log_probs": {**view, "per": "prompt", "on": "picture"}}

    def shape(self, rollouts: Rollouts) -> Shaped:
        extras = {}
        if self.signals:
            extras = {
                "masked_log_probs": rollouts.signals["masked_log_probs"],
                "has_image": rollouts.has_image,
            }
        return Shaped(rollouts.advantages, extras=extras)

    def extra_loss(self, step: LossStep) -> Tensor | None:
        terms = []
        if self.signals:
            masked = step.extras["masked_log_probs"]
            seen = step.mask & step.extras["has_image"].bool()[:, None]
            if self.gamma:
                kept = torch.where(seen, k3(masked, step.log_probs), 0)
                terms.append(-self.gamma * _mean(kept, step.mask))
            if self.mask_entropy:
                terms.append(-self.mask_entropy * _mean(masked, step.mask))
        if self.entropy:
            terms.append(-self.entropy * _mean(step.log_probs, step.mask))
        return torch.stack(terms).sum() if terms else None

    def loss_logs(self, step: LossStep) -> Mapping[str, float]:
        """``papo/k3`` and ``papo/contrast``, the means over tokens with an image of k
        and of the log-probability that the mask takes away; ``papo/clamped_share``,
        the share of them that a clamp has cut off from the gradient."""
        if not self.signals:
            return {}
        seen = step.mask & step.extras["has_image"].bool()[:, None]
        gap = step.extras["masked_log_probs"] - step.log_probs
        estimate = gap.exp() - gap - 1
        clamped = (gap.abs() > LIMIT) | (estimate > CEILING)
        return {
            "papo/k3": masked_mean(
                k3(step.extras["masked_log_probs"], step.log_probs), seen
            ),
            "papo/contrast": masked_mean(-gap, seen),
            "papo/clamped_share": masked_mean(clamped.float(), seen),
        }


@register("papo_grpo")
@dataclass(frozen=True)
class PAPOOverGRPO(PAPO):
    """PAPO over GRPO; the defaults are those of its 7B script with a KL term.

    The 3B script differs in that η is 0. Averages are over the tokens of a
    micro-batch (``loss_type="bnpo"``), as in the release; the clip is its 0.2/0.3.
    """

    preset: ClassVar[Mapping[str, Any]] = {
        "loss_type": "bnpo",
        "epsilon": 0.2,
        "epsilon_high": 0.3,
        "beta": 0.01,
        **_DUAL_CLIP,
    }

    gamma: float = 0.02
    mask_entropy: float = 0.05
    entropy: float = 0.05


@torch.no_grad()
def papo_advantages(
    advantages: Tensor, masked_log_probs: Tensor, log_probs: Tensor, gamma: float
) -> Tensor:
    r"""The advantages whose gradient PAPO's loss has on-policy.

    .. math:: a_t = A + \gamma\, (1 - e^{x_t})

    since :math:`\partial k / \partial \log \pi = 1 - e^x`, and 0 for tokens that a
    clamp cuts off. A token that the image makes likelier gains at most γ; one that it
    makes less likely can lose up to 12.6 γ.

    Args:
        advantages: (B,).
        masked_log_probs: Before the masked image, (B, T).
        log_probs: Before the picture, (B, T).
        gamma: γ.

    Returns:
        (B, T), without gradient.

    Example:
        >>> one = torch.tensor([1.0])
        >>> gone, as_likely = torch.tensor([[-8.0, -1.0]]), torch.tensor([[-1.0, -1.0]])
        >>> papo_advantages(one, gone, as_likely, 0.1)
        tensor([[1.0999, 1.0000]])
    """
    gap = masked_log_probs - log_probs
    inside = (gap.abs() <= LIMIT) & (gap.exp() - gap - 1 <= CEILING)
    return advantages[:, None] + torch.where(inside, gamma * (1 - gap.exp()), 0)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)
