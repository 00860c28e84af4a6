"""What degraded views say of a token, against loops in double precision."""

import math

import pytest
import torch

from vgpo.method.dependence import (
    VIEW_SIGNALS,
    entropy_of,
    jensen_shannon,
    vepo_score,
    view_signals,
)

ROWS, TOKENS, WORDS = 2, 70, 9


def distributions(seed):
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(ROWS, TOKENS, WORDS, generator=draw)
    return logits.log_softmax(dim=-1)


@pytest.fixture(scope="module")
def views():
    """Four views of the same tokens, and the tokens."""
    plain, noisy, masked, blind = (distributions(seed) for seed in range(4))
    draw = torch.Generator().manual_seed(5)
    return (
        plain,
        noisy,
        masked,
        blind,
        torch.randint(WORDS, (ROWS, TOKENS), generator=draw),
    )


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)


def entropy_loop(p):
    return -sum(a * math.log(a) for a in p if a)


def reference(plain, noisy, masked, blind, ids):
    """One row's signals, token by token; arguments are lists of probabilities."""
    found = {name: [] for name in VIEW_SIGNALS}
    gaps, entropies = [], []
    for p, q, dark, none, word in zip(plain, noisy, masked, blind, ids, strict=True):
        x = math.log(dark[word] / p[word])
        found["k3"].append(min(math.exp(min(max(x, -20), 20)) - x - 1, 10))
        found["contrast"].append(-x)
        found["absolute_contrast"].append(abs(math.log(p[word] / none[word])))
        mean = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        found["jsd"].append((kl(p, mean) + kl(q, mean)) / 2)
        entropies.append(entropy_loop(p))
        gaps.append(abs(entropy_loop(q) - entropy_loop(p)))

    def scaled(values):
        return [(v - min(values)) / (max(values) - min(values)) for v in values]

    for j, d, h in zip(*map(scaled, (found["jsd"], gaps, entropies)), strict=True):
        found["vepo"].append((1 - (1 - j) ** 0.7 * (1 - d) ** 0.3) * h)
    return found


def test_every_signal_by_a_loop(views):
    """Longer than one chunk of tokens."""
    *everything, ids = views
    plain, noisy, masked, blind = everything
    before = [view.gather(-1, ids[..., None])[..., 0] for view in (masked, blind)]
    found = view_signals(plain, noisy, ids, *before)
    assert tuple(found) == VIEW_SIGNALS
    for row in range(ROWS):
        wanted = reference(
            *(view[row].double().exp().tolist() for view in everything),
            ids[row].tolist(),
        )
        for name, values in wanted.items():
            assert found[name][row].tolist() == pytest.approx(
                values, abs=1e-4, rel=1e-4
            ), name


def test_a_view_that_takes_nothing_says_nothing(views):
    plain, *_, ids = views
    same = plain.gather(-1, ids[..., None])[..., 0]
    found = view_signals(plain, plain, ids, same, same)
    found.pop("vepo")  # scaled to the spread of an answer, which is rounding here
    for name, values in found.items():
        assert values.abs().max() < 1e-6, name


def test_divergence_is_symmetric_and_of_certain_words_log_two(views):
    plain, noisy, *_ = views
    torch.testing.assert_close(
        jensen_shannon(plain, noisy), jensen_shannon(noisy, plain)
    )
    one = torch.tensor([0.5, 0.5, 0.0]).clamp(1e-38).log()
    other = torch.tensor([0.0, 0.0, 1.0]).clamp(1e-38).log()
    assert float(jensen_shannon(one, other)) == pytest.approx(math.log(2))
    assert float(entropy_of(one)) == pytest.approx(math.log(2))


def test_vepo_of_one_token_or_equal_ones_is_nothing():
    for shape in ((1, 1), (2, 5)):
        assert not vepo_score(*torch.ones(3, *shape)).any()
