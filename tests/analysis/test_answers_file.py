"""Kept answers are found again by the same question to the same model, and only so."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image

from vgpo.analysis.answers_file import AnswersFile
from vgpo.models.fingerprints import model_fingerprint, question_fingerprint
from vgpo.models.handle import resolve
from vgpo.testbed import build_processor, build_tiny

PROCESSOR = build_processor()


@pytest.fixture
def model():
    return build_tiny(PROCESSOR, hidden_size=64, layers=1)


def of(model):
    return model_fingerprint(resolve(model))


def test_the_same_model_is_the_same(model):
    assert of(model) == of(copy.deepcopy(model))


@pytest.mark.parametrize("place", [0, 1, 777, -1])
def test_one_changed_weight_is_another_model(model, place):
    before = of(model)
    # A place that is not among the sampled ones shows in the checksum.
    model.lm_head.weight.data.view(-1)[place] += 1e-3
    assert of(model) != before


def test_training_in_place_is_another_model(model):
    before = of(model)
    for parameter in model.parameters():
        parameter.data.mul_(1.01)
    assert of(model) != before


def test_precision_is_another_model(model):
    before = of(model)
    assert of(model.to(torch.bfloat16)) != before


def test_generation_settings_are_another_model(model):
    before = of(model)
    model.generation_config.repetition_penalty = 1.3
    assert of(model) != before


def test_adapters_are_another_model_and_so_are_other_adapters(model):
    plain = of(model)
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    wrapped = get_peft_model(model, config)
    adapted = of(wrapped)
    assert adapted != plain
    with wrapped.disable_adapter():
        assert of(wrapped) != adapted
    torch.manual_seed(5)
    wrapped.base_model.model.model.language_model.layers[
        0
    ].self_attn.q_proj.lora_A.default.weight.data.normal_()
    assert of(wrapped) != adapted


def prompt(picture, words="red ?"):
    return dict(
        PROCESSOR(
            text=f"<|vision_start|><|image_pad|><|vision_end|>{words}",
            images=picture,
            return_tensors="pt",
        )
    )


def test_other_pixels_and_other_words_are_another_question():
    white = np.full((112, 112, 3), 255, np.uint8)
    middle = white.copy()
    middle[28:84, 28:84] = (255, 0, 0)  # the corners, all that str() shows, agree
    first = question_fingerprint("m", prompt(Image.fromarray(white)), 8)
    assert first == question_fingerprint("m", prompt(Image.fromarray(white)), 8)
    assert first != question_fingerprint("m", prompt(Image.fromarray(middle)), 8)
    assert first != question_fingerprint("m", prompt(Image.fromarray(white), "5"), 8)
    assert first != question_fingerprint("m", prompt(Image.fromarray(white)), 9)
    assert first != question_fingerprint("n", prompt(Image.fromarray(white)), 8)


def test_a_foreign_file_is_refused_by_line(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text('{"asked": "a", "completion_ids": [1]}\n{"b": 1}\n')
    with pytest.raises(ValueError, match="line 2"):
        AnswersFile(file)


def test_half_a_line_is_dropped_and_written_again(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text('{"asked": "a", "completion_ids": [1]}\n{"asked": "b", "compl')
    kept = AnswersFile(file)
    assert kept.ids == {"a": [1]}
    kept.add("b", [2])
    assert AnswersFile(file).ids == {"a": [1], "b": [2]}
