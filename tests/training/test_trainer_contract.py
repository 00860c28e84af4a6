"""What the trainer takes for granted about TRL and Transformers.

A new release that breaks one of these says so here, by name, before a run goes wrong
in silence.
"""

import inspect
import re
import warnings
from importlib.metadata import version
from types import SimpleNamespace

import processors
import pytest
import torch
import transformers
import trl.trainer.grpo_trainer
import trl.trainer.utils
from peft import LoraConfig
from tiny_training import (
    GROUP,
    LENGTH,
    Scripted,
    dataset,
    make_trainer,
    model,
    processor,
    rows_of,
    script,
    train,
)
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import split_pixel_values_by_grid

from vgpo import VGPOConfig, VGPOTrainer
from vgpo.models.adapters import load_four_bit
from vgpo.models.capture import observe_last_hidden_state
from vgpo.models.handle import unwrap_model
from vgpo.training import logs, refusals, resume, workarounds
from vgpo.training.config import LOSS_TYPES
from vgpo.training.trainer import FORWARD_KEYS


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    return make_trainer(
        tmp_path_factory.mktemp("contract"),
        Scripted,
        intra_trajectory=False,
        inter_trajectory=False,
        num_iterations=2,
        beta=0.0,
    )


@pytest.fixture(scope="module")
def inputs():
    return [dataset()[i] for i in range(2) for _ in range(GROUP)]


@pytest.fixture(scope="module")
def batch(trainer, inputs):
    trainer.model.train()
    return trainer._generate_and_score_completions(inputs)


def names(function):
    return list(inspect.signature(function).parameters)


def test_installed_trl_is_the_one_these_facts_are_of():
    assert version("trl").startswith("1.16.")


@pytest.mark.parametrize(
    ("owner", "method", "expected"),
    [
        (GRPOTrainer, "_generate_and_score_completions", ["self", "inputs"]),
        (GRPOTrainer, "_tokenize_prompts", ["self", "prompts"]),
        (
            GRPOTrainer,
            "_calculate_rewards",
            ["self", "inputs", "prompts", "completions", "completion_ids_list"],
        ),
        (GRPOTrainer, "_compute_loss", ["self", "model", "inputs"]),
        (GRPOTrainer, "_get_train_sampler", ["self", "dataset"]),
        (GRPOTrainer, "_load_optimizer_and_scheduler", ["self", "checkpoint"]),
        (Trainer, "_save_optimizer_and_scheduler", ["self", "output_dir"]),
        (Trainer, "_load_from_checkpoint", ["self", "resume_from_checkpoint", "model"]),
        (Trainer, "_load_best_model", ["self"]),
        (GRPOTrainer, "_save_checkpoint", ["self", "model", "trial"]),
    ],
)
def test_signatures_of_what_is_overridden(owner, method, expected):
    assert names(getattr(owner, method)) == expected


def test_first_arguments_of_the_trainer():
    assert names(GRPOTrainer.__init__)[:5] == [
        "self",
        "model",
        "reward_funcs",
        "args",
        "train_dataset",
    ]


def test_arguments_of_the_scoring_forward_pass():
    arguments = names(GRPOTrainer._get_per_token_logps_and_entropies)
    assert arguments[:5] == [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
    ]
    options = {"batch_size", "compute_entropy", "compute_aux_loss"}
    assert set(arguments[5:]) == options | set(FORWARD_KEYS)


def test_loss_types_are_the_ones_tested():
    source = inspect.getsource(GRPOTrainer._compute_loss)
    tests = re.findall(r"self\.loss_type (?:==|in) (\[.*?\]|\"\w+\")", source)
    assert {name for test in tests for name in re.findall(r'"(\w+)"', test)} == {
        *LOSS_TYPES
    }


def test_ways_of_scaling_and_weighing_are_the_ones_taken():
    source = inspect.getsource(trl.trainer.grpo_trainer)
    levels = set(re.findall(r'importance_sampling_level == "(\w+)"', source))
    assert levels == {"token", "sequence"}
    scales = re.findall(r"scale_rewards (?:==|in) (\[.*?\]|\"\w+\")", source)
    assert {w for s in scales for w in re.findall(r'"(\w+)"', s)} == {
        "group",
        "none",
        "batch",
    }


