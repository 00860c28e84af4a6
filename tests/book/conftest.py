"""What the tests of the book share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    """A repository with no notebook in it yet."""
    for folder in ("notebooks", "recipes", "vgpo"):
        (tmp_path / folder).mkdir()
    shutil.copy(root / "jupytext.toml", tmp_path)
    return tmp_path
