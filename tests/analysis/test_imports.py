"""What asking a model costs in imports."""

import subprocess
import sys

import pytest

HEAVY = ("vgpo.testbed", "seaborn", "sklearn", "matplotlib")


@pytest.fixture(scope="module")
def said(root) -> list[str]:
    """Of one fresh process: what is loaded with all that asks a model, and then the
    processor of a folder that names no module."""
    code = (
        "import sys, vgpo, vgpo.analysis\n"
        "asking = vgpo.analyze, vgpo.score, vgpo.analysis.load_model\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])\n"
        "_, processor = vgpo.analysis.load_model('vgpo/testbed/checkpoint')\n"
        "print(type(processor).__name__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    return run.stdout.splitlines()


def test_drawing_libraries_and_the_testbed_stay_out(said):
    assert said[0] == "[]"


def test_the_small_worlds_processor_is_found_by_name(said):
    assert said[1] == "TestbedProcessor"
