"""The examples in the documentation run and print what they say."""

import doctest
from importlib import import_module

import pytest

MODULES = ["focus", "compensation", "reweighting", "released"]
# Every example runs; not everything in these modules needs one.
OTHERS = [
    "adapters",
    "config",
    "memory",
    "quantization_study",
    "rewards",
    "testbed.data",
    "testbed.model",
    "testbed.processor",
    "testbed.questions",
    "train",
    "trainer",
]


@pytest.mark.parametrize("name", MODULES + OTHERS)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a trainer makes its output folder
    module = import_module(f"vgpo.{name}")
    outcome = doctest.testmod(module)
    assert outcome.failed == 0
    assert outcome.attempted > 0


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_has_an_example(name):
    module = import_module(f"vgpo.{name}")
    finder = doctest.DocTestFinder(recurse=True)
    with_examples = {test.name for test in finder.find(module) if test.examples}
    public = {
        f"{module.__name__}.{key}"
        for key, value in vars(module).items()
        if callable(value)
        and not key.startswith("_")
        and not isinstance(value, type)
        and value.__module__ == module.__name__
    }
    assert public and public <= with_examples
