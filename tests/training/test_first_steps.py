"""Warnings of the first steps: of real runs, and of numbers as TRL logs them."""

import inspect
import logging
import math

import pytest
import torch
from tiny_training import make_trainer, train
from transformers import TrainerControl, TrainerState
from trl import GRPOTrainer

from vgpo.models.adapters import lora_config
from vgpo.rewards import accuracy_reward, format_reward
from vgpo.testbed import load_tiny
from vgpo.training.first_steps import (
    GAP_MAX,
    GAP_MEAN,
    FirstSteps,
    warning_of_kl,
    warnings_of,
)

GAP = "sampling/sampling_logp_difference"


@pytest.fixture
def said(caplog):
    """What was warned of, once each run is over."""
    caplog.set_level(logging.WARNING, "vgpo.training.first_steps")

    def texts():
        return [
            record.getMessage()
            for record in caplog.records
            if record.name == "vgpo.training.first_steps"
        ]

    return texts


def trained(folder, change=None, **fields):
    """One step of the shipped model, whose answers end and have the form."""
    model, itself = load_tiny()
    if change is not None:
        change(model)
    settings = {
        "model": model,
        "reward_funcs": [accuracy_reward, format_reward],
        "max_completion_length": 160,
        "max_steps": 1,
        "per_device_train_batch_size": 20,
        "seed": 1,
    }
    trainer = make_trainer(folder, **(settings | fields))
    trainer.processing_class = itself
    trainer.train()
    return trainer


# -- runs ---------------------------------------------------------------------------


def test_a_model_that_ends_its_answers_in_the_form_is_not_warned_of(tmp_path, said):
    trainer = trained(tmp_path, beta=0.04)
    first = trainer.state.log_history[0]
    assert first["rewards/format_reward/mean"] > 0
    assert first["kl"] < 1e-4
    assert not said()


def test_no_form_and_cut_off_answers_are_warned_of_once(tmp_path, said):
    # Eight tokens of an untrained model: never a form, hardly ever an end.
    trainer = train(tmp_path, reward_funcs=[format_reward], max_steps=8)
    logged = trainer.state.log_history[:3]
    assert all(row["rewards/format_reward/mean"] == 0 for row in logged)
    form, cut = said()
    assert form.startswith("format_reward is 0 for all of the first 24 completions")
    assert "prompt_suffix" in form and "log_completions=True" in form
    share = sum(row["completions/clipped_ratio"] for row in logged) / 3
    assert f"clipped_ratio is {100 * share:.0f} % of the first 24" in cut
    assert "max_completion_length" in cut


def test_too_few_completions_say_nothing_of_shares(tmp_path, said):
    train(tmp_path, reward_funcs=[format_reward], max_steps=2)
    assert not said()


def test_logs_of_several_steps_are_judged_step_by_step(tmp_path, said):
    train(tmp_path, reward_funcs=[format_reward], max_steps=4, logging_steps=4)
    assert len(said()) == 2
    assert all("of the first 24 completions" in one for one in said())


def more_of_everything(model):
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)


def dropout(model):
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.3


@pytest.mark.parametrize("change", [more_of_everything, dropout])
def test_a_reference_that_is_another_model_is_warned_of(change, tmp_path, said):
    trainer = trained(tmp_path, change, beta=0.04, max_completion_length=16)
    kl = trainer.state.log_history[0]["kl"]
    found = [one for one in said() if one.startswith("kl is")]
    assert found == [warning_of_kl({"kl": [kl]})]
    assert f"kl is {kl:.3g} before the first update" in found[0]
    assert "attention_dropout" in found[0]


def test_dropout_of_adapters_that_are_still_zero_is_no_other_model(tmp_path, said):
    model, _ = load_tiny()
    trainer = trained(
        tmp_path,
        beta=0.04,
        max_completion_length=16,
        peft_config=lora_config(model, dropout=0.5),
    )
    assert trainer.state.log_history[0]["kl"] < 1e-6
    assert not any(one.startswith("kl is") for one in said())


def test_a_resumed_run_has_left_its_reference(tmp_path, said):
    """Its policy has been trained, and may differ."""
    numbers = {"kl": [3.0], "completions/clipped_ratio": [0.0]}
    watch = FirstSteps(lambda: numbers)
    trainer = make_trainer(tmp_path)
    state, control = TrainerState(is_world_process_zero=True), TrainerControl()
    state.global_step = 4
    watch.on_train_begin(trainer.args, state, control)
    state.global_step = 5
    watch.on_step_end(trainer.args, state, control)
    assert not said()


# -- numbers as they are logged -------------------------------------------------------


def test_log_probabilities_of_another_sampler():
    """Rounding passes; another distribution or a token apart does not."""
    rounding = {f"{GAP}/mean": [0.03, 0.04], f"{GAP}/max": [0.5, 0.7]}
    assert warnings_of(rounding, 64) == []
    [other] = warnings_of({f"{GAP}/mean": [0.3, 0.5], f"{GAP}/max": [2.0, 3.0]}, 64)
    assert f"{GAP} has mean 0.4 and max 3 at the start" in other
    assert "top_p" in other and "max_pixels" in other
    [apart] = warnings_of({f"{GAP}/mean": [0.01], f"{GAP}/max": [0.1, 9.0]}, 64)
    assert "max 9" in apart and "some tokens alone" in apart


def test_trl_logs_the_difference_to_vllm_under_these_names():
    """vLLM does not run here, so its numbers are looked for in TRL's source."""
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    for name in ("mean", "max"):
        assert f'_metrics[mode]["{GAP}/{name}"].append(' in source


def test_limits_lie_above_the_noise_of_bfloat16():
    """Ten thousand log-probabilities twice in bfloat16, of logits as large as 30."""
    torch.manual_seed(0)
    logits = 6 * torch.randn(10_000, 500)
    tokens = logits.softmax(-1).multinomial(1)
    exact = logits.log_softmax(-1).gather(1, tokens)
    rounded = logits.bfloat16().float().log_softmax(-1).gather(1, tokens)
    gap = (exact - rounded).abs()
    assert float(gap.mean()) < GAP_MEAN and float(gap.max()) < GAP_MAX
    kl = torch.exp(exact - rounded) - (exact - rounded) - 1
    assert warning_of_kl({"kl": kl[:, 0].tolist()}) is None


@pytest.mark.parametrize("nothing", [{}, {"kl": []}, {"kl": [math.nan]}])
def test_no_numbers_say_nothing(nothing):
    assert warning_of_kl(nothing) is None
    assert warnings_of(nothing, 64) == []


def test_an_own_name_of_trls_format_reward_is_known():
    noted = {
        "rewards/think_format_reward/mean": [0.0, 0.0],
        "rewards/accuracy_reward/mean": [0.0, 0.0],
    }
    [one] = warnings_of(noted, 40)
    assert one.startswith("think_format_reward is 0 for all of the first 40")
    assert warnings_of({"rewards/format_reward/mean": [0.0, 0.1]}, 40) == []


def test_an_evaluation_between_two_logs_counts_nothing_twice():
    numbers = {"completions/clipped_ratio": [1.0]}
    watch = FirstSteps(lambda: numbers)
    watch._read["completions/clipped_ratio"] = 1
    watch.on_log(None, None, None, {"eval_loss": 1.0})
    assert watch._read
    watch.on_log(None, None, None, {"loss": 1.0})
    assert not watch._read
