"""The ledger of claims, made from the recorded files.

    python -m vgpo.studies.claims

writes ``book/claims.md`` and ``book/findings.md`` (three sentences for the landing
page) from ``book/claims.yaml``, which has the wording of every claim, and from
``results/``, which has the numbers. Nothing in either page is typed by hand: when more
cells of a grid are finished, the same command says what they say.

A claim in the YAML file names what it rests on (``evidence``, a list); kinds are the
functions of :data:`KINDS`. A verdict is either written there (``verdict``), guarded by
what its evidence has to be (``expect``), or follows from the evidence by
:func:`verdict_of_arms`.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from vgpo.files import write_atomically
from vgpo.stats.seeds import (
    DIFFERENCE,
    NO_EFFECT,
    SMALL_DIFFERENCE,
    compare_arms,
    paired_differences,
    sign_flip_p_value,
    t_interval,
)
from vgpo.studies.experiments.records import outcome_table, read_records
from vgpo.studies.experiments.report import PRIMARY
from vgpo.studies.question_seeds import read_record

REPRODUCED = "reproduced at small scale"
NOT_REPRODUCED = "not reproduced"
NOT_DECIDED = "not decided"
UNTESTABLE = "cannot be tested here"
PROVED = "proved"

VERDICTS = {
    PROVED: "it follows from the formulas, and is checked by the tests",
    REPRODUCED: "seen in the small worlds, with its spread, and not in what knows "
    "nothing",
    NOT_REPRODUCED: "looked for and not found, or found the other way round, with an "
    "interval that leaves no room for it",
    NOT_DECIDED: "not run, or run with too few seeds for the interval to say anything; "
    "it says nothing about the claim, either way",
    UNTESTABLE: "and why",
}
"""In the order of the page, with what each means."""


@dataclass(frozen=True)
class Found:
    """What one piece of evidence says.

    Attributes:
        text: For the page.
        verdicts: Of arms, by :func:`vgpo.stats.seeds.verdict`, with the sign of the
            difference: ``(verdict, difference)`` each.
        cells: Names of the cells it was made from.
        seconds: What those cost.
    """

    text: str
    verdicts: tuple[tuple[str, float], ...] = ()
    cells: frozenset[str] = frozenset()
    seconds: float = 0.0


@dataclass(frozen=True)
class Recorded:
    """The recorded files.

    Attributes:
        folder: ``results``.
    """

    folder: Path
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def grid(self, name: str) -> pd.DataFrame | None:
        """Outcomes of a grid's finished cells; None if there are none."""
        key = f"grid {name}"
        if key not in self._kept:
            folder = self.folder / "experiments" / name
            try:
                self._kept[key] = outcome_table(folder)
            except FileNotFoundError:
                self._kept[key] = None
        return self._kept[key]

    def seconds(self, name: str) -> dict[tuple[str, str, int], float]:
        """Seconds of a grid's cells, by world, arm and seed."""
        return {
            (r["world"], r["arm"], r["seed"]): sum(r["seconds"].values())
            for r in read_records(self.folder / "experiments" / name)
        }

    def forgetting(self, world: str) -> dict[str, Any]:
        """The recorded draws of questions of a world."""
        return read_record(world, self.folder / "forgetting")

    def json(self, path: str) -> Any:
        """Any other JSON file of the folder."""
        return json.loads((self.folder / path).read_text())


# Kinds of evidence ---------------------------------------------------------


