# %% [markdown]
# # A small world with known truth
#
# *Which words of an answer read the picture?* For a real benchmark nobody
# knows. So this book carries a world of its own, small enough for a laptop and
# built so that the question has an answer: of every token of every completion
# we know whether it reads the image, and which part of it.
#
# The architecture is the one the paper trains,
# `Qwen2_5_VLForConditionalGeneration`; only the sizes are small. The pixels are
# real too: the digits are 1,797 scans of handwriting
# {cite}`alpaydin1998optdigits`.
#
# **Overview.** The pictures and questions; a completion and its sources; the
# tokens; the model; how it learnt; what it answers; and the test that matters
# most here: does it *look*?

# %% tags=["parameters"]
checkpoint = ""  # folder of another cold start; "" takes the shipped one
questions = 100  # held-out questions per family asked in this notebook
seed = 0  # seed of the sampled answers

# %%
import json
from pathlib import Path

import pandas as pd

from vgpo import figures, testbed
from vgpo.testbed import FAMILIES, IMAGE_FAMILIES, trace
from vgpo.testbed.answers import accuracy, answer, correct
from vgpo.testbed.changes import blank, swap
from vgpo.testbed.cold_start import ColdStartConfig

folder = Path(checkpoint) if checkpoint else testbed.CHECKPOINT
record = json.loads((folder / "cold_start.json").read_text())
world = ColdStartConfig(**record["config"]).world()

# %% [markdown]
# ## Pictures and questions
#
# A picture is a grid of coloured tiles with a handwritten digit on each, or a
# bar chart. Questions name colours. Four families need the picture; in the
# fifth, the control, the same sums are asked with the digits given in words.

# %% mystnb={"figure": {"name": "fig-families", "caption": "One question of each family that needs the picture, with its true answer."}, "image": {"alt": "Four pictures side by side: three grids of coloured tiles with handwritten digits and one bar chart, each titled with its question and answer."}}
examples = [
    world.example(7 + i, family=family, split="heldout")
    for i, family in enumerate(IMAGE_FAMILIES)
]
figures.gallery_figure(examples)

# %%
for family in FAMILIES:
    print(f"{family:8}", world.example(7, family=family).question)

# %% [markdown]
# A tile is 28 × 28 pixels, exactly one image token of Qwen2.5-VL. "The token
# that shows the red tile" is therefore a fact, not an approximation.
#
# ## A completion and its sources
#
# Answers are chains that must come back to the picture at every step. Each
# token has one of four sources: the **image** (then we know the tiles), the
# **question**, earlier **text** (arithmetic and syntax), or nothing at all:
# **filler** words that bear on nothing.

# %% mystnb={"figure": {"name": "fig-sources", "caption": "A sum. Orange tokens read the image, at the tiles numbered beneath them; dashed ones misreport what the tile shows."}, "image": {"alt": "A grid of coloured digits on the left; on the right the chain of thought as boxes coloured by source, with tile numbers under the boxes that read the image."}}
figures.source_figure(world.example(5, family="sum"))

# %% [markdown]
# In `Total ?` and in counting the chain names the colours itself, tile by
# tile, so the names are reads as well. A bar is read from the three tiles of
# its column:

# %% mystnb={"figure": {"name": "fig-sources-chart", "caption": "A chart: each height is read from the tiles of one column."}, "image": {"alt": "A bar chart with numbered tiles on the left and its chain of thought as coloured boxes on the right."}}
figures.source_figure(world.example(12, family="chart"))

# %% [markdown]
# ### Two knobs: forgetfulness and verbosity
#
# Some of the boxes above are dashed. In the chains the model learnt from, the
# $j$-th value read is replaced by a random one with probability
# $1 - (1 - f)^j$, and the arithmetic goes on with the wrong value. A model
# taught on such chains knows the digits but *loses its grip on the picture as
# the chain grows*, by a known amount: visual forgetting of known size.
#
# The second knob, verbosity $v$, is the chance that a filler word follows a
# step, then another, up to six. The paper's case for re-weighting is that words
# which do not depend on the image dilute the credit of those that do, so there
# have to be such words.

