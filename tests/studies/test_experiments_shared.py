"""Cells that grids share, and cells of several commits."""

import gzip
import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from vgpo.studies.experiments import cells as cells_module
from vgpo.studies.experiments import work as work_module
from vgpo.studies.experiments.__main__ import main
from vgpo.studies.experiments.cells import LOOKING, METRICS, RECORD, UNTRAINED, VERDICTS
from vgpo.studies.experiments.commits import again_table, commit_of, same_commits
from vgpo.studies.experiments.grid import RECIPES, Grid, read_grid
from vgpo.studies.experiments.places import Places, find, finished, locked
from vgpo.studies.experiments.records import grid_records, outcome_table
from vgpo.studies.experiments.report import as_markdown, compare_grid, make_report
from vgpo.studies.experiments.work import do_cell, status, work

SMALL = {"steps": 2, "prompts_per_step": 2, "rollouts": 2, "max_completion_length": 12}
SETTINGS = {"small": SMALL}
A, B, C = "a" * 40, "b" * 40, "c" * 40


def grid_of(name, arms, *shares, seeds=(0, 1), settings=SETTINGS):
    return Grid(
        name, arms, ("misread",), settings, seeds, evaluation="quick", shares=shares
    )


FIRST = grid_of("first", ("dapo", "vgpo_token"), seeds=(0, 1, 2))
SECOND = grid_of("second", ("dapo", "vgpo_token", "grpo"), "first")


def write(cell, folder, commit=A, reward=0.5, changed=False):
    """A record as a cell writes it, with numbers of our own."""
    folder.mkdir(parents=True)
    record = cell.settings() | {
        "start": "s" * 64,
        "outcomes": {
            "reward/area": reward,
            "accuracy/sampled": reward,
            "abs_advantage/area": 0.8,
            "grad_norm/area": 0.1,
        },
        "seconds": {"train": 100.0},
        "date": "2026-11-26T12:00:00+00:00",
        "threads": 1,
        "cpu": "some kind",
        "commit": commit,
        "changed": changed,
    }
    (folder / RECORD).write_text(json.dumps(record))
    metrics = pd.DataFrame({"step": [1, 2], "reward": reward, "step_time": [3.0, 4.0]})
    for name, table in (
        (METRICS, metrics),
        (VERDICTS, pd.DataFrame({"part": ["sampled"], "right": [1]})),
        (LOOKING, pd.DataFrame({"question": [0], "late_early": [0.5]})),
    ):
        (folder / name).write_bytes(gzip.compress(table.to_csv(index=False).encode()))


def trained(grid):
    return [cell for cell in grid.cells() if cell.arm != UNTRAINED]


def fill(grid, experiments, **about):
    places = Places.of(grid, experiments)
    for cell in trained(grid):
        write(cell, places.folder(cell), **about)


# Shared cells ------------------------------------------------------------


def test_a_cell_of_another_grid_is_not_done_again(tmp_path):
    fill(FIRST, tmp_path)
    places = Places.of(SECOND, tmp_path)
    same = [cell for cell in trained(SECOND) if cell.arm != "grpo"]
    assert len(same) == 4
    for cell in same:
        assert not do_cell(cell, places)
        assert find(cell, places)[0] == tmp_path / "first" / cell.name
        assert not places.folder(cell).exists()
    assert [finished(c, places) for c in trained(SECOND) if c.arm == "grpo"] == [
        None
    ] * 2
    # Whoever does not share with it does not see it.
    alone = replace(SECOND, shares=())
    assert finished(same[0], Places.of(alone, tmp_path)) is None


def test_a_cell_of_other_settings_is_another_cell(tmp_path):
    fill(FIRST, tmp_path)
    other = replace(SECOND, settings={"small": SMALL | {"learning_rate": 1e-5}})
    places = Places.of(other, tmp_path)
    assert all(finished(cell, places) is None for cell in trained(other))
    with pytest.raises(FileNotFoundError, match="no finished cells of second"):
        grid_records(other, tmp_path)
    # In the grid's own folder it is a mistake, as before.
    with pytest.raises(ValueError, match=r"other settings \(run\)"):
        grid_records(replace(other, name="first", shares=()), tmp_path)


