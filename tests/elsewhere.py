"""A second device on a machine that has none, to see what is left behind on the first.

Tensors there hold ordinary ones and compute with them, and refuse what a GPU refuses:
an operation with a tensor of the CPU, and NumPy.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy", 0)
"""A type that PyTorch knows the name of and has no kernels for."""

_ACROSS = {"aten::copy_", "aten::_to_copy"}
_INDEXED = {"aten::index", "aten::index_put_", "aten::index_put"}


class Elsewhere(torch.Tensor):
    """A tensor on :data:`DEVICE`."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        self = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=DEVICE
        )
        self.held = held
        return self

    def __repr__(self, **_):
        return f"Elsewhere({self.held})"

    def tolist(self):
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


def _computed(func, args, kwargs):
    name = func._schema.name
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    if name in _INDEXED and isinstance(args[0], Elsewhere):
        given = [args[0], *args[2:3]]  # places may be named from the CPU
    there = [x for x in given if isinstance(x, Elsewhere)]
    # A single number may stay on the CPU.
    here = [x for x in given if not isinstance(x, Elsewhere) and x.ndim]
    if here and there and name not in _ACROSS:
        raise RuntimeError(
            f"{name}: expected all tensors to be on the same device, but found at "
            f"least two devices, {DEVICE} and cpu!"
        )
    goes = bool(there)
    if name == "aten::copy_":
        goes = isinstance(args[0], Elsewhere)
    if kwargs.get("device") is not None:
        goes = torch.device(kwargs["device"]).type == DEVICE.type
        kwargs = kwargs | {"device": torch.device("cpu")}
    # What is changed in place is given back itself.
    outer = {id(x.held): x for x in there}

    def wrapped(x):
        if not goes or not isinstance(x, torch.Tensor):
            return x
        return outer[id(x)] if id(x) in outer else Elsewhere(x)

    args, kwargs = tree_map(_held, (args, kwargs))
    return tree_map(wrapped, func(*args, **kwargs))


def _held(x):
    return x.held if isinstance(x, Elsewhere) else x


class _There(TorchDispatchMode):
    """Sends what is made or moved there there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


@contextmanager
def another_device() -> Iterator[torch.device]:
    """The device, for as long as the context is open."""
    own, enabled = torch.autocast, torch.is_autocast_enabled
    tensor = torch.tensor

    # There is no autocast there, whether asked for or not.
    def autocast(kind, **how):
        return nullcontext() if kind == DEVICE.type else own(kind, **how)

    def is_autocast_enabled(kind=None):
        return kind != DEVICE.type and enabled(*([kind] if kind else []))

    # PyTorch reads numbers out of a list of tensors where nobody can see it.
    def tensor_of(data, **how):
        return tensor(tree_map(_held, data) if isinstance(data, list) else data, **how)

    generator = SimpleNamespace(
        get_rng_state=lambda device=None: torch.get_rng_state(),
        set_rng_state=lambda state, device=None: torch.set_rng_state(state),
        manual_seed=lambda seed: None,
        device_count=lambda: 1,
    )
    # torch.tensor(..., device=...) fills on the CPU and then moves.
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with pytest.MonkeyPatch.context() as patch, _There():
            patch.setattr(torch, "tensor", tensor_of)
            patch.setattr(torch, "autocast", autocast)
            patch.setattr(torch, "is_autocast_enabled", is_autocast_enabled)
            patch.setattr(torch, DEVICE.type, generator, raising=False)
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(False)


def moved(model: nn.Module) -> nn.Module:
    """The model there, inside :func:`another_device`; it is changed in place."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                there = Elsewhere(value.detach())
                module._parameters[name] = nn.Parameter(there, requires_grad=False)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = Elsewhere(value)
    return model
