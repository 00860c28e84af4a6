# %% [markdown]
# # Four bits
#
# **In this chapter.** A 7B model with AdamW and all weights trained does not fit on any
# one GPU of 80 GB. With LoRA, small matrices are trained beside frozen ones; with QLoRA,
# the frozen ones are kept in 4 bits. *What does that cost, in memory, time and
# accuracy, and does VGPO's focus score survive it?* Here it saves half of the
# memory, takes time, and leaves accuracy and weights nearly as they were.

# %% tags=["parameters", "hide-input"]
questions = 60  # held-out questions per family
chains = 30  # sampled answers per family, scored token by token
steps = 6  # optimiser steps of the QLoRA run
prompts_per_step = 4  # prompts per step, 8 completions each
seed = 0  # prompts and sampling
threads = 1  # torch threads
gpu_sizes = []  # shapes to measure where there is a GPU, as ["3B", "7B"]

# %% tags=["hide-input"]
import json
import logging
import tempfile
import warnings
from pathlib import Path

# What the libraries say of features not used here.
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import pandas as pd
import torch
from IPython.display import display
from peft import PeftModel
from transformers import PrinterCallback

from vgpo import figures, testbed
from vgpo.memory import estimate
from vgpo.models import weights
from vgpo.models.adapters import load_four_bit
from vgpo.models.memory import peak_bytes
from vgpo.studies import quantization as study
from vgpo.studies.experiments import (
    TRAINED_FAMILIES,
    TestbedRun,
    load_runs,
    testbed_trainer,
)
from vgpo.studies.focus import robustness_summary
from vgpo.testbed import CHECKPOINT, FAMILIES, IMAGE_FAMILIES, World
from vgpo.testbed.answers import answer
from vgpo.testbed.data import encode_examples
from vgpo.training.metrics import read_metrics

torch.set_num_threads(threads)
scratch = Path(tempfile.mkdtemp())

# %% tags=["hide-input"]
full, processor = testbed.load_tiny()
four_bit = load_four_bit(CHECKPOINT, torch.float32)

# %% [markdown]
# ## The format
#
# A weight matrix in NF4 is cut into blocks of 64 numbers. Of each block its
# largest magnitude $c_b$ is kept, and of each number the nearest of 16 levels
# {cite:p}`dettmers2023qlora`:
#
# $$
# \tilde w = c_b \, q_{k(w)}, \qquad c_b = \max_{w \in b} |w|,
# \qquad k(w) = \arg\min_k |w / c_b - q_k|
# $$
#
# The levels $q$ are quantiles of a normal distribution, closest together where
# most weights are:

# %% mystnb={"figure": {"name": "fig-nf4", "caption": "Weights of one layer of the testbed's model over the largest of their block, and the 16 levels they are rounded to."}, "image": {"alt": "A bell-shaped histogram of weights between minus one and one with spikes at both ends; sixteen vertical lines, dense around zero and sparse outside."}}
layer = full.model.language_model.layers[0].mlp.up_proj.weight.detach()
blocks = layer.reshape(-1, weights.BLOCK)
normalised = blocks / blocks.abs().amax(dim=1, keepdim=True)
figures.nf4_figure(normalised, study.nf4_levels())

# %%
rounded = study.round_to_nf4(layer)
error = (rounded - layer).norm() / layer.norm()
print(f"relative error of this layer: {error:.1%}")

# %% [markdown]
# The spikes at both ends are the largest of each block, to which the outermost
# levels belong. *Double quantisation* keeps the $c_b$ in 8 bits as well, in
# blocks of 256 with a scale each. So a number costs
# $4 + 8/64 + 32/(64 \cdot 256)$ bits:

# %%
numbers = 3584 * 18944  # one matrix of a 7B model
print(f"{8 * weights.nf4_bytes(numbers) / numbers:.3f} bits a number")

# %% [markdown]
# ## Bytes, counted
#
# Not every number is in 4 bits. Quantised are the linear layers of the language
# model. The vision tower, which reads the picture, the embeddings and the
# output head, from which log-probabilities are computed, keep their precision.
# Counted from the testbed's model, in float32:

# %%
table = weights.weight_table(full, bytes_per_number=4)
table

# %%
counted = [table[column].sum() for column in ("bytes", "bytes_4bit")]
stored = [weights.stored_bytes(model) for model in (full, four_bit)]
for how, (before, after) in {"counted": counted, "stored": stored}.items():
    print(f"{how:8} {before:,} -> {after:,} bytes")

# %% [markdown]
# The count and what the two models store agree to the byte. Here about half of
# the model is vision tower. In large models that is a small part. Of those only
# the shape is needed: built from the published dimensions without memory for
# weights, and counted in the same way, now in bfloat16 and gigabytes:

# %%
shapes = {size: weights.qwen2_5_vl_config(size) for size in weights.SIZES}
tables = {size: weights.weight_table(shape) for size, shape in shapes.items()}
whole = pd.DataFrame({size: table.sum() for size, table in tables.items()}).T
gigabytes = whole[["bytes", "bytes_4bit"]] / 1e9
gigabytes["in 4 bits"] = whole["quantised"] / whole["parameters"]
gigabytes["saved"] = 1 - whole["bytes_4bit"] / whole["bytes"]
gigabytes.round(2)

# %% [markdown]
# The weights of a 7B model shrink from 16.6 to 6.9 GB, since four fifths of its numbers
# are in 4 bits. The larger the model, the larger that share.
#
# What training keeps from step to step is more than weights. Every number that
# is trained takes 16 bytes: weight, gradient and AdamW's two moments, in
# float32. Every one that is not takes its 2, or about a half:

# %% mystnb={"figure": {"name": "fig-training-memory", "caption": "Gigabytes that training keeps from step to step, with adapters of rank 16. Dashed: the memory of two common kinds of GPU."}, "image": {"alt": "Three rows of points on a logarithmic axis, for models of 3, 7 and 32 billion parameters: all weights far to the right, LoRA in the middle, QLoRA on the left; vertical dashed lines at 24 and 80 gigabytes."}}
memory = {size: study.training_memory(shape) for size, shape in shapes.items()}
figures.training_memory_figure(memory)

# %% [markdown]
# Rollouts come on top: keys and values of the completions, the activations of a
# micro-batch, the pixels of a generation. `vgpo.memory.estimate` adds them up. For the
# 7B [recipe](../book/recipes.md), two rollouts at a time and 32 a generation:

# %%
print(estimate("7B", use_peft=True, load_in_4bit=True, card="24 GB"))

# %% [markdown]
# Weights are more than half of it. What comes next is a surprise: not the update, but
# the first look of all 32 rollouts at their pictures, at once. LoRA makes the step from
# many GPUs to one; the 4 bits then decide which one. Another model, card or length is
# a change of an argument, or of a slider on the page [Will it fit?](../book/memory.md).
#
# ## The score
#
# The model that ships with the testbed, in full precision and in 4 bits, on the
# same held-out questions, decoded greedily:

# %%
asked = [
    World().example(i, seed=7, split="heldout", family=family)
    for family in FAMILIES
    for i in range(questions)
]
models = {"full": full, "4 bits": four_bit}
accuracy = study.paired_accuracy(models, processor, asked)
accuracy.round(3)

# %% mystnb={"figure": {"name": "fig-paired", "caption": "Accuracy in 4 bits less accuracy in full precision, with 95 % intervals from resampled questions."}, "image": {"alt": "One point with a horizontal bar per family of questions around a vertical line at zero."}}
figures.paired_accuracy_figure(accuracy)

# %% [markdown]
# The pairing matters. Both models answer the same questions, so only those
# count on which they disagree (`changed`), and the interval is far narrower
# than that of either accuracy. Where no answer changed, its width of zero is an
# artefact of resampling: with $n$ questions and no change seen, a rate of up to
# about $3/n$ remains possible:

# %%
print(f"3 / {questions} = {3 / questions:.2f}, over all: {3 / len(asked):.3f}")

