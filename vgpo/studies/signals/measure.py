"""All signals of all tokens of answers on a small world, in one tidy table.

The columns that :func:`vgpo.analysis.signals.signals` has too are computed by the same
functions, here in batches, and with what only a small world can give: the truth of
every token, and each entry of the picture hidden in turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vgpo.method.dependence import entropy_of, view_signals
from vgpo.models.attention import attention_split
from vgpo.models.distributions import log_distributions, of_tokens
from vgpo.models.inputs import special_token_ids
from vgpo.models.layers import capture_layer_cosines
from vgpo.models.probes.degraded import black_squares, noisy_pixels
from vgpo.seeds import mixed_seed
from vgpo.studies.tables import (
    batches_of_one_length,
    check_one_per_example,
    token_table,
)
from vgpo.testbed.changes import blank, occlude
from vgpo.testbed.data import encode_prompts
from vgpo.testbed.questions import Example


@dataclass(frozen=True)
class Signal:
    """What is known of a signal beforehand.

    Attributes:
        label: In tables and figures.
        used_by: Whose it is.
        passes: Forward passes beyond the one that scores the rollouts anyway.
        kind: ``"state"``, ``"attention"``, ``"policy"`` or ``"view"``: what it is
            made of; ``"reference"`` and ``"baseline"`` are no method's.
    """

    label: str
    used_by: str
    passes: int
    kind: str


SIGNALS: dict[str, Signal] = {
    "focus_token": Signal("focus, state at t", "VGPO, as released", 0, "state"),
    "focus_prediction": Signal("focus, state at t−1", "VGPO, prediction", 0, "state"),
    "layer_cosine": Signal("cosine, all layers, t", "PEPO", 0, "state"),
    "layer_cosine_prediction": Signal("cosine, all layers, t−1", "", 0, "state"),
    "attention_token": Signal("attention, last layer, t", "", 1, "attention"),
    "attention_last": Signal("attention, last layer, t−1", "", 1, "attention"),
    "attention_most": Signal("attention, keenest layer, t−1", "", 1, "attention"),
    "attention_mean": Signal("attention, all layers, t−1", "", 1, "attention"),
    "entropy": Signal("entropy", "entropy shaping", 0, "policy"),
    "k3": Signal("k3 to a masked picture", "PAPO, VPPO", 1, "view"),
    "contrast": Signal("log-prob contrast, masked", "SRPO", 1, "view"),
    "absolute_contrast": Signal("|contrast|, no picture", "ToR", 1, "view"),
    "jsd": Signal("JSD to a noisy picture", "VEPO", 1, "view"),
    "vepo": Signal("JSD, entropy gap, gated", "VEPO, as released", 1, "view"),
    "occlusion": Signal("tile hidden, KL", "causal reference", 9, "reference"),
    "grey_focus_prediction": Signal(
        "focus, t−1, grey picture", "no picture", 0, "baseline"
    ),
    "grey_attention_last": Signal(
        "attention, t−1, grey picture", "no picture", 1, "baseline"
    ),
    "rule": Signal("rule: = before", "text alone", 0, "baseline"),
    "shuffled": Signal("focus, shuffled", "chance", 0, "baseline"),
}
"""Column of :func:`signal_table` -> what it is. The reference takes one pass per entry
of the picture."""

MASKED = 0.6
"""Share of a picture's 14-pixel squares that are blacked out, as in PAPO."""

NOISE = 2.0
"""Standard deviation of VEPO's noise, on processed pixels."""


