r"""What 4 bits cost: bytes, time, log-probabilities, focus scores, answers.

What the chapter on QLoRA measures. A weight matrix in NF4 is cut into blocks of 64
numbers; of each block its largest magnitude c is kept, and of each number the
nearest of 16 levels q:

.. math:: \tilde w = c_b \, q_{k(w)}, \qquad c_b = \max_{w \in b} |w|

With double quantisation the c are kept in 8 bits, in blocks of 256 (Dettmers et al.,
QLoRA, arXiv 2305.14314). Here as in training, only the linear layers of the language
model are quantised (:func:`vgpo.models.adapters.four_bit_config`).
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from bitsandbytes.functional import get_4bit_type
from peft import get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
)

from vgpo.memory import items
from vgpo.memory.estimating import estimate
from vgpo.memory.shapes import shape_of
from vgpo.method.compensation import compensate, visual_gate
from vgpo.method.reweighting import intra_trajectory_weights
from vgpo.models.adapters import (
    four_bit_config,
    load_four_bit,
    lora_config,
    prepare_4bit_on_cpu,
)
from vgpo.models.memory import peak_bytes
from vgpo.models.weights import BLOCK, stored_bytes
from vgpo.seeds import seeded
from vgpo.stats.intervals import mean_interval
from vgpo.studies.focus.robustness import beside_plain
from vgpo.studies.focus.roles import ALIGNMENTS
from vgpo.studies.tables import padded, token_table
from vgpo.testbed.answers import answer, correct
from vgpo.testbed.data import encode_prompts
from vgpo.testbed.model import CHECKPOINT
from vgpo.testbed.questions import Example

# The format ----------------------------------------------------------------------


def nf4_levels() -> Tensor:
    """The 16 levels of NF4, (16,) float32 in [-1, 1]: quantiles of a normal
    distribution, with 0 among them.

    Example:
        >>> levels = nf4_levels()
        >>> len(levels), levels.min().item(), levels.max().item()
        (16, -1.0, 1.0)
    """
    return get_4bit_type("nf4", device="cpu").float()


def round_to_nf4(weight: Tensor) -> Tensor:
    """A weight as NF4 keeps it, its scales left in full precision.

    Args:
        weight: Any shape whose number of elements is a multiple of 64; blocks are
            runs of 64 in its memory order.

    Returns:
        The same shape, float32. A block of zeros stays 0.

    Raises:
        ValueError: The blocks do not come out even.

    Example:
        >>> block = torch.linspace(-2, 2, 64)
        >>> round_to_nf4(block)[[0, 31, 63]].tolist()
        [-2.0, 0.0, 2.0]
    """
    if weight.numel() % BLOCK:
        raise ValueError(
            f"weight must have a multiple of {BLOCK} elements, got {weight.numel()}"
        )
    blocks = weight.float().reshape(-1, BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True)
    levels = nf4_levels()
    place = (blocks / scale.clamp(min=1e-30)).unsqueeze(-1).sub(levels).abs()
    return (levels[place.argmin(dim=-1)] * scale).reshape(weight.shape)


# Bytes ---------------------------------------------------------------------------


def training_memory(model: PreTrainedConfig, rank: int = 16) -> pd.DataFrame:
    """Bytes that training keeps from step to step, by what is trained.

    Weights that are trained: 16 bytes a number (float32 weight, gradient and AdamW's
    two moments). Weights that are not: 2 bytes (bfloat16), or NF4. So
    :func:`~vgpo.memory.estimating.estimate` counts them; caches, activations and the
    like, which it has too, come on top.

    Args:
        model: A configuration.
        rank: Of the adapters, on every linear layer of the language model.

    Returns:
        Index ``way``: ``"all weights"``, ``"LoRA"``, ``"QLoRA"``. Columns
        ``trained`` (numbers), ``frozen_bytes``, ``trained_bytes`` and ``bytes``.
    """
    shape = shape_of(model)
    ways = {
        "all weights": estimate(shape, dtype="float32"),
        "LoRA": estimate(shape, use_peft=True, lora_r=rank),
        "QLoRA": estimate(shape, use_peft=True, lora_r=rank, load_in_4bit=True),
    }
    rows = []
    for way, found in ways.items():
        count = items.trained(shape, found.settings)
        frozen = found.kept["weights"] if found.settings.use_peft else 0
        kept = [found.kept[name] for name in ("weights", "adapters", "optimizer")]
        size = sum(kept) + found.moments["loss"]["gradients"]
        rows.append((way, count, frozen, size - frozen, size))
    columns = ["way", "trained", "frozen_bytes", "trained_bytes", "bytes"]
    return pd.DataFrame(rows, columns=columns).set_index("way")


# Models --------------------------------------------------------------------------


def random_four_bit(
    config: PreTrainedConfig, device: str = "cuda", seed: int = 0
) -> PreTrainedModel:
    """A model of any shape with random weights, in 4 bits.

    Its answers mean nothing; what it takes in memory and time is what a trained
    model of that shape takes. The weights are drawn on the device in bfloat16 first,
    and so need that much memory there for a moment.

    Args:
        config: Such as ``qwen2_5_vl_config``.
        device: Where.
        seed: Of the weights; the global generator is left as it was.
    """
    config = copy.deepcopy(config)  # loading writes the format into it
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    four_bit = type(model).from_pretrained(
        None,
        config=config,
        state_dict=model.state_dict(),
        quantization_config=four_bit_config(config),
        dtype=torch.bfloat16,
        device_map=device,
    )
    if device == "cpu":
        prepare_4bit_on_cpu(four_bit)
    return four_bit


# Score ---------------------------------------------------------------------------


def paired_accuracy(
    models: Mapping[str, PreTrainedModel],
    processor,
    examples: Sequence[Example],
    temperature: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Right answers of two models to the same questions, family by family.

    Args:
        models: Two, by name; differences are the second less the first.
        processor: Of both.
        examples: What is asked.
        temperature: 0 decodes greedily.
        seed: Of the sampling, the same for both.

    Returns:
        Index ``family``, in the order of ``examples``, then ``"all"``. Columns: both
        names (accuracies), ``difference`` with its 95 % interval ``low`` and
        ``high`` (over questions), ``changed`` (questions that only one of
        the two got right) and ``questions``.

    Raises:
        ValueError: There are not two models.
    """
    if len(models) != 2:
        raise ValueError(f"models must be two, got {len(models)}")
    table = pd.DataFrame({"family": [example.family for example in examples]})
    for name, model in models.items():
        texts = answer(model, processor, examples, temperature, seed)
        table[name] = [correct(t, e) for t, e in zip(texts, examples, strict=True)]
    first, second = models
    rows = []
    parts = [*table.groupby("family", sort=False), ("all", table)]
    for family, part in parts:
        gained = part[second].astype(float) - part[first]
        *estimate, _ = mean_interval(gained)
        changed = int((gained != 0).sum())
        accuracies = part[first].mean(), part[second].mean()
        rows.append((family, *accuracies, *estimate, changed, len(part)))
    columns = ["family", first, second, "difference", "low", "high"]
    columns += ["changed", "questions"]
    return pd.DataFrame(rows, columns=columns).set_index("family")


