# %% [markdown]
# # Re-weighting the advantage, twice
#
# **In this chapter.** The visual weights of the last chapter change the *advantage*,
# the number that says whether a token is to become more or less likely. *Within a
# completion: which tokens get the credit? Between the completions of a prompt:
# which one gets more of it, and is it the one that looks, or the one that is long?*

# %% tags=["parameters", "hide-input"]
checkpoint = ""  # folder of another cold start; "" takes the shipped one
groups = 40  # prompts whose rollouts are weighted
rollouts = 8  # G, completions per prompt
seed = 0  # seed of the rollouts

# %% tags=["hide-input"]
import textwrap
from pathlib import Path

import pandas as pd
import torch

import vgpo
from vgpo import figures, testbed
from vgpo.stats.intervals import mean_interval
from vgpo.studies.departures import correlations_within_groups
from vgpo.studies.tables import padded, table_beside_controls
from vgpo.testbed import IMAGE_FAMILIES, World
from vgpo.testbed.answers import answer

torch.set_printoptions(precision=2, sci_mode=False, linewidth=78)

# %% [markdown]
# ## First result
#
# $\phi$ decides which completion of a prompt gets more of the credit. In recorded
# trainings of the look-away world its correlation with *length*, within a prompt, is:

# %% tags=["hide-input"]
compared = {
    "vgpo_token": "sum of the weights (Eq. 9)",
    "vgpo_prediction": "the same sum, scored at t − 1",
    "vgpo_mean": "mean of the weights",
}
recorded = Path("../results/experiments/headline")
rows = {}
for arm, name in compared.items():
    logs = sorted(recorded.glob(f"look_away-*-{arm}-seed*/metrics.csv.gz"))
    logged = [pd.read_csv(log)["visual/phi_length_corr"].mean() for log in logs]
    rows[name] = pd.Series(logged).agg(["count", "mean", "min", "max"])
first = pd.DataFrame(rows).T.rename_axis("φ compares").astype({"count": int})
first.columns = ["trainings", "r with length", "lowest", "highest"]
first.round(2) + 0  # no "-0.00"

# %% [markdown]
# Under the paper's sum, $\phi$ is nearly all length, in every training; under a mean
# it is not. Where that comes from, what $\psi$ does, and who gains by it:
#
# ## Four rollouts by hand
#
# [Chapter 00b](00b_one_group.ipynb) went from rewards to the gradient. Here are its
# last steps once more, on weights chosen to show what they can do: one prompt, four
# completions of five tokens; the last one stops after three. The numbers stand for
# compensated weights $w$ (Eq. 5).

# %%
weights = torch.tensor(
    [
        [0.9, 0.3, 0.8, 0.3, 0.7],
        [0.5, 0.4, 0.5, 0.4, 0.5],
        [0.3, 0.2, 0.3, 0.2, 0.2],
        [0.6, 0.2, 0.7, 0.0, 0.0],
    ]
)
mask = torch.tensor([[1, 1, 1, 1, 1]] * 3 + [[1, 1, 1, 0, 0]])
advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])

# %% [markdown]
# **Within a completion** (Eq. 7-8). Weights are stretched to $[0, 1]$ over the
# completion's own tokens, then centred:
#
# $$
# \hat w_{i,t} = \frac{w_{i,t} - \min_t w_{i,t}}{\max_t w_{i,t} - \min_t w_{i,t}},
# \qquad
# \psi_{i,t} = \hat w_{i,t} - \frac{1}{T_i} \sum_t \hat w_{i,t}
# $$

# %%
psi = torch.zeros_like(weights)
for i, length in enumerate(mask.sum(dim=1)):
    w = weights[i, :length]  # the completion's own tokens
    w_hat = (w - w.min()) / (w.max() - w.min())  # Eq. 7
    psi[i, :length] = w_hat - w_hat.mean()  # Eq. 8
print(psi)
print("sum over each row:", psi.sum(dim=1).round(decimals=4) + 0.0)

