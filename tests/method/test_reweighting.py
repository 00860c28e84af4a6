"""Eq. 7-12 against the equations in Python floats, and what must not matter."""

import pytest
import reference
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from vgpo import (
    compensate,
    inter_trajectory_weights,
    intra_trajectory_weights,
    released,
    reweight_advantages,
    visual_focus_score,
    visual_prototype,
)

# Sums of sixty-fourths are exact in float32, so equal sums are equal everywhere.
WEIGHTS = st.integers(0, 83).map(lambda n: n / 64)
GROUPS = st.sampled_from([-7, 0, 3, 2**40])


@st.composite
def batches(draw):
    """Weights, masks and groups, with every kind of degenerate row."""
    rows, tokens = draw(st.integers(1, 8)), draw(st.integers(1, 9))

    def row(values):
        return draw(st.lists(values, min_size=tokens, max_size=tokens))

    weights, mask = [], []
    for _ in range(rows):
        kind = draw(st.sampled_from(["any", "any", "any", "constant", "no image"]))
        if kind == "any":
            weights.append(row(WEIGHTS))
        else:
            value = 0.0 if kind == "no image" else draw(WEIGHTS)
            weights.append([value] * tokens)
        real = draw(st.integers(0, tokens))
        padding = draw(st.sampled_from(["left", "right", "between"]))
        if padding == "left":
            mask.append([0] * (tokens - real) + [1] * real)
        elif padding == "right":
            mask.append([1] * real + [0] * (tokens - real))
        else:
            mask.append(row(st.integers(0, 1)))
    groups = draw(st.lists(GROUPS, min_size=rows, max_size=rows))
    return weights, mask, groups


ACCUMULATIONS = st.sampled_from(["sum", "mean"])


@settings(max_examples=200, deadline=None)
@given(batches())
def test_psi_equals_the_equations(batch):
    weights, mask, _ = batch
    psi = intra_trajectory_weights(torch.tensor(weights), torch.tensor(mask))
    expected = torch.tensor(reference.intra(weights, mask))
    torch.testing.assert_close(psi, expected, rtol=0, atol=1e-6)


