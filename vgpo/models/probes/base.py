"""What a probe is, what it is given, and how it gets its name."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor, nn


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
            rows: How many, B.

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


def told(name: str, argument: str, scored: Scored) -> Tensor:
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


def _origin(probe: Any) -> tuple[str, str]:
    if isinstance(probe, _FunctionFactory):
        probe = probe.function
    return probe.__module__, probe.__qualname__
