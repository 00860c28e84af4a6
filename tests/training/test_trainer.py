"""The trainer against plain GRPO, against the reference, and against itself resumed."""

import itertools
import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tiny_training import (
    GROUP,
    LENGTH,
    Scripted,
    config,
    dataset,
    different,
    expect,
    group_ids,
    last_states,
    make_trainer,
    model,
    parameters,
    processor,
    reward_of,
    rows_of,
    script,
    split,
    train,
    two_images_each,
)
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid

import vgpo.method.visual
import vgpo.models.probes.of_image
from vgpo import VGPOTrainer
from vgpo.data import load_rows
from vgpo.method.released import advantage_factors
from vgpo.method.visual import VisualFactors
from vgpo.models.adapters import load_four_bit
from vgpo.models.handle import placeholder_ids
from vgpo.testbed import load_tiny
from vgpo.training.checkpoints import newest_whole
from vgpo.training.dynamic_sampling import groups_to_sample
from vgpo.training.logs import merge_rounds
from vgpo.training.metrics import read_metrics
from vgpo.training.resume import load_rollouts, save_rollouts
from vgpo.training.rollouts import load_batches, save_batches, stack_rows, take_row
from vgpo.training.workarounds import never_sample_placeholders

LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "vespo", "luspo")


# -- weights of 1: plain GRPO -----------------------------------------------------


def factors_of_one(focus, completion_mask, group_ids, settings):
    zeros = torch.zeros_like(focus)
    return VisualFactors(focus, zeros.bool(), zeros, zeros[:, 0])


def sample_alike(trainer):
    """Plain TRL's trainer may sample the video's placeholder, and VGPO's may not."""
    never_sample_placeholders(
        trainer.generation_config, placeholder_ids(trainer.model.config)
    )


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """A folder, since TRL loads the reference model of a KL term by its name."""
    folder = tmp_path_factory.mktemp("model")
    model().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "fields",
    [
        *(
            pytest.param({"loss_type": name, "num_iterations": 2}, id=name)
            for name in LOSSES
        ),
        pytest.param({"beta": 0.04}, id="KL term, no old log-probabilities"),
        pytest.param(
            {
                "loss_type": "grpo",
                "steps_per_generation": 2,
                "gradient_checkpointing": True,
            },
            id="gradient checkpointing",
        ),
    ],
)
def test_weights_of_one_train_like_grpo_bit_for_bit(
    fields, saved_model, tmp_path, monkeypatch
):
    shapes = []

    class Watched(VGPOTrainer):
        def _compute_loss(self, model, inputs):
            loss = super()._compute_loss(model, inputs)
            shapes.append(inputs["advantages"].ndim)
            return loss

    def trained(trainer_class):
        start = Qwen2_5_VLForConditionalGeneration.from_pretrained(saved_model)
        trainer = make_trainer(tmp_path, trainer_class, model=start, **fields)
        sample_alike(trainer)
        before = parameters(trainer)
        trainer.train()
        assert different(parameters(trainer), before)
        return parameters(trainer)

    monkeypatch.setattr(vgpo.method.visual, "visual_factors", factors_of_one)
    assert not different(trained(Watched), trained(GRPOTrainer))
    assert set(shapes) == {2}


def test_weights_of_one_train_like_gspo_up_to_rounding(
    saved_model, tmp_path, monkeypatch
):
    # One ratio per sequence: TRL averages T equal terms where it had a single one.
    def trained(trainer_class):
        start = Qwen2_5_VLForConditionalGeneration.from_pretrained(saved_model)
        trainer = make_trainer(
            tmp_path,
            trainer_class,
            model=start,
            loss_type="grpo",
            importance_sampling_level="sequence",
            steps_per_generation=2,
        )
        sample_alike(trainer)
        trainer.train()
        return parameters(trainer)

    monkeypatch.setattr(vgpo.method.visual, "visual_factors", factors_of_one)
    ours, theirs = trained(VGPOTrainer), trained(GRPOTrainer)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=0)


# -- every row keeps its own weights ----------------------------------------------


def lora(**fields):
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], **fields)


def adapters():
    # Not zero at the start, so that a pass without them gives other scores.
    return lora(init_lora_weights=False)


