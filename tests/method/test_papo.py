"""PAPO against its formula, written as a loop."""

import math

import pytest
import torch
from neighbours import k3_loop, padded, rollouts, shaped, step_of, tokens_of

from vgpo.method.dependence import k3
from vgpo.method.papo import PAPO, papo_advantages
from vgpo.method.shaping import make_method


def loss_loop(batch, gamma, mask_entropy, entropy):
    total, number = 0.0, 0
    for row in range(len(batch.mask)):
        for t in tokens_of(batch, row):
            plain = float(batch.signals["log_probs"][row, t])
            masked = float(batch.signals["masked_log_probs"][row, t])
            if batch.has_image[row]:
                total -= gamma * k3_loop(masked, plain)
            total += mask_entropy * -masked + entropy * -plain
            number += 1
    return total / number


def extras_of(method, batch):
    return method.shape(batch).extras


@pytest.mark.parametrize("gap", [-30.0, -12.0, -1.0, 0.0, 0.5, 2.6, 2.7, 25.0])
def test_k3_is_its_formula_with_both_clamps(gap):
    got = k3(*torch.tensor([[gap - 1.0], [-1.0]], dtype=torch.float64))
    assert float(got) == pytest.approx(k3_loop(gap - 1.0, -1.0), abs=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"gamma": 0.02, "mask_entropy": 0.05, "entropy": 0.03},
        {"gamma": 0.02, "mask_entropy": 0.0, "entropy": 0.0},
        {"gamma": 0.0, "mask_entropy": 0.0, "entropy": 0.03},
        {"gamma": 0.0, "mask_entropy": 0.05, "entropy": 0.0},
    ],
)
def test_term_of_the_loss_is_its_formula(settings):
    batch, method = rollouts(), PAPO(**settings)
    got = method.extra_loss(step_of(batch, extras_of(method, batch)))
    assert float(got) == pytest.approx(loss_loop(batch, **settings), abs=1e-6)


def test_term_does_not_depend_on_padding():
    batch, method = rollouts(), PAPO()
    wide = padded(batch, 2, 3)
    first, second = (
        method.extra_loss(step_of(each, extras_of(method, each)))
        for each in (batch, wide)
    )
    torch.testing.assert_close(first, second)


def test_without_its_terms_it_is_the_loss_itself():
    batch = rollouts()
    method = PAPO(gamma=0.0, mask_entropy=0.0, entropy=0.0)
    assert method.signals == frozenset()
    assert method.extra_loss(step_of(batch, {})) is None
    assert torch.equal(method.shape(batch).advantages, batch.advantages)


def test_advantages_are_left_as_they_are():
    batch = rollouts()
    plain = shaped("dapo", batch)
    assert torch.equal(shaped("papo", batch), plain)
    assert torch.equal(shaped("papo_grpo", batch), plain)


def test_on_policy_its_term_is_an_additive_advantage():
    """Finite differences of the whole loss, in float64, against the closed form."""
    batch = rollouts(seed=4)
    gamma = 0.3
    method = PAPO(gamma=gamma, mask_entropy=0.0, entropy=0.0)
    plain = batch.signals["log_probs"].double()
    masked = batch.signals["masked_log_probs"].double()
    # One token beyond either clamp.
    masked[0, 0], masked[4, 0] = plain[0, 0] + 4, plain[4, 0] - 15
    extras = {"masked_log_probs": masked, "has_image": batch.has_image}
    number = int(batch.mask.sum())

    def loss(log_probs):
        ratio = (log_probs - plain).exp()
        surrogate = -(ratio * batch.advantages[:, None])[batch.mask].sum() / number
        return surrogate + method.extra_loss(step_of(batch, extras, log_probs))

    wanted = papo_advantages(batch.advantages.double(), masked, plain, gamma)
    wanted = torch.where(
        batch.has_image[:, None], wanted, batch.advantages.double()[:, None]
    )
    checked = 0
    for row in range(len(batch.mask)):
        for t in tokens_of(batch, row):
            moved = torch.zeros_like(plain)
            moved[row, t] = 1e-6
            slope = float(loss(plain + moved) - loss(plain - moved)) / 2e-6
            # In absolute terms: the difference of losses is known to 1e-16.
            assert -slope * number == pytest.approx(float(wanted[row, t]), abs=1e-6)
            checked += 1
    assert checked == number > 30
    assert wanted[0, 0] == batch.advantages[0]
    assert wanted[4, 0] == batch.advantages[4]


def test_what_the_image_makes_likelier_gains_at_most_gamma():
    batch = rollouts()
    signals = batch.signals
    bonus = papo_advantages(
        torch.zeros(len(batch.mask)),
        signals["masked_log_probs"],
        signals["log_probs"],
        0.02,
    )
    likelier = signals["masked_log_probs"] < signals["log_probs"]
    assert (bonus[likelier] > 0).all() and (bonus <= 0.02).all()
    assert (bonus[~likelier] <= 0).all()


def test_logs_are_means_over_tokens_with_an_image():
    batch, method = rollouts(), PAPO()
    batch.signals["masked_log_probs"][0, 0] = 2.0
    logs = method.loss_logs(step_of(batch, extras_of(method, batch)))
    values, contrast, clamped = [], [], []
    for row in range(len(batch.mask)):
        for t in tokens_of(batch, row) if batch.has_image[row] else []:
            gap = float(
                batch.signals["masked_log_probs"][row, t]
                - batch.signals["log_probs"][row, t]
            )
            values.append(k3_loop(gap, 0.0))
            contrast.append(-gap)
            clamped.append(math.exp(gap) - gap - 1 > 10)
    assert 0 < sum(clamped) < len(clamped)
    for name, numbers in (
        ("papo/k3", values),
        ("papo/contrast", contrast),
        ("papo/clamped_share", clamped),
    ):
        assert logs[name] == pytest.approx(sum(numbers) / len(numbers), abs=1e-5)


def test_it_asks_for_one_view_of_the_picture_per_prompt():
    settings = PAPO().signal_settings["masked_log_probs"]
    assert settings == {
        "probability": 0.6,
        "patch": 14,
        "per": "prompt",
        "on": "picture",
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": -0.1}, "gamma must be at least 0"),
        ({"entropy": -1.0}, "entropy must be at least 0"),
        ({"probability": 2.0}, r"probability must be in \[0, 1\]"),
        ({"patch": 0}, "patch must be at least 1"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        make_method("papo", settings)
