"""The VGPO trainer: TRL's GRPO with visually guided advantages.

Only the scoring of rollouts differs from :class:`trl.GRPOTrainer`. Its loss is
untouched, so every loss type, clip, vLLM, DeepSpeed and FSDP setting stays. On the
way of a batch:

1. TRL generates, scores and normalises rewards, within groups of G rollouts.
2. With dynamic sampling, groups that are all right or all wrong are replaced.
3. One forward pass without gradient gives every token's visual focus. Where TRL
   computes old log-probabilities, it is that pass; else it is one of its own.
4. Focus, from all processes, becomes weights, psi and phi, and advantages (B, T).

A checkpoint taken between two generations holds the rollouts still in use, and a
resumed run goes on as if it had not been stopped. With ``save_steps`` a multiple of
the optimizer steps per generation there are none to keep.

Departures from the paper: weights are computed once per rollout and stay fixed over
its updates, where the released code recomputes them at each (the paper is silent);
truncated rollouts that TRL masks are left out of their group's statistics.

Departure from TRL: adapters over 4-bit weights are trained in float32 rather than
bfloat16, in which learning rates such as the paper's are rounded away; except under
FSDP and DeepSpeed, which want one type throughout.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing

from vgpo.method.reweighting import reweight_advantages
from vgpo.method.visual import visual_factors, visual_statistics
from vgpo.models.capture import AdapterState, capture_focus
from vgpo.models.handle import image_token_id
from vgpo.training import resume, workarounds
from vgpo.training.config import VGPOConfig
from vgpo.training.dynamic_sampling import DynamicSampling
from vgpo.training.metrics import MetricsFile

# What `_get_per_token_logps_and_entropies` takes beside ids, mask and length.
_FORWARD_KEYS = (
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


class VGPOTrainer(GRPOTrainer):
    """Trains a vision-language model with GRPO, DAPO or VGPO.

    Takes what :class:`trl.GRPOTrainer` takes, with a
    :class:`~vgpo.training.config.VGPOConfig` as ``args``. Data sets may mix rows
    with and without images; a row's ``image`` (or ``images``) is then None (or empty),
    and its advantages are left as they are. Not so under FSDP or DeepSpeed ZeRO-3,
    where all processes must run the vision tower together: there, every row needs an
    image.

    Logged beside TRL's metrics:

    - ``visual/focus_early``, ``visual/focus_late``: mean focus score over the first
      and the second half of the completions that have an image;
    - ``visual/gate_rate``: share of their tokens that pass the gate;
    - ``visual/psi_std``, ``visual/phi_std``: spread of the two terms;
    - ``visual/phi_length_corr``: correlation of phi with the completion's length
      within a group, averaged over the groups;
    - ``dynamic_sampling/dropped_share``: share of the sampled groups that were all
      right or all wrong; ``dynamic_sampling/attempts``: rounds of generation;
      ``dynamic_sampling/unfilled_share``: share of the batch that had to be filled
      with such groups.

    They, and TRL's, are written to ``metrics.jsonl`` in ``output_dir`` as well.

    Raises:
        ValueError: ``args`` is no :class:`~vgpo.training.config.VGPOConfig`; the
            processor pads on the right; the model has no image token; dynamic
            sampling over a stream.

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
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            workarounds.undo_rounding_of_adapters(self.model, given)
        self.model.register_forward_pre_hook(workarounds.empty_pixels, with_kwargs=True)
        self._check_tokenizer()
        if args.reweights:
            image_token_id(self.model)
        self._accuracy_column = self._find_accuracy_column()
        self._dynamic_sampling = self._make_dynamic_sampling()
        self._adapters = AdapterState(self.model)
        self._tapped: Tensor | None = None
        self._listening = False
        self._accuracy: Tensor | None = None
        self.add_callback(MetricsFile())

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

    def _make_dynamic_sampling(self) -> DynamicSampling | None:
        args = self.args
        if not args.dynamic_sampling:
            return None
        if isinstance(self.train_dataset, IterableDataset):
            raise ValueError(
                "dynamic_sampling needs a train_dataset that can be indexed, to draw "
                "fresh prompts; load it without streaming"
            )
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
        if name not in self.reward_func_names:
            raise ValueError(
                f"dynamic_sampling_reward must be one of {self.reward_func_names}, got "
                f"{name!r}"
            )
        return self.reward_func_names.index(name)

    # -- the way of a batch -------------------------------------------------------

    def _generate_and_score_completions(self, inputs):
        if not self.model.training:
            return self._roll_out(inputs)
        if self._dynamic_sampling is None:
            batch = self._roll_out(inputs)
        else:
            batch, logs = self._dynamic_sampling.sample(
                inputs, self._roll_out_and_judge, self._step
            )
            self._note(logs)
        if self.args.reweights:
            self._reweight(batch)
        return batch

    def _roll_out(self, inputs) -> dict[str, Any]:
        """One round of TRL's generation and scoring, with the focus scores if a
        forward pass over the rollouts was part of it."""
        inputs = workarounds.image_of_none(inputs)
        log_images = self.log_multimodal
        self.log_multimodal = log_images and workarounds.all_processes_have_images(
            self.accelerator, inputs
        )
        self._tapped = None
        self._listening = self.model.training and self.args.reweights
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self._listening = False
            self.log_multimodal = log_images
        if self._tapped is not None:
            batch["visual_focus"], self._tapped = self._tapped, None
        return batch

    def _roll_out_and_judge(self, inputs) -> tuple[dict[str, Any], Tensor]:
        """A round, and how accurate the rollouts of all processes are."""
        batch = self._roll_out(inputs)
        return batch, self._accuracy

    def _tokenize_prompts(self, prompts):
        prompt_ids, images, fields = super()._tokenize_prompts(prompts)
        return prompt_ids, workarounds.images_of_none(images), fields

    def _calculate_rewards(self, *arguments, **named):
        rewards = super()._calculate_rewards(*arguments, **named)
        self._accuracy = rewards[:, self._accuracy_column]
        return rewards

    # -- focus scores -------------------------------------------------------------

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, *others, **named
    ):
        run = super()._get_per_token_logps_and_entropies
        tap = (
            self._listening
            and self._tapped is None
            and model is self.model
            # A reference pass runs on the same model with its adapters off.
            and not self._adapters.changed()
        )
        if not tap:
            return run(
                model, input_ids, attention_mask, logits_to_keep, *others, **named
            )
        with capture_focus(
            model,
            completion_length=logits_to_keep,
            alignment=self.args.alignment,
            rows=len(input_ids),
            no_grad_only=True,
            nonfinite="neutral",
        ) as capture:
            out = run(
                model, input_ids, attention_mask, logits_to_keep, *others, **named
            )
        self._tapped = capture.focus
        return out

    def _score_focus(self, batch: dict[str, Any]) -> Tensor:
        """Focus scores by a forward pass of their own."""
        self._listening = True
        try:
            with (
                torch.no_grad(),
                disable_gradient_checkpointing(
                    self.model, self.args.gradient_checkpointing_kwargs
                ),
            ):
                self._get_per_token_logps_and_entropies(
                    self.model,
                    torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
                    torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
                    batch["completion_ids"].shape[1],
                    batch_size=self.args.per_device_train_batch_size,
                    **{key: batch[key] for key in _FORWARD_KEYS if key in batch},
                )
        finally:
            self._listening = False
        focus, self._tapped = self._tapped, None
        return focus

    # -- advantages ---------------------------------------------------------------

    def _reweight(self, batch: dict[str, Any]) -> None:
        """Turns the advantages of ``batch`` from (B,) into (B, T) (Eq. 12)."""
        focus = batch.pop("visual_focus", None)
        if focus is None:
            focus = self._score_focus(batch)
        mask = (batch["completion_mask"] * batch.get("tool_mask", 1)).bool()
        rows, length = mask.shape
        # Groups may be spread over processes, so factors are computed for all rows.
        gathered = self.accelerator.gather(
            self.accelerator.pad_across_processes(
                torch.stack([focus, mask.to(focus.dtype)], dim=-1), dim=1
            )
        )
        all_focus, all_mask = gathered[..., 0].contiguous(), gathered[..., 1].bool()
        group_ids = torch.arange(len(all_mask), device=all_mask.device)
        group_ids = group_ids // self.num_generations
        factors = visual_factors(all_focus, all_mask, group_ids, self.args.visual)
        first = self.accelerator.process_index * rows
        mine = slice(first, first + rows)
        advantages = batch["advantages"]
        batch["advantages"] = reweight_advantages(
            advantages, factors.psi[mine, :length], factors.phi[mine]
        ).to(advantages.dtype)
        self._note(visual_statistics(factors, all_mask, group_ids))

    def _note(self, values: dict[str, float]) -> None:
        """Numbers for the log of this step."""
        for name, value in values.items():
            self._metrics["train"][name].append(value)

    # -- resuming -----------------------------------------------------------------

    def _get_train_sampler(self, dataset=None):
        sampler = super()._get_train_sampler(dataset)
        return resume.SamplerOfEpoch(sampler, lambda: int(self.state.epoch or 0))

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        model = self.model if model is None else model
        if self.is_fsdp_enabled or not isinstance(model, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            resume.load_weights(model, resume_from_checkpoint)

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        every = self.args.steps_per_generation * self.num_iterations
        resume.save_rollouts(
            output_dir,
            self.accelerator.process_index,
            # Between two generations, rollouts of an older policy are still in use.
            self._buffered_inputs if self._step % every else [],
            {"step": self._step, "processes": self.accelerator.num_processes},
        )

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        accelerator = self.accelerator
        loaded = resume.load_rollouts(
            checkpoint,
            accelerator.process_index,
            accelerator.num_processes,
            accelerator.device,
        )
        if loaded is not None:
            batches, notes = loaded
            self._step = notes["step"]
            self._buffered_inputs = batches or None
