"""Resuming: a run that was stopped goes on as if it had not been.

Beside what Transformers keeps in a checkpoint, three things are needed: the rollouts
that are still in use (a generation serves several optimizer steps), the order of the
rows in the epoch that was interrupted, and weights that are found by their names.
Which checkpoint to go on from is :mod:`vgpo.training.checkpoints`' to say.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import safe_open
from torch.utils.data import Sampler
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from vgpo.training.config import VGPOConfig
from vgpo.training.rollouts import load_batches, save_batches

# Rollouts made under other values of these are not those that a step now needs: they
# are cut and numbered otherwise, were sampled otherwise, or lack a tensor.
_SHAPING = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "num_iterations",
    "num_generations",
    "max_completion_length",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "generation_kwargs",
    "use_vllm",
    "scale_rewards",
    "multi_objective_aggregation",
    "reward_weights",
    "mask_truncated_completions",
    "beta",
    "dynamic_sampling",
    "dynamic_sampling_lower_bound",
    "dynamic_sampling_upper_bound",
)


def shaping_settings(args: VGPOConfig) -> dict[str, Any]:
    """The settings that rollouts and their advantages depend on, by name.

    As they come back from JSON, so that they can be compared with a checkpoint's.
    """
    settings = {name: getattr(args, name) for name in _SHAPING}
    settings["method"] = repr(args.make_method())
    return json.loads(json.dumps(settings, default=str))


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two :func:`shaping_settings`, one clause each.

    Example:
        >>> changed_settings({"top_p": 1.0, "beta": 0.0}, {"top_p": 0.9, "beta": 0.0})
        ['top_p 1.0 -> 0.9']
    """
    return [
        f"{name} {before[name]} -> {now[name]}"
        for name in now
        if name in before and before[name] != now[name]
    ]


def told_by_main_process(accelerator: Accelerator, ask: Callable[[], Any]) -> Any:
    """What ``ask`` returns on the main process, on every process.

    Processes that looked at the disk each for itself might go on from different
    checkpoints. ``ask`` must not raise: the others would wait.
    """
    told = [ask() if accelerator.is_main_process else None]
    broadcast_object_list(told)
    return told[0]


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
    weights, and goes on from the untrained ones with a warning, or keeps the last
    ones where it was to take the best. May go when
    ``test_checkpoints_have_other_weight_names_than_the_model`` fails.

    Tensors are copied one by one from the file into the model, each in the type in
    which it was saved: no second model is held, and parts in float32 stay exact.
    """
    folder = Path(checkpoint)
    files = sorted(folder.glob("model*.safetensors"))
    places = _places(model)
    with torch.no_grad():
        if places is not None and _names(files) <= places.keys():
            for path in files:
                with safe_open(path, "pt", device="cpu") as file:
                    for name in file.keys():  # noqa: SIM118
                        places[name].copy_(file.get_tensor(name))
            return
    # Weights that are joined or cut on their way to the hub cannot be filled in place.
    saved = type(model).from_pretrained(
        folder, dtype=_widest(model), local_files_only=True
    )
    model.load_state_dict(saved.state_dict())


def _places(model: PreTrainedModel) -> dict[str, torch.Tensor] | None:
    """Where each weight of a saved model belongs: the model's own tensors.

    None where some of them would only be copies.
    """
    own = model.state_dict()
    places = revert_weight_conversion(model, dict(own))
    storages = {value.untyped_storage().data_ptr() for value in own.values()}
    reached = {value.untyped_storage().data_ptr() for value in places.values()}
    return places if reached == storages else None


def _names(files: list[Path]) -> set[str]:
    names: set[str] = set()
    for path in files:
        with safe_open(path, "pt", device="cpu") as file:
            names |= set(file.keys())
    return names


def _widest(model: PreTrainedModel) -> torch.dtype:
    """A type that holds every weight of the model exactly."""
    found = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return found.pop() if len(found) == 1 else torch.float32


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
    checkpoint: str | Path, rank: int, device: torch.device
) -> tuple[list[dict[str, Any]], dict[str, Any]] | None:
    """What :func:`save_rollouts` wrote; None in the checkpoint of another trainer."""
    path = _rollouts_file(checkpoint, rank)
    return load_batches(path, device) if path.exists() else None


def why_afresh(
    accelerator: Accelerator, notes: Mapping[str, Any] | None, args: VGPOConfig
) -> str | None:
    """Why rollouts in use when a checkpoint was written are of no use now, or None.

    The same on every process, as all must generate together: each passes what its
    own file says, None where it has none.
    """
    if notes is None:
        mine = "it holds no rollouts of this process"
    elif notes["processes"] != (processes := accelerator.num_processes):
        mine = f"processes {notes['processes']} -> {processes}"
    else:
        # Earlier releases kept no settings.
        mine = ", ".join(
            changed_settings(notes.get("settings", {}), shaping_settings(args))
        )
    here = torch.tensor([bool(mine)], device=accelerator.device)
    if not accelerator.gather(here).any():
        return None
    return mine or "another process has none of use"


def _rollouts_file(checkpoint: str | Path, rank: int) -> Path:
    return Path(checkpoint) / f"rollouts_{rank}.safetensors"
