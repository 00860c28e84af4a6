"""`vgpo.score` on the small world's processor and an untrained model."""

import families
import numpy as np
import pytest
import torch
from PIL import Image

from vgpo.analysis import analyze
from vgpo.analysis.scoring import score
from vgpo.analysis.signals import signals
from vgpo.method.compensation import compensate, visual_gate
from vgpo.models import attention
from vgpo.models.attention import UnsupportedAttention
from vgpo.models.inputs import prepare_inputs, token_texts
from vgpo.testbed import build_processor, build_tiny

PICTURE = Image.effect_noise((84, 56), 80).convert("RGB")
QUESTION = {"type": "text", "text": "red + blue ?"}
MESSAGES = [
    {"role": "user", "content": [{"type": "image", "image": PICTURE}, QUESTION]}
]
COMPLETION = "<think> red = 5 . blue = 8 . 5 + 8 = 13 </think> \\boxed{13}"


@pytest.fixture(scope="module")
def processor():
    return build_processor()


@pytest.fixture(scope="module")
def model(processor):
    return build_tiny(processor, hidden_size=64, layers=2).eval()


@pytest.mark.parametrize("alignment", ["token", "prediction"])
def test_scores_are_those_of_the_whole_conversation(model, processor, alignment):
    scores = score(model, processor, MESSAGES, COMPLETION, alignment=alignment)

    text = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    inputs = processor(text=text + COMPLETION, images=PICTURE, return_tensors="pt")
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states[-1][0]
    states = states.double()
    ids = inputs["input_ids"][0]
    prototype = states[ids == model.config.image_token_id].mean(dim=0)
    length = len(scores)
    shift = 0 if alignment == "token" else 1
    chosen = states[len(ids) - length - shift : len(ids) - shift]
    cosine = torch.nn.functional.cosine_similarity(chosen, prototype[None])

    assert scores.alignment == alignment
    assert torch.equal(scores.token_ids, ids[-length:])
    assert "".join(scores.tokens) == COMPLETION
    torch.testing.assert_close(
        scores.focus.double(), (cosine + 1) / 2, atol=1e-6, rtol=0
    )


def test_characters_of_several_tokens_stand_at_the_last(model, processor):
    text = "∠ABC = 60° é 角 🙂."
    scores = score(model, processor, MESSAGES, text)
    assert "".join(scores.tokens) == text
    assert len(scores.tokens) == len(scores.focus) > len(text)
    assert scores.tokens[:4] == ["", "", "∠", "A"]


def test_bytes_that_are_no_character_do_not_hide_what_follows(processor):
    tokenizer = processor.tokenizer
    smile, word = tokenizer("🙂").input_ids, tokenizer("red").input_ids
    half, whole = smile[:2], ["", "", "", "🙂"]
    unknown = "\ufffd"
    assert token_texts(tokenizer, smile + word) == [*whole, "red"]
    assert token_texts(tokenizer, half) == [unknown] * 2
    assert token_texts(tokenizer, half * 3) == [unknown] * 6
    assert token_texts(tokenizer, half + smile) == [unknown] * 2 + whole
    angle = tokenizer("∠").input_ids
    assert token_texts(tokenizer, half[:1] + angle) == [unknown, "", "", "∠"]
    assert token_texts(tokenizer, half + word) == [unknown] * 2 + ["red"]
    assert token_texts(tokenizer, half + half[:1] + word)[-1] == "red"
    assert token_texts(tokenizer, []) == []


def test_gate_and_weights_follow_the_options(model, processor):
    options = {"tail_ratio": 0.8, "top_ratio": 0.5}
    scores = score(
        model,
        processor,
        MESSAGES,
        COMPLETION,
        strength=0.7,
        schedule="exponential",
        **options,
    )
    mask = torch.ones(1, len(scores), dtype=torch.bool)
    focus = scores.focus[None]
    assert torch.equal(scores.gate, visual_gate(focus, mask, **options)[0].bool())
    weights = compensate(focus, mask, strength=0.7, schedule="exponential", **options)
    assert torch.equal(scores.weights, weights[0])
    assert scores.gate.any()
    assert (scores.weights[scores.gate] > scores.focus[scores.gate]).all()


