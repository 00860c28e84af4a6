"""A conversation and an answer as inputs: token types, special tokens, pictures."""

from io import BytesIO

import every_family
import numpy as np
import processors
import pytest
import torch
from every_family import HandMade, noise, prompt
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LogitsProcessor, PreTrainedTokenizerFast

import vgpo
from vgpo.models.handle import resolve
from vgpo.models.inputs import (
    prepare_inputs,
    read_pictures,
    special_token_ids,
    without_padding,
)
from vgpo.testbed import build_processor, build_tiny

PROCESSOR = build_processor()
TOKENIZER = PROCESSOR.tokenizer
COMPLETION = "red = 5 . blue = 8"
PICTURE = Image.effect_noise((84, 56), 80).convert("RGB")


def conversation(*pictures, text="red ?"):
    parts = [{"type": "image", "image": picture} for picture in pictures]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


@pytest.fixture(scope="module")
def model():
    return build_tiny(PROCESSOR, hidden_size=64, layers=2).eval()


# -- a completion is read as generation would have read it ------------------------


class Forced(LogitsProcessor):
    """Makes ``generate`` write given tokens."""

    def __init__(self, ids, start):
        self.ids, self.start = ids, start

    def __call__(self, input_ids, scores):
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.ids[input_ids.shape[1] - self.start]] = 0
        return forced


def forced_generation(model, inputs, completion_ids):
    """(1, L, D) last hidden states of a generation that writes the completion, and
    the last layer's attention rows, (T - 1, L) each padded with zeros."""
    start = inputs["input_ids"].shape[1]
    model.set_attn_implementation("eager")
    # The last token is fed back too where one more is written.
    ids = [*completion_ids, completion_ids[-1]]
    with torch.no_grad():
        out = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=len(ids),
            min_new_tokens=len(ids),
            logits_processor=[Forced(ids, start)],
            output_hidden_states=True,
            output_attentions=True,
            return_dict_in_generate=True,
        )
    states = torch.cat([step[-1] for step in out.hidden_states], dim=1)
    rows = [step[-1][0].mean(dim=0)[-1] for step in out.attentions]
    return states, rows


@pytest.mark.parametrize("family", ["paligemma", "llava"])
def test_scores_and_shares_are_those_of_forced_generation(family):
    """PaliGemma tells by token type what is prefix, whose tokens see each other."""
    model = every_family.build(family)
    inputs = prompt(16, pixel_values=noise(1, 3, 56, 56))
    if family == "paligemma":
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    ids = TOKENIZER(COMPLETION)["input_ids"]
    states, rows = forced_generation(model, inputs, ids)
    given = dict(inputs)
    if family == "paligemma":
        given["labels"] = inputs["input_ids"]  # as its processor returns them
    processor = HandMade(given, TOKENIZER)
    messages = conversation(PICTURE)

    scores = vgpo.score(model, processor, messages, COMPLETION)
    whole = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
    expected = every_family.reference_focus(
        states[:, : whole.shape[1]], whole, len(ids)
    )
    torch.testing.assert_close(scores.focus.double(), expected, atol=1e-5, rtol=0)

    found = vgpo.analyze(model, processor, messages, [COMPLETION], progress=False)
    prompt_length = inputs["input_ids"].shape[1]
    special = special_token_ids(TOKENIZER)
    kept = torch.tensor([int(i) not in special for i in inputs["input_ids"][0]])
    is_image = inputs["input_ids"][0] == every_family.IMAGE
    for t, row in enumerate(rows[: len(ids)]):
        image = row[:prompt_length][is_image].sum()
        text = row[:prompt_length][kept & ~is_image].sum() + row[prompt_length:].sum()
        share = float(image / (image + text))
        assert found.tokens["image"][t] == pytest.approx(share, abs=1e-5)


def test_what_only_training_needs_is_left_out():
    model = every_family.build("paligemma")
    inputs = prompt(16, pixel_values=noise(1, 3, 56, 56))
    inputs |= {
        "token_type_ids": torch.zeros_like(inputs["input_ids"]),
        "labels": inputs["input_ids"],
    }
    prepared, ids = prepare_inputs(
        model, HandMade(inputs, TOKENIZER), conversation(PICTURE), COMPLETION
    )
    assert "labels" not in prepared
    types = prepared["token_type_ids"][0]
    assert types.tolist() == [0] * inputs["input_ids"].shape[1] + [1] * len(ids)
    with torch.no_grad():
        model(**prepared)