def test_keys_and_shapes_of_the_scoring_step(batch):
    assert set(batch) - {"has_image"} == {  # ours
        "prompt_ids",
        "prompt_mask",
        "completion_ids",
        "completion_mask",
        "advantages",
        "num_items_in_batch",
        "old_per_token_logps",
        "pixel_values",
        "image_grid_thw",
        "mm_token_type_ids",
        "num_images",
    }
    rows, length = batch["completion_ids"].shape
    assert rows == 2 * GROUP
    assert batch["advantages"].shape == (rows,)
    assert batch["old_per_token_logps"].shape == (rows, length)
    assert batch["num_items_in_batch"].ndim == 0
    assert batch["num_images"] == [1] * rows
    whole = batch["prompt_ids"].shape[1] + length
    assert batch["mm_token_type_ids"].shape == (rows, whole)


def test_rows_stay_in_order_and_groups_together(trainer, batch, inputs):
    for row, ids in enumerate(batch["completion_ids"]):
        real = batch["completion_mask"][row].bool()
        assert ids[real].tolist() == script(trainer.calls, row)
    rewards = trainer._rewards.view(-1, GROUP)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    expected = centred / (rewards.std(dim=1, keepdim=True) + 1e-4)
    torch.testing.assert_close(batch["advantages"], expected.flatten())


def test_prompts_are_padded_left_and_completions_right(batch):
    prompts, completions = batch["prompt_mask"], batch["completion_mask"]
    assert (prompts.diff(dim=1) >= 0).all()
    assert (completions.diff(dim=1) <= 0).all()
    assert (completions.sum(dim=1) < LENGTH).any()


def test_advantages_may_be_per_token(trainer, batch):
    trainer.current_gradient_accumulation_steps = 1  # set by the training loop
    with torch.no_grad():
        once = trainer._compute_loss(trainer.model, batch)
        wide = batch["advantages"][:, None].expand_as(batch["completion_ids"])
        again = trainer._compute_loss(trainer.model, {**batch, "advantages": wide})
    assert torch.equal(once, again)


def test_fused_head_passes_through_the_backbone_whose_state_is_observed(trainer, batch):
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    forward = {
        key: batch[key] for key in FORWARD_KEYS if key in batch if key != "num_images"
    }
    seen = []
    with (
        torch.no_grad(),
        observe_last_hidden_state(trainer.model, lambda *x: seen.append(x)),
    ):
        trainer._get_per_token_logps_and_entropies(
            trainer.model,
            ids,
            mask,
            batch["completion_ids"].shape[1],
            num_images=batch["num_images"],
            **forward,
        )
    ((input_ids, attention_mask, state),) = seen
    with torch.no_grad():
        plain = trainer.model(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, **forward
        )
    assert torch.equal(input_ids, ids)
    assert torch.equal(attention_mask, mask)
    assert torch.equal(state, plain.hidden_states[-1])


def test_table_of_completions_is_what_is_put_right(trainer):
    ours = logs.empty_table()
    assert trainer._logs.keys() == ours.keys()
    for name, kept in trainer._logs.items():
        assert isinstance(kept, dict) == isinstance(ours[name], dict)


def test_rollouts_in_use_are_where_they_are_saved_from(trainer):
    assert trainer._buffered_inputs is None
    assert trainer._step == 0


# Faults of the releases pinned here. Once one is mended, its workaround can go.


def test_plain_trl_cannot_mix_rows_with_and_without_image(tmp_path):
    with pytest.raises(Exception, match=r"."):
        train(tmp_path, GRPOTrainer, train_dataset=rows_of("sum", "text"), max_steps=1)


def test_checkpoints_have_other_weight_names_than_the_model(tmp_path):
    tiny = model()
    tiny.save_pretrained(tmp_path)
    from safetensors.torch import load_file

    missing, unexpected = tiny.load_state_dict(
        load_file(tmp_path / "model.safetensors"), strict=False
    )
    assert missing
    assert unexpected
    assert processor().image_token_id == tiny.config.image_token_id