SETTINGS = {
    "one batch, in the loss's pass": {},
    "micro-batches of whole groups, in the loss's pass": {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
    },
    "micro-batches of half a group, a pass of its own": {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
    },
    "old log-probabilities in chunks": {
        "per_device_train_batch_size": 4,
        "steps_per_generation": 2,
    },
    "gradient accumulation and checkpointing": {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "gradient_checkpointing": True,
    },
    "num_iterations 2": {"num_iterations": 2},
    "steps_per_generation 4": {
        "per_device_train_batch_size": 4,
        "steps_per_generation": 4,
        "num_iterations": 2,
        "max_steps": 8,
    },
    "prediction": {"alignment": "prediction"},
    "inter only, mean, exponential": {
        "intra_trajectory": False,
        "accumulation": "mean",
        "compensation_schedule": "exponential",
    },
    "intra only, step": {"inter_trajectory": False, "compensation_schedule": "step"},
    "truncated rollouts masked": {"mask_truncated_completions": True},
    "KL with LoRA, in the loss's pass": {"beta": 0.1, "peft_config": adapters},
    "KL with LoRA, a pass of its own": {
        "beta": 0.1,
        "peft_config": adapters,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
    },
    "KL with LoRA, old log-probabilities": {
        "beta": 0.1,
        "peft_config": adapters,
        "num_iterations": 2,
    },
    "two images a row": {"train_dataset": two_images_each},
    "rows with and without image": {"train_dataset": lambda: rows_of("sum", "text")},
    "micro-batches of one row, some without image": {
        "train_dataset": lambda: rows_of("sum", "text"),
        "per_device_train_batch_size": 1,
        "steps_per_generation": 8,
        "max_steps": 8,
    },
    "no image at all": {"train_dataset": lambda: rows_of("text", "text")},
    "dynamic sampling": {
        "dynamic_sampling": True,
        "dynamic_sampling_lower_bound": 0.4,
        "dynamic_sampling_upper_bound": 0.6,
    },
    "dynamic sampling, old log-probabilities, with and without image": {
        "dynamic_sampling": True,
        "dynamic_sampling_lower_bound": 0.4,
        "dynamic_sampling_upper_bound": 0.6,
        "train_dataset": lambda: rows_of(*["sum", "text", "count", "text"] * 4),
        "num_iterations": 2,
    },
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_row_has_the_advantages_of_its_own_ids(setting, tmp_path):
    options = {"max_steps": 2, "learning_rate": 0.0} | SETTINGS[setting]
    for name in ("train_dataset", "peft_config"):
        if name in options:
            options[name] = options[name]()
    trainer = train(tmp_path, Scripted, **options)

    args = trainer.args
    every = args.steps_per_generation * args.num_iterations
    generations = len(trainer.seen) // every
    assert generations >= 1
    for g in range(generations):
        micro_batches = trainer.seen[g * every : (g + 1) * every]
        rows = [
            row
            for mb in micro_batches[: args.steps_per_generation]
            for row in split(mb)
        ]
        expected = expect(trainer.model, rows, args)
        for i, row in enumerate(rows):
            real = row["mask"].bool()
            wanted = torch.tensor(expected["advantages"][i])
            torch.testing.assert_close(
                row["advantages"][real], wanted[real], atol=2e-5, rtol=1e-4
            )
            if "pixel_values" not in row:
                first = row["advantages"][0]
                assert (row["advantages"] == first).all()
                assert first == pytest.approx(expected["base"][i], abs=1e-6)
        again = [row for mb in micro_batches for row in split(mb)]
        for row, repeated in zip(again, again[len(rows) :], strict=False):
            assert torch.equal(row["advantages"], repeated["advantages"])
        spread = (
            torch.tensor(expected["psi"]).std() + torch.tensor(expected["phi"]).std()
        )
        assert spread > 0.01 or setting == "no image at all"
        logged = [x for x in trainer.state.log_history if "visual/psi_std" in x][g]
        assert_logged(logged, expected)


def assert_logged(logged, expected):
    """The visual metrics of a generation, once more from the reference."""
    focus, psi, phi = (np.array(expected[name]) for name in ("focus", "psi", "phi"))
    mask, gates = np.array(expected["mask"]) > 0, np.array(expected["gates"])
    has_image = (focus > 0).any(axis=1)
    seen = mask & has_image[:, None]
    lengths = mask.sum(axis=1)
    first_half = mask.cumsum(axis=1) <= lengths[:, None] / 2
    if not has_image.any():
        assert logged["visual/focus_early"] is None
        return
    values = {
        "focus_early": focus[seen & first_half].mean(),
        "focus_late": focus[seen & ~first_half].mean(),
        "gate_rate": gates[seen].mean(),
        "psi_std": psi[seen].std(),
        "phi_std": phi[has_image].std(),
    }
    groups = np.array(expected["groups"])
    within = []
    for group in np.unique(groups):
        counted = (groups == group) & has_image
        a, b = phi[counted], lengths[counted]
        if len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0:
            within.append(np.corrcoef(a, b)[0, 1])
    if within:
        values["phi_length_corr"] = np.mean(within)
    else:
        assert logged["visual/phi_length_corr"] is None
    for name, value in values.items():
        assert logged[f"visual/{name}"] == pytest.approx(value, abs=1e-4), name


def test_reference_pass_without_adapters_would_score_otherwise():
    # What the settings with KL and LoRA rest on.
    tuned = get_peft_model(model(), adapters())
    row = {
        "prompt": torch.tensor([1, processor().image_token_id, 2]),
        "completion": torch.tensor([30, 40, 50]),
        "mask": torch.ones(3, dtype=torch.long),
        "pixel_values": torch.randn(4, 1176),
        "image_grid_thw": torch.tensor([[1, 2, 2]]),
    }
    on = last_states(tuned, row)
    with tuned.disable_adapter():
        off = last_states(tuned, row)
    assert (on - off).abs().max() > 0.01


def test_released_variant_has_the_factors_of_the_released_code(tmp_path):
    trainer = train(
        tmp_path, Scripted, variant="released", learning_rate=0.0, max_steps=1
    )
    rows = split(trainer.seen[0])
    # Shuffled on the way to the loss; groups are put together again.
    groups = group_ids(rows)
    rows = [
        row for _, row in sorted(zip(groups, rows, strict=True), key=lambda x: x[0])
    ]
    longest = max(len(row["prompt"]) for row in rows)

    def padded(values, row):
        missing = longest - len(row["prompt"])
        return torch.nn.functional.pad(
            values, (0, 0) * (values.ndim - 1) + (missing, 0)
        )

    factors = advantage_factors(
        torch.stack([padded(last_states(trainer.model, row), row) for row in rows]),
        torch.stack(
            [padded(torch.cat([row["prompt"], row["completion"]]), row) for row in rows]
        ),
        torch.stack([row["mask"] for row in rows]),
        processor().image_token_id,
        strength=0.3,
        start_ratio=0.5,
        top_ratio=0.2,
        schedule="linear",
        gated=True,
        num_generations=GROUP,
    )
    base = torch.tensor(expect(trainer.model, rows, trainer.args)["base"])
    expected = base[:, None] * factors.intra_factor * factors.inter_factor[:, None]
    for row, wanted in zip(rows, expected, strict=True):
        real = row["mask"].bool()
        torch.testing.assert_close(
            row["advantages"][real], wanted[real], atol=2e-5, rtol=1e-3
        )


# -- rewards, rows and errors -----------------------------------------------------


def test_groups_of_equal_rewards_change_nothing(tmp_path):
    start = dict(model().named_parameters())
    trainer = train(
        tmp_path,
        max_steps=1,
        reward_funcs=lambda completions, **columns: [1.0] * len(completions),
    )
    assert not different(parameters(trainer), start)
    assert trainer.state.log_history[0]["frac_reward_zero_std"] == 1.0


def test_truncated_rollouts_are_masked_and_count_for_nothing(tmp_path):
    trainer = train(tmp_path, Scripted, mask_truncated_completions=True, max_steps=1)
    rows = split(trainer.seen[0])
    cut = [row for row in rows if not row["mask"].any()]
    assert 0 < len(cut) < len(rows)
    assert sum(len(script(1, row)) == LENGTH for row in range(2 * GROUP)) == len(cut)


def test_train_evaluate_train_with_rows_without_image(tmp_path):
    rows = rows_of("sum", "text", "count", "text")
    trainer = make_trainer(
        tmp_path, train_dataset=rows, eval_dataset=rows, max_steps=2, beta=0.0
    )
    before = parameters(trainer)
    trainer.train()
    once = parameters(trainer)
    metrics = trainer.evaluate()
    assert "eval_reward" in metrics
    assert not any("visual" in name for name in metrics)
    trainer.train()
    assert different(once, before)
    assert different(parameters(trainer), once)


def test_grpo_and_dapo_take_no_forward_pass_for_focus(tmp_path, monkeypatch):
    monkeypatch.setattr(vgpo.models.probes.of_image, "capture_focus", None)
    trainer = train(
        tmp_path,
        Scripted,
        intra_trajectory=False,
        inter_trajectory=False,
        max_steps=1,
    )
    assert trainer.seen[0]["advantages"].ndim == 1
    assert not any(k.startswith("visual/") for k in trainer.state.log_history[0])


def test_right_padding_is_refused(tmp_path):
    tokenizer = processor().tokenizer
    try:
        tokenizer.padding_side = "right"
        with pytest.raises(ValueError, match=r"pads on the right.*padding_side"):
            make_trainer(tmp_path)
    finally:
        tokenizer.padding_side = "left"


def test_rows_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="train_dataset: it is empty"):
        make_trainer(tmp_path, train_dataset=dataset().select([]))
    unprepared = dataset().rename_column("prompt", "problem")
    with pytest.raises(ValueError, match=r"train_dataset: .*'prompt'.*to_prompts"):
        make_trainer(tmp_path, train_dataset=unprepared)


