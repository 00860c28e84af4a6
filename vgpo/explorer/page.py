"""One self-contained piece of HTML out of a body, data, styles and a script.

::

    still = "<p>What stands here without a script.</p>"
    data = {"values": pack(array)}
    view = View("Title", still, start="myView", data=data, scripts=("mine.js",))
    view                    # shown by a notebook, or by the book
    view.save("view.html")  # the same as a page of its own

Scripts and styles are files of the folder ``assets``. All scripts of a view run
inside one function of their own, so that nothing of one view meets another. The one
named by ``start`` is called as ``start(root, data)`` with the view's element, for each
place where the view stands; when it returns, or when its promise is kept, the body
gives way to what it has added to ``root``. Where no script runs (GitHub, a PDF), the
body stays.
"""

import base64
import hashlib
import html
import io
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vgpo.files import write_atomically
from vgpo.pictures import as_rgb
from vgpo.texts import legible

PACKED_TYPES = ("uint8", "uint16", "int16", "int32", "float32")
"""What :func:`pack` takes, each with a typed array of the same kind in the browser."""

# What a page by itself may load: nothing. Its own scripts and styles stand in it.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'"
)

_HINT = "Where its script runs, as in a notebook that is trusted, this can be touched."


@dataclass(frozen=True)
class View:
    """Something to look at and to touch, in one piece of HTML.

    Attributes:
        title: A few words, plain text; the title of a saved page and the name that a
            screen reader reads.
        body: HTML for where no script runs: a picture, a table. Text of others in it
            must have gone through ``html.escape``.
        start: The function of the scripts that builds the view:
            ``start(root, data)``, which may return a promise.
        data: What it gets, anything JSON has a form for; arrays by :func:`pack`.
        scripts: Names of files in the folder ``assets``, after ``page.js``.
        styles: Names of files in the folder ``assets``, after ``page.css``.
        text: What is printed where there is only text. Half of a surrogate pair in
            title, body or text becomes U+FFFD.
        picture: A PNG for where there is no HTML, such as a PDF.

    Example:
        >>> view = View("Two", "<p>one, two</p>", "showNothing", {"tag": "</script>"})
        >>> view
        View('Two')
        >>> view.fragment().count("</script>")  # of its data, of its script
        2
        >>> view.page().startswith("<!doctype html>")
        True
    """

    title: str
    body: str
    start: str = "showNothing"
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    scripts: Sequence[str] = ()
    styles: Sequence[str] = ()
    text: str = ""
    picture: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.start.isidentifier():
            raise ValueError(
                f"start: must be the name of a function, got {self.start!r}."
            )
        # What is to be looked at may come from anywhere, and has to be written. In
        # ``data`` JSON has escapes for halves of surrogate pairs, here UTF-8 has none.
        for name in ("title", "body", "text"):
            object.__setattr__(self, name, legible(getattr(self, name)))

    def __repr__(self) -> str:
        return f"View({self.title!r})"

    def fragment(self) -> str:
        """The view as HTML to stand within a page, beside others.

        Raises:
            ValueError: ``data`` holds a number that is not finite.
            FileNotFoundError: no such script or style.
        """
        data = safe_json(self.data)
        styles = _dense(map(asset, ("page.css", *self.styles)))
        scripts = _dense(map(asset, ("page.js", *self.scripts)))
        parts = (self.title, self.body, self.start, data, styles, scripts)
        # The same view has the same name at any time, so that a notebook that is run
        # again has the same bytes. Two places of one view are told apart by the script.
        name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        # Notebooks and the book look for formulas in text; a token is none.
        plain = "tex2jax_ignore mathjax_ignore"
        hint = "" if self.start == "showNothing" else f"<p><small>{_HINT}</small></p>"
        return (
            f'<div class="vgpo-view {plain}" data-vgpo-view="{name}" role="group" '
            f'aria-label="{_unbroken(html.escape(self.title))}">\n'
            f"<style>\n{styles}\n</style>\n"
            f'<div class="vgpo-still">{_unbroken(self.body)}{hint}</div>\n'
            f'<script type="application/json">{data}</script>\n'
            f'<script>\n(function () {{\n"use strict";\n{scripts}\n'
            f'startView("{name}", {self.start});\n}})();\n</script>\n'
            "</div>"
        )

    def page(self) -> str:
        """The view as a page of its own, which may load nothing from anywhere."""
        return page(self.title, [self])

    def save(self, path: str | Path) -> Path:
        """Writes the page; an earlier file stays whole until the new one is."""
        path = Path(path)
        write_atomically(path, self.page())
        return path

    def _repr_html_(self) -> str:
        return self.fragment()

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, Any]:
        bundle = {"text/html": self.fragment(), "text/plain": self.text or repr(self)}
        if self.picture is not None:
            bundle["image/png"] = base64.b64encode(self.picture).decode()
        return bundle


