"""Degraded views of pictures and of their pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from vgpo.models.probes import (
    black_patches,
    black_squares,
)

BLACK = torch.tensor([-2.0, -1.5, -1.0])


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_probability_0_and_1():
    pixels = torch.randn(2, 3, 10, 7)
    assert torch.equal(black_patches(pixels, 0.0, BLACK, draw()), pixels)
    everything = BLACK[:, None, None].expand_as(pixels)
    assert torch.equal(black_patches(pixels, 1.0, BLACK, draw()), everything)


def test_squares_are_black_or_as_they_were():
    pixels = torch.randn(40, 3, 9, 12)
    out = black_patches(pixels, 0.3, BLACK, draw(), patch=4)
    is_black = (out == BLACK[:, None, None]).all(dim=1)
    kept = ~is_black[:, None].expand_as(out)
    assert torch.equal(out[kept], pixels[kept])
    # Columns are cut in 3 squares, rows in 3, the last of them 1 pixel high.
    squares = is_black[:, [0, 4, 8]][:, :, [0, 4, 8]]
    wide = squares.repeat_interleave(4, 1)[:, :9].repeat_interleave(4, 2)
    assert torch.equal(is_black, wide)
    assert squares.float().mean() == pytest.approx(0.3, abs=0.08)


def test_pictures_that_pad_a_row_stay_zeros():
    pixels = torch.randn(2, 3, 3, 28, 28)
    pixels[1, 1:] = 0
    out = black_patches(pixels, 1.0, BLACK, draw())
    assert (out[1, 1:] == 0).all()
    assert (out[1, 0] == BLACK[:, None, None]).all()


def test_flat_patches_are_black_channel_by_channel():
    pixels = torch.randn(500, 3 * 2 * 4)
    out = black_patches(pixels, 0.6, BLACK, draw(), flat=True)
    channels = out.view(500, 3, 8)
    is_black = (channels == BLACK[:, None]).all(dim=2).all(dim=1)
    assert torch.equal(out[~is_black], pixels[~is_black])
    assert is_black.float().mean() == pytest.approx(0.6, abs=0.07)


def test_unknown_layout_is_refused():
    for pixels, flat in ((torch.zeros(2, 5), True), (torch.zeros(2, 3, 8), False)):
        with pytest.raises(ValueError, match="no patches can be told"):
            black_patches(pixels, 0.5, BLACK, draw(), flat=flat)


def test_squares_of_a_picture_are_black_or_as_they_were():
    picture = Image.effect_noise((70, 45), 80).convert("RGB")
    view = np.asarray(black_squares(picture, 0.5, draw(), 14))
    given = np.asarray(picture)
    assert view.shape == given.shape
    hidden = 0
    for top in range(0, 45, 14):
        for left in range(0, 70, 14):
            square = (slice(top, top + 14), slice(left, left + 14))
            black = not view[square].any()
            assert black or (view[square] == given[square]).all()
            hidden += black
    assert 3 < hidden < 17
