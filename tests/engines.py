"""Trains under an engine as one of several processes, and writes down what it saw.

    RANK=0 WORLD_SIZE=2 ... python tests/engines.py ENGINE FOLDER

``record`` does the same in a process of its own, for comparison. Rollouts are
scripted, so that every engine has the same ones.
"""

import importlib
import json
import os
import sys
from pathlib import Path

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from tiny_training import GROUP, Scripted, model, rows_of, train
from torch.distributed.tensor import DTensor

import vgpo.method.visual

GROUPS = 3
STEPS = 4
SAVED = 3  # in the middle of a generation, which serves two steps


def _zero(stage):
    auto = "auto"
    return {
        "use_cpu": False,
        "deepspeed": {
            "zero_optimization": {"stage": stage},
            "train_micro_batch_size_per_gpu": auto,
            "train_batch_size": auto,
            "gradient_accumulation_steps": auto,
            "gradient_clipping": auto,
            "zero_force_ds_cpu_optimizer": False,
            "zero_allow_untested_optimizer": True,
        },
    }


ENGINES = {
    "ddp": {},
    "fsdp2": {
        "use_cpu": False,
        "fsdp": "full_shard auto_wrap",
        "fsdp_config": {
            "version": 2,
            "fsdp_version": 2,
            "reshard_after_forward": True,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "transformer_layer_cls_to_wrap": [
                "Qwen2_5_VLDecoderLayer",
                "Qwen2_5_VLVisionBlock",
            ],
            "state_dict_type": "FULL_STATE_DICT",
            "cpu_ram_efficient_loading": False,
        },
    },
    "zero2": _zero(2),
    "zero3": _zero(3),
}


def on_cpu(engine: str) -> None:
    """Lets accelerate start an engine without a GPU, for which it knows no backend."""
    if engine == "ddp":
        os.environ["ACCELERATE_USE_CPU"] = "true"
        return
    kind = DistributedType.MULTI_GPU if engine == "fsdp2" else DistributedType.NO
    PartialState._prepare_backend = lambda self, *others, **named: ("gloo", kind)
    if engine == "fsdp2":
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
        os.environ["ACCELERATE_USE_FSDP"] = "true"
        os.environ["FSDP_VERSION"] = "2"
    else:
        # An extension that would be compiled for minutes; without it, gloo is used.
        # (As an attribute, the name is that of PyTorch.)
        backend = importlib.import_module("deepspeed.comm.torch")
        backend.build_shm_op = lambda: None


class Recording(Scripted):
    recorded: list

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        self.recorded += [
            [
                {
                    "completion": ids[mask].tolist(),
                    "advantages": advantages[mask].tolist(),
                }
                for ids, mask, advantages in zip(
                    batch["completion_ids"],
                    batch["completion_mask"].bool(),
                    batch["advantages"],
                    strict=True,
                )
            ]
        ]
        return batch


def weights(trainer) -> torch.Tensor:
    """All weights, from whatever shards they are in."""
    parts = []
    for parameter in trainer.model.parameters():
        if trainer.is_deepspeed_enabled:
            import deepspeed

            with deepspeed.zero.GatheredParameters([parameter]):
                parts.append(parameter.detach().float().flatten().clone())
        elif isinstance(parameter, DTensor):
            parts.append(parameter.detach().full_tensor().flatten())
        else:
            parts.append(parameter.detach().flatten())
    return torch.cat(parts)


def record(folder: Path, model_folder: Path, processes: int, engine: str = "ddp"):
    """What a run saw, and the weights it ends with.

    And whether it ends with the same ones where the newest checkpoint has lost a file
    of the last process, so that it goes on from the one before, amid a generation.
    """
    focus: list = []
    original = vgpo.method.visual.visual_factors

    def noted(scores, *others, **named):
        focus.append(scores.tolist())
        return original(scores, *others, **named)

    vgpo.method.visual.visual_factors = noted
    Recording.recorded = []
    options = {
        "model": str(model_folder),
        "train_dataset": rows_of(*["sum", "count"] * GROUPS),
        "per_device_train_batch_size": GROUPS * GROUP // processes,
        "num_iterations": 2,
        "max_steps": STEPS,
        "save_strategy": "steps",
        "save_steps": SAVED,
        "loss_type": "dapo",
        "shuffle_dataset": False,
    } | ENGINES[engine]
    try:
        whole = weights(train(folder / "whole", Recording, **options))
        seen = {"focus": list(focus), "batches": list(Recording.recorded)}
        newest = folder / "whole" / f"checkpoint-{STEPS}"
        if int(os.environ.get("RANK", "0")) == 0:
            max(newest.glob("rng_state*.pth")).unlink()
        if processes > 1:
            torch.distributed.barrier()
        resumed = train(folder / "whole", Recording, resume="auto", **options)
    finally:
        vgpo.method.visual.visual_factors = original
    assert resumed.calls == 0, "the rollouts in use were made again"
    return seen | {
        "resumed": torch.equal(weights(resumed), whole),
        "steps": len(resumed.seen),
    }, whole


def main(engine: str, folder: Path) -> None:
    torch.set_num_threads(1)
    on_cpu(engine)
    seen, whole = record(folder, folder / "model", 2, engine)
    rank = torch.distributed.get_rank()
    torch.save(whole, folder / f"weights{rank}.pt")
    (folder / f"rank{rank}.json").write_text(json.dumps(seen))
    torch.distributed.destroy_process_group()


def save_model(folder: Path) -> None:
    model().save_pretrained(folder / "model")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
