# %% [markdown]
# # One group, from reward to gradient
#
# **In this chapter.** A model answers one question four times; two answers are
# right. *Which words become likelier, which less likely, and by how much?*
# First by GRPO, the usual way; then with what DAPO changes; then by VGPO, the
# method of this book. Each is a dozen lines of PyTorch, on numbers small enough
# to check by eye. At the end the same lines push a real model.

# %% tags=["parameters", "hide-input"]
rewards = [1.0, 1.0, 0.0, 0.0]  # of the four completions: right or wrong
beta = 0.3  # strength of VGPO's compensation
gamma = 0.5  # how much of a completion is its tail
kappa = 0.2  # share of the tail that is compensated
accumulation = "sum"  # of weights over a completion; or "mean"
step_size = 0.1  # of the one step on a real model
seed = 7  # of the real model's four answers

# %% tags=["hide-input"]
import torch
from torch.nn.utils.rnn import pad_sequence

import vgpo
from vgpo import figures
from vgpo.studies.tables import padded, token_table
from vgpo.testbed import World, load_tiny
from vgpo.testbed.answers import answer, correct
from vgpo.testbed.data import encode_prompts

torch.set_printoptions(precision=2, sci_mode=False, linewidth=78)
example = World().example(31, family="sum", split="heldout")

# %% [markdown]
# ## Four answers to one question
#
# The picture below has four tiles; the question is about two of them. Black
# shows a 7 and green a 1, so the answer is 8. Here are four answers, shortened
# by hand. The first is right. The second says the same with two more words. The
# third misreads the green tile as a 4. The fourth does not look at all.

# %%
rollouts = [
    ["black", "7", "green", "1", "so", "8"],
    ["well", "black", "7", "then", "green", "1", "so", "8"],
    ["black", "7", "green", "4", "so", "11"],
    ["maybe", "it", "is", "9"],
]
rewards = torch.tensor(rewards)
lengths = torch.tensor([len(words) for words in rollouts])
mask = torch.arange(8) < lengths[:, None]  # True on real tokens

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-one-group-grpo", "caption": "GRPO: a reward becomes one number for the whole completion, and every word of it gets that number. Blue words are to become likelier, orange ones less likely."}, "image": {"alt": "A picture of four coloured tiles with handwritten digits and the question Add black plus green. Below, four short answers word by word: all words of the two right ones have plus 0.87 under them, all words of the two wrong ones minus 0.87."}}
advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
labels = ["right" if reward else "wrong" for reward in rewards]
figures.pushes_figure(
    rollouts,
    labels,
    {"GRPO": advantages[:, None].expand(4, 8)},
    image=example.image,
    question=f"{example.question}     true answer: {example.answer}",
)

# %% [markdown]
# That is reinforcement learning from rewards in one picture. Nobody tells the
# model *which* word was wrong. It writes several answers, a checker marks each
# as right or wrong, and the words of right answers become likelier. Over many
# questions, words that help stand in right answers more often than in wrong
# ones, and the rest cancels.
#
# Look at the third answer, though. `black 7` is correct and is pushed down with
# everything else. `4` is the one mistake, and gets no more of the blame than
# `so`. Can the blame be told to go where it belongs? That is VGPO's question.
#
# ## GRPO in a dozen lines
#
# Some words first. The model is the *policy* $\pi_\theta$: given all that came before,
# it has a probability for every next token $y_t$. Its answers are *completions*, or
# *rollouts*, and those to one question form a *group*. A completion's *advantage* says
# how much better it did than its group {cite:p}`shao2024deepseekmath`, in units of how
# much the group differs ($R_i$ is the reward of answer $i$, and $\epsilon$ keeps the
# division from failing where all are equal):
#
# $$
# \hat A_i = \frac{R_i - \operatorname{mean}_j R_j}{\operatorname{std}_j R_j + \epsilon}
# $$
#
# "Eq. 2" in the code is its number in the paper. So it is in all chapters.

# %%
advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)  # Eq. 2
print(advantages)

# %% [markdown]
# Two of four are right, so the mean is 0.5 and the two sides are equally far
# from it. No second model has to estimate what a good reward would be: the
# group is its own yardstick.
#
# Next, the loss. It has the probability of each token now over its probability
# when the answer was sampled, $r = \pi_\theta / \pi_\text{old}$. Raising $r$
# pays where the advantage is positive, and lowering it where it is negative.
# `clamp` ends the reward for going further than 20 % in one update:

