"""Pictures of any kind as a model's processor reads them: upright, RGB, 8 bits.

Data sets and readers hold pictures as decoded images, bytes, ``{"bytes": ..., "path":
...}``, paths relative to the file that names them, base64 text or data addresses. One
function reads them all and says what is wrong with the one it cannot read. Pillow and
NumPy alone are needed here.
"""

import base64
import binascii
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

LARGEST_PICTURE = 256 * 2**20
"""Bytes that the file of one picture may have; more is no picture."""

_ORIENTATION = 0x0112
"""Exif's tag for how a camera was held."""

# What undoes each way of holding it; 1 is upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

MAX_ASPECT_RATIO = 200.0
"""Longer side over shorter side; Qwen's image processors refuse what is beyond."""

_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DATA_ADDRESS = re.compile(r"^data:[^,]*,", re.IGNORECASE)
_BASE64 = re.compile(r"^[A-Za-z0-9+/\-_\s]+=*\s*$")
# The shortest picture there is, a GIF of one pixel, takes 26 bytes.
_SHORTEST_BASE64 = 35


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture upright, in RGB with 8 bits a channel.

    Deeper pictures are scaled, not cut off: Pillow's own conversion makes every value
    above 255 white, so that a 16-bit picture is lost. Transparent parts become white.

    Args:
        image: In any of Pillow's modes. ``I;16`` counts from 0 to 65,535. ``I``, of 32
            bits, counts from 0 to 255 or, if a value is above, to 65,535. ``F`` counts
            from 0 to 1 or, if a value is above, to 255.

    Returns:
        The picture; ``image`` itself if there is nothing to do.

    Raises:
        ValueError: An ``I`` or ``F`` picture with values outside these ranges, or one
            that is not finite; its scale cannot be told. A picture without pixels.

    Example:
        >>> deep = Image.fromarray(np.array([[0, 257 * 7, 65535]], dtype=np.uint16))
        >>> as_rgb(deep).getpixel((1, 0))
        (7, 7, 7)
    """
    if 0 in image.size:
        raise ValueError(f"the picture has no pixels, its size is {image.size}")
    image = _upright(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        # Pillow changes byte order where it converts to 32 bits, not in arrays.
        return _grey(np.asarray(image.convert("I")) / 257)
    if image.mode == "I":
        values = np.asarray(image)
        return _grey(values / _step(values, "I", {255: 1, 65_535: 257}))
    if image.mode == "F":
        values = np.asarray(image)
        return _grey(values / _step(values, "F", {1: 1 / 255, 255: 1}))
    if image.has_transparency_data:
        # `La` and `RGBa` hold colours times opacity; Pillow undoes that one way only.
        plain = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
        image = (image.convert(plain) if plain else image).convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def open_picture(value: Any, folder: str | Path | None = None) -> Image.Image:
    """Reads a picture and decodes it to its last byte.

    Args:
        value: A ``PIL.Image``; bytes; a path (text or ``Path``); base64 text; a data
            address (``data:image/png;base64,...``); or a dictionary with ``bytes`` or
            ``path``, as the ``datasets`` library keeps pictures.
        folder: Where relative paths begin, which is the folder of the file that names
            them; without one, and where the file is not there, the working directory.

    Returns:
        The picture in RGB, as :func:`as_rgb` gives it.

    Raises:
        ValueError: It is none of these, or cannot be decoded, or one side is more than
            200 times the other. Web addresses are refused: training should not depend
            on what a server answers.

    Example:
        >>> buffer = io.BytesIO()
        >>> Image.new("RGB", (56, 28)).save(buffer, "png")
        >>> open_picture({"bytes": buffer.getvalue(), "path": None}).size
        (56, 28)
    """
    image = as_rgb(_decoded(value, folder))
    width, height = image.size
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ValueError(
            f"the picture is {width} x {height}; one side is more than "
            f"{MAX_ASPECT_RATIO:.0f} times the other, which image processors refuse; "
            "crop it"
        )
    return image


def refuse_address(text: str) -> None:
    """Refuses a web address in a picture's place; data addresses are none.

    What a server answers is neither the same tomorrow nor to be trusted, and a text of
    a data set shall not make this machine ask another one.

    Raises:
        ValueError: It is one.

    Example:
        >>> refuse_address("pictures/1.png")
        >>> refuse_address("https://example.com/1.png")
        Traceback (most recent call last):
        ValueError: the picture is an address, 'https://example.com/1.png', and \
