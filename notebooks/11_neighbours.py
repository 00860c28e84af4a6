# %% [markdown]
# # The neighbours
#
# VGPO is not alone. Within a year, a dozen papers asked the same question:
# which words of an answer owe something to the picture, and should they get
# more of the credit? Each came with a fork of another framework, so nobody
# could put two of them side by side.
#
# Here six of them run under one trainer, on one loss, and differ in one
# function. That makes three questions easy to ask. What does each do to the
# *same* four rollouts? What does it cost? And when is it exactly what its paper
# says?
#
# **In this chapter.** Four rollouts and their signals; each method in a paragraph, a
# formula and a call; a term called entropy that is none; the same real rollouts
# through all of them; what a step costs; what training says.

# %% tags=["parameters", "hide-input"]
prompts = 8  # questions whose real rollouts are shaped
rollouts = 8  # G, completions per question
seed = 0  # seed of questions and sampling
grid = "neighbours"  # which recorded grid: a file of recipes/experiments
threads = 1  # torch threads

# %% tags=["hide-input"]
import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path

# What the libraries say of features not used here.
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import pandas as pd
import torch

from vgpo import figures
from vgpo.method.dependence import k3
from vgpo.method.papo import papo_advantages
from vgpo.method.pepo import pepo_weights
from vgpo.method.shaping import LossStep, Rollouts, make_method
from vgpo.method.srpo import srpo_weights
from vgpo.method.vppo import most_dependent, trajectory_factors
from vgpo.studies import evidence
from vgpo.studies.experiments.grid import read_grid
from vgpo.studies.experiments.report import step_sizes
from vgpo.studies.neighbours import (
    compare_shaped,
    method_table,
    sampled_rollouts,
    shaped_by,
)

torch.set_num_threads(threads)
pd.set_option("display.max_colwidth", None)
torch.set_printoptions(precision=2, sci_mode=False, linewidth=78)
same = torch.testing.assert_close

# %% [markdown]
# ## VGPO and its neighbours
#
# Each method asks for something about every token, its *signal*, and then acts on
# something with it:

# %%
method_table()[["signal", "acts on"]]

# %% [markdown]
# A *masked* log-probability is that of the same token before a picture with squares
# blacked out; a *hidden* one, without the answer's own description of the picture. Some
# methods touch the advantage, some the loss, and GPG asks for nothing at all. What each
# does is easiest to see on numbers small enough to check.
#
# ## Four rollouts and what is known of them
#
# One question, four answers of five tokens; the last one stops after three.
# Think of `red = 5 . 5`: the third token is read off the picture. All numbers
# are chosen, not measured.
#
# $\log \pi$ is how likely the policy found each token it wrote. The *contrast* is
# how much of that is lost once squares of the picture are blacked out.

# %%
mask = torch.tensor([[1, 1, 1, 1, 1]] * 3 + [[1, 1, 1, 0, 0]]).bool()
A = torch.tensor([1.0, -1.0, 1.0, -1.0])  # of the group, as in GRPO
lp = torch.tensor(
    [
        [-0.4, -0.1, -0.5, -0.1, -0.3],
        [-0.5, -0.2, -0.9, -0.1, -0.6],
        [-1.2, -0.1, -0.3, -0.2, -0.1],
        [-0.3, -0.1, -1.5, 0.0, 0.0],
    ]
)

# %%
contrast = torch.tensor(
    [
        [0.3, 0.0, 2.5, 0.1, 0.8],
        [0.1, 0.0, 0.6, 0.0, 0.2],
        [0.2, 0.1, 3.0, 0.0, -0.4],
        [0.1, 0.0, -0.8, 0.0, 0.0],
    ]
)
masked_lp = lp - contrast  # the same tokens before the masked picture
H = -2 * lp  # entropy: here, less likely tokens are less certain
v = 0.2 + 0.03 * contrast  # mean cosine to the image tokens, all layers

# %% [markdown]
# Row four holds a token that the picture made *less* likely: its contrast is
# negative. Such tokens tell the methods apart, as will be seen.
#
# A `Rollouts` holds all of this, and `shape` of a method takes it. For the
# book, tokens with a contrast above 0.5 are the perception, and the rest is
# reasoning.

