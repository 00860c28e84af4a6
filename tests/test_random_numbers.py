"""Seeds: what is drawn under one disturbs nobody's random numbers."""

import pytest
import torch

from vgpo.seeds import seeded
from vgpo.testbed import build_processor, build_tiny


def test_draws_are_those_of_the_seed_and_leave_the_generator_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with seeded(11):
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_error_leaves_the_generator_alone():
    before = torch.get_rng_state()
    with pytest.raises(KeyError), seeded(11):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_no_accelerator_begins_anew(monkeypatch):
    # What torch.manual_seed does where there is one.
    def refuse(seed):
        raise AssertionError("the generators of all accelerators begin anew")

    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    with pytest.raises(AssertionError):
        torch.manual_seed(1)
    with seeded(1):
        pass
    build_tiny(build_processor(), hidden_size=64, layers=1)


def test_an_accelerators_own_generator_is_seeded(monkeypatch):
    seeds, forked = [], {}

    class Device:
        @staticmethod
        def manual_seed(seed):
            seeds.append(seed)

    def fork(**options):
        forked.update(options)
        return torch.no_grad()

    monkeypatch.setattr(torch, "get_device_module", lambda device: Device)
    monkeypatch.setattr(torch.random, "fork_rng", fork)
    with seeded(5, "cuda:1"):
        pass
    assert seeds == [5]
    assert forked == {"devices": [torch.device("cuda:1")], "device_type": "cuda"}
