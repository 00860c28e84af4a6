"""Probes: what can be measured of every token of a rollout.

A method names the signals it needs; each is one number per token, and a probe
measures it while, or after, the policy scores the rollouts in one forward pass
without gradient. There are two kinds: a :class:`PassProbe` watches that pass as it
runs, with hooks; any other :class:`Probe` is given the rollouts afterwards, with the
pass's results and the means to score the same tokens again before other pixels.

=====================  ==========================================================
``focus``              visual focus score (Eq. 4); 0 throughout without an image
``log_probs``          log-probability of the token under the policy that wrote it
``entropy``            entropy of that policy at the token
``masked_log_probs``   log-probability before a degraded view of the image
``layer_cosines``      mean cosine to the image tokens, over all layers (PEPO)
``perception``         1 between tags of perception, 0 after them, -1 elsewhere
``hidden_log_probs``   log-probability with the perception hidden from attention
=====================  ==========================================================

A signal of one's own is a function of :class:`Scored` rollouts:

    >>> @register_probe("is_digit")
    ... def is_digit(scored):
    ...     out = torch.zeros(scored.completion_ids.shape)
    ...     for row, ids in enumerate(scored.completion_ids.tolist()):
    ...         words = [scored.decode([token]) for token in ids]
    ...         out[row] = torch.tensor([float(word.isdigit()) for word in words])
    ...     return out
    >>> "is_digit" in PROBES
    True

A method with ``signals = frozenset({"is_digit"})`` then gets it. ``scored.rows`` has
the other columns of the data set, so a signal can be computed from the truth.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vgpo.method.dependence import check_view
from vgpo.models.capture import capture_focus
from vgpo.models.layers import capture_layer_cosines
from vgpo.pictures import as_rgb
from vgpo.seeds import mixed_seed


@dataclass(frozen=True)
class Scored:
    """The rollouts of one process, after the policy has scored them.

    Attributes:
        completion_ids: (B, T), padded on the right.
        completion_mask: bool, (B, T), True on the tokens that enter the loss.
        log_probs: (B, T), if a probe of the method needs them, else None.
        entropy: (B, T), if a probe of the method needs it, else None.
        pixels: Per row, what the model takes as ``pixel_values``; None without any
            image in the batch.
        flat_pixels: Whether that is one line per patch of the vision encoder (as in
            Qwen's models), channels first, rather than pictures.
        black: What a black pixel is to the model, one number per channel.
        rows: Per row, the columns of the data set, but for its images.
        decode: From a list of token ids to text.
        rescore: Log-probabilities (B, T) of the same tokens with other pixels; with
            some of them hidden from attention where ``hidden``, bool (B, T), says so;
            of the first ``length`` tokens alone, in a shorter pass, and 0 after them.
        seed: Of this generation: the same after resuming.
        first_row: Number of this process's first row among those of all processes.
        group_size: G, the adjacent rows that answer the same prompt.
        pictures: Per row, the pictures of its prompt as the processor was given them;
            only where a probe says that it needs them.
        reprocess: From as many other pictures, of the same sizes, to their pixels,
            one per row as in ``pixels``.
    """

    completion_ids: Tensor
    completion_mask: Tensor
    log_probs: Tensor | None
    entropy: Tensor | None
    pixels: Sequence[Tensor] | None
    flat_pixels: bool
    black: Tensor
    rows: Sequence[Mapping[str, Any]]
    decode: Callable[[list[int]], str]
    rescore: Callable[..., Tensor]
    seed: int
    first_row: int
    group_size: int
    pictures: Sequence[Sequence[Image.Image]] | None = None
    reprocess: Callable[[Sequence[Sequence[Image.Image]]], Sequence[Tensor]] | None = (
        None
    )

    @cached_property
    def completions(self) -> list[str]:
        """Text of each completion, up to its last token that counts."""
        return [
            self.decode(ids[mask].tolist())
            for ids, mask in zip(self.completion_ids, self.completion_mask, strict=True)
        ]


class Probe:
    """Measures one signal after the scoring pass.

    Attributes:
        needs: What it wants of that pass, of ``"log_probs"`` and ``"entropy"``.
        of_image: Whether it says something of the image, so that a model without
            images cannot give it.
        passes: Forward passes that it makes itself.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    of_image: ClassVar[bool] = False
    passes: ClassVar[int] = 0

    @property
    def needs_pictures(self) -> bool:
        """Whether it wants the pictures themselves, not only their pixels."""
        return False

    def measure(self, scored: Scored) -> Tensor:
        """The signal, (B, T)."""
        raise NotImplementedError


class PassProbe:
    """Measures one signal during the scoring pass.

    Attributes:
        of_image: As of a :class:`Probe`.
    """

    of_image: ClassVar[bool] = False

    def watch(
        self, model: nn.Module, completion_length: int, rows: int
    ) -> AbstractContextManager[Callable[[], Tensor]]:
        """A context in which a pass over the batch is run, in chunks or not.

        Args:
            model: The policy, wrapped or not.
            completion_length: T: the last positions of each row.
            rows: B.

        Returns:
            The context gives a function that, once the pass is over, returns the
            signal, (B, T).
        """
        raise NotImplementedError

    def in_loss(self) -> "PassProbe | None":
        """The same for the loss's pass, of values without gradient; None where what
        it says cannot be read there."""
        return None


PROBES: dict[str, Callable[..., Probe | PassProbe]] = {}
"""All probes by name. :func:`register_probe` adds to it."""


def register_probe(name: str, needs: Sequence[str] = ()) -> Callable[[Any], Any]:
    """Makes a signal known by a name, under which a method can ask for it.

    Args:
        name: The signal.
        needs: For a function: what it wants of the scoring pass, of ``"log_probs"``
            and ``"entropy"``.

    Returns:
        A decorator for a frozen dataclass that is a :class:`Probe` or a
        :class:`PassProbe`, or for a function from :class:`Scored` to (B, T).
        Registering something of the same name from the same module again replaces
        it, as a notebook's cell does that is run twice.

    Raises:
        ValueError: The name belongs to another probe, or ``needs`` is unknown.
    """
    if not set(needs) <= {"log_probs", "entropy"}:
        raise ValueError(
            f"needs must be among 'log_probs' and 'entropy', got {tuple(needs)}"
        )

    def add(probe: Any) -> Any:
        known = PROBES.get(name)
        if known is not None and _origin(known) != _origin(probe):
            raise ValueError(
                f"name: there is a probe {name!r} already, in {_origin(known)[0]}; "
                "choose another name"
            )
        if isinstance(probe, type):
            PROBES[name] = probe
        else:
            PROBES[name] = _FunctionFactory(probe, frozenset(needs))
        return probe

    return add


def make_probe(
    name: str, settings: Mapping[str, Any] | None = None
) -> Probe | PassProbe:
    """A probe by its name, with its settings.

    Raises:
        ValueError: Unknown signal or setting; the message names it.

    Example:
        >>> make_probe("focus", {"alignment": "prediction"})
        Focus(alignment='prediction')
    """
    if name not in PROBES:
        raise ValueError(f"signals must be among {tuple(PROBES)}, got {name!r}")
    probe = PROBES[name]
    settings = {} if settings is None else dict(settings)
    if isinstance(probe, type) and is_dataclass(probe):
        unknown = set(settings) - {field.name for field in fields(probe)}
        if unknown:
            raise ValueError(
                f"signal_settings: {name!r} has no setting {', '.join(sorted(unknown))}"
            )
    return probe(**settings)


@dataclass(frozen=True)
class _FunctionFactory:
    """Stands for the class of a probe that is a function."""

    function: Callable[..., Tensor]
    needed: frozenset[str]

    def __call__(self, **settings: Any) -> Probe:
        return _FunctionProbe(self.function, self.needed, settings)


class _FunctionProbe(Probe):
    def __init__(self, function, needed, settings):
        self._function, self._settings = function, settings
        self.needs = needed

    def measure(self, scored: Scored) -> Tensor:
        return self._function(scored, **self._settings)


def _given(values: Tensor | None, name: str) -> Tensor:
    if values is None:
        raise ValueError(
            f"scored: {name} is missing; the probe has to name it in needs"
        )
    return values


def _origin(probe: Any) -> tuple[str, str]:
    if isinstance(probe, _FunctionFactory):
        probe = probe.function
    return probe.__module__, probe.__qualname__


# -- the probes that come with the package ----------------------------------------


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


@register_probe("log_probs")
@dataclass(frozen=True)
class LogProbs(Probe):
    """Log-probability of each token under the policy that wrote it."""

    needs = frozenset({"log_probs"})

    def measure(self, scored: Scored) -> Tensor:
        return _given(scored.log_probs, "log_probs")


@register_probe("entropy")
@dataclass(frozen=True)
class Entropy(Probe):
    """Entropy of the policy at each token, over the whole vocabulary, in nats."""

    needs = frozenset({"entropy"})

    def measure(self, scored: Scored) -> Tensor:
        return _given(scored.entropy, "entropy")


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
        inside = (_told(self.within, "within", scored) == 1) & scored.completion_mask
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


@register_probe("perception")
@dataclass(frozen=True)
class Perception(Probe):
    """Where a response says what it sees: by tags in its text.

    1 on the tokens between the first opening tag and the closing tag after it, 0 on
    those after the closing tag, -1 on all others: the tags themselves, what comes
    before, and every token of a response without both tags.

    Attributes:
        opening: The tag, as text.
        closing: The tag that ends the span.
    """

    opening: str = "<perception>"
    closing: str = "</perception>"

    def measure(self, scored: Scored) -> Tensor:
        out = torch.full(scored.completion_ids.shape, -1.0)
        for row, (ids, mask) in enumerate(
            zip(scored.completion_ids, scored.completion_mask, strict=True)
        ):
            places = mask.nonzero().flatten().tolist()
            pieces = [scored.decode([token]) for token in ids[mask].tolist()]
            for place, kind in zip(places, self._kinds(pieces), strict=True):
                out[row, place] = kind
        return out

    def _kinds(self, pieces: Sequence[str]) -> list[float]:
        text = "".join(pieces)
        opened = text.find(self.opening)
        closed = text.find(self.closing, opened + len(self.opening))
        if opened < 0 or closed < 0:
            return [-1.0] * len(pieces)
        start, end = opened + len(self.opening), closed + len(self.closing)
        kinds, place = [], 0
        for piece in pieces:
            # A token that holds a piece of a tag belongs to the tag.
            first, place = place, place + len(piece)
            if first >= start and place <= closed:
                kinds.append(1.0)
            else:
                kinds.append(0.0 if first >= end else -1.0)
        return kinds


@register_probe("hidden_log_probs")
@dataclass(frozen=True)
class HiddenLogProbs(Probe):
    """Log-probability of each token with the perception hidden from attention.

    One more forward pass without gradient, with the span's tokens left out of the
    attention mask: what comes after is scored as if they were not there. Models that
    count positions by that mask, such as Qwen2.5-VL, close the gap; others leave it.
    What it gives on the hidden tokens means nothing.

    Attributes:
        spans: The signal whose 1 is hidden.
    """

    passes = 1

    spans: str = "perception"

    def measure(self, scored: Scored) -> Tensor:
        kinds = _told(self.spans, "spans", scored)
        views = [] if scored.pixels is None else scored.pixels
        return scored.rescore(views, (kinds == 1) & scored.completion_mask)


def _told(name: str, argument: str, scored: Scored) -> Tensor:
    """A signal that takes no pass, (B, T).

    Raises:
        ValueError: It takes one.
    """
    probe = make_probe(name)
    if not isinstance(probe, Probe) or probe.needs:
        raise ValueError(
            f"{argument}: {name!r} needs a forward pass; name a signal that is told by "
            "text or by the data"
        )
    return probe.measure(scored).to(scored.completion_mask.device)


def black_squares(
    picture: Image.Image,
    probability: float,
    generator: torch.Generator,
    patch: int = 14,
) -> Image.Image:
    """A picture with some of its squares blacked out, each independently.

    Args:
        picture: In any mode; the view is in RGB and of the same size.
        probability: That a square is blacked out.
        generator: On the CPU.
        patch: Side of a square; at the right and lower edge, squares may be cut.

    Returns:
        A new picture.

    Example:
        >>> draw = torch.Generator().manual_seed(1)
        >>> view = black_squares(Image.new("L", (4, 2), 255), 0.5, draw, patch=2)
        >>> [view.getpixel((x, 0))[0] for x in range(4)]
        [255, 255, 0, 0]
    """
    values = np.array(as_rgb(picture))
    pixels = torch.from_numpy(values).permute(2, 0, 1)[None]
    black = torch.zeros(3, dtype=pixels.dtype)
    view = black_patches(pixels, probability, black, generator, patch=patch)
    return Image.fromarray(view[0].permute(1, 2, 0).contiguous().numpy())


def noisy_pixels(
    pixels: Tensor, deviation: float, generator: torch.Generator, *, flat: bool
) -> Tensor:
    """Processed pixels with Gaussian noise, as VEPO has them.

    Args:
        pixels: As for :func:`black_patches`; a picture of zeros is padding and stays.
        deviation: Standard deviation of the noise, in units of the processed pixels.
            VEPO: 2.0.
        generator: On the CPU, so that every device draws alike.
        flat: As for :func:`black_patches`.

    Returns:
        A new tensor of the shape and dtype of ``pixels``.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> pixels = torch.stack([torch.ones(3, 2, 2), torch.zeros(3, 2, 2)])
        >>> noisy_pixels(pixels, 2.0, draw, flat=False).std(dim=(1, 2, 3)) > 0
        tensor([ True, False])
    """
    noise = torch.randn(pixels.shape, generator=generator)
    noisy = pixels + deviation * noise.to(pixels)
    # What is left of padding is told by its zeros, by Idefics 3 as well.
    return noisy if flat else torch.where(_is_picture(pixels), noisy, pixels)


def _is_picture(pixels: Tensor) -> Tensor:
    """bool, (..., 1, 1, 1): nothing but zeros pads a row with fewer pictures."""
    return (pixels != 0).any(dim=(-3, -2, -1), keepdim=True)


def black_patches(
    pixels: Tensor,
    probability: float,
    black: Tensor,
    generator: torch.Generator,
    *,
    patch: int = 14,
    flat: bool = False,
) -> Tensor:
    """Processed pixels with some patches blacked out, each independently.

    Args:
        pixels: (..., C, H, W), where a picture of zeros is padding and stays; or with
            ``flat`` (N, C x ...): one line per patch,
            channels first.
        probability: That a patch is blacked out.
        black: What a black pixel is after normalisation, (C,).
        generator: On the CPU, so that every device draws alike.
        patch: Side of a patch in pixels; at the right and lower edge, patches may be
            cut. Without effect with ``flat``.
        flat: See ``pixels``.

    Returns:
        A new tensor of the shape and dtype of ``pixels``.

    Raises:
        ValueError: Pixels of another layout.

    Example:
        >>> pixels = torch.ones(1, 3, 4, 4)
        >>> draw = torch.Generator().manual_seed(1)
        >>> black_patches(pixels, 0.5, torch.zeros(3), draw, patch=2)[0, 0]
        tensor([[1., 1., 0., 0.],
                [1., 1., 0., 0.],
                [0., 0., 1., 1.],
                [0., 0., 1., 1.]])
    """
    channels = len(black)
    black = black.to(pixels)
    if flat and pixels.ndim == 2 and pixels.shape[1] % channels == 0:
        drawn = torch.rand(len(pixels), generator=generator) < probability
        by_channel = pixels.unflatten(1, (channels, -1))
        hidden = torch.where(
            drawn.to(pixels.device)[:, None, None], black[:, None], by_channel
        )
        return hidden.flatten(1)
    if not flat and pixels.ndim >= 4 and pixels.shape[-3] == channels:
        *pictures, _, height, width = pixels.shape
        across = [-(-side // patch) for side in (height, width)]
        drawn = torch.rand(*pictures, *across, generator=generator) < probability
        drawn = drawn.repeat_interleave(patch, -2).repeat_interleave(patch, -1)
        drawn = drawn[..., :height, :width].unsqueeze(-3).to(pixels.device)
        # Rows with fewer pictures are padded (Idefics 3).
        drawn = drawn & _is_picture(pixels)
        return torch.where(drawn, black[:, None, None], pixels)
    raise ValueError(
        f"pixels: no patches can be told in pixel_values of shape "
        f"{tuple(pixels.shape)}; they need (..., {channels}, height, width), or one "
        "line per patch with image_grid_thw beside them"
    )
