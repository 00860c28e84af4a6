"""The group view: its arithmetic is the package's, and a reader can work it."""

import json
import math
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from vgpo.explorer.group import group_data, group_view, starting_point
from vgpo.explorer.page import View, asset
from vgpo.method.reweighting import reweight_advantages
from vgpo.method.visual import VGPO, visual_factors

TOKENS = [["<b>", " red", " =", " 5", "\n"], [" red", " =", " 6"], [" hm", " 5"]]
FOCUS = [[0.5, 0.6, 0.7, 0.4, 0.3], [0.6, 0.8, 0.45], [0.55, 0.5]]
BEFORE = [[0.4, 0.5, 0.6, 0.9, 0.3], [0.5, 0.6, 0.85], [0.5, 0.7]]
REWARDS = [1.0, 0.0, 1.0]
READS = [[0, 1, 0, 1, 0], [1, 0, 1], [0, 1]]


def view(**more) -> View:
    given = {"focus_prediction": BEFORE, "reads": READS, "question": "Total ?"}
    return group_view(TOKENS, REWARDS, FOCUS, **given | more)


def package(rows, advantages, settings: VGPO) -> dict:
    """The same by the package's own functions, rows cut to their lengths."""
    rows = [torch.tensor(row, dtype=torch.float64) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    focus = pad(rows, batch_first=True)
    mask = pad([torch.ones(len(row)) for row in rows], batch_first=True).bool()
    factors = visual_factors(focus, mask, torch.zeros(len(rows)).long(), settings)
    advantages = torch.tensor(advantages, dtype=torch.float64)
    shaped = reweight_advantages(advantages, factors.psi, factors.phi)
    cut = [slice(len(row)) for row in rows]
    return {
        "phi": factors.phi.tolist(),
        "psi": [row[c].tolist() for row, c in zip(factors.psi, cut, strict=True)],
        "gate": [row[c].tolist() for row, c in zip(factors.gate, cut, strict=True)],
        "shaped": [row[c].tolist() for row, c in zip(shaped, cut, strict=True)],
    }


@pytest.fixture(scope="module")
def empty_page(browser, tmp_path_factory):
    """A page to compute in."""
    return browser.open(View("v", "").save(tmp_path_factory.mktemp("js") / "v.html"))


def compute(page, expression: str, given: object):
    """``expression`` of ``given`` and of what method.js and group.js define."""
    scripts = "\n".join(map(asset, ("page.js", "method.js", "group.js")))
    return page.evaluate(
        f"(() => {{ {scripts}\nconst given = {json.dumps(given)};"
        f"return {expression}; }})()"
    )


# The arithmetic -------------------------------------------------------------------

KINDS = ("any", "ties", "constant", "some without image", "some empty", "one token")


def random_case(rng: np.random.Generator, kind: str) -> tuple[list, list, VGPO]:
    rows = []
    for i in range(rng.choice([1, 2, 3, 8])):
        length = 1 if kind == "one token" else int(rng.choice([1, 2, 3, 10, 37, 100]))
        row = rng.random(length)
        if kind == "ties":
            row = rng.choice([0.25, 0.5, 0.75], length)
        elif kind == "constant":
            row = np.full(length, 0.5)
        elif kind == "some without image" and rng.random() < 0.5:
            row = np.zeros(length)
        elif kind == "some empty" and i and rng.random() < 0.5:
            row = np.zeros(0)
        rows.append(row.tolist())
    variant = str(rng.choice(["paper", "released"]))
    settings = VGPO(
        strength=float(rng.choice([0.0, 0.3, 2 * rng.random()])),
        # Products such as 0.29 * 100 fall short of a whole number in float64.
        tail_ratio=float(rng.choice([0.0, 0.29, 0.5, 1.0, rng.random()])),
        top_ratio=float(rng.choice([0.05, 0.2, 0.29, 1.0, 1 - rng.random()])),
        schedule=str(rng.choice(["linear", "step", "exponential"])),
        accumulation=str(rng.choice(["sum", "mean"])),
        variant=variant,
        intra=variant == "released" or bool(rng.random() < 0.8),
        inter=bool(rng.random() < 0.8),
    )
    return rows, rng.normal(size=len(rows)).tolist(), settings


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_computes_what_the_package_computes(empty_page, kind):
    rng = np.random.default_rng(KINDS.index(kind))
    cases = [random_case(rng, kind) for _ in range(100)]
    in_page = compute(
        empty_page,
        "given.map(([rows, advantages, settings]) => {"
        "const all = VGPOMethod.shape(rows, advantages, settings);"
        "return {phi: all.phi, psi: all.rows.map(row => row.psi),"
        "gate: all.rows.map(row => row.open), shaped: all.shaped}; })",
        [(rows, advantages, asdict(s)) for rows, advantages, s in cases],
    )
    for case, found in zip(cases, in_page, strict=True):
        expected = package(*case)
        assert found["gate"] == expected["gate"], case
        np.testing.assert_allclose(found["phi"], expected["phi"], atol=1e-12)
        for name in ("psi", "shaped"):
            for ours, theirs in zip(found[name], expected[name], strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_ratios_stand_for_the_same_fractions(empty_page):
    rng = np.random.default_rng(0)
    values = [0.0, 1.0, 0.29, 0.1, 1 / 3, 5e-7, math.pi / 4, *rng.random(200)]
    found = compute(empty_page, "given.map(VGPOMethod.exactRatio)", values)
    expected = [Fraction(float(v)).limit_denominator(10**6) for v in values]
    assert [Fraction(*pair) for pair in found] == expected


@pytest.mark.parametrize("rewards", [[1, 0, 0, 1, 1], [1, 1, 1], [0.25], [0.5, 2.0]])
def test_advantages_of_a_group_are_those_of_trl(empty_page, rewards):
    found = compute(empty_page, "VGPOMethod.groupAdvantages(given)", rewards)
    values = np.array(rewards)
    spread = values.std(ddof=1) if len(rewards) > 1 else 0.0
    np.testing.assert_allclose(found, (values - values.mean()) / (spread + 1e-4))


def test_the_correlation_is_pearsons(empty_page):
    x, y = [3, 8, 5, 9], [0.1, 0.4, -0.2, 0.3]
    found = compute(empty_page, "VGPOGroup.correlation(...given)", [x, y])
    assert found == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert compute(empty_page, "VGPOGroup.correlation(...given)", [[1, 1], y]) is None


# The page -------------------------------------------------------------------------

RESULTS = "document.querySelector('[data-vgpo-view]').vgpo.results()"


def word(rollout: int, token: int) -> str:
    return f"[data-place='{rollout},{token}']"


@pytest.fixture
def page(browser, tmp_path):
    return browser.open(view().save(tmp_path / "group.html"))


def advantages_of(rewards) -> np.ndarray:
    values = np.array(rewards)
    return (values - values.mean()) / (values.std(ddof=1) + 1e-4)


def test_words_are_shown_as_text_and_reads_are_framed(page):
    assert page.texts(".vg-rollouts .vg-word")[:5] == ["<b>", "red", "=", "5", "⏎"]
    framed = page.texts(".vg-rollouts .vg-reads")
    assert framed == ["red", "5", "red", "6", "5"]
    assert "Total ?" in page.texts(".vg-asked")[0]
    page.check()


def test_in_jupyterlab_keys_and_lists_are_its_own(page):
    assert page.keys_for_others() == []
    page.dress_as_lab()
    assert page.style(".vg-rollouts", "list-style-type") == "none"
    assert page.style(".vg-rollouts", "padding-left") == "0px"
    assert page.style(".vg-text", "margin-bottom") == "0px"


def test_chords_are_left_to_the_notebook(page):
    page.click(".vg-rollouts .vg-word")
    page.evaluate(
        "(() => { window.left = []; document.addEventListener('keydown', (event) => {"
        "if (!event.defaultPrevented) window.left.push(event.key); }); })()"
    )
    page.key("Enter")
    for held in ("Shift", "Control", "Alt"):
        page.key("Enter", held=[held])
    assert page.evaluate("window.left") == ["Enter"] * 3


@pytest.mark.parametrize(
    ("control", "value", "changed"),
    [
        ("strength", 1.5, {"strength": 1.5}),
        ("tail_ratio", 1, {"tail_ratio": 1.0}),
        ("top_ratio", 0.8, {"top_ratio": 0.8}),
        ("schedule", "step", {"schedule": "step"}),
        ("accumulation", "mean", {"accumulation": "mean"}),
        ("alignment", "prediction", {"alignment": "prediction"}),
        ("variant", "released", {"variant": "released"}),
    ],
)
def test_a_control_recomputes_everything(page, control, value, changed):
    before = page.evaluate(f"{RESULTS}.shaped")
    page.choose(f"[name={control}]", value)
    shaped = page.evaluate(f"{RESULTS}.shaped")
    settings = replace(VGPO(), **changed)
    scores = BEFORE if settings.alignment == "prediction" else FOCUS
    expected = package(scores, advantages_of(REWARDS), settings)["shaped"]
    assert shaped != before
    for ours, theirs in zip(shaped, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    page.check()


def test_start_values_come_back(page):
    before = page.evaluate(f"{RESULTS}.shaped")
    page.choose("[name=strength]", 2)
    page.click("button.vg-verdict")
    assert page.evaluate(f"{RESULTS}.shaped") != before
    page.click(".vg-controls button")
    assert page.evaluate(f"{RESULTS}.shaped") == before
    assert page.evaluate("document.querySelector('[name=strength]').value") == "0.3"


def test_the_released_code_offers_what_it_has(page):
    page.choose("[name=alignment]", "prediction")
    page.choose("[name=variant]", "released")
    disabled = page.evaluate(
        "[...document.querySelectorAll('.vg-controls [name]:disabled')]"
        ".map(control => control.name)"
    )
    assert sorted(disabled) == ["accumulation", "alignment"]
    page.choose("[name=variant]", "paper")
    # What was chosen before is back.
    expected = package(BEFORE, advantages_of(REWARDS), VGPO())["psi"]
    found = page.evaluate(f"{RESULTS}.rows.map(row => row.psi)")
    np.testing.assert_allclose(found[0], expected[0], atol=1e-12)


def test_a_term_can_be_switched_off(page):
    page.click("[name=inter]")
    assert page.evaluate(f"{RESULTS}.phi") == [0, 0, 0]
    page.click("[name=intra]")
    shaped = page.evaluate(f"{RESULTS}.shaped")
    np.testing.assert_allclose(shaped[0], [advantages_of(REWARDS)[0]] * 5)


def test_a_verdict_can_be_turned(page):
    page.click("li:nth-child(2) button.vg-verdict")
    assert page.texts(".vg-verdict") == ["✓ right"] * 3
    assert page.evaluate(f"{RESULTS}.advantages") == [0, 0, 0]


def test_pointing_previews_and_a_click_keeps(page):
    page.hover(word(0, 3))
    assert page.texts(".vg-readout")[0].startswith("“5”, token 4 of 5")
    page.click(word(0, 1))
    page.hover(word(1, 2))
    assert "“6”" in page.texts(".vg-readout")[0]
    page.hover(".vg-summary")
    assert "“red”" in page.texts(".vg-readout")[0]
    assert page.texts(".vg-chosen") == ["red"]


def test_arrow_keys_go_from_word_to_word(page):
    page.click(word(0, 1))
    page.key("ArrowRight", 2)
    assert page.texts(".vg-chosen") == ["5"]
    page.key("ArrowDown")
    assert page.texts(".vg-chosen") == ["6"]  # the last of a shorter rollout
    page.key("Home")
    page.key("ArrowUp")
    assert page.evaluate("document.activeElement.dataset.place") == "0,0"
    page.check()


def test_the_steps_of_a_word_hold_its_numbers(page):
    page.click(word(0, 3))
    rows = page.evaluate(
        "[...document.querySelectorAll('.vg-working tr')].map("
        "row => [...row.children].map(cell => cell.textContent))"
    )
    steps = {row[0]: row[2] for row in rows}
    found = package(FOCUS, advantages_of(REWARDS), VGPO())
    assert steps["Eq. 4"] == "0.400"
    assert steps["Eq. 8"].endswith(f"{found['psi'][0][3]:+.3f}".replace("-", "−"))
    assert steps["Eq. 11"].endswith(f"{found['phi'][0]:+.3f}".replace("-", "−"))
    assert steps["Eq. 12"].endswith(f"{found['shaped'][0][3]:+.3f}")
    assert steps["Eq. 6"] == "shut: in the tail, not among its 1 highest"


def test_the_lists_name_who_gains_and_loses_most(page):
    found = package(FOCUS, advantages := advantages_of(REWARDS), VGPO())["shaped"]
    changes = [
        (value - advantages[i], TOKENS[i][t].strip())
        for i, row in enumerate(found)
        for t, value in enumerate(row)
    ]
    entries = page.texts(".vg-lists section:first-child strong")
    assert entries[0].strip() == max(changes)[1]
    page.click(".vg-lists section:last-child button")
    assert page.texts(".vg-chosen") == [min(changes)[1]]


def test_tints_follow_sign_and_size(page):
    page.choose("[name=tint]", "psi")
    psi = package(FOCUS, advantages_of(REWARDS), VGPO())["psi"]
    for t, value in enumerate(psi[0]):
        share = page.evaluate(
            f'document.querySelector("{word(0, t)}").style'
            ".getPropertyValue('--vg-share')"
        )
        assert share == f"{round(min(abs(value), 1) * 65)}%"
    less = page.texts("li:first-child .vg-less")
    assert less == [
        TOKENS[0][t].strip() or "⏎" for t, value in enumerate(psi[0]) if value < 0
    ]


def test_a_phone_is_wide_enough(page):
    page.resize(420, 800)
    assert page.sideways() <= 0


def test_without_knowing_reads_or_the_other_alignment(browser, tmp_path):
    shown = view(reads=None, focus_prediction=None, advantages=[1.0, -1.0, 0.5])
    page = browser.open(shown.save(tmp_path / "g.html"))
    assert "read" not in page.texts(".vg-summary")[0]
    assert page.evaluate("document.querySelector('[name=alignment]').offsetParent") is (
        None
    )
    assert not page.texts("button.vg-verdict")
    assert page.evaluate(f"{RESULTS}.advantages") == [1, -1, 0.5]
    page.check()


@pytest.mark.parametrize(
    ("tokens", "focus"),
    [([["a"]], [[0.4]]), ([["a", "b"], []], [[0.5, 0.5], []]), ([["a"]], [[0.0]])],
    ids=["one token", "an empty rollout", "no image"],
)
def test_groups_without_anything_to_compare_are_shown(browser, tmp_path, tokens, focus):
    shown = group_view(tokens, [1.0] * len(tokens), focus, chosen=(0, 0))
    page = browser.open(shown.save(tmp_path / "g.html"))
    page.choose("[name=variant]", "released")
    assert page.evaluate(f"{RESULTS}.shaped")[0] == [0] * len(tokens[0])
    page.check()


def test_a_long_group_stays_quick_to_point_at(browser, tmp_path):
    rng = np.random.default_rng(0)
    tokens = [[f" w{t}" for t in range(1500)] for _ in range(8)]
    shown = group_view(tokens, [1, 0] * 4, rng.random((8, 1500)).round(6).tolist())
    page = browser.open(shown.save(tmp_path / "g.html"))
    assert len(shown.page()) < 1_300_000  # 12,000 tokens
    page.hover(word(7, 3))
    assert "“w3”, token 4 of 1500" in page.texts(".vg-readout")[0]
    page.choose("[name=strength]", 1)
    page.check()


# Without a script -----------------------------------------------------------------


def test_the_still_page_has_the_packages_numbers_and_no_markup_of_tokens():
    shown = view()
    assert "&lt;b&gt;" in shown.body and "<b>" not in shown.body
    found = package(FOCUS, advantages_of(REWARDS), VGPO())
    at_start = starting_point(group_data(TOKENS, REWARDS, FOCUS))
    np.testing.assert_allclose(at_start["phi"], found["phi"])
    change = found["shaped"][0][3] - at_start["advantages"][0]
    assert f'title="{change:+.2f}"> 5</span>' in shown.body
    assert f"φ {found['phi'][1]:+.2f}, 3 tokens" in shown.body


def test_a_picture_travels_inside():
    shown = view(picture=Image.new("RGB", (8, 8)))
    assert shown.data["picture"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"rewards": [1.0]}, "rewards"),
        ({"rewards": [1.0, math.nan, 0.0]}, "rewards"),
        ({"focus": FOCUS[:2]}, "focus"),
        ({"focus": [[1.5, *FOCUS[0][1:]], *FOCUS[1:]]}, "focus"),
        ({"focus": [[math.nan, *FOCUS[0][1:]], *FOCUS[1:]]}, "focus"),
        ({"focus_prediction": [[0.5]] * 3}, "focus_prediction"),
        ({"reads": [[1]] * 3}, "reads"),
        ({"notes": [["a"]] * 3}, "notes"),
        ({"advantages": [1.0]}, "advantages"),
        ({"tokens": [[], [], []]}, "tokens"),
        ({"tint": "red"}, "tint"),
        ({"chosen": (0, 5)}, "chosen"),
        ({"settings": VGPO(alignment="prediction")}, "focus_prediction"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changed, named):
    given = {"tokens": TOKENS, "rewards": REWARDS, "focus": FOCUS} | changed
    with pytest.raises(ValueError, match=f"^{named}"):
        group_view(**given)
