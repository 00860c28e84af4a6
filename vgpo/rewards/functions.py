r"""Rewards for completions that end in a ``\boxed{}`` answer.

They have TRL's signature, ``reward(completions, **columns) -> list[float]``, and
so can be given to any of its trainers. The paper rewards accuracy alone; format
and length are there for the recipes of GRPO and DAPO that use them.

A policy under training writes anything: towers of powers, megabytes, null bytes.
``accuracy_reward`` therefore compares equal texts, words and plain numbers itself,
refuses what is plainly too big, and leaves the rest to math-verify in a process of
its own, with limits on its time and memory (`vgpo.rewards.verify`). That process is the
module's only state. It starts at the first comparison that needs it, serves all
threads in turn, and ends with the program; a forked or spawned worker, daemonic or
not, gets its own.
"""

import atexit
import os
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from vgpo.rewards.verify import Verifier

# No reference answer of a short-answer data set comes near it; an answer that long
# is right only if it is the reference, letter by letter.
_LONGEST_ANSWER = 256

# math-verify takes numbers for equal that agree to six decimals. Farther apart than
# this they differ for it, too, and it need not be asked.
_SURELY_DIFFERENT = Fraction(1, 100_000)

_DEEPEST_NESTING = 10

_MATH_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf)\s*\{([^{}\\]*)\}")
_WORDS = re.compile(r"[^\W\d_]+(?:[ -][^\W\d_]+)*")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?")
_RATIO = re.compile(r"([-+]?)([0-9]+) ?/ ?([0-9]+)")
_FRAC = re.compile(r"([-+]?) ?\\[dt]?frac ?\{([-+]?[0-9]+)\} ?\{([0-9]+)\}")

# Not a fence, the limits of the process are that: these, and deep nesting, are what
# a policy finds first, and each would cost a killed process.
_TOO_BIG = re.compile(
    r"""
      (?:\^|\*\*) [\s{(+-]* [0-9]{5,}               # 10^{100000}
    | [0-9][\s})]* (?:\^|\*\*) [\s{(+-]* [0-9.]+    # 9^{9^{9...
      [\s}]* (?:\^|\*\*) [\s{(+-]* [0-9]
    | [0-9]{4,} [\s})\]]* !                         # 1000!
    | ! \s* !                                       # 9!!
    """,
    re.VERBOSE,
)

_verifier = Verifier()
atexit.register(_verifier.close)
if os.name == "posix":
    os.register_at_fork(after_in_child=_verifier.forget)


def accuracy_reward(
    completions: Sequence, answer: Sequence[str] | None = None, **columns
) -> list[float]:
    r"""1.0 where the last ``\boxed{}`` of a completion equals the reference, else 0.0.

    This is R of Eq. 2. Answers are equal if they are

    - the same text, or the same words in upper or lower case;
    - the same number, however written: ``1/2``, ``0.5`` and ``\frac{1}{2}``, ``1,000``
      and ``1000``; decimals need to agree to six places;
    - the same expression to math-verify: ``\sqrt{8}`` and ``2\sqrt{2}``, ``x>3`` and
      ``3<x``, ``50\%`` and ``0.5`` (and 50), ``30^\circ`` and 30.

    Units count: ``5`` is not ``5 cm``. A completion without a box, with an unclosed
    one, or with an answer that cannot be compared within two seconds of processor
    time gets 0.0. So does one of more than 256 characters, with brackets more than ten
    deep, or with a huge power or factorial, unless it is the reference itself.

    Args:
        completions: Texts, or conversations whose last message is the completion.
        answer: The data set's column of reference answers, one per completion; each
            may itself stand in ``\boxed{}`` or in ``$``.
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
    texts = _texts(completions)
    if answer is None or isinstance(answer, str):
        raise ValueError(
            "answer: accuracy_reward needs a column of this name in the data set, with "
            "one reference answer per row; rename the column that holds them."
        )
    if len(answer) != len(texts):
        raise ValueError(
            f"answer: {len(answer)} reference answers for {len(texts)} completions; "
            "there must be one for each."
        )
    for row, reference in enumerate(answer):
        if not isinstance(reference, str) or not reference.strip():
            raise ValueError(
                f"answer: row {row} is {reference!r}, not a reference answer; drop "
                "such rows, or turn them into text."
            )
    # Rollouts of one prompt often agree: each pair is compared once.
    verdicts: dict[tuple[str, str], bool] = {}
    rewards = []
    for text, reference in zip(texts, answer, strict=True):
        boxed = last_boxed(text)
        if boxed is None:
            rewards.append(0.0)
            continue
        pair = boxed.strip(), reference.strip()
        if pair not in verdicts:
            verdicts[pair] = _equal(*pair)
        rewards.append(float(verdicts[pair]))
    return rewards


def format_reward(completions: Sequence, **columns) -> list[float]:
    r"""1.0 for ``<think>...</think>`` with a ``\boxed{}`` answer after it, else 0.0.

    This is what the paper's prompt asks for; the paper does not reward it. The
    thinking part is judged by TRL's `think_format_reward`: the completion begins
    with ``<think>``, opens it once, and closes it.

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
    """
    from trl.rewards import think_format_reward

    texts = _texts(completions)
    thinks = think_format_reward([[{"content": text}] for text in texts])
    answers = [text.partition("</think>")[2] for text in texts]
    return [
        float(think == 1.0 and last_boxed(answer) is not None)
        for think, answer in zip(thinks, answers, strict=True)
    ]


def soft_overlong_penalty(max_completion_length: int, cache: int) -> Callable:
    """DAPO's penalty on length: a reward function with values in [-1, 0].

    0 up to ``max_completion_length - cache`` tokens, from there linearly down to -1
    at ``max_completion_length``, and -1 beyond (Eq. 13 of DAPO, arXiv 2503.14476).
    It is TRL's `get_soft_overlong_punishment`, and counts ``completion_ids``.

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


