r"""Rewards: what counts as the right answer, and what no answer can do."""

import importlib.util
import inspect
import multiprocessing
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vgpo.rewards import (
    accuracy_reward,
    format_reward,
    functions,
    last_boxed,
    soft_overlong_penalty,
)
from vgpo.rewards.names import is_pair
from vgpo.rewards.verify import Verifier

# A hang must fail, and a machine under load must not.
pytestmark = pytest.mark.timeout(120)


def right(boxed: str, reference: str) -> bool:
    """Whether a completion with this in its box is rewarded."""
    (reward,) = accuracy_reward([rf"so \boxed{{{boxed}}}"], answer=[reference])
    assert reward in (0.0, 1.0)
    return reward == 1.0


def no_process():
    """In place of the start of math-verify's process."""
    raise AssertionError("math-verify was asked")


@pytest.fixture(scope="module")
def verifier():
    """A process of the tests' own, to be mistreated."""
    verifier = Verifier(memory_bytes=1 << 30)
    yield verifier
    verifier.close()


@pytest.fixture
def alone(monkeypatch):
    """math-verify must not be asked."""
    verifier = Verifier()
    monkeypatch.setattr(verifier, "_start", no_process)
    monkeypatch.setattr(functions, "_verifier", verifier)


def test_every_reward_has_an_example():
    documented = [accuracy_reward, format_reward, soft_overlong_penalty, last_boxed]
    assert all(">>>" in inspect.getdoc(function) for function in documented)


SAME_WITHOUT_ALGEBRA = [
    ("12", "12"),
    (" 12 ", "12"),
    ("0.5", "1/2"),
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac{2}{4}", "1/2"),
    (r"-\frac{1}{2}", "-0.50"),
    (r"\frac{-1}{2}", "−1/2"),
    ("1,000", "1000"),
    ("1000", "1,000.0"),
    ("007", "7"),
    (".5", "0.5"),
    ("12.", "12"),
    ("+3", "3"),
    ("Red", "red"),
    (r"\text{red}", "red"),
    (r"\textbf{B}", "B"),
    ("b", "B"),
    ("light  blue", "Light blue"),
    ("$7$", "7"),
    ("7\\ ", "7"),  # LaTeX's own blank, of which grading strips the blank
    ("7", "7\\ "),
    (r"5\ \text{cm}\ ", "5 cm"),
    (r"\{1, 2\}\ ", r"\{2, 1\}"),
    (r"\(7\)", "$$7$$"),
    ("30°", r"30^\circ"),
    ("7", r"\boxed{7}"),
    ("7", r"The answer is $\boxed{7}$."),
    (r"\boxed{7}", "7"),
    ("x" * 300, "x" * 300),
    ("9^{9^{9^9}}", "9^{9^{9^9}}"),
]

DIFFERENT_WITHOUT_ALGEBRA = [
    ("12", "21"),
    ("1/2", "2"),
    ("0.33", "1/3"),
    ("0.67", r"\frac{2}{3}"),
    ("-5", "5"),
    ("1,000", "1"),
    ("no", "on"),
    ("north", "thorn"),
    ("A", "B"),
    ("12345678901234567890", "12345678901234567891"),
    ("", "5"),
    (" ", "5"),
    ("5" + " " * 300, "6"),
]


@pytest.mark.parametrize(("boxed", "reference"), SAME_WITHOUT_ALGEBRA)
def test_plain_answers_are_right(alone, boxed, reference):
    assert right(boxed, reference)


@pytest.mark.parametrize(("boxed", "reference"), DIFFERENT_WITHOUT_ALGEBRA)
def test_plain_answers_are_wrong(alone, boxed, reference):
    assert not right(boxed, reference)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(-(10**6), 10**6),
    st.integers(1, 999),
    st.integers(1, 99),
    st.integers(1, 50),
)
def test_fractions_are_right_whatever_they_are_expanded_by(p, q, k, off):
    assume(not is_pair(f"{p}/{q}"))  # 120/80 is a name
    expanded = rf"\frac{{{k * p}}}{{{k * q}}}"
    assert right(expanded, f"{p}/{q}")
    assert not right(expanded, f"{p + off}/{q}")


