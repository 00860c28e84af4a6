"""Visual focus scores out of Hugging Face's vision-language models.

Eq. 3-4 need the last layer's hidden state at every image token and at every
token of the completion. ``output_hidden_states=True`` would keep the states of
all layers for the sake of the last one, and a fused language-model head returns
no states at all. :func:`capture_focus` instead watches the model's backbone, the
module whose output feeds the head, and reduces its output to one number per
completion token while the forward pass goes on. Whatever ran the forward pass
does not notice: a trainer, ``model(**inputs)``, a PEFT or DDP wrapper.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import GenerationMixin

from vgpo.method._masked import check_alignment
from vgpo.method.focus import completion_states, visual_focus_score, visual_prototype
from vgpo.models.handle import ModelHandle, resolve, states_of, unwrap_model


@contextmanager
def observe_last_hidden_state(
    model: nn.Module | ModelHandle,
    observer: Callable[[torch.Tensor, torch.Tensor | None, torch.Tensor], None],
) -> Iterator[None]:
    """Shows the last hidden state of every forward pass to ``observer``.

    Forward hooks on the model's entry and backbone (see
    :class:`vgpo.models.handle.ModelHandle`), there only while the context is open.
    The state is the one the head reads, after the final
    norm: the same tensor as ``output_hidden_states=True`` gives in
    ``hidden_states[-1]``. Gradient checkpointing recomputes layers, not the
    backbone, so each forward pass is seen once.

    Passes that are handed a key-value cache are not shown, since they do not hold
    the whole sequence, nor are those of ``generate``, with a cache or without.

    Args:
        model: The model, wrapped or not, or its handle. Here alone it may be one
            without image token.
        observer: Called as ``observer(input_ids, attention_mask,
            last_hidden_state)`` with shapes (B, L), (B, L) or ``None``, and
            (B, L, D), in the grad and autocast modes of the pass. The state is not
            a copy: do not change it.

    Raises:
        ValueError: ``model`` is no Hugging Face model, or a forward pass got
            ``inputs_embeds`` in place of ``input_ids``, or gave something else than
            one state of the model's width for each of them.

    Example:
        >>> import torch
        >>> from vgpo.testbed import build_processor, build_tiny
        >>> model = build_tiny(build_processor(), hidden_size=64, layers=1)
        >>> shapes = []
        >>> with observe_last_hidden_state(
        ...     model, lambda ids, mask, states: shapes.append(tuple(states.shape))
        ... ):
        ...     _ = model(input_ids=torch.tensor([[1, 2, 3]]))
        >>> shapes
        [(1, 3, 64)]
    """
    if isinstance(model, ModelHandle):
        entry, backbone, width = model.entry, model.backbone, model.width
    else:
        outer = unwrap_model(model)
        entry, backbone = states_of(outer)
        width = outer.config.get_text_config(decoder=True).hidden_size
    # What the pass under way was called with; the entry may not be the backbone, and
    # the backbone then gets embeddings, in which no image token can be told.
    called: list[tuple[torch.Tensor, torch.Tensor | None]] = []

    def on_entry(module, args, kwargs):
        called.clear()
        if kwargs.get("past_key_values") is not None or is_generating():
            return
        input_ids = args[0] if args else kwargs.get("input_ids")
        if input_ids is None:
            raise ValueError(
                "input_ids: the model was called with inputs_embeds, so its image "
                "tokens cannot be found; call it with input_ids."
            )
        called.append((input_ids, kwargs.get("attention_mask")))

    def on_states(module, args, output):
        if not called:
            return
        input_ids, attention_mask = called.pop()
        states = output[0]
        if states.shape != (*input_ids.shape, width):
            raise ValueError(
                f"model: {type(backbone).__name__} gives states of shape "
                f"{tuple(states.shape)} for input_ids of shape "
                f"{tuple(input_ids.shape)} and a width of {width}; visual focus needs "
                "one state per token of the sequence."
            )
        observer(input_ids, attention_mask, states)

    hooks = [
        entry.register_forward_pre_hook(on_entry, with_kwargs=True),
        backbone.register_forward_hook(on_states),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


_GENERATE = inspect.unwrap(GenerationMixin.generate).__code__


@torch.compiler.disable
def is_generating() -> bool:
    """Whether ``generate`` is among the callers of this pass.

    Without a cache, the passes of generation carry no mark that a plain call could
    not carry too; only the callers tell them apart.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code is _GENERATE:
            return True
        frame = frame.f_back
    return False


