"""Focus scores beside image attention, and beside what occlusion changes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vgpo.models.attention import attention_split
from vgpo.models.inputs import special_token_ids
from vgpo.stats.intervals import RESAMPLES, correlation_interval
from vgpo.studies.focus.roles import ALIGNMENTS, token_roles
from vgpo.studies.tables import batches_of_one_length, token_table
from vgpo.testbed.changes import blank, occlude
from vgpo.testbed.questions import Example


def attention_table(
    model, processor, examples: Sequence[Example], batch_size: int = 32
) -> pd.DataFrame:
    """Image attention of every token of the reference chains, layer by layer.

    Args:
        model: A model of the small world.
        processor: Its processor.
        examples: Questions with an image.
        batch_size: Rows per forward pass.

    Returns:
        One row per token and layer: ``row`` (index into ``examples``), ``t``,
        ``layer`` (from 0), and the share of attention on image tokens, heads
        averaged and special tokens left out, from the token's own position
        (``attention``) and from the one before (``attention_prediction``).
    """
    columns = {"attention": "token", "attention_prediction": "prediction"}
    special = special_token_ids(processor.tokenizer)
    chains = [example.completion for example in examples]
    tables = []
    for some, length, inputs in batches_of_one_length(
        processor, examples, chains, batch_size, device=model.device
    ):
        shares = {}
        for column, alignment in columns.items():
            split = attention_split(
                model,
                inputs,
                length,
                layers="all",
                alignment=alignment,
                special_token_ids=special,
            )
            shares[column] = split.layer_masses[..., 0].cpu().numpy()
        layer, nth, t = np.indices(shares["attention"].shape)
        tables.append(
            pd.DataFrame(
                {
                    "row": np.asarray(some)[nth].ravel(),
                    "t": t.ravel() + 1,
                    "layer": layer.ravel(),
                }
                | {name: values.ravel() for name, values in shares.items()}
            )
        )
    return pd.concat(tables).sort_values(["layer", "row", "t"], ignore_index=True)


def attention_correlations(
    table: pd.DataFrame, attention: pd.DataFrame, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Pearson r of focus with image attention, for each layer and alignment.

    Args:
        table: A token table.
        attention: :func:`attention_table` of the same examples.
        resamples: Bootstrap resamples.

    Returns:
        One row per ``layer``, ``focus`` and ``attention`` alignment and ``scope``
        (``"pooled"``, or ``"within"`` completions): ``r``, ``low``, ``high``.
    """
    joined = attention.merge(table, on=["row", "t"], validate="many_to_one")
    found = []
    for layer, tokens in joined.groupby("layer"):
        for focus, column in ALIGNMENTS.items():
            for name, mass in (
                ("token", "attention"),
                ("prediction", "attention_prediction"),
            ):
                for scope in ("pooled", "within"):
                    *estimate, _ = correlation_interval(
                        tokens[column],
                        tokens[mass],
                        tokens["row"],
                        within=scope == "within",
                        resamples=resamples,
                    )
                    found.append((layer, focus, name, scope, *estimate))
    return pd.DataFrame(
        found, columns=["layer", "focus", "attention", "scope", "r", "low", "high"]
    )


def occlusion_table(
    model, processor, examples: Sequence[Example], batch_size: int = 32
) -> pd.DataFrame:
    """How far the log-probability of each token falls when tiles are hidden.

    The completion is the reference chain throughout; only the picture changes.

    Args:
        model: A model of the small world.
        processor: Its processor.
        examples: Questions with an image.
        batch_size: Rows per forward pass.

    Returns:
        The token table of ``examples`` with ``role`` and three more columns, in
        nats, positive where hiding hurts: ``drop_image`` (the whole picture grey,
        for every token), ``drop_tile`` (only the tiles that this token reads) and
        ``drop_elsewhere`` (only tiles that other tokens of the chain read, averaged
        over them); the last two are NaN where they do not apply.
    """
    table = token_table(model, processor, examples, batch_size=batch_size)
    table["role"] = token_roles(table)
    table["drop_image"] = table["log_prob"] - _log_probs(
        model, processor, [blank(example) for example in examples], batch_size
    )
    places = [
        list(dict.fromkeys(token.tiles for token in example.chain if token.tiles))
        for example in examples
    ]
    owners = [(row, tiles) for row, read in enumerate(places) for tiles in read]
    hidden = [occlude(examples[row], tiles) for row, tiles in owners]
    fallen = token_table(model, processor, hidden, batch_size=batch_size)
    fallen = fallen[fallen["source"] == "image"]
    cases = pd.DataFrame(owners, columns=["row", "hidden"])
    cases = cases.join(
        fallen.set_index("row")[["t", "tiles", "log_prob"]], how="inner"
    ).rename(columns={"log_prob": "log_prob_hidden"})
    cases["own"] = cases["hidden"] == cases["tiles"]
    remaining = (
        cases.groupby(["row", "t", "own"])["log_prob_hidden"].mean().unstack("own")
    )
    remaining = remaining.reindex(columns=[True, False])
    remaining.columns = ["tile", "elsewhere"]
    table = table.join(remaining, on=["row", "t"])
    for name in remaining.columns:
        table[f"drop_{name}"] = table["log_prob"] - table.pop(name)
    return table


def _log_probs(model, processor, examples, batch_size) -> np.ndarray:
    table = token_table(model, processor, examples, batch_size=batch_size)
    return table["log_prob"].to_numpy()
