"""How much a token depends on the image, by what a degraded view takes from it.

PAPO and VPPO compare a sampled token's log-probability before the picture with the
one before a degraded view of it. Both use the same non-negative estimate of a
Kullback-Leibler divergence, from that one token.
"""

from torch import Tensor

LIMIT = 20.0
"""Both clamp the difference of log-probabilities to [-20, 20], released code."""

CEILING = 10.0
"""Both clamp the estimate at 10, released code."""


def check_view(probability: float, patch: int) -> None:
    """Refuses settings by which no degraded view can be drawn.

    Raises:
        ValueError: ``probability`` is out of [0, 1] or ``patch`` below 1.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {probability}")
    if patch < 1:
        raise ValueError(f"patch must be at least 1, got {patch}")


def k3(degraded_log_probs: Tensor, log_probs: Tensor) -> Tensor:
    r"""The estimate, for each token.

    .. math:: k = e^x - x - 1,\quad
        x = \log \pi(y_t | \tilde I, y_{<t}) - \log \pi(y_t | I, y_{<t})

    x is clamped to [-20, 20] and k to at most 10, so that its gradient is 0 for
    x above 2.61 and below -11.0. With :math:`y_t \sim \pi(\cdot | I)`, the mean of
    k is the divergence of the degraded policy from the policy.

    Args:
        degraded_log_probs: Before the degraded view, any shape.
        log_probs: Before the picture, the same shape. A gradient flows through it,
            if it has one.

    Returns:
        In [0, 10], the same shape.

    Example:
        >>> import torch
        >>> k3(torch.tensor([-1.0, -2.0, -9.0]), torch.tensor([-1.0, -1.0, -1.0]))
        tensor([0.0000, 0.3679, 7.0003])
    """
    gap = (degraded_log_probs - log_probs).clamp(-LIMIT, LIMIT)
    return (gap.exp() - gap - 1).clamp(max=CEILING)
