# %% [markdown]
# # Training, live
#
# **In this chapter.** Everything so far was about one number per token. Here it is put
# to use: the small model is trained by reinforcement learning, with DAPO and with VGPO,
# in a few minutes on a CPU. It begins at its *cold start*, what it was taught by worked
# examples. *Does it get better? Is that more than a lower temperature would have given?
# And is VGPO ahead?* The same code trains a 7B model on a GPU.

# %% tags=["parameters", "hide-input"]
steps = 12  # optimiser steps per run
prompts_per_step = 16  # prompts per step, 8 completions each
questions = 40  # held-out questions per family, before and after
seed = 0  # prompts and sampling
swept = 60  # held-out questions per family at each temperature
threads = 1  # torch threads; the model is too small to gain from more

# %% tags=["hide-input"]
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

# What the libraries say of features not used here.
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import pandas as pd
import torch
from transformers import PrinterCallback

from vgpo import figures
from vgpo.method.plain import DAPO_LOSS
from vgpo.method.shaping import Method, Shaped, register
from vgpo.method.visual import VGPO, visual_factors, visual_statistics
from vgpo.stats.power import detectable_difference
from vgpo.stats.seeds import t_interval
from vgpo.studies.curves import runs_view
from vgpo.studies.experiments import (
    TRAINED_FAMILIES,
    TestbedRun,
    heldout_accuracy,
    load_runs,
    testbed_trainer,
)
from vgpo.studies.worlds import WorldStudy, accuracy_by_temperature
from vgpo.testbed import World, load_tiny
from vgpo.testbed.answers import accuracy, answer
from vgpo.training.config import VGPOConfig
from vgpo.training.metrics import read_metrics

torch.set_num_threads(threads)
scratch = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Before any training
#
# A model that samples can be made to look better without learning anything: by
# sampling at a lower temperature, or greedily. So before the first step, the share of
# right answers of the untouched cold start at five temperatures, on sums and counting
# over scans that it never saw:

# %%
study = WorldStudy(accuracy_questions=swept, resamples=200)


def sweep(model):
    found = accuracy_by_temperature(model, processor, World(), study)["all"]
    return {
        f"T = {t}" if float(t) else "greedy": i.value for t, i in found.items()
    }


model, processor = load_tiny()
by_temperature = {"before": sweep(model)}
pd.Series(by_temperature["before"]).round(2).to_frame("before")

# %% [markdown]
# Keep these numbers. Training rewards answers sampled at $T = 1$, so it will be
# pleased with a model that has merely become surer of itself, and we should not be.
#
# ## What is trained
#
# All weights of the shipped model, on the two families with the longest chains: sums
# and counting, where a picture of nine tiles has to be consulted nine times. There the
# cold start has *taught misreading* by a known amount ([chapter 00](00_testbed.ipynb)):
# the $j$-th value it reads is wrong with a probability that grows with $j$. The reward
# is 1 for the right answer in the box, else 0.
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
#
# To compare the two, DAPO should log the visual numbers as well. So it runs as a
# method of our own that measures everything VGPO would use, and uses none of it:

# %%
methods = {"dapo": "dapo_watched", "vgpo": "vgpo"}


@register("dapo_watched")
@dataclass(frozen=True)
class WatchedDAPO(Method):
    """DAPO's advantages; VGPO's numbers in the log."""

    preset = DAPO_LOSS
    signals = frozenset({"focus"})

    def shape(self, rollouts):
        mask, groups = rollouts.mask, rollouts.group_ids
        focus = rollouts.signals["focus"]
        factors = visual_factors(focus, mask, groups, VGPO())
        logs = visual_statistics(factors, mask, groups)
        return Shaped(rollouts.advantages, logs=logs)


