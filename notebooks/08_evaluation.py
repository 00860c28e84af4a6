# %% [markdown]
# # Did it help?
#
# VGPO gives more credit to words that look. Does a model trained with it answer more
# questions right than one trained without? Is it for the reason given? And does it
# look more?
#
# All numbers here are read from recorded trainings, in seconds. Every arm starts from
# the same model, sees the same prompts and samples with the same seed. So arms are
# compared by their difference, seed by seed.
#
# ## First result

# %% tags=["parameters", "hide-input"]
grid = "headline"  # which recorded grid: a file of recipes/experiments
world = "look_away"  # which of its worlds
baseline = "dapo"  # what the arms are compared with
live = False  # whether one small training is run here and now, half a minute

# %% tags=["hide-input"]
import json
import logging
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

logging.disable(
    logging.WARNING
)  # what the libraries say of features not used here

import pandas as pd
import torch
from IPython.display import display

from vgpo import figures
from vgpo.stats import seeds as stat
from vgpo.stats.power import detectable_by_sign_flips
from vgpo.studies import ablations, evidence, reported
from vgpo.studies.credit import credit_by_kind
from vgpo.studies.curves import grid_view
from vgpo.studies.experiments import load_runs, records
from vgpo.studies.experiments.arms import ARMS
from vgpo.studies.experiments.cells import run_cell
from vgpo.studies.experiments.evaluation import QUICK
from vgpo.studies.experiments.grid import read_grid
from vgpo.studies.experiments.report import cost_table, step_sizes
from vgpo.studies.experiments.runs import TRAINED_FAMILIES
from vgpo.studies.tables import token_table
from vgpo.testbed import CHECKPOINTS, WORLDS, load_tiny
from vgpo.testbed.answers import answer

pd.set_option("display.precision", 3)
experiments = Path("../results/experiments")
recipes = Path("../recipes/experiments")


def tell(name, outcomes, against=None, arms=None, **where):
    """What a whole grid says of its arms, outcome by outcome, in words."""
    its = read_grid(recipes / f"{name}.yaml")
    _, found = evidence.recorded(its, experiments)
    for column, value in where.items():
        found = found[found[column] == value]
    against = against or its.baseline
    rivals = [arm for arm in arms or its.arms if arm != against]
    for about, outcome in outcomes.items():
        table = evidence.planned_table(found, rivals, against, outcome)
        said = evidence.in_words(table, against)
        print(evidence.wrapped(said, about))


plan = read_grid(recipes / f"{grid}.yaml")
cells = records.grid_records(plan, experiments)
outcomes = records.outcome_table(cells)
outcomes = outcomes[outcomes["world"] == world]
counts = outcomes.groupby("arm")["seed"].nunique()
arms = ["dapo", "vgpo_token", "vgpo_prediction"]

# %% mystnb={"figure": {"name": "fig-arms", "caption": "Each arm less DAPO, paired by seed (in brackets: how many), with Student's t interval. An empty mark is a single seed, which has no interval."}, "image": {"alt": "Two panels of points with intervals, one row per arm. In reward both readings of VGPO, the placebo and the inverted score lie left of zero by about a hundredth, the oracle of decisions right of it. In accuracy all arms lie left of zero, within the margin or with intervals that reach beyond it."}}
main_outcomes = {
    "reward, all steps": "reward/area",
    "sampled accuracy": "accuracy/sampled",
}
tables = {
    name: evidence.compared(outcomes, outcome, baseline)
    for name, outcome in main_outcomes.items()
}
figures.arms_figure(tables, baseline)

# %%
columns = ["difference", "low", "high", "p_corrected", "detectable"]
for name, table in tables.items():
    for row in table[table["mixed"] > 0].itertuples():
        of = f"{row.mixed} of {row.seeds}"
        print(f"{name}, {row.arm}: {of} pairs of different commits")
for name, table in tables.items():
    print(name.upper())
    some = table[table["seeds"] > 1].set_index("arm")
    display(some[[*columns, "seeds", "verdict"]].round(3))