@pytest.mark.parametrize(
    ("boxed", "reference", "equal"),
    [
        (r"2\sqrt{2}", r"\sqrt{8}", True),
        (r"\frac{\sqrt3}{2}", r"\sqrt{3}/2", True),
        ("(x+1)^2", "x^2+2x+1", True),
        ("3<x", "x>3", True),
        ("(1, 2)", "(1,2)", True),
        ("(2,1)", "(1,2)", False),
        (r"\{2,1\}", r"\{1,2\}", True),
        (r"50\%", "0.5", True),
        ("30", r"30^\circ", True),
        ("(B)", "B", True),
        ("C", "(B)", False),
        ("x=5", "5", True),
        ("0.333333", "1/3", True),
        (r"3.14", r"\pi", False),
        ("5 cm", "5", False),
        ("5", r"5\text{ cm}", False),
        ("5 m", "5 cm", False),
        (r"5\text{ cm}", r"5\,\text{cm}", True),
        (r"1\frac{1}{2}", "1.5", True),
        ("two", "2", False),
        (r"\infty", "0", False),
        ("5, 6", "5", False),
        (r"\text{5 or 6}", "5", False),
    ],
)
def test_algebra(boxed, reference, equal):
    assert right(boxed, reference) is equal


def test_the_last_box_counts_and_without_one_there_is_no_reward(alone):
    texts = [
        r"\boxed{1}, no: \boxed{2}",
        r"\boxed{2}, no: \boxed{1}",
        "2",
        "",
        r"\boxed{2",
        r"\boxed{2} and \boxed{",
    ]
    assert accuracy_reward(texts, answer=["2"] * 6) == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_conversations(alone):
    text = r"\boxed{2}"
    plain = [{"role": "assistant", "content": text}]
    parts = [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": r"\boxed"},
                {"type": "image"},
                {"type": "text", "text": "{2}"},
            ],
        }
    ]
    turns = [
        {"role": "assistant", "content": r"\boxed{3}"},
        {"role": "tool", "content": "wrong"},
        {"role": "assistant", "content": text},
    ]
    silent = [{"role": "assistant", "content": None}]
    completions = [text, plain, parts, turns, silent]
    got = accuracy_reward(completions, answer=["2"] * 5)
    assert got == [1.0, 1.0, 1.0, 1.0, 0.0]


def test_the_trainers_other_columns_are_ignored(alone):
    got = accuracy_reward(
        prompts=["?"],
        completions=[[{"role": "assistant", "content": r"\boxed{2}"}]],
        completion_ids=[[1, 2]],
        answer=["2"],
        problem=["?"],
        trainer_state=None,
        log_extra=print,
        log_metric=print,
    )
    assert got == [1.0]
    assert accuracy_reward([], answer=[]) == []


def test_rollouts_that_agree_are_compared_once(monkeypatch):
    asked = []

    class Recorder(Verifier):
        def start(self):
            pass

        def equal(self, answer, reference, tolerance, seconds):
            asked.append((answer, reference))
            return True

    monkeypatch.setattr(functions, "_verifier", Recorder())
    completions = [r"\boxed{2\sqrt{2}}"] * 8 + [r"\boxed{8^{0.5}}"] * 8
    assert accuracy_reward(completions, answer=[r"\sqrt{8}"] * 16) == [1.0] * 16
    assert sorted(asked) == [("2\\sqrt{2}", r"\sqrt{8}"), ("8^{0.5}", r"\sqrt{8}")]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "answer: accuracy_reward needs a column"),
        ({"answer": "22"}, "answer: accuracy_reward needs a column"),
        ({"answer": ["2"]}, "answer: 1 reference answers for 2 completions"),
        ({"answer": ["2", None]}, "answer: row 1 is None"),
        ({"answer": ["2", " "]}, "answer: row 1 is ' '"),
        ({"answer": [2, "2"]}, "answer: row 0 is 2"),
    ],
)
def test_bad_references(columns, message):
    with pytest.raises(ValueError, match=message):
        accuracy_reward(["a", "b"], **columns)


@pytest.mark.parametrize("reward", [accuracy_reward, format_reward])
@pytest.mark.parametrize("bad", ["text", [3], [[]], [[{"role": "assistant"}]], [None]])
def test_bad_completions(reward, bad):
    with pytest.raises(ValueError, match=r"^completions: "):
        reward(bad, answer=["2"] * len(bad))


