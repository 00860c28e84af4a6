"""Settings: defaults and presets of the paper, and a message for every wrong value."""

import dataclasses
import warnings

import pytest
import torch
from trl import GRPOConfig

from vgpo import VGPOConfig
from vgpo.training.config import LOSS_TYPES


def make(tmp_path, **fields):
    return VGPOConfig(output_dir=str(tmp_path), use_cpu=True, **fields)


def preset(tmp_path, name, **fields):
    return VGPOConfig.preset(name, output_dir=str(tmp_path), use_cpu=True, **fields)


RECIPE = {
    "learning_rate": 1e-6,
    "weight_decay": 1e-2,
    "max_grad_norm": 1.0,
    "num_train_epochs": 2,
    "num_generations": 8,
    "max_completion_length": 2048,
    "temperature": 1.0,
    "top_p": 0.99,
    "seed": 1,
    "scale_rewards": "group",
    "importance_sampling_level": "token",
    "entropy_coef": 0.0,
}
DAPO = RECIPE | {
    "loss_type": "dapo",
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "beta": 0.0,
    "dynamic_sampling": True,
    "dynamic_sampling_lower_bound": 0.01,
    "dynamic_sampling_upper_bound": 0.99,
}
VGPO = DAPO | {
    "intra_trajectory": True,
    "inter_trajectory": True,
    "visual_compensation_strength": 0.3,
    "visual_gate_tail_ratio": 0.5,
    "visual_gate_top_ratio": 0.2,
    "compensation_schedule": "linear",
    "accumulation": "sum",
    "alignment": "token",
    "variant": "paper",
}
NO_VISION = {"intra_trajectory": False, "inter_trajectory": False}
GRPO = RECIPE | NO_VISION | {"loss_type": "grpo", "epsilon": 0.2, "epsilon_high": None}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("grpo", GRPO), ("dapo", DAPO | NO_VISION), ("vgpo", VGPO)],
)
def test_presets_are_the_recipe_of_the_paper(name, expected, tmp_path):
    config = preset(tmp_path, name)
    assert {field: getattr(config, field) for field in expected} == expected
    assert config.lr_scheduler_type == "constant"
    assert config.reweights == (name == "vgpo")
    assert (config.beta > 0) == (name == "grpo")


def test_presets_differ_from_dapo_only_where_they_should(tmp_path):
    dapo, vgpo = preset(tmp_path, "dapo"), preset(tmp_path, "vgpo")
    changed = {
        field.name
        for field in dataclasses.fields(dapo)
        if getattr(dapo, field.name) != getattr(vgpo, field.name)
    }
    assert changed == {"method", "intra_trajectory", "inter_trajectory"}


def test_any_field_of_a_preset_can_be_changed(tmp_path):
    config = preset(tmp_path, "vgpo", epsilon_high=0.3, alignment="prediction")
    assert (config.epsilon_high, config.alignment) == (0.3, "prediction")


def test_unknown_preset_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'grpo', 'dapo'.*'vgpo'.*'ppo'"):
        preset(tmp_path, "ppo")


