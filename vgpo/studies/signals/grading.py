"""Grades of signals: against the truth, against occlusion, against each other."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from vgpo.method.vppo import most_dependent
from vgpo.stats.intervals import (
    RESAMPLES,
    auroc_interval,
    correlation_interval,
    mean_interval,
)
from vgpo.studies.signals.measure import SIGNALS
from vgpo.studies.tables import padded
from vgpo.testbed.look_away import LOOKS

AGAINST = {
    "reads": "tokens that read the picture, among all tokens",
    "numbers": "values read, among numbers after an equals sign",
    "looked": "values looked up, among those looked up or remembered",
    "decides": "words that choose whether to look, among all tokens",
    "chooses": "words that choose to look, among words that choose",
    "faithful": "values read rightly, among values read",
}
"""What a signal is graded against."""

FIFTHS = 5


def questions_of(table: pd.DataFrame) -> Iterator[tuple[str, pd.Series, pd.Series]]:
    """The comparisons of :data:`AGAINST` that a table has both sides of.

    Args:
        table: From :func:`~vgpo.studies.signals.measure.signal_table`.

    Yields:
        ``(name, among, positive)``: which tokens are compared, and which of them
        should score high; bool, one per row.
    """
    image = table["source"] == "image"
    value = table["truth"].notna()
    after = table["token"].groupby(table["row"]).shift(1) == " ="
    number = after & table["token"].str.fullmatch(r" \d+")
    decides = table["source"] == "decision"
    everything = pd.Series(True, index=table.index)
    named = {
        "reads": (everything, image),
        "numbers": (number, image & value),
        "looked": (value, image),
        "decides": (everything, decides),
        "chooses": (decides, table["token"].str.strip().isin(LOOKS)),
        "faithful": (value & image, table["token"] == table["truth"]),
    }
    for name, (among, positive) in named.items():
        if positive[among].nunique() == 2:
            yield name, among, positive


def grade(
    table: pd.DataFrame,
    signals: Sequence[str] = tuple(SIGNALS),
    *,
    parts: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """AUROC of every signal, with intervals over questions.

    Args:
        table: From :func:`~vgpo.studies.signals.measure.signal_table`.
        signals: Its columns that are graded.
        parts: Whether to grade each family, and each fifth of the chains, against
            ``"reads"`` as well.
        resamples: Bootstrap resamples of questions.
        seed: Of resampling.

    Returns:
        One row per comparison, part and signal: ``against`` (of :data:`AGAINST`),
        ``part`` (``"all"``, a family, or ``"fifth 1"`` to ``"fifth 5"``), ``signal``,
        ``auroc``, ``low``, ``high``, ``positives``, ``others``.
    """
    found = []

    def add(against, part, tokens, positive):
        for signal in signals:
            auroc, low, high, _ = auroc_interval(
                tokens[signal], positive, tokens["question"],
                resamples=resamples, seed=seed,
            )  # fmt: skip
            counts = int(positive.sum()), int((~positive).sum())
            found.append((against, part, signal, auroc, low, high, *counts))

    for against, among, positive in questions_of(table):
        add(against, "all", table[among], positive[among])
    if parts:
        for name, part in _parts(table):
            reads = part["source"] == "image"
            if reads.nunique() == 2:
                add("reads", name, part, reads)
    names = ["against", "part", "signal", "auroc", "low", "high"]
    return pd.DataFrame(found, columns=[*names, "positives", "others"])


def _parts(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from table.groupby("family", sort=True)
    fifth = np.minimum((table["t"] - 1) * FIFTHS // table["length"], FIFTHS - 1)
    for number, part in table.groupby(fifth):
        yield f"fifth {number + 1}", part


def summary(
    table: pd.DataFrame,
    signals: Sequence[str] = tuple(SIGNALS),
    *,
    top_ratio: float = 0.2,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """What else there is to know of each signal, with intervals over questions.

    Args:
        table: From :func:`~vgpo.studies.signals.measure.signal_table`.
        signals: Its columns.
        top_ratio: κ: the share of an answer's tokens that count as chosen.
        resamples: Bootstrap resamples of questions.
        seed: Of resampling.

    Returns:
        One row per signal and quantity: ``signal``, ``quantity``, ``value``, ``low``,
        ``high``. Quantities:

        - ``spearman``: with ``occlusion``, within an answer, mean over the answers
          whose signal is not constant;
        - ``overlap_token``, ``overlap_prediction``: share of the chosen tokens that
          VGPO's focus of that alignment chooses too; by chance ``top_ratio``;
        - ``reads_chosen``, ``decisions_chosen``: share of the chosen tokens that read
          the picture, or choose whether to look;
        - ``length``: Pearson's r of the signal's sum with the length of the answer,
          among answers to the same question.
    """
    options = {"resamples": resamples, "seed": seed}
    ordered = table.sort_values(["row", "t"], kind="stable")
    question = ordered.groupby("row")["question"].first().to_numpy()
    truths = {
        "reads_chosen": ordered["source"] == "image",
        "decisions_chosen": ordered["source"] == "decision",
    }
    picked = {
        name: _chosen(ordered, name, top_ratio)
        for name in {*signals, "focus_token", "focus_prediction"}
    }
    length = ordered.groupby("row")["length"].first()
    found = []
    for signal in signals:
        shares = {
            "overlap_token": picked["focus_token"],
            "overlap_prediction": picked["focus_prediction"],
        } | truths
        quantities = {
            "spearman": mean_interval(
                _within_ranks(ordered, signal), clusters=question, **options
            )
        }
        for name, wanted in shares.items():
            among = picked[signal]
            share = wanted[among].groupby(ordered["row"][among]).mean()
            quantities[name] = mean_interval(
                share, clusters=question, bounds=(0, 1), **options
            )
        quantities["length"] = correlation_interval(
            ordered.groupby("row")[signal].sum(), length, question,
            within=True, **options,
        )  # fmt: skip
        for name, interval in quantities.items():
            found.append((signal, name, *interval[:3]))
    return pd.DataFrame(found, columns=["signal", "quantity", "value", "low", "high"])


def _chosen(ordered: pd.DataFrame, signal: str, top_ratio: float) -> pd.Series:
    values, mask = padded(ordered, signal)
    # Of equal scores, the earlier token is chosen.
    chosen = most_dependent(values, mask, top_ratio)[mask]
    return pd.Series(chosen.numpy(), index=ordered.index)


def _within_ranks(ordered: pd.DataFrame, signal: str) -> np.ndarray:
    """Spearman's correlation with occlusion, one per answer; NaN where constant."""
    ranks = ordered.groupby("row")[[signal, "occlusion"]].rank().to_numpy()
    rows = ordered["row"].to_numpy()
    out = []
    for at in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows)) + 1):
        one, other = ranks[at, 0], ranks[at, 1]
        constant = np.ptp(one) == 0 or np.ptp(other) == 0
        out.append(np.nan if constant else np.corrcoef(one, other)[0, 1])
    return np.array(out)


