"""From the signals that a method names to their numbers, of every token.

A scoring pass is a forward pass of the policy over whole rollouts without gradient.
TRL makes one for old log-probabilities, in some settings; probes then read along.
Else, where a generation is one micro-batch that is used once, the pass of the loss is
the same one, and they read along with that. Else they have one of their own. Probes
that need no pass cause none.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from trl.trainer.utils import (
    split_pixel_values_by_grid,
    unsplit_pixel_values_by_grid,
)

from vgpo.method.shaping import Method, Rollouts
from vgpo.models.probes.base import PassProbe, Probe, Scored, make_probe
from vgpo.models.probes.of_text import Entropy, LogProbs

Forward = Callable[..., tuple[Tensor, Tensor | None, Any]]

# Under these keys, what was read in a pass travels with a batch. No signal has a
# colon in its name.
_PASS = "pass:"

IN_LOSS = frozenset({"log_probs", "entropy"})
"""The signals that the loss's own pass gives."""


@dataclass(frozen=True)
class Signals:
    """The probes of a method, by name of the signal.

    Attributes:
        watching: Those that need hooks during the pass.
        measuring: Those that are computed after it.
    """

    watching: Mapping[str, PassProbe] = field(default_factory=dict)
    measuring: Mapping[str, Probe] = field(default_factory=dict)

    @classmethod
    def of(cls, method: Method) -> "Signals":
        """The probes to measure once per generation.

        All that the method names or, where it is shaped in the loss, those that the
        loss's own pass cannot give.

        Raises:
            ValueError: There is no such signal, or it has no such setting; a method
                is shaped in the loss, and a signal needs a scoring pass.
        """
        settings = method.signal_settings
        asked = method.signals - (IN_LOSS if method.in_loss else frozenset())
        probes = {name: make_probe(name, settings.get(name)) for name in sorted(asked)}
        watching = {n: p for n, p in probes.items() if isinstance(p, PassProbe)}
        measuring = {n: p for n, p in probes.items() if not isinstance(p, PassProbe)}
        if not method.in_loss:
            return cls(watching, measuring)
        for name, probe in measuring.items():
            if probe.needs:
                raise ValueError(
                    f"in_loss: signal {name!r} of {type(method).__name__} needs the "
                    "policy's own scores beforehand"
                )
        return cls(measuring=measuring)

    @classmethod
    def of_loss(cls, method: Method) -> "Signals":
        """The probes that watch the loss's pass.

        Those whose gradient a method wants and, where it is shaped in the loss, those
        that would else watch a scoring pass.

        Raises:
            ValueError: There is no such signal, or it cannot be read there.
        """
        settings = method.signal_settings
        watching: dict[str, PassProbe] = {}
        for name in sorted(method.loss_signals):
            probe = make_probe(name, {**settings.get(name, {}), "gradient": True})
            if not isinstance(probe, PassProbe):
                raise ValueError(f"loss_signals: {name!r} does not watch a pass")
            watching[name] = probe
        if not method.in_loss:
            return cls(watching)
        return cls(watching | _watching_the_loss(method, watching.keys()))

    @classmethod
    def of_shared_pass(cls, method: Method) -> "Signals | None":
        """The probes that watch the loss's pass where it is the scoring pass as well.

        Those of :meth:`of_loss`, and those that would watch a scoring pass. None where
        a scoring pass gives nothing, or what the loss's pass cannot give as well.
        """
        own = cls.of(method)
        wanting = [probe for probe in own.measuring.values() if probe.needs]
        plain = all(isinstance(probe, LogProbs | Entropy) for probe in wanting)
        if method.in_loss or not own.needed or not plain:
            return None
        watching = cls.of_loss(method).watching
        try:
            return cls({**watching, **_watching_the_loss(method, watching.keys())})
        except ValueError:
            return None

    @property
    def apart(self) -> "Signals":
        """The probes that need nothing of a scoring pass."""
        return Signals(
            measuring={n: p for n, p in self.measuring.items() if not p.needs}
        )

    @property
    def of_image(self) -> bool:
        """Whether a probe measures what a token has to do with an image."""
        probes = *self.watching.values(), *self.measuring.values()
        return any(probe.of_image for probe in probes)

    @property
    def needs_pictures(self) -> bool:
        """Whether a probe wants the pictures themselves."""
        return any(probe.needs_pictures for probe in self.measuring.values())

    @property
    def needed(self) -> frozenset[str]:
        """What must come out of a scoring pass."""
        asked = (probe.needs for probe in self.measuring.values())
        return frozenset(self.watching).union(*asked)

    def read_along(
        self, forward: Forward, model: nn.Module, rows: int, completion_length: int
    ) -> tuple[tuple[Tensor, Tensor | None, Any], dict[str, Tensor]]:
        """Runs a scoring pass and reads what the probes need of it.

        Args:
            forward: The pass, with the option ``compute_entropy``.
            model: Whose pass it is.
            rows: How many, B.
            completion_length: In tokens, T.

        Returns:
            The pass's own result, and what was read, to be kept in the batch.
        """
        needed = self.needed
        with ExitStack() as hooks:
            results = {
                name: hooks.enter_context(probe.watch(model, completion_length, rows))
                for name, probe in self.watching.items()
            }
            options = {"compute_entropy": True} if "entropy" in needed else {}
            out = forward(**options)
            read = {_PASS + name: result() for name, result in results.items()}
        if "log_probs" in needed:
            read[_PASS + "log_probs"] = out[0]
        if "entropy" in needed:
            read[_PASS + "entropy"] = out[1]
        return out, read

    def watched(self, read: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By name, what the probes that watch gave to :meth:`read_along`."""
        return {name: read[_PASS + name] for name in self.watching}

    def missing(self, batch: Mapping[str, Any]) -> bool:
        """Whether a scoring pass is needed and none has been read along with."""
        return any(_PASS + name not in batch for name in self.needed)

    def measure(
        self, batch: dict[str, Any], scored: Callable[..., Scored]
    ) -> dict[str, Tensor]:
        """All signals of a batch, (B, T) each; what was read is taken out of it.

        Args:
            batch: With what :meth:`read_along` gave.
            scored: Makes what the other probes measure from, given ``log_probs`` and
                ``entropy``.

        Raises:
            ValueError: A probe's result has another shape.
        """
        read = {name: batch.pop(_PASS + name) for name in self.needed}
        signals = {name: read[name] for name in self.watching}
        if self.measuring:
            rollouts = scored(
                log_probs=read.get("log_probs"), entropy=read.get("entropy")
            )
            for name, probe in self.measuring.items():
                signals[name] = probe.measure(rollouts).to(batch["advantages"].device)
        shape = batch["completion_ids"].shape
        for name, values in signals.items():
            if values.shape != shape:
                raise ValueError(
                    f"signal {name!r}: its probe gave shape {tuple(values.shape)}, "
                    f"rollouts need {tuple(shape)}"
                )
        return signals


def _watching_the_loss(method: Method, but: Collection[str]) -> dict[str, PassProbe]:
    """Those of the signals that watch a pass, for that of the loss.

    Raises:
        ValueError: One cannot be read there.
    """
    watching = {}
    for name in sorted(method.signals - set(but)):
        probe = make_probe(name, method.signal_settings.get(name))
        if not isinstance(probe, PassProbe):
            continue
        seen = probe.in_loss()
        if seen is None:
            raise ValueError(
                f"in_loss: signal {name!r} of {type(method).__name__} cannot be read "
                "in the loss"
            )
        watching[name] = seen
    return watching


def scored_rollouts(
    batch: dict[str, Any],
    processing_class: Any,
    score: Callable[..., Tensor],
    reprocess: Callable[[Sequence[Sequence[Any]]], Tensor],
    **others: Any,
) -> Scored:
    """What probes measure from.

    Args:
        batch: One process's rollouts, with the columns of their ``rows``.
        processing_class: The trainer's processor or tokenizer.
        score: Log-probabilities (B, T) of a batch, by a forward pass, with some tokens
            hidden from attention where a second argument says so, and of the first
            ``length`` alone.
        reprocess: From other pictures per row to their pixels, laid out as in
            ``batch``.
        **others: The other fields of :class:`~vgpo.models.probes.Scored`.
    """
    # One tensor of pixels per row. What TRL does not cut is a padded stack with one
    # entry per row.
    cut = split_pixel_values_by_grid(batch)
    pixels = cut.get("pixel_values")
    if isinstance(pixels, Tensor):
        pixels = list(pixels.split(1))

    def rescore(
        views: Sequence[Tensor],
        hidden: Tensor | None = None,
        length: int | None = None,
    ) -> Tensor:
        if pixels is None:
            return score(batch, hidden, length=length)
        seen = unsplit_pixel_values_by_grid({**cut, "pixel_values": list(views)})
        return score(seen, hidden, length=length)

    def pixels_of(pictures: Sequence[Sequence[Any]]) -> Sequence[Tensor]:
        given = as_laid_out(reprocess(pictures), batch["pixel_values"])
        values = split_pixel_values_by_grid({**batch, "pixel_values": given})
        views = values["pixel_values"]
        return list(views.split(1)) if isinstance(views, Tensor) else views

    tokenizer, black = processing_class, torch.zeros(3)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        tokenizer = tokenizer.tokenizer
    if pixels is not None:
        processor = processing_class.image_processor
        black = -torch.tensor(processor.image_mean) / torch.tensor(processor.image_std)
    return Scored(
        completion_ids=batch["completion_ids"],
        completion_mask=loss_mask(batch),
        pixels=pixels,
        flat_pixels="image_grid_thw" in batch,
        black=black,
        rows=batch["rows"],
        decode=partial(tokenizer.decode, skip_special_tokens=True),
        rescore=rescore,
        pictures=batch.get("pictures"),
        reprocess=pixels_of,
        **others,
    )


def as_laid_out(pixels: Tensor, like: Tensor) -> Tensor:
    """Processed pixels of other pictures, in the place of those of a batch.

    Args:
        pixels: Of pictures of the same sizes.
        like: The batch's. It may be padded more, if rows of several rounds were joined.

    Raises:
        ValueError: There are more or fewer of them.
    """
    short = [want - have for have, want in zip(pixels.shape, like.shape, strict=False)]
    if pixels.ndim != like.ndim or short[0] or min(short) < 0:
        raise ValueError(
            f"pixel_values of the degraded pictures have shape {tuple(pixels.shape)}, "
            f"those of the rollouts {tuple(like.shape)}; methods that degrade the "
            "pictures of the prompts cannot be used with tools that return pictures"
        )
    amounts = [amount for more in reversed(short) for amount in (0, more)]
    return torch.nn.functional.pad(pixels.to(like), amounts)


def rows_in_order(batch: Mapping[str, Any], order: Tensor) -> dict[str, Any]:
    """What :func:`gather_rollouts` needs of a batch, its rows in another order.

    Args:
        batch: One process's rollouts, with their ``rewards``.
        order: Integers, (B,): which row comes first, second, ...
    """
    named = ("completion_mask", "tool_mask", "advantages", "rewards", "has_image")
    out = {}
    for name in named:
        values = batch.get(name)
        if isinstance(values, Tensor):
            out[name] = values[order]
        elif values is not None:
            out[name] = [values[row] for row in order.tolist()]
    return out


def gather_rollouts(
    accelerator: Accelerator,
    batch: dict[str, Any],
    signals: Mapping[str, Tensor],
    *,
    reward_weights: Tensor,
    group_size: int,
    progress: float,
) -> Rollouts:
    """The rollouts of all processes, over several of which a group may be spread.

    Args:
        accelerator: The processes.
        batch: One process's rollouts; its ``rewards`` are taken out.
        signals: (B, T) each.
        reward_weights: Of the reward functions.
        group_size: G, rollouts of a prompt.
        progress: Share of the training that is done.
    """
    mask = loss_mask(batch)
    # Everything per token in one tensor, and everything per row: two messages.
    tokens = torch.stack([mask.float(), *(x.float() for x in signals.values())], dim=-1)
    tokens = accelerator.gather(accelerator.pad_across_processes(tokens, dim=1))
    by_function = batch.pop("rewards")
    summed = (by_function * reward_weights.to(mask.device)).nansum(dim=1)
    summed[by_function.isnan().all(dim=1)] = torch.nan
    has_image = rows_with_image(batch)
    numbers = [batch["advantages"].float(), summed.float(), has_image.float()]
    advantages, rewards, has_image = accelerator.gather(
        torch.stack(numbers, dim=1)
    ).unbind(dim=1)
    place = torch.arange(len(advantages), device=mask.device)
    return Rollouts(
        advantages=advantages,
        mask=tokens[..., 0].bool(),
        group_ids=place // group_size,
        signals={
            name: tokens[..., at].contiguous() for at, name in enumerate(signals, 1)
        },
        has_image=has_image.bool(),
        rewards=rewards,
        progress=progress,
    )


def joined(parts: Sequence[Rollouts], processes: int, group_size: int) -> Rollouts:
    """What :func:`gather_rollouts` gave of the parts of a generation, as of the whole.

    Args:
        parts: Each with as many rows of one process as of another.
        processes: How many they were gathered from.
        group_size: G, rollouts of a prompt.
    """

    def cat(values: Sequence[Tensor]) -> Tensor:
        of_process = [x.view(processes, -1, *x.shape[1:]) for x in values]
        return torch.cat(of_process, dim=1).flatten(0, 1)

    first = parts[0]
    fields = {
        name: cat([getattr(part, name) for part in parts])
        for name in ("advantages", "mask", "has_image", "rewards")
    }
    return replace(
        first,
        **fields,
        group_ids=torch.arange(len(fields["mask"]), device=first.mask.device)
        // group_size,
        signals={
            name: cat([part.signals[name] for part in parts]) for name in first.signals
        },
    )


def rows_with_image(batch: Mapping[str, Any]) -> Tensor:
    """bool, (B,): rows with an image, which ``num_images`` need not say any more."""
    mask = batch["completion_mask"]
    # Rollouts that an earlier release kept have their numbers of images alone.
    images = batch.get("has_image") or batch.get("num_images") or [0] * len(mask)
    return torch.tensor(images, device=mask.device) > 0


def rollouts_in_loss(
    inputs: Mapping[str, Any],
    log_probs: Tensor,
    entropy: Tensor,
    signals: Mapping[str, Tensor],
    progress: float,
) -> Rollouts:
    """A micro-batch, for a method that is shaped in the loss.

    Args:
        inputs: Of the loss, with advantages (b,).
        log_probs: Of the loss's pass, (b, T).
        entropy: The same.
        signals: By name, (b, T): what else has been measured.
        progress: Share of the training that is done.
    """
    advantages = inputs["advantages"].float()
    # TRL leaves them out where the policy is still the one that wrote the rollouts.
    old = inputs.get("old_per_token_logps")
    return Rollouts(
        advantages=advantages,
        mask=loss_mask(inputs),
        group_ids=torch.arange(len(advantages), device=advantages.device),
        signals={
            "log_probs": (log_probs if old is None else old).detach().float(),
            "entropy": entropy.detach().float(),
            **{name: values.detach().float() for name, values in signals.items()},
        },
        has_image=rows_with_image(inputs),
        rewards=torch.full_like(advantages, torch.nan),
        progress=progress,
    )


def loss_mask(batch: Mapping[str, Any]) -> Tensor:
    """bool, (B, T): completion tokens that the model itself wrote."""
    return (batch["completion_mask"] * batch.get("tool_mask", 1)).bool()
