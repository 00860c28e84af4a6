# %% [markdown]
# # Visual forgetting
#
# While a model reasons in words, does it stop looking at the picture? And do its
# answers go wrong for it? The paper says yes to both (its Fig. 1 and 2), and VGPO
# is its remedy: reward the words that look late.
#
# A curve that falls is no proof. An answer may stop looking because there is
# *nothing left to look at*. And attention that is spread over more and more text
# must thin out on the picture, even in a network that knows nothing. So this
# chapter puts such a network beside every number.
#
# ## First result
#
# Two small worlds, 3,840 sampled answers each. Each answer went through the model
# that wrote it, through an untrained network of the same shape, and through an
# attention that is spread evenly (`uniform`). Shares are of all attention; *fifths* are
# those of an answer's length:

# %% tags=["parameters", "hide-input"]
checkpoint = ""  # folder of another cold start; "" takes the shipped one
questions = 24  # questions per family
rollouts = 8  # sampled answers per question
covered = 20  # questions per family asked again: covered, cut, probed
seed = 60  # names the sequence of questions, and seeds the sampling

# %% tags=["hide-input"]
from pathlib import Path

import pandas as pd
import torch

import vgpo
from vgpo import figures, testbed
from vgpo.analysis.controls import untrained_copy
from vgpo.analysis.views import as_png
from vgpo.explorer.tokens import token_view
from vgpo.stats import forgetting as forget
from vgpo.stats.intervals import auroc_interval, mean_interval
from vgpo.studies import forgetting as study
from vgpo.studies import probes
from vgpo.studies import question_seeds as draws
from vgpo.studies.controls import attention_shares
from vgpo.studies.tables import padded
from vgpo.testbed import CHECKPOINTS, IMAGE_FAMILIES, World
from vgpo.testbed.answers import accuracy, answer
from vgpo.testbed.changes import blank

pd.set_option("display.precision", 3)

# %%
worlds = {
    name: draws.read_record(name, "../results/forgetting")
    for name in ("misread", "look_away")
}
seen = {n: draws.beside_nulls(w["observations"]) for n, w in worlds.items()}
pd.concat(seen, names=["world"]).round(3) + 0.0  # no "-0.000"

# %% [markdown]
# Read the first world from the top. From the first fifth to the last, the image's
# share halves, and text takes over: the first two of the paper's three observations. The
# untrained network shows both. It even shows the third, that right answers keep more of
# their attention on the image to the end. The *late/early ratio* says how much: the
# attention on the image in the late half of an answer over that in the early half. In the
# untrained network it is larger by 0.09 for right answers than for wrong ones. Nothing
# was learnt there, so nothing was forgotten.
#
# The last row of each world is the one that counts. It compares right and wrong
# answers *to the same question*. The nulls are at zero. So is the first model. The
# second is not: right answers keep looking, wrong ones do not. The rest of the
# chapter says why the two worlds part.
#
# **In this chapter.** What is measured, and what knows nothing? Do right answers
# look longer? Does a look go where it should? Is a falling share a loss? What
# could the model still say about the picture, if it were asked?
#
# ## Two definitions
#
# Token $t$ is written from the attention row at position $t - 1$. Take that row
# in the final layer, average it over heads, and add it up over the image tokens
# $V$, over the rest of the prompt $Q$, and over what was generated before. Its
# *image attention* is
#
# $$
# a_t = \frac{\sum_{j \in V} \alpha_{t-1,j}}
#            {\sum_{j \in V} \alpha_{t-1,j} + \sum_{j \in Q} \alpha_{t-1,j}
#             + \sum_{j\ \text{generated}} \alpha_{t-1,j}}
# $$
#
# Special tokens of the prompt are in none of the three: the first one draws
# attention whatever the content. The *late/early ratio* of an answer of $T$
# tokens compares its halves:
#
# $$
# r = \frac{\sum_{t > T/2} a_t}{\sum_{t \le T/2} a_t}
# $$
#
# An answer that looks twice early and once late, half as hard:

# %%
looks = torch.tensor([[0.8, 0.0, 0.8, 0.0, 0.0, 0.4, 0.0, 0.0]])
forget.accumulation_ratio(looks, torch.ones(1, 8))

