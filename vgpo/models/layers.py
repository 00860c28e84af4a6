"""Hidden states of all layers, reduced to one number per token as they come.

``output_hidden_states=True`` would keep the states of every layer until the pass is
over. Here hooks reduce each layer's to a cosine, and nothing else is kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vgpo.models.capture import (
    AdapterState,
    is_generating,
    observe_last_hidden_state,
    real_tokens,
)
from vgpo.models.handle import ModelHandle, resolve


def decoder_layers(model: nn.Module | ModelHandle) -> nn.ModuleList:
    """The layers of a model's decoder.

    Raises:
        ValueError: The language model does not hold them in one list.

    Example:
        >>> from vgpo.testbed import build_processor, build_tiny
        >>> len(decoder_layers(build_tiny(build_processor(), hidden_size=64, layers=2)))
        2
    """
    decoder = resolve(model).language_model
    lists = [
        child
        for child in decoder.children()
        if isinstance(child, nn.ModuleList)
        and len(child) == decoder.config.num_hidden_layers
    ]
    if len(lists) != 1:
        raise ValueError(
            f"model: {type(decoder).__name__} does not keep its "
            f"{decoder.config.num_hidden_layers} layers in one list."
        )
    return lists[0]


@dataclass
class LayerCosines:
    """What :func:`capture_layer_cosines` has seen so far.

    Attributes:
        chunks: One tensor per forward pass, in the order of the passes.
    """

    chunks: list[Tensor] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Number of rows captured so far."""
        return sum(len(chunk) for chunk in self.chunks)

    @property
    def values(self) -> Tensor:
        """Mean cosines of all rows, (B, T) float32 in [-1, 1].

        Raises:
            ValueError: No forward pass was captured.
        """
        if not self.chunks:
            raise ValueError(
                "capture: no forward pass of the model ran inside the context; run "
                "model(**inputs) in it."
            )
        return torch.cat(self.chunks)


@contextmanager
def capture_layer_cosines(
    model: nn.Module | ModelHandle,
    *,
    completion_length: int,
    rows: int | None = None,
    gradient: bool = False,
    detached: bool = False,
) -> Iterator[LayerCosines]:
    r"""Captures how near each token's states are to the image's, over all layers.

    .. math:: v_t = \frac{1}{L+1} \sum_{l=0}^{L} \frac{1}{|V|} \sum_{j \in V}
        \cos(h^l_t, h^l_j)

    with l = 0 the embeddings and l = L the states after the final norm: PEPO's
    visual similarity, at the token's own position. States are those that enter the
    next layer; in Qwen3-VL they hold the image features added on the way, which
    transformers' list of hidden states leaves out. The mean of cosines is the product
    with the mean of the unit vectors, so it costs one product per layer.

    Without gradient, each layer's states are reduced when they enter the next layer.
    With ``gradient``, they are kept until the pass is over, and the result has a
    gradient; not so if it is to be ``detached``.

    Args:
        model: A vision-language model, wrapped or not, or its handle.
        completion_length: T; the completion is the last T positions of each row.
        rows: Stop once this many rows are captured.
        gradient: Watch passes that record gradients, in place of those that do not.
        detached: Of such a pass, give a result without gradient.

    Yields:
        The :class:`LayerCosines` that fill up: (B, T) float32; 0 for rows without an
        image and at padded positions.

    Raises:
        ValueError: A model without image token, or whose layers cannot be found; a
            completion as long as the sequence.

    Example:
        >>> from PIL import Image
        >>> from vgpo.testbed import build_processor, build_tiny
        >>> processor = build_processor()
        >>> model = build_tiny(processor, hidden_size=64, layers=2)
        >>> inputs = processor(
        ...     text="<|vision_start|><|image_pad|><|vision_end|>red ? red = 5",
        ...     images=Image.new("RGB", (56, 56)),
        ...     return_tensors="pt",
        ... )
        >>> with capture_layer_cosines(model, completion_length=3) as capture:
        ...     with torch.no_grad():
        ...         _ = model(**inputs)
        >>> capture.values.shape
        torch.Size([1, 3])
    """
    handle = resolve(model)
    capture = LayerCosines()
    adapters = AdapterState(handle.wrapped)
    keep = gradient and not detached
    watch = _Watch(handle.image_token_id, completion_length, keep)

    def on_entry(module, args, kwargs):
        watch.stop()
        if (
            torch.is_grad_enabled() != gradient
            or (rows is not None and capture.rows >= rows)
            or kwargs.get("past_key_values") is not None
            or is_generating()
            or adapters.changed()
        ):
            return
        input_ids = args[0] if args else kwargs.get("input_ids")
        if input_ids is not None:
            watch.start(input_ids, kwargs.get("attention_mask"))

    def on_layer(module, args, kwargs):
        watch.add(args[0] if args else kwargs["hidden_states"])

    def on_last(input_ids, attention_mask, states):
        if watch.on:
            watch.add(states)
            capture.chunks.append(watch.stop())

    hooks = [handle.entry.register_forward_pre_hook(on_entry, with_kwargs=True)]
    hooks += [
        layer.register_forward_pre_hook(on_layer, with_kwargs=True)
        for layer in decoder_layers(handle)
    ]
    try:
        with observe_last_hidden_state(handle, on_last):
            yield capture
    finally:
        for hook in hooks:
            hook.remove()


