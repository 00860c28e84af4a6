"""Eq. 5-6 against the equations in Python floats, and what must not matter."""

from fractions import Fraction
from math import floor

import pytest
import reference
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vgpo import compensate, compensation_schedule, visual_gate

RATIOS = st.integers(0, 100).map(lambda n: f"{n / 100:.2f}")
POSITIVE_RATIOS = st.integers(1, 100).map(lambda n: f"{n / 100:.2f}")
# Sixteenths tie often.
SCORES = st.integers(0, 16).map(lambda n: n / 16)


@st.composite
def batches(draw, rows=5, tokens=12):
    """Focus scores and masks, with gaps, empty rows and one-token rows."""
    rows, tokens = draw(st.integers(1, rows)), draw(st.integers(1, tokens))

    def grid(values):
        row = st.lists(values, min_size=tokens, max_size=tokens)
        return draw(st.lists(row, min_size=rows, max_size=rows))

    return grid(SCORES), grid(st.integers(0, 1))


@settings(max_examples=100, deadline=None)
@given(
    batches(),
    st.sampled_from(["linear", "exponential", "step"]),
    st.sampled_from([0.5, 1.0, 2.0, 3.5]),
    RATIOS,
)
def test_schedule_equals_the_equations(batch, kind, exponent, ratio):
    mask = batch[1]
    ours = compensation_schedule(
        torch.tensor(mask), kind, exponent=exponent, step_ratio=float(ratio)
    )
    expected = torch.tensor(reference.schedule(mask, kind, exponent, ratio))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(batches(), RATIOS, POSITIVE_RATIOS)
def test_gate_equals_the_equations(batch, tail_ratio, top_ratio):
    scores, mask = batch
    ours = visual_gate(
        torch.tensor(scores), torch.tensor(mask), float(tail_ratio), float(top_ratio)
    )
    expected = reference.gate(scores, mask, tail_ratio, top_ratio)
    assert ours.int().tolist() == expected


@settings(max_examples=100, deadline=None)
@given(
    batches(),
    st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    RATIOS,
    POSITIVE_RATIOS,
    st.sampled_from(["linear", "exponential", "step"]),
)
def test_weights_equal_the_equations(batch, strength, tail_ratio, top_ratio, kind):
    scores, mask = batch
    ours = compensate(
        torch.tensor(scores),
        torch.tensor(mask),
        strength,
        float(tail_ratio),
        float(top_ratio),
        kind,
    )
    expected = reference.compensate(
        scores,
        mask,
        strength,
        reference.gate(scores, mask, tail_ratio, top_ratio),
        reference.schedule(mask, kind),
    )
    torch.testing.assert_close(ours, torch.tensor(expected), rtol=1e-6, atol=1e-6)


# Ratios whose products with a length fall on the wrong side of an integer, or
# exactly on it, in binary arithmetic.
@settings(max_examples=300, deadline=None)
@given(st.integers(1, 400), RATIOS, POSITIVE_RATIOS)
@example(15, "1.00", "0.20")  # 0.2 * 15 = 3.0000000000000004
@example(100, "1.00", "0.29")  # 0.29 * 100 = 28.999999999999996
@example(30, "0.90", "0.10")  # (1 - 0.9) * 30 = 2.9999999999999996
@example(10, "0.70", "0.10")  # (1 - 0.7) * 10 = 3.0000000000000004
def test_ratios_are_decimal_fractions(length, tail_ratio, top_ratio):
    tail = length - floor((1 - Fraction(tail_ratio)) * length)
    kept = min(tail, max(1, floor(Fraction(top_ratio) * tail)))
    gate = visual_gate(
        torch.rand(1, length),
        torch.ones(1, length),
        float(tail_ratio),
        float(top_ratio),
    )
    assert gate.sum() == kept
    assert not gate[:, : length - tail].any()


def test_a_third_is_a_third():
    gate = visual_gate(torch.rand(1, 9), torch.ones(1, 9), 1.0, 1 / 3)
    assert gate.sum() == 3
    gate = visual_gate(torch.rand(1, 9), torch.ones(1, 9), 2 / 3, 1.0)
    assert gate.sum() == 6


def test_equal_scores_keep_the_latest_and_never_more_than_kappa():
    gate = visual_gate(torch.full((1, 20), 0.5), torch.ones(1, 20))
    assert gate.nonzero()[:, 1].tolist() == [18, 19]


def test_the_tail_is_counted_in_real_tokens():
    focus = torch.tensor([[0.9, 0.1, 0.8, 0.7, 0.2, 0.3]])
    mask = torch.tensor([[1, 0, 1, 1, 0, 1]])
    gate = visual_gate(focus, mask, tail_ratio=0.5, top_ratio=0.5)
    assert gate.nonzero()[:, 1].tolist() == [3]