# %% [markdown]
# ## Log-probabilities and focus
#
# Training does not see accuracy. It sees the log-probability of each sampled
# token and, with VGPO, its visual focus. So: answers sampled from the
# full-precision model, scored by both.

# %%
prompts = [
    World().example(i, seed=40, split="heldout", family=family)
    for family in IMAGE_FAMILIES
    for i in range(chains)
]
texts = answer(full, processor, prompts, temperature=1.0, seed=seed)
scored = study.precision_table(full, models, processor, prompts, texts)
small = scored[scored["variant"] == "4 bits"]
moved = (small["ratio"] - 1).abs()
print(f"{len(small):,} tokens")
print(f"KL(full || 4 bits): {small['kl'].mean():.1e} nats a token")
print(f"probability of the token: {moved.mean():.1%} off on average")
print(f"by more than the clip of 0.2: {(moved > 0.2).mean():.2%} of tokens")

# %% mystnb={"figure": {"name": "fig-precision", "caption": "Left: by how much each token's visual focus changes in 4 bits. Right: the share of tokens whose probability changes by more than a given part of itself."}, "image": {"alt": "Left, a cloud of points along a horizontal line at zero, a few hundredths high. Right, a falling curve on logarithmic axes that reaches a small share at the dashed line of the clip."}}
figures.precision_figure(small)

# %% [markdown]
# Few tokens move further than the loss would let one update move them. They
# matter where rollouts come from one precision and gradients from another, as
# with vLLM in bfloat16 beside a trainer in 4 bits; TRL has a correction for
# that (`vllm_importance_sampling_correction`).

# %%
columns = ["token", "prediction", "auroc", "auroc_low", "auroc_high", "rule"]
robustness_summary(scored)[columns].round(3)

# %% [markdown]
# `token` and `prediction` are rank correlations of the focus score with that of full
# precision, per completion; `auroc` is how well the predicting state's score finds the
# tokens that read the picture, as in [chapter 02](02_focus.ipynb). Beside it stands the
# `rule` "the token before is =", which needs no picture. The order of the tokens is kept
# almost entirely, and so is what the score finds; what of it is looking, is a question
# that chapter 02 answers.
#
# What training uses of it are the gate and $\psi$:

# %%
agreement = study.weight_agreement(scored)
agreement.set_index(["variant", "alignment"]).round(3)

# %% [markdown]
# `gate_kept` is the share of gated tokens that stay gated, `psi_change` the mean change
# of $\psi$ beside its spread. So re-weighting in 4 bits is re-weighting by nearly the
# same numbers. It inherits every fault of the score, of which [chapter
# 02](02_focus.ipynb) and [chapter 03](03_compensation.ipynb) have more to say than 4
# bits do.
#
# ## An update: memory and time
#
# Sixteen sums, one forward pass, one backward pass, one step of AdamW;
# nothing else in memory. Bytes are counted, not sampled:

# %%
batch = encode_examples(
    processor, [World().example(i, family="sum") for i in range(16)]
)
kept = {}
for way, model in study.trained_ways().items():
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    peak = peak_bytes(study.updater(model, batch))
    kept[way] = (trained, weights.stored_bytes(model) / 2**20, peak / 2**20)
columns = ["trained", "weights, MiB", "peak above, MiB"]
pd.DataFrame.from_dict(kept, orient="index", columns=columns).round(1)

# %% [markdown]
# At this size activations are everything and weights nothing: adapters save the
# gradients and moments of the weights, 4 bits save a few MiB of base. In a 7B
# model it is the other way round.
#
# Times depend on the machine, so they come from a record
# (`python -m benchmarks qlora`), each way in turn in the same rounds:

# %%
record = json.loads(Path("../results/bench/qlora.json").read_text())
about = record["machine"]
print(about["cpu"], "| threads:", about["threads"], "| torch", about["torch"])
pd.DataFrame(
    {
        job: {way: t["ratio"] for way, t in record["cpu"][job].items()}
        for job in ("update", "sampling")
    }
).round(2)