# %% [markdown]
# Look at the second row. Its weights differ by 0.1 and its $\psi$ by a full 1:
# the min-max makes every completion spread alike, whether its tokens differ in
# visual focus or hardly at all. Only the *shape* of $w$ within a completion
# counts, not its size.
#
# **Between completions** (Eq. 9-11). What a completion has accumulated,
# stretched and centred over the group:
#
# $$
# s_i = \sum_t w_{i,t}, \qquad
# \hat s_i = \frac{s_i - \min_j s_j}{\max_j s_j - \min_j s_j}, \qquad
# \phi_i = \hat s_i - \frac{1}{G} \sum_j \hat s_j
# $$

# %%
s = (weights * mask).sum(dim=1)  # Eq. 9
s_hat = (s - s.min()) / (s.max() - s.min())  # Eq. 10
phi = s_hat - s_hat.mean()  # Eq. 11
print("accumulated:", s)
print("phi:        ", phi)

# %% [markdown]
# **Both** (Eq. 12): $\hat A^V_{i,t} = \hat A_i (1 + \psi_{i,t}) (1 + \phi_i)$.

# %%
shaped = advantages[:, None] * (1 + psi) * (1 + phi)[:, None]  # Eq. 12
print(shaped)

# %% [markdown]
# That is all of it. (The short completion has numbers where it has no tokens; the loss
# leaves them out.) The package's functions do the same without the loop, for
# many groups at once, and say what happens where nothing varies: a completion of
# one token, a group of one, scores that are all equal have $\psi = \phi = 0$.

# %%
group_ids = torch.zeros(4, dtype=torch.long)
ours = (
    vgpo.intra_trajectory_weights(weights, mask),
    vgpo.inter_trajectory_weights(weights, mask, group_ids),
)
torch.testing.assert_close(ours, (psi, phi))
torch.testing.assert_close(vgpo.reweight_advantages(advantages, *ours), shaped)

# %% [markdown]
# All steps in one picture, a row a rollout and a column a token:

# %% mystnb={"figure": {"name": "fig-toy", "caption": "The same four rollouts, step by step, from weights to advantages."}, "image": {"alt": "Small heat maps of four rollouts by five tokens: the weights, psi, their sums with the mean of the group below, phi, and the final advantages; rows with a positive advantage stay positive and rows with a negative one stay negative."}}
figures.reweighting_figure(weights, mask, psi, phi, shaped, advantages)

# %% [markdown]
# Both factors lie between 0 and 2, so no advantage changes its sign: a token of
# a right completion may gain less, but it is never punished. And the mean of
# the first factor over a completion, and of the second over a group, is 1.
#
# ## A real group
#
# Now rollouts of the testbed's model, sampled at temperature 1.

# %% tags=["hide-input"]
folder = Path(checkpoint) if checkpoint else testbed.CHECKPOINT
model, processor = testbed.load_tiny(folder)
each = groups // len(IMAGE_FAMILIES)
prompts = World().examples(each, IMAGE_FAMILIES, seed=40, split="heldout")
asked = [example for example in prompts for _ in range(rollouts)]
texts = answer(model, processor, asked, temperature=1.0, seed=seed)
table = table_beside_controls(model, processor, asked, texts)
focus, mask = padded(table, "focus")
rewards = torch.tensor(
    table.groupby("row")["correct"].first().to_numpy()
).float()
print(f"{len(asked)} rollouts, {rewards.mean():.0%} right")

# %%
grouped = rewards.view(-1, rollouts)
advantages = (grouped - grouped.mean(1, keepdim=True)).div(
    grouped.std(1, keepdim=True) + 1e-4
)
advantages = advantages.flatten()
group_ids = torch.arange(len(asked)) // rollouts
weights = vgpo.compensate(focus, mask)
psi = vgpo.intra_trajectory_weights(weights, mask)
phi = vgpo.inter_trajectory_weights(weights, mask, group_ids)
shaped = vgpo.reweight_advantages(advantages, psi, phi)

# %% [markdown]
# One of these groups, word by word. Blue words are pushed up more than GRPO alone
# would, orange ones less; framed words read the picture in truth. Click a word
# for its numbers, move a slider, and watch who gains.

# %% mystnb={"image": {"alt": "Eight answers to one question as words beside their picture, tinted by how much their advantage gains or loses against GRPO; sliders change the method's numbers."}}
from vgpo.studies.groups import rollouts_view

