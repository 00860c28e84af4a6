"""What an experiment's cell costs, against the same work done the plain way.

    python -m benchmarks cells

The two halves of a cell, each against the library's own form, in turn:

- a step of training: completions by ``vgpo.testbed.decoding`` and rows that hold what
  is needed, against the library's ``generate`` and all columns of the data set;
- the evaluation of a trained model: all parts in batches of chains of similar length,
  each question read once, against one part after the other.

The ratio of the whole is weighed by the parts of a cell of 24 steps.
"""

import tempfile
from dataclasses import replace

import torch

from benchmarks.harness import measure, print_table, write
from vgpo.rewards import accuracy_reward
from vgpo.studies.experiments.evaluation import (
    Evaluation,
    evaluate,
    questions_of,
    standard_parts,
)
from vgpo.studies.experiments.runs import TRAINED_FAMILIES, TestbedRun
from vgpo.studies.experiments.truth import with_truth
from vgpo.testbed import WORLDS, load_tiny, make_dataset
from vgpo.testbed.answers import answer
from vgpo.testbed.decoding import decode_faster
from vgpo.training.trainer import VGPOTrainer

STEPS = 24
WORLD = "misread"
# A tenth of a cell's questions: the ratio hardly depends on how many there are.
EVALUATION = Evaluation(standard_parts(40, 4, 10), looked_at=0)
SHARE = 10


def trainer(folder: str, fast: bool) -> VGPOTrainer:
    """A trainer that is ready to step."""
    run = TestbedRun(method="dapo", world=WORLD)
    world = replace(WORLDS[WORLD], families=TRAINED_FAMILIES)
    model, processor = load_tiny(WORLD)
    rows = make_dataset(64, world, seed=1000)
    if fast:
        decode_faster(model)
        rows = with_truth(rows, [world.example(i, 1000) for i in range(64)])
    made = VGPOTrainer(
        model=model,
        reward_funcs=accuracy_reward,
        # A rate of 0: every step does the same work.
        args=run.config(folder, report_to="none", learning_rate=0.0),
        train_dataset=rows,
        processing_class=processor,
    )
    made.create_optimizer_and_scheduler(num_training_steps=STEPS)
    made.current_gradient_accumulation_steps = made.args.gradient_accumulation_steps
    return made


def step(made: VGPOTrainer) -> None:
    """One round of rollouts and the update made from it."""
    torch.manual_seed(0)
    per_step = made.args.gradient_accumulation_steps
    batches = iter(made.get_train_dataloader())
    made._step, made._buffered_inputs = 0, None
    for _ in range(per_step):
        made.training_step(made.model, next(batches), None)
    made.optimizer.step()
    made.model.zero_grad()


def plain_evaluation(model, processor) -> None:
    """One part after the other, by the library's ``generate``."""
    for part in EVALUATION.parts:
        examples = [
            example
            for example in questions_of(part, WORLD, EVALUATION.seed)
            for _ in range(part.samples)
        ]
        answer(
            model,
            processor,
            examples,
            part.temperature,
            max_new_tokens=EVALUATION.max_new_tokens,
        )


def main() -> None:
    torch.set_num_threads(1)
    model, processor = load_tiny(WORLD)
    with tempfile.TemporaryDirectory() as folder:
        made = {fast: trainer(folder, fast) for fast in (False, True)}
        times = measure(
            {
                "step, plain": lambda: step(made[False]),
                "step": lambda: step(made[True]),
                "evaluation, plain": lambda: plain_evaluation(model, processor),
                "evaluation": lambda: evaluate(model, processor, WORLD, EVALUATION),
            },
            rounds=3,
            warm_up=1,
        )

    def cell(kind: str) -> float:
        """Seconds of a whole cell."""
        steps = STEPS * times.milliseconds(f"step{kind}")
        return (steps + SHARE * times.milliseconds(f"evaluation{kind}")) / 1e3

    table = [
        [name, times.milliseconds(name), times.ratio(name, f"{base}, plain")]
        for base in ("step", "evaluation")
        for name in (f"{base}, plain", base)
    ]
    table.append(["cell, plain", 1e3 * cell(", plain"), 1.0])
    table.append(["cell", 1e3 * cell(""), cell("") / cell(", plain")])
    print_table("A cell of an experiment", ["", "ms", "time / plain"], table)
    write(
        "cells",
        {
            "world": WORLD,
            "steps": STEPS,
            "milliseconds": {name: ms for name, ms, _ in table},
            "time_ratio": {
                "step": times.ratio("step", "step, plain"),
                "evaluation": times.ratio("evaluation", "evaluation, plain"),
                "cell": cell("") / cell(", plain"),
            },
            "cells_per_hour": {
                "plain": 3600 / cell(", plain"),
                "now": 3600 / cell(""),
            },
        },
    )


if __name__ == "__main__":
    main()
