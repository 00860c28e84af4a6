"""The shipped checkpoint: it loads as any other, it answers, and it looks."""

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
from vgpo.testbed import CHECKPOINT, FAMILIES, IMAGE_FAMILIES, World, load_tiny
from vgpo.testbed.answers import accuracy, answer, blind_accuracy
from vgpo.testbed.changes import blank, swap

RECORD = json.loads((CHECKPOINT / "cold_start.json").read_text())


@pytest.fixture(scope="module")
def tiny():
    return load_tiny()


def heldout(family, count=40):
    return [World().example(i, 3, "heldout", family) for i in range(count)]


def test_it_is_small_and_has_no_pickle():
    files = [f for f in CHECKPOINT.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 20e6
    assert {f.suffix for f in files} <= {".json", ".safetensors", ".csv", ".jinja"}


def test_it_loads_through_the_ordinary_calls(tiny):
    model, processor = tiny
    auto = AutoModelForImageTextToText.from_pretrained(CHECKPOINT)
    assert type(auto) is type(model) and model.dtype == torch.float32
    assert not model.training
    same = zip(auto.parameters(), model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert type(AutoProcessor.from_pretrained(CHECKPOINT)) is type(processor)
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    text = "<think> red = 5 .</think> \\boxed{5} naïve"
    assert tokenizer.encode(text) == processor.tokenizer.encode(text)


def test_other_models_keep_their_processors():
    assert PROCESSOR_MAPPING_NAMES["qwen2_5_vl"] == "Qwen2_5_VLProcessor"
    stock = PROCESSOR_MAPPING[Qwen2_5_VLConfig]
    assert stock.__name__ == "Qwen2_5_VLProcessor"
    assert stock.__module__.startswith("transformers.")


def test_the_record_meets_the_target_it_was_made_for():
    sampled = {f: RECORD["accuracy"][f"sampled_{f}"] for f in FAMILIES}
    mean = sum(sampled[f] for f in IMAGE_FAMILIES) / len(IMAGE_FAMILIES)
    assert 0.30 <= mean <= 0.60
    assert min(sampled.values()) > 0.15
    assert RECORD["seconds"] < 45 * 60


@pytest.mark.parametrize("family", FAMILIES)
def test_it_answers_as_well_as_recorded(tiny, family):
    examples = heldout(family)
    greedy = accuracy(answer(*tiny, examples), examples)
    expected = RECORD["accuracy"][f"greedy_{family}"]
    # Four standard errors of 40 answers.
    assert (
        abs(greedy - expected) < 4 * (max(expected * (1 - expected), 0.02) / 40) ** 0.5
    )


def test_without_its_picture_it_is_no_better_than_a_guess(tiny):
    examples = [e for f in IMAGE_FAMILIES for e in heldout(f)]
    seen = [World().example(i, family=f) for f in IMAGE_FAMILIES for i in range(300)]
    chance = blind_accuracy(seen, examples)
    blanked = [blank(e) for e in examples]
    swapped = swap(examples)
    assert accuracy(answer(*tiny, blanked), blanked) < chance + 0.1
    assert accuracy(answer(*tiny, swapped), swapped) < chance + 0.1
    assert accuracy(answer(*tiny, examples), examples) > chance + 0.4


def test_answers_depend_on_the_seed_alone(tiny):
    examples = heldout("sum", 8)
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
