"""What a training starts from: a world's cold start, as shipped or in other words.

The shipped cold starts put a filler word after about every third step. ``terse`` and
``wordy`` are the same models after a short supervised training on chains without any,
and with many, all else equal: the premise of the paper is that most tokens of a long
answer bear on nothing.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from vgpo.studies.provenance import digest
from vgpo.testbed.cold_start import (
    COLD_STARTS,
    ColdStartConfig,
    encoded_batches,
    teaching_loss,
    train,
)
from vgpo.testbed.model import CHECKPOINTS, load_tiny

WORDINGS: Mapping[str, float | None] = {"shipped": None, "terse": 0.0, "wordy": 0.6}
"""Chance that a filler word follows a step, then another; None as shipped."""

STEPS = 120
"""Of the supervised training into another wording."""

_RATE = 3e-4


def start_folder(world: str, wording: str, starts: Path) -> Path:
    """Where a cold start is: in the package, or among those made before.

    That of a world whose checkpoint is not shipped is made as the package would have
    shipped it.
    """
    if wording != "shipped":
        return starts / f"{world}-{wording}"
    return CHECKPOINTS[world] if world in CHECKPOINTS else starts / world


def start_digest(folder: Path) -> str:
    """Which weights a training started from."""
    return digest(folder / "model.safetensors")


def make_start(world: str, wording: str, folder: Path, steps: int = STEPS) -> None:
    """Teaches a world's cold start another wording, and saves it; or makes the cold
    start of a world of which none is shipped.

    Args:
        world: A name of ``vgpo.testbed.WORLDS``.
        wording: A name of :data:`WORDINGS`; ``"shipped"`` for a cold start that is not,
            and only that for such a world.
        folder: Of the new checkpoint; it need not be there.
        steps: Optimiser steps into another wording.
    """
    if wording == "shipped":
        # Examples are drawn ahead by as many processes as do nothing else then.
        train(COLD_STARTS[world](), folder, workers=max(1, (os.cpu_count() or 1) - 2))
        return
    config = _config(world, wording, steps)
    model, processor = load_tiny(world)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95)
    )
    # The last stage: pictures of the world's own sizes.
    stream = encoded_batches(config, processor, 0, len(config.stages) - 1)
    model.train()
    for step in range(config.steps):
        batch, examples = next(stream)
        labels = batch.pop("labels")
        loss = teaching_loss(
            model(**batch).logits, labels, examples, config.image_weight
        )
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.eval().save_pretrained(folder)
    # A fresh one: the processor in use remembers its last padding.
    load_tiny(world)[1].save_pretrained(folder)


def _config(world: str, wording: str, steps: int) -> ColdStartConfig:
    """The settings of the world's own cold start, with another wording."""
    about = json.loads((CHECKPOINTS[world] / "cold_start.json").read_text())
    shipped = COLD_STARTS[world](**about["config"])
    return replace(
        shipped,
        verbosity=WORDINGS[wording],
        steps=steps,
        learning_rate=_RATE,
        warmup_steps=20,
        decay_steps=steps // 2,
        # Examples that the cold start did not see.
        seed=shipped.seed + 17,
    )