def signal_table(
    model,
    processor,
    examples: Sequence[Example],
    completions: Sequence[str],
    question: Sequence[int] | None = None,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Every signal of every token of answers, beside what the token truly does.

    Args:
        model: A model of a small world.
        processor: Its processor.
        examples: What was asked, all with an image.
        completions: What was answered, one per example.
        question: Which question each answer belongs to, where several do; they share
            one masked picture, as in PAPO. By default each has its own.
        seed: Of masks, noise and shuffling.

    Returns:
        One row per token: that of ``vgpo.studies.tables.token_table``, with
        ``focus`` renamed to ``focus_token``; ``question``; a column per signal of
        :data:`SIGNALS`; ``masked_log_prob``; ``occlusion_true`` (KL in nats when the
        token's own tiles are hidden, NaN where it has none) and ``finds_tile``
        (whether those are the tiles that matter most; NaN likewise).

    Raises:
        ValueError: An example has no image; as many completions as examples, and as
            many numbers of questions, are needed.

    Example:
        >>> from vgpo.testbed import load_tiny
        >>> from vgpo.testbed.questions import World
        >>> example = World().example(3, family="sum", split="heldout")
        >>> table = signal_table(*load_tiny(), [example], [example.completion])
        >>> table.loc[table.occlusion.idxmax(), "source"]
        'image'
    """
    if any(example.image is None for example in examples):
        raise ValueError("examples: all must have an image; leave family 'text' out")
    question = range(len(examples)) if question is None else question
    check_one_per_example("question", question, examples)
    table = token_table(model, processor, examples, completions)
    table = table.rename(columns={"focus": "focus_token"})
    grey = token_table(model, processor, [blank(e) for e in examples], completions)
    table["question"] = table["row"].map(dict(enumerate(question)))
    table["grey_focus_prediction"] = grey["focus_prediction"]
    table["rule"] = table["token"].groupby(table["row"]).shift(1).eq(" =").astype(float)
    table["shuffled"] = _shuffled(table, seed)
    where = table.groupby("row").indices
    columns: dict[str, np.ndarray] = {}
    for some, length, inputs in batches_of_one_length(
        processor, examples, completions, 32, device=model.device
    ):
        batch = _Batch(
            model,
            processor,
            [examples[row] for row in some],
            [completions[row] for row in some],
            [table["tiles"].to_numpy()[where[row]] for row in some],
            inputs,
            length,
        )
        draws = [mixed_seed(seed, question[row]) for row in some]
        for name, values in batch.signals(draws).items():
            column = columns.setdefault(name, np.full(len(table), np.nan))
            for row, value in zip(some, values, strict=True):
                column[where[row]] = value
    return table.assign(**columns)


def _shuffled(table: pd.DataFrame, seed: int) -> np.ndarray:
    """Focus, its values in another order within each answer."""
    chance = pd.Series(np.random.default_rng(seed).random(len(table)), table.index)
    order = chance.groupby(table["row"]).rank().astype(int)
    other = table["focus_prediction"].groupby(table["row"]).rank(method="first")
    by_rank = pd.Series(
        table["focus_prediction"].to_numpy(),
        pd.MultiIndex.from_arrays([table["row"], other.astype(int)]),
    )
    return by_rank.loc[list(zip(table["row"], order, strict=True))].to_numpy()


@dataclass
class _Batch:
    """Answers of one length, and the passes over them."""

    model: torch.nn.Module
    processor: object
    examples: list[Example]
    completions: list[str]
    tiles: list[np.ndarray]
    inputs: dict[str, Tensor]
    length: int

    @torch.no_grad()
    def signals(self, draws: list[int]) -> dict[str, np.ndarray]:
        ids = self.inputs["input_ids"][:, -self.length :]
        # One position more: the state that predicts the first token.
        with capture_layer_cosines(
            self.model, completion_length=self.length + 1
        ) as layers:
            plain = log_distributions(self.model, self.inputs, self.length)
        masked = of_tokens(self._before(self._masked(draws)), ids)
        blind = of_tokens(
            self._before([replace(e, image=None) for e in self.examples]), ids
        )
        noisy = log_distributions(self.model, self._noisy(draws), self.length)
        found = {
            "layer_cosine": layers.values[:, 1:],
            "layer_cosine_prediction": layers.values[:, :-1],
            "entropy": entropy_of(plain),
            "masked_log_prob": masked,
        }
        found |= view_signals(plain, noisy, ids, masked, blind)
        found |= self._attention() | self._occlusion(plain)
        return {name: values.float().cpu().numpy() for name, values in found.items()}

    def _before(self, examples: list[Example]) -> Tensor:
        """Distributions of the same tokens over other pictures."""
        return log_distributions(self.model, self._over(examples), self.length)

    def _over(self, examples: list[Example]) -> dict[str, Tensor]:
        """Inputs of the same answers over other pictures."""
        return encode_prompts(
            self.processor, examples, self.completions, self.model.device
        )

    def _masked(self, draws: list[int]) -> list[Example]:
        return [
            replace(
                example,
                image=black_squares(
                    example.image, MASKED, torch.Generator().manual_seed(draw)
                ),
            )
            for example, draw in zip(self.examples, draws, strict=True)
        ]

    def _noisy(self, draws: list[int]) -> dict[str, Tensor]:
        pixels = self.inputs["pixel_values"]
        draw = torch.Generator().manual_seed(draws[0])
        noisy = noisy_pixels(pixels, NOISE, draw, flat="image_grid_thw" in self.inputs)
        return {**self.inputs, "pixel_values": noisy}

    def _attention(self) -> dict[str, Tensor]:
        special = special_token_ids(self.processor.tokenizer)

        def masses(inputs, alignment, layers):
            split = attention_split(
                self.model, inputs, self.length, layers=layers, alignment=alignment,
                special_token_ids=special,
            )  # fmt: skip
            return split.layer_masses[..., 0]

        grey = self._over([blank(e) for e in self.examples])
        before = masses(self.inputs, "prediction", "all")
        # The layer that looks at the picture most, in each answer.
        keenest = before.mean(dim=-1).argmax(dim=0)
        return {
            "attention_token": masses(self.inputs, "token", (-1,))[0],
            "attention_last": before[-1],
            "attention_most": before[keenest, torch.arange(before.shape[1])],
            "attention_mean": before.mean(dim=0),
            "grey_attention_last": masses(grey, "prediction", (-1,))[0],
        }

    def _occlusion(self, plain: Tensor) -> dict[str, Tensor]:
        """KL of each token's distribution when one entry of the picture is hidden."""
        falls = []
        for entry in range(max(len(e.colours) for e in self.examples)):
            hidden = [
                occlude(e, e.tiles_of(entry)) if entry < len(e.colours) else e
                for e in self.examples
            ]
            other = self._before(hidden)
            falls.append((plain.exp() * (plain - other)).sum(-1))
        by_entry = torch.stack(falls)  # (entries, b, T)
        largest, most = by_entry.max(dim=0)
        true = torch.full_like(largest, torch.nan)
        finds = torch.full_like(largest, torch.nan)
        for i, example in enumerate(self.examples):
            owner = {example.tiles_of(e): e for e in range(len(example.colours))}
            for t, tiles in enumerate(self.tiles[i]):
                if tiles in owner:
                    true[i, t] = by_entry[owner[tiles], i, t]
                    finds[i, t] = float(most[i, t] == owner[tiles])
        return {"occlusion": largest, "occlusion_true": true, "finds_tile": finds}
