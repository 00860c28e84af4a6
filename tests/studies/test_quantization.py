"""Bytes against what is stored, rounding against bitsandbytes, tables by hand."""

import re
from pathlib import Path

import bitsandbytes.functional as bnb
import pytest
import torch
from peft import get_peft_model
from transformers import Qwen2_5_VLForConditionalGeneration

from vgpo.models.adapters import lora_config
from vgpo.models.memory import peak_bytes
from vgpo.models.weights import qwen2_5_vl_config, stored_bytes, weight_table
from vgpo.studies.quantization import (
    measure_qlora,
    measure_updates,
    nf4_levels,
    paired_accuracy,
    precision_table,
    random_batch,
    random_four_bit,
    round_to_nf4,
    trained_ways,
    training_memory,
    updater,
    weight_agreement,
)
from vgpo.testbed import IMAGE_FAMILIES, World, load_tiny
from vgpo.testbed.answers import answer, correct
from vgpo.testbed.data import encode_examples


@pytest.fixture(scope="module")
def examples():
    return [
        World().example(i, seed=7, split="heldout", family=family)
        for family in IMAGE_FAMILIES
        for i in range(2)
    ]


# -- the format -------------------------------------------------------------------


def test_rounding_is_that_of_bitsandbytes():
    weight = torch.randn(48, 128, generator=torch.Generator().manual_seed(0))
    packed, state = bnb.quantize_4bit(weight, quant_type="nf4", blocksize=64)
    assert torch.equal(round_to_nf4(weight), bnb.dequantize_4bit(packed, state))


def test_rounding_keeps_the_largest_of_a_block_and_zeros():
    weight = torch.zeros(2, 64)
    weight[0, 5], weight[0, 6] = -3.0, 0.1
    rounded = round_to_nf4(weight)
    assert rounded[0, 5] == -3.0
    assert rounded[0, 6] == 0.0  # nearer than 3 x 0.0796
    assert (rounded[1] == 0).all()


def test_rounding_of_broken_blocks_is_refused():
    with pytest.raises(ValueError, match=r"weight must have a multiple of 64.* 65"):
        round_to_nf4(torch.ones(65))


def test_levels_are_sorted_and_hold_zero():
    levels = nf4_levels()
    assert (levels.diff() > 0).all()
    assert (levels == 0).sum() == 1


# -- bytes ------------------------------------------------------------------------


def test_training_memory_counts_what_is_trained(tiny):
    model, _ = load_tiny()
    table = training_memory(model.config, rank=4)
    tuned = get_peft_model(model, lora_config(model, r=4))
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert table.loc["LoRA", "trained"] == table.loc["QLoRA", "trained"] == trained
    whole = sum(p.numel() for p in tiny[0].parameters())
    assert table.loc["all weights", "bytes"] == 16 * whole
    assert table.loc["LoRA", "bytes"] == 2 * whole + 16 * trained
    assert table["bytes"].is_monotonic_decreasing


def test_peak_counts_what_is_alive_at_once():
    def two_then_one():
        a = torch.ones(250_000)
        b = a + 1
        del a, b
        return torch.ones(100_000)

    assert peak_bytes(two_then_one) == pytest.approx(2_000_000, rel=1e-3)


def test_peak_of_a_call_that_allocates_nothing():
    assert peak_bytes(lambda: None) == 0


@pytest.mark.parametrize(
    "trace",
    [
        "{}",
        '{"traceEvents": [{"name": "[memory]", "ts": 1, "args": {"Size": 1}}]}',
        '{"traceEvents": [{"name": "[memory]", "ts": 1, "args": {"Bytes": 64}}]}',
    ],
    ids=["no events", "other fields", "the probe is missing"],
)
def test_a_trace_that_does_not_tell_of_memory_is_refused(trace, monkeypatch):
    monkeypatch.setattr(
        torch.profiler.profile,
        "export_chrome_trace",
        lambda self, path: Path(path).write_text(trace),
    )
    with pytest.raises(RuntimeError, match=re.escape(f"torch {torch.__version__}")):
        peak_bytes(lambda: torch.ones(10))


# -- models -----------------------------------------------------------------------


def test_random_model_takes_what_its_shape_says(tiny):
    config = tiny[0].config
    before = config.to_dict()
    model = random_four_bit(config, "cpu")
    assert config.to_dict() == before
    assert stored_bytes(model) == weight_table(config)["bytes_4bit"].sum()
    again = random_four_bit(config, "cpu")
    embeddings = [m.get_input_embeddings().weight for m in (model, again)]
    assert torch.equal(*embeddings)
    batch = random_batch(config, rows=2, image_tokens=(2, 3), completion=5)
    assert (batch["input_ids"] == config.image_token_id).sum() == 2 * 6
    assert (batch["labels"] >= 0).sum() == 2 * 5
    tuned = get_peft_model(model, lora_config(config, r=2)).train()
    measured = measure_updates(tuned, batch, updates=1)
    tokens = batch["input_ids"].numel()
    seconds = measured["seconds"]
    assert measured["tokens_per_second"] == pytest.approx(tokens / seconds)
    assert measured["peak_bytes"] > batch["pixel_values"].numel()