class FocusCapture:
    """What :func:`capture_focus` has seen so far.

    Attributes:
        chunks: One float32 tensor per forward pass, in the order of the passes.
            A trainer that cuts its batch into chunks gives one tensor per chunk.
    """

    def __init__(self) -> None:
        self.chunks: list[torch.Tensor] = []

    def __repr__(self) -> str:
        return f"FocusCapture({len(self.chunks)} passes, {self.rows} rows)"

    @property
    def rows(self) -> int:
        """Number of rows captured so far."""
        return sum(len(chunk) for chunk in self.chunks)

    @property
    def focus(self) -> torch.Tensor:
        """Visual focus scores (Eq. 4) of all rows, (B, T) float32 in [0, 1].

        Raises:
            ValueError: No forward pass was captured.
        """
        if not self.chunks:
            raise ValueError(
                "capture: no forward pass of the model ran inside the context. "
                "Generation does not count, nor do passes with other adapters than "
                "at the start; run model(**inputs) in it."
            )
        return torch.cat(self.chunks)


@contextmanager
def capture_focus(
    model: nn.Module | ModelHandle,
    *,
    completion_length: int | None = None,
    completion_mask: torch.Tensor | None = None,
    alignment: str = "token",
    image_token_id: int | None = None,
    no_grad_only: bool = False,
    rows: int | None = None,
    nonfinite: str = "raise",
) -> Iterator[FocusCapture]:
    """Captures visual focus scores (Eq. 3-4) from every forward pass inside.

    Each pass adds ``(cos(h_t, mu_v) + 1) / 2`` for its rows' completion tokens to
    ``capture.chunks``; nothing else is kept. Works on plain, PEFT-wrapped, 4-bit
    and DDP-wrapped models, with and without gradient checkpointing, gradients and
    autocast, whatever attention the model runs.

    Image tokens are all prompt positions that hold the image token, of all images
    of the row together; one sampled into a completion never counts. A row without
    an image scores 0 throughout, and so do padded positions (``attention_mask``
    0). Two captures may be open at once, one per alignment.

    Not captured: passes of ``generate`` or handed a key-value cache, and passes under
    another adapter state than the one at the start, such as a reference pass with
    adapters disabled on the model being trained.

    Args:
        model: The model whose forward pass will run, wrapped or not, or its handle.
        completion_length: T; the completion is the last T positions of each row,
            padding included (the layout of TRL's rollouts).
        completion_mask: In place of ``completion_length``: bool or 0/1, (B, L),
            True on completion tokens, for any other layout. The rows of several
            passes are matched to its rows in order. Scores then have shape
            (B, L), 0 outside the mask. Position 0 cannot be a completion token.
        alignment: ``"token"`` scores token t by the state at its own position,
            ``"prediction"`` by the state before it, which predicted it.
        image_token_id: Overrides the configuration's image token.
        no_grad_only: Ignore passes that record gradients.
        rows: Stop once this many rows are captured. With the size of the batch,
            the first pass over it counts, in chunks or not, and later ones do not.
        nonfinite: What NaN or infinity in a state that counts does: ``"raise"``, or
            ``"neutral"`` to log a warning and score the row as one without image.

    Yields:
        The :class:`FocusCapture` that fills up.

    Raises:
        ValueError: Neither or both of ``completion_length`` and
            ``completion_mask``; a completion as long as the sequence; a mask that
            does not fit; an unknown alignment; a model without image token; NaN
            or infinity in the states.

    Example:
        >>> from PIL import Image
        >>> from vgpo.testbed import build_processor, build_tiny
        >>> processor = build_processor()
        >>> model = build_tiny(processor, hidden_size=64, layers=1)
        >>> inputs = processor(
        ...     text="<|vision_start|><|image_pad|><|vision_end|>red ? red = 5",
        ...     images=Image.new("RGB", (56, 56)),
        ...     return_tensors="pt",
        ... )
        >>> with capture_focus(model, completion_length=3) as capture:
        ...     _ = model(**inputs)
        >>> capture.focus.shape
        torch.Size([1, 3])
    """
    handle = resolve(model, image_token_id)
    reducer = _FocusReducer(
        completion_length=completion_length,
        completion_mask=completion_mask,
        alignment=alignment,
        image_token_id=handle.image_token_id,
        nonfinite=nonfinite,
    )
    capture = FocusCapture()
    adapters = AdapterState(handle.wrapped)

    def observer(input_ids, attention_mask, hidden_states):
        if rows is not None and capture.rows >= rows:
            return
        if (no_grad_only and torch.is_grad_enabled()) or adapters.changed():
            return
        capture.chunks.append(
            reducer(input_ids, attention_mask, hidden_states, first_row=capture.rows)
        )

    with observe_last_hidden_state(handle, observer):
        yield capture


