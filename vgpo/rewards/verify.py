"""A grader in a process of its own, so that no answer can hold up training.

`vgpo.rewards.worker` is that process: it compares pairs of answers, one JSON line
each. A ``Verifier`` starts it, asks it and kills it. It is a plain subprocess talking
over pipes, and not a `multiprocessing` pool, because the latter is forbidden inside
daemonic workers. Nothing is pickled, and the caller's signals are left alone.
"""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from fractions import Fraction

_MISSING = {
    "math-verify": (
        ("math_verify",),
        "accuracy_reward needs math-verify: pip install 'vgpo[train]'",
    ),
    "mathruler": (
        ("mathruler", "pylatexenc", "sympy", "tqdm"),
        "recipe_reward needs mathruler, the grader of the paper's recipe: "
        "pip install 'vgpo[recipe]', or "
        "pip install mathruler 'pylatexenc<3' sympy tqdm",
    ),
}

# Importing SymPy takes seconds, on a loaded machine many.
_START_SECONDS = 120.0

# SymPy and the parser remember what they have seen. A new process after so many
# pairs keeps that from growing over a long training run.
_PAIRS_PER_PROCESS = 10_000


class Verifier:
    """Compares answers through a grader, within a bounded time.

    One process is started at the first comparison, reused, and replaced once it
    is killed. Any number of threads may ask; they take turns. After a fork the
    child starts a process of its own.

    Args:
        cpu_seconds: Processor time that one comparison may use. It is counted by
            the operating system, so a busy machine does not change the verdict.
        wall_seconds: Real time after which the process is killed all the same;
            the only limit where the platform has no `resource` module.
        memory_bytes: Address space of the process, where it can be limited.
        grader: ``math-verify`` or ``mathruler``.
    """

    def __init__(
        self,
        cpu_seconds: int = 2,
        wall_seconds: float = 20.0,
        memory_bytes: int = 2 << 30,
        grader: str = "math-verify",
    ):
        self._grader = grader
        self._limits = (cpu_seconds, memory_bytes)
        self._wall_seconds = wall_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._pairs = 0

    def equal(
        self,
        answer: str,
        reference: str,
        tolerance: Fraction | None = None,
        seconds: float | None = None,
    ) -> bool | None:
        """Whether the grader calls them equal; None if it exceeded a limit.

        Args:
            answer: What is judged.
            reference: What is right.
            tolerance: By how much two numbers may differ, if one of them is rounded.
            seconds: Real time, if it is less than what the verifier has as its limit.
                The start of a process, in place of one that was killed, counts.

        Raises:
            ImportError: the grader is not installed.
            RuntimeError: the process could not be started.
        """
        rounded = None if tolerance is None else str(tolerance)
        request = json.dumps([answer, reference, rounded]).encode() + b"\n"
        with self._lock:
            asked = time.monotonic()
            self._make_ready()
            limit = self._wall_seconds
            if seconds is not None:
                limit = min(limit, seconds - (time.monotonic() - asked))
                if limit <= 0:
                    return None
            self._pairs += 1
            verdict = self._exchange(request, limit)
            if not verdict:
                self._stop()
                return None
            return verdict == b"true\n"

    def start(self) -> None:
        """Starts the process, if it is not running, at nobody's expense.

        Raises:
            ImportError: the grader is not installed.
            RuntimeError: the process could not be started.
        """
        with self._lock:
            self._make_ready()

    def close(self) -> None:
        """Ends the process; the next comparison starts another one."""
        with self._lock:
            self._stop()

    def forget(self) -> None:
        """Leaves the process to the parent: to be called in a forked child."""
        self._lock = threading.Lock()
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def _make_ready(self) -> None:
        if self._process is not None and (
            self._pairs == _PAIRS_PER_PROCESS or self._process.poll() is not None
        ):
            self._stop()
        if self._process is None:
            self._start()

    def _start(self) -> None:
        modules, message = _MISSING[self._grader]
        if any(importlib.util.find_spec(module) is None for module in modules):
            raise ImportError(message)
        # The child finds what this process finds, however it was started, and
        # nothing in the working directory shadows it (-P).
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "vgpo.rewards.worker",
                self._grader,
                *map(str, self._limits),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            bufsize=0,
        )
        self._pairs = 0
        if self._exchange(b"", _START_SECONDS) != b"ready\n":
            self._stop()
            raise RuntimeError(
                f"the process that runs {self._grader} did not start; its message is "
                "on the standard error stream"
            )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def _exchange(self, request: bytes, seconds: float) -> bytes:
        """The next line of the process, or nothing if it dies or is killed first."""
        process = self._process
        late = threading.Event()

        def kill():
            late.set()
            process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            rest = memoryview(request)
            while rest:
                rest = rest[process.stdin.write(rest) :]
            return process.stdout.readline()
        except BrokenPipeError:
            return b""
        except BaseException:
            # An interrupt in between would leave a verdict behind, to be read as
            # that of the next pair.
            late.set()
            raise
        finally:
            timer.cancel()
            timer.join()
            if late.is_set():
                self._stop()
