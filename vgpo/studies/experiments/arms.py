"""The arms of the experiments, as data: which method, with which settings.

The baselines and VGPO in its readings are methods of the package. An oracle, a
placebo and an inverted score are VGPO with something else in place of visual focus:
:class:`ScoredVGPO`, a method like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

import vgpo.studies.experiments.truth  # noqa: F401  # registers its signals
from vgpo.method.shaping import METHODS, Rollouts, Shaped, register
from vgpo.method.visual import VGPO
from vgpo.testbed import WORLDS

SCORES = ("focus", "reads", "decides")
CHANGES = ("none", "shuffled", "inverted")


@register("vgpo_scored")
@dataclass(frozen=True)
class ScoredVGPO(VGPO):
    """VGPO with another score in place of visual focus.

    Attributes:
        score: ``"focus"``, ``"reads"`` or ``"decides"``: Eq. 4, or the truth
            (:mod:`vgpo.studies.experiments.truth`).
        change: ``"none"``; ``"shuffled"``: the scores of a completion are permuted
            over its tokens, so that psi keeps its spread and points at nothing,
            while phi, which sums them, hardly changes;
            ``"inverted"``: 1 less the score.

    Raises:
        ValueError: As :class:`~vgpo.method.visual.VGPO`; an unknown score or change;
            either with ``variant="released"``, which scores by itself.
    """

    score: str = "focus"
    change: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("score", SCORES), ("change", CHANGES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {known}, got {getattr(self, name)!r}"
                )
        if self.variant == "released":
            raise ValueError("variant must be 'paper' with another score")

    @property
    def signals(self) -> frozenset[str]:
        if not (self.intra or self.inter):
            return frozenset()
        chance = {"chance"} if self.change == "shuffled" else set()
        return frozenset({self.score} | chance)

    @property
    def signal_settings(self) -> Mapping[str, Mapping[str, Any]]:
        return {"focus": {"alignment": self.alignment}}

    def shape(self, rollouts: Rollouts) -> Shaped:
        if not self.signals:
            return Shaped(rollouts.advantages)
        scores, mask = rollouts.signals[self.score], rollouts.mask
        if self.change == "shuffled":
            scores = permuted(scores, rollouts.signals["chance"], mask)
        elif self.change == "inverted":
            scores = torch.where(rollouts.has_image[:, None], 1 - scores, 0)
        return super().shape(replace(rollouts, signals={"focus": scores}))


def permuted(scores: Tensor, chance: Tensor, mask: Tensor) -> Tensor:
    """Each row's scores in an order of their own.

    Args:
        scores: (B, T).
        chance: Numbers in [0, 1), (B, T): the order.
        mask: bool, (B, T); only what is inside is moved, and it stays inside.

    Example:
        >>> permuted(torch.tensor([[1.0, 2.0, 3.0, 9.0]]),
        ...          torch.tensor([[0.7, 0.2, 0.5, 0.1]]),
        ...          torch.tensor([[True, True, True, False]]))
        tensor([[2., 3., 1., 0.]])
    """
    out = torch.zeros_like(scores)
    for row, inside in enumerate(mask.bool()):
        order = chance[row][inside].argsort(stable=True)
        out[row, inside] = scores[row][inside][order]
    return out


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        name: In files and tables.
        method: A registered method; its preset gives the loss.
        fields: Fields of ``VGPOConfig`` that differ from the preset.
        worlds: Where it can be run.
        rate: Factor on the setting's learning rate.
        tells: What it is there for.
    """

    name: str
    method: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    worlds: tuple[str, ...] = tuple(WORLDS)
    rate: float = 1.0
    tells: str = ""


def _scored(**settings: Any) -> dict[str, Any]:
    return {"method_kwargs": settings}