mixed = int(((grouped.mean(1) > 0.2) & (grouped.mean(1) < 0.8)).int().argmax())
of_group = table["row"] // rollouts == mixed
rollouts_view(table[of_group], asked[mixed * rollouts])

# %% [markdown]
# The line below the settings says who gains. By the state at $t$, the words that read the
# picture get *less* than the others. Choose "at t − 1" for the state that scores, and they
# get more. This is one group; here are all tokens of all groups:

# %%
some = mask.bool() & (advantages != 0)[:, None]
flipped = (shaped.sign() != advantages.sign()[:, None]) & some
factor = ((1 + psi) * (1 + phi)[:, None])[mask.bool()]
print(f"{int(flipped.sum())} of {int(some.sum()):,} tokens changed sign")
print(f"factor: {factor.min():.2f} to {factor.max():.2f}")

# %% [markdown]
# No sign has changed, as the formula promises. But some tokens count over twenty times as
# much as others, and it matters what decides that.
#
# ## How much of φ is length?
#
# $s_i$ is a *sum* over tokens. All focus scores are positive, so a longer
# completion accumulates more, whatever it looks at. The alternative is the mean:

# %%
lengths = mask.sum(dim=1)
phi_mean = vgpo.inter_trajectory_weights(
    weights, mask, group_ids, accumulation="mean"
)
length_table = pd.DataFrame(
    {
        "group": group_ids.numpy(),
        "length": lengths.numpy(),
        "sum": phi.numpy(),
        "mean": phi_mean.numpy(),
    }
)


def within(values, by):
    """Mean over prompts of r within each, with its interval over prompts."""
    each_r = correlations_within_groups(values, by, group_ids)
    return mean_interval(each_r, bounds=(-1, 1))


correlations = {
    how: within(values, lengths)
    for how, values in (("sum", phi), ("mean", phi_mean))
}
pd.Series(correlations).map(str).to_frame("r with length")

# %% mystnb={"figure": {"name": "fig-length", "caption": "Each point a rollout, eight each of 40 prompts: its length less the mean of its group, against \u03c6."}, "image": {"alt": "Two scatter plots of phi against centred completion length: with the sum of Eq. 9 the points rise along a line, with the mean they do not."}}
figures.length_figure(
    length_table, {how: r.value for how, r in correlations.items()}
)

# %% [markdown]
# The table gives the correlation of $\phi$ with length within a group, averaged
# over the groups, with a 95 % interval that draws whole prompts again. Under Eq. 9
# most of $\phi$ is length; with
# `accumulation="mean"` nearly all of that is gone.
#
# ### Who gains when φ is length?
#
# Take the wrong answer that is longest beside its group. What does $\phi$ do to it?

# %%
of_group = lengths.view(-1, rollouts).float().mean(1)[group_ids]
some_right = (grouped.mean(1) > 0.2)[group_ids] & (rewards == 0)
longest = int(((lengths - of_group) * some_right).argmax())
print(asked[longest].question, "| true answer:", asked[longest].answer)
print(textwrap.fill(texts[longest], 76))
print(
    f"{lengths[longest]} tokens, group mean {of_group[longest]:.1f};", end=" "
)
print(f"1 + φ = {1 + phi[longest]:.2f}")

# %% [markdown]
# It slips into a sum that nobody asked for, counts a tile that is not in the
# picture, and is longer for it. Its advantage is negative, and the factor nearly
# doubles it: every token of it, the correct reads at its beginning included, is
# pushed down almost twice as hard as without $\phi$. A wrong answer of the same
# prompt that stays short gets off with less than 1. Had a *right* answer rambled
# like this, each of its fillers would have been pushed up as hard. So under Eq. 9
# $\phi$ speaks about length from both sides: be short when you are wrong, be long
# when you are right. Neither has to do with the picture.
#
# ### Is what the mean leaves over a matter of looking?
#
# The mean is free of length, but is it about the picture? Of each token we know whether
# it reads the image. So: $\phi$ against the *share of tokens that truly read*, again
# within groups. The score at the state before ($t - 1$) finds reads better ([chapter
# 02](02_focus.ipynb)), so it gets its chance as well. So do two that cannot look: the
# same over a grey picture, and a network that was never trained.