def test_rows_that_are_made_when_they_are_asked_for_are_rows(tmp_path):
    """Those of every file: their columns are the file's, their rows have prompts."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"problem": "2 + 3 ?", "answer": "5"}\n' * 8)
    rows = load_rows(str(file))
    assert "prompt" not in rows.column_names
    assert make_trainer(tmp_path / "run", train_dataset=rows).train_dataset is rows


def test_a_tokenizer_is_refused_where_there_are_pictures(tmp_path):
    def trainer(rows):
        return VGPOTrainer(
            model=model(),
            args=config(tmp_path),
            reward_funcs=len,
            train_dataset=rows,
            processing_class=processor().tokenizer,
        )

    with pytest.raises(ValueError, match=r"processing_class: .* is a tokenizer"):
        trainer(dataset())
    trainer(dataset("text").remove_columns("image"))


def test_questions_of_its_own_warn_nobody(tmp_path):
    """The shipped processor warns of questions that its model does not know."""
    known, own = load_tiny()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        VGPOTrainer(
            model=known,
            args=config(tmp_path),
            reward_funcs=len,
            train_dataset=dataset(),
            processing_class=own,
        )
    assert not [one for one in told if "question" in str(one.message)]


def test_other_configurations_are_refused(tmp_path):
    with pytest.raises(ValueError, match="args must be a VGPOConfig, got GRPOConfig"):
        VGPOTrainer(
            model=model(),
            args=config(tmp_path, GRPOConfig),
            reward_funcs=len,
            train_dataset=dataset(),
            processing_class=processor(),
        )


def test_unknown_accuracy_reward_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"dynamic_sampling_reward.*'reward'.*'right'"):
        make_trainer(tmp_path, dynamic_sampling_reward="right")


def test_dynamic_sampling_from_a_stream_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dynamic_sampling needs a train_dataset"):
        make_trainer(
            tmp_path,
            dynamic_sampling=True,
            train_dataset=dataset().to_iterable_dataset(),
        )


def test_model_without_image_token_is_refused(tmp_path):
    text_model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(processor().tokenizer),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )
    with pytest.raises(ValueError, match="names no image token"):
        VGPOTrainer(
            model=text_model,
            args=config(tmp_path),
            reward_funcs=len,
            train_dataset=Dataset.from_dict({"prompt": ["red ?"] * 8}),
            processing_class=processor().tokenizer,
        )


# -- dynamic sampling -------------------------------------------------------------


def informative(call, group, low=0.4, high=0.6):
    rewards = [reward_of(script(call, GROUP * group + i)) for i in range(GROUP)]
    return low < sum(rewards) / GROUP < high


def completions(trainer):
    return sorted(
        tuple(row["completion"][row["mask"].bool()].tolist())
        for micro_batch in trainer.seen
        for row in split(micro_batch)
    )


def group_rows(chosen):
    return sorted(
        tuple(script(call, GROUP * group + i))
        for call, group in chosen
        for i in range(GROUP)
    )


GROUPS = 3
SAMPLING = {
    "dynamic_sampling": True,
    "per_device_train_batch_size": GROUPS * GROUP,
    "max_steps": 1,
}


def expected_rounds(groups):
    """Informative groups and the others, as (call, group), and the rounds' sizes."""
    good, spare, sizes = [], [], []
    while len(good) < groups:
        size = groups
        if sizes:
            share = len(good) / sum(sizes)
            size = groups_to_sample(groups - len(good), share, groups)
        sizes.append(size)
        for g in range(size):
            place = len(sizes), g
            (good if informative(*place) else spare).append(place)
    return good, spare, sizes


