"""DAPO's dynamic sampling: groups that are all right or all wrong are replaced.

Their advantages are 0, and so is what they teach. TRL has nothing of the kind. The
rounds of generation themselves are not made here: :class:`DynamicSampling` gets them
from a callable.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from trl.trainer.utils import split_pixel_values_by_grid

from vgpo.training.rollouts import stack_rows, take_row, to_device

logger = logging.getLogger(__name__)

Batch = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class DynamicSampling:
    """Makes batches of informative groups.

    Attributes:
        accelerator: The processes; each holds the same number of rows.
        dataset: Fresh prompts are drawn from it; it can be indexed.
        group_size: G, the rollouts per prompt.
        lower: Groups with a mean accuracy at or below are dropped.
        upper: Groups with a mean accuracy at or above are dropped.
        max_attempts: Rounds of generation per batch, the first included.
        seed: Of the fresh prompts.
        pad_token_id: Fills the ids of shorter rows where rounds are joined.
    """

    accelerator: Accelerator
    dataset: Any
    group_size: int
    lower: float
    upper: float
    max_attempts: int
    seed: int
    pad_token_id: int

    def sample(
        self,
        inputs: Rows,
        roll_out: Callable[[Rows], tuple[Batch, Tensor]],
        step: int,
    ) -> tuple[Batch, dict[str, float]]:
        """A batch of groups that are neither all right nor all wrong.

        Rounds of generation go on until there are enough of them or the attempts
        are used up; then the first round's others fill the batch. Groups keep the
        order in which they were sampled, whatever the number of processes.

        Args:
            inputs: This process's rows of the data set, for the first round.
            roll_out: One round: from rows to this process's batch, and the accuracy
                of the rollouts of all processes.
            step: Names the fresh prompts, together with the seed.

        Returns:
            This process's batch, and numbers for the log.
        """
        local_rows = len(inputs)
        wanted = local_rows * self.accelerator.num_processes // self.group_size
        rounds: list[Batch] = []
        chosen: list[tuple[int, int]] = []
        spare: list[tuple[int, int]] = []
        for attempt in range(self.max_attempts):
            if attempt:
                inputs = self._fresh_prompts(step, attempt, local_rows)
            batch, accuracy = roll_out(inputs)
            rounds.append(batch)
            mean = accuracy.view(-1, self.group_size).nanmean(dim=1)
            informative = (mean > self.lower) & (mean < self.upper)
            for place, good in enumerate(informative.tolist()):
                (chosen if good else spare).append((attempt, place))
            if len(chosen) >= wanted:
                break
        missing = max(0, wanted - len(chosen))
        if missing:
            logger.info("%d of %d groups are all right or wrong", missing, wanted)
        logs = {
            "dynamic_sampling/dropped_share": len(spare) / (len(rounds) * wanted),
            "dynamic_sampling/attempts": len(rounds),
            "dynamic_sampling/unfilled_share": missing / wanted,
        }
        groups = (chosen + spare)[:wanted]
        if groups == [(0, place) for place in range(wanted)]:
            return rounds[0], logs
        return self._assemble(rounds, groups, local_rows), logs

    def _fresh_prompts(self, step: int, attempt: int, local_rows: int) -> Rows:
        """Prompts drawn for one more round, a pure function of seed, step, attempt."""
        group = self.group_size
        total = local_rows * self.accelerator.num_processes
        generator = torch.Generator().manual_seed(
            (self.seed * 1_000_003 + step) * 1_000_003 + attempt
        )
        size = len(self.dataset)
        order = torch.randperm(size, generator=generator).tolist()
        prompts = [order[i % size] for i in range(total // group)]
        rows = [prompt for prompt in prompts for _ in range(group)]
        first = self.accelerator.process_index * local_rows
        return [self.dataset[i] for i in rows[first : first + local_rows]]

    def _assemble(
        self,
        rounds: Sequence[Batch],
        groups: Sequence[tuple[int, int]],
        local_rows: int,
    ) -> Batch:
        """The rows of ``groups``, (round, place) each, as one batch per process.

        A row lives on the process that rolled it out, and is wanted on the one whose
        share of the new batch it falls into. All processes compute the same list of
        sources, so each knows without asking which of its rows go and which come.
        """
        size, rank = self.group_size, self.accelerator.process_index
        # Place i of the new batch, over all processes, is row `sources[i]`: its
        # round, and its number among the rows of all processes in that round.
        sources = [
            (attempt, place * size + i)
            for attempt, place in groups
            for i in range(size)
        ]
        # Pixels lie in one tensor for all rows; cut, a row can be taken out.
        rounds = [split_pixel_values_by_grid(r) for r in rounds]
        held = {
            target: take_row(rounds[attempt], row - rank * local_rows)
            for target, (attempt, row) in enumerate(sources)
            if row // local_rows == rank
        }
        mine = range(rank * local_rows, (rank + 1) * local_rows)
        if self.accelerator.num_processes > 1:
            # Rows differ in shape and in what they hold (pixels or none), which
            # tensors cannot be gathered with; few of them move, so they go as
            # objects, over the CPU, where both backends can take them.
            elsewhere = {
                target: to_device(row, "cpu")
                for target, row in held.items()
                if target not in mine
            }
            for rows in _all_gather_object(elsewhere):
                held |= {
                    target: to_device(row, self.accelerator.device)
                    for target, row in rows.items()
                    if target in mine
                }
        batch = stack_rows([held[row] for row in mine], self.pad_token_id)
        batch["num_items_in_batch"] = self._count_items(batch)
        return batch

    def _count_items(self, batch: Mapping[str, Any]) -> Tensor:
        """Tokens that enter the loss, over all processes: TRL divides by them."""
        counted = batch["completion_mask"]
        if "tool_mask" in batch:
            counted = counted * batch["tool_mask"]
        return self.accelerator.gather(counted.sum()).sum()


def _all_gather_object(value: Any) -> list[Any]:
    gathered = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, value)
    return gathered
