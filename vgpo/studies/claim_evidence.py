"""What recorded files say about a claim: kinds of evidence, and rules of verdicts.

Each kind is a function of the recorded files and of the options that
``book/claims.yaml`` gives it; :mod:`vgpo.studies.claims` makes pages of what they find.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import pearsonr

from vgpo.stats.seeds import (
    DIFFERENCE,
    FEWEST_PAIRS,
    NO_EFFECT,
    SMALL_DIFFERENCE,
    paired_differences,
    sign_flip_p_value,
    t_interval,
    verdict,
)
from vgpo.stats.seeds import NOT_DECIDED as OPEN
from vgpo.studies.ablations import arms_of
from vgpo.studies.evidence import recorded as recorded_cells
from vgpo.studies.evidence import seed_pairs
from vgpo.studies.experiments.grid import RECIPES, read_grid
from vgpo.studies.experiments.records import Record
from vgpo.studies.experiments.report import MARGINS, compare_runs
from vgpo.studies.question_seeds import read_record

REPRODUCED = "reproduced at small scale"
NOT_REPRODUCED = "not reproduced"
NOT_DECIDED = "not decided"

PARAGRAPH = "\n\n"
"""Between what is said of one comparison and of the next."""

BASELINE = "dapo"
"""Of the grids."""

WORLD = "look_away"
"""That trainings are of unless their evidence names another."""

_NAMES = {
    "accuracy/sampled": "sampled accuracy, held out",
    "accuracy/sampled/sum": "sampled accuracy on sums, held out",
    "accuracy/greedy": "greedy accuracy, held out",
    "accuracy/text": "sampled accuracy on questions without a picture",
    "reward/area": "sampled reward over all steps",
    "validation/area": "share of held-out questions right, mean over the steps",
    "looking/looks": "share of values looked up",
    "looking/image_second_half": "attention on the image, second half",
}
"""Outcomes in words; others stand as they are."""


@dataclass(frozen=True)
class Found:
    """What one piece of evidence says.

    Attributes:
        text: For the page.
        verdicts: Of comparisons, by :func:`vgpo.stats.seeds.verdict`, with the
            difference: ``(verdict, difference)`` each. What is not there is not
            decided.
        seconds: What it was made from, by name, and what that cost; a training's name
            begins with ``cell``.
    """

    text: str
    verdicts: tuple[tuple[str, float], ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Recorded:
    """The recorded files.

    Attributes:
        folder: ``results``.
        recipes: The grids' files, which say whose cells a grid shares.
    """

    folder: Path
    recipes: Path = RECIPES
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def grid(self, name: str) -> pd.DataFrame | None:
        """Outcomes of a grid's finished cells; None if there are none."""
        try:
            cells, outcomes = self._of(name)
        except FileNotFoundError:  # there is not even a plan
            return None
        return outcomes if cells else None

    def _of(self, name: str) -> tuple[list[Record], pd.DataFrame]:
        """Cells and outcomes of a grid, read once for all claims."""
        if name not in self._kept:
            plan = read_grid(self.recipes / f"{name}.yaml")
            self._kept[name] = recorded_cells(plan, self.folder / "experiments")
        return self._kept[name]

    def seconds(self, name: str, world: str, runs: pd.DataFrame) -> dict[str, float]:
        """Seconds of those cells of a grid that ``runs`` names (``arm``, ``seed``)."""
        wanted = set(zip(runs["arm"], runs["seed"], strict=True))
        used = [
            record
            for record in self._of(name)[0]
            if record["world"] == world and (record["arm"], record["seed"]) in wanted
        ]
        # By the folder it lies in: claims that share a cell pay for it once.
        return {
            f"cell {r['folder'].parent.name} {r['folder'].name}": sum(
                r["seconds"].values()
            )
            for r in used
        }

    def forgetting(self, world: str) -> dict[str, Any]:
        """The recorded draws of questions of a world."""
        return read_record(world, self.folder / "forgetting")

    def json(self, path: str) -> Any:
        """Any other JSON file of the folder."""
        return json.loads((self.folder / path).read_text())


# Kinds -------------------------------------------------------------------


