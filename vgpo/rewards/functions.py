"""The reward functions, with TRL's signature ``reward(completions, **columns)``."""

import atexit
import os
import time
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction

from vgpo.rewards.boxed import last_boxed, last_boxed_plainly
from vgpo.rewards.compare import LONGEST_ANSWER, equal
from vgpo.rewards.references import strip_reference
from vgpo.rewards.verify import Verifier

# What a generation of 512 rollouts per process may cost beside its 30 minutes of time
# before the others give up waiting: a policy that writes nothing but slow answers must
# not end a run on several processes.
GRADING_SECONDS = 60.0

# mathruler reads anything; what is longer than this was not meant as an answer.
_LONGEST_FOR_MATHRULER = 4 * LONGEST_ANSWER

# The only state of the package: two processes, which start at the first comparison that
# needs them and end with the program. A forked worker starts its own.
_verifier = Verifier()
_recipe_verifier = Verifier(grader="mathruler")
for _one in (_verifier, _recipe_verifier):
    atexit.register(_one.close)
    if os.name == "posix":
        os.register_at_fork(after_in_child=_one.forget)


def accuracy_reward(
    completions: Sequence,
    answer: Sequence[str] | None = None,
    grading_seconds: float = GRADING_SECONDS,
    log_metric: Callable[[str, float], None] | None = None,
    **columns,
) -> list[float]:
    r"""1.0 where the last ``\boxed{}`` of a completion equals the reference, else 0.0.

    This is R of Eq. 2. The reference decides what is compared
    (``vgpo.rewards.kinds``):

    - a number exactly, however it is written: ``1/2``, ``0.5`` and ``\frac{1}{2}``;
      ``1,000``, ``1e3`` and ``10^3``; ``1 1/2`` and ``1.5``. Percentages and rounded
      decimals by the two rules of ``vgpo.rewards.numbers``;
    - a choice by its letter: ``B``, ``(B)``, ``B.``, ``B: red``; ``A, C`` and ``AC``;
    - a range, a score, a ratio, a date or a time as the name that it is;
    - a quantity with its unit: ``5 cm`` is ``5\text{ cm}``, and is neither ``5`` nor
      ``5 m``. Degrees and money may go without their sign;
    - tuples, intervals, sets and lists element by element;
    - formulas by math-verify: ``\sqrt{8}`` and ``2\sqrt{2}``, ``x>3`` and ``3<x``;
    - all else as words, in upper or lower case.

    What is written in Unicode, in markdown or with LaTeX's cosmetics is taken for what
    it says. Several answers to a question that has one are wrong.

    A completion without a box, or with an unclosed one, gets 0.0. So does an answer of
    more than 256 characters unless it is the reference, and one whose comparison takes
    over two seconds of processor time. Once the comparisons of one call have taken
    ``grading_seconds``, what is left and needs algebra gets 0.0, with one warning.

    Args:
        completions: Texts, or conversations whose last message is the completion.
        answer: The data set's column of reference answers, one per completion; each
            may itself stand in ``\boxed{}``, in ``$`` or in another known wrapping
            (:func:`strip_reference`).
        grading_seconds: Real time for the comparisons of one call.
        log_metric: TRL's; gets ``accuracy_reward/stopped_share``, the share of
            completions that got 0.0 because a limit stopped their comparison.
        **columns: All else that the trainer passes; ignored.

    Returns:
        One reward per completion.

    Raises:
        ValueError: no column ``answer``, one of another length, or a row of it that
            is not a text or is empty.
        ImportError: math-verify is needed and not installed.

    Example:
        >>> accuracy_reward([r"\boxed{0.5}", r"\boxed{2}", "0.5"], answer=["1/2"] * 3)
        [1.0, 0.0, 0.0]
        >>> chat = [{"role": "assistant", "content": r"so \boxed{2\sqrt{2}}"}]
        >>> accuracy_reward([chat], answer=[r"$\sqrt{8}$"])
        [1.0]
    """
    budget = _Budget(_verifier, grading_seconds)

    def right(boxed: str, reference: str) -> bool:
        return boxed == reference or equal(
            boxed, strip_reference(reference), budget.ask
        )

    return _graded(
        "accuracy_reward", completions, answer, last_boxed, right, budget, log_metric
    )


