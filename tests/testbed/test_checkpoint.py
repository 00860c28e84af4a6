"""The shipped checkpoints: they load as any other, they answer, and they look."""

import json

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    Qwen2_5_VLConfig,
)
from transformers.models.auto.processing_auto import (
    PROCESSOR_MAPPING,
    PROCESSOR_MAPPING_NAMES,
)

from vgpo import testbed
from vgpo.testbed import (
    CHECKPOINT,
    CHECKPOINTS,
    FAMILIES,
    IMAGE_FAMILIES,
    WORLDS,
    load_tiny,
)
from vgpo.testbed.answers import accuracy, answer, blind_accuracy
from vgpo.testbed.changes import blank, swap
from vgpo.testbed.data import encode_prompts
from vgpo.testbed.decoding import decode

RECORDS = {
    world: json.loads((folder / "cold_start.json").read_text())
    for world, folder in CHECKPOINTS.items()
}


@pytest.fixture(scope="module", params=CHECKPOINTS)
def world(request):
    return request.param


@pytest.fixture(scope="module")
def tiny(world):
    return load_tiny(world)


def likeliest(model, processor, examples):
    """What ``answer`` gives without sampling, several times as fast."""
    draws = torch.zeros(len(examples), 192)  # as long as answers may be; none is drawn
    ids = decode(model, encode_prompts(processor, examples), draws, temperature=0.0)
    return processor.batch_decode(ids, skip_special_tokens=True)


def heldout(world, family, count=40):
    return [WORLDS[world].example(i, 3, "heldout", family) for i in range(count)]


@pytest.fixture(scope="module")
def greedy(world, tiny):
    """Answers to held-out questions of each family."""
    return {family: likeliest(*tiny, heldout(world, family)) for family in FAMILIES}


def test_they_are_small_and_have_no_pickle():
    files = [f for c in CHECKPOINTS.values() for f in c.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 30e6
    assert {f.suffix for f in files} <= {".json", ".safetensors", ".csv", ".jinja"}


def test_the_first_world_is_the_default():
    assert CHECKPOINTS["misread"] == CHECKPOINT
    first, default = load_tiny("misread")[0], load_tiny()[0]
    same = zip(first.parameters(), default.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_a_missing_checkpoint_says_which_command_makes_it(monkeypatch, tmp_path):
    monkeypatch.setitem(CHECKPOINTS, "look_away", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="cold_start --world look_away "):
        load_tiny("look_away")


def test_a_world_that_is_none_names_those_there_are():
    with pytest.raises(FileNotFoundError, match=r"no 'lookaway'; .*misread, look_away"):
        load_tiny("lookaway")


def test_it_loads_through_the_ordinary_calls(world, tiny):
    model, processor = tiny
    folder = CHECKPOINTS[world]
    auto = AutoModelForImageTextToText.from_pretrained(folder)
    assert type(auto) is type(model) and model.dtype == torch.float32
    assert not model.training
    same = zip(auto.parameters(), model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert type(AutoProcessor.from_pretrained(folder)) is type(processor)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "<think> recall red = 5 .</think> \\boxed{5} naïve"
    assert tokenizer.encode(text) == processor.tokenizer.encode(text)


def test_other_models_keep_their_processors():
    assert PROCESSOR_MAPPING_NAMES["qwen2_5_vl"] == "Qwen2_5_VLProcessor"
    stock = PROCESSOR_MAPPING[Qwen2_5_VLConfig]
    assert stock.__name__ == "Qwen2_5_VLProcessor"
    assert stock.__module__.startswith("transformers.")


def test_the_record_meets_the_target_it_was_made_for(world):
    record = RECORDS[world]
    sampled = {f: record["accuracy"][f"sampled_{f}"] for f in FAMILIES}
    mean = sum(sampled[f] for f in IMAGE_FAMILIES) / len(IMAGE_FAMILIES)
    assert 0.30 <= mean <= 0.60
    assert min(sampled.values()) > 0.15
    assert record["seconds"] < 45 * 60


@pytest.mark.parametrize("family", FAMILIES)
def test_it_answers_as_well_as_recorded(world, greedy, family):
    found = accuracy(greedy[family], heldout(world, family))
    expected = RECORDS[world]["accuracy"][f"greedy_{family}"]
    # Four standard errors of 40 answers.
    assert (
        abs(found - expected) < 4 * (max(expected * (1 - expected), 0.02) / 40) ** 0.5
    )


def test_without_its_picture_it_is_no_better_than_a_guess(world, tiny, greedy):
    examples = [e for f in IMAGE_FAMILIES for e in heldout(world, f)]
    seen = WORLDS[world].examples(300, IMAGE_FAMILIES)
    chance = blind_accuracy(seen, examples)
    blanked = [blank(e) for e in examples]
    swapped = swap(examples)
    assert accuracy(likeliest(*tiny, blanked), blanked) < chance + 0.1
    assert accuracy(likeliest(*tiny, swapped), swapped) < chance + 0.1
    # In the look-away world half of the greedy answers are wrong, for want of looks.
    gain = 0.4 if world == "misread" else 0.2
    answers = [text for family in IMAGE_FAMILIES for text in greedy[family]]
    assert accuracy(answers, examples) > chance + gain


def test_answers_depend_on_the_seed_alone(world, tiny):
    examples = heldout(world, "sum", 8)
    torch.manual_seed(1)
    first = answer(*tiny, examples, temperature=1.0, seed=5)
    torch.manual_seed(2)
    assert answer(*tiny, examples, temperature=1.0, seed=5) == first
    assert answer(*tiny, examples, temperature=1.0, seed=6) != first
    with pytest.raises(ValueError, match="temperature"):
        answer(*tiny, examples, temperature=-1.0)


def test_lazy_package_gives_the_testbed():
    import vgpo

    assert vgpo.testbed is testbed
