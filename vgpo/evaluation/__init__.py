"""Evaluation of a model on sets of questions, with an audit trail.

``evaluate`` asks and keeps every answer, ``compare`` sets two runs against each other,
``browse`` shows them, ``robustness`` takes the pictures away bit by bit. On the command
line: ``python -m vgpo.evaluation --help``.
"""

from typing import TYPE_CHECKING

from vgpo.evaluation.asking import evaluate
from vgpo.evaluation.browsing import browse
from vgpo.evaluation.comparing import RunComparison, compare
from vgpo.evaluation.reported import beside_the_paper, reported
from vgpo.evaluation.runs import EvaluatedRun, load_run, pass_at
from vgpo.evaluation.sight import Robustness, robustness
from vgpo.lazy import parts_of

__all__ = [
    "EvaluatedRun",
    "Robustness",
    "RunComparison",
    "beside_the_paper",
    "browse",
    "compare",
    "evaluate",
    "load_run",
    "pass_at",
    "reported",
    "robustness",
]

if not TYPE_CHECKING:  # a checker knows modules by their imports
    __getattr__ = parts_of(__name__)
