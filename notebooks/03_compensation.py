# %% [markdown]
# # Compensation: lifting what looks late
#
# **In this chapter.** As a completion grows, its tokens look at the image less, says
# the paper. Its remedy starts here: the most visual tokens of the *tail* of a
# completion are given more weight, the more the later they come. *Which tokens
# does that lift, by how much, and do they read the image?*

# %% tags=["parameters", "hide-input"]
checkpoint = ""  # folder of another cold start; "" takes the shipped one
chains = 200  # completions the gate is graded on
seed = 0  # seed of the completions
resamples = 2000  # of whole chains, for the intervals

# %% tags=["hide-input"]
import json
from pathlib import Path

import pandas as pd
import torch

import vgpo
from vgpo import figures, testbed
from vgpo.studies import gates
from vgpo.studies.tables import padded, table_beside_controls
from vgpo.testbed import IMAGE_FAMILIES, World
from vgpo.testbed.answers import answer

torch.set_printoptions(precision=2, sci_mode=False, linewidth=78)

# %% [markdown]
# ## First result
#
# Of the tokens that are lifted in 160 answers of the small model, this share reads the
# image, by what the tokens are scored:

# %% tags=["hide-input"]
recorded = json.loads(Path("../results/controls/gate.json").read_text())["rows"]
rows = pd.DataFrame(recorded).query("tail_ratio == 0.5 and top_ratio == 0.2")
said = {
    "focus": "focus, the state at the token",
    "focus_prediction": "focus, the state that predicts it",
    "grey_prediction": "the same over a grey picture",
    "rule": "a rule on the text: after =",
}
shares = rows.set_index("score").loc[list(said)].rename(index=said)
shares = shares[["precision", "precision_low", "precision_high"]]
shares.columns = ["share that reads", "low", "high"]
shares.rename_axis("scored by").round(2)

# %%
print(f"of all tokens in the tail: {rows['base'].iloc[0]:.2f}")
print(f"with perfect scores: {rows['best'].iloc[0]:.2f}")

# %% [markdown]
# By the state at a token hardly any is one that reads; by the state before it, more than
# a third are, and as many without a picture. What the lift is, and why so:
#
# ## Two formulas, one chain
#
# A token's weight is its focus score $\rho$ (the last chapter), raised where
# a gate is open (Eq. 5):
#
# $$
# w_{i,t} = \rho_{i,t} \left[ 1 + G_{i,t} \, \beta \, \frac{t}{T_i} \right]
# $$
#
# The gate is open (Eq. 6) for tokens of the tail, $t > (1 - \gamma) T_i$, whose score
# is among the top $\kappa$ of that tail. The paper sets $\beta = 0.3$, $\gamma = 0.5$
# and $\kappa = 0.2$. In place of $t / T_i$, which is *linear*, its ablation tries two
# other schedules. The one that it names *exponential* is, in the released code, the
# square $(t / T_i)^2$; this package keeps the name (`schedule="exponential"`). The
# other is a *step*: 0 before the middle, 1 from there.
#
# Eight scores are enough to see it, with $\kappa = 0.5$ so that two of the four
# tokens of the tail pass:

# %%
rho = torch.tensor([0.9, 0.2, 0.6, 0.3, 0.4, 0.8, 0.5, 0.7])
beta, gamma, kappa = 0.3, 0.5, 0.5
T = len(rho)
t = torch.arange(1, T + 1)

tail = t > (1 - gamma) * T
passing = rho[tail].topk(max(1, int(kappa * tail.sum()))).values.min()
gate = tail & (rho >= passing)  # Eq. 6
w = rho * (1 + gate * beta * t / T)  # Eq. 5
print("gate:   ", gate.int().tolist())
print("weights:", w)

# %% [markdown]
# The highest score of all stands first and is not lifted: it is not in the tail.
# Of the tail's four, 0.8 and 0.7 pass; the later one gains more. The package's
# functions take batches of completions of unequal length, and settle ties (the
# later of equal scores passes):

