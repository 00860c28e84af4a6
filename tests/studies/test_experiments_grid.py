"""Grids of trainings: the plan, the cells, and who does them when."""

import gzip
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import torch
import yaml

from vgpo.studies.experiments import validation
from vgpo.studies.experiments.arms import ARMS, find_arm
from vgpo.studies.experiments.cells import (
    DEVICES,
    LOOKING,
    METRICS,
    RECORD,
    UNTRAINED,
    VALIDATED,
    VERDICTS,
    Cell,
    read_table,
    run_cell,
)
from vgpo.studies.experiments.evaluation import (
    QUICK,
    Evaluation,
    Part,
    evaluate,
    questions_of,
)
from vgpo.studies.experiments.grid import Grid, read_grid
from vgpo.studies.experiments.places import Places, finished, holder, locked
from vgpo.studies.experiments.records import validation_table
from vgpo.studies.experiments.runs import TestbedRun
from vgpo.studies.experiments.starts import start_folder
from vgpo.studies.experiments.work import (
    check_starts,
    do_cell,
    progress,
    status,
    work,
)
from vgpo.testbed.model import load_tiny

SMALL = {
    "steps": 2,
    "prompts_per_step": 2,
    "rollouts": 2,
    "max_completion_length": 12,
}
PLAN = {
    "arms": ["dapo", "vgpo_token"],
    "worlds": ["misread"],
    "settings": {"small": SMALL},
    "seeds": 2,
    "evaluation": "quick",
}


def written(folder, **changes):
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump(PLAN | changes))
    return file


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "records" / "plan", tmp_path / "starts")


def cell_of(arm="dapo", world="misread", seed=0, **settings):
    run = TestbedRun(
        method=find_arm(arm).method, seed=seed, world=world, **(SMALL | settings)
    )
    return Cell(arm, "small", "shipped", run, QUICK)


def done(cell, places):
    """Does a cell here; returns its record."""
    assert do_cell(cell, places)
    return finished(cell, places)


# The plan ----------------------------------------------------------------


def test_recipes_are_grids_of_known_arms(root):
    for file in (root / "recipes" / "experiments").glob("*.yaml"):
        grid = read_grid(file)
        assert len(grid.seeds) >= 6
        assert len({cell.name for cell in grid.cells()}) == len(list(grid.cells()))


@pytest.mark.parametrize(
    ("name", "world", "decides"),
    [("headline", "look_away", True), ("headline_misread", "misread", False)],
)
def test_headline_asks_what_was_fixed_beforehand(name, world, decides, root):
    grid = read_grid(root / "recipes" / "experiments" / f"{name}.yaml")
    assert grid.seeds == tuple(range(10)) and grid.baseline == "dapo"
    wanted = {"grpo", "dapo", "vgpo_token", "vgpo_prediction", "vgpo_released",
              "vgpo_mean", "oracle_reads", "shuffled", "inverted"}  # fmt: skip
    assert set(grid.arms) == wanted | ({"oracle_decides"} if decides else set())
    assert grid.worlds == (world,)
    further = sum(grid.further_seeds.values())
    assert len(list(grid.cells())) == 1 + 10 * len(grid.arms) + further


def test_further_seeds_come_last_and_for_their_arms_alone(tmp_path):
    arms = ["dapo", "shuffled", "vgpo_token"]
    more = {"dapo": 2, "vgpo_token": 1}
    grid = read_grid(written(tmp_path, arms=arms, seeds=[0, 4], further_seeds=more))
    found = [(c.run.seed, c.arm) for c in grid.cells() if c.arm != UNTRAINED]
    assert found == [
        *((seed, arm) for seed in (0, 4) for arm in arms),
        (5, "dapo"), (5, "vgpo_token"), (6, "dapo"),
    ]  # fmt: skip


def test_an_arm_is_left_out_where_its_world_cannot_have_it(tmp_path):
    worlds = ["misread", "look_away"]
    grid = read_grid(written(tmp_path, arms=["dapo", "oracle_decides"], worlds=worlds))
    deciding = [c for c in grid.cells() if c.arm == "oracle_decides"]
    assert {c.run.world for c in deciding} == {"look_away"}