def test_dynamic_sampling_keeps_the_first_informative_groups(tmp_path):
    groups = 6
    trainer = train(
        tmp_path,
        Scripted,
        dynamic_sampling_lower_bound=0.4,
        dynamic_sampling_upper_bound=0.6,
        dynamic_sampling_max_attempts=20,
        **SAMPLING | {"per_device_train_batch_size": groups * GROUP},
    )
    good, spare, sizes = expected_rounds(groups)
    assert len(sizes) > 1
    assert min(sizes) < groups
    assert trainer.calls == len(sizes)
    assert completions(trainer) == group_rows(good[:groups])
    logged = trainer.state.log_history[0]
    assert logged["dynamic_sampling/attempts"] == len(sizes)
    assert logged["dynamic_sampling/unfilled_share"] == 0
    assert logged["dynamic_sampling/dropped_share"] == pytest.approx(
        len(spare) / sum(sizes)
    )
    assert logged["dynamic_sampling/discarded_share"] == pytest.approx(
        (len(good) - groups) / sum(sizes)
    )
    # Of all that were sampled, whatever the sizes of the rounds.
    rewards = [
        reward_of(script(c, GROUP * g + i))
        for c, g in good + spare
        for i in range(GROUP)
    ]
    assert logged["reward"] == pytest.approx(np.mean(rewards), abs=1e-5)


