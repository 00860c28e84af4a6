"""LoRA and 4-bit targets of every family; adapters saved, reloaded, merged."""

import every_family
import families
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from families import FAMILIES
from peft import PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from tiny_training import (
    Scripted,
    dataset,
    different,
    make_trainer,
    model,
    parameters,
    processor,
    train,
)
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Config
from trl import GRPOTrainer

from vgpo import VGPOTrainer
from vgpo.models.adapters import (
    four_bit_config,
    load_four_bit,
    lora_config,
    prepare_4bit_on_cpu,
)
from vgpo.models.capture import capture_focus

LANGUAGE = {
    **dict.fromkeys(FAMILIES, "model.language_model."),
    "idefics3": "model.text_model.",
    "smolvlm": "model.text_model.",
}
VISION = {
    **dict.fromkeys(FAMILIES, "model.vision_tower."),
    "qwen2_5_vl": "model.visual.",
    "qwen3_vl": "model.visual.",
    "idefics3": "model.vision_model.",
    "smolvlm": "model.vision_model.",
}


def linear_layers(model, *prefixes):
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(prefixes)
    }


def adapted(tuned):
    prefix = "base_model.model."
    return {
        name.removeprefix(prefix)
        for name, module in tuned.named_modules()
        if isinstance(module, LoraLayer)
    }


