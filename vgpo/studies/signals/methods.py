"""What each method's advantage does to the tokens of one and the same completion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from vgpo.method.papo import papo_advantages
from vgpo.method.shaping import Rollouts, make_method
from vgpo.models.distributions import log_distributions, of_tokens
from vgpo.studies.signals.measure import signal_table
from vgpo.studies.tables import batches_of_one_length, padded
from vgpo.studies.worlds import stands_for_a_colour
from vgpo.testbed.answers import correct
from vgpo.testbed.questions import Example

METHODS: Mapping[str, tuple[str, dict]] = {
    "DAPO": ("dapo", {}),
    "VGPO, state at t": ("vgpo", {}),
    "VGPO, state at t−1": ("vgpo", {"alignment": "prediction"}),
    "VGPO, released code": ("vgpo", {"variant": "released"}),
    "VPPO": ("vppo", {}),
    "PEPO": ("pepo", {}),
    "entropy shaping": ("entropy", {}),
    "SRPO, our reading": ("srpo", {}),
}
"""Row of the comparison -> registered method and its settings; defaults otherwise."""

BONUS = "PAPO's bonus, in γ"
"""What PAPO adds to the advantage on-policy, as a multiple of its γ."""


@dataclass(frozen=True)
class ShapedGroup:
    """A group of rollouts, and what the methods make of it.

    Attributes:
        tokens: The token table of all rollouts, by ``row``.
        advantages: Of the group, (G,).
        shaped: Row of :data:`METHODS` -> advantages of the tokens, (G, T).
        bonus: PAPO's, as a multiple of γ, (G, T).
        mask: bool, (G, T).
    """

    tokens: pd.DataFrame
    advantages: Tensor
    shaped: Mapping[str, Tensor]
    bonus: Tensor
    mask: Tensor

    def of(self, row: int) -> pd.DataFrame:
        """One rollout: per token its text, its source, by method its advantage divided
        by that of the rollout, and PAPO's bonus.

        Raises:
            ValueError: The rollout's advantage is 0.
        """
        if not self.advantages[row]:
            raise ValueError(f"row: the advantage of rollout {row} is 0")
        mine = self.tokens[self.tokens["row"] == row].sort_values("t")
        real = self.mask[row]
        factors = {
            name: (values[row][real] / self.advantages[row]).numpy()
            for name, values in self.shaped.items()
        }
        factors[BONUS] = self.bonus[row][real].numpy()
        return mine[["token", "source"]].reset_index(drop=True).assign(**factors)

    def by_source(self) -> pd.DataFrame:
        """Mean factor of every method, and PAPO's mean bonus, over all rollouts that
        have an advantage: a row per source of tokens."""
        rows = self.advantages.nonzero().flatten().tolist()
        every = pd.concat([self.of(row) for row in rows])
        return every.drop(columns="token").groupby("source").mean()


def shaped_by_methods(
    model,
    processor,
    example: Example,
    completions: Sequence[str],
    *,
    seed: int = 0,
) -> ShapedGroup:
    """Advantages of one group of rollouts, by every method of the package.

    Rewards are 1 and 0, advantages as TRL normalises them. PEPO is shown at the end
    of its annealing. PAPO is no advantage; on-policy its loss has the gradient of one,
    A plus a bonus (:func:`~vgpo.method.papo.papo_advantages`), which is kept apart.
    The chains
    have no tags that tell perception from reasoning, so for SRPO the truth does: a
    colour, its equals sign and its value are perception, the rest is reasoning.

    Args:
        model: Of a small world.
        processor: Its processor.
        example: What was asked, with an image.
        completions: G answers to it, some right and some wrong.
        seed: Of the masked picture.

    Returns:
        The :class:`ShapedGroup`.

    Raises:
        ValueError: All answers are right, or all wrong.
    """
    rewards = torch.tensor([float(correct(text, example)) for text in completions])
    if rewards.min() == rewards.max():
        raise ValueError(
            "completions: all have the same reward, so that every advantage is 0; "
            "sample more, or another question"
        )
    advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    asked = [example] * len(completions)
    table = signal_table(
        model, processor, asked, completions, [0] * len(asked), seed=seed
    )
    table["spans"] = perception_spans(table)
    table["hidden"] = hidden_log_probs(model, processor, asked, completions, table)
    _, mask = padded(table, "log_prob")
    signals = {
        "log_probs": padded(table, "log_prob")[0],
        "masked_log_probs": padded(table, "masked_log_prob")[0],
        "hidden_log_probs": padded(table, "hidden")[0],
        "entropy": padded(table, "entropy")[0],
        "layer_cosines": padded(table, "layer_cosine")[0],
        "perception": padded(table, "spans")[0],
    }
    focus = {
        name: padded(table, f"focus_{name}")[0] for name in ("token", "prediction")
    }
    shaped = {}
    for label, (name, settings) in METHODS.items():
        method = make_method(name, settings)
        rollouts = Rollouts(
            advantages=advantages,
            mask=mask,
            group_ids=torch.zeros(len(asked), dtype=torch.long),
            signals=signals | {"focus": focus[settings.get("alignment", "token")]},
            has_image=torch.ones(len(asked), dtype=torch.bool),
            rewards=rewards,
            progress=1.0,
        )
        values = method.shape(rollouts).advantages
        shaped[label] = values if values.ndim == 2 else values[:, None].expand_as(mask)
    bonus = papo_advantages(
        torch.zeros_like(advantages),
        signals["masked_log_probs"],
        signals["log_probs"],
        gamma=1.0,
    )
    return ShapedGroup(table, advantages, shaped, bonus, mask)


def perception_spans(table: pd.DataFrame) -> pd.Series:
    """1 on a colour, its equals sign and its value, wherever the value comes from; 0
    on all other tokens.

    Args:
        table: A token table.

    Example:
        >>> words = [" red", " =", " 5", " .", " 5", " +"]
        >>> sources = ["question", "text", "image", "text", "text", "text"]
        >>> table = pd.DataFrame({"row": 0, "token": words, "source": sources})
        >>> perception_spans(table).tolist()
        [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """
    value = stands_for_a_colour(table)
    by_row = value.groupby(table["row"])
    before = [by_row.shift(-k, fill_value=False) for k in (1, 2)]
    return (value | before[0] | before[1]).astype(float)


@torch.no_grad()
def hidden_log_probs(
    model, processor, examples, completions, table: pd.DataFrame
) -> pd.Series:
    """Log-probability of each token with the perception hidden from attention.

    Args:
        model: Of a small world.
        processor: Its processor.
        examples: What was asked.
        completions: What was answered.
        table: Their token table, with ``spans``; what is 1 there is hidden.

    Returns:
        One number per row of ``table``; those of hidden tokens mean nothing.
    """
    out = pd.Series(float("nan"), index=table.index)
    where = table.groupby("row").groups
    for some, length, inputs in batches_of_one_length(
        processor, examples, completions, device=model.device
    ):
        kept = inputs["attention_mask"].clone()
        for i, row in enumerate(some):
            spans = torch.tensor(table.loc[where[row], "spans"].to_numpy())
            kept[i, -length:][spans == 1] = 0
        hidden = log_distributions(model, {**inputs, "attention_mask": kept}, length)
        values = of_tokens(hidden, inputs["input_ids"][:, -length:]).cpu().numpy()
        for row, value in zip(some, values, strict=True):
            out.loc[where[row]] = value
    return out