# %%
spans = (contrast.abs() > 0.5).float()
hidden_lp = lp - 0.3 * spans.cumsum(1)  # without the perception before it
toy = Rollouts(
    advantages=A,
    mask=mask,
    group_ids=torch.zeros(4, dtype=torch.long),
    signals={
        "log_probs": lp,
        "masked_log_probs": masked_lp,
        "hidden_log_probs": hidden_lp,
        "entropy": H,
        "layer_cosines": v,
        "perception": spans,
        "focus": (1 + v) / 2,
    },
    has_image=torch.ones(4, dtype=torch.bool),
    rewards=torch.tensor([1.0, 0.0, 1.0, 0.0]),
    progress=0.5,
)

# %% [markdown]
# ## One estimate that two of them share
#
# How far is the policy from itself before a masked picture? The divergence
# would take the whole vocabulary. From the sampled token alone, with
# $x_t = \log \pi(y_t | \tilde I) - \log \pi(y_t | I)$, an estimate is
#
# $$k_t = e^{x_t} - x_t - 1 .$$

# %%
x = masked_lp - lp
k = x.exp() - x - 1
same(k3(masked_lp, lp), k)
print(k)

# %% [markdown]
# It is 0 where the mask changes nothing and positive on both sides of that. So
# the last token of row three counts as dependent on the picture, though the
# picture speaks *against* it. The estimate cannot see the sign.
#
# ## PAPO: a term of the loss
#
# PAPO {cite:p}`wang2025papo` adds one wish to the loss: be far from what you
# would have said before a masked picture. Advantages stay as they are. Two
# further terms, called entropies, are there to keep that wish from running
# away.
#
# $$\mathcal L_{\text{PAPO}} = \mathcal L - \gamma\, \overline{k_t}
#   - \eta\, \overline{\log \pi(y_t)} - \eta_{\text{mask}}\, \overline{m_t},
#   \qquad m_t = \log \pi(y_t | \tilde I)$$

# %%
papo = make_method("papo")  # gamma 0.01, both eta 0.03, as in its scripts
term = -papo.gamma * k[mask].mean()
term = term - papo.entropy * lp[mask].mean()
term = term - papo.mask_entropy * masked_lp[mask].mean()

seen = papo.shape(toy).extras
step = LossStep(log_probs=lp, entropy=H, mask=mask, extras=seen)
same(papo.extra_loss(step), term)
print("added to the loss:", round(float(term), 4))

# %% [markdown]
# $m_t$ is measured once and has no gradient, so its term is a constant. It is
# logged and optimised nowhere, in the released code too.
#
# **The call** is `VGPOConfig.preset("papo")`, or `preset: papo` in a recipe.
#
# **Exact** as its own term, whatever the number of updates. Is it an advantage,
# too? Where the ratio is 1, the gradient of $-A \log \pi - \gamma k$ for a
# token is that of an advantage
#
# $$a_t = A + \gamma\, (1 - e^{x_t}) .$$

# %%
gamma = 0.3  # thirty times the default, to be seen
moving = lp.clone().requires_grad_()
wish = -(A[:, None] * moving + gamma * k3(masked_lp, moving))
(gradient,) = torch.autograd.grad(wish[mask].sum(), moving)
additive = A[:, None] + gamma * (1 - x.exp())
same(-gradient[mask], additive[mask])
same(papo_advantages(A, masked_lp, lp, gamma)[mask], additive[mask])

# %% mystnb={"figure": {"name": "fig-papo", "caption": "PAPO for one token, \u03b3 0.3. Left: what is taken off the loss. Right: the advantage that this amounts to on-policy; dots are the tokens of the four rollouts."}, "image": {"alt": "Two curves against the log-probability that the mask takes away. Left, the term is zero at zero, rises slowly to the right and steeply to the left up to a flat clamp. Right, the added advantage rises to at most 0.3 on the right and falls steeply on the left to about minus 3.8 before it jumps to zero at the clamp."}}
gap = torch.linspace(-3.2, 12, 800)
bonus = papo_advantages(torch.zeros(1), -gap[None], torch.zeros(1, 800), gamma)
figures.papo_figure(
    gap,
    gamma * k3(-gap, torch.zeros(800)),
    bonus[0],
    contrast[mask],
    (additive - A[:, None])[mask],
)

