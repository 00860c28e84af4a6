"""Where a model looks while it answers: focus and attention at the true reads."""

from collections.abc import Callable, Sequence

import pandas as pd
from sklearn.metrics import roc_auc_score

from vgpo.stats.forgetting.shares import accumulation_ratio
from vgpo.studies.experiments.truth import COLUMN, example_of
from vgpo.studies.tables import padded
from vgpo.studies.worlds import answers_table
from vgpo.testbed import trace
from vgpo.testbed.questions import Example


def looking(
    model, processor, examples: Sequence[Example], completions: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """What the tokens of answers say about looking.

    Args:
        model: Of the small world.
        processor: Its processor.
        examples: Questions with an image.
        completions: Their answers.

    Returns:
        One row per answer: ``right``, ``length``, ``image_first_half`` and
        ``image_second_half`` (share of the final layer's attention on the image, mean
        over the tokens), ``late_early`` (the ratio of the two sums), ``reads`` (values
        looked up) and ``image_at_reads``.

        And over all answers, NaN where there is nothing to average over:

        - ``looking/looks``: of the values of tiles, the share that is looked up (all
          of them, where a chain cannot go on from memory);
        - ``looking/reads_right``: share of those values that are what the tile shows;
        - ``looking/image_at_reads``, ``looking/tile_at_reads``: share of attention on
          the image, and on the right tile, at values looked up;
        - ``looking/focus_at_reads``, ``looking/focus_elsewhere``: visual focus score
          (prediction), and ``looking/auroc_token``, ``looking/auroc_prediction``: how
          well it tells values looked up from all other tokens;
        - ``looking/image_first_half``, ``looking/image_second_half``,
          ``looking/late_early``: means over the answers.
    """
    table = answers_table(model, processor, list(examples), list(completions))
    values = table[table["truth"].notna()]
    read = table["truth"].notna() & (table["source"] == "image")
    late = table["t"] > table["length"] / 2
    # Attention of those tokens, NaN elsewhere, so that a mean takes them alone.
    table = table.assign(
        first=table["image"].where(~late),
        second=table["image"].where(late),
        at_read=table["image"].where(read),
        read=read,
    )
    mass, mask = padded(table, "image")
    answers = (
        table.groupby("row", sort=True)
        .agg(
            right=("correct", "first"),
            length=("length", "first"),
            image_first_half=("first", "mean"),
            image_second_half=("second", "mean"),
            reads=("read", "sum"),
            image_at_reads=("at_read", "mean"),
        )
        .assign(late_early=accumulation_ratio(mass, mask).numpy())
    )
    answers["right"] = answers["right"].astype(int)

    def auroc(column: str) -> float:
        if read.nunique() < 2:
            return float("nan")
        return float(roc_auc_score(read, table[column]))

    found = {
        "looks": (values["source"] == "image").mean(),
        "reads_right": (values["token"] == values["truth"]).mean(),
        "image_at_reads": table["at_read"].mean(),
        "tile_at_reads": table.loc[read, "on_tile"].mean(),
        "focus_at_reads": table.loc[read, "focus_prediction"].mean(),
        "focus_elsewhere": table.loc[~read, "focus_prediction"].mean(),
        "auroc_token": auroc("focus"),
        "auroc_prediction": auroc("focus_prediction"),
        **answers[["image_first_half", "image_second_half", "late_early"]].mean(),
    }
    named = {f"looking/{name}": float(value) for name, value in found.items()}
    return answers.reset_index(drop=True), named


def watchers(decode: Callable[[list[int]], str]) -> list[Callable]:
    """Functions of the form of rewards, of weight 0: the trainer logs their means.

    Args:
        decode: From a list of token ids to text.

    Returns:
        ``looks`` and ``reads_right``, as :func:`looking` has them, per completion;
        None where a completion takes no value from a tile.
    """
    texts: dict[int, str] = {}

    def values(ids: Sequence[int], row) -> list:
        for token in ids:
            if token not in texts:
                texts[token] = decode([token])
        traced = trace(example_of(row), [texts[token] for token in ids])
        return [token for token in traced if token.truth is not None]

    def shares(completion_ids, truths, is_so) -> list[float | None]:
        found = [
            [is_so(token) for token in values(ids, {COLUMN: truth})]
            for ids, truth in zip(completion_ids, truths, strict=True)
        ]
        return [sum(each) / len(each) if each else None for each in found]

    def looks(completion_ids, truth, **columns):
        return shares(completion_ids, truth, lambda t: t.source == "image")

    def reads_right(completion_ids, truth, **columns):
        return shares(completion_ids, truth, lambda t: t.text == t.truth)

    return [looks, reads_right]
