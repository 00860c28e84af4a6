"""What is saved comes back, and what is something else is refused."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import vgpo
from vgpo.analysis import ForgettingAnalysis, TokenScores, score
from vgpo.analysis.saving import read_tensors, write_tensors
from vgpo.testbed import build_processor, build_tiny, make_dataset

PICTURE = Image.effect_noise((84, 56), 80).convert("RGB")


@pytest.fixture(scope="module")
def small():
    processor = build_processor()
    return build_tiny(processor, hidden_size=64, layers=2).eval(), processor


@pytest.fixture(scope="module")
def scores(small):
    return score(*small, PICTURE, "Add red ?", "red = 5 é", layers="all")


@pytest.fixture(scope="module")
def analysis(small):
    rows = make_dataset(3, family="sum")
    return vgpo.analyze(
        *small, rows, layers="all", keep_maps=2, max_new_tokens=7, progress=False
    )


def test_scores_come_back_as_they_were(scores, tmp_path):
    scores.save(tmp_path / "folder" / "scores.safetensors")
    back = TokenScores.load(tmp_path / "folder" / "scores.safetensors")
    assert back.tokens == scores.tokens
    assert (back.alignment, back.layers) == (scores.alignment, scores.layers)
    for name in ("token_ids", "focus_token", "focus_prediction", "gate", "weights",
                 "shares"):  # fmt: skip
        there, was = getattr(back, name), getattr(scores, name)
        assert there.dtype == was.dtype and torch.equal(there, was)
    assert back.seen.images[0].tobytes() == PICTURE.tobytes()
    assert back.seen.aligned == scores.seen.aligned is True
    assert torch.equal(back.seen.maps[0], scores.seen.maps[0])
    assert torch.equal(back.seen.layer_maps[0], scores.seen.layer_maps[0])
    assert back.view().data == scores.view().data


def test_scores_without_attention_come_back_without(small, tmp_path):
    plain = score(*small, PICTURE, "Add red ?", "red = 5", layers=())
    plain.save(tmp_path / "scores")
    back = TokenScores.load(tmp_path / "scores")
    assert back.shares is None and back.seen is None and back.layers == ()
    assert back.to_frame().equals(plain.to_frame())


def test_an_analysis_comes_back_as_it_was(analysis, tmp_path):
    analysis.save(tmp_path / "folder")
    back = ForgettingAnalysis.load(tmp_path / "folder")
    assert back.tokens.equals(analysis.tokens)
    assert back.responses.equals(analysis.responses)
    assert (back.split, back.alignment) == (analysis.split, "prediction")
    assert list(back.kept) == [0, 1]
    assert torch.equal(back.kept[1].maps[0], analysis.kept[1].maps[0])
    assert back.summary().equals(analysis.summary())
    assert back.view().data == analysis.view().data


def test_some_answers_without_a_reference_come_back(small, tmp_path):
    row = make_dataset(1, family="sum")[0]
    unknown = {key: value for key, value in row.items() if key != "answer"}
    mixed = vgpo.analyze(*small, [row, unknown], max_new_tokens=4, progress=False)
    mixed.save(tmp_path / "folder")
    back = ForgettingAnalysis.load(tmp_path / "folder")
    assert back.responses["correct"].isna().tolist() == [False, True]


def test_another_file_is_refused(scores, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        TokenScores.load(tmp_path / "none")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(ValueError, match="no safetensors file"):
        TokenScores.load(tmp_path / "text")
    save_file({"x": torch.ones(1)}, tmp_path / "weights")
    with pytest.raises(ValueError, match="holds other tensors"):
        TokenScores.load(tmp_path / "weights")
    write_tensors(tmp_path / "else", "something", {}, {"x": torch.ones(1)})
    with pytest.raises(ValueError, match=r"holds something, not vgpo\.TokenScores"):
        TokenScores.load(tmp_path / "else")
    later = {"vgpo": json.dumps({"kind": "k", "version": 99, "facts": {}})}
    save_file({"x": torch.ones(1)}, tmp_path / "later", later)
    with pytest.raises(ValueError, match="later version"):
        read_tensors(tmp_path / "later", "k")


def test_views_of_one_storage_can_be_written(tmp_path):
    whole = torch.arange(12).reshape(3, 4)
    given = {"row": whole[1], "turned": whole.T}
    write_tensors(tmp_path / "file", "k", {"é": [1]}, given)
    facts, tensors = read_tensors(tmp_path / "file", "k")
    assert facts == {"é": [1]}
    assert all(torch.equal(tensors[name], given[name]) for name in given)
