# %% [markdown]
# # Visual forgetting
#
# A model that reasons in words writes more and more text, and every word it
# writes is one more thing to attend to. The paper's case starts here: while an
# answer grows, attention leaves the image, and it leaves faster when the answer
# is wrong (its Fig. 2). The remedy, VGPO, rewards looking late.
#
# But an answer may also stop looking because there is *nothing left to look
# at*. On a real benchmark the two cannot be told apart. On the testbed they
# can.
#
# **Overview.** Two definitions; three lines for your own model; the paper's
# three observations, one by one; then what only known truth can show: does
# attention point at what is read, is the fall a loss, and does it matter when?

# %% tags=["parameters"]
checkpoint = ""  # folder of another cold start; "" takes the shipped one
questions = 24  # questions per family; with real models, questions in all
rollouts = 8  # sampled answers per question, on the testbed
covered = 20  # questions per family asked again with a tile covered
seed = 60  # names the sequence of questions, and seeds the sampling
models = []  # real models, by name or folder; [] takes the testbed's
dataset = ""  # for real models: a data set on the hub, a folder or a file
dataset_split = "test"  # its split
question_column = "problem"  # its column of questions
answer_column = "answer"  # its column of reference answers
image_column = "images"  # its column of images
prompt_suffix = None  # put after each question; None takes the paper's
max_pixels = 1048576  # larger images are reduced
max_new_tokens = 2048  # longest answer of a real model
completions_file = ""  # keeps its answers, so that a stopped run goes on

# %%
from pathlib import Path

import pandas as pd
import torch
from IPython.display import display

import vgpo
from vgpo import figures, testbed
from vgpo.stats import forgetting as forget
from vgpo.stats.intervals import auroc_interval, mean_interval
from vgpo.studies import forgetting as study
from vgpo.studies.tables import padded
from vgpo.testbed import IMAGE_FAMILIES, World
from vgpo.testbed.answers import accuracy, answer

pd.set_option("display.precision", 3)

# %% [markdown]
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
# ## In three lines

# %%
folder = Path(checkpoint) if checkpoint else testbed.CHECKPOINT
model, processor = testbed.load_tiny(folder)
rows = testbed.make_dataset(8, family="sum", split="heldout")

# %%
analysis = vgpo.analyze(model, processor, rows)
analysis.summary()[["value", "low", "high", "count"]]

# %% [markdown]
# `model` and `processor` can be those of any vision-language model of Hugging
# Face, `rows` a conversation, several, or a data set as TRL trains on. The
# model answers first, unless `completions=` gives the answers.
# `analysis.tokens` has a row per token, and `analysis.figures()` draws what you
# see below. Attention rows are computed again from each layer's queries and
# keys, a chunk at a time, so no $T \times T$ matrix is ever stored and the
# model keeps its fast kernel.
#
# ## The answers of this chapter
#
# On the testbed, several answers to each question are sampled: right and wrong
# ones about the *same* picture. Its chains forget by design: the model was
# taught to misread the $j$-th value with a chance that grows with $j$
# ({doc}`00_testbed`).

# %%
if not models:
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
if models:
    analyses = study.analyze_checkpoints(
        models,
        dataset,
        dataset_split,
        questions,
        question_column=question_column,
        answer_column=answer_column,
        image_column=image_column,
        prompt_suffix=prompt_suffix,
        max_pixels=max_pixels,
        max_new_tokens=max_new_tokens,
        completions_file=completions_file or None,
    )
else:
    found = vgpo.analyze(
        model, processor, study.as_rows(asked), texts, keep_maps=len(asked)
    )
    analyses = {"testbed": found}
first = next(iter(analyses.values()))

# %%
groups = {name: [name] * len(a.per_answer) for name, a in analyses.items()}
if not models:
    groups["testbed"] = [example.family for example in asked]
    truth = study.true_dependence(first, asked)

# %% [markdown]
# ## One answer
#
# A sum that came out wrong, token by token: what share of its attention each
# token gave to the image, to the rest of the prompt, and to the text so far.

# %%
shown, steps, targets = 0, None, None
if not models:
    wrong = first.per_answer[~first.per_answer["correct"].astype(bool)]
    sums = wrong[[asked[row].family == "sum" for row in wrong.index]]
    shown = int((sums["length"] - 40).abs().idxmin())
    reads = truth[(truth["row"] == shown) & truth["truth"].notna()]
    steps, targets = reads["t"].tolist(), reads["tiles"].tolist()

# %% mystnb={"figure": {"name": "fig-attention-split", "caption": "One sampled answer: attention of each token, as it is chosen, split over image, query and generated text."}, "image": {"alt": "Stacked bars over the words of one answer. The orange share of the image is large at the digits that are read from the picture and small elsewhere; the grey share of generated text grows along the answer."}}
first.example_figure(shown)

