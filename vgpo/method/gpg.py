"""GPG: a plain policy gradient, scaled by the share of useful groups (2504.02546).

Facts are those of the released code (AMAP-ML/GPG, commit e096da8).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vgpo.method.shaping import Method, Rollouts, Shaped, register


@register("gpg")
@dataclass(frozen=True)
class GPG(Method):
    r"""Group policy gradient: no ratio, no clip, no KL term.

    .. math:: -\frac{1}{B} \sum_i \frac{1}{T_i} \sum_t \log \pi(y_{i,t})\,
        \frac{R_i - \bar R}{s + 10^{-5}}

    s is the share of groups whose rewards differ, so that groups without signal do
    not make the step smaller.

    On-policy, with one optimizer step per rollout, ratios are 1 and TRL's
    ``loss_type="grpo"`` with rewards that are only centred has this gradient: that
    is what the preset sets. With several steps per rollout TRL's ratio and clip come
    in, which GPG does not have.

    ``VGPOConfig.preset("gpg", dynamic_sampling=True)`` samples groups without signal
    again, as GPG's resampling does. Departure: the release stops once a share of the
    groups (its scripts: 0.4) is useful; here rounds go on for a full batch.

    Attributes:
        scale: Divide by s. Off, GPG is what its ablation calls alpha = 1.

    Example:
        >>> GPG().preset["scale_rewards"]
        'none'
    """

    preset: ClassVar[Mapping[str, Any]] = {
        "loss_type": "grpo",
        "beta": 0.0,
        "scale_rewards": "none",
    }

    scale: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.scale, bool):
            raise ValueError(f"scale must be True or False, got {self.scale!r}")

    def shape(self, rollouts: Rollouts) -> Shaped:
        if not self.scale:
            return Shaped(rollouts.advantages)
        share = useful_share(rollouts.rewards, rollouts.group_ids)
        # Without any useful group there is nothing to make up for.
        divisor = share + 1e-5 if share else 1.0
        return Shaped(rollouts.advantages / divisor, logs={"gpg/useful_share": share})


@torch.no_grad()
def useful_share(rewards: Tensor, group_ids: Tensor) -> float:
    """Share of the groups whose rewards have a standard deviation above 1e-5.

    Args:
        rewards: (B,); NaN where there is none. A group with one has no use.
        group_ids: Integers, (B,).

    Example:
        >>> useful_share(torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.tensor([0, 0, 1, 1]))
        0.5
    """
    useful = [
        float(len(rows) > 1 and rows.double().std() > 1e-5)
        for rows in (rewards[group_ids == group] for group in torch.unique(group_ids))
    ]
    return sum(useful) / len(useful)