# %%
one = torch.ones(1, T)
knobs = {"tail_ratio": gamma, "top_ratio": kappa}
assert torch.equal(vgpo.visual_gate(rho[None], one, **knobs)[0], gate)
lifted = vgpo.compensate(rho[None], one, strength=beta, **knobs)
torch.testing.assert_close(lifted[0], w)

# %% [markdown]
# ## A chain of the small model
#
# The model of [chapter 00](00_testbed.ipynb) reasons in *chains* of short steps, such
# as `red = 5 . blue = 8 . 5 + 8 = 13`. Here it answers questions that it was not
# trained on, at temperature 1. Every token of its answers is scored twice: by the state
# *at* it, and by the state one place *before*, which chose it.

# %% tags=["hide-input"]
folder = Path(checkpoint) if checkpoint else testbed.CHECKPOINT
model, processor = testbed.load_tiny(folder)
each = chains // len(IMAGE_FAMILIES)
examples = World().examples(each, IMAGE_FAMILIES, seed=30, split="heldout")
texts = answer(model, processor, examples, temperature=1.0, seed=seed)
table = table_beside_controls(model, processor, examples, texts)
print(f"{len(examples)} sampled completions, {len(table):,} tokens")

# %% [markdown]
# Here is a sampled chain of some length, a sum:

# %%
sums = table[(table["family"] == "sum") & (table["length"] < 56)]
longest = sums.loc[sums["length"].idxmax(), "row"]
chain = table[table["row"] == longest]
print("".join(chain["token"]))

# %% [markdown]
# Below, a bar is the score of one of its words, and an orange bar is a word that reads
# the picture. The tail lies on grey ground; triangles mark the words for which the gate
# is open. Where does it open?

# %% mystnb={"figure": {"name": "fig-compensation", "caption": "Top: three schedules. Below: focus as bars, coloured by the true source of the token; grey ground: the tail; triangles: gated tokens; hatched: what compensation adds. The score is taken from the state at the token, and from the one before it."}, "image": {"alt": "Three panels over the tokens of one chain: schedules that rise linearly, quadratically and in a step; then two bar charts of the focus score. In the tail some bars are gated and raised. With the state at t they are grey bars just before the orange ones that read the image; with the state at t minus 1 orange bars are among them."}}
of_score = {
    score: gates.compensated_chain(chain, score)
    for score in figures.SCORE_LABELS
}
figures.compensation_figure(gates.schedule_table(len(chain)), of_score)

# %% [markdown]
# The two bar charts hold the same states, shifted by one token. The states close to the
# image are those that are *about to* name what they see: the state at `=`, which then
# produces a digit. If a state's score goes to the token at its own position (as in the
# released code), the equals sign is lifted. If it goes to the token that the state
# produces, the digit is.

# %%
for column in ("focus", "focus_prediction"):
    focus, mask = padded(chain, column)
    gate = vgpo.visual_gate(focus, mask)[0].numpy()
    lifted = " ".join(chain["token"][gate].str.strip())
    print(f"{figures.SCORE_LABELS[column]:15}", lifted)

# %% [markdown]
# At $t$ the gate opens for signs and for the end of the answer, and for no word that
# reads. At $t - 1$ it opens for the `3` and the first `8`, which were read, and for three
# that were not.
#
# ## What the parameters do
#
# The same chain; the score is that of the state before, at $t - 1$. Move one slider
# at a time and watch which words gain: first $\beta$, then $\gamma$, then $\kappa$.

# %% mystnb={"image": {"alt": "The words of one chain, tinted by their weight, with sliders for strength, tail and share; a word clicked shows its numbers from score to weight."}}
from vgpo.method.visual import VGPO
from vgpo.studies.groups import rollouts_view

rollouts_view(
    chain,
    examples[longest],
    settings=VGPO(alignment="prediction"),
    advantages=[1.0],  # one chain alone, which is to become more likely
    tint="weight",
    title="Compensation of one chain",
)

