# %% [markdown]
# # Two small worlds with known truth
#
# **In this chapter.** *Which words of an answer read the picture?* For a real
# benchmark nobody knows. So this book carries two worlds of its own, small enough
# for a laptop and built so that the question has an answer. What do they look
# like, what can their models do, do these *look*, and what can each world show
# and not show?

# %% tags=["parameters", "hide-input"]
checkpoint = ""  # folder of another cold start; "" takes the shipped one
questions = 100  # held-out questions per family asked in this notebook
temperature = 1.0  # of the sampled answers
seed = 0  # seed of the sampled answers

# %% tags=["hide-input"]
import json
import textwrap
from pathlib import Path

import pandas as pd

from vgpo import figures, testbed
from vgpo.testbed import FAMILIES, IMAGE_FAMILIES, LookAwayWorld, trace
from vgpo.testbed.answers import accuracy, answer, correct
from vgpo.testbed.changes import blank, swap
from vgpo.testbed.cold_start import ColdStartConfig

folder = Path(checkpoint) if checkpoint else testbed.CHECKPOINT
record = json.loads((folder / "cold_start.json").read_text())
world = ColdStartConfig(**record["config"]).world()
clean = world.without_slips()

# %% [markdown]
# Here is a picture of the first world, and below its question, `Total ?`, a right
# answer: a *chain* of short steps, each with a full stop, and the result in a box. The
# words in orange had to be read off the picture. The grey ones follow from what was
# written before.

# %% mystnb={"figure": {"name": "fig-sources", "caption": "A question, and an answer without slips. Orange tokens read the image, at the tiles numbered beneath them."}, "image": {"alt": "A grid of coloured digits on the left; on the right a chain of thought as boxes coloured by source, with tile numbers under the boxes that read the image. Every value is the digit on its tile."}}
figures.source_figure(clean.example(5, family="sum"))

# %% [markdown]
# The chain comes back to the picture at every step: it names a tile's colour, reads the
# digit on it, and adds. Of every token we know its *true source*: the **image** (then we
# know the tiles), the **question**, earlier **text** (arithmetic and syntax), or
# **filler**, words that bear on nothing. A token whose source is the image is a *read*.
#
# The architecture is the one the paper trains,
# `Qwen2_5_VLForConditionalGeneration`; only the sizes are small. The pixels are
# real too: the digits are 1,797 scans of handwriting
# {cite:p}`alpaydin1998optdigits`.
#
# ## Pictures and questions
#
# A picture is a grid of coloured tiles with a digit on each, or a bar chart. Four
# families of questions need the picture. In the fifth, the control, the same
# sums are asked with the digits given in words.

# %% mystnb={"figure": {"name": "fig-families", "caption": "One question of each family that needs the picture, with its true answer."}, "image": {"alt": "Four pictures side by side: three grids of coloured tiles with handwritten digits and one bar chart, each titled with its question and answer."}}
examples = [
    clean.example(7 + i, family=family, split="heldout")
    for i, family in enumerate(IMAGE_FAMILIES)
]
figures.gallery_figure(examples)

# %%
for family in FAMILIES:
    print(f"{family:8}", clean.example(7, family=family).question)

# %% [markdown]
# Questions are in the shorthand of this world: `Count 2 ?` asks how many tiles show a 2.
# The last line is the control, which needs no picture.
#
# A tile is 28 × 28 pixels, exactly one image token of Qwen2.5-VL. So where "the
# token that shows the red tile" stands is a fact, not an approximation. What its
# hidden state holds is another matter: the vision tower has let every tile attend
# to all others.
#
# In `Total ?` and in counting the question names no colour. There the chain names the
# colours itself, tile by tile, so the names are reads as well. A bar is read from the
# three tiles of its column:

# %% mystnb={"figure": {"name": "fig-sources-chart", "caption": "A chart: each height is read from the tiles of one column."}, "image": {"alt": "A bar chart with numbered tiles on the left and its chain of thought as coloured boxes on the right. Under each height stand the numbers of the three tiles of its column."}}
figures.source_figure(clean.example(12, family="chart"))

