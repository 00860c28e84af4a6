"""Bytes against what bitsandbytes and transformers store, shapes against files."""

import pytest
from bitsandbytes.nn import Linear4bit

from vgpo.models.weights import (
    SIZES,
    nf4_bytes,
    qwen2_5_vl_config,
    stored_bytes,
    weight_table,
)

# Of the published safetensors files.
PUBLISHED = {"3B": 3_754_622_976, "7B": 8_292_166_656, "32B": 33_452_718_336}


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("shape", [(64, 64), (128, 384), (1000, 192)])
def test_bytes_of_a_matrix_are_those_that_bitsandbytes_keeps(shape, double):
    layer = Linear4bit(
        shape[1],
        shape[0],
        bias=False,
        quant_type="nf4",
        compress_statistics=double,
    ).to("cpu")
    assert layer.weight.quant_state.nested == double
    assert stored_bytes(layer) == nf4_bytes(shape[0] * shape[1], double)


def test_bytes_of_the_tiny_model_are_those_that_are_stored(tiny, four_bit):
    table = weight_table(tiny[0], bytes_per_number=4)
    assert table["bytes"].sum() == stored_bytes(tiny[0])
    assert table["bytes_4bit"].sum() == stored_bytes(four_bit)
    assert table["parameters"].sum() == sum(p.numel() for p in tiny[0].parameters())


def test_only_the_language_layers_are_quantised(four_bit, tiny):
    table = weight_table(tiny[0])
    assert set(table.index[table["quantised"] > 0]) == {"language layers"}
    packed = sum(
        2 * module.weight.numel()
        for module in four_bit.modules()
        if isinstance(module, Linear4bit)
    )
    assert table["quantised"].sum() == packed


@pytest.mark.parametrize("size", SIZES)
def test_large_shapes_have_the_published_number_of_parameters(size):
    assert weight_table(qwen2_5_vl_config(size))["parameters"].sum() == PUBLISHED[size]


def test_output_head_is_named_where_it_is_not_tied():
    assert "output head" in weight_table(qwen2_5_vl_config("7B", layers=1)).index
    assert "output head" not in weight_table(qwen2_5_vl_config("3B", layers=1)).index


def test_unknown_size_is_refused():
    with pytest.raises(ValueError, match=r"size must be one of .* got '1B'"):
        qwen2_5_vl_config("1B")