def precision_table(
    full: PreTrainedModel,
    others: Mapping[str, PreTrainedModel],
    processor,
    examples: Sequence[Example],
    completions: Sequence[str] | None = None,
) -> pd.DataFrame:
    """How the same tokens fare in models of other precision.

    Args:
        full: The model that the others stand for.
        others: Such as its 4-bit copy, by name.
        processor: Of all of them.
        examples: Questions with an image.
        completions: What was answered; by default the reference chains.

    Returns:
        The token table (``vgpo.studies.tables.token_table``) of every model in
        ``others``, one below the other, with ``variant``, ``role``, the columns
        ``focus_before``, ``focus_prediction_before`` and ``log_prob_before`` of
        ``full``, ``ratio``: the probability of the token over that in ``full``,
        and ``kl``: the divergence of the next-token distributions,
        KL(full || other), in nats. What
        ``vgpo.studies.focus.robustness_summary`` takes.
    """
    if completions is None:
        completions = [example.completion for example in examples]
    plain = token_table(full, processor, examples, completions)
    ours = _next_token_log_probs(full, processor, examples, completions)
    tables = []
    for name, model in others.items():
        table = token_table(model, processor, examples, completions)
        theirs = _next_token_log_probs(model, processor, examples, completions)
        table = beside_plain(name, table, plain)
        table["ratio"] = np.exp(table["log_prob"] - table["log_prob_before"])
        table["kl"] = (ours.exp() * (ours - theirs)).sum(dim=-1).numpy()
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _next_token_log_probs(
    model, processor, examples, completions, batch_size: int = 32
) -> Tensor:
    """Log-probabilities at every token of the completions, (N, vocabulary)."""
    found = []
    for start in range(0, len(examples), batch_size):
        some = slice(start, start + batch_size)
        texts = completions[some]
        batch = encode_prompts(processor, examples[some], texts, model.device)
        with torch.no_grad():
            log_probs = model(**batch).logits.log_softmax(dim=-1)
        for row, text in zip(log_probs.cpu(), texts, strict=True):
            length = len(processor.tokenizer(text).input_ids)
            found.append(row[-length - 1 : -1])
    return torch.cat(found)


def weight_agreement(table: pd.DataFrame) -> pd.DataFrame:
    """What is left of the gate and of psi, with the defaults of the method.

    Args:
        table: From :func:`precision_table`.

    Returns:
        One row per ``variant`` and ``alignment``: ``gate_kept``, the share of the
        tokens gated in full precision that are gated here too, per completion and
        then averaged, with ``low`` and ``high``; ``psi_change``, the mean absolute
        change of psi; ``psi_std``, its spread in full precision.
    """
    rows = []
    for name, tokens in table.groupby("variant", sort=False):
        for alignment, column in ALIGNMENTS.items():
            focus, mask = padded(tokens, column)
            before, _ = padded(tokens, f"{column}_before")
            gate, gate_before = visual_gate(focus, mask), visual_gate(before, mask)
            kept = (gate & gate_before).sum(1) / gate_before.sum(1)
            psi, psi_before = (
                intra_trajectory_weights(compensate(scores, mask), mask)[mask]
                for scores in (focus, before)
            )
            change = float((psi - psi_before).abs().mean())
            *share, _ = mean_interval(kept.numpy())
            rows.append((name, alignment, *share, change, float(psi_before.std())))
    columns = ["variant", "alignment", "gate_kept", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "psi_change", "psi_std"])


