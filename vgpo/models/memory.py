"""Peak memory of a call, counted and not sampled."""

import gc
import os
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(function: Callable[[], object], device: str = "cpu") -> int:
    """Most bytes alive at once during a call, above those alive before it.

    On CUDA this is PyTorch's own peak counter. On a CPU every allocation and release
    is read from the profiler's memory events, which slows the call down.

    Args:
        function: What is called, once.
        device: ``"cuda"``, or anything else for the CPU.

    Returns:
        Bytes; memory that is not PyTorch's is not counted.

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
        function()
    changes = [
        (event.start_ns(), event.nbytes())
        for event in record.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    alive = most = 0
    for _, change in sorted(changes):
        alive += change
        most = max(most, alive)
    return most
