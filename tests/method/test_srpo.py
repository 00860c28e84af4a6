"""SRPO, our reading, against the formula we gave it, written as a loop."""

import math

import pytest
import torch
from neighbours import (
    assert_same_under_padding_and_split,
    rollouts,
    shaped,
    tokens_of,
)

from vgpo.method.shaping import make_method
from vgpo.method.srpo import SRPOOurReading, srpo_weights


def weights_loop(batch, row, temperature):
    """Weight of each scored token, by its place."""
    scores = {}
    for t in tokens_of(batch, row):
        kind = float(batch.signals["perception"][row, t])
        other = {1.0: "masked_log_probs", 0.0: "hidden_log_probs"}.get(kind)
        if other:
            plain = float(batch.signals["log_probs"][row, t])
            scores[t] = plain - float(batch.signals[other][row, t])
    kinds = [float(batch.signals["perception"][row, t]) for t in scores]
    if not batch.has_image[row] or 1.0 not in kinds or len(set(scores.values())) < 2:
        return {}
    mean = sum(scores.values()) / len(scores)
    squares = sum((s - mean) ** 2 for s in scores.values())
    std = math.sqrt(squares / len(scores))
    raw = {
        t: math.exp(temperature * math.tanh((s - mean) / (std + 1e-6)))
        for t, s in scores.items()
    }
    total = sum(raw.values())
    return {t: len(raw) * value / total for t, value in raw.items()}


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_advantages_are_our_formula(temperature):
    batch = rollouts()
    got = shaped("srpo", batch, temperature=temperature)
    weighted = 0
    for row in range(len(batch.mask)):
        weights = weights_loop(batch, row, temperature)
        weighted += bool(weights)
        for t in tokens_of(batch, row):
            wanted = float(batch.advantages[row]) * weights.get(t, 1.0)
            assert float(got[row, t]) == pytest.approx(wanted, abs=1e-5)
    assert weighted >= 5


def test_weights_are_positive_with_mean_1_and_keep_signs():
    batch = rollouts()
    scored = batch.mask & (batch.signals["perception"] >= 0)
    weights = srpo_weights(batch.signals["log_probs"], scored, 3.0)
    assert (weights > 0).all() and (weights[~scored] == 1).all()
    for row in range(len(scored)):
        if scored[row].any():
            assert float(weights[row][scored[row]].mean()) == pytest.approx(1, abs=1e-5)
    got, plain = shaped("srpo", batch), shaped("dapo", batch)
    assert torch.equal(got.sign(), plain.sign())


def test_equal_scores_are_the_loss_itself():
    batch = rollouts()
    for name in ("masked_log_probs", "hidden_log_probs"):
        batch.signals[name].copy_(batch.signals["log_probs"])
    assert torch.equal(shaped("srpo", batch), shaped("dapo", batch))


def test_without_temperature_it_asks_for_nothing():
    batch = rollouts()
    method = SRPOOurReading(temperature=0.0)
    assert method.signals == frozenset()
    assert torch.equal(method.shape(batch).advantages, batch.advantages)


def test_responses_without_spans_are_counted_and_left_as_they_are():
    batch = rollouts()
    got = make_method("srpo").shape(batch)
    unscored = [
        row for row in range(len(batch.mask)) if not weights_loop(batch, row, 1)
    ]
    # A row with a single scored token is scored, and has weight 1.
    assert len(unscored) >= round(12 * got.logs["srpo/no_spans_share"]) >= 3
    for row in (2, 3, 11):
        assert (got.advantages[row] == batch.advantages[row]).all()


def test_it_does_not_depend_on_padding_or_on_other_groups():
    assert_same_under_padding_and_split("srpo")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "temperature must be at least 0"),
        ({"probability": 2.0}, r"probability must be in \[0, 1\]"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        make_method("srpo", settings)
