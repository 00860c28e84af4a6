"""Whether a step looks where it should, where that is known."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pointing_hits(image_attention: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """Whether the image token that a step looks at most is one it should look at.

    Args:
        image_attention: (T, M) float: attention of each step on each image token.
        targets: For each step the indices of the image tokens that show what it
            needs.

    Returns:
        (T,) bool; False where there is no target or no attention on the image.

    Raises:
        ValueError: A shape is wrong, or a target is not among the M.

    Example:
        >>> import torch
        >>> pointing_hits(torch.tensor([[0.1, 0.3], [0.2, 0.1]]), [[1], [1]])
        tensor([ True, False])
    """
    on_target = _on_target(image_attention, targets)
    hits = on_target.gather(1, image_attention.argmax(dim=1, keepdim=True))[:, 0]
    return hits & (image_attention > 0).any(dim=1)


def share_on_target(
    image_attention: Tensor, targets: Sequence[Sequence[int]]
) -> Tensor:
    """Which part of its attention on the image a step gives to what it needs.

    Args:
        image_attention: (T, M) float: attention of each step on each image token.
        targets: As in :func:`pointing_hits`.

    Returns:
        (T,) float in [0, 1]; NaN where a step looks nowhere on the image.

    Raises:
        ValueError: A shape is wrong, or a target is not among the M.

    Example:
        >>> import torch
        >>> share_on_target(torch.tensor([[0.1, 0.3], [0.2, 0.0]]), [[1], [1]])
        tensor([0.7500, 0.0000])
    """
    on_target = _on_target(image_attention, targets)
    return (image_attention * on_target).sum(dim=1) / image_attention.sum(dim=1)


def _on_target(image_attention: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    if image_attention.ndim != 2 or not image_attention.shape[1]:
        raise ValueError(
            "image_attention: must have shape (T, M) with M at least 1, got "
            f"{tuple(image_attention.shape)}."
        )
    steps, size = image_attention.shape
    if len(targets) != steps:
        raise ValueError(f"targets: need one per step, {steps}, got {len(targets)}.")
    on_target = torch.zeros(steps, size, dtype=torch.bool)
    for step, wanted in enumerate(targets):
        if any(not 0 <= index < size for index in wanted):
            raise ValueError(
                f"targets: step {step} names {list(wanted)}, but there are {size} "
                "image tokens, counted from 0."
            )
        on_target[step, list(wanted)] = True
    return on_target.to(image_attention.device)
