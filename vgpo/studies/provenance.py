"""Where a record comes from: versions, commit, machine kind."""

import hashlib
import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("vgpo", "torch", "transformers", "trl", "datasets", "accelerate", "numpy")


@lru_cache(maxsize=1)
def provenance() -> dict[str, Any]:
    """What a record needs beside its settings; the same for all of a process.

    Returns:
        ``versions`` (of this package, Python and the libraries), ``commit`` (None
        outside a checkout), ``changed`` (whether the package differed from it),
        ``cpu`` (its kind), ``system``, ``threads``. No names of machines or paths.
    """
    root = Path(__file__).resolve().parents[2]
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in LIBRARIES},
        },
        "commit": git(root, "rev-parse", "HEAD"),
        "changed": bool(git(root, "status", "--porcelain", "--", "vgpo")),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None  # run from a checkout


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git(root: Path, *words: str) -> str | None:
    """What git says of a checkout; None outside one, or where git does not answer."""
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def cpu() -> str:
    """The kind of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return models[0] if models else platform.processor()
