"""The process behind `vgpo.rewards.verify`: math-verify, with its limits.

``python -m vgpo.rewards.worker CPU_SECONDS MEMORY_BYTES`` answers pairs from standard
input. It is a module of its own, which the package does not import, so that ``-m``
runs it once.
"""

import json
import logging
import math
import os
import signal
import sys
import time


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
