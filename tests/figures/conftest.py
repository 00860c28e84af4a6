"""What the tests of figures share."""

import numpy as np
import pytest

from tests.figures import samples


@pytest.fixture(autouse=True)
def same_numbers(monkeypatch):
    """The numbers of a sample do not hang on which samples were drawn before it."""
    monkeypatch.setattr(samples, "RNG", np.random.default_rng(0))