# %%
before = heldout_accuracy(model, processor, questions)
trained, metrics = {}, {}
for method, registered in methods.items():
    run = TestbedRun(
        method=registered,
        seed=seed,
        steps=steps,
        prompts_per_step=prompts_per_step,
    )
    trainer = testbed_trainer(run, scratch / method)
    trainer.remove_callback(PrinterCallback)  # the log is drawn below
    trainer.train()
    trained[method] = trainer.model
    metrics[method] = read_metrics(scratch / method)

# %% [markdown]
# `testbed_trainer` builds a `VGPOTrainer`, which takes what TRL's `GRPOTrainer` takes;
# `train()` samples, scores each token's focus, re-weights the advantages and takes the
# step, as often as `steps` says.
#
# ## The reward

# %% mystnb={"figure": {"name": "fig-reward", "caption": "Share of right answers among the completions sampled at each step (thin) and its running mean (thick). The prompts are the same, and so is the first step."}, "image": {"alt": "Two lines of sampled reward against optimiser steps, one for DAPO and one for VGPO; both rise from the level of the cold start."}}
figures.reward_figure(metrics)

# %% [markdown]
# Both rise. With either method, more of the sampled answers are right after a dozen
# steps than before. VGPO and DAPO cannot be told apart in one run each.
#
# ## Is it more than a lower temperature?
#
# The sweep again, after training:

# %%
by_temperature |= {f"after {m}": sweep(after) for m, after in trained.items()}
pd.DataFrame(by_temperature).round(2)

# %%
count = swept * len(TRAINED_FAMILIES)
print(f"standard error {(0.25 / count) ** 0.5:.3f} for p = 0.5, n = {count}")

# %% [markdown]
# At $T = 1$, where answers are rewarded, both methods rose. Towards lower temperatures
# the gain shrinks, and greedily there is none. That is what a model does that has become
# surer of itself without having learnt to read better. And the untouched cold start,
# sampled at $T = 0.8$, is right more often than either trained model at $T = 1$: what a
# dozen steps of reinforcement learning bought here, a setting of the sampler gives for
# nothing. (Single cells are within their errors; the pattern over the rows is what
# counts, and it is the same for both methods.)
#
# ## Other families
#
# Comparison and charts were not trained, and neither was the text-only control, in
# which there is no image to look at. At temperature 1:

# %%
columns = {"before": before}
for method, after in trained.items():
    columns[f"after {method}"] = heldout_accuracy(after, processor, questions)
right = pd.DataFrame(columns)
right.loc["trained on"] = right.loc[list(TRAINED_FAMILIES)].mean()
right.round(2)

# %%
print(f"{(0.25 / questions) ** 0.5:.2f} for p = 0.5, n = {questions}")

# %% [markdown]
# That is the standard error of each number, about $\sqrt{p(1-p)/n}$: most of what
# differs between the two last columns is chance.
#
# ## The visual metrics
#
# What the trainer logs at each step: the mean focus score of the first and second half
# of the completions, the spread of $\psi$ and $\phi$, and how much of $\phi$ is length.
# Thin: the DAPO run, with the $\psi$ and $\phi$ that it measured and did not use.

# %% mystnb={"figure": {"name": "fig-visual-metrics", "caption": "The visual metrics of the VGPO run (thick) and of the DAPO run (thin). Bands: where nine in ten steps of DAPO lie. Its \u03c8 and \u03c6 are what they would have been."}, "image": {"alt": "Three small panels of lines over optimiser steps. Focus of the first and second half, for VGPO thick and for DAPO thin, runs side by side. The spread of psi and phi stays where it was. The correlation of phi with length stays near one."}}
figures.visual_metrics_figure(metrics["vgpo"], beside=metrics["dapo"])

# %%
log = metrics["vgpo"].dropna(subset=["reward"])
shown = [
    "visual/gate_rate",
    "visual/phi_length_corr",
    "dynamic_sampling/dropped_share",
    "dynamic_sampling/attempts",
]
log[shown].mean().round(2).to_frame("mean over the run")

