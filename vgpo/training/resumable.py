"""A trainer that goes on where it was stopped, to the same weights, bit for bit.

What TRL's and Transformers' trainers leave out of a checkpoint, or take from it without
a look: rollouts that are still in use, what was noted for the next log, whether the
files are whole. How it is done: ``vgpo.training.resume`` and
``vgpo.training.checkpoints``.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.trainer_utils import rotate_checkpoints
from trl import GRPOTrainer

from vgpo.training import checkpoints, logs, resume

logger = logging.getLogger(__name__)


class ResumableTrainer(GRPOTrainer):
    """:class:`trl.GRPOTrainer` with checkpoints that are whole or passed over."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self._resumed_notes: dict[str, Any] | None = None
        self.add_callback(logs.OnTrainBegin(self._begin))

    def _get_train_sampler(self, dataset=None):
        sampler = super()._get_train_sampler(dataset)
        return resume.SamplerOfEpoch(sampler, lambda: int(self.state.epoch or 0))

    def train(self, resume_from_checkpoint=None, *others, **named):
        """Trains, from the beginning or on from a checkpoint.

        Args:
            resume_from_checkpoint: The folder of a checkpoint; ``"auto"`` for the
                newest whole one in ``output_dir``, or none.
            *others: As :meth:`transformers.Trainer.train`.
            **named: As :meth:`transformers.Trainer.train`.

        Raises:
            CheckpointError: The checkpoint named is not whole, or one could not be
                written.
        """
        if resume_from_checkpoint in (True, "auto"):
            resume_from_checkpoint = self.newest_checkpoint()
        elif resume_from_checkpoint:
            wrong = resume.told_by_main_process(
                self.accelerator, lambda: checkpoints.damage(resume_from_checkpoint)
            )
            if wrong is not None:
                raise checkpoints.CheckpointError(
                    checkpoints.refusal(resume_from_checkpoint, wrong)
                )
        if self.args.should_save:
            # It says that the model in the folder is that of a finished run.
            checkpoints.forget_final_manifest(self.args.output_dir)
        return super().train(resume_from_checkpoint, *others, **named)

    def newest_checkpoint(self) -> str | None:
        """The newest whole checkpoint in ``output_dir``; says what is passed over."""
        found, passed_over = resume.told_by_main_process(
            self.accelerator, lambda: checkpoints.newest_whole(self.args.output_dir)
        )
        for clause in passed_over:
            self.accelerator.print(f"Passed over {clause}.")
        self.accelerator.print(
            f"Resuming from {found}."
            if found
            else "No whole checkpoint: a new run."
            if passed_over
            else "No checkpoint yet: a new run."
        )
        return found

    def is_finished(self) -> bool:
        """Whether ``output_dir`` holds the whole model of a run of as many steps."""
        planned = self.set_initial_training_values(
            self.args, self.get_train_dataloader()
        )[-1]
        step = resume.told_by_main_process(
            self.accelerator, lambda: checkpoints.finished_at(self.args.output_dir)
        )
        return step is not None and step >= planned

    def _run_epoch(self, *others, **named):
        if self.state.global_step >= self.state.max_steps:
            # Trainer would look only after one step more.
            self.control.should_training_stop = True
            return
        super()._run_epoch(*others, **named)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        model = self.model if model is None else model
        if self.is_fsdp_enabled or not isinstance(model, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            resume.load_weights(model, resume_from_checkpoint)

    def _load_best_model(self):
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if sharded or not isinstance(self.model, PreTrainedModel):
            super()._load_best_model()
        else:
            resume.load_weights(self.model, self.state.best_model_checkpoint)

    def _save_checkpoint(self, model, trial):
        output_dir = self._get_output_dir(trial=trial)
        folder = Path(output_dir) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            checkpoints.clear(folder)
        self.accelerator.wait_for_everyone()
        # Older ones go when this one is known to be whole, and not before.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            with checkpoints.writing(folder):
                super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            with checkpoints.writing(folder):
                checkpoints.write_manifest(folder, self.state.global_step)
            rotate_checkpoints(
                output_dir=output_dir,
                save_total_limit=limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        every = self.args.steps_per_generation * self.num_iterations
        resume.save_rollouts(
            output_dir,
            self.accelerator.process_index,
            # Between two generations, rollouts of an older policy are still in use.
            self._buffered_inputs if self._step % every else [],
            {
                "step": self._step,
                "processes": self.accelerator.num_processes,
                "settings": resume.shaping_settings(self.args),
                # What has been noted since the last log.
                "metrics": dict(self._metrics["train"]),
                "loss": float(self._tr_loss),
                "last_log": self._globalstep_last_logged,
                "table": self._kept_table(),
            },
        )

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        loaded = resume.load_rollouts(
            checkpoint, self.accelerator.process_index, self.accelerator.device
        )
        batches, notes = loaded or (None, None)
        reason = resume.why_afresh(self.accelerator, notes, self.args)
        if reason is None:
            self._step = notes["step"]
            self._buffered_inputs = batches or None
        else:
            # As many micro-batches as the steps taken have, by the settings of now.
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
            self._buffered_inputs = None
            logger.warning("%s: %s; new rollouts are made", checkpoint, reason)
        if notes is not None and "metrics" in notes:  # not in an earlier release's
            self._resumed_notes = notes

    def _begin(self) -> None:
        """What a run begins with, once Trainer has reset what it has logged."""
        self._go_on_logging()

    def _go_on_logging(self) -> None:
        """In a resumed run, what had been noted since the last log."""
        notes, self._resumed_notes = self._resumed_notes, None
        if notes is not None:
            self._metrics["train"].update(notes["metrics"])
            self._tr_loss = torch.tensor(notes["loss"], device=self.args.device)
            self._globalstep_last_logged = notes["last_log"]
            logs.refill(self._logs, notes.get("table") or {})

    def _kept_table(self) -> dict[str, Any] | None:
        """The completions that the next log may show again, where they are logged."""
        if not (self.log_completions and self.accelerator.is_main_process):
            return None
        return logs.without_images(self._logs)