def test_frame_has_one_row_per_token(model, processor):
    scores = score(model, processor, MESSAGES, COMPLETION)
    frame = scores.to_frame()
    assert list(frame.columns) == [
        "position",
        "token",
        "token_id",
        "focus",
        "focus_token",
        "focus_prediction",
        "gate",
        "weight",
        "psi",
        "image",
        "query",
        "generated",
    ]
    assert frame["position"].tolist() == list(range(1, len(scores) + 1))
    assert frame["gate"].dtype == bool
    assert frame["focus"].between(0, 1).all()
    shares = frame[["image", "query", "generated"]]
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert frame["psi"].sum() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("alignment", ["token", "prediction"])
def test_both_alignments_are_one_place_apart_and_one_of_them_is_weighted(
    model, processor, alignment
):
    scores = score(model, processor, MESSAGES, COMPLETION, alignment=alignment)
    frame = scores.to_frame()
    torch.testing.assert_close(scores.focus_token[:-1], scores.focus_prediction[1:])
    assert not torch.allclose(scores.focus_token, scores.focus_prediction)
    assert frame["focus"].equals(frame[f"focus_{alignment}"])
    closed = ~frame["gate"]
    assert (frame["weight"] == frame["focus"])[closed].all()


def test_attention_is_that_of_analyze_on_the_same_tokens(model, processor):
    layers = [0, 1]
    frame = score(model, processor, MESSAGES, COMPLETION, layers=layers).to_frame()
    found = analyze(model, processor, [MESSAGES], [COMPLETION], layers=layers)
    kinds = ["image", "query", "generated"]
    there = found.per_token.loc[0][kinds]
    np.testing.assert_allclose(frame[kinds], there, atol=1e-6)
    assert frame["token"].tolist() == found.per_token.loc[0]["token"].tolist()


def test_maps_add_up_to_the_share_of_each_layer(model, processor):
    scores = score(model, processor, MESSAGES, COMPLETION, layers="all")
    [maps], [mean] = scores.seen.layer_maps, scores.seen.maps
    assert maps.shape == (2, len(scores), 2, 3)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), scores.shares[..., 0])
    torch.testing.assert_close(maps.mean(dim=0), mean)
    assert score(model, processor, MESSAGES, COMPLETION).seen.layer_maps == []


def test_reading_attention_does_not_change_focus(model, processor):
    with_it = score(model, processor, MESSAGES, COMPLETION)
    without = score(model, processor, MESSAGES, COMPLETION, layers=())
    torch.testing.assert_close(with_it.focus_token, without.focus_token)
    assert without.shares is None and "image" not in without.to_frame()


def test_a_picture_and_a_question_are_a_conversation(model, processor, tmp_path):
    whole = score(model, processor, MESSAGES, COMPLETION)
    PICTURE.save(tmp_path / "picture.png")
    question = QUESTION["text"]
    for picture in (PICTURE, tmp_path / "picture.png", str(tmp_path / "picture.png"),
                    (tmp_path / "picture.png").read_bytes(), [PICTURE]):  # fmt: skip
        short = score(model, processor, picture, question, COMPLETION)
        assert torch.equal(short.focus_token, whole.focus_token)
    named = score(model, processor, PICTURE, question, completion=COMPLETION)
    assert torch.equal(named.weights, whole.weights)
    two = score(model, processor, [PICTURE, PICTURE], question, COMPLETION)
    assert len(two.seen.images) == len(two.seen.maps) == 2
    written = score(model, processor, PICTURE, question, max_new_tokens=3)
    assert 1 <= len(written) <= 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((PICTURE,), "needs a question"),
        ((PICTURE, [1, 2]), "needs a question"),
        ((PICTURE, "Add red ?", "5", "6"), "one answer is scored"),
        ((MESSAGES, "5", "6"), "one answer is scored"),
        (("no/such.png", "Add red ?"), "there is no picture"),
        (("https://example.com/x.png", "Add red ?"), "not downloaded"),
        ((np.zeros((56, 56, 3), np.uint8), "Add red ?"), "ndarray; PIL.Image.fromarra"),
        ((torch.zeros(3, 56, 56), "Add red ?"), "got Tensor"),
        (([PICTURE, torch.zeros(3, 56, 56)], "Add red ?"), "got Tensor"),
        ((None, "Add red ?"), "or a picture .*got NoneType"),
        ((MESSAGES[0],), "this is one turn; .* a list"),
    ],
)
def test_what_is_asked_in_another_form_is_refused(model, processor, given, message):
    with pytest.raises(ValueError, match=message):
        score(model, processor, *given)


