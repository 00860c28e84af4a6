"""Methods as plug-ins: the registry, its messages, and those that come with it."""

from dataclasses import dataclass

import pytest
import torch

from vgpo.method import released, reweighting
from vgpo.method.compensation import compensate
from vgpo.method.shaping import (
    METHODS,
    Method,
    Rollouts,
    Shaped,
    check_shaped,
    make_method,
    register,
)

GROUP = 4


@pytest.fixture(autouse=True)
def registry():
    """What a test registers is gone after it."""
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def rollouts(rows=2 * GROUP, length=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (rows, 1), generator=draw)
    mask = torch.arange(length) < lengths
    focus = torch.rand(rows, length, generator=draw) * mask
    focus[0] = 0  # a row without image
    return Rollouts(
        advantages=torch.randn(rows, generator=draw),
        mask=mask,
        group_ids=torch.arange(rows) // GROUP,
        signals={"focus": focus},
        has_image=focus.any(dim=1),
        rewards=torch.zeros(rows),
    )


@dataclass(frozen=True)
class Doubling(Method):
    factor: float = 2.0

    def __post_init__(self):
        if self.factor < 0:
            raise ValueError(f"factor must be at least 0, got {self.factor}")

    def shape(self, rollouts):
        return Shaped(self.factor * rollouts.advantages)


def test_registered_method_is_made_with_its_settings():
    assert register("doubling")(Doubling) is Doubling
    assert make_method("doubling") == Doubling()
    assert make_method("doubling", {"factor": 3.0}) == Doubling(3.0)


def test_what_a_method_need_not_say():
    method = Doubling()
    assert method.signals == frozenset()
    assert method.signal_settings == {}
    assert method.preset == {}
    assert method.extra_loss(None) is None


def test_unknown_method_names_the_known_ones():
    with pytest.raises(ValueError, match=r"method must be one of.*'dapo'.*got 'ppo'"):
        make_method("ppo")


def test_unknown_setting_names_the_known_ones():
    register("doubling")(Doubling)
    with pytest.raises(ValueError, match=r"'doubling' has no setting 'beta', only fac"):
        make_method("doubling", {"beta": 1})
    with pytest.raises(ValueError, match=r"'dapo' has no setting 'beta', nor any"):
        make_method("dapo", {"beta": 1})


def test_setting_out_of_range_names_the_method():
    register("doubling")(Doubling)
    with pytest.raises(ValueError, match=r"'doubling': factor must be at least 0"):
        make_method("doubling", {"factor": -1.0})


def test_taken_name_is_refused_unless_it_is_the_same_cell_again():
    register("doubling")(Doubling)
    register("doubling")(Doubling)
    with pytest.raises(ValueError, match=r"a method 'vgpo' already, VGPO of vgpo"):
        register("vgpo")(Doubling)


def test_settings_that_can_change_are_refused():
    @dataclass
    class Loose(Method):
        pass

    class NoDataclass(Method):
        pass

    for method in (Loose, NoDataclass):
        with pytest.raises(TypeError, match="must be a frozen dataclass"):
            register("loose")(method)


@pytest.mark.parametrize("name", ["grpo", "dapo"])
def test_plain_methods_leave_advantages_as_they_are(name):
    batch = rollouts()
    assert torch.equal(make_method(name).shape(batch).advantages, batch.advantages)


def test_vgpo_is_equation_5_to_12():
    batch = rollouts()
    focus, mask, groups = batch.signals["focus"], batch.mask, batch.group_ids
    weights = compensate(focus, mask, strength=0.5, schedule="step")
    wanted = reweighting.reweight_advantages(
        batch.advantages,
        reweighting.intra_trajectory_weights(weights, mask),
        reweighting.inter_trajectory_weights(weights, mask, groups, "mean"),
    )
    method = make_method(
        "vgpo", {"strength": 0.5, "schedule": "step", "accumulation": "mean"}
    )
    shaped = method.shape(batch)
    assert torch.equal(shaped.advantages, wanted)
    assert shaped.logs["visual/gate_rate"] > 0
    assert (shaped.advantages[0] == batch.advantages[0]).all()


