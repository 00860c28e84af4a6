"""How much a token depends on the image, by what a degraded view takes from it.

PAPO and VPPO compare a sampled token's log-probability before the picture with the
one before a degraded view of it. Both use the same non-negative estimate of a
Kullback-Leibler divergence, from that one token. ToR takes the absolute difference,
to no picture at all, and SRPO, as we read it, the difference itself. VEPO compares
the distributions over the whole vocabulary.
"""

import math

import torch
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

    .. math::
        k &= e^x - x - 1 \\
        x &= \log \pi(y_t | \tilde I, y_{<t}) - \log \pi(y_t | I, y_{<t})

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


VIEW_SIGNALS = ("k3", "contrast", "absolute_contrast", "jsd", "vepo")
"""What :func:`view_signals` makes of degraded views."""

_TOKENS_AT_ONCE = 64


@torch.no_grad()
def view_signals(
    plain: Tensor, noisy: Tensor, ids: Tensor, masked: Tensor, blind: Tensor
) -> dict[str, Tensor]:
    r"""Every signal that compares a token before a degraded view and before the image.

    - ``k3``: PAPO and VPPO, see :func:`k3`;
    - ``contrast``: :math:`\log \pi(y_t | I) - \log \pi(y_t | \tilde I)` to a masked
      picture (SRPO, our reading);
    - ``absolute_contrast``: the absolute value of that to no picture (ToR,
      arXiv 2603.25077);
    - ``jsd``: :func:`jensen_shannon` to a noisy picture (VEPO, arXiv 2606.03937);
    - ``vepo``: :func:`vepo_score`.

    Args:
        plain: Log-probabilities of the vocabulary before the picture, (B, T, V); all
            tokens are real.
        noisy: The same before a noisy picture.
        ids: The tokens, (B, T).
        masked: Their log-probabilities before a masked picture, (B, T).
        blind: The same before no picture.

    Returns:
        (B, T) each, by the names of :data:`VIEW_SIGNALS`.

    Example:
        >>> even = torch.full((1, 2, 4), 0.25).log()
        >>> ids = torch.tensor([[0, 3]])
        >>> found = view_signals(even, even, ids, even[..., 0] - 1, even[..., 0])
        >>> {name: values[0].tolist() for name, values in found.items()}["contrast"]
        [1.0, 1.0]
    """
    chosen = plain.gather(-1, ids[..., None])[..., 0]
    # A chunk of tokens at a time: several tensors as large as the distributions of a
    # long answer do not fit beside a large model.
    pairs = list(
        zip(
            torch.split(plain, _TOKENS_AT_ONCE, dim=1),
            torch.split(noisy, _TOKENS_AT_ONCE, dim=1),
            strict=True,
        )
    )
    jsd = torch.cat([jensen_shannon(*pair) for pair in pairs], dim=1)
    before, after = (
        torch.cat([entropy_of(pair[at]) for pair in pairs], dim=1) for at in (0, 1)
    )
    return {
        "k3": k3(masked, chosen),
        "contrast": chosen - masked,
        "absolute_contrast": (chosen - blind).abs(),
        "jsd": jsd,
        "vepo": vepo_score(jsd, after - before, before),
    }


def entropy_of(log_probs: Tensor) -> Tensor:
    """Entropy of distributions, in nats.

    Args:
        log_probs: (..., V).

    Returns:
        (...), in [0, log V].

    Example:
        >>> round(float(entropy_of(torch.full((2,), 0.5).log())), 4)
        0.6931
    """
    return -(log_probs.exp() * log_probs).sum(dim=-1)


def jensen_shannon(one: Tensor, other: Tensor) -> Tensor:
    r"""Jensen-Shannon divergence of two distributions.

    .. math::
        J &= \tfrac12 \mathrm{KL}(P \| M) + \tfrac12 \mathrm{KL}(Q \| M) \\
        M &= \tfrac12 (P + Q)

    Args:
        one: Log-probabilities of P, (..., V).
        other: Log-probabilities of Q, the same shape.

    Returns:
        In nats, in [0, log 2], (...).

    Example:
        >>> sure = torch.tensor([1.0, 0.0]).clamp(1e-30).log()
        >>> round(float(jensen_shannon(sure, sure.flip(0))), 4)  # log 2
        0.6931
    """
    mean = torch.logaddexp(one, other) - math.log(2)
    halves = [(p.exp() * (p - mean)).sum(dim=-1) for p in (one, other)]
    return (0.5 * (halves[0] + halves[1])).clamp(min=0)


def vepo_score(
    jsd: Tensor, gap: Tensor, uncertainty: Tensor, share: float = 0.7
) -> Tensor:
    r"""VEPO's score of each token (arXiv 2606.03937, its released variant D).

    .. math::
        s_t = \big(1 - (&1 - \mathrm{mm}(J)_t)^a \\
        (&1 - \mathrm{mm}(|\Delta H|)_t)^{1-a}\big)\, \mathrm{mm}(H)_t

    with mm the min-max of a completion to [0, 1], 0 throughout where all are equal.

    Args:
        jsd: J, (B, T), all tokens real.
        gap: Entropy before the noisy picture less that before the picture, (B, T).
        uncertainty: H, (B, T).
        share: The exponent a, in [0, 1]. The released script has 0.7.

    Returns:
        (B, T) in [0, 1].

    Example:
        >>> one = torch.tensor([[0.0, 0.5, 1.0]])
        >>> vepo_score(one, -one, one)
        tensor([[0.0000, 0.2500, 1.0000]])
    """

    def scaled(values: Tensor) -> Tensor:
        low, high = (f(dim=-1, keepdim=True) for f in (values.amin, values.amax))
        return (values - low) / (high - low).clamp(min=1e-8)

    either = (1 - scaled(jsd)) ** share * (1 - scaled(gap.abs())) ** (1 - share)
    return (1 - either) * scaled(uncertainty)
