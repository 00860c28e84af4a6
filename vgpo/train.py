r"""Trains a vision-language model from the command line.

::

    python -m vgpo.train --config recipes/tiny_cpu.yaml
    python -m vgpo.train --config recipes/tiny_cpu.yaml --preset dapo
    python -m vgpo.train --config recipes/tiny_cpu.yaml \
        --max_steps 50 --resume_from_checkpoint auto
    python -m vgpo.train --config recipes/tiny_cpu.yaml --check

On several GPUs ``accelerate launch`` starts the processes, on several CPU processes
``torchrun --nproc_per_node 2 -m vgpo.train ...`` (``accelerate launch --cpu`` starts
one, whatever it is asked for). The number of processes is printed at the start.

A recipe is a YAML file of fields: of
:class:`~vgpo.training.settings.TrainArguments`, of
:class:`~vgpo.training.config.VGPOConfig` (all of TRL's and Transformers' settings
with it) and of ``trl.ModelConfig``. The order is preset, recipe, command line; what
comes later wins.
"""

import errno
import sys
from collections.abc import Sequence
from pathlib import Path

from vgpo.lazy import training_libraries
from vgpo.training import checkpoints

with training_libraries("vgpo.train", as_program=__name__ == "__main__"):
    from vgpo.training.build import build_trainer, prompts_of_a_step
    from vgpo.training.preflight import preflight
    from vgpo.training.settings import TrainArguments, parse
    from vgpo.training.trainer import VGPOTrainer
    from vgpo.training.workarounds import quiet_about_old_names

__all__ = ["TrainArguments", "build_trainer", "main", "parse"]


def _check_resume(resume: str | None) -> None:
    """Refuses what is no folder, before a model is loaded."""
    if resume not in (None, "auto") and not Path(resume).is_dir():
        raise ValueError(
            f"resume_from_checkpoint: there is no folder {resume!r}; give auto (the "
            "newest whole checkpoint in output_dir), or a folder such as "
            "runs/tiny_cpu/checkpoint-8"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, and saves the model in ``output_dir``.

    With ``--resume_from_checkpoint auto`` the same command may be given again at any
    time: it goes on from the newest whole checkpoint, and does nothing where the run
    is finished. Stopped by the keyboard, it says so and ends with 130.
    """
    try:
        script, args, model = parse(arguments)
        _check_resume(args.resume_from_checkpoint)
        if script.check:
            report = preflight(script, args, model)
            print(report)
            raise SystemExit(0 if report.passed else 1)
        trainer = build_trainer(script, args, model)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"vgpo.train: {error}") from error
    processes, prompts = trainer.accelerator.num_processes, prompts_of_a_step(args)
    trainer.accelerator.print(
        f"Training on {processes} process{'es' if processes > 1 else ''}, "
        f"{prompts} prompt{'s' if prompts > 1 else ''} x "
        f"{args.num_generations} rollouts at a time."
    )
    try:
        with quiet_about_old_names():
            _train(trainer)
    except checkpoints.CheckpointError as error:
        raise SystemExit(f"vgpo.train: {error}") from error
    except KeyboardInterrupt:
        print(
            "vgpo.train: stopped; with --resume_from_checkpoint auto the same command "
            f"goes on from the newest checkpoint in {args.output_dir}, or from the "
            "start if there is none yet",
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise SystemExit(
            f"vgpo.train: the disk is full ({error}); make room, then give the same "
            "command again with --resume_from_checkpoint auto"
        ) from error
    trainer.accelerator.end_training()


def _train(trainer: VGPOTrainer) -> None:
    args, say = trainer.args, trainer.accelerator.print
    if args.resume_from_checkpoint == "auto" and trainer.is_finished():
        say(
            f"This run is finished: its model is in {args.output_dir}, and nothing is "
            "changed. Set max_steps (or num_train_epochs) higher to go on."
        )
        return
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    with checkpoints.writing(args.output_dir):
        trainer.save_model(args.output_dir)
        trainer.accelerator.wait_for_everyone()
        if args.should_save:
            checkpoints.write_final_manifest(args.output_dir, trainer.state.global_step)
            trainer.create_model_card()
    say(_closing_words(trainer))


def _closing_words(trainer: VGPOTrainer) -> str:
    """Where the model is, and which one it is."""
    folder = trainer.args.output_dir
    if not checkpoints.holds_model(folder):
        # ZeRO-3 without 16-bit gathering, FSDP with sharded states.
        return (
            f"metrics.jsonl is in {folder}, and no model: the engine keeps its weights "
            "in shards, in the checkpoints (set "
            "stage3_gather_16bit_weights_on_model_save, or FSDP's FULL_STATE_DICT)."
        )
    words = f"Model, metrics.jsonl and a model card are in {folder}."
    if trainer.args.load_best_model_at_end:
        best = trainer.state.best_model_checkpoint
        words += (
            f" It is the best, that of {best}."
            if best
            else " It is the last: no checkpoint of the best is there."
        )
    return words


if __name__ == "__main__":
    main()
