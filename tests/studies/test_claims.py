"""The ledger says what the recorded files say, and nothing else."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from tests.conftest import ROOT
from vgpo.stats.seeds import DIFFERENCE, NO_EFFECT, NOT_DECIDED, SMALL_DIFFERENCE
from vgpo.studies import claim_evidence as evidence
from vgpo.studies import claims
from vgpo.studies.ablations import ablation_table
from vgpo.studies.claim_evidence import Found, Recorded, verdict_of_arms
from vgpo.studies.claims import make_pages, make_row

RESULTS = ROOT / "results"
WRITTEN = yaml.safe_load((ROOT / "book" / "claims.yaml").read_text())


@pytest.fixture(scope="module")
def recorded():
    return Recorded(RESULTS, ROOT / "recipes" / "experiments")


def test_the_pages_are_those_of_the_recorded_files(recorded):
    for name, text in make_pages(WRITTEN, recorded).items():
        published = (ROOT / "book" / f"{name}.md").read_text()
        assert published == text, "python -m vgpo.studies.claims"


def test_every_claim_and_objection_has_its_row(recorded):
    page = (ROOT / "book" / "claims.md").read_text()
    rows = re.findall(r"^\* - ([CRB]\d+)$", page, re.M)
    assert sorted(rows) == sorted(WRITTEN["claims"])
    assert {f"C{i}" for i in range(1, 16)} | {f"R{i}" for i in range(1, 6)} <= set(rows)
    # Within a table, rows are in the order of their verdicts.
    order = list(claims.VERDICTS)
    for table in page.split(":::{list-table}")[1:]:
        said = re.findall(r"^  - \*\*([^*]+)\*\*", table.split(":::")[0], re.M)
        assert said and said == sorted(said, key=order.index)


def test_the_page_says_how_many_rows_its_tally_leaves_out():
    """The tally is of the paper's claims and the reviewers' objections alone."""
    page = (ROOT / "book" / "claims.md").read_text()
    rows = re.findall(r"^\* - ([CRB])\d+$", page, re.M)
    own = rows.count("B")
    for letter, whose in (
        ("C", "the paper's claims"),
        ("R", "its reviewers' objections"),
    ):
        tallied = re.search(rf"Of (\d+) of {whose}: ([^.]+)\.", page)
        counts = [int(n) for n in re.findall(r"(\d+) [a-z]", tallied[2])]
        assert int(tallied[1]) == sum(counts) == rows.count(letter)
    said = (
        f"Not in this count are {own} questions of this book's own (B1 to B{own}, in "
        f"the last table); with them there are {len(rows)} rows."
    )
    assert said in page


def test_one_question_of_the_books_own_is_one(recorded):
    kept = {n: w for n, w in WRITTEN["claims"].items() if n[0] != "B"}
    kept["B1"] = WRITTEN["claims"]["B1"]
    texts = {k: t for k, t in WRITTEN["texts"].items() if t["claim"] in kept}
    written = WRITTEN | {"claims": kept, "texts": texts, "findings": []}
    page = make_pages(written, recorded)["claims"]
    assert "1 question of this book's own (B1, in the last table)" in page


def test_a_difference_on_the_page_is_that_of_the_records():
    """By hand, from the records alone."""
    folder = RESULTS / "experiments" / "headline"
    values = {}
    for file in folder.glob("*/record.json"):
        record = json.loads(file.read_text())
        values[record["arm"], record["seed"]] = record["outcomes"]["accuracy/sampled"]
    seeds = sorted(s for arm, s in values if arm == "vgpo_token")
    paired = [values["vgpo_token", s] - values["dapo", s] for s in seeds]
    assert len(paired) > 1
    mean = np.mean(paired)
    low, high = stats.t.interval(
        0.95, len(paired) - 1, loc=mean, scale=stats.sem(paired)
    )
    page = (ROOT / "book" / "claims.md").read_text()
    text = (
        "`vgpo_token` less `dapo`, sampled accuracy, held out: "
        f"{mean:+.3f}, 95 % [{low:+.3f}, {high:+.3f}]"
    )
    assert text in page
    assert f"{len(paired)} seeds" in page


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([], claims.NOT_DECIDED),
        ([(NOT_DECIDED, 0.3)], claims.NOT_DECIDED),
        ([(DIFFERENCE, 0.1), (NOT_DECIDED, -0.1)], claims.REPRODUCED),
        ([(SMALL_DIFFERENCE, 0.001)], claims.REPRODUCED),
        ([(DIFFERENCE, -0.1)], claims.NOT_REPRODUCED),
        ([(NO_EFFECT, 0.001), (DIFFERENCE, -0.1)], claims.NOT_REPRODUCED),
        # One arm that may still be better leaves the claim open.
        ([(NO_EFFECT, 0.001), (NOT_DECIDED, 0.1)], claims.NOT_DECIDED),
    ],
)
def test_verdicts_by_what_the_comparisons_allow(pairs, verdict):
    assert verdict_of_arms([Found("", tuple(pairs))]) == verdict
    mirrored = [(v, -d) for v, d in pairs]
    assert verdict_of_arms([Found("", tuple(mirrored))], better=-1) == verdict


def test_a_verdict_that_no_longer_follows_is_refused(recorded):
    row = {
        "claim": "x",
        "run": "y",
        "verdict": claims.REPRODUCED,
        "evidence": [{"forest": {"world": "misread", "expect": "above 0"}}],
    }
    with pytest.raises(ValueError, match=r"X1: misread, forest: expected .* above 0"):
        make_row("X1", row, recorded)
    row["evidence"] = [{"forest": {"world": "misread", "expect": "holds 0"}}]
    assert make_row("X1", row, recorded).verdict == claims.REPRODUCED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evidence": [{"tarot": {}}]}, "evidence: 'tarot' is none of"),
        ({"verdict": "perhaps"}, "verdict: 'perhaps' is none of"),
        ({"evidence": [{"forest": {"moon": 1}}]}, "X1: .*moon"),
    ],
)
def test_what_the_wording_may_not_ask_for(recorded, change, message):
    with pytest.raises(ValueError, match=message):
        make_row("X1", {"claim": "x", "run": "y"} | change, recorded)


def token_arm(recorded, grid) -> Found:
    return evidence.arms(
        recorded,
        grid=grid,
        world="look_away",
        outcome="accuracy/sampled",
        arms=["vgpo_token"],
    )


def test_what_was_not_run_is_said_to_be_not_recorded(recorded):
    found = token_arm(recorded, "no_such_grid")
    assert "not recorded yet" in found.text
    assert found.verdicts == ((NOT_DECIDED, 0.0),)
    assert verdict_of_arms([found]) == claims.NOT_DECIDED


def test_what_all_comparisons_have_to_show():
    both = [Found("", ((DIFFERENCE, -0.1), (SMALL_DIFFERENCE, -0.01)))]
    rule = evidence.RULES["all are worse"]
    assert rule(both) == claims.REPRODUCED
    assert rule([*both, Found("", ((NOT_DECIDED, 0.0),))]) == claims.NOT_DECIDED
    assert rule([*both, Found("", ((NO_EFFECT, 0.0),))]) == claims.NOT_REPRODUCED
    assert rule([]) == claims.NOT_DECIDED


def test_what_is_preserved_is_within_its_margin_or_gained():
    rule = evidence.RULES["preserved"]
    kept = Found("", ((NO_EFFECT, -0.01), (DIFFERENCE, 0.2)))
    assert rule([kept]) == claims.REPRODUCED
    assert rule([kept, Found("", ((DIFFERENCE, -0.2),))]) == claims.NOT_REPRODUCED
    assert rule([kept, Found("", ((NOT_DECIDED, 0.1),))]) == claims.NOT_DECIDED


def test_every_verdict_of_a_claim_in_the_findings_has_its_sentence():
    verdicts = {claims.REPRODUCED, claims.NOT_REPRODUCED, claims.NOT_DECIDED}
    for texts in WRITTEN["texts"].values():
        assert {"claim"} | verdicts == set(texts)


def test_a_number_of_a_file_is_quoted_with_its_interval_and_guarded(tmp_path):
    rows = [
        {"variant": "noise", "score": 0.9, "score_low": 0.8, "score_high": 0.95},
        {"variant": "grey", "score": 0.4, "score_low": 0.3, "score_high": 0.5},
    ]
    (tmp_path / "x.json").write_text(json.dumps({"rows": rows, "seconds": 3}))
    there = Recorded(tmp_path)

    def found(where, **expect):
        one = {"where": where, "column": "score", "say": "noise", "expect": expect}
        return evidence.rows(there, file="x.json", what="Scores", of=[one])

    assert found({"variant": "noise"}).text == "Scores: noise 0.900 [0.800, 0.950]."
    assert found({"variant": "noise"}, above=0.7).seconds == {"x.json": 3}
    with pytest.raises(ValueError, match=r"expected above 0\.85.*no longer follows"):
        found({"variant": "noise"}, above=0.85)
    with pytest.raises(ValueError, match=r"expected below 0\.9"):
        found({"variant": "noise"}, below=0.9)
    with pytest.raises(ValueError, match="picks 0 rows"):
        found({"variant": "rain"})


def test_an_auroc_is_quoted_with_its_interval_and_guarded(tmp_path):
    row = {"score": "focus", "against": "all", "auroc": 0.9, "low": 0.85, "high": 0.95}
    (tmp_path / "x.json").write_text(json.dumps({"rows": [row], "seconds": 3}))

    def found(*expect):
        rows = [["focus", "all", *expect]]
        return evidence.scores(Recorded(tmp_path), file="x.json", rows=rows)

    assert found().text == found({"above": 0.8, "below": 0.96}).text
    assert "focus (against all) 0.900 [0.850, 0.950]" in found().text
    with pytest.raises(ValueError, match=r"expected above 0\.85.*no longer follows"):
        found({"above": 0.85})
    with pytest.raises(ValueError, match=r"expected below 0\.9"):
        found({"below": 0.9})
    with pytest.raises(ValueError, match="expect: must be above or below, got 'over'"):
        found({"over": 0.5})


@pytest.mark.parametrize("expect", ["above", "over 0.5", "positive"])
def test_what_is_expected_of_an_interval_is_a_side_and_a_number(recorded, expect):
    asked = {"world": "misread", "quantity": "generated text, last fifth"}
    with pytest.raises(ValueError, match="must be 'above', 'below' or 'holds' and a"):
        evidence.forgetting(recorded, **asked, expect={"trained": expect})


def test_each_quoted_auroc_of_a_written_verdict_is_guarded():
    for name, claim in WRITTEN["claims"].items():
        for piece in claim.get("evidence", []):
            if "scores" in piece and "verdict" in claim:
                assert all(len(row) == 3 for row in piece["scores"]["rows"]), name


@pytest.mark.parametrize(("seeds", "decided"), [(5, False), (6, True)])
def test_few_seeds_decide_nothing_however_far_apart(seeds, decided):
    """Of five pairs no test by sign flips reaches .05: 2 of its 32 ways are as far."""
    rows = [
        {"arm": arm, "seed": seed, "value": value + 0.001 * (seed % 3)}
        for seed in range(seeds)
        for arm, value in (("dapo", 0.5), ("vgpo_token", 0.4 - 0.001 * seed))
    ]
    table = pd.DataFrame(rows).assign(
        world="look_away", setting="shipped", outcome="accuracy/sampled"
    )
    table["commits"] = [frozenset({"a"})] * len(table)
    recorded = SimpleNamespace(grid=lambda _: table, seconds=lambda *_: 0.0)
    found = token_arm(recorded, "any")
    assert ("decide nothing" in found.text) != decided
    assert (verdict_of_arms([found]) == claims.NOT_REPRODUCED) == decided


def test_margins_set_after_a_look_are_shown_on_the_seeds_run_since(recorded):
    """By hand, from the records alone."""
    grid = recorded.grid("headline")
    rows = grid[(grid["outcome"] == "accuracy/sampled/sum") & (grid["seed"] >= 10)]
    values = rows.pivot(index="seed", columns="arm", values="value")
    paired = (values["vgpo_token"] - values["dapo"]).dropna()
    low, high = stats.t.interval(
        0.95, len(paired) - 1, loc=paired.mean(), scale=stats.sem(paired)
    )
    page = (ROOT / "book" / "claims.md").read_text()
    assert (
        f"Over the {len(paired)} seeds alone that were run after the margin was set: "
        f"{paired.mean():+.3f}, 95 % [{low:+.3f}, {high:+.3f}]."
    ) in page


def test_ablations_are_corrected_together_as_in_their_chapter(recorded):
    options = {
        "grid": "ablations", "world": "look_away", "outcome": "accuracy/sampled",
        "arms": ["vgpo_token_intra"], "against": "vgpo_token",
    }  # fmt: skip
    found = evidence.arms(recorded, among="ablations", **options)
    _, outcomes = evidence.recorded_cells(
        evidence.read_grid(recorded.recipes / "ablations.yaml"),
        recorded.folder / "experiments",
    )
    chapter = ablation_table(outcomes, "vgpo_token", "vgpo_token", "accuracy/sampled")
    p = chapter.loc["vgpo_token_intra", "p_corrected"]
    assert f"p = {p:.2g} (Holm)" in found.text
    with pytest.raises(ValueError, match=r"^among: must be"):
        evidence.arms(recorded, among="friends", **options)


def test_evidence_that_does_not_count_gives_no_verdict(recorded):
    options = {
        "grid": "headline", "world": "look_away", "outcome": "reward/area",
        "arms": ["vgpo_token"], "against": "grpo",
    }  # fmt: skip
    assert len(evidence.arms(recorded, **options).verdicts) == 1
    shown = evidence.arms(recorded, counts=False, **options)
    assert shown.verdicts == () and "`vgpo_token` less `grpo`" in shown.text


def test_what_no_size_of_a_difference_could_show_is_said_so(recorded):
    """Six seeds of many arms: the smallest p, corrected, is above .05."""
    found = evidence.arms(
        recorded, grid="neighbours", world="look_away", outcome="accuracy/sampled",
        arms=["papo"], against="vgpo_token",
    )  # fmt: skip
    assert "6 seeds; so few seeds for so many arms find no difference." in found.text
