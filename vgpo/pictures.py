"""Any picture as 8-bit RGB, scaled right.

Image processors take 8-bit pictures. ``PIL.Image.convert("RGB")`` cuts what is above
255 off: a 16-bit scan turns white, a float picture in [0, 1] black, and what is
transparent takes whatever colour lies hidden under it.
"""

import numpy as np
from PIL import Image, ImageOps

_ORIENTATION = 0x0112  # the tag's number in the EXIF standard
_ALPHA = ("RGBA", "LA", "PA")
_PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture as a person would see it, in RGB.

    The orientation that a camera wrote beside the pixels is applied, and what is
    transparent shows white. Deep pictures are scaled to 8 bits by the range their mode
    or their values name: 16-bit modes and integers above 255 by 65,535; floats by 1
    where none is above it, by 255 or by 65,535 beyond.

    Args:
        image: A picture in any of Pillow's modes.

    Returns:
        The picture in RGB, 8 bits a channel; ``image`` itself if it is so already and
        needs no turning.

    Raises:
        ValueError: The picture has no pixels, or values that are negative, not finite
            or above 65,535, whose scale nobody can know.

    Example:
        >>> deep = Image.fromarray(np.array([[0, 65535]], dtype=np.uint16))
        >>> as_rgb(deep).getpixel((1, 0)), deep.convert("RGB").getpixel((0, 0))
        ((255, 255, 255), (0, 0, 0))
    """
    if 0 in image.size:
        raise ValueError(f"the picture has no pixels, its size is {image.size}")
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scaled(image)
    image = image.convert(_PREMULTIPLIED.get(image.mode, image.mode))
    if image.mode in _ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 65535:
        raise ValueError(
            f"the picture has values from {low} to {high} in mode {image.mode}; scale "
            "it to 8 bits yourself"
        )
    if image.mode.startswith("I;16"):
        full = 65535
    elif image.mode == "F" and high <= 1:
        full = 1
    else:
        full = 255 if high <= 255 else 65535
    return Image.fromarray(np.rint(values * (255 / full)).astype(np.uint8)).convert(
        "RGB"
    )