def test_a_round_samples_about_what_is_missing():
    assert groups_to_sample(1, 15 / 16, 16) == 1
    assert groups_to_sample(1, 0.5, 16) == 4
    assert groups_to_sample(4, 0.75, 16) == 7
    assert groups_to_sample(3, 1.0, 16) == 3
    assert groups_to_sample(3, 0.0, 16) == 16
    assert groups_to_sample(9, 0.5, 16) == 16
    draw = np.random.default_rng(0)
    for missing, share in ((1, 0.7), (4, 0.75), (10, 0.85)):
        number = groups_to_sample(missing, share, 64)
        found = draw.binomial([[number], [number - 1]], share, (2, 20_000)) >= missing
        enough, too_few = found.mean(axis=1)
        assert enough > 0.89
        assert too_few < 0.91


def test_seeds_of_any_size_draw_fresh_prompts(tmp_path):
    # From about 2^24 on, seed * 10^12 no longer fits into 64 bits.
    for seed in (18_446_634, 2**32 - 1):
        trainer = train(
            tmp_path,
            Scripted,
            seed=seed,
            dynamic_sampling_lower_bound=0.9999,
            dynamic_sampling_upper_bound=1.0,
            dynamic_sampling_max_attempts=2,
            **SAMPLING,
        )
        assert trainer.calls == 2


def test_fresh_prompts_are_new_until_all_have_been_asked(tmp_path):
    trainer = make_trainer(tmp_path, dynamic_sampling=True)
    sampling = trainer._dynamic_sampling
    drawn = list(itertools.islice(sampling._fresh_prompts(step=3), 40))
    assert sorted(drawn[:16]) == sorted(drawn[16:32]) == list(range(16))
    assert drawn[:16] != drawn[16:32]
    again = list(itertools.islice(sampling._fresh_prompts(step=3), 40))
    assert drawn == again
    assert drawn != list(itertools.islice(sampling._fresh_prompts(step=4), 40))


def test_advantages_scaled_over_the_batch_are_those_of_the_batch_trained_on(tmp_path):
    trainer = train(
        tmp_path,
        Scripted,
        method="dapo",
        scale_rewards="batch",
        dynamic_sampling_lower_bound=0.4,
        dynamic_sampling_upper_bound=0.6,
        dynamic_sampling_max_attempts=20,
        **SAMPLING,
    )
    assert trainer.calls > 1
    rows = [row for seen in trainer.seen for row in split(seen)]
    rewards = np.array([reward_of(row["completion"].tolist()) for row in rows])
    groups = np.array(group_ids(rows))
    for row, reward, group in zip(rows, rewards, groups, strict=True):
        baseline = rewards[groups == group].mean()
        expected = (reward - baseline) / (rewards.std(ddof=1) + 1e-4)
        assert float(row["advantages"]) == pytest.approx(expected, abs=1e-4)


def test_normalising_over_the_whole_batch_first_is_refused(tmp_path):
    with pytest.raises(ValueError, match="multi_objective_aggregation must be"):
        make_trainer(
            tmp_path,
            dynamic_sampling=True,
            multi_objective_aggregation="normalize_then_sum",
        )


def test_log_weighs_rounds_by_their_groups():
    metrics = {
        "reward": [9.0, 1.0, 0.0],
        "nan": [math.nan, 3.0],
        "none": [math.nan, math.nan],
        "once": [5.0],
    }
    merge_rounds(metrics, {"reward": 1, "once": 1}, [3, 1])
    assert metrics["reward"] == [9.0, 0.75]
    assert metrics["nan"] == [3.0]
    assert math.isnan(metrics["none"][0]) and len(metrics["none"]) == 1
    assert metrics["once"] == [5.0]