@settings(max_examples=300, deadline=None)
@given(batches(), ACCUMULATIONS)
def test_phi_equals_the_equations(batch, accumulation):
    weights, mask, groups = batch
    phi = inter_trajectory_weights(
        torch.tensor(weights), torch.tensor(mask), torch.tensor(groups), accumulation
    )
    expected = torch.tensor(reference.inter(weights, mask, groups, accumulation))
    torch.testing.assert_close(phi, expected, rtol=0, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(batches(), ACCUMULATIONS)
def test_both_are_centred_and_factors_keep_the_sign(batch, accumulation):
    weights, mask, groups = (torch.tensor(part) for part in batch)
    psi = intra_trajectory_weights(weights, mask)
    phi = inter_trajectory_weights(weights, mask, groups, accumulation)
    assert psi.sum(dim=1).abs().max() < 1e-5
    assert psi[mask == 0].abs().sum() == 0
    for group in set(batch[2]):
        assert phi[groups == group].sum().abs() < 1e-5
    assert psi.abs().max() < 1 and phi.abs().max() < 1
    for sign in (-1.0, 1.0):
        advantages = torch.full((len(weights),), 0.7 * sign)
        reshaped = reweight_advantages(advantages, psi, phi)
        assert (reshaped.sign() == sign).all()
        assert reshaped.abs().max() < 0.7 * 4


@settings(max_examples=100, deadline=None)
@given(batches(), ACCUMULATIONS, st.integers(0, 5), st.integers(0, 5), st.randoms())
def test_padding_order_and_group_names_do_not_matter(
    batch, accumulation, left, right, random
):
    weights, mask, groups = (torch.tensor(part) for part in batch)
    psi = intra_trajectory_weights(weights, mask)
    phi = inter_trajectory_weights(weights, mask, groups, accumulation)

    order = list(range(len(weights)))
    random.shuffle(order)
    padded = torch.nn.functional.pad(
        weights.masked_fill(mask == 0, torch.nan), (left, right), value=torch.nan
    )[order]
    padded_mask = torch.nn.functional.pad(mask, (left, right))[order]
    renamed = (-5 * groups + 1)[order]
    psi_moved = intra_trajectory_weights(padded, padded_mask)
    phi_moved = inter_trajectory_weights(padded, padded_mask, renamed, accumulation)
    assert torch.equal(psi_moved[:, left : left + weights.shape[1]], psi[order])
    torch.testing.assert_close(phi_moved, phi[order], rtol=0, atol=1e-7)


@pytest.mark.parametrize("accumulation", ["sum", "mean"])
def test_equal_rows_stay_equal_wherever_their_padding_is(accumulation):
    # The last bit of a sum depends on the places of its terms, in float64 too if
    # they differ much in size, and the min-max would turn it into 0 against 1.
    values = torch.rand(37) * 10.0 ** -torch.randint(0, 15, (37,))
    weights, mask = torch.zeros(30, 200), torch.zeros(30, 200)
    for row in range(30):
        places = torch.randperm(200)[:37].sort().values
        weights[row, places] = values
        mask[row, places] = 1
    groups = torch.zeros(30, dtype=torch.long)
    phi = inter_trajectory_weights(weights, mask, groups, accumulation)
    assert phi.tolist() == [0.0] * 30


def test_constant_rows_of_different_lengths_have_equal_means():
    mask = torch.tril(torch.ones(50, 50))
    weights = torch.full((50, 50), 0.3)
    groups = torch.zeros(50, dtype=torch.long)
    assert (
        inter_trajectory_weights(weights, mask, groups, "mean").tolist() == [0.0] * 50
    )


def test_by_hand():
    weights = torch.tensor([[0.5, 1.0], [0.25, 0.25], [0.9, 0.9], [0.5, 0.0]])
    mask = torch.tensor([[1, 1], [1, 1], [1, 1], [1, 0]])
    groups = torch.tensor([5, 9, 9, 5])
    psi = intra_trajectory_weights(weights, mask)
    assert psi.tolist() == [[-0.5, 0.5], [0, 0], [0, 0], [0, 0]]
    phi = inter_trajectory_weights(weights, mask, groups)
    assert phi.tolist() == [0.5, -0.5, 0.5, -0.5]
    reshaped = reweight_advantages(torch.tensor([1.0, 1, -1, -1]), psi, phi)
    assert reshaped.tolist() == [[0.75, 2.25], [0.5, 0.5], [-1.5, -1.5], [-0.5, -0.5]]


@pytest.mark.parametrize("accumulation", ["sum", "mean"])
def test_rows_without_image_or_tokens_stay_out_of_their_group(accumulation):
    weights = torch.rand(6, 8)
    weights[1] = 0  # no image
    mask = torch.ones(6, 8)
    mask[4] = 0  # truncated
    groups = torch.zeros(6, dtype=torch.long)
    phi = inter_trajectory_weights(weights, mask, groups, accumulation)
    rest = [0, 2, 3, 5]
    alone = inter_trajectory_weights(
        weights[rest], mask[rest], groups[rest], accumulation
    )
    assert phi[[1, 4]].tolist() == [0, 0]
    assert torch.equal(phi[rest], alone)
    psi = intra_trajectory_weights(weights, mask)
    advantages = torch.randn(6)
    reshaped = reweight_advantages(advantages, psi, phi)
    for row in (1, 4):
        assert reshaped[row].tolist() == [advantages[row].item()] * 8


def test_groups_of_one_and_no_group_effect():
    weights, mask = torch.rand(5, 4), torch.ones(5, 4)
    assert inter_trajectory_weights(weights, mask, torch.arange(5)).tolist() == [0] * 5


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_group_ids_of_any_integer_type(dtype):
    weights, mask = torch.rand(4, 3), torch.ones(4, 3)
    groups = torch.tensor([2, 1, 2, 1])
    torch.testing.assert_close(
        inter_trajectory_weights(weights, mask, groups.to(dtype)),
        inter_trajectory_weights(weights, mask, groups),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["sum", "mean"]), st.booleans())
