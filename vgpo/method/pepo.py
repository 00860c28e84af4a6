"""PEPO: tokens near the image tokens in every layer count for more (2603.22847).

Facts are those of the released code (xzxxntxdy/PEPO, commit 2b1e788).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vgpo.method.shaping import LossStep, Method, Rollouts, Shaped, register
from vgpo.method.statistics import masked_mean, masked_std

VARIANTS = ("detached", "released")


@register("pepo")
@dataclass(frozen=True)
class PEPO(Method):
    r"""PEPO over DAPO: weights from hidden states and entropy, annealed in.

    .. math:: A_{i,t} = A_i\, (1 - p + p\, w_{i,t})

    with the weights of :func:`pepo_weights` and p the share of training that is done.
    Rows without an image keep their advantages; the release scores them by all
    tokens instead. As there, weights are those of the policy that is being updated,
    read in the loss's own pass.

    ``variant="detached"`` is this, exactly an advantage. In the released code the
    weights carry a gradient, through hidden states and entropy; ``"released"`` adds
    it as a term of the loss whose value is 0:

    .. math:: -p\, \overline{A_i\, (w_{i,t} - \mathrm{sg}(w_{i,t}))}

    with sg the weights without gradient. It is exact with one optimizer step per
    rollout, where ratios are 1. It keeps the inputs of all layers until the backward
    pass.

    The preset is that of the release's DAPO scripts: averages over the tokens of a
    micro-batch, a symmetric clip, a light KL term, truncated rollouts left out.

    Attributes:
        alpha: How much entropy counts, at least 0. The scripts: 0.05.
        temperature: Of the softmax, positive. The scripts: 1.8.
        variant: ``"detached"`` or ``"released"``.

    Raises:
        ValueError: A value is out of range; the message names it.

    Example:
        >>> PEPO().temperature
        1.8
    """

    preset: ClassVar[Mapping[str, Any]] = {
        "loss_type": "bnpo",
        "epsilon": 0.2,
        "beta": 0.001,
        "dynamic_sampling": True,
        "mask_truncated_completions": True,
    }
    in_loss: ClassVar[bool] = True
    over_sequences: ClassVar[bool] = False
    """Whether the loss is a mean over sequences, and the added term with it."""

    alpha: float = 0.05
    temperature: float = 1.8
    variant: str = "detached"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be at least 0, got {self.alpha}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {VARIANTS}, got {self.variant!r}")

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({"layer_cosines", "entropy"})

    @property
    def loss_signals(self) -> frozenset[str]:
        released = self.variant == "released"
        return frozenset({"layer_cosines"}) if released else frozenset()

    def shape(self, rollouts: Rollouts) -> Shaped:
        mask, signals = rollouts.mask, rollouts.signals
        cosines = signals["layer_cosines"]
        with torch.no_grad():
            weights = pepo_weights(
                cosines, signals["entropy"], mask, self.alpha, self.temperature
            )
        weights = torch.where(rollouts.has_image[:, None], weights, 1)
        share = rollouts.progress
        extras = {}
        if self.loss_signals:
            extras = {
                "group_advantages": rollouts.advantages,
                "has_image": rollouts.has_image,
            }
        seen = mask & rollouts.has_image[:, None]
        return Shaped(
            rollouts.advantages[:, None] * (1 - share + share * weights),
            logs={
                "pepo/cosine": masked_mean(cosines, seen),
                "pepo/cosine_std": masked_std(cosines, seen),
                "pepo/weight_std": masked_std(weights, seen),
                "pepo/annealed": share,
            },
            extras=extras,
        )

    def extra_loss(self, step: LossStep) -> Tensor | None:
        if not self.loss_signals:
            return None
        mask = step.mask & step.extras["has_image"].bool()[:, None]
        weights = pepo_weights(
            step.signals["layer_cosines"],
            step.entropy,
            step.mask,
            self.alpha,
            self.temperature,
        )
        loss = -step.extras["group_advantages"][:, None] * (weights - weights.detach())
        loss = step.progress * torch.where(mask, loss, 0)
        if self.over_sequences:
            return (loss.sum(dim=1) / step.mask.sum(dim=1).clamp(min=1)).mean()
        return loss.sum() / step.mask.sum().clamp(min=1)


@register("pepo_grpo")
@dataclass(frozen=True)
class PEPOOverGRPO(PEPO):
    """PEPO over GRPO, as in the release's scripts: a mean over sequences."""

    preset: ClassVar[Mapping[str, Any]] = {
        "loss_type": "grpo",
        "epsilon": 0.2,
        "beta": 0.001,
    }
    over_sequences: ClassVar[bool] = True


def pepo_weights(
    cosines: Tensor,
    entropy: Tensor,
    mask: Tensor,
    alpha: float = 0.05,
    temperature: float = 1.8,
) -> Tensor:
    r"""Weight of each token, of mean 1 over its response.

    .. math::
        m_t &= \mathrm{mm}(v)_t + \mathrm{mm}(H)_t \\
        g_t &= 1 + \alpha \tanh(m_t - \bar m) \\
        w_t &= T\, \mathrm{softmax}_t (v_t g_t / \tau)

    v is the ``layer_cosines`` signal, H the entropy, mm the min-max of a response to
    [0, 1]. As v lies in [-1, 1], weights lie in exp(±2(1 + α)/τ) at most; where v
    spreads over a tenth, within 6 % of 1.

    Args:
        cosines: v, (B, T).
        entropy: H, (B, T).
        mask: bool, (B, T).
        alpha: α.
        temperature: τ.

    Returns:
        (B, T), 0 outside the mask, with a gradient if one of the inputs has one.

    Example:
        >>> equal = torch.full((1, 4), 0.3)
        >>> pepo_weights(equal, equal, torch.ones(1, 4).bool())
        tensor([[1., 1., 1., 1.]])
    """
    # A row without any token is computed as if all were real, which is finite.
    real = mask | ~mask.any(dim=1, keepdim=True)
    number = real.sum(dim=1, keepdim=True)
    both = _min_max(cosines, real) + _min_max(entropy, real)
    mean = torch.where(real, both, 0).sum(dim=1, keepdim=True) / number
    gate = 1 + alpha * (both - mean).tanh()
    scores = torch.where(real, cosines * gate / temperature, -torch.inf)
    return torch.where(mask, number * scores.softmax(dim=1), 0)


def _min_max(values: Tensor, real: Tensor, eps: float = 1e-6) -> Tensor:
    lowest = torch.where(real, values, torch.inf).amin(dim=1, keepdim=True)
    highest = torch.where(real, values, -torch.inf).amax(dim=1, keepdim=True)
    scaled = (values - lowest) / (highest - lowest).clamp(min=eps)
    return torch.where(real, scaled, 0)
