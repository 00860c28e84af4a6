"""The trainer: TRL's GRPO, with a method that shapes the advantages of tokens.

Only the scoring of rollouts differs from :class:`trl.GRPOTrainer`. Its loss is
untouched, so every loss type, clip, vLLM, DeepSpeed and FSDP setting stays. The way of
a batch:

1. TRL generates, scores and normalises rewards, within groups of G rollouts.
2. With dynamic sampling, groups that are all right or all wrong are replaced
   (``vgpo.training.dynamic_sampling``).
3. The signals that the method asks for, such as visual focus, are measured of every
   token (``vgpo.training.signals``). Where TRL computes old log-probabilities,
   that pass is read along. Where each rollout serves one update by the policy that
   wrote it, and micro-batches hold whole groups, the pass of the loss is, and steps 3
   and 4 take place in it. Else there is one forward pass without gradient.
4. The method makes advantages (B, T) of the advantages (B,) and the signals of all
   processes (:mod:`vgpo.method.shaping`).
5. TRL shuffles the rows, splits them into micro-batches and computes its loss; a
   method may add a term. A method that needs no more than the loss's own pass gives,
   such as the entropy, makes its advantages there. Groups that are to be shaped there
   are put together again, in the order of generation.

A checkpoint taken between two generations holds the rollouts still in use, and a
resumed run goes on as if it had not been stopped (``vgpo.training.resumable``). With
``save_steps`` a multiple of the optimizer steps per generation there are none to keep.

Departures from the paper: weights are computed once per rollout and stay fixed over
its updates, where the released code recomputes them at each (the paper is silent);
truncated rollouts that TRL masks are left out of their group's statistics.

Departure from TRL: adapters over 4-bit weights are trained in float32 rather than
bfloat16, in which learning rates such as the paper's are rounded away; except under
FSDP and DeepSpeed, which want one type throughout.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerBase
from trl import ModelConfig
from trl.data_utils import apply_chat_template, is_conversational
from trl.models.utils import disable_gradient_checkpointing

from vgpo.method.shaping import LossStep, Rollouts, Shaped, check_shaped
from vgpo.method.statistics import masked_mean
from vgpo.models.capture import AdapterState
from vgpo.models.handle import image_token_id, placeholder_ids, unwrap_model
from vgpo.models.probes import Scored
from vgpo.seeds import mixed_seed
from vgpo.training import logs, refusals, workarounds
from vgpo.training.config import VGPOConfig
from vgpo.training.dynamic_sampling import (
    DynamicSampling,
    advantages_over_batch,
)
from vgpo.training.first_steps import FirstSteps
from vgpo.training.metrics import MetricsFile
from vgpo.training.model_card import write_card
from vgpo.training.resumable import ResumableTrainer
from vgpo.training.rollouts import in_order
from vgpo.training.run_record import FILE_NAME as RECORD
from vgpo.training.run_record import write_run_record
from vgpo.training.settings import TrainArguments
from vgpo.training.signals import (
    Signals,
    gather_rollouts,
    joined,
    loss_mask,
    rollouts_in_loss,
    rows_in_order,
    scored_rollouts,
)

# What `_get_per_token_logps_and_entropies` takes beside ids, mask and length.
FORWARD_KEYS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)

# Under such keys, what a method needs in its loss travels with the rows, and what has
# been measured of them for a method that is shaped there.
_EXTRA = "extra:"
_SIGNAL = "signal:"

PLACE = "place:"
"""Under this key, the place of each row among this process's rows, before they were
shuffled. It is there where whole groups are to be shaped in the loss."""

logger = logging.getLogger(__name__)


class VGPOTrainer(ResumableTrainer):
    """Trains a vision-language model with GRPO, DAPO, VGPO or a method of your own.

    Takes what :class:`trl.GRPOTrainer` takes, with a
    :class:`~vgpo.training.config.VGPOConfig` as ``args``. Data sets may mix rows
    with and without images; a row's ``image`` (or ``images``) is then None (or empty),
    and its advantages are left as they are. Not so where all processes must run the
    vision tower together: under FSDP and DeepSpeed ZeRO-3, and under ZeRO-1 and 2 where
    the tower is trained. There, such a mixture is refused.

    Logged beside TRL's metrics, by VGPO and by dynamic sampling:

    - ``advantages/mean_abs``: mean absolute advantage of the tokens in the loss, as
      the method shaped it: methods of which it differs take steps of different size;
    - ``visual/focus_early``, ``visual/focus_late``: mean focus score over the first
      and the second half of the completions that have an image;
    - ``visual/gate_rate``: share of their tokens that pass the gate;
    - ``visual/psi_std``, ``visual/phi_std``: spread of the two terms;
    - ``visual/phi_length_corr``: correlation of phi with the completion's length
      within a group, averaged over the groups;
    - ``dynamic_sampling/dropped_share``: share of the sampled groups that were all
      right or all wrong; ``dynamic_sampling/discarded_share``: share of them that
      were informative, but too many; ``dynamic_sampling/attempts``: rounds of
      generation;
      ``dynamic_sampling/unfilled_share``: share of the batch that had to be filled
      with such groups.

    They, and TRL's, are written to ``metrics.jsonl`` in ``output_dir`` as well.

    Raises:
        ValueError: ``args`` is no :class:`~vgpo.training.config.VGPOConfig`; the
            processor pads on the right, or makes of images what TRL leaves out; the
            model has no image token; dynamic sampling over a stream.

    Example:
        >>> from vgpo.testbed import build_processor, build_tiny, make_dataset
        >>> processor = build_processor()
        >>> trainer = VGPOTrainer(
        ...     model=build_tiny(processor),
        ...     processing_class=processor,
        ...     reward_funcs=lambda completions, **columns: [0.0] * len(completions),
        ...     args=VGPOConfig.preset("vgpo", output_dir="runs/doctest"),
        ...     train_dataset=make_dataset(8),
        ... )
        >>> trainer.args.alignment
        'token'
    """

    _tag_names = ("trl", "vgpo")
    _name = "VGPO"

    def __init__(self, model, reward_funcs=None, args=None, *others, **named):
        if not isinstance(args, VGPOConfig):
            raise ValueError(
                f"args must be a VGPOConfig, got {type(args).__name__}; "
                'VGPOConfig.preset("grpo" or "dapo", ...) trains without vision'
            )
        given = workarounds.trained_parameters(model)
        super().__init__(model, reward_funcs, args, *others, **named)
        if isinstance(self.train_dataset, Dataset):
            refusals.refuse_rows_that_are_none(self.train_dataset)
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            workarounds.undo_rounding_of_adapters(self.model, given)
        workarounds.let_empty_pixels_through(self.model)
        workarounds.set_aside_generation_leftovers(self.model)
        if self._is_vlm and not self.use_vllm:
            workarounds.never_sample_placeholders(
                self.generation_config, placeholder_ids(unwrap_model(self.model).config)
            )
        self._check_images()
        self._check_tokenizer()
        self._check_model()
        self._method = args.make_method()
        self._signals = Signals.of(self._method)
        self._loss_signals = Signals.of_loss(self._method)
        self._shared_pass = self._signals_of_shared_pass()
        self._check_signals()
        self._accuracy_column = self._find_accuracy_column()
        self._dynamic_sampling = self._make_dynamic_sampling()
        self._adapters = AdapterState(self.model)
        # What goes from one of TRL's methods to another, past what lies between.
        self._reading: dict[str, Tensor] | None = None
        self._loss_pass: tuple[Tensor, Tensor, Mapping[str, Tensor]] | None = None
        self._to_shape: dict[str, Any] | None = None
        self._prompted: tuple[list[Any], list[list[Any]]] = [], []
        self._rewards: Tensor | None = None
        self._shaped_so_far: list[Rollouts] = []
        self._warned_of_scales = False
        # What the command line was told, for the record of the run.
        self.told: tuple[TrainArguments | None, ModelConfig | None] = (None, None)
        self.add_callback(MetricsFile())
        self.add_callback(FirstSteps(lambda: self._metrics["train"]))

    def _signals_of_shared_pass(self) -> Signals | None:
        """The probes of the loss's pass where it can be the scoring pass as well.

        It then goes over a whole generation or, for methods that shape each group by
        itself, over whole groups of it; and all micro-batches of a generation belong
        to one optimizer step, so that it is by the policy that wrote the rollouts. Not
        under engines in which passes have to keep to an order.
        """
        args = self.args
        passes_in_order = self.is_fsdp_enabled or self.is_deepspeed_enabled
        parts = args.steps_per_generation
        one_policy = (
            self.num_iterations == 1 and args.gradient_accumulation_steps % parts == 0
        )
        whole_groups = args.per_device_train_batch_size % self.num_generations == 0
        whole = parts == 1 or (self._method.by_group and whole_groups)
        if passes_in_order or not one_policy or not whole:
            return None
        return Signals.of_shared_pass(self._method)

    def _check_tokenizer(self) -> None:
        tokenizer = self.processing_class
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            tokenizer = tokenizer.tokenizer
        if tokenizer.padding_side != "left":
            raise ValueError(
                "processing_class: its tokenizer pads on the right, which misaligns "
                "prompts and image tokens without an error; set "
                "processing_class.tokenizer.padding_side = 'left'"
            )

    def _check_images(self) -> None:
        """Before the first step, in which an engine would hang."""
        if self.is_fsdp_enabled:
            engine, together = "FSDP", True
        elif self.is_deepspeed_enabled:
            stage = self.accelerator.state.deepspeed_plugin.zero_stage
            tower = unwrap_model(self.model).get_encoder(modality="image")
            trained = any(p.requires_grad for p in tower.parameters())
            engine = f"DeepSpeed ZeRO-{stage}"
            together = stage == 3 or (stage in (1, 2) and trained)
        else:
            return
        if together and isinstance(self.train_dataset, Dataset):
            refusals.refuse_rows_without_image(self.train_dataset, engine)

    def _check_model(self) -> None:
        """Whether TRL scores what the model answers about, and by what it answers."""
        if self._is_vlm:
            refusals.refuse_what_is_left_out(self.processing_class, FORWARD_KEYS)
            if isinstance(self.train_dataset, Dataset):
                refusals.refuse_questions_without_image(
                    self.processing_class, self.train_dataset
                )
        elif isinstance(self.train_dataset, Dataset):
            refusals.refuse_pictures_for_a_tokenizer(
                self.processing_class, self.train_dataset
            )
        if self.aux_loss_enabled:
            text_config = unwrap_model(self.model).config.get_text_config()
            refusals.refuse_uncounted_experts(text_config)
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            refusals.refuse_other_log_probabilities(
                self.model, self._tokenizer, self.temperature
            )

    def _check_signals(self) -> None:
        """Says before the first step what the model or the data cannot give."""
        both = self._signals, self._loss_signals
        if not any(signals.of_image for signals in both):
            return
        image_token_id(self.model)
        rows = self.train_dataset
        if isinstance(rows, Dataset) and not refusals.any_image(rows):
            logger.warning(
                "method %r weighs tokens by what they have to do with an image, and no "
                "row of train_dataset has one: advantages will stay as they are",
                self.args.method,
            )
        if self.tools and self._signals.needs_pictures:
            logger.warning(
                "method %r degrades the pictures of the prompts and cannot go on once "
                "a tool returns a picture; method_kwargs may have a view of the "
                "processed pixels, or the tools have to return text alone",
                self.args.method,
            )

    def _make_dynamic_sampling(self) -> DynamicSampling | None:
        args = self.args
        if not args.dynamic_sampling:
            return None
        if isinstance(self.train_dataset, IterableDataset):
            raise ValueError(
                "dynamic_sampling needs a train_dataset that can be indexed, to draw "
                "fresh prompts; load it without streaming"
            )
        refusals.refuse_other_aggregations(args.multi_objective_aggregation)
        return DynamicSampling(
            accelerator=self.accelerator,
            dataset=self.train_dataset,
            group_size=self.num_generations,
            lower=args.dynamic_sampling_lower_bound,
            upper=args.dynamic_sampling_upper_bound,
            max_attempts=args.dynamic_sampling_max_attempts,
            seed=args.seed,
            pad_token_id=self._tokenizer.pad_token_id,
        )

    def _find_accuracy_column(self) -> int:
        name = self.args.dynamic_sampling_reward
        if name is None:
            return 0
        refusals.refuse_unknown_reward(name, self.reward_func_names)
        return self.reward_func_names.index(name)

    def _begin(self) -> None:
        super()._begin()
        # Of a generation that the run before was stopped in.
        self._shaped_so_far = []
        write_run_record(self, *self.told)

    # -- the way of a batch -------------------------------------------------------

    def _prepare_inputs(self, generation_batch):
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        parts = self.args.steps_per_generation
        if PLACE not in inputs or parts == 1 or self._buffered_inputs is before:
            return inputs
        # TRL has just shuffled the rows of all groups.
        self._buffered_inputs = in_order(
            self._buffered_inputs, PLACE, self._tokenizer.pad_token_id
        )
        return self._buffered_inputs[self._step % parts]

    def _generate_and_score_completions(self, inputs):
        if not self.model.training:
            return self._roll_out(inputs)
        if self._dynamic_sampling is None:
            batch = self._roll_out(inputs)
        else:
            batch = self._sample(self._dynamic_sampling, inputs)
        self._shape(batch)
        return batch

    def _sample(self, dynamic_sampling: DynamicSampling, inputs) -> dict[str, Any]:
        """Rounds of generation, until the batch is full of informative groups."""
        metrics = self._metrics["train"]
        before = {name: len(values) for name, values in metrics.items()}
        table, self._logs = self._logs, logs.empty_table()
        try:
            sampled = dynamic_sampling.sample(
                inputs, self._roll_out_and_judge, self._step
            )
            logs.keep_rows(table, self._logs, sampled.rows)
        finally:
            self._logs = table
        logs.merge_rounds(metrics, before, sampled.rounds)
        self._note(sampled.logs)
        batch = sampled.batch
        if self.scale_rewards == "batch" and len(sampled.rounds) > 1:
            batch["advantages"] = advantages_over_batch(
                self.accelerator.gather(batch["rewards"]),
                self.reward_weights,
                self.num_generations,
            )[self._mine(len(inputs))]
        return batch

    def _roll_out(self, inputs) -> dict[str, Any]:
        """One round of TRL's generation and scoring.

        In training the batch also holds its rows' rewards, what the data set says of
        them, and what was read in a scoring pass, if TRL made one.
        """
        inputs = workarounds.image_of_none(inputs)
        log_images = self.log_multimodal
        self.log_multimodal = log_images and workarounds.all_processes_have_images(
            self.accelerator, inputs
        )
        training = self.model.training
        self._reading = {} if training and self._signals.needed else None
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            read, self._reading = self._reading, None
            self.log_multimodal = log_images
        if training:
            rows = len(batch["completion_ids"])
            batch |= read or {}
            images = batch.get("num_images") or [0] * rows
            batch["has_image"] = [number > 0 for number in images]
            batch |= workarounds.entries_of_rows(batch, rows)
            batch["rewards"] = self._rewards[self._mine(len(inputs))]
            if self._signals.measuring:
                batch["rows"] = [
                    {k: v for k, v in row.items() if k not in ("image", "images")}
                    for row in inputs
                ]
            if self._signals.needs_pictures:
                batch["messages"], batch["pictures"] = self._prompted
        self._prompted = [], []
        return batch

    def _roll_out_and_judge(self, inputs) -> tuple[dict[str, Any], Tensor]:
        """A round, and how accurate the rollouts of all processes are."""
        batch = self._roll_out(inputs)
        accuracy = self._rewards[:, self._accuracy_column]
        self._warn_of_other_scales(accuracy)
        return batch, accuracy

    def _warn_of_other_scales(self, accuracy: Tensor) -> None:
        """Once: dynamic sampling takes its reward for a share of right answers."""
        out = (accuracy < 0) | (accuracy > 1)
        if self._warned_of_scales or not out.any():
            return
        self._warned_of_scales = True
        logger.warning(
            "dynamic sampling measures accuracy by the reward %r, which gave %s: its "
            "bounds (dynamic_sampling_lower_bound, _upper_bound) are for rewards in "
            "[0, 1]; name another by dynamic_sampling_reward",
            self.reward_func_names[self._accuracy_column],
            float(accuracy[out][0]),
        )

    def _shape(self, batch: dict[str, Any]) -> None:
        """Puts the advantages that the method gives, (B, T), into ``batch``."""
        later = self._shared_pass is not None and self._signals.missing(batch)
        signals = self._measure(batch, self._signals.apart if later else self._signals)
        if later or self._method.in_loss:
            batch |= {_SIGNAL + name: values for name, values in signals.items()}
        if later:
            mask = batch["completion_mask"]
            batch[PLACE] = torch.arange(len(mask), device=mask.device)
        elif self._method.in_loss:
            batch.pop("rewards")
        else:
            batch |= self._shaped_by_method(batch, signals)

    def _shaped_by_method(
        self, batch: dict[str, Any], signals: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """What the method makes of these rows of all processes: for this one's,
        advantages and what its loss needs. Takes the rewards out of ``batch``."""
        advantages = batch["advantages"]
        rows, length = batch["completion_mask"].shape
        rollouts = gather_rollouts(
            self.accelerator,
            batch,
            signals,
            reward_weights=self.reward_weights,
            group_size=self.num_generations,
            progress=self._progress(),
        )
        shaped = self._method.shape(rollouts)
        check_shaped(shaped, rollouts, type(self._method).__name__)

        def local(values: Tensor) -> Tensor:
            """This process's rows, without what others' longer rows were padded by."""
            values = values[self._mine(rows)]
            return values if values.ndim == 1 else values[:, :length]

        self._note_generation(rollouts, shaped)
        extras = {_EXTRA + name: local(x) for name, x in shaped.extras.items()}
        return {"advantages": local(shaped.advantages).to(advantages.dtype), **extras}

    def _shape_in_loss(
        self,
        inputs: dict[str, Any],
        log_probs: Tensor,
        entropy: Tensor,
        watched: Mapping[str, Tensor],
    ) -> None:
        """The same for a micro-batch, by the pass of the loss."""
        measured = _under(_SIGNAL, inputs)
        if PLACE in inputs:
            given = {"log_probs": log_probs, "entropy": entropy, **measured, **watched}
            self._shape_groups_in_loss(inputs, given)
            return
        rollouts = rollouts_in_loss(
            inputs, log_probs, entropy, {**measured, **watched}, self._progress()
        )
        shaped = self._method.shape(rollouts)
        check_shaped(shaped, rollouts, type(self._method).__name__)
        inputs["advantages"] = shaped.advantages.to(inputs["advantages"].dtype)
        inputs |= {_EXTRA + name: values for name, values in shaped.extras.items()}
        self._note_shaped(shaped, rollouts)

    def _shape_groups_in_loss(
        self, inputs: dict[str, Any], signals: Mapping[str, Tensor]
    ) -> None:
        """The same for a micro-batch of whole groups, by the same pass."""
        before = inputs.pop(PLACE).argsort()
        batch = rows_in_order(inputs, before)
        # Sorted: processes send them to each other in the order of the dictionary.
        asked = {
            name: signals[name].detach().float()[before]
            for name in sorted(self._method.signals)
        }
        shaped = self._shaped_by_method(batch, asked)
        del inputs["rewards"]
        after = before.argsort()
        inputs |= {name: values[after] for name, values in shaped.items()}

    def _note_generation(self, rollouts: Rollouts, shaped: Shaped) -> None:
        """For the log, once all rows of a generation have been shaped."""
        self._shaped_so_far.append(rollouts)
        parts = self._shaped_so_far
        if sum(len(part.mask) for part in parts) < self.args.generation_batch_size:
            return
        self._shaped_so_far = []
        if len(parts) > 1:
            rollouts = joined(
                parts, self.accelerator.num_processes, self.num_generations
            )
            shaped = self._method.shape(rollouts)
        self._note_shaped(shaped, rollouts)
        # TRL has logged the advantages that it gave the method.
        self._logs["advantages"].extend(
            logs.mean_advantages(shaped.advantages, rollouts.mask)
        )

    def _note_shaped(self, shaped: Shaped, rollouts: Rollouts) -> None:
        everywhere = shaped.advantages.reshape(len(rollouts.mask), -1).abs()
        everywhere = everywhere.expand_as(rollouts.mask)
        size = masked_mean(everywhere, rollouts.mask)
        self._note({"advantages/mean_abs": size, **shaped.logs})

    def _compute_loss(self, model, inputs):
        # TRL reads the advantages after its pass, in which they are put there.
        if PLACE in inputs:
            self._to_shape = inputs
        elif self._method.in_loss and self.model.training:
            # A copy, since rollouts may serve several updates.
            inputs = self._to_shape = dict(inputs)
        try:
            loss = super()._compute_loss(model, inputs)
        finally:
            self._to_shape = None
        kept, self._loss_pass = self._loss_pass, None
        if kept is None or not self.model.training:
            return loss
        log_probs, entropy, signals = kept
        step = LossStep(
            log_probs=log_probs,
            entropy=entropy,
            mask=loss_mask(inputs),
            extras=_under(_EXTRA, inputs),
            progress=self._progress(),
            signals=signals,
        )
        extra = self._method.extra_loss(step)
        if extra is None:
            return loss
        with torch.no_grad():
            seen = replace(step, log_probs=log_probs.detach(), entropy=entropy.detach())
            self._note(
                {"extra_loss": float(extra.detach()), **self._method.loss_logs(seen)}
            )
        return loss + extra / self.current_gradient_accumulation_steps

    # -- forward passes -----------------------------------------------------------

    def _get_per_token_logps_and_entropies(
        self,
        model,
        input_ids,
        attention_mask,
        logits_to_keep,
        *others,
        completion_length=None,
        **named,
    ):
        # Probes that watch may want more tokens than there are logits asked for.
        length = completion_length or logits_to_keep
        # TRL hands on all that the processor made, and takes only some of it.
        beside = ("batch_num_images", "labels")
        named = {k: v for k, v in named.items() if k not in beside}
        images = named.get("num_images")
        named |= workarounds.entries_of_rows(named, len(input_ids))
        named |= workarounds.types_of_completions(
            model, named.get("token_type_ids"), length
        )

        def forward(**more):
            with workarounds.images_of_rows(model, images):
                return super(VGPOTrainer, self)._get_per_token_logps_and_entropies(
                    model,
                    input_ids,
                    attention_mask,
                    logits_to_keep,
                    *others,
                    **named,
                    **more,
                )

        if torch.is_grad_enabled():
            # The pass of the loss: TRL keeps its results to itself.
            signals = self._loss_signals
            if self._shared_pass is not None and PLACE in (self._to_shape or ()):
                signals = self._shared_pass
            out, read = signals.read_along(forward, model, len(input_ids), length)
            self._loss_pass = out[0], out[1], signals.watched(read)
            if self._to_shape is not None:
                self._shape_in_loss(self._to_shape, *self._loss_pass)
            return out
        read_along = (
            # Read once, and in the first pass of a round: only the policy's own is
            # made before that of the reference model.
            self._reading == {}
            and model is self.model
            # A reference pass may run on the same model with its adapters off.
            and not self._adapters.changed()
        )
        if not read_along:
            return forward()
        out, self._reading = self._signals.read_along(
            forward, model, len(input_ids), length
        )
        return out

    def _score(
        self,
        batch: dict[str, Any],
        hidden: Tensor | None = None,
        log_probs: bool = True,
        length: int | None = None,
    ) -> Tensor:
        """Log-probabilities of the rollouts, by a forward pass of its own.

        Tokens that are hidden, bool (B, T), are left out of the attention mask. Without
        ``log_probs``, for probes that watch the pass, it ends before the vocabulary
        for all tokens but one. Tokens after the first ``length`` are left out, and
        their log-probabilities are 0.
        """
        attended = batch["completion_mask"]
        if hidden is not None:
            attended = attended * ~hidden
        ids = batch["completion_ids"][:, :length]
        after, length = batch["completion_ids"].shape[1] - ids.shape[1], ids.shape[1]
        total = batch["prompt_ids"].shape[1] + length
        given = {
            key: batch[key][:, :total] if key.endswith("token_type_ids") else batch[key]
            for key in FORWARD_KEYS
            if key in batch
        }
        with (
            torch.no_grad(),
            disable_gradient_checkpointing(
                self.model, self.args.gradient_checkpointing_kwargs
            ),
        ):
            values = self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([batch["prompt_ids"], ids], dim=1),
                torch.cat([batch["prompt_mask"], attended[:, :length]], dim=1),
                length if log_probs else 1,
                completion_length=length,
                batch_size=self.args.per_device_train_batch_size,
                **given,
            )[0]
        return torch.nn.functional.pad(values, (0, after))

    def _measure(self, batch: dict[str, Any], probes: Signals) -> dict[str, Tensor]:
        """Some of the method's signals, (B, T) each."""
        if probes.missing(batch):
            self._reading = {}
            results = probes.needed - probes.watching.keys()
            try:
                self._score(batch, log_probs=bool(results))
            finally:
                read, self._reading = self._reading, None
            batch |= read
        signals = probes.measure(batch, partial(self._scored, batch))
        for name in ("rows", "messages", "pictures"):
            batch.pop(name, None)
        return signals

    def _scored(self, batch: dict[str, Any], **results: Tensor | None) -> Scored:
        """What probes measure from."""
        return scored_rollouts(
            batch,
            self.processing_class,
            score=self._score,
            reprocess=partial(self._reprocess, batch),
            seed=mixed_seed(self.args.seed, self._step),
            first_row=self._mine(len(batch["completion_ids"])).start,
            group_size=self.num_generations,
            **results,
        )

    def _reprocess(self, batch: dict[str, Any], pictures) -> Tensor:
        """Pixels of other pictures, one list per row, as TRL has them processed."""
        texts = [
            apply_chat_template(
                {"prompt": prompt},
                self.processing_class,
                tools=self.tools,
                **self.chat_template_kwargs,
            )["prompt"]
            for prompt in batch["messages"]
        ]
        return self.processing_class(
            images=pictures, text=texts, padding=True, return_tensors="pt"
        )["pixel_values"]

    # -- small things -------------------------------------------------------------

    def _mine(self, rows: int) -> slice:
        """This process's rows among those of all processes."""
        first = self.accelerator.process_index * rows
        return slice(first, first + rows)

    def _progress(self) -> float:
        return self.state.global_step / max(1, self.state.max_steps)

    def _note(self, values: Mapping[str, float]) -> None:
        """Numbers for the log of this step, NaN where there was nothing to average.

        A micro-batch without any does not count beside one that has some.
        """
        for name, value in values.items():
            noted = self._metrics["train"][name]
            if noted and math.isnan(value):
                continue
            if noted and math.isnan(noted[-1]):
                noted.pop()
            noted.append(value)

    def create_model_card(self, model_name=None, dataset_name=None, tags=None):
        """The card of :func:`vgpo.training.model_card.write_card` in place of TRL's,
        which is asked for at each checkpoint."""
        if self.args.should_save:
            if not (Path(self.args.output_dir) / RECORD).is_file():
                write_run_record(self, *self.told)  # saved without a training
            named = {} if model_name is None else {"name": model_name}
            write_card(self.args.output_dir, **named)

    # -- TRL's faults --------------------------------------------------------------

    def _tokenize_prompts(self, prompts):
        # Where tools differ by row, TRL has prompts tokenised one by one.
        if (
            self._is_vlm
            and self.environment_factories is None
            and is_conversational({"prompt": prompts[0]})
        ):
            prompt_ids, images, fields = workarounds.tokenized(
                self.processing_class,
                prompts,
                tools=self.tools or None,
                chat_template=self.chat_template,
                **self.chat_template_kwargs,
            )
            images = images if any(images) else None
        else:
            prompt_ids, images, fields = super()._tokenize_prompts(prompts)
            images = workarounds.images_of_none(images)
        self._prompted = list(prompts), images or [[] for _ in prompts]
        return prompt_ids, images, fields

    def _calculate_rewards(self, *arguments, **named):
        self._rewards = super()._calculate_rewards(*arguments, **named)
        return self._rewards


def _under(prefix: str, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """What travels with the rows under such keys, by its own names."""
    return {
        name.removeprefix(prefix): values
        for name, values in inputs.items()
        if name.startswith(prefix)
    }