# %%
clip = 0.2


def grpo_loss(log_probs, old_log_probs, advantages, mask):
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    gain = torch.minimum(ratio * advantages, clipped * advantages)
    per_completion = (gain * mask).sum(dim=1) / mask.sum(dim=1)
    return -per_completion.mean()


# %% [markdown]
# To see what it does to each token, let the log-probabilities themselves be the
# parameters. Their values are made up, and they do not matter yet: only the
# gradient does. Right after sampling, the policy is still the old one, $r = 1$.

# %%
old = torch.full((4, 8), -1.0)


def push_of(loss, advantages, change=0.0):
    """How fast the objective grows with each token's log-probability."""
    log_probs = (old + change).requires_grad_()
    loss(log_probs, old, advantages, mask).backward()
    return 0 - log_probs.grad  # a loss falls where the objective grows


push = push_of(grpo_loss, advantages[:, None])
print(push)

# %% [markdown]
# Within a row all numbers are equal: that is the colour of the figure. Between
# rows they are not, although all advantages have the same size. A word of the
# fourth answer, which has four words, is pushed twice as hard as one of the
# second, which has eight. The loss takes the mean of each completion first, so
# **every completion has one vote, and its words share it**.
#
# ## What DAPO changes
#
# VGPO is built on DAPO {cite:p}`yu2025dapo`. Of what that changes, four things matter
# here.
#
# 1. *Token mean.* All tokens of all completions are averaged at once, so every
#    token has one vote.
# 2. *Clip higher.* The ratio may rise to 1.28 but fall only to 0.8, so that
#    rare tokens can gain ground.
# 3. *Dynamic sampling.* Groups that are all right or all wrong are dropped, and
#    other questions are asked instead.
# 4. *No KL term.* GRPO's full loss also holds the policy near the one it
#    started from. (It was left out above.)

# %%
clip_higher = 0.28


def dapo_loss(log_probs, old_log_probs, advantages, mask):
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip_higher)
    gain = torch.minimum(ratio * advantages, clipped * advantages)
    return -(gain * mask).sum() / mask.sum()  # token mean: Eq. 1


push = push_of(dapo_loss, advantages[:, None])
print(push * mask.sum())

# %% [markdown]
# Times the number of tokens, which is 24 here, the push *is* the advantage. Every word
# has one vote now, so a long completion counts for more than a short one. Now suppose
# that an update has already raised every probability by a quarter, $r = 1.25$. Who is
# still pushed?

# %%
raised = torch.tensor(1.25).log()
for loss in (grpo_loss, dapo_loss):
    later = push_of(loss, advantages[:, None], change=raised)
    print(f"{loss.__name__}:", (later != 0).sum(dim=1).tolist(), "tokens")

# %% [markdown]
# Under GRPO the right answers (first two rows) have reached their limit of 1.2
# and get nothing more; under DAPO they may go on to 1.28. The wrong answers are
# pushed down by both. And what does a group say in which all are right?

# %%
same = torch.ones(4)
print((same - same.mean()) / (same.std() + 1e-4))

# %% [markdown]
# Nothing. Such a group costs as much to sample as any other and moves no
# weight. That is why DAPO drops it.
#
# ## VGPO in a dozen more
#
# VGPO changes one thing: the number that multiplies each token. At every token,
# of the picture as of the text, the model holds a long vector, its *hidden state*.
# A token whose hidden state resembles those of the picture shall get more of the
# credit, or of the blame. So each token needs a number that says how visual it is.
#
# **Focus** (Eq. 3-4). The last layer's states at the image's tokens have a mean,
# the *visual prototype* $\mu_v$. The *focus score* of a token is the cosine
# between its state and that mean, moved to $[0, 1]$. Here with two image tokens
# and one state of an answer, in the plane:

# %%
image_states = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
state = torch.tensor([1.0, 2.0])
prototype = image_states.mean(dim=0)  # Eq. 3
cosine = state @ prototype / (state.norm() * prototype.norm())
print("focus:", (cosine + 1) / 2)  # Eq. 4

# %% [markdown]
# The state leans the way of the picture, without lying on it. A state that points
# exactly along the prototype has 1, one at a right angle 0.5, one that points the other
# way 0.
#
# For our four answers the scores are chosen by hand, as we would like them to be: high
# where a value is read (0.7 to 0.9), lower where a tile is named, low for words that
# bear on nothing. ([Chapter 02](02_focus.ipynb) asks whether real scores are like that.
# They are so in part.)

