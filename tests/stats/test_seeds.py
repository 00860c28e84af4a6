"""Comparisons over seeds against scipy, statsmodels, hand counts and simulation."""

import itertools
from math import inf, isnan, sqrt

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from vgpo.stats import seeds
from vgpo.stats.intervals import Interval
from vgpo.stats.power import detectable_by_sign_flips, detectable_difference
from vgpo.stats.seeds import (
    DIFFERENCE,
    NO_EFFECT,
    NOT_DECIDED,
    SMALL_DIFFERENCE,
    compare_arms,
    correct_p_values,
    mcnemar,
    paired_differences,
    seeds_needed,
    sign_flip_p_value,
    smallest_sign_flip_p_value,
    t_interval,
    verdict,
    wilson_interval,
)


def _runs(**arms):
    """A tidy table of runs out of lists of values, seeds counted from 0."""
    return pd.DataFrame(
        [
            {"method": method, "seed": seed, "value": value}
            for method, values in arms.items()
            for seed, value in enumerate(values)
        ]
    )


# t interval ------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_t_interval_is_scipys(count, confidence):
    values = np.random.default_rng(count).normal(0.5, 0.03, size=count)
    found = t_interval(values, confidence=confidence)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert found.value == pytest.approx(values.mean())
    assert found[1:3] == pytest.approx((low, high))
    assert found.count == count


@pytest.mark.parametrize("count", [3, 5, 8, 10])
def test_t_interval_holds_the_truth_in_19_of_20_samples(count):
    drawn = np.random.default_rng(10 + count).normal(0.01, 0.02, size=(4000, count))
    held = [low <= 0.01 <= high for _, low, high, _ in map(t_interval, drawn)]
    # Four standard errors of a share of .95 over 4,000 samples.
    assert abs(np.mean(held) - 0.95) < 0.014


def test_t_interval_of_one_seed_or_without_spread_has_no_ends():
    alone = t_interval([0.3])
    assert alone.value == 0.3 and alone.count == 1 and isnan(alone.low)
    # As floats these three differ in the last digit; as measurements they do not.
    for values in ([0.1 + 0.2, 0.3, 0.3], [0.0, 0.0]):
        same = t_interval(values)
        assert same.value == pytest.approx(values[-1])
        assert isnan(same.low) and isnan(same.high) and same.count == len(values)


@pytest.mark.parametrize("broken", [[], [[0.1, 0.2]], [0.1, np.nan], [0.1, inf]])
def test_seeds_without_a_value_are_an_error(broken):
    with pytest.raises(ValueError, match="values: must be"):
        t_interval(broken)
    with pytest.raises(ValueError, match="differences: must be"):
        sign_flip_p_value(broken)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_is_a_share(confidence):
    with pytest.raises(ValueError, match="confidence"):
        t_interval([1, 2], confidence=confidence)
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence=confidence)


# Pairs -----------------------------------------------------------------------


def test_series_are_paired_by_seed_arrays_by_order():
    arm = pd.Series([0.6, 0.4, 0.5], index=[3, 1, 2])
    other = pd.Series([0.1, 0.2, 0.3], index=[1, 2, 3])
    np.testing.assert_allclose(paired_differences(arm, other), [0.3, 0.3, 0.3])
    np.testing.assert_allclose(
        paired_differences(arm.to_numpy(), other.to_numpy()), [0.5, 0.2, 0.2]
    )


def test_differences_equal_but_for_rounding_are_equal():
    found = paired_differences([0.3, 0.015, 0.95], [0.295, 0.01, 0.945])
    assert len({0.3 - 0.295, 0.015 - 0.01, 0.95 - 0.945}) > 1
    assert np.ptp(found) == 0
    assert (paired_differences([0.0, 0.0], [0.0, 0.0]) == 0).all()


