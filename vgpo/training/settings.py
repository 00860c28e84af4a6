"""The command line's settings: what to train on, and how a recipe is read."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from trl import ModelConfig, TrlParser

from vgpo.data.prompts import ON_BAD_ROW
from vgpo.data.splits import PROMPT_SUFFIX
from vgpo.method.shaping import did_you_mean
from vgpo.rewards.functions import GRADING_SECONDS
from vgpo.training.config import VGPOConfig
from vgpo.training.machine import MissingGPUError

_REWARDS = ("accuracy", "recipe", "format", "overlong")
_USAGE = "python -m vgpo.train --config RECIPE.yaml [--SETTING VALUE ...]"


@dataclass
class TrainArguments:
    """What to train on, beside the trainer's and the model's own settings.

    ``python -m vgpo.train --help`` says what each field is.

    Raises:
        ValueError: A value is of the wrong kind or unknown; the field is named.
    """

    preset: str = field(
        default="vgpo",
        metadata={
            "help": "The fields the others start from: grpo, dapo, vgpo, or "
            "any other method, such as papo or vppo."
        },
    )
    dataset: str | None = field(
        default=None,
        metadata={
            "help": "testbed, a name of the catalogue such as virl39k, a name on the "
            "hub, a folder, or a Parquet, JSON, JSON lines or CSV file; paths of "
            "pictures in a file begin at its folder."
        },
    )
    dataset_split: str | None = field(
        default=None,
        metadata={
            "help": "Split to train on; by default train, or the catalogue's own. The "
            "testbed has train and heldout; a file has train, and parts of it such as "
            "train[:90%%]."
        },
    )
    dataset_root: str | None = field(
        default=None,
        metadata={
            "help": "Folder with copies of the catalogue's repositories, each under "
            "its id; by default they are fetched from the hub."
        },
    )
    eval_dataset: str | None = field(
        default=None,
        metadata={
            "help": "Evaluated on where eval_strategy is set; by default the same data "
            "set."
        },
    )
    eval_split: str | None = field(
        default=None,
        metadata={
            "help": "Split to evaluate on, never the rows that are trained on; by "
            "default test, or the catalogue's own."
        },
    )
    question_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of the question, which may hold <image> where a picture "
            "belongs (without it, pictures come first); by default it is found by "
            "its name (problem, question, query), or is a conversation."
        },
    )
    answer_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of the reference answer; by default found by its name."
        },
    )
    image_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of the picture, or of the list of pictures; by default "
            "found by its name."
        },
    )
    on_bad_row: str = field(
        default="raise",
        metadata={
            "help": "What a row does that cannot be trained on (a damaged picture, no "
            "answer): raise, or skip, which lists the rows left out."
        },
    )
    prompt_suffix: str = field(
        default=PROMPT_SUFFIX,
        metadata={
            "help": "Put after each question; not on the testbed, whose model was not "
            "taught it."
        },
    )
    testbed_size: int = field(
        default=1024, metadata={"help": "Questions of the testbed."}
    )
    testbed_seed: int = field(
        default=0, metadata={"help": "Names the testbed's sequence of questions."}
    )
    testbed_family: str | None = field(
        default=None, metadata={"help": "Ask this family of the testbed only."}
    )
    rewards: list[str] = field(
        default_factory=lambda: ["accuracy"],
        metadata={
            "help": "Any of accuracy (the last boxed answer equals the reference), "
            "recipe (the same by the released recipe's own grader), format and "
            "overlong; weigh them with reward_weights. Dynamic sampling goes by "
            "the first."
        },
    )
    grading_seconds: float = field(
        default=GRADING_SECONDS,
        metadata={
            "help": "Seconds that comparing the answers of one generation may take in "
            "each process; what is left then gets 0, and is logged as "
            "accuracy_reward/stopped_share."
        },
    )
    overlong_cache: int = field(
        default=512,
        metadata={
            "help": "Last tokens over which the overlong penalty grows to its full -1."
        },
    )
    min_pixels: int = field(
        default=262_144,
        metadata={
            "help": "Smaller pictures are enlarged. The released recipe's value."
        },
    )
    max_pixels: int = field(
        default=4_194_304,
        metadata={"help": "Larger pictures are reduced. The released recipe's value."},
    )
    lora_vision: bool = field(
        default=False, metadata={"help": "LoRA on the vision tower too."}
    )
    check: bool = field(
        default=False,
        metadata={
            "help": "Load data and processor, say what training would meet and what is "
            "known to end badly, and stop; no weights are loaded."
        },
    )

    def __post_init__(self) -> None:
        if isinstance(self.rewards, str):
            self.rewards = [self.rewards]
        _check_types(vars(self), type(self))
        if unknown := [name for name in self.rewards if name not in _REWARDS]:
            raise ValueError(f"rewards must be among {_REWARDS}, got {unknown}")
        if not self.rewards:
            raise ValueError(f"rewards is empty; name some of {_REWARDS}")
        if self.on_bad_row not in ON_BAD_ROW:
            raise ValueError(
                f"on_bad_row must be one of {ON_BAD_ROW}, got {self.on_bad_row!r}"
            )
        self.grading_seconds = float(self.grading_seconds)
        if not self.grading_seconds > 0:
            raise ValueError(
                f"grading_seconds must be above 0, got {self.grading_seconds}; inf is "
                "no bound"
            )
        for name in ("testbed_size", "min_pixels", "max_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.min_pixels > self.max_pixels:
            raise ValueError(
                f"min_pixels ({self.min_pixels}) is above max_pixels "
                f"({self.max_pixels}), so pictures would be enlarged beyond what is "
                "allowed; set both"
            )


# -- settings ---------------------------------------------------------------------

_KINDS = (TrainArguments, VGPOConfig, ModelConfig)


def _check_types(values: Mapping[str, Any], settings: type) -> None:
    """Refuses values that the fields' types do not allow, by name.

    Recipes are YAML, whose ``null``, ``2.5`` or list reaches a field unchecked and
    fails far from where it was written.
    """
    hints = get_type_hints(settings)
    for name, value in values.items():
        if name in hints and not _fits(value, hints[name]):
            raise ValueError(
                f"{name} must be {_said(hints[name])}, got {value!r} "
                f"({type(value).__name__})"
            )


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin is list:
        return isinstance(value, list)
    if origin is dict:
        # The command line's form of a mapping is JSON text.
        return isinstance(value, dict | str)
    if hint is float:
        # YAML reads 1e-6 as text, which Transformers turns into a number.
        return _is_number(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if hint is NoneType:
        return value is None
    return True  # classes of the libraries, which check for themselves


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, int | float)


def _said(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_said(one) for one in get_args(hint))
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    names = {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
    }
    names[NoneType] = "null"
    return names.get(hint, str(getattr(hint, "__name__", hint)))


def parse(
    arguments: Sequence[str] | None = None,
) -> tuple[TrainArguments, VGPOConfig, ModelConfig]:
    """Settings from a command line and the recipe it names.

    Args:
        arguments: The command line; by default this process's.

    Raises:
        ValueError: Unknown preset or field, or a wrong value. Names may not be
            shortened: ``--prese`` would be read here and overlooked there.
        FileNotFoundError: There is no such recipe.
        SystemExit: A value on the command line is not among a field's choices, or
            ``--help``.
    """
    arguments = _config_apart(sys.argv[1:] if arguments is None else arguments)
    preset, recipe = _preset_and_recipe(arguments)
    if isinstance(recipe.get("rewards"), str):
        recipe["rewards"] = [recipe["rewards"]]  # one reward needs no list
    for kind in _KINDS:
        _check_types(recipe, kind)
    try:
        return _read(arguments, preset)
    except MissingGPUError:
        # A recipe for a card can be looked at anywhere: the check tells what is missing
        # beside all else that it finds, and expects the memory that a card needs.
        like_a_card = {"use_cpu": True, "gradient_checkpointing": True}
        script, args, model = _read(arguments, preset, **like_a_card)
        if not script.check:
            raise
        args.use_cpu = False
        return script, args, model


def _read(
    arguments: list[str], preset: str, **defaults: Any
) -> tuple[TrainArguments, VGPOConfig, ModelConfig]:
    """Settings out of defaults, preset, recipe and command line, in this order."""
    parser = TrlParser(_KINDS, prog="vgpo.train", usage=_USAGE, allow_abbrev=False)
    # Dropout would blur focus scores, which are taken in training mode.
    parser.set_defaults_with_config(
        lora_dropout=0.0, **defaults, **VGPOConfig.preset_fields(preset)
    )
    try:
        *settings, unknown = parser.parse_args_and_config(
            arguments, return_remaining_strings=True
        )
    except (TypeError, ZeroDivisionError) as error:
        raise ValueError(f"a setting has no usable value ({error})") from error
    if unknown:
        raise ValueError(_unknown(unknown, [action.dest for action in parser._actions]))
    script, args, model = settings
    return script, args, model


def _config_apart(arguments: Sequence[str]) -> list[str]:
    """``--config=FILE`` as two words, the only form in which TRL looks for it."""
    apart: list[str] = []
    for one in arguments:
        name, mark, value = one.partition("=")
        apart += [name, value] if mark and name == "--config" else [one]
    return apart


def _unknown(words: Sequence[str], known: Sequence[str]) -> str:
    """What is said of words that are no settings, or belong to none."""
    names = [word for word in words if word.startswith("--")]
    if not names:
        cure = "; did you mean --config?" if words[0].endswith(".yaml") else ""
        return f"{' '.join(words)}: this belongs to no setting{cure}"
    name = names[0].partition("=")[0].removeprefix("--")
    more = f" (and {', '.join(names[1:])})" if names[1:] else ""
    near = did_you_mean(name.replace("-", "_"), known)
    return f"there is no setting --{name}{more}{near}; --help lists them"


def _preset_and_recipe(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The preset, which must be known before all else is read, and the recipe."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path)
    early.add_argument("--preset")
    known, _ = early.parse_known_args(arguments)
    recipe: Any = {}
    if known.config is not None:
        if not known.config.is_file():
            raise FileNotFoundError(f"config: there is no file {known.config}")
        try:
            recipe = yaml.safe_load(known.config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"config: {known.config} is no YAML ({error})") from error
        if not isinstance(recipe, dict):
            raise ValueError(
                f"config: {known.config} must hold fields and values, it holds "
                f"{type(recipe).__name__}"
            )
    preset = known.preset or recipe.get("preset") or TrainArguments.preset
    if not isinstance(preset, str):
        raise ValueError(f"preset must be text, got {preset!r}")
    return preset, recipe