# %% [markdown]
# ### Two knobs: taught misreading and small talk
#
# The chains that the model learnt from are not clean. Here is one of them, over the
# picture at the top of this page. Dashed boxes say something else than their tile
# shows; the total is 32, and the chain boxes 41:

# %% mystnb={"figure": {"name": "fig-slips", "caption": "A chain as it was taught. Dashed: a value that is not the one on its tile. Purple: filler."}, "image": {"alt": "A grid of coloured digits and its chain of thought as coloured boxes. Some boxes that read a tile are dashed, since they misreport it, and some boxes are purple filler words."}}
figures.source_figure(world.example(5, family="sum"))

# %% [markdown]
# The $j$-th value read is replaced by a random one with probability
# $1 - (1 - f)^j$, and the arithmetic goes on with it. A model taught on such
# chains becomes unsure of what it reads, the more so the further the chain has
# come, by a known amount. We call it **taught misreading**. It is not yet what
# the paper calls visual forgetting: the model misreads *while it looks at the
# right tile*. The second world, below, looks away.
#
# The other knob, verbosity $v$, is the chance that a filler word follows a step,
# then another, up to six. The paper's case for re-weighting is that words which
# do not depend on the image dilute the credit of those that do, so there have to
# be such words.

# %%
print("forgetfulness f =", world.forgetfulness)
print("verbosity v =", world.verbosity)
slips = 1 - (1 - world.forgetfulness) ** pd.Series(range(1, 10))
print("chance that the j-th value is replaced:")
print(slips.round(2).set_axis(range(1, 10)).to_frame("").T.to_string())

# %% [markdown]
# The first value of a chain is replaced once in twelve times, the ninth more often than
# not.
#
# ## Tokens
#
# The tokenizer spells any text in bytes, and has one token for each word of
# the small world, so a number is one token and a read is one token. Here is what the
# model gets to see of a question about a chart:

# %%
model, processor = testbed.load_tiny(folder)
example = world.example(3, family="chart")
text = processor.apply_chat_template(
    testbed.messages(example), add_generation_prompt=True
)
batch = processor(text=text, images=example.image, return_tensors="pt")
tokens = processor.tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
print(textwrap.fill(" ".join(tokens), 76))

# %% [markdown]
# Each `<|image_pad|>` is one tile. `Ġ` stands for the space before a word.
#
# ## The model

# %%
sizes = {
    "language model": model.model.language_model,
    "vision tower": model.model.visual,
}
for name, part in sizes.items():
    count = sum(p.numel() for p in part.parameters())
    print(f"{name:15} {count / 1e6:.2f} M parameters")
text_config = model.config.text_config
print(
    f"{text_config.num_hidden_layers} layers of width {text_config.hidden_size}"
)

# %% [markdown]
# ## How it learnt
#
# The *cold start* is ordinary supervised training on such chains, from one
# tile to nine: the next size comes once the values of the present one are
# read. It is meant to leave room: sampled answers should be right often enough
# for reinforcement learning to have a signal, and wrong often enough for it to
# have something to do.

# %% mystnb={"figure": {"name": "fig-cold-start", "caption": "The cold start, on scans never trained on. Vertical lines: the pictures grow, to as many tiles as stands there."}, "image": {"alt": "Two panels of held-out accuracy per question family against optimiser steps, sampled and greedy. Vertical lines mark where pictures grow from one tile to two, four and nine; accuracy rises all the while, the greedy one higher."}}
curve = pd.read_csv(folder / "curve.csv")
stages = ColdStartConfig.stages
tiles = [max(r * c for r, c in stage["grids"]) for stage in stages]
figures.cold_start_figure(curve, FAMILIES, tiles)

# %%
minutes = record["seconds"] / 60
print(record["command"])
print(f"{record['config']['steps']:,} steps, {minutes:.0f} minutes", end=", ")
print(
    f"{record['config']['threads']} thread(s), seed {record['config']['seed']}"
)

