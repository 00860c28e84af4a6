"""What a run adds up to, against numbers worked out by hand."""

import itertools
import json

import numpy as np
import pytest

from tests.evaluation.records import record, run
from vgpo.data.catalogue import SUITES
from vgpo.evaluation import beside_the_paper, load_run, pass_at, reported
from vgpo.evaluation.batches import batches_by_length
from vgpo.evaluation.grading import grade
from vgpo.stats.seeds import wilson_interval


@pytest.mark.parametrize(("right", "count", "k"), [(0, 5, 2), (2, 5, 2), (5, 5, 3)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(right, count, k):
    answers = [True] * right + [False] * (count - right)
    draws = list(itertools.combinations(answers, k))
    assert pass_at(right, count, k) == pytest.approx(np.mean([any(d) for d in draws]))
    with pytest.raises(ValueError, match="k must be from 1"):
        pass_at(right, count, count + 1)


def test_accuracy_has_wilsons_interval_where_pictures_are_their_own():
    found = run([record(i, greedy=i < 3, picture=f"p{i}") for i in range(8)])
    row = found.summary().loc["a"]
    expected = wilson_interval(3, 8)
    assert (row["greedy"], row["greedy_low"], row["greedy_high"]) == pytest.approx(
        expected[:3]
    )


def test_questions_over_one_picture_are_drawn_together():
    alone = run([record(i, greedy=i % 8 < 4, picture=f"p{i}") for i in range(64)])
    shared = run([record(i, greedy=i % 8 < 4, picture=f"p{i // 4}") for i in range(64)])
    widths = [
        one.summary().loc["a", "greedy_high"] - one.summary().loc["a", "greedy_low"]
        for one in (alone, shared)
    ]
    assert widths[1] > 1.5 * widths[0]


def test_samples_give_their_mean_and_pass_at_k():
    found = run([record(0, samples=[1, 0, 0, 0]), record(1, samples=[1, 1, 1, 1])])
    row = found.summary().loc["a"]
    assert row["avg"] == pytest.approx(5 / 8)
    assert [row[f"pass@{k}"] for k in (1, 2, 4)] == pytest.approx([5 / 8, 0.75, 1.0])
    assert "greedy" not in row.index


def test_what_went_wrong_stands_beside_accuracy():
    found = run(
        [
            record(0, greedy=True, recipe=False),
            record(1, greedy=False, extracted=None),
            record(2, greedy=False, extracted=None, finish="length"),
            record(3, greedy=True, tokens=7),
        ]
    )
    row = found.summary().loc["a"]
    assert (row["no_answer"], row["cut_off"], row["tokens"]) == (0.5, 0.25, 4)
    assert row["disagree"] == 0.25
    assert found.disagreements()["row"].tolist() == [0]


def test_a_missing_grader_is_no_verdict_and_no_zero():
    found = run([record(0, greedy=True, recipe=None)])
    assert "recipe" not in found.summary().columns
    assert found.disagreements().empty


def test_the_papers_averages_count_each_benchmark_alike():
    records = []
    for place, name in enumerate(SUITES["vision"]):
        count = 2 * (place + 1)  # of each set half is right
        records += [record(i, greedy=i % 2, name=name) for i in range(count)]
    table = beside_the_paper(run(records))
    assert table.loc["vision", "measured"] == 0.5
    assert table.loc["vision", "VGPO"] == pytest.approx(0.633)
    assert "math" not in table.index  # its sets are not there
    with pytest.raises(ValueError, match="no set of the paper"):
        beside_the_paper(run([record(0, greedy=True)]))
    with pytest.raises(ValueError, match="size must be"):
        beside_the_paper(run(records), "72B")


@pytest.mark.parametrize("average", ["math", "vision"])
def test_the_reported_averages_are_those_of_the_reported_benchmarks(average):
    """To the rounding of the paper's table, in every row but one of its own."""
    table = reported()
    own = table[list(SUITES[average])].mean(axis=1)
    assert (own - table[average]).abs().max() < 0.0011


def test_the_longest_come_first_and_kinds_do_not_mix():
    lengths = [3, 9, 4, 8, 5, 1]
    found = batches_by_length(lengths, 2, list("aababb"))
    assert sorted(itertools.chain(*found)) == list(range(6))
    assert all(len({"aababb"[i] for i in batch}) == 1 for batch in found)
    assert all(lengths[b[0]] == max(lengths[i] for i in b) for b in found)
    with pytest.raises(ValueError, match="batch_size"):
        batches_by_length([1], 0)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"name": "m", "sets": {}}))
    assert load_run(tmp_path).records == []


@pytest.mark.parametrize(
    "text",
    ["", "\\boxed{", "\\boxed{}", "{" * 50_000, "\\boxed{9^{9^{9}}}", "\0\ud7ff☕"],
)
def test_a_wrong_form_is_wrong_and_no_error(text):
    [verdict] = grade([text], ["5"])
    assert verdict.accuracy is False
    assert verdict.recipe in (False, None)


def test_both_graders_stand_side_by_side():
    pytest.importorskip("mathruler")
    [verdict] = grade([r"\boxed{5\text{ cm}}"], ["5"])
    assert (verdict.extracted, verdict.accuracy, verdict.recipe) == (
        r"5\text{ cm}",
        False,
        True,
    )