def arms(
    recorded: Recorded,
    *,
    grid: str,
    world: str,
    outcome: str,
    arms: Sequence[str],
    against: str = "dapo",
) -> Found:
    """Arms against a baseline, paired by seed: t interval, sign flips, Holm.

    Only arms with at least two seeds are compared, and p-values are corrected for
    those alone. An arm or a grid that is not there is said to be not recorded.
    """
    named = ", ".join(f"`{arm}`" for arm in arms)
    table = recorded.grid(grid)
    if table is None:
        return Found(f"{named} against `{against}`, grid *{grid}*: not recorded yet.")
    runs = table[(table["world"] == world) & (table["outcome"] == outcome)]
    runs = runs[runs["value"].notna()]
    own = set(runs.loc[runs["arm"] == against, "seed"])
    runs = runs[runs["arm"].isin([*arms, against]) & runs["seed"].isin(own)]
    counts = runs.groupby("arm")["seed"].nunique()
    enough = [arm for arm in arms if counts.get(arm, 0) >= 2]
    few = [f"`{arm}` ({counts.get(arm, 0)} seeds)" for arm in arms if arm not in enough]
    parts, found = [], []
    if enough:
        some = runs[runs["arm"].isin([*enough, against])]
        compared = compare_arms(
            some.rename(columns={"arm": "method"}),
            against,
            margin=PRIMARY.get(outcome),
        )
        for arm, row in compared.iterrows():
            parts.append(
                f"`{arm}` less `{against}`, {_named(outcome)}: "
                f"{row['difference']:+.3f}, 95 % [{row['low']:+.3f}, "
                f"{row['high']:+.3f}], p = {row['p_corrected']:.2g}"
                f"{' (Holm)' if len(compared) > 1 else ''}, {row['seeds']:.0f} seeds; "
                f"these seeds find {row['detectable']:.3f} or more."
            )
            found.append((str(row["verdict"]), float(row["difference"])))
    if few:
        parts.append(f"Too few seeds to compare: {', '.join(few)}.")
    used = runs[runs["arm"].isin([*enough, against])] if enough else runs.head(0)
    keys = {(world, arm, seed) for arm, seed in zip(used["arm"], used["seed"])}  # noqa: B905
    spent = recorded.seconds(grid)
    return Found(
        " ".join(parts),
        tuple(found),
        frozenset(f"{grid} {key}" for key in keys),
        sum(spent[key] for key in keys),
    )


def before_after(
    recorded: Recorded,
    *,
    grid: str,
    world: str,
    arm: str,
    outcomes: Sequence[str],
    expect: str | None = None,
) -> Found:
    """An arm's outcomes after training less those of the cold start, over seeds."""
    table = recorded.grid(grid)
    if table is None or table["before"].isna().all():
        return Found(f"`{arm}` before and after, grid *{grid}*: not recorded yet.")
    mine = table[(table["world"] == world) & (table["arm"] == arm)]
    parts = []
    for outcome in outcomes:
        rows = mine[mine["outcome"] == outcome]
        change = rows["value"] - rows["before"]
        text = f"{_named(outcome)} {rows['before'].iloc[0]:.3f} before"
        if len(rows) > 1:
            gain = t_interval(change)
            p = sign_flip_p_value(
                paired_differences(rows["value"].to_numpy(), rows["before"].to_numpy())
            )
            text += (
                f", {rows['value'].mean():.3f} after: {gain.value:+.3f}, 95 % "
                f"[{gain.low:+.3f}, {gain.high:+.3f}], p = {p:.2g}, {gain.count} seeds"
            )
            _check(expect, gain.low, gain.high, f"{arm}, {outcome}")
        else:
            text += f", {rows['value'].mean():.3f} after (one seed)"
        parts.append(text)
    seeds = mine["seed"].unique()
    spent = recorded.seconds(grid)
    keys = {(world, arm, int(seed)) for seed in seeds}
    return Found(
        f"`{arm}`: {'; '.join(parts)}.",
        cells=frozenset(f"{grid} {key}" for key in keys),
        seconds=sum(spent[key] for key in keys),
    )


def spread(
    recorded: Recorded,
    *,
    grid: str,
    world: str,
    outcome: str,
    arms: Sequence[str],
) -> Found:
    """Standard deviation over seeds of each arm."""
    table = recorded.grid(grid)
    if table is None:
        return Found(f"Grid *{grid}*: not recorded yet.")
    runs = table[(table["world"] == world) & (table["outcome"] == outcome)]
    parts = []
    for arm in arms:
        values = runs.loc[runs["arm"] == arm, "value"].dropna()
        if len(values) > 2:
            parts.append(f"`{arm}` {values.std(ddof=1):.3f} ({len(values)} seeds)")
        else:
            parts.append(f"`{arm}` too few seeds ({len(values)})")
    return Found(
        f"Standard deviation over seeds of {_named(outcome)}: {', '.join(parts)}. With "
        "ten seeds a ratio of two such numbers is known within a factor of 2."
    )


def forgetting(
    recorded: Recorded,
    *,
    world: str,
    quantity: str,
    nulls: Sequence[str] = ("trained", "untrained"),
    expect: Mapping[str, str] | None = None,
) -> Found:
    """A quantity over all draws of questions, beside what knows nothing."""
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
            f"{names[null]} {row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        )
        _check(
            (expect or {}).get(null), row["low"], row["high"], f"{world}, {quantity}"
        )
    return Found(
        f"{world}, {quantity}: {'; '.join(parts)}.",
        cells=frozenset([f"forgetting {world}"]),
        seconds=record["seconds"],
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
        f"{world}, right less wrong to the same question: {pooled['difference']:+.3f} "
        f"[{pooled['low']:+.3f}, {pooled['high']:+.3f}], p = {pooled['p_value']:.2g}, "
        f"{pooled['count']:.0f} questions; over {over['count']:.0f} draws "
        f"{over['difference']:+.3f}, t interval [{over['low']:+.3f}, "
        f"{over['high']:+.3f}], p = {over['p_value']:.2g}.",
        cells=frozenset([f"forgetting {world}"]),
        seconds=record["seconds"],
    )