# %% [markdown]
# Read the last columns first. An interval that excludes 0 is not enough for a verdict:
# the sign-flip $p$, corrected by Holm for the arms of the table, has to be small as well.
# `detectable` is the smallest true difference that this rule finds four times in five
# with so many seeds. Where it is larger than what could matter, a wide interval is no
# news: the verdict is "not decided", and it speaks neither for the method nor against it.
#
# So this is what the table says. Both readings of VGPO earn about a hundredth *less* of
# the reward than DAPO does. The placebo, scores of the second reading in another order
# within each answer, does so too. For the paper's reading a placebo of its own settles
# whether it matters where the scores point, further below (B3 of
# [the claims](../book/claims.md)). In accuracy they are behind as well, by
# less than would matter. One less focus, `inverted`, loses as much as focus does: not even
# the sign matters. The one arm ahead of DAPO, in reward alone, is the oracle of decisions.
#
# Two outcomes were fixed before any arm was looked at: the sampled reward, averaged
# over all steps, and the sampled accuracy on held-out scans. Differences below 0.01
# and 0.02 would not matter. All else is secondary. At ten seeds the intervals of four
# arms crossed the margin of the reward: both readings of VGPO, the placebo and the oracle
# of decisions. Six more seeds of the first three and of DAPO were then planned, and run.
# That is a second look at the same question, for which the correction does not count.
#
# **In this chapter.** What are the arms? What is decided by so many seeds? What of a
# gain is sharpening? Does the model look more? Why does a perfect score not win? What
# was not trained, and stays? What has not been run?
#
# ## The arms
#
# | arm | what it tells |
# |---|---|
# | `grpo`, `dapo` | what there was before |
# | `vgpo_token`, `vgpo_prediction` | the method, scoring a token at its own state, or at the one that predicts it |
# | `vgpo_released`, `vgpo_mean` | its released code; without length in $\phi$ |
# | `oracle_reads`, `oracle_decides` | the *truth* in place of focus: which tokens read, which decide to look |
# | `shuffled` | placebo: the scores of `vgpo_prediction`, permuted within each completion |
# | `shuffled_token` | the same of `vgpo_token`, in a grid of its own |
# | `inverted` | one less focus: does the sign matter? |
#
# The oracles bound what any score can gain in this scheme. If they do not beat DAPO,
# no visual score can, and the search for a better one is over. The placebo has $\psi$
# of VGPO's spread that points at any token; its $\phi$, which sums the scores, is hardly
# changed. An arm that beats DAPO but not the placebo owes nothing to where it points.
#
# ## The course of training
#
# The paper's Fig. 4 has reward over the steps on the left, and accuracy on held-out
# questions over the steps on the right, for GRPO, DAPO and VGPO. Here is the left one.
# The reward is that of the *rollouts*: the share of right answers among all that a step
# sampled to learn from. Every step asks new questions, the same of every arm, but over
# the scans of training. The right one comes with the longer trainings
# ({numref}`fig-validation`). Arms with two seeds and more are drawn.

# %% mystnb={"figure": {"name": "fig-curves", "caption": "Left: sampled reward over the steps, mean over seeds. Right: each arm less DAPO, paired by seed. Bands: 95 % t intervals step by step; runs are smoothed over three steps first."}, "image": {"alt": "Left, lines of the reward over 24 steps rise together from about one half to about nine tenths, their bands on each other. Right, differences from DAPO within five hundredths of zero: the oracle of decisions lies above zero in the middle of training, the two readings of VGPO below it in the second half."}}
logged = ["reward", "rewards/looks/mean", "visual/phi_length_corr"]
curves = records.curve_table(cells, logged)
curves = curves[curves["world"] == world]


def drawn_course(column, names, label):
    names = [arm for arm in names if counts.get(arm, 0) > 1]
    some = pd.concat(curves[curves["arm"] == arm] for arm in names)
    found = evidence.course(some, column, baseline)
    return figures.course_figure(found, baseline, label)


drawn = [
    arm for arm in ["grpo", *arms, "oracle_decides"] if counts.get(arm, 0) > 1
]
drawn_course("reward", drawn, "sampled reward")

# %% [markdown]
# Left, all arms are one line: in a picture like the paper's nothing would be seen. The
# paired difference is what tells them apart. A band that leaves zero at one step is
# little news, as one in twenty does so by chance. The outcome that was fixed beforehand
# is the mean over all steps, in the table above.

# %% mystnb={"figure": {"name": "fig-looks", "caption": "Left: share of a tile's values that the chains of a step look up instead of recalling. Right: each arm less DAPO. Bands as in the figure above."}, "image": {"alt": "Left, lines of the share of values looked up over 24 steps rise together from about two thirds to nearly one. Right, differences from DAPO within three hundredths of zero: the oracle of decisions above zero for most of the training, the oracle of reads at zero and below it at the end, VGPO below."}}
with_truth = ["dapo", "vgpo_token", "oracle_reads", "oracle_decides"]
drawn_course("rewards/looks/mean", with_truth, "values looked up")

