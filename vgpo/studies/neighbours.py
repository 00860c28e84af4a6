"""Methods side by side: what each asks for, and what it does to the same rollouts."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import pandas as pd
import torch
from torch import Tensor

from vgpo.method.papo import papo_advantages
from vgpo.method.shaping import (
    METHODS,
    Method,
    Rollouts,
    Shaped,
    make_method,
    register,
)
from vgpo.rewards import accuracy_reward
from vgpo.studies.experiments.runs import TRAINED_FAMILIES, TestbedRun
from vgpo.studies.experiments.truth import with_truth
from vgpo.testbed import WORLDS, load_tiny, make_dataset
from vgpo.testbed.decoding import decode_faster
from vgpo.training.signals import Signals
from vgpo.training.trainer import VGPOTrainer

NAMES = ("vgpo", "papo", "vppo", "pepo", "entropy", "gpg", "srpo")
"""VGPO and its neighbours, in the order of the tables."""

ACTS_ON: Mapping[str, str] = {
    "vgpo": "advantage of tokens and rollouts",
    "papo": "term of the loss",
    "vppo": "mask of tokens, advantage of rollouts, term of the loss",
    "pepo": "advantage of tokens",
    "entropy": "advantage of tokens",
    "gpg": "advantage of all rollouts alike",
    "srpo": "advantage of tokens",
}


SIGNAL_WORDS: Mapping[str, str] = {
    "focus": "focus",
    "log_probs": "log-probability",
    "masked_log_probs": "masked log-probability",
    "hidden_log_probs": "hidden log-probability",
    "entropy": "entropy",
    "layer_cosines": "cosines in all layers",
    "perception": "spans of perception",
}
"""Name of a probe that a method asks for -> what it measures, in words."""


def passes_of(method: Method, whole_groups: bool = False) -> int:
    """Forward passes without gradient that a method takes per generation, where TRL
    makes none for old log-probabilities.

    Args:
        method: The method.
        whole_groups: Whether micro-batches hold whole groups, so that the pass of the
            loss can be read along for methods that shape each group by itself.

    Example:
        >>> [passes_of(make_method(name)) for name in ("dapo", "entropy", "vgpo")]
        [0, 0, 1]
        >>> [passes_of(make_method(name)) for name in ("papo", "vppo", "srpo")]
        [1, 2, 2]
        >>> [passes_of(make_method(name), True) for name in ("vgpo", "vppo", "srpo")]
        [0, 1, 2]
    """
    signals = Signals.of(method)
    shared = (
        whole_groups and method.by_group and Signals.of_shared_pass(method) is not None
    )
    probes = signals.measuring.values()
    return int(bool(signals.needed) and not shared) + sum(p.passes for p in probes)


def words(signals: Collection[str]) -> list[str]:
    """Names of probes in words, in the order of :data:`SIGNAL_WORDS`.

    Example:
        >>> words({"masked_log_probs", "log_probs"})
        ['log-probability', 'masked log-probability']
    """
    ordered = [name for name in SIGNAL_WORDS if name in signals]
    return [SIGNAL_WORDS[name] for name in ordered] + sorted({*signals} - {*ordered})


def method_table(names: Sequence[str] = NAMES) -> pd.DataFrame:
    """One row per method: its signals, where it acts, what it takes, its defaults.

    Returns:
        Indexed by method: ``signal`` (:func:`words`), ``acts on``, ``passes``
        (:func:`passes_of`), ``in whole groups``, the passes where micro-batches hold
        whole groups, ``gradient``, whether one flows through the signal, and
        ``default``, the settings of the class.

    Example:
        >>> method_table(["gpg"]).loc["gpg", ["signal", "default"]].tolist()
        ['none', 'scale=True']
    """
    rows = {}
    for name in names:
        method = make_method(name)
        settings = [
            f"{f.name}={getattr(method, f.name)}"
            for f in fields(METHODS[name])  # type: ignore[arg-type]
        ]
        rows[name] = {
            "signal": ", ".join(words(method.signals)) or "none",
            "acts on": ACTS_ON[name],
            "passes": passes_of(method),
            "in whole groups": passes_of(method, whole_groups=True),
            "gradient": "of the log-probability" if name == "papo" else "none",
            "default": ", ".join(settings),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


# -- the same rollouts ------------------------------------------------------------


@register("all_signals")
@dataclass(frozen=True)
class AllSignals(Method):
    """Asks for all signals of VGPO and its neighbours, keeps them, changes nothing.

    Attributes:
        kept: The rollouts of each generation.
    """

    kept: list[Rollouts] = field(default_factory=list, compare=False)

    signals = frozenset(
        {
            "focus",
            "log_probs",
            "masked_log_probs",
            "entropy",
            "layer_cosines",
            "reads",
            "hidden_log_probs",
        }
    )
    signal_settings = {  # noqa: RUF012
        "masked_log_probs": {"probability": 0.6, "per": "prompt", "on": "picture"},
        "hidden_log_probs": {"spans": "reads"},
    }

    def shape(self, rollouts: Rollouts) -> Shaped:
        self.kept.append(rollouts)
        return Shaped(rollouts.advantages)


def sampled_rollouts(
    prompts: int = 8, rollouts: int = 8, seed: int = 0, world: str = "look_away"
) -> Rollouts:
    """Rollouts of a small world's cold start, with every signal of every method.

    One view of the picture, PAPO's, serves all methods. The perception of SRPO is the
    tokens that read the picture in truth, as in the grids.

    Args:
        prompts: Questions of the trained families.
        rollouts: Of each, G.
        seed: Of questions and sampling.
        world: A name of ``vgpo.testbed.WORLDS``.
    """
    run = TestbedRun(
        method="all_signals",
        seed=seed,
        steps=1,
        prompts_per_step=prompts,
        rollouts=rollouts,
        world=world,
    )
    rules = replace(WORLDS[world], families=TRAINED_FAMILIES)
    examples = [rules.example(i, 1000 + seed) for i in range(prompts)]
    rows = make_dataset(prompts, rules, seed=1000 + seed)
    model, processor = load_tiny(world)
    decode_faster(model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = VGPOTrainer(
            model=model,
            reward_funcs=accuracy_reward,
            args=run.config(
                folder, learning_rate=0.0, dynamic_sampling=False, report_to="none"
            ),
            train_dataset=with_truth(rows, examples),
            processing_class=processor,
        )
        for callback in list(trainer.callback_handler.callbacks):
            trainer.remove_callback(callback)
        trainer.train()
    return trainer._method.kept.pop()


def shaped_by(
    rollouts: Rollouts, names: Sequence[str] = NAMES, **settings: Mapping[str, object]
) -> dict[str, Tensor]:
    """Advantages (B, T) of each method for the same rollouts, NaN outside the mask.

    PAPO's are those that its term of the loss amounts to on-policy.

    Args:
        rollouts: From :func:`sampled_rollouts`, or made by hand.
        names: Of methods.
        **settings: Of a method, by its name.
    """
    out = {}
    for name in names:
        method = make_method(name, settings.get(name))
        advantages = method.shape(rollouts).advantages
        if advantages.ndim == 1:
            advantages = advantages[:, None].expand(rollouts.mask.shape)
        if name == "papo":
            bonus = papo_advantages(
                rollouts.advantages,
                rollouts.signals["masked_log_probs"],
                rollouts.signals["log_probs"],
                method.gamma,  # type: ignore[attr-defined]
            )
            advantages = torch.where(rollouts.has_image[:, None], bonus, advantages)
        out[name] = torch.where(rollouts.mask, advantages, torch.nan)
    return out


def compare_shaped(rollouts: Rollouts, shaped: Mapping[str, Tensor]) -> pd.DataFrame:
    """How far each method's advantages are from the group's.

    Args:
        rollouts: What was shaped.
        shaped: From :func:`shaped_by`.

    Returns:
        Indexed by method, over tokens whose group has an advantage: ``size``, the mean
        absolute advantage over that of the group; ``zeroed``, the share of tokens
        without any; ``flipped``, the share whose sign is another; ``spread``, the
        standard deviation of the factor over the tokens of a rollout, on average.
    """
    base = rollouts.advantages[:, None].expand(rollouts.mask.shape)
    taught = rollouts.mask & (base != 0)
    rows = {}
    for name, advantages in shaped.items():
        factor = torch.where(taught, advantages / base, torch.nan)
        spreads = [
            float(row[~row.isnan()].std(correction=0))
            for row in factor
            if not row.isnan().all()
        ]
        rows[name] = {
            "size": float(advantages[taught].abs().mean() / base[taught].abs().mean()),
            "zeroed": float((advantages[taught] == 0).float().mean()),
            "flipped": float((factor[taught] < 0).float().mean()),
            "spread": sum(spreads) / len(spreads),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