# %% [markdown]
# Times over those of all weights. Sampling suffers most: it multiplies one
# token at a time, and adapters and unpacking cost the same for one as for many.
# Rollouts are most of a step, so QLoRA saves memory and costs time. By how much
# on a GPU, this table cannot say: on a CPU bitsandbytes unpacks weights by
# other code than on a GPU.
#
# What can be measured without trained weights is the shape. Where there is a
# GPU, this cell measures updates of 3B and 7B shapes with random weights in 4
# bits; it was not run for these pages, there being none:

# %%
gpu = {s: study.measure_qlora(weights.qwen2_5_vl_config(s)) for s in gpu_sizes}
if gpu:
    display(pd.DataFrame(gpu).T)
else:
    print("no GPU measured: set gpu_sizes")

# %% [markdown]
# ## VGPO on 4 bits
#
# The run of [chapter 05](05_training.ipynb), with a base in 4 bits and adapters, on far
# fewer prompts. Focus scores come out of the quantised model, as the whole step does:

# %%
run = TestbedRun(
    seed=seed,
    steps=steps,
    prompts_per_step=prompts_per_step,
    learning_rate=1e-3,
    warmup_steps=2,
    adapters="qlora",
)
trainer = testbed_trainer(run, scratch / "run", dynamic_sampling_max_attempts=1)
trainer.remove_callback(PrinterCallback)  # the log is shown below
trainer.train()
log = read_metrics(scratch / "run").dropna(subset=["reward"]).set_index("step")
shown = ["reward", "visual/focus_late", "visual/psi_std", "visual/phi_std"]
log[shown].round(2)

# %% [markdown]
# Do not read a trend into so few steps: each reward is the mean of a few dozen
# completions, with a standard error of about

# %%
completions = prompts_per_step * run.rollouts
print(f"{(0.25 / completions) ** 0.5:.2f} for p = 0.5, n = {completions}")

# %% [markdown]
# Longer runs were recorded (`python -m vgpo.studies.experiments.runs --adapters
# qlora`), with the batches and steps of [chapter 05](05_training.ipynb), beside those
# of all weights:

# %%
folders = {
    "all weights": "../results/rl",
    "QLoRA": "../results/rl_adapters/qlora",
}
runs = pd.concat(
    [load_runs(folder).assign(way=way) for way, folder in folders.items()]
)
chosen = runs[
    runs["family"].isin(TRAINED_FAMILIES) & (runs["method"] == "vgpo")
]
by_seed = chosen.groupby(["way", "when", "seed"])["accuracy"].mean()
by_seed.unstack("seed").sort_index(ascending=[True, False]).round(3)

# %% mystnb={"figure": {"name": "fig-adapter-runs", "caption": "Accuracy of samples on held-out scans before and after 24 steps of VGPO, a line per seed."}, "image": {"alt": "Two columns of lines from before to after training, for all weights and for QLoRA; all lines rise."}}
figures.adapter_runs_figure(by_seed)

# %%
change = by_seed.unstack("when")
change = change["after"] - change["before"]
change.groupby("way").agg(["mean", "min", "max", "count"]).round(3)

# %% [markdown]
# Accuracy rises with every seed, in 4 bits as with all weights. So
# reinforcement learning works through adapters over 4-bit weights here. The
# columns are not a contest: adapters have their own learning rate, chosen after
# a short look, and there are three seeds of each.
#
# ## Saved, reloaded, merged
#
# What a run leaves behind is its adapter alone:

# %%
trainer.save_model(scratch / "adapter")
for file in sorted((scratch / "adapter").glob("adapter_*")):
    print(f"{file.stat().st_size / 2**10:6.0f} KiB  {file.name}")

# %% [markdown]
# It is to be used with the base it was trained on. Four ways to do so, against
# the trained model:

# %%
adapter = scratch / "adapter"


def with_adapter(base, merge=True):
    model = PeftModel.from_pretrained(base, adapter)
    return (model.merge_and_unload() if merge else model).eval()