# %% [markdown]
# Below 1, attention has moved to the early half; at 1 it is evenly spread. Note
# what the ratio does not ask: whether the late tokens *needed* the image.
#
# ## A network that knows nothing
#
# Let every position get the same attention. At token $t$ there are $|V|$ image
# tokens, $|Q|$ words of the question and $t - 1$ words of the answer, so
# $a_t = |V| / (|V| + |Q| + t - 1)$. In code, for nine tiles and eight words:

# %%
V, Q = 9, 8
for T in (20, 40, 80):
    a = V / (V + Q + torch.arange(1, T + 1) - 1)
    r = forget.accumulation_ratio(a[None], torch.ones(1, T))
    print(f"T = {T}: {a[0]:.2f} falls to {a[-1]:.2f}, ratio {r.item():.2f}")

# %% [markdown]
# The share falls and the ratio is below 1, with no forgetting in sight. It falls
# further the longer the answer. Wrong answers tend to be the long ones. So right
# answers get the higher ratio, and nobody has looked at anything.
#
# A network with random weights behaves like the formula. `vgpo.analyze` has both:
# the formula always, the network when asked, since it costs a second pass.

# %% tags=["hide-input"]
folder = Path(checkpoint) if checkpoint else testbed.CHECKPOINT
model, processor = testbed.load_tiny(folder)
rows = testbed.make_dataset(8, family="sum", split="heldout")

# %%
analysis = vgpo.analyze(model, processor, rows, untrained=True)
analysis.summary()[["value", "low", "high", "count"]]

# %% [markdown]
# `model` and `processor` can be those of a vision-language model of Hugging Face
# ([which families were tested](../book/families.md)), `rows` a conversation, several,
# or a data set as TRL trains on ([chapter 01b](01b_forgetting_real.ipynb)). The model
# answers first, unless `completions=` gives the answers. Attention rows are computed
# again from each layer's queries and keys, a chunk at a time, so no $T \times T$ matrix
# is ever stored.
#
# ## The answers of this chapter
#
# Several answers to each question are sampled: right and wrong ones about the *same*
# picture. We begin in the first world. Its chains were taught to misread the $j$-th
# value with a chance that grows with $j$ ([chapter 00](00_testbed.ipynb)).

# %%
asked = [
    World(verbosity=0.3).example(i, seed, "heldout", family)
    for family in IMAGE_FAMILIES
    for i in range(questions)
    for _ in range(rollouts)
]
texts = answer(
    model, processor, asked, temperature=1.0, seed=seed, batch_size=256
)
print(f"{len(texts)} answers, {accuracy(texts, asked):.0%} right")

