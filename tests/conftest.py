"""Settings that every test runs under, and the fixtures shared between files."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="module")
def tiny():
    """The small world's model and its processor."""
    from vgpo.testbed import load_tiny

    return load_tiny()


@pytest.fixture(scope="module")
def four_bit():
    """The same model in 4 bits."""
    import torch

    from vgpo.models.adapters import load_four_bit
    from vgpo.testbed import CHECKPOINT

    return load_four_bit(CHECKPOINT, torch.float32)
