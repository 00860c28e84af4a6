"""What a user meets at ``import vgpo``, before any computation."""

import subprocess
import sys

import pytest

import vgpo

# The core installation, played by an environment in which these cannot be imported.
TRAINING_ONLY = ("trl", "peft", "accelerate", "bitsandbytes", "math_verify")


def in_a_core_environment(code: str) -> subprocess.CompletedProcess:
    hidden = "".join(f"sys.modules[{name!r}] = None\n" for name in TRAINING_ONLY)
    return subprocess.run(
        [sys.executable, "-c", f"import sys\n{hidden}{code}"],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_import_costs_nothing():
    done = in_a_core_environment("import vgpo; print('torch' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_every_public_name_is_there():
    for name in vgpo.__all__:
        assert getattr(vgpo, name) is not None
    assert set(vgpo.__all__) <= set(dir(vgpo))


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'focus_scores'"):
        _ = vgpo.focus_scores


def test_analysis_needs_no_training_library():
    done = in_a_core_environment(
        "import vgpo; print(vgpo.analyze, vgpo.score, vgpo.capture_focus, vgpo.testbed)"
    )
    assert done.returncode == 0, done.stderr


def test_missing_training_library_names_the_cure():
    done = in_a_core_environment(
        "import vgpo\n"
        "for name in ('VGPOConfig', 'VGPOTrainer'):\n"
        "    try:\n"
        "        getattr(vgpo, name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        print(error)\n"
    )
    for name in ("VGPOConfig", "VGPOTrainer"):
        assert f"vgpo.{name} trains on top of" in done.stdout, done.stderr
    assert done.stdout.count("pip install 'vgpo[train]'") == 2
