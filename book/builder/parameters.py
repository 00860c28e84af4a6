"""The parameters of a run: a preset, a file, single values."""

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

import papermill
import yaml

from book.builder import BuildError

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text (in quotes, where it looks like something else)",
    list: "a list, such as '[a, b]'",
}
"""What a default says of other values; one that is None says nothing."""

PRESETS = {"small": Path("recipes") / "notebooks_small.yaml"}


def check_parameters(prepared: Path, parameters: Mapping[str, object]) -> None:
    """Refuse parameters that the notebook's ``parameters`` cell does not assign, and
    values that are of another kind than the default that stands there."""
    declared = papermill.inspect_notebook(str(prepared))
    unknown = sorted(set(parameters) - set(declared))
    if unknown:
        raise BuildError(
            f"{prepared.stem} has no parameter {', '.join(map(repr, unknown))}; "
            f"it has: {', '.join(declared) or 'none'}"
        )
    for name, value in parameters.items():
        try:
            default = ast.literal_eval(declared[name]["default"])
        except ValueError:
            continue  # it is computed, and says nothing of other values
        wanted = _KINDS.get(type(default))
        if wanted is not None and not _is_of_kind(value, type(default)):
            raise BuildError(
                f"{prepared.stem}: {name} must be {wanted}, as its default "
                f"{default!r} is; got {value!r}"
            )


def _is_of_kind(value: object, kind: type) -> bool:
    if kind is str:
        return value is None or isinstance(
            value, str
        )  # null often stands for a default
    if kind is float:
        kind = (int, float)
    # True is an int to Python, and to nobody else.
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def read_parameters(path: Path) -> dict:
    """A YAML mapping, or a clear error."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BuildError(f"cannot read parameters from {path}: {error}") from error
    if not isinstance(loaded, dict):
        raise BuildError(f"{path} must be a mapping of names to values")
    return loaded


def chosen_parameters(
    name: str,
    root: Path,
    preset: str | None = None,
    file: Path | None = None,
    pairs: Iterable[tuple[str, str]] = (),
) -> dict[str, object]:
    """Parameters of one notebook; a pair wins over the file, the file over the preset.

    Args:
        name: The notebook's stem.
        root: The repository.
        preset: A key of ``PRESETS``: a YAML file of notebook -> parameters.
        file: A YAML file of parameters.
        pairs: Names and values as typed; values are read as YAML.
    """
    chosen: dict[str, object] = {}
    if preset:
        chosen.update(read_parameters(root / PRESETS[preset]).get(name) or {})
    if file:
        chosen.update(read_parameters(file))
    chosen.update({key: _read_value(key, value) for key, value in pairs})
    return chosen


def _read_value(name: str, written: str) -> object:
    try:
        return yaml.safe_load(written)
    except yaml.YAMLError as error:
        raise BuildError(
            f"{name}: {written!r} is no YAML ({error.problem}); text with brackets, "
            "colons or the like needs quotes of its own"
        ) from error
