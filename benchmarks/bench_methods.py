"""Time and peak memory of a step of every method, against a step of DAPO.

    python -m benchmarks methods

A step is one round of rollouts and all updates made from it: generation, rewards,
scoring, forward, backward, optimiser. All methods have DAPO's loss without dynamic
sampling and KL term, and completions of full length, so that what differs is the
method alone. SRPO is told that the first half of a completion is perception, the
second reasoning. Three settings:

- rollouts used once, all in one micro-batch: probes read along with the loss;
- rollouts used once, in two micro-batches of whole groups: methods that shape each
  group by itself read along as well;
- rollouts used twice: TRL scores them anyway, and probes read along.

What a pass of VGPO's own costs, where micro-batches split groups, is measured by
``python -m benchmarks trainer``.

On a CPU the seconds are those of the processor, on one thread, which other programs
on the machine change less than those of the clock.
"""

import tempfile
import time

import torch

from benchmarks.bench_trainer import GROUP, LENGTH, PROMPTS, build, step
from benchmarks.harness import measure, print_table, write
from vgpo import VGPOTrainer
from vgpo.models.memory import peak_bytes
from vgpo.models.probes import register_probe

METHODS = ("dapo", "vgpo", "papo", "vppo", "pepo", "entropy", "gpg", "srpo")
SETTINGS = {
    "rollouts used once": {},
    "rollouts used once, in two micro-batches": {"micro_batches": 2},
    "rollouts used twice": {"num_iterations": 2},
}
LOSS = {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.0}
# What was set out to be kept.
TIME_LIMITS = {
    "vgpo": 1.09,
    "papo": 1.35,
    "vppo": 1.35,
    "srpo": 1.35,
    "pepo": 1.05,
    "entropy": 1.02,
    "gpg": 1.02,
}
MEMORY_LIMITS = {"vgpo": 1.02, "entropy": 1.02, "gpg": 1.02}
ROUNDS = 9


@register_probe("first half")
def first_half(scored):
    """1 in the first half of a completion, 0 in the second."""
    count = scored.completion_mask.cumsum(dim=1)
    return (2 * count <= scored.completion_mask.sum(dim=1, keepdim=True)).float()


def bench(fields: dict[str, int], device: str) -> dict[str, object]:
    """Times, ratios and peaks of all methods in one setting."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    with tempfile.TemporaryDirectory() as folder:
        trainers = {
            name: build(
                VGPOTrainer,
                device,
                folder,
                method=name,
                method_kwargs={"spans": "first half"} if name == "srpo" else {},
                **LOSS,
                **fields,
            )
            for name in METHODS
        }
        steps = {
            name: lambda trainer=trainer: step(trainer)
            for name, trainer in trainers.items()
        }
        times = measure(steps, rounds=ROUNDS, warm_up=1, device=device, clock=clock)
        peaks = {name: peak_bytes(call, device) for name, call in steps.items()}
    return {
        "milliseconds": {name: times.milliseconds(name) for name in METHODS},
        "time_ratio": {name: times.ratio(name, "dapo") for name in METHODS},
        "time_ratio_quartiles": {name: times.spread(name, "dapo") for name in METHODS},
        "peak_bytes_above_weights": peaks,
        "memory_ratio": {name: peaks[name] / peaks["dapo"] for name in METHODS},
    }


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    figures = {name: bench(fields, device) for name, fields in SETTINGS.items()}
    over = []
    for setting, found in figures.items():
        print_table(
            f"One step, {setting}, {PROMPTS[device]} prompts x {GROUP} rollouts x "
            f"{LENGTH[device]} tokens ({device})",
            ["", "ms", "time / DAPO", "peak MiB", "memory / DAPO"],
            [
                [
                    name,
                    found["milliseconds"][name],
                    found["time_ratio"][name],
                    found["peak_bytes_above_weights"][name] / 2**20,
                    found["memory_ratio"][name],
                ]
                for name in METHODS
            ],
        )
        for kind, limits in (("time", TIME_LIMITS), ("memory", MEMORY_LIMITS)):
            for name, limit in limits.items():
                ratio = found[f"{kind}_ratio"][name]
                if ratio > limit:
                    over.append(f"{name} ({kind}, {setting}: {ratio:.2f} > {limit})")
    write(
        "methods",
        {
            "device": device,
            "seconds_of": "device" if device == "cuda" else "processor",
            "rounds": ROUNDS,
            **figures,
            "time_limits": TIME_LIMITS,
            "memory_limits": MEMORY_LIMITS,
        },
    )
    if over:
        raise SystemExit(f"methods: over the limit: {', '.join(over)}")


if __name__ == "__main__":
    main()
