"""What ``--check`` says of data, rewards and settings, without weights."""

import json
import re

import pytest
from PIL import Image
from trl import ModelConfig

from vgpo.memory.estimating import estimate
from vgpo.testbed import load_tiny
from vgpo.train import main
from vgpo.training.build import build_trainer
from vgpo.training.config import VGPOConfig
from vgpo.training.preflight import preflight
from vgpo.training.settings import TrainArguments


def told(tmp_path, data=(), model=(), **fields):
    """What the command line would be told."""
    settings = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 64,
    } | fields
    return (
        TrainArguments(**({"dataset": "testbed", "testbed_size": 8} | dict(data))),
        VGPOConfig.preset("vgpo", **settings),
        ModelConfig(model_name_or_path="testbed", **dict(model)),
    )


def check(tmp_path, data=(), model=(), **fields):
    return preflight(*told(tmp_path, data, model, **fields))


def write_rows(tmp_path, answers):
    Image.new("RGB", (56, 28), "red").save(tmp_path / "one.png")
    rows = [
        {"problem": "red ?", "answer": answer, "images": ["one.png"]}
        for answer in answers
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"dataset": str(file), "prompt_suffix": ""}


def test_the_small_world_passes_and_its_tokens_are_counted(tmp_path):
    found = check(tmp_path)
    assert found.passed and not found.warnings
    text = str(found)
    assert "8 rows to train on" in text
    assert "8 of 8 references get 1, an empty answer gets 0" in text
    assert "2 prompts x 4 rollouts" in text


def test_pictures_of_a_file_are_counted_in_tokens_of_28_pixels(tmp_path):
    found = check(tmp_path, write_rows(tmp_path, ["3"] * 4))
    assert "image tokens of a prompt: 2 each" in str(found)
    assert "1,568 each pixels as they are" in str(found)


def test_too_few_rows_for_a_step_are_a_problem(tmp_path):
    found = check(tmp_path, {"testbed_size": 1})
    assert not found.passed
    assert "no step would be taken" in str(found)


def test_completions_beyond_the_models_positions_are_a_problem(tmp_path):
    found = check(tmp_path, max_completion_length=1_000_000)
    assert any("positions" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("data", "model", "fields", "said"),
    [
        (
            {"rewards": ["overlong", "accuracy"], "overlong_cache": 8},
            {},
            {"dynamic_sampling": True},
            "dynamic sampling goes by the reward overlong",
        ),
        (
            {},
            {"use_peft": True, "lora_dropout": 0.1},
            {"beta": 0.04},
            "the KL term measures dropout as well",
        ),
    ],
)
def test_settings_known_to_disappoint_are_warned_of(
    tmp_path, data, model, fields, said
):
    found = check(tmp_path, data, model, **fields)
    assert found.passed
    assert any(said in warning for warning in found.warnings)


def test_a_format_reward_that_nobody_asks_the_model_for_is_warned_of(tmp_path):
    rows = write_rows(tmp_path, ["3"] * 4) | {"rewards": ["accuracy", "format"]}
    assert any("<think>" in one for one in check(tmp_path, rows).warnings)
    asked = rows | {"prompt_suffix": "Think inside <think> </think>."}
    assert not check(tmp_path, asked).warnings


@pytest.mark.parametrize(
    ("data", "model", "fields", "said"),
    [
        ({}, {"load_in_4bit": True}, {}, "load_in_4bit trains adapters only"),
        ({}, {"load_in_8bit": True}, {}, "load_in_8bit is not supported"),
        ({"lora_vision": True}, {}, {}, "there are no adapters to set"),
        ({}, {"use_peft": True, "lora_task_type": "SEQ_CLS"}, {}, "must be CAUSAL_LM"),
        (
            {},
            {},
            {"dynamic_sampling_reward": "length"},
            "dynamic_sampling_reward must be one of",
        ),
        (
            {},
            {},
            {"multi_objective_aggregation": "normalize_then_sum"},
            "must be 'sum_then_normalize'",
        ),
    ],
)
def test_what_the_trainer_refuses_is_refused_by_the_check(
    tmp_path, data, model, fields, said
):
    fields = {"dynamic_sampling": True} | fields
    found = check(tmp_path, data, model, **fields)
    assert any(said in problem for problem in found.problems)
    with pytest.raises(ValueError, match=said):
        build_trainer(*told(tmp_path, data, model, **fields))


def test_the_memory_that_is_expected_is_the_calculators(tmp_path):
    found = check(tmp_path, model={"use_peft": True})
    config = load_tiny()[0].config
    (line,) = [fact for fact in found.facts if fact.startswith("memory, expected")]
    (given,) = [fact for fact in found.facts if "assumed" in fact]
    words, pictured = map(int, re.search(r"seen, (\d+) \+ (\d+)", given).groups())
    expected = estimate(
        config,
        dtype="float32",
        bf16=False,
        use_peft=True,
        gradient_checkpointing=False,
        prompt_tokens=words,
        image_tokens=pictured,
        max_completion_length=64,
        per_device_train_batch_size=8,
        steps_per_generation=1,
        device="cpu",
    )
    assert f"{expected.total / 1e9:.2f} GB" in line
    assert "every answer 64 tokens" in given


def test_steps_that_bfloat16_rounds_away_are_warned_of(tmp_path):
    narrow = {"dtype": "bfloat16"}
    rate = {"learning_rate": 1e-6}

    def warned(**model):
        found = check(tmp_path, model=narrow | model, **rate)
        return any("rounded away" in one for one in found.warnings)

    assert warned()
    assert not warned(use_peft=True)
    assert not warned(dtype="float32")


def test_data_without_a_picture_is_warned_of_where_the_method_needs_one(tmp_path):
    file = tmp_path / "rows.jsonl"
    row = json.dumps({"problem": "1 + 1 ?", "answer": "2", "images": []})
    file.write_text(f"{row}\n" * 4)
    found = check(tmp_path, {"dataset": str(file), "prompt_suffix": ""})
    assert any("no row has one" in warning for warning in found.warnings)


def test_the_command_line_checks_and_trains_nothing(tmp_path, capsys):
    arguments = [
        *("--model_name_or_path", "testbed", "--dataset", "testbed", "--check"),
        *("--testbed_size", "8", "--per_device_train_batch_size", "8"),
        *("--num_generations", "4", "--output_dir", str(tmp_path / "run")),
    ]
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 0
    assert "Nothing stands against a start." in capsys.readouterr().out
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--testbed_size", "1"])
    assert done.value.code == 1
