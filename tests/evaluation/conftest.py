"""A set of the small world's questions, and two models to ask."""

import pytest

from vgpo.data import CATALOGUE
from vgpo.studies.small_sets import write_small_set
from vgpo.testbed import World, load_tiny
from vgpo.testbed.decoding import decode_faster

EXAMPLES = World().examples(4, ("count",), split="heldout")


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Copies of every public set, four questions each."""
    folder = tmp_path_factory.mktemp("sets")
    for entry in CATALOGUE.values():
        write_small_set(entry, EXAMPLES, folder)
    return folder


@pytest.fixture(scope="session")
def tiny():
    model, processor = load_tiny()
    return decode_faster(model), processor


@pytest.fixture(scope="session")
def other():
    model, processor = load_tiny("look_away")
    return decode_faster(model), processor
