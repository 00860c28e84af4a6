"""What a model answers depends on, as hashes: its weights, and what it is asked.

Names are not enough: a base model, its adapters, its 4-bit copy and the same model
trained further share one.
"""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vgpo.models.capture import AdapterState
from vgpo.models.handle import ModelHandle

_SAMPLED = 64
"""Values of each weight that enter the fingerprint as they are, beside its checksum."""


def model_fingerprint(handle: ModelHandle) -> str:
    """What a model answers depends on, as a hash; every weight is read once.

    Configuration (quantisation included), generation settings, which adapters are on,
    and of every parameter and buffer its name, type, shape, the sum of its bytes (whole
    numbers, the same in any order and on any number of threads) and some of its values.

    Args:
        handle: From :func:`vgpo.models.handle.resolve`.

    Returns:
        SHA-256, hexadecimal.

    Example:
        >>> from vgpo.models.handle import resolve
        >>> from vgpo.testbed import build_processor, build_tiny
        >>> model = build_tiny(build_processor(), hidden_size=64, layers=1)
        >>> before = model_fingerprint(resolve(model))
        >>> _ = model.lm_head.weight.data[0, 0].add_(1)
        >>> model_fingerprint(resolve(model)) == before
        False
    """
    model = handle.model
    settings = (model.config.to_dict(), model.generation_config.to_dict())
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(str(AdapterState(handle.wrapped).now()).encode())
    for name, tensor in _tensors(model):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(_content(tensor))
    return digest.hexdigest()


def _tensors(model: nn.Module):
    yield from model.named_parameters()
    yield from model.named_buffers()


def _content(tensor: Tensor) -> bytes:
    if tensor.is_meta or not tensor.numel():
        return b"-"
    flat = tensor.detach().reshape(-1)
    step = max(1, len(flat) // _SAMPLED)
    total = flat.contiguous().view(torch.uint8).sum(dtype=torch.int64)
    some = flat[::step].contiguous().cpu().view(torch.uint8).numpy()
    return f"{int(total)} ".encode() + some.tobytes()


def question_fingerprint(
    model: str, inputs: Mapping[str, Tensor], max_new_tokens: int
) -> str:
    """A question to a model, as a hash of all that its greedy answer depends on.

    Args:
        model: From :func:`model_fingerprint`.
        inputs: The prompt as the processor made it: token ids, pixels, sizes.
        max_new_tokens: Where the answer is cut off.

    Returns:
        SHA-256, hexadecimal.
    """
    digest = hashlib.sha256(f"{model} {max_new_tokens} ".encode())
    for name in sorted(inputs):
        value = inputs[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(
            value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
        )
    return digest.hexdigest()
