# %% [markdown]
# # Which signal finds the tokens that need the image?
#
# Every method of this book's family weights tokens by something it can measure:
# a cosine, attention, what a masked picture takes away, entropy. Whether that finds the
# tokens that depend on the image, nobody can say on real data. On the small worlds the
# truth is known.
#
# **In this chapter.** All signals of one answer; their grades against true reads;
# whether they notice that the model does *not* look, or find the word that decides
# to; length and cost; and what each method does to one completion.

# %% tags=["parameters", "hide-input"]
questions = 6  # questions per family that are graded live
samples = 2  # sampled answers to each
rollouts = 8  # of the group whose advantages are compared
seed = 90  # names the sequence of questions
records = "../results/signals"  # recorded grades, of many more answers

# %% tags=["hide-input"]
import pandas as pd

import vgpo
from vgpo import figures, testbed
from vgpo.studies import signals as study
from vgpo.studies.signals.methods import BONUS, METHODS
from vgpo.studies.signals.record import LAGGED, SignalStudy
from vgpo.testbed.answers import answer

pd.options.display.float_format = "{:.2f}".format


def by_signal(table, columns, values="auroc"):
    """A row per signal, a column per value of ``columns``."""
    wide = study.wide(table, columns, values)
    return wide.rename_axis(index="signal", columns=None)


# %% [markdown]
# ## All signals of one answer
#
# The model of the world that looks away ([chapter 00](00_testbed.ipynb)) answers one
# question, and one call measures all that the methods would see. The same call takes
# other models ([which were tested](../book/families.md)).

# %%
model, processor = testbed.load_tiny("look_away")
world = testbed.WORLDS["look_away"]
example = world.example(3, family="sum", seed=91, split="heldout")
print(example.question)
one = vgpo.signals(model, processor, example.image, example.question)
shown = ["focus_token", "focus_prediction", "attention_last", "k3", "contrast"]
one = one.set_index("position")
one[["token", *shown, "layer_cosine", "entropy"]][1:8]

# %% [markdown]
# The `3` at position 5 was read off the picture. There attention, `k3` and `contrast` rise
# far above the rows around it. `focus_prediction` has its highest score there, 0.70;
# `focus_token` has the same 0.70 one row up, at the equals sign.
#
# Each column is what one method goes by. VGPO takes `focus_token` (its code) or
# `focus_prediction`; PAPO and VPPO take `k3`, the log-probability a masked
# picture removes, bent to be positive; SRPO takes `contrast` itself; PEPO
# `layer_cosine`; entropy shaping `entropy`. Two more stand in the next table: ToR takes
# `absolute_contrast`, to no picture at all; VEPO compares whole distributions
# before a noisy picture, `jsd`. Attention is nobody's signal, since
# fast kernels never form it, and the natural thing to compare with.
#
# ## Graded by the truth
#
# The study adds what those columns lack: the other place of each state, a rule
# on the text, a grey picture, chance. And a causal reference: hide one entry of the
# picture at a time, and take how far the token's whole distribution moves (a
# Kullback-Leibler divergence, the largest over the entries). Answers are sampled,
# as in training.

# %%
small = SignalStudy(
    "look_away", questions=questions, samples=samples, seed=seed
)
asked, number = small.asked()
table = study.signal_table(
    model, processor, asked, small.answers(model, processor), number
)
live = study.grade(table, parts=False, resamples=200)
live = live[live["against"] == "reads"]
live = study.labelled(live).set_index("label").rename_axis("signal")
live[["auroc", "low", "high"]]

# %% [markdown]
# AUROC is the chance that a token that reads the picture scores above one that
# does not: 1 is perfect, 0.5 is blind, below 0.5 points away. Intervals draw
# whole questions again; of so few, a grade near 1 has no interval worth the
# name (hardly a pair is out of order). The grades from here on are
# recorded (`python -m vgpo.studies.signals`).

# %%
found = {
    name: study.load_measured(records, name)
    for name in ("look_away", "misread")
}
pd.DataFrame(
    {
        (name, stage): about
        for name, measured in found.items()
        for stage, about in measured.record["stages"].items()
    }
).drop(index="answers").rename(lambda name: name.replace("_", " "))

# %% mystnb={"figure": {"name": "fig-signal-grades", "caption": "Three questions to every signal, look-away world, cold start. Dashed: a rule on the text, \"the token before is =\"."}, "image": {"alt": "Three panels of AUROC with intervals for nineteen signals. Attention at t minus 1 and the hidden tile are near one in all three. Focus at t lies below one half for reads. Focus at t minus 1 is high for reads and no better than over a grey picture when looked up and remembered values are compared."}}
grades = found["look_away"].grades
cold = grades[(grades["stage"] == "cold start") & (grades["part"] == "all")]
titles = {
    "reads": "reads, among all",
    "numbers": "reads, after =",
    "looked": "looked or recalled",
}
panels = {
    title: study.labelled(cold[cold["against"] == name])
    for name, title in titles.items()
}
rule = cold[cold["signal"] == "rule"].set_index("against")["auroc"]
figures.signal_grades_figure(panels, {t: rule[n] for n, t in titles.items()})

