r"""Rewards for completions that end in a ``\boxed{}`` answer.

They have TRL's signature, ``reward(completions, **columns) -> list[float]``, and so can
be given to any of its trainers, or called by another one: the package needs neither
torch nor TRL. The paper rewards accuracy alone; format and length are there for the
recipes of GRPO and DAPO that use them.

A policy under training writes anything: towers of powers, megabytes, null bytes. And it
finds whatever a grader takes for right. So the *reference* says what kind of answer is
asked for, and an answer of another kind is wrong, whatever it would evaluate to:
``10-20`` is a range, and not -10. What is plain is compared here and exactly; what
needs algebra goes to math-verify in a process of its own, with limits on its time and
memory. It starts at the first comparison that needs it, serves all threads in turn, and
ends with the program; a forked or spawned worker, daemonic or not, gets its own.
"""

from vgpo.rewards.boxed import last_boxed
from vgpo.rewards.functions import (
    accuracy_reward,
    format_reward,
    recipe_reward,
    soft_overlong_penalty,
)
from vgpo.rewards.references import parse_reference, strip_reference

__all__ = [
    "accuracy_reward",
    "format_reward",
    "last_boxed",
    "parse_reference",
    "recipe_reward",
    "soft_overlong_penalty",
    "strip_reference",
]
