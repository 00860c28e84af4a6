"""One process and two give the same batches, factors and advantages.

Three groups of four rollouts over two processes: the second group is split.
"""

import json
import os
import socket
import subprocess
import sys

import pytest
import two_processes
from two_processes import FOCUSED, SETTINGS

PROCESSES = 2


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def runs(root, tmp_path_factory):
    """What one process recorded, and what each of the two did."""
    folder = tmp_path_factory.mktemp("two")
    common = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(PROCESSES),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": str(root),
    }
    command = [sys.executable, str(root / "tests" / "two_processes.py"), str(folder)]
    started = [
        subprocess.Popen(
            command,
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        one = two_processes.record(tmp_path_factory.mktemp("one"), processes=1)
        for process in started:
            output, _ = process.communicate(timeout=240)
            assert process.returncode == 0, output[-3000:]
    finally:
        for process in started:
            process.kill()
    two = [
        json.loads((folder / f"rank{rank}.json").read_text())
        for rank in range(PROCESSES)
    ]
    return one, two


def joined(two, name):
    """Batches of the two processes as the batch of one."""
    parts = zip(*(result[name]["batches"] for result in two), strict=True)
    return [[row for part in batch for row in part] for batch in parts]


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_same_batches_and_advantages(name, runs):
    one, two = runs
    ours, theirs = one[name]["batches"], joined(two, name)
    assert len(ours) == len(theirs) == 2
    for batch, expected in zip(theirs, ours, strict=True):
        groups = SETTINGS[name].get("groups", two_processes.GROUPS)
        assert len(batch) == len(expected) == groups * two_processes.GROUP
        for row, wanted in zip(batch, expected, strict=True):
            assert row["completion"] == wanted["completion"]
            assert row["images"] == wanted["images"]
            assert row["items"] == wanted["items"]
            assert row["advantages"] == pytest.approx(
                wanted["advantages"], abs=1e-3, rel=1e-3
            )
            assert row["extras"].keys() == wanted["extras"].keys()
            for key, values in wanted["extras"].items():
                assert row["extras"][key] == pytest.approx(values, abs=1e-3)


@pytest.mark.slow
def test_views_of_papo_travel_with_their_rows(runs):
    one, _ = runs
    views = [
        value
        for batch in one["PAPO"]["batches"]
        for row in batch
        for value in row["extras"]["extra:masked_log_probs"]
    ]
    assert len(set(views)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", FOCUSED)
def test_same_factors_on_every_process(name, runs):
    one, two = runs
    assert two[0][name]["factors"] == two[1][name]["factors"]
    for ours, theirs in zip(one[name]["factors"], two[0][name]["factors"], strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            assert flat(other) == pytest.approx(flat(mine), abs=1e-3)
    assert any(abs(value) > 0.1 for value in flat(one[name]["factors"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_same_number_of_rounds_and_same_log(name, runs):
    one, two = runs
    assert one[name]["calls"] == two[0][name]["calls"] == two[1][name]["calls"]
    if "dynamic sampling" in name:
        assert one[name]["calls"] > 2
    for ours, theirs in zip(one[name]["log"], two[0][name]["log"], strict=True):
        assert theirs == pytest.approx(ours, abs=1e-2)


@pytest.mark.slow
def test_used_up_attempts_end_on_both_processes(runs):
    one, two = runs
    for result in (one, *two):
        log = result["dynamic sampling, attempts used up"]["log"]
        shares = [row["dynamic_sampling/unfilled_share"] for row in log if row]
        assert shares == [1.0, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_same_weights_afterwards(name, runs):
    one, two = runs
    assert two[0][name]["weights"] == two[1][name]["weights"]
    assert two[0][name]["weights"] == pytest.approx(one[name]["weights"], abs=1e-4)


def flat(value):
    if isinstance(value, list):
        return [number for part in value for number in flat(part)]
    return [value]
