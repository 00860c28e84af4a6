"""The Makefile's commands, as a user gives them in the checkout."""

import os
import subprocess

from tests.conftest import ROOT


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """What a command said; the limit on its time is that of the test."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