def arms(
    recorded: Recorded,
    *,
    grid: str,
    world: str,
    outcome: str,
    arms: Sequence[str],
    against: str = BASELINE,
    margin: float | None = None,
    among: str = "grid",
    fresh_from: int | None = None,
    counts: bool = True,
) -> Found:
    """Arms against a baseline, paired by seed: t interval, sign flips, Holm.

    ``margin`` says which differences would not matter, for an outcome without a
    margin of its own. ``fresh_from`` is the first seed that was run after the margin
    had been set; those seeds are shown alone as well. ``counts`` says whether the
    verdict of the claim follows from it.

    Only arms with at least two seeds are compared, and only those with
    :data:`~vgpo.stats.seeds.FEWEST_PAIRS` have a p-value and count towards a verdict.
    P-values are corrected for all such arms that the grid has (``among="grid"``), or
    for the ablations of ``against`` alone (``"ablations"``), as in the chapter's
    table.

    Raises:
        ValueError: ``among`` is neither.
    """
    if among not in ("grid", "ablations"):
        raise ValueError(f'among: must be "grid" or "ablations", got {among!r}.')
    table = recorded.grid(grid)
    lacking = [(OPEN, 0.0)] * len(arms) if counts else []
    if table is None:
        named = ", ".join(f"`{arm}`" for arm in arms)
        text = f"{named} against `{against}`, grid *{grid}*: not recorded yet."
        return Found(text, tuple(lacking))
    runs = table[(table["world"] == world) & (table["outcome"] == outcome)]
    runs = runs[runs["value"].notna()]
    own = set(runs.loc[runs["arm"] == against, "seed"])
    runs = runs[runs["seed"].isin(own)]
    if among == "ablations":
        runs = runs[runs["arm"].isin([*arms_of(against), against])]
    pairs = runs.groupby("arm")["seed"].nunique()
    enough = [arm for arm in arms if pairs.get(arm, 0) >= 2]
    few = [f"`{arm}` ({pairs.get(arm, 0)})" for arm in arms if arm not in enough]
    parts, found = [], lacking[: len(few)]
    used = runs[runs["arm"].isin([*enough, against])] if enough else runs.head(0)
    compared = pd.DataFrame()
    if enough:
        margin = MARGINS.get(outcome, margin)
        compared = compare_runs(runs, against, margin).set_index("arm")
        holm = " (Holm)" if (compared["seeds"] >= FEWEST_PAIRS).sum() > 1 else ""
    for arm in enough:
        row = compared.loc[arm]
        said = (
            f"`{arm}` less `{against}`, {_named(outcome)}: "
            f"{row['difference']:+z.3f}, {_ends(row['low'], row['high'])}, "
        )
        decided = row["seeds"] >= FEWEST_PAIRS
        if decided:
            said += f"p = {row['p_corrected']:.2g}{holm}, "
        said += f"{row['seeds']:.0f} seeds"
        if decided and np.isinf(row["detectable"]):
            said += "; so few seeds for so many arms find no difference"
        elif decided:
            said += f"; these seeds find {row['detectable']:.3f} or more"
        elsewhere = "" if world == WORLD else f"World *{world}*: "
        about = [f"{elsewhere}{said}."]
        if fresh_from is not None:
            about.append(_fresh(runs, arm, against, fresh_from))
        if row["mixed"]:
            about.append(
                "Pairs of different commits, which are not known to give the same "
                f"numbers: {row['mixed']} of {row['seeds']:.0f}."
            )
        if not decided:
            about.append(f"Fewer than {FEWEST_PAIRS} seeds decide nothing here.")
        parts.append(" ".join(about))
        verdict = str(row["verdict"]) if decided else OPEN
        if counts:
            found.append((verdict, float(row["difference"])))
    if few:
        parts.append(f"Too few seeds to compare with `{against}`: {', '.join(few)}.")
    return Found(
        PARAGRAPH.join(parts), tuple(found), recorded.seconds(grid, world, used)
    )


