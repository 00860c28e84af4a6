# %% [markdown]
# # Visual focus
#
# **In this chapter.** VGPO needs to know which words of an answer lean on the image,
# and asks the model itself: a token counts as *visual* when its hidden state points
# the way the image's states point. One mean and one cosine per token, in a forward
# pass that training runs anyway. *Is it true?* The answer in one line: **the score
# knows where a number comes next; it does not notice when the picture is gone.**

# %% tags=["parameters", "hide-input"]
checkpoint = ""  # folder of another cold start; "" takes the shipped one
questions = 40  # held-out questions per family that are scored
changed = 16  # questions per family asked again over changed pictures
verbosity = 0.3  # how often filler words follow a step
seed = 50  # names the sequence of questions

# %% tags=["hide-input"]
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA

import vgpo
from vgpo import figures, testbed
from vgpo.stats.intervals import (
    auroc_interval,
    correlation_interval,
    mean_interval,
)
from vgpo.studies import focus as focus_study
from vgpo.studies.controls import rule_and_grey
from vgpo.studies.focus import ALIGNMENTS, ROLES, auroc_by
from vgpo.studies.tables import table_beside_controls
from vgpo.testbed import IMAGE_FAMILIES, World
from vgpo.testbed.changes import blank, perturb

torch.set_printoptions(precision=2, sci_mode=False, linewidth=78)

# %% tags=["hide-input"]
folder = Path(checkpoint) if checkpoint else testbed.CHECKPOINT
model, processor = testbed.load_tiny(folder)
world = World(verbosity=verbosity)
examples = [
    world.example(i, seed=seed, split="heldout", family=family)
    for family in IMAGE_FAMILIES
    for i in range(questions)
]

# %% [markdown]
# ## First result
#
# Answers of the small model's world ([chapter 00](00_testbed.ipynb)), in which some
# tokens name a value that stands in the picture, and it is known which. AUROC is the
# chance that a token that does scores above one that does not: 1 is perfect, 0.5 is
# blind, and *below* 0.5 the score points the wrong way.

# %%
controls = rule_and_grey(model, processor, examples)
controls = controls.set_index(["against", "score"])
controls.loc["all others", ["auroc", "low", "high"]].round(2)

# %% [markdown]
# Read by the state that *predicts* a token, the score finds the values nearly without
# error. So does a rule on the text, "the token before is `=`", with the picture turned
# over. And over a *grey* picture the score finds them as well as ever. Read by the
# token's own state, as the released code has it, the score points away from them. The
# chapter takes this table apart.
#
# ## Two equations
#
# The *visual prototype* is the mean of the last-layer states $h_j$ at the image
# tokens $V$ (Eq. 3), and the *visual focus score* of a token is its cosine to
# it, moved to $[0, 1]$ (Eq. 4):
#
# $$
# \mu_v = \frac{1}{|V|} \sum_{j \in V} h_j, \qquad
# \rho_{t} = \frac{\cos(h_{t}, \mu_v) + 1}{2}
# $$
#
# Five states in the plane: two image tokens, then three tokens of an answer.

# %%
states = torch.tensor(
    [[2.0, 0.0], [1.0, 1.0], [3.0, 1.0], [-1.0, 3.0], [-0.3, -0.1]]
)
in_image = torch.tensor([True, True, False, False, False])

mu = states[in_image].mean(dim=0)  # Eq. 3
answer = states[~in_image]
cosine = answer @ mu / (answer.norm(dim=1) * mu.norm())
rho = (cosine + 1) / 2  # Eq. 4
print("prototype:", mu)
print("focus:    ", rho)

# %% [markdown]
# The first answer token points along the prototype, the second stands at a
# right angle to it (0.5, not 0), and the third is small but points away: length
# does not count. The package does the same for a batch of sequences, with
# padding, rows without an image and 16-bit states thought of:

# %%
prototype = vgpo.visual_prototype(states[None], in_image[None])
focus = vgpo.visual_focus_score(answer[None], prototype)
torch.testing.assert_close(prototype[0], mu)
torch.testing.assert_close(focus[0], rho)

