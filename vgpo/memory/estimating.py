"""From a shape and settings to bytes by item, moment by moment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from transformers import PreTrainedConfig

from vgpo.memory import items
from vgpo.memory.settings import CARDS, Settings
from vgpo.memory.shapes import Shape, shape_of

SPARE = 0.1
"""Share of a card that is left free for what no item counts, the driver's context and
libraries (0.5 to 1 GB on most cards) and what lies idle between tensors. A guess."""


@dataclass(frozen=True)
class Estimate:
    """Bytes by item, and whether they fit.

    Memory is taken at different moments: what is ``kept`` is always there, and of the
    moments the largest counts. ``str()`` of it is a table.

    Attributes:
        shape: Of the model.
        settings: Of the run.
        kept: Bytes by item, from step to step.
        moments: For each moment of a step, bytes by item.
        vllm_sequences: Rollouts of full length that vLLM's cache holds; None without.
    """

    shape: Shape
    settings: Settings
    kept: Mapping[str, int]
    moments: Mapping[str, Mapping[str, int]]
    vllm_sequences: int | None = None

    @property
    def peak(self) -> str:
        """The moment that takes most."""
        return max(self.moments, key=lambda name: sum(self.moments[name].values()))

    @property
    def total(self) -> int:
        """Bytes at that moment."""
        return sum(self.kept.values()) + sum(self.moments[self.peak].values())

    @property
    def fits(self) -> bool | None:
        """Whether :data:`SPARE` of the card is left; None without a card."""
        if self.settings.card is None:
            return None
        return self.total <= (1 - SPARE) * CARDS[self.settings.card]

    @property
    def verdict(self) -> str:
        """In words."""
        size = f"{self.total / 1e9:.1f} GB"
        if self.settings.card is None:
            return f"{size} in all"
        card, room = self.settings.card, CARDS[self.settings.card]
        if self.fits:
            return f"{size}: fits a card of {card}"
        if self.total <= room:
            return f"{size}: tight on a card of {card}, under a tenth of it is left"
        return f"{size}: does not fit a card of {card}"

    def to_frame(self) -> pd.DataFrame:
        """Index ``when`` and ``item``; columns ``bytes`` and ``at_peak``, whether it
        belongs to :attr:`total`."""
        rows = [("kept", name, size, True) for name, size in self.kept.items()]
        for when, parts in self.moments.items():
            rows += [(when, n, size, when == self.peak) for n, size in parts.items()]
        table = pd.DataFrame(rows, columns=["when", "item", "bytes", "at_peak"])
        return table.set_index(["when", "item"])

    def __str__(self) -> str:
        lines = [f"{self.shape.name}, {self.verdict}"]
        for (when, item), row in self.to_frame().iterrows():
            if row["bytes"] and row["at_peak"]:
                lines.append(f"  {row['bytes'] / 1e9:8.2f} GB  {item} ({when})")
        others = [
            f"{name} {sum(parts.values()) / 1e9:.1f} GB"
            for name, parts in self.moments.items()
            if name != self.peak
        ]
        lines.append(f"  less at other moments: {', '.join(others)}")
        if self.vllm_sequences is not None:
            lines.append(
                f"  vLLM's cache holds {self.vllm_sequences} rollouts of "
                f"{self.settings.tokens:,} tokens"
            )
        return "\n".join(lines)


def estimate(
    model: str | PreTrainedConfig | Shape = "7B",
    settings: Settings | None = None,
    **changes: Any,
) -> Estimate:
    """What a training step takes on one card, before any of it is run.

    Each item's formula, its source and its bias are in :mod:`vgpo.memory.items`. In no
    item are the driver's context, libraries and what lies idle between tensors
    (fragmentation): for these, :data:`SPARE` of a card is left free. All rollouts are
    taken to be as long as they may be.

    Against small models of Qwen2.5-VL's shape on a CPU, weights, gradients, moments of
    the optimizer and pixels agree to the byte; the peak of a micro-batch with TRL's
    head agrees within a tenth, that of sampling, and of autocast over float32 weights,
    within 15 % (``tests/memory``). On a GPU nothing of it has been measured here.

    Args:
        model: ``"3B"``, ``"7B"``, ``"32B"`` (the published Qwen2.5-VL), a configuration
            of transformers, or a :class:`~vgpo.memory.shapes.Shape`.
        settings: By default :class:`~vgpo.memory.settings.Settings` as it is.
        **changes: Fields of the settings that are other.

    Returns:
        Bytes by item; ``print`` shows them as a table.

    Raises:
        ValueError: There is no such size or card, a number is out of range, or training
            would refuse the settings; the message names the field.
        TypeError: There is no such field.

    Example:
        >>> found = estimate("7B", use_peft=True, load_in_4bit=True, card="24 GB")
        >>> found.kept["weights"], found.kept["adapters"]
        (6900165392, 161480704)
        >>> found.fits
        True
        >>> estimate("7B", card="25 GB")
        Traceback (most recent call last):
        ...
        ValueError: card must be one of 24 GB, 40 GB, 48 GB, 80 GB, 141 GB, or None, \
got '25 GB'
    """
    s = replace(settings or Settings(), **changes)
    m = model if isinstance(model, Shape) else shape_of(model)
    always = {
        "weights": items.weights(m, s),
        "adapters": items.adapters(m, s),
        "optimizer": items.optimizer(m, s),
        "reference model": items.reference(m, s),
        "vLLM": 0 if s.vllm_enable_sleep_mode else items.vllm(s),
        "pixels": items.pixels(m, s),
    }
    return Estimate(m, s, always, _moments(m, s), items.vllm_sequences(m, s))


def _moments(m: Shape, s: Settings) -> dict[str, dict[str, int]]:
    prompt = s.prompt_tokens + s.image_tokens
    batch = s.per_device_train_batch_size
    copies = {"bfloat16 copies of weights": items.copies(m, s)}
    update = {"gradients": items.gradients(m, s), "activations": items.kept(m, s)}
    if s.use_vllm:
        awake = items.vllm(s) if s.vllm_enable_sleep_mode else 0
        sampling = {"sampling": {"vLLM, awake": awake}}
    else:
        sampling = {
            "reading prompts": {
                "keys and values": items.cache(m, s, prompt),
                "one layer of all rollouts": items.forward(m, s, s.rollouts, prompt),
                **copies,
            },
            "sampling": {
                "keys and values": items.cache(m, s, s.tokens),
                "logits of a token": items.sampling(m, s),
                **copies,
            },
        }
    return {
        **sampling,
        "scoring": {"one layer": items.forward(m, s, batch, s.tokens), **copies},
        "loss": {
            **update,
            "log-probabilities": items.head(m, s),
            "bfloat16 copies of weights": items.lingering(m, s),
        },
        "backward": {**update, "one layer": items.backward(m, s)},
    }