# %% mystnb={"figure": {"name": "fig-attention-maps", "caption": "The same answer at the tokens that read a value: where on the picture they look. Outlined: the tile they have to read. In brackets: the share of attention on the image."}, "image": {"alt": "The same grid of coloured digits several times, once per value read; each time one tile glows, and it is the outlined one."}}
if first.kept[shown].aligned:  # not where a family cuts pictures into tiles
    display(first.heatmap_figure(shown, steps, targets))

# %% [markdown]
# This is no slow fading. The image is looked at in sharp steps: at the values,
# each time on the one tile that is read, and less so at the colours, which this
# chain has to pick from the picture, too. Elsewhere the orange is mostly low;
# where it is not, as at the last full stop, nothing is read. And the answer is
# wrong although every value was looked up in the right place. What did it say?

# %%
if not models:
    what = pd.DataFrame({"said": reads["token"], "shown": reads["truth"]})
    what["misread"] = ~reads["faithful"]
    display(what.set_index(reads["t"]).T)

# %% [markdown]
# ## Averages
#
# Observations one and two of the paper: over the course of an answer the text
# takes over, and the image fades.

# %%
curves = pd.concat(a.curves(groups[name]) for name, a in analyses.items())

# %% mystnb={"figure": {"name": "fig-decay", "caption": "Share of attention over the progress of generation, mean over answers, with 95 % bands."}, "image": {"alt": "Three panels with a line per question family over progress. The image's share swings in waves and falls, the query's falls early, the share of generated text rises from zero to well over one half."}}
figures.decay_figure(curves)

# %%
pd.concat({n: a.summary().iloc[1:5, :3] for n, a in analyses.items()})

# %% [markdown]
# Both hold. The paper's 7B model gives 0.80 to 0.85 of its attention to
# generated text late in an answer, and on LogicVista its image share falls from
# 0.12 to 0.03. Here the text's share is lower and the image's higher, as can be
# expected where an answer has some forty tokens instead of hundreds and comes
# back to the picture all the time; the direction is the same.
#
# ## Right and wrong answers
#
# Observation three: right answers keep more of their looking to the end. The
# paper has 0.680 for right answers and 0.532 for wrong ones, over all questions
# of four benchmarks.

# %%
answers = pd.concat(
    a.per_answer.assign(group=groups[name], model=name)
    for name, a in analyses.items()
)
number = answers.index // (1 if models else rollouts)
answers["question"] = [
    f"{m} {i}" for m, i in zip(answers["model"], number, strict=True)
]

# %% mystnb={"figure": {"name": "fig-ratio", "caption": "Late/early ratio of right and wrong answers, a point each; mean and 95 % interval."}, "image": {"alt": "Strips of points per question family, right above wrong. The mean of the wrong answers lies to the right of the mean of the right ones."}}
figures.ratio_figure(answers, forget.mean_ratios(answers, "group"), "group")

# %% [markdown]
# Answers to one question are not independent, so for the test one is taken per
# question:

# %%
one_each = answers.drop_duplicates("question")
parts = dict(list(one_each.groupby("group", sort=False)))
if not models:
    parts = {"all families": one_each, **parts}
outcomes = {
    name: forget.compare_right_wrong(part["ratio"], part["correct"])
    for name, part in parts.items()
}
study.comparison_table(outcomes).round(3)

# %% [markdown]
# The sign is the *opposite* of the paper's: over all families, wrong answers
# have the higher ratio. Before making something of that, look at length.

# %% mystnb={"figure": {"name": "fig-ratio-length", "caption": "Late/early ratio against the length of the answer; lines are medians over fifths of the lengths."}, "image": {"alt": "A scatter plot with a line per question family. The ratio rises with the number of tokens in the answer."}}
figures.ratio_length_figure(answers, "group")

# %%
for name, part in answers.groupby("group", sort=False):
    rho = forget.length_correlation(part["ratio"], part["length"])
    print(f"{name:8} Spearman's rho with length {rho}")

# %% [markdown]
# The longer the answer, the higher the ratio: no sign of forgetting, on the
# face of it. The reason is dull. Every answer ends on six tokens that read
# nothing (`</think> \boxed{...}`), and in a short answer they are much of the
# late half. Without them:

# %%
if not models:
    masses, mask = first.masses()
    length = mask.sum(dim=1, keepdim=True)
    chain = mask & (torch.arange(mask.shape[1]) < length - 6)
    trimmed = forget.accumulation_ratio(masses[..., 0], chain)
    for name, part in answers.groupby("group", sort=False):
        of_chain = trimmed[part.index]
        rho = forget.length_correlation(of_chain, part["length"])
        mean = mean_interval(of_chain)
        print(
            f"{name:8} ratio {mean.value:.2f}, rho with length {rho.value:+.2f}"
        )

# %% [markdown]
# The rise is gone; what is left is around 1 or above it, and in most families
# it falls with length. How much of a late/early ratio is owed to the format of
# an answer's end is worth asking of any model.
#
# Long answers are those to hard questions, which go wrong more often: so length
# and difficulty make right and wrong answers differ whatever attention does.
# The remedy is to compare right with wrong answers *to the same question*, and
# then to the same question *and of the same length*:

# %%
question = answers["question"]
same_length = question + ", " + answers["length"].astype(str)
keys = {
    "same question": (answers["ratio"], question),
    "same question and length": (answers["ratio"], same_length),
}
if not models:
    keys["same question, without the end"] = (trimmed, question)
study.comparison_table(
    {
        name: forget.compare_within_questions(ratio, answers["correct"], key)
        for name, (ratio, key) in keys.items()
    }
).round(3)

# %% [markdown]
# Next to nothing is left of the difference, and with length held equal as well,
# the interval includes 0. All intervals exclude the paper's difference of
# 0.148, and the one of opposite sign just seen. What is left is noise, or close
# to it: over three times as many questions (`-p questions 75 -p seed 70`) it has
# the other sign. Among answers to one question, those that kept looking are
# right no more often. The paper pools four benchmarks that differ in length and
# difficulty; whether its difference survives this control is not known.
# (With one greedy answer per question, as on a real model here, there is
# nothing to pair, and the table is empty.)
#
# ## Does attention point at what is read?
#
# From here on the true source of every token is needed.

# %%
if models:
    print("Real answers have no known truth: the sections up to")
    print('"Before and after" are skipped.')

# %%
if not models:
    source = truth["source"]
    display(study.mean_by(truth, "source", "image"))
    auroc = auroc_interval(truth["image"], source == "image", truth["row"])
    print("AUROC of image attention for tokens that read the image:")
    print(auroc)

# %% [markdown]
# Image attention tells the tokens that read the picture from the others almost
# without error. And *where* on the picture? Pointing accuracy is how often the
# tile with the most attention is the one being read:

# %%
if not models:
    is_value = truth["truth"].notna()
    kinds = {
        "values": truth[is_value],
        "colours": truth[(source == "image") & ~is_value],
    }
    for kind, some in kinds.items():
        hits = mean_interval(some.groupby("row")["points"].mean())
        print(f"{kind:8} {hits}, chance {some['chance'].mean():.2f}")

# %% [markdown]
# Values are looked up at the right tile, practically always. Colours, which a
# chain names when it goes through the whole grid, somewhat less surely. All
# this is the final layer. The others:

# %%
if not models:
    few = [
        asked[rollouts * (questions * f + i)]
        for f in range(len(IMAGE_FAMILIES))
        for i in range(min(covered, questions))
    ]
    greedy = answer(model, processor, few)
    number = range(model.config.text_config.num_hidden_layers)
    layers = study.compare_layers(
        model, processor, few[::2], greedy[::2], number
    )

# %% mystnb={"figure": {"name": "fig-layers", "caption": "What the attention of each layer knows about the true reads, with 95 % bands."}, "image": {"alt": "Lines over four layers. AUROC is middling in the first three layers and near one in the last; pointing accuracy and image attention of reads are low before the last layer and high in it; image attention of other tokens stays low throughout."}}
if not models:
    columns = ["AUROC", "pointing"]
    columns += [f"image attention of {kind}" for kind in ("reads", "others")]
    display(figures.layers_figure(layers, columns))

# %% [markdown]
# In this model the reading is done in the last layer. That is a matter of size,
# with four layers in all; in a deep model it need not be the last, and
# `layers="all"` of `vgpo.analyze` lets you see.
#
# ## Does it look less, or read worse?
#
# The model was taught to forget. Does its *attention* forget? Here are all
# values that are read, by their place in the answer:

# %%
if not models:
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
if not models:
    display(figures.reads_figure(along))

# %%
if not models:
    tile = [
        f"{row // rollouts} {tiles}"
        for row, tiles in zip(values["row"], values["tiles"], strict=True)
    ]
    pairs = {
        name: forget.compare_within_questions(
            values[name], values["faithful"], tile
        )
        for name in ("image", "on_tile")
    }
    display(study.comparison_table(pairs).round(3))

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