# %% [markdown]
# $\beta$ sets how high; $\gamma$ where the competition is held; $\kappa$ how
# many win. The number of winners does not depend on the scores: a tail in
# which nothing looks at the image has as many gated tokens as one that looks
# at every step.
#
# ## Does the gate find the tokens that look?
#
# On the testbed this can be graded. *Precision* is the share of gated tokens that truly
# read the image. It stands between two lines: `base`, the share of readers in the whole
# tail (a gate that knows nothing), and `best`, what a gate of the same size would reach
# if it knew the truth, which is less than 1 where the gate is wider than there are
# readers. `recall` is the share of the tail's readers that pass, `gated` the number of
# gated tokens in a chain. And beside it stand two gates that cannot see: one that goes
# by the score at $t - 1$ over a *grey picture*, and one by a rule on the text, "the
# token before is `=`".

# %%
scores = [*figures.SCORE_LABELS, "grey_prediction", "rule"]
grades = gates.grade_gates(
    table,
    scores,
    tail_ratios=(0.25, 0.5, 1.0),
    top_ratios=(0.1, 0.2, 0.3, 0.4),
    resamples=resamples,
)
grades["score"] = grades["score"].replace(
    {"grey_prediction": "grey picture", "rule": "= before"}
)
ratios = ["tail_ratio", "top_ratio"]
paper = grades[(grades[ratios] == [0.5, 0.2]).all(axis=1)]
paper = paper.replace({"score": figures.SCORE_LABELS}).set_index("score")
paper.drop(columns=ratios).round(3)

# %% mystnb={"figure": {"name": "fig-gate-precision", "caption": "Precision of the gate over \u03ba, for three tails. Bands: 95 % bootstrap intervals over chains. Empty marks: gates that cannot see."}, "image": {"alt": "Three line charts of precision over kappa. The line for the state at t minus 1 runs close below the dotted line of a gate that knows the truth; the line for the state at t lies at zero, below the dashed line of a gate that knows nothing. Empty marks, of a grey picture and of a rule on the text, lie on or close to the line for t minus 1."}}
figures.gate_precision_figure(grades)

# %% [markdown]
# At the paper's setting (the table), the gate over states at $t - 1$ is far
# better than chance and reaches most of what a gate of its size can. Over states
# at $t$ it is worse than chance: it shuts out the very tokens it was made for.
# With one and the same formula, the alignment decides whether compensation lifts
# what looks or what stands beside it.
#
# But look at the gates that cannot see. Over a grey picture the gate is as precise as
# over the true one, and so is a gate that goes by equals signs. What it finds is the
# *place* of a read in a chain; whether the model looked there makes no difference to it.
#
# Two further cautions before this becomes a verdict.
#
# **The texts of this world are regular.** Nearly every digit after `=` is a value
# read or a sum. In a sentence such as "The bar for *Tuesday* reaches *40*, twice as
# much as *Monday's*", reads are words of many kinds, and no equals sign
# announces them. Whether the gate would find them there is open; the precision
# above is that of an easy case.
#
# **The neighbour is not a stranger.** Suppose that the gate lifts `=` in `pink = 3`.
# The state at `=` is the one that looked at the pink tile and is about to write 3. But
# the advantage of `=` multiplies $\log \pi(\text{=} \mid \text{pink})$, the decision to
# write an equals sign, which was certain anyway. The push on $\log \pi(3 \mid
# \text{pink =})$, where reading can go wrong, is not lifted. A push on a certain token
# moves next to nothing ([chapter 00b](00b_one_group.ipynb)), so the lift is more likely
# lost than harmful. The recorded grids (`results/experiments/`) train with both
# alignments.
#
# The same by family of questions, for the paper's setting: precision by either score,
# and the two lines `base` and `best` between which it can lie.

# %%
by_family = pd.concat(
    gates.grade_gates(part, resamples=resamples).assign(family=family)
    for family, part in table.groupby("family")
)
by_family["score"] = by_family["score"].map(figures.SCORE_LABELS)
ends = by_family.groupby("family")[["base", "best"]].first()
precision = by_family.pivot(index="family", columns="score", values="precision")
precision.join(ends).map("{:.2f}".format)

