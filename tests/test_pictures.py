"""Pictures of every mode as a person would see them."""

import numpy as np
import pytest
from PIL import Image

from vgpo.pictures import as_rgb

RAMP = np.linspace(0, 255, 84).round().astype(np.uint8)[None].repeat(56, 0)
GREY = np.repeat(RAMP[..., None], 3, axis=2)


def deep(mode):
    """The ramp in a mode that holds more than 8 bits."""
    if mode == "I;16":
        return Image.fromarray(RAMP.astype(np.uint16) * 257)
    if mode == "I;16B":
        return Image.frombytes(
            "I;16B", (84, 56), (RAMP.astype(">u2") * 257).astype(">u2").tobytes()
        )
    if mode == "I":
        return Image.fromarray(RAMP.astype(np.int32))
    if mode == "I of 16 bits":
        return Image.fromarray(RAMP.astype(np.int32) * 257)
    scale = {"F of 1": 1 / 255, "F of 255": 1, "F of 65535": 257}[mode]
    return Image.fromarray(RAMP.astype(np.float32) * scale)


@pytest.mark.parametrize(
    "mode",
    ["I;16", "I;16B", "I", "I of 16 bits", "F of 1", "F of 255", "F of 65535"],
)
def test_deep_pictures_are_scaled(mode):
    assert np.abs(np.asarray(as_rgb(deep(mode))).astype(int) - GREY).max() <= 1


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA"])
def test_plain_pictures_keep_their_colours(mode):
    image = Image.fromarray(GREY).convert("L" if mode == "LA" else "RGB").convert(mode)
    found = np.asarray(as_rgb(image)).astype(int)
    assert found.shape == (56, 84, 3)
    # A palette of the web's colours has steps of 51.
    assert np.abs(found - GREY).max() <= (51 if mode == "P" else 3)


@pytest.mark.parametrize("mode", ["1", "HSV", "RGBX", "RGBa", "La", "PA"])
def test_every_other_mode_becomes_rgb(mode):
    assert as_rgb(Image.new(mode, (4, 4))).mode == "RGB"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La"])
def test_what_is_transparent_shows_white(mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    plain = mode.replace("a", "A")
    image = image.convert(plain).convert(mode)
    assert as_rgb(image).getpixel((0, 0)) == (255, 255, 255)


def test_a_palette_with_a_transparent_colour():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.info["transparency"] = 0
    assert as_rgb(image).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied(orientation):
    image = Image.fromarray(GREY)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()
    assert as_rgb(image).size == ((56, 84) if orientation >= 5 else (84, 56))


def test_rgb_is_handed_on_as_it_is():
    image = Image.fromarray(GREY)
    assert as_rgb(image) is image


@pytest.mark.parametrize("values", [[[-1.0]], [[np.nan]], [[1e6]]])
def test_values_without_a_scale_are_refused(values):
    with pytest.raises(ValueError, match="scale it to 8 bits"):
        as_rgb(Image.fromarray(np.array(values, dtype=np.float32)))


def test_no_pixels():
    with pytest.raises(ValueError, match="no pixels"):
        as_rgb(Image.new("RGB", (0, 4)))