ATTACKS = {
    "import": "__import__('os').system('true')",
    "subclasses": "().__class__.__bases__[0].__subclasses__()",
    "write18": r"\write18{true}",
    "input": r"\input{/etc/passwd}",
    "operator": r"\operatorname{eval}(42)",
    "tower of constants": r"\pi^{\pi^{\pi^{\pi^{\pi}}}}",
    "tower of exponentials": r"\exp(\exp(\exp(\exp(9))))",
    "undone sum": r"\sum_{n=1}^{10000000} \frac{1}{n!}",
    "undone integral": r"\int_0^\infty \frac{\sin(x^x)}{x^{x}}\,dx",
    "undone limit": r"\lim_{x\to 0} 42",
    "words": "and A " * 40,
    "letters": "A, " * 80,
    "units": "42 " + "cm " * 80,
    "times": "4:" * 100,
    "dashes": "4-" * 100,
    "nested braces": "{" * 100 + "1" + "}" * 100,
    "deep fractions": r"\frac{1}{" * 20 + "1" + "}" * 20,
    "tower": "9^{9^{9^9}}",
    "tower in bare carets": "9^9^9^9",
    "tower in Python": "9**9**9**9",
    "big exponent": "7^{-9999999999}",
    "factorial": "100000000!",
    "factorial in braces": "{(100000000)}!",
    "factorials": "9!!!",
    "floating exponent": "1e999999999",
    "many decimals": "0." + "1" * 240,
    "too many decimals": "0." + "1" * 1_000_000,
    "megabytes": "1+" * 1_000_000 + "1",
    "megabytes of braces": "{}" * 1_000_000,
    "unbalanced brackets": r"\left(" * 40,
    "unbalanced environments": r"\begin{matrix}" * 15,
    "unfinished commands": r"\frac" * 40,
    "backslashes": "\\" * 200,
    "null byte": "4\x002",
    "null bytes": "\x00" * 200,
    "lone surrogate": "\ud800",
    "right to left": "\u202e24",
    "line breaks": "4\n2",
    "not a protocol": '"]\n["42", "42',
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_attacks_get_nothing(attack):
    assert not right(attack, "42")


@pytest.mark.parametrize(
    "completion",
    [
        r"\boxed{" * 1_000_000,
        r"\boxed{" * 1_000_000 + "1" + "}" * 1_000_000,
        r"\boxed{41}" * 1_000_000,
        r"\boxed{" + "{" * 1_000_000,
        "<think>" * 1_000_000,
        "<think></think>" * 1_000_000,
        "\x00" * 1_000_000,
    ],
    ids=["open", "nested", "repeated", "braces", "thinks", "empty thinks", "nulls"],
)
def test_long_completions_get_nothing(alone, completion):
    assert accuracy_reward([completion], answer=["42"]) == [0.0]
    assert format_reward([completion]) == [0.0]


# They look harmless, and are not: only the limits of the process stop them.
SLOW = "(99^{4})!"


def test_the_verdict_after_a_killed_one_is_right():
    pairs = [(SLOW, "42"), (r"2\sqrt{2}", r"\sqrt{8}"), (r"2\sqrt{3}", r"\sqrt{8}")]
    texts = [rf"\boxed{{{boxed}}}" for boxed, _ in pairs]
    references = [reference for _, reference in pairs]
    assert accuracy_reward(texts, answer=references) == [0.0, 1.0, 0.0]


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on processor time")
def test_processor_time_is_bounded():
    verifier = Verifier(cpu_seconds=1, wall_seconds=100_000.0)
    try:
        assert not verifier.equal(SLOW, "42")
    finally:
        verifier.close()


def test_real_time_is_bounded():
    verifier = Verifier(cpu_seconds=100_000, wall_seconds=0.5)
    try:
        assert not verifier.equal(SLOW, "42")
    finally:
        verifier.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads another process's limits")
def test_memory_is_bounded(verifier):
    import resource

    assert verifier.equal("x+1", "1+x")
    soft, _ = resource.prlimit(verifier._process.pid, resource.RLIMIT_AS)
    assert soft == 1 << 30


LATEX = [
    *r"0123456789abxyi+-*/^_!,.:;=<>|()[]{}$%& ",
    *(r"\frac", r"\sqrt", r"\text", r"\left(", r"\right]", r"\pi", r"\infty"),
    *(r"\cdot", r"\\", "\x00", "é"),
]


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    st.lists(
        st.sampled_from(LATEX),
        max_size=12,
    ).map("".join)
)
def test_whatever_is_in_the_box_there_is_a_verdict(boxed):
    assert not right(boxed, r"\sqrt{1234577}")
    if boxed.strip() and last_boxed(rf"\boxed{{{boxed}}}") == boxed:
        assert right(boxed, boxed)


