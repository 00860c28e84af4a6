"""Warnings at a run's first steps, of what is known to waste the rest of it.

The numbers are those that TRL logs. They are judged as they are noted, at the end of
each step, and not as they are logged: with ``logging_steps`` above 1 a log is a mean in
which the step before any update, the only one whose KL must be 0, can no longer be
seen. ``python -m vgpo.train --check`` warns of the same traps by the settings alone.

Where the limits are from. A log-probability of one token, computed twice in bfloat16
with the same weights, differs by about 0.05 (standard deviation): 0.055 for a trainer
that scores 8 rows at a time instead of 1, 0.050 between vLLM and a trainer, at most
0.66 over 3,916 tokens of a 0.5B model (huggingface/trl, issue 6789), and 0.03 between
vLLM and two trainers (ServiceNow/Fast-LLM, pull request 525). No figure here was
measured with vLLM by us.

- ``KL`` is that of a difference of 0.14, almost three times the noise: TRL's
  estimate is :math:`e^d - d - 1 \\approx d^2/2`.
- ``GAP_MEAN`` is twice or thrice what normal noise of that size has for its mean
  absolute value, 0.04. Sampling with ``top_p=0.8``, which shifts all log-probabilities
  by 0.11, comes out above it.
- ``GAP_MAX`` is seven times the largest difference found there. A maximum grows
  with the number of tokens, so one above it asks for a look at the tokens.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from transformers import TrainerCallback

from vgpo.training.config import VGPOConfig

COMPLETIONS = 20
"""Fewest completions that are judged: one in twenty is the share that is warned of."""

STEPS = 5
"""Most steps that are waited for that many completions."""

TRUNCATED = 0.05
KL = 0.01
GAP_MEAN, GAP_MAX = 0.1, 5.0

TRUNCATED_SHARE = "completions/clipped_ratio"
GAP = "sampling/sampling_logp_difference"

logger = logging.getLogger(__name__)


def warning_of_kl(noted: Mapping[str, Sequence[float]]) -> str | None:
    """What to say of the KL to the reference before the first update.

    Args:
        noted: Numbers of the first optimizer step, by the names TRL logs them under.

    Example:
        >>> warning_of_kl({"kl": [0.0, 0.0]}) is None
        True
        >>> warning_of_kl({"kl": [0.5]}).partition(":")[0]
        'kl is 0.5 before the first update'
    """
    kl = _mean(noted, "kl")
    if kl is None or kl <= KL:
        return None
    return (
        f"kl is {kl:.3g} before the first update: policy and reference should still be "
        f"one model (noise of bfloat16 stays below {KL:g}). Likely the reference is "
        "another: it is loaded by the model's name, so weights that were changed after "
        "loading are not in it; or the policy has dropout and the reference has none. "
        "Save the changed model and train from its folder; set disable_dropout=True, "
        "and attention_dropout to 0 in the model's configuration"
    )


def warnings_of(noted: Mapping[str, Sequence[float]], completions: int) -> list[str]:
    """What to say of the first completions.

    Args:
        noted: Numbers by the names TRL logs them under, of one or more steps.
        completions: How many they are of.

    Returns:
        A warning for each trap: what, the figure, the likely cause and the cure.

    Example:
        >>> noted = {"completions/clipped_ratio": [0.25], "reward": [0.5]}
        >>> [one] = warnings_of(noted, 64)
        >>> one.partition(":")[0]
        'completions/clipped_ratio is 25 % of the first 64 completions'
    """
    found = [
        *(_of_format(name, noted, completions) for name in sorted(noted)),
        _of_truncation(noted, completions),
        _of_gap(noted),
    ]
    return [one for one in found if one is not None]


def _of_format(
    name: str, noted: Mapping[str, Sequence[float]], completions: int
) -> str | None:
    """Ours is format_reward, TRL's think_format_reward."""
    is_format = name.startswith("rewards/") and name.endswith("format_reward/mean")
    if not is_format or _mean(noted, name) != 0:
        return None
    reward = name.split("/")[1]
    return (
        f"{reward} is 0 for all of the first {completions} completions, so no group "
        "differs in it and nothing pulls towards the form. Likely the prompt does not "
        "ask for it in so many words, or completions end before their form does "
        f"({TRUNCATED_SHARE} {_mean(noted, TRUNCATED_SHARE) or 0:.0%}). Ask for it in "
        "prompt_suffix, teach it by a few supervised steps, or leave the reward out; "
        "log_completions=True shows what is written"
    )


