"""What pages without code say of recorded files, computed from these files."""

import re

import numpy as np
import pandas as pd

from tests.conftest import ROOT
from vgpo.studies.question_seeds import question_of, read_answers

RESULTS = ROOT / "results"


def prose(page: str) -> str:
    """A page of the book, its lines joined."""
    return " ".join((ROOT / "book" / page).read_text().split())


def test_intervals_without_questions_are_too_narrow_by_what_the_decisions_say():
    said = re.search(
        r"too narrow: ([\d.]+) to ([\d.]+) times for attention, ([\d.]+) to ([\d.]+) "
        r"for accuracy",
        prose("decisions.md"),
    )
    attention, accuracy = [], []
    for world in ("misread", "look_away"):
        answers = read_answers(world, RESULTS / "forgetting")
        question = question_of(answers)
        for name in ("first", "last", "text", "ratio"):
            attention.append(times_wider(answers[f"trained_{name}"], question))
        accuracy.append(times_wider(answers["right"].astype(float), question))
    found = [min(attention), max(attention), min(accuracy), max(accuracy)]
    np.testing.assert_allclose([float(x) for x in said.groups()], found, atol=0.05)


def times_wider(values: pd.Series, question: pd.Series) -> float:
    """The standard error of a mean over questions, over that of single answers."""
    off = values - values.mean()
    of_questions = off.groupby(question).sum()
    questions = len(of_questions)
    clustered = (of_questions**2).sum() * questions / (questions - 1)
    return float(np.sqrt(clustered / (off.var() * len(off))))


def test_no_clip_binds_and_hardly_an_answer_is_cut_off_in_the_recorded_runs():
    """Details 3 and 8."""
    runs = [pd.read_csv(path) for path in RESULTS.glob("**/metrics.csv*")]
    assert runs
    cut = [run["completions/clipped_ratio"].fillna(0) for run in runs]
    assert all((run["clip_ratio/region_mean"].fillna(0) == 0).all() for run in runs)
    with_one = [share for share in cut if (share > 0).any()]
    assert len(with_one) < len(runs) / 20  # "a few"
    for share in with_one:
        assert (share > 0).sum() == 1  # "in a single step"
        assert 1 / share.max() > 150  # "a single answer of some two hundred"
