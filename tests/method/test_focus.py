"""Eq. 3-4 against the equations in Python floats, and what must not matter."""

import logging

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vgpo import completion_states, visual_focus_score, visual_prototype
from vgpo.method import focus
from vgpo.method.focus import visual_cosine

EIGHTHS = st.integers(-64, 64).map(lambda n: n / 8)


@st.composite
def batches(draw):
    """States (B, L, D), image mask (B, L) and prototypes (B, D)."""
    rows, length, width = (draw(st.integers(1, n)) for n in (4, 9, 5))

    def grid(*shape, values=EIGHTHS):
        if len(shape) == 1:
            return draw(st.lists(values, min_size=shape[0], max_size=shape[0]))
        return [grid(*shape[1:], values=values) for _ in range(shape[0])]

    states = grid(rows, length, width)
    image_mask = grid(rows, length, values=st.integers(0, 1))
    return states, image_mask, grid(rows, width)


@settings(max_examples=100, deadline=None)
@given(batches())
def test_equals_the_equations(batch):
    states, image_mask, prototypes = batch
    ours = visual_prototype(torch.tensor(states), torch.tensor(image_mask))
    expected = torch.tensor(reference.prototype(states, image_mask))
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)

    scores = visual_focus_score(torch.tensor(states), torch.tensor(prototypes))
    expected = torch.tensor(reference.focus_score(states, prototypes))
    torch.testing.assert_close(scores, expected, rtol=0, atol=2e-6)
    assert scores.min() >= 0 and scores.max() <= 1


@settings(max_examples=50, deadline=None)
@given(batches(), st.sampled_from([torch.float16, torch.bfloat16]))
def test_half_precision_input_is_computed_in_float32(batch, dtype):
    # Eighths up to 8 are exact in both dtypes, so only the arithmetic could differ.
    states, image_mask, prototypes = batch
    halves = torch.tensor(states).to(dtype)
    ours = visual_prototype(halves, torch.tensor(image_mask))
    assert ours.dtype == torch.float32
    expected = torch.tensor(reference.prototype(halves.tolist(), image_mask))
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    scores = visual_focus_score(halves, torch.tensor(prototypes))
    assert scores.dtype == torch.float32
    expected = torch.tensor(reference.focus_score(halves.tolist(), prototypes))
    torch.testing.assert_close(scores, expected, rtol=0, atol=2e-6)


def exact_scores(states, image_mask):
    """Eq. 3-4 in float64 tensors, for sizes too large for Python loops."""
    states, weights = states.double(), image_mask.double()
    mean = (states * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
    cosine = torch.cosine_similarity(states, mean[:, None], dim=-1)
    return mean, (cosine + 1) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "tokens", "width"), [(3, 301, 1000), (70, 3, 2048)])
def test_large_batches_are_exact_in_every_block(dtype, rows, tokens, width):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(rows, tokens, width, generator=generator).to(dtype)
    image_mask = torch.rand(rows, tokens, generator=generator) < 0.3
    image_mask[:, 0] = True
    prototype = visual_prototype(states, image_mask)
    mean, scores = exact_scores(states, image_mask)
    torch.testing.assert_close(prototype.double(), mean, rtol=0, atol=1e-6)
    ours = visual_focus_score(states, prototype)
    torch.testing.assert_close(ours.double(), scores, rtol=0, atol=1e-6)


def test_block_size_does_not_matter(monkeypatch):
    states = torch.randn(3, 50, 8).bfloat16()
    mask = torch.zeros(3, 50)
    mask[:, 20:29] = 1
    whole = visual_prototype(states, mask)
    scores = visual_focus_score(states, whole)
    monkeypatch.setattr(focus, "_BLOCK_ELEMENTS", 3 * 8 * 7 // torch.get_num_threads())
    pieces = visual_prototype(states, mask)
    torch.testing.assert_close(whole, pieces, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(scores, visual_focus_score(states, whole))


def test_float64_is_kept():
    states = torch.randn(2, 5, 3, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0, 0, 1]] * 2)
    prototype = visual_prototype(states, mask)
    mean, scores = exact_scores(states, mask)
    torch.testing.assert_close(prototype, mean, rtol=1e-14, atol=1e-14)
    ours = visual_focus_score(states, prototype)
    torch.testing.assert_close(ours, scores, rtol=1e-14, atol=1e-14)


