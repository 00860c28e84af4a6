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

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.utils.data import IterableDataset, Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import split_pixel_values_by_grid

from vgpo.method.compensation import compensate, visual_gate
from vgpo.method.released import factors_from_cosines
from vgpo.method.reweighting import (
    inter_trajectory_weights,
    intra_trajectory_weights,
    reweight_advantages,
)
from vgpo.models.capture import (
    AdapterState,
    capture_focus,
    image_token_id,
    unwrap_model,
)
from vgpo.training.config import VGPOConfig
from vgpo.training.metrics import MetricsFile
from vgpo.training.rollouts import (
    load_batches,
    save_batches,
    stack_rows,
    take_row,
    to_device,
)

logger = logging.getLogger(__name__)

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


@dataclass
class VisualFactors:
    """What the advantages of a batch of rollouts are multiplied by.

    Attributes:
        focus: Visual focus scores, (B, T).
        gate: Visual gate, (B, T) bool.
        psi: Token term, (B, T); the factor is 1 + psi.
        phi: Trajectory term, (B,); the factor is 1 + phi.
    """

    focus: Tensor
    gate: Tensor
    psi: Tensor
    phi: Tensor


def visual_factors(
    focus: Tensor, completion_mask: Tensor, group_size: int, config: VGPOConfig
) -> VisualFactors:
    """Factors of a batch whose groups are ``group_size`` adjacent rows.

    Args:
        focus: Visual focus scores (Eq. 4), (B, T); rows of zeros have no image.
        completion_mask: bool or 0/1, (B, T).
        group_size: G, the rollouts per prompt.
        config: Which of Eq. 5-11, and how.

    Returns:
        The :class:`VisualFactors`; terms that are switched off are 0.
    """
    mask = completion_mask.bool()
    psi, phi = torch.zeros_like(focus), focus.new_zeros(len(focus))
    if config.variant == "released":
        has_image = (focus != 0).any(dim=1)
        factors = factors_from_cosines(
            torch.where(mask, 2 * focus - 1, 0),
            mask,
            has_image=has_image,
            strength=config.visual_compensation_strength,
            start_ratio=1 - config.visual_gate_tail_ratio,
            top_ratio=config.visual_gate_top_ratio,
            schedule=config.compensation_schedule,
            gated=True,
            num_generations=group_size,
        )
        if config.intra_trajectory:
            psi = factors.intra_factor - 1
        if config.inter_trajectory:
            # Rows without an image are left as they are, where the released code
            # would lower them to its clamp.
            phi = torch.where(has_image, factors.inter_factor - 1, 0)
        return VisualFactors(focus, factors.gate.bool(), psi, phi)

    where = (config.visual_gate_tail_ratio, config.visual_gate_top_ratio)
    weights = compensate(
        focus,
        mask,
        config.visual_compensation_strength,
        *where,
        schedule=config.compensation_schedule,
    )
    if config.intra_trajectory:
        psi = intra_trajectory_weights(weights, mask)
    if config.inter_trajectory:
        group_ids = torch.arange(len(focus), device=focus.device) // group_size
        phi = inter_trajectory_weights(weights, mask, group_ids, config.accumulation)
    return VisualFactors(focus, visual_gate(focus, mask, *where), psi, phi)


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
        given = _trained_parameters(model)
        super().__init__(model, reward_funcs, args, *others, **named)
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            _undo_rounding_of_adapters(self.model, given)
        tokenizer = self.processing_class
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            tokenizer = tokenizer.tokenizer
        if tokenizer.padding_side != "left":
            raise ValueError(
                "processing_class: its tokenizer pads on the right, which misaligns "
                "prompts and image tokens without an error; set "
                "processing_class.tokenizer.padding_side = 'left'"
            )
        if args.reweights:
            image_token_id(self.model)
        if args.dynamic_sampling and isinstance(self.train_dataset, IterableDataset):
            raise ValueError(
                "dynamic_sampling needs a train_dataset that can be indexed, to draw "
                "fresh prompts; load it without streaming"
            )
        self._accuracy_column = self._find_accuracy_column()
        self._adapters = AdapterState(self.model)
        self._tapped: Tensor | None = None
        self._listening = False
        self._rewards: Tensor | None = None
        self.model.register_forward_pre_hook(_no_empty_images, with_kwargs=True)
        self.add_callback(MetricsFile())

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

    # -- resuming -----------------------------------------------------------------

    def _get_train_sampler(self, dataset=None):
        sampler = super()._get_train_sampler(dataset)
        return _SamplerOfEpoch(sampler, lambda: int(self.state.epoch or 0))

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        model = self.model if model is None else model
        if self.is_fsdp_enabled or not isinstance(model, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        # Checkpoints have the weight names of the hub. Trainer reads them without
        # translating, finds none of a vision-language model's weights, and goes on
        # from the untrained ones with a warning.
        saved = type(model).from_pretrained(
            resume_from_checkpoint, dtype=model.dtype, local_files_only=True
        )
        model.load_state_dict(saved.state_dict())

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        every = self.args.steps_per_generation * self.num_iterations
        # Between two generations, rollouts of an older policy are still in use.
        unfinished = self._buffered_inputs if self._step % every else []
        save_batches(
            self._rollouts_file(output_dir),
            unfinished,
            {"step": self._step, "processes": self.accelerator.num_processes},
        )

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        path = self._rollouts_file(checkpoint)
        if not path.exists():
            return  # a checkpoint of another trainer
        batches, notes = load_batches(path, self.accelerator.device)
        if notes["processes"] == self.accelerator.num_processes:
            self._step = notes["step"]
            self._buffered_inputs = batches or None

    def _rollouts_file(self, folder) -> Path:
        return Path(folder) / f"rollouts_{self.accelerator.process_index}.safetensors"

    # -- rollouts -----------------------------------------------------------------

    def _generate_and_score_completions(self, inputs):
        training = self.model.training
        if training and self.args.dynamic_sampling:
            batch = self._sample_informative(inputs)
        else:
            batch = self._roll_out(inputs)
        if training and self.args.reweights:
            self._reweight(batch)
        return batch

    def _roll_out(self, inputs) -> dict[str, Any]:
        """One round of TRL's generation and scoring, with the focus scores if a
        forward pass over the rollouts was part of it."""
        inputs = _images_as_lists(inputs)
        log_images = self.log_multimodal
        self.log_multimodal = log_images and self._all_processes_have_images(inputs)
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

    def _all_processes_have_images(self, inputs) -> bool:
        # TRL gathers images for its log on those processes only that have some, and
        # the others would wait for ever.
        mine = any(row.get("images") for row in inputs)
        flag = torch.tensor([mine], device=self.accelerator.device)
        return bool(self.accelerator.gather(flag).all())

    def _tokenize_prompts(self, prompts):
        prompt_ids, images, fields = super()._tokenize_prompts(prompts)
        if images is not None:
            # Processors take rows without an image as empty lists, not as None.
            images = [row or [] for row in images]
        return prompt_ids, images, fields

    def _calculate_rewards(self, *arguments, **named):
        rewards = super()._calculate_rewards(*arguments, **named)
        self._rewards = rewards[:, self._accuracy_column]
        return rewards

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
        factors = visual_factors(all_focus, all_mask, self.num_generations, self.args)
        first = self.accelerator.process_index * rows
        mine = slice(first, first + rows)
        advantages = batch["advantages"]
        batch["advantages"] = reweight_advantages(
            advantages, factors.psi[mine, :length], factors.phi[mine]
        ).to(advantages.dtype)
        self._log_factors(factors, all_mask)

    def _log_factors(self, factors: VisualFactors, mask: Tensor) -> None:
        seen = mask & (factors.focus != 0).any(dim=1, keepdim=True)
        counts = mask.sum(dim=1, keepdim=True)
        early = seen & (mask.cumsum(dim=1) * 2 <= counts)
        rows = seen.any(dim=1)
        lengths = counts[:, 0].float()
        values = {
            "focus_early": _mean(factors.focus, early),
            "focus_late": _mean(factors.focus, seen & ~early),
            "gate_rate": _mean(factors.gate.float(), seen),
            "psi_std": _std(factors.psi, seen),
            "phi_std": _std(factors.phi, rows),
            "phi_length_corr": _within_groups(
                factors.phi, lengths, rows, self.num_generations
            ),
        }
        for name, value in values.items():
            self._metrics["train"][f"visual/{name}"].append(float(value))

    # -- dynamic sampling ---------------------------------------------------------

    def _sample_informative(self, inputs) -> dict[str, Any]:
        """A batch of groups that are neither all right nor all wrong.

        Rounds of generation go on until there are enough of them or the attempts
        are used up; then the first round's others fill the batch. Groups keep the
        order in which they were sampled, whatever the number of processes.
        """
        local_rows, group = len(inputs), self.num_generations
        wanted = local_rows * self.accelerator.num_processes // group
        rounds: list[dict[str, Any]] = []
        chosen: list[tuple[int, int]] = []
        spare: list[tuple[int, int]] = []
        for attempt in range(self.args.dynamic_sampling_max_attempts):
            if attempt:
                inputs = self._fresh_prompts(attempt, local_rows)
            rounds.append(self._roll_out(inputs))
            accuracy = self._rewards.view(-1, group).nanmean(dim=1)
            informative = (accuracy > self.args.dynamic_sampling_lower_bound) & (
                accuracy < self.args.dynamic_sampling_upper_bound
            )
            for place, good in enumerate(informative.tolist()):
                (chosen if good else spare).append((attempt, place))
            if len(chosen) >= wanted:
                break
        sampled = len(rounds) * wanted
        metrics = self._metrics["train"]
        metrics["dynamic_sampling/dropped_share"].append(len(spare) / sampled)
        metrics["dynamic_sampling/attempts"].append(len(rounds))
        missing = max(0, wanted - len(chosen))
        metrics["dynamic_sampling/unfilled_share"].append(missing / wanted)
        if missing:
            logger.info("%d of %d groups are all right or wrong", missing, wanted)
        groups = (chosen + spare)[:wanted]
        if groups == [(0, place) for place in range(wanted)]:
            return rounds[0]
        return self._assemble(rounds, groups, local_rows)

    def _fresh_prompts(self, attempt: int, local_rows: int) -> list[dict[str, Any]]:
        """Prompts drawn for one more round, a pure function of seed, step, attempt."""
        group = self.num_generations
        total = local_rows * self.accelerator.num_processes
        generator = torch.Generator().manual_seed(
            (self.args.seed * 1_000_003 + self._step) * 1_000_003 + attempt
        )
        size = len(self.train_dataset)
        order = torch.randperm(size, generator=generator).tolist()
        prompts = [order[i % size] for i in range(total // group)]
        rows = [prompt for prompt in prompts for _ in range(group)]
        first = self.accelerator.process_index * local_rows
        return [self.train_dataset[i] for i in rows[first : first + local_rows]]

    def _assemble(
        self,
        rounds: Sequence[dict[str, Any]],
        groups: Sequence[tuple[int, int]],
        local_rows: int,
    ) -> dict[str, Any]:
        """The rows of ``groups``, (round, place) each, as one batch per process."""
        size, rank = self.num_generations, self.accelerator.process_index
        sources = [
            (attempt, place * size + i)
            for attempt, place in groups
            for i in range(size)
        ]
        rounds = [split_pixel_values_by_grid(r) for r in rounds]
        held = {
            target: take_row(rounds[attempt], row - rank * local_rows)
            for target, (attempt, row) in enumerate(sources)
            if row // local_rows == rank
        }
        mine = range(rank * local_rows, (rank + 1) * local_rows)
        if self.accelerator.num_processes > 1:
            device = self.accelerator.device
            elsewhere = {
                target: to_device(row, "cpu")
                for target, row in held.items()
                if target not in mine
            }
            for rows in _all_gather_object(elsewhere):
                held |= {
                    target: to_device(row, device)
                    for target, row in rows.items()
                    if target in mine
                }
        batch = stack_rows([held[row] for row in mine], self._tokenizer.pad_token_id)
        counted = batch["completion_mask"]
        if "tool_mask" in batch:
            counted = counted * batch["tool_mask"]
        batch["num_items_in_batch"] = self.accelerator.gather(counted.sum()).sum()
        return batch


def _trained_parameters(model: Any) -> dict[str, Tensor]:
    """Copies of what a model with adapters, if it is one, has to train."""
    if not isinstance(model, PeftModel):
        return {}
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def _undo_rounding_of_adapters(model: torch.nn.Module, given: dict[str, Tensor]):
    """Adapters over quantised weights, back in float32.

    TRL rounds them to bfloat16, in which a step of 1e-6, or 1e-5, is less than half
    the distance of most weights to their neighbour: they would stand still. And an
    adapter is reloaded in float32, in which the same numbers score otherwise.
    """
    # Transformers sets this on quantised models only.
    if not getattr(unwrap_model(model), "is_loaded_in_4bit", False):
        return
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype == torch.bfloat16:
            parameter.data = given.get(name, parameter.data).float()


def _images_as_lists(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with a list of ``images`` each, empty where there is none, which TRL takes
    where it does not take an ``image`` of None."""
    if "images" in inputs[0]:
        return [{**row, "images": row["images"] or []} for row in inputs]
    if "image" in inputs[0]:
        return [
            {**row, "images": [] if row["image"] is None else [row["image"]]}
            for row in inputs
        ]
    return inputs


def _no_empty_images(module, args, kwargs):
    """Lets a micro-batch of rows without images through a vision-language model."""
    pixels = kwargs.get("pixel_values")
    if pixels is not None and len(pixels) == 0:
        gone = ("pixel_values", "image_grid_thw", "image_sizes", "pixel_attention_mask")
        kwargs = {name: value for name, value in kwargs.items() if name not in gone}
    return args, kwargs


class _SamplerOfEpoch(Sampler):
    """TRL's sampler, which in a resumed run would begin with the first epoch's order
    whatever epoch it is."""

    def __init__(self, sampler, epoch):
        self._sampler, self._epoch = sampler, epoch

    def __iter__(self):
        if self._sampler.shuffle:
            generator = self._sampler.generator.manual_seed(self._sampler.seed)
            for _ in range(self._epoch()):
                torch.randperm(self._sampler.num_samples, generator=generator)
        return iter(self._sampler)

    def __len__(self):
        return len(self._sampler)


def _all_gather_object(value: Any) -> list[Any]:
    gathered = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, value)
    return gathered


# -- statistics for the log -------------------------------------------------------


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0).sum() / mask.sum()


def _std(values: Tensor, mask: Tensor) -> Tensor:
    centred = torch.where(mask, values - _mean(values, mask), 0)
    return (centred.square().sum() / mask.sum()).sqrt()


def _within_groups(a: Tensor, b: Tensor, rows: Tensor, group_size: int) -> Tensor:
    """Correlation of a with b over the rows of a group that count, averaged over the
    groups in which both vary; NaN if there is none."""
    counted = rows.view(-1, group_size)
    size = counted.sum(dim=1, keepdim=True).clamp(min=1)

    def centred(values: Tensor) -> Tensor:
        values = torch.where(counted, values.view(-1, group_size), 0)
        mean = values.sum(dim=1, keepdim=True) / size
        return torch.where(counted, values - mean, 0)

    a, b = centred(a), centred(b)
    return ((a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))).nanmean()
