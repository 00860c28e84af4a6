"""Statistics of visual forgetting: how attention on the image falls, and for whom.

Pure functions over attention masses, as
:func:`vgpo.models.attention.attention_split` gives them. The analysis they follow is
the pilot study of Visually-Guided Policy Optimization for Multimodal Reasoning, arXiv
2604.09349 (its Fig. 2); the paper leaves the exact split of a response open, and what
is chosen here is said at each function.

- ``shares``: along one answer;
- ``pointing``: where on the image, against the truth;
- ``decay``: the fall over many answers, and its parts;
- ``comparing``: right answers against wrong ones;
- ``questions``: the same within questions;
- ``lengths``: against the length of the chain.

Intervals are those of :mod:`vgpo.stats.intervals`, over responses: bootstraps where
there are enough of them, studentized where there are few.
"""

from vgpo.stats.forgetting.comparing import (
    Comparison,
    compare_right_wrong,
    mean_ratios,
)
from vgpo.stats.forgetting.decay import DecaySplit, decay_curve, split_decay
from vgpo.stats.forgetting.lengths import length_correlation
from vgpo.stats.forgetting.pointing import pointing_hits, share_on_target
from vgpo.stats.forgetting.questions import (
    OVER_SEEDS,
    POOLED,
    compare_over_question_seeds,
    compare_within_questions,
)
from vgpo.stats.forgetting.shares import (
    accumulation_ratio,
    progress_profile,
    uniform_shares,
)

__all__ = [
    "OVER_SEEDS",
    "POOLED",
    "Comparison",
    "DecaySplit",
    "accumulation_ratio",
    "compare_over_question_seeds",
    "compare_right_wrong",
    "compare_within_questions",
    "decay_curve",
    "length_correlation",
    "mean_ratios",
    "pointing_hits",
    "progress_profile",
    "share_on_target",
    "split_decay",
    "uniform_shares",
]
