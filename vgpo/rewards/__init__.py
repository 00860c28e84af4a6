r"""Rewards for completions that end in a ``\boxed{}`` answer."""

from vgpo.rewards.functions import (
    accuracy_reward,
    format_reward,
    last_boxed,
    soft_overlong_penalty,
)

__all__ = ["accuracy_reward", "format_reward", "last_boxed", "soft_overlong_penalty"]
