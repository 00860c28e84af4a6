"""A model resolved once: its parts, and functions that take it as they take a model."""

from dataclasses import FrozenInstanceError

import families
import pytest
import torch
from families import FAMILIES, IMAGE, VIDEO
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from vgpo.models.attention import attention_split
from vgpo.models.capture import capture_focus
from vgpo.models.handle import resolve
from vgpo.models.image_grids import image_token_grids


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