def _fresh(runs: pd.DataFrame, arm: str, against: str, first: int) -> str:
    """The same difference over the seeds that nobody had seen."""
    pairs = seed_pairs(runs[runs["seed"] >= first], arm, against)
    if len(pairs) < 2:
        return f"Of the seeds from {first} on there are too few ({len(pairs)})."
    alone = t_interval(paired_differences(pairs[arm], pairs[against]))
    return (
        f"Over the {alone.count} seeds alone that were run after the margin was set: "
        f"{alone.value:+z.3f}, {_ends(alone.low, alone.high)}."
    )


def before_after(
    recorded: Recorded,
    *,
    grid: str,
    world: str,
    arm: str,
    outcomes: Sequence[str],
    counts: bool = False,
    margin: float | None = None,
) -> Found:
    """An arm's outcomes after training less those of the cold start, over seeds.

    ``counts`` says whether the verdict of the claim follows from it; ``margin``, which
    changes would not matter.
    """
    table = recorded.grid(grid)
    lacking = [(OPEN, 0.0)] if counts else []
    if table is None or table["before"].isna().all():
        text = f"`{arm}` before and after, grid *{grid}*: not recorded yet."
        return Found(text, tuple(lacking))
    mine = table[(table["world"] == world) & (table["arm"] == arm)]
    parts, found = [], []
    for outcome in outcomes:
        rows = mine[mine["outcome"] == outcome]
        if len(rows) < 2:
            parts.append(f"{_named(outcome)}: too few seeds ({len(rows)})")
            found += lacking
            continue
        change = paired_differences(rows["value"].to_numpy(), rows["before"].to_numpy())
        gain, p = t_interval(change), sign_flip_p_value(change)
        parts.append(
            f"{_named(outcome)} {rows['before'].iloc[0]:.3f} before, "
            f"{rows['value'].mean():.3f} after: {gain.value:+z.3f}, "
            f"{_ends(gain.low, gain.high)}, p = {p:.2g}, {gain.count} seeds"
        )
        if counts:
            found.append((verdict(gain, p, margin=margin), gain.value))
    seconds = recorded.seconds(grid, world, mine)
    return Found(f"`{arm}`: {'; '.join(parts)}.", tuple(found), seconds)


def spread(
    recorded: Recorded,
    *,
    grid: str,
    world: str,
    outcomes: Sequence[str],
    arms: Sequence[str],
    against: str = "dapo",
) -> Found:
    """Standard deviation over seeds, of arms and baseline; positive if smaller.

    Two of them are compared by Pitman and Morgan's test: seeds are paired, and spreads
    are equal if sum and difference of the pairs are uncorrelated.
    """
    table = recorded.grid(grid)
    if table is None:
        return Found(f"Grid *{grid}*: not recorded yet.", ((OPEN, 0.0),))
    parts, found = [], []
    for outcome in outcomes:
        runs = table[(table["world"] == world) & (table["outcome"] == outcome)]
        values = runs.pivot(index="seed", columns="arm", values="value")
        said = []
        for arm in arms:
            pairs = values.reindex(columns=[arm, against]).dropna()
            if len(pairs) < 4:
                said.append(f"`{arm}` too few seeds ({len(pairs)})")
                found.append((OPEN, 0.0))
                continue
            mine, other = pairs[arm], pairs[against]
            p = float(pearsonr(mine + other, mine - other).pvalue)
            said.append(
                f"`{arm}` {mine.std():.4f}, `{against}` {other.std():.4f} "
                f"(Pitman-Morgan p = {p:.2g}, {len(pairs)} seeds)"
            )
            gain = float(other.std() - mine.std())
            found.append((DIFFERENCE if p <= 0.05 else OPEN, gain))
        parts.append(f"{_named(outcome)}: {', '.join(said)}")
    return Found(f"Standard deviation over seeds, {'; '.join(parts)}.", tuple(found))


