"""A vision-language model with its processor, by name."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from vgpo.hub import require_hub


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
        ValueError: The checkpoint has no processor that reads images; no such type; a
            limit that is no whole number above 0, or a minimum above the maximum.
        OSError: There is no such folder, and no such model on the hub, or no answer
            from it.

    Example:
        >>> from vgpo.testbed import CHECKPOINT
        >>> model, processor = load_model(CHECKPOINT)
        >>> type(processor).__name__
        'TestbedProcessor'
    """
    _check_dtype(dtype)
    limits = _limits(min_pixels, max_pixels)
    try:
        processor = load_processor(name, **limits)
    except (OSError, ValueError) as error:
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


def load_processor(
    name: str | Path,
    *,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    **settings: Any,
) -> ProcessorMixin:
    """A model's processor alone, by name, with limits of its pictures' sizes.

    Args:
        name: As for :func:`load_model`.
        min_pixels: As for :func:`load_model`.
        max_pixels: As for :func:`load_model`.
        settings: Others of ``AutoProcessor.from_pretrained``.

    Raises:
        ValueError: A limit that is no whole number above 0, or a minimum above the
            maximum; no processor is known for the checkpoint.
        OSError: As for :func:`load_model`.

    Example:
        >>> from vgpo.testbed import CHECKPOINT
        >>> load_processor(CHECKPOINT, max_pixels=784).image_processor.size.longest_edge
        784
    """
    limits = _limits(min_pixels, max_pixels)
    require_model(name)
    _register_own_processor(Path(name))
    processor = AutoProcessor.from_pretrained(name, **limits, **settings)
    if isinstance(processor, ProcessorMixin):
        _limits_in_one_place(processor, limits)
    return processor


def require_model(name: str | Path, argument: str = "name") -> None:
    """Refuses a name that is no folder and in no cache while the hub does not answer.

    Args:
        name: As for :func:`load_model`.
        argument: What it was given as, for the message.

    Raises:
        ValueError: It is a file.
        ConnectionError: As ``vgpo.hub.require_hub`` says.
    """
    if Path(name).is_file():
        raise ValueError(
            f"{argument}: {name} is a file; name the folder of the model, with its "
            "config.json, weights and processor"
        )
    if Path(name).exists():
        return
    try:
        require_hub(Path(name).as_posix(), "model")
    except ConnectionError as error:
        raise ConnectionError(
            f"{argument}: there is no folder {str(name)!r}; {error}"
        ) from None


def _limits_in_one_place(processor: ProcessorMixin, limits: dict[str, int]) -> None:
    """Takes limits from the tokenizer that its image processor has as its ``size``.

    ``from_pretrained`` hands them to both. A tokenizer writes them into its own file,
    and they come back at each call, which transformers warns of and will not take much
    longer.
    """
    size = processor.image_processor.to_dict().get("size") or {}
    for name, value in limits.items():
        if value in dict(size).values():
            processor.tokenizer.init_kwargs.pop(name, None)


def _check_dtype(dtype: str | torch.dtype) -> None:
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return
    if not isinstance(vars(torch).get(dtype), torch.dtype):
        raise ValueError(
            "dtype: must be 'auto' or a type of torch such as 'bfloat16' or 'float32', "
            f"got {dtype!r}."
        )


def _limits(least: int | None, most: int | None) -> dict[str, int]:
    """The limits of pixels that are set, which processors take unchecked."""
    asked = {"min_pixels": least, "max_pixels": most}
    limits = {name: value for name, value in asked.items() if value is not None}
    for name, value in limits.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{name}: must be a whole number of pixels above 0, got {value!r}."
            )
    if least is not None and most is not None and least > most:
        raise ValueError(f"min_pixels: {least} is above max_pixels, {most}.")
    return limits


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
