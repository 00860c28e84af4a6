"""The numbers of a model that its memory follows from."""

from dataclasses import dataclass
from functools import lru_cache

from transformers import PreTrainedConfig

from vgpo.models.adapters import skeleton_of
from vgpo.models.weights import (
    SIZES,
    four_bit_layers,
    nf4_bytes,
    qwen2_5_vl_config,
    weight_table,
)

_VISION = ("depth", "hidden_size", "intermediate_size", "num_heads", "patch_size")


@dataclass(frozen=True)
class Shape:
    """Sizes of a vision-language model, in numbers; no weight is needed for them.

    Attributes:
        name: Of the model.
        parameters: All of them, tied ones once.
        quantised: Those in the language model's linear layers, which 4 bits store.
        nf4: Bytes of those in NF4 with double quantisation.
        nf4_single: The same without double quantisation.
        adapters: Parameters of adapters on these layers, per rank.
        linear_layers: How many of them a layer of the language model has.
        vision_parameters: In the vision tower with its projector.
        vision_adapters: Parameters of adapters on the tower, per rank.
        layers: Of the language model.
        hidden: Width of its states.
        intermediate: Width within its MLP.
        heads: Of its attention.
        query: Width of all queries together.
        key_value: Width of all keys (or values) together.
        vocabulary: Words.
        largest: Numbers in its largest matrix.
        vision_layers: Of the tower; 0 where its kind is not known here, and its
            activations and pixels are then left out.
        vision_hidden: Width of its states.
        vision_intermediate: Width within its MLP.
        vision_heads: Of its attention.
        patches: Patches that make one image token.
        patch: Numbers that the processor gives for one patch.
    """

    name: str
    parameters: int
    quantised: int
    nf4: int
    nf4_single: int
    adapters: int
    linear_layers: int
    vision_parameters: int
    vision_adapters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    query: int
    key_value: int
    vocabulary: int
    largest: int
    vision_layers: int = 0
    vision_hidden: int = 0
    vision_intermediate: int = 0
    vision_heads: int = 1
    patches: int = 0
    patch: int = 0


def shape_of(model: str | PreTrainedConfig) -> Shape:
    """The shape of a published size of Qwen2.5-VL, or of any configuration.

    Parameters are counted from a model without memory
    (:func:`vgpo.models.weights.weight_table`), widths are read from the
    configuration.

    Args:
        model: ``"3B"``, ``"7B"``, ``"32B"``, or a configuration of transformers.

    Raises:
        ValueError: No such size; a mixture of experts, of whose activations nothing is
            known here.

    Example:
        >>> shape = shape_of("7B")
        >>> shape.parameters, shape.layers, shape.adapters * 16
        (8292166656, 28, 40370176)
    """
    if isinstance(model, str):
        return _published(model)
    return _of_config(model, type(model).__name__)


@lru_cache
def _published(size: str) -> Shape:
    if size not in SIZES:
        raise ValueError(
            f"model must be one of {SIZES} (sizes of Qwen2.5-VL) or a configuration "
            f"of transformers, got {size!r}"
        )
    return _of_config(qwen2_5_vl_config(size), f"Qwen2.5-VL-{size}")


def _of_config(config: PreTrainedConfig, name: str) -> Shape:
    skeleton = skeleton_of(config)
    text = config.get_text_config()
    table = weight_table(skeleton)
    matrices = [layer.weight for layer in four_bit_layers(skeleton).values()]
    if not matrices or any(p.ndim == 3 for p in skeleton.get_decoder().parameters()):
        raise ValueError(
            f"model: the language model of {config.model_type} is a mixture of "
            "experts, or has no linear layers; its memory is not estimated here"
        )
    counts = [matrix.numel() for matrix in matrices]
    tower = skeleton.get_encoder(modality="image")
    # Keys of one head, times heads; a family without `head_dim` divides the width.
    head = getattr(text, "head_dim", None) or (
        text.hidden_size // text.num_attention_heads
    )
    return Shape(
        name=name,
        parameters=int(table["parameters"].sum()),
        quantised=sum(counts),
        nf4=sum(map(nf4_bytes, counts)),
        nf4_single=sum(nf4_bytes(count, double=False) for count in counts),
        adapters=sum(sum(matrix.shape) for matrix in matrices),
        linear_layers=round(len(matrices) / text.num_hidden_layers),
        vision_parameters=sum(p.numel() for p in tower.parameters()),
        vision_adapters=sum(
            sum(p.shape)
            for name, p in tower.named_parameters()
            if p.ndim == 2 and name.endswith("weight")
        ),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        heads=text.num_attention_heads,
        query=head * text.num_attention_heads,
        key_value=head * text.num_key_value_heads,
        vocabulary=text.vocab_size,
        largest=max(counts),
        **_vision(config),
    )


def _vision(config: PreTrainedConfig) -> dict[str, int]:
    """Sizes of a tower of Qwen's kind, whose image tokens are merged patches."""
    vision = config.vision_config
    names = (*_VISION, "spatial_merge_size", "temporal_patch_size", "in_channels")
    if not all(name in vision.to_dict() for name in names):
        return {}
    return {
        "vision_layers": vision.depth,
        "vision_hidden": vision.hidden_size,
        "vision_intermediate": vision.intermediate_size,
        "vision_heads": vision.num_heads,
        "patches": vision.spatial_merge_size**2,
        "patch": vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
    }
