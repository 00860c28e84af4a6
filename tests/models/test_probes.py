"""Probes: the registry, and the view of an image with patches blacked out."""

import pytest
import torch

from vgpo.models.probes import (
    PROBES,
    Focus,
    MaskedLogProbs,
    Scored,
    black_patches,
    make_probe,
    register_probe,
)

BLACK = torch.tensor([-2.0, -1.5, -1.0])


@pytest.fixture(autouse=True)
def registry():
    """What a test registers is gone after it."""
    before = dict(PROBES)
    yield
    PROBES.clear()
    PROBES.update(before)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def scored(rescore, pixels, *, seed=5, first_row=0, rows=None):
    rows = len(pixels) if rows is None else rows
    return Scored(
        completion_ids=torch.tensor([[3, 4, 0]] * rows),
        completion_mask=torch.tensor([[True, True, False]] * rows),
        log_probs=None,
        entropy=None,
        pixels=pixels,
        flat_pixels=False,
        black=BLACK,
        rows=[{}] * rows,
        decode=lambda ids: "".join(map(str, ids)),
        rescore=rescore,
        seed=seed,
        first_row=first_row,
        group_size=2,
    )


def views(probe, pixels, **others):
    seen = []
    probe.measure(scored(lambda v: seen.extend(v) or torch.zeros(1), pixels, **others))
    return seen


def test_probability_0_and_1():
    pixels = torch.randn(2, 3, 10, 7)
    assert torch.equal(black_patches(pixels, 0.0, BLACK, draw()), pixels)
    everything = BLACK[:, None, None].expand_as(pixels)
    assert torch.equal(black_patches(pixels, 1.0, BLACK, draw()), everything)


def test_squares_are_black_or_as_they_were():
    pixels = torch.randn(40, 3, 9, 12)
    out = black_patches(pixels, 0.3, BLACK, draw(), patch=4)
    is_black = (out == BLACK[:, None, None]).all(dim=1)
    kept = ~is_black[:, None].expand_as(out)
    assert torch.equal(out[kept], pixels[kept])
    # Columns are cut in 3 squares, rows in 3, the last of them 1 pixel high.
    squares = is_black[:, [0, 4, 8]][:, :, [0, 4, 8]]
    wide = squares.repeat_interleave(4, 1)[:, :9].repeat_interleave(4, 2)
    assert torch.equal(is_black, wide)
    assert squares.float().mean() == pytest.approx(0.3, abs=0.08)


def test_pictures_that_pad_a_row_stay_zeros():
    pixels = torch.randn(2, 3, 3, 28, 28)
    pixels[1, 1:] = 0
    out = black_patches(pixels, 1.0, BLACK, draw())
    assert (out[1, 1:] == 0).all()
    assert (out[1, 0] == BLACK[:, None, None]).all()


def test_flat_patches_are_black_channel_by_channel():
    pixels = torch.randn(500, 3 * 2 * 4)
    out = black_patches(pixels, 0.6, BLACK, draw(), flat=True)
    channels = out.view(500, 3, 8)
    is_black = (channels == BLACK[:, None]).all(dim=2).all(dim=1)
    assert torch.equal(out[~is_black], pixels[~is_black])
    assert is_black.float().mean() == pytest.approx(0.6, abs=0.07)


def test_unknown_layout_is_refused():
    for pixels, flat in ((torch.zeros(2, 5), True), (torch.zeros(2, 3, 8), False)):
        with pytest.raises(ValueError, match="no patches can be told"):
            black_patches(pixels, 0.5, BLACK, draw(), flat=flat)


def test_rollouts_of_a_prompt_share_a_view_and_prompts_do_not():
    picture = torch.randn(1, 3, 56, 56)
    seen = views(MaskedLogProbs(), [picture] * 6)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    assert not torch.equal(seen[0], seen[2])
    # The same on the process that has the second half, and after resuming.
    again = views(MaskedLogProbs(), [picture] * 3, first_row=3)
    assert all(torch.equal(a, b) for a, b in zip(again, seen[3:], strict=True))
    later = views(MaskedLogProbs(), [picture] * 2, seed=6)
    assert not torch.equal(later[0], seen[0])


def test_a_view_for_each_row():
    picture = torch.randn(1, 3, 56, 56)
    seen = views(MaskedLogProbs(per="row"), [picture] * 2)
    assert not torch.equal(seen[0], seen[1])


def test_rows_without_any_image_are_scored_as_they_are():
    given = torch.randn(2, 3)
    rollouts = scored(lambda views: given, None, rows=2)
    assert torch.equal(MaskedLogProbs().measure(rollouts), given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"probability": 1.5}, r"probability must be in \[0, 1\], got 1.5"),
        ({"patch": 0}, "patch must be at least 1, got 0"),
        ({"per": "batch"}, "per must be 'prompt' or 'row', got 'batch'"),
        ({"size": 3}, "'masked_log_probs' has no setting size"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        make_probe("masked_log_probs", settings)


def test_unknown_signal_names_the_known_ones():
    with pytest.raises(
        ValueError, match=r"signals must be among.*'focus'.*'attention'"
    ):
        make_probe("attention")


def test_functions_are_probes_with_settings():
    @register_probe("number", needs=["log_probs"])
    def number(scored, value=1.0):
        return torch.full(scored.completion_ids.shape, value)

    probe = make_probe("number", {"value": 3.0})
    assert probe.needs == {"log_probs"}
    assert (probe.measure(scored(None, None, rows=2)) == 3).all()


def test_completions_are_text_up_to_their_end():
    assert scored(None, None, rows=2).completions == ["34", "34"]


def test_taken_names_and_unknown_needs_are_refused():
    with pytest.raises(ValueError, match="a probe 'focus' already"):
        register_probe("focus")(lambda scored: None)
    with pytest.raises(ValueError, match="needs must be among"):
        register_probe("mine", needs=["logits"])
    register_probe("focus")(Focus)
