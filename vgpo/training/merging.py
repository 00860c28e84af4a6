"""Adapters merged into the weights of their base, to be served without PEFT."""

from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
)

import vgpo.testbed.processor  # noqa: F401  (registers the small world's processor)
from vgpo.models.adapters import four_bit_config, prepare_4bit_on_cpu
from vgpo.training.run_record import read_run_record


def merged_model(folder: str | Path, base: str | None = None) -> PreTrainedModel:
    """The model of a run with its adapters in its weights.

    Adapters that were trained over 4-bit weights have learnt to make up for these, so
    the 4 bits are unpacked first and the adapters are added to what they were trained
    on, not to the original weights.

    Args:
        folder: Of the run, with its adapters and its ``training.json``.
        base: The base model, by default the one that the adapters name.

    Returns:
        A model without adapters, in evaluation mode.

    Raises:
        ValueError: The folder holds no adapters.
    """
    folder = Path(folder)
    if not (folder / "adapter_model.safetensors").is_file():
        raise ValueError(
            f"{folder} holds no adapters to merge (adapter_model.safetensors); where "
            "all weights were trained, the model there is whole"
        )
    base = base or PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    if read_run_record(folder)["four_bit"]:
        config = AutoConfig.from_pretrained(base)
        dtype = config.get_text_config().dtype or config.dtype or torch.bfloat16
        model = AutoModelForImageTextToText.from_pretrained(
            base,
            quantization_config=four_bit_config(config, dtype),
            dtype=dtype,
            use_safetensors=True,
        )
        prepare_4bit_on_cpu(model)
        model = model.dequantize()
    else:
        model = AutoModelForImageTextToText.from_pretrained(
            base, dtype="auto", use_safetensors=True
        )
    tuned = PeftModel.from_pretrained(model, str(folder))
    return tuned.merge_and_unload().eval()


def save_merged(
    folder: str | Path, output: str | Path, base: str | None = None
) -> Path:
    """Saves :func:`merged_model` with its processor, as safetensors.

    Args:
        folder: Of the run.
        output: A new or empty folder.
        base: As :func:`merged_model`.

    Raises:
        ValueError: ``output`` holds something, or as :func:`merged_model`.
    """
    output = Path(output)
    if output.is_dir() and any(output.iterdir()):
        raise ValueError(f"output: {output} is not empty; name a new folder")
    model = merged_model(folder, base)
    model.save_pretrained(output)
    AutoProcessor.from_pretrained(folder).save_pretrained(output)
    return output