def test_used_up_attempts_fill_the_batch_and_are_logged(tmp_path):
    trainer = train(
        tmp_path,
        Scripted,
        # Between two of the possible means: no group ever qualifies.
        dynamic_sampling_lower_bound=0.9999,
        dynamic_sampling_upper_bound=1.0,
        dynamic_sampling_max_attempts=3,
        **SAMPLING,
    )
    assert trainer.calls == 3
    assert completions(trainer) == group_rows([(1, g) for g in range(GROUPS)])
    logged = trainer.state.log_history[0]
    assert logged["dynamic_sampling/attempts"] == 3
    assert logged["dynamic_sampling/unfilled_share"] == 1
    assert logged["dynamic_sampling/dropped_share"] == 1
    assert logged["dynamic_sampling/discarded_share"] == 0


def test_dynamic_sampling_measures_the_reward_it_is_told(tmp_path):
    def always_right(completions, **columns):
        return [1.0] * len(completions)

    def half_right(completions, **columns):
        return [float(i % 2) for i in range(len(completions))]

    options = {"reward_funcs": [always_right, half_right]} | SAMPLING
    by_first = train(tmp_path, Scripted, dynamic_sampling_max_attempts=2, **options)
    by_name = train(tmp_path, Scripted, dynamic_sampling_reward="half_right", **options)
    assert by_first.calls == 2
    assert by_name.calls == 1


def test_rounds_of_padded_image_stacks_are_joined():
    # Some families pad every row to the round's largest number of pictures.
    def batch(rows, pictures, prompt, length):
        return {
            "prompt_ids": torch.full((rows, prompt), 5),
            "prompt_mask": torch.ones(rows, prompt, dtype=torch.long),
            "completion_ids": torch.full((rows, length), 7),
            "completion_mask": torch.ones(rows, length, dtype=torch.long),
            "pixel_values": torch.randn(rows, pictures, 3, 4, 4),
            "importance_sampling_ratio": torch.rand(rows, 1),
            "num_images": [1] * rows,
        }

    one, two = batch(2, 1, 3, 4), batch(2, 2, 5, 2)
    stacked = stack_rows([take_row(one, 1), take_row(two, 0)], pad_token_id=0)
    assert stacked["prompt_ids"].tolist() == [[0, 0, 5, 5, 5], [5] * 5]
    assert stacked["completion_ids"].tolist() == [[7] * 4, [7, 7, 0, 0]]
    assert stacked["importance_sampling_ratio"].shape == (2, 1)
    assert stacked["pixel_values"].shape == (2, 2, 3, 4, 4)
    assert torch.equal(stacked["pixel_values"][0, 0], one["pixel_values"][1, 0])
    assert (stacked["pixel_values"][0, 1] == 0).all()
    assert torch.equal(stacked["pixel_values"][1], two["pixel_values"][0])


def test_padding_is_what_trl_has_there():
    # VESPO takes the logarithm of the ratio: 0 would be minus infinity.
    def batch(length):
        ones = torch.ones(1, length, dtype=torch.long)
        return {
            "prompt_ids": ones,
            "prompt_mask": ones,
            "completion_ids": 7 * ones,
            "completion_mask": ones,
            "tool_mask": ones,
            "importance_sampling_ratio": torch.full((1, length), 0.5),
            "rewards": torch.tensor([[1.0, 0.0]]),
        }

    stacked = stack_rows([take_row(batch(4), 0), take_row(batch(2), 0)], 3)
    assert stacked["completion_ids"].tolist() == [[7] * 4, [7, 7, 3, 3]]
    assert stacked["completion_mask"].tolist() == [[1] * 4, [1, 1, 0, 0]]
    assert stacked["tool_mask"].tolist() == [[1] * 4] * 2
    ratio = stacked["importance_sampling_ratio"]
    assert ratio.tolist() == [[0.5] * 4, [0.5, 0.5, 1, 1]]
    assert stacked["rewards"].tolist() == [[1, 0]] * 2


def test_rounds_with_and_without_tiles_are_joined():
    # TRL counts tiles only in a round in which an image has several (InternVL).
    def batch(tiles):
        ones = torch.ones(len(tiles), 2, dtype=torch.long)
        out = {
            "prompt_ids": ones,
            "prompt_mask": ones,
            "completion_ids": ones,
            "completion_mask": ones,
            "num_images": [1] * len(tiles),
            "pixel_values": torch.arange(sum(tiles)).view(-1, 1, 1, 1).float(),
        }
        return out | ({"num_tiles": tiles} if max(tiles) > 1 else {})

    many = split_pixel_values_by_grid(batch([3, 1]))
    single = split_pixel_values_by_grid(batch([1, 1]))
    joined = stack_rows([take_row(single, 1), take_row(many, 0)], 0)
    assert joined["num_tiles"] == [1, 3]
    again = split_pixel_values_by_grid(joined)["pixel_values"]
    assert [pixels.flatten().tolist() for pixels in again] == [[1], [0, 1, 2]]