def lags(
    table: pd.DataFrame,
    signals: Sequence[str],
    reach: int = 3,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """How well a state tells what is written some places after it, or before.

    Args:
        table: From :func:`~vgpo.studies.signals.measure.signal_table`.
        signals: Columns that score each token by the state at its own position.
        reach: Places to each side.
        resamples: Bootstrap resamples of questions.
        seed: Of resampling.

    Returns:
        One row per signal and lag: ``signal``, ``lag`` (-1: the state one place
        before, which is about to write the token), ``auroc`` against values read,
        ``low``, ``high``. Tokens without a state there are left out.

    Example:
        >>> table = pd.DataFrame({
        ...     "row": 0, "question": 0, "source": ["text", "image", "text", "text"],
        ...     "truth": [None, " 5", None, None], "state": [9.0, 1.0, 2.0, 3.0]})
        >>> lags(table, ["state"], 1, resamples=10).auroc.tolist()
        [1.0, 0.0, 0.5]
    """
    read = (table["source"] == "image") & table["truth"].notna()
    found = []
    for signal in signals:
        for lag in range(-reach, reach + 1):
            moved = table[signal].groupby(table["row"]).shift(-lag)
            known = moved.notna()
            auroc, low, high, _ = auroc_interval(
                moved[known], read[known], table.loc[known, "question"],
                resamples=resamples, seed=seed,
            )  # fmt: skip
            found.append((signal, lag, auroc, low, high))
    return pd.DataFrame(found, columns=["signal", "lag", "auroc", "low", "high"])


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """The same with ``label`` and ``kind`` of each signal, in the order of
    :data:`~vgpo.studies.signals.measure.SIGNALS`.

    Args:
        table: With the column ``signal``.

    Example:
        >>> table = pd.DataFrame({"signal": ["entropy", "focus_token"]})
        >>> labelled(table).label.tolist()
        ['focus, state at t', 'entropy']
    """
    about = pd.DataFrame(
        [(name, s.label, s.kind) for name, s in SIGNALS.items()],
        columns=["signal", "label", "kind"],
    )
    return about.merge(table, on="signal", how="inner")


def wide(table: pd.DataFrame, columns: str, values: str = "auroc") -> pd.DataFrame:
    """One row per signal, by its label; one column per value of ``columns``.

    Args:
        table: With the column ``signal``, and one row per signal and value of
            ``columns``.
        columns: The column that is spread.
        values: What is in the cells.

    Example:
        >>> table = pd.DataFrame({"signal": ["k3", "k3"], "part": ["a", "b"],
        ...                       "auroc": [0.9, 0.8]})
        >>> wide(table, "part").reset_index()
        part                  signal    a    b
        0     k3 to a masked picture  0.9  0.8
    """
    spread = table.pivot(index="signal", columns=columns, values=values)
    order = [name for name in SIGNALS if name in spread.index]
    spread = spread.loc[order, list(dict.fromkeys(table[columns]))]
    labels = pd.Index([SIGNALS[name].label for name in order], name="signal")
    return spread.set_axis(labels)
