"""The examples in the documentation run and print what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import vgpo

PACKAGE = Path(vgpo.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)
# Where every public function has one.
COMPLETE = [
    "method.focus",
    "method.compensation",
    "method.reweighting",
    "method.released",
    "stats.intervals",
    "stats.seeds",
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a trainer makes its output folder
    outcome = doctest.testmod(import_module(name))
    assert outcome.failed == 0
    assert outcome.attempted > 0


@pytest.mark.parametrize("name", COMPLETE)
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
