"""Probes of how sure the policy was of a token, and of what the text says it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vgpo.models.probes.base import Probe, Scored, register_probe, told


@register_probe("log_probs")
@dataclass(frozen=True)
class LogProbs(Probe):
    """Log-probability of each token under the policy that wrote it."""

    needs = frozenset({"log_probs"})

    def measure(self, scored: Scored) -> Tensor:
        return _given(scored.log_probs, "log_probs")


@register_probe("entropy")
@dataclass(frozen=True)
class Entropy(Probe):
    """Entropy of the policy at each token, over the whole vocabulary, in nats."""

    needs = frozenset({"entropy"})

    def measure(self, scored: Scored) -> Tensor:
        return _given(scored.entropy, "entropy")


def _given(values: Tensor | None, name: str) -> Tensor:
    if values is None:
        raise ValueError(
            f"scored: {name} is missing; the probe has to name it in needs"
        )
    return values


@register_probe("perception")
@dataclass(frozen=True)
class Perception(Probe):
    """Where a response says what it sees: by tags in its text.

    1 on the tokens between the first opening tag and the closing tag after it, 0 on
    those after the closing tag, -1 on all others: the tags themselves, what comes
    before, and every token of a response without both tags.

    Attributes:
        opening: The tag, as text.
        closing: The tag that ends the span.
    """

    opening: str = "<perception>"
    closing: str = "</perception>"

    def measure(self, scored: Scored) -> Tensor:
        out = torch.full(scored.completion_ids.shape, -1.0)
        for row, (ids, mask) in enumerate(
            zip(scored.completion_ids, scored.completion_mask, strict=True)
        ):
            places = mask.nonzero().flatten().tolist()
            pieces = [scored.decode([token]) for token in ids[mask].tolist()]
            for place, kind in zip(places, self._kinds(pieces), strict=True):
                out[row, place] = kind
        return out

    def _kinds(self, pieces: Sequence[str]) -> list[float]:
        text = "".join(pieces)
        opened = text.find(self.opening)
        closed = text.find(self.closing, opened + len(self.opening))
        if opened < 0 or closed < 0:
            return [-1.0] * len(pieces)
        start, end = opened + len(self.opening), closed + len(self.closing)
        kinds, place = [], 0
        for piece in pieces:
            # A token that holds a piece of a tag belongs to the tag.
            first, place = place, place + len(piece)
            if first >= start and place <= closed:
                kinds.append(1.0)
            else:
                kinds.append(0.0 if first >= end else -1.0)
        return kinds


@register_probe("hidden_log_probs")
@dataclass(frozen=True)
class HiddenLogProbs(Probe):
    """Log-probability of each token with the perception hidden from attention.

    One more forward pass without gradient, with the span's tokens left out of the
    attention mask: what comes after is scored as if they were not there. Models that
    count positions by that mask, such as Qwen2.5-VL, close the gap; others leave it.
    What it gives on the hidden tokens means nothing.

    Attributes:
        spans: The signal whose 1 is hidden.
    """

    passes = 1

    spans: str = "perception"

    def measure(self, scored: Scored) -> Tensor:
        kinds = told(self.spans, "spans", scored)
        views = [] if scored.pixels is None else scored.pixels
        return scored.rescore(views, (kinds == 1) & scored.completion_mask)