# %% [markdown]
# ## What it answers
#
# Greedily, and sampled at temperature 1, on scans it never saw. Each figure has a
# standard error of up to 0.05:

# %%
asked = {
    family: world.examples(questions, [family], split="heldout")
    for family in FAMILIES
}
greedy = {f: answer(model, processor, asked[f]) for f in FAMILIES}
sampled = {
    f: answer(model, processor, asked[f], temperature, seed) for f in FAMILIES
}
table = pd.DataFrame(
    {
        "greedy": {f: accuracy(greedy[f], asked[f]) for f in FAMILIES},
        "sampled": {f: accuracy(sampled[f], asked[f]) for f in FAMILIES},
    }
)
table.round(2)

# %% [markdown]
# The model can do it: decoded greedily, it gets 82 of 100 sums right. Sampled, as it will
# be in training, it gets 31. How much of the distance between the two columns is
# misreading? Of each value
# that an answer reads, we know whether it is the one on its tile. By its place
# in the chain:

# %%
places = range(1, 10)  # of a value among those that the answer reads


def misreads(completions, example_of):
    for text, example in zip(completions, example_of, strict=True):
        ids = processor.tokenizer(text).input_ids
        words = [processor.tokenizer.decode(i) for i in ids]
        reads = [t for t in trace(example, words) if t.truth is not None]
        yield from (
            (j, not t.faithful) for j, t in zip(places, reads, strict=False)
        )


# %%
by_place = {}
for how, answers in {"greedy": greedy, "sampled": sampled}.items():
    pairs = [p for f in IMAGE_FAMILIES for p in misreads(answers[f], asked[f])]
    found = pd.DataFrame(pairs, columns=["j", "wrong"])
    print(f"{how}: {found['wrong'].mean():.1%} of the values misread")
    by_place[how] = found.groupby("j")["wrong"].mean()
by_place["taught"] = 0.9 * slips.set_axis(places)
by_place["reads (sampled)"] = found.groupby("j").size()
pd.DataFrame(by_place).rename_axis("place").round(2)

# %% [markdown]
# Sampled values are wrong about as often as the chains taught it, one in five
# overall. (A random digit is the right one in a tenth of the cases, hence the
# factor 0.9; bars have nine heights.) The most likely value, which greedy
# decoding takes, is the right one in 99 of 100 cases, late in a chain as well:
# the model *knows* the digit and has learnt not to be sure of it. What greedy
# answers still get wrong, in sums and counting, is arithmetic and keeping track.
#
# So a lower temperature alone repairs most of the misreading of this world, and
# [chapter 05](05_training.ipynb) has to ask what reinforcement learning adds to that. A
# right and a wrong sample:

# %%
for wanted in (True, False):
    text, example = next(
        (t, e)
        for t, e in zip(sampled["sum"], asked["sum"], strict=True)
        if correct(t, e) is wanted and len(e.colours) > 4
    )
    grade = "right" if wanted else "wrong"
    print(f"{grade} | {example.question} | {example.answer}")
    shown = zip(example.colours, example.values, strict=True)
    print("shown:", *[f"{colour}={value}" for colour, value in shown])
    print(textwrap.fill(f"said: {text}", 78, subsequent_indent="  "), "\n")

# %% [markdown]
# Misreading is not the only slip. The wrong one reads four of nine tiles, each of them
# rightly, adds 22 and 4 to 18, and stops.
#
# ## Does it look?
#
# A model can be right without looking, from habits of the questions. So every
# question is asked again over a grey picture, and over the picture of another
# question; the best guesser who never looks gives the level of chance.

# %% mystnb={"figure": {"name": "fig-looking", "caption": "The picture taken away or exchanged: greedy accuracy on held-out questions."}, "image": {"alt": "Bars per question family: accuracy with the true picture is high, with another or a grey picture it falls to about that of the best blind guess."}}
looking = pd.DataFrame(record["looking"]).T
figures.looking_figure(looking)

