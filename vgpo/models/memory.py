"""Peak memory of a call, counted and not sampled."""

import gc
import json
import os
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(function: Callable[[], object], device: str = "cpu") -> int:
    """Most bytes alive at once during a call, above those alive before it.

    On CUDA this is PyTorch's own peak counter. On a CPU every allocation and release
    is read from the trace that the profiler exports, which slows the call down.

    Args:
        function: What is called, once.
        device: ``"cuda"``, or anything else for the CPU.

    Returns:
        Bytes; memory that is not PyTorch's is not counted.

    Raises:
        RuntimeError: This PyTorch's trace does not tell of allocations.

    Example:
        >>> peak_bytes(lambda: torch.ones(1000) + torch.ones(1000)) >= 12_000
        True
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # The profiler's own log goes to the standard error stream, past Python.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        _touch_one_byte()
        function()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        record.export_chrome_trace(str(trace))
        changes = _memory_changes(trace.read_text(encoding="utf-8"))
    alive = most = 0
    for change in changes:
        alive += change
        most = max(most, alive)
    return most


def _touch_one_byte() -> None:
    """Allocates and releases one byte, by which a trace is known to be complete."""
    torch.empty(1, dtype=torch.uint8)


def _memory_changes(trace: str) -> list[int]:
    """Bytes of each allocation (positive) and release (negative), in their order.

    The format of the trace is the profiler's and may change with PyTorch. So the
    first two changes must be those of :func:`_touch_one_byte`, which are left out.
    """
    # Nanoseconds as decimals of microseconds: a float would round them together.
    events = json.loads(trace, parse_float=Decimal).get("traceEvents", [])
    try:
        timed = sorted(
            (event["ts"], event["args"]["Bytes"])
            for event in events
            if event.get("name") == "[memory]"
        )
    except KeyError as missing:
        raise RuntimeError(_unreadable(f"memory events without {missing}")) from missing
    changes = [change for _, change in timed]
    if changes[:2] != [1, -1]:
        raise RuntimeError(_unreadable("no event for a byte that was allocated"))
    return changes[2:]


def _unreadable(what: str) -> str:
    return (
        f"The profiler of torch {torch.__version__} writes {what} into its trace, so "
        "peak memory on a CPU cannot be counted; use a torch that vgpo was tested "
        "with (see requirements.txt), or device='cuda'."
    )
