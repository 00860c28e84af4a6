# %% [markdown]
# # Real models, real questions
#
# **In this chapter.** A score on a benchmark is easy to print and hard to trust.
# *How wide is its interval? Who graded it? Would the model have answered the same
# without the picture?* Two models are evaluated the way the paper does it, every
# answer is kept, and each number is asked these three questions.
#
# The sets here are small copies of four of the paper's benchmarks. They have the files,
# columns and archives of the originals, but the questions and pictures are those of the
# small world ([chapter 00](00_testbed.ipynb)). So the code below is the code for the
# real sets, and the truth is known. Parameters point it at the real ones:
# `recipes/evaluation/notebook_7b.yaml`.

# %% tags=["parameters", "hide-input"]
models = []  # names of two models on the hub; none: two small ones
suite = []  # sets of the catalogue; none: small copies of four of them
root = None  # folder with copies of the sets' repositories; null: the hub
questions = 40  # of each set
samples = 4  # sampled answers to each question, beside the greedy one
max_new_tokens = 96  # longer answers are cut off
suffix = ""  # put after each question; null: what training asks for
batch_size = 64  # questions answered at once
lessons = 24  # steps of teaching that make the second small model
threads = 2  # torch threads

# %% tags=["hide-input"]
import logging
import tempfile
import warnings
from pathlib import Path

# What the libraries say of features not used here.
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import torch
from datasets import disable_progress_bars

import vgpo
from vgpo import figures
from vgpo.data import describe, load_questions
from vgpo.evaluation import browse, compare, robustness
from vgpo.models.loading import load_model
from vgpo.studies.small_sets import teach_longer, write_small_suite
from vgpo.testbed import load_tiny
from vgpo.testbed.decoding import decode_faster

disable_progress_bars()
torch.set_num_threads(threads)
scratch = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A public set
#
# The catalogue knows the paper's sets: where they are, which column holds what,
# and where each of these facts was read. None of them has been checked against
# the hub from here, and the table says so.

# %%
describe(["counting", "mathvista", "logicvista", "mathverse_v"])[
    ["title", "repository", "rows", "answers", "checked"]
]

# %% [markdown]
# Nine of the ten benchmarks share one form: a Parquet file of conversations,
# with pictures as paths into a zip archive. Four copies in that form are written
# to disk, and loaded like the originals:

# %%
if not suite:
    root = scratch / "sets"
    suite = write_small_suite(root, questions)
found = load_questions(suite[0], root=root, limit=questions, suffix=suffix)
row = found.rows[0]
print(found)
print(row["prompt"][0]["content"], "reference:", row["answer"])

# %% [markdown]
# Pictures stay in the archive until a row is asked for. A row with a broken
# picture or without an answer is left out when the set is loaded, with its
# number and the reason, instead of ending a run in its middle.
#
# ## Two models
#
# The first is the cold start, which misreads more and more along a chain. The
# second is the same model after a short while of teaching with faithful chains.
# It should read better, and it should not be better at anything else.

# %%
if models:
    pairs = {Path(name).name: load_model(name) for name in models}
else:
    first, second = load_tiny(), load_tiny()
    teach_longer(*second, steps=lessons)
    pairs = {"cold start": first, "taught longer": second}
    for model, _ in pairs.values():
        decode_faster(model)

# %% [markdown]
# Each model answers each question once greedily and a few times at
# temperature 1. Every answer goes into a file of the run as soon as it is there,
# with the prompt, the picture, both verdicts and the reason why it ended. A run
# that is killed goes on from there.

# %%
how = dict(
    root=root, limit=questions, suffix=suffix, batch_size=batch_size,
    max_new_tokens=max_new_tokens, progress=False,
)  # fmt: skip
runs = {
    name: vgpo.evaluate(
        *pair, suite, name=name, out=scratch / name, samples=samples, **how
    )
    for name, pair in pairs.items()
}

# %% mystnb={"figure": {"name": "fig-real-accuracy", "caption": "Greedy accuracy of two models on four sets, with 95 % intervals over questions."}, "image": {"alt": "Four rows, one per benchmark, with a dot and a square each and horizontal interval bars; the two models' intervals overlap on every set."}}
figures.accuracy_by_set_figure({n: run.summary() for n, run in runs.items()})

# %% [markdown]
# The intervals are the first thing to see. With 40 questions they are some 30 points
# wide, and still between 6 and 13 points with the 200 questions of the paper's
# Counting, at the scores it reports. A difference of a few points between two models is
# within them. What helps is to compare question by question, which comes below.
#
# The same runs, with what stands beside accuracy:

# %%
before, after = runs.values()
columns = ["greedy", "avg", "pass@1", f"pass@{samples}", "no_answer", "cut_off"]
after.summary()[columns].round(2)

# %% [markdown]
# `avg` is the mean over samples, as PAPO-Eval reports it. `pass@k` is the chance
# that one of $k$ samples is right, estimated without bias from all of them:
#
# $$
# \text{pass@}k = 1 - \binom{n-c}{k} \Big/ \binom{n}{k}
# $$
#
# for $c$ right answers out of $n$. `no_answer` and `cut_off` say how much of the
# error is no error of reading or reasoning: no box was found, or the limit of
# tokens came first.
#
# ## Two graders
#
# The released code grades by mathruler, which compares texts after throwing units,
# degrees and percent signs away. This package grades by what kind of answer the
# reference is ([chapter 09](09_paper_vs_code.ipynb)). Both verdicts are kept, and where
# they differ, a person can look:

# %%
answers = after.answers()
print((answers["accuracy"] != answers["recipe"]).sum(), "of", len(answers))
after.disagreements().head()