def test_whole_chain_equals_the_equations(seed, accumulation, half):
    """Eq. 3-12 from hidden states, on ragged batches without near ties."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(*shape, generator=generator)

    states = torch.randn(6, 18, 5, generator=generator)
    if half:
        states = states.bfloat16()
    image_mask = random(6, 18) < 0.3
    image_mask[0] = False
    mask = (random(6, 12) < 0.8).int()
    mask[1, 1:] = 0
    groups = torch.randint(0, 3, (6,), generator=generator)
    advantages = torch.randn(6, generator=generator)

    focus = visual_focus_score(states[:, 6:], visual_prototype(states, image_mask))
    weights = compensate(focus, mask)
    psi = intra_trajectory_weights(weights, mask)
    phi = inter_trajectory_weights(weights, mask, groups, accumulation)
    ours = reweight_advantages(advantages, psi, phi)

    lists = states.double().tolist()
    scores = reference.focus_score(
        [row[6:] for row in lists], reference.prototype(lists, image_mask.tolist())
    )
    mask_list, group_list = mask.tolist(), groups.tolist()
    expected = reference.compensate(
        scores,
        mask_list,
        0.3,
        reference.gate(scores, mask_list),
        reference.schedule(mask_list),
    )
    # Min-max divides by the range: a range of rounding errors proves nothing.
    for row, real in zip(expected, mask_list, strict=True):
        tokens = [w for w, is_real in zip(row, real, strict=True) if is_real]
        assume(len(tokens) < 2 or not any(tokens) or max(tokens) - min(tokens) > 1e-2)
    exact_phi = reference.inter(expected, mask_list, group_list, accumulation)
    exact = reference.advantages(
        advantages.tolist(), reference.intra(expected, mask_list), exact_phi
    )
    assume(all(spread > 1e-2 for spread in group_spreads(expected, mask, groups)))
    torch.testing.assert_close(ours, torch.tensor(exact), rtol=0, atol=1e-4)


def group_spreads(weights, mask, groups):
    """Differences of accumulation within each group, under both accumulations."""
    weights = torch.tensor(weights, dtype=torch.float64) * mask
    counted = (weights != 0).any(dim=1)
    total = weights.sum(dim=1)
    for s in (total, total / mask.sum(dim=1).clamp(min=1)):
        for group in groups.unique():
            members = s[(groups == group) & counted].sort().values
            yield from members.diff().tolist()


def test_bfloat16_weights_are_computed_in_float32():
    weights, mask = torch.rand(4, 50).bfloat16(), torch.ones(4, 50)
    groups = torch.tensor([0, 0, 1, 1])
    psi = intra_trajectory_weights(weights, mask)
    phi = inter_trajectory_weights(weights, mask, groups)
    assert psi.dtype == phi.dtype == torch.float32
    assert torch.equal(psi, intra_trajectory_weights(weights.float(), mask))
    assert torch.equal(phi, inter_trajectory_weights(weights.float(), mask, groups))
    reshaped = reweight_advantages(torch.randn(4).bfloat16(), psi, phi)
    assert reshaped.dtype == torch.float32


def test_no_gradient():
    weights = torch.rand(2, 5, requires_grad=True)
    advantages = torch.randn(2, requires_grad=True)
    mask, groups = torch.ones(2, 5), torch.zeros(2, dtype=torch.long)
    psi = intra_trajectory_weights(weights, mask)
    phi = inter_trajectory_weights(weights, mask, groups)
    assert not psi.requires_grad and not phi.requires_grad
    assert not reweight_advantages(advantages, psi, phi).requires_grad


def whole_method(focus, mask, groups, advantages):
    """Eq. 5-12 and the released variant of the same."""
    weights = compensate(focus, mask)
    psi = intra_trajectory_weights(weights, mask)
    phi = inter_trajectory_weights(weights, mask, groups)
    released.factors_from_cosines(
        focus,
        mask,
        strength=0.3,
        start_ratio=0.5,
        top_ratio=0.2,
        schedule="linear",
        gated=True,
        num_generations=4,
    )
    return reweight_advantages(advantages, psi, phi)


def test_no_step_reads_a_value_back():
    # Tensors on the meta device have no values: whatever needs one fails.
    with torch.device("meta"):
        reshaped = whole_method(
            torch.empty(8, 20),
            torch.empty(8, 20, dtype=torch.bool),
            torch.empty(8, dtype=torch.long),
            torch.empty(8),
        )
    assert reshaped.shape == (8, 20)


class Operations(TorchDispatchMode):
    """Counts tensor operations and keeps the size of the largest result."""

    def __init__(self):
        super().__init__()
        self.count = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.count += 1
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return result


@pytest.mark.parametrize("shape", [(8, 300), (300, 8), (200, 200)])
def test_work_does_not_grow_with_a_loop_or_a_square(shape):
    def measure(rows, tokens):
        groups = torch.arange(rows) // 4
        arguments = torch.rand(rows, tokens), torch.ones(rows, tokens), groups
        with Operations() as seen:
            whole_method(*arguments, torch.randn(rows))
        return seen

    small, large = measure(4, 4), measure(*shape)
    assert large.count == small.count
    assert large.largest == shape[0] * shape[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w, m, g: intra_trajectory_weights(w[0], m), "weights"),
        (lambda w, m, g: intra_trajectory_weights(w, m[:1]), "completion_mask"),
        (lambda w, m, g: inter_trajectory_weights(w, m[:1], g), "completion_mask"),
        (lambda w, m, g: inter_trajectory_weights(w, m, g[:1]), "group_ids"),
        (lambda w, m, g: inter_trajectory_weights(w, m, g.float()), "integers"),
        (lambda w, m, g: inter_trajectory_weights(w, m, g, "max"), "accumulation"),
        (lambda w, m, g: reweight_advantages(w, w, w[:, 0]), "advantages"),
        (lambda w, m, g: reweight_advantages(w[:, 0], w, w), "phi"),
        (lambda w, m, g: reweight_advantages(w[:, 0], w[0], w[:, 0]), "psi"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.rand(2, 5), torch.ones(2, 5), torch.zeros(2, dtype=torch.long))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("accumulation", ["sum", "mean"])
def test_cuda_equals_cpu(accumulation):
    weights, mask = torch.rand(32, 100), torch.rand(32, 100) < 0.8
    groups = torch.randint(0, 5, (32,))
    psi = intra_trajectory_weights(weights.cuda(), mask.cuda())
    phi = inter_trajectory_weights(
        weights.cuda(), mask.cuda(), groups.cuda(), accumulation
    )
    assert psi.is_cuda and phi.is_cuda
    torch.testing.assert_close(psi.cpu(), intra_trajectory_weights(weights, mask))
    torch.testing.assert_close(
        phi.cpu(), inter_trajectory_weights(weights, mask, groups, accumulation)
    )
