"""The calculator against bytes that are counted, on small models."""

from dataclasses import replace

import pytest
import torch
from bitsandbytes.optim import AdamW8bit

from tests.memory.small import (
    IMAGE,
    RESPONSE,
    ROWS,
    WORDS,
    micro_batch,
    small_config,
    small_model,
)
from vgpo.memory.estimating import Estimate, estimate
from vgpo.memory.settings import CARDS, Settings
from vgpo.memory.shapes import shape_of
from vgpo.models.memory import peak_bytes
from vgpo.models.weights import stored_bytes
from vgpo.studies.quantization import random_batch
from vgpo.testbed import load_tiny

TOLERANCE = 0.1
"""Of a micro-batch's peak. What is stored is to the byte."""

LOOSER = 0.15
"""Of a peak with copies of weights, which are gone on the way back; of a backward pass
alone; of sampling."""

WAYS = {
    "all weights, float32": {"dtype": "float32", "bf16": False},
    "all weights, bfloat16": {"dtype": "bfloat16"},
    "all weights, float32, products in bfloat16": {"dtype": "float32"},
    "LoRA, float32": {"dtype": "float32", "bf16": False, "use_peft": True},
    "LoRA, bfloat16": {"dtype": "bfloat16", "use_peft": True},
    "QLoRA": {"dtype": "bfloat16", "use_peft": True, "load_in_4bit": True},
}
RUN = {
    "lora_r": 8,
    "prompt_tokens": WORDS,
    "image_tokens": IMAGE[0] * IMAGE[1],
    "max_completion_length": RESPONSE,
    "per_device_train_batch_size": ROWS,
    "steps_per_generation": 1,
    "card": None,
    "device": "cpu",
}


def in_update(found: Estimate, moment: str) -> int:
    """Without the gradients that were there before."""
    return sum(v for name, v in found.moments[moment].items() if name != "gradients")


@pytest.mark.parametrize("again", [True, False], ids=["checkpointing", "plain"])
@pytest.mark.parametrize("way", WAYS)
def test_a_micro_batch_takes_what_is_estimated(way, again):
    config = small_config()
    changes = WAYS[way] | RUN | {"gradient_checkpointing": again}
    found = estimate(config, **changes)
    s = found.settings
    model = small_model(config, s.dtype, s.load_in_4bit, s.use_peft, again)
    assert found.kept["weights"] + found.kept["adapters"] == stored_bytes(model)

    run, rows = micro_batch(model, config, s.bf16)
    run()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert found.moments["loss"]["gradients"] == sum(p.grad.nbytes for p in trained)
    optimizer = torch.optim.AdamW(trained, fused=True)
    optimizer.step()
    moments = [state[k] for state in optimizer.state.values() for k in state]
    assert found.kept["optimizer"] == sum(m.nbytes for m in moments if m.ndim)
    assert found.kept["pixels"] == rows["pixel_values"].nbytes

    expected = max(in_update(found, "loss"), in_update(found, "backward"))
    # Copies of weights make the graph of float32 another one.
    tolerance = LOOSER if s.bf16 and s.dtype == "float32" else TOLERANCE
    assert expected == pytest.approx(peak_bytes(run), rel=tolerance)


@pytest.mark.parametrize("way", ["all weights, float32", "LoRA, bfloat16", "QLoRA"])
def test_a_backward_pass_takes_what_is_estimated(way):
    """On a CPU the head hides it: it is left out here."""
    config = small_config(hidden=512, layers=2, vocabulary=512)
    found = estimate(config, **WAYS[way] | RUN | {"max_completion_length": 400})
    s = found.settings
    model = small_model(config, s.dtype, s.load_in_4bit, s.use_peft)
    _, rows = micro_batch(model, config, s.bf16, response=400)
    inner = (model.get_base_model() if s.use_peft else model).model
    rows.pop("labels")

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=s.bf16):
            states = inner(**rows, use_cache=False).last_hidden_state
        states.backward(torch.ones_like(states))

    run()
    assert in_update(found, "backward") == pytest.approx(peak_bytes(run), rel=LOOSER)