def test_sampler_begins_anew_with_the_first_epoch(trainer):
    sampler = GRPOTrainer._get_train_sampler(trainer, trainer.train_dataset)
    assert sampler.shuffle
    assert sampler.seed == trainer.args.seed
    assert sampler.num_samples == len(trainer.train_dataset)
    first, second = list(sampler), list(sampler)
    assert first != second
    sampler.generator.manual_seed(sampler.seed)
    assert list(sampler) == first
    assert list(sampler) == second
    # Of a sampler made in the second epoch, as after resuming.
    assert list(GRPOTrainer._get_train_sampler(trainer, trainer.train_dataset)) == first


def test_prompts_come_with_their_images(trainer, inputs):
    _, images, _ = GRPOTrainer._tokenize_prompts(
        trainer,
        [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": inputs[0]["image"]},
                        {"type": "text", "text": "red ?"},
                    ],
                }
            ],
            [{"role": "user", "content": [{"type": "text", "text": "red ?"}]}],
        ],
    )
    assert images == [[inputs[0]["image"]], None]


def test_model_cannot_take_an_empty_stack_of_images():
    with pytest.raises(Exception, match=r"."):
        model()(
            input_ids=torch.tensor([[1, 2, 3]]),
            pixel_values=torch.zeros(0, 1176),
            image_grid_thw=torch.zeros(0, 3, dtype=torch.long),
        )


def test_plain_trl_gathers_logged_images_only_where_there_are_some(
    trainer, inputs, monkeypatch
):
    gathered = []
    monkeypatch.setattr(
        trl.trainer.grpo_trainer,
        "gather_object",
        lambda values: gathered.append(values) or values,
    )
    monkeypatch.setattr(trainer, "log_multimodal", True)

    def gatherings(rows):
        gathered.clear()
        GRPOTrainer._generate_and_score_completions(trainer, rows)
        return len(gathered)

    without = [rows_of("text")[0]] * GROUP
    without = [{k: v for k, v in row.items() if k != "image"} for row in without]
    assert gatherings(inputs[:GROUP]) == gatherings(without) + 1


def test_plain_trl_asks_for_a_name_that_is_going():
    asked = "`is_gradient_checkpointing` is deprecated"
    with (
        pytest.warns(FutureWarning, match=asked),
        disable_gradient_checkpointing(model()),
    ):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with (
            workarounds.quiet_about_old_names(),
            disable_gradient_checkpointing(model()),
        ):
            pass
        with workarounds.quiet_about_old_names(), pytest.raises(UserWarning):
            warnings.warn("another", UserWarning, stacklevel=1)


def test_plain_trl_rounds_adapters_over_4_bits(tmp_path):
    model().save_pretrained(tmp_path / "model")
    trainer = make_trainer(
        tmp_path / "run",
        GRPOTrainer,
        model=load_four_bit(tmp_path / "model", torch.float32),
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    )
    trained = {p.dtype for p in trainer.model.parameters() if p.requires_grad}
    assert trained == {torch.bfloat16}


def with_leftovers():
    tiny = model()
    tiny.generation_config.num_beams = 4
    tiny.generation_config.no_repeat_ngram_size = 2
    tiny.generation_config.return_dict_in_generate = True
    return tiny


def test_plain_trl_generates_with_leftovers_of_the_checkpoint(tmp_path):
    trainer = make_trainer(tmp_path, GRPOTrainer, model=with_leftovers())
    used, _ = trainer.model._prepare_generation_config(trainer.generation_config)
    assert used.num_beams == 4
    assert used.no_repeat_ngram_size == 2


@pytest.mark.parametrize("peft_config", [None, LoraConfig(target_modules=["q_proj"])])
def test_leftovers_of_the_checkpoint_are_set_aside(peft_config, tmp_path, caplog):
    tiny = with_leftovers()
    ours = make_trainer(tmp_path / "ours", model=tiny, peft_config=peft_config)
    plain = make_trainer(tmp_path / "plain", model=model())
    used, expected = (
        unwrap_model(one.model)._prepare_generation_config(one.generation_config)[0]
        for one in (ours, plain)
    )
    # More of which than TRL suppresses: test_a_placeholder_is_never_sampled.
    assert set(used.suppress_tokens) >= set(expected.suppress_tokens)
    used.suppress_tokens = expected.suppress_tokens
    assert used.to_dict() == expected.to_dict()
    for told in ("num_beams=4", "no_repeat_ngram_size=2", "return_dict_in_generate"):
        assert told in caplog.text
    assert "output_attentions" not in caplog.text