def forgetting(
    recorded: Recorded,
    *,
    world: str,
    quantity: str,
    nulls: Sequence[str] = ("trained", "untrained"),
    expect: Mapping[str, str] | None = None,
) -> Found:
    """A quantity over all draws of questions, beside what knows nothing.

    ``expect`` guards a written verdict: what the interval of a null has to be.
    """
    record = recorded.forgetting(world)
    table = record["observations"].set_index(["null", "quantity"])
    names = {
        "trained": "the model",
        "untrained": "an untrained network",
        "uniform": "attention spread evenly",
    }
    parts = []
    for null in nulls:
        row = table.loc[(null, quantity)]
        parts.append(
            f"{names[null]} {row['value']:+z.3f} "
            f"[{row['low']:+z.3f}, {row['high']:+z.3f}]"
        )
        what = f"{world}, {quantity}"
        _check((expect or {}).get(null), row["low"], row["high"], what)
    return Found(
        f"World *{world}*, {quantity}: {'; '.join(parts)}.",
        seconds={f"forgetting {world}": record["seconds"]},
    )


def forest(
    recorded: Recorded,
    *,
    world: str,
    null: str = "trained",
    expect: str | None = None,
) -> Found:
    """Right less wrong to the same question: pooled, and over draws."""
    record = recorded.forgetting(world)
    table = record["forests"]
    table = table[table["null"] == null].set_index("question_seed")
    pooled, over = table.loc["pooled"], table.loc["over seeds"]
    _check(expect, pooled["low"], pooled["high"], f"{world}, forest")
    return Found(
        f"World *{world}*, right less wrong to the same question: "
        f"{pooled['difference']:+z.3f} "
        f"[{pooled['low']:+z.3f}, {pooled['high']:+z.3f}], "
        f"p = {pooled['p_value']:.2g}, "
        f"{pooled['count']:.0f} questions; over {over['count']:.0f} draws "
        f"{over['difference']:+z.3f}, t interval [{over['low']:+z.3f}, "
        f"{over['high']:+z.3f}], p = {over['p_value']:.2g}.",
        seconds={f"forgetting {world}": record["seconds"]},
    )


def scores(recorded: Recorded, *, file: str, rows: Sequence[Sequence[Any]]) -> Found:
    """AUROC of a score or of a rule, from ``vgpo.studies.controls``.

    Each of ``rows`` is a score, what it is set against and, to guard a written verdict,
    what is expected, as in :func:`rows`.

    Raises:
        ValueError: A number is not as expected.
    """
    record = recorded.json(file)
    table = pd.DataFrame(record["rows"]).set_index(["score", "against"])
    parts = []
    for score, against, *expect in rows:
        row = table.loc[(score, against)]
        what = f"{file}, {score} (against {against})"
        for limits in expect:
            _check_limits(limits, row["low"], row["high"], what)
        parts.append(
            f"{score} (against {against}) {row['auroc']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}]"
        )
    text = f"AUROC of values read: {'; '.join(parts)}."
    return Found(text, seconds={file: record["seconds"]})


def rows(
    recorded: Recorded, *, file: str, what: str, of: Sequence[Mapping[str, Any]]
) -> Found:
    """Single numbers of a file's rows, with their intervals where there are.

    Each of ``of`` has ``where`` (columns and the values that pick one row), ``column``
    (which number), ``say`` (what it is called) and, to guard a written verdict,
    ``expect``: ``{above: x}`` or ``{below: x}``, for the interval's near end.

    Raises:
        ValueError: None or several rows are picked, or a number is not as expected.
    """
    record = recorded.json(file)
    table, parts = pd.DataFrame(record["rows"]), []
    for one in of:
        mine = table[(table[list(one["where"])] == pd.Series(one["where"])).all(axis=1)]
        if len(mine) != 1:
            raise ValueError(f"{file}: {one['where']} picks {len(mine)} rows, not one.")
        row, name = mine.iloc[0], one["column"]
        value = row[name]
        low, high = (row.get(f"{name}_{end}", value) for end in ("low", "high"))
        said = f"{one['say']} {value:.3f}"
        parts.append(said + (f" [{low:.3f}, {high:.3f}]" if low < high else ""))
        _check_limits(one.get("expect", {}), low, high, f"{file}, {one['say']}")
    return Found(f"{what}: {'; '.join(parts)}.", seconds={file: record["seconds"]})


KINDS: Mapping[str, Callable[..., Found]] = {
    "arms": arms,
    "before_after": before_after,
    "spread": spread,
    "forgetting": forgetting,
    "forest": forest,
    "scores": scores,
    "rows": rows,
}
"""Kinds of evidence, by their name in the YAML file."""


