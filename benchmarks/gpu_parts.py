"""What ``benchmarks.gpu`` measures, part by part.

A part takes a :class:`Scale` and a function that records figures; it records each as
soon as it has it. The full scale is that of the published models with random weights,
since what a step takes does not depend on what the weights say. The tiny scale takes
the very same way on a CPU.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from trl import GRPOConfig, GRPOTrainer

from benchmarks.bench_scoring import reweighting_case, score_plainly, score_states
from benchmarks.bench_trainer import ready, step
from benchmarks.harness import ROOT, measure
from vgpo import VGPOConfig, VGPOTrainer
from vgpo.memory import estimate
from vgpo.models.adapters import lora_config
from vgpo.models.attention import attention_split
from vgpo.models.capture import capture_focus
from vgpo.models.handle import unwrap_model
from vgpo.models.memory import peak_bytes
from vgpo.models.weights import qwen2_5_vl_config, stored_bytes
from vgpo.studies.quantization import random_batch, random_four_bit
from vgpo.testbed import World, build_processor, make_dataset, tiny_config
from vgpo.testbed.images import TILE

Recorder = Callable[..., None]
"""Takes figures by name and writes them."""


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        device: Where.
        states: (rows, tokens, width) of the states that are scored.
        image: Rows and columns of an image's tokens, in scoring and reading.
        completion: Tokens after them.
        rewards: (completions, tokens) of Eq. 4-12.
        tiny: Whether models have the small world's shape in place of the published.
        train_image: As ``image``, in training; the small processor ends at 256.
        rollouts: Rollouts of the one prompt of a step.
        tokens: Of each.
        rounds: Timed ones.
    """

    device: str
    states: tuple[int, int, int]
    image: tuple[int, int]
    completion: int
    rewards: tuple[int, int]
    tiny: bool
    train_image: tuple[int, int]
    rollouts: int
    tokens: int
    rounds: int

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and states."""
        return torch.bfloat16


FULL = Scale(
    device="cuda",
    states=(2, 30 * 40 + 8 + 2048, 3584),
    image=(30, 40),
    completion=2048,
    rewards=(64, 2048),
    tiny=False,
    train_image=(15, 17),
    rollouts=8,
    tokens=32,
    rounds=3,
)
"""A 7B model before 1,200 image tokens and an answer of 2,048."""

TINY = Scale(
    device="cpu",
    states=(2, 6 + 8 + 16, 64),
    image=(2, 3),
    completion=16,
    rewards=(8, 16),
    tiny=True,
    train_image=(2, 3),
    rollouts=4,
    tokens=4,
    rounds=2,
)


# -- tests --------------------------------------------------------------------------


def run_tests(scale: Scale, record: Recorder) -> None:
    """The tests that need a GPU; without one each says so and is skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu"]
        command += ["-p", "no:cacheprovider", f"--junitxml={report}", *_gpu_tests()]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if not report.is_file():
            raise RuntimeError(f"pytest did not run: {done.stdout[-300:]}")
        suite = next(ElementTree.parse(report).iter("testsuite"))
    counts = {
        name: int(suite.get(name, 0))
        for name in ("tests", "failures", "errors", "skipped")
    }
    failed = [
        f"{case.get('classname')}.{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    record(**counts, failed_tests=failed)
    if failed:
        raise RuntimeError(f"{len(failed)} tests failed")


def _gpu_tests() -> list[str]:
    """Files with such tests: collecting all of them would take a minute."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(f.relative_to(ROOT)) for f in files if "mark.gpu" in f.read_text()]


# -- scoring and reading --------------------------------------------------------------


def bench_scoring(scale: Scale, record: Recorder) -> None:
    """Eq. 3-4 on states against their plain form, and Eq. 4-12 on scores."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(scale.states, generator=generator)
    states = states.to(scale.device, scale.dtype)
    image_mask = torch.zeros(scale.states[:2], dtype=torch.bool, device=scale.device)
    image_mask[:, 4 : 4 + scale.image[0] * scale.image[1]] = True
    ways = {
        "vgpo": lambda: score_states(states, image_mask),
        "plain": lambda: score_plainly(states, image_mask),
    }
    record(states=list(scale.states), **_compared(ways, scale, "plain"))
    case = reweighting_case(*scale.rewards, scale.device)
    times = measure({"eq 4-12": case}, rounds=5 * scale.rounds, device=scale.device)
    record(
        rewards=list(scale.rewards),
        reweighting_milliseconds=times.milliseconds("eq 4-12"),
    )


def bench_capture(scale: Scale, record: Recorder) -> None:
    """A pass with focus read along, against one that returns all hidden states."""
    config = model_config("7B", scale)
    model = random_model(config, scale).eval()
    inputs = _inputs(config, scale)
    backbone = unwrap_model(model).base_model

    @torch.no_grad()
    def plain(**options):
        backbone(**inputs, use_cache=False, **options)

    def captured():
        with capture_focus(model, completion_length=scale.completion):
            plain()

    ways = {
        "vgpo": captured,
        "plain": lambda: plain(output_hidden_states=True),
        "no scores": plain,
    }
    record(weights_bytes=stored_bytes(model), **_compared(ways, scale, "plain"))


def bench_attention(scale: Scale, record: Recorder) -> None:
    """The attention of a layer split over the picture, against eager attention.

    Eager attention returns the weights of all layers: many gigabytes at full scale,
    which may be more than there are.
    """
    config = model_config("7B", scale)
    model = random_model(config, scale).eval()
    inputs = _inputs(config, scale)
    own = config.get_text_config()._attn_implementation or "sdpa"

    def split(layers):
        attention_split(model, inputs, scale.completion, layers=layers)

    @torch.no_grad()
    def eager():
        model.set_attn_implementation("eager")
        try:
            model(**inputs, use_cache=False, output_attentions=True, logits_to_keep=1)
        finally:
            model.set_attn_implementation(own)

    ways = {
        "vgpo": lambda: split((-1,)),
        "vgpo, all layers": lambda: split("all"),
        "plain": eager,
    }
    record(weights_bytes=stored_bytes(model), **_compared(ways, scale, "plain"))


def _compared(
    ways: dict[str, Callable[[], object]], scale: Scale, base: str
) -> dict[str, object]:
    """Milliseconds and peaks of several ways, and ratios to one of them.

    A way that needs more memory than there is has no figures; the others have theirs.
    """
    figures: dict[str, object] = {}
    peaks, running = {}, {}
    for name, way in ways.items():
        try:
            way()
            peaks[name] = peak_bytes(way, scale.device)
            running[name] = way
        except torch.OutOfMemoryError as error:
            figures.setdefault("out_of_memory", {})[name] = str(error)[:200]
            torch.cuda.empty_cache()
    times = measure(running, rounds=scale.rounds + 1, warm_up=1, device=scale.device)
    figures["milliseconds"] = {name: times.milliseconds(name) for name in running}
    figures["peak_bytes_above_inputs"] = peaks
    if base in running:
        figures["time_ratio_to_plain"] = {
            name: times.ratio(name, base) for name in running if name != base
        }
        figures["peak_ratio_to_plain"] = {
            name: peaks[name] / max(1, peaks[base]) for name in running if name != base
        }
    return figures


def _inputs(config: PreTrainedConfig, scale: Scale) -> dict[str, torch.Tensor]:
    batch = random_batch(
        config,
        rows=1,
        image_tokens=scale.image,
        completion=scale.completion,
        device=scale.device,
    )
    del batch["labels"]
    return batch | {"pixel_values": batch["pixel_values"].to(scale.dtype)}


# -- models ---------------------------------------------------------------------------


def model_config(size: str, scale: Scale) -> PreTrainedConfig:
    """A published shape with the small processor's special tokens; or that of a tiny
    model, wider for 7B than for 3B."""
    processor = build_processor()
    width = 128 if size == "7B" else 64
    small = tiny_config(processor, hidden_size=width, layers=2, vision_layers=1)
    if scale.tiny:
        return small
    config = qwen2_5_vl_config(size)
    for name in ("image", "video", "vision_start", "vision_end"):
        setattr(config, f"{name}_token_id", getattr(small, f"{name}_token_id"))
    for name in ("pad", "bos", "eos"):
        key = f"{name}_token_id"
        setattr(config.text_config, key, getattr(small.text_config, key))
    return config


def random_model(
    config: PreTrainedConfig, scale: Scale, four_bit: bool = False
) -> PreTrainedModel:
    """A model of that shape with random weights, drawn where it will be."""
    if four_bit:
        model = random_four_bit(config, scale.device)
    else:
        with torch.random.fork_rng(), torch.device(scale.device):
            torch.manual_seed(0)
            model = AutoModelForImageTextToText.from_config(config, dtype=scale.dtype)
    text = config.get_text_config()
    model.generation_config.eos_token_id = text.eos_token_id
    model.generation_config.pad_token_id = text.pad_token_id
    return model


# -- training -------------------------------------------------------------------------


def bench_training(
    scale: Scale, record: Recorder, *, size: str, four_bit: bool
) -> None:
    """Steps of TRL's GRPO, then of VGPO, with adapters on one frozen model each.

    One after the other, and each model gone before the next is made, so that a peak
    is one trainer's. A step is generation by transformers, rewards, scoring and update.
    """
    config = model_config(size, scale)
    record(
        size=size,
        four_bit=four_bit,
        rollouts=scale.rollouts,
        tokens=scale.tokens,
        image_tokens=scale.train_image[0] * scale.train_image[1],
        estimated_bytes=_estimated(config, scale, four_bit),
    )
    found: dict[str, dict[str, float]] = {}
    for name, trainer_class in (("grpo", GRPOTrainer), ("vgpo", VGPOTrainer)):
        found[name] = _steps(trainer_class, config, scale, four_bit)
        if scale.device == "cuda":
            torch.cuda.empty_cache()
        record(steps=found)
    grpo, vgpo = found["grpo"], found["vgpo"]
    record(
        time_ratio=vgpo["milliseconds"] / grpo["milliseconds"],
        memory_ratio=vgpo["peak_bytes"] / grpo["peak_bytes"],
    )


def _steps(
    trainer_class: type[GRPOTrainer],
    config: PreTrainedConfig,
    scale: Scale,
    four_bit: bool,
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(trainer_class, config, scale, four_bit, folder)
        peak = stored_bytes(trainer.model)
        peak += peak_bytes(lambda: step(trainer), scale.device)
        times = measure(
            {"step": lambda: step(trainer)},
            rounds=scale.rounds,
            warm_up=0,  # the pass for the peak was it
            device=scale.device,
        )
    milliseconds = times.milliseconds("step")
    tokens = scale.rollouts * scale.tokens
    return {
        "milliseconds": milliseconds,
        "milliseconds_of_rounds": [1e3 * s for s in times.seconds["step"]],
        "generated_tokens_per_second": 1e3 * tokens / milliseconds,
        "peak_bytes": peak,
    }


def _trainer(trainer_class, config, scale, four_bit, folder):
    ours = trainer_class is VGPOTrainer
    model = random_model(config, scale, four_bit)
    args = (VGPOConfig if ours else GRPOConfig)(
        output_dir=folder,
        use_cpu=scale.device == "cpu",
        bf16=scale.device == "cuda",
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        per_device_train_batch_size=scale.rollouts,
        num_generations=scale.rollouts,
        max_completion_length=scale.tokens,
        generation_kwargs={"min_new_tokens": scale.tokens},
        learning_rate=1e-6,
        report_to="none",
    )
    return ready(
        trainer_class(
            model=model,
            args=args,
            reward_funcs=lambda completion_ids, **columns: [
                ids[0] % 2 for ids in completion_ids
            ],
            train_dataset=_one_row(scale),
            processing_class=build_processor(),
            peft_config=lora_config(model),
        )
    )


def _one_row(scale: Scale) -> Dataset:
    """A question of the small world on noise of the size that is asked for."""
    rows = make_dataset(1, World(grids=((2, 2),), families=("sum",)))
    height, width = (TILE * tokens for tokens in scale.train_image)
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    row = rows[0] | {"image": Image.fromarray(noise)}
    return Dataset.from_list([row], features=rows.features)


def _estimated(config: PreTrainedConfig, scale: Scale, four_bit: bool) -> int:
    """What the calculator of memory says of such a step, in bytes."""
    found = estimate(
        config,
        use_peft=True,
        load_in_4bit=four_bit,
        per_device_train_batch_size=scale.rollouts,
        steps_per_generation=1,
        image_tokens=scale.train_image[0] * scale.train_image[1],
        max_completion_length=scale.tokens,
        prompt_tokens=40,
        card=None,
        device=scale.device,
    )
    return found.total