# %% [markdown]
# The panels ask harder and harder questions.
#
# **Reads among all tokens** is the usual one, and an easy one: a rule on the
# text reaches .95 without any picture. Attention at $t-1$ is perfect, the
# degraded views reach .93 to .97, focus at $t-1$ .84. VGPO's focus at its
# default place falls to .33: it ranks reads *below* the rest.
#
# **Reads among numbers after an equals sign**: quoted values, remembered ones
# and results stand in the same place, so the rule says nothing. Attention and
# the views by log-probability lose nearly nothing. Focus at $t-1$ falls to .74;
# over a grey picture it still has .67.
#
# **Looked up or remembered** is the question that matters to a method against
# forgetting: did the model look at the tile this value should come from?
# Attention knows, without an error. A masked picture knows (.91): what was not
# looked up is not lost. PEPO's cosine would know at $t-1$ (.95), for it sees all
# layers; at $t$, where PEPO takes it, it does not. Focus at $t-1$ has .69, and
# .70 *over a grey picture*, where nothing can be looked up at all. What it knows
# of this it has from the text.
#
# ## By family, and along the chain

# %%
parts = grades[
    (grades["stage"] == "cold start") & (grades["against"] == "reads")
]
by_signal(parts, "part")

# %% [markdown]
# The order of signals is much the same in every family and in every fifth of
# the chain (the last fifth holds few reads). It is a property of the signal,
# not of the place.
#
# ## The word that decides
#
# A value that was looked up owes it to the word before the colour: there the
# model chose. If a reward is to teach looking, that is the token to credit.
# `decides` asks whether a signal finds those words among all tokens, `chooses`
# whether it is higher where the word chooses to look.

# %%
choice = cold[cold["against"].isin(["decides", "chooses"])]
by_signal(choice, "against")

# %% [markdown]
# **Entropy** finds these words best (.95), for what marks a decision is that the
# model is undecided. Signals that measure *any* change under another picture
# find them too (k3 .83, JSD .76, even the hidden tile): an undecided
# distribution is moved by anything. Only the signed contrast is blind to them.
# Attention points away, as the model reads the question there.
#
# And hardly any knows what the word chooses. Attention over all layers has .75,
# but .73 is there over a grey picture; PEPO's cosine at $t-1$ has .66. All others
# lie near one half or well below it: entropy and the degraded views are *higher*
# where the model goes on from memory. A weight by such a signal credits the decision to look away at
# least as much as the decision to look. The advantage's sign has to tell the
# two apart, and a signal of looking arrives two tokens too late to help.
#
# ## The other world, and a network that knows nothing
#
# The same in the world that misreads, where every value is looked up; and, as
# a null, the same answers through a network that was never trained.

# %%
everywhere = pd.concat(
    measured.grades.assign(world=name) for name, measured in found.items()
)
reads = everywhere.query("part == 'all' and against == 'reads'")
by_signal(reads.assign(at=reads["world"] + ", " + reads["stage"]), "at")

# %% [markdown]
# The order is that of the first world, but for entropy: in the misread world
# the model is undecided *at* its reads, so that entropy looks like a visual
# signal there. In the untrained network no signal of the model passes .63:
# what they know elsewhere was learnt.
#
# In the misread world the model always looks and at times says something else,
# so one more question can be put: is the signal higher at values read *rightly*?

# %%
faithful = everywhere.query(
    "against == 'faithful' and stage == 'cold start' and world == 'misread'"
)
by_signal(faithful, "world")

# %% [markdown]
# What was said can be told from what was seen by the token's own probability
# alone, through `contrast` (.98): a slip is less likely with the picture than
# without it, and the contrast turns negative. Attention hardly tells (.64), as
# it was there in both cases.
#
# ## After training
#
# Training moves the policy, and with it all that is measured of the policy.
# Sixteen steps of DAPO on sums and counts, from the same cold start, and the same
# questions again:

# %%
stages = ["cold start", "trained"]
compared = ["reads", "numbers", "decides"]
after = grades.query(
    "part == 'all' and stage in @stages and against in @compared"
).sort_values("against", kind="stable")
by_signal(after.assign(at=after["against"] + ", " + after["stage"]), "at")