class AdapterState:
    """Notices when a model's PEFT adapters are disabled or exchanged."""

    def __init__(self, model: nn.Module) -> None:
        self._layer = None
        # A model with adapters cannot exist before peft is imported.
        if "peft" in sys.modules:
            from peft.tuners.tuners_utils import BaseTunerLayer

            self._layer = next(
                (
                    layer
                    for layer in model.modules()
                    if isinstance(layer, BaseTunerLayer)
                ),
                None,
            )
        self._expected = self.now()

    def now(self) -> tuple | None:
        """Whether adapters are disabled and which are active; None without any."""
        if self._layer is None:
            return None
        return self._layer.disable_adapters, tuple(self._layer.active_adapters)

    def changed(self) -> bool:
        return self.now() != self._expected


class _FocusReducer:
    """Turns the states of one forward pass into focus scores."""

    def __init__(
        self,
        *,
        completion_length: int | None,
        completion_mask: torch.Tensor | None,
        alignment: str,
        image_token_id: int,
        nonfinite: str,
    ) -> None:
        if (completion_length is None) == (completion_mask is None):
            raise ValueError(
                "completion_length, completion_mask: pass exactly one of them."
            )
        if completion_length is not None and completion_length < 1:
            raise ValueError(
                f"completion_length: must be at least 1, got {completion_length}."
            )
        if completion_mask is not None:
            if completion_mask.ndim != 2:
                raise ValueError(
                    "completion_mask: must have shape (B, L), got "
                    f"{tuple(completion_mask.shape)}."
                )
            if completion_mask[:, 0].any():
                raise ValueError(
                    "completion_mask: position 0 is marked as a completion token, but "
                    "a completion follows a prompt."
                )
        check_alignment(alignment)
        self.completion_length = completion_length
        self.completion_mask = completion_mask
        self.alignment = alignment
        self.image_token_id = image_token_id
        self.nonfinite = nonfinite

    def __call__(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        hidden_states: torch.Tensor,
        *,
        first_row: int,
    ) -> torch.Tensor:
        length = input_ids.shape[1]
        if self.completion_length is not None:
            if self.completion_length >= length:
                raise ValueError(
                    f"completion_length: {self.completion_length} leaves no prompt in "
                    f"a sequence of {length} tokens; pass the number of completion "
                    "tokens, padding included."
                )
            in_completion = torch.zeros_like(input_ids, dtype=torch.bool)
            in_completion[:, -self.completion_length :] = True
        else:
            in_completion = self._rows_of_mask(input_ids, first_row)

        is_real = real_tokens(input_ids, attention_mask)
        image_mask = (input_ids == self.image_token_id) & ~in_completion & is_real
        # Where layers are spread over several devices, the states are on the last.
        image_mask = image_mask.to(hidden_states.device)
        counted = (is_real & in_completion).to(hidden_states.device)
        # With a mask, every position but the first may be one of the completion.
        scored = self.completion_length or length - 1
        prototype = visual_prototype(
            hidden_states, image_mask, nonfinite=self.nonfinite
        )
        focus = visual_focus_score(
            completion_states(hidden_states, scored, self.alignment),
            prototype,
            completion_mask=counted[:, -scored:],
            nonfinite=self.nonfinite,
        )
        return (
            focus if self.completion_mask is None else nn.functional.pad(focus, (1, 0))
        )

    def _rows_of_mask(self, input_ids, first_row):
        rows = self.completion_mask[first_row : first_row + len(input_ids)]
        if rows.shape != input_ids.shape:
            raise ValueError(
                f"completion_mask: shape {tuple(self.completion_mask.shape)} leaves "
                f"{tuple(rows.shape)} for a forward pass of {tuple(input_ids.shape)}; "
                "it needs one row per captured row and one column per token."
            )
        return rows.to(device=input_ids.device, dtype=torch.bool)


def real_tokens(
    input_ids: torch.Tensor, attention_mask: torch.Tensor | None
) -> torch.Tensor:
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 2:
        raise ValueError(
            "attention_mask: the forward pass needs the (B, L) mask of real tokens, "
            "not a prepared attention mask."
        )
    return attention_mask.bool()