def test_checkpoint_without_leftovers_is_left_alone(tmp_path, caplog):
    model().save_pretrained(tmp_path / "model")
    make_trainer(tmp_path, model=str(tmp_path / "model"))
    make_trainer(tmp_path, model=model())
    assert "generation_config" not in caplog.text


def eager_to_show(tiny):
    """A model whose likeliest token, everywhere, is the image's placeholder."""
    tiny.lm_head.bias = torch.nn.Parameter(torch.zeros(tiny.lm_head.out_features))
    tiny.lm_head.bias.data[tiny.config.image_token_id] = 1e4
    return tiny


OTHERS_SUPPRESSED = {"suppress_tokens": [0]}


def test_plain_trl_suppresses_only_the_image_token(tmp_path):
    tiny = model()
    plain = make_trainer(tmp_path / "plain", GRPOTrainer, model=tiny)
    assert plain.generation_config.suppress_tokens == [tiny.config.image_token_id]
    broken = make_trainer(
        tmp_path / "broken",
        GRPOTrainer,
        model=eager_to_show(model()),
        generation_kwargs=OTHERS_SUPPRESSED,
    )
    with pytest.raises(ValueError, match="image tokens do not match"):
        broken.train()


@pytest.mark.parametrize("generation_kwargs", [None, OTHERS_SUPPRESSED])
def test_a_placeholder_is_never_sampled(generation_kwargs, tmp_path):
    tiny = eager_to_show(model())
    trainer = make_trainer(tmp_path, model=tiny, generation_kwargs=generation_kwargs)
    suppressed = set(trainer.generation_config.suppress_tokens)
    assert suppressed >= {tiny.config.image_token_id, tiny.config.video_token_id}
    trainer.train()


def of_trl(processor):
    """As much of a trainer as TRL's tokenising of prompts looks at."""
    return SimpleNamespace(
        _is_vlm=True,
        environment_factories=None,
        processing_class=processor,
        tools=None,
        chat_template=None,
        chat_template_kwargs={},
    )


def conversations(*texts):
    return [
        [{"role": "user", "content": [{"type": "text", "text": text}]}]
        for text in texts
    ]


def test_plain_trl_counts_padding_of_a_processor_as_prompt():
    aya = processors.processor_of("aya_vision")
    prompts = conversations("a", "a long question")
    theirs, _, _ = GRPOTrainer._tokenize_prompts(of_trl(aya), prompts)
    ours, images, _ = workarounds.tokenized(aya, prompts)
    alone = [workarounds.tokenized(aya, [prompt])[0][0] for prompt in prompts]
    pad = aya.tokenizer.pad_token_id
    assert list(theirs[0])[:1] == [pad]
    assert ours == alone
    assert pad not in ours[0]
    assert images == [[], []]


def test_plain_trl_takes_a_stack_of_images_per_row_for_a_list_of_images():
    # Three rows with no, one and two images, each of which has a place for two.
    batch = {"pixel_values": torch.rand(3, 2, 3, 4, 4), "num_images": [0, 1, 2]}
    cut = split_pixel_values_by_grid(batch)["pixel_values"]
    assert [len(row) for row in cut] == [0, 1, 2]
    entries = batch | workarounds.entries_of_rows(batch, 3)
    cut = split_pixel_values_by_grid(entries)["pixel_values"]
    assert torch.equal(torch.cat(cut), batch["pixel_values"])
    assert [len(row) for row in cut] == [1, 1, 1]


def test_only_stacks_per_row_are_counted_by_row():
    flat = {"pixel_values": torch.rand(3, 3, 4, 4)}
    tiles = {"pixel_values": torch.rand(3, 2, 3, 4, 4), "image_sizes": [[1, 2]] * 3}
    for batch in ({}, flat, tiles):
        assert workarounds.entries_of_rows(batch, 3) == {}


