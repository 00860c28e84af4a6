"""Pictures by the paths that a data set gives them, in a folder or in zip archives.

Data sets name pictures by the paths of whoever wrote them, such as
``./data/images/geometry/3.png``, and ship them in an archive that begins at
``geometry/``. So a path is looked for as it is, and then without its first folders.
Archives are read and never unpacked.
"""

import os
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from vgpo.pictures import LARGEST_PICTURE


class PictureStore:
    """A folder and archives in which pictures are looked for.

    Args:
        folder: Where paths begin.
        archives: Zip files, read after the folders.
        others: Further folders.

    Raises:
        ValueError: An archive is missing or is no zip file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(folder / "images.zip", "w") as file:
        ...     file.writestr("set/1.png", b"a picture")
        >>> store = PictureStore(folder, [folder / "images.zip"])
        >>> store.find("./data/images/set/1.png")
        b'a picture'
        >>> store.find("./data/images/set/2.png")
        './data/images/set/2.png'
    """

    def __init__(
        self,
        folder: str | Path,
        archives: Sequence[str | Path] = (),
        others: Sequence[str | Path] = (),
    ) -> None:
        self.folder = Path(folder)
        self.folders = [self.folder, *map(Path, others)]
        self.archives = [Path(archive) for archive in archives]
        self._names: dict[str, tuple[Path, str]] = {}
        for archive in self.archives:
            try:
                with zipfile.ZipFile(archive) as file:
                    names = file.namelist()
            except (OSError, zipfile.BadZipFile) as error:
                raise ValueError(
                    f"archive: {archive} cannot be read as a zip file ({error})"
                ) from error
            for name in names:
                self._names.setdefault(_plain(name), (archive, name))

    def find(self, value: Any) -> Any:
        """A picture's content or place, if its path is found; else ``value`` itself.

        Raises:
            ValueError: What is found in an archive is damaged or far too large.
        """
        if isinstance(value, dict) and value.get("bytes") is None:
            found = self.find(value.get("path"))
            return value if found is value.get("path") else found
        if not isinstance(value, str) or len(value) > 1024 or "\0" in value:
            return value
        for ending in _endings(value):
            for folder in self.folders:
                if (folder / ending).is_file():
                    return folder / ending
            if ending in self._names:
                return self._read(ending)
        return value

    def _read(self, name: str) -> bytes:
        archive, stored = self._names[name]
        try:
            file = _opened(archive, archive.stat().st_mtime_ns, os.getpid())
            entry = file.getinfo(stored)
            if entry.file_size > LARGEST_PICTURE:
                raise ValueError(
                    f"{name} in {archive.name} has {entry.file_size:,} bytes, more "
                    "than any picture"
                )
            return file.read(entry)
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:
            raise ValueError(
                f"{name} in {archive.name} cannot be read: {error}"
            ) from error


@lru_cache(maxsize=16)
def _opened(archive: Path, changed: int, process: int) -> zipfile.ZipFile:
    """An archive, once per process: a fork shares the place in an open file."""
    return zipfile.ZipFile(archive)


def _plain(path: str) -> str:
    return "/".join(part for part in PurePosixPath(path).parts if part != ".")


def _endings(path: str) -> list[str]:
    """``a/b/c.png``, ``b/c.png``, ``c.png``."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    parts = tuple(part for part in parts if part not in (".", "/"))
    return ["/".join(parts[start:]) for start in range(len(parts))]
