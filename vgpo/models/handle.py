"""A vision-language model, resolved once: its parts, its image token, its grids.

Every function of ``vgpo.models`` takes a model, wrapped or not, or the
:class:`ModelHandle` that :func:`resolve` makes of it. Whoever asks several things of
one model resolves it first.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from vgpo.models.grid_rules import GridRule, grid_rule


@dataclass(frozen=True)
class ModelHandle:
    """The parts of a vision-language model that its states and attention come from.

    Attributes:
        wrapped: The model as it was given.
        model: The Hugging Face model inside the wrappers.
        backbone: Takes ids and pixels and gives the states that the head reads.
        language_model: The decoder inside the backbone, whose layers attend.
        image_token_id: Marks the place of an image feature in ``input_ids``.
        placeholder_ids: ``image_token_id``, and the tokens of other modalities whose
            places in a prompt are filled by an encoder (video, audio).
        width: Width D of the states.
        grid_rule: How the image tokens of a row lie on its images.
    """

    wrapped: nn.Module
    model: PreTrainedModel
    backbone: nn.Module
    language_model: PreTrainedModel
    image_token_id: int
    placeholder_ids: frozenset[int]
    width: int
    grid_rule: GridRule

    @property
    def device(self) -> torch.device:
        """Where the inputs of a forward pass go."""
        return self.model.device


def resolve(
    model: nn.Module | ModelHandle, image_token_id: int | None = None
) -> ModelHandle:
    """The handle of a model.

    Args:
        model: A vision-language model, wrapped or not; a handle comes back as it is.
        image_token_id: Overrides the configuration's image token.

    Returns:
        The handle. It stays right while the model is trained, moved, wrapped or given
        adapters, as no weight is copied.

    Raises:
        ValueError: ``model`` holds no Hugging Face model, its configuration names no
            image token, or there is no language model in it.

    Example:
        >>> from vgpo.testbed import build_processor, build_tiny
        >>> processor = build_processor()
        >>> handle = resolve(build_tiny(processor, hidden_size=64, layers=1))
        >>> type(handle.language_model).__name__, handle.width
        ('Qwen2_5_VLTextModel', 64)
        >>> handle.image_token_id == processor.image_token_id
        True
    """
    if isinstance(model, ModelHandle):
        if image_token_id is None:
            return model
        model = model.wrapped
    outer = unwrap_model(model)
    config = outer.config
    if image_token_id is None:
        image_token_id = _image_token_id(config)
    language_model = _language_model(outer)
    return ModelHandle(
        wrapped=model,
        model=outer,
        backbone=outer.base_model,
        language_model=language_model,
        image_token_id=image_token_id,
        placeholder_ids=frozenset({image_token_id, *_other_placeholders(config)}),
        width=language_model.config.hidden_size,
        grid_rule=grid_rule(config),
    )


def unwrap_model(model: nn.Module) -> PreTrainedModel:
    """The Hugging Face model inside any number of wrappers.

    Args:
        model: A ``PreTrainedModel``, or one wrapped by PEFT,
            ``DistributedDataParallel``, ``torch.compile`` or similar.

    Returns:
        The outermost ``PreTrainedModel``; ``model`` itself if it is one.

    Raises:
        ValueError: ``model`` holds no Hugging Face model.
    """
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise ValueError(
        f"model: no Hugging Face model found in {type(model).__name__}; pass a "
        "transformers.PreTrainedModel, wrapped or not."
    )


def image_token_id(model: nn.Module) -> int:
    """The id of the token that holds an image feature's place in ``input_ids``.

    Read from the model's configuration, where it is right for every family
    tested (``image_token_id``; Gemma 3 and LLaVA-OneVision store it as
    ``image_token_index``). A processor's attribute of that name is not: Gemma 3's
    processor names the token that opens an image.

    Args:
        model: A vision-language model, wrapped or not.

    Returns:
        The token id.

    Raises:
        ValueError: The configuration names no image token.

    Example:
        >>> from vgpo.testbed import build_processor, build_tiny
        >>> processor = build_processor()
        >>> model = build_tiny(processor, hidden_size=64, layers=1)
        >>> image_token_id(model) == processor.image_token_id
        True
    """
    return _image_token_id(unwrap_model(model).config)


# Families store a token's id under one name or the other; there is no accessor.
_KEYS = ("id", "index")


def _image_token_id(config: PreTrainedConfig) -> int:
    for key in _KEYS:
        token_id = getattr(config, f"image_token_{key}", None)
        if token_id is not None:
            return token_id
    raise ValueError(
        f"model: {type(config).__name__} names no image token (image_token_id); "
        "is this a vision-language model? If it is, pass image_token_id=... yourself."
    )


def _other_placeholders(config: PreTrainedConfig) -> list[int]:
    names = [f"{kind}_token_{key}" for kind in ("video", "audio") for key in _KEYS]
    ids = [getattr(config, name, None) for name in names]
    return [token_id for token_id in ids if token_id is not None]


def _language_model(outer: PreTrainedModel) -> PreTrainedModel:
    config = outer.config.get_text_config(decoder=True)
    for module in outer.base_model.modules():
        if isinstance(module, PreTrainedModel) and module.config is config:
            return module
    raise ValueError(f"model: no language model found inside {type(outer).__name__}.")
