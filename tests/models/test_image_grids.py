"""Where image tokens lie: grids by design, and grids found by painting the picture."""

import every_family
import families
import pytest
import torch
from every_family import noise
from PIL import Image
from transformers import LlavaConfig, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from vgpo.models.image_grids import image_token_grids, shown_whole


def test_grids_of_non_square_and_tiled_images():
    qwen = families.build("qwen2_5_vl")
    is_image = torch.tensor([[True] * 8 + [False, True]])
    inputs = {"image_grid_thw": torch.tensor([[1, 2, 6], [1, 6, 4]])}
    (grids,) = image_token_grids(qwen, inputs, is_image)
    assert [grid.tolist() for grid in grids] == [
        [[0, 1, 2]],
        [[3, 4], [5, 6], [7, 8]],
    ]

    idefics = families.build("idefics3")
    is_image = torch.tensor([[True] * 4 + [False] + [True] * 4, [False] * 9])
    first, second = image_token_grids(idefics, {}, is_image)
    assert [grid.tolist() for grid in first] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert second == []

    llava = families.build("llava_onevision")
    is_image = torch.ones(1, 14, dtype=torch.bool)
    inputs = {"image_sizes": torch.tensor([[28, 56]])}
    ((overview, detail),) = image_token_grids(llava, inputs, is_image)
    assert overview.tolist() == [[0, 1], [2, 3]]
    assert detail.tolist() == [[4, 5, 6, 7], [9, 10, 11, 12]]  # 8 and 13 end lines


def test_grids_that_do_not_fit_are_refused():
    qwen = families.build("qwen2_5_vl")
    inputs = {"image_grid_thw": torch.tensor([[1, 4, 6]])}
    with pytest.raises(ValueError, match="image_grid_thw"):
        image_token_grids(qwen, inputs, torch.ones(1, 7, dtype=torch.bool))
    llava = families.build("llava_onevision")
    inputs = {"image_sizes": torch.tensor([[28, 56]])}
    with pytest.raises(ValueError, match="takes 14 tokens"):
        image_token_grids(llava, inputs, torch.ones(1, 13, dtype=torch.bool))


# -- painted pictures -------------------------------------------------------------


def features(model, **pixels):
    """(M, D) features of the image tokens of one row, in their order."""
    with torch.no_grad():
        found = model.get_image_features(**pixels, return_dict=True).pooler_output
    return torch.cat([part.flatten(0, -2) for part in found])


def assert_painted_cells_move_their_tokens(model, pixels, paint, grid, **sizes):
    """Painting cell (y, x) moves the feature of the token at grid[y, x] most."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Little attention: each feature then depends on its own cell above all.
            if "language_model" not in name and ("attn" in name or "attention" in name):
                parameter.mul_(0.05)
    before = features(model, pixel_values=pixels, **sizes)
    for y in range(grid.shape[0]):
        for x in range(grid.shape[1]):
            painted = pixels.clone()
            paint(painted, y, x)
            after = features(model, pixel_values=painted, **sizes)
            moved = (after - before).norm(dim=1) / before.norm(dim=1)
            assert moved.argmax() == grid[y, x], (y, x)


def row_of(count):
    return torch.ones(1, count, dtype=torch.bool)


@pytest.mark.parametrize("name", ["llava", "vipllava", "paligemma"])
def test_square_families(name):
    model = every_family.build(name)
    ((grid,),) = image_token_grids(model, {}, row_of(16))
    assert grid.shape == (4, 4)

    def paint(pixels, y, x):
        pixels[..., 14 * y : 14 * y + 14, 14 * x : 14 * x + 14] = 3.0

    assert_painted_cells_move_their_tokens(model, noise(1, 3, 56, 56), paint, grid)


def test_an_overview_and_the_image_in_detail():
    """LLaVA-NeXT: 4 x 4 tokens of the whole, then 4 x 8 with a line end each."""
    model = every_family.build("llava_next")
    sizes = {"image_sizes": torch.tensor([[56, 112]])}
    ((overview, detail),) = image_token_grids(model, sizes, row_of(16 + 4 * 9))
    assert overview.shape == (4, 4) and detail.shape == (4, 8)
    pixels = noise(1, 3, 3, 56, 56)  # the whole, the left half, the right half

    def paint_whole(pixels, y, x):
        pixels[0, 0, :, 14 * y : 14 * y + 14, 14 * x : 14 * x + 14] = 3.0

    def paint_half(pixels, y, x):
        half, x = divmod(x, 4)
        pixels[0, 1 + half, :, 14 * y : 14 * y + 14, 14 * x : 14 * x + 14] = 3.0

    for paint, grid in ((paint_whole, overview), (paint_half, detail)):
        assert_painted_cells_move_their_tokens(model, pixels, paint, grid, **sizes)


def pixtral(merge=1):
    if merge > 1:
        return every_family.build("mistral3")
    config = LlavaConfig(
        text_config=every_family.TEXT_OF_LLAMA,
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
            "patch_size": 14,
        },
        image_token_index=every_family.IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(config).eval()


@pytest.mark.parametrize("merge", [1, 2])
def test_a_run_of_tokens_for_each_line(merge):
    """Pixtral's tower, as LLaVA and Mistral 3 have it: other tokens end the lines."""
    model = pixtral(merge)
    cell = 14 * merge
    sizes = {"image_sizes": torch.tensor([[2 * cell, 3 * cell]])}
    line = [True] * 3 + [False]
    is_image = torch.tensor([[False, *line, *line, False]])
    ((grid,),) = image_token_grids(model, sizes, is_image)
    assert grid.tolist() == [[0, 1, 2], [3, 4, 5]]

    def paint(pixels, y, x):
        pixels[..., cell * y : cell * (y + 1), cell * x : cell * (x + 1)] = 3.0

    pixels = noise(1, 3, 2 * cell, 3 * cell)
    assert_painted_cells_move_their_tokens(model, pixels, paint, grid, **sizes)
    two = {"image_sizes": torch.tensor([[cell, 3 * cell], [cell, 3 * cell]])}
    (grids,) = image_token_grids(model, two, is_image)
    assert [grid.tolist() for grid in grids] == [[[0, 1, 2]], [[3, 4, 5]]]
    with pytest.raises(ValueError, match="image_sizes and image tokens do not match"):
        image_token_grids(
            model, {"image_sizes": torch.tensor([[cell, 2 * cell]])}, is_image
        )


