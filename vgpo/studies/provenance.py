"""Where a record comes from: versions, commit, machine kind."""

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from vgpo.files import write_atomically
from vgpo.versions import installed_versions

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
            **installed_versions(LIBRARIES),
        },
        "commit": git(root, "rev-parse", "HEAD"),
        "changed": bool(git(root, "status", "--porcelain", "--", "vgpo")),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def write_record(
    path: Path, found: Mapping[str, Any], *, command: str, started: float
) -> dict[str, Any]:
    """Writes what a study found as JSON, with where it comes from.

    Args:
        path: Of the file.
        found: Settings and results.
        command: That makes the file.
        started: ``time.monotonic()`` before it.

    Returns:
        What is in the file: ``found``, ``command``, ``seconds`` and what
        :func:`provenance` gives.
    """
    record = {
        **found,
        "command": command,
        "seconds": round(time.monotonic() - started),
        **provenance(),
    }
    write_atomically(path, json.dumps(record, indent=1) + "\n")
    return record


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