def test_autocast_does_not_lower_the_precision():
    states = torch.randn(2, 5, 64)
    mask = torch.ones(2, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prototype = visual_prototype(states, mask)
        scores = visual_focus_score(states, prototype)
    mean, expected = exact_scores(states, mask)
    torch.testing.assert_close(prototype.double(), mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-6)


def test_row_without_image_scores_zero():
    states = torch.randn(2, 5, 3)
    prototype = visual_prototype(states, torch.tensor([[0] * 5, [1] * 5]))
    assert prototype[0].tolist() == [0, 0, 0]
    scores = visual_focus_score(states, prototype)
    assert scores[0].tolist() == [0.0] * 5
    assert scores[1].min() > 0
    assert visual_cosine(states, prototype)[0].tolist() == [0.0] * 5


def test_zero_state_is_neither_near_nor_far():
    scores = visual_focus_score(torch.zeros(1, 2, 3), torch.ones(1, 3))
    assert scores.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_length_of_the_prototype_does_not_matter(scale):
    states, prototype = torch.randn(2, 5, 3), torch.randn(2, 3)
    torch.testing.assert_close(
        visual_focus_score(states, prototype * scale),
        visual_focus_score(states, prototype),
    )


@pytest.mark.parametrize("width", [3, 100, 1000])
def test_rounding_does_not_leave_the_unit_interval(width):
    prototype = torch.randn(20, width)
    states = prototype[:, None] * torch.randn(20, 30, 1)
    scores = visual_focus_score(states, prototype)
    assert scores.min() >= 0 and scores.max() <= 1
    torch.testing.assert_close(scores, scores.round(), rtol=0, atol=1e-6)


def test_score_is_the_cosine_mapped_to_the_unit_interval():
    states, prototype = torch.randn(2, 5, 3), torch.randn(2, 3)
    expected = torch.cosine_similarity(states, prototype[:, None], dim=-1)
    torch.testing.assert_close(visual_cosine(states, prototype), expected)
    torch.testing.assert_close(
        visual_focus_score(states, prototype), (expected + 1) / 2
    )


def test_rows_do_not_see_each_other():
    states, mask = torch.randn(5, 7, 4), torch.rand(5, 7) < 0.5
    together = visual_focus_score(states, visual_prototype(states, mask))
    for row in range(5):
        one = slice(row, row + 1)
        alone = visual_focus_score(
            states[one], visual_prototype(states[one], mask[one])
        )
        torch.testing.assert_close(together[one], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_scores_have_the_same_bits_however_the_batch_is_cut(dtype):
    # Wide enough for several blocks of tokens, of other lengths in other batches.
    states, prototype = torch.randn(6, 70, 2048).to(dtype), torch.randn(6, 2048)
    together = visual_focus_score(states, prototype)
    for rows, tokens in ((slice(1), slice(70)), (slice(2, 5), slice(11, 12))):
        some = visual_focus_score(states[rows, tokens], prototype[rows])
        assert torch.equal(some, together[rows, tokens])


def test_strided_views_give_the_same_scores():
    states = torch.randn(7, 5, 4).transpose(0, 1)
    prototype = torch.randn(5, 4)
    torch.testing.assert_close(
        visual_focus_score(states, prototype),
        visual_focus_score(states.contiguous(), prototype),
    )


def test_states_of_a_completion():
    states = torch.randn(2, 9, 3)
    assert torch.equal(completion_states(states, 4), states[:, 5:9])
    assert torch.equal(
        completion_states(states, 4, alignment="prediction"), states[:, 4:8]
    )
    assert torch.equal(completion_states(states, 9), states)
    assert torch.equal(completion_states(states, 8, "prediction"), states[:, :8])


def test_no_gradient():
    states = torch.randn(2, 5, 3, requires_grad=True)
    prototype = visual_prototype(states, torch.ones(2, 5))
    assert not prototype.requires_grad
    assert not visual_focus_score(states, prototype).requires_grad
    assert not completion_states(states, 2).requires_grad


# NaN and infinity


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nonfinite_states_raise_and_name_the_rows(bad, dtype):
    states = torch.randn(4, 6, 3).to(dtype)
    states[1, 5, 0] = states[3, 0, 2] = bad
    with pytest.raises(ValueError, match=r"row\(s\) \[1, 3\]"):
        visual_prototype(states, torch.ones(4, 6))
    with pytest.raises(ValueError, match=r"row\(s\) \[1, 3\]"):
        visual_focus_score(states, torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"row\(s\) \[2\]"):
        prototype = torch.ones(4, 3)
        prototype[2, 1] = bad
        visual_focus_score(torch.randn(4, 6, 3), prototype)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nonfinite_padding_has_no_influence(bad, dtype):
    clean = torch.randn(3, 6, 4).to(dtype)
    mask = torch.tensor([[0, 1, 1, 0, 1, 0], [1] * 6, [0, 0, 0, 1, 1, 1]])
    dirty = clean.masked_fill(mask[..., None] == 0, bad)
    prototype = visual_prototype(clean, mask)
    torch.testing.assert_close(visual_prototype(dirty, mask), prototype)
    scores = visual_focus_score(dirty, prototype, completion_mask=mask)
    expected = visual_focus_score(clean, prototype)
    assert torch.equal(scores[mask == 1], expected[mask == 1])
    assert scores[mask == 0].sum() == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_neutral_rows_count_as_rows_without_image(bad, caplog):
    states = torch.randn(3, 6, 4)
    prototype = visual_prototype(states, torch.ones(3, 6))
    scores = visual_focus_score(states, prototype)
    states[1, 2, 3] = bad
    with caplog.at_level(logging.WARNING, logger="vgpo.method.focus"):
        neutral = visual_focus_score(states, prototype, nonfinite="neutral")
    assert "[1]" in caplog.text
    assert neutral[1].tolist() == [0.0] * 6
    torch.testing.assert_close(neutral[[0, 2]], scores[[0, 2]])

    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="vgpo.method.focus"):
        again = visual_prototype(states, torch.ones(3, 6), nonfinite="neutral")
    assert "[1]" in caplog.text
    assert again[1].tolist() == [0.0] * 4
    torch.testing.assert_close(again[[0, 2]], prototype[[0, 2]])


def test_finite_states_are_not_reported(caplog):
    states = torch.randn(3, 6, 4)
    with caplog.at_level(logging.DEBUG):
        prototype = visual_prototype(states, torch.ones(3, 6), nonfinite="neutral")
        visual_focus_score(states, prototype, nonfinite="neutral")
    assert not caplog.records


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h: visual_prototype(h[0], torch.ones(2, 5)), "hidden_states"),
        (lambda h: visual_prototype(h.long(), torch.ones(2, 5)), "floating"),
        (lambda h: visual_prototype(h, torch.ones(2, 4)), "image_mask"),
        (lambda h: visual_prototype(h, torch.ones(2, 5), nonfinite="x"), "nonfinite"),
        (lambda h: visual_focus_score(h[0], torch.ones(2, 3)), "hidden_states"),
        (lambda h: visual_focus_score(h, torch.ones(2, 4)), "prototype"),
        (lambda h: visual_focus_score(h, torch.ones(3)), "prototype"),
        (
            lambda h: visual_focus_score(
                h, torch.ones(2, 3), completion_mask=torch.ones(2, 4)
            ),
            "completion_mask",
        ),
        (lambda h: completion_states(h[0], 2), "hidden_states"),
        (lambda h: completion_states(h, 6), "from 1 to 5"),
        (lambda h: completion_states(h, 0), "from 1 to 5"),
        (lambda h: completion_states(h, 5, "prediction"), "from 1 to 4"),
        (lambda h: completion_states(h, 2, "next"), "alignment"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(2, 5, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cuda_equals_cpu(dtype):
    states = torch.randn(4, 33, 256).to(dtype)
    mask = torch.rand(4, 33) < 0.4
    mask[2] = False
    prototype = visual_prototype(states, mask)
    on_device = visual_prototype(states.cuda(), mask.cuda())
    assert on_device.is_cuda
    torch.testing.assert_close(on_device.cpu(), prototype, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        visual_focus_score(states.cuda(), on_device).cpu(),
        visual_focus_score(states, prototype),
        rtol=0,
        atol=2e-6,
    )
    states[1, 3, 7] = torch.nan
    with pytest.raises(ValueError, match=r"row\(s\) \[1\]"):
        visual_focus_score(states.cuda(), on_device)
