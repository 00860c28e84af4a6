"""Adapters merged into the weights of their base, to be served without PEFT."""

from pathlib import Path

from peft import PeftConfig, PeftModel
from transformers import AutoModelForImageTextToText, PreTrainedModel

from vgpo.models.adapters import load_four_bit
from vgpo.models.loading import load_processor, require_model
from vgpo.training.run_record import read_run_record
from vgpo.training.workarounds import quiet_about_old_names


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
        OSError: There is no such base, in a folder or on the hub, or no answer from it.
    """
    folder = Path(folder)
    if not (folder / "adapter_model.safetensors").is_file():
        raise ValueError(
            f"{folder} holds no adapters to merge (adapter_model.safetensors); where "
            "all weights were trained, the model there is whole"
        )
    base = base or PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    require_model(base, "base")
    if read_run_record(folder)["four_bit"]:
        model = load_four_bit(base, None, local_files_only=False).dequantize()
    else:
        model = AutoModelForImageTextToText.from_pretrained(
            base, dtype="auto", use_safetensors=True
        )
    with quiet_about_old_names():
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
    load_processor(folder).save_pretrained(output)
    return output
