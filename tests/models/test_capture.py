"""Focus scores captured from forward passes of every family and every wrapper."""

import gc
import weakref

import every_family
import families
import pytest
import torch
from families import FAMILIES, IMAGE
from transformers import (
    BitsAndBytesConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from vgpo.models.capture import (
    _FocusReducer,
    capture_focus,
    observe_last_hidden_state,
)
from vgpo.models.handle import image_token_id, unwrap_model

T = 5


def reference_focus(hidden_states, inputs, alignment="token", completion_length=T):
    """Eq. 3-4 in float64, one token at a time."""
    states = hidden_states.double()
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    batch, length = ids.shape
    prompt = length - completion_length
    focus = torch.zeros(batch, completion_length, dtype=torch.float64)
    for row in range(batch):
        image = [p for p in range(prompt) if ids[row, p] == IMAGE]
        if not image:
            continue
        prototype = states[row, image].mean(dim=0)
        for step in range(completion_length):
            at = prompt + step
            if mask[row, at]:
                state = states[row, at if alignment == "token" else at - 1]
                cosine = state @ prototype / (state.norm() * prototype.norm())
                focus[row, step] = (cosine + 1) / 2
    return focus


def last_hidden_state(model, inputs):
    with torch.no_grad():
        return model(**inputs, output_hidden_states=True).hidden_states[-1]


def captured(model, inputs, **options):
    with (
        torch.no_grad(),
        capture_focus(model, **({"completion_length": T} | options)) as capture,
    ):
        model(**inputs)
    return capture.focus


@pytest.mark.parametrize("alignment", ["token", "prediction"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", FAMILIES)
def test_focus_of_every_family(name, attention, alignment):
    model = families.build(name, attention=attention)
    inputs = families.batch(
        name, images_per_row=(1, 2, 0), completion_lengths=(T, 3, T)
    )
    focus = captured(model, inputs, alignment=alignment)
    expected = reference_focus(last_hidden_state(model, inputs), inputs, alignment)
    assert focus.dtype == torch.float32
    torch.testing.assert_close(focus.double(), expected, atol=1e-6, rtol=0)
    assert (focus[2] == 0).all()  # no image
    assert (focus[1, 3:] == 0).all()  # padding
    assert (focus[:2, :3] > 0).all()
    assert focus[:2, :3].std() > 0.01


@pytest.mark.parametrize("name", FAMILIES)
def test_observed_state_is_bit_equal_to_the_last_of_all_hidden_states(name):
    model = families.build(name)
    inputs = families.batch(name)
    seen = []
    with torch.no_grad(), observe_last_hidden_state(model, lambda *x: seen.append(x)):
        output = model(**inputs, output_hidden_states=True)
    ((input_ids, attention_mask, state),) = seen
    assert torch.equal(state, output.hidden_states[-1])
    assert torch.equal(input_ids, inputs["input_ids"])
    assert torch.equal(attention_mask, inputs["attention_mask"])


@pytest.mark.parametrize("name", FAMILIES)
def test_image_token_comes_from_the_configuration(name):
    assert image_token_id(families.build(name)) == IMAGE


def test_hook_leaves_the_forward_pass_as_it_was():
    model = families.build("qwen2_5_vl")
    inputs = families.batch("qwen2_5_vl")
    with torch.no_grad():
        plain = model(**inputs).logits
        with capture_focus(model, completion_length=T):
            watched = model(**inputs).logits
    assert torch.equal(plain, watched)
    assert not model.base_model._forward_hooks


def test_hook_is_gone_after_an_error():
    model = families.build("qwen2_5_vl")
    with pytest.raises(KeyError), capture_focus(model, completion_length=T):
        raise KeyError
    assert not model.base_model._forward_hooks


def test_no_hidden_state_outlives_the_pass():
    model = families.build("qwen2_5_vl")
    inputs = families.batch("qwen2_5_vl")
    states = []
    with (
        torch.no_grad(),
        capture_focus(model, completion_length=T) as capture,
        observe_last_hidden_state(
            model, lambda ids, mask, state: states.append(weakref.ref(state))
        ),
    ):
        model(**inputs)
        gc.collect()
        assert states[0]() is None
    assert [chunk.shape for chunk in capture.chunks] == [(3, T)]


def test_chunks_of_a_batch_are_joined_in_order():
    name = "gemma3"  # one row of pixel values per image: easy to cut
    model = families.build(name)
    inputs = families.batch(name, images_per_row=(1, 1, 1))
    with torch.no_grad(), capture_focus(model, completion_length=T) as capture:
        for rows in (slice(0, 2), slice(2, 3)):
            model(**{key: value[rows] for key, value in inputs.items()})
    assert [len(chunk) for chunk in capture.chunks] == [2, 1]
    torch.testing.assert_close(
        capture.focus, captured(model, inputs), atol=1e-5, rtol=0
    )


def test_only_the_first_rows_are_captured_where_asked():
    model = families.build("gemma3")
    first = families.batch("gemma3", seed=0)
    second = families.batch("gemma3", seed=1)
    options = {"completion_length": T, "rows": 3}
    with torch.no_grad(), capture_focus(model, **options) as capture:
        model(**first)
        model(**second)
    assert torch.equal(capture.focus, captured(model, first))


def test_two_alignments_from_one_pass():
    model = families.build("qwen3_vl")
    inputs = families.batch("qwen3_vl")
    with (
        torch.no_grad(),
        capture_focus(model, completion_length=T) as token,
        capture_focus(model, completion_length=T, alignment="prediction") as ahead,
    ):
        model(**inputs)
    torch.testing.assert_close(token.focus[:, :-1], ahead.focus[:, 1:])
    assert not torch.allclose(token.focus[:, 0], ahead.focus[:, 0])


def test_image_tokens_sampled_into_a_completion_do_not_count():
    model = families.build("gemma3")
    inputs = families.batch("gemma3", images_per_row=(0, 0))
    inputs["input_ids"][0, 2] = IMAGE  # in the prompt; row 1 has none there
    inputs["attention_mask"][0] = 1
    inputs["input_ids"][:, -2] = IMAGE
    focus = captured(model, inputs)
    expected = reference_focus(last_hidden_state(model, inputs), inputs)
    torch.testing.assert_close(focus.double(), expected, atol=1e-6, rtol=0)
    assert (focus[1] == 0).all()


@pytest.mark.parametrize("alignment", ["token", "prediction"])
def test_a_mask_that_marks_the_last_positions_gives_the_same(alignment):
    model = families.build("smolvlm")
    inputs = families.batch("smolvlm", completion_lengths=(5, 2, 4))
    mask = torch.zeros_like(inputs["input_ids"])
    mask[:, -T:] = 1
    by_mask = captured(
        model,
        inputs,
        completion_length=None,
        completion_mask=mask,
        alignment=alignment,
    )
    by_length = captured(model, inputs, alignment=alignment)
    torch.testing.assert_close(by_mask[:, -T:], by_length, atol=1e-6, rtol=0)
    assert (by_mask[:, :-T] == 0).all()


@pytest.mark.parametrize("name", ["qwen2_5_vl", "gemma3", "llava_onevision"])
def test_layout_does_not_matter(name):
    """Right-padded rows with a mask score as left-padded ones with a length."""
    model = families.build(name)
    lengths = (5, 2, 4)
    left = families.batch(name, completion_lengths=lengths)
    right = families.batch(name, completion_lengths=lengths, prompt_padding="right")
    rollouts = captured(model, left)
    ends = right["attention_mask"].sum(dim=1)
    mask = torch.zeros_like(right["input_ids"])
    for row, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        mask[row, end - length : end] = 1
    packed = captured(model, right, completion_length=None, completion_mask=mask)
    for row, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        torch.testing.assert_close(
            packed[row, end - length : end], rollouts[row, :length], atol=1e-5, rtol=0
        )
    assert (packed[mask == 0] == 0).all()


def test_a_mask_is_matched_to_the_rows_of_each_chunk():
    model = families.build("gemma3")
    inputs = families.batch("gemma3", images_per_row=(1, 1, 1))
    mask = torch.zeros_like(inputs["input_ids"])
    mask[0, -5:] = mask[1, -2:] = mask[2, -4:] = 1
    with torch.no_grad(), capture_focus(model, completion_mask=mask) as capture:
        for rows in (slice(0, 1), slice(1, 3)):
            model(**{key: value[rows] for key, value in inputs.items()})
    assert torch.equal(capture.focus > 0, mask.bool())


def test_generation_is_not_captured():
    model = families.build("qwen2_5_vl")
    inputs = families.batch("qwen2_5_vl")
    with torch.no_grad(), capture_focus(model, completion_length=T) as capture:
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert capture.chunks == []
    with pytest.raises(ValueError, match="no forward pass"):
        capture.focus  # noqa: B018


@pytest.mark.parametrize("use_cache", [True, False])
def test_no_pass_of_generation_is_captured(use_cache):
    model = add_lora(families.build("qwen2_5_vl"))
    inputs = families.batch("qwen2_5_vl")
    with torch.no_grad(), capture_focus(model, completion_length=T) as capture:
        model.generate(**inputs, max_new_tokens=3, do_sample=False, use_cache=use_cache)
        assert capture.chunks == []
        model(**inputs)
    assert len(capture.chunks) == 1


@pytest.mark.parametrize("alignment", ["token", "prediction"])
def test_a_model_without_a_backbone_of_its_own(alignment):
    """Llama 4: what the whole model puts out first are logits, no states."""
    model = every_family.build("llama4")
    inputs = every_family.prompt(4, pixel_values=every_family.noise(1, 3, 56, 56))
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states[-1]
    focus = captured(model, inputs, completion_length=3, alignment=alignment)
    expected = every_family.reference_focus(states, inputs["input_ids"], 3, alignment)
    torch.testing.assert_close(focus[0].double(), expected, atol=1e-6, rtol=0)


def test_states_of_another_shape_are_refused():
    model = families.build("gemma3")
    model.config.text_config.hidden_size = 32
    with pytest.raises(
        ValueError, match=r"Gemma3Model gives states of shape .*64.* 32"
    ):
        captured(model, families.batch("gemma3"))


def test_states_may_be_on_another_device_than_the_ids(monkeypatch):
    """As where accelerate spreads layers over GPUs; `meta` stands in for the second.

    It has no values to score, so the two equations are played: they ask that all they
    are handed lies on the states' device.
    """
    devices = []

    def prototype(states, image_mask, **named):
        devices.extend([states.device, image_mask.device])
        return states[:, 0]

    def score(states, prototype, completion_mask, **named):
        devices.extend([states.device, prototype.device, completion_mask.device])
        return states[..., 0]

    monkeypatch.setattr("vgpo.models.capture.visual_prototype", prototype)
    monkeypatch.setattr("vgpo.models.capture.visual_focus_score", score)
    reduce = _FocusReducer(
        completion_length=2,
        completion_mask=None,
        alignment="token",
        image_token_id=IMAGE,
        nonfinite="neutral",
    )
    ids = torch.tensor([[1, IMAGE, 2, 3]])
    states = torch.zeros(1, 4, 8, device="meta")
    focus = reduce(ids, torch.ones_like(ids), states, first_row=0)
    assert focus.shape == (1, 2)
    assert {device.type for device in devices} == {"meta"}


def test_passes_with_gradients_can_be_left_out():
    model = families.build("qwen2_5_vl")
    inputs = families.batch("qwen2_5_vl")
    options = {"completion_length": T, "no_grad_only": True}
    with capture_focus(model, **options) as capture:
        model(**inputs)
        assert capture.chunks == []
        with torch.no_grad():
            model(**inputs)
    assert len(capture.chunks) == 1


def test_scores_carry_no_gradient():
    model = families.build("qwen2_5_vl")
    with capture_focus(model, completion_length=T) as capture:
        model(**families.batch("qwen2_5_vl"))
    assert not capture.focus.requires_grad


def test_autocast_does_not_reach_the_scores():
    model = families.build("qwen2_5_vl")
    inputs = families.batch("qwen2_5_vl")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        focus = captured(model, inputs)
        states = last_hidden_state(model, inputs)
    expected = reference_focus(states, inputs)
    torch.testing.assert_close(focus.double(), expected, atol=1e-6, rtol=0)


def test_bfloat16_models_are_scored_in_float32():
    model = families.build("qwen2_5_vl").to(torch.bfloat16)
    inputs = families.batch("qwen2_5_vl")
    focus = captured(model, inputs)
    expected = reference_focus(last_hidden_state(model, inputs), inputs)
    assert focus.dtype == torch.float32
    torch.testing.assert_close(focus.double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl"])
def test_gradient_checkpointing(name):
    model = families.build(name)
    inputs = families.batch(name)
    expected = captured(model, inputs)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    with capture_focus(model, completion_length=T) as capture:
        model(**inputs).logits.mean().backward()
    assert len(capture.chunks) == 1  # recomputed layers are not a second pass
    torch.testing.assert_close(capture.focus, expected, atol=1e-6, rtol=0)
    assert model.lm_head.weight.grad is not None


def add_lora(model):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=4,
        target_modules=r".*(language_model|text_model).*\.(q_proj|v_proj)",
        init_lora_weights=False,
    )
    return peft.get_peft_model(model, config).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_lora(name):
    plain = families.build(name)
    inputs = families.batch(name)
    without = captured(plain, inputs)
    model = add_lora(plain)
    focus = captured(model, inputs)
    expected = reference_focus(last_hidden_state(model, inputs), inputs)
    torch.testing.assert_close(focus.double(), expected, atol=1e-6, rtol=0)
    assert (focus - without).abs().max() > 1e-3
    assert image_token_id(model) == IMAGE


def test_a_reference_pass_with_adapters_off_is_not_captured():
    model = add_lora(families.build("qwen2_5_vl"))
    inputs = families.batch("qwen2_5_vl")
    with torch.no_grad(), capture_focus(model, completion_length=T) as capture:
        with model.disable_adapter():
            model(**inputs)
        assert capture.chunks == []
        model(**inputs)
    assert len(capture.chunks) == 1
    with torch.no_grad(), model.disable_adapter():  # unless it began that way
        assert captured(model, inputs).shape == (3, T)


def test_a_pass_with_another_adapter_is_not_captured():
    model = add_lora(families.build("qwen2_5_vl"))
    model.add_adapter("ref", model.peft_config["default"])
    inputs = families.batch("qwen2_5_vl")
    with torch.no_grad(), capture_focus(model, completion_length=T) as capture:
        model.set_adapter("ref")
        model(**inputs)
        model.set_adapter("default")
        model(**inputs)
    assert len(capture.chunks) == 1


def test_four_bit_with_lora(tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    families.build("qwen2_5_vl").save_pretrained(tmp_path)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        tmp_path,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            llm_int8_skip_modules=["model.visual", "lm_head"],
        ),
    )
    layers = [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert layers
    for layer in layers:
        # Else switching between train and eval fails on CPUs with AVX512-BF16.
        layer.support_avx512bf16_for_cpu = False
    inputs = families.batch("qwen2_5_vl")
    quantised = captured(model.eval(), inputs)
    model = add_lora(model)
    focus = captured(model, inputs)
    expected = reference_focus(last_hidden_state(model, inputs), inputs)
    torch.testing.assert_close(focus.double(), expected, atol=1e-6, rtol=0)
    assert (focus - quantised).abs().max() > 1e-3


def test_distributed_data_parallel(tmp_path):
    model = families.build("qwen2_5_vl")
    inputs = families.batch("qwen2_5_vl")
    expected = captured(model, inputs)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(add_lora(model))
        with wrapped.module.disable_adapter():
            assert torch.equal(captured(wrapped, inputs), expected)
        assert unwrap_model(wrapped) is model
    finally:
        torch.distributed.destroy_process_group()


def test_a_bare_backbone_with_positional_input_ids():
    model = families.build("gemma3")
    inputs = families.batch("gemma3")
    expected = captured(model, inputs)
    ids = inputs.pop("input_ids")
    with torch.no_grad(), capture_focus(model.base_model, completion_length=T) as bare:
        model.base_model(ids, **inputs)
    assert torch.equal(bare.focus, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"completion_length": None}, "exactly one"),
        ({"completion_mask": torch.ones(3, 9)}, "exactly one"),
        ({"completion_length": 0}, "at least 1"),
        ({"completion_length": 999}, "leaves no prompt"),
        ({"alignment": "next"}, "alignment"),
        (
            {"completion_length": None, "completion_mask": torch.ones(3, 9)},
            "position 0",
        ),
        (
            {"completion_length": None, "completion_mask": torch.zeros(9)},
            r"shape \(B, L\)",
        ),
        (
            {"completion_length": None, "completion_mask": torch.zeros(3, 9)},
            "one row per captured row",
        ),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        captured(families.build("qwen2_5_vl"), families.batch("qwen2_5_vl"), **options)


def test_states_that_are_not_finite_are_named_or_scored_as_no_image():
    model = families.build("gemma3")
    inputs = families.batch("gemma3")
    broken = 110  # no other token of the batch
    inputs["input_ids"][1, -1] = broken
    with torch.no_grad():
        model.get_input_embeddings().weight[broken] = float("nan")
    with pytest.raises(ValueError, match=r"row\(s\) \[1\]"):
        captured(model, inputs)
    focus = captured(model, inputs, nonfinite="neutral")
    assert (focus[1] == 0).all()
    assert (focus[[0, 2]] > 0).all()


def test_embeddings_in_place_of_ids_are_refused():
    model = families.build("gemma3")
    inputs = families.batch("gemma3", images_per_row=(0,))
    embeddings = model.get_input_embeddings()(inputs.pop("input_ids"))
    with pytest.raises(ValueError, match="input_ids"):
        captured(model, inputs | {"inputs_embeds": embeddings})


def test_a_prepared_attention_mask_is_refused():
    model = families.build("qwen2_5_vl")
    inputs = families.batch("qwen2_5_vl", images_per_row=(0,))
    length = inputs["input_ids"].shape[1]
    mask = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    with pytest.raises(ValueError, match="attention_mask"):
        captured(model, inputs | {"attention_mask": mask})


def test_models_without_image_token_are_refused():
    text_model = Qwen2ForCausalLM(Qwen2Config(**families.TEXT))
    with pytest.raises(ValueError, match="names no image token"):
        image_token_id(text_model)
    with (
        pytest.raises(ValueError, match="image_token_id="),
        capture_focus(text_model, completion_length=T),
    ):
        pass
    with pytest.raises(ValueError, match="no Hugging Face model"):
        image_token_id(torch.nn.Linear(2, 2))