class _Watch:
    """Adds up the cosines of one pass, layer by layer."""

    def __init__(self, image_token_id: int, length: int, keep: bool) -> None:
        self.image_token_id = image_token_id
        self.length = length
        self.keep = keep
        self.on = False

    def start(self, input_ids: Tensor, attention_mask: Tensor | None) -> None:
        if self.length >= input_ids.shape[1]:
            raise ValueError(
                f"completion_length: {self.length} leaves no prompt in a sequence of "
                f"{input_ids.shape[1]} tokens."
            )
        real = real_tokens(input_ids, attention_mask)
        is_image = (input_ids == self.image_token_id) & real
        is_image[:, -self.length :] = False
        self.is_image = is_image
        self.counted = real[:, -self.length :] & is_image.any(dim=1, keepdim=True)
        self.states: list[Tensor] = []
        self.total = torch.zeros(self.counted.shape, device=input_ids.device)
        self.number = 0
        self.on = True

    def add(self, states: Tensor) -> None:
        if not self.on:
            return
        if self.keep:
            # Only kept: inside a checkpointed layer, an operation of ours would be
            # missing when the layer is computed again. What enters a layer is part of
            # the graph, with either kind of checkpointing.
            self.states.append(states)
        else:
            with torch.no_grad():
                self._reduce(states)

    def stop(self) -> Tensor:
        """The mean over the layers, once the pass is over."""
        if not self.on:
            return torch.empty(0)
        self.on = False
        kept, self.states = self.states, []
        for states in kept:
            self._reduce(states)
        if not self.number:
            return self.total
        return torch.where(self.counted, self.total / self.number, 0)

    def _reduce(self, states: Tensor) -> None:
        home = self.total.device
        cosines = mean_cosine(
            states, self.is_image.to(states.device), states[:, -self.length :]
        )
        self.total = self.total + cosines.to(home)
        self.number += 1


def mean_cosine(states: Tensor, is_image: Tensor, tokens: Tensor) -> Tensor:
    """Mean cosine of each token to a row's image tokens.

    Args:
        states: (B, L, D).
        is_image: bool, (B, L).
        tokens: (B, T, D).

    Returns:
        (B, T) float32; 0 in rows without an image.

    Example:
        >>> states = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]])
        >>> mean_cosine(states, torch.tensor([[True, True, False]]), states[:, 2:])
        tensor([[0.5000]])
    """
    with torch.autocast(states.device.type, enabled=False):
        tiny = torch.finfo(torch.float32).tiny
        norms = torch.linalg.vector_norm(states, dim=-1, dtype=torch.float32)
        weights = torch.where(is_image, 1 / norms.clamp(min=tiny), 0)
        weights = weights / is_image.sum(dim=1, keepdim=True).clamp(min=1)
        mean = (weights[:, None] @ states.float())[:, 0]
        length = torch.linalg.vector_norm(tokens, dim=-1, dtype=torch.float32)
        product = (tokens.float() * mean[:, None]).sum(dim=-1)
        return product / length.clamp(min=tiny)
