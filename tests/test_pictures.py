"""Pictures of every Pillow mode, deep, turned and transparent ones."""

import base64
import random
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from vgpo.pictures import as_rgb, open_picture

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
GREY = np.repeat(RAMP[..., None], 3, axis=2)


def pixels(image):
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_sixteen_bits_are_scaled(mode):
    order = {"I;16B": ">u2", "I;16N": "=u2"}.get(mode, "<u2")
    deep = RAMP.astype(order) * 257
    image = Image.frombytes(mode, (16, 16), deep.astype(order).tobytes())
    np.testing.assert_array_equal(pixels(as_rgb(image)), GREY)


def test_values_between_two_levels_go_to_the_nearer():
    deep = np.array([[128, 129, 65_535 - 129, 65_535 - 128]], dtype=np.uint16)
    assert pixels(as_rgb(Image.fromarray(deep)))[0, :, 0].tolist() == [0, 1, 254, 255]


@pytest.mark.parametrize("scale", [1, 257])
def test_thirty_two_bits_are_8_or_16(scale):
    image = Image.fromarray(RAMP.astype(np.int32) * scale)
    assert image.mode == "I"
    np.testing.assert_array_equal(pixels(as_rgb(image)), GREY)


@pytest.mark.parametrize("scale", [1, 1 / 255])
def test_floats_are_of_one_or_of_255(scale):
    image = Image.fromarray(RAMP.astype(np.float32) * np.float32(scale))
    assert image.mode == "F"
    np.testing.assert_array_equal(pixels(as_rgb(image)), GREY)


@pytest.mark.parametrize("value", [-1.0, 300.0, np.nan, np.inf])
def test_floats_of_another_scale_are_refused(value):
    with pytest.raises(ValueError, match="mode F"):
        as_rgb(Image.fromarray(np.array([[0, value]], dtype=np.float32)))


@pytest.mark.parametrize("value", [-1, 70_000])
def test_integers_of_another_scale_are_refused(value):
    with pytest.raises(ValueError, match="mode I "):
        as_rgb(Image.fromarray(np.array([[0, value]], dtype=np.int32)))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBX", "CMYK", "YCbCr", "P", "1"])
def test_opaque_modes_are_those_of_pillow(mode):
    source = Image.fromarray(GREY).convert(mode)
    np.testing.assert_array_equal(pixels(as_rgb(source)), pixels(source.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_what_is_transparent_is_white(mode):
    half = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    half.putpixel((1, 0), (0, 0, 0, 0))
    through = {"La": ["LA", "La"]}
    for step in through.get(mode, [mode]):
        half = half.convert(step)
    assert half.mode == mode
    assert pixels(as_rgb(half))[0].tolist() == [[0] * 3, [255] * 3]


def test_a_palette_with_a_transparent_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 0
    assert pixels(as_rgb(image))[0].tolist() == [[255] * 3, [10, 20, 30]]


def test_a_turned_photograph_is_put_upright():
    upright = Image.new("RGB", (3, 2), "red")
    upright.putpixel((2, 0), (0, 0, 255))
    # Tag 6: the camera was held so that the stored picture must be turned clockwise.
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    stored.save(file, "PNG", exif=exif)
    turned = as_rgb(Image.open(file))
    np.testing.assert_array_equal(pixels(turned), pixels(upright))
    assert as_rgb(turned) is turned


def encoded(kind, mode="RGB", **how):
    file = BytesIO()
    image = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (32, 32, 3), "u1")
    )
    image.convert(mode).save(file, kind, **how)
    return file.getvalue()


@pytest.mark.parametrize("held", range(10))
def test_every_way_of_holding_a_camera(held):
    """As Pillow does it, whose function writes Exif anew and fails on some of it."""
    exif = Image.Exif()
    exif[0x0112] = held
    stored = Image.open(BytesIO(encoded("JPEG", exif=exif)))
    expected = ImageOps.exif_transpose(stored)
    found = as_rgb(stored)
    np.testing.assert_array_equal(pixels(found), pixels(expected))
    assert as_rgb(found) is found


def test_damaged_exif_costs_no_picture():
    plain = encoded("JPEG")
    for damage in (b"", b"II*\0", b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 90):
        found = open_picture(encoded("JPEG", exif=b"Exif\0\0" + damage))
        np.testing.assert_array_equal(pixels(found), pixels(open_picture(plain)))