# %% [markdown]
# With states at $t - 1$ charts and comparisons leave nothing to gain; sums and
# counting do. No family rescues the states at $t$.
#
# ## Tail or full trajectory
#
# In the paper's ablation, "compensation over the full trajectory" collapsed: 53.5 % on
# average where the tail gave 65.3 %. The name can be read in two ways: the gate's
# competition held over all tokens ($\gamma = 1$), or no gate at all, so that every
# token is lifted by $\beta t / T_i$. What does each do to $\psi$, the centred weight of
# the next chapter (positive for tokens that get more than their completion's mean,
# negative for those that get less)?

# %%
ways = {
    "none": {"strength": 0.0},
    "tail, gated": {},
    "full, gated": {"tail_ratio": 1.0},
    "full, no gate": {"tail_ratio": 1.0, "top_ratio": 1.0},
}


# %%
def weighted(column, way):
    focus, mask = padded(table, column)
    weights = vgpo.compensate(focus, mask, **ways[way])
    return vgpo.intra_trajectory_weights(weights, mask), mask


# %% mystnb={"figure": {"name": "fig-along", "caption": "What three ways of compensating change in mean \u03c8, over the place in the chain. Bands: 95 % intervals over chains."}, "image": {"alt": "Two line charts of the change of mean psi over the place in the chain, one per score. The two lines with a gate lie near zero and rise a little towards the end; the line without a gate rises steadily from well below zero to well above it."}}
def moved(column, way):
    psi, mask = weighted(column, way)
    return psi - weighted(column, "none")[0], mask


rows = [
    gates.along_the_chain(*moved(column, way)).assign(
        score=column, compensation=way
    )
    for column in figures.SCORE_LABELS
    for way in list(ways)[1:]
]
figures.along_the_chain_figure(pd.concat(rows))

# %%
reads = gates.truly_visual(table)
summary = []
for column in figures.SCORE_LABELS:
    for way in ways:
        psi, mask = weighted(column, way)
        progress = vgpo.compensation_schedule(mask)
        both = pd.DataFrame({"psi": psi[mask], "place": progress[mask]})
        summary.append(
            {
                "score": figures.SCORE_LABELS[column],
                "compensation": way,
                "r(ψ, t/T)": both.corr().iloc[0, 1],
                "ψ of readers": float(psi[reads & mask].mean()),
            }
        )
pd.DataFrame(summary).set_index(["score", "compensation"]).round(2)

# %% [markdown]
# `r(ψ, t/T)` is the correlation of $\psi$ with the place, from 0 at the beginning of a
# chain to 1 at its end; `ψ of readers` is the mean over tokens that read the image.
# With a gate, the place in the chain hardly matters, over the tail or over all. Without
# one, $\psi$ follows the place: the end of a completion gains and its beginning loses,
# whatever they look at, and readers are told apart less well. A weight that rewards a
# token for coming last is a plausible reason for a collapse. It is not proof: nothing
# was trained here, and the paper does not say which of the two it ran.
#
# ## What is left of the lift
#
# The lifted weights are next stretched to $[0, 1]$ in each completion (Eq.
# 7). If a lifted token becomes the largest of its completion, as it often
# does, the stretch pulls all *other* tokens down instead.

# %% mystnb={"figure": {"name": "fig-psi-strength", "caption": "Mean \u03c8 of the head, of the tail outside the gate, and of the gated tokens, as \u03b2 grows."}, "image": {"alt": "Two line charts of mean psi over beta. The line of gated tokens is positive already at beta 0, rises steeply at first and then levels off; the line of the head falls slightly from zero; the rest of the tail stays below zero."}}
strengths = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0)
parts = {
    column: gates.psi_by_part(*padded(table, column), strengths)
    for column in figures.SCORE_LABELS
}
figures.psi_strength_figure(parts)