# %%
early, late = ("visual/focus_early", "visual/focus_late")
ends = {}
for method, log in metrics.items():
    log = log.dropna(subset=["reward"])
    gap = log[early] - log[late]
    ends[method] = {"first 4": gap.head(4).mean(), "last 4": gap.tail(4).mean()}
pd.DataFrame(ends).T.round(3)

# %% [markdown]
# Read the three panels, and mind their axes: all of the first lies between 0.54 and
# 0.57. *Focus*: early tokens score higher than late ones, by about 0.01, from the first
# step to the last, under VGPO as under DAPO. If re-weighting cured a fading of focus,
# the thick lines would come together and the thin ones would not. The table has the gap
# in the first and in the last four steps: it moves by less than 0.01, and alike in both
# runs. *Spread*: $\psi$ stays at about a quarter, whatever the model does, because the
# min-max stretches whatever there is. *Length*: $\phi$ is length throughout ([chapter
# 04](04_reweighting.ipynb)).
#
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
# Shares of 64 answers have a standard error of 0.05, so these three are hardly apart. And
# look at the first answer: it takes the 8 on the green tile for a 4, and is right all the
# same, since both are even. The reward cannot tell that from reading.
#
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
by_seed.unstack("seed").sort_index(ascending=[True, False]).round(3)

# %% mystnb={"figure": {"name": "fig-seeds", "caption": "Left: accuracy of samples on held-out scans before and after training, three seeds a method. Right: VGPO less DAPO after training, seed by seed."}, "image": {"alt": "Left, points per method before and after training, joined by a line per seed; all lines rise. Right, the differences of the three seeds lie below zero, the 95 % interval of their mean from well below zero to just above it."}}
final = by_seed.xs("after", level="when").unstack("method")
gain = (final["vgpo"] - final["dapo"]).rename("VGPO less DAPO, after")
figures.seeds_figure(by_seed, gain, t_interval(gain))

# %% [markdown]
# The same runs to touch: smooth the curves, leave one method out, and see the paired
# differences.

# %% mystnb={"image": {"alt": "Learning curves of the recorded runs, one line a method, to smooth and to pick from; below, their paired differences with an interval, and the runs one by one."}}
runs_view("../results/rl")

# %%
print("VGPO less DAPO, per seed:", gain.round(3).to_dict())
print("mean and 95 % interval (t):", t_interval(gain))
least = detectable_difference(len(gain), gain.std())
print(f"what three seeds would find with 80 % power: {least:.3f}")

