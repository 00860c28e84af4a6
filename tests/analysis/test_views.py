"""What a notebook shows of scores and analyses."""

import base64
import io
import zlib

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import vgpo
from vgpo.analysis import score
from vgpo.explorer import View
from vgpo.testbed import build_processor, build_tiny, make_dataset

PICTURE = Image.effect_noise((84, 56), 80).convert("RGB")
ANSWER = "<think> red = 5 .</think> \\boxed{5}"


@pytest.fixture(scope="module")
def small():
    processor = build_processor()
    return build_tiny(processor, hidden_size=64, layers=2).eval(), processor


@pytest.fixture(scope="module")
def scores(small):
    return score(*small, PICTURE, "Add red ?", ANSWER, layers="all")


@pytest.fixture(scope="module")
def analysis(small):
    rows = make_dataset(3, family="sum")
    return vgpo.analyze(
        *small, rows, layers="all", keep_maps=2, max_new_tokens=7, progress=False
    )


def values(view: View, name: str, answer: int = 0) -> np.ndarray:
    given = view.data["answers"][answer]
    table = given["table"]
    data = zlib.decompress(base64.b64decode(table["deflate"]))
    rows = np.frombuffer(data, np.float32).reshape(table["shape"])
    return rows[given["measures"].index(name)]


def test_scores_are_said_in_a_line(scores):
    line = repr(scores)
    assert len(line) < 140 and "\n" not in line
    assert f"{len(scores)} tokens" in line and "<think> red" in line
    assert f"{float(scores.shares[..., 0].mean()):.0%} on the image" in line
    assert repr(scores.seen) == "AnsweredImages(1 pictures, grids 2 x 3)"
    assert scores.text == ANSWER


def test_an_analysis_is_said_in_a_line(analysis):
    line = repr(analysis)
    assert len(line) < 140 and "\n" not in line
    assert "3 answers" in line and "layers 0, 1" in line and "maps of 2" in line
    assert len(analysis) == 3
    assert analysis.text[1] == "".join(analysis.per_token.loc[1]["token"]).replace(
        "<|im_end|>", ""
    )


def test_a_capture_is_said_in_a_line(small):
    with vgpo.capture_focus(small[0], completion_length=3) as capture:
        pass
    assert repr(capture) == "FocusCapture(0 passes, 0 rows)"


def test_a_notebook_gets_the_view_a_line_and_a_picture(scores, analysis):
    for found in (scores, analysis):
        bundle = found._repr_mimebundle_()
        assert bundle["text/html"] == found._repr_html_()
        assert "tokenView" in bundle["text/html"]
        assert bundle["text/plain"] == repr(found)
        png = base64.b64decode(bundle["image/png"])
        assert Image.open(io.BytesIO(png)).format == "PNG"


def test_the_view_holds_the_scores(scores):
    view = scores.view(columns={"advantage": torch.arange(len(scores))})
    [answer] = view.data["answers"]
    assert answer["tokens"] == scores.tokens
    assert answer["layers"] == [0, 1]
    assert answer["aligned"] and answer["fine"] == [[2, 3]]
    np.testing.assert_array_equal(values(view, "focus_token"), scores.focus_token)
    np.testing.assert_array_equal(values(view, "psi"), scores.psi)
    np.testing.assert_array_equal(values(view, "advantage"), np.arange(len(scores)))


def test_a_table_of_signals_is_taken_whole(small, scores):
    table = vgpo.signals(*small, PICTURE, "Add red ?", ANSWER)
    view = scores.view(columns=table)
    np.testing.assert_array_equal(values(view, "entropy"), table["entropy"])
    assert "token_id" not in view.data["answers"][0]["measures"]
    # Both were measured on one pass each; the same states give the same focus.
    np.testing.assert_allclose(
        values(view, "focus_token"), table["focus_token"], atol=1e-5
    )


def test_two_answers_stand_beside_each_other(small, scores):
    other = score(*small, PICTURE, "Add red ?", "red = 6")
    view = scores.view(other, names=("before", "after"))
    assert [answer["name"] for answer in view.data["answers"]] == ["before", "after"]
    assert view.data["beside"]
    with pytest.raises(ValueError, match="names: need one for each answer"):
        scores.view(other, names=["one"])
    with pytest.raises(ValueError, match="'words' holds no numbers"):
        scores.view(columns={"words": ["x"] * len(scores)})
    with pytest.raises(ValueError, match="advantage: need"):
        scores.view(columns={"advantage": [1.0]})


def test_answers_of_an_analysis_can_be_chosen(analysis):
    view = analysis.view()
    names = [answer["name"] for answer in view.data["answers"]]
    assert names[0].startswith("answer 0, ") and len(names) == 2
    assert ["answers", "3"] in view.data["facts"]
    # Answers without kept maps have their text and their shares all the same.
    [last] = analysis.view([2]).data["answers"]
    assert last["maps"] is None and last["shares"]["shape"][0] == 2
    with pytest.raises(ValueError, match="row: 7 was not analysed"):
        analysis.view([7])


def test_pages_are_saved(scores, analysis, tmp_path):
    for found, name in ((scores, "scores.html"), (analysis, "analysis.html")):
        text = found.to_html(tmp_path / name).read_text(encoding="utf-8")
        assert text.startswith("<!doctype html>") and "tokenView" in text


def test_figures_of_scores(scores, small):
    assert isinstance(scores.plot(), Figure)
    figure = scores.heatmap(4)
    assert figure.axes[0].get_title().startswith("4: 5")
    with pytest.raises(ValueError, match="t: the tokens are 1 to"):
        scores.heatmap(0)
    plain = score(*small, PICTURE, "Add red ?", "red = 5", layers=())
    assert len(plain.plot().axes) == 1
    with pytest.raises(ValueError, match="call score with layers"):
        plain.heatmap(1)


def test_figures_of_an_analysis(analysis):
    assert isinstance(analysis.plot(), Figure)
    assert isinstance(analysis.heatmap(2, row=1), Figure)


def test_one_answer_has_no_figure_of_length(small):
    rows = make_dataset(1, family="sum")
    one = vgpo.analyze(*small, rows, max_new_tokens=5, progress=False)
    assert "length" not in one.figures()
    assert one.view().data["facts"][0] == ["answers", "1"]


def test_it_opens_in_a_browser(browser, scores, analysis, tmp_path):
    page = browser.open(scores.to_html(tmp_path / "scores.html"))
    page.click('.vgpo-token[data-t="2"]')
    assert page.texts(".vgpo-which")[0].endswith(f"token 3 of {len(scores)}")
    shares = scores.shares.mean(dim=0)[2]
    shown = [float(text.split()[0]) for text in page.texts(".vgpo-parts b")]
    np.testing.assert_allclose(shown, 100 * shares, atol=0.6)
    page.check()
    page = browser.open(analysis.to_html(tmp_path / "analysis.html"))
    page.choose('[data-choice="answer"]', 1)
    assert page.texts("h4")[0].startswith("answer 1")
    page.check()
