"""Two graders side by side: the reference's kind, and the recipe's rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from vgpo.rewards import accuracy_reward, last_boxed, recipe_reward


@dataclass(frozen=True)
class Verdict:
    """What the graders say of one answer.

    Attributes:
        extracted: What stands in its last box; None if there is no closed box.
        accuracy: By :func:`vgpo.rewards.accuracy_reward`.
        recipe: By :func:`vgpo.rewards.recipe_reward`, mathruler's rule, which the
            released code and PAPO-Eval grade by; None where mathruler is not installed.
    """

    extracted: str | None
    accuracy: bool
    recipe: bool | None


def recipe_is_there() -> bool:
    """Whether mathruler is installed (``pip install 'vgpo[recipe]'``)."""
    return find_spec("mathruler") is not None


def grade(texts: Sequence[str], references: Sequence[str]) -> list[Verdict]:
    """Verdicts of answers; one in a wrong form is wrong and never an error.

    Args:
        texts: Completions.
        references: One per completion.

    Returns:
        One verdict per completion.

    Example:
        >>> grade([r"so \\boxed{\\frac{1}{2}}", "one half"], ["0.5", "0.5"])[1].accuracy
        False
    """
    unhurried = float("inf")
    right = accuracy_reward(texts, answer=references, grading_seconds=unhurried)
    recipe: list[float | None] = [None] * len(texts)
    if recipe_is_there():
        recipe = [*recipe_reward(texts, answer=references, grading_seconds=unhurried)]
    return [
        Verdict(last_boxed(text), mine == 1.0, None if its is None else its == 1.0)
        for text, mine, its in zip(texts, right, recipe, strict=True)
    ]
