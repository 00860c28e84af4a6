"""Two runs, question by question."""

import numpy as np
import pytest
from scipy import stats

from tests.evaluation.records import record, run
from vgpo.evaluation import compare
from vgpo.evaluation.comparing import TOGETHER
from vgpo.evaluation.sight import drops


def pair(first, second, **more):
    return (
        run([record(i, greedy=v, **more) for i, v in enumerate(first)], "one"),
        run([record(i, greedy=v, **more) for i, v in enumerate(second)], "two"),
    )


def test_only_questions_that_one_alone_got_right_count():
    found = compare(*pair([1, 1, 0, 0, 0, 0, 1, 0], [0, 1, 1, 1, 1, 1, 1, 1]))
    row = found.table.loc["a"]
    assert (row["first_only"], row["second_only"]) == (1, 5)
    expected = stats.binomtest(1, 6, 0.5).pvalue  # McNemar's exact test
    assert row["p_value"] == pytest.approx(expected)
    assert row["difference"] == pytest.approx(4 / 8)
    assert row["difference_low"] < 4 / 8 < row["difference_high"]
    assert row["verdict"] == "not decided"


def test_a_large_difference_is_found_with_its_sign():
    first, second = pair([0] * 60 + [1] * 20, [1] * 60 + [0] * 4 + [1] * 16)
    assert compare(first, second).table.loc["a", "verdict"] == "difference found"
    back = compare(second, first).table.loc["a"]
    assert back["difference"] < 0 and back["difference_high"] < 0


def test_the_same_run_twice_differs_nowhere():
    first, second = pair([0, 1, 1, 0] * 10, [0, 1, 1, 0] * 10)
    row = compare(first, second).table.loc["a"]
    assert (row["difference"], row["p_value"]) == (0, 1)
    assert row["difference_low"] < 0 < row["difference_high"]
    assert np.isnan(row["detectable"])  # no spread was seen
    assert row["verdict"] == "not decided"


def test_no_effect_needs_a_margin():
    right = np.arange(2000) < 1200
    changed = right.copy()
    changed[[*range(20), *range(1200, 1220)]] ^= True  # twenty either way
    assert compare(*pair(right, changed)).table.loc["a", "verdict"] == "not decided"
    found = compare(*pair(right, changed), margin=0.05)
    assert found.table.loc["a", "verdict"] == "no effect within the margin"


def test_the_smallest_difference_that_would_have_shown_shrinks_with_questions():
    few, many = (
        compare(*pair([0, 1, 0, 1] * n, [0, 1, 1, 0] * n)).table.loc["a", "detectable"]
        for n in (5, 80)
    )
    assert few == pytest.approx(4 * many, rel=0.15)


def test_questions_over_one_picture_are_no_evidence_of_their_own():
    first, second = pair([0] * 24, [1] * 24, picture="p")
    row = compare(first, second).table.loc["a"]
    assert row["pictures"] == 1
    assert np.isnan(row["difference_low"])
    assert row["verdict"] == "not decided"


def test_p_values_are_corrected_over_the_sets():
    records = ([], [])
    for name, gained in (("a", 6), ("b", 8), ("c", 1)):
        for i in range(10):
            records[0].append(record(i, greedy=False, name=name))
            records[1].append(record(i, greedy=i < gained, name=name))
    table = compare(run(records[0]), run(records[1])).table
    raw = [2 * 0.5**6, 2 * 0.5**8, 1.0]
    assert table.loc[["a", "b", "c"], "p_value"].tolist() == pytest.approx(raw)
    corrected = table.loc[["a", "b", "c"], "corrected"].tolist()
    assert corrected == pytest.approx([raw[0] * 1.5, raw[1] * 3, 1.0])
    together = table.loc[TOGETHER]
    assert together["questions"] == 30
    assert together["corrected"] == together["p_value"]


def test_samples_are_compared_by_their_means():
    first = run([record(i, samples=[1, 0, 0, 0]) for i in range(20)])
    second = run([record(i, samples=[1, 1, i % 2, 0]) for i in range(20)])
    found = compare(first, second, greedy=False)
    row = found.table.loc["a"]
    assert row["difference"] == pytest.approx(0.375)
    expected = stats.ttest_1samp([0.25 + 0.25 * (i % 2) for i in range(20)], 0).pvalue
    assert row["p_value"] == pytest.approx(expected)


def test_other_settings_and_missing_questions_are_told():
    first = run([record(i, greedy=1) for i in range(4)])
    second = run([record(i, greedy=1) for i in range(2, 7)], view="blank")
    found = compare(first, second)
    assert (found.only_first, found.only_second) == (2, 3)
    assert found.settings == {"view": ("none", "blank")}
    assert found.table.loc["a", "questions"] == 2
    with pytest.raises(ValueError, match="no question in common"):
        compare(first, run([record(99, greedy=1)]))


def test_a_grader_without_verdicts_is_refused():
    first, second = pair([1, 0], [1, 1], recipe=None)
    with pytest.raises(ValueError, match=r"vgpo\[recipe\]"):
        compare(first, second, grader="recipe")


def test_the_share_of_sight_is_the_drop_over_the_score():
    whole = run([record(i, greedy=i < 8) for i in range(10)])
    blind = run([record(i, greedy=i < 2) for i in range(10)], view="blank")
    table = drops({"none": whole, "blank": blind})
    assert len(table) == 1  # of one set, "together" would say the same
    row = table.iloc[0]
    assert (row["drop"], row["sight"]) == pytest.approx((0.6, 0.75))
    assert row["drop_low"] <= 0.6 <= row["drop_high"]