def recipe_reward(
    completions: Sequence,
    answer: Sequence[str] | None = None,
    grading_seconds: float = GRADING_SECONDS,
    log_metric: Callable[[str, float], None] | None = None,
    **columns,
) -> list[float]:
    r"""1.0 where mathruler, the grader of the paper's recipe, says so, else 0.0.

    For who wants the numbers of the released code. It grades text by text after
    throwing units, ``%``, ``$`` and degrees away, and what is left by SymPy: ``5 cm``
    is ``5`` and ``5 m``, ``10-20`` is ``20-30``, and ``0.333333`` is not ``1/3``.
    How often both graders are wrong on the same table of answers is recorded
    (``results/grading/confusion.json``).

    Only ``\boxed{`` without a blank opens a box. A completion without one gets 0.0
    (mathruler itself would take it for the answer ``None``). mathruler evaluates
    answers as Python; here it does so in a process that may neither write nor start
    anything, with the limits of :func:`accuracy_reward`.

    Args:
        completions: Texts, or conversations whose last message is the completion.
        answer: The data set's column of reference answers, one per completion, as
            mathruler reads them: without wrapping.
        grading_seconds: Real time for the comparisons of one call.
        log_metric: TRL's; gets ``recipe_reward/stopped_share``.
        **columns: All else that the trainer passes; ignored.

    Returns:
        One reward per completion.

    Raises:
        ValueError: no column ``answer``, one of another length, or a row of it that
            is not a text or is empty.
        ImportError: mathruler is not installed.

    Example:
        >>> recipe_reward([r"\boxed{5\text{ cm}}"], answer=["5"])  # doctest: +SKIP
        [1.0]
    """
    budget = _Budget(_recipe_verifier, grading_seconds)

    def right(boxed: str, reference: str) -> bool:
        if max(len(boxed), len(reference)) > _LONGEST_FOR_MATHRULER:
            return boxed == reference
        return budget.ask(boxed, reference)

    return _graded(
        "recipe_reward",
        completions,
        answer,
        last_boxed_plainly,
        right,
        budget,
        log_metric,
    )


def format_reward(completions: Sequence, **columns) -> list[float]:
    r"""1.0 for ``<think>...</think>`` with a ``\boxed{}`` answer after it, else 0.0.

    This is what the paper's prompt asks for; the paper does not reward it. As in TRL's
    ``think_format_reward``, the completion begins with ``<think>``, opens it once and
    closes it. Where a chat template has opened it already, the completion only closes
    it, and that is right, too.

    Args:
        completions: Texts, or conversations whose last message is the completion.
        **columns: All else that the trainer passes; ignored.

    Returns:
        One reward per completion.

    Raises:
        ValueError: ``completions`` is not a list of texts or conversations.

    Example:
        >>> format_reward([r"<think>2+2</think> \boxed{4}", r"\boxed{4}"])
        [1.0, 0.0]
        >>> format_reward([r"2+2</think> \boxed{4}"])
        [1.0]
    """
    rewards = []
    for text in _texts(completions):
        thought, closed, rest = text.removeprefix("<think>").partition("</think>")
        opened_once = "<think>" not in thought and "<think>" not in rest
        right = bool(closed) and opened_once and last_boxed(rest) is not None
        rewards.append(float(right))
    return rewards


def soft_overlong_penalty(max_completion_length: int, cache: int) -> Callable:
    """DAPO's penalty on length: a reward function with values in [-1, 0].

    0 up to ``max_completion_length - cache`` tokens, from there linearly down to -1
    at ``max_completion_length``, and -1 beyond (Eq. 13 of DAPO, arXiv 2503.14476).
    It is TRL's ``get_soft_overlong_punishment``, and counts ``completion_ids``.

    Args:
        max_completion_length: Tokens at which the penalty is full; the trainer's own
            ``max_completion_length`` is the natural choice.
        cache: Tokens over which the penalty grows; DAPO has 4,096 of 20,480. With 0
            only what is longer than ``max_completion_length`` is penalised.

    Returns:
        A reward function, which can be pickled.

    Raises:
        ValueError: ``max_completion_length`` below 1, or ``cache`` outside
            ``[0, max_completion_length]``.

    Example:
        >>> penalty = soft_overlong_penalty(max_completion_length=100, cache=20)
        >>> penalty(completion_ids=[[1] * 80, [1] * 90, [1] * 100])
        [0.0, -0.5, -1.0]
    """
    if max_completion_length < 1:
        raise ValueError(
            f"max_completion_length: must be at least 1, got {max_completion_length}."
        )
    if not 0 <= cache <= max_completion_length:
        raise ValueError(
            f"cache: must be in [0, {max_completion_length}], that is, at most "
            f"max_completion_length; got {cache}."
        )
    from trl.rewards import get_soft_overlong_punishment

    return get_soft_overlong_punishment(max_completion_length, cache)


