"""Time of a DAPO step in which some of the sampled groups teach nothing.

    python -m benchmarks dynamic_sampling

The small world's shipped model, 16 prompts by 8 rollouts a step, as in the book's
runs. Of every 16 prompts, 0, 1 or 4 are made uninformative: all their rollouts get
the same reward. Dynamic sampling replaces them, so such a step generates more. A step
is generation, rewards, and all updates made from them.

The ratio to the step with none should be near the share of rollouts that is needed
more, and not that of a second round as large as the first.
"""

import statistics
import tempfile

import torch

from benchmarks.harness import measure, print_table, write
from vgpo import VGPOTrainer
from vgpo.studies.experiments import TRAINED_FAMILIES, TestbedRun
from vgpo.testbed import World, load_tiny, make_dataset

UNINFORMATIVE = (0, 1, 4)
LIMITS = {1: 1.15}
PROMPTS, GROUP = 16, 8


def reward(completions, flagged, **columns):
    """Equal rewards in the groups that are flagged, half and half in the others."""
    return [1.0 if flag else float(i % 2) for i, flag in enumerate(flagged)]


def build(uninformative: int, folder: str) -> VGPOTrainer:
    """A trainer that has rows of which so many in 16 are uninformative."""
    run = TestbedRun(method="dapo", prompts_per_step=PROMPTS, rollouts=GROUP)
    rows = make_dataset(40 * PROMPTS, World(families=TRAINED_FAMILIES), seed=1)
    flags = [place % PROMPTS < uninformative for place in range(len(rows))]
    model, processor = load_tiny()
    trainer = VGPOTrainer(
        model=model,
        reward_funcs=reward,
        args=run.config(
            folder,
            learning_rate=1e-9,  # the model stays as it is
            dynamic_sampling_max_attempts=4,
            report_to="none",
        ),
        train_dataset=rows.add_column("flagged", flags),
        processing_class=processor,
    )
    trainer.create_optimizer_and_scheduler(num_training_steps=1000)
    steps = trainer.args.gradient_accumulation_steps
    trainer.current_gradient_accumulation_steps = steps
    return trainer


class Step:
    """One generation and its updates, on the next rows each time."""

    def __init__(self, trainer):
        self.trainer, self.taken = trainer, 0

    def __call__(self) -> None:
        trainer = self.trainer
        first = self.taken % len(trainer.train_dataset)
        self.taken += PROMPTS
        prompts = range(first, first + PROMPTS)
        rows = [trainer.train_dataset[i] for i in prompts for _ in range(GROUP)]
        for _ in range(trainer.args.gradient_accumulation_steps):
            trainer.training_step(trainer.model, rows, None)
        trainer.optimizer.step()
        trainer.model.zero_grad()


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        trainers = {number: build(number, folder) for number in UNINFORMATIVE}
        steps = {str(number): Step(trainer) for number, trainer in trainers.items()}
        times = measure(steps, rounds=9, warm_up=2, device=device)
    table, figures, over = [], {}, []
    for number, trainer in trainers.items():
        name = str(number)
        logged = {
            key.removeprefix("dynamic_sampling/"): statistics.mean(values[2:])
            for key, values in trainer._metrics["train"].items()
            if key.startswith("dynamic_sampling/")
        }
        ratio = times.ratio(name, "0")
        whole = sum(times.seconds[name]) / sum(times.seconds["0"])
        table.append([name, times.milliseconds(name) / 1e3, ratio, whole, str(logged)])
        figures[name] = {
            "seconds": times.milliseconds(name) / 1e3,
            "time_ratio": ratio,
            "time_ratio_quartiles": times.spread(name, "0"),
            "ratio_of_all_rounds": whole,
            "logged": logged,
        }
        if ratio > LIMITS.get(number, float("inf")):
            over.append(f"{number} of {PROMPTS}: {ratio:.2f} > {LIMITS[number]}")
    print_table(
        f"DAPO step, by uninformative groups of {PROMPTS} ({device})",
        ["groups", "s", "ratio", "of all", "logged"],
        table,
    )
    write(
        "dynamic_sampling",
        {"limits": {str(k): v for k, v in LIMITS.items()}, "steps": figures},
    )
    if over:
        raise SystemExit("over the limit: " + "; ".join(over))


if __name__ == "__main__":
    main()