# %% [markdown]
# ## In three lines

# %%
example = world.example(5, family="sum", split="heldout")
scores = vgpo.score(model, processor, example.image, example.question)
scored = scores.to_frame().set_index("position")
both = ["token", "focus_token", "focus_prediction"]
scored.sort_values("focus", ascending=False)[both].head(6).round(2)

# %% [markdown]
# Other models go the same way. What is needed: the states of the last layer, an image
# token that stands in the prompt once per piece of the image, and a processor with a
# chat template. Tested are small random models of [some thirty
# families](../book/families.md), Qwen's, InternVL, Gemma 3 and LLaVA among them; that
# page says which are refused and why. None was run here at its full size. Without a
# `completion` the model answers first. `focus` is the score in use, here `focus_token`.
# Now look at the tokens that lead: they are not the numbers that were read off the
# picture. That is the subject of this chapter.
#
# ## Which state stands for a token?
#
# A model writes token $t$ from the state at position $t - 1$. The state at
# position $t$ has already *read* it, and is at work on what comes next. The
# paper's $h_{i,t}$ can be either. The released code takes position $t$, and so
# does this package by default (`alignment="token"`); the other choice is
# `alignment="prediction"`.

# %%
positions = torch.arange(8.0).reshape(1, 8, 1)  # stands for states 0 to 7
for alignment in ("token", "prediction"):
    chosen = vgpo.completion_states(positions, 3, alignment=alignment)
    print(f"{alignment:10}", chosen.flatten().tolist())

# %% [markdown]
# They are the same states, handed to tokens one place apart. From here on every
# token is scored both ways. The completions are reference chains without
# slips, written over scans the model never saw, so that each read is known.
#
# A token's *role* says what it does in the chain `red = 5 . blue = 8 . 5 + 8 = 13`. The
# first 5 and the first 8 are *values read*; `5 + 8` *repeats* them, and 13 is a *result*.
# A colour is *read* where the chain finds it on the picture, *asked* where the question
# named it, and *repeated* later on. What is left are equals signs, other *syntax*, and
# *filler*.

# %%
table = table_beside_controls(model, processor, examples)
table["role"] = focus_study.token_roles(table)
reads = table["role"].isin(ROLES[:2])
print(f"{len(table):,} tokens, {reads.mean():.0%} of them read the image")

# %% mystnb={"figure": {"name": "fig-focus-chain", "caption": "One chain, scored at t and at t \u2212 1; colours are the true sources. The lower panel is the upper one, one place to the right."}, "image": {"alt": "Two bar charts over the tokens of one chain. Scored at position t, the equals signs before a value stand out and the values read are low; scored at t minus 1, the values read stand out."}}
shown = int(np.argmin([abs(len(e.chain) - 30) for e in examples]))
figures.focus_chain_figure(table[table["row"] == shown])

# %% [markdown]
# At $t$ the bars that stand out are equals signs. At $t - 1$ they are the
# values read from the picture.
#
# ## Against the truth
#
# Now all tokens that read the image, values and names of colours, against those that
# do not. Beside the two alignments stand two that cannot see: the score at $t - 1$ over
# a grey picture, and the rule. Intervals here and below are 95 % bootstraps over
# completions.

