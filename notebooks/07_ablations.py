# %% [markdown]
# # Which part does it?
#
# VGPO is four choices: weigh the tokens, weigh the rollouts, lift what looks late, and
# lift it in the tail alone. The paper changes one at a time and loses accuracy each
# time: most, 11.8 points, when the lift covers the whole chain (its Fig. 5 and tables,
# 7B, one seed). *What does each choice do to the advantages, and does a training
# notice?*

# %% tags=["parameters", "hide-input"]
grid = "ablations"  # which plan: a file of recipes/experiments
base = "vgpo_token"  # the method that is taken apart; or vgpo_prediction
baseline = "dapo"  # what the arms are compared with besides
outcome = "reward/area"  # what the trainings are compared in
live = False  # whether one small training is run here and now, half a minute

# %% tags=["hide-input"]
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

# What the libraries say of features not used here.
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import pandas as pd
import torch
from IPython.display import display

from vgpo import figures
from vgpo.studies import ablations, evidence, gates
from vgpo.studies.experiments.arms import ARMS
from vgpo.studies.experiments.cells import run_cell
from vgpo.studies.experiments.evaluation import QUICK
from vgpo.studies.experiments.grid import read_grid
from vgpo.studies.experiments.records import curve_table
from vgpo.studies.tables import token_table
from vgpo.testbed import CHECKPOINTS, WORLDS, load_tiny
from vgpo.testbed.answers import answer

pd.set_option("display.precision", 3)
arms = [base, *ablations.arms_of(base)]
plan = read_grid(f"../recipes/experiments/{grid}.yaml")
cells, outcomes = evidence.recorded(plan, "../results/experiments")

# %% [markdown]
# ## First result

# %% mystnb={"figure": {"name": "fig-ablations", "caption": "Each arm less VGPO and less DAPO, paired by seed (in brackets: how many), with Student's t interval. An empty mark is a single seed, which has no interval."}, "image": {"alt": "Two panels of points with intervals around zero, a row per ablation; arms that were not run say so at zero."}}
against = {
    f"{outcome} less {other}": ablations.ablation_table(
        outcomes, base, other, outcome
    )
    for other in (base, baseline)
}
figures.ablations_figure(against)

# %% [markdown]
# One arm differs from the method: the one without the term *between* rollouts. Over
# sixteen seeds it earns a hundredth more of the reward than VGPO does, and as much as
# DAPO, within four thousandths. So what VGPO loses to DAPO here it loses by $\phi$, which
# is mostly the length of an answer ([chapter 04](04_reweighting.ipynb)). Of the others no
# difference is found. Seven seeds of so many arms could not find one; the intervals say
# how large it may be. Without the lift at all, $\beta = 0$, the reward is the method's,
# within the margin of a hundredth; and nothing collapses when it covers the whole chain.
#
# **In this chapter.** What each term does to a rollout; what schedule and tail do to a
# weight; what every arm does to one group. That follows from the formulas, without a
# training. Then the recorded trainings in numbers: every arm less the method and less
# DAPO, the course of training, and sweeps over $\beta$, $\gamma$ and $\kappa$. An arm
# that was not run stands in every table as "not run".

# %% [markdown]
# ## Four choices in four lines
#
# Focus $\rho$ says how much a token looks. What late tokens of the tail gain is the
# *compensation* (Eq. 5), $\psi$ compares a token with its own rollout (Eq. 8), $\phi$
# a rollout with its group (Eq. 11), and the advantage is multiplied by both (Eq. 12):
#
# $$
# \hat A^V_{i,t} = \hat A_i \, (1 + \psi_{i,t}) \, (1 + \phi_i)
# $$
#
# Here is one rollout of eight tokens, with its group taken to be itself and a
# second one that looks less:

# %%
rho = torch.tensor([[0.9, 0.2, 0.6, 0.3, 0.4, 0.8, 0.5, 0.7]])
rho = torch.cat([rho, 0.6 * rho])
t, T, beta = torch.arange(1, 9), 8, 0.3
gate = (t > T / 2) & (rho >= rho[:, 4:].amax(1, keepdim=True))  # Eq. 6
w = rho * (1 + gate * beta * t / T)  # Eq. 5

# %%
low, high = w.aminmax(dim=1, keepdim=True)
hat = (w - low) / (high - low)
psi = hat - hat.mean(1, keepdim=True)  # Eq. 7-8
s = w.sum(1)
phi = (s - s.min()) / (s.max() - s.min()) - 0.5  # Eq. 9-11
print("intra only:", (1 + psi)[0].numpy().round(2))
print("inter only:", (1 + phi).numpy())
print("both:      ", ((1 + psi) * (1 + phi)[:, None])[0].numpy().round(2))

# %% [markdown]
# *Intra only* moves credit between the tokens of a rollout and leaves its mean as it
# was. *Inter only* moves it between rollouts. In a group of two the one that looks
# more counts 1.5 times and the other one half, however close they are: Eq. 10
# stretches any difference to the whole range.
#
# ## When, and how long a tail
#
# Three schedules are compared: linear $t/T$, exponential (which is $(t/T)^2$) and a
# step at one half. The bars show what part of a chain each $\gamma$ opens.