# %% [markdown]
# The same to touch: smooth the curves, leave arms out, and read the paired difference
# of each arm seed by seed.

# %% mystnb={"image": {"alt": "Learning curves of the arms, to smooth and to pick from; below, each arm less DAPO with its interval, and every outcome seed by seed."}}
grid_view(cells, baseline, arms)

# %% [markdown]
# Here is what the reward goes for: the model starts to *look*. In this world errors
# come from going on from memory, and a habit of looking repairs them. The reward is all
# it takes. No arm was told which words decide to look.
#
# Is training steadier with VGPO, as the paper's Fig. 8 shows for 32B? Here is the
# spread over seeds of each arm's outcomes. The ratio of two such spreads is known
# within a factor of 1.7 with sixteen seeds; C14 of [the claims](../book/claims.md) has the test.

# %%
steady = outcomes[outcomes["outcome"].isin(main_outcomes.values())]
steady = steady[steady["arm"].isin(drawn)]
steady.pivot_table(
    index="arm", columns="outcome", values="value", aggfunc="std", sort=False
).assign(seeds=counts).round(4)

# %% [markdown]
# ## Before and after, family by family
#
# The paper's Tables 1 and 2 have a column per benchmark. Here are its gains, VGPO less
# DAPO, in points of greedy accuracy, one seed each:

# %%
reported.gains()

# %%
methods = pd.DataFrame(reported.AVERAGES, ["mathematics", "vision"])
print("Means at 7B, in percent:")
print(methods.to_string())
benchmarks = [*reported.MATH, *reported.VISION]
for method in ("DAPO", "VGPO"):
    right = reported.ACCURACIES["7B", method][benchmarks.index("Counting")]
    counted = round(200 * right / 100)
    print(f"Counting, {method}:", stat.wilson_interval(counted, 200))

# %% [markdown]
# No interval is reported. Those of Counting, 200 questions, are ours, from the number of
# questions alone: they say nothing of another training. Ten points there are 2.5 of the
# 3.6 that VGPO gains in vision at 7B; without them the mean gain of the other three is
# 1.5 points.
#
# In this world a row is a part of the evaluation, with two controls (no picture, a grey
# one) and two degraded pictures.

# %% mystnb={"figure": {"name": "fig-before-after", "caption": "Share of right answers on held-out scans before (bar) and after training, mean over seeds with t interval. Only sums and counts were trained."}, "image": {"alt": "Rows of parts of the evaluation. After training, all arms stand together far to the right of the bar for sums and counts, and for families that were not trained; at the bar for questions without a picture and for a grey picture."}}
few = evidence.with_seeds(outcomes[outcomes["arm"].isin(arms)], 1)
parts = evidence.before_and_after(few, evidence.PARTS)
figures.before_after_figure(parts, arms)

# %%
parts.pivot(index="part", columns="arm", values="value").loc[
    list(evidence.PARTS.values())
].assign(before=parts.groupby("part")["before"].first()).round(3)

# %% [markdown]
# Four things stand out, whatever the arm. Families that were never trained gain as
# much: the habit carries over. Over a grey picture nothing is gained, so that the gain
# does come through the picture; hiding a third of the tiles costs most of it, as it
# must. On larger grids counts gain a tenth, and sums stay at the floor, .06 before and .04
# after: chains longer than those of training are hardly ever right. A reviewer asked about questions without a picture (R2 of [the claims](../book/claims.md)).
# A change below 0.05 would not matter there, a margin that was set when two seeds had
# been seen:

# %%
text = outcomes[outcomes["outcome"] == "accuracy/text"]
for arm, mine in text[text["arm"].isin(arms)].groupby("arm", sort=False):
    change = stat.t_interval((mine["value"] - mine["before"]).to_numpy())
    ends = f"[{change.low:+z.3f}, {change.high:+z.3f}]"
    print(f"{arm:16} {change.value:+z.3f} {ends}, {change.count} seeds")

# %% [markdown]
# ## Is it sharpening?
#
# A model that already knows the answer can be made to say it more often by lowering
# the temperature. Reinforcement learning may do no more than that. So every model is
# asked at several temperatures, before and after.

