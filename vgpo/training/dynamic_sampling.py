"""DAPO's dynamic sampling: groups that are all right or all wrong are replaced.

Their advantages are 0, and so is what they teach. TRL has nothing of the kind. The
rounds of generation themselves are not made here: :class:`DynamicSampling` gets them
from a callable.

A round after the first has about as many groups as are missing, not as many as a
batch: with 1 of 16 groups to be replaced, one group is sampled more, not 16. What a
round has too many of is thrown away and logged; kept for the next step it would be of
an older policy, and would have to be in every checkpoint.
"""

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from scipy.stats import binom
from torch import Tensor
from trl.trainer.utils import nanstd, split_pixel_values_by_grid

from vgpo.seeds import mixed_seed
from vgpo.training.rollouts import stack_rows, take_row, to_device

logger = logging.getLogger(__name__)

Batch = dict[str, Any]
Rows = list[dict[str, Any]]

# How likely a round should be the last: a further one costs the time of its longest
# answer, however few answers it has.
_CONFIDENCE = 0.9


@dataclass(frozen=True)
class Sampled:
    """What :meth:`DynamicSampling.sample` returns.

    Attributes:
        batch: This process's rollouts.
        logs: Numbers for the log of the run.
        rounds: Groups that each round of generation had.
        rows: Where the rollouts of the new batch come from, over all processes, in
            order: their numbers among all that were sampled, round after round.
    """

    batch: Batch
    logs: Mapping[str, float]
    rounds: Sequence[int]
    rows: Sequence[int]


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
    ) -> Sampled:
        """A batch of groups that are neither all right nor all wrong.

        Rounds of generation go on until there are enough of them or the attempts
        are used up; then the first rounds' others fill the batch. Groups keep the
        order in which they were sampled, whatever the number of processes.

        Args:
            inputs: This process's rows of the data set, for the first round.
            roll_out: One round: from rows to this process's batch, and the accuracy
                of the rollouts of all processes.
            step: Names the fresh prompts, together with the seed.
        """
        local_rows = len(inputs)
        wanted = local_rows * self.accelerator.num_processes // self.group_size
        fresh = self._fresh_prompts(step)
        rounds: list[Batch] = []
        sizes: list[int] = []
        # Groups as (round, place in it).
        chosen: list[tuple[int, int]] = []
        spare: list[tuple[int, int]] = []
        for attempt in range(self.max_attempts):
            if attempt:
                missing, seen = wanted - len(chosen), len(chosen) + len(spare)
                number = groups_to_sample(missing, len(chosen) / seen, wanted)
                inputs = self._next_rows(fresh, self._divisible(number))
            batch, accuracy = roll_out(inputs)
            mean = accuracy.view(-1, self.group_size).nanmean(dim=1)
            informative = (mean > self.lower) & (mean < self.upper)
            for place, good in enumerate(informative.tolist()):
                (chosen if good else spare).append((attempt, place))
            rounds.append(batch)
            sizes.append(len(mean))
            if len(chosen) >= wanted:
                break
        missing = max(0, wanted - len(chosen))
        if missing:
            logger.info("%d of %d groups are all right or wrong", missing, wanted)
        groups = (chosen + spare)[:wanted]
        as_sampled = groups == [(0, place) for place in range(wanted)]
        return Sampled(
            rounds[0] if as_sampled else self._assemble(rounds, groups, local_rows),
            logs={
                "dynamic_sampling/dropped_share": len(spare) / sum(sizes),
                "dynamic_sampling/discarded_share": (
                    max(0, len(chosen) - wanted) / sum(sizes)
                ),
                "dynamic_sampling/attempts": len(rounds),
                "dynamic_sampling/unfilled_share": missing / wanted,
            },
            rounds=sizes,
            rows=[
                (sum(sizes[:attempt]) + place) * self.group_size + i
                for attempt, place in groups
                for i in range(self.group_size)
            ],
        )

    # -- fresh prompts ------------------------------------------------------------

    def _fresh_prompts(self, step: int) -> Iterator[int]:
        """Rows of the data set in a random order, over and over.

        A function of seed and step alone, so that a resumed run draws the same, and
        every process knows what the others have.
        """
        for lap in itertools.count():
            generator = torch.Generator()
            generator.manual_seed(mixed_seed(self.seed, step, lap))
            yield from torch.randperm(len(self.dataset), generator=generator).tolist()

    def _next_rows(self, fresh: Iterator[int], groups: int) -> Rows:
        """This process's share of the next prompts, each as often as G."""
        rows = [
            prompt
            for prompt in itertools.islice(fresh, groups)
            for _ in range(self.group_size)
        ]
        share = len(rows) // self.accelerator.num_processes
        first = self.accelerator.process_index * share
        return [self.dataset[i] for i in rows[first : first + share]]

    def _divisible(self, groups: int) -> int:
        """At least so many groups, and equally many rows for every process.

        As in TRL's own batches, a group may be spread over two processes.
        """
        processes = self.accelerator.num_processes
        unit = processes // math.gcd(processes, self.group_size)
        return -(-groups // unit) * unit

    # -- one batch out of several rounds ------------------------------------------

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
        rank = self.accelerator.process_index
        # Rounds differ in size, so a process's share of one is not that of another.
        shares = [len(batch["completion_ids"]) for batch in rounds]
        # Place i of the new batch, over all processes, is row `sources[i]`: its
        # round, and its number among the rows of all processes in that round.
        sources = [
            (attempt, place * self.group_size + i)
            for attempt, place in groups
            for i in range(self.group_size)
        ]
        # Pixels lie in one tensor for all rows; cut, a row can be taken out.
        rounds = [split_pixel_values_by_grid(batch) for batch in rounds]
        held = {
            target: take_row(rounds[attempt], row - rank * shares[attempt])
            for target, (attempt, row) in enumerate(sources)
            if row // shares[attempt] == rank
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


def groups_to_sample(missing: int, share: float, most: int) -> int:
    """How many groups to sample so that enough of them will likely be informative.

    The least number of which, with a probability of 9 in 10, ``missing`` or more are
    informative, if each is with probability ``share``.

    Args:
        missing: Informative groups still needed, at least 1.
        share: Share of informative groups so far.
        most: The most to sample at a time, at least ``missing``.

    Example:
        >>> groups_to_sample(1, 15 / 16, 16), groups_to_sample(4, 12 / 16, 16)
        (1, 7)
    """
    numbers = range(missing, most)
    enough = binom.sf(missing - 1, numbers, share) >= _CONFIDENCE
    return next(itertools.compress(numbers, enough), most)


def advantages_over_batch(
    rewards: Tensor, reward_weights: Tensor, group_size: int
) -> Tensor:
    """TRL's advantages with ``scale_rewards="batch"``, for an assembled batch.

    They are divided by the standard deviation over the batch, which is another one
    when groups were replaced.

    Args:
        rewards: Of all processes, per reward function, (B, F); NaN where a function
            gave none.
        reward_weights: (F,).
        group_size: G, rollouts of a prompt.

    Returns:
        (B,)
    """
    total = (rewards * reward_weights.to(rewards.device)).nansum(dim=1)
    total[rewards.isnan().all(dim=1)] = torch.nan
    baseline = total.view(-1, group_size).nanmean(dim=1).repeat_interleave(group_size)
    return ((total - baseline) / (nanstd(total) + 1e-4)).nan_to_num(nan=0.0)


def _all_gather_object(value: Any) -> list[Any]:
    gathered = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, value)
    return gathered
