# %% [markdown]
# # Visual forgetting, on a model of your own
#
# **In this chapter.** *Does your model stop looking at the picture?* Any vision-language
# model of Hugging Face can be asked ([which were tested](../book/families.md)), on a data
# set with images. What can be seen without knowing the truth, and is it more than what a
# network that knows nothing shows as well ([chapter 01](01_forgetting.ipynb))?
#
# As published it runs on the two small worlds of this book, taken as if their truth
# were not known. Parameters change that:
#
# ```bash
# python book/build.py execute 01b_forgetting_real \
#     -f recipes/forgetting_qwen2_5_vl_7b.yaml
# ```

# %% tags=["parameters", "hide-input"]
models = []  # models, by name or folder; [] takes the two small worlds
dataset = ""  # for models: a data set on the hub, a folder or a file
dataset_split = "test"  # its split
question_column = "problem"  # its column of questions
answer_column = "answer"  # its column of reference answers
image_column = "images"  # its column of images
questions = 60  # how many are asked, one greedy answer each
prompt_suffix = None  # put after each question; None takes the paper's
max_pixels = 1048576  # larger images are reduced
max_new_tokens = 2048  # longest answer
completions_file = ""  # keeps answers, so that a stopped run goes on
untrained = True  # whether a network with random weights reads them as well
seed = 60  # names the questions of the small worlds

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import display

import vgpo
from vgpo import figures
from vgpo.stats import forgetting as forget
from vgpo.studies import forgetting as study
from vgpo.studies.question_seeds import ASKED
from vgpo.testbed import CHECKPOINTS, load_tiny

pd.set_option("display.precision", 3)

# %% tags=["hide-input"]
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
        untrained=untrained,
    )
else:
    analyses = {
        world: vgpo.analyze(
            *load_tiny(CHECKPOINTS[world]),
            study.as_rows(
                ASKED[world].examples(
                    questions // 2,
                    seed=seed,
                    split="heldout",
                    families=("sum", "count"),
                )
            ),
            untrained=untrained,
        )
        for world in ("misread", "look_away")
    }
names = list(analyses)
first = analyses[names[0]]

# %% [markdown]
# ## The main numbers
#
# Rows that end on "spread evenly" or "untrained network" are the row above them where
# nothing is known. What they show as well is no finding.

# %%
pd.concat(
    {name: a.summary()["value"] for name, a in analyses.items()}, axis=1
).round(3)

# %% [markdown]
# Compare each number with the two below it. A fall of the image's share that is no
# larger than that of the untrained network is what a growing context does by itself.
# A correlation with length of the untrained network's size says the same.
#
# ## One answer

# %% mystnb={"figure": {"name": "fig-real-split", "caption": "The first answer of the first model: attention of each token, as it is chosen, split over image, query and generated text."}, "image": {"alt": "Stacked bars over the words of one answer: the share of the image in orange is high at some words and low at most, the share of generated text grows."}}
first.example_figure(0)

# %% mystnb={"figure": {"name": "fig-real-maps", "caption": "Where on the picture its six most looking tokens look. In brackets: the share of attention on the image."}, "image": {"alt": "The picture six times, each time with another part of it glowing."}}
if first.kept[0].aligned:  # not where a family cuts pictures into tiles
    display(first.heatmap_figure(0))

# %% [markdown]
# ## The course of an answer

# %% mystnb={"figure": {"name": "fig-real-decay", "caption": "Share of attention over the progress of generation, mean over answers, with 95 % bands; without colour, what knows nothing."}, "image": {"alt": "Three panels with a line per model over progress: the image's share falls, and so do the two lines of what knows nothing; the share of generated text rises."}}
figures.decay_figure(
    pd.concat(
        a.curves([name] * len(a.per_answer)) for name, a in analyses.items()
    )
)

# %% [markdown]
# ## Right and wrong answers
#
# With one answer per question there is nothing to pair. So a difference here may be
# one of length and difficulty. The row to read beside it is that of the untrained
# network.

# %%
rows = {}
measured = {"ratio": "its own", "ratio_uniform": "spread evenly"}
measured["ratio_untrained"] = "untrained network"
for name, a in analyses.items():
    table = a.per_answer.dropna(subset=["correct"])
    for column in ["ratio", *(f"ratio_{null}" for null in a.nulls)]:
        rows[f"{name}, {measured[column]}"] = forget.compare_right_wrong(
            table[column], table["correct"].astype(bool)
        )
