"""What a grid's records say, against numbers worked out by hand and by scipy."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vgpo.stats.arms import FEW_SEEDS, ONE_SEED
from vgpo.studies.experiments.cells import LOOKING, METRICS, RECORD, UNTRAINED, VERDICTS
from vgpo.studies.experiments.grid import Grid
from vgpo.studies.experiments.places import Places
from vgpo.studies.experiments.records import (
    curve_table,
    looking_table,
    outcome_table,
    read_records,
    verdict_table,
)
from vgpo.studies.experiments.report import (
    as_markdown,
    compare_grid,
    cost_table,
    make_report,
    step_sizes,
    write_report,
)

AREA = {
    "dapo": [0.50, 0.51, 0.55, 0.53, 0.52, 0.54],
    "vgpo_token": [0.53, 0.52, 0.56, 0.56, 0.53, 0.56],
    "shuffled": [0.51, 0.50, 0.56, 0.52, 0.53, 0.53],
}
GRID = Grid(
    "plan",
    tuple(AREA),
    ("misread",),
    {"small": {"steps": 2}},
    tuple(range(6)),
    evaluation="quick",
)


def pack(path, table):
    path.write_bytes(gzip.compress(table.to_csv(index=False).encode()))


def record_of(cell, area):
    outcomes = {"reward/area": area, "accuracy/sampled": area + 0.1}
    outcomes |= {"abs_advantage/area": 0.8, "grad_norm/area": 0.1}
    if cell.arm == "shuffled":
        outcomes["abs_advantage/area"] = 0.88
    if cell.arm == "vgpo_token" and cell.run.seed == 0:
        outcomes["accuracy/sampled"] = None  # nothing to average over
    return cell.settings() | {
        "start": "a" * 64,
        "outcomes": outcomes,
        "seconds": {"load": 1.0, "train": 100.0 + cell.run.seed, "evaluate": 20.0},
        "threads": 1,
        "cpu": "some kind",
        "commit": "c" * 40,
        "changed": False,
    }


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Records as cells write them, with numbers of our own."""
    folder = tmp_path_factory.mktemp("out")
    places = Places(folder / "plan", folder / "starts")
    for cell in GRID.cells():
        to = places.folder(cell)
        to.mkdir(parents=True)
        if cell.arm == UNTRAINED:
            record = cell.settings() | {"start": "a" * 64, "threads": 1}
            record["outcomes"] = {"accuracy/sampled": 0.4}
        else:
            area = AREA[cell.arm][cell.run.seed]
            record = record_of(cell, area)
            steps = {"step": [1, 2], "reward": [area - 0.1, area + 0.1]}
            pack(to / METRICS, pd.DataFrame(steps))
        (to / RECORD).write_text(json.dumps(record))
        pack(to / VERDICTS, pd.DataFrame({"part": ["sampled"], "right": [1]}))
        pack(to / LOOKING, pd.DataFrame({"question": [0], "late_early": [0.5]}))
    (places.records / ".locks").mkdir()
    (places.records / ".work" / "half").mkdir(parents=True)
    return places


def test_an_arm_against_the_baseline_by_hand(places):
    table = compare_grid(outcome_table(places.records), "dapo")
    row = table[
        (table["outcome"] == "reward/area") & (table["arm"] == "vgpo_token")
    ].iloc[0]
    differences = np.array(AREA["vgpo_token"]) - np.array(AREA["dapo"])
    low, high = stats.t.interval(0.95, 5, differences.mean(), stats.sem(differences))
    assert row["difference"] == pytest.approx(differences.mean())
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    # All six of one sign: 2 of the 64 ways; Holm over two arms.
    assert row["p_value"] == pytest.approx(2 / 64)
    assert row["p_corrected"] == pytest.approx(4 / 64)
    assert row["seeds"] == 6 and row["primary"] and row["verdict"] == "not decided"
    assert np.isnan(row["before"])  # a training has no reward before it
    other = table[
        (table["outcome"] == "accuracy/sampled") & (table["arm"] == "vgpo_token")
    ].iloc[0]
    # The seed that has no number is left out of this row alone.
    assert other["seeds"] == 5 and other["before"] == pytest.approx(0.4)
    assert set(table["outcome"]) == {"reward/area", "accuracy/sampled"}


