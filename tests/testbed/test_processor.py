"""Tokenizer and processor: nothing is lost, and image tokens are where they belong."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2_5_VLForConditionalGeneration

from vgpo.testbed import (
    FAMILIES,
    TestbedProcessor,
    World,
    build_processor,
    build_tiny,
    tiny_config,
)
from vgpo.testbed.data import encode_examples, encode_prompts, make_dataset, messages

processor = build_processor()
tokenizer = processor.tokenizer


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back_unchanged(text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("family", FAMILIES)
def test_a_chain_is_tokenised_into_exactly_its_pieces(family):
    world = World(forgetfulness=0.2, verbosity=0.6)
    for i in range(40):
        example = world.example(i, family=family)
        ids = tokenizer(example.completion).input_ids
        assert [tokenizer.decode(x) for x in ids] == [t.text for t in example.chain]


def test_thoughts_survive_decoding_and_turns_do_not():
    ids = tokenizer.encode("<think> red</think><|im_end|><|endoftext|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think> red</think>"


def test_chat_template_is_qwens():
    example = World().example(0, family="sum")
    text = processor.apply_chat_template(messages(example), add_generation_prompt=True)
    assert text == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
        f"{example.question}<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (3, 2), (3, 3)])
def test_one_image_token_per_tile(rows, columns):
    world = World(grids=((rows, columns),))
    batch = encode_prompts(processor, [world.example(0, family="sum")])
    assert (batch["input_ids"] == processor.image_token_id).sum() == rows * columns
    assert batch["image_grid_thw"].tolist() == [[1, 2 * rows, 2 * columns]]


def test_image_tokens_equal_the_features_the_model_makes():
    model = build_tiny(processor).eval()
    world = World()
    examples = [world.example(i, family=f) for i, f in enumerate(FAMILIES)]
    batch = encode_prompts(processor, examples)
    with torch.no_grad():
        features = model.get_image_features(
            batch["pixel_values"], batch["image_grid_thw"]
        ).pooler_output
        logits = model(**batch).logits
    tokens = batch["input_ids"] == processor.image_token_id
    assert sum(len(f) for f in features) == int(tokens.sum())
    assert tokens[FAMILIES.index("text")].sum() == 0
    assert torch.isfinite(logits).all()


def test_teaching_batch_puts_labels_on_the_chain_and_nothing_else():
    examples = [World(verbosity=0.5).example(i) for i in range(12)]
    batch = encode_examples(processor, examples)
    for row, example in zip(batch["labels"], examples, strict=True):
        taught = [tokenizer.decode(x) for x in row[row != -100].tolist()]
        assert taught == [*(t.text for t in example.chain), "<|im_end|>"]
    assert (batch["attention_mask"][:, -1] == 1).all()


def test_pixels_do_not_depend_on_the_rest_of_the_batch():
    examples = [World().example(i, family="sum") for i in range(3)]
    together = encode_prompts(processor, examples)["pixel_values"]
    alone = [encode_prompts(processor, [e])["pixel_values"] for e in examples]
    assert torch.equal(together, torch.cat(alone))


def test_processor_survives_saving(tmp_path):
    processor.save_pretrained(tmp_path)
    again = TestbedProcessor.from_pretrained(tmp_path)
    examples = [World().example(i) for i in range(4)]
    before, after = (encode_prompts(p, examples) for p in (processor, again))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert again.tokenizer.padding_side == "left"


def test_untrained_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = build_tiny(processor, seed=1).state_dict()
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(6)
    second = build_tiny(processor, seed=1).state_dict()
    other = build_tiny(processor, seed=2).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_width_must_suit_quantisation():
    with pytest.raises(ValueError, match="hidden_size"):
        tiny_config(processor, hidden_size=100)


def test_cached_generation_equals_a_full_forward():
    model = build_tiny(processor, seed=3).eval()
    examples = [World().example(i) for i in range(5)]
    batch = encode_prompts(processor, examples)
    out = model.generate(
        **batch, max_new_tokens=6, do_sample=False, output_logits=True,
        return_dict_in_generate=True, eos_token_id=-1,
    )  # fmt: skip
    length = batch["input_ids"].shape[1]
    new = out.sequences[:, length:]
    full = dict(batch, input_ids=out.sequences)
    for name, value in (("attention_mask", 1), ("mm_token_type_ids", 0)):
        full[name] = torch.cat([batch[name], torch.full_like(new, value)], 1)
    with torch.no_grad():
        logits = model(**full).logits[:, length - 1 : -1]
    assert torch.allclose(logits, torch.stack(out.logits, 1), atol=1e-4)


def test_dataset_is_in_trls_format():
    rows = make_dataset(12, seed=2, family=None)
    # TRL looks at any one of these columns to tell whether rows are conversations.
    assert {"prompt", "chosen", "rejected", "completion", "messages"} & set(
        rows.column_names
    ) == {"prompt"}
    world = World()
    for i, row in enumerate(rows):
        example = world.example(i, seed=2)
        assert row["prompt"][0]["role"] == "user"
        assert row["prompt"][0]["content"][-1]["text"] == example.question
        assert (row["image"] is None) == (example.image is None)
        if example.image is not None:
            assert row["image"].tobytes() == example.image.tobytes()
        assert row["answer"] == example.answer
        assert len(row["sources"]) == len(row["tiles"]) == len(example.chain)
    with pytest.raises(ValueError, match="size"):
        make_dataset(0)


def test_the_class_is_the_real_one():
    assert type(build_tiny(processor)) is Qwen2_5_VLForConditionalGeneration
