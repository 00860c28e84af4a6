"""Departures of the released code from the paper, switched on one at a time.

:mod:`vgpo.method.released` computes all of them together. Here the paper's factors are
computed with any selection of them, so that each can be seen alone. With
:data:`ALL` the factors are those of :func:`vgpo.method.released.factors_from_cosines`
over each micro-batch; with none they are the paper's.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vgpo.method._masked import check_mask, check_rows, row_min_max, token_numbers
from vgpo.method.compensation import compensate
from vgpo.method.released import factors_from_cosines, start_ratio_of
from vgpo.method.reweighting import inter_trajectory_weights, intra_trajectory_weights


@dataclass(frozen=True)
class Departure:
    """One place where the released code does something else than the paper.

    Attributes:
        title: What it is about.
        paper: What the paper says.
        released: What the released code does.
        here: What this package does.
    """

    title: str
    paper: str
    released: str
    here: str


DEPARTURES = (
    Departure(
        "groups",
        "rollouts of one prompt",
        "runs of adjacent rows of a shuffled micro-batch",
        "rollouts of one prompt, by `group_ids`",
    ),
    Departure(
        "focus",
        "(cos + 1) / 2",
        "min-max over the micro-batch, padding included",
        "(cos + 1) / 2",
    ),
    Departure("accumulation", "sum of w", "sum of the min-maxed w", "sum of w"),
    Departure(
        "clamps",
        "none",
        "1 + ψ in [0.1, 2], 1 + φ in [0.9, 2]",
        "none",
    ),
    Departure(
        "inter only",
        "φ of compensated w",
        "no compensation without ψ",
        "each switch on its own",
    ),
    Departure("γ", "tail = last γ", "tail = last 1 − γ", "tail = last γ"),
    Departure(
        "schedule and gate",
        "t/T; top κ",
        "t/(T − 1); ties all pass; float64 floors",
        "t/T; later token wins ties; exact ratios",
    ),
    Departure(
        "scores",
        "silent",
        "current policy at each update, bf16, token by token",
        "old policy, once a batch, float32, vectorised",
    ),
    Departure("no image", "silent", "s = 0, hence factor 0.9", "factor 1"),
    Departure(
        "length",
        "sum over tokens",
        "sum over tokens",
        'the paper\'s; `accumulation="mean"` beside it',
    ),
    Departure(
        "grading",
        "exact match of the box",
        "mathruler, which drops units and signs",
        "`accuracy_reward`; `recipe_reward` beside it",
    ),
)
"""The departures, in the order of their numbers (from 1)."""

SWITCHES = (
    "groups",
    "focus",
    "accumulation",
    "clamps",
    "start_ratio",
    "schedule",
    "bfloat16",
    "no_image",
)
"""Departures that change the factors: numbers 1-4, 6, 7, 8 (its rounding) and 9."""

ALL = tuple(switch for switch in SWITCHES if switch != "bfloat16")
"""What :mod:`vgpo.method.released` imitates: everything but the rounding."""


def micro_batches(lengths: Tensor, budget: int, seed: int = 0) -> list[Tensor]:
    """A batch shuffled and cut into micro-batches of a limited number of tokens.

    Stands for an engine that balances lengths: rows come in random order, and a
    micro-batch is closed before it would hold more than ``budget`` tokens.

    Args:
        lengths: Tokens of each row, (B,).
        budget: Most tokens in a micro-batch; a longer row stands alone.
        seed: Of the order.

    Returns:
        Row indices of each micro-batch; together they are all rows, once.

    Raises:
        ValueError: ``budget`` is not positive.

    Example:
        >>> import torch
        >>> [len(rows) for rows in micro_batches(torch.tensor([3, 3, 3]), 6)]
        [2, 1]
    """
    if budget < 1:
        raise ValueError(f"budget: must be at least 1 token, got {budget}.")
    generator = torch.Generator().manual_seed(seed)
    batches: list[torch.Tensor] = []
    current: list[int] = []
    held = 0
    for row in torch.randperm(len(lengths), generator=generator).tolist():
        length = int(lengths[row])
        if current and held + length > budget:
            batches.append(torch.tensor(current))
            current, held = [], 0
        current.append(row)
        held += length
    if current:
        batches.append(torch.tensor(current))
    return batches


def run_ids(batches: Sequence[Tensor], num_generations: int = 8) -> Tensor:
    """Groups as the released code forms them: runs of adjacent rows.

    A micro-batch of fewer than ``num_generations`` rows is one run. Rows left over
    at the end of a longer one are runs of one, which keep factor 1.

    Args:
        batches: From :func:`micro_batches`.
        num_generations: G, rows of a run.

    Returns:
        (B,) int64; rows with the same number are one run.

    Raises:
        ValueError: ``num_generations`` is not positive.

    Example:
        >>> import torch
        >>> run_ids([torch.tensor([4, 0, 2]), torch.tensor([1, 3])], 2)
        tensor([0, 2, 1, 2, 0])
    """
    if num_generations < 1:
        raise ValueError(f"num_generations: must be at least 1, got {num_generations}.")
    ids = torch.empty(sum(map(len, batches)), dtype=torch.long)
    used = 0
    for rows in batches:
        size = min(num_generations, len(rows))
        place = torch.arange(len(rows))
        full = len(rows) // size * size
        number = torch.where(place < full, place // size, full // size + place - full)
        ids[rows] = used + number
        used += int(number[-1]) + 1
    return ids


def strangers(group_ids: Tensor, runs: Tensor) -> float:
    """Share of the other rows in a row's run that answer another prompt.

    Args:
        group_ids: Prompt of each row, (B,).
        runs: Run of each row, (B,).

    Returns:
        In [0, 1]; NaN if every run has one row.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> import torch
        >>> strangers(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 1, 1]))
        0.5
    """
    if group_ids.shape != runs.shape:
        raise ValueError(
            f"runs: shape {tuple(runs.shape)} does not match group_ids, which needs "
            f"{tuple(group_ids.shape)}."
        )
    together = runs[:, None] == runs[None]
    together.fill_diagonal_(False)
    other = group_ids[:, None] != group_ids[None]
    return float(other[together].float().mean())


@torch.no_grad()
def batch_min_max(
    cosines: Tensor, mask: Tensor, batches: Sequence[Tensor], padded: bool = True
) -> Tensor:
    r"""Focus as the released code scales it, over each micro-batch.

    .. math:: \rho = \frac{S - \min(0, S_{\min})}{\max(0, S_{\max}) - \min(0, S_{\min})}

    The zeros are those of the padding.

    Args:
        cosines: Cosines to the prototype, (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.
        batches: From :func:`micro_batches`.
        padded: Whether the padding's zeros take part.

    Returns:
        (B, T) float32 in [0, 1], 0 outside the mask.

    Raises:
        ValueError: A shape does not fit.

    Example:
        >>> import torch
        >>> batch_min_max(
        ...     torch.tensor([[0.25, 0.5]]), torch.ones(1, 2), [torch.tensor([0])]
        ... )
        tensor([[0.5000, 1.0000]])
    """
    values = check_rows(cosines, "cosines")
    mask = check_mask(mask, "mask", tuple(values.shape), "cosines")
    focus = torch.zeros_like(values)
    for rows in batches:
        real = mask[rows]
        flat = torch.where(real, values[rows], 0).flatten()[None]
        counted = real.flatten()[None]
        if padded:
            # At least one zero, also where no row of the micro-batch is padded.
            flat = torch.cat([flat, flat.new_zeros(1, 1)], dim=1)
            counted = torch.ones_like(flat, dtype=torch.bool)
        scaled = row_min_max(flat, counted)[0, : real.numel()].view(real.shape)
        focus[rows] = torch.where(real, scaled, 0)
    return focus


@torch.no_grad()
def advantage_factors_with(
    switches: Collection[str],
    cosines: Tensor,
    mask: Tensor,
    group_ids: Tensor,
    batches: Sequence[Tensor],
    *,
    has_image: Tensor | None = None,
    strength: float = 0.3,
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
    num_generations: int = 8,
) -> tuple[Tensor, Tensor]:
    """The two factors of Eq. 12 with a selection of the departures.

    Args:
        switches: Some of :data:`SWITCHES`; ``()`` is the paper, :data:`ALL` the
            released code.
        cosines: Cosines to the prototype, (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.
        group_ids: Prompt of each row, (B,).
        batches: From :func:`micro_batches`.
        has_image: bool, (B,); by default every row has one.
        strength: beta.
        tail_ratio: gamma. With the switch ``"start_ratio"`` the same number says
            where the tail starts.
        top_ratio: kappa.
        num_generations: Rows of a run.

    Returns:
        ``(1 + psi, 1 + phi)``, (B, T) and (B,) float32; 1 outside the mask.

    Raises:
        ValueError: A switch is unknown or a shape does not fit.

    Example:
        >>> import torch
        >>> cosines, mask = torch.tensor([[0.9, 0.1], [0.5, 0.3]]), torch.ones(2, 2)
        >>> same, batches = torch.tensor([0, 0]), [torch.tensor([0, 1])]
        >>> advantage_factors_with((), cosines, mask, same, batches)[1]
        tensor([1.5000, 0.5000])
        >>> advantage_factors_with(("clamps",), cosines, mask, same, batches)[1]
        tensor([1.5000, 0.9000])
    """
    unknown = set(switches) - set(SWITCHES)
    if unknown:
        raise ValueError(f"switches: must be of {SWITCHES}, got {sorted(unknown)}.")
    values = check_rows(cosines, "cosines")
    mask = check_mask(mask, "mask", tuple(values.shape), "cosines")
    if has_image is None:
        has_image = mask.new_ones(len(mask))
    seen = mask & check_mask(has_image, "has_image", (len(mask),), "cosines")[:, None]
    values = torch.where(seen, values, 0)

    focus = batch_min_max(values, mask, batches) if "focus" in switches else None
    focus = torch.where(seen, (values + 1) / 2 if focus is None else focus, 0)
    if "bfloat16" in switches:
        focus = focus.bfloat16().to(values.dtype)

    start = tail_ratio if "start_ratio" in switches else start_ratio_of(tail_ratio)
    if "schedule" in switches:
        theirs = factors_from_cosines(
            focus,
            mask,
            strength=strength,
            start_ratio=start,
            top_ratio=top_ratio,
            schedule="linear",
            gated=True,
            num_generations=num_generations,
        )
        weights = focus * (1 + theirs.compensation * theirs.gate)
    else:
        weights = compensate(focus, mask, strength, 1 - start, top_ratio)

    psi = intra_trajectory_weights(weights, mask)
    if "accumulation" in switches:
        weights = row_normalized(weights, mask)
    # The package leaves rows of weight 0 out of a group. One weight next to nothing
    # lets a row in: always one that has an image (min-maxed weights can all be 0),
    # and one that has none where the departure asks for it.
    counted = mask if "no_image" in switches else seen
    first = counted & (token_numbers(mask)[0] == 1)
    weights = torch.where(first & (weights == 0), 1e-30, weights)
    ids = run_ids(batches, num_generations) if "groups" in switches else group_ids
    phi = inter_trajectory_weights(weights, mask, ids)

    token, trajectory = 1 + psi, 1 + phi
    if "clamps" in switches:
        token, trajectory = token.clamp(0.1, 2), trajectory.clamp(0.9, 2)
    return token, trajectory


def factor_changes(
    selections: Mapping[str, Collection[str]],
    cosines: Tensor,
    mask: Tensor,
    group_ids: Tensor,
    batches: Sequence[Tensor],
    **settings,
) -> pd.DataFrame:
    """How far selections of departures move a token's factor from the paper's.

    Args:
        selections: Name of each selection of :data:`SWITCHES`.
        cosines: See :func:`advantage_factors_with`, as for all that follow.
        mask: See there.
        group_ids: See there.
        batches: See there.
        **settings: Its keyword arguments.

    Returns:
        One row per selection and prompt: ``selection``, ``prompt``, ``change``
        (mean over the prompt's tokens of the absolute difference of
        (1 + psi)(1 + phi)) and ``factor`` (mean of that factor).

    Raises:
        ValueError: See :func:`advantage_factors_with`.

    Example:
        >>> import torch
        >>> cosines, mask = torch.tensor([[0.9, 0.1], [0.5, 0.3]]), torch.ones(2, 2)
        >>> same, batches = torch.tensor([0, 0]), [torch.tensor([0, 1])]
        >>> changes = factor_changes(
        ...     {"floor": ["clamps"]}, cosines, mask, same, batches
        ... )
        >>> changes["change"].round(2).tolist()
        [0.2]
    """
    mask = mask.bool()
    arguments = (cosines, mask, group_ids, batches)
    prompt = group_ids[:, None].expand_as(mask)[mask].numpy()

    def factor(switches):
        token, trajectory = advantage_factors_with(switches, *arguments, **settings)
        return (token * trajectory[:, None])[mask]

    paper = factor(())
    tables = []
    for name, switches in selections.items():
        theirs = factor(switches)
        table = pd.DataFrame(
            {
                "selection": name,
                "prompt": prompt,
                "change": (theirs - paper).abs().numpy(),
                "factor": theirs.numpy(),
            }
        )
        tables.append(table.groupby(["selection", "prompt"], as_index=False).mean())
    return pd.concat(tables, ignore_index=True)


@torch.no_grad()
def row_normalized(weights: Tensor, mask: Tensor) -> Tensor:
    """Weights min-maxed in their row (Eq. 7), which the released code adds up.

    Args:
        weights: (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.

    Returns:
        (B, T) in [0, 1], 0 outside the mask and in rows of equal weights.

    Raises:
        ValueError: A shape does not fit.

    Example:
        >>> import torch
        >>> row_normalized(torch.tensor([[0.25, 0.75, 0.5]]), torch.ones(1, 3))
        tensor([[0.0000, 1.0000, 0.5000]])
    """
    values = check_rows(weights, "weights")
    return row_min_max(values, check_mask(mask, "mask", tuple(values.shape), "weights"))


def tied_share(scores: Tensor, mask: Tensor) -> float:
    """Share of tokens whose score another token of their row has too.

    Args:
        scores: (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.

    Returns:
        In [0, 1]; NaN without a real token.

    Raises:
        ValueError: A shape does not fit.

    Example:
        >>> import torch
        >>> tied_share(torch.tensor([[0.5, 0.5, 0.25, 0.0]]), torch.ones(1, 4))
        0.5
    """
    values = check_rows(scores, "scores")
    mask = check_mask(mask, "mask", tuple(values.shape), "scores")
    tied = tokens = 0
    for row, real in zip(values, mask, strict=True):
        counts = row[real].unique(return_counts=True)[1]
        tied += int(counts[counts > 1].sum())
        tokens += int(real.sum())
    return tied / tokens if tokens else math.nan


@torch.no_grad()
def relative_boost(
    focus: Tensor,
    mask: Tensor,
    strength: float = 0.3,
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
) -> Tensor:
    r"""What compensation adds to each gated token, against its row's spread.

    .. math:: \frac{w_{i,t} - \rho_{i,t}}{\max_t \rho_{i,t} - \min_t \rho_{i,t}}

    Both scalings of the cosine are linear, so the denominator scales alike and the
    numerator does not: it holds the score itself, with its offset.

    Args:
        focus: Visual focus scores, (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.
        strength: beta.
        tail_ratio: gamma.
        top_ratio: kappa.

    Returns:
        (N,) of the gated tokens, row by row; rows of equal scores are left out.

    Raises:
        ValueError: A shape or range is wrong.

    Example:
        >>> import torch
        >>> relative_boost(torch.tensor([[0.5, 1.0]]), torch.ones(1, 2))
        tensor([0.6000])
    """
    scores = check_rows(focus, "focus")
    weights = compensate(scores, mask, strength, tail_ratio, top_ratio)
    mask = mask.bool()
    highest = torch.where(mask, scores, -torch.inf).amax(dim=1, keepdim=True)
    lowest = torch.where(mask, scores, torch.inf).amin(dim=1, keepdim=True)
    boost = (weights - scores) / (highest - lowest)
    return boost[mask & (weights > scores) & (highest > lowest)]


def lost_tokens(longest: int, top_ratio: float) -> list[int]:
    """Tail lengths for which flooring in float64 keeps one token too few.

    Args:
        longest: Tails of 1 to this many tokens are tried.
        top_ratio: kappa, meant in hundredths.

    Returns:
        The lengths n for which ``floor(n * top_ratio)`` is below the exact floor.

    Raises:
        ValueError: ``top_ratio`` is not in hundredths.

    Example:
        >>> lost_tokens(120, 0.29)
        [100]
    """
    hundredths = round(top_ratio * 100)
    if abs(top_ratio * 100 - hundredths) > 1e-9:
        raise ValueError(f"top_ratio: must be in hundredths, got {top_ratio}.")
    lengths = range(1, longest + 1)
    return [n for n in lengths if int(n * top_ratio) < n * hundredths // 100]


def within_group_correlation(values: Tensor, by: Tensor, group_ids: Tensor) -> float:
    """Mean over groups of the Pearson correlation within the group.

    Groups in which one of the two does not vary say nothing and are left out.

    Args:
        values: (B,).
        by: (B,).
        group_ids: (B,).

    Returns:
        In [-1, 1]; NaN if no group is left.

    Raises:
        ValueError: Lengths differ.

    Example:
        >>> import torch
        >>> values = torch.tensor([1.0, 2.0, 9.0, 8.0, 9.0])
        >>> r = within_group_correlation(
        ...     values, torch.tensor([3, 5, 1, 0, 0]), torch.tensor([0, 0, 1, 1, 1])
        ... )
        >>> round(r, 3)
        0.75
    """
    if not len(values) == len(by) == len(group_ids):
        raise ValueError(
            "values, by, group_ids: must be of one length, got "
            f"{len(values)}, {len(by)} and {len(group_ids)}."
        )
    table = pd.DataFrame({"values": values.double().numpy(), "by": by.double().numpy()})
    within = [
        group["values"].corr(group["by"])
        for _, group in table.groupby(group_ids.numpy())
        if (group.nunique() > 1).all()
    ]
    return float(np.mean(within)) if within else math.nan


def departure_table(measured: Mapping[int, str]) -> pd.DataFrame:
    """The departures with what was measured of each.

    Args:
        measured: Text for the departures by number, from 1; those without one
            have a dash.

    Returns:
        One row per departure.

    Raises:
        ValueError: There is no such number.

    Example:
        >>> departure_table({3: "r = 0.9"}).loc[3, "measured"]
        'r = 0.9'
    """
    numbers = range(1, len(DEPARTURES) + 1)
    unknown = set(measured) - set(numbers)
    if unknown:
        raise ValueError(f"measured: there is no departure {sorted(unknown)}.")
    return pd.DataFrame(
        [
            {
                "about": departure.title,
                "paper": departure.paper,
                "released code": departure.released,
                "measured": measured.get(number, "–"),
                "this package": departure.here,
            }
            for number, departure in zip(numbers, DEPARTURES, strict=True)
        ],
        index=pd.Index(numbers, name="no."),
    )
