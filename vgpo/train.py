r"""Trains a vision-language model from the command line.

::

    python -m vgpo.train --config recipes/tiny_cpu.yaml
    python -m vgpo.train --config recipes/tiny_cpu.yaml --preset dapo
    python -m vgpo.train --config recipes/tiny_cpu.yaml \
        --max_steps 50 --resume_from_checkpoint auto

On several GPUs ``accelerate launch`` starts the processes, on several CPU processes
``torchrun --nproc_per_node 2 -m vgpo.train ...`` (``accelerate launch --cpu`` starts
one, whatever it is asked for). The number of processes is printed at the start.

A recipe is a YAML file of fields: of
:class:`~vgpo.training.settings.TrainArguments`, of
:class:`~vgpo.training.config.VGPOConfig` (all of TRL's and Transformers' settings
with it) and of ``trl.ModelConfig``. The order is preset, recipe, command line; what
comes later wins.
"""

from collections.abc import Sequence
from pathlib import Path

from vgpo.training.build import build_trainer
from vgpo.training.settings import TrainArguments, parse

__all__ = ["TrainArguments", "build_trainer", "last_checkpoint", "main", "parse"]


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The newest checkpoint in a folder that was written to its end, or None.

    Example:
        >>> last_checkpoint("runs/nothing-here") is None
        True
    """
    found = [
        # The trainer's state is the last file of a checkpoint.
        (int(state.parent.name.removeprefix("checkpoint-")), str(state.parent))
        for state in Path(output_dir).glob("checkpoint-*/trainer_state.json")
        if state.parent.name.removeprefix("checkpoint-").isdigit()
    ]
    return max(found)[1] if found else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, and saves the model in ``output_dir``."""
    try:
        script, args, model = parse(arguments)
        trainer = build_trainer(script, args, model)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"vgpo.train: {error}") from error
    processes = trainer.accelerator.num_processes
    trainer.accelerator.print(
        f"Training on {processes} process{'es' if processes > 1 else ''}, "
        f"{args.generation_batch_size // args.num_generations} prompts x "
        f"{args.num_generations} rollouts at a time."
    )
    resume = args.resume_from_checkpoint
    if resume == "auto":
        resume = last_checkpoint(args.output_dir)
        trainer.accelerator.print(
            f"Resuming from {resume}." if resume else "No checkpoint yet: a new run."
        )
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model(args.output_dir)
    trainer.accelerator.print(f"Model and metrics.jsonl are in {args.output_dir}.")
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