# -- killed and resumed -----------------------------------------------------------


class Killed(Exception):
    pass


class KillAfter(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Killed


RESUMED = {
    "one generation a step": {},
    "between two generations": {
        "per_device_train_batch_size": 4,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "save_steps": 1,
    },
    "in the second epoch, dynamic sampling, LoRA": {
        "train_dataset": lambda: dataset().select(range(4)),
        "dynamic_sampling": True,
        "dynamic_sampling_lower_bound": 0.4,
        "dynamic_sampling_upper_bound": 0.6,
        "peft_config": lora,
    },
}


@pytest.mark.parametrize("step", range(1, 6))
def test_killed_at_any_step_and_resumed(step, tmp_path):
    options = {"max_steps": 6, "save_strategy": "steps", "save_steps": 1}
    options |= {
        "per_device_train_batch_size": 4,
        "steps_per_generation": 2,
        "num_iterations": 2,
    }
    whole = train(tmp_path / "whole", **options)
    with pytest.raises(Killed):
        train(tmp_path / "cut", callbacks=[KillAfter(step)], **options)
    last, _ = newest_whole(tmp_path / "cut")
    if step == 1:
        # Killed within its first step: nothing is saved, and it begins anew.
        assert last is None
    else:
        assert last.endswith(f"checkpoint-{step - 1}")
    resumed = train(tmp_path / "cut", resume=last, **options)
    assert not different(parameters(resumed), parameters(whole))


def test_4_bits_killed_and_resumed(tmp_path, saved_model):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}

    def four_bit():
        base = load_four_bit(saved_model, torch.float32)
        return options | {"model": base, "peft_config": lora(), "beta": 0.0}

    whole = train(tmp_path / "whole", **four_bit())
    with pytest.raises(Killed):
        train(tmp_path / "cut", callbacks=[KillAfter(3)], **four_bit())
    resumed = train(
        tmp_path / "cut", resume=str(tmp_path / "cut" / "checkpoint-2"), **four_bit()
    )
    assert not different(parameters(resumed), parameters(whole))


@pytest.mark.parametrize("setting", RESUMED)
def test_killed_and_resumed_is_as_never_stopped(setting, tmp_path):
    options = {"max_steps": 5, "save_strategy": "steps", "save_steps": 3}
    options |= RESUMED[setting]
    for name in ("train_dataset", "peft_config"):
        if name in options:
            options[name] = options[name]()
    whole = train(tmp_path / "whole", **options)
    with pytest.raises(Killed):
        train(tmp_path / "cut", callbacks=[KillAfter(4)], **options)
    resumed = train(
        tmp_path / "cut", resume=str(tmp_path / "cut" / "checkpoint-3"), **options
    )
    assert not different(parameters(resumed), parameters(whole))

    ours, theirs = read_metrics(tmp_path / "cut"), read_metrics(tmp_path / "whole")
    assert ours["step"].tolist() == theirs["step"].tolist() == [1, 2, 3, 4, 5, 5]
    for name in ("reward", "visual/focus_late", "visual/phi_std"):
        assert ours[name].tolist() == pytest.approx(theirs[name].tolist(), nan_ok=True)


@pytest.mark.parametrize("sampling", [False, True])
def test_numbers_logged_after_resuming_are_those_of_the_whole_run(sampling, tmp_path):
    options = {
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 2,
        "logging_steps": 3,
        "num_iterations": 2,
        "per_device_train_batch_size": 4,
        "steps_per_generation": 2,
        "dynamic_sampling": sampling,
        "dynamic_sampling_lower_bound": 0.4,
        "dynamic_sampling_upper_bound": 0.6,
    }
    whole = train(tmp_path / "whole", **options)
    with pytest.raises(Killed):
        train(tmp_path / "cut", callbacks=[KillAfter(5)], **options)
    resumed = train(tmp_path / "cut", resume="auto", **options)
    ours, theirs = (
        [row for row in run.state.log_history if "loss" in row]
        for run in (resumed, whole)
    )
    assert [row["step"] for row in ours] == [row["step"] for row in theirs] == [3, 6]
    for name in theirs[-1].keys() - {"step_time"}:
        assert ours[-1][name] == pytest.approx(theirs[-1][name], abs=1e-7), name