# %%
found = vgpo.analyze(
    model,
    processor,
    study.as_rows(asked),
    texts,
    keep_maps=len(asked),
    untrained=True,
)
family = [example.family for example in asked]
question = [i // rollouts for i in range(len(asked))]
answers = found.per_answer.assign(group=family, question=question)
truth = study.true_dependence(found, asked)

# %% [markdown]
# ## One answer
#
# A sum that came out wrong, token by token: what share of its attention each
# token gave to the image, to the rest of the prompt, and to the text so far.

# %%
sums = answers[(answers["group"] == "sum") & ~answers["correct"].astype(bool)]
shown = int((sums["length"] - 40).abs().idxmin())
reads = truth[(truth["row"] == shown) & truth["truth"].notna()]
steps, targets = reads["t"].tolist(), reads["tiles"].tolist()

# %% mystnb={"figure": {"name": "fig-attention-split", "caption": "One sampled answer: attention of each token, as it is chosen, split over image, query and generated text."}, "image": {"alt": "Stacked bars over the words of one answer. The orange share of the image is large at the digits that are read from the picture and small elsewhere; the grey share of generated text grows along the answer."}}
found.example_figure(shown)

# %% [markdown]
# Where on the picture does each of them look? Point at a token below, or click one and
# go on with the arrow keys. Eleven other answers can be chosen.

# %% mystnb={"image": {"alt": "An answer as a text of tinted words beside its picture; the word pointed at shows on the picture where the model looked when it wrote it."}}
others = range(0, len(asked), -(-len(asked) // 11))
token_view(
    [found.answer(row) for row in dict.fromkeys([shown, *others])],
    measure="image",
    beside=False,
    picture=as_png(found.heatmap_figure(shown, steps, targets)),
)

# %% [markdown]
# This is no slow fading. The image is looked at in sharp steps: at the values,
# each time on the one tile that is read, and less so at the colours, which this
# chain has to pick from the picture, too. And the first answer is wrong although every
# value of it was looked up in the right place. What did it say?

# %%
what = pd.DataFrame({"said": reads["token"], "shown": reads["truth"]})
what["misread"] = ~reads["faithful"]
what.set_index(reads["t"]).T

# %% [markdown]
# ## Averages
#
# Observations one and two of the paper: over the course of an answer the text
# takes over, and the image fades. Bands come from drawing whole questions, since
# eight answers to one question are not eight witnesses.

# %% mystnb={"figure": {"name": "fig-decay", "caption": "Share of attention over the progress of generation, mean over answers, with 95 % bands over questions. Left, without colour: the image's share where nothing is known. Mind the first panel's own axis."}, "image": {"alt": "Three panels over progress. The image's share swings in waves and falls by half; above it, two lines without colour, of even attention and of an untrained network, fall as steeply and lie on each other. The query's share falls early, the share of generated text rises to well over one half."}}
figures.decay_figure(found.curves(clusters=question))

# %% [markdown]
# Both hold, and both hold for a network that knows nothing. The trained model gives
# the picture *less* than an even spread would, and the waves are its own: it looks
# when it reads. The paper's 7B model gives 0.80 to 0.85 of its attention to text late
# in an answer, and its image share falls from 0.12 to 0.03 on LogicVista. That is a
# fall to a quarter. Whether it exceeds dilution depends on the number of image tokens
# and of words, which the paper does not give.
#
# ## Right and wrong answers
#
# Observation three: right answers keep more of their looking to the end. The
# paper has 0.680 for right answers and 0.532 for wrong ones, over all questions
# of four benchmarks.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-ratio", "caption": "Late/early ratio of right and wrong answers, a point each; mean and 95 % interval over questions. Empty marks: the same answers where nothing is known."}, "image": {"alt": "Strips of points per question family, right above wrong. In most families the mean of the wrong answers lies to the right of the mean of the right ones; the empty marks of what knows nothing lie the other way round or together."}}
nulls = {
    name: forget.mean_ratios(
        answers.assign(ratio=answers[f"ratio_{column}"]), "group", "question"
    )
    for column, name in (("uniform", "even"), ("untrained", "untrained"))
}
means = forget.mean_ratios(answers, "group", "question")
figures.ratio_figure(answers, means, "group", nulls)

# %%
found.summary(question).filter(like="right less wrong", axis=0).iloc[:, :4]

# %% [markdown]
# The sign is the *opposite* of the paper's: over all families, wrong answers
# have the higher ratio. The nulls have the paper's sign. Before making something
# of either, look at length.

# %% mystnb={"figure": {"name": "fig-ratio-length", "caption": "Late/early ratio against the length of the answer; lines are medians over fifths of the lengths."}, "image": {"alt": "A scatter plot with a line per question family, and a dashed one. The ratio rises with the number of tokens in the answer; the dashed line, of a network that knows nothing, falls."}}
figures.ratio_length_figure(answers, "group", "ratio_untrained")

# %%
for name in ("ratio", "ratio_untrained"):
    rho = forget.length_correlation(
        answers[name], answers["length"], clusters=question
    )
    print(f"{name:16} Spearman's rho with length {rho}")

# %% [markdown]
# The longer the answer, the higher the model's ratio, and the lower that of the
# untrained network. The model's rise is dull. Every answer ends on six tokens that
# read nothing (`</think> \boxed{...}`). In a short answer they are much of the late
# half. Without them:

# %%
masses, mask = found.masses()
length = mask.sum(dim=1, keepdim=True)
chain = mask & (torch.arange(mask.shape[1]) < length - 6)
trimmed = forget.accumulation_ratio(masses[..., 0], chain).numpy()
rho = forget.length_correlation(trimmed, answers["length"], clusters=question)
print(f"without the end: mean {trimmed.mean():.2f}, rho with length {rho}")

# %% [markdown]
# The rise is gone. How much of a late/early ratio is owed to the format of an
# answer's end is worth asking of any model.
#
# Long answers are those to hard questions, which go wrong more often. So length
# and difficulty make right and wrong answers differ whatever attention does. The
# remedy is to compare right with wrong answers *to the same question*, and then to
# the same question *and of the same length*:

# %%
same_length = (
    answers["question"].astype(str) + ", " + answers["length"].astype(str)
)
keys = {
    "same question": (answers["ratio"], question),
    "same question and length": (answers["ratio"], same_length),
    "same question, without the end": (trimmed, question),
}
study.comparison_table(
    {
        name: forget.compare_within_questions(
            ratio, answers["correct"], key, picture=question
        )
        for name, (ratio, key) in keys.items()
    }
).round(3)

# %% [markdown]
# Little is left. But the first row excludes 0, with a small p. Is it real?
#
# ## Five draws of questions
#
# One draw of questions is one sample, and its interval speaks for that draw alone.
# So four more were drawn and recorded (`python -m vgpo.studies.question_seeds`). On
# the right stands the second world, in which a chain may go on from memory instead
# of looking: forgetting as the paper means it.

# %% mystnb={"figure": {"name": "fig-forest", "caption": "Right less wrong answers to the same question, late/early ratio: five draws of questions, all of them pooled, and the draws as five values (Student's t). Empty marks: networks that know nothing."}, "image": {"alt": "Two panels of a forest plot. In the misread world all draws lie near zero, one of five excludes it, and the pooled value includes it. In the look-away world every draw and the pooled value lie to the right of zero, around the paper's difference. The empty marks lie at zero throughout."}}
figures.forest_figure(
    {name: world["forests"] for name, world in worlds.items()}, paper=0.148
)

# %%
taken = pd.concat({n: w["forests"] for n, w in worlds.items()})
taken = taken[taken["null"] == "trained"].set_index(
    "question_seed", append=True
)
columns = ["difference", "low", "high", "p_value", "count"]
taken = taken.droplevel(1).rename_axis(["world", "draws"])
taken.loc[(slice(None), ["pooled", "over seeds"]), columns].round(3)

# %% [markdown]
# In the first world one draw of five is "significant", and the four others are not.
# The pooled difference includes 0 and excludes the paper's 0.148. An interval of one
# draw is too narrow for a claim about questions in general: draws differ in what they
# ask, and only several of them show by how much.
#
# In the second world every draw has the paper's sign, and the pooled difference is as
# large as the paper's. The untrained network stays at zero. So observation three does
# hold **where its premise holds**: where a wrong answer is wrong *because* it did not
# look. Do the wrong ones look less?

# %%
away = draws.read_answers("look_away", "../results/forgetting")
study.comparison_table(
    {
        "share of values looked up": forget.compare_within_questions(
            away["looks"], away["right"], draws.question_of(away)
        )
    }
).round(3)

# %% [markdown]
# They do. The ratio tells right from wrong when errors come from not looking. It is
# silent when they come from reading badly. Of a real model we know neither which
# errors it makes, nor whether the paper's 0.148 (0.680 less 0.532) comes of it: its
# four benchmarks differ in length and difficulty, and its answers are one to a
# question.
#
# ## Does attention point at what is read?
#
# From here on the true source of every token is needed. Back in the first world:

# %%
source = truth["source"]
study.mean_by(truth, "source", "image")

# %% [markdown]
# Tokens that read the picture give it two thirds of their attention, others a tenth. So
# image attention finds them. AUROC is the chance that a token that reads has more of it
# than one that does not; 0.5 is blind. Beside it stand four things that see nothing: the
# same answers over a grey picture, an untrained network, attention spread evenly, and a
# rule on the text, "the token before is `=`".

# %%
covered_up = [blank(example) for example in asked]
grey, mask = attention_shares(model, processor, covered_up, texts)
before = truth["token"].groupby(truth["row"]).shift(1)
finders = {
    "image attention": truth["image"],
    "the same over a grey picture": grey[..., 0][mask].numpy(),
    "untrained network": truth["untrained"],
    "spread evenly": truth["uniform"],
    "the token before is =": (before == " =").astype(float),
}

# %%
owner = truth["row"] // rollouts
found_by = {
    name: auroc_interval(score, source == "image", owner)
    for name, score in finders.items()
}
found_by = pd.DataFrame(found_by, index=["AUROC", "low", "high", "count"]).T
found_by[["AUROC", "low", "high"]]

# %% [markdown]
# Image attention finds them almost without error. Over a grey picture it falls to about
# 0.8, which is what the rule on the text reaches, so a part of it is knowing where in a
# chain a read belongs, and the rest is owed to what is in the picture. The untrained
# network and the even spread find next to nothing: what they have, they have because
# attention on the image falls along the answer and reads stand early in it.
#
# And *where* on the picture? Pointing accuracy is how often the tile with the most
# attention is the one being read:

# %%
is_value = truth["truth"].notna()
kinds = {
    "values": truth[is_value],
    "colours": truth[(source == "image") & ~is_value],
}
for kind, some in kinds.items():
    hits = some.groupby("row")["points"].mean()
    hits = mean_interval(hits, clusters=hits.index // rollouts, bounds=(0, 1))
    print(f"{kind:8} {hits}, chance {some['chance'].mean():.2f}")

# %% [markdown]
# Values are looked up at the right tile, practically always. Colours, which a
# chain names when it goes through the whole grid, somewhat less surely. All
# this is the final layer. The others:

# %% tags=["hide-input"]
few = [
    asked[rollouts * (questions * f + i)]
    for f in range(len(IMAGE_FAMILIES))
    for i in range(min(covered, questions))
]
greedy = answer(model, processor, few)
number = range(model.config.text_config.num_hidden_layers)
layers, nothing = (
    study.compare_layers(network, processor, few[::2], greedy[::2], number)
    for network in (model, untrained_copy(model))
)

# %% mystnb={"figure": {"name": "fig-layers", "caption": "What the attention of each layer knows about the true reads, with 95 % bands. Dashed, without colour: an untrained network."}, "image": {"alt": "Lines over four layers. AUROC is middling in the first three layers and near one in the last; pointing accuracy and image attention of reads are low before the last layer and high in it; image attention of other tokens stays low throughout. Two dashed lines, of an untrained network, stay flat: AUROC near one half, pointing near one fifth."}}
columns = ["AUROC", "pointing"]
columns += [f"image attention of {kind}" for kind in ("reads", "others")]
figures.layers_figure(layers, columns, nothing[["layer", *columns[:2]]])

# %% [markdown]
# In this model the reading is done in the last layer. That is a matter of size,
# with four layers in all; in a deep model it need not be the last, and
# `layers="all"` of `vgpo.analyze` lets you see. In a model of eight layers that was grown
# from the second world's, it was the seventh. By the attention of the eighth, right and
# wrong answers to a question keep looking alike; by that of the seventh, right ones look
# longer ([what was tried](../book/decisions.md)). So the choice of a layer can make the
# paper's observation or undo it.
#
# ## Does it look less, or read worse?
#
# Here are all values that are read, by their place in the answer:

# %% tags=["hide-input"]
values = truth[is_value & (truth["nth_read"] <= 9)]
values = values.astype({"faithful": float, "points": float})
along = {
    name: study.mean_by(values, "nth_read", column, bounds=(0, 1))
    for name, column in {
        "points at the tile": "points",
        "reads it right": "faithful",
        "image attention": "image",
    }.items()
}

# %% mystnb={"figure": {"name": "fig-reads", "caption": "The first, second, ... value an answer reads: does it look at the right tile, how hard, and is the value right?"}, "image": {"alt": "Three lines over the number of the read from one to nine. Pointing stays at one, image attention falls at first and then stays level, and the share of values read right falls, with wide intervals at the end."}}
figures.reads_figure(along)

# %%
tile = values["row"] // rollouts * 100 + values["tiles"].str[0]
looks = {"on the image": "image", "on the tile": "on_tile"}
study.comparison_table(
    {
        name: forget.compare_within_questions(
            values[column],
            values["faithful"],
            tile,
            picture=values["row"] // rollouts,
        )
        for name, column in looks.items()
    }
).round(4).map("{:.4g}".format)

# %% [markdown]
# The table sets right against wrong readings of *the same tile* by different
# answers: their image attention, and the part of it that lies on the tile.
# They are the same. The model misreads with its eyes on the right spot, as it
# was taught to: the training chains put another digit there, and nothing in
# them asked for looking away. Slips of this kind are invisible to attention,
# and this is why the ratio knows nothing about right and wrong here.
#
# ## Nothing left to look at
#
# If the looks stay nearly as strong, why does the mean fall? Because late
# tokens need the image less often. Let $p$ be the share of tokens that read the
# image, $a$ their mean image attention and $b$ that of the others. The change
# from the early half to the late half is the sum of three parts: fewer looks
# ($p$ falls), weaker looks ($a$ falls), and less idle attention ($b$ falls).

# %% tags=["hide-input"]
parts = {"all": truth, **dict(list(truth.groupby("family", sort=False)))}
splits = {}
for name, part in parts.items():
    image, mask = padded(part, "image")
    needs = part.assign(needs=(part["source"] == "image").astype(float))
    splits[name] = forget.split_decay(image, padded(needs, "needs")[0], mask)

# %% mystnb={"figure": {"name": "fig-decay-split", "caption": "The change of mean image attention from the early to the late half, and what it is made of, with 95 % intervals."}, "image": {"alt": "Grouped bars per question family. Nearly all of the fall is fewer looks; weaker looks are a small part; idle attention is close to zero."}}
figures.decay_split_figure(splits)

# %%
total, fewer, weaker, idle = splits["all"]
print(f"from early to late half  {total.value:+.3f}")
for name, part in (("fewer", fewer), ("weaker", weaker), ("idle", idle)):
    print(f"{name:8}{part.value / total.value:+5.0%} of it")

# %% [markdown]
# What looks like forgetting in the averages is, in this world, mostly an answer that
# has read what it needed and goes on to add it up. A method that lifts *every* late
# token towards the image lifts mostly tokens that have no business there. This is the
# question that [chapter 03](03_compensation.ipynb) puts to VGPO's gate.
#
# ## When does it matter?
#
# Attention shows where a model looks, not whether the answer hangs on it. So
# cover a tile with grey, either right before the answer reads a value or right
# after, and let it go on from there: the tile that is read, or, for comparison,
# one that is not needed any more.

# %%
moved = study.covered_continuations(model, processor, few, greedy)
moved["case"] = moved["covered"] + ", " + moved["when"] + " the read"
of_answers = study.mean_by(moved, "case", "answer_moved", bounds=(0, 1))

# %% mystnb={"figure": {"name": "fig-occlusion", "caption": "A tile is covered before or after a value is read: how often another answer comes out."}, "image": {"alt": "Four bars with intervals. Covering the tile that is read moves more than half of the answers if done before the read, and next to none after it; covering another tile moves next to none."}}
figures.occlusion_figure(of_answers)

# %% [markdown]
# Before the read, the answer changes where it depends on the exact value. After it,
# the picture could as well be gone: the number now stands in the text, and the
# rest of the answer takes it from there. Looking again would help nothing in
# such a chain, unless the first look was wrong.
#
# ## What could it still say?
#
# The last probe asks the model itself. Cut an answer anywhere, write the name of a
# tile and an equals sign, and see which digit it puts there. If it names the right
# one late in an answer, nothing was forgotten. In the second world a word decides
# whether the chain looks, so both words are tried.

# %% tags=["hide-input"]
kinds = ("sum", "count")  # families that are probed


def probe(name, leads):
    examples = [
        draws.ASKED[name].example(i, seed, "heldout", kind)
        for kind in kinds
        for i in range(covered)
    ]
    pair = testbed.load_tiny(CHECKPOINTS[name])
    said = answer(*pair, examples, 1.0, seed)
    lines = {}
    for grey in (False, True):
        table = probes.tile_probe(*pair, examples, said, leads, grey=grey)
        for lead, part in table.groupby("lead", sort=False):
            label = f"after “{lead}”" if lead else "asked"
            label += ", grey picture" if grey else ""
            part = part.astype({"right": float})
            lines[label] = study.mean_by(
                part, "fraction", "right", bounds=(0, 1)
            )
    forced = {
        "grey picture" if grey else "true picture": study.mean_by(
            probes.early_answers(*pair, examples, said, grey=grey).astype(
                {"right": float}
            ),
            "fraction",
            "right",
            bounds=(0, 1),
        )
        for grey in (False, True)
    }
    return lines, forced


probed = {
    "misread": probe("misread", ("",)),
    "look_away": probe("look_away", (" look", " recall")),
}

# %% mystnb={"figure": {"name": "fig-tile-probe", "caption": "How often the model names the digit of a tile, asked for it after a part of its answer; 95 % intervals. Over a grey picture it can only guess."}, "image": {"alt": "Two panels over the part of the answer that is written. In the misread world the share stays near one from beginning to end, and near one tenth over a grey picture. In the look-away world it stays near one after the word look; after the word recall it is four tenths before the first step, and as low as over a grey picture from then on."}}
figures.probe_figure(
    {name: lines for name, (lines, _) in probed.items()},
    "names the right digit",
    "part of the steps written",
)

# %% [markdown]
# Neither model has forgotten how to look. At the end of an answer each still names any
# tile as surely as at its beginning, if the second is made to look. Made to recall, the
# second names four tiles in ten before the first step, where there is no value to recall
# yet. From the first steps on it does no better than over a grey picture. What goes with
# the words of an answer is not the *ability* to look but the *habit*. A habit is
# something that reinforcement learning can change, and [chapter 08](08_evaluation.ipynb)
# shows that it does.
#
# The other way round: close the chain early and take the answer.

# %% mystnb={"figure": {"name": "fig-early-answers", "caption": "Right answers if the chain is closed after a part of its steps; over the true picture, and over grey from there on."}, "image": {"alt": "Two panels over the part of the answer that is written. The share of right answers rises from next to nothing to that of whole answers, and the lines over the true and over the grey picture lie on each other."}}
figures.probe_figure(
    {name: forced for name, (_, forced) in probed.items()},
    "right answers",
    "part of the steps written",
)

# %% [markdown]
# Closed early, an answer is wrong, and it is as wrong with the picture as without.
# The boxed number is taken from the text. The picture acts through the values that
# were written down, and through nothing else.
#
# ## The paper's three observations
#
# | | in the paper | misread world | look-away world | a network that knows nothing |
# |---|---|---|---|---|
# | 1. The text takes over | 0.80 to 0.85 late in an answer | holds, less far | holds, less far | holds as well |
# | 2. The image fades | 0.12 to 0.03 (LogicVista) | holds; mostly for want of anything left to read | holds | holds as well |
# | 3. Right answers fade less | 0.680 against 0.532, pooled | not for the same question | holds, as large as in the paper | pooled: the paper's sign; same question: no |
#
# What differs because the models are tiny: a picture is at most fifteen tokens, so a
# look can be sharp; four layers, so reading happens in the last one; chains in which
# every value is read once and written down.
#
# ## Exercises
#
# Predict first; the lines of 1 and 3 go into cells at the end, the command of 2 into a
# terminal with the environment active (`source .venv/bin/activate`).
#
# **1.** What does the null's ratio do if the picture has 1,300 image tokens and the
# answer 300 words, as at 7B?
#
# ```python
# V, Q, T = 1300, 100, 300
# a = V / (V + Q + torch.arange(1, T + 1) - 1)
# a[0], a[-1], forget.accumulation_ratio(a[None], torch.ones(1, T))
# ```
#
# :::{dropdown} Solution
# The share falls from 0.93 to 0.77 only, and the ratio is 0.91. A fall from 0.12 to 0.03
# is more than even dilution does. What an untrained network of that size does is not
# known.
# :::
#
# **2.** Draw other questions. Does the figure of "Right and wrong answers" keep its
# sign? Does the row "same question" of the table below it?
#
# ```bash
# python book/build.py execute 01_forgetting -p seed 61
# ```
#
# :::{dropdown} Solution
# The sign over all answers stays, since length and difficulty are in every draw. The
# row "same question" includes 0: it is the second row of the forest plot's first panel.
# :::
#
# **3.** Which answers of the second world are right although they recalled a value?
# Guess the families of questions first; `away` holds the recorded answers.
#
# ```python
# away[away["right"] & (away["looks"] < 1)]["family"].value_counts()
# ```
#
# :::{dropdown} Solution
# Nearly all are comparisons and counts, which often come out right with a wrong value: a
# larger number stays the larger, an odd one stays uncounted. A sum does not forgive,
# unless the recalled value happens to be the tile's.
# :::
#
# ## Keep in mind
#
# - A share that falls, and a gap between right and wrong, need no forgetting: put an
#   untrained network beside them.
# - Compare answers to the same question, draw several sets of questions, and resample
#   whole questions.
# - Where errors come from not looking, the late/early ratio sees it. Where they come
#   from reading badly, it sees nothing.
