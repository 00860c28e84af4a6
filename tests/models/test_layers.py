"""Cosines over all layers, against transformers' own hidden states."""

import pytest
import torch
from families import FAMILIES, IMAGE, batch, build

from vgpo.models.layers import capture_layer_cosines, decoder_layers


def expected(hidden_states, is_image, length):
    """The mean of cosines, token by token, in float64."""
    rows = []
    for row in range(len(is_image)):
        values = []
        for t in range(-length, 0):
            per_layer = []
            for states in hidden_states:
                state = states[row, t].double()
                others = states[row][is_image[row]].double()
                cosines = torch.nn.functional.cosine_similarity(others, state[None])
                per_layer.append(float(cosines.mean()) if len(others) else 0.0)
            values.append(sum(per_layer) / len(per_layer))
        rows.append(values)
    return torch.tensor(rows)


def entering(model, inputs):
    """The states that enter each layer.

    Qwen3-VL adds features of the image to them between two layers, which
    transformers' own list of states leaves out.
    """
    seen = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        for layer in model.model.language_model.layers
    ]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return seen


def asked(name, **options):
    """Captured, and what transformers' own states give."""
    model, inputs = build(name), batch(name, images_per_row=(1, 0, 2), **options)
    with (
        torch.no_grad(),
        capture_layer_cosines(model, completion_length=5) as capture,
    ):
        hidden = model(**inputs, output_hidden_states=True).hidden_states
    if name == "qwen3_vl":
        hidden = [*entering(model, inputs), hidden[-1]]
    is_image = inputs["input_ids"] == IMAGE
    is_image[:, -5:] = False
    real = inputs["attention_mask"][:, -5:].bool()
    wanted = torch.where(real, expected(hidden, is_image, 5), 0)
    return capture.values.double(), wanted


@pytest.mark.parametrize("name", FAMILIES)
def test_cosines_are_those_of_all_hidden_states(name):
    got, wanted = asked(name, completion_lengths=[5, 1, 3])
    torch.testing.assert_close(got, wanted.double(), atol=1e-5, rtol=1e-5)
    assert (got[1] == 0).all()
    assert got[0].abs().max() > 0


def test_chunks_are_joined_and_only_the_first_rows_are_captured():
    model, inputs = build("gemma3"), batch("gemma3")
    with (
        torch.no_grad(),
        capture_layer_cosines(model, completion_length=5, rows=3) as capture,
    ):
        model(**inputs)
        model(**inputs)
    assert capture.rows == 3


def test_passes_with_gradient_are_watched_only_where_asked():
    model, inputs = build("qwen2_5_vl"), batch("qwen2_5_vl")
    with capture_layer_cosines(model, completion_length=5) as plain:
        model(**inputs)
    with pytest.raises(ValueError, match="no forward pass"):
        _ = plain.values
    with capture_layer_cosines(model, completion_length=5, gradient=True) as capture:
        model(**inputs)
    assert capture.values.requires_grad
    with (
        torch.no_grad(),
        capture_layer_cosines(model, completion_length=5) as reduced,
    ):
        model(**inputs)
    torch.testing.assert_close(capture.values.detach(), reduced.values)


def test_a_completion_needs_a_prompt():
    model, inputs = build("qwen2_5_vl"), batch("qwen2_5_vl")
    length = inputs["input_ids"].shape[1]
    with (
        torch.no_grad(),
        capture_layer_cosines(model, completion_length=length),
        pytest.raises(ValueError, match=r"completion_length: .* leaves no prompt"),
    ):
        model(**inputs)


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_of_every_family_are_found(name):
    model = build(name)
    number = model.config.get_text_config(decoder=True).num_hidden_layers
    assert len(decoder_layers(model)) == number