@pytest.mark.parametrize("sampling", [False, True])
def test_table_of_completions_has_the_rows_trained_on(sampling, tmp_path):
    trainer = train(
        tmp_path,
        Scripted,
        log_completions=True,
        num_completions_to_print=0,
        **SAMPLING
        | {
            "dynamic_sampling": sampling,
            "dynamic_sampling_lower_bound": 0.4,
            "dynamic_sampling_upper_bound": 0.6,
            "dynamic_sampling_max_attempts": 20,
        },
    )
    assert (trainer.calls > 1) == sampling
    (file,) = (tmp_path / "completions").glob("*.parquet")
    table = pd.read_parquet(file)
    decode = processor().tokenizer.decode
    trained_on = []
    for row in (row for seen in trainer.seen for row in split(seen)):
        mask = row["mask"].bool()
        text = decode(row["completion"][mask], skip_special_tokens=True)
        reward = reward_of(row["completion"].tolist())
        trained_on.append((text, reward, float(row["advantages"][mask].mean())))
    logged = [
        (row.completion[0]["content"], row.reward, row.advantage)
        for row in table.itertuples()
    ]
    assert len(logged) == len(trained_on) == GROUPS * GROUP
    for ours, theirs in zip(sorted(logged), sorted(trained_on), strict=True):
        assert ours[0] == theirs[0]
        assert ours[1:] == pytest.approx(theirs[1:], abs=1e-5)


def test_checkpoint_of_another_number_of_processes_starts_a_fresh_generation(tmp_path):
    batches = [{"completion_ids": torch.ones(2, 3), "num_images": [1, 0]}]
    save_batches(
        tmp_path / "rollouts_0.safetensors", batches, {"step": 5, "processes": 2}
    )
    loaded, notes = load_batches(tmp_path / "rollouts_0.safetensors")
    assert notes == {"step": 5, "processes": 2}
    assert loaded[0]["num_images"] == [1, 0]
    assert torch.equal(loaded[0]["completion_ids"], batches[0]["completion_ids"])
    trainer = make_trainer(tmp_path)
    trainer.create_optimizer_and_scheduler(3)
    trainer._load_optimizer_and_scheduler(str(tmp_path))
    assert trainer._buffered_inputs is None
    assert trainer._step == 0


def test_rollouts_are_read_back_by_one_process_among_several(tmp_path):
    # Its device is "cpu:0", which safetensors refuses.
    batches = [{"completion_ids": torch.ones(2, 3)}]
    save_rollouts(tmp_path, 0, batches, {"step": 1, "processes": 2})
    loaded, notes = load_rollouts(tmp_path, 0, torch.device("cpu", 0))
    assert notes["step"] == 1
    assert torch.equal(loaded[0]["completion_ids"], torch.ones(2, 3))


def test_metrics_of_a_killed_run_can_be_read(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    table = read_metrics(tmp_path)
    assert table.to_dict("records") == [{"step": 1, "loss": 0.5}]


def test_no_metrics_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.jsonl"):
        read_metrics(tmp_path)


def test_metrics_file_is_json_even_without_any_image(tmp_path):
    train(tmp_path, Scripted, train_dataset=rows_of("text", "text"), max_steps=1)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert "NaN" not in "".join(lines)
    assert json.loads(lines[0])["visual/focus_late"] is None


def test_every_metric_of_ours_is_explained_in_the_book(tmp_path, root):
    train(tmp_path, Scripted, **SAMPLING)
    logged = read_metrics(tmp_path).columns
    ours = {n for n in logged if n.startswith(("visual/", "dynamic_sampling/"))}
    assert len(ours) == 12
    page = (root / "book" / "recipes.md").read_text(encoding="utf-8")
    assert {name for name in ours if f"`{name}`" not in page} == set()
    # TRL's, one by one or by their first part.
    others = {name.partition("/")[0] for name in logged} - {"step", "epoch"}
    summary = {name for name in others if name.startswith("train_")}
    others -= {"visual", "dynamic_sampling", "num_tokens", "step_time"} | summary
    assert {name for name in others if f"`{name}" not in page} == set()


def test_metrics_of_one_run_agree_on_both_files(tmp_path):
    trainer = train(tmp_path, Scripted, max_steps=2)
    table = read_metrics(tmp_path)
    table.to_csv(tmp_path / "metrics.csv", index=False)
    again = pd.read_csv(tmp_path / "metrics.csv")
    logged = [row for row in trainer.state.log_history if "reward" in row]
    for name in ("reward", "visual/focus_late", "visual/psi_std"):
        expected = [row[name] for row in logged]
        assert again[name].dropna().tolist() == pytest.approx(expected)
