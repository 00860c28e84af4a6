"""Methods as plug-ins: from a group's advantages to those of its tokens.

GRPO gives every token of a rollout the same advantage. The methods of this package
differ in what they make of it, and in little else: a non-negative weight on a token,
or on a rollout, is exactly an advantage of that token, so TRL's loss stays as it is.
A method is a frozen dataclass, whose fields are its settings, with one function.

A method of one's own, in a notebook, in ten lines:

    >>> from dataclasses import dataclass
    >>> from vgpo.method.shaping import Method, Rollouts, Shaped, make_method, register
    >>> @register("entropy_bonus")
    ... @dataclass(frozen=True)
    ... class EntropyBonus(Method):
    ...     alpha: float = 0.4
    ...     signals = frozenset({"entropy"})
    ...
    ...     def shape(self, rollouts: Rollouts) -> Shaped:
    ...         bonus = self.alpha * rollouts.signals["entropy"]
    ...         return Shaped(rollouts.advantages[:, None] + bonus * rollouts.mask)
    >>> make_method("entropy_bonus", {"alpha": 0.2})
    EntropyBonus(alpha=0.2)

``VGPOConfig(method="entropy_bonus", method_kwargs={"alpha": 0.2})`` then trains with
it. What ``"entropy"`` and the other signals are is in :mod:`vgpo.models.probes`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol, TypeVar

from torch import Tensor


@dataclass(frozen=True)
class Rollouts:
    """The rollouts of one generation, those of all processes together.

    Attributes:
        advantages: Group-relative advantages (Eq. 2), (B,) float32.
        mask: bool, (B, T), True on the tokens that enter the loss.
        group_ids: Integers, (B,); rows with the same one answer the same prompt. The
            rows of a group are adjacent.
        signals: By name, (B, T) float32: what the method's ``signals`` ask for. What
            they hold outside the mask means nothing.
        has_image: bool, (B,).
        rewards: Summed rewards, (B,) float32; NaN where no function gave one.
        progress: Share of the training that is done, in [0, 1].
    """

    advantages: Tensor
    mask: Tensor
    group_ids: Tensor
    signals: Mapping[str, Tensor]
    has_image: Tensor
    rewards: Tensor
    progress: float = 0.0


@dataclass(frozen=True)
class Shaped:
    """What a method makes of :class:`Rollouts`.

    Attributes:
        advantages: (B, T), or (B,) where all tokens of a row have the same.
        logs: Numbers for the log of the run, by name.
        extras: By name, (B,) or (B, T): what :meth:`Method.extra_loss` will need of
            each row.
    """

    advantages: Tensor
    logs: Mapping[str, float] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class LossStep:
    """One micro-batch of rollouts on its way through the loss.

    Attributes:
        log_probs: Of the sampled tokens under the policy, (b, T), with gradient.
        entropy: Of the policy at each token, (b, T).
        mask: bool, (b, T), True on the tokens that enter the loss.
        extras: These rows' part of :attr:`Shaped.extras`.
        progress: Share of the training that is done, in [0, 1].
        signals: By name, (b, T) with gradient: what the method's ``loss_signals`` ask
            for.
    """

    log_probs: Tensor
    entropy: Tensor
    mask: Tensor
    extras: Mapping[str, Tensor]
    progress: float = 0.0
    signals: Mapping[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """What a method is. Inherit from it: all but :meth:`shape` has a default.

    Attributes:
        preset: Its fields of ``VGPOConfig``, those of TRL included, as its paper
            sets them.
        in_loss: Whether :meth:`shape` is called in the loss, with one micro-batch and
            the policy as it is then, in place of once per generation. ``entropy``,
            and what can watch the loss's own pass, are of that policy, ``log_probs``
            are still of the one that wrote the rollouts, and neither costs a pass.
            Each row has to stand for itself: ``group_ids`` are all different, and
            ``rewards`` NaN.
        by_group: Whether a group is shaped without a look at the others. The trainer
            may then call :meth:`shape` once per micro-batch of whole groups, where
            the pass of the loss gives all it needs, and save a pass.
    """

    preset: ClassVar[Mapping[str, Any]] = {}
    in_loss: ClassVar[bool] = False

    @property
    def by_group(self) -> bool:
        return False

    @property
    def signals(self) -> frozenset[str]:
        """Names of the probes whose numbers it wants, of every token."""
        return frozenset()

    @property
    def signal_settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of those probes, by their names, where not the defaults."""
        return {}

    @property
    def loss_signals(self) -> frozenset[str]:
        """Names of the probes that it wants of the loss's own pass, with gradient.

        Only probes that watch a pass, and have a setting ``gradient``, can give it.
        """
        return frozenset()

    def shape(self, rollouts: Rollouts) -> Shaped:
        """The advantages of the tokens.

        Called once per generation, with the rollouts of all processes, on every
        process alike: the result has to be a function of the rollouts alone. For
        methods that are shaped ``in_loss``, see there.
        """
        ...

    def extra_loss(self, step: LossStep) -> Tensor | None:
        """A term to add to the loss of a micro-batch, or None.

        A mean over its tokens; over the micro-batches of an optimizer step, the
        trainer takes the mean.
        """
        return None

    def loss_logs(self, step: LossStep) -> Mapping[str, float]:
        """Numbers for the log of the run, of what :meth:`extra_loss` was given.

        Called without gradient, with detached tensors, where there is such a term.
        """
        return {}