def test_a_cell_at_work_in_another_grid_is_left_alone(tmp_path):
    places, cell = Places.of(SECOND, tmp_path), trained(SECOND)[0]
    with locked(Places.of(FIRST, tmp_path).lock(cell)):
        assert not do_cell(cell, places)
        assert f"at work: {cell.name}" in status(SECOND, places)


def test_only_what_is_missing_is_run(tmp_path, monkeypatch):
    fill(FIRST, tmp_path)
    did = []
    monkeypatch.setattr(work_module, "do_cell", lambda cell, _: did.append(cell.name))
    monkeypatch.setattr(work_module, "check_starts", lambda *_: None)
    work(SECOND, Places.of(SECOND, tmp_path), say=lambda _: None)
    names = [cell.name for cell in SECOND.cells() if cell.arm in ("grpo", UNTRAINED)]
    assert did == names


def test_report_and_status_count_shared_cells(tmp_path):
    fill(FIRST, tmp_path)
    places = Places.of(SECOND, tmp_path)
    for cell in trained(SECOND):
        if cell.arm == "grpo" and cell.run.seed == 0:
            write(cell, places.folder(cell))
    lines = status(SECOND, places).splitlines()
    assert "dapo" in lines[2] and lines[2].endswith("2 of 2, 2 of them of first")
    assert lines[4].split() == ["grpo", "1", "of", "2"]
    report = make_report(SECOND, places)
    # The third seed of the first grid is not planned in the second.
    assert (report["planned"], report["finished"]) == (6, 5)
    assert report["shared"] == {"first": 4}
    counts = {row["arm"]: row["finished"] for row in report["seeds"]}
    assert counts == {"dapo": 2, "vgpo_token": 2, "grpo": 1}
    text = as_markdown(report)
    assert "**Not finished.**" in text and "- grpo, misread, small: 1 of 2" in text
    assert "4 of the cells are those of the grid *first*" in text


def test_what_lies_there_and_is_not_planned_does_not_count(tmp_path):
    fill(FIRST, tmp_path)
    fewer = replace(FIRST, arms=("dapo",))
    assert {r["arm"] for r in grid_records(fewer, tmp_path)} == {"dapo"}


def test_grids_that_share_say_so_of_each_other_and_have_the_same_cells(root):
    folder = root / RECIPES
    for file in folder.glob("*.yaml"):
        grid = read_grid(file)
        for name in grid.shares:
            other = read_grid(folder / f"{name}.yaml")
            assert grid.name in other.shares
            theirs = {cell.name: cell for cell in trained(other)}
            both = [cell for cell in trained(grid) if cell.name in theirs]
            assert both
            assert all(c.settings() == theirs[c.name].settings() for c in both)


# Commits -----------------------------------------------------------------


def mixed_of(experiments, grid=FIRST):
    table = compare_grid(outcome_table(grid_records(grid, experiments)), "dapo")
    return table.set_index(["outcome", "arm"])["mixed"]["reward/area"].to_dict()


def arms_of_two_commits(experiments):
    places = Places.of(FIRST, experiments)
    for cell in trained(FIRST):
        write(cell, places.folder(cell), A if cell.arm == "dapo" else B)
    return places


def test_pairs_of_different_commits_are_counted_and_named(tmp_path):
    places = arms_of_two_commits(tmp_path)
    assert mixed_of(tmp_path) == {"vgpo_token": 3}
    report = make_report(FIRST, places)
    assert {(r["arm"], r["commit"], r["cells"]) for r in report["commits"]} == {
        ("dapo", A, 3),
        ("vgpo_token", B, 3),
    }
    text = as_markdown(report)
    assert "**Mixed commits.**" in text and "vgpo_token (3)" in text
    assert "(3 pairs of mixed commits)" in text
    assert "| vgpo_token | bbbbbbbb | 3 |" in text


def test_one_commit_is_nothing_to_speak_of(tmp_path):
    fill(FIRST, tmp_path)
    assert mixed_of(tmp_path) == {"vgpo_token": 0}
    text = as_markdown(make_report(FIRST, Places.of(FIRST, tmp_path)))
    assert "commit" not in text


