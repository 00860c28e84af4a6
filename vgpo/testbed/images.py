"""Pictures of the small world: coloured tiles with handwritten digits, and bars.

A tile is 28 x 28 pixels, which is exactly one image token of Qwen2.5-VL (four
14-pixel patches, merged), so "the token that shows the red tile" is a fact and
not an approximation.
"""

from functools import lru_cache

import numpy as np
from PIL import Image

TILE = 28
"""Side of a tile in pixels, one image token."""

BAR_ROWS = 3
"""Height of a chart in tiles."""

BAR_UNIT = 9
"""Pixels a bar rises per unit; 9 units fill 81 of the 84 pixels of a chart."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (206, 32, 41),
    "green": (38, 135, 60),
    "blue": (40, 78, 190),
    "yellow": (240, 214, 48),
    "orange": (240, 138, 36),
    "purple": (116, 44, 140),
    "pink": (244, 160, 190),
    "brown": (112, 66, 30),
    "grey": (128, 128, 128),
    "cyan": (70, 204, 214),
    "white": (246, 246, 246),
    "black": (22, 22, 22),
}
"""Names of the tile colours and their mean sRGB value."""

SPLITS = ("train", "heldout")
"""``heldout`` scans (every fifth of the 1,797) are never seen in training."""

_CARD = 22  # side of the white card on a tile that carries the digit

_PAPER = np.array([250.0, 250.0, 250.0])
_INK = np.array([15.0, 15.0, 15.0])


@lru_cache(maxsize=1)
def _scans() -> tuple[np.ndarray, np.ndarray]:
    # Not at the top: scikit-learn takes a second to import, and a processor or a
    # tokenizer of this world needs no scans.
    from sklearn.datasets import load_digits

    digits = load_digits()
    ink = np.empty((len(digits.images), _CARD, _CARD), dtype=np.float32)
    for i, scan in enumerate(digits.images):
        small = Image.fromarray((scan / 16 * 255).astype(np.uint8))
        ink[i] = (
            np.asarray(small.resize((_CARD, _CARD), Image.Resampling.BICUBIC)) / 255
        )
    return ink, digits.target.astype(np.int64)


@lru_cache(maxsize=len(SPLITS))
def _scans_by_digit(split: str) -> tuple[np.ndarray, ...]:
    _, labels = _scans()
    heldout = np.arange(len(labels)) % 5 == 0
    chosen = heldout if split == "heldout" else ~heldout
    return tuple(np.flatnonzero(chosen & (labels == d)) for d in range(10))


def check_split(split: str) -> None:
    """Raises ``ValueError`` unless ``split`` is one of ``SPLITS``."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")


def sample_scan(digit: int, split: str, rng: np.random.Generator) -> int:
    """Index (0..1796) of a random handwritten ``digit`` of ``split``.

    Source: the test part of the UCI optical-digits set, as shipped in
    :func:`sklearn.datasets.load_digits`.
    """
    check_split(split)
    return int(rng.choice(_scans_by_digit(split)[digit]))


def scan_label(scan: int) -> int:
    """The digit that handwritten scan number ``scan`` shows."""
    return int(_scans()[1][scan])


def _paint(rgb: tuple[int, int, int], noise: float, rng: np.random.Generator):
    return np.asarray(rgb, dtype=np.float64) + rng.normal(0, 6 * noise, 3)


def _finish(canvas: np.ndarray, noise: float, rng: np.random.Generator) -> Image.Image:
    canvas = canvas + rng.normal(0, 4 * noise, canvas.shape)
    return Image.fromarray(np.clip(canvas, 0, 255).round().astype(np.uint8))


def draw_grid(
    colours: list[str],
    scans: list[int],
    columns: int,
    rng: np.random.Generator,
    noise: float = 1.0,
) -> Image.Image:
    """Draws tiles in raster order, each a colour with a handwritten digit on a card.

    Args:
        colours: Names from ``COLOURS``, one per tile.
        scans: Scan numbers (see :func:`sample_scan`), one per tile.
        columns: Tiles per row; ``len(colours)`` must be a multiple of it.
        rng: Source of the jitter of hue, position and pixels.
        noise: Size of that jitter; 0 draws clean, centred tiles.

    Returns:
        An RGB image of ``rows * 28`` by ``columns * 28`` pixels.

    Raises:
        ValueError: the tiles do not fill the rows, or the lists differ in length.
    """
    if len(colours) != len(scans) or not colours or len(colours) % columns:
        raise ValueError(
            f"colours and scans must have one entry per tile and fill rows of "
            f"columns={columns}, got {len(colours)} colours and {len(scans)} scans"
        )
    ink, _ = _scans()
    rows = len(colours) // columns
    canvas = np.empty((rows * TILE, columns * TILE, 3))
    for i, (name, scan) in enumerate(zip(colours, scans, strict=True)):
        ground = _paint(COLOURS[name], noise, rng)
        tile = np.broadcast_to(ground, (TILE, TILE, 3)).copy()
        shift = round(noise)
        margin = (TILE - _CARD) // 2
        top, left = margin + rng.integers(-shift, shift + 1, 2)
        alpha = ink[scan][..., None]
        card = (1 - alpha) * _PAPER + alpha * _INK
        tile[top : top + _CARD, left : left + _CARD] = card
        y, x = divmod(i, columns)
        canvas[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE] = tile
    return _finish(canvas, noise, rng)


def draw_bars(
    colours: list[str],
    heights: list[int],
    rng: np.random.Generator,
    noise: float = 1.0,
) -> Image.Image:
    """Draws a bar chart, one 28-pixel column per bar, three tiles high.

    Args:
        colours: Names from ``COLOURS``, one per bar.
        heights: Units 1..9 per bar; a unit is ``BAR_UNIT`` pixels.
        rng: Source of the jitter of hue and pixels.
        noise: Size of that jitter; 0 draws clean bars.

    Returns:
        An RGB image of 84 by ``len(colours) * 28`` pixels.

    Raises:
        ValueError: a height is outside 1..9, or the lists differ in length.
    """
    if len(colours) != len(heights) or not colours:
        raise ValueError(
            f"colours and heights must have one entry per bar, got {len(colours)} "
            f"colours and {len(heights)} heights"
        )
    if min(heights) < 1 or max(heights) > 9:
        raise ValueError(f"heights must be in 1..9, got {heights}")
    paper = np.array([176.0, 186.0, 176.0])
    canvas = np.broadcast_to(paper, (BAR_ROWS * TILE, len(colours) * TILE, 3)).copy()
    for i, (name, height) in enumerate(zip(colours, heights, strict=True)):
        left = i * TILE
        canvas[-height * BAR_UNIT :, left + 5 : left + 23] = _paint(
            COLOURS[name], noise, rng
        )
    return _finish(canvas, noise, rng)
