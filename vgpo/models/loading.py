"""A vision-language model with its processor, by name."""

import json
from pathlib import Path

import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)


def load_model(
    name: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str = "auto",
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A vision-language model with its processor, from the hub or a folder.

    Args:
        name: A model id on the hub, or a folder with a checkpoint.
        dtype: Of the weights; ``"auto"`` takes the checkpoint's.
        device: Where to, as ``device_map`` of ``from_pretrained``.
        min_pixels: Smaller images are enlarged, for processors that have this setting.
        max_pixels: Larger images are reduced, for processors that have this setting
            (Qwen's: 1,048,576 pixels are at most 1,337 image tokens).

    Returns:
        ``(model, processor)``, the model in eval mode. Code that comes with a
        checkpoint is not run, and only safetensors are read.

    Raises:
        ValueError: The checkpoint has no processor that reads images.

    Example:
        >>> from vgpo.testbed import CHECKPOINT
        >>> model, processor = load_model(CHECKPOINT)
        >>> type(processor).__name__
        'TestbedProcessor'
    """
    _register_own_processor(Path(name))
    asked = {"min_pixels": min_pixels, "max_pixels": max_pixels}
    limits = {name: value for name, value in asked.items() if value is not None}
    try:
        processor = AutoProcessor.from_pretrained(name, **limits)
    except OSError as error:
        if not Path(name).is_dir():
            raise  # the hub's own message, on names and connections
        raise ValueError(
            f"name: the folder {name} has no processor that reads images; put it there "
            "with processor.save_pretrained."
        ) from error
    if isinstance(processor, PreTrainedTokenizerBase):
        raise ValueError(
            f"name: AutoProcessor finds only a tokenizer for {name}, which cannot read "
            "images; load the model's own processor class instead."
        )
    model = AutoModelForImageTextToText.from_pretrained(
        name, dtype=dtype, device_map=device, use_safetensors=True
    )
    return model.eval(), processor


def _register_own_processor(folder: Path) -> None:
    """Makes the small world's processor known where a folder asks for it.

    ``AutoProcessor`` finds classes that are not transformers' own only once they are
    registered, which importing their module does.
    """
    settings = folder / "processor_config.json"
    if not settings.is_file():
        return
    named = json.loads(settings.read_text(encoding="utf-8")).get("processor_class")
    if named == "TestbedProcessor":
        import vgpo.testbed.processor  # noqa: F401