@pytest.mark.parametrize(
    "kind",
    (
        [
            "PNG",
            "JPEG",
            "GIF",
            "TIFF",
            "WEBP",
            "BMP",
            "ICO",
            "PPM",
            "TGA",
            "PCX",
            "DDS",
            "JPEG2000",
            "SGI",
            "ICNS",
            "MPO",
        ]
    ),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_are_a_value_error_whatever_pillow_says(kind):
    """Loading goes on after a broken picture only if it is told as one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    has_exif = kind in ("PNG", "JPEG", "TIFF", "WEBP", "MPO")
    whole = encoded(kind, **({"exif": exif} if has_exif else {}))
    draw = random.Random(kind)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 6)):
            # Mostly headers, where the damage is not in the colours alone.
            place = draw.randrange(min(len(damaged), draw.choice([120, len(whole)])))
            if draw.random() < 0.7:
                damaged[place] = draw.randrange(256)
            else:
                del damaged[place : place + draw.randint(1, 8)]
        try:
            assert open_picture(bytes(damaged)).mode == "RGB"
        except ValueError as error:
            assert "picture" in str(error)


def test_no_other_program_is_run_for_a_picture():
    """Pillow hands PostScript to Ghostscript, and a data set is anybody's."""
    with pytest.raises(ValueError, match=r"a program.*save the picture as PNG"):
        open_picture(encoded("EPS"))


def test_a_file_of_any_size_is_not_read(tmp_path, monkeypatch):
    file = tmp_path / "1.png"
    file.write_bytes(encoded("PNG"))
    monkeypatch.setattr("vgpo.pictures.LARGEST_PICTURE", 100)
    with pytest.raises(ValueError, match="more than any picture"):
        open_picture(file)


def test_a_picture_that_unpacks_to_far_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ValueError, match="decompression bomb"):
        open_picture(encoded("PNG"))


def test_a_file_without_a_byte_is_told():
    with pytest.raises(ValueError, match="0 bytes"):
        open_picture(b"")


def test_printing_colours_are_those_that_pillow_shows():
    file = encoded("JPEG", "CMYK")
    shown = Image.open(BytesIO(file)).convert("RGB")
    np.testing.assert_array_equal(pixels(open_picture(file)), pixels(shown))


def test_nothing_to_do_copies_nothing():
    image = Image.new("RGB", (2, 2))
    assert as_rgb(image) is image


def test_every_form_of_one_picture(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RAMP).save(path)
    data = path.read_bytes()
    forms = [
        Image.open(path),
        path,
        data,
        {"bytes": data, "path": None},
        {"bytes": None, "path": str(path)},
    ]
    for form in forms:
        np.testing.assert_array_equal(pixels(open_picture(form)), GREY)
    np.testing.assert_array_equal(pixels(open_picture(str(path))), GREY)
    np.testing.assert_array_equal(pixels(open_picture("a.png", tmp_path)), GREY)


def test_home_is_where_a_tilde_says(tmp_path, monkeypatch):
    Image.new("RGB", (56, 28)).save(tmp_path / "one.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_picture("~/one.png").size == (56, 28)
    with pytest.raises(ValueError, match=r"no picture '~nobody-at-all/one.png'"):
        open_picture("~nobody-at-all/one.png")


def test_a_missing_picture_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"no picture 'a.png' in {tmp_path}; give its"):
        open_picture("a.png")
    with pytest.raises(ValueError, match=r"no picture 'a.png' in rows; relative paths"):
        open_picture("a.png", "rows")


def test_what_is_no_picture_is_named():
    with pytest.raises(ValueError, match="no known image format"):
        open_picture(b"red")
    with pytest.raises(ValueError, match="neither 'bytes' nor 'path'"):
        open_picture({"url": "x"})


def test_a_dictionary_may_hold_base64():
    # In JSON there are no bytes.
    buffer = BytesIO()
    Image.new("RGB", (5, 4), "red").save(buffer, "PNG")
    text = base64.b64encode(buffer.getvalue()).decode()
    for content in (text, buffer.getvalue(), bytearray(buffer.getvalue())):
        found = open_picture({"bytes": content, "path": None})
        assert found.size == (5, 4)
        assert found.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    "value", [{"bytes": 5}, {"bytes": [137, 80]}, {"path": 5}, {"bytes": "a picture"}]
)
def test_a_dictionary_of_something_else_is_refused(value):
    with pytest.raises(ValueError, match="the picture"):
        open_picture(value)