def _named(outcome: str) -> str:
    return _NAMES.get(outcome, outcome)


def _ends(low: float, high: float) -> str:
    if low != low:
        return "no spread between seeds, so no interval"
    return f"95 % [{low:+z.3f}, {high:+z.3f}]"


def _check(expect: str | None, low: float, high: float, what: str) -> None:
    """Whether a written verdict still follows from what was recorded."""
    if expect is None:
        return
    side, _, number = expect.partition(" ")
    if side not in ("above", "below", "holds") or not number:
        raise ValueError(
            f"expect: must be 'above', 'below' or 'holds' and a number, got {expect!r}."
        )
    said = f"{what}: expected an interval that is {expect}"
    _require(side, float(number), low, high, said)


def _check_limits(
    limits: Mapping[str, float], low: float, high: float, what: str
) -> None:
    """The same for limits by side, ``{above: x, below: y}``."""
    for side, limit in limits.items():
        if side not in ("above", "below"):
            raise ValueError(f"expect: must be above or below, got {side!r}.")
        _require(side, limit, low, high, f"{what}: expected {side} {limit}")


def _require(side: str, limit: float, low: float, high: float, said: str) -> None:
    """Refuses an interval that does not lie above or below a number, or hold it."""
    holds = {"above": low > limit, "below": high < limit, "holds": low <= limit <= high}
    if not holds[side]:
        raise ValueError(
            f"{said}, recorded was [{low:.3f}, {high:.3f}]. The written verdict no "
            "longer follows."
        )


# Verdicts ----------------------------------------------------------------


def verdict_of_arms(found: Sequence[Found], better: int = 1, needs: str = "any") -> str:
    """The verdict on "these arms are better", by what their comparisons allow.

    Args:
        found: Evidence with verdicts of comparisons.
        better: 1 if the claim is that values are higher, -1 if lower.
        needs: ``"any"``: reproduced if one comparison finds it, not reproduced if every
            one excludes an advantage that would matter (no effect within the margin,
            or a difference the other way). ``"all"``: reproduced if every one finds it,
            not reproduced if one excludes it. Not decided otherwise.

    Example:
        >>> verdict_of_arms([Found("", (("difference found", -0.1),))])
        'not reproduced'
        >>> verdict_of_arms([Found("", (("not decided", 0.1),))])
        'not decided'
    """
    pairs = [pair for each in found for pair in each.verdicts]
    different = (DIFFERENCE, SMALL_DIFFERENCE)
    shown = [v in different and d * better > 0 for v, d in pairs]
    excluded = [v == NO_EFFECT or (v in different and d * better < 0) for v, d in pairs]
    some, every = (any, all) if needs == "any" else (all, any)
    if pairs and some(shown):
        return REPRODUCED
    return NOT_REPRODUCED if pairs and every(excluded) else NOT_DECIDED


def verdict_of_preserved(found: Sequence[Found]) -> str:
    """The verdict on "nothing is lost": reproduced if every change lies within its
    margin or is a gain, not reproduced if one is a loss beyond it.

    Example:
        >>> verdict_of_preserved([Found("", (("no effect within the margin", -0.01),))])
        'reproduced at small scale'
    """
    pairs = [pair for each in found for pair in each.verdicts]
    if any(v == DIFFERENCE and d < 0 for v, d in pairs):
        return NOT_REPRODUCED
    kept = [v in (NO_EFFECT, SMALL_DIFFERENCE, DIFFERENCE) for v, _ in pairs]
    return REPRODUCED if pairs and all(kept) else NOT_DECIDED


RULES: Mapping[str, Callable[[Sequence[Found]], str]] = {
    "one is better": verdict_of_arms,
    "all are better": partial(verdict_of_arms, needs="all"),
    "one is worse": partial(verdict_of_arms, better=-1),
    "all are worse": partial(verdict_of_arms, better=-1, needs="all"),
    "preserved": verdict_of_preserved,
}
"""How a verdict follows from comparisons, by name in the YAML file (``rule``)."""
