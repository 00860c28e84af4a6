# %% [markdown]
# # Training, live
#
# Everything so far was about one number per token. Here it is put to use: the
# testbed's model is trained by reinforcement learning from its cold start, once
# with DAPO and once with VGPO, in a few minutes on a CPU. The same code trains
# a 7B model on a GPU.
#
# **Overview.** What is trained; two runs; what the reward does; what the visual
# metrics say; samples before and after; the same on a GPU; and what such short
# runs can and cannot show.

# %% tags=["parameters"]
steps = 16  # optimiser steps per run
prompts_per_step = 16  # prompts per step, 8 completions each
questions = 40  # held-out questions per family, before and after
seed = 0  # prompts and sampling
threads = 2  # torch threads

# %%
import logging
import tempfile
import warnings
from pathlib import Path

# What the libraries say of features not used here.
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import pandas as pd
import torch
from transformers import PrinterCallback

from vgpo import figures
from vgpo.studies.experiments import (
    TRAINED_FAMILIES,
    TestbedRun,
    heldout_accuracy,
    load_runs,
    testbed_trainer,
)
from vgpo.testbed import World, load_tiny
from vgpo.testbed.answers import accuracy, answer
from vgpo.training.config import VGPOConfig
from vgpo.training.metrics import read_metrics

torch.set_num_threads(threads)
scratch = Path(tempfile.mkdtemp())

# %% [markdown]
# ## What is trained
#
# All weights of the shipped model, on the two families with the longest chains:
# sums and counting, where a picture of nine tiles has to be consulted nine
# times. The cold start has made the model forgetful there by a known amount
# ({doc}`00_testbed`): the $j$-th value it reads is wrong with a probability that
# grows with $j$. The reward is 1 for the right answer in the box, else 0. So
# what is to be learnt is to stay with the picture to the end.
#
# The three methods differ in a few settings, and the presets hold them:

# %%
names = [
    "loss_type",
    "epsilon_high",
    "beta",
    "dynamic_sampling",
    "intra_trajectory",
    "inter_trajectory",
]
presets = {
    name: VGPOConfig.preset(name, output_dir=str(scratch))
    for name in ("grpo", "dapo", "vgpo")
}
pd.DataFrame(
    {m: {n: str(getattr(c, n)) for n in names} for m, c in presets.items()}
)

# %% [markdown]
# `beta` is TRL's name for the weight of the KL term, not the paper's $\beta$.
#
# ## Two runs

# %%
model, processor = load_tiny()
before = heldout_accuracy(model, processor, questions)
trained, metrics = {}, {}
for method in ("dapo", "vgpo"):
    run = TestbedRun(
        method=method, seed=seed, steps=steps, prompts_per_step=prompts_per_step
    )
    trainer = testbed_trainer(run, scratch / method)
    trainer.remove_callback(PrinterCallback)  # the log is drawn below
    trainer.train()
    trained[method] = trainer.model
    metrics[method] = read_metrics(scratch / method)

# %% [markdown]
# That is all: `testbed_trainer` builds a `VGPOTrainer`, which takes what TRL's
# `GRPOTrainer` takes, and `train()` trains.
#
# ## The reward

# %% mystnb={"figure": {"name": "fig-reward", "caption": "Share of right answers among the completions sampled at each step (thin) and its running mean (thick)."}, "image": {"alt": "Two lines of sampled reward against optimiser steps, one for DAPO and one for VGPO; both rise from the level of the cold start."}}
figures.reward_figure(metrics)

# %%
columns = {"before": before}
for method, after in trained.items():
    columns[f"after {method}"] = heldout_accuracy(after, processor, questions)
right = pd.DataFrame(columns)
right.loc["trained on"] = right.loc[list(TRAINED_FAMILIES)].mean()
right.round(2)

# %% [markdown]
# Sampled at temperature 1, on scans never trained on. The first rows were
# trained; comparison and charts were not, and neither was the text-only control,
# in which there is no image to stay with. With so few questions each figure has a
# standard error of about
# $\sqrt{p(1-p)/n}$:

