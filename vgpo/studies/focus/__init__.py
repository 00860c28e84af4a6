"""Does the visual focus score find the tokens that read the image?

What the chapter on visual focus measures on the small world, where the truth is
known: AUROC against the true reads, correlation with image attention, occlusion,
changes of the picture, and the hidden states themselves. Everything works on the
table of :func:`vgpo.studies.tables.token_table`, one row per token. Intervals are those
of :mod:`vgpo.stats.intervals`, over completions.

- ``roles``: scores by what tokens do in their chain;
- ``looking``: beside image attention and occlusion;
- ``robustness``: under changes of model or picture;
- ``states``: the hidden states themselves.
"""

from vgpo.studies.focus.looking import (
    attention_correlations,
    attention_table,
    occlusion_table,
)
from vgpo.studies.focus.robustness import (
    beside_plain,
    robustness_summary,
    robustness_table,
)
from vgpo.studies.focus.roles import (
    ALIGNMENTS,
    ROLES,
    auroc_against_roles,
    auroc_by,
    focus_around_reads,
    highest_focus_roles,
    token_roles,
)
from vgpo.studies.focus.states import (
    ChainStates,
    chain_states,
    cosines,
    digit_probability,
    own_digit_shares,
    projected_focus,
    word_direction,
)

__all__ = [
    "ALIGNMENTS",
    "ROLES",
    "ChainStates",
    "attention_correlations",
    "attention_table",
    "auroc_against_roles",
    "auroc_by",
    "beside_plain",
    "chain_states",
    "cosines",
    "digit_probability",
    "focus_around_reads",
    "highest_focus_roles",
    "occlusion_table",
    "own_digit_shares",
    "projected_focus",
    "robustness_summary",
    "robustness_table",
    "token_roles",
    "word_direction",
]
