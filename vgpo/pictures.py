"""Pictures of any kind as a model's processor reads them: upright, RGB, 8 bits.

Pillow and NumPy alone are needed here.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

_ORIENTATION = 0x0112
"""Exif's tag for how a camera was held."""


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
            that is not finite; its scale cannot be told.

    Example:
        >>> deep = Image.fromarray(np.array([[0, 257 * 7, 65535]], dtype=np.uint16))
        >>> as_rgb(deep).getpixel((1, 0))
        (7, 7, 7)
    """
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
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


def open_picture(given: Any) -> Any:
    """A picture out of the forms in which data sets and readers hand one over.

    Args:
        given: A Pillow image, the bytes of an image file, a :class:`pathlib.Path`, or
            a data set's undecoded ``{"bytes": ..., "path": ...}``.

    Returns:
        The picture as :func:`as_rgb` gives it; anything else, such as an address or an
        array, as it is.

    Raises:
        ValueError: A dictionary without bytes or path, or bytes that are no picture.
        FileNotFoundError: No such file.

    Example:
        >>> open_picture(Image.new("L", (2, 2))).mode
        'RGB'
        >>> open_picture("https://example.org/a.png")
        'https://example.org/a.png'
    """
    if isinstance(given, dict):
        source = given.get("bytes") or given.get("path")
        if source is None:
            raise ValueError(
                f"image: a dictionary needs 'bytes' or 'path', it has {sorted(given)}."
            )
        given = Path(source) if isinstance(source, str) else source
    if isinstance(given, bytes):
        given = BytesIO(given)
    if isinstance(given, Path | BytesIO):
        try:
            given = Image.open(given)
        except Image.UnidentifiedImageError as error:
            raise ValueError(
                f"image: it is no picture that Pillow reads. ({error})"
            ) from error
    return as_rgb(given) if isinstance(given, Image.Image) else given


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