def _of_truncation(
    noted: Mapping[str, Sequence[float]], completions: int
) -> str | None:
    share = _mean(noted, TRUNCATED_SHARE)
    if share is None or share <= TRUNCATED:
        return None
    return (
        f"{TRUNCATED_SHARE} is {100 * share:.0f} % of the first {completions} "
        f"completions: more than {100 * TRUNCATED:.0f} % are cut off at "
        "max_completion_length, get no reward for an answer they did not reach, and "
        "teach brevity. Raise max_completion_length; where answers do not end by "
        "themselves, look whether the tokenizer's end of turn is in the generation "
        "config's eos_token_id. mask_truncated_completions=True leaves them out of the "
        "loss"
    )


def _of_gap(noted: Mapping[str, Sequence[float]]) -> str | None:
    mean = _mean(noted, f"{GAP}/mean")
    largest = max(_finite(noted, f"{GAP}/max"), default=0.0)
    if mean is None or (mean <= GAP_MEAN and largest <= GAP_MAX):
        return None
    if mean > GAP_MEAN:
        cause = (
            f"rounding in bfloat16 stays below {GAP_MEAN:g} on average. Likely vLLM "
            "sees another prompt or another model than the trainer: image tokens of "
            "other pixels, weights of 8 or 4 bits, weights that were not synchronised; "
            "or top_p, top_k or min_p cut its distribution. Compare min_pixels and "
            "max_pixels, set top_p=1, top_k=0 and min_p=None, serve in the trainer's "
            "dtype"
        )
    else:
        cause = (
            "the mean is small, so some tokens alone differ. Likely rare tokens, or "
            "special tokens that vLLM writes and the trainer scores as something else. "
            "Look at the completions (log_completions=True); keep "
            "vllm_importance_sampling_correction on, which bounds what such a token "
            "weighs"
        )
    return f"{GAP} has mean {mean:.3g} and max {largest:.3g} at the start: {cause}"


def _finite(noted: Mapping[str, Sequence[float]], name: str) -> list[float]:
    return [value for value in noted.get(name, ()) if math.isfinite(value)]


def _mean(noted: Mapping[str, Sequence[float]], name: str) -> float | None:
    values = _finite(noted, name)
    return fmean(values) if values else None


class FirstSteps(TrainerCallback):
    """Warns once, of the first steps of a run.

    Args:
        noted: Gives what the trainer has noted since its last log, in order.
    """

    def __init__(self, noted: Callable[[], Mapping[str, Sequence[float]]]):
        self._noted = noted
        self._start = 0
        self._begin()

    def _begin(self) -> None:
        self._seen: dict[str, list[float]] = defaultdict(list)
        self._read: dict[str, int] = {}
        self._done = False

    def on_train_begin(self, args, state, control, **kwargs):
        self._start = state.global_step
        self._begin()

    def on_step_end(self, args: VGPOConfig, state, control, **kwargs):
        # The numbers are those of all processes, in each of them.
        if self._done or not state.is_world_process_zero:
            return
        for name, values in self._noted().items():
            self._seen[name] += values[self._read.get(name, 0) :]
            self._read[name] = len(values)
        taken = state.global_step - self._start
        # A run that goes on from a checkpoint has left its reference already.
        if state.global_step == 1 and (said := warning_of_kl(self._seen)):
            logger.warning("%s", said)
        generations = len(self._seen[TRUNCATED_SHARE])
        completions = generations * (args.generation_batch_size or 0)
        if completions >= COMPLETIONS:
            for said in warnings_of(self._seen, completions):
                logger.warning("%s", said)
        self._done = completions >= COMPLETIONS or taken >= STEPS

    def on_log(self, args, state, control, logs=None, **kwargs):
        # After a log of training TRL begins anew; after one of evaluation it does not.
        if "loss" in (logs or {}):
            self._read.clear()
