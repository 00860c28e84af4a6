"""The picture of the landing page."""

import pytest
import torch

import vgpo
from book import picture
from tests.conftest import ROOT


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