# %% mystnb={"figure": {"name": "fig-temperature", "caption": "Share of right answers over the temperature, before training and after (greedy and T = 1: 400 questions; between: 100)."}, "image": {"alt": "Before training the line is flat at about one half from temperature one to greedy. After training all arms lie at about nine tenths throughout."}}
sweep = evidence.before_and_after(few, evidence.TEMPERATURES, "temperature")
figures.temperature_figure(sweep, arms)

# %% [markdown]
# Before training no temperature helps: the errors are decisions, not noise. After it,
# all temperatures are better, greedy decoding too. This is more than sharpening.
#
# The first world is the counter-example. Here are both cold starts, untouched, on
# sums and counts, and what recorded trainings in the first world reach at T = 1:

# %%
starts = {}
for name in ("misread", "look_away", "look_away_wordy"):
    measured = json.loads(Path(f"../results/worlds/{name}.json").read_text())
    by_temperature = measured["measured"]["accuracy"]["all"]
    starts[name] = {f"T = {t}": i["value"] for t, i in by_temperature.items()}
runs = load_runs("../results/rl")
runs = runs[(runs["when"] == "after") & runs["family"].isin(["sum", "count"])]
for method, part in runs.groupby("method"):
    after = part["accuracy"].mean()
    print(f"misread, trained with {method}, T = 1: {after:.3f}")
pd.DataFrame(starts).T.round(3)

# %% [markdown]
# The misread model, merely sampled at 0.6, does better than the trained ones do at
# T = 1. There, reinforcement learning sharpens what the model already knows, and no
# visual method can show what it is for ([chapter 05](05_training.ipynb)). In the look-away world
# no temperature helps. That is why the arms are compared in this one.
#
# ## Does it look more?
#
# The paper's Fig. 6 shows attention on the image rising after VGPO. Here are 100
# answers to the same held-out questions.

# %% mystnb={"figure": {"name": "fig-attention-shift", "caption": "Distribution over answers of the image's share of attention, before and after, first seed; left the first half of an answer, right the second."}, "image": {"alt": "Cumulative curves. After training all arms lie to the right of the curve before, a little in the first half of an answer and clearly in the second, and on each other."}}
before = records.looking_table(experiments / "untrained")
after = records.looking_table(cells)
after = after[(after["world"] == world) & (after["seed"] == 0)]
answers = {"before": before[before["world"] == world]}
answers |= {arm: after[after["arm"] == arm] for arm in arms}
figures.attention_shift_figure(
    answers,
    {"image_first_half": "first half", "image_second_half": "second half"},
)

# %%
looking = {
    "looking/looks": "values looked up",
    "looking/image_at_reads": "attention on the image at reads",
    "looking/tile_at_reads": "attention on the tile that is read",
    "looking/image_second_half": "attention, second half",
    "looking/late_early": "late/early ratio",
    "looking/focus_at_reads": "focus (prediction) at reads",
}
table = evidence.before_and_after(few, looking, "quantity")
table.pivot(index="quantity", columns="arm", values="value").assign(
    before=table.groupby("quantity")["before"].first()
).round(3)

# %% [markdown]
# Attention rises in the second half, in every arm alike. It rises because *more* values
# are looked up, not because a look is stronger: at reads it is what it was. So a rise
# of attention after training is no sign of VGPO. It is what the reward asks for, and
# the comparison that counts is with DAPO (C13 of [the claims](../book/claims.md)).
#
# ## Steps of another size
#
# Re-weighting changes the size of a step, and a larger step may win by itself.

# %%
sizes = (
    step_sizes(outcomes, baseline)
    .set_index("arm")
    .drop(columns=["world", "setting"])
)
sizes.round(3)

# %% [markdown]
# Ratios to DAPO over the seeds that both have. AdamW divides a gradient by its own
# running size, so that a factor common to all steps changes nothing; a factor that
# comes and goes does. So there is one more arm: DAPO at 1.3 of its learning rate, as the
# largest of these ratios is 1.30 (the others were not matched one by one). Here is every
# arm less *that* one.

# %%
tell("larger_steps", main_outcomes)

# %% [markdown]
# A DAPO whose rate is a third larger earns nearly four hundredths more than DAPO: three
# times what a perfect score of decisions gains. It is ahead of that oracle too. So the
# gain of the oracle is nothing that a faster schedule could not give, and no proof that
# credit was better placed. VGPO is behind although its gradients are larger than DAPO's:
# larger steps are not what ails it. (Pairs "of different commits" are of two seeds or
# three, whose cells come from the first of all commits.)
#
# The rate of the main grid was chosen on GRPO alone, before any other arm was looked at.
# That is fair to all arms, and it is not DAPO's best. Does the order of the arms hold at
# *twice* that rate? Seven seeds were planned of DAPO and both readings:

