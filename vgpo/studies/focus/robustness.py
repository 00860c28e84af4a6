"""Focus scores under changes of the model or of the picture."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vgpo.stats.intervals import RESAMPLES, auroc_interval, mean_interval
from vgpo.studies.focus.roles import ALIGNMENTS, ROLES, token_roles
from vgpo.studies.tables import equals_before, token_table
from vgpo.testbed.questions import Example


def robustness_table(
    model,
    processor,
    examples: Sequence[Example],
    variants: Mapping[str, Sequence[Example]],
    batch_size: int = 32,
) -> pd.DataFrame:
    """How the focus of the same tokens changes when the picture does.

    Args:
        model: A model of the small world.
        processor: Its processor.
        examples: Questions with an image; the completions are their chains.
        variants: Name -> the same examples with other pictures.
        batch_size: Rows per forward pass.

    Returns:
        The token table of every variant, one below the other, with ``variant``,
        ``role``, ``focus_before``, ``focus_prediction_before`` and
        ``log_prob_before`` of the unchanged pictures.

    Raises:
        ValueError: a variant has not one example per example.
    """
    plain = token_table(model, processor, examples, batch_size=batch_size)
    tables = []
    for name, changed in variants.items():
        if len(changed) != len(examples):
            raise ValueError(
                f"variants: {name!r} has {len(changed)} examples for {len(examples)}"
            )
        completions = [example.completion for example in examples]
        table = token_table(model, processor, changed, completions, batch_size)
        tables.append(beside_plain(name, table, plain))
    return pd.concat(tables, ignore_index=True)


def beside_plain(variant: str, table: pd.DataFrame, plain: pd.DataFrame):
    """The token table of a variant, with the scores of the plain one beside its own.

    Args:
        variant: Its name.
        table: Its token table.
        plain: The token table of the same tokens, without the change.

    Returns:
        ``table`` with ``variant``, ``role``, and ``focus_before``,
        ``focus_prediction_before`` and ``log_prob_before`` of ``plain``.
    """
    before = {f"{c}_before": plain[c] for c in (*ALIGNMENTS.values(), "log_prob")}
    table = table.assign(role=token_roles(plain), **before)
    table.insert(0, "variant", variant)
    return table


def robustness_summary(table: pd.DataFrame, resamples: int = RESAMPLES) -> pd.DataFrame:
    """What a change of the picture does to the score, and to the model.

    Args:
        table: From :func:`robustness_table`.
        resamples: Bootstrap resamples.

    Returns:
        Index ``variant``. ``token`` and ``prediction``: Spearman's rank
        correlation of the scores before and after, per completion and then
        averaged, with ``_low`` and ``_high``; ``read_probability``: mean
        probability of the true value at the tokens that read one; ``auroc``, with
        ``_low`` and ``_high``: of reads against others, alignment ``"prediction"``;
        ``rule``, likewise: the AUROC of "the token before is =", which sees no
        picture and so is the same for every change of it.
    """
    found = []
    for name, tokens in table.groupby("variant", sort=False):
        entry = {"variant": name}
        for alignment, column in ALIGNMENTS.items():
            ranks = tokens.groupby("row")[[column, f"{column}_before"]].rank()
            each = [
                part[column].corr(part[f"{column}_before"])
                for _, part in ranks.groupby(tokens["row"])
            ]
            entry |= mean_interval(each, resamples=resamples).as_columns(alignment)
        reads = tokens["role"].isin(ROLES[:2])
        values = tokens.loc[tokens["role"] == "value read", "log_prob"]
        entry["read_probability"] = np.exp(values).mean()
        scores = {"auroc": tokens["focus_prediction"], "rule": equals_before(tokens)}
        for column, score in scores.items():
            found_by = auroc_interval(score, reads, tokens["row"], resamples=resamples)
            entry |= found_by.as_columns(column)
        found.append(entry)
    return pd.DataFrame(found).set_index("variant")
