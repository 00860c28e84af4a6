"""Every family with a processor answers a batch as it answers alone."""

import numpy as np
import processors
import pytest
from PIL import Image

from vgpo.evaluation.decoding import Decoding, Prompt, Transformers

RNG = np.random.default_rng(0)
USUAL = ("qwen2_5_vl", "gemma3", "idefics3", "llava_onevision", "internvl")


def prompt(height, width, text):
    pixels = RNG.integers(0, 255, (height, width, 3), dtype=np.uint8)
    parts = [{"type": "image", "text": ""}, {"type": "text", "text": text}]
    return Prompt([{"role": "user", "content": parts}], (Image.fromarray(pixels),))


ASKED = [prompt(56, 84, "five ?"), prompt(112, 56, "a longer question it is ?")]


@pytest.mark.parametrize(
    "name",
    [
        name if name in USUAL else pytest.param(name, marks=pytest.mark.slow)
        for name in processors.ENTRIES
    ],
)
def test_a_batch_is_answered_as_its_questions_alone(name):
    processor = processors.processor_of(name)
    backend = Transformers(processors.model_of(name), processor)
    decoding = Decoding(max_new_tokens=5)
    alone = [backend.answer([one], decoding, None)[0] for one in ASKED]
    assert backend.answer(ASKED, decoding, None) == alone
    total, pictures = backend.prompt_tokens(ASKED[0])
    assert 0 < pictures < total