def test_a_grid_half_done_is_compared_where_both_are_there(places):
    outcomes = outcome_table(places.records)
    gone = (outcomes["arm"] == "dapo") & (outcomes["seed"] > 2)
    table = compare_grid(outcomes[~gone], "dapo")
    assert set(table.loc[table["outcome"] == "reward/area", "seeds"]) == {3}
    nothing = compare_grid(outcomes[outcomes["arm"] != "dapo"], "dapo")
    assert nothing.empty


def test_an_arm_with_one_seed_is_no_comparison(places):
    outcomes = outcome_table(places.records)
    gone = (outcomes["arm"] == "shuffled") & (outcomes["seed"] > 0)
    table = compare_grid(outcomes[~gone], "dapo").set_index(["outcome", "arm"])
    one = table.loc["reward/area", "shuffled"]
    assert one["verdict"] == ONE_SEED and one["seeds"] == 1 and np.isnan(one["low"])
    assert one["difference"] == pytest.approx(0.01)
    row = table.loc["reward/area", "vgpo_token"]
    assert row["p_corrected"] == row["p_value"]
    # Of a baseline with one seed nothing but differences is known.
    first = outcomes[outcomes["seed"] == 0]
    assert (compare_grid(first, "dapo")["verdict"] == ONE_SEED).all()


@pytest.mark.parametrize("seeds", [2, 5])
def test_an_arm_still_being_run_changes_nothing_for_those_that_are_done(seeds, places):
    outcomes = outcome_table(places.records)
    gone = (outcomes["arm"] == "shuffled") & (outcomes["seed"] >= seeds)
    alone = compare_grid(outcomes[outcomes["arm"] != "shuffled"], "dapo")
    beside = compare_grid(outcomes[~gone], "dapo")
    kept = beside[beside["arm"] != "shuffled"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, alone, check_dtype=False)
    few = beside.set_index(["outcome", "arm"]).loc["reward/area", "shuffled"]
    assert few["seeds"] == seeds and few["verdict"] == FEW_SEEDS
    assert np.isnan(few["p_corrected"]) and few["low"] < few["difference"]


def test_steps_of_another_size_are_named(places):
    table = step_sizes(outcome_table(places.records), "dapo").set_index("arm")
    assert table["abs_advantage/area"]["shuffled"] == pytest.approx(1.1)
    assert table["differs"].to_dict() == {
        "dapo": False, "shuffled": True, "vgpo_token": False
    }  # fmt: skip


def test_what_it_cost(places):
    cost = cost_table(read_records(places.records)).set_index("arm")
    assert cost.loc["dapo", "cells"] == 6
    assert cost.loc["dapo", "train"] == pytest.approx(600 + 15)
    assert cost.loc["dapo", "per_cell"] == pytest.approx(123.5)


def test_the_report_holds_what_the_functions_say(places):
    report = make_report(GRID, places)
    assert (report["planned"], report["finished"]) == (18, 18)
    assert report["machines"] == ["some kind"]
    text = write_report(GRID, places)
    again = json.loads((places.records / "report.json").read_text())
    assert again == json.loads(json.dumps(report))
    assert (places.records / "report.md").read_text() == text == as_markdown(report)
    assert "| vgpo_token | 0.543 | +0.018 |" in text
    assert "shuffled, misread, small: abs_advantage/area 1.100" in text
    assert "nan" not in text.lower()


def test_tables_for_figures_have_a_row_per_step_and_answer(places):
    curves = curve_table(places.records, ["reward"])
    assert len(curves) == 18 * 2
    mean = curves.groupby(["arm", "seed"])["reward"].mean()
    assert mean["shuffled", 2] == pytest.approx(AREA["shuffled"][2])
    assert len(verdict_table(places.records)) == 18
    looked = looking_table(places.records.parent / UNTRAINED)
    assert looked["arm"].tolist() == [UNTRAINED]


def test_no_finished_cell_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished cells"):
        outcome_table(tmp_path)


def test_records_of_another_evaluation_are_not_taken_for_before(places):
    file = next((places.records.parent / UNTRAINED).glob(f"[!.]*/{RECORD}"))
    kept = file.read_text()
    try:
        changed = json.loads(kept)
        changed["evaluation"]["seed"] += 1
        file.write_text(json.dumps(changed))
        assert outcome_table(places.records)["before"].isna().all()
    finally:
        file.write_text(kept)
    outcomes = outcome_table(places.records).set_index("outcome")["before"]
    assert (outcomes["accuracy/sampled"] == 0.4).all()
