"""The command line: recipes, data in TRL's format, clear errors, a run resumed."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from bitsandbytes.nn import Linear4bit
from datasets import Dataset, List
from datasets import Image as ImageFeature
from PIL import Image
from trl import ModelConfig

from vgpo import VGPOConfig, VGPOTrainer
from vgpo.train import main
from vgpo.training.build import build_trainer, reward_functions
from vgpo.training.metrics import read_metrics
from vgpo.training.preflight import preflight
from vgpo.training.settings import TrainArguments, parse

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
    # The paper's 2,048, but where a card of 24 GB or a CPU is all there is.
    shorter = {"tiny_cpu": 128, "qwen2_5_vl_7b_qlora_1gpu": 1024}
    assert args.max_completion_length == shorter.get(name, 2048)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_states_memory_and_what_was_run(name, recipe):
    with open(recipe(name), encoding="utf-8") as file:
        header = re.split(r"\n(?!#)", file.read())[0]
    # Several processes on a CPU are not what `accelerate launch` starts.
    assert ("torchrun" if name == "tiny_cpu" else "accelerate launch") in header
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


TINY = ["--model_name_or_path", "testbed", "--dataset", "testbed"]
LORA = ["--use_peft", "true"]
FOUR_BITS = [*LORA, "--load_in_4bit", "true"]


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
        ([*TINY, "--load_in_8bit", "true"], "load_in_8bit is not supported"),
        ([*TINY, "--load_in_4bit", "true"], "load_in_4bit trains adapters only"),
        ([*TINY, "--lora_r", "8"], "lora_r: there are no adapters"),
        ([*TINY, "--use_rslora", "true"], "use_rslora: there are no adapters"),
        ([*TINY, "--lora_vision", "true"], "lora_vision: there are no adapters"),
        ([*TINY, *LORA, "--lora_task_type", "SEQ_CLS"], "lora_task_type must be"),
        ([*TINY, "--bnb_4bit_quant_type", "fp4"], "bnb_4bit_quant_type: weights are"),
        ([*TINY, *FOUR_BITS, "--bnb_4bit_quant_type", "fp4"], "must be 'nf4'"),
        (
            [*TINY, "--testbed_size", "4", "--per_device_train_batch_size", "64"],
            "its 4 rows are fewer than the 8 prompts",
        ),
        (
            [*TINY, "--eval_strategy", "steps", "--eval_split", "train"],
            "eval_split: 'train' of 'testbed' is what is trained on",
        ),
        (
            [*TINY, "--eval_strategy", "steps"],
            "eval_dataset, eval_split: split must be",
        ),
    ],
)
def test_what_is_missing_is_named(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, *arguments)


@pytest.mark.parametrize("split", ["train[:100%]", "train[:3]", "train[2:4]"])
def test_rows_that_are_trained_on_are_no_evaluation(split, tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"problem": f"{i} ?", "answer": str(i), "images": []} for i in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--dataset", str(file), "--eval_strategy", "steps", *TINY[:2]]
    arguments += ["--per_device_train_batch_size", "8", "--num_generations", "2"]
    arguments += ["--gradient_accumulation_steps", "1"]
    with pytest.raises(ValueError, match=r"(\d+) of \1 rows are trained on; name oth"):
        build(tmp_path, *arguments, "--eval_split", split)
    build(
        tmp_path,
        *arguments,
        "--dataset_split",
        "train[:4]",
        "--eval_split",
        "train[4:]",
    )


def test_some_rows_that_are_trained_on_are_said(tmp_path, caplog):
    file = tmp_path / "rows.jsonl"
    rows = [{"problem": f"{i} ?", "answer": str(i), "images": []} for i in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--dataset", str(file), "--eval_strategy", "steps", *TINY[:2]]
    arguments += ["--per_device_train_batch_size", "8", "--num_generations", "2"]
    arguments += ["--gradient_accumulation_steps", "1"]
    arguments += ["--dataset_split", "train[:5]", "--eval_split", "train[4:]"]
    build(tmp_path, *arguments)
    assert "1 of 4 rows are trained on" in caplog.text


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "must hold fields and values, it holds list"),
        ("a: [\n", "is no YAML"),
        ("preset: [vgpo]", "preset must be text"),
        ("rewards: null", "rewards must be"),
        ("rewards: [beauty]", "rewards must be among"),
        ("rewards: []", "rewards is empty"),
        ("testbed_size: null", "testbed_size must be a whole number, got None"),
        ("testbed_size: 2.5", "testbed_size must be a whole number, got 2.5"),
        ("testbed_size: true", "testbed_size must be a whole number, got True"),
        ("testbed_seed: null", "testbed_seed must be a whole number"),
        ("dataset: 5", "dataset must be text or null, got 5"),
        ("num_generations: 0", "no usable value|num_generations"),
        ("max_completion_length: wide", "max_completion_length must be"),
        ("seed: null", "seed must be a whole number"),
        ("lora_r: 2.5", "lora_r must be a whole number"),
        ("min_pixels: 500000\nmax_pixels: 100352", r"min_pixels \(500000\) is above"),
        ("max_pixels: 100352", r"min_pixels \(262144\) is above max_pixels"),
        ("on_bad_row: ignore", "on_bad_row must be one of"),
    ],
)
def test_values_that_no_field_can_hold_are_refused_by_name(text, message, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(f"{text}\n")
    with pytest.raises(ValueError, match=message):
        parse(["--config", str(file), "--output_dir", str(tmp_path), *ON_CPU])


def test_one_reward_needs_no_list(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("rewards: format\n")
    script, _, _ = parse(["--config", str(file), "--output_dir", "runs/x", *ON_CPU])
    assert script.rewards == ["format"]


def test_names_may_not_be_shortened(tmp_path):
    with pytest.raises(ValueError, match="--prese"):
        settings(tmp_path, "--prese", "dapo")


def test_settings_of_adapters_act(tmp_path):
    trainer = build(
        tmp_path,
        *(*TINY, *LORA, "--use_rslora", "true", "--lora_r", "4"),
        *("--lora_modules_to_save", "visual.merger", "--report_to", "none"),
    )
    config = trainer.model.peft_config["default"]
    assert (config.use_rslora, config.r) == (True, 4)
    assert set(config.modules_to_save) == {"visual.merger"}


def test_dtype_auto_takes_the_products_of_4_bits_from_the_checkpoint(tmp_path):
    trainer = build(tmp_path, *TINY, *FOUR_BITS, "--dtype", "auto")
    assert trainer.model.is_loaded_in_4bit


def test_dynamic_sampling_goes_by_the_command_lines_own_word(tmp_path):
    trainer = build(tmp_path, *TINY, "--dynamic_sampling_reward", "accuracy")
    assert trainer.args.dynamic_sampling_reward == "accuracy_reward"


def test_unknown_field_of_a_recipe_is_refused(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("output_dir: runs/x\nvisual_gate_ratio: 0.5\n")
    with pytest.raises(ValueError, match="visual_gate_ratio"):
        parse(["--config", str(file), *ON_CPU])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--presett", "dapo"], "no setting --presett; did you mean 'preset'"),
        (["--max-step=3"], "did you mean 'max_steps'"),
        (["--qqqqqq", "--zzzzzz", "1"], "--qqqqqq (and --zzzzzz); --help lists"),
        (["recipes/tiny_cpu.yaml"], "did you mean --config?"),
        (["dapo"], "dapo: this belongs to no setting"),
    ],
)
def test_a_word_that_is_no_setting_is_told_the_nearest(tmp_path, words, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        settings(tmp_path, *words)


def test_a_recipe_may_stand_behind_an_equals_sign(recipe):
    _, args, _ = parse([f"--config={recipe('tiny_cpu')}", "--preset=dapo"])
    assert (args.max_steps, args.method) == (24, "dapo")


def test_a_wrong_value_is_answered_in_a_few_lines(capsys):
    with pytest.raises(SystemExit):
        parse(["--max_steps", "nan"])
    said = capsys.readouterr().err
    assert "invalid int value: 'nan'" in said
    assert len(said.splitlines()) < 5


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
class TestWithoutGPU:
    """Recipes for a card, where there is none."""

    FOR_A_CARD = ("--model_name_or_path", "testbed", "--dataset", "testbed")

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (["--bf16", "true"], "bf16: no GPU is here"),
            (["--bf16_full_eval", "true"], "with use_cpu true"),
            (["--fp16", "true"], "fp16: float16 needs a GPU"),
            (["--fp16", "true", "--use_cpu", "true"], "leave fp16 out"),
        ],
    )
    def test_what_needs_one_is_refused_with_the_cure(self, tmp_path, given, said):
        with pytest.raises(ValueError, match=said):
            parse(["--output_dir", str(tmp_path), *given])
        names = [name.removeprefix("--") for name in given[::2]]
        with pytest.raises(ValueError, match=said):
            VGPOConfig(output_dir=str(tmp_path), **dict.fromkeys(names, True))

    def test_a_recipe_is_checked_all_the_same(self, tmp_path, recipe, capsys):
        given = [
            *("--config", recipe("qwen2_5_vl_7b_qlora_1gpu"), *self.FOR_A_CARD),
            *("--output_dir", str(tmp_path), "--testbed_size", "8"),
        ]
        with pytest.raises(SystemExit) as done:
            main([*given, "--check"])
        said = capsys.readouterr().out
        assert done.value.code == 1
        assert "8 of 8 references get 1" in said
        assert "memory, expected on one card" in said  # and not on a CPU
        assert "PROBLEM: bf16: no GPU is here" in said
        assert "1 to mend before a start" in said
        with pytest.raises(SystemExit, match="bf16: no GPU is here"):
            main(given)

    def test_a_check_for_this_cpu_is_one_for_a_cpu(self, tmp_path, recipe, capsys):
        with pytest.raises(SystemExit) as done:
            main(
                [
                    *("--config", recipe("qwen2_5_vl_7b_qlora_1gpu"), "--check"),
                    *(*self.FOR_A_CARD, "--output_dir", str(tmp_path)),
                    *("--testbed_size", "8", "--use_cpu", "true"),
                ]
            )
        assert done.value.code == 0
        assert "memory, expected on one CPU" in capsys.readouterr().out


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_vllm_that_is_not_there_is_told_before_weights_are_loaded(tmp_path):
    script, args, model = settings(tmp_path, *TINY, "--use_vllm", "true")
    found = preflight(script, args, model)
    assert any("vLLM's cache holds" in fact for fact in found.facts)
    assert any("pip install vllm" in problem for problem in found.problems)
    with pytest.raises(ValueError, match="pip install vllm"):
        build_trainer(script, args, model)


def test_missing_recipe_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        parse(["--config", str(tmp_path / "nowhere.yaml")])


# -- data, rewards ---------------------------------------------------------------


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


def test_the_time_of_grading_is_a_setting(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("grading_seconds: 1e-9\n")  # which YAML takes for text
    script, args, _ = settings(tmp_path, "--config", str(recipe))
    (accuracy,) = reward_functions(script, args)
    assert accuracy.__name__ == "accuracy_reward"  # as the log has it
    logged = {}
    with pytest.warns(RuntimeWarning, match="took more than 1e-09 s; 2 of them got 0"):
        values = accuracy(
            completions=[r"\boxed{2\sqrt{2}}", r"\boxed{3\sqrt{3}}", r"\boxed{5}"],
            answer=[r"\sqrt{8}", r"\sqrt{27}", "5"],
            log_metric=logged.__setitem__,
        )
    assert values == [0.0, 0.0, 1.0]
    assert logged == {"accuracy_reward/stopped_share": pytest.approx(2 / 3)}


@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_no_time_for_grading_is_refused(value, tmp_path):
    with pytest.raises(ValueError, match="grading_seconds must be above 0"):
        settings(tmp_path, "--grading_seconds", value)


def test_without_a_longest_completion_only_overlong_is_refused(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("max_completion_length: null\n")
    script, args, _ = settings(tmp_path, "--config", str(recipe))
    assert args.max_completion_length is None
    assert len(reward_functions(script, args)) == 1
    script = TrainArguments(rewards=["accuracy", "overlong"])
    with pytest.raises(ValueError, match="max_completion_length is missing"):
        reward_functions(script, args)


# -- running ----------------------------------------------------------------------


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
    assert "1 process, 1 prompt x 8 rollouts at a time" in done.stdout
    # What a newcomer could only wonder at.
    for noise in ("is_gradient_checkpointing", "there is already one"):
        assert noise not in done.stderr
    assert (tmp_path / "model.safetensors").exists()
    main([*command, "--max_steps", "3"])
    steps = read_metrics(tmp_path).query("loss.notna()")["step"].tolist()
    assert steps == [1, 2, 3]


@pytest.mark.parametrize(
    ("asked", "dtype"),
    [("auto", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_4_bits_multiply_in_the_type_asked_for(asked, dtype, tmp_path):
    """Asked for ``auto``, in the type of the checkpoint, float32 on the testbed."""
    trainer = build(
        tmp_path,
        *("--model_name_or_path", "testbed", "--dtype", asked),
        *("--load_in_4bit", "true", "--use_peft", "true", "--dataset", "testbed"),
        *("--testbed_size", "8", "--report_to", "none", "--save_strategy", "no"),
    )
    quantised = [m for m in trainer.model.modules() if isinstance(m, Linear4bit)]
    assert quantised
    assert {module.compute_dtype for module in quantised} == {dtype}


@pytest.mark.slow
def test_4_bits_by_command_line_on_data_in_a_file(tmp_path):
    picture = Image.new("RGB", (28, 28))
    Dataset.from_dict(
        {
            "problem": ["<image>How many?", "Is <image> like <image> ?", "1 + 1 ?"],
            "answer": ["3", "yes", "2"],
            "images": [[picture], [picture, picture], []],
        }
    ).cast_column("images", List(ImageFeature())).to_parquet(tmp_path / "rows.parquet")
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


def test_stopped_by_the_keyboard_it_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(VGPOTrainer, "train", stopped)
    with pytest.raises(SystemExit) as ended:
        main(["--output_dir", str(tmp_path), *TINY, *ON_CPU])
    assert ended.value.code == 130
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--resume_from_checkpoint auto" in told and str(tmp_path) in told
