"""The parameters of a run: a preset, a file, single values."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import papermill
import yaml

from book.builder import BuildError

PRESETS = {"small": Path("recipes") / "notebooks_small.yaml"}


def check_parameters(prepared: Path, parameters: Mapping[str, object]) -> None:
    """Refuse parameters that the notebook's ``parameters`` cell does not assign."""
    declared = papermill.inspect_notebook(str(prepared))
    unknown = sorted(set(parameters) - set(declared))
    if unknown:
        raise BuildError(
            f"{prepared.stem} has no parameter {', '.join(map(repr, unknown))}; "
            f"it has: {', '.join(declared) or 'none'}"
        )


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
    chosen.update({key: yaml.safe_load(value) for key, value in pairs})
    return chosen
