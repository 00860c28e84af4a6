"""Held-out questions on the way through a training, as in the paper's Fig. 4, right.

They are answered with random numbers of their own (:mod:`.evaluation`), and the
generators of the training are not touched: a training that is validated gives the same
numbers as one that is not.
"""

from collections.abc import Callable

import pandas as pd
from transformers import TrainerCallback

from vgpo.studies.experiments.evaluation import Evaluation, Part, evaluate

VALIDATION = Evaluation((Part("validation", questions=100),), looked_at=0, seed=8)
"""What is asked: 100 questions of each trained family, once each, at T = 1. They are
others than those of the evaluations before and after."""

COLUMNS = ("family", "question", "right")


class Validation(TrainerCallback):
    """Asks before the first step, and after every so many.

    Args:
        model: Being trained.
        processor: Its processor.
        world: A name of ``vgpo.testbed.WORLDS``.
        every: Steps between.
        on_batch: Called after each batch of answers.

    Raises:
        ValueError: ``every`` below 1.
    """

    def __init__(
        self, model, processor, world: str, every: int, on_batch: Callable[[], None]
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self._every, self._found = every, []
        self._ask = lambda: evaluate(model, processor, world, VALIDATION, on_batch)[0]

    def on_train_begin(self, args, state, control, **kwargs):
        self._keep(0)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self._every == 0:
            self._keep(state.global_step)

    def _keep(self, step: int) -> None:
        verdicts = self._ask()[list(COLUMNS)]
        verdicts.insert(0, "step", step)
        self._found.append(verdicts)

    def table(self) -> pd.DataFrame:
        """``step``, ``family``, ``question``, ``right`` (0 or 1), one row per answer;
        steps count the updates before the question."""
        return pd.concat(self._found, ignore_index=True)
