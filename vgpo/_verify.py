"""math-verify in a process of its own, so that no answer can hold up training.

``python -m vgpo._verify`` compares pairs of answers, one JSON line each; a
``Verifier`` starts it, asks it and kills it. It is a plain subprocess talking over
pipes, and not a `multiprocessing` pool, because the latter is forbidden inside
daemonic workers. Nothing is pickled, and the caller's signals are left alone.
"""

import importlib.util
import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time

# Importing SymPy takes seconds, on a loaded machine many.
_START_SECONDS = 120.0

# SymPy and the parser remember what they have seen. A new process after so many
# pairs keeps that from growing over a long training run.
_PAIRS_PER_PROCESS = 10_000


class Verifier:
    """Compares answers through math-verify, within a bounded time.

    One process is started at the first comparison, reused, and replaced once it
    is killed. Any number of threads may ask; they take turns. After a fork the
    child starts a process of its own.

    Args:
        cpu_seconds: Processor time that one comparison may use. It is counted by
            the operating system, so a busy machine does not change the verdict.
        wall_seconds: Real time after which the process is killed all the same;
            the only limit where the platform has no `resource` module.
        memory_bytes: Address space of the process, where it can be limited.
    """

    def __init__(
        self,
        cpu_seconds: int = 2,
        wall_seconds: float = 20.0,
        memory_bytes: int = 2 << 30,
    ):
        self._limits = (cpu_seconds, memory_bytes)
        self._wall_seconds = wall_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._pairs = 0

    def equal(self, answer: str, reference: str) -> bool:
        """Whether math-verify calls them equal; False if it exceeds a limit.

        Raises:
            ImportError: math-verify is not installed.
            RuntimeError: the process could not be started.
        """
        pair = json.dumps([answer, reference]).encode() + b"\n"
        with self._lock:
            if self._process is not None and (
                self._pairs == _PAIRS_PER_PROCESS or self._process.poll() is not None
            ):
                self._stop()
            if self._process is None:
                self._start()
            self._pairs += 1
            verdict = self._exchange(pair, self._wall_seconds)
            if not verdict:
                self._stop()
            return verdict == b"true\n"

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

    def _start(self) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise ImportError(
                "accuracy_reward needs math-verify: pip install 'vgpo[train]'"
            )
        # The child finds what this process finds, however it was started, and
        # nothing in the working directory shadows it (-P).
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "vgpo._verify", *map(str, self._limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            bufsize=0,
        )
        self._pairs = 0
        if self._exchange(b"", _START_SECONDS) != b"ready\n":
            self._stop()
            raise RuntimeError(
                "the process that runs math-verify did not start; its message is on "
                "the standard error stream"
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


def _comparison():
    """The function that compares; the import is slow and waits for this call."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    boxed = LatexExtractionConfig(
        boxed_match_priority=0,
        # math-verify's own defaults, but for the units: 5 m is not 5 cm.
        normalization_config=NormalizationConfig(
            basic_latex=True,
            units=False,
            malformed_operators=True,
            nits=True,
            boxed="all",
            equations=False,
        ),
    )

    def read(text: str) -> list:
        return parse(
            rf"\boxed{{{text}}}",
            extraction_config=[boxed],
            extraction_mode="first_match",
            parsing_timeout=None,
        )

    def equal(answer: str, reference: str) -> bool:
        return verify(read(reference), read(answer), timeout_seconds=None)

    return equal


def _limit(kind: str, amount: int) -> None:
    """Lowers a limit of this process, where the platform has it."""
    try:
        import resource

        limit = getattr(resource, kind)
        _, most = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            amount = min(amount, most)
        resource.setrlimit(limit, (amount, most))
    except (ImportError, AttributeError, OSError, ValueError):
        # No such limit here: the caller's clock is the one that remains.
        return


def main(cpu_seconds: int, memory_bytes: int) -> None:
    """Answers pairs from standard input until it is closed."""
    # Whatever a library prints must not be taken for a verdict.
    verdicts = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    # An interrupt in the terminal is for the caller, who then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    equal = _comparison()
    _limit("RLIMIT_AS", memory_bytes)
    # The first comparison of a kind is slow: here it is at nobody's expense.
    equal("(x+1)^2", "x^2+2x+1")
    equal("0.5", r"\frac{1}{2}")
    verdicts.write(b"ready\n")
    for line in sys.stdin.buffer:
        _limit("RLIMIT_CPU", math.ceil(time.process_time()) + cpu_seconds)
        try:
            verdict = equal(*json.loads(line))
        except Exception:
            verdict = False
        verdicts.write(b"true\n" if verdict else b"false\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