def scores(recorded: Recorded, *, file: str, rows: Sequence[Sequence[str]]) -> Found:
    """AUROC of a score or of a rule, from ``vgpo.studies.controls``."""
    record = recorded.json(file)
    table = pd.DataFrame(record["rows"]).set_index(["score", "against"])
    parts = []
    for score, against in rows:
        row = table.loc[(score, against)]
        parts.append(
            f"{score} against {against} {row['auroc']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}]"
        )
    return Found(
        f"AUROC of values read: {'; '.join(parts)}.", seconds=record["seconds"]
    )


KINDS: Mapping[str, Callable[..., Found]] = {
    "arms": arms,
    "before_after": before_after,
    "spread": spread,
    "forgetting": forgetting,
    "forest": forest,
    "scores": scores,
}
"""Kinds of evidence, by their name in the YAML file."""

_NAMES = {
    "accuracy/sampled": "sampled accuracy, held out",
    "accuracy/sampled/sum": "sampled accuracy on sums, held out",
    "accuracy/sampled/count": "sampled accuracy on counts, held out",
    "accuracy/greedy": "greedy accuracy, held out",
    "accuracy/temperature 0.4": "accuracy at temperature 0.4",
    "accuracy/text": "sampled accuracy on questions without a picture",
    "accuracy/noise": "greedy accuracy under noise",
    "reward/area": "sampled reward over all steps",
    "looking/looks": "share of values looked up",
    "looking/image_first_half": "attention on the image, first half",
    "looking/image_second_half": "attention on the image, second half",
    "looking/image_at_reads": "attention on the image at reads",
    "looking/late_early": "late/early ratio",
}


def _named(outcome: str) -> str:
    return _NAMES.get(outcome, outcome)


def _check(expect: str | None, low: float, high: float, what: str) -> None:
    """Whether a written verdict still follows from what was recorded."""
    holds = {
        None: True,
        "above 0": low > 0,
        "below 0": high < 0,
        "holds 0": low <= 0 <= high,
    }
    if expect not in holds:
        raise ValueError(f"expect: must be one of {list(holds)[1:]}, got {expect!r}.")
    if not holds[expect]:
        raise ValueError(
            f"{what}: expected an interval that is {expect}, recorded was "
            f"[{low:.3f}, {high:.3f}]. The verdict in the YAML file no longer follows."
        )


# Verdicts ----------------------------------------------------------------


def verdict_of_arms(found: Sequence[Found], better: int = 1) -> str:
    """The verdict on "these arms are better", by what their comparisons allow.

    Reproduced if at least one arm is found to be better, not reproduced if every
    comparison excludes an advantage that would matter (no effect within the margin, or
    a difference the other way), not decided otherwise: neither one that is not there,
    nor one whose interval holds both.

    Args:
        found: Evidence of the kind ``arms``.
        better: 1 if the claim is that values are higher, -1 if lower.

    Example:
        >>> verdict_of_arms([Found("", (("difference found", -0.1),))])
        'not reproduced'
        >>> verdict_of_arms([Found("", (("not decided", 0.1),))])
        'not decided'
    """
    all_ = [pair for each in found for pair in each.verdicts]
    different = {DIFFERENCE, SMALL_DIFFERENCE}
    if any(v in different and d * better > 0 for v, d in all_):
        return REPRODUCED
    if all_ and all(
        v == NO_EFFECT or (v in different and d * better < 0) for v, d in all_
    ):
        return NOT_REPRODUCED
    return NOT_DECIDED


@dataclass(frozen=True)
class Row:
    """A row of the ledger, ready to be written."""

    name: str
    group: str
    claim: str
    run: str
    verdict: str
    note: str
    cost: str


