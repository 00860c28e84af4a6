"""VPPO against its formula, written as a loop; which statistic is over what."""

import math

import pytest
import torch
from neighbours import (
    GROUP,
    assert_same_under_padding_and_split,
    k3_loop,
    rollouts,
    rows_of,
    shaped,
    step_of,
    tokens_of,
)

from vgpo.method.shaping import make_method
from vgpo.method.vppo import VPPO, trajectory_factors


def advantages_loop(batch, spread_over, mean_over, top, floor):
    """``top`` as a pair of whole numbers."""
    rows = range(len(batch.mask))
    depends, score = {}, {}
    for row in rows:
        places = tokens_of(batch, row)
        depends[row] = {
            t: max(
                0.0,
                k3_loop(
                    float(batch.signals["masked_log_probs"][row, t]),
                    float(batch.signals["log_probs"][row, t]),
                ),
            )
            for t in places
        }
        if places and batch.has_image[row]:
            score[row] = sum(depends[row].values()) / len(places)
    scaled = {}
    for row, value in score.items():
        peers = [score[i] for i in score if spread_over[i] == spread_over[row]]
        spread = max(peers) - min(peers)
        scaled[row] = (value - min(peers)) / spread if spread > 1e-6 else None
    out = torch.zeros(batch.mask.shape, dtype=torch.float64)
    for row in rows:
        places = tokens_of(batch, row)
        kept, factor = set(places), 1.0
        if row in score:
            number = math.ceil(len(places) * top[0] / top[1])
            ranked = sorted(places, key=lambda t: (-depends[row][t], t))
            kept = set(ranked[:number])
            peers = [scaled[i] or 0.0 for i in score if mean_over[i] == mean_over[row]]
            largest = floor + (1 - floor) / (sum(peers) / len(peers) + 1e-8)
            if scaled[row] is not None:
                factor = floor + scaled[row] * (largest - floor)
        for t in kept:
            out[row, t] = factor * float(batch.advantages[row])
    return out


def segments(batch, statistic, micro=5, mini=10):
    rows = range(len(batch.mask))
    if statistic == "group":
        return batch.group_ids.tolist(), batch.group_ids.tolist()
    if statistic == "batch":
        return [0 for _ in rows], [0 for _ in rows]
    return [i // mini for i in rows], [i // micro for i in rows]


@pytest.mark.parametrize("statistic", ["group", "batch", "micro_batch"])
@pytest.mark.parametrize(("top", "floor"), [((2, 5), 0.9), ((1, 1), 0.5)])
def test_advantages_are_their_formula(statistic, top, floor):
    batch = rollouts(seed=2)
    got = shaped(
        "vppo",
        batch,
        statistic=statistic,
        micro_batch=5,
        mini_batch=10,
        top_ratio=top[0] / top[1],
        floor=floor,
    )
    wanted = advantages_loop(batch, *segments(batch, statistic), top, floor)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-6)


def test_without_mask_and_factor_it_is_the_loss_itself():
    batch = rollouts()
    method = VPPO(top_ratio=1.0, floor=1.0, entropy=0.0)
    assert method.signals == frozenset()
    assert torch.equal(method.shape(batch).advantages, batch.advantages)
    assert method.extra_loss(step_of(batch, {})) is None


def test_mask_alone_leaves_kept_advantages_as_they_are():
    batch = rollouts()
    got, plain = shaped("vppo", batch, floor=1.0), shaped("dapo", batch)
    kept = got != 0
    assert torch.equal(got[kept], plain[kept])
    assert kept.sum() < (plain != 0).sum()


def test_default_does_not_depend_on_padding_or_on_other_groups():
    assert_same_under_padding_and_split("vppo")


def test_released_statistic_depends_on_the_micro_batch():
    """The departure: as released, a row's factor changes with what comes along."""
    batch = rollouts()
    released = {"statistic": "micro_batch", "top_ratio": 1.0}
    small, large = (
        shaped("vppo", batch, micro_batch=size, **released) for size in (2, 12)
    )
    assert not torch.allclose(small, large, atol=1e-3)
    group = slice(0, GROUP)
    alone = shaped("vppo", rows_of(batch, group), micro_batch=12, **released)
    assert not torch.allclose(alone, large[group], atol=1e-3)


@pytest.mark.parametrize("statistic", ["group", "batch", "micro_batch"])
def test_row_without_image_keeps_its_advantages(statistic):
    batch = rollouts()
    got = shaped("vppo", batch, statistic=statistic)
    assert torch.equal(got[2], shaped("dapo", batch)[2])


def test_one_outlier_gets_a_large_factor():
    depends = torch.zeros(16, 1)
    depends[0] = 1.0
    one = torch.zeros(16).long()
    everywhere = torch.ones(16).bool()
    factors = trajectory_factors(
        depends,
        everywhere[:, None],
        everywhere,
        spread_over=one,
        mean_over=one,
        floor=0.9,
    )
    assert float(factors[0]) == pytest.approx(2.5, abs=1e-4)
    assert float(factors.mean()) == pytest.approx(1.0, abs=1e-5)


def test_added_term_is_the_mean_log_probability():
    batch = rollouts()
    values = [
        float(batch.signals["log_probs"][row, t])
        for row in range(len(batch.mask))
        for t in tokens_of(batch, row)
    ]
    got = float(VPPO().extra_loss(step_of(batch, {})))
    assert got == pytest.approx(-0.06 * sum(values) / len(values), abs=1e-6)


def test_logs_say_what_is_kept():
    batch = rollouts()
    logs = make_method("vppo").shape(batch).logs
    assert 0.4 <= logs["vppo/kept_share"] < 0.6
    assert logs["vppo/kept_dependence"] > logs["vppo/dependence"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_ratio": 0.0}, r"top_ratio: must be in \(0, 1\]"),
        ({"floor": 0.0}, r"floor must be in \(0, 1\]"),
        ({"statistic": "device"}, "statistic must be one of"),
        ({"micro_batch": 0}, "micro_batch must be at least 1"),
        ({"entropy": -1.0}, "entropy must be at least 0"),
        ({"probability": 2.0}, r"probability must be in \[0, 1\]"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        make_method("vppo", settings)