def test_unequal_seeds_are_named():
    arm = pd.Series([0.6, 0.4], index=[0, 1])
    with pytest.raises(ValueError, match=r"baseline: .* lacks \[1\] and has \[2\]"):
        paired_differences(arm, pd.Series([0.6, 0.4], index=[0, 2]))
    with pytest.raises(ValueError, match="baseline: need one per seed of values, 2"):
        paired_differences([0.6, 0.4], [0.5])
    with pytest.raises(ValueError, match=r"baseline: seeds \[1\] are there more"):
        paired_differences(arm, pd.Series([0.6, 0.4, 0.3], index=[0, 1, 1]))
    with pytest.raises(ValueError, match="baseline: give two Series"):
        paired_differences(arm, [0.6, 0.4])
    with pytest.raises(ValueError, match="baseline: must be finite"):
        paired_differences([0.6, 0.4], [0.6, np.nan])


# Sign flips ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "ways", "of"),
    [
        ([2.0], 2, 2),
        ([1.0, 1.0], 2, 4),
        # |sum| of the eight ways is 6, 4, 2, 0, twice each.
        ([1.0, 2.0, 3.0], 2, 8),
        ([-1.0, 2.0, 3.0], 4, 8),
        ([1.0, -2.0, 3.0], 6, 8),
        ([1.0, 2.0, -3.0], 8, 8),
        # Ties: +++-, and its like, 4 x 2, beside the two extremes.
        ([1.0, 1.0, 1.0, -1.0], 10, 16),
        ([0.0, 1.0, 1.0], 4, 8),
        ([0.02, 0.03, 0.01, 0.02, 0.04], 2, 32),
        ([0.0, 0.0, 0.0], 8, 8),
    ],
)
@pytest.mark.parametrize("scale", [1.0, -1.0, 1e-9, 1e6, 1 / 3])
def test_sign_flips_counted_by_hand(differences, ways, of, scale):
    assert sign_flip_p_value(np.array(differences) * scale) == ways / of


@pytest.mark.parametrize("count", range(1, 11))
def test_sign_flips_against_plain_enumeration(count):
    whole = np.random.default_rng(count).integers(-4, 6, size=count)
    sums = [
        abs(sum(sign * int(v) for sign, v in zip(signs, whole, strict=True)))
        for signs in itertools.product((1, -1), repeat=count)
    ]
    share = sum(s >= abs(int(whole.sum())) for s in sums) / len(sums)
    assert sign_flip_p_value(whole / 10) == pytest.approx(share)


def test_sign_flips_are_exact_up_to_16_then_drawn():
    values = np.random.default_rng(2).normal(0.4, 1, size=17)
    assert sign_flip_p_value(values[:16], seed=1) == sign_flip_p_value(values[:16])
    sums = np.zeros(1)
    for value in np.abs(values):  # all 2^17 sums, doubling
        sums = np.concatenate([sums + value, sums - value])
    exact = np.mean(np.abs(sums) >= abs(values.sum()) - 1e-9)
    drawn = [sign_flip_p_value(values, seed=seed) for seed in (0, 1)]
    assert drawn[0] != drawn[1]
    assert drawn[0] == sign_flip_p_value(values)
    error = 4 * sqrt(exact * (1 - exact) / seeds.RESAMPLES)
    assert drawn == pytest.approx([exact] * 2, abs=2 * error)


def test_sign_flip_test_keeps_its_level():
    drawn = np.random.default_rng(3).normal(size=(2000, 7))
    p_values = np.array([sign_flip_p_value(sample) for sample in drawn])
    # p is one of k / 64; P(p <= k / 64) is k / 64 where nothing differs.
    for level in (1 / 64, 3 / 64, 8 / 64, 0.5):
        error = 4 * sqrt(level * (1 - level) / 2000)
        assert abs(np.mean(p_values <= level + 1e-9) - level) < error


@pytest.mark.parametrize("count", [1, 2, 5, 6, 12])
def test_smallest_p_value_is_that_of_one_sign(count):
    values = np.random.default_rng(count).random(count) + 0.1
    assert sign_flip_p_value(values) == smallest_sign_flip_p_value(count)


