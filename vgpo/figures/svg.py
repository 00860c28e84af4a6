"""A figure as a drawing of lines and text, the same text for the same figure.

Notebooks show figures this way: sharp at any size, with text that can be selected and
searched. They hold the pixels as well: JupyterLab shows no drawing of a notebook that
somebody else has run, until it is trusted. The builder of the book puts the drawings
into its pages and replaces the colours of :mod:`vgpo.figures.style` by those of the
reader's theme.
"""

import base64
import io
import re

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

CLASS = "vgpo-figure"
"""By which the builder of the book knows a drawing."""

_PIXELS_DPI = 100  # of the whole figure as pixels
_RASTER_DPI = 192  # of what is drawn as pixels: twice the 96 to an inch of a page

# Verdana is nearly as wide as DejaVu Sans, which matplotlib measured with.
_FONTS = "'DejaVu Sans', Verdana, Geneva, sans-serif"
_LONG = re.compile(r"(\.\d\d)\d+(?=pt|[^\d\w])")
_MONOSPACE = "'DejaVu Sans Mono', Menlo, Consolas, monospace"


def as_svg(figure: Figure) -> str:
    """The drawing of a figure, ``<svg ...>...</svg>``.

    Args:
        figure: Any figure of matplotlib.

    Returns:
        SVG without date and version, its text as text, numbers of coordinates cut to
        hundredths of a point. What was ``rasterized`` is in it as pixels.

    Example:
        >>> from matplotlib.figure import Figure
        >>> text = as_svg(Figure(figsize=(1, 1)))
        >>> text.startswith('<svg class="vgpo-figure"'), text == as_svg(Figure((1, 1)))
        (True, True)
    """
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vgpo"}):
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", bbox_inches="tight", dpi=_RASTER_DPI,
            facecolor="none", edgecolor="none", metadata={"Date": None},
        )  # fmt: skip
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    # Within tags alone: what is written on an axis keeps every digit.
    text = re.sub(r"<[^<>]*>", lambda tag: _LONG.sub(r"\1", tag[0]), text)
    text = re.sub(r"\n(?=[A-Za-z] ?[-\d]|z)", " ", text)  # within paths
    text = re.sub(r'transform="rotate\(-?0(\.0+)? [^)]*\)"', "", text)
    text = re.sub(r"font-family: [^;\"]*monospace", f"font-family: {_MONOSPACE}", text)
    text = re.sub(r" font-family: [^;\"]*sans-serif;?", "", text)
    root = f'<svg class="{CLASS}" style="font-family: {_FONTS}"'
    return text.replace("<svg", root, 1).strip()


def as_png(figure: Figure, colours: int = 64) -> bytes:
    """The figure in pixels, on nothing, in few colours: some 10 to 30 kB.

    Args:
        figure: Any figure of matplotlib.
        colours: How many are kept.

    Example:
        >>> from matplotlib.figure import Figure
        >>> as_png(Figure(figsize=(1, 1)))[:4]
        b'\\x89PNG'
    """
    whole, small = io.BytesIO(), io.BytesIO()
    figure.savefig(
        whole, format="png", bbox_inches="tight", dpi=_PIXELS_DPI, facecolor="none",
        edgecolor="none", metadata={"Software": None},
    )  # fmt: skip
    picture = Image.open(whole).quantize(colours, method=Image.Quantize.FASTOCTREE)
    picture.save(small, "PNG", optimize=True)
    return small.getvalue()


def show(figure: Figure) -> None:
    """Shows a figure as the output of a notebook's cell: its drawing, or its pixels
    where drawings are not trusted."""
    from IPython.display import display

    shown = {
        "image/svg+xml": as_svg(figure),
        "image/png": base64.b64encode(as_png(figure)).decode(),
        "text/plain": repr(figure),
    }
    display(shown, raw=True)
