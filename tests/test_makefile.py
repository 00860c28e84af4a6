"""The Makefile's commands and the script that continuous integration runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.making import make

TARGETS = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def executable(path: Path, script: str) -> Path:
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return path


def test_the_promised_targets_are_there():
    promised = {"help", "book", "test", "html", "freeze", "bench", "lint", "clean"}
    assert promised <= set(TARGETS)
    phony = re.findall(
        r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert sorted(" ".join(phony).split()) == sorted(TARGETS)


def test_make_alone_lists_every_target():
    shown = make()
    assert shown.returncode == 0
    for target in TARGETS:
        assert re.search(rf"^  make {target} ", shown.stdout, re.MULTILINE), target


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_parses(target):
    shown = make("--dry-run", target)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip()


def test_a_python_that_is_too_old_is_told_so(tmp_path):
    old = executable(
        tmp_path / "python3",
        'case "$1" in -c) exit 1;; --version) echo "Python 3.9.6";; esac\n',
    )
    shown = make("env", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert shown.returncode != 0
    assert "needs Python 3.11 or newer" in shown.stderr
    assert "Python 3.9.6" in shown.stderr
    assert not (tmp_path / "venv").exists()


def test_a_missing_python_is_told_so(tmp_path):
    shown = make("env", "PYTHON=no-such-python", f"VENV={tmp_path / 'venv'}")
    assert shown.returncode != 0
    assert "no-such-python is" in shown.stderr and "missing" in shown.stderr


def test_make_bench_lists_its_modules_and_refuses_others():
    names = [p.stem.removeprefix("bench_") for p in ROOT.glob("benchmarks/bench_*.py")]
    listed = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--list"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(listed.stdout.split()) == sorted(names)
    refused = make(
        "--old-file=.venv/.ready", "bench", f"RUN={sys.executable}", "BENCH=x"
    )
    assert refused.returncode != 0
    assert "no benchmark called x" in refused.stderr


CLOSING = "============ 1 failed, 2 passed in 3.21s ============"


# All that the script may call; apt-get, chromium and make are played.
TOOLS = ("bash", "dirname", "env", "grep", "mktemp", "rm", "sh", "tail", "tee")


def run_ci(
    folder: Path, *, status: int = 0, root: bool = False, chromium: bool = True
) -> subprocess.CompletedProcess:
    """The script where ``make test`` ends with a status; apt-get always fails."""
    for name in (*TOOLS, "timeout"):
        (folder / name).symlink_to(shutil.which(name))
    executable(folder / "id", f"echo {0 if root else 1000}\n")
    executable(folder / "apt-get", f'echo "$*" >> {folder}/installed\nexit 100\n')
    if chromium:
        executable(folder / "chromium", "")
    executable(
        folder / "make",
        f'[ "$1" = test ] || exit 9\necho "{CLOSING}"\n'
        f'[ {status} = 0 ] || echo "make: *** [test] Error 1" >&2\nexit {status}\n',
    )
    return subprocess.run(
        [ROOT / ".ci" / "run"],
        env={"PATH": str(folder), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


on_linux = pytest.mark.skipif(
    shutil.which("timeout") is None, reason="no timeout command, as on macOS"
)


@on_linux
@pytest.mark.parametrize("status", [0, 2])
def test_ci_passes_on_the_status_and_ends_with_the_summary(tmp_path, status):
    ran = run_ci(tmp_path, status=status)
    assert ran.returncode == status
    assert ran.stdout.splitlines()[-1] == CLOSING


@on_linux
@pytest.mark.parametrize(
    ("root", "chromium", "asked"),
    [(True, False, True), (True, True, False), (False, False, False)],
    ids=["missing", "there", "not root"],
)
def test_ci_asks_for_a_browser_where_it_can_and_goes_on_without(
    tmp_path, root, chromium, asked
):
    ran = run_ci(tmp_path, root=root, chromium=chromium)
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[-1] == CLOSING
    assert (tmp_path / "installed").exists() == asked
    assert ("no chromium" in ran.stdout) == asked