# %%
rho = torch.zeros(4, 8)
rho[0, :6] = torch.tensor([0.6, 0.9, 0.5, 0.8, 0.3, 0.5])
rho[1, :8] = torch.tensor([0.2, 0.6, 0.9, 0.2, 0.5, 0.8, 0.3, 0.5])
rho[2, :6] = torch.tensor([0.6, 0.9, 0.5, 0.7, 0.3, 0.5])
rho[3, :4] = torch.tensor([0.2, 0.3, 0.3, 0.4])

# %% [markdown]
# **Compensation** (Eq. 5-6). Models look less as an answer grows, says the paper. So in
# the *tail* of an answer, a share $\gamma$ at its end (here its second half), the
# highest scores, a share $\kappa$ of the tail (here a fifth), are raised by up to
# $\beta$ (here 30 %): the more, the later they stand. The scores after this are called
# *weights*, $w$.

# %%
w = rho.clone()
for i, T in enumerate(lengths.tolist()):
    t = torch.arange(1, T + 1)
    tail = t > (1 - gamma) * T
    winners = max(1, int(kappa * tail.sum()))
    least = rho[i, :T][tail].topk(winners).values.min()
    gate = tail & (rho[i, :T] >= least)  # Eq. 6
    w[i, :T] = rho[i, :T] * (1 + gate * beta * t / T)  # Eq. 5
print(w)

# %% [markdown]
# One token of each row is raised, since a fifth of three or four tokens is less than
# one, and one always passes: the `1`, the `1`, the `4`, and the `9` of the guess. The
# first of them went from 0.80 to 0.96. This rule that lets tokens pass is the *gate*. It
# has to choose somebody in every answer, also where nobody looks.
#
# **Within a completion** (Eq. 7-8). Stretch the weights of an answer to
# $[0, 1]$ and subtract their mean. This is $\psi$: which *tokens* of this answer
# are more visual than its others?

# %%
psi = torch.zeros(4, 8)
for i, T in enumerate(lengths.tolist()):
    w_hat = (w[i, :T] - w[i, :T].min()) / (w[i, :T].max() - w[i, :T].min())
    psi[i, :T] = w_hat - w_hat.mean()  # Eq. 7, Eq. 8
print(psi)

# %% [markdown]
# In the first row the two values lead, `7` with +0.41 and `1`, which was raised, with
# +0.51; `so` comes last with -0.49. Each row adds up to 0, so what some words of an
# answer gain, its others lose. Mind the fourth row: its weights lie between 0.2 and 0.52,
# and its $\psi$ is spread as widely as that of the rows that look.
#
# **Between completions** (Eq. 9-11). Add up the weights of each answer, then
# stretch and centre over the group. This is $\phi$: which *answers* are more
# visual than the others?

# %%
s = w.sum(dim=1)  # Eq. 9
if accumulation == "mean":
    s = s / lengths
s_hat = (s - s.min()) / (s.max() - s.min())  # Eq. 10
phi = s_hat - s_hat.mean()  # Eq. 11
print("accumulated:", s)
print("phi:        ", phi)

# %% [markdown]
# The second answer has accumulated most and the guess by far the least. The $\phi$ of the
# group add up to 0 as well.
#
# **Both** (Eq. 12). $\hat A^V_{i,t} = \hat A_i (1 + \psi_{i,t}) (1 + \phi_i)$,
# and the loss stays DAPO's:

# %%
shaped = advantages[:, None] * (1 + psi) * (1 + phi)[:, None]  # Eq. 12
shaped = shaped.where(mask, 0)  # nothing where there is no token
push = push_of(dapo_loss, shaped)
torch.testing.assert_close(push * mask.sum(), shaped)
print(shaped)

# %% [markdown]
# One word from end to end, the `1` of the first answer:

# %%
i, t = 0, 3  # first answer, fourth word
print(f"focus {rho[i, t]:.2f}, raised to {w[i, t]:.2f}:", end=" ")
print(f"psi {psi[i, t]:+.2f}; phi of its answer {phi[i]:+.2f}")
print(f"{advantages[i]:.2f}", end=" ")
print(f"x {1 + psi[i, t]:.2f} x {1 + phi[i]:.2f} = {shaped[i, t]:.2f}")