# %% [markdown]
# The same test on a smaller sample, live:

# %%
few = [e for f in IMAGE_FAMILIES for e in asked[f][: max(4, questions // 4)]]
swapped = swap(few)
blanked = [blank(example) for example in few]
pictures = {"true": few, "grey": blanked, "another": swapped}
for name, some in pictures.items():
    share = accuracy(answer(model, processor, some), some)
    print(f"{name:8} picture  {share:.2f}")

# %% [markdown]
# Without its picture the model is about as good as somebody who never saw it.
# Whatever the following chapters find about where this model looks, its
# answers do come from the picture.
#
# ## The second world: looking away
#
# In the paper's story a model stops looking as it writes. So a second model was
# taught that. Before each colour its chain says whether it looks the value up
# (`look`, `see`, `view`) or goes on from memory (`recall`, `remember`, `think`),
# and what it "remembers" is the value it wrote last. The later in the chain, the
# rarer the look. Some values are given in words of the question, after the same
# words, so that the text does not give the looks away.

# %%
other, its_processor = testbed.load_tiny("look_away")
example = LookAwayWorld().example(8, family="sum", split="heldout")
[text] = answer(other, its_processor, [example], 1.0)
values = zip(example.colours, example.values, strict=True)
print(example.question, "| true answer:", example.answer)
print("shown:", *[f"{c}={v}" for c, v in values])
print(textwrap.fill(f"said: {text}", 78, subsequent_indent="  "))

# %% [markdown]
# It views black and red, and goes on to `recall pink = 5`. Pink shows a 2; the 5 is
# what it wrote for red.
#
# Five measures tell the two worlds apart. They were recorded over held-out scans
# (`python -m vgpo.studies.worlds`, sums and counts; `results/worlds/`). The third
# column is the second world with more small talk, a checkpoint of its own:

# %%
worlds = ("misread", "look_away", "look_away_wordy")


def told(name):
    path = Path(f"../results/worlds/{name}.json")
    found = json.loads(path.read_text())["measured"]
    on_tile, ratio = found["late_reads"]["on_tile"], found["ratio"]
    ends = ratio["difference"]
    return {
        "tokens in an answer": f"{found['mean_length']:.0f}",
        "late value right: attention on its tile": f"{on_tile['right']:.2f}",
        "late value wrong: attention on its tile": f"{on_tile['wrong']:.2f}",
        "late/early ratio, right less wrong": f"{ends['value']:+.3f} "
        f"[{ends['low']:+.3f}, {ends['high']:+.3f}]",
    } | {
        f"right at T = {T}"
        if float(T)
        else "right, greedily": f"{at['value']:.2f}"
        for T, at in found["accuracy"]["all"].items()
    }


pd.DataFrame({name: told(name) for name in worlds})

# %% [markdown]
# Read it row by row; a *late* value is one in the second half of its answer. In the
# first world a value that is wrong has as much attention on its tile as one that is
# right: the model looks and misreads. In the second a wrong value has next to none. The
# *late/early ratio* is the attention on the image in the late half of an answer over that
# in the early half ([chapter 01](01_forgetting.ipynb)). The paper tells right from wrong
# answers by it. Between answers to the same question it differs in the second world only.
# And lowering the temperature repairs most of the first world, and nothing of the second.
# The third column was to be right at most .6 of the time, as the second is. Greedily it
# is right a little more often, so of the five criteria in `results/worlds/` it misses one.
#
# The last criterion asks whether the text gives the reads away. In the second world, how
# well does a rule that sees the last four tokens find the values that are looked up?

# %%
path = Path("../results/worlds/look_away.json")
rules = json.loads(path.read_text())["measured"]["text_rules"]
scores = {
    "learned": "a rule learnt from the last four tokens",
    "focus_prediction": "focus, state at t − 1",
    "image": "attention on the image",
}
sets = {"numbers after =": "", "of these, values of colours": "colour_values_"}
pd.DataFrame(
    {
        among: {
            said: rules[f"{of}{score}"]["value"]
            for score, said in scores.items()
        }
        for among, of in sets.items()
    }
).map("{:.2f}".format)

# %% [markdown]
# These are AUROCs: 0.5 knows nothing, 1 finds every look. Among all numbers the rule is
# as good as focus, though it sees no picture. Only among values of colours, some looked
# up and some not, is it a little behind. The criterion is put to that narrower set, and
# its limit of 0.75 is our own choice, not a bound from elsewhere. So in this world too, a
# focus score has to be compared with a rule on the text before it counts as looking.
#
# So each world can answer some questions and not others:
#
# | | misread (the first) | look-away (the second) |
# |---|---|---|
# | does a score find the tokens that read? | yes, truth known | yes, truth known |
# | do wrong answers look less (claim C2)? | no: errors are independent of looking by construction | yes |
# | does training make it look more (C13)? | no: it looks already | yes |
# | is a gain more than a lower temperature would give? | hardly: that gives most of it | yes |
# | is a real 7B model like this? | no | no: its lapse was taught, and its size chosen |
#
# Chapters 01 to 06 and 09 use the first world unless they say otherwise. Grids of
# trainings in `results/experiments/` use the second.
#
# ## In your own notebook
#
# ```python
# from vgpo import testbed
#
# model, processor = testbed.load_tiny()      # ordinary Hugging Face objects
# data = testbed.make_dataset(1000)           # ordinary datasets.Dataset
# other, its_processor = testbed.load_tiny("look_away")
# ```
#
# The models know the questions of this chapter on tiles of 28 pixels, and nothing
# else: ask one in plain English and it answers with babble. To make the checkpoint
# anew, or with other knobs:
# `python -m vgpo.testbed.cold_start --output runs/cold_start --forgetfulness 0.1`.
#
# ## Exercises
#
# Predict first; then run the line with the environment active
# (`source .venv/bin/activate`) and look into `_build/tried/00_testbed.ipynb`.
#
# **1.** Sample at temperature 0.5. Which column of the table by place moves, and
# towards what?
#
# ```bash
# python book/build.py execute 00_testbed -p temperature 0.5
# ```
#
# :::{dropdown} Solution
# `sampled` falls towards `greedy` at every place and leaves `taught` behind; at a
# low temperature the most likely value is drawn nearly always, and 3 % of the values are
# misread in place of 21 %. `greedy` does not change. Accuracy rises with no training at
# all, that of sums from 0.31 to 0.78.
# :::
#
# **2.** The chains were taught with $f = 0.08$. With which $f$ would every
# second chain of five values be free of misreadings?
#
# ```python
# f = 0.08
# free = [(1 - f) ** sum(range(1, n + 1)) for n in range(1, 10)]
# ```
#
# :::{dropdown} Solution
# Five values are all kept with probability $(1-f)^{1+2+3+4+5} = (1-f)^{15}$. That
# is one half at $f = 1 - 2^{-1/15} \approx 0.045$. At 0.08 it is 0.29. (A replaced
# value may be right by chance, so slightly more chains come out right.)
# :::
#
# **3.** Over a grey picture the model still gets about a third of the
# comparisons right, and hardly any sum. Why?
#
# :::{dropdown} Solution
# A comparison names a few colours, mostly two to four, and asks for one of them: naming
# any is right in a third of the cases or so. A sum has dozens of possible answers.
# `never_looks` in the figure is the best that guessing can do, per family.
# :::
#
# ## Keep in mind
#
# - Of every token of these answers it is known whether it reads the picture, and
#   where. Everything that follows is graded against that.
# - The first world misreads what it looks at; the second does not look. Only the
#   second can show visual forgetting as the paper means it.
# - Their sizes and lapses are ours. What is found here is a statement about the
#   method's parts, not about a 7B model.
