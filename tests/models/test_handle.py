"""A model resolved once: its parts, and functions that take it as they take a model."""

from dataclasses import FrozenInstanceError

import every_family
import families
import pytest
import torch
from families import FAMILIES, IMAGE, VIDEO
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from vgpo import analyze, score
from vgpo.models.attention import attention_split
from vgpo.models.capture import capture_focus
from vgpo.models.handle import resolve
from vgpo.models.image_grids import image_token_grids
from vgpo.testbed import build_processor


@pytest.mark.parametrize("name", FAMILIES)
def test_the_parts_are_those_of_the_family(name):
    model = families.build(name)
    handle = resolve(model)
    language = "text_model" if name in ("idefics3", "smolvlm") else "language_model"
    assert handle.model is handle.wrapped is model
    assert handle.backbone is model.model
    assert handle.language_model is getattr(model.model, language)
    assert handle.image_token_id == IMAGE
    assert handle.width == model.lm_head.in_features
    assert handle.device == torch.device("cpu")


def test_wrappers_are_looked_through_and_kept():
    model = families.build("gemma3")
    wrapped = nn.Sequential(model)
    handle = resolve(wrapped)
    assert handle.model is model and handle.wrapped is wrapped
    assert resolve(handle) is handle


def test_a_handle_does_not_change():
    with pytest.raises(FrozenInstanceError):
        resolve(families.build("gemma3")).width = 3


def test_placeholders_are_the_tokens_that_an_encoder_fills():
    assert resolve(families.build("qwen2_5_vl")).placeholder_ids == {IMAGE, VIDEO}
    assert resolve(families.build("gemma3")).placeholder_ids == {IMAGE}


def test_the_image_token_can_be_given():
    text = Qwen2ForCausalLM(Qwen2Config(**families.TEXT))
    with pytest.raises(ValueError, match="image_token_id="):
        resolve(text)
    assert resolve(text, image_token_id=7).image_token_id == 7
    model = families.build("gemma3")
    assert resolve(resolve(model), image_token_id=9).image_token_id == 9


def test_functions_give_the_same_for_a_handle_as_for_its_model():
    model = families.build("qwen3_vl")
    inputs = families.batch("qwen3_vl")
    handle = resolve(model)
    focus = []
    for given in (model, handle):
        with torch.no_grad(), capture_focus(given, completion_length=5) as capture:
            model(**inputs)
        focus.append(capture.focus)
    assert torch.equal(*focus)
    by_model, by_handle = (attention_split(m, inputs, 5) for m in (model, handle))
    assert torch.equal(by_model.masses, by_handle.masses)
    is_image = inputs["input_ids"] == IMAGE
    for ours, theirs in zip(
        image_token_grids(model, inputs, is_image),
        image_token_grids(handle, inputs, is_image),
        strict=True,
    ):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_head_further_down_is_looked_for():
    """In Llama 4 no backbone stands beside the head but in the language model."""
    model = every_family.build("llama4")
    assert model.base_model is model
    handle = resolve(model)
    assert handle.entry is model
    assert handle.backbone is handle.language_model is model.language_model.model


def test_a_head_that_cannot_be_told_from_the_states_is_refused():
    class Alone(Qwen2ForCausalLM):
        base_model_prefix = "elsewhere"

    model = Alone(Qwen2Config(**families.TEXT))
    with pytest.raises(ValueError, match="Alone does not keep the states"):
        resolve(model, image_token_id=IMAGE)


@pytest.mark.parametrize(
    ("name", "why"),
    [("mllama", "by cross-attention"), ("florence2", "encoder-decoder")],
)
def test_images_beside_the_sequence_are_refused_by_every_function(name, why):
    model = every_family.build(name)
    inputs = every_family.prompt(1)
    messages = [{"role": "user", "content": [{"type": "image"}]}]
    processor = every_family.HandMade(inputs, build_processor().tokenizer)
    asked = [
        lambda: resolve(model),
        lambda: resolve(model, image_token_id=IMAGE),
        lambda: capture_focus(model, completion_length=2).__enter__(),
        lambda: attention_split(model, inputs, 2),
        lambda: image_token_grids(model, inputs, inputs["input_ids"] == IMAGE),
        lambda: score(model, processor, messages, "red"),
        lambda: analyze(model, processor, messages, ["red"], progress=False),
    ]
    for ask in asked:
        with pytest.raises(ValueError, match=f"{name}.* {why}"):
            ask()
