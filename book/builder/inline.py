"""Drawings of notebooks, put into the pages themselves, in the colours of the theme.

A page shows ``<img src="x.svg">`` with the colours of the file, whatever the theme. In
the page, a colour can be a variable of the style sheet (``book/_static/custom.css``),
which is dark on white and light on black; the text is found by the browser's search.
"""

import html
import re
from pathlib import Path

from vgpo.figures.style import GROUND, INK, PALETTE
from vgpo.figures.svg import CLASS

VARIABLES = {INK: "--figure-ink", GROUND: "--figure-ground"} | {
    colour: f"--figure-{i}" for i, colour in enumerate(PALETTE[:5])
}
"""Colours of figures and the variables that stand for them; the last of the palette
is the ink."""

_IMAGE = re.compile(r'<img\b[^>]*?\bsrc="(?P<src>[^"]*_images/[^"]+\.svg)"[^>]*>')
_ALT = re.compile(r'\balt="([^"]*)"')
_SIZE = re.compile(r'\bwidth="([\d.]+)pt" height="([\d.]+)pt"')
_POINT = 4 / 3  # in pixels of a page


def themed(drawing: str) -> str:
    """The drawing with variables for the colours of the house.

    A variable needs a style; an attribute, as patterns have them, becomes one.

    Example:
        >>> themed('<path style="fill: none; stroke: #757575"/>')
        '<path style="fill: none; stroke: var(--figure-ink, #757575)"/>'
    """

    def variable(match: re.Match[str]) -> str:
        name = VARIABLES.get(match[2])
        return f"{match[1]}: var({name}, {match[2]})" if name else match[0]

    drawing = re.sub(r'\b(fill)="(#[0-9a-f]{6})"', r'style="\1: \2"', drawing)
    return re.sub(r"\b(fill|stroke): (#[0-9a-f]{6})\b", variable, drawing)


def apart(drawing: str, prefix: str) -> str:
    """The drawing with names that no other drawing of the page has."""
    drawing = re.sub(r'\bid="', f'id="{prefix}-', drawing)
    drawing = re.sub(r"url\(#", f"url(#{prefix}-", drawing)
    return re.sub(r'href="#', f'href="#{prefix}-', drawing)


def inline(page: str, folder: Path) -> str:
    """A page with the drawings of notebooks in it.

    Args:
        page: Its HTML.
        folder: Where it lies; sources are relative to it.

    Returns:
        The page, each such ``<img>`` replaced by its drawing, which scrolls sideways
        where the page is narrow. Other pictures stay as they are.
    """
    count = 0

    def replaced(match: re.Match[str]) -> str:
        nonlocal count
        file = folder / html.unescape(match["src"])
        drawing = file.read_text(encoding="utf-8") if file.exists() else ""
        start = drawing.find(f'<svg class="{CLASS}"')
        if start < 0:
            return match[0]
        count += 1
        drawing = apart(themed(drawing[start:]), f"figure{count}")
        # A style element in a page is of the whole page.
        # Comments repeat every word of a drawing, formulas in their raw form.
        drawing = re.sub(r"<!--.*?-->\s*", "", drawing, flags=re.DOTALL)
        drawing = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", drawing, count=1,
                         flags=re.DOTALL)  # fmt: skip
        alt = _ALT.search(match[0])
        label = f' role="img" aria-label="{alt[1]}"' if alt else ""
        size = _SIZE.search(drawing)
        width = round(float(size[1]) * _POINT) if size else 0
        drawing = _SIZE.sub("", drawing, count=1)
        drawing = drawing.replace("<svg", f"<svg{label}", 1)
        return (
            f'<span class="figure-scroll" tabindex="0">'
            f'<span class="figure-sheet" style="--width: {width}px">{drawing}</span>'
            "</span>"
        )

    return _IMAGE.sub(replaced, page)