def test_full_trajectory_and_closed_gate():
    focus, mask = torch.rand(3, 7), torch.rand(3, 7) < 0.7
    assert torch.equal(visual_gate(focus, mask, 1.0, 1.0), mask)
    assert not visual_gate(focus, mask, 0.0, 1.0).any()
    assert torch.equal(compensate(focus, mask, tail_ratio=0.0), focus * mask)
    assert torch.equal(compensate(focus, mask, strength=0.0), focus * mask)


@pytest.mark.parametrize("kind", ["linear", "exponential", "step"])
def test_one_token_row(kind):
    mask = torch.tensor([[0, 0, 1, 0]])
    schedule = compensation_schedule(mask, kind)
    assert schedule.tolist() == [[0, 0, 1, 0]]
    weights = compensate(torch.full((1, 4), 0.5), mask, schedule=kind)
    torch.testing.assert_close(weights, torch.tensor([[0, 0, 0.65, 0]]))


def test_empty_row_and_row_without_image_weigh_zero():
    focus = torch.rand(2, 5)
    focus[1] = 0
    weights = compensate(focus, torch.tensor([[0] * 5, [1] * 5]))
    assert weights.tolist() == [[0.0] * 5] * 2


@settings(max_examples=50, deadline=None)
@given(batches(), st.integers(0, 4), st.integers(0, 4), st.randoms())
def test_padding_and_order_of_rows_do_not_matter(batch, left, right, random):
    focus, mask = torch.tensor(batch[0]), torch.tensor(batch[1])
    order = list(range(len(focus)))
    random.shuffle(order)
    padded = torch.nn.functional.pad(focus, (left, right), value=0.9)
    padded_mask = torch.nn.functional.pad(mask, (left, right))
    weights = compensate(padded[order], padded_mask[order])
    expected = compensate(focus, mask)[order]
    assert torch.equal(weights[:, left : left + focus.shape[1]], expected)
    assert weights[:, :left].sum() == 0
    assert weights[:, left + focus.shape[1] :].sum() == 0


@settings(max_examples=50, deadline=None)
@given(batches())
def test_values_outside_the_mask_do_not_matter(batch):
    focus, mask = torch.tensor(batch[0]), torch.tensor(batch[1])
    dirty = focus.masked_fill(mask == 0, torch.nan)
    assert torch.equal(compensate(dirty, mask), compensate(focus, mask))


def test_bfloat16_scores_are_computed_in_float32():
    focus, mask = torch.rand(4, 50).bfloat16(), torch.ones(4, 50)
    weights = compensate(focus, mask)
    assert weights.dtype == torch.float32
    assert torch.equal(weights, compensate(focus.float(), mask))


def test_bool_and_numeric_masks_are_the_same():
    focus, mask = torch.rand(4, 9), torch.rand(4, 9) < 0.6
    for dtype in (torch.long, torch.int32, torch.float32, torch.bfloat16):
        assert torch.equal(compensate(focus, mask.to(dtype)), compensate(focus, mask))


def test_no_gradient():
    focus = torch.rand(2, 5, requires_grad=True)
    assert not compensate(focus, torch.ones(2, 5)).requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, m: compensation_schedule(m[0]), "completion_mask"),
        (lambda f, m: compensation_schedule(m, "cosine"), "schedule"),
        (lambda f, m: compensation_schedule(m, exponent=0), "exponent"),
        (lambda f, m: compensation_schedule(m, exponent=float("nan")), "exponent"),
        (lambda f, m: compensation_schedule(m, step_ratio=2), "step_ratio"),
        (lambda f, m: visual_gate(f[0], m), "focus"),
        (lambda f, m: visual_gate(f[:, :0], m[:, :0]), "focus"),
        (lambda f, m: visual_gate(f, m[:, :3]), "completion_mask"),
        (lambda f, m: visual_gate(f, m, tail_ratio=1.1), "tail_ratio"),
        (lambda f, m: visual_gate(f, m, tail_ratio=float("nan")), "tail_ratio"),
        (lambda f, m: visual_gate(f, m, top_ratio=0), "top_ratio"),
        (lambda f, m: compensate(f, m, strength=-0.1), "strength"),
        (lambda f, m: compensate(f, m, strength=float("inf")), "strength"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.rand(2, 5), torch.ones(2, 5))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu():
    # Sixteenths, so that the order of equal scores is put to the test.
    focus = torch.randint(0, 17, (16, 300)) / 16
    mask = torch.rand(16, 300) < 0.8
    for kind in ("linear", "exponential", "step"):
        weights = compensate(focus.cuda(), mask.cuda(), schedule=kind)
        assert weights.is_cuda
        torch.testing.assert_close(
            weights.cpu(), compensate(focus, mask, schedule=kind)
        )
