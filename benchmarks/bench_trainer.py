"""Time and peak memory of a VGPO step, against TRL's GRPO step at equal settings.

    python -m benchmarks trainer

A step here is all that belongs to one round of rollouts: generation, rewards,
scoring, and every forward, backward and optimiser step made from them. Completions
are forced to full length, so both trainers do the same work. Four settings:

- rollouts used twice (``num_iterations`` 2): old log-probabilities are computed
  anyway, and focus is read from that pass;
- rollouts used once, in one micro-batch: focus is read from the pass of the loss;
- rollouts used once, in two micro-batches of whole groups: the same;
- rollouts used once, in micro-batches of half a group: VGPO adds a forward pass
  without gradient.

Rewards cost nothing here, which makes the ratios worse than in use.
"""

import tempfile

import torch
from trl import GRPOConfig, GRPOTrainer

from benchmarks.harness import measure, print_table, write
from vgpo import VGPOConfig, VGPOTrainer
from vgpo.models.adapters import lora_config
from vgpo.models.memory import peak_bytes
from vgpo.testbed import World, build_processor, build_tiny, make_dataset

SETTINGS = {
    "old log-probabilities anyway": {"num_iterations": 2},
    "the pass of the loss": {"num_iterations": 1},
    "the pass of the loss, in two": {"num_iterations": 1, "micro_batches": 2},
    "a pass of its own": {"num_iterations": 1, "micro_batches": 4},
}
TIME_LIMITS = {
    "old log-probabilities anyway": 1.03,
    "the pass of the loss": 1.03,
    "the pass of the loss, in two": 1.03,
    "a pass of its own": 1.20,
}
MEMORY_LIMIT = 1.02

GROUP = 8
SIZES = {
    "cpu": {"hidden_size": 256, "layers": 4, "vision_layers": 2},
    # As wide as a 3B model and as deep; the vocabulary is the small world's.
    "cuda": {"hidden_size": 2048, "layers": 36, "vision_layers": 8},
}
PROMPTS = {"cpu": 2, "cuda": 4}
LENGTH = {"cpu": 64, "cuda": 512}


def build(trainer_class, device: str, folder: str, *, micro_batches=1, **fields):
    """A trainer whose model, optimiser and rows are ready to step."""
    processor = build_processor()
    model = build_tiny(processor, **SIZES[device]).to(device)
    rows = PROMPTS[device] * GROUP
    config_class = VGPOConfig if trainer_class is VGPOTrainer else GRPOConfig
    args = config_class(
        output_dir=folder,
        use_cpu=device == "cpu",
        bf16=device == "cuda",
        gradient_checkpointing=False,
        per_device_train_batch_size=rows // micro_batches,
        gradient_accumulation_steps=micro_batches,
        num_generations=GROUP,
        max_completion_length=LENGTH[device],
        generation_kwargs={"min_new_tokens": LENGTH[device]},
        learning_rate=1e-6,
        report_to="none",
        **fields,
    )
    trainer = trainer_class(
        model=model,
        args=args,
        reward_funcs=lambda completion_ids, **columns: [
            ids[0] % 2 for ids in completion_ids
        ],
        train_dataset=make_dataset(16, World(grids=((3, 3),), families=("sum",))),
        processing_class=processor,
        peft_config=lora_config(model) if device == "cuda" else None,
    )
    return ready(trainer)


def ready(trainer):
    """The trainer with an optimiser, as ``train`` would make it."""
    trainer.create_optimizer_and_scheduler(num_training_steps=1000)
    trainer.current_gradient_accumulation_steps = (
        trainer.args.gradient_accumulation_steps
    )
    return trainer


def step(trainer) -> None:
    """One round of rollouts and all updates made from it."""
    group = trainer.num_generations
    prompts = trainer.args.generation_batch_size // group
    rows = [trainer.train_dataset[i] for i in range(prompts) for _ in range(group)]
    for _ in range(trainer.num_iterations):
        for _ in range(trainer.args.steps_per_generation):
            trainer.training_step(trainer.model, rows, None)
        trainer.optimizer.step()
        trainer.model.zero_grad()


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    table, figures, over = [], {}, []
    for setting, fields in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            trainers = {
                "grpo": build(GRPOTrainer, device, folder, **fields),
                "vgpo": build(VGPOTrainer, device, folder, **fields),
            }
            steps = {
                name: lambda trainer=trainer: step(trainer)
                for name, trainer in trainers.items()
            }
            times = measure(steps, rounds=9, warm_up=1, device=device)
            peaks = {name: peak_bytes(call, device) for name, call in steps.items()}
        ratio, memory = times.ratio("vgpo", "grpo"), peaks["vgpo"] / peaks["grpo"]
        tokens = PROMPTS[device] * GROUP * LENGTH[device]
        for name in steps:
            table.append(
                [
                    f"{setting}, {name}",
                    times.milliseconds(name),
                    times.ratio(name, "grpo"),
                    tokens / times.milliseconds(name) * 1e3,
                    peaks[name] / 2**20,
                ]
            )
        figures[setting] = {
            "milliseconds": {name: times.milliseconds(name) for name in steps},
            "time_ratio": ratio,
            "time_ratio_quartiles": times.spread("vgpo", "grpo"),
            "time_limit": TIME_LIMITS[setting],
            "tokens_per_second": {
                name: tokens / times.milliseconds(name) * 1e3 for name in steps
            },
            "peak_bytes_above_weights": peaks,
            "memory_ratio": memory,
            "memory_limit": MEMORY_LIMIT,
        }
        if ratio > TIME_LIMITS[setting] or memory > MEMORY_LIMIT:
            over.append(setting)
    print_table(
        f"One step, {PROMPTS[device]} prompts x {GROUP} rollouts x {LENGTH[device]} "
        f"tokens ({device})",
        ["", "ms", "time / GRPO", "tokens/s", "peak MiB"],
        table,
    )
    write("trainer", {"device": device, **figures})
    if over:
        raise SystemExit(f"trainer: over the limit in {', '.join(over)}")


if __name__ == "__main__":
    main()