def test_plain_trl_gives_completions_the_type_of_a_prompt():
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert "token_type_ids.new_zeros(completion_ids.shape)" in source
    types = torch.tensor([[0, 0, 1, 0, 0]])
    paligemma = processors.model_of("paligemma")
    changed = workarounds.types_of_completions(paligemma, types, 2)
    assert changed["token_type_ids"].tolist() == [[0, 0, 1, 1, 1]]
    assert types.tolist() == [[0, 0, 1, 0, 0]]
    assert workarounds.types_of_completions(model(), types, 2) == {}
    assert workarounds.types_of_completions(paligemma, None, 2) == {}


def test_plain_trl_leaves_the_number_of_images_of_a_row_out():
    passes = inspect.getsource(GRPOTrainer._get_per_token_logps_and_entropies)
    assert "batch_num_images" not in passes
    seen = []
    onevision = processors.model_of("llava_onevision")
    onevision.register_forward_pre_hook(
        lambda module, args, given: seen.append(given.get("batch_num_images")),
        with_kwargs=True,
    )
    ids = torch.tensor([[5, 6]] * 2)
    with torch.no_grad(), workarounds.images_of_rows(onevision, [0, 0, 2, 1]):
        onevision(input_ids=ids)
        with pytest.raises(Exception, match=r"."):
            onevision(input_ids=ids, pixel_values=torch.rand(3, 1, 3, 56, 56))
    assert seen[0] is None and seen[1].tolist() == [2, 1]
    assert len(onevision._forward_pre_hooks) == 1  # ours is gone


def test_plain_trl_hands_on_these_fields_of_images_and_no_others():
    taken = names(GRPOTrainer._get_per_token_logps_and_entropies)
    assert "pixel_mask" not in taken and "image_merge_sizes" not in taken
    assert "pixel_mask" in processors.processor_of("aria").model_input_names
    refusals.refuse_what_is_left_out(processor(), FORWARD_KEYS)
    with pytest.raises(ValueError, match="makes image_grid_thw of images"):
        refusals.refuse_what_is_left_out(
            processor(), set(FORWARD_KEYS) - {"image_grid_thw"}
        )


def test_plain_trl_counts_experts_by_one_name():
    source = inspect.getsource(trl.trainer.utils)
    assert "num_experts = text_config.num_experts" in source
    glm = transformers.Glm4vMoeConfig().get_text_config()
    assert "num_experts" not in glm.to_dict()


def aya_trainer(folder, trainer_class, logit_scale):
    aya = processors.model_of("aya_vision", logit_scale=logit_scale)
    config_class = VGPOConfig if trainer_class is VGPOTrainer else GRPOConfig
    return trainer_class(
        model=aya,
        processing_class=processors.processor_of("aya_vision"),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config_class(output_dir=str(folder), use_cpu=True, bf16=False),
        train_dataset=rows_of("sum"),
    )


def test_plain_trl_scales_logits_that_the_model_does_not(tmp_path):
    trainer = aya_trainer(tmp_path, GRPOTrainer, 0.0625)
    ids = torch.tensor([[40, 41, 42, 43]])
    with torch.no_grad():
        own = trainer.model(input_ids=ids).logits[0, :-1].log_softmax(dim=-1)
        scored = trainer.model(input_ids=ids, labels=ids, fused_lm_head=True)
    own = own.gather(1, ids[0, 1:, None]).squeeze(1)
    assert (own - scored.log_probs[0]).abs().max() > 0.1
    with pytest.raises(ValueError, match="TRL gives its tokens other log-probabilit"):
        aya_trainer(tmp_path, VGPOTrainer, 0.0625)
    aya_trainer(tmp_path, VGPOTrainer, 1.0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_log_probabilities_are_compared_at_the_temperature(temperature, tmp_path):
    make_trainer(tmp_path, temperature=temperature)


def test_every_workaround_names_the_test_that_says_when_it_may_go():
    told = "".join(map(inspect.getsource, (workarounds, resume, refusals)))
    named = set(re.findall(r"``(test_\w+)``", told))
    assert len(named) == 17
    assert {name for name in named if name not in globals()} == set()
    for name, function in inspect.getmembers(workarounds, inspect.isfunction):
        if function.__module__ != workarounds.__name__:
            continue
        if name not in ("trained_parameters", "stacked_by_row"):  # parts of others
            assert "``test_" in function.__doc__, name
