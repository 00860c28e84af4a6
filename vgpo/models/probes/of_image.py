"""Probes of what a token has to do with the image."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from vgpo.method.dependence import check_view
from vgpo.models.capture import capture_focus
from vgpo.models.layers import capture_layer_cosines
from vgpo.models.probes.base import PassProbe, Probe, Scored, register_probe, told
from vgpo.models.probes.degraded import black_patches, black_squares, noisy_pixels
from vgpo.seeds import mixed_seed


@register_probe("focus")
@dataclass(frozen=True)
class Focus(PassProbe):
    """Visual focus score (Eq. 4), from the last hidden state.

    Attributes:
        alignment: ``"token"`` or ``"prediction"``, see
            :func:`~vgpo.models.capture.capture_focus`.
    """

    of_image = True
    without_gradient: ClassVar[bool] = True

    alignment: str = "token"

    @contextmanager
    def watch(
        self, model: nn.Module, completion_length: int, rows: int
    ) -> Iterator[Callable[[], Tensor]]:
        with capture_focus(
            model,
            completion_length=completion_length,
            alignment=self.alignment,
            rows=rows,
            no_grad_only=self.without_gradient,
            nonfinite="neutral",
        ) as capture:
            yield lambda: capture.focus

    def in_loss(self) -> PassProbe:
        return _FocusInLoss(self.alignment)


@dataclass(frozen=True)
class _FocusInLoss(Focus):
    """The same of a pass with gradient, which the scores do not carry."""

    without_gradient = False


@register_probe("masked_log_probs")
@dataclass(frozen=True)
class MaskedLogProbs(Probe):
    """Log-probability of each token before a degraded view of the image.

    One more forward pass without gradient. The view is a function of the run's seed,
    the generation and the prompt, so it need not be stored: it is the same after
    resuming, and on any number of processes. Rows without an image are scored as they
    are.

    Attributes:
        probability: That a patch is blacked out, in [0, 1]. PAPO has 0.6, VPPO 0.5.
        patch: Side of a patch in pixels. Where processed pixels come as one line per
            patch of the vision encoder, it is that patch.
        per: ``"prompt"``: one draw for all rollouts of a prompt, as in PAPO;
            ``"row"``: one for each, as in VPPO.
        on: What patches are cut from: ``"pixels"``, the processed image, as in VPPO;
            ``"picture"``, the picture before the processor, whatever processor it is,
            as in PAPO.
        noise: In place of patches, the standard deviation of Gaussian noise on the
            processed pixels; VEPO has 2.0. None: patches.
        within: A signal that is told by text or by the data. The pass then ends with
            the last token at which it is 1, in any row; what is given after that
            means nothing. None: all tokens are scored.

    Raises:
        ValueError: A setting is out of range.
    """

    of_image = True
    passes = 1

    probability: float = 0.6
    patch: int = 14
    per: str = "prompt"
    on: str = "pixels"
    noise: float | None = None
    within: str | None = None

    def __post_init__(self) -> None:
        check_view(self.probability, self.patch)
        if self.per not in ("prompt", "row"):
            raise ValueError(f"per must be 'prompt' or 'row', got {self.per!r}")
        if self.on not in ("pixels", "picture"):
            raise ValueError(f"on must be 'pixels' or 'picture', got {self.on!r}")
        if self.noise is not None and (self.on != "pixels" or self.noise < 0):
            raise ValueError(
                "noise must be None or at least 0, with on='pixels', got "
                f"{self.noise} with on={self.on!r}"
            )

    @property
    def needs_pictures(self) -> bool:
        return self.on == "picture"

    def measure(self, scored: Scored) -> Tensor:
        length = self._length(scored)
        if scored.pixels is None:
            return scored.rescore([], length=length)
        draws = [self._draw(scored, row) for row in range(len(scored.pixels))]
        if self.on == "pixels":
            pairs = zip(scored.pixels, draws, strict=True)
            views = [self._view(scored, *pair) for pair in pairs]
            return scored.rescore(views, length=length)
        if scored.pictures is None or scored.reprocess is None:
            raise ValueError(
                "scored: pictures are missing; masked_log_probs with on='picture' "
                "needs them"
            )
        pictures = [
            [black_squares(one, self.probability, draw, self.patch) for one in row]
            for row, draw in zip(scored.pictures, draws, strict=True)
        ]
        return scored.rescore(scored.reprocess(pictures), length=length)

    def _length(self, scored: Scored) -> int | None:
        """How many tokens are scored; no token sees those after it."""
        if self.within is None:
            return None
        inside = (told(self.within, "within", scored) == 1) & scored.completion_mask
        places = inside.any(dim=0).nonzero()
        # At least one: passes must be as many on every process.
        return int(places.max()) + 1 if len(places) else 1

    def _draw(self, scored: Scored, row: int) -> torch.Generator:
        """Where a row's draws come from, whatever process has it."""
        place = scored.first_row + row
        named = place if self.per == "row" else place // scored.group_size
        return torch.Generator().manual_seed(mixed_seed(scored.seed, named))

    def _view(self, scored: Scored, pixels: Tensor, draw: torch.Generator) -> Tensor:
        if self.noise is not None:
            return noisy_pixels(pixels, self.noise, draw, flat=scored.flat_pixels)
        return black_patches(
            pixels,
            self.probability,
            scored.black,
            draw,
            patch=self.patch,
            flat=scored.flat_pixels,
        )


@register_probe("layer_cosines")
@dataclass(frozen=True)
class LayerCosines(PassProbe):
    """Mean cosine to the image tokens, over all layers: PEPO's visual similarity.

    Attributes:
        gradient: Watch passes with gradient, in place of those without.
        detached: Of such a pass, give values without gradient and keep no states.
    """

    of_image = True

    gradient: bool = False
    detached: bool = False

    @contextmanager
    def watch(
        self, model: nn.Module, completion_length: int, rows: int
    ) -> Iterator[Callable[[], Tensor]]:
        with capture_layer_cosines(
            model,
            completion_length=completion_length,
            rows=rows,
            gradient=self.gradient,
            detached=self.detached,
        ) as capture:
            yield lambda: capture.values

    def in_loss(self) -> PassProbe:
        return replace(self, gradient=True, detached=True)
