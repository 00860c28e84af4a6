"""GRPO and DAPO, which leave advantages as they are, and what presets share.

The fields are those of TRL's ``GRPOConfig`` and of ``VGPOConfig``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from vgpo.method.shaping import Method, Rollouts, Shaped, register

RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "seed": 1,
        "num_train_epochs": 2,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "weight_decay": 1e-2,
        "max_grad_norm": 1.0,
        "num_generations": 8,
        "temperature": 1.0,
        "top_p": 0.99,
        "max_completion_length": 2048,
    }
)
"""What the VGPO paper's runs of all methods have in common. Its batch, 512 prompts by
8 rollouts, is left to the recipes."""

DAPO_LOSS: Mapping[str, Any] = MappingProxyType(
    {
        "loss_type": "dapo",
        "epsilon": 0.2,
        "epsilon_high": 0.28,
        "beta": 0.0,
        "dynamic_sampling": True,
    }
)
"""Fields of Eq. 1, a mean over tokens, clip-higher, no KL term, dynamic sampling."""


@register("grpo")
@dataclass(frozen=True)
class GRPO(Method):
    """A symmetric clip, a mean over sequences, a KL term, one advantage per rollout.

    The weight of the KL term, 0.04, is that of DeepSeekMath (arXiv 2402.03300); the
    VGPO paper is silent.
    """

    preset: ClassVar[Mapping[str, Any]] = {
        "loss_type": "grpo",
        "epsilon": 0.2,
        "beta": 0.04,
    }

    def shape(self, rollouts: Rollouts) -> Shaped:
        return Shaped(rollouts.advantages)


@register("dapo")
@dataclass(frozen=True)
class DAPO(Method):
    """Eq. 1 with one advantage per rollout (arXiv 2503.14476)."""

    preset: ClassVar[Mapping[str, Any]] = DAPO_LOSS
    """Its loss."""

    def shape(self, rollouts: Rollouts) -> Shaped:
        return Shaped(rollouts.advantages)
