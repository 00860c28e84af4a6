"""Grades of the gate on chains small enough to count by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from vgpo.studies import gates

IMAGE, TEXT = "image", "text"


def chains(*rows):
    """A token table of (focus, source) pairs, one list per chain."""
    return pd.DataFrame(
        [
            {
                "row": row,
                "focus": focus,
                "focus_prediction": 1 - focus,
                "source": source,
            }
            for row, tokens in enumerate(rows)
            for focus, source in tokens
        ]
    )


TABLE = chains(
    # Tail: the last two. The higher one reads, the other does not.
    [(0.9, TEXT), (0.1, IMAGE), (0.8, IMAGE), (0.2, TEXT)],
    # The higher one does not read; both others of the tail do.
    [(0.1, IMAGE), (0.2, IMAGE), (0.3, TEXT), (0.4, IMAGE), (0.9, TEXT), (0.5, IMAGE)],
)


def test_precision_base_and_best_counted_by_hand():
    graded = gates.grade_gates(TABLE, ["focus", "focus_prediction"], resamples=200)
    right, reverse = graded.to_dict("records")
    assert right["precision"] == pytest.approx(1 / 2)
    assert right["base"] == pytest.approx(3 / 5)
    assert right["best"] == pytest.approx(1)
    assert right["recall"] == pytest.approx(1 / 3)
    assert right["gated"] == pytest.approx(1)
    # The reverse score opens at 0.2 (text) and at 0.4 (image).
    assert reverse["precision"] == pytest.approx(1 / 2)


def test_a_perfect_gate_is_no_better_than_the_reads_there_are():
    table = chains([(0.1, TEXT), (0.9, TEXT), (0.5, TEXT), (0.2, IMAGE)])
    graded = gates.grade_gates(table, ["focus"], [1.0], [0.5]).iloc[0]
    assert graded["gated"] == 2
    assert graded["best"] == pytest.approx(1 / 2)
    assert graded["precision"] == 0


def test_intervals_are_of_chains_not_of_tokens():
    same = chains(*[[(0.2, TEXT), (0.9, IMAGE)]] * 60)
    graded = gates.grade_gates(same, ["focus"]).iloc[0]
    assert graded["low"] == graded["precision"] == graded["high"] == 1
    # So few that agree say nothing of those that were not drawn.
    graded = gates.grade_gates(same[same["row"] < 9], ["focus"]).iloc[0]
    assert graded["precision"] == 1 and np.isnan(graded["low"])
    mixed = chains(*[[(0.2, TEXT), (0.9, IMAGE)], [(0.2, TEXT), (0.9, TEXT)]] * 50)
    graded = gates.grade_gates(mixed, ["focus"], resamples=2000).iloc[0]
    # One token a chain: the binomial interval.
    error = 1.96 * math.sqrt(0.25 / 100)
    assert graded["precision"] == 0.5
    assert graded["low"] == pytest.approx(0.5 - error, abs=0.02)
    assert graded["high"] == pytest.approx(0.5 + error, abs=0.02)


def test_psi_sums_to_zero_over_the_parts_and_only_the_gated_rise():
    draw = torch.Generator().manual_seed(0)
    focus = torch.rand(6, 20, generator=draw)
    mask = torch.arange(20) < torch.tensor([20, 20, 15, 11, 8, 20])[:, None]
    table = gates.psi_by_part(focus, mask, [0.0, 0.3, 3.0])
    totals = (table["psi"] * table["tokens"]).groupby(table["strength"]).sum()
    np.testing.assert_allclose(totals, 0, atol=1e-4)
    wide = table.pivot(index="strength", columns="part", values="psi")
    assert wide["tail, gated"].is_monotonic_increasing
    assert wide["head"].is_monotonic_decreasing
    assert (table.groupby("strength")["tokens"].sum() == mask.sum().item()).all()


def test_steps_of_a_chain_are_equal_parts_of_its_own_length():
    values = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 7.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    table = gates.along_the_chain(values, mask, steps=2)
    assert table["progress"].tolist() == [0.5, 1.0, 0.5, 1.0]
    assert table["value"].tolist() == [1.5, 3.5, 5.0, 7.0]
    with pytest.raises(ValueError, match="steps"):
        gates.along_the_chain(values, mask, steps=0)


def test_a_compensated_chain_is_equations_5_and_6_by_hand():
    focus = [0.9, 0.1, 0.8, 0.2, 0.5]
    chain = pd.DataFrame({"token": list("abcde"), "source": TEXT, "focus": focus})
    # The last 3 of 5 are the tail; two thirds of it pass the gate.
    table = gates.compensated_chain(
        chain, "focus", strength=1.0, tail_ratio=0.6, top_ratio=0.67
    )
    assert table["token"].tolist() == list("abcde")
    assert table["tail"].tolist() == [False, False, True, True, True]
    assert table["gated"].tolist() == [False, False, True, False, True]
    lifted = [0.9, 0.1, 0.8 * (1 + 3 / 5), 0.2, 0.5 * (1 + 5 / 5)]
    assert table["weight"].tolist() == pytest.approx(lifted)
    flat = gates.compensated_chain(chain, "focus", 1.0, 0.6, 0.67, schedule="step")
    assert flat["weight"][2] == pytest.approx(0.8 * 2)


def test_schedules_of_a_chain():
    table = gates.schedule_table(4, strength=0.5)
    assert table.index.tolist() == [1, 2, 3, 4]
    assert table["exponential"].tolist() == pytest.approx([1 / 32, 1 / 8, 9 / 32, 0.5])
    assert table["step"].tolist() == [0, 0.5, 0.5, 0.5]


def test_grades_are_named_as_the_gate_is():
    graded = gates.grade_gates(TABLE, ["focus"], [0.5, 1.0], [0.2], resamples=10)
    assert graded[["tail_ratio", "top_ratio"]].to_numpy().tolist() == [
        [0.5, 0.2],
        [1.0, 0.2],
    ]
