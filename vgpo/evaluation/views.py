"""A picture made worse: what a score loses with it is what it owed to sight."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from PIL import Image

from vgpo.models.probes.degraded import black_squares
from vgpo.pictures import add_noise
from vgpo.seeds import mixed_seed

View = Literal["none", "patches", "noise", "blank", "swapped"]
"""How a question's pictures are shown. ``none`` leaves them as they are; ``patches``
blackens each square of 14 pixels with probability 0.6, as PAPO does; ``noise`` is
Gaussian, 40 of 255 levels; ``blank`` is nothing but grey; ``swapped`` is the picture of
another question of the set."""

VIEWS: tuple[View, ...] = get_args(View)
BLACKED = 0.6
NOISE = 40.0
GREY = (128, 128, 128)


def degrade(view: View, picture: Image.Image, seed: int) -> Image.Image:
    """One picture under a view that needs nothing but the picture.

    Args:
        view: ``none``, ``patches``, ``noise`` or ``blank``.
        picture: RGB.
        seed: Of what is drawn.

    Returns:
        A picture of the same size.

    Raises:
        ValueError: Another view.

    Example:
        >>> degrade("blank", Image.new("RGB", (2, 1), "red"), 0).getpixel((0, 0))
        (128, 128, 128)
    """
    if view == "none":
        return picture
    if view == "patches":
        generator = torch.Generator().manual_seed(seed)
        return black_squares(picture, BLACKED, generator)
    if view == "noise":
        return add_noise(picture, NOISE, seed)
    if view == "blank":
        return Image.new("RGB", picture.size, GREY)
    raise ValueError(f"view must be one of {VIEWS}, got {view!r}")


def partners(pictures: Sequence[tuple[str, ...]], seed: int) -> list[int | None]:
    """For each question another one whose pictures it gets, or None.

    Questions with equally many pictures hand theirs on in a circle, drawn at random;
    one whose partner has the very same pictures takes the next that has not.

    Args:
        pictures: The ids of each question's pictures.
        seed: Of the drawing.

    Returns:
        Indices. None: no pictures, or none that differ.

    Example:
        >>> partners([("a",), ("b",), ()], seed=0)
        [1, 0, None]
    """
    found: list[int | None] = [None] * len(pictures)
    for count in sorted({len(ids) for ids in pictures if ids}):
        mine = [place for place, ids in enumerate(pictures) if len(ids) == count]
        generator = torch.Generator().manual_seed(mixed_seed(seed, count))
        order = torch.randperm(len(mine), generator=generator).tolist()
        circle = [mine[place] for place in order]
        for place, own in enumerate(circle):
            others = circle[place + 1 :] + circle[:place]
            found[own] = next(
                (other for other in others if pictures[other] != pictures[own]), None
            )
    return found
