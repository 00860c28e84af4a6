"""Settings of GRPO, DAPO and VGPO training.

Greek letters of the paper, words of the code:

======  ====================================  ========  ====================
letter  field                                 default   equation
======  ====================================  ========  ====================
β       ``visual_compensation_strength``      0.3       Eq. 5
γ       ``visual_gate_tail_ratio``            0.5       Eq. 6
κ       ``visual_gate_top_ratio``             0.2       Eq. 6
ψ       ``intra_trajectory``                  on        Eq. 7-8
φ       ``inter_trajectory``                  on        Eq. 9-11
ε       ``epsilon``, ``epsilon_high`` (TRL)   0.2/0.28  Eq. 1
======  ====================================  ========  ====================

TRL's own ``beta`` is the weight of the KL term, not the paper's β.
"""

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import torch
from trl import GRPOConfig

from vgpo.method.compensation import SCHEDULES
from vgpo.method.visual import VisualSettings

_CHOICES = {
    "compensation_schedule": SCHEDULES,
    "accumulation": ("sum", "mean"),
    "alignment": ("token", "prediction"),
    "variant": ("paper", "released"),
}

_SWITCHES = ("intra_trajectory", "inter_trajectory", "dynamic_sampling")
_NUMBERS = (
    "visual_compensation_strength",
    "visual_gate_tail_ratio",
    "visual_gate_top_ratio",
    "dynamic_sampling_lower_bound",
    "dynamic_sampling_upper_bound",
    "dynamic_sampling_max_attempts",
)

