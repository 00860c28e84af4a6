"""A model and a processor by name: settings are checked, limits have one place."""

import json
import warnings

import pytest
from PIL import Image

from vgpo.models.inputs import encode_prompt
from vgpo.models.loading import load_model, load_processor
from vgpo.testbed import CHECKPOINT

PARTS = [
    {"type": "image", "image": Image.new("RGB", (560, 560))},
    {"type": "text", "text": "Total ?"},
]
CHAT = [{"role": "user", "content": PARTS}]


def test_a_folder_of_something_else_is_no_checkpoint(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to load")
    with pytest.raises(ValueError, match=r"^name: .*no processor that reads images"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "bf16"}, "^dtype: .*'bfloat16'.* got 'bf16'"),
        ({"dtype": "load"}, "^dtype: .* got 'load'"),
        ({"max_pixels": "1M"}, "^max_pixels: .*got '1M'"),
        ({"max_pixels": 1e6}, "^max_pixels: must be a whole number"),
        ({"min_pixels": 0}, "^min_pixels: must be .* above 0"),
        ({"min_pixels": 4000, "max_pixels": 3999}, "^min_pixels: 4000 is above"),
    ],
)
def test_settings_of_loading_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        load_model(CHECKPOINT, **settings)


@pytest.mark.parametrize("limit", [100_000, 50_000])
def test_limits_hold_without_a_warning_and_are_saved_once(tmp_path, limit):
    model, processor = load_model(CHECKPOINT, max_pixels=limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The small world's own, of its tiles.
        warnings.filterwarnings("ignore", "min_pixels, max_pixels: pictures are")
        first = encode_prompt(model, processor, CHAT)["image_grid_thw"][0]
    height, width = (14 * int(side) for side in first[1:])
    assert 0.7 * limit < height * width <= limit
    processor.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "max_pixels" not in told
    again = encode_prompt(model, load_processor(tmp_path), CHAT)["image_grid_thw"][0]
    assert again.tolist() == first.tolist()
    # And another limit takes its place.
    half = load_processor(tmp_path, max_pixels=limit // 2)
    fewer = encode_prompt(model, half, CHAT)["image_grid_thw"][0]
    assert 14 * 14 * int(fewer.prod()) <= limit // 2