# %% mystnb={"figure": {"name": "fig-schedules", "caption": "What compensation adds to a gated token's weight, by schedule, for \u03b2 = 0.3; above, the tail that each \u03b3 opens."}, "image": {"alt": "Three lines over the place in the chain: a straight one, a parabola below it and a step from zero to 0.3 at one half. Bars above them cover the last quarter, half and three quarters."}}
schedules = gates.schedule_table(200)
schedules.index = schedules.index / 200
figures.schedules_figure(schedules, (0.25, 0.5, 0.75))

# %% [markdown]
# With $\gamma = 0.5$ only the right half counts. There a token at $t/T = 0.75$ gains
# 0.23, 0.17 or 0.3, and the last token gains the same from each. So the formulas give
# little reason to expect the two points of accuracy by which the paper's schedules
# differ.
#
# ## What each arm does to one group
#
# The look-away model answers one question eight times. Each arm turns the focus of
# these tokens into factors. Nothing is trained here.

# %% tags=["hide-input"]
model, processor = load_tiny("look_away")
rules = WORLDS["look_away"]
question = rules.examples(1, ["sum"], seed=3, split="heldout") * 8
texts = answer(model, processor, question, temperature=1.0, seed=1)
table = token_table(model, processor, question, texts)
print(f"{question[0].question}  ({question[0].answer})")
print(table.groupby("row")["correct"].first().sum(), "of 8 answers are right")

# %% mystnb={"figure": {"name": "fig-factors", "caption": "What each arm multiplies the advantages of one group by: a row a rollout, a column a token, blue above 1, orange below. Rows end where a rollout ends."}, "image": {"alt": "Twelve small maps of eight rows. Most look alike, with stripes of blue and orange along each row; without the token term rows are of one tint each, without the rollout term all rows have the same contrast."}}
factors = ablations.group_factors(table, arms)
short = {arm: arm.removeprefix(f"{base}_") for arm in arms}
figures.factors_figure({short[a]: f for a, f in factors.items()})

# %%
reads = gates.truly_visual(table)
moved = ablations.factor_table(factors, base, reads)
moved.rename(index=short).round(3)

# %% [markdown]
# `moved` is how far an arm's factors are from the method's, on average. `reads` and
# `others` are the mean factors of tokens that look something up and of all others.

# %%
terms = moved["moved"][[f"{base}_intra", f"{base}_inter"]]
rest = moved["moved"].drop([base, *terms.index])
print(f"a term left out: {terms.min():.2f} to {terms.max():.2f}")
print(f"anything else: {rest.min():.3f} to {rest.max():.3f}", end="")
print(f" ({short[rest.idxmin()]}, {short[rest.idxmax()]})")
level = moved.loc[base]
less = "less" if level["reads"] < level["others"] else "more"
print(f"tokens that look something up get {less} than the others:")
print(f"{level['reads']:.2f} against {level['others']:.2f} times the advantage")

# %% [markdown]
# The two terms are the method; no schedule, tail or gate moves the factors of this
# group as much as leaving one of them out does. And scored by the state *at* a token,
# what looks something up does not come first: that state says what comes next
# ([chapter 02](02_focus.ipynb)). Set `base = "vgpo_prediction"` to see the other reading.
#
# ## What has been run

# %%
there = outcomes.groupby("arm")["seed"].nunique()
for arm in [baseline, *arms]:
    print(f"{arm:27} {there.get(arm, 0):2} of {len(plan.seeds_of(arm))} seeds")

# %% [markdown]
# DAPO and the method itself are the headline's cells ([chapter 08](08_evaluation.ipynb)): same
# settings, so never trained twice. An ablation differs from the method in one setting
# and in nothing else: same start, same prompts, same sampling seed.
#
# ## Against the method, and against DAPO
#
# The arms of {numref}`fig-ablations` in numbers, first against the method:

# %%
first, second = against.values()
columns = ["part", "paper", "difference", "low", "high", "p_corrected"]
shown = [*columns, "detectable", "seeds", "verdict"]
first[shown].rename(index=short).round(3)

# %% [markdown]
# `paper` is what the paper reports, in points of accuracy over ten benchmarks, for the
# same change. In words, as far as it goes:

# %%
print(evidence.wrapped(evidence.in_words(first, base)))

# %%
print(evidence.wrapped(evidence.in_words(second, baseline)))

# %% [markdown]
# "Not decided" is no "no effect": look at `detectable`, the smallest difference that so
# many seeds find four times in five. It is `inf` where they find none: six seeds are the
# fewest with which a sign-flip $p$ can fall below .05 at all, and then only without a
# correction for the other arms. That is why nine more seeds were planned of the arm
# whose difference was largest ([decisions](../book/decisions.md)).
#
# The other outcome that was fixed beforehand, sampled accuracy on held-out scans, by
# the same rules:

# %%
accuracy = ablations.ablation_table(outcomes, base, base, "accuracy/sampled")
print(evidence.wrapped(evidence.in_words(accuracy, base)))