pictures are not downloaded; fetch it to a file and name its path, or open it yourself
    """
    if _ADDRESS.match(text):
        raise ValueError(
            f"the picture is an address, {text[:80]!r}, and pictures are not "
            "downloaded; fetch it to a file and name its path, or open it yourself"
        )


def add_noise(image: Image.Image, spread: float, seed: int) -> Image.Image:
    """A picture with Gaussian noise on every value, cut off at black and white.

    Args:
        image: RGB.
        spread: Standard deviation in levels of 255.
        seed: Of the noise.

    Example:
        >>> grey = Image.new("RGB", (64, 64), (128, 128, 128))
        >>> round(float(np.asarray(add_noise(grey, 40, seed=0)).std()), -1)
        40.0
    """
    pixels = np.asarray(image, dtype=float)
    noisy = pixels + np.random.default_rng(seed).normal(0, spread, pixels.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).round().astype(np.uint8))


def _upright(image: Image.Image) -> Image.Image:
    """The picture as its camera was held; as it is stored, where Exif is damaged.

    Not ``ImageOps.exif_transpose``, which writes all of Exif anew and fails where one
    entry of it, whichever, is none that it can write.
    """
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION))
    except Exception:  # any: see _from_bytes
        turn = None
    if turn is None:
        return image
    turned = image.transpose(turn)
    # Without what says how it was held, in Exif or elsewhere: it is turned once.
    turned.info = {k: v for k, v in image.info.items() if k == "transparency"}
    return turned


def _decoded(value: Any, folder: str | Path | None) -> Image.Image:
    if isinstance(value, Image.Image):
        value.load()
        return value
    if isinstance(value, dict):
        content, path = value.get("bytes"), value.get("path")
        if isinstance(content, str):  # JSON has no bytes
            return _from_base64(content)
        if isinstance(content, bytes | bytearray | memoryview):
            return _from_bytes(bytes(content), str(path or "bytes"))
        if content is None and isinstance(path, str):
            return _from_text(path, folder)  # which may be an address, or base64
        if content is None and isinstance(path, Path):
            return _from_file(path, folder)
        if content is not None or path is not None:
            raise ValueError(
                f"the picture's 'bytes' are of type {type(content).__name__} and its "
                f"'path' is of type {type(path).__name__}; give bytes, base64 or a path"
            )
        raise ValueError(
            f"the picture has neither 'bytes' nor 'path', it has {sorted(value)}"
        )
    if isinstance(value, bytes | bytearray | memoryview):
        return _from_bytes(bytes(value), "bytes")
    if isinstance(value, Path):
        return _from_file(value, folder)
    if isinstance(value, str):
        return _from_text(value, folder)
    raise ValueError(
        f"the picture is of type {type(value).__name__}; it must be an image, bytes, a "
        "path, base64 or a data address"
    )


def _from_text(text: str, folder: str | Path | None) -> Image.Image:
    if head := _DATA_ADDRESS.match(text):
        if ";base64" not in head.group().lower():
            raise ValueError("the picture's data address is not in base64")
        return _from_base64(text[head.end() :])
    refuse_address(text)
    # Text that could be either is a path if there is such a file: base64 may hold "/".
    if len(text) < 1024 and _existing(Path(text), folder):
        return _from_file(Path(text), folder)
    if len(text) >= _SHORTEST_BASE64 and _BASE64.match(text) and "." not in text:
        return _from_base64(text)
    return _from_file(Path(text[:256]), folder)


def _from_base64(text: str) -> Image.Image:
    plain = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    try:
        content = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"the picture's base64 is damaged ({error})") from error
    return _from_bytes(content, "base64")


def _existing(path: Path, folder: str | Path | None) -> Path | None:
    try:
        path = path.expanduser()
        # A set that was written on Windows names its pictures with backslashes.
        spelled = [
            path,
            *([Path(str(path).replace("\\", "/"))] if "\\" in str(path) else []),
        ]
        places = [
            place
            for one in spelled
            for place in (
                [one] if one.is_absolute() or folder is None else [folder / one, one]
            )
        ]
        return next((place for place in places if Path(place).is_file()), None)
    except (OSError, ValueError, RuntimeError):
        return None  # too long for a name, a null byte in it, or nobody's home


def _from_file(path: Path, folder: str | Path | None) -> Image.Image:
    found = _existing(path, folder)
    if found is None:
        where = "" if path.is_absolute() else f" in {folder or Path.cwd()}"
        begin = (
            "give its whole path"
            if folder is None
            else "relative paths begin at the folder of the file that names them"
        )
        raise ValueError(f"there is no picture {str(path)!r}{where}; {begin}")
    try:
        size = found.stat().st_size
        if size > LARGEST_PICTURE:
            raise ValueError(
                f"the picture {str(path)!r} has {size:,} bytes, more than any picture"
            )
        content = found.read_bytes()
    except OSError as error:
        raise ValueError(
            f"the picture {str(path)!r} cannot be read: {error}"
        ) from error
    return _from_bytes(content, str(path))


def _from_bytes(content: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content))
        if image.format == "EPS":
            raise ValueError(
                "PostScript is a program, which Pillow has Ghostscript run; save the "
                "picture as PNG"
            )
        image.load()
    except UnidentifiedImageError as error:
        raise ValueError(
            f"the picture ({name}, {len(content)} bytes) is in no known image format"
        ) from error
    # Whatever it is. Damaged bytes are hostile input, and each of Pillow's formats has
    # errors of its own for them: struct.error, TypeError, NotImplementedError, ...
    except Exception as error:
        raise ValueError(f"the picture ({name}) cannot be decoded: {error}") from error
    return image


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")


def _step(values: np.ndarray, mode: str, steps: dict[float, float]) -> float:
    """What one of 256 levels is, by the smallest range that holds all values."""
    low, high = values.min(initial=0), values.max(initial=0)
    for limit, step in steps.items():
        if low >= 0 and high <= limit:
            return step
    raise ValueError(
        f"image: mode {mode} with values from {low} to {high}, whose scale cannot be "
        f"told: it must lie in {' or in '.join(f'[0, {limit}]' for limit in steps)}. "
        "Scale it to 8 bits yourself."
    )