@pytest.mark.parametrize(
    ("reward", "arm", "mixed"),
    [
        (0.5, "dapo", 0),  # the baseline gives the same at the arm's commit
        (0.5, "vgpo_token", 0),  # or the arm at the baseline's
        (0.5000001, "dapo", 3),  # one digit of one step
    ],
)
def test_a_cell_done_again_shows_whether_commits_are_the_same(
    tmp_path, reward, arm, mixed
):
    places = arms_of_two_commits(tmp_path)
    cell = next(cell for cell in trained(FIRST) if cell.arm == arm)
    commit = B if arm == "dapo" else A
    write(cell, tmp_path / "again" / commit[:12] / cell.name, commit, reward)
    assert mixed_of(tmp_path) == {"vgpo_token": mixed}
    (row,) = make_report(FIRST, places)["again"]
    assert row["same"] == (mixed == 0) and row["cell"] == cell.name
    text = as_markdown(make_report(FIRST, places))
    assert ("**other numbers** than" in text) == (mixed > 0)


def test_what_is_shown_of_one_arm_is_not_taken_for_another(tmp_path):
    """Of dapo and a third commit nothing follows for vgpo_token."""
    arms_of_two_commits(tmp_path)
    cell = trained(FIRST)[0]
    write(cell, tmp_path / "again" / C[:12] / cell.name, C)
    known = same_commits(again_table(tmp_path))
    about = {"world": "misread", "changed": False}
    assert known(about | {"arm": "dapo", "commit": A}) == {A, C}
    assert known(about | {"arm": "vgpo_token", "commit": C}) == {C}
    assert mixed_of(tmp_path) == {"vgpo_token": 3}


def test_time_does_not_count_and_other_settings_do(tmp_path):
    fill(FIRST, tmp_path)
    cell = trained(FIRST)[0]
    again = tmp_path / "again" / B[:12] / cell.name
    write(cell, again, B)
    metrics = pd.read_csv(again / METRICS).assign(step_time=9.0)
    (again / METRICS).write_bytes(gzip.compress(metrics.to_csv(index=False).encode()))
    assert again_table(tmp_path)["same"].tolist() == [True]
    shutil.rmtree(again)
    write(replace(cell, run=replace(cell.run, steps=3)), again, B)
    assert again_table(tmp_path).empty


def test_code_that_is_of_no_commit_is_the_same_as_nothing(tmp_path):
    fill(FIRST, tmp_path, commit=None)
    assert mixed_of(tmp_path) == {"vgpo_token": 3}
    shutil.rmtree(tmp_path / "first")
    fill(FIRST, tmp_path, changed=True)
    assert mixed_of(tmp_path) == {"vgpo_token": 3}
    record = grid_records(FIRST, tmp_path)[0]
    assert commit_of(record) == A + "+"


def test_the_command_does_a_cell_again_and_compares(tmp_path, monkeypatch, capsys):
    here = {"commit": A, "changed": False, "threads": 1, "cpu": "some kind"}
    monkeypatch.setattr(cells_module, "provenance", lambda: here)
    monkeypatch.setattr(work_module, "provenance", lambda: here)
    file = tmp_path / "plan.yaml"
    plan = {"arms": ["dapo"], "worlds": ["misread"], "settings": SETTINGS,
            "seeds": 1, "evaluation": "quick"}  # fmt: skip
    file.write_text(yaml.safe_dump(plan))
    words = ["--output", str(tmp_path / "out"), "--starts", str(tmp_path / "starts")]
    name = "misread-small-dapo-seed0"
    with pytest.raises(SystemExit):
        main(["again", str(file), name, *words])
    assert "has no finished cell" in capsys.readouterr().err
    assert main(["run", str(file), *words]) == 0
    here = here | {"commit": B}
    assert main(["again", str(file), name, *words]) == 0
    assert f"{B} gives the same numbers as {A}" in capsys.readouterr().out
    here = here | {"changed": True}
    with pytest.raises(SystemExit):
        main(["again", str(file), name, *words])
    assert "is not that of a commit" in capsys.readouterr().err