def test_seeds_are_done_one_after_the_other_and_arms_stay_even(tmp_path):
    grid = read_grid(written(tmp_path, seeds=3, worlds=["misread", "look_away"]))
    cells = list(grid.cells())
    assert [c.arm for c in cells[:2]] == [UNTRAINED, UNTRAINED]
    trained = cells[2:]
    assert [c.run.seed for c in trained] == sorted(c.run.seed for c in trained)
    for stop in range(len(trained)):
        counts = pd.Series([c.arm for c in trained[:stop]]).value_counts()
        if len(counts) == 2:
            assert counts.max() - counts.min() <= 2


def test_settings_of_one_wording_share_their_cold_start(tmp_path):
    settings = {"a": SMALL, "b": SMALL | {"steps": 3}, "c": {"wording": "wordy"}}
    cells = list(read_grid(written(tmp_path, settings=settings)).cells())
    assert [c.wording for c in cells if c.arm == UNTRAINED] == ["shipped", "wordy"]


def test_an_arm_with_larger_steps_differs_in_its_rate_alone(tmp_path):
    arms, settings = ["dapo", "dapo_rate_1.3"], {"a": SMALL | {"learning_rate": 5e-5}}
    grid = read_grid(written(tmp_path, arms=arms, settings=settings, seeds=1))
    _, plain, larger = (cell.settings() for cell in grid.cells())
    assert plain["run"]["learning_rate"] == 5e-5
    assert larger["run"].pop("learning_rate") == pytest.approx(6.5e-5)
    del plain["run"]["learning_rate"]
    assert larger | {"arm": "dapo"} == plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ["dapo", "vgpoo"]}, "there is no arm 'vgpoo'; there are grpo, dapo"),
        ({"arms": ["vgpo_token"]}, "baseline must be one of the arms"),
        (
            {"further_seeds": {"shuffled": 2}},
            "further_seeds: 'shuffled' must be one of",
        ),
        ({"further_seeds": {"dapo": 0}}, "a number of seeds from 1; got 0"),
        ({"worlds": ["moon"]}, "worlds: 'moon' is none of"),
        ({"evaluation": "endless"}, "evaluation: 'endless' is none of"),
        ({"seeds": [1, 1]}, "seeds: none, or one of them twice"),
        ({"settings": {"a": {"lr": 1}}}, r"settings: 'a' has \['lr'\]"),
        ({"settings": {"a": {"seed": 1}}}, r"settings: 'a' has \['seed'\]"),
        ({"settings": {"a": {"wording": "long"}}}, "wording of 'a' must be one of"),
        ({"settings": {"a": {"steps": 0}}}, "steps must be a whole number, at least 1"),
        ({"colour": "red"}, r"unknown: \['colour'\]"),
        ({"shares": ["plan"]}, "shares: 'plan' itself, or a grid twice"),
        ({"shares": ["a", "a"]}, "shares: 'plan' itself, or a grid twice"),
        ({"shares": "headline"}, "shares must be a list of names of grids, got"),
    ],
)
def test_what_a_file_gets_wrong_is_named(change, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        read_grid(written(tmp_path, **change))
    assert "plan.yaml" in str(error.value)


def test_a_grid_that_is_not_there_is_named(tmp_path):
    written(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no grid .*; there are: plan"):
        read_grid(tmp_path / "plam.yaml")


def test_an_arm_has_to_fit_its_cell():
    run = TestbedRun(method="vgpo_scored", world="misread")
    with pytest.raises(ValueError, match="has no meaning in 'misread'"):
        Cell("oracle_decides", "s", "shipped", run, QUICK)
    with pytest.raises(ValueError, match="is of method 'dapo', got 'vgpo_scored'"):
        Cell("dapo", "s", "shipped", run, QUICK)
    assert all(ARMS[name].name == name for name in ARMS)


def test_a_world_without_a_shipped_start_has_one_wording_and_one_made_before(tmp_path):
    assert start_folder("look_away_large", "shipped", tmp_path).parent == tmp_path
    run = TestbedRun(method="dapo", world="look_away_large")
    with pytest.raises(ValueError, match="'look_away_large' has none"):
        Cell("dapo", "s", "wordy", run, QUICK)
    with pytest.raises(ValueError, match=r"^device must be one of"):
        Cell("dapo", "s", "shipped", run, QUICK, device="tpu")


def test_only_a_device_other_than_the_cpu_is_recorded(tmp_path):
    assert "device" not in cell_of().settings()
    assert replace(cell_of(), device="cuda").settings()["device"] == "cuda"
    grid = read_grid(written(tmp_path, device="cuda"))
    assert {cell.device for cell in grid.cells()} == {"cuda"}
    assert {cell.device for cell in read_grid(written(tmp_path)).cells()} == {"cpu"}


# One cell ----------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two cells done in one process, the first of them again at the end."""
    folder = tmp_path_factory.mktemp("cells")
    first, other = cell_of("vgpo_prediction", "look_away", 3), cell_of("dapo")
    for name, cell in (("first", first), ("other", other), ("again", first)):
        (folder / name).mkdir()
        start = start_folder(cell.run.world, "shipped", folder)
        run_cell(cell, start, folder / name)
    return folder


def test_a_cell_is_the_same_to_the_last_bit_whatever_came_before(recorded):
    first, again = recorded / "first", recorded / "again"
    for name in (VERDICTS, LOOKING):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    metrics = [read_table(f / METRICS).drop(columns="step_time") for f in
               (first, again)]  # fmt: skip
    pd.testing.assert_frame_equal(*metrics, check_exact=True)
    records = [json.loads((f / RECORD).read_text()) for f in (first, again)]
    assert records[0]["outcomes"] == records[1]["outcomes"]
    other = read_table(recorded / "other" / METRICS)
    assert not other["reward"].equals(metrics[0]["reward"])


def test_longer_chains_over_more_tiles_are_a_cell_as_any_other(tmp_path):
    cell = cell_of("oracle_decides", "look_away_large", max_completion_length=192)
    # It has the words of the shipped model, which stands in for the larger one.
    record = run_cell(cell, start_folder("look_away", "shipped", tmp_path), tmp_path)
    assert record["world"] == "look_away_large" and "gpu" not in record
    assert 0 < record["outcomes"]["looking/looks"] <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_cell_is_done_where_it_says(tmp_path):
    found = {}
    for device in DEVICES:
        (tmp_path / device).mkdir()
        cell = replace(cell_of("dapo", "look_away"), arm=UNTRAINED, device=device)
        start = start_folder("look_away", "shipped", tmp_path)
        run_cell(cell, start, tmp_path / device)
        found[device] = read_table(tmp_path / device / VERDICTS)
        trained = replace(cell_of("vgpo_token", "look_away"), device=device)
        record = run_cell(trained, start, tmp_path / device)
        assert ("gpu" in record) == (device == "cuda")
    # The same numbers are drawn from the same distributions, but for rounding.
    same = (found["cpu"]["length"] == found["cuda"]["length"]).mean()
    assert same > 0.9


def test_a_record_says_all_there_is_to_know(recorded):
    folder = recorded / "first"
    record = json.loads((folder / RECORD).read_text())
    assert record["arm"] == "vgpo_prediction" and record["world"] == "look_away"
    assert record["seed"] == 3 and record["run"]["steps"] == SMALL["steps"]
    assert record["fields"] == {"alignment": "prediction"}
    assert record["evaluation"]["parts"][0]["name"] == "sampled"
    assert len(record["start"]) == 64
    assert {"torch", "transformers", "trl", "python"} <= set(record["versions"])
    assert {"load", "train", "evaluate", "look"} == set(record["seconds"])
    assert record["threads"] == torch.get_num_threads() and record["cpu"]
    assert record["commit"] is None or len(record["commit"]) == 40
    # No names of machines, no paths.
    text = (folder / RECORD).read_text()
    assert os.uname().nodename not in text and str(folder) not in text
    for outcome in ("reward/area", "accuracy/sampled", "abs_advantage/area",
                    "grad_norm/area", "entropy/area", "looking/late_early",
                    "looks/area", "accuracy/grey"):  # fmt: skip
        assert outcome in record["outcomes"]
    metrics = read_table(folder / METRICS)
    assert len(metrics) == SMALL["steps"]
    assert record["outcomes"]["reward/area"] == pytest.approx(
        metrics["reward"].mean(), abs=1e-6
    )
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    assert size < 60_000


def test_every_answer_has_its_verdict(recorded):
    verdicts = read_table(recorded / "first" / VERDICTS)
    wanted = sum(
        part.samples * len(questions_of(part, "look_away", QUICK.seed))
        for part in QUICK.parts
    )
    assert len(verdicts) == wanted
    assert not verdicts.duplicated(["part", "family", "question", "sample"]).any()
    assert set(verdicts["right"]) <= {0, 1}
    assert (verdicts["length"] <= QUICK.max_new_tokens).all()
    outcomes = json.loads((recorded / "first" / RECORD).read_text())["outcomes"]
    mine = verdicts.loc[verdicts["part"] == "sampled", "right"].mean()
    assert outcomes["accuracy/sampled"] == pytest.approx(mine, abs=1e-6)


def test_questions_on_the_way_change_nothing_of_a_training(
    recorded, tmp_path, monkeypatch
):
    few = Evaluation((Part("validation", questions=3),), seed=8, max_new_tokens=48)
    monkeypatch.setattr(validation, "VALIDATION", few)
    cell = replace(cell_of("dapo"), validate_every=2)
    start = start_folder(cell.run.world, "shipped", recorded)
    record = run_cell(cell, start, tmp_path)
    plain = recorded / "other"
    for name in (VERDICTS, LOOKING):
        assert (tmp_path / name).read_bytes() == (plain / name).read_bytes()
    metrics = [read_table(f / METRICS).drop(columns="step_time") for f in
               (tmp_path, plain)]  # fmt: skip
    pd.testing.assert_frame_equal(*metrics, check_exact=True)
    asked = read_table(tmp_path / VALIDATED)
    assert asked.groupby("step").size().to_dict() == {0: 6, 2: 6}
    model, processor = load_tiny(start)
    untrained = evaluate(model, processor, "misread", few)[0]["right"]
    assert asked.loc[asked["step"] == 0, "right"].tolist() == untrained.tolist()
    folder = tmp_path / "grid" / cell.name
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(record))
    (tmp_path / VALIDATED).rename(folder / VALIDATED)
    table = validation_table(folder.parent)
    assert table["step"].tolist() == [0, 2] and set(table["arm"]) == {"dapo"}
    wanted = record["outcomes"]["validation/area"]
    assert table["right"].mean() == pytest.approx(wanted, abs=1e-6)
    plan = read_grid(written(tmp_path, validate_every=5))
    assert all(cell.validate_every == 5 for cell in plan.cells())
    with pytest.raises(ValueError, match="validate_every must be 0 or more"):
        replace(cell, validate_every=-1)


# Who does what -----------------------------------------------------------


def test_a_finished_cell_is_not_done_again(places):
    cell = cell_of()
    record = done(cell, places)
    stamp = (places.folder(cell) / RECORD).stat().st_mtime_ns
    assert not do_cell(cell, places)
    assert finished(cell, places) == record
    assert (places.folder(cell) / RECORD).stat().st_mtime_ns == stamp
    other = replace(cell, run=replace(cell.run, steps=3))
    with pytest.raises(ValueError, match=r"other settings \(run\)"):
        do_cell(other, places)


def test_a_cell_somebody_is_at_is_left_alone(places):
    cell = cell_of()
    with locked(places.lock(cell)) as ours:
        assert ours
        assert holder(places.lock(cell))["pid"] == os.getpid()
        assert not do_cell(cell, places)
    assert not places.folder(cell).exists()
    assert holder(places.lock(cell)) is None


def _hold_and_say(path, ready):
    with locked(path) as ours:
        assert ours
        ready.set()
        time.sleep(300)


def test_the_lock_of_a_killed_process_is_stale(places):
    path = places.lock(cell_of())
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold_and_say, args=(path, ready))
    process.start()
    assert ready.wait(120)
    assert holder(path)["pid"] == process.pid
    with locked(path) as ours:
        assert not ours
    process.kill()
    process.join()
    assert json.loads(path.read_text())["pid"] == process.pid  # it still says so
    assert holder(path) is None
    with locked(path) as ours:
        assert ours


