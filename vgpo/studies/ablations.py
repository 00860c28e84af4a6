"""VGPO with one part changed at a time: what that does to a group, and to a training.

The arms are those of ``recipes/experiments/ablations.yaml``. What follows from the
formulas is computed for a group of rollouts; what a training makes of it is read from
recorded cells, however many there are: an arm without cells is a row that says so.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vgpo.method.visual import VGPO, visual_factors
from vgpo.stats.seeds import paired_differences, t_interval
from vgpo.studies.evidence import planned_table, seed_pairs
from vgpo.studies.experiments.arms import find_arm
from vgpo.studies.tables import padded
from vgpo.training.config import VGPOConfig

PARTS: Mapping[str, tuple[str, ...]] = {
    "which term": ("intra", "inter"),
    "which schedule": ("step", "exponential"),
    "which part of the chain": ("full",),
    "how strong, β": ("beta_0", "beta_1"),
    "how long a tail, γ": ("gamma_0.25", "gamma_0.75"),
    "how many of it, κ": ("kappa_0.1", "kappa_0.5"),
}
"""What is asked -> the arms that ask it, by what follows the method's name."""

PAPER: Mapping[str, float] = {
    "intra": 64.6 - 65.3,
    "inter": 64.0 - 65.3,
    "step": 63.1 - 65.3,
    "exponential": 63.5 - 65.3,
    "full": 53.5 - 65.3,
}
"""The paper's ablations less its method, in points of accuracy (7B, mean of ten
benchmarks, one seed)."""

DEFAULTS: Mapping[str, float] = {
    "beta": VGPO.strength,
    "gamma": VGPO.tail_ratio,
    "kappa": VGPO.top_ratio,
}
"""Level of the method itself, for each number that is swept."""


def arms_of(base: str) -> dict[str, str]:
    """Every ablation of a method's arm, and what it asks.

    Example:
        >>> arms_of("vgpo_token")["vgpo_token_intra"]
        'which term'
    """
    return {f"{base}_{name}": part for part, names in PARTS.items() for name in names}


def ablation_table(
    outcomes: pd.DataFrame, base: str, against: str, outcome: str
) -> pd.DataFrame:
    """Every planned ablation of a method against an arm, whatever has been recorded.

    Args:
        outcomes: From :func:`~vgpo.studies.experiments.records.outcome_table`, of one
            world and setting.
        base: The method's arm; it has a row itself, unless it is compared with.
        against: The arm that is compared with.
        outcome: One that
            :func:`~vgpo.studies.experiments.report.compare_grid` compares.

    Returns:
        Index ``arm``, all that are planned; ``part`` (what it asks), ``paper`` (the
        paper's difference to its method, points) and the columns of
        :func:`~vgpo.studies.evidence.planned_table`.
    """
    asked = arms_of(base)
    if base != against:
        asked = {base: "the method", **asked}
    table = planned_table(outcomes, list(asked), against, outcome)
    paper = table.index.str.removeprefix(f"{base}_").map(PAPER.get)
    table.insert(0, "part", pd.Series(asked))
    table.insert(1, "paper", paper.astype(float))
    return table


def sweep_table(outcomes: pd.DataFrame, base: str, outcome: str) -> pd.DataFrame:
    """An outcome over the levels of β, γ and κ, as a difference to the method's own.

    Returns:
        ``number``, ``level``, ``difference``, ``low``, ``high`` (Student's t over
        paired seeds; the method's own level is 0 without an interval), ``seeds``.
        Levels without a pair have NaN.
    """
    rows = outcomes[outcomes["outcome"] == outcome]
    found = []
    for arm in arms_of(base):
        number, _, level = arm.removeprefix(f"{base}_").partition("_")
        if number not in DEFAULTS:
            continue
        pairs = seed_pairs(rows, arm, base)
        about = {"number": number, "level": float(level), "seeds": len(pairs)}
        ends = dict.fromkeys(("difference", "low", "high"), np.nan)
        if len(pairs):
            change = t_interval(paired_differences(pairs[arm], pairs[base]))
            ends = {"difference": change.value, "low": change.low, "high": change.high}
        found.append(about | ends)
    own = {"difference": 0.0, "low": np.nan, "high": np.nan}
    seeds = int(rows.loc[rows["arm"] == base, "value"].notna().sum())
    found += [
        {"number": name, "level": level, "seeds": seeds} | own
        for name, level in DEFAULTS.items()
    ]
    return pd.DataFrame(found).sort_values(["number", "level"], ignore_index=True)


def arm_method(arm: str) -> VGPO:
    """The method of an arm that is VGPO, with its settings.

    Example:
        >>> arm_method("vgpo_token_full").tail_ratio
        1.0
    """
    one = find_arm(arm)
    config = VGPOConfig.preset(one.method, output_dir="", **one.fields)
    method = config.make_method()
    if not isinstance(method, VGPO):
        raise ValueError(f"arm must be one of VGPO, got {arm!r} of {one.method!r}")
    return method


def group_factors(table: pd.DataFrame, arms: Sequence[str]) -> dict[str, Tensor]:
    """What each arm multiplies the advantages of one group of rollouts by (Eq. 12).

    Args:
        table: Of the rollouts of one prompt, from
            ``vgpo.studies.tables.token_table``.
        arms: Arms that are VGPO.

    Returns:
        By arm, (1 + ψ)(1 + φ), (B, T), NaN past a rollout's end.
    """
    factors = {}
    for arm in arms:
        method = arm_method(arm)
        column = "focus" if method.alignment == "token" else "focus_prediction"
        focus, mask = padded(table, column)
        groups = torch.zeros(len(focus), dtype=torch.long)
        found = visual_factors(focus, mask, groups, method)
        factor = (1 + found.psi) * (1 + found.phi[:, None])
        factors[arm] = factor.masked_fill(~mask, torch.nan)
    return factors


def factor_table(
    factors: Mapping[str, Tensor], base: str, reads: Tensor
) -> pd.DataFrame:
    """What tells the arms of :func:`group_factors` apart, in three numbers.

    Args:
        factors: By arm, (B, T).
        base: The arm that the others are compared with.
        reads: bool, (B, T): tokens that look something up.

    Returns:
        Index ``arm``; ``moved`` (mean absolute difference to the base's factors),
        ``reads`` and ``others`` (mean factor of tokens that look something up, and of
        the others).
    """
    rows = {}
    for arm, factor in factors.items():
        real = ~factor.isnan()
        rows[arm] = {
            "moved": (factor - factors[base])[real].abs().mean().item(),
            "reads": factor[real & reads].mean().item(),
            "others": factor[real & ~reads].mean().item(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm")