# %%
tell("twice_the_rate", main_outcomes)

# %% [markdown]
# Twice the rate gives every arm eight hundredths of the reward. Between the arms nothing
# is found: VGPO is neither ahead nor, by what seven seeds can tell, behind. The reading by
# the state at a token may still lose a hundredth; the other one loses nothing that would
# matter. So the rate decides more than the method, and whatever the method costs
# at the first rate, the next one may hide. A paper that compares at a single rate has not
# shown that its method, and not its schedule, is better.
#
# ## Does it matter where the scores point?
#
# The placebo of the main grid shuffles the scores of the second reading. The paper's
# reading deserves its own: the scores of `vgpo_token`, in another order within each
# answer. Ten seeds of it were planned before one was run. Here are the method and DAPO,
# less that placebo.

# %%
tell("token_placebo", main_outcomes)

# %% [markdown]
# It does not matter, within a hundredth of the reward and two of accuracy. An answer whose
# tokens get their factors at random trains as well as one whose tokens get them by visual
# focus. And DAPO, which gives every token the same, earns nearly a hundredth more than the
# placebo does, as it does more than the method. So what the method does to a training here
# is not the work of looking.
#
# ## Why the truth about reads does not win
#
# The oracle of reads knows which words come from the picture. No visual score can know
# more. Yet it is not ahead of DAPO at the same rate. The oracle of decisions is, on the
# way. Three things could explain it: whom the credit goes to, how much noise comes with
# it, and how long the answers are.
#
# **Credit.** A method of this kind multiplies the advantage of a token by
# $(1 + \psi_t)(1 + \phi_i)$. The push on the token's logit is that times $1 - p$, where
# $p$ is how likely the token was. Here are 128 answers of the model before training.