# %% [markdown]
# In the small world answers are whole numbers and names of colours, on which the
# two agree. On a set with units or ranges they do not, and a difference between
# two papers may be one between two graders.
#
# ## Question by question
#
# Both models were asked the same questions. So the questions that both got right
# and those that both got wrong tell nothing, and McNemar's test looks at the
# rest.

# %%
found = compare(before, after)
print(found)
found.table[
    ["questions", "first", "second", "first_only", "second_only",
     "corrected", "verdict"]
].round(3)  # fmt: skip

# %% mystnb={"figure": {"name": "fig-real-difference", "caption": "Difference in greedy accuracy, paired by question, with 95 % intervals. Grey: differences that so many questions would have missed in more than one case of five."}, "image": {"alt": "Five rows, four sets and all together, each with a dot, an interval bar and a grey band around zero; where the dot lies within the band the set has too few questions."}}
figures.difference_figure(
    found.table, "second less first, share of right answers"
)

# %% [markdown]
# The grey band is the honest part of the figure. A dot inside it is a difference
# that this many questions would usually miss if it were real. "Not decided" is
# then the right verdict, and more questions are the cure. Here no set decides, nor
# do all of them together, although the second model is ahead. Its samples gain
# more than its greedy answers, as `avg` in `before.summary()` beside the table
# above says, and `compare(before, after, greedy=False)` pairs those.
#
# The p-values are corrected for the number of sets (Benjamini and Hochberg). And they
# are about these two checkpoints: whether a method is better takes several training
# runs ([chapter 05](05_training.ipynb)).
#
# ## Looking
#
# Numbers hide what a model does. The page below shows the answers of both models
# with their pictures; choose "gained" or "lost", or search.

# %%
browse(before, after)

# %% [markdown]
# `browse(...).save("answers.html")` writes the same page as one file, which loads
# nothing from anywhere.
#
# ## How much of it is sight?
#
# The same questions once more over worse pictures: a part of the patches black,
# noise, nothing but grey, and the picture of another question. What is lost was
# owed to sight. What is left comes from the words of the question, from chance,
# or from a habit of answering.

# %%
seen = robustness(
    *pairs[after.name], suite, name=after.name, out=scratch / "views", **how
)
shown = ["degraded", "drop", "sight", "verdict"]
seen.table.set_index(["set", "view"])[shown].round(2)

# %% mystnb={"figure": {"name": "fig-real-sight", "caption": "Accuracy lost under four degraded views, paired by question, with 95 % intervals; the grey stroke marks the whole accuracy of the set."}, "image": {"alt": "Rows for each set and for all together, with four marks each for patches, noise, blank and swapped pictures; noise lies near zero, the others near the grey strokes that mark the full accuracy."}}
figures.sight_figure(seen.table)

# %% [markdown]
# Noise costs next to nothing, and a grey picture nearly all of the score: these
# questions are about their pictures. The exception is the stand-in for LogicVista,
# which keeps over a third of its score on a blank picture. Its questions name the
# colours to choose from, so a guess is often right. That part of a benchmark does
# not measure vision, which is worth knowing before a method is judged by it.
#
# ## The real ones
#
# On a machine with a GPU the same runs are one line each:
#
# ```bash
# python -m vgpo.evaluation run --config recipes/evaluation/paper_qwen2_5_vl_7b.yaml
# python -m vgpo.evaluation run --config recipes/evaluation/paper_vgpo_rl_7b.yaml
# python -m vgpo.evaluation compare runs/evaluation/qwen2_5_vl_7b \
#     runs/evaluation/vgpo_rl_7b
# python -m vgpo.evaluation browse runs/evaluation/vgpo_rl_7b --page answers.html
# ```
#
# `run` prints the ten benchmarks and the two averages beside the paper's own.
# No real model has been evaluated for this page.
#
# ## Exercises
#
# **1.** A model answers 100 of 200 questions right. How wide is the interval?
# Guess first.
#
# ```python
# from vgpo.stats.seeds import wilson_interval
# print(wilson_interval(100, 200))
# ```
#
# :::{dropdown} Solution
# From 0.431 to 0.569, 14 points. A gain of ten points on such a set is not yet
# clear of the noise of either score; paired, it may be.
# :::
#
# **2.** Two models are right on 60 of 100 questions each. Once they are right on
# the same 60, once they differ on 40 of them. What does McNemar's test say, and
# what the interval?
#
# ```python
# from vgpo.stats.pairs import paired_shares_interval
# print(paired_shares_interval(0, 0, 100), paired_shares_interval(20, 20, 100))
# ```
#
# :::{dropdown} Solution
# The test says p = 1 both times. The interval reaches to 4 points in the first
# case and beyond 12 in the second: models that answer alike are compared far more
# exactly than models that do not.
# :::
#
# **3.** In the last table a swapped picture leaves *more* of the counting set than a
# blank one, and nothing at all of the stand-in for MathVista. Why?
#
# ```python
# import pandas as pd
#
# for name in ("counting", "mathvista"):
#     answers = load_questions(name, root=root, limit=questions).rows["answer"]
#     shares = pd.Series([str(a) for a in answers]).value_counts(normalize=True)
#     print(name, round((shares**2).sum(), 2))  # two pictures, the same answer
# ```
#
# :::{dropdown} Solution
# Over another picture the model reads well, and answers for that one. Of two counts one
# in five pairs agrees, which is the 0.20 in the table; of two sums one in twenty. Over
# a blank picture it reads nothing, and what it says then is seldom a number that occurs
# here. So neither picture alone says how much of a score is sight.
# :::
#
# ## Keep in mind
#
# - A score without its interval and its grader is half a score.
# - Pair by question, and print what could have been found.
# - Take the picture away before you call it vision.
