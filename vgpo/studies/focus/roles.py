"""Focus scores by what tokens do in their chain, graded against the true reads."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vgpo.method.compensation import visual_gate
from vgpo.stats.intervals import RESAMPLES, auroc_interval
from vgpo.studies.tables import padded
from vgpo.testbed.images import COLOURS

ALIGNMENTS = {"token": "focus", "prediction": "focus_prediction"}
"""Alignment -> its column in a token table."""


ROLES = (
    "value read", "colour read", "= before a read", "= before a result", "result",
    "number repeated", "colour asked", "colour repeated", "syntax", "filler",
)  # fmt: skip
"""What a token does in its chain. The first two read the image."""


def token_roles(table: pd.DataFrame) -> pd.Series:
    """The role of each token of a token table, one of :data:`ROLES`.

    Args:
        table: From :func:`vgpo.studies.tables.token_table`.

    Returns:
        One role per row of ``table``.

    Example:
        >>> table = pd.DataFrame({
        ...     "row": 0,
        ...     "token": [" red", " =", " 5", " ."],
        ...     "source": ["question", "text", "image", "text"],
        ...     "truth": [None, None, " 5", None],
        ... })
        >>> token_roles(table).tolist()
        ['colour asked', '= before a read', 'value read', 'syntax']
    """
    word = table["token"].str.strip()
    before = word.groupby(table["row"]).shift(1)
    value = table["truth"].notna()
    value_next = value.groupby(table["row"]).shift(-1, fill_value=False)
    number = word.str.fullmatch(r"\d+")
    cases = [
        (value, "value read"),
        (table["source"] == "image", "colour read"),
        (table["source"] == "question", "colour asked"),
        (table["source"] == "filler", "filler"),
        ((word == "=") & value_next, "= before a read"),
        (word == "=", "= before a result"),
        (number & before.isin(["=", "yes", "no"]), "result"),
        (number, "number repeated"),
        (word.isin(list(COLOURS)), "colour repeated"),
    ]
    roles = np.select(
        [case.to_numpy(dtype=bool) for case, _ in cases],
        [name for _, name in cases],
        default="syntax",
    )
    return pd.Series(roles, index=table.index, name="role")


def auroc_by(
    table: pd.DataFrame,
    by: str,
    scores: Mapping[str, str] = ALIGNMENTS,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """AUROC of image reads against all other tokens, for each value of a column.

    Args:
        table: A token table with the column ``role`` of :func:`token_roles`.
        by: The column that parts the tokens, such as ``"family"``.
        scores: Name of a score -> its column; by default focus, both alignments.
        resamples: Bootstrap resamples.

    Returns:
        One row per part and score: ``by``, ``score``, ``auroc``, ``low``,
        ``high``, ``reads``, ``others``.
    """
    found = []
    for part, tokens in table.groupby(by, observed=True, sort=True):
        reads = tokens["role"].isin(ROLES[:2])
        for name, column in scores.items():
            *estimate, _ = auroc_interval(
                tokens[column], reads, tokens["row"], resamples=resamples
            )
            found.append((part, name, *estimate, reads.sum(), (~reads).sum()))
    return pd.DataFrame(
        found, columns=[by, "score", "auroc", "low", "high", "reads", "others"]
    )


def auroc_against_roles(
    table: pd.DataFrame,
    scores: Mapping[str, str] = ALIGNMENTS,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """AUROC of values read against the tokens of one other role at a time.

    Against ``"number repeated"`` and ``"result"`` the tokens to tell apart are all
    numbers: being about to write one does not help any more.

    Args:
        table: A token table with the column ``role`` of :func:`token_roles`.
        scores: Name of a score -> its column; by default focus, both alignments.
        resamples: Bootstrap resamples.

    Returns:
        One row per role and score: ``role``, ``score``, ``auroc``, ``low``,
        ``high``, ``others`` (tokens of that role).
    """
    found = []
    for role in ROLES[1:]:
        tokens = table[table["role"].isin(["value read", role])]
        values = tokens["role"] == "value read"
        if values.all():
            continue
        for name, column in scores.items():
            *estimate, _ = auroc_interval(
                tokens[column], values, tokens["row"], resamples=resamples
            )
            found.append((role, name, *estimate, (~values).sum()))
    return pd.DataFrame(
        found, columns=["role", "score", "auroc", "low", "high", "others"]
    )


def focus_around_reads(table: pd.DataFrame, reach: int = 4) -> pd.DataFrame:
    """Focus of the states before and after a value is read.

    Args:
        table: A token table with the column ``role`` of :func:`token_roles`.
        reach: Positions to each side.

    Returns:
        One row per read and lag: ``row``, ``lag`` (0 is the read's own position,
        -1 the state that predicted it), ``focus`` of the state there. Lags outside
        the completion are left out.
    """
    focus = table.groupby("row")["focus"]
    reads = table["role"] == "value read"
    parts = [
        pd.DataFrame({"row": table["row"], "lag": lag, "focus": focus.shift(-lag)})[
            reads
        ]
        for lag in range(-reach, reach + 1)
    ]
    return pd.concat(parts, ignore_index=True).dropna()


def highest_focus_roles(
    table: pd.DataFrame, column: str, top_ratio: float = 0.2, tail_ratio: float = 1.0
) -> pd.DataFrame:
    """Which roles the tokens of highest focus have.

    Args:
        table: A token table with the column ``role`` of :func:`token_roles`.
        column: The focus column.
        top_ratio: κ of Eq. 6: the share taken of each completion's tail.
        tail_ratio: γ of Eq. 6; 1 takes the tail to be the whole completion.

    Returns:
        Index ``role``; ``of all tokens`` and ``of the highest``, shares of the
        role among the tokens of the tail and among those chosen, and ``lift``,
        their ratio (1: as often as by chance).
    """
    focus, mask = padded(table, column)
    gate = visual_gate(focus, mask, tail_ratio=tail_ratio, top_ratio=top_ratio)
    tail = visual_gate(focus, mask, tail_ratio=tail_ratio, top_ratio=1.0)
    ordered = table.sort_values("row", kind="stable")["role"].to_numpy()
    roles = pd.Index(ROLES, name="role")

    def shares(chosen):
        picked = pd.Series(ordered[chosen[mask].bool().numpy()])
        return picked.value_counts(normalize=True).reindex(roles, fill_value=0.0)

    out = pd.DataFrame({"of all tokens": shares(tail), "of the highest": shares(gate)})
    out["lift"] = out["of the highest"] / out["of all tokens"]
    return out[out["of all tokens"] > 0].sort_values("of the highest", ascending=False)
