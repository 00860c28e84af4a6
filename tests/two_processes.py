"""Trains as one of several processes and writes down what every batch was.

    RANK=0 WORLD_SIZE=2 ... python tests/two_processes.py FOLDER

``record`` does the same in a process of its own, for comparison.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tiny_training import GROUP, Scripted, rows_of, train

import vgpo.method.visual
from vgpo.method.shaping import register
from vgpo.method.visual import VGPO
from vgpo.training.trainer import PLACE

GROUPS = 3
LOGGED = ("visual/", "dynamic_sampling/", "vppo/")
FAMILIES = ["sum", "text", "count", "sum", "text", "count"] * 2

SETTINGS = {
    "plain": {},
    "dynamic sampling": {
        "dynamic_sampling": True,
        "dynamic_sampling_lower_bound": 0.4,
        "dynamic_sampling_upper_bound": 0.6,
        "dynamic_sampling_max_attempts": 20,
    },
    "dynamic sampling, attempts used up": {
        "dynamic_sampling": True,
        # Between two of the possible means: no group ever qualifies.
        "dynamic_sampling_lower_bound": 0.9999,
        "dynamic_sampling_upper_bound": 1.0,
        "dynamic_sampling_max_attempts": 2,
    },
    "dynamic sampling, old log-probabilities": {
        "dynamic_sampling": True,
        "dynamic_sampling_lower_bound": 0.4,
        "dynamic_sampling_upper_bound": 0.6,
        "dynamic_sampling_max_attempts": 3,
        "num_iterations": 2,
    },
    "two signals, one before a masked image": {"method": "contrast"},
    "two signals, dynamic sampling": {
        "method": "contrast",
        "dynamic_sampling": True,
        "dynamic_sampling_lower_bound": 0.4,
        "dynamic_sampling_upper_bound": 0.6,
        "dynamic_sampling_max_attempts": 3,
    },
    # Its term is a mean over a process's own micro-batch, so steps differ: none here.
    "PAPO": {"method": "papo", "learning_rate": 0.0},
    "VPPO, dynamic sampling": {
        "method": "vppo",
        "method_kwargs": {"floor": 0.1},
        "dynamic_sampling": True,
        "dynamic_sampling_lower_bound": 0.4,
        "dynamic_sampling_upper_bound": 0.6,
        "dynamic_sampling_max_attempts": 3,
    },
    "entropy shaping": {"method": "entropy", "method_kwargs": {"alpha": 5.0}},
    # Two processes have other groups in a micro-batch than one.
    "micro-batches of whole groups": {"groups": 4, "gradient_accumulation_steps": 2},
}
FOCUSED = [
    n
    for n, f in SETTINGS.items()
    if f.get("method", "vgpo") in ("vgpo", "contrast") and "groups" not in f
]
"""Those in which VGPO has a part, and sees all groups at once."""


@register("contrast")
@dataclass(frozen=True)
class Contrast(VGPO):
    """VGPO, and more where a token is less likely before a masked image."""

    @property
    def signals(self):
        return super().signals | {"log_probs", "masked_log_probs"}

    def shape(self, rollouts):
        shaped = super().shape(rollouts)
        signals = rollouts.signals
        gap = (signals["log_probs"] - signals["masked_log_probs"]) * rollouts.mask
        return replace(shaped, advantages=shaped.advantages * (1 + gap.tanh()))


class Recording(Scripted):
    """Keeps each generation as it is shaped, its rows in the order of generation."""

    def __init__(self, *others, **named):
        super().__init__(*others, **named)
        self.placed: list[tuple[int, dict]] = []

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        if PLACE not in batch:
            self.recorded.append(self._rows(batch))
        return batch

    def _compute_loss(self, model, inputs):
        place = inputs.get(PLACE)
        loss = super()._compute_loss(model, inputs)
        if place is not None:
            pairs = zip(place.tolist(), self._rows(inputs), strict=True)
            self.placed = sorted([*self.placed, *pairs], key=lambda placed: placed[0])
            if len(self.placed) == self.args.generation_batch_size // (
                self.accelerator.num_processes
            ):
                self.recorded.append([row for _, row in self.placed])
                self.placed = []
        return loss

    def _rows(self, batch):
        rows = []
        for i, mask in enumerate(batch["completion_mask"].bool()):

            def of_tokens(values, i=i, mask=mask):
                """A number per token, where all of a row may have the same."""
                return values[i].expand(len(mask))[mask].tolist()

            rows.append(
                {
                    "completion": batch["completion_ids"][i][mask].tolist(),
                    "advantages": of_tokens(batch["advantages"]),
                    "extras": {
                        key: of_tokens(values)
                        for key, values in batch.items()
                        if key.startswith("extra:")
                    },
                    "images": batch["num_images"][i],
                    "items": int(batch["num_items_in_batch"]),
                }
            )
        return rows


def record(folder: Path, processes: int) -> dict:
    out = {}
    original = vgpo.method.visual.visual_factors
    for name, fields in SETTINGS.items():
        fields = dict(fields)
        groups = fields.pop("groups", GROUPS)
        parts = fields.get("gradient_accumulation_steps", 1)
        factors = []

        def noted(*arguments, factors=factors):
            result = original(*arguments)
            factors.append([result.psi.tolist(), result.phi.tolist()])
            return result

        vgpo.method.visual.visual_factors = noted
        Recording.recorded = []
        try:
            trainer = train(
                folder / name,
                Recording,
                train_dataset=rows_of(*FAMILIES),
                per_device_train_batch_size=groups * GROUP // processes // parts,
                max_steps=2 * fields.get("num_iterations", 1),
                **{"learning_rate": 1e-3, "loss_type": "dapo"} | fields,
            )
        finally:
            vgpo.method.visual.visual_factors = original
        weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
        out[name] = {
            "batches": Recording.recorded,
            "factors": factors,
            "calls": trainer.calls,
            "log": [
                {k: v for k, v in row.items() if k.startswith(LOGGED)}
                for row in trainer.state.log_history
            ],
            "weights": [float(weights.mean()), float(weights.std())],
        }
    return out


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    result = record(folder, processes=2)
    rank = torch.distributed.get_rank()
    (folder / f"rank{rank}.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()
