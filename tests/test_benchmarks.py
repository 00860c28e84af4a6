"""The performance harness, on any system that the book runs on."""

import os
import sys

from benchmarks import harness


def test_the_machine_is_described_where_affinity_is_unknown(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    described = harness.machine()
    assert described["cores"] == os.cpu_count()
    assert described["load_per_core"] >= 0