# What the paper's methods have in common, and what each adds (METHOD: Eq. 1-2 and
# the recipe). The paper's batch, 512 prompts x 8 rollouts, is left to the recipes.
_SHARED = {
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
_NO_VISION = {"intra_trajectory": False, "inter_trajectory": False}
_DAPO = {
    "loss_type": "dapo",
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "beta": 0.0,
    "dynamic_sampling": True,
}
_PRESETS = {
    "grpo": {
        **_SHARED,
        **_NO_VISION,
        "loss_type": "grpo",
        "epsilon": 0.2,
        "beta": 0.04,
    },
    "dapo": {**_SHARED, **_NO_VISION, **_DAPO},
    "vgpo": {**_SHARED, **_DAPO},
}


@dataclass
class VGPOConfig(GRPOConfig):
    r"""All of TRL's ``GRPOConfig``, and what ``VGPOTrainer`` adds to it.

    Unlike TRL's, ``bf16`` and ``gradient_checkpointing`` are off where there is no
    accelerator, unless they are set.

    Args:
        visual_compensation_strength: β of Eq. 5, at least 0. The paper sets 0.3.
        visual_gate_tail_ratio: γ of Eq. 6, in [0, 1]: compensation reaches the last
            γ of a response. The paper sets 0.5. The released code's flag of that
            name is 1 - γ.
        visual_gate_top_ratio: κ of Eq. 6, in (0, 1]: the share of the tail that
            passes the gate. The paper sets 0.2.
        compensation_schedule: ``"linear"`` (the paper's default), ``"exponential"``
            or ``"step"``, both of its ablation.
        intra_trajectory: Re-weight tokens within a trajectory (Eq. 7-8). On in the
            paper, and off in one row of its ablation.
        inter_trajectory: Re-weight the trajectories of a prompt (Eq. 9-11). On in
            the paper, and off in one row of its ablation.
        accumulation: ``"sum"`` is the paper's Eq. 9; ``"mean"`` takes length out of
            it. The paper is silent on length.
        alignment: ``"token"`` scores token t by the state at its own position, as
            the released code does; ``"prediction"`` by the state that predicted it.
            The paper can be read either way.
        variant: ``"paper"`` follows the equations, ``"released"`` the released
            code (:mod:`vgpo.method.released`), over the rollouts of one generation
            step.
        dynamic_sampling: Replace groups whose mean accuracy is out of bounds by
            freshly sampled prompts. The paper: DAPO's dynamic sampling; TRL: none.
        dynamic_sampling_lower_bound: Groups at or below are dropped. The released
            recipe: 0.01.
        dynamic_sampling_upper_bound: Groups at or above are dropped. The released
            recipe: 0.99.
        dynamic_sampling_max_attempts: Rounds of generation per step, the first
            included; after the last, dropped groups fill what is left. The paper is
            silent.
        dynamic_sampling_reward: Name of the reward function that measures accuracy;
            by default the first one.

    Raises:
        ValueError: A value is out of range; the message names the field.

    Example:
        >>> config = VGPOConfig.preset("vgpo", output_dir="runs/vgpo")
        >>> config.visual_compensation_strength, config.epsilon_high
        (0.3, 0.28)
        >>> VGPOConfig(output_dir="runs/x", visual_gate_top_ratio=0.0)
        Traceback (most recent call last):
        ...
        ValueError: visual_gate_top_ratio must be in (0, 1], got 0.0
    """

    # TRL's field; off without an accelerator, which does not save memory there.
    gradient_checkpointing: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "Recompute activations; by default where there is a GPU."},
    )
    visual_compensation_strength: float = field(
        default=0.3, metadata={"help": "β of Eq. 5, at least 0."}
    )
    visual_gate_tail_ratio: float = field(
        default=0.5, metadata={"help": "γ of Eq. 6, in [0, 1]."}
    )
    visual_gate_top_ratio: float = field(
        default=0.2, metadata={"help": "κ of Eq. 6, in (0, 1]."}
    )
    compensation_schedule: str = field(
        default="linear", metadata={"help": "linear, exponential or step."}
    )
    intra_trajectory: bool = field(
        default=True, metadata={"help": "Re-weight tokens in a trajectory (Eq. 7-8)."}
    )
    inter_trajectory: bool = field(
        default=True, metadata={"help": "Re-weight trajectories (Eq. 9-11)."}
    )
    accumulation: str = field(
        default="sum", metadata={"help": "sum (Eq. 9) or mean over the tokens."}
    )
    alignment: str = field(default="token", metadata={"help": "token or prediction."})
    variant: str = field(default="paper", metadata={"help": "paper or released."})
    dynamic_sampling: bool = field(
        default=False, metadata={"help": "Replace groups all right or all wrong."}
    )
    dynamic_sampling_lower_bound: float = field(
        default=0.01, metadata={"help": "Groups at or below are dropped."}
    )
    dynamic_sampling_upper_bound: float = field(
        default=0.99, metadata={"help": "Groups at or above are dropped."}
    )
    dynamic_sampling_max_attempts: int = field(
        default=4, metadata={"help": "Rounds of generation per step, at most."}
    )
    dynamic_sampling_reward: str | None = field(
        default=None, metadata={"help": "Reward that measures accuracy."}
    )

    def __post_init__(self):
        self._check()
        on_cpu = self.use_cpu or not torch.accelerator.is_available()
        if self.gradient_checkpointing is None:
            self.gradient_checkpointing = not on_cpu
        if self.bf16 is None and on_cpu:
            self.bf16 = False
        super().__post_init__()

    @classmethod
    def preset(cls, name: str, **fields: Any) -> "VGPOConfig":
        """One of the paper's three methods, with any field changed.

        ``"grpo"`` has a symmetric clip, a mean over sequences and a KL term (weight
        0.04, as in DeepSeekMath; the paper is silent); ``"dapo"`` a token mean,
        clip-higher, no KL and dynamic sampling; ``"vgpo"`` is DAPO with the
        advantages re-weighted.

        Raises:
            ValueError: Unknown preset, or as the class.
        """
        return cls(**(cls.preset_fields(name) | fields))

    @staticmethod
    def preset_fields(name: str) -> dict[str, Any]:
        """The fields a preset sets, as a new dictionary.

        Raises:
            ValueError: Unknown preset.
        """
        if name not in _PRESETS:
            raise ValueError(f"preset must be one of {tuple(_PRESETS)}, got {name!r}")
        return dict(_PRESETS[name])

    @property
    def reweights(self) -> bool:
        """Whether advantages are re-weighted at all; without it this is GRPO/DAPO."""
        return self.intra_trajectory or self.inter_trajectory

    @property
    def visual(self) -> VisualSettings:
        """VGPO's settings, under the names of its own functions."""
        return VisualSettings(
            strength=self.visual_compensation_strength,
            tail_ratio=self.visual_gate_tail_ratio,
            top_ratio=self.visual_gate_top_ratio,
            schedule=self.compensation_schedule,
            intra=self.intra_trajectory,
            inter=self.inter_trajectory,
            accumulation=self.accumulation,
            alignment=self.alignment,
            variant=self.variant,
        )

    def _check(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {choices}, got {getattr(self, name)!r}"
                )
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"{name} must be True or False, got {getattr(self, name)!r}"
                )
        for name in _NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ValueError(f"{name} must be a number, got {value!r}")
        strength = self.visual_compensation_strength
        if not 0 <= strength < float("inf"):
            raise ValueError(
                f"visual_compensation_strength must be at least 0, got {strength}"
            )
        if not 0 <= self.visual_gate_tail_ratio <= 1:
            raise ValueError(
                "visual_gate_tail_ratio must be in [0, 1], got "
                f"{self.visual_gate_tail_ratio}"
            )
        if not 0 < self.visual_gate_top_ratio <= 1:
            raise ValueError(
                "visual_gate_top_ratio must be in (0, 1], got "
                f"{self.visual_gate_top_ratio}"
            )
        low, high = self.dynamic_sampling_lower_bound, self.dynamic_sampling_upper_bound
        if not 0 <= low < high <= 1:
            raise ValueError(
                "dynamic_sampling_lower_bound and dynamic_sampling_upper_bound must "
                f"satisfy 0 <= lower < upper <= 1, got {low} and {high}"
            )
        attempts = self.dynamic_sampling_max_attempts
        if not isinstance(attempts, Integral) or attempts < 1:
            raise ValueError(
                "dynamic_sampling_max_attempts must be a whole number, at least 1, "
                f"got {attempts}"
            )
        if self.variant == "released" and self.alignment != "token":
            raise ValueError(
                "alignment must be 'token' with variant='released', which scores "
                f"tokens at their own position, got {self.alignment!r}"
            )
        if (
            self.variant == "released"
            and not self.intra_trajectory
            and self.inter_trajectory
        ):
            raise ValueError(
                "intra_trajectory must be on with variant='released' if "
                "inter_trajectory is: the released code has no compensation without "
                "it; use variant='paper' for that row of the ablation"
            )
