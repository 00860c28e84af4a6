"""Per-token visual focus of one completion, for a notebook of your own."""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn
from transformers import ProcessorMixin

from vgpo.method.compensation import compensate, visual_gate
from vgpo.models.capture import capture_focus
from vgpo.models.handle import resolve
from vgpo.models.inputs import eval_mode, mismatch_named, prepare_inputs, token_texts


@dataclass(frozen=True)
class TokenScores:
    """Visual focus, gate and compensated weight of each token of a completion.

    Attributes:
        tokens: The T tokens as text, see :func:`~vgpo.models.inputs.token_texts`.
        token_ids: Their ids, (T,) int64.
        focus: Visual focus scores (Eq. 4), (T,) float32 in [0, 1].
        gate: Visual gate (Eq. 6), (T,) bool, True where compensation applies.
        weights: Compensated weights (Eq. 5), (T,) float32, at least ``focus``.
        alignment: ``"token"`` or ``"prediction"``, the states that were scored.

    All tensors are on the CPU.
    """

    tokens: list[str]
    token_ids: torch.Tensor
    focus: torch.Tensor
    gate: torch.Tensor
    weights: torch.Tensor
    alignment: str

    def __len__(self) -> int:
        return len(self.tokens)

    def to_frame(self) -> pd.DataFrame:
        """One row per token; position counts from 1, weight is Eq. 5."""
        return pd.DataFrame(
            {
                "position": range(1, len(self) + 1),
                "token": self.tokens,
                "token_id": self.token_ids.numpy(),
                "focus": self.focus.numpy(),
                "gate": self.gate.numpy(),
                "weight": self.weights.numpy(),
            }
        )


def score(
    model: nn.Module,
    processor: ProcessorMixin,
    messages: list[dict],
    completion: str | None = None,
    *,
    alignment: str = "token",
    strength: float = 0.3,
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
    schedule: str = "linear",
    max_new_tokens: int = 512,
) -> TokenScores:
    """Scores every token of one answer about one or more images (Eq. 3-6).

    One forward pass over prompt and completion, without gradients and in eval
    mode (the model's own mode is put back).

    Args:
        model: A vision-language model, wrapped or not.
        processor: The model's own processor, with a chat template.
        messages: One conversation, as the processor's chat template takes it:
            ``[{"role": "user", "content": [{"type": "image", "image": ...},
            {"type": "text", "text": ...}]}]``.
        completion: The answer to score. ``None`` lets the model answer greedily.
        alignment: ``"token"`` scores token t by the state at its own position,
            ``"prediction"`` by the state before it.
        strength: β of Eq. 5.
        tail_ratio: γ of Eq. 6.
        top_ratio: κ of Eq. 6.
        schedule: How compensation grows: ``"linear"``, ``"exponential"``,
            ``"step"``.
        max_new_tokens: Longest answer, where the model writes it.

    Returns:
        The scores with their tokens.

    Raises:
        ValueError: No image in ``messages``; a model without image token; a
            tokenizer, or another model's processor, for ``processor``; an empty
            completion.

    Example:
        >>> from PIL import Image
        >>> from vgpo.testbed import build_processor, build_tiny
        >>> processor = build_processor()
        >>> model = build_tiny(processor, hidden_size=64, layers=1)
        >>> picture = {"type": "image", "image": Image.new("RGB", (56, 56))}
        >>> question = {"type": "text", "text": "red ?"}
        >>> messages = [{"role": "user", "content": [picture, question]}]
        >>> scores = score(model, processor, messages, "red = 5")
        >>> scores.tokens
        ['red', ' =', ' 5']
        >>> axes = scores.to_frame().plot(x="position", y=["focus", "weight"])
    """
    handle = resolve(model)
    inputs, completion_ids = prepare_inputs(
        handle, processor, messages, completion, max_new_tokens=max_new_tokens
    )
    with (
        eval_mode(model),
        torch.no_grad(),
        mismatch_named(handle, inputs),
        capture_focus(
            handle, completion_length=len(completion_ids), alignment=alignment
        ) as capture,
    ):
        # Without the head, where it is apart: no logits are needed.
        handle.entry(**inputs, use_cache=False)
    focus = capture.focus
    mask = torch.ones_like(focus, dtype=torch.bool)
    gate = visual_gate(focus, mask, tail_ratio, top_ratio)
    weights = compensate(
        focus,
        mask,
        strength=strength,
        tail_ratio=tail_ratio,
        top_ratio=top_ratio,
        schedule=schedule,
    )
    return TokenScores(
        tokens=token_texts(processor.tokenizer, completion_ids.tolist()),
        token_ids=completion_ids.cpu(),
        focus=focus[0].cpu(),
        gate=gate[0].bool().cpu(),
        weights=weights[0].cpu(),
        alignment=alignment,
    )