def test_a_score_needs_no_grid(monkeypatch):
    """VideoLLaMA 3 and HunYuan-VL keep their sizes in forms of their own."""

    def broken(*_):
        raise AssertionError("a score asked for grids")

    video = every_family.build("video_llama_3")
    inputs = prompt(
        6,
        pixel_values=noise(6, 3 * 14 * 14),
        image_grid_thw=torch.tensor([[1, 2, 3]]),
        image_merge_sizes=torch.tensor([1]),
    )
    monkeypatch.setattr("vgpo.models.inputs.image_token_grids", broken)
    processor = HandMade(inputs, TOKENIZER)
    assert len(vgpo.score(video, processor, conversation(PICTURE), COMPLETION)) == 7


# -- special tokens ---------------------------------------------------------------


def tokenizer_with_turns():
    """As Gemma 3's and Llama 3's: marks of turns are special and have no role."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
    )
    core.pre_tokenizer = pre_tokenizers.ByteLevel()
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(
        [AddedToken("<bos>", special=True), AddedToken("<turn>", special=True)]
    )
    core.add_tokens([AddedToken("<think>", special=False)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>")


def test_special_is_what_decoding_without_special_tokens_drops():
    tokenizer = tokenizer_with_turns()
    bos, turn, think = tokenizer.convert_tokens_to_ids(["<bos>", "<turn>", "<think>"])
    assert turn not in tokenizer.all_special_ids  # what makes the rule necessary
    assert special_token_ids(tokenizer) == {bos, turn}
    for token_id in (bos, turn, think, 40):
        dropped = tokenizer.decode([token_id], skip_special_tokens=True) == ""
        assert (token_id in special_token_ids(tokenizer)) is dropped


def test_marks_of_turns_are_not_counted_as_the_question():
    tokenizer = tokenizer_with_turns()
    turn = tokenizer.convert_tokens_to_ids("<turn>")
    model = every_family.build("llava")
    # Even attention: shares are numbers of tokens.
    for name, parameter in model.named_parameters():
        if "language_model" in name and "q_proj" in name:
            torch.nn.init.zeros_(parameter)
    inputs = prompt(16, pixel_values=noise(1, 3, 56, 56))
    inputs["input_ids"][0, [0, -2]] = turn
    found = vgpo.analyze(
        model,
        HandMade(inputs, tokenizer),
        conversation(PICTURE),
        ["y"],
        progress=False,
    ).tokens
    assert found["special"][0] == pytest.approx(2 / 23, abs=1e-6)
    assert found["query"][0] == pytest.approx(5 / 21, abs=1e-6)


# -- generation -------------------------------------------------------------------


@pytest.mark.parametrize(
    "leftover",
    [
        {"return_dict_in_generate": True},
        {"return_dict_in_generate": True, "output_scores": True},
        {"num_beams": 3},
        {"num_beams": 2, "num_return_sequences": 2},
        {"do_sample": True, "temperature": 5.0, "top_k": 3},
        {"use_cache": False},
    ],
)
def test_leftovers_of_a_generation_config_change_nothing(leftover):
    model = build_tiny(PROCESSOR, hidden_size=64, layers=2).eval()
    plain = vgpo.score(model, PROCESSOR, conversation(PICTURE), max_new_tokens=6)
    for name, value in leftover.items():
        setattr(model.generation_config, name, value)
    again = vgpo.score(model, PROCESSOR, conversation(PICTURE), max_new_tokens=6)
    assert torch.equal(again.token_ids, plain.token_ids)
    assert torch.equal(again.focus, plain.focus)


def test_no_place_of_a_feature_is_written():
    model = build_tiny(PROCESSOR, hidden_size=64, layers=1).eval()
    places = resolve(model).placeholder_ids
    first = int(vgpo.score(model, PROCESSOR, conversation(PICTURE)).token_ids[0])
    model.generation_config.suppress_tokens = [first]
    written = vgpo.score(model, PROCESSOR, conversation(PICTURE), max_new_tokens=8)
    assert first not in written.token_ids.tolist()  # the model's own list stays
    assert places.isdisjoint(written.token_ids.tolist())


# -- padding that nobody asked for -------------------------------------------------


def test_padding_of_a_processor_that_always_pads_is_cut_off():
    processor = processors.processor_of("aya_vision")
    asked = [conversation(PICTURE), conversation(PICTURE, text="a longer question ?")]
    alone = [
        processor.apply_chat_template([one], tokenize=True, return_dict=True)
        for one in asked
    ]
    padded = processor.apply_chat_template(asked, tokenize=True, return_dict=True)
    pad = processor.tokenizer.pad_token_id
    assert padded["input_ids"][0][0] == pad  # what makes the rule necessary
    tensors = {
        "input_ids": torch.tensor(padded["input_ids"]),
        "attention_mask": torch.tensor(padded["attention_mask"]),
    }
    ids, fields = without_padding(tensors | {"rest": [1]})
    assert ids == [one["input_ids"][0] for one in alone]
    assert fields == {"rest": [1]}


def test_padding_is_what_the_mask_says_and_not_what_looks_like_it():
    # The padding token begins many a prompt: it is also the one that begins a text.
    encoded = {
        "input_ids": torch.tensor([[0, 0, 5, 0, 6], [5, 0, 6, 0, 0], [0, 0, 0, 0, 0]]),
        "attention_mask": torch.tensor(
            [[0, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
        ),
        "token_type_ids": torch.arange(15).view(3, 5),
        "pixel_values": torch.zeros(3, 5),
    }
    ids, fields = without_padding(encoded)
    assert ids == [[0, 5, 0, 6], [5, 0, 6], []]
    assert fields["token_type_ids"] == [[1, 2, 3, 4], [5, 6, 7], []]
    assert fields["pixel_values"] is encoded["pixel_values"]
    assert "attention_mask" in encoded  # what is given is left as it was


# -- pictures ---------------------------------------------------------------------


def focus(model, picture):
    return vgpo.score(model, PROCESSOR, conversation(picture), COMPLETION).focus


def test_a_deep_picture_is_no_white_picture(model):
    ramp = np.linspace(0, 255, 84).astype(np.uint8)[None].repeat(56, axis=0)
    plain = focus(model, Image.fromarray(ramp).convert("RGB"))
    white = focus(model, Image.new("RGB", (84, 56), "white"))
    assert (plain - white).abs().max() > 1e-4
    forms = [
        Image.fromarray(ramp.astype(np.uint16) * 257),
        Image.fromarray(ramp.astype(np.int32) * 257),
        Image.fromarray(ramp.astype(np.float32) / 255),
        Image.fromarray(ramp),
    ]
    for picture in forms:
        assert torch.equal(focus(model, picture), plain), picture.mode


def test_a_turned_photograph_is_seen_and_drawn_upright(model):
    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = PICTURE.transpose(Image.Transpose.ROTATE_90)
    stored.save(file, "PNG", exif=exif)
    turned = Image.open(file)
    assert turned.size == (56, 84)
    assert torch.equal(focus(model, turned), focus(model, PICTURE))
    found = vgpo.analyze(
        model, PROCESSOR, conversation(turned), ["red"], progress=False
    )
    assert found.kept[0].images[0].size == (84, 56)
    assert found.kept[0].maps[0].shape == (1, 2, 3)


def test_pictures_may_be_files_and_their_bytes(model, tmp_path):
    path = tmp_path / "a.png"
    PICTURE.save(path)
    expected = focus(model, PICTURE)
    undecoded = {"bytes": path.read_bytes(), "path": None}
    for form in (path, str(path), path.read_bytes(), undecoded):
        assert torch.equal(focus(model, form), expected)
    row = {
        "prompt": [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": "?"}],
            }
        ],
        "images": [undecoded],
    }
    found = vgpo.analyze(model, PROCESSOR, [row], ["red"], progress=False)
    assert len(found.kept[0].images) == 1


def test_the_given_conversation_is_left_as_it_was():
    deep = Image.new("I;16", (4, 4))
    messages = conversation(deep)
    assert read_pictures(messages)[0]["content"][0]["image"].mode == "RGB"
    assert messages[0]["content"][0]["image"] is deep


# -- clear errors -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"role": "assistant", "content": None}, "content of turn 1 .*None"),
        ({"role": "assistant", "tool_calls": []}, "turn 1 needs 'role' and 'content'"),
        ({"content": "red"}, "turn 1 needs 'role' and 'content'"),
        ({"role": "user", "content": 3}, "content of turn 1 .*3"),
        ({"role": "user", "content": ["red"]}, "content of turn 1 .*red"),
        ({"role": "user", "content": [{"text": "red"}]}, "content of turn 1"),
    ],
)
def test_a_turn_that_is_none_is_named(model, turn, message):
    messages = [*conversation(PICTURE), turn]
    row = {"prompt": messages}
    asked = [
        lambda: vgpo.score(model, PROCESSOR, messages, "red"),
        lambda: vgpo.analyze(model, PROCESSOR, messages, ["red"], progress=False),
        lambda: vgpo.analyze(model, PROCESSOR, [row], ["red"], progress=False),
    ]
    for ask in asked:
        with pytest.raises(ValueError, match=f"messages: .*{message}"):
            ask()


@pytest.mark.parametrize("source", [{}, {"image": None}])
def test_an_image_without_its_picture_is_refused(model, source):
    # As rows of a data set have it, whose pictures stand in a column of their own.
    messages = conversation()
    messages[0]["content"].insert(0, {"type": "image", **source})
    with pytest.raises(ValueError, match="messages: an image without its picture"):
        vgpo.score(model, PROCESSOR, messages, "red")


@pytest.mark.parametrize("other", [None, "Qwen/Qwen2.5-VL-7B-Instruct", (1, 2)])
def test_what_is_no_model_and_no_processor_is_named(model, other, tmp_path):
    kind = type(other).__name__
    row = {"prompt": conversation(PICTURE), "answer": "5"}
    ways = {
        "score": lambda *pair: vgpo.score(*pair, conversation(PICTURE), "red"),
        "analyze": lambda *pair: vgpo.analyze(*pair, [row], ["red"], progress=False),
        "signals": lambda *pair: vgpo.signals(*pair, conversation(PICTURE), "red"),
        "evaluate": lambda *pair: vgpo.evaluate(*pair, "testbed", limit=1),
    }
    for name, way in ways.items():
        with pytest.raises(ValueError, match=f"^processor: must be .*got {kind};"):
            way(model, other)
        if name == "evaluate" and other is None:
            continue  # without a model another backend answers
        with pytest.raises(ValueError, match=f"^model: must be .*got {kind};"):
            way(other, PROCESSOR)


def test_processor_before_model_is_refused(model):
    with pytest.raises(ValueError, match=r"^model: must be .*got TestbedProcessor"):
        vgpo.score(PROCESSOR, model, conversation(PICTURE), "red")


def test_a_model_without_its_head_scores_and_does_not_answer(model):
    headless = model.model
    whole = vgpo.score(model, PROCESSOR, conversation(PICTURE), "red")
    scores = vgpo.score(headless, PROCESSOR, conversation(PICTURE), "red")
    assert torch.equal(scores.focus_token, whole.focus_token)
    with pytest.raises(ValueError, match=r"^model: Qwen2_5_VLModel has no head"):
        vgpo.score(headless, PROCESSOR, conversation(PICTURE))


@pytest.mark.parametrize("completion", [42, 4.2, ["red"], {"red": 5}])
def test_a_completion_that_is_none_is_named(model, completion):
    with pytest.raises(ValueError, match="completion: must be a text or a list of"):
        vgpo.score(model, PROCESSOR, conversation(PICTURE), completion)


def test_one_text_for_all_completions_or_answers_is_refused(model):
    for name in ("completions", "answers"):
        with pytest.raises(ValueError, match=rf"{name}: must be a list.*\['red'\]"):
            vgpo.analyze(
                model, PROCESSOR, conversation(PICTURE), **{name: "red"}, progress=False
            )


@pytest.mark.parametrize("ids", [[5, 10**6], [-1, 5]])
def test_ids_of_another_tokenizer_are_refused(model, ids):
    with pytest.raises(ValueError, match=r"^completion: token ids must lie in 0"):
        vgpo.score(model, PROCESSOR, conversation(PICTURE), ids)


def test_ids_may_come_as_a_tensor_or_an_array(model):
    ids = TOKENIZER(COMPLETION, return_tensors="pt")["input_ids"][0]
    for given in (ids, ids.numpy()):
        scores = vgpo.score(model, PROCESSOR, conversation(PICTURE), given)
        assert torch.equal(scores.token_ids, ids)


def test_a_data_set_names_the_row_with_a_bad_picture(model):
    rows = [
        {"prompt": conversation(PICTURE)},
        {"prompt": conversation(Image.fromarray(np.full((2, 2), -1.0, np.float32)))},
    ]
    with pytest.raises(ValueError, match="conversation 1: image: mode F"):
        vgpo.analyze(model, PROCESSOR, rows, ["red", "red"], progress=False)