def test_five_seeds_find_nothing_six_do():
    assert smallest_sign_flip_p_value(5) > 0.05 >= smallest_sign_flip_p_value(6)
    assert seeds_needed() == 6


@pytest.mark.parametrize("correction", ["holm", "benjamini-hochberg", "none"])
@pytest.mark.parametrize("arms", [1, 3, 8])
def test_seeds_needed_is_what_a_lone_difference_needs(arms, correction):
    count = seeds_needed(arms, correction)
    for n, found in ((count - 1, False), (count, True)):
        p_values = [2.0 ** (1 - n), *[1.0] * (arms - 1)]
        assert (correct_p_values(p_values, correction)[0] <= 0.05) == found
    with pytest.raises(ValueError, match="comparisons"):
        seeds_needed(0)
    with pytest.raises(ValueError, match="count"):
        smallest_sign_flip_p_value(0)


# Power -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "listed"),
    [(3, 3.27), (5, 1.69), (6, 1.44), (8, 1.16), (10, 1.0), (16, 0.75), (20, 0.67)],
)
def test_smallest_difference_found_is_as_listed(count, listed):
    found = detectable_difference(count)
    assert np.ceil(found * 100) / 100 == listed
    assert TTestPower().power(found, count, 0.05) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize(("count", "alpha"), [(2, 0.05), (5, 0.0025), (10, 0.05)])
def test_a_difference_so_large_is_found_four_times_in_five(count, alpha):
    effect = detectable_difference(count, alpha=alpha)
    drawn = np.random.default_rng(count).normal(effect, 1, size=(40_000, count))
    found = np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue <= alpha)
    assert found == pytest.approx(0.8, abs=0.008)  # four standard errors


@pytest.mark.parametrize(("count", "arms"), [(6, 1), (7, 2), (7, 3), (8, 4), (9, 9)])
def test_where_all_seeds_must_agree_the_power_is_a_product(count, arms):
    # Only one p-value is small enough: all n differences of one sign.
    assert 2 ** (1 - count) <= 0.05 / arms < 2 * 2 ** (1 - count)
    found = detectable_by_sign_flips(count, alpha=0.05 / arms)
    assert found == pytest.approx(stats.norm.ppf(0.8 ** (1 / count)), abs=0.04)


@pytest.mark.parametrize(
    ("count", "arms", "samples"), [(8, 1, 400), (10, 9, 300), (16, 9, 100)]
)
def test_the_verdict_finds_such_a_difference_four_times_in_five(count, arms, samples):
    effect = detectable_by_sign_flips(count, alpha=0.05 / arms)
    drawn = np.random.default_rng(count).normal(effect, 1, size=(samples, count))
    said = [
        seeds.verdict(seeds.t_interval(d), min(1, arms * sign_flip_p_value(d)))
        for d in drawn
    ]
    error = (0.8 * 0.2 / samples) ** 0.5
    assert said.count(DIFFERENCE) / samples == pytest.approx(0.8, abs=3.5 * error)


@pytest.mark.parametrize(("count", "arms"), [(1, 1), (5, 1), (6, 2), (7, 4), (8, 9)])
def test_where_no_p_value_is_small_enough_nothing_is_large_enough(count, arms):
    assert detectable_by_sign_flips(count, alpha=0.05 / arms) == inf
    least = smallest_sign_flip_p_value(count, arms)
    assert least > 0.05 and count < seeds_needed(arms)


