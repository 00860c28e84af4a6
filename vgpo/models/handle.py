"""A vision-language model, resolved once: its parts, its image token, its grids.

Every function of ``vgpo.models`` takes a model, wrapped or not, or the
:class:`ModelHandle` that :func:`resolve` makes of it. Whoever asks several things of
one model resolves it first.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from vgpo.models.grid_rules import GridRule, grid_rule


@dataclass(frozen=True)
class ModelHandle:
    """The parts of a vision-language model that its states and attention come from.

    Attributes:
        wrapped: The model as it was given.
        model: The Hugging Face model inside the wrappers.
        entry: Takes ids and pixels. It is called for a pass that needs no logits.
        backbone: Its output are the states that the head reads. Most families keep
            it apart from the head, and it is the entry as well; in a few, such as
            Llama 4, it lies deeper, and the entry is the whole model.
        language_model: The decoder, whose layers attend.
        image_token_id: Marks the place of an image feature in ``input_ids``.
        placeholder_ids: ``image_token_id``, and the tokens of other modalities whose
            places in a prompt are filled by an encoder (video, audio).
        width: Width D of the states.
        grid_rule: How the image tokens of a row lie on its images.
    """

    wrapped: nn.Module
    model: PreTrainedModel
    entry: nn.Module
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
        ValueError: ``model`` holds no Hugging Face model; its images are no tokens of
            the sequence that it generates in (encoder-decoder models, images by
            cross-attention), so that neither focus nor attention on the image is
            defined; its configuration names no image token; the states that its head
            reads, or its language model, cannot be found in it.

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
    _refuse_images_beside_the_sequence(config)
    if image_token_id is None:
        image_token_id = _image_token_id(config)
    entry, backbone = states_of(outer)
    language_model = language_model_of(outer)
    return ModelHandle(
        wrapped=model,
        model=outer,
        entry=entry,
        backbone=backbone,
        language_model=language_model,
        image_token_id=image_token_id,
        placeholder_ids=placeholder_ids(config) | {image_token_id},
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
        ValueError: ``model`` is none, or holds no Hugging Face model.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model: must be a model of transformers, got {type(model).__name__}; "
            "vgpo.analysis.load_model(name) loads one, with its processor."
        )
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise ValueError(
        f"model: no Hugging Face model found in {type(model).__name__}; pass a "
        "transformers.PreTrainedModel, wrapped or not."
    )


def image_token_id(model: nn.Module | PreTrainedConfig) -> int:
    """The id of the token that holds an image feature's place in ``input_ids``.

    Read from the model's configuration, where it is right for every family
    tested (``image_token_id``; Gemma 3 and LLaVA-OneVision store it as
    ``image_token_index``). A processor's attribute of that name is not: Gemma 3's
    processor names the token that opens an image.

    Args:
        model: A vision-language model, wrapped or not, or its configuration.

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
    is_config = isinstance(model, PreTrainedConfig)
    return _image_token_id(model if is_config else unwrap_model(model).config)


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


def placeholder_ids(config: PreTrainedConfig) -> frozenset[int]:
    """Ids of the tokens that hold the places of image, video and audio features.

    Args:
        config: Of a model.

    Returns:
        Those that the configuration names; empty for a language model.
    """
    kinds = ("image", "video", "audio")
    names = [f"{kind}_token_{key}" for kind in kinds for key in _KEYS]
    ids = [getattr(config, name, None) for name in names]
    return frozenset(token_id for token_id in ids if token_id is not None)


def suppressed_tokens(
    config: GenerationConfig, placeholders: Iterable[int]
) -> list[int]:
    """Ids that must not be written: a configuration's own, and all placeholders.

    A placeholder in an answer is the place of features that no encoder would fill, and
    ends the next pass over it.

    Args:
        config: Of a generation.
        placeholders: Of the model, as of :func:`placeholder_ids`.

    Returns:
        For ``suppress_tokens``, in order.

    Example:
        >>> suppressed_tokens(GenerationConfig(suppress_tokens=[7]), {3})
        [3, 7]
    """
    return sorted({*(config.suppress_tokens or ()), *placeholders})


# Families whose layers look at the image's features beside the sequence.
_CROSS_ATTENTION = ("evolla", "idefics", "mllama")


def _refuse_images_beside_the_sequence(config: PreTrainedConfig) -> None:
    text = config.get_text_config(decoder=True)
    if config.is_encoder_decoder or text.is_encoder_decoder:
        raise ValueError(
            f"model: {config.model_type} is an encoder-decoder model: its images are "
            "in the encoder's sequence, and visual focus and attention compare image "
            "tokens with generated ones in one sequence. Take a decoder-only model."
        )
    if config.model_type in _CROSS_ATTENTION:
        raise ValueError(
            f"model: {config.model_type} sees images by cross-attention: they are no "
            "tokens of its sequence, and visual focus and attention compare image "
            "tokens with generated ones in one sequence. Take a model that puts "
            "images into the sequence."
        )


def states_of(outer: PreTrainedModel) -> tuple[nn.Module, nn.Module]:
    """Where a model takes its ids, and the module whose output its head reads.

    Raises:
        ValueError: The model holds no such module apart from its head.
    """
    if outer.base_model is not outer:
        return outer.base_model, outer.base_model
    # A class without a backbone of its own. In some the head is that of a language
    # model further down; others are a backbone themselves and have no head.
    nested = [
        module
        for module in outer.modules()
        if isinstance(module, PreTrainedModel)
        and module is not outer
        and module.get_output_embeddings() is not None
    ]
    for module in nested:
        beside_the_head = [
            child
            for child in module.children()
            if isinstance(child, PreTrainedModel)
            and child.get_output_embeddings() is None
        ]
        if len(beside_the_head) == 1:
            return outer, beside_the_head[0]
    if not nested and outer.get_output_embeddings() is None:
        return outer, outer
    raise ValueError(
        f"model: {type(outer).__name__} does not keep the states that its head reads "
        "apart from the head, so they cannot be observed."
    )


def language_model_of(outer: PreTrainedModel) -> PreTrainedModel:
    """The decoder of a model, without the head.

    Raises:
        ValueError: There is none, that is, no module with the text configuration.
    """
    config = outer.config.get_text_config(decoder=True)
    _, backbone = states_of(outer)
    for module in backbone.modules():
        if isinstance(module, PreTrainedModel) and module.config is config:
            return module
    raise ValueError(f"model: no language model found inside {type(outer).__name__}.")
