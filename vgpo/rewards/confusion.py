"""How often graders are wrong, counted on a table of answers with known verdicts.

``python -m vgpo.rewards.confusion TABLE`` prints the counts of both graders as JSON.
The table has tab-separated columns ``answer``, ``reference``, ``expected`` (1 or 0),
``kind`` and ``note``, and is there to be extended: ``tests/rewards/pairs.tsv``.

`accuracy_reward` was made to agree with that table, which is part of its tests; the
recipe's grader was not. So the counts say what each of them accepts and refuses, and
not how often either is wrong on answers that nobody has seen.
"""

import argparse
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from vgpo.rewards.functions import accuracy_reward, recipe_reward

_COLUMNS = ["answer", "reference", "expected", "kind", "note"]
_COUNTS = {
    (True, True): "right_accepted",
    (True, False): "right_refused",
    (False, True): "wrong_accepted",
    (False, False): "wrong_refused",
}
GRADERS = {"accuracy_reward": accuracy_reward, "recipe_reward": recipe_reward}


class Pair(NamedTuple):
    """What stands in a box, what is right, and whether the one is the other."""

    answer: str
    reference: str
    expected: bool
    kind: str
    note: str


def read_pairs(path: str | Path) -> list[Pair]:
    """The rows of a table of answers.

    Raises:
        ValueError: other columns than those of the module's docstring, a row with more
            or fewer, or an ``expected`` that is neither 0 nor 1; the line is named.
    """
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    if lines[0].split("\t") != _COLUMNS:
        raise ValueError(f"{path}: the columns must be {', '.join(_COLUMNS)}")
    pairs = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) != len(_COLUMNS) or fields[2] not in ("0", "1"):
            raise ValueError(
                f"{path}, line {number}: must have {len(_COLUMNS)} fields, with 0 or 1 "
                f"in the third; got {line!r}"
            )
        answer, reference, expected, kind, note = fields
        pairs.append(Pair(answer, reference, expected == "1", kind, note))
    return pairs


def confusion(
    reward: Callable[..., list[float]], pairs: list[Pair]
) -> dict[str, dict[str, int]]:
    """Counts of accepted and refused answers, right and wrong, by kind and in all.

    Args:
        reward: A reward function, such as ``vgpo.rewards.accuracy_reward``.
        pairs: Answers with known verdicts.

    Returns:
        For ``all`` and for each kind, four counts. ``wrong_accepted`` is what a policy
        can be rewarded for and must not be; ``right_refused`` is signal lost.

    Example:
        >>> pairs = [Pair("B.", "B", True, "choice", "")]
        >>> confusion(accuracy_reward, pairs)["all"]["right_accepted"]
        1
    """
    rewards = reward(
        [rf"\boxed{{{pair.answer}}}" for pair in pairs],
        answer=[pair.reference for pair in pairs],
        grading_seconds=float("inf"),
    )
    kinds = ["all", *sorted({pair.kind for pair in pairs})]
    counts = {kind: dict.fromkeys(_COUNTS.values(), 0) for kind in kinds}
    for pair, value in zip(pairs, rewards, strict=True):
        name = _COUNTS[pair.expected, value == 1.0]
        counts["all"][name] += 1
        counts[pair.kind][name] += 1
    return counts


def main(arguments: list[str] | None = None) -> None:
    """Prints the counts of the graders, with the versions that they are of."""
    parser = argparse.ArgumentParser(prog="python -m vgpo.rewards.confusion")
    parser.add_argument("table", help="tab-separated, as tests/rewards/pairs.tsv")
    table = parser.parse_args(arguments).table
    pairs = read_pairs(table)
    record = {
        "command": f"python -m vgpo.rewards.confusion {table}",
        "pairs": len(pairs),
        "versions": {name: version(name) for name in ("math-verify", "mathruler")},
        "graders": {name: confusion(reward, pairs) for name, reward in GRADERS.items()},
    }
    json.dump(record, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
