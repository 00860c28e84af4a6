"""The picture of the landing page."""

import pytest
import torch

import vgpo
from book import picture
from tests.conftest import ROOT
from vgpo.studies.tables import padded, token_table
from vgpo.testbed import World, load_tiny
from vgpo.testbed.answers import answer


def test_the_picture_is_what_its_script_draws():
    for name, palette in (("light", picture.LIGHT), ("dark", picture.DARK)):
        drawn = (ROOT / f"book/_static/vgpo-{name}.svg").read_text(encoding="utf-8")
        assert drawn == picture.draw(palette), "run python book/picture.py"


def test_the_picture_shows_what_the_package_computes():
    length = max(map(len, picture.FOCUS))
    focus = torch.zeros(len(picture.FOCUS), length)
    mask = torch.zeros(focus.shape, dtype=torch.bool)
    for i, row in enumerate(picture.FOCUS):
        focus[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = True
    rewards = torch.tensor(picture.REWARDS, dtype=torch.float32)
    base = (rewards - rewards.mean()) / rewards.std(correction=0)
    weights = vgpo.compensate(focus, mask)
    psi = vgpo.intra_trajectory_weights(weights, mask)
    phi = vgpo.inter_trajectory_weights(weights, mask, torch.zeros(len(rewards)).long())
    expected = vgpo.reweight_advantages(base, psi, phi)
    for row, drawn in zip(expected, picture.advantages(), strict=True):
        assert row[: len(drawn)].tolist() == pytest.approx(drawn, abs=1e-5)


def test_the_scores_are_those_of_the_small_model():
    """The answers of the chapter "One group": same question, same seed."""
    model, processor = load_tiny()
    asked = [World().example(31, family="sum", split="heldout")] * 4
    texts = answer(model, processor, asked, temperature=1.0, seed=7)
    table = token_table(model, processor, asked, texts)
    focus, mask = padded(table, "focus_prediction")
    for row, drawn in zip(focus, picture.FOCUS, strict=False):
        assert row[: len(drawn)].tolist() == pytest.approx(drawn, abs=2e-4)
    assert mask.sum(dim=1).tolist()[:3] == [len(row) for row in picture.FOCUS]
    for text, answered in zip(texts, picture.ANSWERS, strict=False):
        assert text.endswith(f"{{{answered}}}")