# %%
model, processor = load_tiny(world)
rules = WORLDS[world]
asked = [
    e for e in rules.examples(8, TRAINED_FAMILIES, seed=90) for _ in range(8)
]
said = answer(model, processor, asked, temperature=1.0, seed=0)
tokens = token_table(model, processor, asked, said)
credit = credit_by_kind(tokens, [i // 8 for i in range(len(asked))])
credit.round(2)

# %% [markdown]
# `unsure` is the mean of $1 - p$; the last four columns are what the advantage is
# multiplied by, where DAPO has 1. Read two rows.
#
# *Values looked up.* Once the model has decided to look, it is sure of what it sees. The
# oracle of reads gives these words the most credit of all, and they can learn nothing
# from it.
#
# *Words that decide to recall, in wrong answers.* That is the mistake to unlearn. An
# answer that recalls has fewer reads, so a smaller $\phi$: the oracle of reads takes
# part of the *blame* from the very answers that looked away. The oracle of decisions
# nearly doubles it.

# %%
recall = credit.loc[("wrong", "words that decide to recall")]
sure = credit.loc[("right", "values looked up"), "unsure"]
print(f"values looked up, right answers: 1 - p = {sure:.3f}")
for arm in ("oracle_reads", "oracle_decides"):
    print(f"blame for deciding to recall, {arm}: {recall[arm]:.2f} of DAPO's")

# %% [markdown]
# The records agree. Here is, over all trainings, how many values were looked up, less
# DAPO's with the same seed, and the other two suspects.

# %%
suspects = ["vgpo_token", "vgpo_prediction", "shuffled", *with_truth[2:]]
suspects = [arm for arm in suspects if arm != baseline]


def less_baseline(outcome):
    found = evidence.compared(outcomes, outcome, baseline).set_index("arm")
    return found.reindex(suspects)


told_as = "{difference:+z.3f} [{low:+z.3f}, {high:+z.3f}]"


def told(outcome):
    return less_baseline(outcome).apply(
        lambda row: told_as.format(**row), axis=1
    )


phi = curves.groupby("arm")["visual/phi_length_corr"].mean()
why = {
    "looks, all steps": told("looks/area"),
    "looks, after": told("looking/looks"),
    "gradient": sizes["grad_norm/area"].reindex(suspects).round(2),
    "spread of reward": less_baseline("reward/area")["spread"].round(3),
    "φ with length": phi.reindex(suspects).round(2) + 0.0,  # no -0.0
    "length, after": told("length/sampled"),
}
pd.DataFrame(why).T

# %% [markdown]
# **Credit**, again: with the oracle of decisions the model learns to look sooner than
# with DAPO. With the oracle of reads it does not, and at the end it looks up fewer
# values ({numref}`fig-looks`). `gradient` (the norm, over DAPO's) has the reason in one
# number: credit for decisions makes it larger, as they can still learn, and credit for
# reads makes it *smaller* than plain DAPO's.
#
# **Variance.** The spread of the paired differences over seeds is smaller for both
# oracles than for VGPO. The oracle of reads does not lose by noise.
#
# **Length.** $\phi$ sums the scores of an answer. For VGPO, whose scores all lie close
# together, it is the length of the answer (`φ with length`), and it is so for the
# placebo, which sums the same scores. Both look up less than DAPO, by about as much. The
# truth is free of length, so length is not what holds the oracle of reads back. It is what
# holds VGPO back: here is the method without $\phi$, an ablation of
# [chapter 07](07_ablations.ipynb), less the method and less DAPO (Holm over all ablations).

# %%
recipe = read_grid(recipes / "ablations.yaml")
_, ablated = evidence.recorded(recipe, experiments)
for name, outcome in main_outcomes.items():
    method = "vgpo_token"
    for other in (method, "dapo"):
        table = ablations.ablation_table(ablated, method, other, outcome)
        said = evidence.in_words(table.loc[[f"{method}_intra"]], other)
        print(evidence.wrapped(said, about=name))

# %% [markdown]
# Without $\phi$, VGPO is DAPO, within four thousandths of the reward. The token term,
# which is what looks at the picture, neither helps nor harms. Answers get no longer or
# shorter with any arm: the term does not change lengths, it only weighs by them.
#
# And why does the oracle of decisions, ahead on the way, not end more accurate? There
# is nothing left to win.

# %%
mine = outcomes[outcomes["arm"] == baseline].groupby("outcome")["value"].mean()
answers = records.looking_table(cells)
answers = answers[(answers["arm"] == baseline) & (answers["world"] == world)]
looks, wrong = mine["looking/looks"], 1 - answers["right"].mean()
recalled = answers["reads"].mean() * (1 / looks - 1)
print(f"{baseline}, after: {looks:.3f} of the values are looked up.")
print(
    f"Values recalled, an answer: {recalled:.3f}; answers wrong: {wrong:.3f}."
)
print(
    f"So at least {1 - recalled / wrong:.2f} of the wrong ones recall nothing."
)
greedy, sampled = mine["accuracy/greedy"], mine["accuracy/sampled"]
print(f"Right: {greedy:.3f} greedily, {sampled:.3f} at T = 1.")

# %% [markdown]
# Most of what is wrong after training is wrong with every value looked up: slips of
# sampling, which greedy decoding mends. No score of looking can help there.
#
# So, for this scheme in this world: a better visual score cannot help, as the best one
# does not. A score of *decisions* can, a little and for a while. What it would have to
# find is the word before the look, not the look.
#
# ## Three times the steps
#
# Twenty-four steps are few. Does the order of the arms change if training goes on, or
# does one of them collapse? These were trained for 72, with all else the same. Every
# six steps they were asked 200 held-out questions, the same each time and of each arm.

# %% mystnb={"figure": {"name": "fig-longer", "caption": "Left: sampled reward over 72 steps, mean over seeds. Right: each arm less DAPO, paired by seed. Bands: 95 % t intervals step by step; runs are smoothed over five steps first."}, "image": {"alt": "Left, three lines of the reward over 72 steps rise together from one half to above 0.9 by step 30 and stay there. Right, both readings of VGPO less DAPO dip below zero around step 12 and are within a hundredth of zero from step 30 on."}}
longer = read_grid(recipes / "longer.yaml")
long_cells, _ = evidence.recorded(longer, experiments)
if long_cells:
    curves_72 = records.curve_table(long_cells, ["reward"])
    found = evidence.course(curves_72, "reward", longer.baseline, window=5)
    display(figures.course_figure(found, longer.baseline, "sampled reward"))

# %% mystnb={"figure": {"name": "fig-validation", "caption": "Left: share of 200 held-out questions that are answered right, at T = 1, over the steps of training; mean over seeds. Right: each arm less DAPO, paired by seed. Bands: 95 % t intervals; nothing is smoothed."}, "image": {"alt": "Left, three lines of held-out accuracy rise together from 0.44 to about 0.9 over 72 steps. Right, both readings of VGPO less DAPO within some hundredths of zero, with bands around zero."}}
if long_cells:
    asked_on_the_way = records.validation_table(long_cells)
    found = evidence.course(
        asked_on_the_way, "right", longer.baseline, window=1
    )
    display(figures.course_figure(found, longer.baseline, "held-out accuracy"))

# %%
tell(
    "longer",
    {
        "reward, 72 steps": "reward/area",
        "held out, on the way": "validation/area",
        "held out, at the end": "accuracy/sampled",
    },
)

# %% [markdown]
# Nobody collapses. DAPO is ahead between steps 8 and 25, while the model learns to look;
# by step 30 there is nothing between the three, on the rollouts or on held-out questions.
# That is what the shorter trainings said as well: the method costs time, not the end. Six
# pairs and two arms cannot find a difference ($p$ is .06 at best); what they do show is
# that in accuracy none would matter, on the way or at the end.
#
# ## In the world that misreads
#
# There the model looks, and writes another digit: errors are slips of reading. What do the
# arms do? Ten seeds, as planned, of DAPO, the paper's reading and the truth about reads, and
# six of the other reading; the rest of the plan was cut.

# %%
tell("headline_misread", main_outcomes)

# %% [markdown]
# Here the method does harm. Scored by a token's own state, it ends five hundredths less
# accurate than DAPO: the largest difference between two methods in this book, and one
# that six seeds had left undecided. Scored by the state that predicts a token, it is not
# behind; six seeds cannot say more.
#
# The oracle gives its credit to the very words that err here. After six seeds its
# interval of the reward kept off zero, with half as much again; after ten it touches it.
# If the truth helps at all, it is by a hundredth. (Six seeds that look like a result are
# the reason why ten were planned.)
#
# Two controls were then planned, of ten seeds each, before one was run. Is it the place of
# the scores that harms? Here are the method and DAPO less the same scores in another
# order within each answer. And gradients of the oracle are a third larger than DAPO's. So
# here are the arms less DAPO at 1.3 of its rate.

# %%
tell("token_placebo_misread", main_outcomes)
print()
tell("larger_steps_misread", main_outcomes)

# %% [markdown]
# The placebo loses what the method loses: DAPO is ahead of it by as much, and between the
# two nothing is found. So the harm does not come from looking at the wrong words. Larger
# steps are not found to gain anything in this world, and the oracle is not found to be
# ahead of them either.
#
# The method and its placebo share $\phi$, the term between answers, which is mostly their
# length. In the look-away world it was what the method lost by. So ten seeds of the method
# without it were planned, and run. Here is what it has over the method, and over DAPO.

# %%
tell("ablations_misread", main_outcomes, against="vgpo_token")
print()
tell("ablations_misread", main_outcomes)

# %% [markdown]
# Without $\phi$ the method gains five hundredths of accuracy on itself, and is DAPO within
# both margins. So in both worlds all that VGPO loses it loses by $\phi$. The other term,
# $\psi$, which is the one that looks at the picture, does nothing that ten seeds could see,
# for good or ill.
#
# ## Where most words bear on nothing
#
# The paper's premise is an answer most of whose words have nothing to do with the picture.
# So the look-away model was taught to think aloud as well, and trained from there: six of
# the ten planned seeds of DAPO and of the paper's reading, in the look-away world.

# %%
wordy = {"world": world, "setting": "wordy"}
tell("headline_words", main_outcomes, arms=["vgpo_token"], **wordy)

# %% [markdown]
# The method is behind there too, by as much as among few words. With more words to tell
# apart a visual score has more to say, and it earns no more by it.
#
# ## What a verdict would take
#
# How many seeds would decide? The spread of the paired differences says it. Here each arm
# is taken to be the only one that is asked about.

# %%
spread = tables["sampled accuracy"].dropna(subset=["spread"])
for arm, s in zip(spread["arm"], spread["spread"], strict=True):
    found = [detectable_by_sign_flips(n, s) for n in (5, 6, 10, 20)]
    print(f"{arm:16} 5, 6, 10, 20 seeds find", *(f"{d:.3f}" for d in found))

# %% [markdown]
# A spread that comes from a handful of seeds is itself uncertain by a factor of two or
# three. Five seeds find nothing, however large: all five pointing one way happens once in
# sixteen times by chance. A paper with one seed cannot know.
#
# ## Not recorded
#
# What was planned, and how many cells of it are there, cells of other grids with the
# same settings included. Whatever is short is short of a verdict, too.
#
# A training takes two to ten minutes of one thread, and time did not suffice for all. Cut
# were: in the world that misreads, GRPO, the released code, the mean, the inverted score,
# the placebo of the other reading, the neighbours, longer trainings, and all ablations but
# one; chains with fewer words; with more words, all but two arms of one world; and the
# ablations by the other reading of the score. In the world that misreads the other reading
# has six seeds where ten were planned, among more words both arms have, and in the
# look-away world one ablation has six of seven. Of a larger sibling, of 22 million
# parameters, there is the cold start, made on a GPU, and what it shows
# ([what was tried](../book/decisions.md)); its trainings were cut.

# %%
plans = sorted(recipes.glob("*.yaml"))
planned = [evidence.planned_cells(read_grid(p), experiments) for p in plans]
pd.concat(planned).set_index("grid").drop(columns="seeds")

# %% [markdown]
# The same command goes on where it stopped, and finished cells are never made again:
#
# ```bash
# python -m vgpo.studies.experiments run headline --workers 2
# python -m vgpo.studies.experiments report headline
# python -m vgpo.studies.claims     # the ledger, from what is there now
# ```
#
# The ablations have a chapter of their own, [chapter 07](07_ablations.ipynb).
#
# ## What it cost
#
# Seconds are those on the clock, of a machine that had other work to do at times.

# %%
cost = cost_table(cells).set_index("arm").round().astype(int)
print(
    f"{cost['cells'].sum()} cells, {cost['train'].sum() / 3600:.1f} hours of "
    "training on one thread"
)
cost

# %% [markdown]
# ## One small cell, live
#
# With `live = True` one training of two steps is run and evaluated on a handful of
# questions, by the code that made every cell above.

# %%
if live:
    torch.set_num_threads(1)
    cell = next(c for c in plan.cells() if c.arm == "vgpo_token")
    small = replace(cell.run, steps=2, prompts_per_step=4, rollouts=4)
    cell = replace(cell, run=small, evaluation=QUICK)
    record = run_cell(cell, CHECKPOINTS[world], Path(mkdtemp()))
    print(f"{ARMS[cell.arm].tells}: reward {record['outcomes']['reward/area']}")
else:
    print("live = False: nothing was trained")

# %% [markdown]
# ## Exercises
#
# Predict first; then run the line with the environment active
# (`source .venv/bin/activate`), and look into `_build/tried`.
#
# **1.** Which of the two oracles should win, the one of reads or the one of decisions?
# Look for the word that earns the reward; then at {numref}`fig-arms`.
#
# :::{dropdown} Solution
# What earns the reward is the decision, one or two words before the value. Credit
# given to the value is taken from it. So the second oracle should win, if any.
# :::
#
# **2.** Which arms are compared with VGPO, and with how many seeds each? Whose verdict
# would you trust?
#
# ```bash
# python book/build.py execute 08_evaluation -p baseline vgpo_token
# ```
#
# :::{dropdown} Solution
# Those that share a seed with it. One pair has no spread, so no interval; and what
# few pairs can find stands in `detectable`. DAPO and both oracles earn more reward
# than the method there.
# :::
#
# **3.** Compare two models question by question, in a cell at the end of this chapter.
# Why would even a small $p$ there say nothing about the methods?
#
# ```python
# rows = records.verdict_table([c for c in cells if c["seed"] == 0])
# rows = rows[rows["part"] == "greedy"]
# right = rows.pivot(index="question", columns="arm", values="right")
# stat.mcnemar(right["dapo"], right["vgpo_token"])
# ```
#
# :::{dropdown} Solution
# Of 400 questions the two disagree in two, $p$ = .5. It compares two trained models, of
# one seed each. Another seed gives two others. Questions make a run's value less noisy;
# only seeds speak about a method.
# :::
#
# ## Keep in mind
#
# - An upper bound and a placebo belong in the plan before the method does.
# - "Not decided" is a verdict: look at what could have been found. And before a method is
#   praised for a hundredth, see what a third more of the learning rate does.
# - Accuracy, looks and attention all rise with the reward alone. Compare with DAPO, not
#   with before.