# %% [markdown]
# ## The course of training
#
# The paper's Fig. 5 shows curves that lie apart. Here are ours, as many as there are,
# and beside them each arm less the method, seed by seed.

# %% mystnb={"figure": {"name": "fig-ablation-curves", "caption": "Left: sampled reward over the steps, mean over seeds. Right: each arm less the method, paired by seed. Bands: 95 % t intervals step by step; runs are smoothed over three steps first. Arms without a cell are left out, as is the band of a single seed."}, "image": {"alt": "Left, lines of the reward over 24 steps, one per arm that was run, rise together from about one half to about nine tenths. Right, their differences from the method lie within a few hundredths of zero, with bands that mostly hold it."}}
shown = [base, baseline, *(arm for arm in arms[1:] if there.get(arm, 0))]
if there.get(base, 0):
    curves = curve_table(cells, ["reward"])
    parts = [curves[curves["arm"] == arm] for arm in shown[:6]]
    course = evidence.course(pd.concat(parts), "reward", base)
    display(figures.course_figure(course, base, "sampled reward"))

# %% [markdown]
# ## Sweeps
#
# How much does it matter how strong, how long and how many? Each number is varied
# alone, two levels beside the method's own, with six seeds each. What the formulas say of
# them stands above.

# %% mystnb={"figure": {"name": "fig-sweeps", "caption": "The outcome over \u03b2, \u03b3 and \u03ba, less that of the method's own level (0), with t interval over paired seeds. Levels that were not run are left out."}, "image": {"alt": "Three panels with a point at zero for the method's own level of each number, and points with intervals where other levels were run."}}
sweep = ablations.sweep_table(outcomes, base, outcome)
run = sweep.dropna(subset=["low"])
if len(run):
    display(figures.sweeps_figure(sweep, f"{outcome} less {base}"))

# %%
print(f"{len(run)} of {len(sweep) - 3} levels were run with two seeds or more")
sweep.set_index(["number", "level"]).round(3)

# %% [markdown]
# Not much. No level's interval keeps off zero, and all of them end within two hundredths;
# for most that is wider than the margin, and so "not decided". A paper that picks the best
# of such levels by one seed each picks noise. Nor is there a sign that tuning these three
# would bring VGPO before DAPO.
#
# ## Run what is missing
#
# ```bash
# python -m vgpo.studies.experiments status ablations
# python -m vgpo.studies.experiments run ablations --workers 2
# python -m vgpo.studies.claims     # the ledger, from what is there now
# ```
#
# A cell takes some five minutes of one thread. Finished ones are kept, past any kill.
#
# With `live = True` one training of two steps is run here, by the code that makes every
# cell, with compensation over the whole chain.

# %%
if live:
    torch.set_num_threads(1)
    cell = next(c for c in plan.cells() if c.arm == f"{base}_full")
    small = replace(cell.run, steps=2, prompts_per_step=4, rollouts=4)
    cell = replace(cell, run=small, evaluation=QUICK)
    record = run_cell(cell, CHECKPOINTS["look_away"], Path(mkdtemp()))
    print(f"{ARMS[cell.arm].tells}: reward {record['outcomes'][outcome]}")
else:
    print("live = False: nothing was trained")

# %% [markdown]
# ## Exercises
#
# Predict first; then run the line with the environment active
# (`source .venv/bin/activate`), and look into `_build/tried`.
#
# **1.** In the small example, what does *inter only* give if the second rollout looks
# exactly as much as the first? Set `0.6` to `1.0` there.
#
# :::{dropdown} Solution
# 0/0: there is no range to scale by. The package gives $\phi = 0$ there, a factor
# of 1; so would anybody who has to pick.
# :::
#
# **2.** With the state that predicts a token, which arm moves the column `reads` the
# most? And what does compensation do to it: compare the method with `beta_0`.
#
# ```bash
# python book/build.py execute 07_ablations -p base vgpo_prediction
# ```
#
# :::{dropdown} Solution
# The one without the token term: reads then get 1.04 times the advantage, as
# everybody does, instead of 1.35. Without compensation they get *more*, 1.48:
# what is lifted in the tail stretches the range that all others are scaled by.
# :::
#
# **3.** With $\gamma = 1$ and $\beta = 0.3$, what is the most that compensation can add to
# a token's weight? Why can that not explain a loss of 11.8 points?
#
# :::{dropdown} Solution
# 30 % of it, at the last token; then $\psi$ is scaled to the range again. The order
# of the tokens hardly changes, so the gradient hardly does. If a training collapses
# from it, the reason lies elsewhere.
# :::
#
# ## Keep in mind
#
# - Taken apart, VGPO is two terms. Schedule, tail and gate change little of any
#   advantage, and training does as well with any level of them, or without the lift. The
#   term between rollouts costs what VGPO loses to DAPO here.
# - An ablation is a difference of differences: it takes more seeds than the method's
#   own comparison, not fewer.
# - "Not run" and "not decided" are results to print, not rows to drop.