study.comparison_table(rows).round(3)

# %% mystnb={"figure": {"name": "fig-real-length", "caption": "Late/early ratio against the length of the answer, first model; dashed: a network that knows nothing."}, "image": {"alt": "A scatter plot of the late/early ratio over the length of the answer, with a line of medians and a dashed line that falls."}}
figures.ratio_length_figure(first.per_answer, null=f"ratio_{first.nulls[-1]}")

# %% [markdown]
# ## Before and after
#
# Given two or more models that were asked the same, questions are compared one by
# one: the share on the image, the ratio, the length, and who was right.

# %%
for name in names[1:]:
    print(f"{name} less {names[0]}")
    if models:
        display(study.paired_changes(first, analyses[name]).round(3))
    else:
        print("two worlds, other questions: nothing to pair")

# %% [markdown]
# ## What it costs
#
# One greedy answer after the other, then one more pass for the attention, and a third
# if an untrained network reads along. A response of 2,000 tokens to a prompt of 1,300
# takes 10 MB beside the model for what is kept, and at most 0.3 GB while a layer is
# read. All attention weights of a 7B model would be 17 GB. The untrained network needs
# the model's memory once more; `untrained: false` leaves it out, and the formula
# ("spread evenly") stays.
#
# The recipes `forgetting_vgpo_rl_7b.yaml` and `forgetting_vgpo_rl_32b.yaml` compare
# Qwen2.5-VL with the checkpoints the paper's authors released. They have not been run
# here: they need a GPU, and downloads.
#
# ## Exercises
#
# Predict first; the lines go into cells at the end.
#
# **1.** In the table of the main numbers, is the fall of the image's share larger than
# the formula's? Then the same for a model of yours, with twenty questions.
#
# :::{dropdown} Solution
# Compare "on the image, last less first" with the row "…, spread evenly". In both small
# worlds the share falls about half as far as the formula's: -0.11 beside -0.20, and
# -0.03 beside -0.07. The second of these worlds does stop looking, so a fall that is
# smaller than the formula's does not prove the opposite either.
# :::
#
# **2.** Read all layers. In which is the difference of right and wrong answers largest,
# and would you have chosen that layer beforehand?
#
# ```python
# pair = load_tiny(CHECKPOINTS["misread"])
# kinds = ("sum", "count")
# examples = ASKED["misread"].examples(30, kinds, seed=seed, split="heldout")
# every = vgpo.analyze(*pair, study.as_rows(examples), layers="all").responses
# for layer, part in every.groupby("layer"):
#     right = part["correct"].astype(bool)
#     print(layer, forget.compare_right_wrong(part["ratio"], right))
# ```
#
# :::{dropdown} Solution
# In layer 1: +0.09 [0.03, 0.17], the paper's sign and an interval above 0, in a world
# whose errors have nothing to do with looking. In the last layer there is none: -0.004,
# as in the table above. Choosing
# a layer afterwards is choosing the largest of several draws; say which one before.
# :::
#
# **3.** Sample eight answers to each of these questions. Does a difference of right and
# wrong survive within questions? And in the world `look_away`?
#
# ```python
# from vgpo.testbed.answers import answer
#
# asked = [example for example in examples for _ in range(8)]
# texts = answer(*pair, asked, temperature=1.0, seed=0)
# several = vgpo.analyze(*pair, study.as_rows(asked), texts).per_answer
# question = [i // 8 for i in range(len(asked))]
# print(
#     forget.compare_within_questions(
#         several["ratio"], several["correct"], question
#     )
# )
# ```
#
# :::{dropdown} Solution
# Not in the first world: +0.00 [-0.01, 0.02]. In the other one +0.14 [-0.01, 0.30], as
# large as the paper's, from 45 questions that got both kinds of answers. That is too
# few to exclude 0; chapter 01 has five draws of more, which do.
# :::
#
# ## Keep in mind
#
# - Without the truth of every token, a falling share cannot be told from an answer that
#   has nothing left to look at.
# - The formula costs nothing: put it beside every figure of this kind.
# - One answer per question cannot separate forgetting from difficulty.
