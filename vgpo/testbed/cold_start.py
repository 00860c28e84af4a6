"""Teaches the tiny model to read pictures and write chains: the cold start.

::

    python -m vgpo.testbed.cold_start --output runs/cold_start
    python -m vgpo.testbed.cold_start --world look_away --output runs/look_away
    python -m vgpo.testbed.cold_start --world look_away_large --output runs/large

The first trains on reference chains (teacher forcing), from one tile to nine: the next
size comes once the model reads the values of the present one. The second goes on from
the shipped checkpoint of the first with the chains of the look-away world. The third
grows the second's model to fifteen times its size, for a larger world, and takes
minutes on a GPU. A kill
loses at most the steps since the last save; the same command goes on from there. On
one processor, with one number of threads, a seed always gives the same weights.

The folder ``--output`` becomes an ordinary Hugging Face checkpoint, with the
training curve (``curve.csv``) and the record of the run (``cold_start.json``).
"""

import argparse
import csv
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import Qwen2_5_VLForConditionalGeneration

from vgpo.files import write_atomically
from vgpo.testbed.answers import accuracy, answer, blind_accuracy
from vgpo.testbed.changes import blank, swap
from vgpo.testbed.data import encode_examples
from vgpo.testbed.decoding import decode_faster
from vgpo.testbed.growth import grow
from vgpo.testbed.look_away import WORLDS, LookAwayWorld, look_away_vocabulary
from vgpo.testbed.model import build_tiny, load_tiny
from vgpo.testbed.processor import TestbedProcessor, build_processor
from vgpo.testbed.questions import FAMILIES, IMAGE_FAMILIES, Example, World

STAGES: tuple[dict, ...] = (
    {"grids": ((1, 1),), "bars": (1,)},
    {"grids": ((1, 2), (2, 1)), "bars": (1, 2)},
    {"grids": ((2, 2),), "bars": (2, 3)},
    {"grids": ((2, 3), (3, 2)), "bars": (3, 4)},
    {"grids": ((2, 2), (2, 3), (3, 2), (3, 3)), "bars": (3, 4, 5)},
)
"""Sizes of the pictures, stage by stage; the last is the small world itself."""

BATCHES_PER_POOL = 8
"""Examples are drawn for this many batches at once and batched by length, since
padding would otherwise be half of the work."""


