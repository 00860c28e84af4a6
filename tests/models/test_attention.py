"""Attention splits against eager attention, and against attention known by design."""

import every_family
import families
import pytest
import torch
from families import FAMILIES, IMAGE, VISION_END, VISION_START
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface, AttentionMaskInterface, Qwen2Config
from transformers import Qwen2ForCausalLM as TextOnlyModel
from transformers.masking_utils import flash_attention_mask
from transformers.models.gemma3.modeling_gemma3 import eager_attention_forward

from vgpo.models import attention
from vgpo.models.attention import _OBSERVER, _attention, attention_rows, attention_split

SPECIAL = [VISION_START, VISION_END]


def eager_weights(name, inputs, **text_config):
    """(N, B, L, L) weights of every layer, heads averaged, from eager attention."""
    model = families.build(name, attention="eager", **text_config)
    with torch.no_grad():
        output = model(**inputs, output_attentions=True)
    return torch.stack(output.attentions).double().mean(dim=2)


def reference_split(weights, inputs, completion_length, alignment):
    """Masses (N, B, T, 3) and special mass, one row and step at a time."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    layers, batch, length, _ = weights.shape
    prompt = length - completion_length
    weights = weights.tolist()
    masses = torch.zeros(layers, batch, completion_length, 3, dtype=torch.float64)
    special = torch.zeros(layers, batch, completion_length, dtype=torch.float64)
    for row in range(batch):
        kinds = []
        for position in range(length):
            token = int(ids[row, position])
            if not mask[row, position]:
                kinds.append("padding")
            elif position >= prompt:
                kinds.append("generated")
            elif token == IMAGE:
                kinds.append("image")
            else:
                kinds.append("special" if token in SPECIAL else "query")
        for step in range(completion_length):
            if not mask[row, prompt + step]:
                continue
            at = prompt + step - (1 if alignment == "prediction" else 0)
            for layer in range(layers):
                total = dict.fromkeys(
                    ("image", "query", "generated", "special", "padding"), 0.0
                )
                for position, kind in enumerate(kinds):
                    total[kind] += weights[layer][row][at][position]
                assert total["padding"] == 0
                kept = [total["image"], total["query"], total["generated"]]
                masses[layer, row, step] = torch.tensor(kept) / sum(kept)
                special[layer, row, step] = total["special"]
    return masses, special


@pytest.mark.parametrize("alignment", ["token", "prediction"])
@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("name", FAMILIES)
def test_equals_eager_attention(name, padding, alignment):
    inputs = families.batch(
        name, images_per_row=(1, 2, 0), completion_length=6, prompt_padding=padding
    )
    masses, special = reference_split(eager_weights(name, inputs), inputs, 6, alignment)

    split = attention_split(
        families.build(name),
        inputs,
        6,
        layers="all",
        alignment=alignment,
        special_token_ids=SPECIAL,
    )

    torch.testing.assert_close(split.layer_masses.double(), masses, atol=1e-6, rtol=0)
    torch.testing.assert_close(split.special_mass.double(), special, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava_onevision", "internvl"])
def test_equals_eager_attention_in_sliding_windows_of_other_families(name):
    window = {
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
    }
    inputs = families.batch(name, completion_length=6)
    masses, _ = reference_split(
        eager_weights(name, inputs, **window), inputs, 6, "prediction"
    )
    assert (masses[2, :, -1, 0] == 0).all()  # the images are out of the window

    split = attention_split(
        families.build(name, **window),
        inputs,
        6,
        layers="all",
        special_token_ids=SPECIAL,
    )

    torch.testing.assert_close(split.layer_masses.double(), masses, atol=1e-6, rtol=0)


def test_default_is_the_final_layer_and_the_row_that_chose_the_token():
    inputs = families.batch("qwen2_5_vl")
    masses, _ = reference_split(
        eager_weights("qwen2_5_vl", inputs), inputs, 5, "prediction"
    )
    split = attention_split(
        families.build("qwen2_5_vl"), inputs, 5, special_token_ids=SPECIAL
    )
    assert split.layers == (2,)
    torch.testing.assert_close(split.masses.double(), masses[2], atol=1e-6, rtol=0)


def test_layers_are_averaged_and_may_count_from_the_end():
    inputs = families.batch("internvl")
    model = families.build("internvl")
    every = attention_split(model, inputs, 5, layers="all")
    two = attention_split(model, inputs, 5, layers=[0, -1])
    assert two.layers == (0, 2)
    torch.testing.assert_close(two.masses, every.layer_masses[[0, 2]].mean(dim=0))


@pytest.mark.parametrize("name", FAMILIES)
def test_image_maps_hold_each_image_tokens_share(name):
    family = FAMILIES[name]
    inputs = families.batch(name, images_per_row=(2, 1), completion_length=4)
    split = attention_split(families.build(name), inputs, 4, special_token_ids=SPECIAL)
    weights = eager_weights(name, inputs)[-1]
    first = inputs["input_ids"].shape[1] - 4 - 1  # the row that chose the first token
    for row, images in enumerate((2, 1)):
        places = (inputs["input_ids"][row] == IMAGE).nonzero()[:, 0]
        maps = split.image_maps[row]
        if name != "llava_onevision":
            assert len(maps) == images
        for number in range(images):
            image = maps[number if name != "llava_onevision" else 2 * number]
            assert image.shape == (4, *family.grid)
            start = number * family.tokens_per_image
            height, width = family.grid
            for step in range(4):
                kept = 1 - split.special_mass[0, row, step]
                for y in range(height):
                    for x in range(width):
                        token = places[start + y * width + x]
                        expected = float(weights[row, first + step, token] / kept)
                        assert image[step, y, x] == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(split.image_attention.sum(-1), split.masses[..., 0])


def silence_queries(model):
    """Zero queries: every layer attends evenly to all it may see."""
    for name, parameter in model.named_parameters():
        if "vision" not in name and "visual" not in name and ".q_proj." in name:
            torch.nn.init.zeros_(parameter)
    return model


def test_even_attention_splits_by_the_number_of_tokens():
    # Row 0: 3 words, start, 6 image tokens, end, 1 word; row 1 the same with 5
    # words and two images. After t generated tokens there are t of them to see.
    model = silence_queries(families.build("qwen2_5_vl"))
    inputs = families.batch("qwen2_5_vl", images_per_row=(1, 2), completion_length=5)
    split = attention_split(model, inputs, 5, special_token_ids=SPECIAL)
    for row, (image, query, special) in enumerate([(6, 4, 2), (12, 7, 4)]):
        for generated in range(5):
            counts = torch.tensor([image, query, generated], dtype=torch.float32)
            torch.testing.assert_close(
                split.masses[row, generated], counts / counts.sum()
            )
            assert split.special_mass[0, row, generated] == pytest.approx(
                special / (image + query + generated + special), abs=1e-6
            )


def test_without_special_ids_every_other_prompt_token_is_query():
    model = silence_queries(families.build("qwen2_5_vl"))
    inputs = families.batch("qwen2_5_vl", images_per_row=(1,), completion_length=1)
    split = attention_split(model, inputs, 1)
    torch.testing.assert_close(split.masses[0, 0], torch.tensor([0.5, 0.5, 0.0]))
    assert split.special_mass.sum() == 0


def test_padded_steps_are_empty_and_others_sum_to_one():
    inputs = families.batch("gemma3", completion_lengths=(5, 1, 3))
    split = attention_split(families.build("gemma3"), inputs, 5, layers="all")
    real = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
    assert torch.equal(split.completion_mask, real.bool())
    torch.testing.assert_close(split.masses.sum(dim=-1), real.float())
    assert not split.image_maps[1][0][1:].any()


def test_only_special_tokens_in_sight_gives_zeros_not_nan():
    # A window of one token, and that token is special.
    inputs = families.batch("gemma3", images_per_row=(1,), completion_length=1)
    inputs["input_ids"][0, -2] = VISION_END
    model = families.build("gemma3", sliding_window=1)
    split = attention_split(model, inputs, 1, special_token_ids=SPECIAL)
    assert torch.equal(split.masses, torch.zeros(1, 1, 3))
    assert split.special_mass[0, 0, 0] == pytest.approx(1.0)


def test_a_batch_without_images_has_no_image_mass_and_no_maps():
    inputs = families.batch("qwen2_5_vl", images_per_row=(0, 0))
    split = attention_split(families.build("qwen2_5_vl"), inputs, 5)
    assert not split.masses[..., 0].any()
    assert split.image_maps == [[], []]
    torch.testing.assert_close(split.masses.sum(-1), torch.ones(2, 5))


def test_image_tokens_in_a_completion_count_as_generated():
    inputs = families.batch("gemma3", images_per_row=(0,), completion_length=3)
    inputs["input_ids"][0, -3] = IMAGE
    split = attention_split(families.build("gemma3"), inputs, 3)
    assert not split.masses[..., 0].any()
    assert split.masses[0, 2, 2] > 0


def test_chunks_change_nothing():
    model = families.build("qwen3_vl")
    inputs = families.batch("qwen3_vl", completion_length=7)
    whole = attention_split(model, inputs, 7)
    rows = attention_split(model, inputs, 7, chunk_bytes=1)
    torch.testing.assert_close(rows.masses, whole.masses)
    torch.testing.assert_close(rows.image_attention, whole.image_attention)


def test_no_tensor_holds_all_generating_rows_of_all_heads():
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for value in result if isinstance(result, tuple) else (result,):
                if isinstance(value, torch.Tensor):
                    self.elements = max(self.elements, value.numel())
            return result

    model = families.build("qwen2_5_vl")
    inputs = families.batch("qwen2_5_vl", images_per_row=(1,), completion_length=300)
    length, heads = inputs["input_ids"].shape[1], 4
    with Largest() as largest:
        attention_split(model, inputs, 300, layers="all", chunk_bytes=4 * 16 * length)
    assert largest.elements < heads * 300 * length / 3


def test_a_model_on_fused_attention_gets_its_attention_back():
    """Stands in for flash attention: 2-D masks, no weights, never called here."""

    def unused(*args, **kwargs):
        raise AssertionError("the pass must not depend on the model's own kernel")

    AttentionInterface.register("flash_stand_in", unused)
    AttentionMaskInterface.register("flash_stand_in", flash_attention_mask)
    inputs = families.batch("qwen2_5_vl")
    model = families.build("qwen2_5_vl")
    model.config.text_config._attn_implementation = "flash_stand_in"
    split = attention_split(model, inputs, 5, special_token_ids=SPECIAL)
    masses, _ = reference_split(
        eager_weights("qwen2_5_vl", inputs), inputs, 5, "prediction"
    )
    torch.testing.assert_close(split.masses.double(), masses[2], atol=1e-6, rtol=0)
    assert model.config.text_config._attn_implementation == "flash_stand_in"
    assert model.config.vision_config._attn_implementation == "sdpa"


def test_attention_is_put_back_after_an_error():
    model = families.build("qwen2_5_vl")
    inputs = families.batch("qwen2_5_vl")
    inputs["pixel_values"] = inputs["pixel_values"][:-24]
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        attention_split(model, inputs, 5)
    assert model.config.text_config._attn_implementation == "sdpa"


def test_the_model_computes_the_same_before_and_after():
    model = families.build("gemma3")
    inputs = families.batch("gemma3")
    with torch.no_grad():
        before = model(**inputs).logits
        attention_split(model, inputs, 5)
        after = model(**inputs).logits
    assert torch.equal(before, after)


def test_rows_with_soft_cap_and_grouped_heads_equal_eager_attention():
    generator = torch.Generator().manual_seed(0)
    query = 3 * torch.randn(2, 4, 9, 8, generator=generator)
    key, value = torch.randn(2, 2, 2, 9, 8, generator=generator)
    mask = torch.ones(9, 9, dtype=torch.bool).tril()[None, None].repeat(2, 1, 1, 1)
    mask[1, :, :, :2] = False
    module = torch.nn.Module()
    module.num_key_value_groups, module.layer_idx = 2, 0
    bias = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    output, weights = eager_attention_forward(
        module, query, key, value, bias, scaling=0.3, softcap=2.0
    )

    rows = attention_rows(query, key, mask, 4, 7, scaling=0.3, softcap=2.0)
    torch.testing.assert_close(rows, weights[:, :, 4:7])

    token = _OBSERVER.set(lambda *args: None)
    try:
        capped, _ = _attention(
            module, query, key, value, mask, scaling=0.3, softcap=2.0
        )
    finally:
        _OBSERVER.reset(token)
    torch.testing.assert_close(capped[:, 2:], output[:, 2:])


def test_lora_wrapped_models_attend_with_their_adapters():
    peft = pytest.importorskip("peft")
    inputs = families.batch("qwen2_5_vl")
    plain = attention_split(families.build("qwen2_5_vl"), inputs, 5)
    config = peft.LoraConfig(
        target_modules=r".*language_model.*\.(q_proj|v_proj)", init_lora_weights=False
    )
    torch.manual_seed(0)
    adapted = peft.get_peft_model(families.build("qwen2_5_vl"), config).eval()
    split = attention_split(adapted, inputs, 5)
    merged = attention_split(adapted.merge_and_unload(), inputs, 5)
    torch.testing.assert_close(split.masses, merged.masses, atol=1e-5, rtol=0)
    assert (split.masses - plain.masses).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"completion_length": 0}, "completion_length"),
        ({"completion_length": 1000}, "completion_length"),
        ({"alignment": "next"}, "alignment"),
        ({"layers": [3]}, "layers"),
        ({"layers": []}, "layers"),
        ({"layers": "last"}, "layers"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    arguments = {"completion_length": 5} | arguments
    with pytest.raises(ValueError, match=message):
        attention_split(
            families.build("qwen2_5_vl"), families.batch("qwen2_5_vl"), **arguments
        )


def test_a_model_without_images_is_refused():
    model = TextOnlyModel(Qwen2Config(**families.TEXT))
    inputs = {"input_ids": torch.ones(1, 8, dtype=torch.long)}
    with pytest.raises(ValueError, match="names no image token"):
        attention_split(model, inputs, 4)


@pytest.mark.parametrize("extra", ["s_aux", "position_bias"])
def test_attention_that_is_more_than_a_softmax_of_products_is_refused(extra):
    states = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match=extra):
        _attention(
            torch.nn.Module(), states, states, states, None, **{extra: torch.ones(1)}
        )


def test_a_model_whose_attention_cannot_be_replaced_is_refused(monkeypatch):
    model = families.build("qwen2_5_vl")
    monkeypatch.setattr(
        type(model.model.language_model),
        "_can_set_attn_implementation",
        lambda _: False,
    )
    with pytest.raises(ValueError, match="does not let its attention be replaced"):
        attention_split(model, families.batch("qwen2_5_vl"), 5)


# -- models that mix kinds of layers ----------------------------------------------


def hybrid():
    """Qwen3.5: layers 0 and 2 are linear attention, 1 and 3 attend."""
    kinds = ["linear_attention", "full_attention"]
    return every_family.build(
        "qwen3_5", num_hidden_layers=5, layer_types=[*kinds, *kinds, kinds[0]]
    )


def hybrid_inputs():
    inputs = every_family.prompt(
        6,
        pixel_values=every_family.noise(24, 3 * 2 * 14 * 14),
        image_grid_thw=torch.tensor([[1, 4, 6]]),
    )
    inputs["mm_token_type_ids"] = (inputs["input_ids"] == every_family.IMAGE).int()
    return inputs


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [("all", (1, 3)), ([-1], (3,)), ([-2], (1,)), ([1, -1], (1, 3)), ([3], (3,))],
)
def test_layers_are_those_that_attend(layers, chosen):
    split = attention_split(hybrid(), hybrid_inputs(), 3, layers=layers)
    assert split.layers == chosen
    torch.testing.assert_close(split.masses.sum(dim=-1), torch.ones(1, 3))


def test_the_default_layer_is_the_last_that_attends():
    assert attention_split(hybrid(), hybrid_inputs(), 3).layers == (3,)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([0], r"\[0\] compute no softmax attention.*\[1, 3\]"),
        ([-3], "of which 2 attend"),
    ],
)
def test_layers_that_do_not_attend_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        attention_split(hybrid(), hybrid_inputs(), 3, layers=layers)


def test_attention_of_a_hybrid_equals_eager_attention():
    inputs = hybrid_inputs()
    split = attention_split(hybrid(), inputs, 3, layers=[1], alignment="token")
    model = hybrid()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(**inputs, output_attentions=True).attentions
    # One entry per layer that attends, or per layer with none where there is none.
    first = next(w for w in weights if w is not None).double().mean(dim=1)[0, -3:]
    is_image = inputs["input_ids"][0] == every_family.IMAGE
    torch.testing.assert_close(
        split.masses[0, :, 0].double(), first[:, is_image].sum(dim=1), atol=1e-6, rtol=0
    )


# -- what maps need and shares do not ---------------------------------------------


def test_unknown_places_leave_maps_out_and_nothing_else(monkeypatch):
    def misfit(*_):
        raise ValueError("inputs: sizes and image tokens do not match")

    inputs = families.batch("qwen2_5_vl")
    known = attention_split(families.build("qwen2_5_vl"), inputs, 5)
    monkeypatch.setattr(attention, "image_token_grids", misfit)
    with pytest.warns(UserWarning, match="image_maps: left out"):
        split = attention_split(families.build("qwen2_5_vl"), inputs, 5)
    assert split.image_maps == [[], [], []]
    assert torch.equal(split.masses, known.masses)
    assert torch.equal(split.image_attention, known.image_attention)


def test_layers_may_be_on_another_device_than_the_inputs():
    """As where accelerate spreads layers over GPUs; `meta` stands in for the second.
    Of what comes back from it, only the shape is known."""
    moved = []

    class Weights(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function is torch.Tensor.to and args[1:] == (torch.device("cpu"),):
                moved.append(tuple(args[0].shape))
                return torch.ones(args[0].shape)
            return super().__torch_function__(function, types, args, kwargs or {})

    is_image = torch.tensor([[False, True, True, False, False]])
    kinds = torch.zeros(1, 5, 4)
    reducer = attention._RowReducer(
        layers=(0,),
        first_row=2,
        kinds=kinds,
        is_image=is_image,
        completion_mask=torch.ones(1, 2, dtype=torch.bool),
        chunk_bytes=1000,
    )
    weights = torch.zeros(1, 2, 5, device="meta").as_subclass(Weights)
    reducer._add(0, 0, 2, weights)
    assert sorted(moved) == [(1, 2, 2), (1, 2, 4)]  # never the weights themselves
    assert reducer.masses.device.type == "cpu"
