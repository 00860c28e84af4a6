"""What a model predicts at the tokens of completions: the whole distribution."""

import inspect
from typing import Any

from torch import Tensor, nn

from vgpo.models.handle import ModelHandle, resolve


def log_distributions(
    model: nn.Module | ModelHandle, inputs: dict[str, Tensor], length: int
) -> Tensor:
    """Log-probabilities of the whole vocabulary at each token of completions.

    Args:
        model: A vision-language model, wrapped or not, or its handle.
        inputs: Of its forward pass; completions are the last positions of each row.
        length: In tokens, T.

    Returns:
        (B, T, V) float32.
    """
    model = resolve(model).model
    options: dict[str, Any] = {}
    # All logits of a long prompt are gigabytes; most families can leave them out.
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        options["logits_to_keep"] = length + 1
    logits = model(**inputs, use_cache=False, **options).logits
    return logits[:, -length - 1 : -1].float().log_softmax(dim=-1)


def of_tokens(log_probs: Tensor, ids: Tensor) -> Tensor:
    """The log-probabilities of some tokens.

    Args:
        log_probs: (B, T, V).
        ids: (B, T), on any device.

    Returns:
        (B, T).

    Example:
        >>> import torch
        >>> even = torch.full((1, 2, 4), 0.25).log()
        >>> of_tokens(even, torch.tensor([[0, 3]])).exp()
        tensor([[0.2500, 0.2500]])
    """
    return log_probs.gather(-1, ids.to(log_probs.device)[..., None])[..., 0]
