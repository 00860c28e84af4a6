"""What asking a model costs in imports."""

import subprocess
import sys

import pytest

HEAVY = ("vgpo.testbed", "seaborn", "sklearn", "matplotlib")


@pytest.mark.parametrize("name", ["analyze", "score", "analysis.load_model"])
def test_drawing_libraries_and_the_testbed_stay_out(root, name):
    code = (
        "import sys, vgpo, vgpo.analysis\n"
        f"vgpo.{name}\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert run.stdout.strip() == "[]"


def test_the_small_worlds_processor_is_found_by_name(root):
    code = (
        "from vgpo.analysis import load_model\n"
        "print(type(load_model('vgpo/testbed/checkpoint')[1]).__name__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert run.stdout.strip() == "TestbedProcessor"