# %%
worst = float(bonus.min())
print(f"gain at most {float(bonus.max()):+.2f}, loss up to {worst:+.2f}")
print(f"per unit of gamma: {worst / gamma:.1f}")

# %% [markdown]
# The bonus is lopsided. A token that the picture makes likelier gains at most
# γ, however much it owes to the picture. One that the picture makes less likely
# can lose over twelve times γ, until the clamp at $k = 10$ switches the
# gradient off. PAPO rewards looking less than it punishes saying what the
# picture argues against.
#
# ## VPPO: only some tokens are taught
#
# VPPO {cite:p}`huang2025vppo` takes the same estimate from the policy that
# wrote the rollout. Of each answer the 40 % of tokens with the largest $k$ are
# taught, the others not at all. An answer's factor grows with its mean.

# %%
count = mask.sum(1)
kept = torch.zeros_like(mask)
for i, n in enumerate(count):
    number = -(-2 * int(n) // 5)  # the 0.4 n largest, rounded up
    kept[i, k[i, :n].topk(number).indices] = True

s = (k * mask).sum(1) / count  # mean of each answer
n = (s - s.min()) / (s.max() - s.min())
floor = 0.9
top = floor + (1 - floor) / n.mean()
f = floor + n * (top - floor)
print("kept:\n", kept.int(), "\nfactors:", f)

# %%
vppo = make_method("vppo").shape(toy)
same(most_dependent(k, mask, 0.4), kept)
same(vppo.advantages, kept * (f * A)[:, None])

# %% [markdown]
# **Exact** as an advantage: a factor of at least 0 goes through the clipped
# loss. The loss still averages over *all* tokens, so what is masked is lost,
# and nothing is scaled up for it.
#
# Factors have mean 1 over the group, which is our departure. The released code
# takes least and largest over what a device holds, and the mean over a
# micro-batch. An answer's factor then depends on who happens to sit beside it.
# How much does this matter? Sixteen questions, eight answers each, with drawn
# means: questions differ in how much they need their picture, and answers
# differ within a question.

# %%
draw = torch.Generator().manual_seed(seed)
level = torch.rand(16, 1, generator=draw)
means = (level * (1 + 0.3 * torch.randn(16, 8, generator=draw))).clamp(min=0)
means = means.flatten()[:, None]  # answers of a question are adjacent
question = torch.arange(16).repeat_interleave(8)
yes = torch.ones(128, dtype=torch.bool)


def factors(spread_over, mean_over, order=slice(None)):
    return trajectory_factors(
        means[order], yes[:, None], yes, floor=0.9,
        spread_over=spread_over, mean_over=mean_over,
    )  # fmt: skip


# %%
whole = factors(question, question)
shuffled = torch.randperm(128, generator=draw)
batch = torch.empty(128)  # 128 rows on a device, 16 to a micro-batch
batch[shuffled] = factors(question * 0, torch.arange(128) // 16, shuffled)

# %% mystnb={"figure": {"name": "fig-vppo-statistic", "caption": "The factor of 128 answers to 16 questions: over the answers to the same question, and as released. A line joins the answers to one question."}, "image": {"alt": "Scatter of factors as released against factors over the group; answers to one question, joined by a line, lie near one height, and few lie on the diagonal."}}
figures.statistic_figure(whole, batch, question)

# %%
between = batch.view(16, 8).mean(1).std() / batch.std()
r = torch.corrcoef(torch.stack([whole, batch]))[0, 1]
print(f"correlation of the two: {r:.2f}")
print(f"spread of the questions' means over that of all: {between:.2f}")

# %% [markdown]
# As released, most of a factor's spread is between *questions*: answers to a
# question that needs its picture all count for more, right and wrong alike.
# Within a group, where advantages are made, that says little. `statistic:
# micro_batch` gives the released one.
#
# ## PEPO: near the image, in every layer
#
# PEPO {cite:p}`li2026pepo` needs no second view. Its score $v_t$ is the mean
# cosine to the image tokens over all layers. Entropy tilts it a little, a
# softmax over the answer makes weights of mean 1, and these are annealed in
# over the training.

# %%
w = torch.zeros_like(v)


def stretched(values):
    return (values - values.min()) / (values.max() - values.min())


for i, n in enumerate(count):
    both = stretched(v[i, :n]) + stretched(H[i, :n])
    g = 1 + 0.05 * (both - both.mean()).tanh()
    w[i, :n] = n * (v[i, :n] * g / 1.8).softmax(0)
print(w)

# %%
p = toy.progress  # half of the training is done
same(pepo_weights(v, H, mask), w)
same(make_method("pepo").shape(toy).advantages, A[:, None] * (1 - p + p * w))

# %% [markdown]
# Look at the weights: they hardly leave 1. A cosine divided by 1.8 moves a
# softmax by a few per cent. The real rollouts below show the same.
#
# **Exact** as an advantage if the weights carry no gradient. In the released
# code they do; `variant: released` adds that gradient, and is exact with one
# update per generation.
#
# ## Entropy shaping: no picture at all
#
# Entropy shaping {cite:p}`cheng2025entropy` was made for language models, which
# makes it a fair control. Uncertain tokens get a bonus, at most half the
# advantage.

# %%
bonus = torch.minimum(0.4 * H, A.abs()[:, None] / 2)
shaped = (A[:, None] + bonus).where(mask, 0)
same(make_method("entropy").shape(toy).advantages * mask, shaped)
print(shaped)

# %% [markdown]
# The bonus is positive whatever the sign of $A$. So right answers are praised
# more and wrong ones blamed less, up to a factor of 1.5 and 0.5.
#
# **Exact** as an advantage, at every update: the loss computes the entropy
# anyway, and the bonus is put in there. It costs nothing.
#
# ## GPG: less of everything
#
# GPG {cite:p}`chu2025gpg` drops the ratio, the clip and the KL term, and
# divides centred rewards by the share of groups that teach something. Here the
# one group does, so nothing changes. With an idle group beside it, advantages
# double.

# %%
idle = torch.ones(4)
R = torch.cat([toy.rewards, idle])
share = (R.view(2, 4).std(1) > 1e-5).float().mean()
two = Rollouts(
    advantages=torch.cat([toy.rewards - toy.rewards.mean(), 0 * idle]),
    mask=mask.repeat(2, 1), group_ids=torch.arange(8) // 4, signals={},
    has_image=yes[:8], rewards=R,
)  # fmt: skip
same(make_method("gpg").shape(two).advantages, two.advantages / (share + 1e-5))

# %% [markdown]
# **Exact** with one update per generation, where the ratio is 1 and TRL's clip
# never acts.
#
# ## SRPO, our reading
#
# Of SRPO {cite:p}`jiang2026srpo` we had the abstract, and neither code nor
# formula. An answer first says what it sees, then reasons. Seeing is scored by
# what masking the picture takes away, reasoning by what hiding the *seeing*
# takes away. How they become weights is our guess: around a common mean,
# through a tanh.

# %%
score = torch.where(spans == 1, lp - masked_lp, lp - hidden_lp)
w = torch.ones_like(score)
for i, n in enumerate(count):
    own = score[i, :n]
    z = (own - own.mean()) / (own.std(correction=0) + 1e-6)
    raw = (0.5 * z.tanh()).exp()
    w[i, :n] = raw / raw.mean()
same(srpo_weights(score, mask), w)
same(make_method("srpo").shape(toy).advantages, A[:, None] * w)

# %% [markdown]
# **Exact** as an advantage of our formula, which may not be theirs. An answer
# without tags keeps its advantages.
#
# ## All of them, on the same four rollouts

# %% mystnb={"figure": {"name": "fig-neighbours-toy", "caption": "The same four rollouts through every method: advantage of each token. PAPO as on-policy, with \u03b3 0.3; PEPO at the end of its annealing."}, "image": {"alt": "Eight small heat maps of four rollouts by five tokens. VPPO is zero in most cells, PEPO is nearly the group's advantage, entropy shaping raises every cell, PAPO changes single cells by up to 0.3, SRPO and VGPO shift weight between cells of a row."}}
end = replace(toy, progress=1.0)
panels = {"group": A[:, None].expand(4, 5)}
panels |= shaped_by(end, papo={"gamma": 0.3})
figures.shaped_figure(panels, mask)

# %% [markdown]
# The third column holds the tokens read off the picture. VPPO keeps them and
# lets most others go; SRPO and PAPO lift them in the right answers. PAPO and
# entropy shaping add, so in wrong answers they lower the blame. The others
# multiply. VGPO spares the fourth answer, which is the shortest: its φ goes by a
# sum over tokens.
#
# ## An entropy that is none
#
# PAPO and VPPO add $-\eta\, \overline{\log \pi(y_t)}$ and call it an entropy
# term. It is the likelihood of what was sampled. For $y \sim \pi$ its expected
# gradient is
#
# $$-\eta \sum_y \pi(y) \nabla \log \pi(y) = -\eta \nabla \sum_y \pi(y) = 0 .$$

# %%
z = torch.linspace(2.5, -2.5, 20).double().requires_grad_()  # twenty words
pi = z.softmax(0)
(gradient,) = torch.autograd.grad(-(pi.detach() * z.log_softmax(0)).sum(), z)
print(f"largest entry of the expected gradient: {gradient.abs().max():.0e}")

# %% [markdown]
# On-policy the term is noise. It acts in two ways that have nothing to do with
# an entropy. Their scripts sample with top-p 0.99, so unlikely words are never
# drawn, and the term moves their probability to the likely ones. And at later
# updates of the same rollouts it is a brake: its gradient is that of the
# divergence from the policy that wrote them.

# %%
words = torch.linspace(2.5, -2.5, 20)  # logits to start from


def nucleus(pi, top_p):
    order = pi.argsort(descending=True)
    inside = pi[order].cumsum(0) - pi[order] < top_p
    q = torch.zeros_like(pi)
    q[order[inside]] = pi[order[inside]]
    return q / q.sum()


def entropy(z):
    return -(z.softmax(0) * z.log_softmax(0)).sum()


def run(loss, steps=400, rate=0.5):
    z, curve = words, []
    for _ in range(steps):
        z = z.detach().requires_grad_()
        curve.append(float(entropy(z.detach())))
        (gradient,) = torch.autograd.grad(loss(z), z)
        z = z - rate * gradient
    return curve


def likelihood(top_p):
    def loss(z):
        q = nucleus(z.softmax(0).detach(), top_p)  # words are drawn from it
        return -(q * z.log_softmax(0)).sum()

    return loss


# %%
curves = {
    "mean(−log π), top-p 1": run(likelihood(1.0)),
    "mean(−log π), top-p 0.99": run(likelihood(0.99)),
    "less entropy": run(lambda z: 0.01 * entropy(z)),
}

# %% mystnb={"figure": {"name": "fig-entropy-term", "caption": "The term alone, on a softmax of twenty words, in expectation. With top-p 1 it does nothing; with 0.99 it sharpens, as a small penalty on the true entropy would."}, "image": {"alt": "Three lines of entropy over four hundred steps: with top-p 1 it is flat, with top-p 0.99 it falls, and under a penalty on the true entropy it falls."}}
figures.entropy_term_figure(curves)

# %%
for name, curve in curves.items():
    print(f"{name:26} entropy falls by {curve[0] - curve[-1]:.3f}")

old = torch.linspace(1.0, -2.0, 20).softmax(0)  # wrote the rollouts
z = words.clone().requires_grad_()
brake = (old * (old.log() - z.log_softmax(0))).sum()  # KL(old || policy)
term = -(old * z.log_softmax(0)).sum()
same(*(torch.autograd.grad(loss, z)[0] for loss in (brake, term)))

# %% [markdown]
# With top-p 1 nothing falls. So in this book's
# small worlds, where training samples with top-p 1, η does nothing on-policy
# but add noise.
#
# ## Real rollouts
#
# The small world's cold start answers a few questions. Its rollouts go through
# all methods with one and the same view of the picture.

# %%
sampled = sampled_rollouts(prompts, rollouts, seed)
ended = replace(sampled, progress=1.0)
real = shaped_by(ended, srpo={"spans": "reads"})
compare_shaped(sampled, real).round(3)

# %% [markdown]
# `size` is the mean absolute advantage over that of the group. VPPO's is far
# below 1, since most tokens are zeroed. `spread` is how much the factor varies
# within an answer. A method whose spread is a few hundredths is, to a good
# approximation, its base: PEPO and PAPO at their defaults are such methods
# here.

# %%
weights = pepo_weights(
    sampled.signals["layer_cosines"], sampled.signals["entropy"], sampled.mask
)
print(f"PEPO's weights: {weights[sampled.mask].std():.3f} around 1")

# %% [markdown]
# ## What it costs
#
# A method costs what it wants to know. What the loss's own pass can tell is
# free: entropy, cosines in every layer. Each other view of the rollouts is one
# more forward pass, without gradient. VGPO and VPPO compare the answers to a
# question. Where a micro-batch holds all answers to a question, the loss's pass tells
# them what they want to know; where it holds only some, they need one pass more.

# %%
method_table()[["passes", "in whole groups", "gradient"]]

# %% mystnb={"figure": {"name": "fig-cost", "caption": "Time of a step over DAPO's, with quartiles over rounds; orange marks are the limits that the benchmark checks. Left: every rollout serves one update, all in one micro-batch. Middle: in two, of whole groups. Right: two updates, so that TRL scores rollouts anyway."}, "image": {"alt": "Three panels of points, one per method, at the time of a step over that of DAPO. VGPO, PEPO, entropy shaping and GPG stand at 1 in all of them; PAPO, VPPO and SRPO above 1.1."}}
record = json.loads(Path("../results/bench/methods.json").read_text())
costs = {
    setting.removeprefix("rollouts "): pd.DataFrame(
        {
            "time": record[setting]["time_ratio"],
            "low": {m: q[0] for m, q in quartiles.items()},
            "high": {m: q[1] for m, q in quartiles.items()},
            "limit": record["time_limits"],
        }
    ).reindex(list(quartiles))
    for setting in record
    if setting.startswith("rollouts used")
    for quartiles in [record[setting]["time_ratio_quartiles"]]
}
figures.cost_figure(costs)

# %%
once = record["rollouts used once"]
columns = {"time": once["time_ratio"], "memory": once["memory_ratio"]}
pd.DataFrame(columns).round(2)

# %% [markdown]
# Measured by `python -m benchmarks methods`: a small model on one thread, with
# completions of 64 tokens; time is that of the processor. A pass costs about an
# eighth of DAPO's step here, generation included.
#
# Where each rollout serves one update, the pass of the loss goes over the same rows by
# the same policy, and VGPO reads along: it costs nothing. So it is where each rollout
# serves two updates, since TRL scores rollouts then. It costs a pass where a
# micro-batch is smaller than a group, as on a card that holds four answers of eight:
# let `per_device_train_batch_size` be a multiple of `num_generations` if memory
# allows. A masked view has to be paid for everywhere.
#
# The peak of memory is DAPO's for all of them: it lies in the backward pass.
#
# ## All in one table

# %%
method_table()[["default"]]

# %% [markdown]
# The defaults are those of each paper's released scripts, where there are any. [The
# page of the package](../book/api.md) says for each setting which. Recipes are in
# `recipes/neighbours/`, a small one and one for 7B each.
#
# ## What training says
#
# The experiment `neighbours` trains all of them from the same cold starts, with
# the same questions and seeds, beside DAPO and VGPO:
#
# ```bash
# python -m vgpo.studies.experiments run neighbours --workers 2
# ```
#
# Every planned method has its rows, run or not. `vgpo_prediction` has six of the ten
# seeds of the headline ([chapter 08](08_evaluation.ipynb)), trained by an earlier commit
# of this package, and the table says so. A difference is to DAPO with the same seed, with
# its t interval; one seed has none.

# %%
plan = read_grid(f"../recipes/experiments/{grid}.yaml")
others = [arm for arm in plan.arms if arm != plan.baseline]
_, outcomes = evidence.recorded(plan, "../results/experiments")
trained = {
    name: evidence.planned_table(outcomes, others, plan.baseline, outcome)
    for name, outcome in (
        ("reward, all steps", "reward/area"),
        ("accuracy, held out", "accuracy/sampled"),
    )
}
shown = ["seeds", "difference", "low", "high", "p_corrected", "verdict"]
pd.concat(trained)[shown].round(3)

# %%
for name, table in trained.items():
    print(name.upper())
    print(evidence.wrapped(evidence.in_words(table, plan.baseline)))

# %% [markdown]
# Eight methods, six seeds each: no $p$ could have come out below .25, so no difference can
# be found. What can be seen is where one would not matter: in held-out accuracy, of every
# method but GPG, whose interval is the widest. In the reward most rows are not decided:
# their intervals do not exclude a hundredth one way or the other. So this world and these
# seeds do not say which method trains better, and nothing above this section does.
#
# Nor do all methods take steps of one size:

# %%
sizes = step_sizes(outcomes, plan.baseline).set_index("arm")
sizes.drop(columns=["world", "setting"]).reindex(others).round(3)

# %% [markdown]
# Mean absolute advantage and norm of the gradient, each over DAPO's with the same seed;
# `differs` marks what is over 5 % from 1. GPG's gradients are half of DAPO's, since it
# divides rewards by no standard deviation; VPPO keeps four tenths of the advantage; VGPO's
# gradients are larger. A row so marked compares a method *and* a size of its steps. That
# size can matter more than the method does: a DAPO with a rate three tenths higher gains
# more than any row above ([chapter 08](08_evaluation.ipynb), "Steps of another size").
# Of the methods here VGPO alone was set against a DAPO whose rate is matched; what the
# table says of GPG, it says of GPG at this rate and no other.

# %% [markdown]
# ## Summary
#
# - Two families: some *multiply* the advantage (VGPO, VPPO, PEPO, SRPO), some *add*
#   to it (PAPO on-policy, entropy shaping). Those that add treat right and wrong
#   answers differently.
# - PAPO punishes more than it rewards, by a factor of over twelve.
# - VPPO's released factor is mostly about the question, not the answer.
# - PEPO's weights hardly leave 1. The "entropy" of PAPO and VPPO is no entropy.
# - Free: entropy shaping, GPG, PEPO. One pass: VGPO, PAPO. Two: VPPO, SRPO. Where
#   micro-batches hold whole groups, VGPO is free and VPPO takes one.
#
# ## Exercises
#
# Predict first; then change the number in its cell and run the cells below it, or type
# the line into a cell after the figure of all methods.
#
# **1.** The third answer is right. Of its last token, let the picture argue harder: set
# the −0.4 in `contrast` to −2. What becomes of this token's advantage of 1 by PAPO
# (with $\gamma = 0.3$, as in the figure), by VPPO and by SRPO?
#
# :::{dropdown} Solution
# PAPO: $1 + 0.3\,(1 - e^{2}) = -0.92$. A token of a *right* answer is pushed down.
# VPPO: its $k$ is now the largest of the answer, so it stays among the kept, and the
# mean of $k$ lifts the answer's factor from 1.09 to 1.19: it is praised more. SRPO,
# which keeps the sign of the contrast: down from 0.87 to 0.63. One token, three
# opinions. (Below about −2.6 the clamp at $k = 10$ acts, and the cell that compares
# with the formula without it says so.)
# :::
#
# **2.** PEPO divides its score by a temperature of 1.8. Which one would give a token
# that is read twice the weight of an average one?
#
# ```python
# shaped_by(end, pepo={"temperature": 0.1})["pepo"] / A[:, None]
# ```
#
# :::{dropdown} Solution
# About 0.1: the third token of the first and of the third answer then have 1.8 and 2.0.
# At 0.02 they have nearly all of the weight. Cosines to image tokens lie so close to
# each other that 1.8 is, for a softmax, next to infinity.
# :::
#
# **3.** All four answers are wrong, so every advantage is 0. Which methods still push?
#
# ```python
# none = replace(end, advantages=torch.zeros(4))
# pushed = shaped_by(none, papo={"gamma": 0.3})
# {name: float(a[mask].abs().max()) for name, a in pushed.items()}
# ```
#
# :::{dropdown} Solution
# PAPO alone: up to 0.29 for what the picture speaks for, and down to −0.37. It is the
# only one whose wish does not wait for a reward. Factors of 0 stay 0, and the bonus of
# entropy shaping is at most half the advantage, which is nothing.
# :::
#
# ## Keep in mind
#
# - The same four rollouts get seven different advantages: look at what a method does to
#   a wrong answer before comparing scores.
# - A method that adds can turn the sign of a push, unless it is held (entropy shaping
#   is, PAPO is not); one that multiplies cannot.
# - "Exact" has a range: GPG, PAPO as an advantage and PEPO's gradient for one update
#   per generation, the others for all.
