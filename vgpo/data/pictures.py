"""A picture out of whatever a data set keeps one in.

Data sets hold pictures as decoded images, bytes, ``{"bytes": ..., "path": ...}``, paths
relative to the file that names them, base64 text or data addresses. One function reads
them all and says what is wrong with the one it cannot read.
"""

import base64
import binascii
import io
import re
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from vgpo.pictures import as_rgb

MAX_ASPECT_RATIO = 200.0
"""Longer side over shorter side; Qwen's image processors refuse what is beyond."""

_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DATA_ADDRESS = re.compile(r"^data:[^,]*,", re.IGNORECASE)
_BASE64 = re.compile(r"^[A-Za-z0-9+/\-_\s]+=*\s*$")
# The shortest picture there is, a GIF of one pixel, takes 26 bytes.
_SHORTEST_BASE64 = 35


def open_picture(value: Any, folder: str | Path | None = None) -> Image.Image:
    """Reads a picture and decodes it to its last byte.

    Args:
        value: A ``PIL.Image``; bytes; a path (text or ``Path``); base64 text; a data
            address (``data:image/png;base64,...``); or a dictionary with ``bytes`` or
            ``path``, as the ``datasets`` library keeps pictures.
        folder: Where relative paths begin, which is the folder of the file that names
            them; without one, and where the file is not there, the working directory.

    Returns:
        The picture in RGB, see :func:`vgpo.pictures.as_rgb`.

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


def _decoded(value: Any, folder: str | Path | None) -> Image.Image:
    if isinstance(value, Image.Image):
        value.load()
        return value
    if isinstance(value, dict):
        if value.get("bytes") is not None:
            return _from_bytes(value["bytes"], str(value.get("path") or "bytes"))
        if value.get("path") is not None:
            return _from_file(Path(value["path"]), folder)
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
    if _ADDRESS.match(text):
        raise ValueError(
            f"the picture is an address, {text[:80]!r}, and pictures are not "
            "downloaded; fetch it to a file and name its path"
        )
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
    places = [path] if path.is_absolute() or folder is None else [folder / path, path]
    try:
        return next((place for place in places if Path(place).is_file()), None)
    except (OSError, ValueError):  # too long for a name, or a null byte in it
        return None


def _from_file(path: Path, folder: str | Path | None) -> Image.Image:
    found = _existing(path, folder)
    if found is None:
        where = "" if path.is_absolute() else f" in {folder or 'the working directory'}"
        raise ValueError(
            f"there is no picture {str(path)!r}{where}; relative paths begin at the "
            "folder of the file that names them"
        )
    return _from_bytes(Path(found).read_bytes(), str(path))


def _from_bytes(content: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except UnidentifiedImageError as error:
        raise ValueError(
            f"the picture ({name}, {len(content)} bytes) is in no known image format"
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture ({name}) cannot be decoded: {error}") from error
    return image