# %% [markdown]
# The interval holds 0, and a difference would have to be more than twice as large as
# the one seen to be found by three seeds. Behind each point stand 200 questions, a
# standard error of 0.035; which questions are asked decides its sign as much as the
# method does. **Not decided** is the verdict, and "no gain seen" the summary.
#
# ## What these runs can and cannot show
#
# They show that the whole chain works: rollouts, focus scores, re-weighted advantages,
# TRL's loss. They cannot show that VGPO makes a model look longer, whatever their
# number, for a reason of this world's: its model looks at the right tile when it
# misreads, as often as when it does not. Its errors are drawn at the output. So
#
# - there is no looking for VGPO to restore: claims about attention (C2 and C13 of [the
#   ledger](../book/claims.md)) *cannot* come out here, for any method;
# - what can be learnt is to be surer of the value, which a lower temperature gives for
#   nothing;
# - a claim about accuracy (C5) could only come out as becoming surer *sooner*.
#
# The look-away world was built because of this ([chapter 00](00_testbed.ipynb)): there
# no temperature helps, and 16 steps of DAPO took sums from 0.47 to 0.83 and the share
# of reads that look to 1.00 (`results/worlds/README.md`). Whether VGPO gets there
# sooner is what the recorded trainings of [chapter 08](08_evaluation.ipynb) ask, with
# more seeds, with weights that know nothing (placebos) and with weights that know the
# truth (an oracle). And nothing here says anything of a 7B model, whose chains hold far
# more words that bear on nothing.
#
# ## The same on a GPU
#
# ```bash
# pip install -e ".[train]"
# accelerate launch -m vgpo.train --config recipes/qwen2_5_vl_7b_qlora_1gpu.yaml
# ```
#
# or in a notebook: 7B in 4 bits with adapters, on one GPU, complete.
#
# ```python
# from transformers import AutoConfig, AutoProcessor
# from vgpo import VGPOConfig, VGPOTrainer
# from vgpo.data import load_rows
# from vgpo.models.adapters import four_bit_config, lora_config
# from vgpo.rewards import accuracy_reward
#
# name = "Qwen/Qwen2.5-VL-7B-Instruct"
# config = AutoConfig.from_pretrained(name)
# processor = AutoProcessor.from_pretrained(
#     name, max_pixels=262_144, padding_side="left"
# )
# args = VGPOConfig.preset(
#     "vgpo",
#     output_dir="runs/vgpo-7b",
#     model_init_kwargs={"dtype": "bfloat16"},
#     learning_rate=1e-5,
#     per_device_train_batch_size=2,
#     gradient_accumulation_steps=16,  # 4 prompts x 8 rollouts a step
#     max_completion_length=1024,
#     max_steps=200,
#     bf16=True,
#     logging_steps=1,
#     save_steps=20,
#     report_to="none",
# )
# trainer = VGPOTrainer(
#     model=name,
#     processing_class=processor,
#     quantization_config=four_bit_config(config),
#     peft_config=lora_config(config),
#     reward_funcs=accuracy_reward,
#     args=args,
#     train_dataset=load_rows("PAPOGalaxy/PAPO_ViRL39K_train"),
# )
# trainer.train()
# trainer.save_model("runs/vgpo-7b/adapter")
# ```
#
# These lines were run here with the small model's checkpoint in place of the name; with
# 7B they were not. [The page of recipes](../book/recipes.md) says what memory and time
# to expect, what to look at after twenty steps, and how to evaluate and merge
# afterwards.
#
# ## Exercises
#
# Predict first; then run the line with the environment active
# (`source .venv/bin/activate`).
#
# **1.** Train for 4 steps in place of 12. Which row of the temperature table moves
# first?
#
# ```bash
# python book/build.py execute 05_training -p steps 4
# ```
#
# :::{dropdown} Solution
# $T = 1$: it is what is rewarded, and has most room below the greedy accuracy. With both
# methods it goes from 0.46 to 0.52, hardly more than its standard error of 0.046, and
# greedy stays at 0.75: the learning rate warms up over five steps.
# :::
#
# **2.** With 4 prompts a step in place of 16, what becomes of the reward curves, and which
# method's ends higher? Does the better curve belong to the better model?
#
# ```bash
# python book/build.py execute 05_training -p prompts_per_step 4
# ```
#
# :::{dropdown} Solution
# They get rough: a point is the mean of 32 answers in place of 128, with a standard error
# of 0.09 in place of 0.044, and of four questions only, which one step draws hard and the
# next one easy. VGPO's lies above DAPO's from the fourth step on. It means nothing: after
# training VGPO is right 0.48 of the time at $T = 1$ and DAPO 0.52, within a standard
# error of each other.
# :::
#
# **3.** The three recorded differences are -0.020, -0.010 and -0.045. If the true
# difference is their mean and their spread stays, how many seeds find it with 80 %
# power?
#
# ```python
# [n for n in range(2, 20) if detectable_difference(n, gain.std()) < 0.025][0]
# ```
#
# :::{dropdown} Solution
# Seven. But the spread of three values is itself known within a factor of three or
# so: plan for ten or more.
# :::
#
# ## Keep in mind
#
# - Compare a trained model with its start at *several* temperatures: what greedy
#   decoding gives for nothing is no merit of training.
# - In this world reinforcement learning sharpens and cannot teach looking; DAPO and VGPO
#   do it alike, as far as three seeds can tell.
# - "Not decided" is a result. The difference that a comparison could have found belongs
#   beside the one that it found.
