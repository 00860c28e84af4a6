"""Whose tokens an arm's credit goes to: as its method gives it in training."""

import numpy as np
import pandas as pd
import pytest
import torch

from vgpo.method.shaping import Rollouts, make_method
from vgpo.studies.credit import KINDS, SCORES, credit_by_kind
from vgpo.studies.experiments.arms import find_arm

ANSWERS = [
    "look:decision red =:question 5:image see:decision blue = 3:image recall",
    "view:decision red = 5:image think:decision blue = 5:memory end",
    "see:decision red 4:image view:decision blue 2:image",
    "one two three four five",
]
CORRECT = [True, False, True, False]
QUESTION = [0, 0, 1, 1]


def words(row):
    pairs = [word.partition(":") for word in ANSWERS[row].split()]
    return [(f" {word}", source or "text") for word, _, source in pairs]


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    rows = [
        {"row": row, "token": word, "source": source, "correct": CORRECT[row],
         "log_prob": np.log(rng.uniform(0.1, 1)), "focus": rng.uniform(0.4, 0.6),
         "focus_prediction": rng.uniform(0.4, 0.6)}
        for row in range(len(ANSWERS))
        for word, source in words(row)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def by_hand(word, source):
    """The kind of a token."""
    if source == "decision":
        how = "recall" if word in (" think", " recall", " remember") else "look"
        return f"words that decide to {how}"
    return {"image": "values looked up", "memory": "values recalled"}.get(
        source, "all other tokens"
    )


def by_the_method(table, arm, column):
    """The factors of all tokens, in the table's order, from the arm's own method."""
    width = max(len(words(row)) for row in range(4))
    score, mask = torch.zeros(4, width), torch.zeros(4, width, dtype=torch.bool)
    for row in range(4):
        sources = [source for _, source in words(row)]
        values = {
            "reads": [float(s == "image") for s in sources],
            "decides": [float(s == "decision") for s in sources],
        }.get(column, table.loc[table["row"] == row].get(column))
        score[row, : len(sources)] = torch.tensor(np.asarray(values))
        mask[row, : len(sources)] = True
    named = find_arm(arm)
    method = make_method(named.method, named.fields.get("method_kwargs"))
    (signal,) = method.signals
    shaped = method.shape(
        Rollouts(
            advantages=torch.ones(4),
            mask=mask,
            group_ids=torch.tensor(QUESTION),
            signals={signal: score},
            has_image=torch.ones(4, dtype=torch.bool),
            rewards=torch.ones(4),
        )
    )
    return shaped.advantages[mask].numpy()


@pytest.mark.parametrize("arm", list(SCORES))
def test_factors_are_those_of_the_arm_in_training(table, arm):
    found = credit_by_kind(table, QUESTION)
    factors = by_the_method(table, arm, SCORES[arm])
    kinds = [(row, by_hand(*word)) for row in range(4) for word in words(row)]
    for (answers, kind), value in found[arm].items():
        mine = [
            factor
            for factor, (row, name) in zip(factors, kinds, strict=True)
            if name == kind and CORRECT[row] == (answers == "right")
        ]
        assert value == pytest.approx(np.mean(mine), rel=1e-5)


def test_tokens_and_doubt_are_counted_by_hand(table):
    # Answers in any order, tokens in theirs.
    shuffled = table.sort_values("row", ascending=False, kind="stable")
    found = credit_by_kind(shuffled, QUESTION)
    pd.testing.assert_frame_equal(found, credit_by_kind(table, QUESTION))
    look, recall, looked_up, recalled, others = KINDS
    assert found["tokens"].to_dict() == {
        ("right", look): 2.0, ("right", looked_up): 2.0, ("right", others): 3.5,
        ("wrong", look): 0.5, ("wrong", recall): 0.5, ("wrong", looked_up): 0.5,
        ("wrong", recalled): 0.5, ("wrong", others): 5.0,
    }  # fmt: skip
    read = (table["source"] == "image") & table["correct"]
    sure = np.exp(table.loc[read, "log_prob"])
    assert found.loc[("right", looked_up), "unsure"] == pytest.approx(1 - sure.mean())


def test_a_perfect_score_of_reads_takes_from_the_words_that_decide(table):
    right = credit_by_kind(table, QUESTION).loc["right"]
    wrong = credit_by_kind(table, QUESTION).loc["wrong"]
    look, recall, looked_up, *_ = KINDS
    assert right.loc[looked_up, "oracle_reads"] > right.loc[look, "oracle_reads"]
    assert right.loc[looked_up, "oracle_decides"] < right.loc[look, "oracle_decides"]
    # An answer that recalls has fewer reads, so less blame for what it decided.
    assert wrong.loc[recall, "oracle_reads"] < 0.8 < wrong.loc[recall, "oracle_decides"]


def test_every_answer_needs_its_question(table):
    with pytest.raises(ValueError, match=r"question: need one per answer.* 4, got 3"):
        credit_by_kind(table, QUESTION[:3])