# %%
looks = (table["source"] == "image").groupby(table["row"]).mean()
looks = torch.tensor(looks.to_numpy())
accumulated = {}
sources = figures.SCORE_LABELS | {
    "grey_prediction": "state at t − 1, grey picture",
    "untrained": "untrained network, state at t",
}
for column, label in sources.items():
    each_w = vgpo.compensate(padded(table, column)[0], mask)
    for how in ("sum", "mean"):
        each_phi = vgpo.inter_trajectory_weights(
            each_w, mask, group_ids, accumulation=how
        )
        accumulated[label, how] = {
            "r with length": within(each_phi, lengths),
            "r with share of reads": within(each_phi, looks),
        }
pd.DataFrame(accumulated).T.map(str)

# %% [markdown]
# It is not. With the sum, $\phi$ is *higher* for answers of which a smaller share
# reads: they are the longer ones, padded with filler. With the mean it hardly follows
# the share of reads at all, by either score. Those that cannot look do no worse. The
# untrained network's $\phi$ is length under the sum as well; under the mean it is
# higher for short answers. In those a larger share of the words reads the picture, so
# it follows the share of reads without looking at anything. Answers to
# one question read the same tiles, so they differ little in looking; what differs is
# wording. In this world neither version of $\phi$ finds the completion that looks more,
# because there is hardly any such completion. In the look-away world there is ([chapter
# 00](00_testbed.ipynb)).
#
# The paper is silent on length. The default here is the paper's sum, and every
# training run logs the correlation as `visual/phi_length_corr`.
#
# ## Exercises
#
# Predict first; then change the line in its cell and run the cells below it, or run
# the command with the environment active (`source .venv/bin/activate`).
#
# **1.** In "Four rollouts by hand", multiply the second row of `weights` by ten.
# What happens to its $\psi$, and to all four $\phi$?
#
# ```python
# weights[1] *= 10
# ```
#
# :::{dropdown} Solution
# $\psi$ stays as it was: the min-max of a row does not see its scale. But the second
# completion's sum becomes 23 beside 3, 1.2 and 1.5, so it has $\hat s = 1$ and the
# others have nearly 0: one outlier leaves no difference between the rest.
# :::
#
# **2.** A group of 16 rollouts in place of 8. Does the correlation of $\phi$ with
# length rise, fall or stay?
#
# ```bash
# python book/build.py execute 04_reweighting -p rollouts 16 -p groups 20
# ```
#
# :::{dropdown} Solution
# It stays high, 0.91 on these prompts: that a sum of positive numbers grows with
# their count does not depend on how many sums are compared. (One very long rollout
# among 16 is likelier than among 8, and the min-max then presses the others together.)
# :::
#
# **3.** All tokens of a right completion have the same weight. What are $\psi$ and the
# advantages of its tokens? And what if all completions of a group are like that, with
# lengths 10 and 20?
#
# ```python
# flat, ones = torch.full((2, 20), 0.5), torch.ones(2, 20)
# ones[0, 10:] = 0
# vgpo.intra_trajectory_weights(flat, ones).abs().max()
# vgpo.inter_trajectory_weights(flat, ones, torch.zeros(2, dtype=torch.long))
# ```
#
# :::{dropdown} Solution
# $\psi = 0$, so each token keeps its group advantage times $1 + \phi$. The sums are 5
# and 10: $\phi$ is $-0.5$ for the short and $+0.5$ for the long one, and nothing
# but length made the difference.
# :::
#
# ## Keep in mind
#
# - $\psi$ sees the shape of a completion's weights and not their size, $\phi$ the other
#   way round; both factors lie between 0 and 2, so no advantage changes its sign.
# - With the paper's sum, $\phi$ is length: within a group the two correlate at 0.95.
#   Long wrong answers are punished most, long right ones rewarded most.
# - With the mean it is not length, and not looking either: a network that was never
#   trained follows the share of reads more closely, at 0.51 [0.38, 0.61].
