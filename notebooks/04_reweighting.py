# %% [markdown]
# # Re-weighting the advantage, twice
#
# The visual weights of the last chapter change the *advantage*: the number that
# says whether a token is to become more or less likely. They do so within a
# completion (which tokens get the credit?) and between the completions of a
# prompt (which completion gets more of it?).
#
# **Overview.** The equations on four rollouts small enough to follow by eye;
# then a real group; the sign; and the question of length.

# %% tags=["parameters"]
checkpoint = ""  # folder of another cold start; "" takes the shipped one
groups = 40  # prompts whose rollouts are weighted
rollouts = 8  # G, completions per prompt
seed = 0  # seed of the rollouts

# %%
from pathlib import Path

import pandas as pd
import torch

import vgpo
from vgpo import figures, testbed
from vgpo.studies.departures import within_group_correlation
from vgpo.studies.tables import padded, token_table
from vgpo.testbed import IMAGE_FAMILIES, World
from vgpo.testbed.answers import answer

torch.set_printoptions(precision=2, sci_mode=False, linewidth=78)

# %% [markdown]
# ## Four rollouts by hand
#
# One prompt, four completions of five tokens; the last one stops after three.
# The numbers are chosen, not measured: they stand for compensated weights $w$
# (Eq. 5).

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
print("sum over each row:", psi.sum(dim=1))

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
# That is all of it. The package's functions do the same without the loop, for
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

# %% mystnb={"figure": {"name": "fig-toy", "caption": "The same four rollouts, step by step, from weights to advantages."}, "image": {"alt": "Four small heat maps of four rollouts by five tokens: the weights, psi, psi with phi, and the final advantages; rows with a positive advantage stay positive and rows with a negative one stay negative."}}
figures.reweighting_figure(weights, mask, psi, phi, shaped, advantages)

# %% [markdown]
# Both factors lie between 0 and 2, so no advantage changes its sign: a token of
# a right completion may gain less, but it is never punished. And the mean of
# the first factor over a completion, and of the second over a group, is 1.
#
# ## A real group
#
# Now rollouts of the testbed's model, sampled at temperature 1.

# %%
folder = Path(checkpoint) if checkpoint else testbed.CHECKPOINT
model, processor = testbed.load_tiny(folder)
each = groups // len(IMAGE_FAMILIES)
prompts = World().examples(each, IMAGE_FAMILIES, seed=40, split="heldout")
asked = [example for example in prompts for _ in range(rollouts)]
texts = answer(model, processor, asked, temperature=1.0, seed=seed)
table = token_table(model, processor, asked, texts)
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

# %%
from vgpo.studies.groups import rollouts_view

mixed = int(((grouped.mean(1) > 0.2) & (grouped.mean(1) < 0.8)).int().argmax())
of_group = table["row"] // rollouts == mixed
rollouts_view(table[of_group], asked[mixed * rollouts])

# %%
some = mask.bool() & (advantages != 0)[:, None]
flipped = (shaped.sign() != advantages.sign()[:, None]) & some
factor = ((1 + psi) * (1 + phi)[:, None])[mask.bool()]
print(f"{int(flipped.sum())} of {int(some.sum())} tokens changed sign")
print(f"factor: {factor.min():.2f} to {factor.max():.2f}")

# %% [markdown]
# ## How much of φ is length?
#
# $s_i$ is a *sum* over tokens. All focus scores are positive, so a longer
# completion accumulates more, whatever it looks at. Then right answers that are
# long gain, and wrong answers that are long lose more.

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
correlations = pd.Series(
    {
        how: within_group_correlation(values, lengths, group_ids)
        for how, values in (("sum", phi), ("mean", phi_mean))
    },
    name="r",
)
correlations.round(2)

# %% mystnb={"figure": {"name": "fig-length", "caption": "Each point a rollout: its length less the mean of its group, against phi."}, "image": {"alt": "Two scatter plots of phi against centred completion length: with the sum of Eq. 9 the points rise along a line, with the mean they do not."}}
figures.length_figure(length_table, correlations)

# %% [markdown]
# The table gives the correlation of $\phi$ with length within a group, averaged
# over the groups. Under Eq. 9 most of $\phi$ is length;
# `accumulation="mean"` takes nearly all of that out, and what is left is focus.
# The paper is silent on this. The default here is the paper's sum, and every
# training run logs the correlation as `visual/phi_length_corr`.