# %% mystnb={"figure": {"name": "fig-signal-training", "caption": "The same signals before and after training, look-away world. Dashed: the rule on the text."}, "image": {"alt": "Four panels of AUROC for each signal, with intervals: reads before and after training, which look alike, and the words that choose whether to look, for which the degraded views and the hidden tile are lower after training and entropy is not."}}
panels = {
    f"{name}, {when}": study.labelled(
        after[(after["against"] == name) & (after["stage"] == stage)]
    )
    for name in ("reads", "decides")
    for when, stage in zip(("before", "after"), stages, strict=True)
}
ruled = {
    t: p.set_index("signal").loc["rule", "auroc"] for t, p in panels.items()
}
figures.signal_grades_figure(panels, ruled)

# %% [markdown]
# The policy has changed a good deal. Sampled answers are right in .86 of cases
# instead of .57, and every value is looked up, where .65 of them were.
#
# The grades of *reads* hardly move, none by more than .05, which is within the
# intervals. What a signal finds is a matter of what it measures, and training of
# this length does not change that. Position $t$ still points away.
#
# The grades of *decisions* fall, for the views most: JSD .76 to .61, k3 .83 to .73,
# the hidden tile .77 to .62. There is less left to decide, as the word always
# chooses to look, and what is left is which of several words says so. That hangs
# on the picture no more than other words do. Entropy still marks the place (.93),
# so after training it marks a free choice of words.
#
# `looked` and `chooses` cannot be asked any more, for want of anything recalled.
#
# In the world that misreads, training teaches to say what was seen: values are
# read rightly in .89 of cases instead of .79. `contrast` then finds reads better
# (.92, from .85), for it was the slips, less likely with the picture than without
# it, that stood at the wrong end. The signals of other methods move by .05 at most.
#
# ## Against occlusion, VGPO's choice, and length
#
# `spearman` is the rank correlation with the causal reference, within answers.
# Then, of the fifth of tokens with the highest score: how many VGPO would choose
# too (by chance, .2), and how many read or decide. `length` is how much of the
# *sum* of a signal over an answer is its length, among answers to one question;
# VGPO's trajectory term takes such a sum.

# %%
summaries = found["look_away"].summary
summaries = summaries[summaries["stage"] == "cold start"]
by_signal(summaries, "quantity", "value")

# %% [markdown]
# Three things. The sum of focus *is* the length (.99; so is that of shuffled
# focus), as it adds a number near one half for every token. Signals that are 0
# on most tokens are free of that: k3 .10, JSD .03. Next, a fifth of an answer is
# several times what reads make up here, so even the truth would fill its choice
# mostly with others; focus at $t$ chooses no read at all. Last, beware of rank
# correlations over *all* tokens: entropy agrees with the causal reference at
# .86 and attention at -.13, though attention finds the reads and entropy does
# not. Most tokens hang on the picture hardly at all, and how a hardly differs
# from another is a matter of certainty.
#
# ## What it costs

# %%
pd.DataFrame(found["look_away"].record["costs"]).set_index("measurement")

# %% [markdown]
# `passes` are forward passes beyond the one that every training makes to score
# its rollouts, `time` is that of scoring and measuring as a multiple of VGPO's.
# A degraded view doubles the scoring, and so does attention. Beside generation
# and the backward pass that is small, and it is the price of a better signal.
# The reference, one pass per entry of the picture, is for worlds like this one.
#
# ## Why the default points away
#
# VGPO's code scores a token by the state *at* its position. Take any state,
# and ask for which token, before or after, it is a good detector:

# %% mystnb={"figure": {"name": "fig-signal-lags", "caption": "Values read, scored by the state some places before or after."}, "image": {"alt": "Two panels, one per world, with three lines each over places from minus three to plus three. Focus and attention peak at minus one, the state that writes the value, and lie below one half at zero, the state that has read it."}}
panels = {
    name.replace("_", " "): measured.lags.query("stage == 'cold start'").assign(
        label=lambda lags: lags["signal"].map(LAGGED)
    )
    for name, measured in found.items()
}
figures.signal_lags_figure(panels)

# %% [markdown]
# The state that looks is the one *before* the value, at the equals sign: it is
# about to write what it sees. At the value's own position the looking is over,
# and the state is about the full stop to come. So position $t$ scores the token
# before the read, and gives the read its successor's score. It is no matter of
# cosines: attention drops from 1.00 to one half and below in the same step.
#
# ## One completion, all methods
#
# Last, what follows for the advantages. One question, a group of rollouts, the
# advantages of the group, and every method of the package on the same signals.
# The completion is a wrong one: it looked twice, then went on from memory.