def test_what_a_kill_has_left_behind_is_cleared(places):
    cell = cell_of()
    left = places.records / ".work" / cell.name / "work"
    left.mkdir(parents=True)
    (left / "metrics.jsonl").write_text('{"step": 7, "reward": 1.0}\n')
    places.lock(cell).parent.mkdir(parents=True)
    places.lock(cell).write_text('{"pid": 1, "ho')
    done(cell, places)
    names = sorted(p.name for p in places.folder(cell).iterdir())
    assert names == sorted([RECORD, METRICS, VERDICTS, LOOKING])
    assert len(read_table(places.folder(cell) / METRICS)) == SMALL["steps"]


def test_the_rate_is_that_of_the_records_and_not_of_the_files(tmp_path, places):
    """All files of a fresh clone are as old as the clone."""
    grid = read_grid(written(tmp_path))
    now = datetime.now(UTC)
    for number, cell in enumerate(list(grid.cells())[:3]):
        folder = places.folder(cell)
        folder.mkdir(parents=True)
        record = cell.settings() | {"date": str(now - timedelta(days=number))}
        (folder / RECORD).write_text(json.dumps(record))
    assert progress(grid, places) == "3 of 5 cells"
    for number, cell in enumerate(list(grid.cells())[:3]):
        record = cell.settings() | {"date": str(now - timedelta(seconds=100 * number))}
        (places.folder(cell) / RECORD).write_text(json.dumps(record))
    assert progress(grid, places) == "3 of 5 cells, 36.0 an hour, 0.1 hours left"


