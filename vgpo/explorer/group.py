"""One group of rollouts, word by word, under settings that a reader can move."""

import html
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from PIL import Image

from vgpo.explorer.page import View, picture_address, picture_element
from vgpo.method.reweighting import reweight_advantages
from vgpo.method.visual import VGPO, visual_factors

TINTS = ("change", "factor", "advantage", "psi", "weight", "focus")
"""What words can be tinted by."""

_REWARD_EPS = 1e-4  # TRL's, under the standard deviation of Eq. 2


def group_view(
    tokens: Sequence[Sequence[str]],
    rewards: Sequence[float],
    focus: Sequence[Sequence[float]],
    *,
    focus_prediction: Sequence[Sequence[float]] | None = None,
    advantages: Sequence[float] | None = None,
    reads: Sequence[Sequence[bool]] | None = None,
    notes: Sequence[Sequence[str]] | None = None,
    question: str = "",
    answer: str = "",
    picture: Image.Image | None = None,
    settings: VGPO | None = None,
    tint: str = "change",
    chosen: tuple[int, int] | None = None,
    title: str = "One group under VGPO",
    still: bytes | Callable[[dict[str, Any]], bytes] | None = None,
) -> View:
    r"""The rollouts of one prompt: which word gains, and why.

    Words stand as running text, tinted by what VGPO changes. Sliders for β, γ and κ,
    and a choice of schedule, alignment, accumulation and variant, recompute
    :math:`\rho \to w \to \psi, \phi \to \hat A^V` (Eq. 5-12) in the page, in float64
    and as :func:`vgpo.method.visual.visual_factors` does. A word that is clicked shows
    each equation with its numbers; arrow keys go from word to word.

    Args:
        tokens: The text of each token, a sequence per rollout; an empty one is allowed.
        rewards: One per rollout; above 0 counts as right.
        focus: Focus scores (Eq. 4) with alignment ``"token"``, in [0, 1], one per
            token. A rollout whose scores are all 0 has no image.
        focus_prediction: The same with alignment ``"prediction"``; without them the
            page does not offer it.
        advantages: Of the rollouts; by default Eq. 2 of the rewards as TRL has it
            (:math:`10^{-4}` added to the standard deviation), and a click on a verdict
            turns it.
        reads: Whether a token truly reads the picture, where that is known; framed.
        notes: What to say of a token, such as ``"reads tile 4"``.
        question: What was asked.
        answer: What is right.
        picture: What was asked about.
        settings: Where the sliders start; by default the paper's.
        tint: What words are tinted by at first, one of :data:`TINTS`.
        chosen: Rollout and token, from 0, whose numbers are shown at first.
        title: Of the view.
        still: A PNG of the group, for where no script runs, or what draws one from
            :func:`group_data`.

    Returns:
        A view: the value of a notebook's cell, or ``.save(path)``. Without a script it
        shows the PNG, and the rollouts at the first settings.

    Raises:
        ValueError: Lengths do not fit, a number is not finite, a score is outside
            [0, 1], or there is no token at all.

    Example:
        >>> view = group_view(
        ...     [["red", "=", "5"], ["red", "=", "6"]], [1.0, 0.0],
        ...     [[0.4, 0.5, 0.9], [0.4, 0.6, 0.5]], reads=[[1, 0, 1], [1, 0, 1]],
        ... )
        >>> view
        View('One group under VGPO')
    """
    data = group_data(
        tokens,
        rewards,
        focus,
        focus_prediction=focus_prediction,
        advantages=advantages,
        reads=reads,
        notes=notes,
        settings=settings,
        tint=tint,
        chosen=chosen,
    )
    if callable(still):
        still = still(data)
    asked = {
        "question": question,
        "answer": answer,
        "picture": None if picture is None else picture_address(picture),
    }
    heading = " → ".join(filter(None, (question, answer)))
    lines = [heading, *("".join(row) for row in tokens)]
    return View(
        title,
        (f"<p>{html.escape(heading)}</p>" if heading else "")
        + picture_element(still, "the rollouts, which stand below in words")
        + static_rollouts(data),
        start="groupView",
        data=data | asked,
        scripts=("method.js", "group.js"),
        styles=("group.css",),
        text="\n".join(filter(None, lines)),
        picture=still,
    )


