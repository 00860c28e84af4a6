"""Every signal that a token could be weighted by, graded against the truth.

- :mod:`~vgpo.studies.signals.measure`: all signals of all tokens of answers;
- :mod:`~vgpo.studies.signals.grading`: AUROC against what tokens truly do, agreement
  with occlusion, overlap with VGPO's choice, length;
- :mod:`~vgpo.studies.signals.methods`: what each method does to one completion;
- :mod:`~vgpo.studies.signals.record`: the recorded grades, and how they are made
  (``python -m vgpo.studies.signals``).
"""

from typing import TYPE_CHECKING

from vgpo.lazy import parts_of
from vgpo.studies.signals.grading import (
    AGAINST,
    grade,
    labelled,
    lags,
    summary,
    wide,
)
from vgpo.studies.signals.measure import SIGNALS, signal_table
from vgpo.studies.signals.methods import shaped_by_methods
from vgpo.studies.signals.record import load_measured

__all__ = [
    "AGAINST",
    "SIGNALS",
    "grade",
    "labelled",
    "lags",
    "load_measured",
    "shaped_by_methods",
    "signal_table",
    "summary",
    "wide",
]

if not TYPE_CHECKING:  # a checker knows modules by their imports
    __getattr__ = parts_of(__name__)