def page(title: str, views: Sequence[View]) -> str:
    """Several views under each other, as a page of its own.

    Args:
        title: Plain text.
        views: In the order of the page.
    """
    title = legible(title)
    return (
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{html.escape(title)}</title>\n"
        # Without it a browser asks the server for an icon.
        '<link rel="icon" href="data:,">\n'
        f"<style>\n{asset('alone.css')}\n</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n"
        + "\n".join(view.fragment() for view in views)
        + "\n</body>\n</html>\n"
    )


def asset(name: str) -> str:
    """A script or style of the folder ``assets``, fit to stand within a page.

    Raises:
        ValueError: It holds what would end the element it stands in, or is no plain
            file name.
    """
    if Path(name).name != name:
        raise ValueError(f"assets: need the name of a file, got {name!r}.")
    text = (files("vgpo.explorer") / "assets" / name).read_text(encoding="utf-8")
    for mark in ("</script", "</style", "<!--"):
        if mark in text.lower():
            raise ValueError(f"assets: {name} holds {mark!r}, which a page cannot.")
    return text


# Markdown, as ``nbconvert --to markdown`` writes it, takes HTML as it is up to the
# first empty line, and what styles and scripts come after it for text.


def _dense(texts: Iterable[str]) -> str:
    """Code under each other, without empty lines."""
    return re.sub(r"\n\s*\n", "\n", "\n".join(texts)).strip()


def _unbroken(text: str) -> str:
    """The same HTML without empty lines: their ends become references."""
    return re.sub(r"(?<=\n)([ \t\r]*)\n", r"\1&#10;", text.strip("\n"))


def safe_json(data: object) -> str:
    r"""JSON that can stand in a script element, whatever text it holds.

    A browser ends the element at the first ``</script``, and reads on differently after
    ``<!--``, without knowing of JSON's quotes: so no ``<``, ``>`` or ``&`` is left.

    Raises:
        ValueError: A number that is not finite. Use None for what is not known.

    Example:
        >>> safe_json({"token": "</script><!--"})
        '{"token":"\\u003c/script\\u003e\\u003c!--"}'
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        # In JSON these stand in strings alone, where an escape means the same.
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def pack(values: np.ndarray) -> dict[str, Any]:
    """An array as deflated base64, which ``unpack`` of ``page.js`` reads.

    Args:
        values: Of any shape, in one of :data:`PACKED_TYPES`.

    Returns:
        ``type``, ``shape`` and ``deflate``.

    Raises:
        ValueError: Another type.

    Example:
        >>> packed = pack(np.zeros((3000, 1200), dtype=np.uint8))
        >>> packed["shape"], len(packed["deflate"]) < 10_000
        ([3000, 1200], True)
    """
    if values.dtype.name not in PACKED_TYPES:
        raise ValueError(
            f"values: need one of {', '.join(PACKED_TYPES)}, got {values.dtype}."
        )
    # Browsers run on little-endian machines.
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return {
        "type": values.dtype.name,
        "shape": list(values.shape),
        "deflate": base64.b64encode(zlib.compress(little.tobytes(), 9)).decode(),
    }


def picture_address(image: Image.Image, longest: int = 1024) -> str:
    """A picture as a ``data:`` address: PNG, or JPEG where that is far smaller.

    Args:
        image: In any of Pillow's modes.
        longest: Longer side in pixels; larger pictures are scaled down.

    Example:
        >>> picture_address(Image.new("RGB", (28, 28)))[:22]
        'data:image/png;base64,'
    """
    image = as_rgb(image)
    if max(image.size) > longest:
        image = image.copy()
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    kind, content = "png", _encoded(image, "PNG", optimize=True)
    if len(content) > 100_000:
        smaller = _encoded(image, "JPEG", quality=85)
        if len(smaller) < len(content) / 2:
            kind, content = "jpeg", smaller
    return _address(content, kind)


def picture_element(png: bytes | None, alt: str) -> str:
    """A PNG as it stands in a body, for where no script runs; nothing of None.

    Example:
        >>> picture_element(b"png", "three words")
        '<p><img alt="three words" src="data:image/png;base64,cG5n"></p>'
        >>> picture_element(None, "three words")
        ''
    """
    if png is None:
        return ""
    return f'<p><img alt="{html.escape(alt)}" src="{_address(png, "png")}"></p>'


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
