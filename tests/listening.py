"""A method that asks for signals and changes nothing, to see what a trainer gives.

And the same numbers once more, from one row alone.
"""

from dataclasses import dataclass, field

import torch
from tiny_training import Scripted, processor, split, train

from vgpo.method.shaping import Method, Shaped, register
from vgpo.models.probes import register_probe

LISTED = []
"""The rollouts that :class:`Listening` was given."""


@dataclass(frozen=True)
class Listening(Method):
    """Asks for signals and changes nothing."""

    asked: tuple[str, ...] = ()
    settings: dict = field(default_factory=dict, hash=False)

    @property
    def signals(self):
        return frozenset(self.asked)

    @property
    def signal_settings(self):
        return self.settings

    def shape(self, rollouts):
        LISTED.append(rollouts)
        return Shaped(rollouts.advantages)


def listen(folder, *asked, settings=None, trainer_class=Scripted, **options):
    """The rollouts of a run's first generation, and the trainer."""
    LISTED.clear()
    register("listening")(Listening)
    options = {"max_steps": 1, "learning_rate": 0.0} | options
    trainer = train(
        folder,
        trainer_class,
        method="listening",
        method_kwargs={"asked": asked, "settings": settings or {}},
        **options,
    )
    return LISTED[0], trainer


def logits_of(model, row, pixels=None, gradient=False):
    """Next-token logits of one row alone, at each token of its completion."""
    ids = torch.cat([row["prompt"], row["completion"]])[None]
    mask = torch.cat([torch.ones_like(row["prompt"]), row["mask"]])[None]
    image = {k: row[k] for k in ("pixel_values", "image_grid_thw") if k in row}
    if pixels is not None:
        image["pixel_values"] = pixels
    with torch.set_grad_enabled(gradient):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            mm_token_type_ids=(ids == processor().image_token_id).int(),
            **image,
        ).logits
    return logits[0, len(row["prompt"]) - 1 : -1]


def log_probs_of(model, row, pixels=None, gradient=False):
    """Of the tokens of its completion."""
    chosen = row["completion"][:, None]
    logits = logits_of(model, row, pixels, gradient)
    return logits.log_softmax(-1).gather(1, chosen)[:, 0]


def pairs(rollouts, trainer):
    """Rows of the rollouts with the same rows as the loss saw them, shuffled."""
    rows = [row for seen in trainer.seen for row in split(seen)]
    for i, mask in enumerate(rollouts.mask):
        wanted = rollouts.signals["number"][i]
        same = [
            row
            for row in rows
            if torch.equal(row["mask"].bool(), mask)
            and torch.equal(row["completion"][mask].float(), wanted[mask])
        ]
        assert len(same) == 1
        yield i, same[0]


def ids_as_a_signal():
    """A signal by which rows can be told: each token's own id."""
    register_probe("number")(lambda scored: scored.completion_ids.float())