def test_qlora_is_measured_for_any_shape(tiny):
    config = tiny[0].config
    measured = measure_qlora(
        config, "cpu", rank=2, rows=1, image_tokens=(2, 2), completion=4
    )
    adapters = training_memory(config, rank=2).loc["QLoRA", "trained"]
    base = weight_table(config)["bytes_4bit"].sum()
    assert measured["weights_bytes"] == base + 4 * adapters
    assert measured["peak_bytes"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_large_shapes_need_a_gpu():
    with pytest.raises(ValueError, match="device: there is no CUDA device"):
        measure_qlora(qwen2_5_vl_config("7B"))


def test_updates_train_what_each_way_trains(tiny):
    batch = encode_examples(tiny[1], [World().example(0, family="sum")])
    frozen = {}
    for way, model in trained_ways(rank=2).items():
        names = [n for n, p in model.named_parameters() if p.requires_grad]
        assert all(("lora_" in name) == (way != "all weights") for name in names)
        kinds = {parameter.dtype for parameter in model.parameters()}
        assert kinds == (
            {torch.float32, torch.uint8} if way == "QLoRA" else {torch.float32}
        )
        update = updater(model, batch)
        losses = [float(update()) for _ in range(3)]
        assert losses[-1] < losses[0]
        frozen[way] = losses[0]
    # Adapters begin at zero: only 4 bits change the first loss.
    assert frozen["LoRA"] == pytest.approx(frozen["all weights"], abs=1e-6)
    assert frozen["QLoRA"] != pytest.approx(frozen["all weights"], abs=1e-6)


# -- score ------------------------------------------------------------------------


def test_a_model_differs_in_nothing_from_itself(tiny, examples):
    model, processor = tiny
    table = precision_table(model, {"same": model}, processor, examples)
    assert (table["kl"] == 0).all()
    assert (table["ratio"] == 1).all()
    assert (table["focus"] == table["focus_before"]).all()
    agreement = weight_agreement(table)
    assert (agreement["gate_kept"] == 1).all()
    assert (agreement["psi_change"] == 0).all()
    assert (agreement["psi_std"] > 0.1).all()


def test_divergence_is_that_of_the_whole_distribution(tiny, four_bit, examples):
    model, processor = tiny
    table = precision_table(model, {"4 bits": four_bit}, processor, examples)
    assert len(table) == len(table.dropna(subset=["kl", "role"]))
    example = examples[0]
    batch = encode_examples(processor, [example])
    length = len(example.chain)
    with torch.no_grad():
        ours, theirs = (
            m(**{k: v for k, v in batch.items() if k != "labels"})
            .logits[0, -length - 2 : -2]
            .softmax(dim=-1)
            .double()
            for m in (model, four_bit)
        )
    expected = (ours * (ours.log() - theirs.log())).sum(dim=-1)
    got = torch.tensor(table.loc[table["row"] == 0, "kl"].to_numpy())
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-2)
    assert got.max() > 1e-5


def test_other_weights_lose_the_gate(tiny, examples):
    model, processor = tiny
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        other = Qwen2_5_VLForConditionalGeneration(model.config).eval()
    table = precision_table(model, {"other": other}, processor, examples)
    agreement = weight_agreement(table)
    assert (agreement["gate_kept"] < 0.7).all()
    assert (agreement["psi_change"] > 0.05).all()


def test_paired_accuracy_is_that_of_each_model(tiny, four_bit):
    model, processor = tiny
    asked = [World().example(i, seed=1, family=f) for f in ("count", "chart")
             for i in range(4)]  # fmt: skip
    table = paired_accuracy({"full": model, "4 bits": four_bit}, processor, asked)
    assert table.index.tolist() == ["count", "chart", "all"]
    for name, some in {"full": model, "4 bits": four_bit}.items():
        right = [
            correct(text, example)
            for text, example in zip(answer(some, processor, asked), asked, strict=True)
        ]
        assert table.loc["all", name] == pytest.approx(sum(right) / 8)
        assert table.loc["count", name] == pytest.approx(sum(right[:4]) / 4)
    assert (table["difference"] == table["4 bits"] - table["full"]).all()
    assert table["questions"].tolist() == [4, 4, 8]


def test_accuracy_of_one_model_has_no_pair(tiny):
    with pytest.raises(ValueError, match="models must be two, got 1"):
        paired_accuracy({"full": tiny[0]}, tiny[1], [])