def test_a_run_says_how_far_it_is_and_stops_in_time(tmp_path, places):
    grid = read_grid(written(tmp_path))
    said = []
    assert work(grid, places, limit_minutes=0, say=said.append) == 0
    assert said == ["stopping: 0 of 0 minutes are over"]
    assert progress(grid, places) == "0 of 5 cells"
    assert work(replace(grid, seeds=(0,)), places, say=said.append) == 3
    assert "3 of 5 cells" in progress(grid, places)
    lines = status(grid, places).splitlines()
    assert lines[1].split() == [UNTRAINED, "1", "of", "1"]
    assert lines[2].split() == ["dapo", "1", "of", "2"]
    # And goes on with the rest alone.
    assert work(grid, places, say=said.append) == 2
    assert work(grid, places, say=said.append) == 0
    assert said[-1].startswith("plan is finished: 5 of 5 cells")


def test_cells_from_other_weights_are_not_mixed(tmp_path, places):
    grid = Grid(
        "plan", ("dapo",), ("misread",), {"small": SMALL}, (0,), evaluation="quick"
    )
    cell = list(grid.cells())[-1]
    done(cell, places)
    file = places.folder(cell) / RECORD
    check_starts(grid, places)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"start": "0" * 64}))
    with pytest.raises(ValueError, match="began with other weights"):
        check_starts(grid, places)