# %% [markdown]
# Under DAPO it is pushed with 0.87 like every word of a right answer, here nearly twice
# as hard. All words side by side:

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-one-group-vgpo", "caption": "What each word is pushed by, by DAPO and by VGPO. The shade is the size."}, "image": {"alt": "The four answers twice. Under DAPO all words of an answer have the same number. Under VGPO the values 7 and 1 of the right answers have the largest positive numbers, the 7 and the misread 4 of the third answer the largest negative ones, and the guess, which does not look, has small negative numbers throughout."}}
panels = {"DAPO": advantages[:, None].expand(4, 8), "VGPO": shaped}
figures.pushes_figure(rollouts, labels, panels)

# %% [markdown]
# Read the third answer. The misread `4` now gets most of the blame but for one:
# `7`, which was read correctly, gets still more, since its focus is higher.
# VGPO sends blame to words that *look*, not to words that are *wrong*; it has no
# means to tell them apart.
#
# Now compare the third answer with the fourth. The one that looked, and misread
# one tile, is pushed down hard. The one that guessed gets off lightly, because
# its accumulated focus is the lowest. The factor $1 + \phi$ rises with looking,
# and in a wrong answer it multiplies blame.
#
# And the second answer has the largest $\phi$ of all. It does not look better than the
# first; it is two words longer. [Chapter 04](04_reweighting.ipynb) comes back to this.
#
# ## The package says the same
#
# Everything above is in `vgpo` as functions of whole batches. They agree to
# the last digit:

# %%
group = torch.zeros(4, dtype=torch.long)  # all four answer one question
ours = vgpo.compensate(
    rho, mask, strength=beta, tail_ratio=gamma, top_ratio=kappa
)
torch.testing.assert_close(ours, w)
ours_psi = vgpo.intra_trajectory_weights(ours, mask)
torch.testing.assert_close(ours_psi, psi)
ours_phi = vgpo.inter_trajectory_weights(
    ours, mask, group, accumulation=accumulation
)
torch.testing.assert_close(ours_phi, phi)
reshaped = vgpo.reweight_advantages(advantages, ours_psi, ours_phi)
torch.testing.assert_close(reshaped * mask, shaped)

# %%
mine = vgpo.visual_focus_score(
    state[None, None],
    vgpo.visual_prototype(image_states[None], torch.ones(1, 2)),
)
torch.testing.assert_close(mine[0, 0], (cosine + 1) / 2)

# %% [markdown]
# ## The same on a real model
#
# The small model that comes with this book ([chapter 00](00_testbed.ipynb)) answers the
# same question four times. Its scores $\rho$ are measured, by the state that is about
# to write each token.

# %%
model, processor = load_tiny()
asked = [example] * 4
texts = answer(model, processor, asked, temperature=1.0, seed=seed)
table = token_table(model, processor, asked, texts)
rho, mask = padded(table, "focus_prediction")
words = table.groupby("row")["token"].agg(list).tolist()
right = torch.tensor([correct(t, example) for t in texts])
rewards = right.float()

# %%
advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
w = vgpo.compensate(rho, mask)
psi = vgpo.intra_trajectory_weights(w, mask)
phi = vgpo.inter_trajectory_weights(w, mask, group)
shaped = vgpo.reweight_advantages(advantages, psi, phi)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-one-group-real", "caption": "The same for four answers of the small model: what VGPO pushes each token by."}, "image": {"alt": "Four answers of about 22 tokens each, two right and two wrong, with a number under each token. Values after an equals sign have the largest numbers; answers with a larger phi have darker shades throughout."}}
labels = ["right" if r else "wrong" for r in right]
figures.pushes_figure(words, labels, {"VGPO": shaped})

# %% [markdown]
# Here the signals are fainter than the ones we made up: the states of most tokens are
# about as near to the picture as each other. Still, values stand out. The largest blame
# of all, -2.17, goes to the `7` of the last answer, which was read correctly; its `4`,
# the mistake, has -1.48.
#
# Does a pushed token move? Take one step along the gradient and ask for all
# log-probabilities again.

# %%
batch = encode_prompts(processor, asked, texts)


