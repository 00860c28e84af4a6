"""Ragged rollouts for the tests of the neighbours, and how to change their shape."""

import math
from dataclasses import replace

import torch

from vgpo.method.shaping import LossStep, Rollouts, make_method

GROUP = 4
SIGNALS = (
    "log_probs",
    "masked_log_probs",
    "hidden_log_probs",
    "entropy",
    "layer_cosines",
    "perception",
)


def rollouts(seed=0, rows=3 * GROUP, length=7, progress=0.6):
    """Rows of 1 to 7 tokens, the third without image, the last with no token."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, length + 1, (rows, 1), generator=draw)
    lengths[1], lengths[-1] = 1, 0
    rewards = torch.randint(0, 2, (rows,), generator=draw).float()
    rewards[:GROUP] = torch.tensor([0.0, 1.0, 1.0, 0.0])
    rewards[GROUP : 2 * GROUP] = 1.0
    centred = rewards.view(-1, GROUP) - rewards.view(-1, GROUP).mean(1, keepdim=True)
    has_image = torch.ones(rows, dtype=torch.bool)
    has_image[2] = False
    log_probs = -3 * torch.rand(rows, length, generator=draw)
    change = torch.randn(rows, length, generator=draw)
    spans = torch.randint(-1, 2, (rows, length), generator=draw).float()
    spans[3] = -1.0
    return Rollouts(
        advantages=centred.flatten(),
        mask=torch.arange(length) < lengths,
        group_ids=torch.arange(rows) // GROUP,
        signals={
            "log_probs": log_probs,
            "masked_log_probs": log_probs + 2 * change,
            "hidden_log_probs": log_probs - change.abs(),
            "entropy": 2 * torch.rand(rows, length, generator=draw),
            "layer_cosines": torch.rand(rows, length, generator=draw) - 0.3,
            "perception": spans,
        },
        has_image=has_image,
        rewards=rewards,
        progress=progress,
    )


def padded(batch, left, right):
    """The same rollouts with more padding, which holds nonsense."""

    def pad(values, fill):
        sides = [
            values.new_full((len(values), number), fill) for number in (left, right)
        ]
        return torch.cat([sides[0], values, sides[1]], dim=1)

    return replace(
        batch,
        mask=pad(batch.mask, False),
        signals={name: pad(values, 99.0) for name, values in batch.signals.items()},
    )


def rows_of(batch, chosen):
    return replace(
        batch,
        advantages=batch.advantages[chosen],
        mask=batch.mask[chosen],
        group_ids=batch.group_ids[chosen],
        signals={name: values[chosen] for name, values in batch.signals.items()},
        has_image=batch.has_image[chosen],
        rewards=batch.rewards[chosen],
    )


def shaped(name, batch, **settings):
    """Advantages (B, T), 0 outside the mask."""
    out = make_method(name, settings).shape(batch).advantages
    wide = out[:, None] if out.ndim == 1 else out
    return torch.where(batch.mask, wide, 0)


def tokens_of(batch, row):
    """Places of a row's real tokens."""
    return batch.mask[row].nonzero().flatten().tolist()


def step_of(batch, extras, log_probs=None, **others):
    log_probs = batch.signals["log_probs"] if log_probs is None else log_probs
    return LossStep(
        log_probs=log_probs,
        entropy=others.pop("entropy", batch.signals["entropy"]),
        mask=batch.mask,
        extras=extras,
        progress=batch.progress,
        **others,
    )


def assert_same_under_padding_and_split(name, **settings):
    """Advantages do not depend on padding, nor on which groups come along."""
    batch = rollouts()
    whole = shaped(name, batch, **settings)
    wide = shaped(name, padded(batch, 2, 3), **settings)
    torch.testing.assert_close(wide[:, 2:-3], whole, rtol=1e-5, atol=1e-6)
    for group in range(len(batch.mask) // GROUP):
        chosen = slice(group * GROUP, (group + 1) * GROUP)
        alone = shaped(name, rows_of(batch, chosen), **settings)
        torch.testing.assert_close(alone, whole[chosen], rtol=1e-5, atol=1e-6)


def k3_loop(masked, plain):
    x = max(-20.0, min(20.0, masked - plain))
    return max(-10.0, min(10.0, math.exp(x) - x - 1))