def last_boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{...}`` of a completion, or None.

    Braces are matched, so ``\boxed{\frac{1}{2}}`` gives ``\frac{1}{2}``. An
    unclosed box gives None: an answer that was cut off is no answer.

    Example:
        >>> last_boxed(r"so \boxed{12}, no: \boxed{\frac{1}{2}}")
        '\\frac{1}{2}'
        >>> last_boxed(r"\boxed{1") is None
        True
    """
    marker = "\\boxed{"
    start = text.rfind(marker)
    if start < 0:
        return None
    start += len(marker)
    depth = 1
    for position in range(start, len(text)):
        character = text[position]
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return text[start:position]
    return None


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


def _equal(answer: str, reference: str) -> bool:
    """Whether a boxed answer, written by anyone, equals a reference."""
    if answer == reference:
        return True
    # The reference may bring its box and prose along.
    in_box = last_boxed(reference)
    reference = reference if in_box is None else in_box
    if max(len(answer), len(reference)) > _LONGEST_ANSWER:
        return answer == reference.strip()
    answer, reference = _bare(answer), _bare(reference)
    if answer == reference:
        return True
    # As products of letters, "no" and "on" would be equal.
    if _WORDS.fullmatch(answer) and _WORDS.fullmatch(reference):
        return answer.casefold() == reference.casefold()
    numbers = _plain_number(answer), _plain_number(reference)
    if None not in numbers:
        difference = abs(numbers[0] - numbers[1])
        if difference == 0 or difference > _SURELY_DIFFERENT:
            return difference == 0
    if not answer or not answer.isprintable() or _is_too_big(answer):
        return False
    return _verifier.equal(answer, reference)


def _is_too_big(answer: str) -> bool:
    """Whether evaluating or parsing an answer would plainly take too long."""
    depth = deepest = 0
    for character in answer:
        depth += (character in "{[(") - (character in "}])")
        deepest = max(deepest, depth)
    return deepest > _DEEPEST_NESTING or _TOO_BIG.search(answer) is not None


def _bare(text: str) -> str:
    r"""An answer without ``$``, ``\text{}`` and superfluous blanks around it."""
    text = " ".join(text.replace("−", "-").replace("°", r"^\circ").split())
    for opening, closing in _MATH_DELIMITERS:
        inside = text.removeprefix(opening).removesuffix(closing)
        if len(text) - len(inside) == len(opening + closing) and "$" not in inside:
            text = inside.strip()
            break
    match = _TEXT.fullmatch(text)
    return match[1].strip() if match else text


def _plain_number(text: str) -> Fraction | None:
    """The exact value of an integer, a decimal or a fraction of integers."""
    match = _RATIO.fullmatch(text) or _FRAC.fullmatch(text)
    if match:
        sign, numerator, denominator = match.groups()
        if int(denominator) == 0:
            return None
        value = Fraction(int(numerator), int(denominator))
        return -value if sign == "-" else value
    if _DECIMAL.fullmatch(text) and any(character.isdigit() for character in text):
        return Fraction(text.replace(",", ""))
    return None
