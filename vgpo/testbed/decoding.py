"""Generation for the tiny model, several times as fast as the library's.

The library's ``generate`` is made for large models: for one of a million parameters,
most of its time goes to rows that have ended already, to a cache that is copied at
every token, and to Python between operations. Here rows that have ended are taken out,
keys and values lie in one tensor, and a step is some thirty operations.

Samples come from uniform numbers that the caller gives, one per row and token, by the
inverse of the distribution function. So a row's sample does not depend on which rows
are beside it, and two models that are given the same numbers differ only where their
distributions do (common random numbers).
"""

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import GenerationConfig, Qwen2_5_VLForConditionalGeneration

COMPACT = 0.8
"""Rows that have ended are taken out once fewer than this share is left."""


@torch.no_grad()
def decode(
    model: Qwen2_5_VLForConditionalGeneration,
    inputs: Mapping[str, Tensor],
    uniforms: Tensor,
    temperature: float | Tensor = 1.0,
    prompts: Tensor | None = None,
) -> Tensor:
    """Completions of a batch of prompts.

    Args:
        model: A Qwen2.5-VL with full attention in every layer, in evaluation mode.
        inputs: Of P prompts, padded on the left: ``input_ids``, ``attention_mask``
            (P, L), with images ``pixel_values``, ``image_grid_thw``,
            ``mm_token_type_ids``.
        uniforms: In [0, 1), (B, T); T is the longest a completion may become.
        temperature: One for all, or one per row, (B,); 0 takes the likeliest token.
        prompts: For each completion the number of its prompt, (B,); by default each
            prompt has one. A prompt that several begin with is read once.

    Returns:
        Token ids, (B, at most T), on the model's device, padded on the right after the
        end of each row, which is part of it. Placeholders of images and videos are
        never among them, as in TRL's own sampling: a model would look for features of
        theirs.

    Raises:
        ValueError: A negative temperature.
    """
    temperature = torch.as_tensor(temperature, dtype=torch.float32)
    if (temperature < 0).any():
        raise ValueError(f"temperature must not be negative, got {temperature.min()}")
    device = model.device
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    length = ids.shape[1]
    rows, longest = uniforms.shape
    uniforms = uniforms.to(device)
    prompts = torch.arange(rows) if prompts is None else prompts
    prompts = prompts.to(device)
    temperature = temperature.to(device).expand(rows)
    text, config = model.model.language_model, model.config.text_config
    heads = config.num_key_value_heads
    groups = config.num_attention_heads // heads
    width = config.hidden_size // config.num_attention_heads
    positions = _positions(model, inputs)
    pictures = {
        name: inputs[name]
        for name in ("pixel_values", "image_grid_thw")
        if name in inputs
    }
    out = model.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        use_cache=True,
        **pictures,
    )
    # Keys and values of all layers: (layers, 2, B, heads, L + T, width).
    cache = torch.empty(
        (len(text.layers), 2, rows, heads, length + longest, width),
        dtype=out.last_hidden_state.dtype,
        device=device,
    )
    for layer, kept in enumerate(out.past_key_values.layers):
        cache[layer, 0, :, :, :length] = kept.keys[prompts]
        cache[layer, 1, :, :, :length] = kept.values[prompts]
    # 0 on what may be attended to, which padding may not.
    bias = torch.zeros(rows, 1, 1, length + longest, device=device)
    bias[..., :length].masked_fill_(mask[prompts, None, None] == 0, -torch.inf)
    place = positions.amax(dim=(0, 2))[prompts] + 1
    frequencies = text.rotary_emb.inv_freq

    ends, pad = _end_and_pad(model)
    placeholders = sorted(_placeholders(model))
    completions = torch.full((rows, longest), pad, device=device)
    # Rows at work, and which of them have not ended.
    alive = torch.arange(rows, device=device)
    going = torch.ones(rows, dtype=torch.bool, device=device)
    state = out.last_hidden_state[prompts, -1]
    for step in range(longest):
        logits = model.lm_head(state).float()
        logits[:, placeholders] = -torch.inf
        chosen = _draw(logits, temperature[alive], uniforms[alive, step])
        completions[alive[going], step] = chosen[going]
        going &= ~torch.isin(chosen, ends)
        if not going.any() or step == longest - 1:
            return completions[:, : step + 1]
        if going.float().mean() < COMPACT:
            alive, chosen = alive[going], chosen[going]
            cache, bias, place = cache[:, :, going], bias[going], place[going]
            going = going[going]
        # All three coordinates of a word's position are the same, so rotary
        # embedding in sections is the ordinary one.
        angle = (place + step)[:, None] * frequencies
        cos, sin = angle.cos().repeat(1, 2)[:, None], angle.sin().repeat(1, 2)[:, None]
        now = length + step
        x = text.embed_tokens(chosen)
        for layer, (keys, values) in zip(text.layers, cache, strict=True):
            attention, y = layer.self_attn, layer.input_layernorm(x)
            query = attention.q_proj(y).view(len(y), -1, width)
            key = attention.k_proj(y).view(len(y), heads, width)
            keys[:, :, now] = key * cos + _half_turn(key) * sin
            values[:, :, now] = attention.v_proj(y).view(len(y), heads, width)
            query = query * cos + _half_turn(query) * sin
            seen = scaled_dot_product_attention(
                # The heads of a group see the same keys, as so many queries would.
                query.view(len(y), heads, groups, width),
                keys[:, :, : now + 1],
                values[:, :, : now + 1],
                attn_mask=bias[..., : now + 1],
            )
            x = x + attention.o_proj(seen.reshape(len(y), -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        state = text.norm(x)
    return completions


def _positions(model, inputs: Mapping[str, Tensor]) -> Tensor:
    """Positions of the prompts' tokens, (3, B, L)."""
    mask = inputs["attention_mask"]
    if "image_grid_thw" in inputs:
        positions, _ = model.model.get_rope_index(
            inputs["input_ids"],
            image_grid_thw=inputs["image_grid_thw"],
            attention_mask=mask,
            mm_token_type_ids=inputs["mm_token_type_ids"],
        )
        # Padding is given a position that could be the largest.
        return positions.masked_fill(mask[None] == 0, 0)
    return (mask.cumsum(-1) - 1).clamp(min=0).expand(3, -1, -1)


def _draw(logits: Tensor, temperature: Tensor, uniform: Tensor) -> Tensor:
    """One token per row, by the inverse of the distribution function."""
    likeliest = logits.argmax(-1)
    warm = temperature > 0
    if not warm.any():
        return likeliest
    scaled = logits / torch.where(warm, temperature, 1)[:, None]
    below = scaled.softmax(-1).cumsum(-1)
    # Sums end a little off 1; scaled by them, no token without probability is drawn.
    drawn = torch.searchsorted(below, (uniform * below[:, -1])[:, None], right=True)
    drawn = drawn[:, 0].clamp(max=logits.shape[1] - 1)
    return torch.where(warm, drawn, likeliest)


def _half_turn(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def _placeholders(model) -> set[int]:
    return {model.config.image_token_id, model.config.video_token_id}


def _end_and_pad(model) -> tuple[Tensor, int]:
    config = model.generation_config
    ends = torch.as_tensor(config.eos_token_id, device=model.device).reshape(-1)
    return ends, int(config.pad_token_id)


def decode_faster(
    model: Qwen2_5_VLForConditionalGeneration,
) -> Qwen2_5_VLForConditionalGeneration:
    """Lets a model generate by :func:`decode`, whoever calls its ``generate``.

    Completions are drawn from the same distribution, from the global generator, but
    are other ones than the library's for the same seed.

    Args:
        model: The tiny model; changed in place.

    Returns:
        ``model``. Its ``generate`` takes prompts, a ``generation_config``, settings
        that go before it, and ``max_new_tokens``, gives prompts and completions
        (B, L + T), and raises ValueError for a setting that :func:`decode` does not
        know.

    Example:
        >>> from vgpo.testbed import load_tiny
        >>> model = decode_faster(load_tiny()[0])
    """

    def generate(input_ids, generation_config=None, max_new_tokens=None, **inputs):
        config = deepcopy(generation_config or model.generation_config)
        settings = {n: v for n, v in inputs.items() if not isinstance(v, Tensor)}
        inputs = {n: v for n, v in inputs.items() if n not in settings}
        if unknown := config.update(**settings):
            raise ValueError(f"generate has no setting {', '.join(sorted(unknown))}")
        _check(config, model)
        warmth = 1.0 if config.temperature is None else config.temperature
        completions = decode(
            model,
            {"input_ids": input_ids, **inputs},
            torch.rand(len(input_ids), max_new_tokens or config.max_new_tokens),
            temperature=warmth if config.do_sample else 0.0,
        )
        return torch.cat([input_ids, completions], dim=1)

    model.generate = generate
    return model


def _check(config: GenerationConfig, model) -> None:
    """Whether :func:`decode` does what is asked for."""
    plain = {
        "num_beams": (None, 1),
        "num_return_sequences": (None, 1),
        "top_k": (None, 0),
        "top_p": (None, 1.0),
        "min_p": (None, 0.0),
        "repetition_penalty": (None, 1.0),
        "min_new_tokens": (None, 0),
        "min_length": (None, 0),
        "typical_p": (None, 1.0),
        "epsilon_cutoff": (None, 0.0),
        "eta_cutoff": (None, 0.0),
        "no_repeat_ngram_size": (None, 0),
        "bad_words_ids": (None,),
        "sequence_bias": (None,),
        "begin_suppress_tokens": (None,),
        "forced_bos_token_id": (None,),
        "forced_eos_token_id": (None,),
        "guidance_scale": (None,),
    }
    settings = config.to_dict()
    if not set(settings.get("suppress_tokens") or ()) <= _placeholders(model):
        raise ValueError(
            "suppress_tokens must hold placeholders of images and videos alone, got "
            f"{settings['suppress_tokens']}; for anything else use the library's "
            "generate"
        )
    for name, allowed in plain.items():
        if settings.get(name) not in allowed:
            raise ValueError(
                f"{name} must be {allowed[-1]}, got {settings[name]!r}; for anything "
                "else use the library's generate"
            )