# %%
if not models:
    parts = {"all": truth, **dict(list(truth.groupby("family", sort=False)))}
    splits = {}
    for name, part in parts.items():
        image, mask = padded(part, "image")
        part = part.assign(needs=(part["source"] == "image").astype(float))
        splits[name] = forget.split_decay(image, padded(part, "needs")[0], mask)

# %% mystnb={"figure": {"name": "fig-decay-split", "caption": "The change of mean image attention from the early to the late half, and what it is made of, with 95 % intervals."}, "image": {"alt": "Grouped bars per question family. Nearly all of the fall is the part with nothing left to look at; the part that should have looked and did not is small; the rest is close to zero."}}
if not models:
    display(figures.decay_split_figure(splits))

# %%
if not models:
    total, fewer, weaker, idle = splits["all"]
    print(f"in all        {total.value:+.3f}")
    print(f"fewer looks   {fewer.value / total.value:.0%} of it")
    print(f"weaker looks  {weaker.value / total.value:.0%} of it")
    print(f"other tokens  {idle.value / total.value:.0%} of it")

# %% [markdown]
# What looks like forgetting in the averages is, on this testbed, mostly an
# answer that has read what it needed and goes on to add it up. A part remains
# that is weaker looking in the proper sense. A method that lifts *every* late
# token towards the image lifts mostly tokens that have no business there, and
# this is the question that {doc}`03_compensation` puts to VGPO's gate.
#
# ## When does it matter?
#
# Attention shows where a model looks, not whether the answer hangs on it. So
# cover a tile with grey, either right before the answer reads a value or right
# after, and let it go on from there: the tile that is read, or, for comparison,
# one that is not needed any more.

# %%
if not models:
    moved = study.covered_continuations(model, processor, few, greedy)
    moved["case"] = moved["covered"] + ", " + moved["when"] + " the read"
    of_answers = study.mean_by(moved, "case", "answer_moved")
    display(of_answers)

# %% mystnb={"figure": {"name": "fig-occlusion", "caption": "A tile is covered before or after a value is read: how often another answer comes out."}, "image": {"alt": "Four bars with intervals. Covering the tile that is read moves more than half of the answers if done before the read, and next to none after it; covering another tile moves next to none."}}
if not models:
    display(figures.occlusion_figure(of_answers))

# %%
if not models:
    before = moved[moved["case"] == "the tile it reads, before the read"]
    print(before.groupby("family")[["value_moved", "answer_moved"]].mean())

# %% [markdown]
# Before the read, the value nearly always changes, and the answer with it where
# it depends on the exact value (sums and charts; in counting, a wrong digit can
# be as odd or even as the true one, and a comparison often survives). After it,
# the picture could as well be gone: the number now stands in the text, and the
# rest of the answer takes it from there. Looking again would help nothing in
# such a chain, unless the first look was wrong.
#
# ## Before and after
#
# Given two or more `models`, the same questions are compared one by one.

# %%
for name, after in list(analyses.items())[1:]:
    print(name, "against", next(iter(analyses)))
    display(study.paired_changes(first, after))
if len(analyses) == 1:
    print("One model: nothing to compare.")

# %% [markdown]
# ## The paper's three observations
#
# | | in the paper | here |
# |---|---|---|
# | 1. The text takes over | 0.80 to 0.85 late in an answer | holds, less far |
# | 2. The image fades | 0.12 to 0.03 (LogicVista) | holds; mostly for want of anything left to read |
# | 3. Right answers fade less | ratio 0.680 against 0.532 | does not hold: the opposite when pooled, no difference for the same question |
#
# The numbers of the right column stand in the cells above. What differs because
# the model is tiny: a picture is at most fifteen tokens, so a look can be sharp;
# four layers, so reading happens in the last one; chains in which every value
# is read once and written down; and forgetting that was taught as misreading,
# not as looking away. A model that does look away would show it in the orange
# bars of {numref}`fig-decay-split`, if its truth were known. On a real model
# the first two observations and the comparison of right and wrong answers can
# be repeated; what they are made of cannot be seen there.
#
# ## On a real model
#
# The same notebook, other parameters:
#
# ```bash
# python book/build.py execute 01_forgetting \
#     -f recipes/forgetting_qwen2_5_vl_7b.yaml
# ```
#
# `forgetting_vgpo_rl_7b.yaml` and `forgetting_vgpo_rl_32b.yaml` compare
# Qwen2.5-VL with the checkpoints the paper's authors released. They have not
# been run here: they need a GPU, and downloads. A response of 2,000 tokens to a
# prompt of 1,300 takes 10 MB beside the model for what is kept, and at most 0.3
# GB while a layer is read; all attention weights of a 7B model would be 17 GB.