@dataclass(frozen=True)
class ColdStartConfig:
    """Settings of the cold start.

    Attributes:
        steps: Optimiser steps in all.
        batch_size: Chains per step.
        learning_rate: Peak rate of AdamW (betas 0.9 and 0.95).
        warmup_steps: Steps over which the rate rises from 0.
        decay_steps: Last steps, over which the rate falls to a tenth.
        forgetfulness: See :class:`~vgpo.testbed.questions.World`.
        verbosity: See :class:`~vgpo.testbed.questions.World`.
        total_share: See :class:`~vgpo.testbed.questions.World`; chains that name the
            colours themselves are what ties colours to tiles, so the cold start
            asks for many.
        pass_mark: Share of right reads at which the next size comes.
        revisit: Share of the examples taken from the stage before.
        image_weight: Weight in the loss of the tokens that read the image. They
            are one in six and the hardest to learn; what the model comes to
            believe of each token does not depend on it.
        seed: Seed of weights and examples.
        threads: Threads of torch. One, since sums over several depend on how many
            there are, and a run should be repeatable.
    """

    steps: int = 4000
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    decay_steps: int = 800
    forgetfulness: float = 0.08
    verbosity: float = 0.3
    total_share: float = 0.5
    pass_mark: float = 0.93
    revisit: float = 0.2
    image_weight: float = 4.0
    seed: int = 0
    threads: int = 1

    name: ClassVar[str] = "misread"
    stages: ClassVar[tuple[dict, ...]] = STAGES
    device: ClassVar[str] = "cpu"

    def __post_init__(self):
        for name in ("steps", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("warmup_steps", "decay_steps", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        for name in ("learning_rate", "image_weight"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")
        for name in ("pass_mark", "revisit"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1]")
        self.world()

    def start(self) -> tuple[Qwen2_5_VLForConditionalGeneration, TestbedProcessor]:
        """The model before its first step, and its processor."""
        processor = build_processor()
        return build_tiny(processor, seed=self.seed), processor

    def world(self, stage: int = -1) -> World:
        """The small world at a stage of the curriculum, by default the last."""
        return World(
            **self.stages[stage],
            forgetfulness=self.forgetfulness,
            verbosity=self.verbosity,
            total_share=self.total_share,
        )

    def rate(self, step: int) -> float:
        """Learning rate at ``step``, 0-based."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = (self.steps - step) / max(1, self.decay_steps)
        return self.learning_rate * rise * max(0.1, min(1.0, left))


@dataclass(frozen=True)
class LookAwayColdStart(ColdStartConfig):
    """Settings of the look-away world's cold start.

    It goes on from the shipped checkpoint of the first world, which can read and add
    already, so there is one stage: ``pass_mark`` and ``revisit`` do nothing.

    Attributes:
        steps: As in :class:`ColdStartConfig`, and so are the others; defaults differ.
        forgetfulness: See :class:`~vgpo.testbed.look_away.LookAwayWorld`; with 0 the
            model is taught to look each time, which shows what there is to learn.
        total_share: Has to be 0.
    """

    steps: int = 800
    learning_rate: float = 5e-4
    warmup_steps: int = 30
    decay_steps: int = 400
    forgetfulness: float = 0.7
    total_share: float = 0.0

    name: ClassVar[str] = "look_away"
    stages: ClassVar[tuple[dict, ...]] = ({},)

    def start(self) -> tuple[Qwen2_5_VLForConditionalGeneration, TestbedProcessor]:
        """The first world's model, with rows for the words of this one."""
        first, known = load_tiny()
        processor = build_processor(look_away_vocabulary())
        model = build_tiny(processor, seed=self.seed)
        return carry_over(first, known, model, processor), processor

    def world(self, stage: int = -1) -> LookAwayWorld:
        """The look-away world with its lapse and its small talk."""
        return replace(
            WORLDS[self.name],
            **self.stages[stage],
            forgetfulness=self.forgetfulness,
            verbosity=self.verbosity,
            total_share=self.total_share,
        )


@dataclass(frozen=True)
class WordyColdStart(LookAwayColdStart):
    """The same world with chains in which most words bear on nothing."""

    verbosity: float = 0.7

    name: ClassVar[str] = "look_away_wordy"


@dataclass(frozen=True)
class LargeColdStart(LookAwayColdStart):
    """Settings of the cold start of the larger look-away world, for a GPU.

    It goes on from the look-away world's shipped model, grown to fifteen times as many
    parameters (:mod:`vgpo.testbed.growth`), over more tiles and with longer chains.

    Attributes:
        steps: As in :class:`ColdStartConfig`, and so are the others; defaults differ.
        hidden_size: See :func:`~vgpo.testbed.model.tiny_config`, as the next two. The
            defaults give 22 million parameters.
        layers: Of the language model.
        vision_layers: Of the vision tower.
        device: Where: ``cuda``, or ``cpu``, where it takes hours.
    """

    steps: int = 360
    batch_size: int = 128
    learning_rate: float = 5e-4
    warmup_steps: int = 30
    decay_steps: int = 180
    hidden_size: int = 384
    layers: int = 8
    vision_layers: int = 3
    device: str = "cuda"

    name: ClassVar[str] = "look_away_large"

    def __post_init__(self):
        super().__post_init__()
        for name in ("layers", "vision_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device must be cpu or cuda, got {self.device!r}")

    def start(self) -> tuple[Qwen2_5_VLForConditionalGeneration, TestbedProcessor]:
        """The grown model; it is examined with
        :func:`~vgpo.testbed.decoding.decode`."""
        known, _ = load_tiny("look_away")
        processor = build_processor(look_away_vocabulary())
        model = build_tiny(
            processor,
            seed=self.seed,
            hidden_size=self.hidden_size,
            layers=self.layers,
            vision_layers=self.vision_layers,
        )
        return decode_faster(grow(known, model)), processor


COLD_STARTS: dict[str, type[ColdStartConfig]] = {
    config.name: config
    for config in (ColdStartConfig, LookAwayColdStart, WordyColdStart, LargeColdStart)
}
"""The settings of each world's cold start, by the world's name."""


def carry_over(known, known_processor, model, processor):
    """Gives ``model`` the weights of a model with a smaller vocabulary.

    Args:
        known: The model to copy from.
        known_processor: Its processor.
        model: A model of the same shape; changed in place. Tokens that ``known`` has
            no row for keep theirs.
        processor: Its processor.

    Returns:
        ``model``.
    """
    ids = processor.tokenizer.get_vocab()
    pairs = known_processor.tokenizer.get_vocab().items()
    old = torch.tensor([place for _, place in pairs])
    new = torch.tensor([ids[text] for text, _ in pairs])
    embedding = model.get_input_embeddings().weight
    rows = embedding.detach().clone()
    rows[new] = known.get_input_embeddings().weight.detach()[old]
    with torch.no_grad():
        for (name, to), (same, source) in zip(
            model.named_parameters(), known.named_parameters(), strict=True
        ):
            assert name == same
            to.copy_(rows if to is embedding else source)
    return model


@dataclass
class _Progress:
    """What must survive a kill besides weights and optimiser."""

    step: int = 0
    stage: int = 0
    stage_since: int = 0
    read_rate: float = 0.0
    seconds: float = 0.0


def batches(config: ColdStartConfig, step: int, stage: int) -> Iterator[list[Example]]:
    """Batches of a stage from ``step`` on, each of chains of similar length.

    A pure function of its arguments, so that a resumed run sees what the
    uninterrupted one would have seen.
    """
    pool_size = BATCHES_PER_POOL * config.batch_size
    while True:
        pool_index, place = divmod(step, BATCHES_PER_POOL)
        generator = torch.Generator().manual_seed(
            config.seed * 1_000_003 + pool_index * len(config.stages) + stage
        )
        revisits = torch.rand(pool_size, generator=generator) < config.revisit
        order = torch.randperm(BATCHES_PER_POOL, generator=generator).tolist()
        pool = [
            config.world(max(0, stage - int(again))).example(
                pool_index * pool_size + i, seed=config.seed
            )
            for i, again in enumerate(revisits.tolist())
        ]
        pool.sort(key=lambda e: len(e.chain) + e.rows * e.columns)
        for which in order[place:]:
            start = which * config.batch_size
            yield pool[start : start + config.batch_size]
            step += 1


class _Pools(Dataset):
    """Encoded batches of a stage from a step on, one item for each pool."""

    def __init__(self, config, processor, step: int, stage: int) -> None:
        self._of = config, processor, step, stage

    def __len__(self) -> int:
        config, _, step, _ = self._of
        return -(-config.steps // BATCHES_PER_POOL) - step // BATCHES_PER_POOL

    def __getitem__(self, place: int) -> list[tuple[dict, list[Example]]]:
        config, processor, step, stage = self._of
        pool = step // BATCHES_PER_POOL + place
        first = max(step, pool * BATCHES_PER_POOL)
        count = (pool + 1) * BATCHES_PER_POOL - first
        return [
            # The pictures are in the batch; they need not travel twice.
            (encode_examples(processor, some), [replace(e, image=None) for e in some])
            for some in islice(batches(config, first, stage), count)
        ]


def encoded_batches(
    config: ColdStartConfig, processor, step: int, stage: int, workers: int = 0
) -> Iterator[tuple[dict[str, torch.Tensor], list[Example]]]:
    """Batches of a stage from ``step`` on, encoded, with their examples.

    Args:
        config: The settings.
        processor: Encodes.
        step: The first.
        stage: Of the curriculum.
        workers: Processes that draw and encode ahead; the batches are the same.
    """
    if workers:
        pools = DataLoader(
            _Pools(config, processor, step, stage),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=1,
        )
        for pool in pools:
            yield from pool
    else:
        for examples in batches(config, step, stage):
            yield encode_examples(processor, examples), examples


def teaching_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    examples: list[Example],
    image_weight: float,
) -> torch.Tensor:
    """Mean cross-entropy of the chains, in which the tokens that read the image
    count ``image_weight`` times."""
    weights = (labels != -100).float()
    last = labels.shape[1] - 1  # where <|im_end|> stands
    for row, example in enumerate(examples):
        for place, token in enumerate(example.chain, start=last - len(example.chain)):
            if token.source == "image":
                weights[row, place] = image_weight
    targets = labels[:, 1:].flatten().to(logits.device)
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), targets, reduction="none"
    )
    weights = weights[:, 1:].flatten().to(logits.device)
    return (losses * weights).sum() / weights.sum()


def reading_hits(
    logits: torch.Tensor, labels: torch.Tensor, examples: list[Example], processor
) -> list[tuple[str, bool]]:
    """For every value read from a picture: the family, and whether the most likely
    token is what the picture shows (whatever the taught chain says)."""
    guesses = logits[:, :-1].argmax(-1).cpu()
    last = labels.shape[1] - 1  # where <|im_end|> stands
    found = []
    for row, example in enumerate(examples):
        start = last - len(example.chain)
        for place, token in enumerate(example.chain):
            if token.source == "image" and token.truth is not None:
                guess = int(guesses[row, start + place - 1])
                found.append((example.family, guess, token.truth))
    texts = {guess: processor.tokenizer.decode(guess) for _, guess, _ in found}
    return [(family, texts[guess] == truth) for family, guess, truth in found]


def _save_state(path: Path, config, model, optimizer, progress: _Progress) -> None:
    tensors = {f"model.{n}": p.detach() for n, p in model.named_parameters()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v for k, v in state.items()}
    tensors = {n: t.contiguous() for n, t in tensors.items()}
    about = {"config": asdict(config), "progress": asdict(progress)}
    metadata = {"cold_start": json.dumps(about)}
    write_atomically(path, lambda to: save_file(tensors, to, metadata=metadata))


def _load_state(path: Path, config, model, optimizer) -> _Progress:
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["cold_start"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ValueError(
            f"the saved state {path} cannot be read ({error}); delete it to start anew"
        ) from error
    if about["config"] != asdict(config):
        changed = [k for k, v in asdict(config).items() if about["config"].get(k) != v]
        raise ValueError(
            f"{path} was begun with other settings ({', '.join(changed)} differ); "
            f"use those, choose another output, or delete that file"
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    state: dict[int, dict] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".")
            state.setdefault(int(i), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return _Progress(**about["progress"])


def evaluate(model, processor, config: ColdStartConfig, count: int = 48) -> dict:
    """Accuracy per family on held-out scans, greedy and sampled (temperature 1)."""
    scores = {}
    for family in FAMILIES:
        examples = config.world().examples(count, [family], split="heldout")
        for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
            texts = answer(model, processor, examples, temperature, max_new_tokens=160)
            scores[f"{name}_{family}"] = accuracy(texts, examples)
    return scores


def looking_test(model, processor, config: ColdStartConfig, count: int = 200) -> dict:
    """Greedy accuracy per image family with the true, a blank and a swapped picture,
    beside what the best guesser who never looks would get."""
    table = {}
    for family in IMAGE_FAMILIES:
        examples = config.world().examples(count, [family], split="heldout")
        seen = config.world().examples(4 * count, [family])
        swapped = swap(examples)
        blanked = [blank(e) for e in examples]
        table[family] = {
            "true": accuracy(answer(model, processor, examples), examples),
            "blank": accuracy(answer(model, processor, blanked), blanked),
            "swapped": accuracy(answer(model, processor, swapped), swapped),
            "never_looks": blind_accuracy(seen, examples),
        }
    return table


def _append_row(path: Path, row: dict) -> None:
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def _forget_rows_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or ()
        rows = [row for row in reader if int(row["step"]) <= step]

    def write(to: Path) -> None:
        with to.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=names)
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def train(
    config: ColdStartConfig,
    output: str | Path,
    evaluate_every: int = 500,
    save_every: int = 100,
    curve_count: int = 48,
    final_count: int = 200,
    workers: int = 0,
) -> Path:
    """Runs the cold start, or goes on with one that was interrupted.

    Args:
        config: The settings.
        output: Folder of the checkpoint; created if need be.
        evaluate_every: Steps between two rows of ``curve.csv``.
        save_every: Steps between two saves of the state.
        curve_count: Held-out questions per family and row of ``curve.csv``.
        final_count: Held-out questions per family of the closing examination.
        workers: Processes that draw and encode examples ahead. Without effect on the
            weights; a GPU waits for examples with fewer than some eight.

    Returns:
        The folder.

    Raises:
        ValueError: the folder holds the state of a run with other settings, or one
            that is damaged; or the settings ask for a GPU that is not there.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device: there is no GPU that PyTorch can use; with cpu it takes hours"
        )
    with _tensor_cores(config.device):
        return _train(
            config, Path(output), evaluate_every, save_every, curve_count, final_count,
            workers,
        )  # fmt: skip


@contextmanager
def _tensor_cores(device: str) -> Iterator[None]:
    """Products of float32 matrices on a GPU in TF32, several times as fast."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device == "cuda" else precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _train(
    config, output, evaluate_every, save_every, curve_count, final_count, workers
) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    state_file, curve_file = output / "state.safetensors", output / "curve.csv"
    torch.set_num_threads(config.threads)
    model, processor = config.start()
    model.to(config.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95)
    )
    progress = _Progress()
    if state_file.exists():
        progress = _load_state(state_file, config, model, optimizer)
        print(f"going on from step {progress.step} of {config.steps}", file=sys.stderr)
    _forget_rows_after(curve_file, progress.step)

    bar = tqdm(
        total=config.steps, initial=progress.step, disable=None, desc="cold start"
    )
    scores: dict[str, float] = {}
    stream = encoded_batches(config, processor, progress.step, progress.stage, workers)
    started = time.monotonic() - progress.seconds
    model.train()
    while progress.step < config.steps:
        batch, examples = next(stream)
        for group in optimizer.param_groups:
            group["lr"] = config.rate(progress.step)
        labels = batch.pop("labels")
        batch = {name: tensor.to(config.device) for name, tensor in batch.items()}
        logits = model(**batch).logits
        loss = teaching_loss(logits, labels, examples, config.image_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        hits = reading_hits(logits, labels, examples, processor)
        if hits:
            share = sum(right for _, right in hits) / len(hits)
            progress.read_rate += 0.05 * (share - progress.read_rate)
        progress.step += 1
        progress.seconds = time.monotonic() - started
        settled = progress.step - progress.stage_since >= 60
        if (
            settled
            and progress.read_rate >= config.pass_mark
            and progress.stage < len(config.stages) - 1
        ):
            progress.stage += 1
            progress.stage_since = progress.step
            stream = encoded_batches(
                config, processor, progress.step, progress.stage, workers
            )
        bar.update()
        bar.set_postfix(
            loss=f"{loss.item():.3f}",
            stage=progress.stage,
            read=f"{progress.read_rate:.2f}",
            **{k.removeprefix("greedy_"): f"{v:.2f}" for k, v in scores.items()
               if k.startswith("greedy_")},
        )  # fmt: skip
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is not finite at step {progress.step}")
        last = progress.step == config.steps
        if progress.step % evaluate_every == 0 or last:
            scores = evaluate(model, processor, config, curve_count)
            row = {
                "step": progress.step,
                "seconds": round(progress.seconds),
                "stage": progress.stage,
                "loss": round(loss.item(), 4),
                "read_rate": round(progress.read_rate, 4),
            }
            row |= {name: round(value, 4) for name, value in scores.items()}
            _append_row(curve_file, row)
            if bar.disable:
                print(row, file=sys.stderr, flush=True)
        if progress.step % save_every == 0 or last:
            _save_state(state_file, config, model, optimizer, progress)
    bar.close()

    print("closing examination on held-out scans", file=sys.stderr)
    record = {
        "command": _command(config),
        "config": asdict(config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(progress.seconds),
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("torch", "transformers", "tokenizers")},
        "heldout_questions_per_family": final_count,
        "accuracy": evaluate(model, processor, config, final_count),
        "looking": looking_test(model, processor, config, final_count),
    }
    with tempfile.TemporaryDirectory(prefix=".new.", dir=output) as folder:
        model.save_pretrained(folder)
        # A fresh one: the tokenizer in use remembers its last padding.
        config.start()[1].save_pretrained(folder)
        for file in sorted(Path(folder).iterdir()):
            file.chmod(0o644)
            os.replace(file, output / file.name)
    write_atomically(output / "cold_start.json", json.dumps(record, indent=2) + "\n")
    state_file.unlink()
    return output


def _command(config: ColdStartConfig) -> str:
    """The command that repeats a run: what differs from the defaults, spelt out."""
    words = ["python -m vgpo.testbed.cold_start --output runs/cold_start"]
    if config.name != ColdStartConfig.name:
        words.append(f"--world {config.name}")
    for name, default in asdict(type(config)()).items():
        if (value := getattr(config, name)) != default:
            words.append(f"--{name.replace('_', '-')} {value}")
    return " ".join(words)


def main(arguments: list[str] | None = None) -> None:
    """The command line; ``--help`` lists one option per setting."""
    parser = argparse.ArgumentParser(
        prog="python -m vgpo.testbed.cold_start",
        description="Train the tiny model of a small world.",
    )
    parser.add_argument("--world", choices=list(COLD_STARTS), default="misread")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of the new checkpoint"
    )
    parser.add_argument("--evaluate-every", type=int, default=500)
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument(
        "--curve-count", type=int, default=48, help="questions per family on the way"
    )
    parser.add_argument(
        "--final-count", type=int, default=200, help="questions per family at the end"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that draw examples ahead"
    )
    defaults = {name: asdict(config()) for name, config in COLD_STARTS.items()}
    names = dict.fromkeys(name for known in defaults.values() for name in known)
    for name in names:
        values = {w: known[name] for w, known in defaults.items() if name in known}
        value = next(iter(values.values()))
        shown = ", ".join(f"{world} {default}" for world, default in values.items())
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(value),
            help=f"default {value if len(set(values.values())) == 1 else shown}",
        )  # fmt: skip
    options = vars(parser.parse_args(arguments))
    world = options.pop("world")
    chosen = {name: options.pop(name) for name in names}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if other := [name for name in chosen if name not in defaults[world]]:
        option = other[0].replace("_", "-")
        parser.error(f"--{option}: the cold start of {world} has no such setting")
    if options["workers"] < 0:
        parser.error(f"--workers must not be negative, got {options['workers']}")
    try:
        config = COLD_STARTS[world](**chosen)
        folder = train(config, **options)
    except ValueError as error:
        parser.error(str(error))
    print(f"done: {folder}")


if __name__ == "__main__":
    main()
