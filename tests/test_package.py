"""What a user meets at ``import vgpo``, before any computation."""

import json
import logging
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable

import pytest

import vgpo
from tests.conftest import ROOT
from vgpo.lazy import training_libraries

# The core installation, played by an environment in which these cannot be imported.
TRAINING_ONLY = ("trl", "peft", "bitsandbytes", "math_verify")


def without(code: str, modules: Iterable[str]) -> subprocess.CompletedProcess:
    """Runs code in a process in which some modules cannot be imported."""
    hidden = "".join(f"sys.modules[{name!r}] = None\n" for name in modules)
    return subprocess.run(
        [sys.executable, "-c", f"import sys\n{hidden}{code}"],
        capture_output=True,
        text=True,
        timeout=120,
    )


def in_a_core_environment(code: str) -> subprocess.CompletedProcess:
    return without(code, TRAINING_ONLY)


@pytest.fixture(scope="module")
def core() -> dict[str, object]:
    """What one core environment says, asked in this order: each part is true of what
    was loaded before it as well."""
    done = in_a_core_environment(
        "import json, vgpo\n"
        "said = {'torch': 'torch' in sys.modules}\n"
        "folders = [vgpo.analysis.load_model, vgpo.models, vgpo.stats]\n"
        "said['names'] = [vgpo.analyze.__name__, vgpo.score.__name__]\n"
        "heavy = 'seaborn', 'matplotlib', 'sklearn', 'vgpo.testbed', 'vgpo.figures'\n"
        "said['heavy'] = [name for name in heavy if name in sys.modules]\n"
        "said['folders'] = len([*folders, vgpo.data.load_rows])\n"
        "others = vgpo.capture_focus, vgpo.testbed\n"
        "said['others'] = len(others)\n"
        "said['errors'] = []\n"
        "for name in ('VGPOConfig', 'VGPOTrainer'):\n"
        "    try:\n"
        "        getattr(vgpo, name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        said['errors'].append(str(error))\n"
        "print(json.dumps(said))\n"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_import_costs_nothing(core):
    assert core["torch"] is False


def test_every_public_name_is_there():
    for name in vgpo.__all__:
        assert getattr(vgpo, name) is not None
    assert set(vgpo.__all__) <= set(dir(vgpo))


def test_documented_modules_are_there_right_after_the_import():
    """None has to be imported before it can be named, in whatever order."""
    page = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"automodule:: vgpo\.(\S+)", page)
    # Where a folder has a function of its module's name, that is what a user gets.
    named = [
        n for n in documented if n not in ("analysis.signals", "evaluation.reported")
    ]
    done = without(
        "import vgpo\n"
        "from operator import attrgetter\n"
        f"for name in {sorted(named, reverse=True)}:\n"
        "    assert attrgetter(name)(vgpo) is sys.modules['vgpo.' + name], name\n"
        "print(len(vgpo.stats.seeds.__doc__) > 0)",
        (),
    )
    assert done.stdout.strip() == "True", done.stderr
    assert len(named) > 50


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match=r"'vgpo.stats' has no attribute 'seed'"):
        _ = vgpo.stats.seed


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'focus_scores'"):
        _ = vgpo.focus_scores


@pytest.mark.parametrize("module", ["vgpo.train", "vgpo.publish"])
def test_a_command_says_in_a_line_what_is_to_be_installed(module):
    done = in_a_core_environment(
        f"import runpy\nsys.argv = ['x', 'y']\n"
        f"runpy.run_module({module!r}, run_name='__main__')"
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{module} trains on top of ")
    assert "pip install 'vgpo[train]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_kernel_that_nobody_asked_for_is_not_missed(caplog):
    noisy = logging.getLogger("bitsandbytes.backends.cpu.ops")
    with training_libraries("this test"):
        noisy.warning("Failed to load CPU gemm_4bit_forward from %s", "somewhere")
        noisy.warning("something else")
    noisy.warning("gemm_4bit_forward is slow")
    assert caplog.messages == ["something else", "gemm_4bit_forward is slow"]


def test_what_loads_a_model_is_there_without_the_training_libraries():
    """``load_model`` hands over a device map; transformers wants accelerate for it."""
    done = in_a_core_environment(
        "import vgpo\n"
        "from vgpo.testbed import CHECKPOINT\n"
        "print(vgpo.analysis.load_model(CHECKPOINT)[0].device)"
    )
    assert done.returncode == 0, done.stderr
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = [re.match(r"\w+", one)[0] for one in required["project"]["dependencies"]]
    assert "accelerate" in names


def test_the_method_needs_torch_alone():
    done = without(
        "import torch\n"
        "from vgpo import compensate, completion_states, inter_trajectory_weights\n"
        "from vgpo import intra_trajectory_weights, released, reweight_advantages\n"
        "from vgpo import visual_focus_score, visual_prototype\n"
        "states, ids = torch.eye(4)[None], torch.tensor([[7, 1, 2, 3]])\n"
        "prototype = visual_prototype(states, ids == 7)\n"
        "focus = visual_focus_score(completion_states(states, 2), prototype)\n"
        "mask = torch.ones_like(focus)\n"
        "weights = compensate(focus, mask)\n"
        "psi = intra_trajectory_weights(weights, mask)\n"
        "phi = inter_trajectory_weights(weights, mask, torch.tensor([0]))\n"
        "print(reweight_advantages(torch.ones(1), psi, phi).shape)\n"
        "print(released.__name__)\n",
        [*TRAINING_ONLY, "transformers", "datasets", "tokenizers", "pandas", "numpy",
         "scipy", "sklearn", "matplotlib", "seaborn", "PIL", "tqdm"],
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == [
        "torch.Size([1, 2])",
        "vgpo.method.released",
    ], done.stderr


def test_analysis_imports_no_world_and_nothing_to_draw_with(core):
    assert core["names"] == ["analyze", "score"]
    assert core["heavy"] == []


def test_figures_need_neither_a_model_nor_a_world():
    done = in_a_core_environment(
        "from vgpo import figures\n"
        "print(len(figures.__all__) > 40)\n"
        "heavy = 'torch', 'transformers', 'datasets', 'sklearn', 'vgpo.testbed'\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    assert done.stdout.split("\n")[:2] == ["True", "[]"], done.stderr


def test_a_folder_of_the_small_world_loads_without_importing_it_first():
    done = without(
        "from pathlib import Path\n"
        "import vgpo\n"
        "from vgpo.models.loading import load_model\n"
        "folder = Path(vgpo.__file__).parent / 'testbed' / 'checkpoint'\n"
        "_, processor = load_model(folder)\n"
        "print(type(processor).__name__)\n",
        [],
    )
    assert done.stdout.strip() == "TestbedProcessor", done.stderr


def test_analysis_needs_no_training_library(core):
    assert core["others"] == 2  # and ``analyze`` and ``score``, above


def test_missing_training_library_names_the_cure(core):
    assert len(core["errors"]) == 2
    for name, error in zip(("VGPOConfig", "VGPOTrainer"), core["errors"], strict=True):
        assert f"vgpo.{name} trains on top of" in error
        assert error.count("pip install 'vgpo[train]'") == 1


def test_folders_are_there_without_an_import_of_their_own(core):
    assert core["folders"] == 4