def test_vgpo_without_both_terms_asks_for_nothing():
    method = make_method("vgpo", {"intra": False, "inter": False})
    batch = rollouts()
    assert method.signals == frozenset()
    assert torch.equal(method.shape(batch).advantages, batch.advantages)


def test_vgpo_asks_for_its_alignment():
    method = make_method("vgpo", {"alignment": "prediction"})
    assert method.signals == {"focus"}
    assert method.signal_settings == {"focus": {"alignment": "prediction"}}


def test_results_that_cannot_be_trained_on_are_refused():
    batch = rollouts()
    good, wide = batch.advantages, torch.zeros(batch.mask.shape)
    check_shaped(Shaped(wide, extras={"seen": good}), batch, "Mine")
    for shaped, message in (
        (Shaped(good[:, None]), r"Mine.shape gave advantages of shape \(8, 1\)"),
        (Shaped(good, extras={"seen": wide.T}), r"gave seen of shape \(6, 8\)"),
        (Shaped(good / 0), "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            check_shaped(shaped, batch, "Mine")


def test_vgpo_logs_what_its_factors_do():
    batch = rollouts()
    logs = make_method("vgpo").shape(batch).logs
    weights = compensate(batch.signals["focus"], batch.mask)
    psi = reweighting.intra_trajectory_weights(weights, batch.mask)
    negative, early, late = [], [], []
    for row in range(1, len(batch.mask)):
        length = int(batch.mask[row].sum())
        for t in range(length):
            negative.append(float(batch.signals["focus"][row, t]) < 0.5)
            half = early if 2 * (t + 1) <= length else late
            half.append(1 + float(psi[row, t]))
    share = sum(negative) / len(negative)
    assert logs["visual/cosine_negative_fraction"] == pytest.approx(share)
    ratio = sum(late) / len(late) / (sum(early) / len(early))
    assert logs["visual/factor_late_early"] == pytest.approx(ratio, abs=1e-5)
    assert "visual/psi_clamped_share" not in logs


def test_released_vgpo_logs_what_its_clamps_hold_back():
    batch = rollouts()
    method = make_method("vgpo", {"variant": "released", "strength": 4.0})
    logs = method.shape(batch).logs
    factors = released.factors_from_cosines(
        torch.where(batch.mask, 2 * batch.signals["focus"] - 1, 0),
        batch.mask,
        has_image=batch.has_image,
        strength=4.0,
        start_ratio=0.5,
        top_ratio=0.2,
        schedule="linear",
        gated=True,
        num_generations=GROUP,
    )
    seen = batch.mask & batch.has_image[:, None]
    tokens = [
        f in (pytest.approx(0.1), 2.0) for f in factors.intra_factor[seen].tolist()
    ]
    rows = [
        f in (pytest.approx(0.9), 2.0)
        for f in factors.inter_factor[batch.has_image].tolist()
    ]
    assert 0 < sum(rows) < len(rows)
    share = sum(tokens) / len(tokens)
    assert logs["visual/psi_clamped_share"] == pytest.approx(share)
    assert logs["visual/phi_clamped_share"] == pytest.approx(sum(rows) / len(rows))


@pytest.mark.parametrize(
    ("name", "settings", "nearest"),
    [
        ("entropie", {}, "entropy"),
        ("PAPO", {}, "papo"),
        ("vppo", {"top_ration": 0.3}, "top_ratio"),
        ("vgpo", {"align": "token"}, "alignment"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(name, settings, nearest):
    with pytest.raises(ValueError, match=rf"; did you mean '{nearest}'\?$"):
        make_method(name, settings)


def test_a_name_that_is_near_to_none_is_answered_without():
    with pytest.raises(ValueError, match=r"got 'xyz'$"):
        make_method("xyz")
