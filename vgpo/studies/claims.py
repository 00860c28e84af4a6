"""The ledger of claims, made from the recorded files.

::

    python -m vgpo.studies.claims

writes ``book/claims.md`` and ``book/findings.md`` (three sentences for the landing
page), and ``vgpo/training/verdict.json`` (what the cards of trained models say of the
method), from ``book/claims.yaml``, which has the wording of every claim, and from
``results/``, which has the numbers. Nothing in either page is typed by hand: when more
cells of a grid are finished, the same command says what they say.

A claim in the YAML file names what it rests on (``evidence``, a list of kinds,
:mod:`vgpo.studies.claim_evidence`). A verdict is either written there (``verdict``),
guarded by what its evidence has to be (``expect``), or follows from the comparisons by
a ``rule``.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

from vgpo.files import write_atomically
from vgpo.studies.claim_evidence import (
    KINDS,
    NOT_DECIDED,
    NOT_REPRODUCED,
    PARAGRAPH,
    REPRODUCED,
    RULES,
    Found,
    Recorded,
)
from vgpo.studies.experiments.grid import RECIPES

UNTESTABLE = "cannot be tested here"
PROVED = "proved"

VERDICTS = {
    PROVED: "it follows from the formulas, and is checked by the tests",
    REPRODUCED: "seen in the small worlds, with its spread; a note says where what "
    "knows nothing shows it as well",
    NOT_REPRODUCED: "looked for and not found, or found the other way round, with an "
    "interval that leaves no room for it",
    NOT_DECIDED: "not run, or run with too few seeds for the interval to say anything; "
    "it says nothing about the claim, either way",
    UNTESTABLE: "and why",
}
"""In the order of the page, with what each means."""


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
        verdict = written.get("verdict")
        if verdict is None:
            verdict = RULES[written.get("rule", "one is better")](found)
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
        PARAGRAPH.join([written["run"].strip(), *(f.text for f in found if f.text)]),
        verdict,
        notes.strip(),
        _cost(found),
    )


def _cost(found: Sequence[Found]) -> str:
    once: dict[str, float] = {}
    for each in found:
        once |= each.seconds
    seconds = sum(once.values())
    if not seconds:
        return ""
    spent = f"{seconds:.0f} seconds of one thread"
    if seconds > 90:
        spent = f"{seconds / 60:.0f} minutes of one thread"
    if seconds > 5400:
        spent = f"{seconds / 3600:.1f} hours of one thread"
    trained = sum(name.startswith("cell") for name in once)
    return f"{trained} trainings, {spent}" if trained else spent


# Pages -------------------------------------------------------------------

_GROUPS = {
    "paper": "What the paper claims",
    "reviewers": "What reviewers asked",
    "book": "What this book asked besides",
}

_COUNTED = {
    "paper": "Of {} of the paper's claims",
    "reviewers": "Of {} of its reviewers' objections",
}
"""Whose rows are tallied, and in which words."""

_MADE = "<!-- Made by `python -m vgpo.studies.claims`, from claims.yaml. -->\n\n"


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
    about = {
        key: text[by_name[text["claim"]].verdict].strip()
        for key, text in written["texts"].items()
    }
    findings = [sentence.strip() for sentence in written["findings"]]
    # Not str.format: braces are MyST's.
    findings = [Template(s).substitute(about) for s in findings]
    tally = _tally(rows)
    lines = [
        "# The claims, one by one\n\n" + _MADE + f"**{about['verdict']}** {tally}",
        *_besides(rows),
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
        "findings": _MADE
        + "\n".join(f"{i}. {s}" for i, s in enumerate(findings, 1))
        + "\n",
    }


def make_verdict(written: Mapping[str, Any], recorded: Recorded) -> dict[str, str]:
    """The verdict on the main claim, for the cards of models that are trained here.

    Args:
        written: The YAML file.
        recorded: The recorded files.

    Returns:
        ``claim``, ``verdict`` and ``text``.
    """
    text = written["texts"]["verdict"]
    row = make_row(text["claim"], written["claims"][text["claim"]], recorded)
    said = text[row.verdict].strip()
    return {"claim": row.name, "verdict": row.verdict, "text": said}


def _tally(rows: Sequence[Row]) -> str:
    """By whose they are: an objection that is reproduced speaks against the paper."""
    lines = []
    for group, whose in _COUNTED.items():
        mine = [row.verdict for row in rows if row.group == group]
        said = [f"{mine.count(name)} {name}" for name in VERDICTS if name in mine]
        if mine:
            lines.append(f"{whose.format(len(mine))}: {', '.join(said)}.")
    return " ".join(lines)


def _besides(rows: Sequence[Row]) -> list[str]:
    """Why the tally counts fewer rows than the tables have."""
    names = sorted(row.name for row in rows if row.group == "book")
    if not names:
        return []
    which = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    asked = "question" if len(names) == 1 else "questions"
    return [
        f"Not in this count are {len(names)} {asked} of this book's own ({which}, in "
        f"the last table); with them there are {len(rows)} rows."
    ]


def _list_table(rows: Sequence[Row]) -> list[str]:
    what = "The objection" if rows[0].group == "reviewers" else "The claim"
    lines = [
        ":::{list-table}",
        ":header-rows: 1",
        ":widths: 6 30 48 16",
        ":class: ledger",
        "",
        f"* - No.\n  - {what}\n  - What was run, and what it gave\n  - Verdict",
    ]
    for row in rows:
        cost = f"{PARAGRAPH}*Cost: {row.cost}.*" if row.cost else ""
        verdict = f"**{row.verdict}**" + (f": {row.note}" if row.note else "")
        cells = [row.name, row.claim, row.run + cost, verdict]
        lines.append("* - " + "\n  - ".join(map(_cell, cells)))
    return [*lines, ":::"]


def _cell(text: str) -> str:
    """A cell of a list-table, its paragraphs apart."""
    paragraphs = [" ".join(part.split()) for part in text.split(PARAGRAPH)]
    return f"{PARAGRAPH}    ".join(paragraphs)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vgpo.studies.claims",
        description="Writes the ledger of claims from the recorded files.",
    )
    parser.add_argument("--book", type=Path, default=Path("book"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--recipes", type=Path, default=RECIPES)
    parser.add_argument(
        "--card",
        type=Path,
        default=Path("vgpo/training/verdict.json"),
        help="what model cards say of the method",
    )
    options = parser.parse_args(arguments)
    written = yaml.safe_load((options.book / "claims.yaml").read_text())
    recorded = Recorded(options.results, options.recipes)
    pages = make_pages(written, recorded)
    found = json.dumps(make_verdict(written, recorded), indent=2) + "\n"
    write_atomically(options.card, found)
    print(f"wrote {options.card}")
    for name, text in pages.items():
        write_atomically(options.book / f"{name}.md", text)
        print(f"wrote {options.book / name}.md")


if __name__ == "__main__":
    main()
