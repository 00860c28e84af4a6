"""Changes of a question's picture do what their names say, and nothing else."""

import numpy as np
import pytest

from vgpo.testbed import World
from vgpo.testbed.changes import blank, occlude, perturb, swap


def test_occluding_changes_that_tile_only():
    example = next(
        e
        for e in (World().example(i, family="sum") for i in range(50))
        if e.rows == e.columns == 3
    )
    before = np.asarray(example.image)
    after = np.asarray(occlude(example, [5]).image)
    changed = (before != after).any(axis=2)
    assert (after[28:56, 56:84] == 128).all()
    changed[28:56, 56:84] = False
    assert not changed.any()
    with pytest.raises(ValueError, match="tiles"):
        occlude(example, [9])
    with pytest.raises(ValueError, match="no image"):
        occlude(World().example(0, family="text"), [0])


def test_perturbations_do_what_their_names_say():
    example = World().example(0, family="sum")
    before = np.asarray(example.image).astype(float)

    def pixels(kind, amount, seed=0):
        changed = perturb(example, kind, amount, seed)
        assert changed.image.mode == "RGB" and changed.chain == example.chain
        return np.asarray(changed.image).astype(float)

    moved = pixels("shift", 3)
    np.testing.assert_array_equal(moved[3:, 3:], before[:-3, :-3])
    inner = (before > 60) & (before < 195)
    noise = (pixels("noise", 8) - before)[inner]
    assert noise.std() == pytest.approx(8, rel=0.1) and abs(noise.mean()) < 1
    assert not np.array_equal(pixels("noise", 8), pixels("noise", 8, seed=1))
    np.testing.assert_allclose(pixels("brightness", 0.5), before / 2, atol=1)
    rough, fine = (np.abs(pixels("jpeg", q) - before).mean() for q in (10, 90))
    assert 0 < fine < rough < 40
    with pytest.raises(ValueError, match="kind"):
        perturb(example, "blur", 1)


def test_a_blank_picture_is_grey_and_of_the_same_size():
    example = World().example(0, family="chart")
    blanked = blank(example)
    assert blanked.image.size == example.image.size
    assert (np.asarray(blanked.image) == 128).all()
    assert (blanked.question, blanked.answer) == (example.question, example.answer)
    text = World().example(0, family="text")
    assert blank(text) is text


def test_swapping_keeps_family_and_size_and_changes_the_picture():
    examples = World().examples(
        40, ["sum"], seed=9, split="heldout"
    ) + World().examples(3, ["text"], seed=9, split="heldout")
    swapped = swap(examples)
    assert len(swapped) >= 30
    for example in swapped:
        assert example.family == "sum"
        assert example.image.size == (example.columns * 28, example.rows * 28)
    originals = {id(e.image) for e in examples if e.image is not None}
    assert {id(e.image) for e in swapped} <= originals
    by_question = {e.question + e.answer: e for e in examples}
    assert all(e.image is not by_question[e.question + e.answer].image for e in swapped)
