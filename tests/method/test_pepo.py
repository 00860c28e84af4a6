"""PEPO against its formula, written as a loop; detached against released."""

import math
from dataclasses import replace

import pytest
import torch
from neighbours import (
    assert_same_under_padding_and_split,
    rollouts,
    shaped,
    step_of,
    tokens_of,
)

from vgpo.method.pepo import PEPO, PEPOOverGRPO, pepo_weights
from vgpo.method.shaping import make_method


def weights_loop(cosines, entropy, alpha, temperature):
    def min_max(values):
        spread = max(max(values) - min(values), 1e-6)
        return [(value - min(values)) / spread for value in values]

    both = [a + b for a, b in zip(min_max(cosines), min_max(entropy), strict=True)]
    mean = sum(both) / len(both)
    raw = [
        math.exp(v * (1 + alpha * math.tanh(m - mean)) / temperature)
        for v, m in zip(cosines, both, strict=True)
    ]
    return [len(raw) * value / sum(raw) for value in raw]


def all_weights(batch, alpha=0.05, temperature=1.8):
    out = torch.zeros(batch.mask.shape, dtype=torch.float64)
    for row in range(len(batch.mask)):
        places = tokens_of(batch, row)
        if not places:
            continue
        cosines, entropy = (
            batch.signals[name][row, places].tolist()
            for name in ("layer_cosines", "entropy")
        )
        weights = weights_loop(cosines, entropy, alpha, temperature)
        for t, weight in zip(places, weights, strict=True):
            out[row, t] = weight if batch.has_image[row] else 1.0
    return out


@pytest.mark.parametrize(("alpha", "temperature"), [(0.05, 1.8), (1.0, 0.3)])
@pytest.mark.parametrize("progress", [0.25, 1.0])
def test_advantages_are_their_formula(alpha, temperature, progress):
    batch = rollouts(progress=progress)
    got = shaped("pepo", batch, alpha=alpha, temperature=temperature)
    weights = all_weights(batch, alpha, temperature)
    wanted = batch.advantages[:, None] * (1 - progress + progress * weights)
    torch.testing.assert_close(
        got.double(), torch.where(batch.mask, wanted, 0), rtol=1e-5, atol=1e-6
    )


def test_at_the_beginning_it_is_the_loss_itself():
    batch = rollouts(progress=0.0)
    assert torch.equal(shaped("pepo", batch), shaped("dapo", batch))


def test_weights_have_mean_1_and_stay_near_it():
    batch = rollouts()
    weights = pepo_weights(
        batch.signals["layer_cosines"], batch.signals["entropy"], batch.mask
    )
    means = weights.sum(dim=1)[:-1] / batch.mask.sum(dim=1)[:-1]
    torch.testing.assert_close(means, torch.ones_like(means))
    assert (weights[-1] == 0).all()
    spread = float(weights[batch.mask].max() / weights[batch.mask].min())
    # Cosines of these rollouts spread over 1.
    assert 1.0 < spread < math.exp(1.05 / 1.8 + 0.1)


def test_it_does_not_depend_on_padding_or_on_other_groups():
    assert_same_under_padding_and_split("pepo")


def released_gradient(batch, method, cosines, entropy):
    """Of the added term, for cosines and entropy."""
    inputs = [values.double().requires_grad_() for values in (cosines, entropy)]
    step = step_of(
        batch,
        method.shape(batch).extras,
        entropy=inputs[1],
        signals={"layer_cosines": inputs[0]},
    )
    extra = method.extra_loss(step)
    assert float(extra.detach()) == 0.0
    extra.backward()
    return [each.grad for each in inputs]


@pytest.mark.parametrize("kind", [PEPO, PEPOOverGRPO])
def test_released_adds_the_gradient_through_the_weights(kind):
    """Finite differences of A (1 - p + p w), averaged as the loss is."""
    batch = rollouts(progress=0.6)
    method = kind(alpha=1.0, temperature=0.5, variant="released")
    signals = [batch.signals[name].double() for name in ("layer_cosines", "entropy")]
    number = int(batch.mask.sum())
    counts = batch.mask.sum(dim=1, keepdim=True).clamp(min=1)

    def loss(cosines, entropy):
        changed = replace(batch, signals={"layer_cosines": cosines, "entropy": entropy})
        weights = all_weights(changed, 1.0, 0.5)
        tokens = -0.6 * batch.advantages.double()[:, None] * weights
        tokens = torch.where(batch.mask, tokens, 0)
        if kind is PEPO:
            return tokens.sum() / number
        return (tokens / counts).sum() / len(tokens)

    gradients = released_gradient(batch, method, *signals)
    assert all((gradient[2] == 0).all() for gradient in gradients)
    # Not at a row's least or largest value, where min-max has a kink.
    for which, gradient in enumerate(gradients):
        checked = 0
        for row, t in [(0, 1), (3, 0), (3, 1), (8, 2), (9, 1), (10, 0)]:
            if not batch.mask[row, t] or batch.advantages[row] == 0:
                continue
            moved = torch.zeros_like(signals[0])
            moved[row, t] = 1e-5
            up, down = (
                [s + sign * moved if i == which else s for i, s in enumerate(signals)]
                for sign in (1, -1)
            )
            slope = float(loss(*up) - loss(*down)) / 2e-5
            assert float(gradient[row, t]) == pytest.approx(slope, abs=1e-6)
            checked += 1
        assert checked >= 3


def test_detached_and_released_have_the_same_advantages():
    batch = rollouts()
    assert torch.equal(shaped("pepo", batch), shaped("pepo", batch, variant="released"))
    assert PEPO().extra_loss(step_of(batch, {})) is None
    assert PEPO().loss_signals == frozenset()
    assert PEPO(variant="released").loss_signals == {"layer_cosines"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -0.1}, "alpha must be at least 0"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"variant": "paper"}, "variant must be one of"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        make_method("pepo", settings)