def command(root, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "vgpo.studies.experiments", *map(str, words)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_kill_at_any_moment_then_two_commands_at_once(root, tmp_path, places):
    """No cell is lost, none is done twice."""
    file = written(tmp_path, seeds=3)
    words = ("run", file, "--output", places.records.parent, "--starts",
             places.starts)  # fmt: skip
    first = command(root, *words)
    grid = read_grid(file)
    deadline = time.monotonic() + 240
    while not places.records.exists() or not list(places.records.glob("[!.]*")):
        assert time.monotonic() < deadline
        assert first.poll() is None, first.stdout.read()
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = {p: p.stat().st_mtime_ns for p in places.records.glob(f"[!.]*/{RECORD}")}
    assert 1 <= len(before) < 6
    both = [command(root, *words), command(root, *words, "--workers", "2")]
    said = [process.communicate(timeout=280)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    cells = list(grid.cells())
    assert all(finished(cell, places) for cell in cells)
    for path, stamp in before.items():
        assert path.stat().st_mtime_ns == stamp
    announced = [line.split(":")[0] for text in said for line in text.splitlines()
                 if " s; " in line]  # fmt: skip
    assert len(announced) == len(set(announced))
    assert len(announced) == 6 - len(before)


def test_the_command_names_what_is_wrong(root, tmp_path, capsys):
    from vgpo.studies.experiments.__main__ import main

    with pytest.raises(SystemExit):
        main(["run", str(written(tmp_path, arms=["dapo", "ppo"]))])
    assert "there is no arm 'ppo'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path / "none.yaml")])
    assert "no grid" in capsys.readouterr().err


WRONG = [
    ("arms", 5), ("arms", None), ("arms", {"dapo": 1}), ("arms", [["dapo"]]),
    ("arms", "dapo"), ("worlds", 3), ("worlds", [["misread"]]), ("shares", [5]),
    ("shares", None), ("settings", None), ("settings", ["a"]), ("settings", {"a": 5}),
    ("settings", {"a": "steps"}), ("settings", {"../a": SMALL}),
    ("settings", {"a/b": SMALL}), ("settings", {"a": {"wording": ["terse"]}}),
    ("steps", {"settings": {"a": {"steps": "many"}}}),
    ("learning_rate", {"settings": {"a": {"learning_rate": "1e-4"}}}),
    ("seeds", 1.5), ("seeds", True), ("seeds", None), ("seeds", ["a"]),
    ("seeds", [-3]), ("seeds", [0.5]), ("seeds", -1), ("further_seeds", 3),
    ("further_seeds", ["dapo"]), ("further_seeds", None),
    ("further_seeds", {"dapo": True}), ("further_seeds", {"dapo": "two"}),
    ("validate_every", "often"), ("validate_every", 1.5), ("validate_every", -1),
    ("evaluation", ["quick"]), ("evaluation", None), ("baseline", ["dapo"]),
    ("description", ["x"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG, ids=str)
def test_a_value_of_another_form_is_named(name, value, tmp_path, capsys):
    """Whatever stands in the file, one line names it, and where it stands."""
    from vgpo.studies.experiments.__main__ import main

    changes = value if name in ("steps", "learning_rate") else {name: value}
    file = written(tmp_path, **changes)
    with pytest.raises(SystemExit):
        main(["status", str(file)])
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{file}: {name}" in said


@pytest.mark.parametrize("command", ["run", "report"])
def test_a_folder_that_cannot_be_is_named(command, tmp_path, capsys):
    from vgpo.studies.experiments.__main__ import main

    file = written(tmp_path)
    with pytest.raises(SystemExit):
        main([command, str(file), "--output", str(file)])
    assert str(file) in capsys.readouterr().err.splitlines()[-1]


def test_a_report_of_nothing_and_no_time_are_named(tmp_path, capsys):
    from vgpo.studies.experiments.__main__ import main

    file = str(written(tmp_path))
    with pytest.raises(SystemExit):
        main(["report", file, "--output", str(tmp_path / "empty")])
    assert "no finished cells of plan" in capsys.readouterr().err
    for minutes in ("0", "-1", "nan"):
        with pytest.raises(SystemExit):
            main(["run", file, "--limit-minutes", minutes])
        assert "--limit-minutes must be above 0" in capsys.readouterr().err


def test_tables_are_packed_to_the_same_bytes(recorded):
    text = gzip.decompress((recorded / "first" / VERDICTS).read_bytes())
    assert text.startswith(b"part,family,temperature,question,sample,right")
    shutil.copy(recorded / "first" / VERDICTS, recorded / "copy.csv.gz")
    assert len(read_table(recorded / "copy.csv.gz")) == text.count(b"\n") - 1