# Updates -------------------------------------------------------------------------


def trained_ways(
    folder: str | Path = CHECKPOINT, rank: int = 16
) -> dict[str, PreTrainedModel]:
    """A checkpoint made ready for each way of training, in float32.

    Returns:
        ``"all weights"``, ``"LoRA"`` and ``"QLoRA"``, in training mode; the adapters
        are those of :func:`vgpo.models.adapters.lora_config`.
    """
    models = {}
    for way in ("all weights", "LoRA", "QLoRA"):
        if way == "QLoRA":
            model = load_four_bit(folder, torch.float32)
        else:
            model = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True
            )
        if way != "all weights":
            with seeded(0):
                model = get_peft_model(model, lora_config(model, r=rank))
        models[way] = model.train()
    return models


def random_batch(
    config: PreTrainedConfig,
    rows: int = 2,
    image_tokens: tuple[int, int] = (16, 16),
    completion: int = 512,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, Tensor]:
    """Rows of one image and random words, for measuring and nothing else.

    Args:
        config: Of the model, a Qwen2.5-VL.
        rows: How many, B.
        image_tokens: Rows and columns of the image's tokens.
        completion: T, words after the image.
        device: Where.
        seed: Of words and pixels.

    Returns:
        The model's inputs and ``labels``, -100 outside the completion.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = image_tokens
    prompt = height * width + 8
    vision, image = config.vision_config, config.image_token_id
    ids = torch.randint(3, 500, (rows, prompt + completion), generator=generator)
    ids[:, 4 : 4 + height * width] = image
    merge = vision.spatial_merge_size
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    pixels = (rows * height * width * merge**2, patch)
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == image).int(),
        "pixel_values": torch.randn(pixels, generator=generator),
        "image_grid_thw": torch.tensor([[1, height * merge, width * merge]] * rows),
        "labels": ids.masked_fill(torch.arange(ids.shape[1]) < prompt, -100),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


def updater(model: nn.Module, batch: Mapping[str, Tensor]) -> Callable[[], Tensor]:
    """One update as a function: forward, backward and a step of AdamW.

    The loss is the model's own on ``batch``; what an update takes does not depend on
    which loss it is.

    Args:
        model: Its trainable parameters are updated.
        batch: Inputs with ``labels``.

    Returns:
        A function without arguments that returns the loss, detached.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)

    def update() -> Tensor:
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return update


def measure_updates(
    model: nn.Module, batch: Mapping[str, Tensor], updates: int = 5
) -> dict[str, Any]:
    """Time and memory of updates of one model.

    Args:
        model: Such as :func:`random_four_bit` with adapters.
        batch: On the model's device.
        updates: How many are timed, after one that is not.

    Returns:
        ``peak_bytes`` of the first update above what was there before (gradients
        and the optimiser's moments among it), ``seconds`` per update,
        ``tokens_per_second`` (real tokens of the batch, prompt included).
    """
    update = updater(model, batch)
    on_gpu = batch["input_ids"].device.type == "cuda"
    peak = peak_bytes(update, "cuda" if on_gpu else "cpu")
    start = time.perf_counter()
    for _ in range(updates):
        update().item()  # waits for the device
    seconds = (time.perf_counter() - start) / updates
    tokens = int(batch["attention_mask"].sum())
    return {
        "peak_bytes": peak,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }


def measure_qlora(
    config: PreTrainedConfig, device: str = "cuda", rank: int = 16, **batch: Any
) -> dict[str, Any]:
    """What QLoRA takes for a model of any shape, with random weights.

    Adapters on every linear layer of the language model, gradient checkpointing,
    products in bfloat16.

    Args:
        config: Such as ``qwen2_5_vl_config``.
        device: Where; weights are drawn there in bfloat16 first.
        rank: Of the adapters.
        **batch: Passed to :func:`random_batch`: rows and their lengths.

    Returns:
        What :func:`measure_updates` returns, and ``weights_bytes``, adapters included.

    Raises:
        ValueError: ``device`` is ``"cuda"`` and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: there is no CUDA device; shapes of billions need one")
    model = random_four_bit(config, device)
    tuned = get_peft_model(model, lora_config(config, r=rank)).train()
    tuned.enable_input_require_grads()
    tuned.gradient_checkpointing_enable({"use_reentrant": False})
    inputs = random_batch(config, device=device, **batch)
    return {"weights_bytes": stored_bytes(tuned)} | measure_updates(tuned, inputs)