def slow_answers(count: int) -> list[str]:
    return [rf"\boxed{{(99^{{{3 + n}}})!}}" for n in range(count)]


@pytest.mark.filterwarnings("error")
def test_the_comparisons_of_a_call_have_a_bound():
    """Once time is up, what needs algebra gets nothing, and the rest its due."""
    good = [r"\boxed{5}", r"\boxed{2\sqrt{2}}"]
    texts = [*slow_answers(40), *good]
    references = ["42"] * 40 + ["5", r"\sqrt{8}"]
    logged = {}
    with pytest.warns(
        RuntimeWarning, match=r"42 answers took more than 0\.01 s; 41 of"
    ):
        got = accuracy_reward(
            texts,
            answer=references,
            grading_seconds=0.01,
            log_metric=logged.__setitem__,
        )
    assert got == [0.0] * 40 + [1.0, 0.0]
    assert logged == {"accuracy_reward/stopped_share": 41 / 42}
    # The next call has time again, and no warning.
    assert accuracy_reward(good, answer=["5", r"\sqrt{8}"]) == [1.0, 1.0]


class Clocked(Verifier):
    """Verdicts and starts that take as long as they are said to, by a clock of ours."""

    now, starts, asked = 0.0, 0, 0

    def _start(self):
        self.starts += 1
        self.now += 5.0
        self._process = Mock(poll=Mock(return_value=None))

    def _exchange(self, request, seconds):
        self.asked += 1
        # Hostile: whatever time it is given, it takes, up to the 2 s of a processor.
        self.now += min(seconds, 2.0)
        return b""


@pytest.mark.parametrize("budget", [1.0, 6.0, 60.0])
def test_no_number_of_hostile_answers_outlasts_the_time_of_a_call(budget, monkeypatch):
    verifier = Clocked()
    monkeypatch.setattr(functions, "_verifier", verifier)
    monkeypatch.setattr(time, "monotonic", lambda: verifier.now)
    with pytest.warns(RuntimeWarning, match=rf"took more than {budget:g} s; 300 of"):
        got = accuracy_reward(
            slow_answers(300), answer=["42"] * 300, grading_seconds=budget
        )
    assert got == [0.0] * 300
    # The first start is at nobody's expense; a later one is not interrupted, and
    # nothing is compared once it has ended too late.
    assert verifier.now <= 5.0 + budget + 5.0
    assert verifier.asked <= max(1, (budget + 5.0) / 7.0)


def test_stopped_comparisons_are_logged():
    logged = {}
    texts = [*slow_answers(1), r"\boxed{2\sqrt{2}}", r"\boxed{1}", "no box"]
    references = ["42", r"\sqrt{8}", "1", "1"]
    got = accuracy_reward(texts, answer=references, log_metric=logged.__setitem__)
    assert got == [0.0, 1.0, 1.0, 0.0]
    assert logged == {"accuracy_reward/stopped_share": 0.25}
    accuracy_reward([], answer=[], log_metric=logged.__setitem__)
    accuracy_reward(texts[2:], answer=["1", "1"], log_metric=logged.__setitem__)
    assert logged == {"accuracy_reward/stopped_share": 0.0}


def test_threads_get_their_own_verdicts():
    numbers = range(2, 26)
    texts = [[rf"\boxed{{{n}\sqrt{{2}}}}"] for n in numbers]
    references = [[rf"\sqrt{{{2 * n * n + n % 2}}}"] for n in numbers]
    with ThreadPoolExecutor(4) as threads:
        got = list(threads.map(accuracy_reward, texts, references))
    assert got == [[float(n % 2 == 0)] for n in numbers]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="has no such signals")
def test_the_callers_signals_are_left_alone():
    handler = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        mine = signal.getsignal(signal.SIGALRM)
        signal.setitimer(signal.ITIMER_REAL, 10_000)
        assert right(r"2\sqrt{2}", r"\sqrt{8}")
        assert signal.getsignal(signal.SIGALRM) is mine
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def is_daemon() -> bool:
    return multiprocessing.current_process().daemon