def test_smallest_difference_in_units_and_at_its_limits():
    assert detectable_difference(6, 0.02) == pytest.approx(
        0.02 * detectable_difference(6)
    )
    assert detectable_difference(1) == inf
    assert detectable_difference(6, 0.0) == 0
    # 1.96 + 0.84 standard errors, where the spread is as good as known.
    assert detectable_difference(10_000) * 100 == pytest.approx(2.8016, abs=2e-3)
    for name, call in {
        "count": lambda: detectable_difference(0),
        "spread": lambda: detectable_difference(5, np.nan),
        "power": lambda: detectable_difference(5, power=0.04),
        "alpha": lambda: detectable_difference(5, alpha=0),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: must"):
            call()


# Several comparisons ---------------------------------------------------------


def test_holm_and_benjamini_hochberg_by_hand():
    p_values = [0.01, 0.04, np.nan, 0.03, 0.005]
    # Sorted .005 .01 .03 .04: Holm times 4 3 2 1, never falling.
    np.testing.assert_allclose(
        correct_p_values(p_values, "holm"), [0.03, 0.06, np.nan, 0.06, 0.02]
    )
    # Benjamini-Hochberg times 4/1 4/2 4/3 4/4, never rising from above.
    np.testing.assert_allclose(
        correct_p_values(p_values, "benjamini-hochberg"),
        [0.02, 0.04, np.nan, 0.04, 0.02],
    )
    np.testing.assert_array_equal(correct_p_values(p_values, "none"), p_values)
    assert np.isnan(correct_p_values([np.nan, np.nan], "holm")).all()
    assert p_values[0] == 0.01


def test_corrections_refuse_what_is_no_p_value():
    with pytest.raises(ValueError, match="p_values: must be in"):
        correct_p_values([0.5, 1.2], "holm")
    with pytest.raises(ValueError, match="p_values: must be one-dimensional"):
        correct_p_values([[0.5]], "holm")
    with pytest.raises(ValueError, match="correction: must be one of"):
        correct_p_values([0.5], "bonferroni")


# Verdicts --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "p_value", "margin", "said"),
    [
        (0.01, 0.03, None, None, DIFFERENCE),
        (-0.03, -0.01, None, None, DIFFERENCE),
        (0.01, 0.03, 0.05, None, DIFFERENCE),
        (0.01, 0.03, 0.0625, None, NOT_DECIDED),
        (0.01, 0.03, None, 0.02, DIFFERENCE),
        (0.01, 0.03, None, 0.04, SMALL_DIFFERENCE),
        (0.01, 0.03, 0.2, 0.04, NO_EFFECT),
        (-0.01, 0.03, None, None, NOT_DECIDED),
        (-0.01, 0.03, 0.01, None, NOT_DECIDED),
        (-0.01, 0.03, None, 0.03, NOT_DECIDED),
        (-0.01, 0.03, None, 0.031, NO_EFFECT),
        (-0.04, 0.03, None, 0.031, NOT_DECIDED),
        (0.0, 0.03, None, None, NOT_DECIDED),
        (np.nan, np.nan, 0.01, 0.5, NOT_DECIDED),
        (0.01, 0.03, np.nan, None, NOT_DECIDED),
    ],
)
def test_verdicts(low, high, p_value, margin, said):
    interval = Interval((low + high) / 2, low, high, 8)
    assert verdict(interval, p_value, margin=margin) == said
    assert said in seeds.VERDICTS


def test_equivalence_is_claimed_of_a_real_difference_once_in_forty_times_at_most():
    # The truth lies on the margin: "no effect" would be wrong.
    drawn = np.random.default_rng(5).normal(0.02, 0.01, size=(3000, 8))
    said = [verdict(t_interval(sample), margin=0.02) for sample in drawn]
    wrong = np.mean([s in (NO_EFFECT, SMALL_DIFFERENCE) for s in said])
    assert wrong == pytest.approx(0.025, abs=4 * sqrt(0.025 * 0.975 / 3000))


def test_verdicts_need_sense():
    interval = Interval(0.02, 0.01, 0.03, 3)
    with pytest.raises(ValueError, match="margin"):
        verdict(interval, margin=0)
    with pytest.raises(ValueError, match="p_value"):
        verdict(interval, 1.5)
    with pytest.raises(ValueError, match="alpha"):
        verdict(interval, alpha=5)


