"""What a run was: method, settings, data, versions; ``training.json`` in its folder.

A trained model is of use to others only where it can be told how it was made. What is
kept here is what a model card needs; no names of machines, no local paths, no tokens.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOTrainer, ModelConfig

from vgpo.files import write_atomically
from vgpo.models.handle import unwrap_model
from vgpo.training.config import VGPOConfig
from vgpo.training.settings import TrainArguments
from vgpo.versions import installed_versions

FILE_NAME = "training.json"

LIBRARIES = ("vgpo", "torch", "transformers", "trl", "peft", "datasets", "accelerate")

# Where things lie and where they are reported to, which is nobody else's business.
_PRIVATE = (
    *("dir", "hub", "token", "report", "logging", "run_name", "resume", "config"),
    *("host", "url", "path", "deepspeed"),
)
_OF_DATA = (
    "dataset",
    "dataset_split",
    "eval_dataset",
    "eval_split",
    "on_bad_row",
    "prompt_suffix",
    "min_pixels",
    "max_pixels",
    "rewards",
)


def describe_run(
    trainer: GRPOTrainer,
    arguments: TrainArguments | None = None,
    model: ModelConfig | None = None,
) -> dict[str, Any]:
    """A run in what JSON can hold.

    Args:
        trainer: Built, with a :class:`~vgpo.training.config.VGPOConfig`.
        arguments: What the command line was told to train on.
        model: What it was told of the model.

    Returns:
        ``method``, ``method_settings``, ``settings`` (those that are not the
        defaults), ``base_model`` (None for a local folder), ``adapters`` (None where
        all weights are trained), ``four_bit``, ``rewards``, ``data`` (``train_rows``,
        ``eval_rows`` and what was asked for), ``versions``.
    """
    args = trainer.args
    unwrapped = unwrap_model(trainer.model)
    told = vars(arguments) if arguments is not None else {}
    asked = {name: told[name] for name in _OF_DATA if told.get(name) is not None}
    for name in ("dataset", "eval_dataset"):
        if name in asked:
            asked[name] = public_name(asked[name])
    base = unwrapped.config._name_or_path
    if model is not None and model.model_name_or_path:
        base = model.model_name_or_path
    found = {
        "method": args.method,
        "method_settings": _fields_of(args.make_method()),
        "settings": changed_settings(args),
        "base_model": public_name(base) if base else None,
        "adapters": _adapters(trainer.model),
        "four_bit": bool(getattr(unwrapped, "is_loaded_in_4bit", False)),
        "rewards": list(trainer.reward_func_names),
        "data": {
            "train_rows": _count(trainer.train_dataset),
            "eval_rows": _count(trainer.eval_dataset),
            **asked,
        },
        "versions": installed_versions(LIBRARIES),
    }
    return json.loads(json.dumps(found, default=str))


def public_name(name: str) -> str | None:
    """A name as it may be published: a path of this machine by its last part.

    Example:
        >>> public_name("hiyouga/geometry3k"), public_name("/home/me/rows.csv")
        ('hiyouga/geometry3k', 'rows.csv (a local file or folder)')
    """
    path = Path(name)
    local = path.is_absolute() or path.exists() or name.startswith((".", "~"))
    return f"{path.name} (a local file or folder)" if local else name


def changed_settings(args: VGPOConfig) -> dict[str, Any]:
    """The settings of training that are not the defaults, without private ones."""
    found = {}
    for field in dataclasses.fields(args):
        if any(word in field.name for word in _PRIVATE) or not field.init:
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        value = getattr(args, field.name)
        if value != default:
            found[field.name] = value
    return found


def write_run_record(
    trainer: GRPOTrainer,
    arguments: TrainArguments | None = None,
    model: ModelConfig | None = None,
) -> None:
    """Writes :func:`describe_run` into the run's folder, from one process."""
    if trainer.args.should_save:
        text = json.dumps(describe_run(trainer, arguments, model), indent=2)
        write_atomically(Path(trainer.args.output_dir) / FILE_NAME, text + "\n")


def read_run_record(folder: str | Path) -> dict[str, Any]:
    """What a run was.

    Raises:
        ValueError: The folder holds no record, or one that cannot be read.
    """
    path = Path(folder) / FILE_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} holds no {FILE_NAME}: it is written when training begins, by "
            "this release or a later one"
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    if not isinstance(record, dict) or "method" not in record:
        raise ValueError(f"{path} is no record of a training run")
    return record


def _fields_of(method: Any) -> dict[str, Any]:
    return dataclasses.asdict(method) if dataclasses.is_dataclass(method) else {}


def _adapters(model) -> dict[str, Any] | None:
    configs = getattr(model, "peft_config", None)
    if not configs:
        return None
    one = next(iter(configs.values()))
    return {"r": one.r, "alpha": one.lora_alpha, "dropout": one.lora_dropout}


def _count(rows: Any) -> int | None:
    return len(rows) if isinstance(rows, Dataset) else None
