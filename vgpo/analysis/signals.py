"""Every signal that a token could be weighted by, side by side, for one answer."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from transformers import ProcessorMixin

from vgpo.analysis.asking import asked
from vgpo.method.dependence import VIEW_SIGNALS, check_view, entropy_of, view_signals
from vgpo.models.attention import attention_split
from vgpo.models.capture import capture_focus
from vgpo.models.distributions import log_distributions, of_tokens
from vgpo.models.handle import resolve
from vgpo.models.inputs import (
    add_completion,
    check_messages,
    encode_prompt,
    eval_mode,
    mismatch_named,
    read_pictures,
    special_token_ids,
    token_texts,
)
from vgpo.models.layers import capture_layer_cosines
from vgpo.models.probes.degraded import black_squares, noisy_pixels
from vgpo.pictures import open_picture

SIGNALS = (
    "focus_token",
    "focus_prediction",
    "attention_last",
    "attention_most",
    "attention_mean",
    *VIEW_SIGNALS,
    "layer_cosine",
    "entropy",
)
"""The columns of :func:`signals` that score tokens."""


def signals(
    model: nn.Module,
    processor: ProcessorMixin,
    messages: Any,
    *texts: Any,
    completion: str | Sequence[int] | None = None,
    probability: float = 0.6,
    patch: int = 14,
    noise: float = 2.0,
    seed: int = 0,
    max_new_tokens: int = 512,
) -> pd.DataFrame:
    """What each method would see in one answer about one or more images.

    Five forward passes without gradient, in eval mode: one for focus, cosines,
    entropy and log-probabilities, one for attention, and one each before a masked
    picture, a noisy one, and none.

    Args:
        model: A vision-language model, wrapped or not.
        processor: The model's own processor, with a chat template.
        messages: A picture, several, or one conversation with pictures under
            ``image``, as for :func:`vgpo.analysis.scoring.score`.
        *texts: After a picture the question; then, or after a conversation, the answer
            to score, as text or token ids.
        completion: The answer, by name. Without one the model answers greedily.
        probability: That a square of the picture is blacked out.
        patch: Side of a square, in pixels of the picture.
        noise: Standard deviation of the noise on processed pixels.
        seed: Of the masked and the noisy picture.
        max_new_tokens: Longest answer, where the model writes it.

    Returns:
        A table with a row per token.

        =====================  =====================================================
        ``position``           from 1
        ``token``              as text
        ``token_id``           its id
        ``log_prob``           its log-probability
        ``focus_token``        Eq. 4 at the token's own position (VGPO)
        ``focus_prediction``   Eq. 4 at the position that predicts it (VGPO)
        ``attention_last``     share of attention on the image, last layer
        ``attention_most``     the same, of the layer that looks at it most
        ``attention_mean``     the same, mean over the layers
        ``k3``                 :func:`~vgpo.method.dependence.k3` (PAPO, VPPO)
        ``contrast``           what the mask takes from ``log_prob`` (SRPO)
        ``absolute_contrast``  how far ``log_prob`` is from that without picture (ToR)
        ``jsd``                divergence from the prediction before noise (VEPO)
        ``vepo``               that, the change of entropy, and the entropy (VEPO)
        ``layer_cosine``       mean cosine over all layers (PEPO)
        ``entropy``            of the prediction of the token, in nats
        =====================  =====================================================

    Raises:
        ValueError: As :func:`vgpo.analysis.scoring.score`; a picture that is not
            under ``image``; a setting out of range.

    Example:
        >>> from PIL import Image
        >>> from vgpo.testbed import build_processor, build_tiny
        >>> processor = build_processor()
        >>> model = build_tiny(processor, hidden_size=64, layers=2)
        >>> picture = Image.new("RGB", (56, 56), "red")
        >>> table = signals(model, processor, picture, "Add red ?", "red = 5")
        >>> table.token.tolist(), table.shape
        (['red', ' =', ' 5'], (3, 16))
    """
    check_view(probability, patch)
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise must be at least 0, got {noise}")
    handle = resolve(model)
    messages, completion = asked(messages, texts, completion)
    inputs, ids = add_completion(
        handle,
        processor,
        encode_prompt(handle, processor, messages),
        completion,
        max_new_tokens=max_new_tokens,
    )
    length, answer = len(ids), ids.tolist()
    views = {
        "masked": masked_pictures(messages, probability, patch, seed),
        "blind": without_pictures(messages),
    }
    degraded = {}
    for name, view in views.items():
        prompt = encode_prompt(handle, processor, view, needs_image=name != "blind")
        degraded[name], _ = add_completion(handle, processor, prompt, answer)
    noisy = noisy_pixels(
        inputs["pixel_values"],
        noise,
        torch.Generator().manual_seed(seed),
        flat="image_grid_thw" in inputs,
    )
    with eval_mode(model), torch.no_grad(), mismatch_named(handle, inputs):
        with (
            capture_focus(handle, completion_length=length) as token,
            capture_focus(
                handle, completion_length=length, alignment="prediction"
            ) as prediction,
            capture_layer_cosines(handle, completion_length=length) as layers,
        ):
            plain = log_distributions(handle, inputs, length)
        before = {
            name: of_tokens(log_distributions(handle, view, length), ids[None])
            for name, view in degraded.items()
        }
        before_noise = log_distributions(
            handle, inputs | {"pixel_values": noisy}, length
        )
        split = attention_split(
            handle,
            inputs,
            length,
            layers="all",
            special_token_ids=special_token_ids(processor.tokenizer),
        )
    attention = split.layer_masses[:, 0, :, 0]
    compared = view_signals(plain, before_noise, ids[None].to(plain.device), **before)
    columns = {
        "log_prob": of_tokens(plain, ids[None])[0],
        "focus_token": token.focus[0],
        "focus_prediction": prediction.focus[0],
        "attention_last": attention[-1],
        "attention_most": attention[attention.mean(dim=1).argmax()],
        "attention_mean": attention.mean(dim=0),
        **{name: values[0] for name, values in compared.items()},
        "layer_cosine": layers.values[0],
        "entropy": entropy_of(plain[0]),
    }
    return pd.DataFrame(
        {
            "position": range(1, length + 1),
            "token": token_texts(processor.tokenizer, ids.tolist()),
            "token_id": ids.cpu().numpy(),
            **{name: values.float().cpu().numpy() for name, values in columns.items()},
        }
    )


def masked_pictures(
    messages: list[dict], probability: float, patch: int = 14, seed: int = 0
) -> list[dict]:
    """A conversation with squares of its pictures blacked out, as PAPO does.

    Args:
        messages: One conversation, with pictures under ``image``.
        probability: That a square is blacked out.
        patch: Side of a square, in pixels.
        seed: Names the draw.

    Returns:
        A new conversation with pictures of the same sizes.

    Raises:
        ValueError: It is no conversation; a picture cannot be read, or is not under
            ``image``.
    """
    generator = torch.Generator().manual_seed(seed)

    def changed(part: dict) -> dict:
        if part["type"] != "image":
            return part
        if "image" not in part:
            raise ValueError(
                "messages: to be masked, a picture has to stand under 'image', got a "
                f"part with {sorted(part)}."
            )
        picture = open_picture(part["image"])
        return {**part, "image": black_squares(picture, probability, generator, patch)}

    return [
        turn
        if isinstance(turn["content"], str)
        else {**turn, "content": [changed(part) for part in turn["content"]]}
        for turn in read_pictures(messages)
    ]


def without_pictures(messages: list[dict]) -> list[dict]:
    """A conversation without its pictures.

    Args:
        messages: One conversation.

    Returns:
        A new conversation.

    Raises:
        ValueError: It is no conversation.

    Example:
        >>> parts = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "?"}]
        >>> without_pictures([{"role": "user", "content": parts}])
        [{'role': 'user', 'content': [{'type': 'text', 'text': '?'}]}]
    """
    check_messages(messages)
    return [
        turn
        if isinstance(turn["content"], str)
        else {
            **turn,
            "content": [part for part in turn["content"] if part["type"] != "image"]
            or "",
        }
        for turn in messages
    ]
