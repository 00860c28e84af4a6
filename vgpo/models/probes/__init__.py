"""Probes: what can be measured of every token of a rollout.

A method names the signals it needs; each is one number per token, and a probe
measures it while, or after, the policy scores the rollouts in one forward pass
without gradient. There are two kinds: a :class:`PassProbe` watches that pass as it
runs, with hooks; any other :class:`Probe` is given the rollouts afterwards, with the
pass's results and the means to score the same tokens again before other pixels.

=====================  ==========================================================
``focus``              visual focus score (Eq. 4); 0 throughout without an image
``log_probs``          log-probability of the token under the policy that wrote it
``entropy``            entropy of that policy at the token
``masked_log_probs``   log-probability before a degraded view of the image
``layer_cosines``      mean cosine to the image tokens, over all layers (PEPO)
``perception``         1 between tags of perception, 0 after them, -1 elsewhere
``hidden_log_probs``   log-probability with the perception hidden from attention
=====================  ==========================================================

A signal of one's own is a function of :class:`Scored` rollouts:

    >>> import torch
    >>> @register_probe("is_digit")
    ... def is_digit(scored):
    ...     out = torch.zeros(scored.completion_ids.shape)
    ...     for row, ids in enumerate(scored.completion_ids.tolist()):
    ...         words = [scored.decode([token]) for token in ids]
    ...         out[row] = torch.tensor([float(word.isdigit()) for word in words])
    ...     return out
    >>> "is_digit" in PROBES
    True

A method with ``signals = frozenset({"is_digit"})`` then gets it. ``scored.rows`` has
the other columns of the data set, so a signal can be computed from the truth.
"""

from vgpo.models.probes.base import (
    PROBES,
    PassProbe,
    Probe,
    Scored,
    make_probe,
    register_probe,
)
from vgpo.models.probes.degraded import black_patches, black_squares, noisy_pixels
from vgpo.models.probes.of_image import Focus, LayerCosines, MaskedLogProbs
from vgpo.models.probes.of_text import Entropy, HiddenLogProbs, LogProbs, Perception

__all__ = [
    "PROBES",
    "Entropy",
    "Focus",
    "HiddenLogProbs",
    "LayerCosines",
    "LogProbs",
    "MaskedLogProbs",
    "PassProbe",
    "Perception",
    "Probe",
    "Scored",
    "black_patches",
    "black_squares",
    "make_probe",
    "noisy_pixels",
    "register_probe",
]