# %%
wide = pd.concat(parts, names=["score"]).reset_index("score")
wide["score"] = wide["score"].map(figures.SCORE_LABELS)
wide = wide[wide["strength"].isin([0.0, 0.3, 1.0])]
wide.pivot(index=["score", "strength"], columns="part", values="psi").round(2)

# %% [markdown]
# `head` is the half before the tail; `tail, gated` and `tail, shut` are the tokens of
# the tail that pass the gate and those that do not. Gated tokens stand out before
# anything is lifted ($\beta = 0$): the gate chose them for it. The paper's $\beta$ adds
# to that, and a larger one adds less and less, because $\psi$ is bounded. The head
# pays: it holds readers too, and none of them can be gated. For readers alone, this is
# what compensation at the paper's $\beta$ changes:

# %%
changes = []
for column, label in figures.SCORE_LABELS.items():
    before, mask = weighted(column, "none")
    after, _ = weighted(column, "tail, gated")
    late = vgpo.visual_gate(before, mask, 0.5, 1.0)
    for where, chosen in (("head", mask & ~late), ("tail", late)):
        change = (after - before)[chosen & reads]
        changes.append((label, where, float(change.mean()), len(change)))
columns = ["score", "readers in", "change of ψ", "tokens"]
pd.DataFrame(changes, columns=columns).set_index(columns[:2]).round(3)

# %% [markdown]
# So for the tokens that read the image, compensation is a transfer in time:
# with states at $t - 1$ the late readers gain what the early ones lose. With
# states at $t$, the late ones gain nothing either. Whether a later reader
# *should* count for more is the method's premise, which no figure of this
# chapter can test; the next chapter follows the weights into the advantage.
#
# ## Exercises
#
# Predict first; then run the line with the environment active
# (`source .venv/bin/activate`), or change the value in its cell here.
#
# **1.** In "Two formulas, one chain", let the tail be everything: `gamma = 1.0`.
# Which tokens of `rho` are gated, and which weight becomes the largest?
#
# ```python
# beta, gamma, kappa = 0.3, 1.0, 0.5  # and run the rest of that cell
# ```
#
# :::{dropdown} Solution
# Four of eight pass: 0.9, 0.8, 0.7 and 0.6. The 0.9 stands first and gains only
# $0.3 \cdot 1/8$, to 0.93; the 0.8 stands sixth and gains $0.3 \cdot 6/8$, to 0.98.
# The late token has overtaken the more visual one.
# :::
#
# **2.** A completion in which nothing looks at the image has focus scores between
# 0.30 and 0.32. How many of its tokens are gated, and how large is their $\psi$?
#
# ```python
# flat = 0.30 + 0.02 * torch.rand(1, 40)
# everything = torch.ones(1, 40)
# weights = vgpo.compensate(flat, everything)
# vgpo.intra_trajectory_weights(weights, everything)[weights > flat]
# ```
#
# :::{dropdown} Solution
# As many as in any completion of 40 tokens: $0.2 \cdot 20 = 4$. The lift of up to
# 30 % is far larger than the spread of the scores, so these four are the largest
# weights and get $\psi$ of about 0.5 to 0.9, as much as gated tokens of a completion
# that does look. The min-max knows no "hardly".
# :::
#
# **3.** Grade the gate on chains of another seed, and fewer of them. Does the order
# of the two alignments depend on it?
#
# ```bash
# python book/build.py execute 03_compensation -p seed 1 -p chains 80
# ```
#
# :::{dropdown} Solution
# The intervals grow by a factor of about $\sqrt{200/80} \approx 1.6$ and stay far
# apart: 0 for states at $t$, around 0.4 for states at $t - 1$.
# :::
#
# ## Keep in mind
#
# - Compensation lifts a fixed share of the tail by up to $\beta$, whether anything in
#   it looks or not.
# - With states at $t$, the released code's choice, none of the lifted tokens reads the
#   image here; with states at $t - 1$ about two in five do.
# - What it changes is *when*: late readers gain what early ones lose. Without the gate
#   it becomes a reward for coming last.
