"""GPG against its formula, and its gradient against TRL's loss of the preset."""

import statistics

import pytest
import torch
from neighbours import GROUP, rollouts, shaped, tokens_of

from vgpo.method.gpg import GPG, useful_share
from vgpo.method.shaping import make_method


def share_loop(rewards):
    groups = [rewards[i : i + GROUP] for i in range(0, len(rewards), GROUP)]
    useful = [statistics.stdev(group) > 1e-5 for group in groups]
    return sum(useful) / len(useful)


def test_advantages_are_divided_by_the_share_of_useful_groups():
    batch = rollouts()
    share = share_loop(batch.rewards.tolist())
    assert 0 < share < 1
    got = make_method("gpg").shape(batch)
    assert got.logs == {"gpg/useful_share": pytest.approx(share)}
    for row, advantage in enumerate(batch.advantages.tolist()):
        wanted = advantage / (share + 1e-5)
        assert float(got.advantages[row]) == pytest.approx(wanted, abs=1e-6)


def test_without_scale_it_is_the_loss_itself():
    batch = rollouts()
    got = GPG(scale=False).shape(batch).advantages
    assert torch.equal(got, batch.advantages)


def test_gradient_is_that_of_the_loss_of_the_preset():
    """GPG's own loss, a loop over tokens, and TRL's with ratio 1."""
    batch = rollouts()
    own = batch.signals["log_probs"].double().requires_grad_()
    share = share_loop(batch.rewards.tolist())
    total = 0.0
    for row in range(len(batch.mask)):
        places = tokens_of(batch, row)
        for t in places:
            advantage = float(batch.advantages[row]) / (share + 1e-5)
            total = total - own[row, t] * advantage / len(places)
    (total / len(batch.mask)).backward()

    preset = GPG().preset
    assert (preset["loss_type"], preset["beta"]) == ("grpo", 0.0)
    assert preset["scale_rewards"] == "none"
    other = batch.signals["log_probs"].double().requires_grad_()
    ratio = (other - other.detach()).exp()
    advantages = shaped("gpg", batch).double()
    clipped = ratio.clamp(0.8, 1.2)
    losses = -torch.min(ratio * advantages, clipped * advantages)
    counts = batch.mask.sum(dim=1).clamp(min=1)
    ((losses * batch.mask).sum(dim=1) / counts).mean().backward()
    torch.testing.assert_close(own.grad, other.grad, rtol=1e-5, atol=1e-7)
    assert own.grad.abs().max() > 0


def test_groups_with_one_row_or_without_reward_are_of_no_use():
    rewards = torch.tensor([1.0, torch.nan, 0.0, 0.0, 1.0])
    assert useful_share(rewards, torch.tensor([0, 0, 1, 2, 2])) == pytest.approx(1 / 3)


def test_without_any_useful_group_nothing_is_scaled():
    batch = rollouts()
    batch.rewards.fill_(1.0)
    got = make_method("gpg").shape(batch).advantages
    assert torch.equal(got, batch.advantages)


def test_wrong_setting_is_refused_by_name():
    with pytest.raises(ValueError, match="scale must be True or False"):
        make_method("gpg", {"scale": 1})
