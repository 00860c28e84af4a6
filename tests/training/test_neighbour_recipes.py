"""Recipes of the neighbours: parsed, counted, built, and run for a step."""

import re

import pytest

from vgpo.method.shaping import METHODS
from vgpo.training.build import build_trainer
from vgpo.training.settings import parse

NAMES = ("papo", "vppo", "pepo", "entropy", "gpg", "srpo")
ON_CPU = ["--bf16", "false", "--use_cpu", "true"]
BIG = "qwen2_5_vl_7b_8gpu"

# Prompts of a generation, rollouts of each, prompts of an update.
BATCHES = {
    "papo": (384, 5, 128),
    "vppo": (384, 8, 128),
    "pepo": (8, 8, 8),
    "entropy": (512, 8, 128),
    "gpg": (128, 8, 128),
    "srpo": (512, 8, 128),
}


@pytest.fixture
def recipe(root):
    folder = root / "recipes" / "neighbours"
    return lambda name, size: folder / f"{name}_{size}.yaml"


def test_every_neighbour_has_both_recipes(root):
    found = {path.stem for path in (root / "recipes" / "neighbours").glob("*.yaml")}
    assert found == {f"{name}_{size}" for name in NAMES for size in (BIG, "tiny_cpu")}


@pytest.mark.parametrize("size", [BIG, "tiny_cpu"])
@pytest.mark.parametrize("name", NAMES)
def test_recipe_has_the_methods_own_preset(name, size, recipe):
    _, args, model = parse(["--config", str(recipe(name, size)), *ON_CPU])
    assert type(args.make_method()) is METHODS[name]
    # Sampling again is DAPO's, and GPG's as an option that its recipes take.
    assert args.dynamic_sampling
    for field, value in METHODS[name].preset.items():
        if (name, field) != ("gpg", "dynamic_sampling"):
            assert getattr(args, field) == value, field
    assert model.lora_dropout == 0


@pytest.mark.parametrize("name", NAMES)
def test_batch_is_what_the_head_of_the_file_says(name, recipe):
    prompts, rollouts, per_update = BATCHES[name]
    _, args, _ = parse(["--config", str(recipe(name, BIG)), *ON_CPU])
    step = 8 * args.per_device_train_batch_size
    assert args.num_generations == rollouts
    assert step * args.steps_per_generation == prompts * rollouts
    assert step * args.gradient_accumulation_steps == per_update * rollouts
    assert args.save_steps % (prompts // per_update) == 0
    assert args.learning_rate == 1e-6
    head = recipe(name, BIG).read_text(encoding="utf-8")
    assert f"{prompts} prompts x {rollouts} rollouts" in head
    assert f"updates of {per_update} prompts" in head.replace("update of", "updates of")


@pytest.mark.parametrize("size", [BIG, "tiny_cpu"])
@pytest.mark.parametrize("name", NAMES)
def test_head_states_memory_and_what_was_run(name, size, recipe):
    head = re.split(r"\n(?!#)", recipe(name, size).read_text(encoding="utf-8"))[0]
    assert f"recipes/neighbours/{name}_{size}.yaml" in head
    assert "# Memory" in head
    assert ("Run here: yes" in head) == (size == "tiny_cpu")


def test_srpo_is_asked_for_its_tags(recipe):
    script, _, _ = parse(["--config", str(recipe("srpo", BIG)), *ON_CPU])
    assert "<perception>" in script.prompt_suffix
    assert "</perception>" in script.prompt_suffix
    assert "\\boxed{}" in script.prompt_suffix


SMALL = [
    *("--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1"),
    *("--max_completion_length", "12", "--testbed_size", "8", "--max_steps", "1"),
    *("--dynamic_sampling", "false", "--save_strategy", "no"),
]


@pytest.mark.parametrize("name", NAMES)
def test_tiny_recipe_builds_and_takes_a_step(name, recipe, tmp_path):
    command = ["--config", str(recipe(name, "tiny_cpu")), *SMALL]
    trainer = build_trainer(*parse([*command, "--output_dir", str(tmp_path)]))
    assert trainer.args.method == name
    trainer.train()
    assert trainer.state.global_step == 1
    assert "advantages/mean_abs" in trainer.state.log_history[0]
