"""The command line: recipes, data in TRL's format, clear errors, a run resumed."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image
from trl import ModelConfig

from vgpo import VGPOConfig
from vgpo.train import (
    PROMPT_SUFFIX,
    TrainArguments,
    build_trainer,
    last_checkpoint,
    load_rows,
    main,
    parse,
    reward_functions,
    to_prompts,
)
from vgpo.training.metrics import read_metrics

RECIPES = (
    "tiny_cpu",
    "qwen2_5_vl_3b_lora_1gpu",
    "qwen2_5_vl_7b_qlora_1gpu",
    "qwen2_5_vl_7b_8gpu",
    "qwen2_5_vl_32b_multinode",
)
ON_CPU = ["--bf16", "false", "--use_cpu", "true"]


@pytest.fixture
def recipe(root):
    return lambda name: str(root / "recipes" / f"{name}.yaml")


# -- recipes ----------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_understood(name, recipe):
    script, args, model = parse(["--config", recipe(name), *ON_CPU])
    assert isinstance(script, TrainArguments)
    assert isinstance(args, VGPOConfig)
    assert isinstance(model, ModelConfig)
    assert args.reweights
    assert args.dynamic_sampling
    assert args.num_generations == 8
    assert model.lora_dropout == 0
    assert args.max_completion_length == (128 if name == "tiny_cpu" else 2048)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_states_memory_and_what_was_run(name, recipe):
    with open(recipe(name), encoding="utf-8") as file:
        header = re.split(r"\n(?!#)", file.read())[0]
    assert "accelerate launch" in header
    assert "# Memory" in header
    assert "# Run here: " in header
    assert ("Run here: yes" in header) == (name == "tiny_cpu")


@pytest.mark.parametrize(
    ("name", "gpus"), [("qwen2_5_vl_7b_8gpu", 8), ("qwen2_5_vl_32b_multinode", 32)]
)
def test_batch_of_the_paper(name, gpus, recipe):
    _, args, _ = parse(["--config", recipe(name), *ON_CPU])
    step = gpus * args.per_device_train_batch_size
    assert step * args.steps_per_generation == 512 * 8
    assert step * args.gradient_accumulation_steps == 128 * 8
    updates = args.steps_per_generation // args.gradient_accumulation_steps
    assert updates == 4
    assert args.save_steps % updates == 0
    assert args.learning_rate == 1e-6


@pytest.mark.parametrize("name", ["tiny_cpu", "qwen2_5_vl_7b_8gpu"])
def test_preset_on_the_command_line_trains_the_baseline(name, recipe):
    command = ["--config", recipe(name), *ON_CPU]
    _, ours, _ = parse(command)
    _, dapo, _ = parse([*command, "--preset", "dapo"])
    _, grpo, _ = parse([*command, "--preset", "grpo"])
    assert ours.reweights
    assert not dapo.reweights
    assert dapo.epsilon_high == 0.28
    assert grpo.loss_type == "grpo"
    assert ours.per_device_train_batch_size == grpo.per_device_train_batch_size


def test_command_line_wins_over_recipe_and_recipe_over_preset(recipe):
    command = ["--config", recipe("tiny_cpu"), "--visual_gate_top_ratio", "0.4"]
    _, args, _ = parse([*command, "--max_steps", "7"])
    assert (args.max_steps, args.visual_gate_top_ratio) == (7, 0.4)
    assert args.top_p == 1.0  # the preset says 0.99
    assert args.weight_decay == 1e-2  # the preset's


def test_accelerate_file_is_understood(root):
    config = load_config_from_file(str(root / "recipes" / "accelerate_zero3.yaml"))
    assert config.deepspeed_config["zero_stage"] == 3
    assert config.num_processes == 8


def test_no_other_recipe_is_left_untested(root):
    known = {*RECIPES, "accelerate_zero3"}
    for file in (root / "recipes").glob("*.yaml"):
        fields = yaml.safe_load(file.read_text()) or {}
        assert "output_dir" not in fields or file.stem in known


# -- errors -----------------------------------------------------------------------


def settings(tmp_path, *arguments):
    return parse(["--output_dir", str(tmp_path), *ON_CPU, *arguments])


def build(tmp_path, *arguments):
    return build_trainer(*settings(tmp_path, *arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "model_name_or_path is missing"),
        (
            ["--model_name_or_path", "no/such-model"],
            "model_name_or_path: 'no/such-model' cannot be loaded",
        ),
        (["--model_name_or_path", "testbed"], "dataset is missing"),
        (
            ["--model_name_or_path", "testbed", "--dataset", "no/such-data"],
            "dataset: 'no/such-data' cannot be loaded",
        ),
        (["--rewards", "beauty"], r"rewards must be among .* got \['beauty'\]"),
        (["--load_in_8bit", "true"], "load_in_8bit is not supported"),
        (["--load_in_4bit", "true"], "load_in_4bit trains adapters only"),
    ],
)
def test_what_is_missing_is_named(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, *arguments)


def test_errors_end_the_command_with_one_line(tmp_path):
    with pytest.raises(
        SystemExit, match=r"^vgpo\.train: model_name_or_path is missing"
    ):
        main(["--output_dir", str(tmp_path), *ON_CPU])


def test_wrong_value_names_its_field(tmp_path):
    with pytest.raises(ValueError, match="visual_gate_top_ratio must be in"):
        settings(tmp_path, "--visual_gate_top_ratio", "2")
    with pytest.raises(ValueError, match="preset must be one of"):
        settings(tmp_path, "--preset", "ppo")


def test_unknown_field_of_a_recipe_is_refused(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("output_dir: runs/x\nvisual_gate_ratio: 0.5\n")
    with pytest.raises(ValueError, match="visual_gate_ratio"):
        parse(["--config", str(file), *ON_CPU])


def test_missing_recipe_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        parse(["--config", str(tmp_path / "nowhere.yaml")])


# -- data -------------------------------------------------------------------------


def pictures(*sizes):
    return [Image.new("RGB", (size, size)) for size in sizes]


def real_rows():
    return Dataset.from_dict(
        {
            "problem": ["<image>How many?", "Is <image> like <image> ?", "1 + 1 ?"],
            "answer": ["3", "yes", "2"],
            "images": [pictures(28), pictures(28, 56), []],
        }
    ).cast_column("images", List(ImageFeature()))


def parts(row):
    return [p["text"] or p["type"] for p in row["prompt"][0]["content"]]


@pytest.mark.parametrize("form", ["parquet", "disk"])
def test_rows_of_a_file_become_prompts(form, tmp_path):
    where = tmp_path / "rows.parquet"
    if form == "parquet":
        real_rows().to_parquet(where)
    else:
        where = tmp_path / "rows"
        real_rows().save_to_disk(where)
    rows = load_rows(TrainArguments(), str(where), "train")
    assert len(rows) == 3
    assert rows[0]["prompt"][0]["role"] == "user"
    assert parts(rows[0]) == ["image", "How many?", f"\n{PROMPT_SUFFIX}"]
    assert parts(rows[1])[:-1] == ["Is", "image", "like", "image", "?"]
    assert parts(rows[2])[:-1] == ["1 + 1 ?"]
    assert [len(row["images"]) for row in rows] == [1, 2, 0]
    assert rows[1]["images"][1].size == (56, 56)
    assert [row["answer"] for row in rows] == ["3", "yes", "2"]


def test_images_come_first_where_no_place_is_marked():
    rows = Dataset.from_dict({"q": ["How many?"], "a": ["3"], "i": [pictures(28, 28)]})
    rows = to_prompts(rows.cast_column("i", List(ImageFeature())), "q", "a", "i")
    assert parts(rows[0]) == ["image", "image", "How many?"]


def test_single_image_column_and_answers_of_any_type():
    features = Features(
        {"q": Value("string"), "a": Value("int64"), "i": ImageFeature()}
    )
    rows = [{"q": "<image>?", "a": 3, "i": pictures(28)[0]}]
    rows.append({"q": "?", "a": 4, "i": None})
    rows = to_prompts(
        Dataset.from_list(rows, features), "q", "a", "i", suffix="Box it."
    )
    assert parts(rows[0]) == ["image", "?", "\nBox it."]
    assert parts(rows[1]) == ["?", "\nBox it."]
    assert [len(row["images"]) for row in rows] == [1, 0]
    assert [row["answer"] for row in rows] == ["3", "4"]


def test_suffix_asks_for_what_the_rewards_read():
    assert "<think> </think>" in PROMPT_SUFFIX
    assert "\\boxed{}" in PROMPT_SUFFIX


def test_missing_columns_are_named(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "1 + 1 ?", "answer": "2"}\n')
    with pytest.raises(
        ValueError, match=r"no column problem, images, only question, answer"
    ):
        load_rows(TrainArguments(), str(file), "train")


def test_unknown_kind_of_file_is_refused(tmp_path):
    file = tmp_path / "rows.pkl"
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of \.parquet"):
        load_rows(TrainArguments(), str(file), "train")


def test_rewards_by_name(tmp_path):
    script, args, _ = settings(
        tmp_path, "--rewards", "accuracy", "format", "--max_completion_length", "64"
    )
    right = "<think>1</think> \\boxed{3}"
    values = [
        f(completions=[right], answer=["3"]) for f in reward_functions(script, args)
    ]
    assert values == [[1.0], [1.0]]
    script = TrainArguments(rewards=["overlong"], overlong_cache=16)
    (overlong,) = reward_functions(script, args)
    lengths = ([0] * length for length in (64, 56, 48))
    assert overlong(completion_ids=list(lengths)) == [-1.0, -0.5, 0.0]


# -- running ----------------------------------------------------------------------


def test_last_checkpoint_is_the_last_that_is_whole(tmp_path):
    for step, whole in ((2, True), (10, True), (12, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if whole:
            (folder / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


SMALL = [
    *("--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1"),
    *("--max_completion_length", "12", "--save_steps", "1", "--testbed_size", "8"),
    *("--dynamic_sampling", "false"),
]


@pytest.mark.slow
def test_tiny_recipe_runs_by_command_line_and_is_resumed(recipe, root, tmp_path):
    command = ["--config", recipe("tiny_cpu"), "--output_dir", str(tmp_path), *SMALL]
    command += ["--resume_from_checkpoint", "auto"]
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += ["--cpu", "--num_processes", "1"]
    done = subprocess.run(
        [*launch, "-m", "vgpo.train", *command, "--max_steps", "2"],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "No checkpoint yet" in done.stdout
    assert (tmp_path / "model.safetensors").exists()
    main([*command, "--max_steps", "3"])
    steps = read_metrics(tmp_path).query("loss.notna()")["step"].tolist()
    assert steps == [1, 2, 3]


@pytest.mark.slow
def test_4_bits_by_command_line_on_data_in_a_file(tmp_path):
    real_rows().to_parquet(tmp_path / "rows.parquet")
    trainer = build(
        tmp_path,
        *("--model_name_or_path", "testbed", "--dtype", "float32"),
        *("--load_in_4bit", "true", "--use_peft", "true", "--lora_r", "4"),
        *("--dataset", str(tmp_path / "rows.parquet"), "--max_steps", "1"),
        *("--per_device_train_batch_size", "8", "--max_completion_length", "8"),
        *("--report_to", "none", "--save_strategy", "no"),
        *("--dynamic_sampling_max_attempts", "2"),
    )
    trainer.train()
    assert trainer.model.peft_config["default"].r == 4
    assert "visual/psi_std" in trainer.state.log_history[0]
