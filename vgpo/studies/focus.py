"""Does the visual focus score find the tokens that read the image?

What the chapter on visual focus measures on the small world, where the truth is
known: AUROC against the true reads, correlation with image attention, occlusion,
changes of the picture, and the hidden states themselves. Everything works on the
table of :func:`vgpo.studies.tables.token_table`, one row per token. Intervals are those
of :mod:`vgpo.stats.intervals`, over completions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from vgpo.method.compensation import visual_gate
from vgpo.method.focus import visual_focus_score, visual_prototype
from vgpo.models.attention import attention_split
from vgpo.models.capture import observe_last_hidden_state
from vgpo.models.inputs import special_token_ids
from vgpo.stats.intervals import (
    RESAMPLES,
    auroc_interval,
    correlation_interval,
    mean_interval,
)
from vgpo.studies.tables import batches_of_one_length, padded, token_table
from vgpo.testbed.changes import blank, occlude
from vgpo.testbed.data import encode_prompts
from vgpo.testbed.images import COLOURS
from vgpo.testbed.questions import Example

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


# Against the truth -------------------------------------------------------


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


# Attention ---------------------------------------------------------------


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
        processor, examples, chains, batch_size
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


# Occlusion and changes of the picture ------------------------------------


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
        ``_low`` and ``_high``: of reads against others, alignment ``"prediction"``.
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
        auroc = auroc_interval(
            tokens["focus_prediction"], reads, tokens["row"], resamples=resamples
        )
        entry |= auroc.as_columns("auroc")
        found.append(entry)
    return pd.DataFrame(found).set_index("variant")


# The states themselves ---------------------------------------------------


@dataclass(frozen=True)
class ChainStates:
    """Last hidden states of prompts with their reference chains.

    Attributes:
        image: (N, D) states of all image tokens.
        image_row: (N,) the example each belongs to.
        prototypes: (B, D) visual prototypes (Eq. 3).
        before: (M, D) the state that predicted each completion token, in the order
            of the token table: the state at position t-1.
    """

    image: torch.Tensor
    image_row: np.ndarray
    prototypes: torch.Tensor
    before: torch.Tensor


def chain_states(
    model, processor, examples: Sequence[Example], batch_size: int = 32
) -> ChainStates:
    """Runs prompts and chains through the model and keeps the states of Eq. 3-4.

    Args:
        model: A model of the small world.
        processor: Its processor.
        examples: Questions with an image.
        batch_size: Rows per forward pass.
    """
    seen: list[torch.Tensor] = []
    image, image_row, prototypes, before = [], [], [], []
    for start in range(0, len(examples), batch_size):
        some = examples[start : start + batch_size]
        batch = encode_prompts(processor, some, [e.completion for e in some])
        with (
            torch.no_grad(),
            observe_last_hidden_state(model, lambda ids, mask, h: seen.append(h)),
        ):
            model.base_model(**batch, use_cache=False)
        states = seen.pop()
        in_image = batch["input_ids"] == processor.image_token_id
        prototypes.append(visual_prototype(states, in_image))
        for row, example in enumerate(some):
            image.append(states[row, in_image[row]])
            image_row += [start + row] * len(image[-1])
            length = len(example.chain)
            before.append(states[row, -length - 1 : -1])
    return ChainStates(
        image=torch.cat(image),
        image_row=np.asarray(image_row),
        prototypes=torch.cat(prototypes),
        before=torch.cat(before),
    )


@torch.no_grad()
def own_digit_shares(
    model, processor, states: ChainStates, examples: Sequence[Example]
) -> np.ndarray:
    """Share of a grid's tiles whose own digit the model's head likes best there.

    The head is never taught anything at image tokens: what it says there is a
    by-product of training. Charts have no digits and are left out.

    Args:
        model: A model of the small world.
        processor: Its processor.
        states: From :func:`chain_states`, of the same examples.
        examples: Questions with an image.

    Returns:
        One share in [0, 1] per grid, in order; 0.1 is chance.
    """
    best = model.get_output_embeddings()(states.image).argmax(dim=-1)
    words = np.array([processor.tokenizer.decode(i).strip() for i in best])
    return np.array(
        [
            np.mean(words[states.image_row == row] == np.array(example.values, str))
            for row, example in enumerate(examples)
            if example.family != "chart"
        ]
    )


@torch.no_grad()
def digit_probability(model, processor, states: torch.Tensor) -> torch.Tensor:
    """Probability that the model's head gives to the ten digits, (N, D) -> (N,)."""
    digits = processor.tokenizer.convert_tokens_to_ids([f"Ġ{d}" for d in range(10)])
    logits = model.get_output_embeddings()(states).float()
    return logits.softmax(dim=-1)[:, digits].sum(dim=1)


@torch.no_grad()
def word_direction(model, processor, words: Sequence[str]) -> torch.Tensor:
    """Mean of the words' rows in the model's head, (1, D): what they share."""
    ids = [processor.tokenizer(f" {word}").input_ids for word in words]
    if any(len(pieces) != 1 for pieces in ids):
        raise ValueError(f"words: each must be one token, got {list(words)}")
    rows = model.get_output_embeddings().weight[torch.tensor(ids)[:, 0]]
    return rows.float().mean(dim=0, keepdim=True)


def projected_focus(
    states: ChainStates, rows, directions: torch.Tensor | None = None
) -> np.ndarray:
    """Focus at t-1 (Eq. 4) after some directions are taken out of all states.

    Args:
        states: From :func:`chain_states`.
        rows: (M,) the example of each state, as in the token table.
        directions: (K, D), linearly independent; their span is projected out of
            states and prototypes. None leaves them whole.

    Returns:
        (M,) scores in [0, 1].
    """
    before, prototypes = states.before, states.prototypes
    if directions is not None:
        basis, _ = torch.linalg.qr(directions.float().T)
        before = before - before @ basis @ basis.T
        prototypes = prototypes - prototypes @ basis @ basis.T
    owner = torch.tensor(np.asarray(rows))
    return visual_focus_score(before[:, None], prototypes[owner])[:, 0].numpy()


def cosines(states: ChainStates, rows) -> np.ndarray:
    """Cosine of each state with its picture's prototype: image tokens, then chains.

    Args:
        states: From :func:`chain_states`.
        rows: (M,) the example of each state of a chain, as in the token table.

    Returns:
        (N + M,) cosines in [-1, 1], of ``states.image`` and then ``states.before``.
    """
    each = torch.cat([states.image, states.before]).float()
    owner = np.r_[states.image_row, np.asarray(rows)]
    return torch.cosine_similarity(each, states.prototypes[owner].float()).numpy()
