"""Settings of training, by GRPO, DAPO, VGPO or any other method.

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

import math
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any

import torch
from trl import GRPOConfig

from vgpo.method.plain import RECIPE
from vgpo.method.shaping import METHODS, Method, did_you_mean, make_method
from vgpo.method.visual import VGPO
from vgpo.training.machine import refuse_missing_gpu

# VGPO's settings, and the fields they are under here.
_FIELD_OF = {
    "strength": "visual_compensation_strength",
    "tail_ratio": "visual_gate_tail_ratio",
    "top_ratio": "visual_gate_top_ratio",
    "schedule": "compensation_schedule",
    "intra": "intra_trajectory",
    "inter": "inter_trajectory",
    "accumulation": "accumulation",
    "alignment": "alignment",
    "variant": "variant",
}
# What TRL and Transformers take without a look, and fail on at the first step or never:
# the least value, whether it is allowed, and the greatest.
_RANGES = {
    "learning_rate": (0, True, math.inf),
    "temperature": (0, False, math.inf),
    "top_p": (0, False, 1),
    "beta": (0, True, math.inf),
    "epsilon": (0, True, math.inf),
    "epsilon_high": (0, True, math.inf),
    "num_train_epochs": (0, False, math.inf),
    "per_device_train_batch_size": (1, True, math.inf),
    "per_device_eval_batch_size": (1, True, math.inf),
    "gradient_accumulation_steps": (1, True, math.inf),
    "steps_per_generation": (1, True, math.inf),
    "num_iterations": (1, True, math.inf),
    "num_generations": (2, True, math.inf),
}
LOSS_TYPES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "vespo", "luspo")
"""TRL's, by which the loss is summed and clipped."""
_WORDS = {
    "loss_type": LOSS_TYPES,
    "importance_sampling_level": ("token", "sequence"),
    "scale_rewards": ("group", "batch", "none", True, False, "True", "False"),
}
_NUMBERS = (
    "dynamic_sampling_lower_bound",
    "dynamic_sampling_upper_bound",
    "dynamic_sampling_max_attempts",
)


