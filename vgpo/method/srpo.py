"""SRPO, our reading of its abstract (Jiang and Zou, arXiv 2605.07274).

No code and no formula were at hand. From the abstract: a response has a perception
span and a reasoning span; tokens of the first are scored by how much corrupting the
image takes from their log-probability, tokens of the second by how consistent they
are with the perception; both around one baseline of the trajectory; a positive
weight on the advantage comes of it. All else, such as how consistency is computed,
the exponent and every default, is our reading, not the paper. Other methods are
called SRPO, too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vgpo.method.dependence import check_view
from vgpo.method.plain import DAPO_LOSS
from vgpo.method.shaping import Method, Rollouts, Shaped, register
from vgpo.method.statistics import masked_mean, masked_std


@register("srpo")
@dataclass(frozen=True)
class SRPOOurReading(Method):
    r"""SRPO, our reading: perception by the image, reasoning by the perception.

    .. math::
        s_t &= \log \pi(y_t | I, y_{<t}) - r_t \\
        r_t &= \begin{cases}
        \log \pi(y_t | \tilde I, y_{<t}) & \text{perception} \\
        \log \pi(y_t | I, y_{<t} \setminus P) & \text{reasoning}
        \end{cases}

    with the image masked as in PAPO, and with the perception span P hidden from
    attention. The weights are those of :func:`srpo_weights`. A response without
    spans, or without an image, keeps its advantages. Exactly an advantage. It takes
    two forward passes without gradient, for the masked image, which ends with the
    perception, and for the hidden span; the policy's own log-probabilities come out of
    the loss.

    Attributes:
        temperature: How far weights go from 1, at least 0; 0 gives plain DAPO.
            Our choice: 0.5.
        spans: The signal that tells the spans: 1 in the perception span, 0 in the
            reasoning span, -1 elsewhere. By default, ``"perception"``: text between
            ``<perception>`` and ``</perception>``, and what comes after.
        probability: That a square of the picture is blacked out, in [0, 1].
        patch: Side of a square, in pixels of the picture as it is in the data.

    Raises:
        ValueError: A value is out of range; the message names it.

    Example:
        >>> sorted(SRPOOurReading().signals)
        ['hidden_log_probs', 'log_probs', 'masked_log_probs', 'perception']
    """

    preset: ClassVar[Mapping[str, Any]] = DAPO_LOSS
    """The loss of DAPO."""
    in_loss: ClassVar[bool] = True

    temperature: float = 0.5
    spans: str = "perception"
    probability: float = 0.6
    patch: int = 14

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")
        check_view(self.probability, self.patch)

    @property
    def signals(self) -> frozenset[str]:
        if not self.temperature:
            return frozenset()
        return frozenset(
            {"log_probs", "masked_log_probs", "hidden_log_probs", self.spans}
        )

    @property
    def signal_settings(self) -> Mapping[str, Mapping[str, Any]]:
        view = {"probability": self.probability, "patch": self.patch}
        return {
            "masked_log_probs": {
                **view,
                "per": "prompt",
                "on": "picture",
                # Only the perception span is read before the masked image.
                "within": self.spans,
            },
            "hidden_log_probs": {"spans": self.spans},
        }

    def shape(self, rollouts: Rollouts) -> Shaped:
        if not self.signals:
            return Shaped(rollouts.advantages)
        signals, mask = rollouts.signals, rollouts.mask
        spans = signals[self.spans]
        perception, reasoning = mask & (spans == 1), mask & (spans == 0)
        scored = rollouts.has_image & perception.any(dim=1)
        perception, reasoning = (
            perception & scored[:, None],
            reasoning & scored[:, None],
        )
        other = torch.where(
            perception, signals["masked_log_probs"], signals["hidden_log_probs"]
        )
        scores = torch.where(perception | reasoning, signals["log_probs"] - other, 0)
        weights = srpo_weights(scores, perception | reasoning, self.temperature)
        return Shaped(
            rollouts.advantages[:, None] * weights,
            logs={
                "srpo/no_spans_share": float((~scored).float().mean()),
                "srpo/perception_score": masked_mean(scores, perception),
                "srpo/reasoning_score": masked_mean(scores, reasoning),
                "srpo/weight_std": masked_std(weights, perception | reasoning),
            },
        )


@torch.no_grad()
def srpo_weights(scores: Tensor, scored: Tensor, temperature: float = 0.5) -> Tensor:
    r"""Weight of each token, positive and of mean 1 over a response's scored tokens.

    .. math:: z_t = \frac{s_t - \bar s}{\mathrm{std}(s) + 10^{-6}}, \quad
        w_t \propto \exp(\tau \tanh z_t)

    The baseline is common to both spans. The standard deviation is over the number
    of tokens.

    Args:
        scores: (B, T).
        scored: bool, (B, T).
        temperature: τ.

    Returns:
        (B, T); exactly 1 outside ``scored``, and where all scores of a row are equal.

    Example:
        >>> srpo_weights(torch.tensor([[1.0, 1.0, 9.0]]),
        ...              torch.tensor([[True, True, False]]))
        tensor([[1., 1., 1.]])
    """
    number = scored.sum(dim=1, keepdim=True).clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        total = torch.where(scored, values, 0).sum(dim=1, keepdim=True)
        return total / number

    wide = scores.double()
    lowest = torch.where(scored, wide, torch.inf).amin(dim=1, keepdim=True)
    highest = torch.where(scored, wide, -torch.inf).amax(dim=1, keepdim=True)
    centred = wide - mean(wide)
    unit = centred / (mean(centred.square()).sqrt() + 1e-6)
    raw = (temperature * unit.tanh()).exp()
    weights = (raw / mean(raw)).to(scores.dtype)
    return torch.where(scored & (highest > lowest), weights, 1)
