"""Seeds made of several numbers, and random numbers of a seed for a while."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def mixed_seed(*numbers: int) -> int:
    """One seed out of several numbers, such as a run's seed, a step and a prompt.

    A hash, so that neighbours have nothing in common; the same on every machine and
    in every process.

    Args:
        *numbers: Of any size and sign.

    Returns:
        In [0, 2^63), what ``torch.Generator.manual_seed`` takes.

    Example:
        >>> mixed_seed(1, 0) == mixed_seed(1, 0), mixed_seed(1, 0) == mixed_seed(0, 1)
        (True, False)
        >>> 0 <= mixed_seed(2**64, 3) < 2**63
        True
    """
    text = ",".join(str(int(number)) for number in numbers)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Random numbers of ``seed``, on the CPU and on one device.

    Afterwards the generators are where they were. ``torch.manual_seed`` would begin
    those of every accelerator anew, so that whoever samples there, as training does,
    would sample the same again.

    Args:
        seed: For the generators.
        device: Whose generator is meant beside that of the CPU; an accelerator's must
            be the current one, as it is where a model runs.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(3):
        ...     one = torch.rand(1)
        >>> with seeded(3):
        ...     bool(torch.rand(1) == one)
        True
        >>> bool((torch.get_rng_state() == before).all())
        True
    """
    device = torch.device(device)
    forked: dict = {"devices": []}
    if device.type != "cpu":
        forked = {"devices": [device], "device_type": device.type}
    with torch.random.fork_rng(**forked):
        torch.default_generator.manual_seed(seed)
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)
        yield