@dataclass
class VGPOConfig(GRPOConfig):
    r"""All of TRL's ``GRPOConfig``, and what ``VGPOTrainer`` adds to it.

    Fields from ``visual_compensation_strength`` to ``variant`` are VGPO's, and mean
    nothing to another ``method``.

    Unlike TRL's, ``bf16`` and ``gradient_checkpointing`` are off where there is no
    accelerator, unless they are set.

    Args:
        method: What makes advantages of tokens out of those of rollouts: ``"vgpo"``,
            ``"grpo"`` and ``"dapo"`` (which leave them as they are), or any other
            that is registered (:mod:`vgpo.method.shaping`). It does not set the loss
            that goes with it; :meth:`preset` does.
        method_kwargs: Settings of that method, but for VGPO, whose settings are
            fields of their own.
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
            included; after the last, dropped groups fill what is left. A round after
            the first samples about as many groups as are missing. The paper is
            silent.
        dynamic_sampling_reward: Name of the reward function that measures accuracy;
            by default the first one.

    Raises:
        ValueError: A value is out of range, or needs a GPU that is not here; the
            message names the field.

    Example:
        >>> config = VGPOConfig.preset("vgpo", output_dir="runs/vgpo")
        >>> config.visual_compensation_strength, config.epsilon_high
        (0.3, 0.28)
        >>> VGPOConfig.preset("dapo", output_dir="runs/dapo").method
        'dapo'
        >>> VGPOConfig(output_dir="runs/x", visual_gate_top_ratio=0.0)
        Traceback (most recent call last):
        ...
        ValueError: visual_gate_top_ratio must be in (0, 1], got 0.0
    """

    _VALID_DICT_FIELDS = GRPOConfig._VALID_DICT_FIELDS + ["method_kwargs"]  # noqa: RUF005

    gradient_checkpointing: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "Recompute activations; by default where there is a GPU."},
    )
    """TRL's field; off without an accelerator, which does not save memory there."""
    method: str = field(
        default="vgpo", metadata={"help": "vgpo, grpo, dapo or another, registered."}
    )
    method_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Settings of the method, if it is not vgpo."}
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
        self._check_fields_of_trl()
        on_cpu = self.use_cpu or not torch.accelerator.is_available()
        if self.gradient_checkpointing is None:
            self.gradient_checkpointing = not on_cpu
        if self.bf16 is None and on_cpu:
            self.bf16 = False
        # TRL trains in bfloat16 where nothing else is said.
        bf16 = not self.fp16 if self.bf16 is None else self.bf16
        refuse_missing_gpu(bf16 or self.bf16_full_eval, self.fp16, self.use_cpu)
        self._name_checkpointing_anew()
        super().__post_init__()
        self.make_method()

    def _name_checkpointing_anew(self) -> None:
        """Under the names of newer transformers, which warn of those that TRL sets."""
        names = {one.name for one in fields(self)}
        for name in ("activation_checkpointing", "activation_checkpointing_kwargs"):
            if name in names and getattr(self, name) is None:
                old = name.replace("activation", "gradient")
                setattr(self, name, getattr(self, old))

    @classmethod
    def preset(cls, name: str, **fields: Any) -> "VGPOConfig":
        """A method with the loss that its paper gives it, any field changed.

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
        if name not in METHODS:
            raise ValueError(
                f"preset must be one of {tuple(METHODS)}, got {name!r}"
                f"{did_you_mean(name, METHODS)}"
            )
        chosen: dict[str, Any] = {"method": name}
        if METHODS[name] is not VGPO:
            chosen |= {"intra_trajectory": False, "inter_trajectory": False}
        return {**RECIPE, **chosen, **METHODS[name].preset}

    def make_method(self) -> Method:
        """The method, with its settings.

        Raises:
            ValueError: Unknown method or setting, or a setting out of range.
        """
        if isinstance(self.method_kwargs, str):
            raise ValueError(
                "method_kwargs must be a mapping from settings to values, got "
                f"{self.method_kwargs!r}"
            )
        if METHODS.get(self.method) is not VGPO:
            return make_method(self.method, self.method_kwargs)
        if self.method_kwargs:
            raise ValueError(
                "method_kwargs: VGPO's settings are fields of their own, "
                f"{', '.join(_FIELD_OF.values())}; got {self.method_kwargs}"
            )
        return self._visual()

    @property
    def reweights(self) -> bool:
        """Whether the method asks for signals of the tokens; GRPO and DAPO do not."""
        return bool(self.make_method().signals)

    def _visual(self) -> VGPO:
        """VGPO's settings; an error names the field here."""
        try:
            return VGPO(**{name: getattr(self, at) for name, at in _FIELD_OF.items()})
        except ValueError as error:
            name, _, what = str(error).partition(" ")
            raise ValueError(f"{_FIELD_OF[name]} {what}") from None

    def _check(self) -> None:
        self._visual()
        if not isinstance(self.dynamic_sampling, bool):
            raise ValueError(
                f"dynamic_sampling must be True or False, got {self.dynamic_sampling!r}"
            )
        for name in _NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ValueError(f"{name} must be a number, got {value!r}")
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

    def _check_fields_of_trl(self) -> None:
        for name, (least, allowed, greatest) in _RANGES.items():
            given = getattr(self, name)
            if given is None:
                continue
            try:
                value = float(given)  # a recipe's 1e-6 is text
            except (TypeError, ValueError):
                raise ValueError(f"{name} must be a number, got {given!r}") from None
            fits = math.isfinite(value) and value <= greatest
            if not fits or value < least or (value == least and not allowed):
                how = "at least" if allowed else "above"
                end = "" if greatest == math.inf else f" and at most {greatest}"
                raise ValueError(f"{name} must be {how} {least}{end}, got {given!r}")
        for name, words in _WORDS.items():
            given = getattr(self, name)
            if given not in words:
                listed = ", ".join(word for word in words if isinstance(word, str))
                raise ValueError(f"{name} must be one of {listed}, got {given!r}")