# Arms ------------------------------------------------------------------------


def test_arms_against_a_baseline():
    rng = np.random.default_rng(11)
    base = rng.normal(0.5, 0.05, size=10)
    runs = _runs(
        better=base + rng.normal(0.03, 0.01, size=10),
        dapo=base,
        same=base + 0.002 * np.array([1, -1] * 5) * rng.random(10),
        short=base[:3] + rng.normal(0.03, 0.001, size=3),
    ).sample(frac=1, random_state=0)  # the order of rows is no order of seeds
    table = compare_arms(runs, "dapo", margin=0.01)
    assert set(table.index) == {"better", "same", "short"}
    for arm, row in table.iterrows():
        mine = runs[runs["method"] == arm].set_index("seed")["value"]
        other = runs[runs["method"] == "dapo"].set_index("seed")["value"][mine.index]
        expected = stats.ttest_rel(mine, other).confidence_interval()
        assert (row["low"], row["high"]) == pytest.approx(tuple(expected))
        assert row["mean"] - row["baseline"] == pytest.approx(row["difference"])
        assert row["spread"] == pytest.approx((mine - other).std())
        assert row["seeds"] == len(mine)
        assert row["detectable"] == pytest.approx(
            row["spread"] * detectable_by_sign_flips(len(mine), alpha=0.05 / 3)
        )
    np.testing.assert_allclose(
        table["p_corrected"], correct_p_values(table["p_value"], "holm")
    )
    assert table["verdict"].to_dict() == {
        "better": DIFFERENCE,
        "same": NO_EFFECT,
        # The t interval is clear of 0, but three seeds are three coins.
        "short": NOT_DECIDED,
    }
    assert table.loc["short", "low"] > 0
    assert table.loc["short", "smallest_p"] == 0.75
    assert (table["correction"] == "holm").all()


def test_correction_changes_the_verdict_and_is_named():
    base = np.linspace(0.4, 0.6, 6)
    gain = np.array([0.02, 0.021, 0.019, 0.022, 0.018, 0.02])
    runs = _runs(dapo=base, a=base + gain, b=base + gain * [1, -1, 1, -1, 1, -1])
    holm = compare_arms(runs, "dapo")
    plain = compare_arms(runs, "dapo", correction="none")
    assert holm.loc["a", "p_value"] == plain.loc["a", "p_value"] == 1 / 32
    assert holm.loc["a", "verdict"] == NOT_DECIDED
    assert plain.loc["a", "verdict"] == DIFFERENCE
    assert (plain["correction"] == "none").all()
    assert plain.loc["a", "detectable"] == pytest.approx(
        gain.std(ddof=1) * detectable_by_sign_flips(6)
    )
    assert holm.loc["a", "detectable"] == inf  # six seeds of two arms find nothing


def test_another_column_may_be_compared():
    runs = _runs(dapo=[1, 2, 3], vgpo=[1, 3, 5]).rename(columns={"value": "reward"})
    assert compare_arms(runs, "dapo", value="reward").loc["vgpo", "difference"] == 1


