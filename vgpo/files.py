"""Files that a kill leaves whole: one atomic write, one reader of JSON lines.

These need the standard library and nothing else.
"""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def write_atomically(
    path: str | Path, content: str | bytes | Callable[[Path], object]
) -> None:
    """Write a file beside ``path`` and rename it into place.

    A reader of ``path`` finds the earlier file or the finished new one, at any
    moment and after a kill; an error leaves the earlier file as it was. Missing
    folders are made.

    Args:
        path: The file.
        content: Text (written as UTF-8, line ends as they are), bytes, or a function
            that is called with the path to write to, for libraries that write files
            themselves.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_atomically(folder / "runs" / "notes.txt", "one\\n")
        >>> write_atomically(folder / "runs" / "notes.txt", "two\\n")
        >>> (folder / "runs" / "notes.txt").read_text()
        'two\\n'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since a rename works within one disk only. Not mkstemp,
    # whose files nobody but their owner can read.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if callable(content):
            content(beside)
        else:
            data = content.encode() if isinstance(content, str) else content
            beside.write_bytes(data)
        # Without this, a power cut can leave the new name on an empty file.
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def append_json_line(path: str | Path, record: Mapping[str, Any]) -> None:
    """Append one JSON object as a line; the file and its folder are made if missing.

    Half a line that a kill has left at the end is dropped first, so that the new one
    does not run into it.

    Raises:
        TypeError: a value that JSON has no form for.
        ValueError: a number that is not finite; JSON has no form for it either.
    """
    path = Path(path)
    line = json.dumps(dict(record), allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.seek(0)
                there = file.read()
                kept = _whole_lines(there)
                file.truncate(min(len(kept), len(there)))
                line = kept[len(there) :].decode() + line
        # Mode "a" writes at the end, wherever the reading stopped.
        file.write(line.encode())


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, in order.

    Half a line at the end, left by a kill while it was written, is dropped. A whole
    last line counts even without its line end.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line other than a half last one is no JSON object; it is named.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "log.jsonl"
        >>> append_json_line(path, {"step": 1})
        >>> append_json_line(path, {"step": 2})
        >>> with path.open("a") as file:
        ...     _ = file.write('{"step": ')
        >>> read_json_lines(path)
        [{'step': 1}, {'step': 2}]
    """
    lines = _whole_lines(Path(path).read_bytes()).split(b"\n")[:-1]
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(_json_object(line))
        except ValueError as error:
            raise ValueError(
                f"line {number} of {path} is not a JSON object ({error})"
            ) from error
    return found


def _whole_lines(there: bytes) -> bytes:
    """``there`` without half a line at its end; a whole one gets its line end."""
    start = there.rfind(b"\n") + 1
    if start == len(there):
        return there
    try:
        # No beginning of an object is an object, so this tells half from whole.
        _json_object(there[start:])
    except ValueError:
        return there[:start]
    return there + b"\n"


def _json_object(line: bytes) -> dict[str, Any]:
    found = json.loads(line.decode())
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}")
    return found