NAN = float("nan")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("visual_compensation_strength", -0.1),
        ("visual_compensation_strength", NAN),
        ("visual_compensation_strength", float("inf")),
        ("visual_gate_tail_ratio", -0.1),
        ("visual_gate_tail_ratio", 1.1),
        ("visual_gate_tail_ratio", NAN),
        ("visual_gate_top_ratio", 0.0),
        ("visual_gate_top_ratio", 1.1),
        ("compensation_schedule", "cosine"),
        ("accumulation", "max"),
        ("alignment", "both"),
        ("variant", "mine"),
        ("dynamic_sampling_lower_bound", -0.1),
        ("dynamic_sampling_lower_bound", 0.99),
        ("dynamic_sampling_upper_bound", 1.5),
        ("dynamic_sampling_upper_bound", NAN),
        ("dynamic_sampling_max_attempts", 0),
        ("dynamic_sampling_max_attempts", 2.0),
        ("dynamic_sampling_max_attempts", NAN),
        ("dynamic_sampling_max_attempts", None),
        ("visual_compensation_strength", "0.3"),
        ("visual_gate_tail_ratio", None),
        ("visual_gate_top_ratio", True),
        ("dynamic_sampling_lower_bound", "low"),
        ("intra_trajectory", "false"),
        ("inter_trajectory", 1),
        ("dynamic_sampling", None),
    ],
)
def test_wrong_value_is_refused_by_name(field, value, tmp_path):
    with pytest.raises(ValueError, match=rf"{field}.* got .*{value}"):
        make(tmp_path, **{field: value})


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("learning_rate", [-1, float("nan"), float("inf"), "fast"]),
        ("temperature", [0, 0.0, -1, float("nan"), float("inf")]),
        ("top_p", [0, 1.5, -1, float("nan")]),
        ("beta", [-0.1, float("nan")]),
        ("epsilon", [-1, float("nan")]),
        ("epsilon_high", [-1]),
        ("num_train_epochs", [0, -1, float("nan")]),
        ("per_device_train_batch_size", [0, -4]),
        ("gradient_accumulation_steps", [0, -1]),
        ("steps_per_generation", [0, -1]),
        ("num_iterations", [0, -1]),
        ("num_generations", [0, 1, -4]),
        ("loss_type", ["nope", "DAPO", "", None]),
        ("importance_sampling_level", ["nope", "SEQUENCE"]),
        ("scale_rewards", ["nope", "Batch"]),
    ],
)
def test_what_trl_takes_without_a_look_is_refused_by_name(field, values, tmp_path):
    for value in values:
        with pytest.raises(ValueError, match=f"^{field} must be"):
            make(tmp_path, **{field: value})


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("learning_rate", [0, "1e-6", 1e-6]),
        ("temperature", [0.5, 2]),
        ("top_p", [1, 1.0, 0.1]),
        ("beta", [0, 0.04]),
        ("epsilon_high", [None, 0.28]),
        ("loss_type", LOSS_TYPES),
        ("importance_sampling_level", ["token", "sequence"]),
        ("scale_rewards", ["group", "batch", "none", True, False]),
    ],
)
def test_what_trl_knows_is_taken(field, values, tmp_path):
    for value in values:
        make(tmp_path, **{field: value})


def test_released_code_has_no_prediction_alignment(tmp_path):
    with pytest.raises(ValueError, match=r"alignment must be 'token'.*released"):
        make(tmp_path, variant="released", alignment="prediction")


def test_released_code_has_no_inter_only(tmp_path):
    with pytest.raises(ValueError, match=r"intra_trajectory must be on.*variant"):
        make(tmp_path, variant="released", intra_trajectory=False)


def test_nothing_is_reported_unless_asked_for(tmp_path):
    assert make(tmp_path).report_to in ([], ["none"], "none")


def test_every_new_field_is_documented():
    inherited = {field.name for field in dataclasses.fields(GRPOConfig)}
    new = [f for f in dataclasses.fields(VGPOConfig) if f.name not in inherited]
    assert len(new) == 16
    for field in new:
        assert f"        {field.name}: " in VGPOConfig.__doc__
        assert field.metadata["help"]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_without_accelerator_neither_bf16_nor_checkpointing(tmp_path):
    config = VGPOConfig(output_dir=str(tmp_path))
    assert not config.bf16
    assert not config.gradient_checkpointing


def test_what_is_asked_for_stays(tmp_path):
    assert make(tmp_path, gradient_checkpointing=True).gradient_checkpointing


@pytest.mark.parametrize("asked", [None, False, True])
def test_checkpointing_under_its_old_name_is_no_warning(tmp_path, asked):
    kwargs = {"use_reentrant": True} if asked else None
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        config = VGPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            gradient_checkpointing=asked,
            gradient_checkpointing_kwargs=kwargs,
        )
    assert config.gradient_checkpointing is bool(asked)
    assert config.activation_checkpointing is bool(asked)
    if asked:
        assert config.activation_checkpointing_kwargs == kwargs
