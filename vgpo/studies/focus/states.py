"""The hidden states that focus scores are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vgpo.method.focus import visual_focus_score, visual_prototype
from vgpo.models.capture import observe_last_hidden_state
from vgpo.testbed.data import encode_prompts
from vgpo.testbed.questions import Example


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
        texts = [example.completion for example in some]
        batch = encode_prompts(processor, some, texts, model.device)
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
    return visual_focus_score(before[:, None], prototypes[owner])[:, 0].cpu().numpy()


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
    own = states.prototypes[owner].float()
    return torch.cosine_similarity(each, own).cpu().numpy()