def log_probs_of(model):
    scores = model(**batch).logits[:, :-1].log_softmax(dim=-1)
    chosen = scores.gather(2, batch["input_ids"][:, 1:, None])[..., 0]
    ends = zip(chosen, mask.sum(dim=1).tolist(), strict=True)
    return pad_sequence([row[-n:] for row, n in ends], batch_first=True)


# %%
def change_after_one_step(advantages):
    model, _ = load_tiny()
    before = log_probs_of(model)
    dapo_loss(before, before.detach(), advantages, mask).backward()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.grad is not None:
                weight -= step_size * weight.grad
        return before.exp(), log_probs_of(model) - before


probability, change = change_after_one_step(shaped)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-one-group-moved", "caption": "What became of it: the change of each token's log-probability after one step."}, "image": {"alt": "The same four answers. Nearly all tokens have plus or minus 0.00 under them and no tint. The misread digits and the filler words of the wrong answers have large negative numbers, the filler words of right answers positive ones."}}
figures.pushes_figure(words, labels, {"moved by": change.detach()})

# %% [markdown]
# Few tokens moved, and not those that were pushed most. Two things happened on
# the way from push to change.
#
# **What all answers share cancels.** `black = 7` stands in all four. Two pushes
# up and two pushes down nearly balance. The misread digits stand in one answer
# each, and nothing holds them up.
#
# **What is certain cannot move.** A token with probability $p$ near 1 has no room to
# become likelier. And the gradient with respect to its logit, the score before the
# softmax, is the push times $1 - p$, whichever way the push goes. Count:

# %%
sure = probability[mask] > 0.99
print(f"{sure.float().mean():.0%} of the tokens have probability > 0.99.")
pushes = {"push by DAPO": advantages[:, None] * mask, "push by VGPO": shaped}
for name, values in {**pushes, "change": change}.items():
    size = values[mask].abs()
    share = size[sure].sum() / size.sum()
    print(f"They have {share:.1%} of the {name}.")

# %% [markdown]
# Most of the push, with VGPO as with DAPO, goes to tokens that it cannot move.
# So it matters less how visual the average token is than which of the *undecided*
# tokens get a larger push, and a weight on an equals sign that was certain anyway
# is spent on nothing. Keep this in mind wherever a later chapter counts which
# tokens "get the credit".
#
# ## Exercises
#
# Predict first. Then run the line, with the environment active
# (`source .venv/bin/activate`), and find the cell in
# `_build/tried/00b_one_group.ipynb`; or change the value in the first cell here.
#
# **1.** Only the first answer is right. What are the advantages, and which
# answers are pushed harder than before?
#
# ```bash
# python book/build.py execute 00b_one_group -p rewards "[1.0, 0.0, 0.0, 0.0]"
# ```
#
# :::{dropdown} Solution
# The mean is 0.25, so the advantages are +1.5 and three times -0.5. One rare
# success is pushed up hard, and each failure is pushed down less than before, the
# second answer now among them. The sum over the group stays 0.
# :::
#
# **2.** Let the tail be the whole answer, $\gamma = 1$. Which token of the first
# answer does the gate choose now, and what becomes of the `1`?
#
# ```bash
# python book/build.py execute 00b_one_group -p gamma 1.0
# ```
#
# :::{dropdown} Solution
# Of six tokens $\lfloor 0.2 \cdot 6 \rfloor = 1$ passes: the `7`, with the
# highest score. It stands second, so it is raised by $0.3 \cdot 2/6 = 10\%$
# only. The `1` loses its lift of 20 %, and its $\psi$ falls from 0.51 to 0.27, also
# because the largest weight has grown. The tail is what gives late tokens a chance.
# :::
#
# **3.** Let $\phi$ compare the *mean* weight in place of the sum. Which answer
# has the largest $\phi$ now?
#
# ```bash
# python book/build.py execute 00b_one_group -p accumulation mean
# ```
#
# :::{dropdown} Solution
# The first, and the second falls behind the third: its two extra words, `well`
# and `then`, have low scores and pull its mean down. With the sum they pushed it
# up. One line of code decides whether padding an answer pays.
# :::
#
# ## Keep in mind
#
# - GRPO gives every token of an answer the same push; DAPO changes whose tokens
#   count, how far they may go, and which groups are used at all.
# - VGPO multiplies that push by $(1 + \psi)(1 + \phi)$: more for tokens, and for
#   answers, whose states are close to the picture's. Credit and blame alike.
# - A push is not a change. Tokens that are certain hardly move, whatever they are
#   weighted by.
