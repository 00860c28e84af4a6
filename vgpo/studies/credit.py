"""Whose tokens the credit goes to, and whether they can learn from it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from vgpo.method.visual import VGPO, visual_factors
from vgpo.studies.tables import padded
from vgpo.testbed.look_away import RECALLS

KINDS = (
    "words that decide to look",
    "words that decide to recall",
    "values looked up",
    "values recalled",
    "all other tokens",
)
"""Tokens of an answer in the look-away world, by what turns on them."""

SCORES: Mapping[str, str] = {
    "vgpo_token": "focus",
    "vgpo_prediction": "focus_prediction",
    "oracle_reads": "reads",
    "oracle_decides": "decides",
}
"""Arms that differ in what scores a token, and the column that holds their score."""


def credit_by_kind(
    table: pd.DataFrame,
    question: Sequence[int],
    scores: Mapping[str, str] = SCORES,
    settings: VGPO | None = None,
) -> pd.DataFrame:
    r"""What each kind of token gets, in right and in wrong answers.

    An arm of VGPO multiplies the advantage of token t of answer i by
    :math:`(1 + \psi_{i,t})(1 + \phi_i)` (Eq. 12). Its push on the logit of the token is
    that times :math:`1 - p`, where p is the probability that the policy gave the token:
    credit for a token that was certain moves nothing.

    Args:
        table: From ``vgpo.studies.tables.token_table``, of sampled answers of the
            look-away world; or ``row`` (0, 1, ...), ``token``, ``source``, ``correct``,
            ``log_prob`` and the columns of the scores. ``reads`` and ``decides``, the
            truth, are made from ``source``.
        question: Which question each answer belongs to, one per ``row``: its group.
        scores: Arm -> the column of its score.
        settings: Of VGPO; by default the paper's, as the arms have.

    Returns:
        Indexed by ``answers`` (``"right"``, ``"wrong"``) and ``kind`` (:data:`KINDS`;
        what does not occur is left out): ``tokens`` (per answer), ``unsure`` (mean of
        1 - p), and for each arm the mean factor, a column of its name; 1 is DAPO's.

    Raises:
        ValueError: Not one question per answer.

    Example:
        >>> table = pd.DataFrame({
        ...     "row": [0, 0, 0, 1, 1, 1], "correct": [True] * 3 + [False] * 3,
        ...     "token": [" see", " red", " 5", " think", " red", " 5"],
        ...     "source": ["decision", "text", "image", "decision", "text", "memory"],
        ...     "log_prob": np.log(0.5)})
        >>> found = credit_by_kind(table, [0, 0], {"oracle_decides": "decides"})
        >>> [f"{factor:.2f}" for factor in found.loc["wrong", "oracle_decides"]]
        ['1.67', '0.67', '0.67']
    """
    answers = table.groupby("row")["correct"].first()
    if len(question) != len(answers):
        raise ValueError(
            f"question: need one per answer of the table, {len(answers)}, got "
            f"{len(question)}."
        )
    table = table.sort_values("row", kind="stable").assign(
        kind=_kinds,
        answers=lambda t: np.where(t["correct"], "right", "wrong"),
        unsure=lambda t: 1 - np.exp(t["log_prob"]),
        reads=lambda t: (t["source"] == "image").astype(float),
        decides=lambda t: (t["source"] == "decision").astype(float),
    )
    groups = torch.as_tensor(np.asarray(question))
    found = table[["answers", "kind", "unsure"]].copy()
    for arm, column in scores.items():
        focus, mask = padded(table, column)
        factors = visual_factors(focus, mask, groups, settings or VGPO())
        found[arm] = (1 + factors.psi).mul(1 + factors.phi[:, None])[mask].numpy()
    by_kind = found.groupby(["answers", "kind"])
    means = by_kind.mean()
    counts = {"right": answers.sum(), "wrong": (~answers.astype(bool)).sum()}
    per_answer = by_kind.size() / means.index.get_level_values("answers").map(counts)
    means.insert(0, "tokens", per_answer)
    order = [(a, k) for a in counts for k in KINDS if (a, k) in means.index]
    return means.loc[order]


def _kinds(table: pd.DataFrame) -> np.ndarray:
    source = table["source"]
    recalls = table["token"].str.strip().isin(RECALLS)
    return np.select(
        [(source == "decision") & ~recalls, source == "decision",
         source == "image", source == "memory"],
        KINDS[:-1],
        KINDS[-1],
    )  # fmt: skip