@pytest.mark.parametrize("where", ["image", "url", "path"])
@pytest.mark.parametrize("ask", [score, analyze, signals])
def test_an_address_in_a_chat_is_refused_as_it_is_alone(model, processor, ask, where):
    part = {"type": "image", where: "https://example.com/x.png"}
    chat = [{"role": "user", "content": [part, QUESTION]}]
    with pytest.raises(ValueError, match=r"not downloaded.* open it yourself"):
        ask(model, processor, chat)


def test_two_answers_are_refused(model, processor):
    with pytest.raises(ValueError, match="one answer is scored"):
        score(model, processor, MESSAGES, "5", completion="6")


def test_a_layer_that_is_not_there_is_refused(model, processor):
    for layers in (-1, None, "last"):
        with pytest.raises(ValueError, match="layers: must be a list of indices or 'a"):
            score(model, processor, MESSAGES, COMPLETION, layers=layers)
    with pytest.raises(ValueError, match="layers: must be indices"):
        score(model, processor, MESSAGES, COMPLETION, layers=[9])


def test_attention_that_cannot_be_read_is_left_out_with_a_warning(
    model, processor, monkeypatch
):
    whole = score(model, processor, MESSAGES, COMPLETION)

    def refuse(*args, **kwargs):
        raise UnsupportedAttention("model: attention with s_aux is not supported.")

    monkeypatch.setattr(attention, "attention_rows", refuse)
    with pytest.warns(UserWarning, match="attention: left out. model: .* s_aux"):
        scores = score(model, processor, MESSAGES, COMPLETION)
    assert scores.shares is None
    torch.testing.assert_close(scores.focus_token, whole.focus_token)


def test_the_model_answers_where_no_completion_is_given(model, processor):
    scores = score(model, processor, MESSAGES, max_new_tokens=4)
    inputs, _ = prepare_inputs(model, processor, MESSAGES, "x")
    prompt = {key: inputs[key] for key in ("pixel_values", "image_grid_thw")} | {
        key: inputs[key][:, :-1]
        for key in ("input_ids", "attention_mask", "mm_token_type_ids")
    }
    answer = model.generate(**prompt, do_sample=False, max_new_tokens=4)
    length = len(scores)
    assert 1 <= length <= 4
    assert torch.equal(scores.token_ids, answer[0, -length:])


def test_two_images_in_two_turns(model, processor):
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": "13"},
        {"role": "user", "content": [QUESTION, {"type": "image", "image": PICTURE}]},
    ]
    inputs, completion_ids = prepare_inputs(model, processor, messages, COMPLETION)
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == 12
    shape = inputs["input_ids"].shape
    assert inputs["attention_mask"].shape == inputs["mm_token_type_ids"].shape == shape
    assert not inputs["mm_token_type_ids"][0, -len(completion_ids) :].any()
    assert len(score(model, processor, messages, COMPLETION)) == len(completion_ids)


def test_the_models_mode_is_put_back(processor):
    model = build_tiny(processor, hidden_size=64, layers=2).train()
    model.lm_head.eval()
    score(model, processor, MESSAGES, COMPLETION)
    assert model.training and model.model.training and not model.lm_head.training


def test_no_image_is_refused(model, processor):
    for content in ("red + blue ?", [QUESTION]):
        with pytest.raises(ValueError, match="no image"):
            score(model, processor, [{"role": "user", "content": content}], "x")


def test_bad_messages_are_refused(model, processor):
    for messages in ([], [MESSAGES]):
        with pytest.raises(ValueError, match="one conversation"):
            score(model, processor, messages, "x")


def test_an_empty_completion_is_refused(model, processor):
    with pytest.raises(ValueError, match="no token to score"):
        score(model, processor, MESSAGES, "")


def test_an_image_token_in_the_completion_is_refused(model, processor):
    with pytest.raises(ValueError, match="contains the image token"):
        score(model, processor, MESSAGES, "a <|image_pad|>")


def test_a_tokenizer_in_place_of_the_processor_is_refused(model, processor):
    with pytest.raises(ValueError, match="this is a tokenizer"):
        score(model, processor.tokenizer, MESSAGES, "x")


def test_another_models_processor_is_refused(processor):
    other = families.build("qwen2_5_vl")
    with pytest.raises(ValueError, match="holds no image token"):
        score(other, processor, MESSAGES, COMPLETION)


@pytest.mark.parametrize("completion", [COMPLETION, None])
def test_features_that_do_not_fit_the_tokens_name_the_processor(model, completion):
    processor = build_processor()
    processor.image_processor.merge_size = 1  # the model merges 2 x 2 patches
    with pytest.raises(ValueError, match="processor: it wrote another number"):
        score(model, processor, MESSAGES, completion)
