"""Where each generated token looks: image, query or generated text.

The attention weights of a chosen layer, of the rows that generate, reduced as
they are produced. Models run attention kernels that never form the weights, so
they are computed again from the layer's own queries and keys, handed over by
transformers' attention interface after rotary embedding, head grouping, scaling
and masking. That makes the weights those of eager attention by construction, for
any family, padding and sliding window.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vgpo.method._masked import check_alignment
from vgpo.models.capture import real_tokens
from vgpo.models.handle import ModelHandle, resolve
from vgpo.models.image_grids import image_token_grids


class UnsupportedAttention(ValueError):
    """A model whose attention cannot be computed again from what its layers pass on."""


IMAGE, QUERY, GENERATED = 0, 1, 2
"""Order of the last axis of :attr:`AttentionSplit.masses`."""


@dataclass(frozen=True)
class AttentionSplit:
    """Attention of each generated token, heads averaged.

    Attributes:
        layers: The N layers, counted from 0.
        layer_masses: (N, B, T, 3) float32: share of image, query and generated
            tokens. Sums to 1 over the last axis; all 0 at padded steps, and where
            every bit of attention went to special tokens.
        special_mass: (N, B, T) float32 in [0, 1]: share that went to special
            tokens, before they were left out and the rest normalised.
        completion_mask: (B, T) bool, True on real completion tokens.
        image_maps: For each row a list of (T, height, width) float32 tensors, one
            per grid of image tokens in the order of the prompt, averaged over the
            layers: share of each image token. Over all maps of a row they sum to
            ``masses[..., 0]``, less the tokens that end lines where a family has
            them. Empty where the places of a family's image tokens are not known.
        image_attention: (B, T, M) float32, the same shares flat, in the order of
            the image tokens, with zeros after a row's last one.
        prompt_tokens: (B, 2) int64: how many image and how many query tokens each
            prompt has, which is what an evenly spread attention depends on
            (:func:`vgpo.stats.forgetting.uniform_shares`).
        layer_maps: As ``image_maps``, one layer by one: (N, T, height, width). Empty
            unless they were asked for.
    """

    layers: tuple[int, ...]
    layer_masses: torch.Tensor
    special_mass: torch.Tensor
    completion_mask: torch.Tensor
    image_maps: list[list[torch.Tensor]]
    image_attention: torch.Tensor
    prompt_tokens: torch.Tensor
    layer_maps: list[list[torch.Tensor]] = field(default_factory=list)

    @property
    def masses(self) -> torch.Tensor:
        """(B, T, 3) shares of image, query and generated tokens, layers averaged."""
        return self.layer_masses.mean(dim=0)


def attention_split(
    model: nn.Module | ModelHandle,
    inputs: dict[str, torch.Tensor],
    completion_length: int,
    *,
    layers: Sequence[int] | str = (-1,),
    alignment: str = "prediction",
    special_token_ids: Iterable[int] = (),
    image_token_id: int | None = None,
    chunk_bytes: int = 64 * 2**20,
    layer_maps: bool = False,
) -> AttentionSplit:
    """Splits the attention of each generated token over image, query and text.

    One forward pass without gradients. In each chosen layer, for a chunk of query
    rows at a time, ``softmax(q k^T)`` is formed in float32, averaged over heads,
    and summed over four kinds of keys:

    - image: image tokens of the prompt;
    - special: other prompt tokens with an id of ``special_token_ids``;
    - query: all other prompt tokens (a chat template's plain words, such as role
      names and a system prompt, are among them);
    - generated: completion tokens, special or not.

    Special tokens are left out and the other three normalised to sum 1. The first
    token of a prompt is usually a special one, and draws attention whatever the
    content, which is the reason for leaving them out.

    Memory beside the model, for a 2,000-token response to a prompt of 1,200 image
    tokens and 100 others (L = 3,300), one row, 28 heads, bfloat16: 9.6 MB of image
    shares (T x M x 4 bytes) and 32 kB of masses a layer are kept. While a layer
    runs, a chunk takes twice ``chunk_bytes`` (0.13 GB), the explicit mask L x L
    bytes (11 MB) and twice that as the bias the kernel makes of it. Measured on a
    CPU: at most 0.3 GB above the peak of a plain pass. All layers' weights, 28 x 28
    x L x L x 2 bytes, would be 17 GB.

    Args:
        model: A vision-language model, wrapped or not, or its handle, whatever
            attention it runs; it should be in eval mode. Its attention is switched
            for this pass and put back.
        inputs: Arguments of its forward pass, completions included.
        completion_length: T; the completion is the last T positions of each row,
            padding included.
        layers: Indices of language-model layers, from 0; negative ones count from
            the last layer that attends, so that -1 is it; ``"all"`` for every layer
            that attends. In hybrid models, such as Qwen3.5, other layers are linear
            attention, state spaces or convolutions, which have no weights to split.
        alignment: ``"prediction"`` reads row t-1, the attention with which token t
            was chosen; ``"token"`` reads row t, the attention after reading it.
        special_token_ids: Prompt tokens to leave out, usually
            :func:`vgpo.models.inputs.special_token_ids`.
        image_token_id: Overrides the configuration's image token.
        chunk_bytes: Upper bound of one chunk of float32 weights, all heads.
        layer_maps: Whether to keep the image's shares of every layer, not their mean
            alone: N times the 9.6 MB of above.

    Returns:
        The split, on the model's device.

    Raises:
        ValueError: No image token in the configuration; ``completion_length`` that
            leaves no prompt; a layer that is not there or computes no softmax
            attention; an unknown alignment; a model whose attention cannot be
            replaced.

    Example:
        >>> from PIL import Image
        >>> from vgpo.models.inputs import special_token_ids
        >>> from vgpo.testbed import build_processor, build_tiny
        >>> processor = build_processor()
        >>> model = build_tiny(processor, hidden_size=64, layers=2).eval()
        >>> inputs = processor(
        ...     text="<|vision_start|><|image_pad|><|vision_end|>red ? red = 5",
        ...     images=Image.new("RGB", (84, 56)),
        ...     return_tensors="pt",
        ... )
        >>> split = attention_split(
        ...     model,
        ...     inputs,
        ...     completion_length=3,
        ...     special_token_ids=special_token_ids(processor.tokenizer),
        ... )
        >>> image, query, generated = split.masses[0, 0]
        >>> float(image) > 0, float(query) > 0, float(generated)
        (True, True, 0.0)
        >>> split.image_maps[0][0].shape
        torch.Size([3, 2, 3])
    """
    input_ids = inputs["input_ids"]
    length = input_ids.shape[1]
    if not 1 <= completion_length < length:
        raise ValueError(
            f"completion_length: must be at least 1 and leave a prompt in a sequence "
            f"of {length} tokens, got {completion_length}."
        )
    check_alignment(alignment)
    handle = resolve(model, image_token_id)
    language_model = handle.language_model
    chosen = _layer_indices(layers, language_model.config)

    is_real = real_tokens(input_ids, inputs.get("attention_mask"))
    in_prompt = torch.arange(length, device=input_ids.device) < (
        length - completion_length
    )
    special_ids = torch.tensor(
        sorted(set(special_token_ids)), dtype=torch.long, device=input_ids.device
    )
    is_image = (input_ids == handle.image_token_id) & in_prompt & is_real
    is_special = torch.isin(input_ids, special_ids) & in_prompt & is_real & ~is_image
    is_query = in_prompt & is_real & ~is_image & ~is_special
    is_generated = ~in_prompt & is_real
    completion_mask = is_generated[:, -completion_length:]

    reducer = _RowReducer(
        layers=chosen,
        first_row=length - completion_length - (alignment == "prediction"),
        kinds=torch.stack([is_image, is_query, is_generated, is_special], dim=-1),
        is_image=is_image,
        completion_mask=completion_mask,
        chunk_bytes=chunk_bytes,
        layer_maps=layer_maps,
    )
    with _observed_attention(language_model, reducer), torch.no_grad():
        handle.entry(**inputs | {"use_cache": False})
    missing = [layer for layer in chosen if layer not in reducer.seen]
    if missing:
        # None at all is the model's doing, another one the caller's.
        kind = ValueError if reducer.attending else UnsupportedAttention
        raise kind(
            f"layers: {missing} compute no softmax attention over the sequence in "
            f"{type(language_model).__name__}; the layers that do: "
            f"{sorted(reducer.attending)}."
        )
    per_layer = reducer.image_attention  # one entry for all layers, or one for each
    image_attention = per_layer.sum(dim=0) / len(chosen)
    try:
        grids = image_token_grids(handle, inputs, is_image)
    except ValueError as error:
        # The model took these inputs, so shares are right without knowing the places.
        warnings.warn(f"image_maps: left out. {error}", stacklevel=2)
        grids = [[] for _ in is_image]
    return AttentionSplit(
        layers=chosen,
        layer_masses=reducer.masses,
        special_mass=reducer.special_mass,
        completion_mask=completion_mask,
        image_maps=[
            [row[:, grid] for grid in grids]
            for row, grids in zip(image_attention, grids, strict=True)
        ],
        image_attention=image_attention,
        prompt_tokens=torch.stack([is_image.sum(dim=1), is_query.sum(dim=1)], dim=1),
        layer_maps=[
            [per_layer[:, row][..., grid] for grid in grids_of_row]
            for row, grids_of_row in enumerate(grids)
        ]
        if layer_maps
        else [],
    )


class _AttentionObserver(Protocol):
    def __call__(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        attention_mask: torch.Tensor,
        scaling: float,
        softcap: float | None,
    ) -> None: ...


_ATTENTION_NAME = "vgpo_observed"
_OBSERVER: ContextVar[_AttentionObserver] = ContextVar("attention_observer")


@contextmanager
def _observed_attention(
    language_model: PreTrainedModel, observer: _AttentionObserver
) -> Iterator[None]:
    """Runs the language model's layers on attention that shows itself."""
    own = language_model.config._attn_implementation
    language_model.set_attn_implementation(_ATTENTION_NAME)
    token = _OBSERVER.set(observer)
    try:
        if language_model.config._attn_implementation != _ATTENTION_NAME:
            raise UnsupportedAttention(
                f"model: {type(language_model).__name__} does not let its attention "
                "be replaced (transformers.AttentionInterface)."
            )
        yield
    finally:
        _OBSERVER.reset(token)
        # Not set_attn_implementation: it would check the installation again, and
        # may choose another kernel than the one the model came with.
        language_model.config._attn_implementation = own


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention for :class:`transformers.AttentionInterface`, observed."""
    for name in ("s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise UnsupportedAttention(
                f"model: attention with {name} (learned sinks or biases) is not "
                "supported."
            )
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    layer = cast(int, module.layer_idx)
    _OBSERVER.get()(layer, query, key, attention_mask, scaling, softcap)
    if softcap is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    # The fused kernel knows no soft cap: rows in chunks, as for the weights.
    groups = query.shape[1] // key.shape[1]
    values = value.repeat_interleave(groups, dim=1)
    output = []
    for start in range(0, query.shape[2], 128):
        weights = attention_rows(
            query, key, attention_mask, start, start + 128, scaling, softcap
        )
        output.append(weights.to(values.dtype) @ values)
    return torch.cat(output, dim=2).transpose(1, 2).contiguous(), None


def _explicit_mask(*args, **kwargs) -> torch.Tensor | None:
    """The (B, 1, L, L) bool mask, also where a kernel could do without."""
    return sdpa_mask(
        *args,
        **kwargs
        | {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False},
    )


AttentionInterface.register(_ATTENTION_NAME, _attention)
AttentionMaskInterface.register(_ATTENTION_NAME, _explicit_mask)


def attention_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    attention_mask: torch.Tensor,
    start: int,
    stop: int,
    scaling: float,
    softcap: float | None = None,
) -> torch.Tensor:
    """Attention weights of the query rows ``start`` to ``stop``, in float32.

    Args:
        query: (B, H, L, D), after rotary embedding.
        key: (B, K, L, D), after rotary embedding; H a multiple of K.
        attention_mask: (B, 1, L, L) bool, True where a query may look.
        start: First row.
        stop: Row after the last, at most L counts.
        scaling: Factor of the products.
        softcap: ``c`` of ``c tanh(x / c)``, if the model caps its scores.

    Returns:
        (B, H, rows, L) float32, each row sums to 1. A row that may look nowhere
        is uniform, as in eager attention.
    """
    batch, heads, _, depth = query.shape
    rows = query[:, :, start:stop].float()
    count = rows.shape[2]
    # Query heads of one key head lie next to each other: no copy of the keys.
    rows = rows.reshape(batch, key.shape[1], -1, depth)
    scores = rows @ key.float().transpose(2, 3)
    scores = scores.view(batch, heads, count, -1).mul_(scaling)
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    blocked = ~attention_mask[:, :, start:stop]
    scores.masked_fill_(blocked, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1)


class _RowReducer:
    """Sums the weights of the generating rows by kind of key, layer by layer."""

    def __init__(
        self,
        *,
        layers: tuple[int, ...],
        first_row: int,
        kinds: torch.Tensor,
        is_image: torch.Tensor,
        completion_mask: torch.Tensor,
        chunk_bytes: int,
        layer_maps: bool = False,
    ) -> None:
        batch, steps = completion_mask.shape
        device = completion_mask.device
        self.layers = layers
        self.first_row = first_row
        self.kinds = kinds.float()
        self.completion_mask = completion_mask
        self.chunk_bytes = chunk_bytes
        counts = is_image.sum(dim=1)
        # Image positions first, in order; the rest of a shorter row is cut below.
        most = int(counts.max())
        self.image_positions = is_image.int().argsort(
            dim=1, descending=True, stable=True
        )[:, :most]
        self.is_image_slot = torch.arange(most, device=device) < counts[:, None]
        self.masses = torch.zeros(len(layers), batch, steps, 3, device=device)
        self.special_mass = torch.zeros(len(layers), batch, steps, device=device)
        # What is large: summed over the layers, unless each is asked for.
        self.layer_maps = layer_maps
        kept = len(layers) if layer_maps else 1
        self.image_attention = torch.zeros(kept, batch, steps, most, device=device)
        self.seen: set[int] = set()
        self.attending: set[int] = set()

    def __call__(self, layer, query, key, attention_mask, scaling, softcap):
        self.attending.add(layer)
        if layer not in self.layers:
            return
        self.seen.add(layer)
        index = self.layers.index(layer)
        batch, heads, length, _ = query.shape
        steps = self.completion_mask.shape[1]
        chunk = max(1, self.chunk_bytes // (4 * batch * heads * length))
        for step in range(0, steps, chunk):
            stop = min(step + chunk, steps)
            weights = attention_rows(
                query,
                key,
                attention_mask,
                self.first_row + step,
                self.first_row + stop,
                scaling,
                softcap,
            ).mean(dim=1)
            self._add(index, step, stop, weights)

    def _add(self, index, step, stop, weights):
        # Layers may be spread over several devices. What is large, the weights, stays
        # on the layer's; what is reduced comes back to that of the inputs.
        device, home = weights.device, self.masses.device
        positions = self.image_positions[:, None].expand(-1, stop - step, -1)
        on_image = weights.gather(2, positions.to(device)).to(home)
        by_kind = (weights @ self.kinds.to(device)).to(home)

        is_step = self.completion_mask[:, step:stop, None]
        by_kind = by_kind * is_step
        split = by_kind[..., :3]
        total = split.sum(dim=-1, keepdim=True)
        scale = torch.where(total > 0, 1 / total, 0.0)
        self.masses[index, :, step:stop] = split * scale
        self.special_mass[index, :, step:stop] = by_kind[..., 3]
        on_image = on_image * self.is_image_slot[:, None]
        place = index if self.layer_maps else 0
        self.image_attention[place, :, step:stop] += on_image * is_step * scale


# What transformers calls the layers that compute no softmax over the sequence.
_NOT_ATTENDING = ("conv", "linear_attention", "mlp", "moe")


def _layer_indices(
    layers: Sequence[int] | str, config: PreTrainedConfig
) -> tuple[int, ...]:
    number = config.num_hidden_layers
    # Only families that mix kinds of layers name them.
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * number
    attending = [i for i, kind in enumerate(kinds) if kind not in _NOT_ATTENDING]
    if isinstance(layers, str) and layers == "all":
        return tuple(attending)
    if isinstance(layers, str) or not isinstance(layers, Sequence):
        raise ValueError(f"layers: must be a list of indices or 'all', got {layers!r}.")
    if not layers or not all(-len(attending) <= layer < number for layer in layers):
        raise ValueError(
            f"layers: must be indices of the model's {number} layers, of which "
            f"{len(attending)} attend, got {layers}."
        )
    # Where all layers attend, this is the usual counting from the end.
    chosen = [attending[layer] if layer < 0 else layer for layer in layers]
    return tuple(dict.fromkeys(chosen))
