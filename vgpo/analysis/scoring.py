"""Per-token focus and attention of one completion, for a notebook of your own."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import ProcessorMixin

from vgpo.analysis.asking import asked
from vgpo.analysis.pictured import AnsweredImages, images_of
from vgpo.analysis.saving import (
    pictured_from,
    pictured_tensors,
    read_tensors,
    write_tensors,
)
from vgpo.analysis.views import as_png, measured, shown_answer
from vgpo.explorer.page import View
from vgpo.explorer.tokens import Answer, token_view
from vgpo.method._masked import check_alignment
from vgpo.method.compensation import compensate, visual_gate
from vgpo.method.reweighting import intra_trajectory_weights
from vgpo.models.attention import (
    AttentionSplit,
    UnsupportedAttention,
    attention_split,
)
from vgpo.models.capture import capture_focus
from vgpo.models.handle import ModelHandle, resolve
from vgpo.models.image_grids import shown_whole
from vgpo.models.inputs import (
    add_completion,
    encode_prompt,
    eval_mode,
    mismatch_named,
    read_pictures,
    special_token_ids,
    token_texts,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KIND = "vgpo.TokenScores"


@dataclass(frozen=True, repr=False)
class TokenScores:
    """Focus, gate, weight and attention of each of the T tokens of a completion.

    A notebook shows it as a text to point at: see :meth:`view`.

    Attributes:
        tokens: The tokens as text, see :func:`~vgpo.models.inputs.token_texts`.
        token_ids: Their ids, (T,) int64.
        focus_token: Visual focus (Eq. 4) of the state at the token's own position, t,
            (T,) float32 in [0, 1].
        focus_prediction: The same of the state that predicts the token, at t - 1.
        gate: Visual gate (Eq. 6), (T,) bool, True where compensation applies.
        weights: Compensated weights (Eq. 5), (T,) float32, at least ``focus``.
        alignment: ``"token"`` or ``"prediction"``: which of the two focus scores gate
            and weights are made of.
        layers: The N layers whose attention was read, counted from 0.
        shares: (N, T, 3) float32: attention on image, query and generated text, as
            :attr:`vgpo.models.attention.AttentionSplit.layer_masses`, with which the
            token was chosen (at t - 1). None where it was not read.
        seen: The pictures and where on them each token looked, or None.

    All tensors are on the CPU.
    """

    tokens: list[str]
    token_ids: Tensor
    focus_token: Tensor
    focus_prediction: Tensor
    gate: Tensor
    weights: Tensor
    alignment: str
    layers: tuple[int, ...] = ()
    shares: Tensor | None = None
    seen: AnsweredImages | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        low, high = self.focus.min(), self.focus.max()
        words = self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
        looked = (
            ""
            if self.shares is None
            else f", {self.shares[..., 0].mean():.0%} on the image"
        )
        return (
            f"TokenScores({words!r}, {len(self)} tokens, focus {low:.2f} to {high:.2f}"
            f"{looked})"
        )

    @property
    def text(self) -> str:
        """The completion."""
        return "".join(self.tokens)

    @property
    def focus(self) -> Tensor:
        """That of ``alignment``, which gate and weights are made of, (T,)."""
        return self.focus_token if self.alignment == "token" else self.focus_prediction

    @property
    def psi(self) -> Tensor:
        """Centred weight within the answer (Eq. 7-8), (T,) in (-1, 1)."""
        mask = torch.ones(1, len(self), dtype=torch.bool)
        return intra_trajectory_weights(self.weights[None], mask)[0]

    def to_frame(self) -> pd.DataFrame:
        """One row per token.

        Returns:
            ``position`` (from 1), ``token``, ``token_id``; ``focus_token`` and
            ``focus_prediction``, Eq. 4 at t and at t - 1, and ``focus``, the one of
            them that the rest is made of; ``gate``, ``weight`` (Eq. 5) and ``psi``
            (Eq. 8); and where attention was read ``image``, ``query`` and
            ``generated``, its shares at t - 1 as in ``ForgettingAnalysis.tokens``,
            layers averaged.
        """
        columns: dict[str, Any] = {
            "position": range(1, len(self) + 1),
            "token": self.tokens,
            "token_id": self.token_ids.numpy(),
            "focus": self.focus.numpy(),
            "focus_token": self.focus_token.numpy(),
            "focus_prediction": self.focus_prediction.numpy(),
            "gate": self.gate.numpy(),
            "weight": self.weights.numpy(),
            "psi": self.psi.numpy(),
        }
        if self.shares is not None:
            mean = self.shares.mean(dim=0)
            for k, kind in enumerate(("image", "query", "generated")):
                columns[kind] = mean[:, k].numpy()
        return pd.DataFrame(columns)

    def plot(self, most: int = 96) -> "Figure":
        """Focus at t and t - 1 and attention on the image, over the words.

        Args:
            most: Tokens drawn, from the first.
        """
        from vgpo import figures

        return figures.token_scores_figure(self.to_frame().iloc[:most])

    def heatmap(self, t: int) -> "Figure":
        """Where one token looked, on the pictures.

        Args:
            t: Its position, from 1.

        Raises:
            ValueError: No such token; its attention was not read, or does not lie on
                the pictures.
        """
        from vgpo import figures

        if not 1 <= t <= len(self):
            raise ValueError(f"t: the tokens are 1 to {len(self)}, got {t}.")
        if self.seen is None:
            raise ValueError("t: no attention was read; call score with layers.")
        self.seen.require_aligned("t", "seen.maps")
        share = self.to_frame()["image"][t - 1]
        return figures.attention_maps_figure(
            self.seen.images,
            [[grid[t - 1].numpy() for grid in self.seen.maps]],
            [f"{t}: {self.tokens[t - 1].strip() or '␣'}  ({share:.2f})"],
        )

    def answer(
        self, name: str = "answer", columns: pd.DataFrame | Mapping | None = None
    ) -> Answer:
        """The scores for :func:`vgpo.explorer.tokens.token_view`.

        Args:
            name: How the answer is called beside others.
            columns: Further numbers of its tokens, such as the table of
                ``vgpo.signals`` or ``{"advantage": ...}``.

        Raises:
            ValueError: A column without numbers, or not one per token.
        """
        own = {
            "focus_token": self.focus_token.numpy(),
            "focus_prediction": self.focus_prediction.numpy(),
            "weight": self.weights.numpy(),
            "psi": self.psi.numpy(),
        }
        return shown_answer(
            name,
            self.tokens,
            own | measured(columns),
            gate=self.gate,
            shares=None if self.shares is None else self.shares.numpy(),
            layers=self.layers,
            seen=self.seen,
        )

    def view(
        self,
        *others: "TokenScores",
        columns: pd.DataFrame | Mapping | None = None,
        names: Sequence[str] | None = None,
        title: str = "Where each token looks",
    ) -> View:
        """The completion to point at: tokens tinted, their attention on the picture.

        Args:
            *others: Further answers, or the same one scored by another model.
            columns: Further numbers of this answer's tokens, as in :meth:`answer`.
            names: One for each answer, this one first.
            title: A few words.

        Raises:
            ValueError: Names that are not one for each answer; see :meth:`answer`.
        """
        shown = [self, *others]
        if names is None:
            names = ["answer", *(f"answer {k}" for k in range(2, len(shown) + 1))]
        if len(names) != len(shown):
            raise ValueError(
                f"names: need one for each answer, got {len(names)} for {len(shown)}."
            )
        answers = [
            scores.answer(name, columns if scores is self else None)
            for name, scores in zip(names, shown, strict=True)
        ]
        text = "\n\n".join(f"{scores!r}\n{scores.text}" for scores in shown)
        return token_view(answers, title=title, picture=as_png(self.plot()), text=text)

    def to_html(self, path: str | Path, *others: "TokenScores", **options) -> Path:
        """Saves :meth:`view`, with the same arguments, as a page that needs nothing
        else."""
        return self.view(*others, **options).save(path)

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, Any]:
        return self.view()._repr_mimebundle_() | {"text/plain": repr(self)}

    def _repr_html_(self) -> str:
        return self.view().fragment()

    def save(self, path: str | Path) -> None:
        """Writes everything, pictures and maps too, to one safetensors file."""
        tensors = {
            "token_ids": self.token_ids,
            "focus_token": self.focus_token,
            "focus_prediction": self.focus_prediction,
            "gate": self.gate,
            "weights": self.weights,
        }
        facts: dict[str, Any] = {
            "tokens": self.tokens,
            "alignment": self.alignment,
            "layers": list(self.layers),
            "seen": None,
        }
        if self.shares is not None:
            tensors["shares"] = self.shares
        if self.seen is not None:
            facts["seen"], more = pictured_tensors("seen", self.seen)
            tensors |= more
        write_tensors(path, _KIND, facts, tensors)

    @classmethod
    def load(cls, path: str | Path) -> "TokenScores":
        """Reads what :meth:`save` has written.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It holds something else.
        """
        facts, tensors = read_tensors(path, _KIND)
        return cls(
            tokens=facts["tokens"],
            token_ids=tensors["token_ids"],
            focus_token=tensors["focus_token"],
            focus_prediction=tensors["focus_prediction"],
            gate=tensors["gate"],
            weights=tensors["weights"],
            alignment=facts["alignment"],
            layers=tuple(facts["layers"]),
            shares=tensors.get("shares"),
            seen=facts["seen"] and pictured_from("seen", facts["seen"], tensors),
        )


def score(
    model: nn.Module,
    processor: ProcessorMixin,
    messages: Any,
    *texts: Any,
    completion: str | Sequence[int] | None = None,
    alignment: str = "token",
    strength: float = 0.3,
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
    schedule: str = "linear",
    layers: Sequence[int] | str = (-1,),
    max_new_tokens: int = 512,
) -> TokenScores:
    """Scores every token of one answer about one or more images (Eq. 3-6).

    ``score(model, processor, picture, "question")``, or with a whole conversation
    ``score(model, processor, messages)``; in either case the answer may follow, and is
    otherwise the model's own.

    One forward pass over prompt and completion, without gradients and in eval
    mode (the model's own mode is put back). It runs on transformers' SDPA attention
    while attention is read; with ``layers=()`` on whatever the model came with. An
    answer of T tokens to an image of M tokens keeps 4 T M bytes of maps, and with
    several layers that much for each.

    Args:
        model: A vision-language model, wrapped or not.
        processor: The model's own processor, with a chat template.
        messages: A picture (Pillow, bytes or a path), a list of pictures, or one
            conversation, as the processor's chat template takes it:
            ``[{"role": "user", "content": [{"type": "image", "image": ...},
            {"type": "text", "text": ...}]}]``.
        *texts: After a picture the question; then, or after a conversation, the
            answer to score, as text or token ids.
        completion: The answer, by name. Without one the model answers greedily.
        alignment: Which focus gate and weights are made of: ``"token"`` scores token
            t by the state at its own position, ``"prediction"`` by the state before
            it. Both are in the result.
        strength: β of Eq. 5.
        tail_ratio: γ of Eq. 6.
        top_ratio: κ of Eq. 6.
        schedule: How compensation grows: ``"linear"``, ``"exponential"``,
            ``"step"``.
        layers: Whose attention is read, as in
            :func:`vgpo.models.attention.attention_split`; ``()`` for none. For a
            model whose attention cannot be read it is left out with a warning.
        max_new_tokens: Longest answer, where the model writes it.

    Returns:
        The scores with their tokens.

    Raises:
        ValueError: No image in ``messages``; a picture without a question, or that
            cannot be read; a model without image token; a tokenizer, or another
            model's processor, for ``processor``; an empty completion; a layer that
            is not there.

    Example:
        >>> from PIL import Image
        >>> from vgpo.testbed import build_processor, build_tiny
        >>> processor = build_processor()
        >>> model = build_tiny(processor, hidden_size=64, layers=1)
        >>> picture = Image.new("RGB", (56, 56))
        >>> scores = score(model, processor, picture, "Add red ?", "red = 5")
        >>> scores.tokens
        ['red', ' =', ' 5']
        >>> frame = scores.to_frame()
        >>> axes = frame.plot(x="position", y=["focus_token", "focus_prediction"])
    """
    check_alignment(alignment)
    handle = resolve(model)
    messages, completion = asked(messages, texts, completion)
    prompt = encode_prompt(handle, processor, messages)
    inputs, ids = add_completion(
        handle, processor, prompt, completion, max_new_tokens=max_new_tokens
    )
    special = special_token_ids(processor.tokenizer)
    with eval_mode(model), torch.no_grad(), mismatch_named(handle, inputs):
        both, split = _one_pass(handle, inputs, len(ids), layers, special)
    focus = both[alignment == "prediction"]
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
    seen = None
    if split is not None:
        images = images_of(read_pictures(messages))
        seen = AnsweredImages(
            images,
            [grid.cpu() for grid in split.image_maps[0]],
            shown_whole(processor, images),
            [grid.cpu() for row in split.layer_maps[:1] for grid in row],
        )
    return TokenScores(
        tokens=token_texts(processor.tokenizer, ids.tolist()),
        token_ids=ids.cpu(),
        focus_token=both[0][0].cpu(),
        focus_prediction=both[1][0].cpu(),
        gate=gate[0].bool().cpu(),
        weights=weights[0].cpu(),
        alignment=alignment,
        layers=() if split is None else split.layers,
        shares=None if split is None else split.layer_masses[:, 0].cpu(),
        seen=seen,
    )


def _one_pass(
    handle: ModelHandle,
    inputs: dict[str, Tensor],
    length: int,
    layers: Sequence[int] | str,
    special: set[int],
) -> tuple[tuple[Tensor, Tensor], AttentionSplit | None]:
    """Both focus scores (1, T), and the split of attention where it can be read."""

    def watched(run):
        with (
            capture_focus(handle, completion_length=length) as token,
            capture_focus(
                handle, completion_length=length, alignment="prediction"
            ) as prediction,
        ):
            split = run()
        return (token.focus, prediction.focus), split

    def plain() -> None:
        # Without the head, where it is apart: no logits are needed.
        handle.entry(**inputs, use_cache=False)

    if isinstance(layers, Sequence) and not len(layers):
        return watched(plain)

    def read() -> AttentionSplit:
        return attention_split(
            handle,
            inputs,
            length,
            layers=layers,
            special_token_ids=special,
            layer_maps=isinstance(layers, Sequence) and len(layers) > 1,
        )

    try:
        return watched(read)
    except UnsupportedAttention as error:
        warnings.warn(f"attention: left out. {error}", stacklevel=3)
        return watched(plain)