# %%
print(
    f"forgetfulness f = {world.forgetfulness}, verbosity v = {world.verbosity}"
)
slips = 1 - (1 - world.forgetfulness) ** pd.Series(range(1, 10))
print("chance that the j-th value is replaced:")
print(slips.round(2).set_axis(range(1, 10)).to_frame("").T.to_string())

# %% [markdown]
# ## Tokens
#
# The tokenizer spells any text in bytes, and has one token for each word of
# the small world, so a number is one token and a read is one token.

# %%
model, processor = testbed.load_tiny(folder)
example = world.example(3, family="chart")
text = processor.apply_chat_template(
    testbed.messages(example), add_generation_prompt=True
)
batch = processor(text=text, images=example.image, return_tensors="pt")
tokens = processor.tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
print(" ".join(tokens))

# %% [markdown]
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

# %% mystnb={"figure": {"name": "fig-cold-start", "caption": "The cold start, on scans never trained on. Vertical lines: the pictures grow."}, "image": {"alt": "Lines of held-out accuracy per question family against optimiser steps; sampled accuracy solid, greedy dotted."}}
curve = pd.read_csv(folder / "curve.csv")
figures.cold_start_figure(curve, FAMILIES)

# %%
minutes = record["seconds"] / 60
print(record["command"])
print(f"{record['config']['steps']} steps, {minutes:.0f} minutes", end=", ")
print(
    f"{record['config']['threads']} thread(s), seed {record['config']['seed']}"
)

# %% [markdown]
# ## What it answers
#
# Greedily, and sampled at temperature 1, on scans it never saw:

# %%
asked = {
    family: world.examples(questions, [family], split="heldout")
    for family in FAMILIES
}
greedy = {f: answer(model, processor, asked[f]) for f in FAMILIES}
sampled = {f: answer(model, processor, asked[f], 1.0, seed) for f in FAMILIES}
table = pd.DataFrame(
    {
        "greedy": {f: accuracy(greedy[f], asked[f]) for f in FAMILIES},
        "sampled": {f: accuracy(sampled[f], asked[f]) for f in FAMILIES},
    }
)
table.round(2)

# %% [markdown]
# The distance between the two columns is mostly forgetfulness at work: the most
# likely digit is nearly always the right one, but the model has learnt not to
# be sure, and less so the further the chain has come. How often is a sampled
# value a misread, by its place in the chain?

# %%
rows = []
for family in IMAGE_FAMILIES:
    for text, example in zip(sampled[family], asked[family], strict=True):
        ids = processor.tokenizer(text).input_ids
        words = [processor.tokenizer.decode(i) for i in ids]
        reads = [t for t in trace(example, words) if t.truth is not None]
        rows += [(j, not t.faithful) for j, t in enumerate(reads[:9], start=1)]
misreads = pd.DataFrame(rows, columns=["j", "misread"]).groupby("j")["misread"]
pd.DataFrame(
    {
        "sampled": misreads.mean(),
        "taught": 0.9 * slips.set_axis(range(1, 10)),
        "reads": misreads.size(),
    }
).round(2)

# %% [markdown]
# The model has become what it was taught to be. (A random digit is the right
# one in a tenth of the cases, hence the factor 0.9; bars have nine heights.) A
# right and a wrong sample:

# %%
for wanted in (True, False):
    text, example = next(
        (t, e)
        for t, e in zip(sampled["sum"], asked["sum"], strict=True)
        if correct(t, e) is wanted and len(e.colours) > 4
    )
    print(
        "right" if wanted else "wrong",
        "|",
        example.question,
        "|",
        example.answer,
    )
    print(
        "  shown:",
        *[
            f"{c}={v}"
            for c, v in zip(example.colours, example.values, strict=True)
        ],
    )
    print("  said: ", text)

# %% [markdown]
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
# ## In your own notebook
#
# ```python
# from vgpo import testbed
#
# model, processor = testbed.load_tiny()      # ordinary Hugging Face objects
# data = testbed.make_dataset(1000)           # ordinary datasets.Dataset
# ```
#
# To make the checkpoint anew, or with other knobs:
# `python -m vgpo.testbed.cold_start --output runs/cold_start --forgetfulness 0.1`.