METHODS: dict[str, type[Method]] = {}
"""All methods by name. :func:`register` adds to it."""

_M = TypeVar("_M", bound=type[Method])


def register(name: str) -> Callable[[_M], _M]:
    """Makes a method known by a name, under which a configuration can ask for it.

    Args:
        name: What ``method`` in a configuration will be.

    Returns:
        A decorator for the method's class, a frozen dataclass. Registering a class
        of the same name from the same module again replaces it, as a notebook's cell
        does that is run twice.

    Raises:
        ValueError: The name belongs to another method.
        TypeError: The class is no frozen dataclass.
    """

    def add(method: _M) -> _M:
        if not is_dataclass(method) or not method.__dataclass_params__.frozen:
            raise TypeError(
                f"{method.__name__} must be a frozen dataclass: put "
                "@dataclass(frozen=True) under @register"
            )
        known = METHODS.get(name)
        if known is not None and _origin(known) != _origin(method):
            raise ValueError(
                f"name: there is a method {name!r} already, {known.__qualname__} of "
                f"{known.__module__}; choose another name"
            )
        METHODS[name] = method
        return method

    return add


def make_method(name: str, settings: Mapping[str, Any] | None = None) -> Method:
    """A method by its name, with its settings.

    Args:
        name: One of :data:`METHODS`.
        settings: Fields of its dataclass; the others keep their defaults.

    Raises:
        ValueError: Unknown method or setting, or a setting out of range; the message
            names it.

    Example:
        >>> make_method("vgpo", {"strength": 0.5}).strength
        0.5
        >>> make_method("vgpo", {"beta": 0.5})
        Traceback (most recent call last):
        ...
        ValueError: method_kwargs: 'vgpo' has no setting 'beta', only strength, \
tail_ratio, top_ratio, schedule, intra, inter, accumulation, alignment, variant
    """
    if name not in METHODS:
        raise ValueError(
            f"method must be one of {tuple(METHODS)}, got {name!r}"
            f"{did_you_mean(name, METHODS)}"
        )
    method = METHODS[name]
    settings = {} if settings is None else dict(settings)
    known = [f.name for f in fields(method) if f.init]  # type: ignore[arg-type]
    for setting in settings:
        if setting not in known:
            only = f"only {', '.join(known)}" if known else "nor any other"
            raise ValueError(
                f"method_kwargs: {name!r} has no setting {setting!r}, {only}"
                f"{did_you_mean(setting, known)}"
            )
    try:
        return method(**settings)
    except (ValueError, TypeError) as error:
        raise ValueError(f"method_kwargs of {name!r}: {error}") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message that refuses a name: the known one it is nearest to.

    Example:
        >>> did_you_mean("VPPO", ["papo", "vppo"]), did_you_mean("x", ["papo"])
        ("; did you mean 'vppo'?", '')
    """
    near = get_close_matches(str(name).lower(), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_shaped(shaped: Shaped, rollouts: Rollouts, name: str) -> None:
    """Whether a method's result can be trained on.

    Args:
        shaped: What the method made.
        rollouts: What it made it of.
        name: Of the method, for the message.

    Raises:
        ValueError: Advantages or extras of another shape, or advantages that are NaN
            or infinite.
    """
    rows, tokens = tuple(rollouts.advantages.shape), tuple(rollouts.mask.shape)
    for what, values in {"advantages": shaped.advantages, **shaped.extras}.items():
        if tuple(values.shape) not in (rows, tokens):
            raise ValueError(
                f"{name}.shape gave {what} of shape {tuple(values.shape)}, they must "
                f"have {tokens} or {rows}"
            )
    if not shaped.advantages.isfinite().all():
        raise ValueError(
            f"{name}.shape gave advantages that are NaN or infinite; rows without "
            "image and rows without tokens, too, need one"
        )


def _origin(method: type) -> tuple[str, str]:
    return method.__module__, method.__qualname__
