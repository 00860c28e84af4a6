"""Resuming: a run that was stopped goes on as if it had not been.

Beside what Transformers keeps in a checkpoint, three things are needed: the rollouts
that are still in use (a generation serves several optimizer steps), the order of the
rows in the epoch that was interrupted, and weights that are found by their names.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import PreTrainedModel

from vgpo.training.rollouts import load_batches, save_batches


class SamplerOfEpoch(Sampler):
    """TRL's sampler, wound forward to the epoch at hand.

    A resumed run builds its sampler anew, and TRL's would begin with the order of the
    first epoch whatever epoch it is. May go when
    ``test_sampler_begins_anew_with_the_first_epoch`` fails.

    Args:
        sampler: TRL's.
        epoch: Gives the number of epochs that are behind.
    """

    def __init__(self, sampler: Sampler, epoch: Callable[[], int]):
        self._sampler, self._epoch = sampler, epoch

    def __iter__(self):
        if self._sampler.shuffle:
            # One permutation is drawn per epoch, all from one generator: those of
            # the epochs behind are drawn and dropped.
            generator = self._sampler.generator.manual_seed(self._sampler.seed)
            for _ in range(self._epoch()):
                torch.randperm(self._sampler.num_samples, generator=generator)
        return iter(self._sampler)

    def __len__(self):
        return len(self._sampler)


def load_weights(model: PreTrainedModel, checkpoint: str | Path) -> None:
    """All weights of a checkpoint into ``model``, by their names on the hub.

    Trainer reads them without translating, finds none of a vision-language model's
    weights, and goes on from the untrained ones with a warning. May go when
    ``test_checkpoints_have_other_weight_names_than_the_model`` fails.
    """
    saved = type(model).from_pretrained(
        checkpoint, dtype=model.dtype, local_files_only=True
    )
    model.load_state_dict(saved.state_dict())


def save_rollouts(
    checkpoint: str | Path,
    rank: int,
    batches: list[dict[str, Any]],
    notes: dict[str, Any],
) -> None:
    """Writes one process's rollouts in use, and ``notes``, into a checkpoint.

    Args:
        checkpoint: Its folder.
        rank: The process.
        batches: Micro-batches; empty where none is in use.
        notes: Of numbers, texts, lists and dictionaries.
    """
    save_batches(_rollouts_file(checkpoint, rank), batches, notes)


def load_rollouts(
    checkpoint: str | Path, rank: int, processes: int, device: torch.device
) -> tuple[list[dict[str, Any]], dict[str, Any]] | None:
    """What :func:`save_rollouts` wrote, or None where it is of no use.

    That is in the checkpoint of another trainer, and in that of a run on another
    number of processes, whose shares of a batch were others.
    """
    path = _rollouts_file(checkpoint, rank)
    if not path.exists():
        return None
    batches, notes = load_batches(path, device)
    return (batches, notes) if notes["processes"] == processes else None


def _rollouts_file(checkpoint: str | Path, rank: int) -> Path:
    return Path(checkpoint) / f"rollouts_{rank}.safetensors"