# %%
print(f"{(0.25 / questions) ** 0.5:.2f} for p = 0.5, n = {questions}")

# %% [markdown]
# ## The visual metrics
#
# What the trainer logs of VGPO at each step: the mean focus score of the first
# and second half of the completions, the spread of $\psi$ and $\phi$, and how
# much of $\phi$ is length.

# %% mystnb={"figure": {"name": "fig-visual-metrics", "caption": "The visual metrics of the VGPO run."}, "image": {"alt": "Three small panels of lines over optimiser steps: focus early and late, the spread of psi and phi, and the correlation of phi with length."}}
figures.visual_metrics_figure(metrics["vgpo"])

# %%
log = metrics["vgpo"].dropna(subset=["reward"])
shown = [
    "visual/gate_rate",
    "visual/phi_length_corr",
    "dynamic_sampling/dropped_share",
    "dynamic_sampling/attempts",
]
log[shown].mean().round(2).to_frame("mean over the run")

# %% [markdown]
# `gate_rate` is close to $\gamma\kappa = 0.1$, as it must be. A third number to
# watch is the share of groups that dynamic sampling dropped: all eight
# completions right, or all wrong, so that there is nothing to learn from.
#
# ## Before and after
#
# One question on a picture the models have not seen, sampled 64 times before
# and after; below each share, the first of the answers.

# %%
example = World().example(11, family="count", split="heldout", seed=5)
values = zip(example.colours, example.values, strict=True)
print(example.question, "  shown:", *[f"{c}={v}" for c, v in values])
print("true answer:", example.answer, "\n")
for name, some in {"before": load_tiny()[0], **trained}.items():
    texts = answer(some, processor, [example] * 64, temperature=1.0, seed=1)
    print(f"{name:7}{accuracy(texts, [example] * 64):.0%} right")
    print(f"{texts[0]}\n")

# %% [markdown]
# ## Several seeds
#
# One run a method says little about the difference between methods. The same
# comparison was recorded with three seeds
# (`python -m vgpo.studies.experiments.runs --output results/rl`), each paired: same cold
# start, same prompts.

# %%
runs = load_runs(Path("../results/rl"))
chosen = runs[runs["family"].isin(TRAINED_FAMILIES)]
by_seed = chosen.groupby(["method", "when", "seed"])["accuracy"].mean()
by_seed.unstack("seed").round(3)

# %% mystnb={"figure": {"name": "fig-seeds", "caption": "Accuracy of samples on held-out scans before and after training, three seeds a method."}, "image": {"alt": "Points per method before and after training, joined by a line per seed; all lines rise."}}
figures.seeds_figure(by_seed)

# %%
paired = by_seed.xs("after", level="when").unstack("method")
gain = paired["vgpo"] - paired["dapo"]
print("VGPO less DAPO, per seed:", gain.round(3).to_dict())
print(f"mean {gain.mean():+.3f}, standard deviation {gain.std():.3f}")

# %% [markdown]
# ## What these runs can and cannot show
#
# They show that the whole chain works: rollouts, focus scores, re-weighted
# advantages and TRL's loss, and that reinforcement learning takes back part of
# what the cold start forgot, with either method. They do *not* show that one
# method is better than the other: with three seeds a difference would have to be
# several times its spread to be believed, and these runs are short. Nor do they
# say anything of a 7B model, whose chains hold far more words that bear on
# nothing.
#
# ## The same on a GPU
#
# ```bash
# pip install -e ".[train]"
# accelerate launch -m vgpo.train --config recipes/qwen2_5_vl_7b_qlora_1gpu.yaml
# ```
#
# or in a notebook, with a model and data of your own:
#
# ```python
# from vgpo import VGPOConfig, VGPOTrainer
# from vgpo.rewards import accuracy_reward
#
# trainer = VGPOTrainer(
#     model="Qwen/Qwen2.5-VL-7B-Instruct",
#     reward_funcs=accuracy_reward,
#     args=VGPOConfig.preset("vgpo", output_dir="runs/vgpo-7b"),
#     train_dataset=data,      # prompt, image(s), answer
# )
# trainer.train()
# ```
