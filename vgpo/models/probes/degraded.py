"""Degraded views of a picture: parts of it blacked out, or noise upon it."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vgpo.pictures import as_rgb


def black_squares(
    picture: Image.Image,
    probability: float,
    generator: torch.Generator,
    patch: int = 14,
) -> Image.Image:
    """A picture with some of its squares blacked out, each independently.

    Args:
        picture: In any mode; the view is in RGB and of the same size.
        probability: That a square is blacked out.
        generator: On the CPU.
        patch: Side of a square; at the right and lower edge, squares may be cut.

    Returns:
        A new picture.

    Example:
        >>> draw = torch.Generator().manual_seed(1)
        >>> view = black_squares(Image.new("L", (4, 2), 255), 0.5, draw, patch=2)
        >>> [view.getpixel((x, 0))[0] for x in range(4)]
        [255, 255, 0, 0]
    """
    values = np.array(as_rgb(picture))
    pixels = torch.from_numpy(values).permute(2, 0, 1)[None]
    black = torch.zeros(3, dtype=pixels.dtype)
    view = black_patches(pixels, probability, black, generator, patch=patch)
    return Image.fromarray(view[0].permute(1, 2, 0).contiguous().numpy())


def noisy_pixels(
    pixels: Tensor, deviation: float, generator: torch.Generator, *, flat: bool
) -> Tensor:
    """Processed pixels with Gaussian noise, as VEPO has them.

    Args:
        pixels: As for :func:`black_patches`; a picture of zeros is padding and stays.
        deviation: Standard deviation of the noise, in units of the processed pixels.
            VEPO: 2.0.
        generator: On the CPU, so that every device draws alike.
        flat: As for :func:`black_patches`.

    Returns:
        A new tensor of the shape and dtype of ``pixels``.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> pixels = torch.stack([torch.ones(3, 2, 2), torch.zeros(3, 2, 2)])
        >>> noisy_pixels(pixels, 2.0, draw, flat=False).std(dim=(1, 2, 3)) > 0
        tensor([ True, False])
    """
    noise = torch.randn(pixels.shape, generator=generator)
    noisy = pixels + deviation * noise.to(pixels)
    # What is left of padding is told by its zeros, by Idefics 3 as well.
    return noisy if flat else torch.where(_is_picture(pixels), noisy, pixels)


def black_patches(
    pixels: Tensor,
    probability: float,
    black: Tensor,
    generator: torch.Generator,
    *,
    patch: int = 14,
    flat: bool = False,
) -> Tensor:
    """Processed pixels with some patches blacked out, each independently.

    Args:
        pixels: (..., C, H, W), where a picture of zeros is padding and stays; or with
            ``flat`` (N, C x ...): one line per patch,
            channels first.
        probability: That a patch is blacked out.
        black: What a black pixel is after normalisation, (C,).
        generator: On the CPU, so that every device draws alike.
        patch: Side of a patch in pixels; at the right and lower edge, patches may be
            cut. Without effect with ``flat``.
        flat: See ``pixels``.

    Returns:
        A new tensor of the shape and dtype of ``pixels``.

    Raises:
        ValueError: Pixels of another layout.

    Example:
        >>> pixels = torch.ones(1, 3, 4, 4)
        >>> draw = torch.Generator().manual_seed(1)
        >>> black_patches(pixels, 0.5, torch.zeros(3), draw, patch=2)[0, 0]
        tensor([[1., 1., 0., 0.],
                [1., 1., 0., 0.],
                [0., 0., 1., 1.],
                [0., 0., 1., 1.]])
    """
    channels = len(black)
    black = black.to(pixels)
    if flat and pixels.ndim == 2 and pixels.shape[1] % channels == 0:
        drawn = torch.rand(len(pixels), generator=generator) < probability
        by_channel = pixels.unflatten(1, (channels, -1))
        hidden = torch.where(
            drawn.to(pixels.device)[:, None, None], black[:, None], by_channel
        )
        return hidden.flatten(1)
    if not flat and pixels.ndim >= 4 and pixels.shape[-3] == channels:
        *pictures, _, height, width = pixels.shape
        across = [-(-side // patch) for side in (height, width)]
        drawn = torch.rand(*pictures, *across, generator=generator) < probability
        drawn = drawn.repeat_interleave(patch, -2).repeat_interleave(patch, -1)
        drawn = drawn[..., :height, :width].unsqueeze(-3).to(pixels.device)
        # Rows with fewer pictures are padded (Idefics 3).
        drawn = drawn & _is_picture(pixels)
        return torch.where(drawn, black[:, None, None], pixels)
    raise ValueError(
        f"pixels: no patches can be told in pixel_values of shape "
        f"{tuple(pixels.shape)}; they need (..., {channels}, height, width), or one "
        "line per patch with image_grid_thw beside them"
    )


def _is_picture(pixels: Tensor) -> Tensor:
    """bool, (..., 1, 1, 1): nothing but zeros pads a row with fewer pictures."""
    return (pixels != 0).any(dim=(-3, -2, -1), keepdim=True)