_PLAIN = (
    Arm("grpo", "grpo", tells="baseline"),
    Arm("dapo", "dapo", tells="baseline"),
    Arm(
        "dapo_rate_1.3",
        "dapo",
        rate=1.3,
        tells="baseline with larger steps: the gradients of oracle_decides, the "
        "largest of all arms, are 1.30 of the baseline's",
    ),
    Arm("vgpo_token", "vgpo", tells="the method, scored at a token's own position"),
    Arm(
        "vgpo_prediction",
        "vgpo",
        {"alignment": "prediction"},
        tells="the method, scored at the position that predicts a token",
    ),
    Arm("vgpo_released", "vgpo", {"variant": "released"}, tells="its released code"),
    Arm("vgpo_mean", "vgpo", {"accumulation": "mean"}, tells="without length (Eq. 9)"),
    Arm(
        "vgpo_prediction_mean",
        "vgpo",
        {"alignment": "prediction", "accumulation": "mean"},
        tells="without length (Eq. 9)",
    ),
    Arm(
        "oracle_reads",
        "vgpo_scored",
        _scored(score="reads"),
        tells="upper bound of any visual score in this scheme",
    ),
    Arm(
        "oracle_decides",
        "vgpo_scored",
        _scored(score="decides"),
        worlds=("look_away", "look_away_wordy", "look_away_large"),
        tells="upper bound of any score of decisions",
    ),
    Arm(
        "shuffled",
        "vgpo_scored",
        _scored(alignment="prediction", change="shuffled"),
        tells="placebo: the scores of vgpo_prediction in another order",
    ),
    Arm(
        "shuffled_token",
        "vgpo_scored",
        _scored(change="shuffled"),
        tells="placebo: the scores of vgpo_token in another order",
    ),
    Arm(
        "inverted",
        "vgpo_scored",
        _scored(alignment="prediction", change="inverted"),
        tells="whether the sign matters",
    ),
    Arm("papo", "papo", tells="a neighbour: a term for dependence on the image"),
    Arm("vppo", "vppo", tells="a neighbour: only tokens that depend on the image"),
    Arm("pepo", "pepo", tells="a neighbour: cosines of all layers, and entropy"),
    Arm("entropy", "entropy", tells="a neighbour: entropy in place of the image"),
    Arm("gpg", "gpg", tells="a neighbour: no clip, no dynamic sampling"),
    Arm(
        "srpo",
        "srpo",
        # These worlds' answers have no tags.
        _scored(spans="reads"),
        tells="our reading of a neighbour, with the true reads as perception",
    ),
)

_ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "intra": {"inter_trajectory": False},
    "inter": {"intra_trajectory": False},
    "none": {"intra_trajectory": False, "inter_trajectory": False},
    "exponential": {"compensation_schedule": "exponential"},
    "step": {"compensation_schedule": "step"},
    "full": {"visual_gate_tail_ratio": 1.0},
    "beta_0": {"visual_compensation_strength": 0.0},
    "beta_1": {"visual_compensation_strength": 1.0},
    "gamma_0.25": {"visual_gate_tail_ratio": 0.25},
    "gamma_0.75": {"visual_gate_tail_ratio": 0.75},
    "kappa_0.1": {"visual_gate_top_ratio": 0.1},
    "kappa_0.5": {"visual_gate_top_ratio": 0.5},
}


def _all_arms() -> dict[str, Arm]:
    arms = {arm.name: arm for arm in _PLAIN}
    for base in ("vgpo_token", "vgpo_prediction"):
        for name, fields in _ABLATIONS.items():
            one = arms[base]
            arms[f"{base}_{name}"] = replace(
                one,
                name=f"{base}_{name}",
                fields={**one.fields, **fields},
                tells=f"ablation: {', '.join(f'{k} {v}' for k, v in fields.items())}",
            )
    return arms


ARMS: Mapping[str, Arm] = MappingProxyType(_all_arms())
"""All arms by name. A registered method's name is an arm as well, with its
defaults."""


def find_arm(name: str) -> Arm:
    """The arm of a name.

    Raises:
        ValueError: There is none; the message says which there are.

    Example:
        >>> find_arm("vgpo_prediction").fields
        {'alignment': 'prediction'}
    """
    if name in ARMS:
        return ARMS[name]
    if name in METHODS:
        return Arm(name, name, tells="a neighbour, with its paper's settings")
    raise ValueError(
        f"arms: there is no arm {name!r}; there are {', '.join(ARMS)}, and every "
        f"registered method: {', '.join(METHODS)}"
    )
