"""Two processes under an engine give what one process gives, and can be resumed.

On a CPU, over gloo. Three groups of four rollouts: the second is split over both.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys

import engines
import pytest
import torch

pytestmark = pytest.mark.slow

NEEDS_DEEPSPEED = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None,
    reason="deepspeed is not installed: pip install --no-deps deepspeed hjson "
    "py-cpuinfo ninja msgpack einops",
)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one process saw, and the weights it ended with."""
    folder = tmp_path_factory.mktemp("one")
    engines.save_model(folder)
    return engines.record(folder, folder / "model", 1)


@pytest.fixture(
    scope="module",
    params=[
        "ddp",
        "fsdp2",
        pytest.param("zero2", marks=NEEDS_DEEPSPEED),
        pytest.param("zero3", marks=NEEDS_DEEPSPEED),
    ],
)
def two(request, root, tmp_path_factory):
    """The same of two processes under an engine."""
    folder = tmp_path_factory.mktemp(request.param)
    engines.save_model(folder)
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    common = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": path,
    }
    command = [sys.executable, str(root / "tests" / "engines.py"), request.param]
    started = [
        subprocess.Popen(
            [*command, str(folder)],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in started:
            output, _ = process.communicate(timeout=280)
            assert process.returncode == 0, output[-4000:]
    finally:
        for process in started:
            process.kill()
    return [
        (
            json.loads((folder / f"rank{rank}.json").read_text()),
            torch.load(folder / f"weights{rank}.pt", weights_only=True),
        )
        for rank in range(2)
    ]


def flat(value):
    if isinstance(value, list):
        return [number for part in value for number in flat(part)]
    return [value]


def test_focus_is_that_of_one_process(one, two):
    expected = one[0]["focus"]
    assert len(expected) == engines.STEPS // 2
    assert max(flat(expected)) > 0.1
    for seen, _ in two:
        assert len(seen["focus"]) == len(expected)
        for ours, theirs in zip(seen["focus"], expected, strict=True):
            assert flat(ours) == pytest.approx(flat(theirs), abs=1e-6)


def test_advantages_are_those_of_one_process(one, two):
    batches = zip(*(seen["batches"] for seen, _ in two), strict=True)
    joined = [[row for part in batch for row in part] for batch in batches]
    assert len(joined) == len(one[0]["batches"])
    for ours, theirs in zip(joined, one[0]["batches"], strict=True):
        assert len(ours) == len(theirs) == engines.GROUPS * engines.GROUP
        for row, wanted in zip(ours, theirs, strict=True):
            assert row["completion"] == wanted["completion"]
            assert row["advantages"] == pytest.approx(wanted["advantages"], abs=5e-6)


def test_weights_are_those_of_one_process(one, two):
    (_, first), (_, second) = two
    assert torch.equal(first, second)
    assert (first - one[1]).abs().max() < 1e-4


def test_resumed_between_two_generations_to_the_same_bits(one, two):
    for seen in (one[0], *(seen for seen, _ in two)):
        assert seen["steps"] == engines.STEPS - engines.SAVED
        assert seen["resumed"] is True
