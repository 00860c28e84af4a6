"""Figures of the book and of ``vgpo.analyze``: one function each, a figure out.

Nothing is measured here: tables, arrays and intervals come in, from
:mod:`vgpo.stats`, :mod:`vgpo.analysis` or :mod:`vgpo.studies`, and a matplotlib
figure goes out. What a plot itself takes, such as a histogram's bins, a running mean
or a median line through points, is worked out where it is drawn.
"""

from typing import TYPE_CHECKING

from vgpo.figures.ablations import (
    ablations_figure,
    factors_figure,
    schedules_figure,
    sweeps_figure,
)
from vgpo.figures.attention import (
    attention_maps_figure,
    attention_split_figure,
    decay_figure,
    ratio_figure,
    ratio_length_figure,
)
from vgpo.figures.compensation import (
    along_the_chain_figure,
    compensation_figure,
    gate_precision_figure,
    psi_strength_figure,
)
from vgpo.figures.departures import clamp_figure, departures_figure, runs_figure
from vgpo.figures.evaluation import (
    accuracy_by_set_figure,
    difference_figure,
    sight_figure,
)
from vgpo.figures.evidence import (
    arms_figure,
    attention_shift_figure,
    before_after_figure,
    course_figure,
    temperature_figure,
)
from vgpo.figures.focus import (
    attention_correlation_figure,
    auroc_figure,
    dependence_figure,
    focus_around_reads_figure,
    focus_chain_figure,
    robustness_figure,
    role_auroc_figure,
    states_figure,
)
from vgpo.figures.forgetting import (
    decay_split_figure,
    forest_figure,
    layers_figure,
    occlusion_figure,
    probe_figure,
    reads_figure,
)
from vgpo.figures.neighbours import (
    cost_figure,
    entropy_term_figure,
    papo_figure,
    shaped_figure,
    statistic_figure,
)
from vgpo.figures.pushes import pushes_figure
from vgpo.figures.qlora import (
    adapter_runs_figure,
    nf4_figure,
    paired_accuracy_figure,
    precision_figure,
    training_memory_figure,
)
from vgpo.figures.reweighting import length_figure, reweighting_figure
from vgpo.figures.scores import token_scores_figure
from vgpo.figures.signals import (
    methods_figure,
    signal_grades_figure,
    signal_lags_figure,
)
from vgpo.figures.style import SCORE_LABELS, SOURCE_COLOURS, in_style
from vgpo.figures.testbed import (
    cold_start_figure,
    draw_picture,
    draw_tokens,
    gallery_figure,
    looking_figure,
    source_figure,
)
from vgpo.figures.training import reward_figure, seeds_figure, visual_metrics_figure
from vgpo.lazy import parts_of

__all__ = [
    "SCORE_LABELS",
    "SOURCE_COLOURS",
    "ablations_figure",
    "accuracy_by_set_figure",
    "adapter_runs_figure",
    "along_the_chain_figure",
    "arms_figure",
    "attention_correlation_figure",
    "attention_maps_figure",
    "attention_shift_figure",
    "attention_split_figure",
    "auroc_figure",
    "before_after_figure",
    "clamp_figure",
    "cold_start_figure",
    "compensation_figure",
    "cost_figure",
    "course_figure",
    "decay_figure",
    "decay_split_figure",
    "departures_figure",
    "dependence_figure",
    "difference_figure",
    "draw_picture",
    "draw_tokens",
    "entropy_term_figure",
    "factors_figure",
    "focus_around_reads_figure",
    "focus_chain_figure",
    "forest_figure",
    "gallery_figure",
    "gate_precision_figure",
    "in_style",
    "layers_figure",
    "length_figure",
    "looking_figure",
    "methods_figure",
    "nf4_figure",
    "occlusion_figure",
    "paired_accuracy_figure",
    "papo_figure",
    "precision_figure",
    "probe_figure",
    "psi_strength_figure",
    "pushes_figure",
    "ratio_figure",
    "ratio_length_figure",
    "reads_figure",
    "reward_figure",
    "reweighting_figure",
    "robustness_figure",
    "role_auroc_figure",
    "runs_figure",
    "schedules_figure",
    "seeds_figure",
    "shaped_figure",
    "sight_figure",
    "signal_grades_figure",
    "signal_lags_figure",
    "source_figure",
    "states_figure",
    "statistic_figure",
    "sweeps_figure",
    "temperature_figure",
    "token_scores_figure",
    "training_memory_figure",
    "visual_metrics_figure",
]

if not TYPE_CHECKING:  # a checker knows modules by their imports
    __getattr__ = parts_of(__name__)
