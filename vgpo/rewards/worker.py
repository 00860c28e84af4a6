"""The process behind `vgpo.rewards.verify`: math-verify or mathruler, with limits.

``python -m vgpo.rewards.worker GRADER CPU_SECONDS MEMORY_BYTES`` answers requests from
standard input. It is a module of its own, which the package does not import, so that
``-m`` runs it once.

Three things keep it harmless: the limits that the operating system sets on its time and
memory, the caller's clock, and an audit hook that lets it neither write, nor start
anything, nor use the network. mathruler needs the last: it hands answers to SymPy's
``parse_expr``, which evaluates them as Python.
"""

import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable

# Digits that are computed of two numbers, and that have to agree.
_DIGITS = 60
_AGREEING_DIGITS = 40

_FORBIDDEN = (
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "pty.",
    "ctypes.",
    "urllib.",
    "http.",
    "ftplib.",
    "smtplib.",
    "webbrowser.",
    "tempfile.",
    "fcntl.",
    "signal.",
)
_ALLOWED = frozenset(["os.listdir", "os.scandir"])  # what an import looks at


def _math_verify() -> Callable[[str, str, str | None], bool]:
    """Equality by math-verify, made exact; the import is slow and waits for this call.

    math-verify reads LaTeX and knows relations, sets and matrices. Its comparison of
    numbers is to six decimals, so numbers are compared here, to forty digits, and
    expressions with variables also at a few points.
    """
    import sympy
    from latex2sympy2_extended import NormalizationConfig
    from latex2sympy2_extended.logic import And
    from math_verify import LatexExtractionConfig, parse, verify
    from sympy.core.relational import Relational

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

    def read(text: str):
        parsed = parse(
            rf"\boxed{{{text}}}",
            extraction_config=[boxed],
            extraction_mode="first_match",
            parsing_timeout=None,
        )
        value = parsed[0] if parsed else None
        if isinstance(value, sympy.MatrixBase):
            return value.applyfunc(exact)
        return exact(value) if isinstance(value, sympy.Basic) else None

    def exact(value):
        """Decimals as the fractions that were written."""
        floats = {one: sympy.Rational(str(one)) for one in value.atoms(sympy.Float)}
        return value.xreplace(floats) if floats else value

    def equal(answer: str, reference: str, tolerance: str | None) -> bool:
        found, wanted = read(answer), read(reference)
        if found is None or wanted is None:
            return False
        if isinstance(found, sympy.MatrixBase) or isinstance(wanted, sympy.MatrixBase):
            return (
                isinstance(found, sympy.MatrixBase)
                and isinstance(wanted, sympy.MatrixBase)
                and found.shape == wanted.shape
                and all(map(same, found.flat(), wanted.flat()))
            )
        if isinstance(found, sympy.Expr) and isinstance(wanted, sympy.Expr):
            return same(found, wanted, tolerance and sympy.Rational(tolerance))
        if isinstance(wanted, (Relational, And)) and isinstance(found, sympy.Expr):
            return False  # math-verify would compare with one side alone
        if isinstance(found, (Relational, And)) and isinstance(wanted, sympy.Expr):
            return False
        return verify(wanted, found, allow_set_relation_comp=True, timeout_seconds=None)

    def same(found, wanted, tolerance=None) -> bool:
        """Whether two expressions have one value."""
        if found == wanted:
            return found not in (sympy.nan, sympy.zoo)
        # Percentages and the like are kept unevaluated until here.
        found, wanted = found.doit(), wanted.doit()
        if not found.free_symbols and not wanted.free_symbols:
            return same_number(found, wanted, tolerance)
        points = [
            {
                symbol: sympy.Rational(7 * i + 3 * j + 5, 11 + i)
                for j, symbol in enumerate(
                    sorted(found.free_symbols | wanted.free_symbols, key=str)
                )
            }
            for i in (0, 2)
        ]
        if not verify(wanted, found, timeout_seconds=None):
            return False
        for point in points:
            sides = [one.subs(point).evalf(_DIGITS) for one in (found, wanted)]
            # An integral, an unknown function: there algebra alone decides.
            if all(one.is_number and one.is_finite for one in sides) and not close(
                *sides
            ):
                return False
        return True

    def same_number(found, wanted, tolerance) -> bool:
        sides = [one.evalf(_DIGITS) for one in (found, wanted)]
        if not all(one.is_number and one.is_finite for one in sides):
            return False
        if tolerance is not None:
            irrational = not (found.is_Rational and wanted.is_Rational)
            return irrational and bool(abs(sides[0] - sides[1]) <= tolerance)
        return close(*sides) or sympy.simplify(found - wanted) == 0

    def close(one, other) -> bool:
        scale = max(abs(one), abs(other))
        return bool(abs(one - other) <= scale * sympy.Rational(10) ** -_AGREEING_DIGITS)

    # The first comparison of a kind is slow: here it is at nobody's expense.
    equal("(x+1)^2", "x^2+2x+1", None)
    equal("0.5", r"\frac{1}{2}", None)
    equal("x>3", "3<x", None)
    return equal


def _mathruler() -> Callable[[str, str, str | None], bool]:
    """The grader of the paper's recipe, as it is."""
    from mathruler.grader import grade_answer

    def equal(answer: str, reference: str, tolerance: str | None) -> bool:
        return bool(grade_answer(answer, reference))

    equal(r"2\sqrt{2}", r"\sqrt{8}", None)
    return equal


GRADERS = {"math-verify": _math_verify, "mathruler": _mathruler}


def _refuse(event: str, arguments: tuple) -> None:
    """An audit hook: nothing here may change anything outside this process."""
    if event == "open":
        _, mode, flags = arguments
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        if (mode and set("wax+") & set(mode)) or (flags and flags & writes):
            raise PermissionError("an answer may not write files")
    elif event.startswith(_FORBIDDEN) and event not in _ALLOWED:
        raise PermissionError(f"an answer may not use {event}")


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


def main(grader: str, cpu_seconds: int, memory_bytes: int) -> None:
    """Answers requests from standard input until it is closed."""
    # Whatever a library prints must not be taken for a verdict.
    verdicts = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    # An interrupt in the terminal is for the caller, who then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    sys.set_int_max_str_digits(5000)
    equal = GRADERS[grader]()
    _limit("RLIMIT_AS", memory_bytes)
    sys.dont_write_bytecode = True
    sys.addaudithook(_refuse)
    verdicts.write(b"ready\n")
    for line in sys.stdin.buffer:
        _limit("RLIMIT_CPU", math.ceil(time.process_time()) + cpu_seconds)
        try:
            verdict = equal(*json.loads(line))
        except Exception:
            verdict = False
        verdicts.write(b"true\n" if verdict else b"false\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