# %%
blind = {"grey picture": "grey_prediction", "= before": "rule"}
table["fifth"] = np.minimum((table["t"] - 1) * 5 // table["length"], 4)
by_family = auroc_by(table, "family", ALIGNMENTS | blind)
by_fifth = auroc_by(table, "fifth", ALIGNMENTS | blind)
wide = by_family.pivot(index="family", columns="score", values="auroc")
wide[[*ALIGNMENTS, *blind]].round(2)

# %% mystnb={"figure": {"name": "fig-auroc", "caption": "How well focus tells reads of the image from all other tokens, per family and along the chain. Empty marks: the score at t \u2212 1 over a grey picture, and a rule on the text."}, "image": {"alt": "Two panels of AUROC with intervals. The score at t lies at or below one half in every family and along the whole chain; the score at t minus 1 lies far above it, highest for charts and comparisons. Empty marks, of a grey picture and of a rule on the text, lie close to the score at t minus 1."}}
figures.auroc_figure(by_family, by_fifth)

# %% [markdown]
# The default of the released code does not merely fail to find the tokens that
# read the image: it ranks them *below* the others, except in charts, where it
# is blind. One position earlier the same cosine is a good detector, at the end
# of a chain as at its start (the last fifth holds few reads, hence its wide
# interval). It is best in the families whose only reads are values, and less
# good where chains also name the colours of tiles nobody asked for. The empty marks
# follow it from family to family, so what makes reads easy to find is mostly not the
# picture. Only in counting does the true picture add something.

# %%
for kind in ROLES[:2]:
    some = table[(table["role"] == kind) | ~reads]
    for name, column in (ALIGNMENTS | blind).items():
        auroc, low, high, _ = auroc_interval(
            some[column], some["role"] == kind, some["row"]
        )
        print(f"{kind:12} {name:12} {auroc:.2f} [{low:.2f}, {high:.2f}]")

# %% [markdown]
# So it is values that are found. Naming a colour is as much a read of the image, and at
# $t - 1$ it is found far less surely. But what is found of colours comes through the
# picture: over a grey one the score tosses a coin, as does the rule on `=`, which
# stands before no colour.
#
# ### Two things that know nothing of the picture
#
# 0.98 sounds like sight. But in the table at the top the rule finds the values as well
# as the score does, and over a uniformly grey picture, on which there is nothing to
# read, the score finds them no worse than over the true one. It says "here a number
# from the picture belongs", and goes on saying so when there is no picture. Is there a
# comparison in which the rule must fail?

# %%
columns = ["auroc", "low", "high", "reads", "others"]
controls.loc["results", columns].round(2)

# %% [markdown]
# These are *results*, the numbers that also follow an equals sign but are worked out
# from the text: both have `=` before them, so the rule can only toss a coin.
# There the score keeps its hold, and so does the score over the grey picture. It
# tells a look-up from a sum, then, by the place in the chain: after `red =` comes a
# look-up, after `5 + 8 =` a sum.
#
# So an AUROC of 0.98 is evidence that the score knows *where* reads stand. It is none
# that it sees whether one *took place*. The paper's claim needs the second.
#
# ## Why: the states themselves
#
# Every value is preceded by a colour and an equals sign. Here is the mean focus
# of the states around it:

# %% mystnb={"figure": {"name": "fig-lags", "caption": "Focus around a value read from the image: mean and middle 80 % of reads."}, "image": {"alt": "A line with one sharp peak at the position before the value, where the equals sign stands, and a low at the value itself."}}
figures.focus_around_reads_figure(focus_study.focus_around_reads(table))

# %% [markdown]
# One state has the peak: the one at the equals sign, which is about to write
# the value. One step later the value is written, and the state is about the
# full stop to come. So the score at $t$ gives the credit for a read to the
# token before it, and to the read what belongs to its successor.
#
# Next, the states as points: the image's own, and those of the chains, named by
# what they are *about to write*.

# %%
chains = focus_study.chain_states(model, processor, examples)
names = {
    "value read": "about to read a value",
    "colour read": "about to name a colour",
    "result": "about to write a sum",
    "number repeated": "about to repeat a number",
}
kinds = table["role"].map(names).fillna("about to write other text")
kinds = np.r_[["image token"] * len(chains.image), kinds]

# %%
points = torch.cat([chains.image, chains.before]).numpy()
plane = PCA(2).fit_transform(points)
points = pd.DataFrame({"x": plane[:, 0], "y": plane[:, 1], "kind": kinds})
points["cosine"] = focus_study.cosines(chains, table["row"])
order = ["about to write other text", *names.values(), "image token"]
points["kind"] = pd.Categorical(points["kind"], order)
points = points.sort_values("kind", kind="stable")

# %% mystnb={"figure": {"name": "fig-states", "caption": "Left: last-layer states on the two axes along which they vary most. Right: the cosine of each with its picture's prototype, by kind; strokes are medians."}, "image": {"alt": "Left, a scatter plot of hidden states. Image tokens lie in one region together with the states that are about to write numbers, beside those about to read a value; most states about to write other text fill separate clusters elsewhere. Right, strips of cosines with the prototype: highest for image tokens and for states about to read a value, around zero for those about to write other text or to name a colour."}}
figures.states_figure(points)

# %% [markdown]
# Image tokens lie among the states that are about to write a number, and apart
# from most others. Why there? Nothing ever told the model what a last-layer
# state at an image token should be: no later layer reads it, and the loss
# covers the completion only, so no gradient arrives there. It is what the
# shared weights make of a tile. Ask the model's own head what it reads there;
# for a grid, chance is 0.1:

# %%
shares = focus_study.own_digit_shares(model, processor, chains, examples)
print("the tile's own digit on top:", mean_interval(shares))

# %% [markdown]
# Four times chance, from a head that was never asked. And how much probability does a
# state give to digits, all ten together? Here by what it is about to write:

# %%
of_digit = focus_study.digit_probability
by_role = pd.Series(of_digit(model, processor, chains.before))
by_role = by_role.groupby(table["role"]).mean()
of_image = of_digit(model, processor, chains.image)
by_role["image token"] = of_image.mean().item()
by_role = by_role.sort_values(ascending=False).round(2)
by_role.to_frame("probability of a digit")

# %% [markdown]
# The head was never taught to speak at image tokens, and yet it leans to digits
# there, and to the digit on that very tile far more than by chance. So the
# prototype is in good part *the direction of writing a digit*. Is that all
# there is to the score? Two experiments.
#
# **First: take away what being a digit explains.** Compare values read from the
# picture with one other role at a time. Against syntax, a high AUROC may only say that
# a number is coming. Against *repeated numbers* (the second 8 in `blue = 8 . 5 + 8`)
# and *results* (the 13 that follows), it cannot: there a number is coming, too, and
# only the picture makes the difference.

# %% mystnb={"figure": {"name": "fig-role-auroc", "caption": "Values read from the image against one other role at a time (how many tokens). Empty: the score at t \u2212 1 over a grey picture."}, "image": {"alt": "Intervals of AUROC per role. At t minus 1 all are near one except repeated numbers and results, which are lower but well above one half, and over a grey picture they are as high; at t most are below one half."}}
seen = ALIGNMENTS | {"grey picture": "grey_prediction"}
against = focus_study.auroc_against_roles(table, seen)
figures.role_auroc_figure(against)

# %% [markdown]
# At $t - 1$ results and repeated numbers are the hardest to tell from reads, as they
# should be, and are told apart all the same. Over a grey picture they are, too: what
# the score adds to "a number is coming" is "one that has not been worked out", and that
# stands in the text.
#
# **Second: take the direction itself away.** The mean of the ten digits' rows in the
# output head is the direction that makes digits likely, whichever digit. Remove it: from
# every state, the image's included, subtract its projection on that direction, and
# compute the score from what is left. If the score were nothing but "a digit is
# coming", AUROC would fall to 0.5. If it had nothing to do with digits, nothing would
# change. The same with the mean of ten colour words, for comparison:

# %%
directions = {
    name: focus_study.word_direction(model, processor, words)
    for name, words in (
        ("digits", [str(d) for d in range(10)]),
        ("colours", list(testbed.COLOURS)[:10]),
    )
}

# %%
values = table["role"] == "value read"
some = values | ~reads
for name, direction in {"nothing": None, **directions}.items():
    focus = focus_study.projected_focus(chains, table["row"], direction)
    auroc, low, high, _ = auroc_interval(
        focus[some], values[some], table["row"][some]
    )
    print(f"{name:8} removed: {auroc:.2f} [{low:.2f}, {high:.2f}]")

# %% [markdown]
# It falls from 0.98 to 0.79, about two fifths of the way to blindness, and the colours'
# direction takes nothing. So one direction of 128 carries a good part of what the
# score knows, and the rest is somewhere else. The cosine holds both: that a digit is
# coming, and that it belongs to the picture. (At $t$ it is not the equals sign alone:
# reads rank below syntax and filler too.)
#
# ## Against attention
#
# The paper motivates the score by image attention. The share of attention on
# image tokens, heads averaged, in every layer, against focus:

# %%
attention = focus_study.attention_table(model, processor, examples)
correlations = focus_study.attention_correlations(table, attention)
final = correlations[correlations["layer"] == correlations["layer"].max()]
final.set_index(["scope", "focus", "attention"])[["r", "low", "high"]].round(2)

# %% mystnb={"figure": {"name": "fig-attention-r", "caption": "Correlation of focus with image attention: at the same position, layer by layer, and in the last layer for the four ways to pair positions."}, "image": {"alt": "Left, Pearson r over four layers, within completions and pooled: clearly positive in the last layer, weaker below. Right, a table of two by two in the last layer: positive where focus and attention are taken at the same position, negative where focus is taken at t and attention at t minus 1."}}
figures.attention_correlation_figure(correlations)

# %% [markdown]
# In the final layer, focus and attention *of the same position* agree with $r$ of
# about 0.6, within completions as well as over all tokens. (For a 7B model about 0.67
# has been read out of the paper {cite:p}`wang2026vgpo`; we could not check it.) That
# holds for either alignment, since it pairs the same positions. What chose a token is
# the attention at $t - 1$, though, and against that the score at $t$ is *negatively*
# correlated. In the layers below, the agreement is weaker, and in one of them there is
# none.
#
# Is the cosine then a cheap stand-in for attention? Attention itself, graded by
# the same truth:

# %%
grey = [blank(example) for example in examples]
over_grey = focus_study.attention_table(model, processor, grey)
attention["attention_grey"] = over_grey["attention_prediction"]
joined = attention.merge(table, on=["row", "t"])
graded = {
    "attention at t": "attention",
    "attention at t−1": "attention_prediction",
    "attention at t−1, grey picture": "attention_grey",
}
grades = auroc_by(joined, "layer", graded)
grades.pivot(index="layer", columns="score", values="auroc").round(2)

# %%
graded |= {"focus at t−1": "focus_prediction"} | blind
last = joined[joined["layer"] == joined["layer"].max()]
last = auroc_by(last, "layer", graded).set_index("score")
last[["auroc", "low", "high"]].round(3)

# %% [markdown]
# The final layer's attention at $t - 1$ is the better detector of reads, here at least:
# it finds colours as well as values. It stands under the same rule as focus, though: at
# $t$ it points away. And it notices when there is nothing to see: over a grey picture
# it falls to about three quarters, and the score falls far less. (Whether a signal
# knows that a read *took place* is asked in [chapter 10](10_signals.ipynb), in a world
# where it need not.) The cosine's advantage is its price. It needs no attention
# weights, which fast kernels never form.
#
# ## Against occlusion
#
# Attention says where a model looks, not what depends on it. So cover things:
# the whole picture, only the tile that a token reads, or only tiles that others
# read. How far does the log-probability of the true token fall?

# %%
few = [e for i, e in enumerate(examples) if i % questions < changed]
covered = focus_study.occlusion_table(model, processor, few)
drops = ["drop_image", "drop_tile", "drop_elsewhere"]
fall = covered.groupby("role")[drops].mean()
fall = fall.loc[lambda t: t.index.isin(ROLES)].round(2) + 0.0  # no "-0.00"
fall.set_axis(["whole picture", "its tile", "other tiles"], axis=1)

# %% [markdown]
# The labels and the model agree. A token that we call a read loses its probability
# when its tile is covered, and hardly any when other tiles are; no other token loses by
# it (and where no tile is read, none can be covered). A negative fall is a gain:
# fillers become likelier. So the fall is a second yardstick, one that needs no labels:

# %% mystnb={"figure": {"name": "fig-dependence", "caption": "One point per role: mean focus, and what the token loses without the picture."}, "image": {"alt": "Two scatter plots of roles. Reads of values and colours lie high, all other roles at zero. At t the reads have low focus; at t minus 1 values have the highest focus, but colours lie amid the other roles."}}
figures.dependence_figure(covered)

# %%
scopes = {
    "all tokens": (covered, "drop_image"),
    "values read": (covered[covered["role"] == "value read"], "drop_tile"),
}
for where, (tokens, drop) in scopes.items():
    for name, column in ALIGNMENTS.items():
        r, low, high, _ = correlation_interval(
            tokens[column].rank(), tokens[drop].rank(), tokens["row"]
        )
        print(f"{where:12} {name:11} {r:+.2f} [{low:+.2f}, {high:+.2f}]")

# %% [markdown]
# Spearman's correlation of focus with the fall, over all tokens: negative at
# $t$, positive and modest at $t - 1$. The figure shows what spoils it: naming a
# colour depends on the image more than anything else does, and its focus is
# ordinary. Among values alone, focus does not say which of them hang on the
# picture most.
#
# ## Is it robust to changes of the image?
#
# A reviewer's question. The same chains over pictures with noise, brighter and
# darker, shifted by a few pixels of the tile's 28, and compressed; and two
# controls: the picture of another question, and no picture at all.

# %%
changes = {
    "noise": (8, 16, 32),
    "brightness": (0.8, 1.25),
    "shift": (1, 2, 3),
    "jpeg": (90, 50, 20),
}
variants = {"unchanged": few} | {
    f"{kind} {amount}": [perturb(e, kind, amount, i) for i, e in enumerate(few)]
    for kind, amounts in changes.items()
    for amount in amounts
}

# %%
others = few[1:] + few[:1]
variants["another picture"] = [
    replace(e, image=o.image) for e, o in zip(few, others, strict=True)
]
variants["grey picture"] = [blank(e) for e in few]
rescored = focus_study.robustness_table(model, processor, few, variants)
robustness = focus_study.robustness_summary(rescored)

# %% mystnb={"figure": {"name": "fig-robustness", "caption": "Left: rank correlation of the token scores of a completion before and after the change. Middle: the probability of the true value where one is read. Right: how well the score at t \u2212 1 tells reads."}, "image": {"alt": "Left, rank correlations near one for noise and compression, lower for shifts and brightness, lower still but far above zero for another picture and a grey one. Middle, bars of the probability of the true value, high for harmless changes and near chance for another or a grey picture. Right, AUROC of reads, nearly the same for every change and for the grey picture."}}
figures.robustness_figure(robustness)

# %%
shown = ["token", "prediction", "read_probability"]
shown += ["auroc", "auroc_low", "auroc_high"]
robustness[shown].rename(columns=lambda n: n.replace("_", " ")).round(2)

# %% [markdown]
# Yes: noise and compression hardly move the ranking, and where shifts and
# brightness do, the model's own reading suffers more. But see the controls.
# With another picture, or none, the model can read nothing, and yet the ranking
# of its tokens stays much as it was; as a detector of reads (`auroc`, at
# $t - 1$) the score is nearly as good over a grey rectangle. Robust, then, in
# good part because it reacts little to what the picture holds. It tells where
# in a chain a read *belongs*, not whether it took place. (That the model is not
# sure of the values even in unchanged pictures is its taught misreading.)
#
# ## Salient but secondary?
#
# The other question: could re-weighting favour tokens that look visual and do
# not matter? Take the fifth of each completion with the highest focus and see
# what it consists of.

# %%
for name, column in ALIGNMENTS.items():
    print(f"alignment {name!r}")
    print(focus_study.highest_focus_roles(table, column).round(2).head(5), "\n")

# %% [markdown]
# `lift` compares with chance. At $t$ the choice goes to equals signs before a
# read, several times as often as chance would have it: tokens that are certain
# and decide nothing. The reads themselves are all but shut out. At $t - 1$
# about half of the chosen tokens are reads of values, and most of the rest are
# numbers that resemble reads and need no picture. So the reviewer's worry is
# well founded for the one alignment, and holds in part for the other.
#
# VGPO itself chooses by a *gate* (Eq. 6, the subject of [chapter
# 03](03_compensation.ipynb)): of the second half of each completion it takes the fifth
# with the highest score. What does it get hold of there?

# %%
for name, column in ALIGNMENTS.items():
    late = focus_study.highest_focus_roles(table, column, tail_ratio=0.5)
    picked = late["of the highest"].reindex(ROLES[:2], fill_value=0).sum()
    print(
        f"{name:11} {picked:.0%} of the tokens behind the gate read the image"
    )

# %% [markdown]
# Late in a chain there is less to read, and the gate must fill its share all the same:
# it takes whatever has the highest focus there. (These are reference chains; over
# sampled answers, in [chapter 03](03_compensation.ipynb), the share is 38 %.)
#
# ## A neighbour shares the credit
#
# Which word gets the credit for a look? Here is the beginning of the answer that the
# small model gave in "In three lines", with both scores:

# %%
scored[both].iloc[1:8].round(2)

# %% [markdown]
# One column is the other, moved by one row. The state at `=` is the one that looks. By
# `focus_prediction` its score goes to the value that it writes, by `focus_token` to `=`
# itself, and the value is left with the score of a state that is about to write a full
# stop.
#
# In English the neighbour is a word. Here is a sentence as a large model might write it
# over a bar chart (made up, since no large model was within reach), with one token to a
# word:
#
# > The bar for Tuesday reaches **40** , twice as much as Monday ’s .
#
# Only `40` has to be looked up, if the question named the days. The state that looked
# is the one at `reaches`: it had the chart in front of it and wrote 40.
#
# - Score at $t - 1$: `40` has that state's score. A right answer makes *40 after
#   "reaches"* likelier.
# - Score at $t$, as released: `reaches` has it. A right answer makes *"reaches" after
#   "Tuesday"* likelier, a matter of style, and `40` gets the score of the state that is
#   about to write a comma.
#
# In our chains the neighbour is always an equals sign, which is certain and cannot be
# taught anything, so credit given to it is lost ([chapter 00b](00b_one_group.ipynb)).
# In a sentence it is a word with alternatives (`reaches`, `is`, `shows`), so the credit
# goes into wording instead. Whether that does harm, this book cannot say.
#
# ## Exercises
#
# Predict first; then run the line with the environment active
# (`source .venv/bin/activate`), or type it into a cell here.
#
# **1.** Let filler follow nearly every step (39 % of the tokens in place of 6 %). Is it
# easier or harder to find the values?
#
# ```bash
# python book/build.py execute 02_focus -p verbosity 0.9
# ```
#
# :::{dropdown} Solution
# About the same, 0.97. Fillers are as easy to tell from values as other text is, and
# AUROC does not depend on how many of them there are. A *gate* does: it has to fill its
# share of the tail, and there are fewer reads to fill it with.
# :::
#
# **2.** Which tokens have the highest score over a *grey* picture?
#
# ```python
# focus_study.highest_focus_roles(table, "grey_prediction").round(2).head(5)
# ```
#
# :::{dropdown} Solution
# The same roles as over the true picture: values that cannot have been read lead the
# list. A score that was about looking would have nobody to point at.
# :::
#
# **3.** Replace the prototype by the digits' direction alone,
# `focus_study.word_direction(model, processor, [str(d) for d in range(10)])`. How
# much of the AUROC survives?
#
# ```python
# digits = directions["digits"].flatten()
# only = torch.cosine_similarity(chains.before, digits[None], dim=1).numpy()
# auroc_interval(only[some], values[some], table["row"][some])
# ```
#
# :::{dropdown} Solution
# More than all of it: 1.00. The direction of writing a digit, which is in the output
# head and knows nothing of any picture, finds the values better than the visual
# prototype. That the prototype works is owed to its leaning the same way.
# :::
#
# ## Keep in mind
#
# - At $t - 1$ the score finds values that are read from the picture (0.98), and so does
#   a rule on the text; at $t$, the released code's choice, it points away from them.
# - It measures readiness to write what images hold, here digits. Reads of another kind
#   it mostly misses, and it does not notice when the picture is gone.
# - Final-layer attention at $t - 1$ is the better detector here, the cosine the cheaper
#   one. The chapters that follow use the released alignment as the default, because it
#   is what was run, and show the other beside it.
