"""Grids: arms, worlds, settings and seeds in a YAML file, and the cells they make.

A file looks like this; everything but ``arms`` and ``worlds`` may be left out::

    description: What the grid is there to decide.
    baseline: dapo
    arms: [dapo, vgpo_token, vgpo_prediction]
    worlds: [misread, look_away]
    settings:              # by name: a wording, and fields of TestbedRun
      terse: {wording: terse}
      wordy: {wording: wordy, steps: 24}
    seeds: 10              # 0 to 9; or a list
    further_seeds: {dapo: 4, vgpo_token: 4}  # of these arms four more: 10 to 13
    evaluation: standard   # or quick
    validate_every: 6      # steps between held-out questions on the way; 0: none
    device: cpu            # or cuda, for models that are not small
    shares: [headline]     # grids whose finished cells of the same settings are taken
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from vgpo.studies.experiments.arms import find_arm
from vgpo.studies.experiments.cells import DEVICES, UNTRAINED, Cell
from vgpo.studies.experiments.evaluation import EVALUATIONS
from vgpo.studies.experiments.runs import TestbedRun, is_whole
from vgpo.studies.experiments.starts import WORDINGS
from vgpo.testbed import WORLDS

RECIPES = Path("recipes/experiments")
"""Where a name of a grid is looked for, from the folder one works in."""

_SETTINGS = {f.name for f in fields(TestbedRun)} - {"method", "seed", "world"}

_FORMS: Mapping[str, tuple[str, Any]] = {
    "arms": ("a list of names", list),
    "worlds": ("a list of names", list),
    "shares": ("a list of names of grids", list),
    "seeds": ("a number of seeds or a list of whole numbers from 0", (int, list)),
    "settings": ("settings by name, each a mapping", dict),
    "further_seeds": ("a number of seeds by arm", dict),
    "baseline": ("the name of an arm", str),
    "evaluation": (f"one of {tuple(EVALUATIONS)}", str),
    "description": ("text", str),
    "validate_every": ("a whole number, at least 0", int),
    "device": (f"one of {DEVICES}", str),
}
"""What a file has to hold, in words and as types."""


@dataclass(frozen=True)
class Grid:
    """A plan of cells.

    Attributes:
        name: Of the file.
        arms: Names of arms.
        worlds: Names of worlds.
        settings: By name, a ``wording`` and fields of
            :class:`~vgpo.studies.experiments.runs.TestbedRun`.
        seeds: Of the trainings.
        further_seeds: By arm, how many more seeds it has, after the largest: where an
            interval straddles what matters, more are planned for the arms it is about.
        baseline: The arm that the others are compared with.
        evaluation: A name of
            :data:`~vgpo.studies.experiments.evaluation.EVALUATIONS`.
        description: What the grid is there to decide.
        validate_every: Steps between held-out questions on the way; 0: none.
        device: Where all is done; ``cpu`` even where there is a GPU, unless said.
        shares: Names of other grids. A cell of the same settings that is finished
            there is read where it is, and not done again.

    Raises:
        ValueError: Something is unknown, twice there or out of range; it is named.
    """

    name: str
    arms: tuple[str, ...]
    worlds: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {"shipped": {}}
    )
    seeds: tuple[int, ...] = tuple(range(10))
    baseline: str = "dapo"
    evaluation: str = "standard"
    description: str = ""
    shares: tuple[str, ...] = ()
    further_seeds: Mapping[str, int] = field(default_factory=dict)
    validate_every: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for arm in self.arms:
            find_arm(arm)
        if self.baseline not in self.arms:
            raise ValueError(
                f"baseline must be one of the arms {self.arms}, got {self.baseline!r}"
            )
        for name, known in (("worlds", WORLDS), ("evaluation", EVALUATIONS)):
            given = getattr(self, name)
            for one in (given,) if isinstance(given, str) else given:
                if one not in known:
                    raise ValueError(f"{name}: {one!r} is none of {tuple(known)}")
        for name in ("arms", "worlds", "seeds", "settings"):
            given = list(getattr(self, name))
            if not given or len(set(given)) < len(given):
                raise ValueError(f"{name}: none, or one of them twice: {given}")
        if self.name in self.shares or len(set(self.shares)) < len(self.shares):
            raise ValueError(
                f"shares: {self.name!r} itself, or a grid twice: {list(self.shares)}"
            )
        for arm, count in self.further_seeds.items():
            if arm not in self.arms or not is_whole(count):
                raise ValueError(
                    f"further_seeds: {arm!r} must be one of the arms, with a number of "
                    f"seeds from 1; got {count!r}"
                )
        for setting, values in self.settings.items():
            # It is part of a folder's name.
            if not re.fullmatch(r"[\w+-][\w.+-]*", str(setting)):
                raise ValueError(
                    f"settings: a name has letters, digits, _, +, - and dots, got "
                    f"{setting!r}"
                )
            unknown = set(values) - _SETTINGS - {"wording"}
            if unknown:
                raise ValueError(
                    f"settings: {setting!r} has {sorted(unknown)}; there are wording "
                    f"and {', '.join(sorted(_SETTINGS))}"
                )
            if values.get("wording", "shipped") not in tuple(WORDINGS):
                raise ValueError(
                    f"settings: wording of {setting!r} must be one of "
                    f"{tuple(WORDINGS)}, got {values['wording']!r}"
                )
        list(self.cells())

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """All seeds that an arm has, the further ones last."""
        after = max(self.seeds) + 1
        return (*self.seeds, *range(after, after + self.further_seeds.get(arm, 0)))

    def starts(self) -> list[tuple[str, str]]:
        """World and wording of each cold start that is needed."""
        wordings = [v.get("wording", "shipped") for v in self.settings.values()]
        pairs = [(world, wording) for world in self.worlds for wording in wordings]
        return list(dict.fromkeys(pairs))

    def cells(self) -> Iterator[Cell]:
        """All cells, in the order in which they are done.

        First the cold starts as they are, then all arms of the first seed, then all of
        the second: when the time is up, arms have equally many seeds. An arm is left
        out where its world cannot have it.
        """
        places = [(w, s) for w in self.worlds for s in self.settings]
        untrained = [self._cell(UNTRAINED, *place, 0) for place in places]
        # Settings of one wording begin with the same.
        yield from {cell.name: cell for cell in untrained}.values()
        most = max(self.arms, key=lambda arm: len(self.seeds_of(arm)))
        for seed in self.seeds_of(most):
            for world, setting in places:
                for arm in self.arms:
                    known = world in find_arm(arm).worlds
                    if known and seed in self.seeds_of(arm):
                        yield self._cell(arm, world, setting, seed)

    def _cell(self, arm: str, world: str, setting: str, seed: int) -> Cell:
        values = dict(self.settings[setting])
        wording = values.pop("wording", "shipped")
        known = find_arm(self.baseline if arm == UNTRAINED else arm)
        run = TestbedRun(method=known.method, seed=seed, world=world, **values)
        return Cell(
            arm=arm,
            setting=setting,
            wording=wording,
            run=replace(run, learning_rate=run.learning_rate * known.rate),
            evaluation=EVALUATIONS[self.evaluation],
            validate_every=self.validate_every,
            device=self.device,
        )


def read_grid(name: str | Path) -> Grid:
    """A grid of a file.

    Args:
        name: A path, or the name of a file in ``recipes/experiments``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no YAML, or as :class:`Grid`; the file is named.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise FileNotFoundError(f"no grid {path}; there are: {there or 'none'}")
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _grid(path.stem, written)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _grid(name: str, written: Any) -> Grid:
    if not isinstance(written, dict):
        raise ValueError("a grid is a mapping, with arms and worlds at least")
    known = {f.name for f in fields(Grid)} - {"name"}
    if unknown := set(written) - known:
        raise ValueError(f"unknown: {sorted(unknown)}; there are {sorted(known)}")
    if missing := {"arms", "worlds"} - set(written):
        raise ValueError(f"missing: {sorted(missing)}")
    values = dict(written)
    for one, value in written.items():
        if not _has_form(one, value):
            raise ValueError(f"{one} must be {_FORMS[one][0]}, got {value!r}")
    seeds = values.get("seeds")
    if isinstance(seeds, int):
        values["seeds"] = range(seeds)
    if "settings" in values:
        values["settings"] = {k: v or {} for k, v in values["settings"].items()}
    for one in ("arms", "worlds", "seeds", "shares"):
        if one in values:
            values[one] = tuple(values[one])
    return Grid(name=name, **values)


def _has_form(name: str, value: Any) -> bool:
    """Whether a value of the file is what it has to be, before it is looked into."""
    if not isinstance(value, _FORMS[name][1]) or isinstance(value, bool):
        return False
    if name == "seeds":
        return is_whole(value) or (
            isinstance(value, list) and all(is_whole(one, least=0) for one in value)
        )
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    if name == "settings":
        return all(isinstance(one, dict | None) for one in value.values())
    return True
