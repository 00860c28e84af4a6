"""Generation for the tiny model against the library's, and against its own logits."""

import pytest
import torch
from transformers import GenerationConfig

from vgpo.testbed import load_tiny
from vgpo.testbed.answers import answer
from vgpo.testbed.data import encode_prompts
from vgpo.testbed.decoding import decode, decode_faster
from vgpo.testbed.look_away import WORLDS
from vgpo.testbed.questions import FAMILIES

LONGEST = 40


@pytest.fixture(scope="module", params=["misread", "look_away"])
def world(request):
    return request.param, *load_tiny(request.param)


def questions(world, families, count=3):
    return WORLDS[world].examples(count, families, seed=11, split="heldout")


@pytest.mark.parametrize("families", [FAMILIES, ("text",), ("sum",)])
def test_greedy_decoding_is_the_librarys(world, families):
    name, model, processor = world
    asked = questions(name, families)
    ids = decode(
        model, encode_prompts(processor, asked), torch.zeros(len(asked), LONGEST), 0.0
    )
    ours = processor.batch_decode(ids, skip_special_tokens=True)
    theirs = answer(model, processor, asked, max_new_tokens=LONGEST)
    assert ours == theirs
    # Short and long ones: rows were taken out on the way, and some were cut off.
    if families == FAMILIES:
        ends = (ids == model.generation_config.eos_token_id).any(dim=1)
        assert ends.any() and not ends.all()


def test_each_token_is_the_inverse_of_the_distribution_function(world):
    """Every token of every row again, from one forward pass over the whole row."""
    name, model, processor = world
    asked = questions(name, ("sum", "chart", "text"))
    uniforms = torch.rand(
        len(asked), LONGEST, generator=torch.Generator().manual_seed(3)
    )
    temperatures = torch.tensor([1.0, 0.5, 0.0] * 3)
    batch = encode_prompts(processor, asked)
    ids = decode(model, batch, uniforms, temperatures)
    end = model.generation_config.eos_token_id
    for row, example in enumerate(asked):
        tokens = ids[row].tolist()
        length = tokens.index(end) + 1 if end in tokens else len(tokens)
        prompt = encode_prompts(processor, [example])
        whole = torch.cat([prompt["input_ids"][0], ids[row, :length]])[None]
        images = {k: prompt[k] for k in ("pixel_values", "image_grid_thw")
                  if k in prompt}  # fmt: skip
        with torch.no_grad():
            logits = model(
                input_ids=whole,
                attention_mask=torch.ones_like(whole),
                mm_token_type_ids=(whole == processor.image_token_id).int(),
                **images,
            ).logits[0, -length - 1 : -1]
        if temperatures[row] == 0:
            assert logits.argmax(-1).tolist() == tokens[:length]
            continue
        upper = (logits / temperatures[row]).double().softmax(-1).cumsum(-1)
        at = torch.tensor(tokens[:length])[:, None]
        above = upper.gather(1, at)[:, 0]
        below = torch.where(at[:, 0] > 0, upper.gather(1, (at - 1).clamp(0))[:, 0], 0)
        u = uniforms[row, :length].double()
        assert (u >= below - 1e-5).all() and (u < above + 1e-5).all()


def test_a_prompt_that_several_begin_with_is_read_once(world):
    name, model, processor = world
    asked = questions(name, ("sum", "text"), count=2)
    draws = torch.rand(8, LONGEST, generator=torch.Generator().manual_seed(1))
    rows = torch.tensor([0, 0, 1, 2, 2, 2, 3, 1])
    once = decode(model, encode_prompts(processor, asked), draws, 1.0, prompts=rows)
    repeated = [asked[i] for i in rows]
    assert torch.equal(
        once, decode(model, encode_prompts(processor, repeated), draws, 1.0)
    )


def test_generate_takes_what_trl_gives_it():
    model, processor = load_tiny()
    decode_faster(model)
    batch = encode_prompts(processor, questions("misread", ("sum",), 2))
    config = GenerationConfig(
        max_new_tokens=5, do_sample=True, temperature=1.0, top_k=0, top_p=1.0
    )
    out = model.generate(**batch, generation_config=config)
    assert out.shape == (2, batch["input_ids"].shape[1] + 5)
    torch.manual_seed(4)
    first = model.generate(**batch, generation_config=config)
    torch.manual_seed(4)
    assert torch.equal(first, model.generate(**batch, generation_config=config))
    greedy = model.generate(**batch, max_new_tokens=5)
    assert greedy.shape == out.shape
    # Settings beside a configuration go before it, as in the library.
    torch.manual_seed(3)
    warm = model.generate(**batch, do_sample=True, temperature=9.0, max_new_tokens=5)
    torch.manual_seed(3)
    asked = GenerationConfig(
        do_sample=True, temperature=9.0, max_new_tokens=5, top_k=0,
        eos_token_id=model.generation_config.eos_token_id,
    )  # fmt: skip
    assert torch.equal(warm, model.generate(**batch, generation_config=asked))
    assert not torch.equal(warm, greedy)
    with pytest.raises(ValueError, match=r"^generate has no setting of_no_meaning"):
        model.generate(**batch, of_no_meaning=True, max_new_tokens=5)
    for name, value in {
        "top_k": 5,
        "bad_words_ids": [[7]],
        "no_repeat_ngram_size": 2,
        "suppress_tokens": [7],
    }.items():
        with pytest.raises(ValueError, match=rf"^{name} must"):
            model.generate(**batch, generation_config=GenerationConfig(**{name: value}))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_placeholder_is_never_drawn(temperature):
    """However likely: the next pass over the row would look for its features."""
    model, processor = load_tiny()
    places = [model.config.image_token_id, model.config.video_token_id]
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    likeliest = model.lm_head.weight[places[0]]
    model.lm_head.weight.data[places] = 100 * likeliest.data
    asked = questions("misread", ("sum", "text"), 3)
    draws = torch.rand(len(asked), 9, generator=torch.Generator().manual_seed(2))
    ids = decode(model, encode_prompts(processor, asked), draws, temperature)
    assert not torch.isin(ids, torch.tensor(places)).any()


def test_a_negative_temperature_is_refused():
    model, processor = load_tiny()
    batch = encode_prompts(processor, questions("misread", ("text",), 1))
    with pytest.raises(ValueError, match="temperature must not be negative"):
        decode(model, batch, torch.zeros(1, 2), -1.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_writes_what_a_cpu_writes():
    model, processor = load_tiny("look_away")
    batch = encode_prompts(processor, questions("look_away", ("sum", "text"), 6))
    draws = torch.rand(12, 80, generator=torch.Generator().manual_seed(1))
    for temperature in (0.0, 1.0):
        there = decode(model.to("cpu"), batch, draws, temperature)
        here = decode(model.to("cuda"), batch, draws, temperature).cpu()
        length = min(there.shape[1], here.shape[1])
        same = (there[:, :length] == here[:, :length]).all(dim=1)
        # A draw may lie within rounding of the border between two tokens.
        assert same.float().mean() > 0.8