def make_row(name: str, written: Mapping[str, Any], recorded: Recorded) -> Row:
    """A row from its wording and its evidence.

    Raises:
        ValueError: An unknown kind of evidence or verdict, or one that no longer
            follows; the claim is named.
    """
    found = []
    try:
        for item in written.get("evidence", []):
            (kind, options) = next(iter(item.items()))
            if kind not in KINDS:
                raise ValueError(f"evidence: {kind!r} is none of {tuple(KINDS)}.")
            found.append(KINDS[kind](recorded, **options))
        verdict = written.get("verdict") or verdict_of_arms(found)
        if verdict not in VERDICTS:
            raise ValueError(f"verdict: {verdict!r} is none of {tuple(VERDICTS)}.")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from error
    notes = written.get("note", "")
    if isinstance(notes, Mapping):
        notes = notes.get(verdict, "")
    return Row(
        name,
        written.get("group", "paper"),
        written["claim"].strip(),
        " ".join([written["run"].strip(), *(f.text for f in found if f.text)]),
        verdict,
        notes.strip(),
        _cost(found),
    )


def _cost(found: Sequence[Found]) -> str:
    once = {frozenset(f.cells): f for f in found if f.seconds}
    cells = frozenset().union(*once) if once else frozenset()
    trained = sum(not cell.startswith("forgetting") for cell in cells)
    seconds = sum(f.seconds for f in once.values())
    if not seconds:
        return ""
    spent = (
        f"{seconds / 3600:.1f} hours"
        if seconds > 5400
        else f"{seconds / 60:.0f} minutes"
    )
    return (
        f"{trained} trainings, {spent} of one thread"
        if trained
        else (f"{spent} of one thread")
    )


# Pages -------------------------------------------------------------------

_GROUPS = {
    "paper": "What the paper claims",
    "reviewers": "What reviewers asked",
    "book": "What this book asked besides",
}

_HEAD = """# The claims, one by one

<!-- Made by `python -m vgpo.studies.claims` from book/claims.yaml and results/. -->

"""


def make_pages(written: Mapping[str, Any], recorded: Recorded) -> dict[str, str]:
    """Both pages as text.

    Args:
        written: The YAML file.
        recorded: The recorded files.

    Returns:
        ``claims`` and ``findings``.
    """
    rows = [make_row(n, w, recorded) for n, w in written["claims"].items()]
    by_name = {row.name: row for row in rows}
    central = by_name[written["central"]].verdict
    about = {
        key: text[central].strip() for key, text in written["central_texts"].items()
    }
    findings = [sentence.strip() for sentence in written["findings"]]
    findings = [s.format(**about) for s in findings]
    tally = _tally([row for row in rows if row.group != "book"])
    lines = [
        _HEAD + f"**{about['verdict']}** {tally}",
        "",
        written["introduction"].strip(),
        "",
        *(f"- **{name}**: {meaning};" for name, meaning in VERDICTS.items()),
    ]
    lines[-1] = lines[-1][:-1] + "."
    order = list(VERDICTS)
    for group, title in _GROUPS.items():
        mine = [row for row in rows if row.group == group]
        mine.sort(key=lambda row: order.index(row.verdict))
        lines += ["", f"## {title}", "", *_list_table(mine)]
    return {
        "claims": "\n".join(lines) + "\n",
        "findings": "\n".join(f"{i}. {s}" for i, s in enumerate(findings, 1)) + "\n",
    }


def _tally(rows: Sequence[Row]) -> str:
    counts = {name: sum(row.verdict == name for row in rows) for name in VERDICTS}
    said = [f"{count} {name}" for name, count in counts.items() if count]
    return f"Of {len(rows)} claims and objections: {', '.join(said)}."


def _list_table(rows: Sequence[Row]) -> list[str]:
    lines = [
        ":::{list-table}",
        ":header-rows: 1",
        ":widths: 6 30 48 16",
        ":class: ledger",
        "",
        "* - No.\n  - The claim\n  - What was run, and what it gave\n  - Verdict",
    ]
    for row in rows:
        cost = f" *Cost: {row.cost}.*" if row.cost else ""
        verdict = f"**{row.verdict}**" + (f": {row.note}" if row.note else "")
        cells = [row.name, row.claim, row.run + cost, verdict]
        lines.append("* - " + "\n  - ".join(" ".join(c.split()) for c in cells))
    return [*lines, ":::"]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vgpo.studies.claims",
        description="Writes the ledger of claims from the recorded files.",
    )
    parser.add_argument("--book", type=Path, default=Path("book"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args(arguments)
    written = yaml.safe_load((options.book / "claims.yaml").read_text())
    pages = make_pages(written, Recorded(options.results))
    for name, text in pages.items():
        write_atomically(options.book / f"{name}.md", text)
        print(f"wrote {options.book / name}.md")


if __name__ == "__main__":
    main()