def test_arms_without_spread_or_with_one_seed_are_not_decided():
    runs = _runs(dapo=[0.3, 0.7, 0.95], copy=[0.3, 0.7, 0.95], by=[0.295, 0.695, 0.945])
    table = compare_arms(runs, "dapo", margin=1.0)
    assert (table["verdict"] == NOT_DECIDED).all()
    assert table[["low", "high", "spread", "detectable"]].isna().all(axis=None)
    assert table.loc["copy", "p_value"] == 1
    one = compare_arms(_runs(dapo=[0.3, 0.7], vgpo=[0.5]), "dapo")
    assert one.loc["vgpo", "p_value"] == 1 and one.loc["vgpo", "seeds"] == 1
    assert one.loc["vgpo", "baseline"] == 0.3
    assert one.loc["vgpo", "verdict"] == NOT_DECIDED


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (_runs(dapo=[0.1]).drop(columns="seed"), r"runs: lacks the columns \['seed'\]"),
        (_runs(dapo=[0.1], vgpo=[0.1, 0.2]), r"runs: method 'vgpo' has seeds \[1\]"),
        (_runs(dapo=[0.1, 0.2], vgpo=[0.1, np.nan]), "runs: value of method 'vgpo'"),
        (_runs(vgpo=[0.1]), "baseline: no runs of 'dapo'"),
        (_runs(dapo=[0.1]), "runs: there is nothing but the baseline"),
        (pd.concat([_runs(dapo=[0.1], vgpo=[0.2])] * 2), "runs: method 'dapo' has .*"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(runs, message):
    with pytest.raises(ValueError, match=message):
        compare_arms(runs, "dapo")


def test_a_table_of_arms_that_do_nothing_finds_next_to_nothing():
    rng = np.random.default_rng(17)
    tables, found = 20, {"holm": 0, "none": 0}
    for _ in range(tables):
        base = rng.normal(size=10)
        arms = {f"arm{i}": base + rng.normal(size=10) for i in range(12)}
        for correction in found:
            table = compare_arms(
                _runs(dapo=base, **arms), "dapo", correction=correction
            )
            found[correction] += (table["verdict"] == DIFFERENCE).any()
    # Something false in 1 of 20 tables at most, against a third of them or so.
    assert found["holm"] <= 0.05 * tables + 3 * sqrt(0.05 * 0.95 * tables)
    assert found["none"] > 0.2 * tables


# Questions -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "count"), [(0, 5), (5, 5), (3, 10), (81, 263), (1, 1000)]
)
def test_wilson_interval_is_scipys(right, count):
    found = wilson_interval(right, count, confidence=0.9)
    expected = stats.binomtest(right, count).proportion_ci(0.9, method="wilson")
    assert found.value == right / count and found.count == count
    assert found[1:3] == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_wilson_interval_is_newcombes_example():
    # Newcombe (1998), Statistics in Medicine 17: 81 of 263.
    found = wilson_interval(81, 263)
    assert found[1:3] == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.5])
def test_wilson_interval_holds_the_truth_on_average_over_probabilities(probability):
    # Summed over what can come out, so exact; near nominal, by design on average.
    count = 40
    held = sum(
        stats.binom.pmf(k, count, probability)
        for k in range(count + 1)
        if wilson_interval(k, count).low
        <= probability
        <= wilson_interval(k, count).high
    )
    assert 0.92 < held < 0.98


def test_wilson_interval_needs_whole_counts():
    assert all(isnan(end) for end in wilson_interval(0, 0)[:3])
    for right, count in ((-1, 5), (6, 5), (0.5, 5)):
        with pytest.raises(ValueError, match="right: must be a whole number"):
            wilson_interval(right, count)


@pytest.mark.parametrize(("alone", "other"), [(6, 0), (5, 1), (9, 4), (3, 3)])
def test_mcnemar_is_a_binomial_test_of_the_disagreements(alone, other):
    first = [1] * alone + [0] * other + [1, 1, 0]
    second = [0] * alone + [1] * other + [1, 1, 0]
    found = mcnemar(first, second)
    assert found[:2] == (alone, other)
    assert found.p_value == pytest.approx(stats.binomtest(alone, alone + other).pvalue)


def test_mcnemar_without_disagreement_and_with_other_questions():
    assert mcnemar([1, 0, 1], [1, 0, 1]) == (0, 0, 1.0)
    assert mcnemar([], []) == (0, 0, 1.0)
    with pytest.raises(ValueError, match="second: need one per question"):
        mcnemar([1, 0], [1])
    with pytest.raises(ValueError, match="first: must be one-dimensional"):
        mcnemar([0.5, 1], [1, 1])
    with pytest.raises(ValueError, match="second: must be one-dimensional"):
        mcnemar([0, 1], [1, np.nan])