again = load_four_bit(CHECKPOINT, torch.float32)
unpacked = load_four_bit(CHECKPOINT, torch.float32).dequantize()
packed = load_four_bit(CHECKPOINT, torch.float32)
uses = {
    "reloaded": with_adapter(again, merge=False),
    "merged, base unpacked": with_adapter(unpacked),
    "merged, packed again": with_adapter(packed),
    "merged into the full base": with_adapter(testbed.load_tiny()[0]),
}

# %%
after = trainer.model.eval()
used = study.precision_table(after, uses, processor, prompts[:40], texts[:40])
used["log-probability"] = (used["log_prob"] - used["log_prob_before"]).abs()
used["focus score"] = (used["focus"] - used["focus_before"]).abs()
changes = used.groupby("variant", sort=False)[
    ["log-probability", "focus score"]
]
changes.agg(["mean", "max"]).map("{:.1e}".format)

# %% [markdown]
# Differences over all tokens. Reloaded, the adapter scores identically. Merged
# into the unpacked base it differs by rounding. Packed again after merging, or
# merged into the weights as they were before quantisation, it is another model:
# what was trained was a correction to *these* rounded weights. To serve without
# adapters, unpack and merge.
#
# ## What this shows and what it does not
#
# - The arithmetic of bytes holds for any size: it was checked against what is
#   stored, and it counts what training keeps, not what rollouts need.
# - Adapters over 4 bits train, save, reload and merge with VGPO, here on a CPU.
# - The small changes in score, log-probability and focus are those of *this*
#   model. A model of a few layers has little room for errors to add up; a large
#   one may have outliers among its weights that this one has not. Nothing here
#   says that 4 bits are free at 7B.
# - Times on a CPU say nothing of a GPU.
# - TRL keeps adapters over 4 bits in bfloat16. `VGPOTrainer` keeps them in
#   float32: at the paper's learning rate of $10^{-6}$ a step is smaller than
#   the distance between neighbouring bfloat16 numbers of the size of these
#   weights, and would be rounded away:

# %%
weight = torch.tensor(0.01)
for kind in (torch.bfloat16, torch.float32):
    before = weight.to(kind)
    print(f"{kind}: moved by {float((before - 1e-6) - before):.1e}")

# %% [markdown]
# The recipe for one GPU is `recipes/qwen2_5_vl_7b_qlora_1gpu.yaml`; [chapter
# 05](05_training.ipynb) has the same as a notebook's cell, complete.
#
# ## Exercises
#
# Predict first; then type the line into a cell here, or run it with the environment
# active (`source .venv/bin/activate`).
#
# **1.** Blocks of 32 numbers in place of 64. How many bits does a number cost, and does
# the error of a layer rise or fall?
#
# ```python
# 4 + 8 / 32 + 32 / (32 * 256)
# ```
#
# :::{dropdown} Solution
# 4.254 bits in place of 4.127. The error falls: a block's scale is set by its largest
# number, and smaller blocks have fewer numbers beside an outlier that are squeezed into
# a few levels.
# :::
#
# **2.** Which share of a 3B and of a 32B model is in 4 bits, and why does it grow?
#
# ```python
# gigabytes["in 4 bits"]
# ```
#
# :::{dropdown} Solution
# 74 % and 93 %. Vision tower and embeddings keep their precision and hardly grow, while
# the language layers do.
# :::
#
# **3.** You trained an adapter over 4 bits. A colleague merges it into the original
# bfloat16 checkpoint, because "it is the better base". Which model comes out?
#
# :::{dropdown} Solution
# Another model than the one trained: the adapter has learnt to correct the rounded
# weights. In the table, log-probabilities differ by 0.01 on average and by more than 1 at
# worst. Unpack the 4-bit base and merge into that.
# :::
#
# ## Keep in mind
#
# - 4 bits save more than half of a 7B model's weights; adapters save gradients and
#   moments, which are far more. Rollouts come on top of both.
# - On this model score, log-probability and focus hardly change, and VGPO's gate keeps
#   95 of 100 tokens. A large model with outliers among its weights may behave otherwise.
# - Keep the adapter with the base it was trained on.