# %%
completions = answer(model, processor, [example] * rollouts, 1.0)
group = study.shaped_by_methods(model, processor, example, completions)
kinds = pd.crosstab(group.tokens["row"], group.tokens["source"])
blamed = group.advantages.numpy() < 0
both = kinds[blamed & (kinds["memory"] > 0)]
chosen = both["image"].idxmax()  # of those, the one that also reads most
shown = group.of(chosen)
print("asked:   ", example.question, "answer:", example.answer)
print("answered:", completions[chosen])

# %% mystnb={"figure": {"name": "fig-methods-tokens", "caption": "What each method multiplies the (negative) advantage of this completion by; in the last row, what PAPO adds. Factors within 0.05 of 1 are left blank; words are coloured and marked by where they come from."}, "image": {"alt": "A table of coloured cells, methods by tokens. VGPO's factors vary over all tokens without regard to reads, VPPO keeps two fifths of the tokens and sets the rest to zero, PEPO is blank nearly everywhere, entropy shaping halves the blame of undecided words, and PAPO's bonus stands on values that were read."}}
figures.methods_figure(shown, list(METHODS), BONUS)

# %%
by_source = group.by_source().T.round(2) + 0.0  # no "-0.00"
by_source.rename_axis(index="method", columns="source of the tokens")

# %% [markdown]
# Means over all rollouts of the group, by where tokens truly come from. VGPO's
# two alignments are one row, shifted by a place: at $t$ reads get less than
# most, at $t-1$ more, and so does filler. VPPO switches most of the text off; reads stay,
# and so do decisions and filler. PEPO's factors are so near 1 that it is DAPO
# in all but name. Entropy shaping moves undecided words only, and in a wrong
# answer it takes blame *off* them, as its bonus is positive and the advantage
# is not. SRPO, as we read it, lifts reads, and results that hang on them.
#
# PAPO's bonus $\gamma\,(1 - \pi_{mask}/\pi)$ is no factor: it is added to right
# and wrong answers alike. It stands on reads and on nothing else, and is at most
# $\gamma$, which is .01 beside advantages near 1. One mask serves all, and it
# leaves some tiles legible: a read of such a tile gets nothing.
#
# ## What these grades are not
#
# A good detector need not make a good weight. These are grades on worlds of our making,
# with short words around each read, before and after a few steps of training. What
# weighting by a signal does to a model is for [chapter 08](08_evaluation.ipynb).
#
# ## Exercises
#
# Predict first; then type the lines into a cell at the end, or run the command with the
# environment active (`source .venv/bin/activate`).
#
# **1.** Focus at $t$ has an AUROC of .33 for reads. Turned round, $1 - \rho$, it has
# .67. Is that a detector? Look at the second and the third question before you answer.
#
# ```python
# by_signal(cold[cold["signal"] == "focus_token"], "against")
# ```
#
# :::{dropdown} Solution
# No. .67 is far below the rule on the text (.95), and of numbers after an equals sign
# it leaves .44, of values looked up or remembered .51: less than a coin. What is wrong
# with position $t$ is not a sign. It is the place, as the figure over places shows.
# :::
#
# **2.** VGPO's gate chooses a fifth of a tail. Let a signal choose a fifth of *all*
# tokens: what share of its choice can be reads at most, if reads are as rare as here?
# Which signals reach it?
#
# ```python
# found["look_away"].record["stages"]["cold start"]["reads_share"] / 0.2
# by_signal(summaries[summaries["quantity"] == "reads_chosen"], "quantity", "value")
# ```
#
# :::{dropdown} Solution
# Reads are 3 % of the tokens, so at most 15.5 % of a fifth. Attention, occlusion, JSD
# and the rule reach it, k3 nearly. Focus at $t - 1$ has 11 %, where chance would have 3
# %. With a choice this wide, five tokens in six are not reads, whatever the signal.
# :::
#
# **3.** `shuffled` is focus with its values dealt out anew within each answer. Predict
# its AUROC for reads, and how much of its sum over an answer is length.
#
# ```python
# by_signal(cold[cold["signal"] == "shuffled"], "against")
# by_signal(summaries[summaries["signal"] == "shuffled"], "quantity", "value")
# ```
#
# :::{dropdown} Solution
# AUROC .51, and .99 of the sum is length. As a signal of tokens nothing is left of it;
# as a signal of answers it is as good as the real one, since a sum does not ask in
# which order it is added up. So VGPO's $\phi$ could not tell the two apart.
# :::
#
# ## Keep in mind
#
# - To weight *reads*, take attention at $t-1$ where it can be had, else what a
#   masked picture takes from the log-probability. Both know whether the model
#   looked, and the second needs no attention weights.
# - Focus at $t-1$ knows where a read belongs. It does not notice that the look
#   did not take place, which is what forgetting is. At $t$ it points away.
# - Whether to look is decided *before* the read. Entropy marks the place and no
#   signal marks the choice. Whether credit belongs there is for training to say.