@pytest.mark.parametrize("vision", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_all_and_only_the_intended_layers_get_adapters(name, vision):
    base = families.build(name)
    prefixes = [LANGUAGE[name]] + [VISION[name]] * vision
    expected = linear_layers(base, *prefixes)
    config = lora_config(base, r=2, vision=vision)
    tuned = get_peft_model(base, config)
    assert len(expected) > 7
    assert adapted(tuned) == expected
    trainable = {n for n, p in tuned.named_parameters() if p.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    assert "lm_head" not in str(trainable)


@pytest.mark.parametrize("name", FAMILIES)
def test_configuration_alone_gives_the_same_targets(name):
    base = families.build(name)
    assert (
        lora_config(base.config, vision=True).target_modules
        == lora_config(base, vision=True).target_modules
    )


def test_defaults():
    config = lora_config(model())
    assert (config.r, config.lora_alpha, config.lora_dropout) == (16, 32, 0.0)


@pytest.mark.parametrize(
    ("field", "value"), [("r", 0), ("alpha", 0), ("dropout", 1.0), ("dropout", -0.1)]
)
def test_wrong_numbers_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be .* got {value}"):
        lora_config(model(), **{field: value})


def test_text_model_has_no_vision_tower_to_adapt():
    text = families.build("qwen2_5_vl").model.language_model
    with pytest.raises(ValueError, match="vision: no vision tower"):
        lora_config(text, vision=True)


def test_configuration_of_a_text_model_is_refused():
    with pytest.raises(ValueError, match="Qwen2Config"):
        lora_config(Qwen2Config())


# -- heads and experts -------------------------------------------------------------


def test_a_head_inside_the_language_model_gets_no_adapter_and_no_4_bits():
    """Llama 4's language model holds the head, which other families keep outside."""
    model = every_family.build("llama4")
    tuned = get_peft_model(model, lora_config(model, r=2))
    assert adapted(tuned) > {"language_model.model.layers.0.self_attn.q_proj"}
    assert not [name for name in adapted(tuned) if "lm_head" in name]
    kept = four_bit_config(model).llm_int8_skip_modules
    assert kept == ["language_model.lm_head", "multi_modal_projector", "vision_model"]


MIXTURES = ["aria", "glm4v_moe", "llama4", "qwen3_5_moe", "qwen3_vl_moe"]


def expert_weights(model):
    """Parameters of the language model that hold one expert after another."""
    return {
        name
        for name, weight in model.named_parameters()
        if "language_model" in name and "expert" in name and weight.ndim == 3
    }


@pytest.mark.parametrize("name", MIXTURES)
def test_experts_get_adapters_that_change_what_they_compute(name):
    model = every_family.build(name)
    experts = expert_weights(model)
    assert experts
    config = lora_config(model, r=2)
    assert set(config.target_parameters) == experts
    config.init_lora_weights = False
    inputs = {"input_ids": torch.arange(10, 22)[None]}
    with torch.no_grad():
        before = model(**inputs).logits
    torch.manual_seed(0)
    tuned = get_peft_model(model, config).eval()
    trained = {n for n, p in tuned.named_parameters() if p.requires_grad}
    assert all("lora_" in n for n in trained)
    assert not [n for n in trained if "lm_head" in n or "gate.weight" in n]
    for parameter_name, parameter in tuned.named_parameters():
        if "lora_" in parameter_name and "expert" not in parameter_name:
            torch.nn.init.zeros_(parameter)  # what is left comes from the experts
    with torch.no_grad():
        adapted_logits = tuned(**inputs).logits
        merged = tuned.merge_and_unload()(**inputs).logits
    assert (adapted_logits - before).abs().max() > 1e-4
    torch.testing.assert_close(merged, adapted_logits, atol=1e-4, rtol=1e-4)


def test_experts_that_dropout_leaves_out_are_said_to_be():
    model = every_family.build("qwen3_vl_moe")
    language = model.model.language_model
    experts = sum(model.get_parameter(n).numel() for n in expert_weights(model))
    share = experts / sum(p.numel() for p in language.parameters())
    with pytest.warns(UserWarning, match=rf"experts .* {share:.0%} of the weights"):
        config = lora_config(model, dropout=0.1)
    assert config.target_parameters is None


def test_convolutions_are_no_experts():
    config = lora_config(every_family.build("qwen3_5"))
    assert config.target_parameters is None


def test_the_configuration_of_a_mixture_gives_the_same_targets():
    model = every_family.build("qwen3_vl_moe")
    by_model, by_config = lora_config(model), lora_config(model.config)
    assert by_config.target_modules == by_model.target_modules
    assert by_config.target_parameters == by_model.target_parameters


# -- 4 bits -----------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_all_and_only_the_language_layers_are_in_4_bits(name, tmp_path):
    base = families.build(name)
    base.save_pretrained(tmp_path)
    config = four_bit_config(base.config, compute_dtype=torch.float32)
    assert config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_use_double_quant
    quantised = type(base).from_pretrained(
        tmp_path, quantization_config=config, dtype=torch.float32
    )
    four_bit = {n for n, m in quantised.named_modules() if isinstance(m, Linear4bit)}
    assert four_bit == linear_layers(base, LANGUAGE[name])


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    model(layers=2).save_pretrained(folder)
    return folder


def in_4_bits(folder):
    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder,
        quantization_config=four_bit_config(
            model().config, compute_dtype=torch.float32
        ),
        dtype=torch.float32,
    )
    assert prepare_4bit_on_cpu(base) == 2 * 7
    return base


def test_train_evaluate_train_in_4_bits(tiny_folder, tmp_path):
    trainer = make_trainer(
        tmp_path,
        model=in_4_bits(tiny_folder),
        peft_config=lora_config(model(), r=4),
        eval_dataset=dataset().select(range(4)),
        max_steps=2,
        beta=0.01,
    )
    before = parameters(trainer)
    trainer.train()
    once = parameters(trainer)
    assert "eval_reward" in trainer.evaluate()
    trainer.train()
    changed = different(once, before)
    assert changed
    assert different(parameters(trainer), once)
    assert all("lora_" in name for name in changed)
    history = trainer.state.log_history
    assert any("visual/psi_std" in row for row in history)


def test_adapters_over_4_bits_are_trained_in_float32(tiny_folder, tmp_path):
    adapters = lora_config(model(), r=4)
    adapters.init_lora_weights = False  # weights of some size from the start

    def moved(trainer_class, learning_rate):
        trainer = make_trainer(
            tmp_path,
            trainer_class,
            model=in_4_bits(tiny_folder),
            peft_config=adapters,
            max_steps=1,
            learning_rate=learning_rate,
            weight_decay=0.0,
        )
        before = parameters(trainer)
        trainer.train()
        kinds = {p.dtype for p in trainer.model.parameters() if p.requires_grad}
        after = parameters(trainer)
        changed = sum(
            int((after[n] != before[n]).sum()) for n in different(after, before)
        )
        return kinds, changed

    ours, moved_ours = moved(VGPOTrainer, 1e-6)
    theirs, moved_theirs = moved(GRPOTrainer, 1e-6)
    assert (ours, theirs) == ({torch.float32}, {torch.bfloat16})
    # An Adam step is about the learning rate in every weight.
    assert moved_theirs < 0.1 * moved_ours


def test_given_adapters_are_not_rounded(tiny_folder, tmp_path):
    tuned = get_peft_model(in_4_bits(tiny_folder), lora_config(model(), r=4))
    before = {
        name: parameter.detach().clone()
        for name, parameter in tuned.named_parameters()
        if parameter.requires_grad
    }
    trainer = make_trainer(tmp_path, model=tuned, beta=0.0)
    after = parameters(trainer)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert any((value != value.bfloat16()).any() for value in before.values())


# -- saved, reloaded, merged ------------------------------------------------------


def inputs_of(rows=2):
    texts = processor().apply_chat_template(
        [row["prompt"] for row in dataset().select(range(rows))],
        add_generation_prompt=True,
    )
    return processor()(
        text=[text + " red = 5 ." for text in texts],
        images=[row["image"] for row in dataset().select(range(rows))],
        padding=True,
        return_tensors="pt",
    )


def scores(scored):
    inputs = inputs_of()
    scored.eval()
    with torch.no_grad(), capture_focus(scored, completion_length=4) as capture:
        logits = scored(**inputs).logits
    return capture.focus, logits[:, -4:]


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(tiny_folder)
    trainer = train(
        folder,
        Scripted,
        model=base,
        peft_config=lora_config(base, r=4, vision=True),
        max_steps=2,
        learning_rate=1e-2,
    )
    trainer.save_model(folder / "adapter")
    return trainer, folder / "adapter"


def assert_reloads_identically(model, base, folder):
    """The adapter in ``folder`` on ``base`` scores as ``model``, and it does count."""
    untrained = scores(base)
    reloaded = scores(PeftModel.from_pretrained(base, folder))
    for mine, theirs, other in zip(scores(model), reloaded, untrained, strict=True):
        assert torch.equal(mine, theirs)
        assert (mine - other).abs().max() > 1e-3


def test_reloaded_adapter_scores_identically(trained, tiny_folder):
    trainer, folder = trained
    assert (folder / "adapter_model.safetensors").exists()
    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(tiny_folder)
    assert_reloads_identically(trainer.model, base, folder)


@pytest.fixture(scope="module")
def trained_in_4_bits(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qlora")
    base = load_four_bit(tiny_folder, torch.float32)
    trainer = train(
        folder,
        Scripted,
        model=base,
        peft_config=lora_config(base, r=4),
        max_steps=2,
        learning_rate=1e-2,
    )
    trainer.save_model(folder / "adapter")
    return trainer, folder / "adapter"


def test_reloaded_adapter_scores_identically_in_4_bits(trained_in_4_bits, tiny_folder):
    trainer, folder = trained_in_4_bits
    base = load_four_bit(tiny_folder, torch.float32)
    assert_reloads_identically(trainer.model, base, folder)


def test_merging_is_exact_only_into_unpacked_weights(trained_in_4_bits, tiny_folder):
    trainer, folder = trained_in_4_bits
    ours = scores(trainer.model)

    def merged(base):
        return scores(PeftModel.from_pretrained(base, folder).merge_and_unload())

    unpacked = load_four_bit(tiny_folder, torch.float32).dequantize()
    assert not any(isinstance(m, Linear4bit) for m in unpacked.modules())
    for mine, theirs in zip(ours, merged(unpacked), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    with pytest.warns(UserWarning, match="rounding errors"):
        repacked = merged(load_four_bit(tiny_folder, torch.float32))
    assert (ours[1] - repacked[1]).abs().max() > 1e-3


def test_merged_adapter_scores_the_same(trained, tiny_folder):
    trainer, folder = trained
    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(tiny_folder)
    merged = PeftModel.from_pretrained(base, folder).merge_and_unload()
    assert not any(isinstance(m, LoraLayer) for m in merged.modules())
    for mine, theirs in zip(scores(trainer.model), scores(merged), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