@pytest.mark.parametrize(
    "method", sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods()))
)
def test_daemonic_workers_have_their_own_process(method):
    # The parent's is running, and busy: a forked worker inherits pipes and lock.
    assert right(r"2\sqrt{2}", r"\sqrt{8}")
    texts = [r"\boxed{3\sqrt{2}}", r"\boxed{3\sqrt{2}}"]
    references = [r"\sqrt{18}", r"\sqrt{19}"]
    with functions._verifier._lock:
        pool = multiprocessing.get_context(method).Pool(1)
    with pool as workers:
        assert workers.apply(is_daemon)
        theirs = workers.apply_async(accuracy_reward, (texts, references))
        assert accuracy_reward(texts, references) == [1.0, 0.0]
        assert theirs.get() == [1.0, 0.0]


def test_an_interrupted_verdict_is_not_taken_for_the_next(verifier):
    class Interrupted:
        def __init__(self, stream):
            self.close = stream.close

        def readline(self):
            raise KeyboardInterrupt

    assert verifier.equal("x+1", "1+x")
    verifier._process.stdout = Interrupted(verifier._process.stdout)
    with pytest.raises(KeyboardInterrupt):
        verifier.equal("x+1", "1+x")
    assert not verifier.equal("x+1", "x+2")


def test_a_process_that_died_is_replaced(verifier):
    assert verifier.equal("x+1", "1+x")
    verifier._process.kill()
    verifier._process.wait()
    assert verifier.equal("x+1", "1+x")


def test_the_process_ends_with_its_parent():
    script = (
        "import os, vgpo.rewards.verify as v; verifier = v.Verifier(); "
        "print(verifier.equal('x+1', '1+x'), flush=True); os._exit(0)"
    )
    # Returns once nobody holds the error stream, which the process inherits.
    done = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert done.stdout.split() == [b"True"]


def test_without_math_verify_plain_answers_are_judged_and_others_raise(monkeypatch):
    monkeypatch.setattr(functions, "_verifier", Verifier())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert right("0.5", "1/2")
    with pytest.raises(ImportError, match="math-verify"):
        right(r"2\sqrt{2}", r"\sqrt{8}")


def test_a_process_that_does_not_start_is_an_error_and_no_verdict(monkeypatch):
    monkeypatch.setattr(functions, "_verifier", Verifier())
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises((RuntimeError, OSError)):
        right(r"2\sqrt{2}", r"\sqrt{8}")


def test_importing_needs_neither_trl_nor_math_verify():
    script = (
        "import sys, vgpo.rewards; "
        "print(sorted({'trl', 'torch', 'sympy', 'math_verify'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert done.stdout.split() == [b"[]"]


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        (r"<think>2+2</think> \boxed{4}", 1.0),
        ("<think>\n2+2\n</think>\n\nSo \\boxed{\\frac{8}{2}}.", 1.0),
        (r"<think></think>\boxed{4}", 1.0),
        (r"<think>maybe \boxed{3}</think> \boxed{4}", 1.0),
        (r"<think>2+2 \boxed{4}</think>", 0.0),
        (r"<think>2+2</think> 4", 0.0),
        (r"<think>2+2</think> \boxed{4", 0.0),
        (r"<think>2+2 \boxed{4}", 0.0),
        (r"2+2</think> \boxed{4}", 1.0),
        (r"\boxed{4} <think>2+2</think>", 0.0),
        (r"well <think>2+2</think> \boxed{4}", 0.0),
        (r"<think>a</think> <think>b</think> \boxed{4}", 0.0),
        ("", 0.0),
    ],
)
def test_format(text, reward):
    chat = [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
    assert format_reward([text, chat], prompts=["?"] * 2) == [reward, reward]


def test_soft_overlong_penalty_is_equation_13_of_dapo():
    longest, cache = 20, 8
    lengths = range(0, 26)
    expected = []
    for length in lengths:
        if length <= 12:
            expected.append(0.0)
        elif length <= 20:
            expected.append((12 - length) / 8)
        else:
            expected.append(-1.0)
    penalty = soft_overlong_penalty(longest, cache)
    ids = [[0] * length for length in lengths]
    assert penalty(completion_ids=ids, completions=None, prompts=None) == expected
    assert pickle.loads(pickle.dumps(penalty))(completion_ids=ids) == expected


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 0), "max_completion_length"), ((10, 11), "cache"), ((10, -1), "cache")],
)
def test_bad_lengths(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        soft_overlong_penalty(*arguments)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{12}", "12"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} \boxed{2}", "2"),
        (r"\boxed{1} \boxed{2", None),
        (r"\boxed{}", ""),
        ("boxed{1}", None),
    ],
)
def test_last_boxed(text, content):
    assert last_boxed(text) == content
