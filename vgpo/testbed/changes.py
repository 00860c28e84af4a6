"""Questions of the small world with another picture: the words stay, the truth goes.

What a model can still do then says what it takes from the picture. An example keeps
its answer and its chain, so a completion can be scored against either picture.
"""

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageEnhance

from vgpo.pictures import add_noise
from vgpo.testbed.images import TILE
from vgpo.testbed.questions import Example

GREY = (128, 128, 128)
"""What hides a tile or a picture."""


def blank(example: Example) -> Example:
    """The same question over a uniformly grey picture of the same size.

    A question without a picture stays as it is.
    """
    if example.image is None:
        return example
    return replace(example, image=Image.new("RGB", example.image.size, GREY))


def swap(examples: Sequence[Example]) -> list[Example]:
    """The same questions, each over the picture of another one.

    Pictures are handed on in a circle among the examples of one family and size;
    an example that is alone in its circle is left out.
    """
    circles: dict[tuple, list[Example]] = {}
    for example in examples:
        if example.image is not None:
            key = (example.family, example.rows, example.columns)
            circles.setdefault(key, []).append(example)
    return [
        replace(example, image=other.image)
        for circle in circles.values()
        if len(circle) > 1
        for example, other in zip(circle, circle[1:] + circle[:1], strict=True)
    ]


def occlude(example: Example, tiles: Sequence[int]) -> Example:
    """The same question with some tiles of its picture painted grey.

    Args:
        example: A question with an image.
        tiles: Raster indices of the tiles, 28 x 28 pixels each.

    Raises:
        ValueError: no image, or a tile that is not there.

    Example:
        >>> from vgpo.testbed import World
        >>> hidden = occlude(World().example(0, family="sum"), [0])
        >>> hidden.image.getpixel((3, 3))
        (128, 128, 128)
    """
    image = _image_of(example).copy()
    for tile in tiles:
        if not 0 <= tile < example.rows * example.columns:
            raise ValueError(
                f"tiles: must be from 0 to {example.rows * example.columns - 1}, "
                f"got {tile}"
            )
        y, x = divmod(tile, example.columns)
        box = (x * TILE, y * TILE, (x + 1) * TILE, (y + 1) * TILE)
        image.paste(GREY, box)
    return replace(example, image=image)


def perturb(example: Example, kind: str, amount: float, seed: int = 0) -> Example:
    """The same question with its picture changed a little.

    Args:
        example: A question with an image.
        kind: ``"noise"`` (Gaussian, ``amount`` is its standard deviation in grey
            levels of 255), ``"brightness"`` (``amount`` is a factor), ``"shift"``
            (``amount`` pixels right and down, edges repeated) or ``"jpeg"``
            (``amount`` is the quality, 1 to 95).
        amount: How much.
        seed: Of the noise.

    Raises:
        ValueError: no image, or an unknown kind.

    Example:
        >>> from vgpo.testbed import World
        >>> example = World().example(0, family="sum")
        >>> perturb(example, "shift", 2).image.size == example.image.size
        True
    """
    image = _image_of(example)
    if kind == "noise":
        image = add_noise(image, amount, seed)
    elif kind == "brightness":
        image = ImageEnhance.Brightness(image).enhance(amount)
    elif kind == "shift":
        pixels = np.asarray(image)
        step = int(amount)
        moved = np.pad(pixels, ((step, 0), (step, 0), (0, 0)), mode="edge")
        image = Image.fromarray(moved[: pixels.shape[0], : pixels.shape[1]])
    elif kind == "jpeg":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(amount))
        image = Image.open(file).convert("RGB")
    else:
        raise ValueError(
            f"kind: must be 'noise', 'brightness', 'shift' or 'jpeg', got {kind!r}"
        )
    return replace(example, image=image)


def _image_of(example: Example) -> Image.Image:
    if example.image is None:
        raise ValueError("example: this question has no image to change")
    return example.image