@pytest.mark.parametrize(
    ("image", "words", "response", "moment"),
    [
        ((2, 2), 64, 4, "reading prompts"),
        ((12, 12), 64, 4, "reading prompts"),
        ((1, 1), 2, 80, "sampling"),
    ],
    ids=["words", "pictures", "answers"],
)
def test_sampling_takes_what_is_estimated(image, words, response, moment):
    """Whether reading words, reading pictures or writing takes most."""
    config = small_config(vocabulary=512)
    model = small_model(config, "bfloat16", again=False).eval()
    rollouts = 8
    rows = random_batch(config, rows=rollouts, image_tokens=image, completion=words)
    rows.pop("labels")
    tokens = image[0] * image[1]
    changes = {
        "prompt_tokens": rows["input_ids"].shape[1] - tokens,
        "image_tokens": tokens,
        "max_completion_length": response,
        "per_device_train_batch_size": rollouts,
    }
    found = estimate(config, **RUN | changes)

    @torch.no_grad()
    def run():
        lengths = {"min_new_tokens": response, "max_new_tokens": response}
        model.generate(**rows, do_sample=True, top_k=0, **lengths)

    sizes = {
        name: sum(found.moments[name].values())
        for name in ("reading prompts", "sampling")
    }
    assert max(sizes, key=sizes.get) == moment
    assert sizes[moment] == pytest.approx(peak_bytes(run), rel=LOOSER)


def test_eight_bit_moments_are_those_of_bitsandbytes():
    weight = torch.nn.Parameter(torch.ones(256, 768))
    optimizer = AdamW8bit([weight])
    weight.grad = torch.ones_like(weight)
    optimizer.init_state(optimizer.param_groups[0], weight, 0, 0)
    state = optimizer.state[weight]
    stored = sum(state[k].nbytes for k in ("state1", "state2", "absmax1", "absmax2"))
    shape = replace(shape_of(small_config()), parameters=weight.numel())
    found = estimate(shape, dtype="float32", optim="adamw_8bit")
    assert found.kept["optimizer"] == stored