@pytest.mark.parametrize(
    ("name", "merges", "ends"),
    [("video_llama_3", 1, 0), ("video_llama_3", 2, 0), ("hunyuan_vl", 2, 1)],
)
def test_merged_patches_of_other_families(name, merges, ends):
    model = every_family.build(name)
    rows, columns = 2, 3
    height, width = rows * merges, columns * merges
    inputs = {"image_grid_thw": torch.tensor([[1, height, width]])}
    if name == "video_llama_3":
        inputs["image_merge_sizes"] = torch.tensor([merges])
    count = rows * (columns + ends) + 2 * ends
    ((grid,),) = image_token_grids(model, inputs, row_of(count))
    assert grid.shape == (rows, columns)
    size = 3 * model.config.vision_config.patch_size**2
    pixels = noise(height * width, size)

    def paint(pixels, y, x):
        if name == "hunyuan_vl":  # patches lie line by line
            picture = pixels.view(height, width, size)
            picture[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = 3.0
        else:  # patches that are merged lie next to each other
            cell = y * columns + x
            pixels[cell * merges**2 : (cell + 1) * merges**2] = 3.0

    assert_painted_cells_move_their_tokens(model, pixels, paint, grid, **inputs)


# -- several images in one run, and families without a rule -----------------------


def test_images_next_to_each_other_are_told_apart():
    """LLaVA-OneVision tiles an image only where it is alone in its conversation."""
    model = families.build("llava_onevision")
    sizes = torch.tensor([[28, 56], [28, 56], [28, 56]])
    inputs = {"image_sizes": sizes, "batch_num_images": torch.tensor([2, 1])}
    is_image = torch.zeros(2, 16, dtype=torch.bool)
    is_image[0, 1:11] = is_image[1, 1:15] = True  # twice 2 x 2 + 1; 2 x 2 + 2 x 5
    two, one = image_token_grids(model, inputs, is_image)
    assert [grid.tolist() for grid in two] == [[[0, 1], [2, 3]], [[5, 6], [7, 8]]]
    assert [tuple(grid.shape) for grid in one] == [(2, 2), (2, 4)]
    tiled = {"image_sizes": sizes[:2]}
    (both,) = image_token_grids(model, tiled, row_of(28))
    assert [tuple(grid.shape) for grid in both] == [(2, 2), (2, 4)] * 2


@pytest.mark.parametrize("name", ["idefics2", "janus", "got_ocr2"])
def test_families_without_a_rule_have_no_grids(name):
    is_image = torch.tensor([[False, True, True, True, True, False]])
    model = every_family.skeleton(name)
    assert image_token_grids(model, {}, is_image) == [[]]


def test_a_run_that_is_no_whole_square_has_no_grid():
    model = families.build("gemma3")
    assert image_token_grids(model, {}, row_of(5)) == [[]]


# -- what of the picture the model sees -------------------------------------------

WIDE, SQUARE = Image.new("RGB", (90, 30)), Image.new("RGB", (30, 30))


class Holder:
    def __init__(self, image_processor):
        self.image_processor = image_processor


@pytest.mark.parametrize(
    ("image_processor", "images", "whole"),
    [
        (CLIPImageProcessorPil(), [SQUARE], True),
        (CLIPImageProcessorPil(), [SQUARE, WIDE], False),
        (CLIPImageProcessorPil(do_center_crop=False), [WIDE], True),
        (LlavaImageProcessorPil(do_center_crop=False, do_pad=True), [WIDE], False),
        (LlavaOnevisionImageProcessorPil(), [WIDE], True),
        (LlavaOnevisionImageProcessorPil(), [WIDE, WIDE], False),
    ],
)
def test_pictures_that_are_cropped_or_padded(image_processor, images, whole):
    assert shown_whole(Holder(image_processor), images) is whole
