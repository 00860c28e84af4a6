"""What the gate lets through on the small world, graded against the truth."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vgpo.method.compensation import (
    SCHEDULES,
    compensate,
    compensation_schedule,
    visual_gate,
)
from vgpo.method.reweighting import intra_trajectory_weights
from vgpo.stats.intervals import RESAMPLES, resampled_ends
from vgpo.studies.tables import padded

PARTS = ("head", "tail, shut", "tail, gated")
"""Where a token stands: before the tail, or in it with the gate shut or open."""


def truly_visual(table: pd.DataFrame) -> Tensor:
    """Which tokens of a table read the image, (B, T) bool padded on the right."""
    reads = table.assign(_reads=(table["source"] == "image").astype(float))
    return padded(reads, "_reads")[0].bool()


def schedule_table(length: int, strength: float = 0.3) -> pd.DataFrame:
    """beta times each schedule, over the tokens of a chain.

    Args:
        length: Tokens of the chain.
        strength: beta.

    Returns:
        Index ``t`` from 1 to ``length``, a column per schedule.

    Example:
        >>> schedule_table(4, strength=1.0)["linear"].tolist()
        [0.25, 0.5, 0.75, 1.0]
    """
    mask = torch.ones(1, length)
    lines = {how: compensation_schedule(mask, how)[0].numpy() for how in SCHEDULES}
    return strength * pd.DataFrame(lines, index=pd.RangeIndex(1, length + 1, name="t"))


def compensated_chain(
    chain: pd.DataFrame,
    column: str,
    strength: float = 0.3,
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
    schedule: str = "linear",
) -> pd.DataFrame:
    """What compensation makes of one chain, token by token.

    Args:
        chain: The rows of one chain in a token table.
        column: The score it goes by.
        strength: beta.
        tail_ratio: gamma.
        top_ratio: kappa.
        schedule: One of :data:`vgpo.method.compensation.SCHEDULES`.

    Returns:
        A row per token: ``token`` and ``source`` of ``chain``; ``focus``, the score;
        ``weight`` (Eq. 5); and bool ``tail`` and ``gated`` (Eq. 6).

    Raises:
        ValueError: a schedule or range is wrong.
    """
    focus = torch.tensor(chain[column].to_numpy(np.float32))[None]
    mask = torch.ones_like(focus)
    weights = compensate(focus, mask, strength, tail_ratio, top_ratio, schedule)
    return chain[["token", "source"]].assign(
        focus=focus[0].numpy(),
        weight=weights[0].numpy(),
        # A gate that lets all of the tail through is the tail.
        tail=visual_gate(focus, mask, tail_ratio, 1.0)[0].numpy(),
        gated=visual_gate(focus, mask, tail_ratio, top_ratio)[0].numpy(),
    )


def grade_gates(
    table: pd.DataFrame,
    columns: Sequence[str] = ("focus", "focus_prediction"),
    tail_ratios: Iterable[float] = (0.5,),
    top_ratios: Iterable[float] = (0.2,),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Precision of the gate: what share of the tokens it lets through truly read.

    Args:
        table: From :func:`vgpo.studies.tables.token_table`, of families with an image.
        columns: Scores the gate goes by.
        tail_ratios: Values of gamma.
        top_ratios: Values of kappa.
        resamples: Bootstrap resamples of whole chains.
        seed: Seed of the resampling.

    Returns:
        One row per score, tail and width: ``score``, ``tail_ratio``, ``top_ratio``,
        ``precision`` with its 95 % interval ``low`` and ``high``, ``base`` (the
        share of reads in the tail: a gate that knows nothing), ``best`` (a gate of
        the same size that knows the truth), ``recall`` of the tail's reads, and
        ``gated``, tokens per chain.

    Raises:
        ValueError: a ratio is out of range.
    """
    reads = truly_visual(table)
    rows = []
    for column in columns:
        focus, mask = padded(table, column)
        for tail_ratio in tail_ratios:
            tail = visual_gate(focus, mask, tail_ratio, 1.0)
            for top_ratio in top_ratios:
                gate = visual_gate(focus, mask, tail_ratio, top_ratio)
                counts = np.stack(
                    [chosen.sum(dim=1).numpy() for chosen in (
                        gate & reads, gate, tail & reads, tail
                    )]
                )  # fmt: skip
                hits, gated, visual, size = counts.sum(axis=1)
                low, high = resampled_ends(
                    len(mask), _precision(*counts[:2]), resamples, seed, bounds=(0, 1)
                )
                rows.append(
                    {
                        "score": column,
                        "tail_ratio": tail_ratio,
                        "top_ratio": top_ratio,
                        "precision": hits / gated,
                        "low": float(low),
                        "high": float(high),
                        "base": visual / size,
                        "best": np.minimum(counts[1], counts[2]).sum() / gated,
                        "recall": hits / visual,
                        "gated": gated / len(mask),
                    }
                )
    return pd.DataFrame(rows)


def _precision(hits, gated):
    """Hits per gated token in each resample of chains."""
    return lambda chains: hits[chains].sum(axis=1) / gated[chains].sum(axis=1)


def psi_by_part(
    focus: Tensor,
    mask: Tensor,
    strengths: Iterable[float],
    tail_ratio: float = 0.5,
    top_ratio: float = 0.2,
) -> pd.DataFrame:
    """Mean psi of the head, the tail and the gated tokens, as beta grows.

    Args:
        focus: Visual focus scores, (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.
        strengths: Values of beta.
        tail_ratio: gamma.
        top_ratio: kappa.

    Returns:
        One row per strength and part: ``strength``, ``part`` (of
        :data:`PARTS`), ``psi``, and ``tokens``, how many the mean is over.

    Raises:
        ValueError: a shape or range is wrong.
    """
    gate = visual_gate(focus, mask, tail_ratio, top_ratio)
    tail = visual_gate(focus, mask, tail_ratio, 1.0)
    places = dict(zip(PARTS, (mask.bool() & ~tail, tail & ~gate, gate), strict=True))
    rows = []
    for strength in strengths:
        weights = compensate(focus, mask, strength, tail_ratio, top_ratio)
        psi = intra_trajectory_weights(weights, mask)
        for part, place in places.items():
            rows.append(
                {
                    "strength": strength,
                    "part": part,
                    "psi": float(psi[place].mean()),
                    "tokens": int(place.sum()),
                }
            )
    return pd.DataFrame(rows)


def along_the_chain(values: Tensor, mask: Tensor, steps: int = 10) -> pd.DataFrame:
    """Mean of a token's value by its place t/T, one row per chain and step.

    Args:
        values: (B, T).
        mask: bool or 0/1, (B, T), True on real tokens.
        steps: Equal parts of the chain; token t of T belongs to part
            ceil(steps t/T).

    Returns:
        ``chain``, ``progress`` (the upper end of the part, in (0, 1]), ``value``;
        a part that has no token in a chain has no row there.

    Raises:
        ValueError: ``steps`` is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps: must be at least 1, got {steps}")
    mask = mask.bool()
    number, length = mask.cumsum(dim=1), mask.sum(dim=1, keepdim=True)
    part = -torch.div(-number * steps, length.clamp(min=1), rounding_mode="floor")
    chain = torch.arange(len(mask))[:, None].expand_as(mask)
    table = pd.DataFrame(
        {
            "chain": chain[mask].numpy(),
            "progress": part[mask].numpy() / steps,
            "value": values[mask].numpy(),
        }
    )
    return table.groupby(["chain", "progress"], as_index=False).mean()
