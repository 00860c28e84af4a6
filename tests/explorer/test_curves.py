"""The view of training runs: its statistics are the package's, and it can be worked."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vgpo.explorer.curves import curves_data, curves_view
from vgpo.explorer.page import View, asset
from vgpo.stats.arms import compare_so_far
from vgpo.stats.seeds import paired_differences, t_interval

QUANTILES = [None, None] + [float(stats.t.ppf(0.975, n - 1)) for n in range(2, 12)]


def runs(worlds=("near", "far"), methods=("dapo", "vgpo", "<grpo>"), seeds=3):
    rng = np.random.default_rng(0)
    rows = [
        {
            "world": world,
            "method": method,
            "seed": seed,
            "step": step,
            "reward": 0.4 + 0.01 * step + 0.05 * rng.normal() + 0.1 * (world == "far"),
            "entropy": rng.random() if world == "near" else np.nan,
        }
        for world in worlds
        for method in methods
        for seed in range(seeds - (method == "<grpo>"))
        for step in range(1, 9)
    ]
    return pd.DataFrame(rows)


def view() -> View:
    outcomes = runs().query("step == 8").rename(columns={"reward": "value"})
    outcomes["outcome"] = "accuracy"
    return curves_view(
        runs(), "dapo", metrics={"reward": "right answers", "entropy": "entropy"},
        outcomes=outcomes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def empty_page(browser, tmp_path_factory):
    """A page to compute in."""
    return browser.open(View("v", "").save(tmp_path_factory.mktemp("js") / "v.html"))


def compute(page, expression: str, given: object):
    scripts = "\n".join(map(asset, ("page.js", "statistics.js", "curves.js")))
    return page.evaluate(
        f"(() => {{ {scripts}\nconst given = {json.dumps(given)};"
        f"return {expression}; }})()"
    )


# The arithmetic -------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 3, 5, 8, 21])
def test_running_means_are_those_of_pandas(empty_page, window):
    values = pd.Series([0.1, 0.5, np.nan, 0.2, 0.9, 0.4, np.nan, np.nan, np.nan, 0.3])
    found = compute(
        empty_page,
        f"VGPOStatistics.smooth(given, {window})",
        [None if np.isnan(v) else v for v in values],
    )
    expected = values.rolling(window, min_periods=1, center=True).mean()
    np.testing.assert_allclose(
        [np.nan if v is None else v for v in found], expected, atol=1e-12
    )


@pytest.mark.parametrize(
    "values", [[0.3], [0.1, 0.1, 0.1], [0.1, 0.3], [0.2, -0.4, 0.1, 0.9], [0.0, 0.0]]
)
def test_intervals_are_those_of_the_package(empty_page, values):
    mean, low, high, count = compute(
        empty_page,
        "VGPOStatistics.tInterval(given[0], given[1])",
        [values, QUANTILES],
    )
    expected = t_interval(values)
    assert (mean, count) == (pytest.approx(expected.value), expected.count)
    if np.isnan(expected.low):
        assert low is None and high is None
    else:
        assert (low, high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("values", "baseline"),
    [([0.3, 0.7], [0.295, 0.695]), ([0.0], [0.0]), ([1.0, -2.0, 5.0], [0.5, 3.0, 5.0])],
)
def test_differences_are_those_of_the_package(empty_page, values, baseline):
    found = compute(
        empty_page, "VGPOStatistics.pairedDifferences(...given)", [values, baseline]
    )
    expected = paired_differences(np.array(values), np.array(baseline))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    assert (len(set(found)) == 1) == (len(set(expected)) == 1)


def test_differences_are_paired_by_seed_after_smoothing(empty_page):
    table = runs(worlds=("near",))
    data = curves_data(table, "dapo", metrics={"reward": "reward"})
    found = compute(
        empty_page,
        "VGPOCurves.series(given.worlds[0].runs, 'reward', 3, 'dapo', given.quantiles)",
        data,
    )
    wide = table.pivot(index="step", columns=["method", "seed"], values="reward")
    smooth = wide.rolling(3, min_periods=1, center=True).mean()
    for method in ("vgpo", "<grpo>"):
        mine = smooth[method]
        interval = t_interval((mine - smooth["dapo"][mine.columns]).loc[5].to_numpy())
        shown = found["methods"][method]["difference"][4]
        # Values travel with six digits.
        assert shown == pytest.approx(list(interval), abs=2e-5)
        assert found["methods"][method]["mean"][4] == pytest.approx(
            mine.loc[5].mean(), abs=1e-5
        )


def test_whole_runs_are_compared_by_the_package():
    data = curves_data(runs(), "dapo", metrics={"reward": "right answers"})
    [comparison] = data["worlds"][0]["comparisons"]
    means = runs(worlds=("near",)).groupby(["method", "seed"], as_index=False)["reward"]
    values = means.mean().rename(columns={"reward": "value"})
    table = compare_so_far(values, "dapo")
    for row in comparison["rows"]:
        for name in ("difference", "low", "high"):
            assert row[name] == pytest.approx(table.loc[row["method"], name], rel=1e-4)
        assert row["verdict"] == table.loc[row["method"], "verdict"]
    assert comparison["label"] == "right answers, mean over steps"


# The page -------------------------------------------------------------------------


@pytest.fixture
def page(browser, tmp_path):
    return browser.open(view().save(tmp_path / "curves.html"))


def lines(page, chart: int) -> list[str]:
    return page.evaluate(
        f"[...document.querySelectorAll('.vc-chart')[{chart}]"
        ".querySelectorAll('.vc-series')].map(line => line.dataset.method)"
    )


def test_in_jupyterlab_keys_are_its_own(page):
    assert page.keys_for_others() == []


def test_methods_are_drawn_and_can_be_left_out(page):
    assert lines(page, 0) == ["dapo", "vgpo", "<grpo>"]
    assert lines(page, 1) == ["vgpo", "<grpo>"]
    page.click(".vc-arms input[value=vgpo]")
    assert lines(page, 0) == ["dapo", "<grpo>"]
    assert lines(page, 1) == ["<grpo>"]
    page.check()


def test_every_method_has_a_colour_a_dash_and_a_mark_of_its_own(page):
    looks = page.evaluate(
        "[...document.querySelectorAll('.vc-arms svg')].map(svg => ["
        "svg.getAttribute('style'),"
        "svg.querySelector('.vc-line').getAttribute('stroke-dasharray'),"
        "svg.querySelector('.vc-mark').outerHTML])"
    )
    for part in zip(*looks, strict=True):
        assert len(set(part)) == len(looks)


def test_seeds_can_be_seen_one_by_one(page):
    assert page.texts(".vc-thin") == []
    page.click(".vc-check input")
    assert len(page.texts(".vc-thin")) == 3 + 3 + 2


def test_pointing_at_a_step_reads_its_values(page):
    page.hover(".vc-chart svg")
    [step] = page.texts(".vc-readout p")
    assert step in ("Step 4", "Step 5")
    rows = page.texts(".vc-readout tbody tr")
    assert len(rows) == 3 and rows[1].startswith("vgpo")
    page.key("ArrowRight")  # the chart has not the focus: nothing moves
    assert page.texts(".vc-readout p") == [step]
    page.evaluate("document.querySelector('.vc-chart svg').focus()")
    page.key("End")
    assert page.texts(".vc-readout p") == ["Step 8"]
    page.key("ArrowLeft", 2)
    assert page.texts(".vc-readout p") == ["Step 6"]
    page.check()


def test_smoothing_changes_the_line(page):
    line = "document.querySelector('.vc-line:not(.vc-arms *)').getAttribute('d')"
    before = page.evaluate(line)
    page.choose(".vc-controls input[type=range]", 9)
    assert page.evaluate(line) != before
    assert page.texts(".vc-controls output") == ["9"]


def test_another_world_has_its_own_measures(page):
    page.choose(".vc-controls label:nth-of-type(2) select", "entropy")
    assert page.texts(".vc-title")[0].startswith("entropy")
    page.choose(".vc-controls label:nth-of-type(1) select", 1)
    # Nobody logged the entropy there.
    assert page.texts(".vc-title")[0].startswith("right answers")
    assert lines(page, 0) == ["dapo", "vgpo", "<grpo>"]
    page.check()


def test_outcomes_and_the_measure_are_compared_below(page):
    heads = page.texts(".vc-table h4")
    assert heads == ["accuracy", "right answers, mean over steps"]
    assert len(page.texts(".vc-table circle")) == 2 * (3 + 2)


def test_a_phone_is_wide_enough(page):
    page.resize(420, 800)
    page.settle()
    assert page.sideways() <= 0
    assert page.evaluate("document.querySelector('.vc-chart svg').viewBox") is not None


def test_a_single_run_of_each_has_no_interval(browser, tmp_path):
    shown = curves_view(runs(("near",), ("dapo", "vgpo"), seeds=1), "dapo")
    page = browser.open(shown.save(tmp_path / "c.html"))
    page.hover(".vc-chart svg")
    assert page.texts(".vc-band") == []
    assert page.texts(".vc-readout tbody tr")[1].endswith("1")
    page.check()


# Without a script, and what is refused --------------------------------------------


def test_the_still_page_has_the_comparisons():
    body = view().body
    assert "&lt;grpo&gt;" in body and "<grpo>" not in body
    assert body.count("<table>") == 2 * 2 + 1  # the entropy of one world alone


@pytest.mark.parametrize(
    ("table", "more", "named"),
    [
        (runs().drop(columns="seed"), {}, "curves"),
        (runs().iloc[:0], {}, "curves"),
        (pd.concat([runs(), runs()]), {}, "curves"),
        (runs(), {"metrics": {"loss": "loss"}}, "curves"),
        (runs(), {"baseline": "ppo"}, "baseline"),
        (runs(), {"shown": ["ppo"]}, "shown"),
        (runs(), {"outcomes": runs()}, "outcomes"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(table, more, named):
    given = {"baseline": "dapo"} | more
    with pytest.raises(ValueError, match=f"^{named}"):
        curves_view(table, **given)