# -- grading ----------------------------------------------------------------------


class _Stopped(Exception):
    """A limit has ended a comparison: nobody knows what its verdict would be."""


class _Budget:
    """A verifier whose answers to one call may take so much time together."""

    def __init__(self, verifier: Verifier, seconds: float):
        self.verifier = verifier
        self.seconds = seconds
        self.end: float | None = None

    def ask(
        self, answer: str, reference: str, tolerance: Fraction | None = None
    ) -> bool:
        """The verifier's verdict, or `_Stopped`."""
        if self.end is None:
            # The first start imports SymPy, which is no fault of these answers.
            self.verifier.start()
            self.end = time.monotonic() + self.seconds
        left = self.end - time.monotonic()
        if left <= 0:
            raise _Stopped
        verdict = self.verifier.equal(answer, reference, tolerance, left)
        if verdict is None:
            raise _Stopped
        return verdict

    @property
    def is_spent(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end


def _graded(
    name: str,
    completions: Sequence,
    answer: Sequence[str] | None,
    extract: Callable[[str], str | None],
    right: Callable[[str, str], bool],
    budget: _Budget,
    log_metric: Callable[[str, float], None] | None,
) -> list[float]:
    """Rewards of completions, each distinct pair of answers compared once."""
    texts = _texts(completions)
    _check_references(name, answer, len(texts))
    # Rollouts of one prompt often agree. None: stopped.
    verdicts: dict[tuple[str, str], bool | None] = {}
    rewards, stopped = [], 0
    for text, reference in zip(texts, answer, strict=True):
        boxed = extract(text)
        if boxed is None:
            rewards.append(0.0)
            continue
        pair = boxed.strip(), reference.strip()
        if pair not in verdicts:
            try:
                verdicts[pair] = right(*pair)
            except _Stopped:
                verdicts[pair] = None
        stopped += verdicts[pair] is None
        rewards.append(float(verdicts[pair] or 0.0))
    if stopped and budget.is_spent:
        warnings.warn(
            f"{name}: the comparisons of {len(texts)} answers took more than "
            f"{budget.seconds:g} s; {stopped} of them got 0.0 without a verdict. Raise "
            "grading_seconds if the policy's answers are worth it.",
            RuntimeWarning,
            stacklevel=3,
        )
    if log_metric is not None and texts:
        log_metric(f"{name}/stopped_share", stopped / len(texts))
    return rewards


def _check_references(name: str, answer: Sequence[str] | None, count: int) -> None:
    if answer is None or isinstance(answer, str):
        raise ValueError(
            f"answer: {name} needs a column of this name in the data set, with "
            "one reference answer per row; rename the column that holds them."
        )
    if len(answer) != count:
        raise ValueError(
            f"answer: {len(answer)} reference answers for {count} completions; "
            "there must be one for each."
        )
    for row, reference in enumerate(answer):
        if not isinstance(reference, str) or not reference.strip():
            raise ValueError(
                f"answer: row {row} is {reference!r}, not a reference answer; drop "
                "such rows, or turn them into text (vgpo.rewards.parse_reference)."
            )


def _texts(completions: Sequence) -> list[str]:
    """The completions as plain texts."""
    if isinstance(completions, str):
        raise ValueError("completions: must be a list of completions, not one text.")
    return [_text(completion) for completion in completions]


def _text(completion) -> str:
    """One completion as plain text: of a conversation, its last message."""
    if isinstance(completion, str):
        return completion
    try:
        content = completion[-1]["content"]
        if content is None:
            return ""
        if isinstance(content, str):
            return content
        return "".join(part["text"] for part in content if part["type"] == "text")
    except (TypeError, KeyError, IndexError) as error:
        raise ValueError(
            "completions: each must be a text or a conversation, a list of messages "
            f"with 'role' and 'content'; got {str(completion)[:80]!r}."
        ) from error
