"""The shipped models say what they can be asked."""

import warnings

import pytest
from PIL import Image

import vgpo
from vgpo.testbed import CHECKPOINT, FAMILIES, WORLDS, build_processor, load_tiny
from vgpo.testbed.forms import EXAMPLES, known_form


def conversation(question: str) -> list[dict]:
    picture = {"type": "image", "image": Image.new("RGB", (56, 56))}
    return [{"role": "user", "content": [picture, {"type": "text", "text": question}]}]


@pytest.mark.parametrize("world", EXAMPLES)
def test_every_question_of_a_world_is_of_a_known_form(world):
    for example in WORLDS[world].examples(60, FAMILIES, seed=3):
        assert known_form(example.question, world), example.question
    for question in EXAMPLES[world]:
        assert known_form(question, world), question


@pytest.mark.parametrize(
    "question",
    [
        "How many red tiles are in the picture?",
        "Total?",
        "total ?",
        "Add mauve ?",
        "Add red + ?",
        "Count even of red ?",
        "",
        "Total ?\nTotal ?",
    ],
)
def test_other_questions_are_not(question):
    assert not known_form(question, "misread")


def test_worlds_do_not_know_each_others_forms():
    assert known_form("Total ?", "misread")
    assert not known_form("Total ?", "look_away")
    assert known_form("Given red = 5 : Add red + blue ?", "look_away")
    assert not known_form("Given red = 5 : Add red + blue ?", "misread")


def test_the_shipped_model_warns_and_says_what_it_can_be_asked():
    model, processor = load_tiny()
    picture = Image.new("RGB", (56, 56))
    with pytest.warns(UserWarning, match="form that this tiny model") as caught:
        question = "How many red tiles are in the picture?"
        vgpo.score(model, processor, picture, question, max_new_tokens=4)
    [told] = [str(one.message) for one in caught if "tiny model" in str(one.message)]
    assert "How many red tiles" in told
    assert all(example in told for example in EXAMPLES["misread"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vgpo.score(model, processor, picture, "Total ?", max_new_tokens=4)


def test_what_training_asks_for_after_a_question_is_told_once(tmp_path):
    """A set of many questions would give as many warnings, all of one cause."""
    _, processor = load_tiny()
    asked = [conversation(f"{q}\nThink first.") for q in ("Total ?", "Count even ?")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        processor.apply_chat_template(asked)
    [told] = [str(one.message) for one in caught]
    assert told.startswith("suffix: ") and "suffix=''" in told
    assert "'Think first.'" in told


def test_tiles_that_the_processor_would_resize_are_told(tmp_path):
    asked = [conversation("Total ?"), conversation("Count even ?")]
    for limits in ({"min_pixels": 262_144}, {"max_pixels": 784}):
        _, processor = vgpo.analysis.load_model(CHECKPOINT, **limits)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            processor.apply_chat_template(asked)
        [told] = [str(one.message) for one in caught]
        assert "min_pixels to 784" in told and "babble" in told
    _, processor = vgpo.analysis.load_model(CHECKPOINT, min_pixels=784)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor.apply_chat_template(asked)
        bare = [{"role": "user", "content": [{"type": "image"}]}, *asked[0]]
        processor.apply_chat_template(bare)


def test_the_world_is_that_of_the_checkpoint():
    _, processor = load_tiny("look_away")
    with pytest.warns(UserWarning, match="Given red = 5 : Count even of"):
        processor.apply_chat_template(conversation("Total ?"))
    with pytest.warns(UserWarning, match="'Total'"):
        processor.apply_chat_template([{"role": "user", "content": "Total"}])


def test_several_conversations_and_turns_are_looked_at():
    _, processor = load_tiny()
    with pytest.warns(UserWarning, match="second"):
        processor.apply_chat_template([conversation("Total ?"), conversation("second")])
    answered = [
        *conversation("What?"),
        {"role": "assistant", "content": "5"},
        {"role": "user", "content": "Total ?"},
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor.apply_chat_template(answered)
        processor.apply_chat_template([{"role": "system", "content": "What?"}])


def test_a_processor_of_no_trained_model_is_silent(tmp_path):
    processor = build_processor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor.apply_chat_template(conversation("What?"))
    # That it warns is not written with it, so that older versions read it, too.
    load_tiny()[1].save_pretrained(tmp_path)
    written = "".join(path.read_text() for path in tmp_path.glob("*.json"))
    assert "_warns" not in written
