"""Methods side by side: what they ask for is what they cost, and what they change."""

import math

import pytest
import torch
from neighbours import rollouts
from tiny_training import GROUP, Scripted, train
from trl import GRPOTrainer

from vgpo.method.shaping import make_method
from vgpo.studies.neighbours import (
    NAMES,
    compare_shaped,
    method_table,
    passes_of,
    sampled_rollouts,
    shaped_by,
)


@pytest.mark.parametrize("whole_groups", [True, False])
@pytest.mark.parametrize("name", [*NAMES, "dapo"])
def test_a_method_takes_the_passes_that_the_table_says(
    name, whole_groups, tmp_path, monkeypatch
):
    passes = []
    original = GRPOTrainer._get_per_token_logps_and_entropies

    def counted(*arguments, **named):
        passes.append(torch.is_grad_enabled())
        return original(*arguments, **named)

    function = "_get_per_token_logps_and_entropies"
    monkeypatch.setattr(GRPOTrainer, function, counted)
    number = 2 if whole_groups else 4
    train(
        tmp_path,
        Scripted,
        method=name,
        max_steps=1,
        per_device_train_batch_size=2 * GROUP // number,
        gradient_accumulation_steps=number,
    )
    assert passes.count(False) == passes_of(
        make_method(name), whole_groups=whole_groups
    )


def test_table_has_a_row_for_every_method():
    table = method_table()
    assert list(table.index) == list(NAMES)
    assert not table.isna().any().any()
    assert table.loc["papo", "signal"] == "masked log-probability"
    assert not table["signal"].str.contains("_").any()
    assert "gamma=0.01" in table.loc["papo", "default"]


def test_base_is_left_as_it_is_and_vppo_zeroes():
    batch = rollouts()
    shaped = shaped_by(batch, ["dapo", "vppo", "entropy"])
    for values in shaped.values():
        assert values[~batch.mask].isnan().all()
        assert not values[batch.mask].isnan().any()
    table = compare_shaped(batch, shaped)
    assert table.loc["dapo"].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert 0.2 < table.loc["vppo", "zeroed"] < 0.6
    assert table.loc["entropy", "spread"] > 0


def test_papo_is_shown_by_its_advantage_on_policy():
    batch = rollouts()
    got = shaped_by(batch, ["papo"], papo={"gamma": 0.3})["papo"]
    signals = batch.signals
    for row, t in batch.mask.nonzero().tolist():
        wanted = float(batch.advantages[row])
        if batch.has_image[row]:
            gap = float(signals["masked_log_probs"][row, t])
            gap -= float(signals["log_probs"][row, t])
            if math.exp(gap) - gap - 1 <= 10:
                wanted += 0.3 * (1 - math.exp(gap))
        assert float(got[row, t]) == pytest.approx(wanted, abs=1e-5)


def test_sampled_rollouts_have_every_signal_and_are_the_same_again():
    first, second = (sampled_rollouts(prompts=2, rollouts=4) for _ in range(2))
    assert len(first.mask) == 8 and first.has_image.all()
    for name in NAMES:
        settings = {"spans": "reads"} if name == "srpo" else None
        assert make_method(name, settings).signals <= first.signals.keys()
    for name, values in first.signals.items():
        assert torch.equal(values, second.signals[name])
    gap = first.signals["log_probs"] - first.signals["masked_log_probs"]
    assert gap[first.mask].abs().max() > 0.1
