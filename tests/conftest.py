"""Settings that every test runs under, and the fixtures shared between files."""

import gc
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

sys.path.insert(0, str(ROOT))


def pytest_configure(config: pytest.Config) -> None:
    """The tests' numbers are a CPU's, so a GPU is hidden from all but its own tests.

    Those are ``pytest -m gpu``. Libraries would move models to a GPU by themselves.
    """
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="module", autouse=True)
def search_nothing_old() -> None:
    """What is alive when a file begins is not looked at again for garbage.

    Trainers, statsmodels and others collect garbage at each run, and would go through
    all that libraries and earlier files hold: most of the time of a small training.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A browser; tests that need it are skipped where there is none."""
    from tests.explorer import browser

    program = browser.chromium()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(browser.NAMES)} is installed")
    found = browser.Browser(program, tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def browser(chromium):
    """The browser, without the pages of the file before."""
    yield chromium
    chromium.close_pages()


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