def group_data(
    tokens: Sequence[Sequence[str]],
    rewards: Sequence[float],
    focus: Sequence[Sequence[float]],
    *,
    focus_prediction: Sequence[Sequence[float]] | None = None,
    advantages: Sequence[float] | None = None,
    reads: Sequence[Sequence[bool]] | None = None,
    notes: Sequence[Sequence[str]] | None = None,
    settings: VGPO | None = None,
    tint: str = "change",
    chosen: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """What the page is given, checked; the arguments are those of :func:`group_view`.

    Returns:
        ``rollouts``, ``rewards``, ``advantages``, ``settings``, ``tint``, ``chosen``,
        of lists, numbers and texts alone.

    Raises:
        ValueError: as :func:`group_view` says.
    """
    settings = VGPO() if settings is None else settings
    count = len(tokens)
    if not any(map(len, tokens)):
        raise ValueError("tokens: there is none in any rollout; nothing to show.")
    per_token = {
        "focus": _scores("focus", focus, tokens),
        "focus_prediction": _scores("focus_prediction", focus_prediction, tokens),
        "reads": _ragged("reads", reads, tokens, bool),
        "notes": _ragged("notes", notes, tokens, str),
    }
    judged = _finite("rewards", rewards, count)
    if settings.alignment == "prediction" and focus_prediction is None:
        raise ValueError(
            "focus_prediction: needed to start with settings.alignment='prediction'."
        )
    if tint not in TINTS:
        raise ValueError(f"tint: must be one of {TINTS}, got {tint!r}.")
    if chosen is not None:
        rollout, token = chosen
        if not (0 <= rollout < count and 0 <= token < len(tokens[rollout])):
            raise ValueError(f"chosen: there is no token {chosen}, both from 0.")
    return {
        "rollouts": [
            {"tokens": list(map(str, tokens[i]))}
            | {name: rows[i] for name, rows in per_token.items() if rows is not None}
            for i in range(count)
        ],
        "rewards": judged,
        "advantages": (
            None if advantages is None else _finite("advantages", advantages, count)
        ),
        "settings": asdict(settings),
        "tint": tint,
        "chosen": None if chosen is None else list(chosen),
    }


def _finite(name: str, values: Sequence[float], count: int) -> list[float]:
    if len(values) != count:
        raise ValueError(
            f"{name}: need one per rollout of tokens, {count}, got {len(values)}."
        )
    numbers = [float(value) for value in values]
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name}: must be finite, got {numbers}.")
    return numbers


def _ragged(name, rows, tokens, kind) -> list[list] | None:
    """A value per token, as lists of ``kind``."""
    if rows is None:
        return None
    lengths, needed = [len(row) for row in rows], [len(row) for row in tokens]
    if lengths != needed:
        raise ValueError(
            f"{name}: need one per token, rollouts of {needed}, got {lengths}."
        )
    return [[kind(value) for value in row] for row in rows]


def _scores(name, rows, tokens) -> list[list[float]] | None:
    scores = _ragged(name, rows, tokens, float)
    for row in scores or []:
        # Comparisons with NaN are False.
        if not all(0 <= value <= 1 for value in row):
            raise ValueError(f"{name}: focus scores are in [0, 1], got {row}.")
    return scores


# The page without a script ---------------------------------------------


def starting_point(data: dict[str, Any]) -> dict[str, Any]:
    """What the page shows before anything is moved, by the package's functions.

    Args:
        data: From :func:`group_data`.

    Returns:
        ``advantages`` (G,) and ``phi`` (G,); ``psi``, ``gate`` and ``shaped``, lists
        of a rollout's tokens each.
    """
    settings = VGPO(**data["settings"])
    score = "focus" if settings.alignment == "token" else "focus_prediction"
    rows = [
        torch.tensor(rollout[score], dtype=torch.float64)
        for rollout in data["rollouts"]
    ]
    pad = torch.nn.utils.rnn.pad_sequence
    focus = pad(rows, batch_first=True)
    mask = pad([torch.ones(len(row)) for row in rows], batch_first=True).bool()
    rewards = torch.tensor(data["rewards"], dtype=torch.float64)
    if data["advantages"] is None:
        spread = rewards.std() if len(rewards) > 1 else 0.0
        advantages = (rewards - rewards.mean()) / (spread + _REWARD_EPS)
    else:
        advantages = torch.tensor(data["advantages"], dtype=torch.float64)
    factors = visual_factors(focus, mask, torch.zeros(len(rows)).long(), settings)
    shaped = reweight_advantages(advantages, factors.psi, factors.phi)

    def cut(values: torch.Tensor) -> list[list[float]]:
        return [row[: len(own)].tolist() for row, own in zip(values, rows, strict=True)]

    return {
        "advantages": advantages.tolist(),
        "phi": factors.phi.tolist(),
        "psi": cut(factors.psi),
        "gate": cut(factors.gate),
        "shaped": cut(shaped),
    }


def static_rollouts(data: dict[str, Any]) -> str:
    """The rollouts as HTML that needs neither script nor style sheet.

    Words whose advantage VGPO raises are on blue ground, those it lowers on orange;
    words at which the gate is open are underlined.

    Args:
        data: From :func:`group_data`.
    """
    at_start = starting_point(data)
    largest = max(map(abs, at_start["advantages"])) or 1.0
    entries = []
    for i, rollout in enumerate(data["rollouts"]):
        advantage = at_start["advantages"][i]
        words = [
            _word(token, value - advantage, largest, gated)
            for token, value, gated in zip(
                rollout["tokens"],
                at_start["shaped"][i],
                at_start["gate"][i],
                strict=True,
            )
        ]
        verdict = "✓ right" if data["rewards"][i] > 0 else "✗ wrong"
        entries.append(
            f"<li><p>{verdict}, advantage {advantage:+.2f}, φ "
            f"{at_start['phi'][i]:+.2f}, {len(words)} tokens</p>"
            f'<p style="white-space:pre-wrap">{"".join(words)}</p></li>'
        )
    return f"<ol>{''.join(entries)}</ol>"


def _word(token: str, change: float, largest: float, gated: bool) -> str:
    colour = "46,143,206" if change > 0 else "224,123,0"
    strength = 0.65 * min(abs(change) / largest, 1)
    line = ";text-decoration:underline" if gated else ""
    return (
        f'<span style="background:rgba({colour},{strength:.2f}){line}" '
        f'title="{change:+.2f}">{html.escape(token)}</span>'
    )
