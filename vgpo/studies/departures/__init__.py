"""Departures of the released code from the paper, switched on one at a time.

:mod:`vgpo.method.released` computes all of them together. Here the paper's factors are
computed with any selection of them, so that each can be seen alone. With
:data:`~vgpo.studies.departures.factors.ALL` the factors are those of
:func:`vgpo.method.released.factors_from_cosines` over each micro-batch; with none they
are the paper's.

- ``listing``: what departs, in words;
- ``batches``: micro-batches and groups as it makes them;
- ``factors``: the factors with any of them;
- ``effects``: what single ones do.
"""

from vgpo.studies.departures.batches import micro_batches, run_ids, strangers
from vgpo.studies.departures.effects import (
    correlations_within_groups,
    lost_tokens,
    relative_boost,
    row_normalized,
    tied_share,
    within_group_correlation,
)
from vgpo.studies.departures.factors import (
    ALL,
    SWITCHES,
    advantage_factors_with,
    batch_min_max,
    factor_changes,
)
from vgpo.studies.departures.listing import DEPARTURES, Departure, departure_table

__all__ = [
    "ALL",
    "DEPARTURES",
    "SWITCHES",
    "Departure",
    "advantage_factors_with",
    "batch_min_max",
    "correlations_within_groups",
    "departure_table",
    "factor_changes",
    "lost_tokens",
    "micro_batches",
    "relative_boost",
    "row_normalized",
    "run_ids",
    "strangers",
    "tied_share",
    "within_group_correlation",
]