def test_the_tiny_model_has_the_shape_that_its_weights_have():
    model, _ = load_tiny()
    shape = shape_of(model.config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    tower = model.get_encoder(modality="image")
    assert shape.vision_parameters == sum(p.numel() for p in tower.parameters())


# -- by hand ----------------------------------------------------------------------


def test_zero_shares_what_its_stage_says():
    """16 bytes a number: 2 and 2 in bfloat16, 12 of the optimizer's in float32."""
    sizes = []
    for stage in (1, 2, 3):
        found = estimate("7B", processes=8, zero_stage=stage)
        kept = found.kept["weights"], found.kept["optimizer"]
        sizes.append((kept[0], found.moments["loss"]["gradients"], kept[1]))
    n = shape_of("7B").parameters
    assert sizes == [
        (2 * n, 2 * n, 12 * n // 8),
        (2 * n, 2 * n // 8, 12 * n // 8),
        (2 * n // 8, 2 * n // 8, 12 * n // 8),
    ]


def test_a_reference_model_is_kept_beside_weights_and_not_beside_adapters():
    n = shape_of("3B").parameters
    assert estimate("3B", beta=0.04).kept["reference model"] == 2 * n
    assert estimate("3B", beta=0.04, use_peft=True).kept["reference model"] == 0
    assert estimate("3B").kept["reference model"] == 0


def test_vllm_takes_its_share_and_its_cache_what_is_left_of_it():
    """7B: 57,344 bytes a token; half of 80 GB less 16.6 GB of weights and 2 GB."""
    run = {"prompt_tokens": 500, "image_tokens": 500, "max_completion_length": 1000}
    found = estimate(
        "7B", use_peft=True, use_vllm=True, vllm_gpu_memory_utilization=0.5, **run
    )
    assert found.kept["vLLM"] == 40 * 2**30
    room = 40 * 2**30 - 2 * 8_292_166_656 - 2 * 10**9
    assert found.vllm_sequences == room // (2000 * 2 * 28 * 4 * 128 * 2)
    elsewhere = replace(found.settings, vllm_mode="server")
    assert estimate("7B", elsewhere).kept["vLLM"] == 0
    asleep = replace(found.settings, vllm_enable_sleep_mode=True)
    asleep = estimate("7B", asleep)
    assert asleep.kept["vLLM"] == 0
    assert asleep.moments["sampling"]["vLLM, awake"] == 40 * 2**30


def test_without_room_vllm_holds_no_rollout():
    found = estimate("32B", use_peft=True, use_vllm=True)
    assert found.vllm_sequences == 0


def test_whole_logits_take_more_than_chunked_ones():
    """2 rows of 1,024 tokens and 152,064 words, in 2 + 4 + 4 + 4 bytes."""
    whole = estimate("7B", use_peft=True, logits="whole")
    chunked = estimate("7B", use_peft=True)
    name = "log-probabilities"
    assert whole.moments["loss"][name] == 2 * 1024 * 152_064 * 14
    assert chunked.moments["loss"][name] < whole.moments["loss"][name] / 20


@pytest.mark.parametrize(
    "field",
    ["image_tokens", "max_completion_length", "prompt_tokens",
     "per_device_train_batch_size", "steps_per_generation"],
)  # fmt: skip
def test_more_of_anything_never_takes_less(field):
    before = estimate("3B", use_peft=True)
    more = replace(before.settings, **{field: 3 * getattr(before.settings, field)})
    after = estimate("3B", more)
    for name, parts in before.moments.items():
        for item, size in parts.items():
            assert after.moments[name][item] >= size
    assert after.total > before.total


def test_the_verdict_says_what_is_left():
    found = estimate("7B", use_peft=True, load_in_4bit=True, card="24 GB")
    assert found.fits and "fits a card of 24 GB" in found.verdict
    assert not estimate("7B", card="24 GB").fits
    assert "does not fit" in estimate("7B", card="24 GB").verdict
    room = CARDS["24 GB"]
    between = next(
        one
        for steps in range(16, 200)
        if (one := estimate("7B", replace(found.settings, steps_per_generation=steps)))
        and 0.9 * room < one.total <= room
    )
    assert not between.fits and "tight" in between.verdict
    assert estimate("7B", card=None).fits is None
    table = found.to_frame()
    assert table.loc[table["at_peak"], "bytes"].sum() == found.total
    assert "weights (kept)" in str(found)


# -- refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"card": "25 GB"}, r"card must be one of 24 GB.*'25 GB'"),
        ({"dtype": "int8"}, "dtype must be one of bfloat16, float32, got 'int8'"),
        ({"optim": "adam"}, "optim must be one of adamw"),
        ({"image_tokens": -1}, "image_tokens must be at least 0, got -1"),
        ({"max_completion_length": 0}, "max_completion_length must be at least 1"),
        ({"lora_r": 1.5}, "lora_r must be a whole number, got 1.5"),
        ({"load_in_4bit": True}, "load_in_4bit trains adapters only: set use_peft"),
        ({"lora_vision": True}, "lora_vision: there are no adapters to set"),
        ({"vllm_gpu_memory_utilization": 1.2}, r"must be in \(0, 1\), got 1.2"),
        ({"use_vllm": True, "card": None}, "card: vllm_gpu_memory_utilization is a"),
        ({"beta": -0.1}, "beta must be at least 0"),
    ],
)
def test_settings_that_training_has_no_use_for_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Settings(**changes)


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match=r"model must be one of .* got '8B'"):
        estimate("8B")
