"""What is no number is refused by its name, in every setting of the statistics."""

from inspect import signature

import numpy as np
import pandas as pd
import pytest
import torch

from vgpo.stats import intervals, pairs, power, seeds
from vgpo.stats.forgetting import (
    accumulation_ratio,
    length_correlation,
    progress_profile,
)

RUNS = pd.DataFrame(
    {"method": ["dapo"] * 3 + ["vgpo"] * 3, "seed": [0, 1, 2] * 2, "value": range(6)}
)
ROWS = [0, 0, 1, 1]
MASS, MASK = torch.tensor([[0.4, 0.3, 0.2, 0.1]]), torch.ones(1, 4)
ALIKE = seeds.Interval(0.1, 0.0, 0.2, 3)

# Each with arguments that it takes; its settings are what is put in their place.
CALLS = {
    seeds.t_interval: {"values": [1, 2], "confidence": 0.9},
    seeds.wilson_interval: {"right": 1, "count": 2, "confidence": 0.9},
    seeds.sign_flip_p_value: {"differences": range(20), "resamples": 9, "seed": 0},
    seeds.smallest_sign_flip_p_value: {"count": 3, "comparisons": 2},
    seeds.seeds_needed: {"comparisons": 2, "alpha": 0.05},
    power.detectable_difference: {
        "count": 3, "spread": 1.0, "power": 0.8, "alpha": 0.05,
    },
    power.detectable_by_sign_flips: {
        "count": 3, "spread": 1.0, "power": 0.8, "alpha": 0.05,
    },
    seeds.verdict: {"interval": ALIKE, "p_value": 0.1, "margin": 0.1, "alpha": 0.05},
    seeds.compare_arms: {
        "runs": RUNS, "baseline": "dapo", "margin": 0.1, "alpha": 0.05, "seed": 0,
    },
    pairs.paired_shares_interval: {
        "first_only": 1, "second_only": 2, "count": 9, "confidence": 0.9,
    },
    intervals.mean_interval: {"values": [1, 2], "resamples": 9, "seed": 0},
    intervals.auroc_interval: {
        "scores": range(4), "positive": [0, 1] * 2, "rows": ROWS,
        "resamples": 9, "seed": 0,
    },
    intervals.correlation_interval: {
        "x": range(4), "y": range(4), "rows": ROWS, "resamples": 9, "seed": 0,
    },
    progress_profile: {"masses": MASS, "completion_mask": MASK, "bins": 2},
    accumulation_ratio: {"image_mass": MASS, "completion_mask": MASK, "split": 0.5},
    length_correlation: {
        "values": [0.1, 0.2, 0.4], "lengths": [1, 2, 3],
        "clusters": [0, 1, 2], "resamples": 9, "seed": 0,
    },
}  # fmt: skip
DATA = {"values", "differences", "scores", "x", "y", "positive", "rows", "lengths",
        "clusters", "runs", "baseline", "interval", "masses", "completion_mask",
        "image_mass"}  # fmt: skip
SETTINGS = [(call, name) for call, given in CALLS.items() for name in given
            if name not in DATA]  # fmt: skip


def named(value):
    return f"{value.__name__}" if callable(value) else str(value)


@pytest.mark.parametrize(("call", "setting"), SETTINGS, ids=named)
@pytest.mark.parametrize("wrong", ["0.95", "high", b"1", [], {}, np.nan])
def test_a_setting_that_is_no_number_is_named(call, setting, wrong):
    if setting == "p_value" and wrong is np.nan:
        pytest.skip("of what was not tested")
    given = CALLS[call]
    call(**given)
    with pytest.raises(ValueError, match=rf"^{setting}: must"):
        call(**given | {setting: wrong})


@pytest.mark.parametrize("call", CALLS, ids=named)
def test_every_number_among_the_settings_is_tried(call):
    numbers = {
        name
        for name, parameter in signature(call).parameters.items()
        if isinstance(parameter.default, int | float)
        and not isinstance(parameter.default, bool)
    }
    assert numbers <= set(CALLS[call])


@pytest.mark.parametrize(
    ("call", "data"),
    [
        (seeds.t_interval, "values"),
        (seeds.sign_flip_p_value, "differences"),
        (intervals.mean_interval, "values"),
        (intervals.auroc_interval, "scores"),
        (intervals.correlation_interval, "y"),
        (length_correlation, "values"),
    ],
    ids=named,
)
def test_text_among_the_data_is_named(call, data):
    given = CALLS[call]
    broken = ["many", *list(given[data])[1:]]
    with pytest.raises(ValueError, match=rf"^{data}: must be numbers"):
        call(**given | {data: broken})


def test_text_among_p_values_and_runs_is_named():
    with pytest.raises(ValueError, match=r"^p_values: must be numbers"):
        seeds.correct_p_values(["small", 0.1], "holm")
    runs = RUNS.assign(value=RUNS["value"].astype(object))
    runs.loc[0, "value"] = "many"
    with pytest.raises(ValueError, match=r"^runs: value: must be numbers"):
        seeds.compare_arms(runs, "dapo")


@pytest.mark.parametrize("count", [1.5, -1, np.inf])
def test_counts_are_whole(count):
    for name in ("first_only", "second_only", "count"):
        given = CALLS[pairs.paired_shares_interval] | {name: count}
        with pytest.raises(ValueError, match=rf"^{name}: must"):
            pairs.paired_shares_interval(**given)
