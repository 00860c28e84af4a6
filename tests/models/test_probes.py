"""Probes: the registry, and what each makes of rollouts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vgpo.models.probes import (
    PROBES,
    Focus,
    MaskedLogProbs,
    Scored,
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
    probe.measure(
        scored(lambda v, length: seen.extend(v) or torch.zeros(1), pixels, **others)
    )
    return seen


def test_noise_leaves_pictures_that_pad_a_row():
    """Idefics 3 tells padding by its zeros, as many as a picture has pixels."""
    pixels = torch.randn(2, 3, 3, 28, 28)
    pixels[1, 1:] = 0
    out = views(MaskedLogProbs(noise=2.0), list(pixels.split(1)))
    assert (out[1][0, 1:] == 0).all()
    assert (out[1][0, 0] != pixels[1, 0]).all() and (out[0] != pixels[:1]).all()


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
    rollouts = scored(lambda views, length: given, None, rows=2)
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


def pictured(probe, pictures, **others):
    """The pictures that the probe has processed."""
    seen = []

    def reprocess(views):
        seen.extend(views)
        return [torch.zeros(1, 3, 2, 2)] * len(views)

    given = scored(lambda views, length: torch.zeros(1), [torch.zeros(1, 3, 2, 2)] * 4)
    probe.measure(replace(given, pictures=pictures, reprocess=reprocess, **others))
    return seen


def test_pictures_of_a_prompt_share_a_view_whatever_process_has_them():
    picture = Image.new("RGB", (56, 56), "white")
    pictures = [[picture, picture], [picture, picture], [picture], []]
    probe = MaskedLogProbs(on="picture")
    assert probe.needs_pictures and not MaskedLogProbs().needs_pictures
    seen = pictured(probe, pictures)
    assert [len(row) for row in seen] == [2, 2, 1, 0]
    same = [[np.asarray(one).tobytes() for one in row] for row in seen]
    assert same[0] == same[1]
    assert same[0][0] != same[0][1]
    assert same[0][0] != same[2][0]
    again = pictured(probe, pictures, first_row=2)
    assert np.asarray(again[0][0]).tobytes() == same[2][0]
    assert np.asarray(picture).all()


def test_pictures_that_are_missing_are_named():
    given = scored(lambda views, length: torch.zeros(1), [torch.zeros(1, 3, 2, 2)] * 2)
    with pytest.raises(ValueError, match="pictures are missing"):
        MaskedLogProbs(on="picture").measure(given)


def test_noise_has_its_standard_deviation_and_its_seed():
    pixels = torch.randn(1, 3, 60, 60)
    first, second = (views(MaskedLogProbs(noise=2.0), [pixels] * 2) for _ in "ab")
    assert torch.equal(first[0], second[0]) and torch.equal(first[0], first[1])
    assert float((first[0] - pixels).std()) == pytest.approx(2.0, abs=0.1)
    assert torch.equal(views(MaskedLogProbs(noise=0.0), [pixels])[0], pixels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on": "paper"}, "on must be 'pixels' or 'picture', got 'paper'"),
        ({"noise": -1.0}, "noise must be None or at least 0"),
        ({"noise": 1.0, "on": "picture"}, "noise must be None .* with on='pixels'"),
    ],
)
def test_wrong_views_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        make_probe("masked_log_probs", settings)


def spoken(*pieces):
    """One row whose tokens read like this, and a padded one behind."""
    ids = torch.arange(len(pieces) + 1)[None]
    return replace(
        scored(None, None, rows=1),
        completion_ids=ids,
        completion_mask=ids < len(pieces),
        decode=lambda tokens: "".join(pieces[token] for token in tokens),
    )


@pytest.mark.parametrize(
    ("pieces", "kinds"),
    [
        (
            ["so ", "<perception>", "red", " 5", "</perception>", " 5"],
            [-1, -1, 1, 1, -1, 0],
        ),
        # Tags cut up, and a token that is half a tag.
        (
            ["<per", "ception", ">red", " 5", "</", "perception> so", " 5"],
            [-1, -1, -1, 1, -1, -1, 0],
        ),
        (["red", "</perception>", "<perception>", " 5"], [-1] * 4),
        (["<perception>", "red"], [-1, -1]),
        (["<perception>", "</perception>", "5"], [-1, -1, 0]),
    ],
)
def test_perception_is_between_its_tags(pieces, kinds):
    got = make_probe("perception").measure(spoken(*pieces))
    assert got.tolist() == [[*kinds, -1]]


def test_hidden_are_the_tokens_of_the_span():
    asked = []

    def rescore(given, hidden):
        asked.append((given, hidden))
        return torch.zeros(1)

    row = spoken("<perception>", "red", " 5", "</perception>", " 5")
    make_probe("hidden_log_probs").measure(replace(row, rescore=rescore))
    ((given, hidden),) = asked
    assert given == []
    assert hidden.tolist() == [[False, True, True, False, False, False]]


def test_a_view_is_scored_up_to_the_last_token_that_is_wanted():
    asked = []

    def rescore(given, length):
        asked.append(length)
        return torch.zeros(1)

    row = spoken("<perception>", "red", " 5", "</perception>", " 5")
    for within, wanted in ((None, None), ("perception", 3)):
        probe = make_probe("masked_log_probs", {"within": within})
        probe.measure(replace(row, rescore=rescore))
        assert asked.pop() == wanted
    # Without any such token one is scored, since other processes may have some.
    MaskedLogProbs(within="perception").measure(
        replace(spoken("red", " 5"), rescore=rescore)
    )
    assert asked == [1]


def test_spans_that_need_a_pass_are_refused():
    with pytest.raises(ValueError, match="within: 'focus' needs a forward pass"):
        MaskedLogProbs(within="focus").measure(spoken("a"))
    with pytest.raises(ValueError, match="spans: 'focus' needs a forward pass"):
        make_probe("hidden_log_probs", {"spans": "focus"}).measure(spoken("a"))
