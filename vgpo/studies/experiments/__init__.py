"""Trainings on the small worlds: single runs, and grids of them.

``runs`` trains one method from one seed and is what the notebooks call. A grid is a
YAML file of arms, worlds, settings and seeds (``grid``), whose cells (``cells``) are
done once each, past any kill (``work``), evaluated question by question
(``evaluation``, ``looking``) and compared over seeds (``report``)::

    python -m vgpo.studies.experiments run headline --workers 2
"""

from typing import TYPE_CHECKING

from vgpo.lazy import parts_of
from vgpo.studies.experiments.runs import (
    ADAPTERS,
    TRAINED_FAMILIES,
    TestbedRun,
    heldout_accuracy,
    load_runs,
    run_once,
    testbed_trainer,
)

__all__ = [
    "ADAPTERS",
    "TRAINED_FAMILIES",
    "TestbedRun",
    "heldout_accuracy",
    "load_runs",
    "run_once",
    "testbed_trainer",
]

if not TYPE_CHECKING:  # a checker knows modules by their imports
    __getattr__ = parts_of(__name__)
