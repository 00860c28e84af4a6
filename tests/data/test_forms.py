"""Questions in the forms that people keep them in."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from PIL import Image

from vgpo.data import load_questions, splits
from vgpo.data.forms import Columns, find_columns, mark_pictures, read_row, with_choices

NOISE = np.random.default_rng(0).integers(0, 255, (56, 84, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE)


def png(image=PICTURE):
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def said(row):
    return "".join(p["text"] or f"<{p['type']}>" for p in row["prompt"][0]["content"])


def one(**row):
    return load_questions([{"answer": "3", **row}], suffix="").rows[0]


# -- columns ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["problem", "question", "query"])
@pytest.mark.parametrize("images", ["image", "images", "decoded_image"])
def test_columns_go_by_their_usual_names(name, images):
    row = one(**{name: "How many?", images: PICTURE})
    assert said(row) == "<image>How many?"
    assert np.array_equal(np.asarray(row["images"][0]), NOISE)


def test_the_decoded_picture_goes_before_its_path():
    names = ["id", "question", "image", "decoded_image", "answer", "solution"]
    found = find_columns(names)
    assert (found.images, found.answer) == ("decoded_image", "answer")


def test_a_question_goes_before_a_conversation_unless_that_is_named():
    names = ["messages", "problem", "answer"]
    assert find_columns(names).messages is None
    chosen = find_columns(names, messages="messages")
    assert (chosen.question, chosen.messages) == (None, "messages")


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="no column of a question among a, b"):
        find_columns(["a", "b"])
    with pytest.raises(ValueError, match="no column of an answer among question"):
        find_columns(["question"])
    with pytest.raises(ValueError, match="no column 'x', only question, answer"):
        find_columns(["question", "answer"], images="x")
    with pytest.raises(ValueError, match="columns: imgs is none of question"):
        load_questions([{"question": "?", "answer": "1"}], columns={"imgs": "x"})


# -- pictures -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        PICTURE,
        [PICTURE],
        png(),
        {"bytes": png(), "path": None},
        io.BytesIO(png()),
        base64.b64encode(png()).decode(),
        "data:image/png;base64," + base64.b64encode(png()).decode(),
    ],
    ids=["PIL", "list", "bytes", "dict", "file", "base64", "data address"],
)
def test_a_picture_of_any_kind(value):
    row = one(question="?", images=value)
    assert np.array_equal(np.asarray(row["images"][0]), NOISE)


def test_kinds_of_pictures_may_be_mixed(tmp_path):
    path = tmp_path / "1.png"
    path.write_bytes(png())
    values = [PICTURE, png(), str(path), path, None, []]
    rows = [{"question": "?", "answer": 1, "images": value} for value in values]
    found = load_questions(rows)
    assert [len(row["images"]) for row in found.rows] == [1, 1, 1, 1, 0, 0]


def test_an_address_is_refused_with_its_reason():
    rows = [{"question": "?", "answer": "1", "image": "https://a.b/c.png"}]
    rows.append({"question": "?", "answer": "1", "image": PICTURE})
    found = load_questions(rows)
    assert found.numbers == (1,)
    assert "not downloaded; fetch it" in found.left_out[0].reason


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "json", "saved"])
def test_a_file_of_any_kind_with_paths_relative_to_it(kind, tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1.png").write_bytes(png())
    rows = Dataset.from_dict(
        {"query": ["How many?"], "answer": ["3"], "image": ["set/1.png"]}
    )
    file = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        rows.to_parquet(file)
    elif kind == "csv":
        rows.to_csv(file)
    elif kind == "jsonl":
        rows.to_json(file)
    elif kind == "json":
        file.write_text(json.dumps(rows.to_list()))
    else:
        rows.save_to_disk(file)
        (file / "set").mkdir()
        (file / "set" / "1.png").write_bytes(png())
    monkeypatch.chdir(tmp_path.parent)
    found = load_questions(file, suffix="")
    assert said(found.rows[0]) == "<image>How many?"
    assert found.rows[0]["images"][0].size == (84, 56)


def test_a_folder_of_pictures_with_its_metadata(tmp_path):
    folder = tmp_path / "set" / "test"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(png())
    line = {"file_name": "1.png", "question": "How many?", "answer": "3"}
    (folder / "metadata.jsonl").write_text(json.dumps(line))
    found = load_questions(tmp_path / "set", suffix="")
    assert said(found.rows[0]) == "<image>How many?"
    assert np.array_equal(np.asarray(found.rows[0]["images"][0]), NOISE)


# -- splits -------------------------------------------------------------------------


def test_of_several_splits_one_has_to_be_named(tmp_path):
    for split, answer in (("train", "1"), ("test", "2")):
        rows = Dataset.from_dict({"question": ["?"], "answer": [answer]})
        rows.to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"has splits .*say which one as split"):
        load_questions(tmp_path)
    assert load_questions(tmp_path, "test").rows[0]["answer"] == "2"
    with pytest.raises(ValueError, match="validation"):
        load_questions(tmp_path, "validation")


def test_a_file_has_one_split_and_no_other(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "?", "answer": "1"}\n')
    assert len(load_questions(file)) == 1
    with pytest.raises(ValueError, match="test"):
        load_questions(file, "test")


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_a_damaged_file_is_told_and_no_other_error(kind, tmp_path):
    file = tmp_path / f"rows.{kind}"
    file.write_bytes(b"\x89 nothing {")
    with pytest.raises(ValueError, match=r"cannot be (loaded|read)|no column"):
        load_questions(file)


def test_what_is_nowhere_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="no file, no folder"):
        load_questions(tmp_path / "nowhere")


# -- conversations ------------------------------------------------------------------


@pytest.mark.parametrize(
    "turns",
    [
        [
            {"role": "user", "content": "<image>How many?"},
            {"role": "assistant", "content": "3"},
        ],
        [
            {"from": "human", "value": "<image>How many?"},
            {"from": "gpt", "value": "3"},
        ],
    ],
    ids=["messages", "ShareGPT"],
)
@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_a_conversation_is_a_question_and_its_answer(turns, name):
    rows = [{name: turns, "images": [PICTURE]}]
    row = load_questions(rows, suffix="").rows[0]
    assert said(row) == "<image>How many?" and row["answer"] == "3"


PARTS = {
    "Qwen": {"type": "image", "image": "1.png"},
    "OpenAI": {"type": "image_url", "image_url": {"url": "1.png"}},
    "data address": {
        "type": "image_url",
        "image_url": {
            "url": "data:image/png;base64," + base64.b64encode(png()).decode()
        },
    },
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("printed", [False, True])
def test_a_conversation_may_hold_its_pictures(part, printed, tmp_path):
    """In a file, beside conversations in which everything is text."""
    (tmp_path / "1.png").write_bytes(png())
    asked = {"role": "user", "content": [part, {"type": "text", "text": "How many?"}]}
    plain = {"role": "user", "content": "2 + 3?"}
    rows = [[one, {"role": "assistant", "content": "5"}] for one in (asked, plain)]
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "\n".join(
            json.dumps({"messages": json.dumps(turns) if printed else turns})
            for turns in rows
        )
    )
    found = load_questions(file, suffix="").rows
    assert [said(row) for row in found] == ["<image>How many?", "2 + 3?"]
    assert [row["answer"] for row in found] == ["5", "5"]
    assert np.array_equal(np.asarray(found[0]["images"][0]), NOISE)


def test_a_conversation_in_memory_may_hold_a_picture_itself():
    for picture in (PICTURE, png()):
        part = {"type": "image", "image": picture}
        turns = [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}]
        turns.append({"role": "assistant", "content": "5"})
        [row] = load_questions([{"messages": turns}], suffix="").rows
        assert said(row) == "<image>?"
        assert np.array_equal(np.asarray(row["images"][0]), NOISE)


def test_an_address_in_a_conversation_is_refused():
    part = {"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}
    turns = [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}]
    turns.append({"role": "assistant", "content": "5"})
    with pytest.raises(ValueError, match="not downloaded; fetch it"):
        load_questions([{"messages": turns}])


def test_a_prompt_of_trl_is_asked_as_it_is():
    parts = [{"type": "image", "text": ""}, {"type": "text", "text": "How many?"}]
    rows = [{"prompt": [{"role": "user", "content": parts}], "answer": "3"}]
    rows[0]["images"] = [PICTURE]
    assert said(load_questions(rows).rows[0]) == "<image>How many?"


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([], "0 turns of the user"),
        ([{"role": "user", "content": "?"}] * 2, "2 turns of the user"),
        ([{"role": "robot", "content": "?"}], "a turn of 'robot'"),
        ([{"role": "user", "content": None}], "a turn without text"),
        ([{"role": "user", "content": "?"}], "None is no reference answer"),
        ({"role": "user"}, "must hold a conversation"),
    ],
)
def test_another_conversation_is_refused(turns, reason):
    with pytest.raises(ValueError, match=reason):
        read_row({"messages": turns}, Columns(messages="messages"))


# -- choices and marks ----------------------------------------------------------------


def test_choices_stand_under_letters():
    asked = said(one(question="Which?", options=["red", " blue "], answer="A"))
    assert asked == "Which?\n(A) red\n(B) blue"


@pytest.mark.parametrize(
    "choices",
    [
        {"A": "red", "B": "blue", "C": None},
        {"label": ["A", "B"], "text": ["red", "blue"]},
        "['red', 'blue']",
    ],
)
def test_choices_in_any_form(choices):
    asked = said(one(question="Which?", choices=choices, answer="A"))
    assert asked == "Which?\n(A) red\n(B) blue"


def test_choices_in_columns_of_their_letters():
    rows = [
        {"question": "Which?", "A": "red", "B": "blue", "C": None, "answer": "A"},
        {"question": "Which?", "A": "red", "B": "blue", "C": "pink", "answer": "C"},
    ]
    found = load_questions(rows, suffix="").rows
    assert said(found[0]) == "Which?\n(A) red\n(B) blue"
    assert said(found[1]) == "Which?\n(A) red\n(B) blue\n(C) pink"


def test_an_answer_in_a_column_of_a_letter_is_not_shown():
    """Q and A are question and answer, and B is anything."""
    rows = [{"Q": "How many?", "A": "3", "B": "x"}]
    how = {"columns": {"question": "Q", "answer": "A"}, "suffix": ""}
    assert said(load_questions(rows, **how).rows[0]) == "How many?"
    rows = [{"question": "How many?", "A": "x", "answer": "3"}]
    assert said(load_questions(rows, suffix="").rows[0]) == "How many?"


def test_an_index_among_choices_is_no_answer():
    """Nobody could tell whether 1 is the first or the second, and the model is asked
    for a letter."""
    rows = [
        {"question": "Which?", "choices": ["red", "blue"], "answer": 1},
        {"question": "Which?", "choices": ["red", "blue"], "answer": "0"},
        {"question": "Which?", "choices": ["1", "2"], "answer": 1},
        {"question": "Which?", "choices": ["10 cm", "20 cm"], "answer": 10},
        {"question": "Which?", "choices": ["red", "blue"], "answer": "blue"},
        {"question": "How many?", "choices": [], "answer": 1},
    ]
    found = load_questions(rows)
    assert found.numbers == (2, 3, 4, 5)
    assert "write the letter" in found.left_out[0].reason


@pytest.mark.parametrize("choices", [None, [], "[]", "", ["A", "B", "C"]])
def test_no_choices_change_nothing(choices):
    assert with_choices("How many?", choices) == "How many?"


def test_printed_choices_are_read_and_nothing_else_is_run():
    assert with_choices("?", "['a', 'b']") == "?\n(A) a\n(B) b"
    assert with_choices("?", '["a", "b"]') == "?\n(A) a\n(B) b"
    for text in ("__import__('os')", "[open('x')]", "{", "a, b"):
        with pytest.raises(ValueError, match="no printed list"):
            with_choices("?", text)
    with pytest.raises(ValueError, match="no text"):
        with_choices("?", [["a"], None])
    with pytest.raises(ValueError, match="at most 26"):
        with_choices("?", list(range(27)))


@pytest.mark.parametrize(
    ("question", "pictures", "expected"),
    [
        ("<image_1> and <image 2>?", 2, "<image> and <image>?"),
        ("<image2> and <image1>?", 2, "picture 2 and picture 1?"),
        ("<image1>, again <image1>", 1, "<image>, again picture 1"),
        ("<image1>?", 2, "picture 1?"),
        ("<image1>?", 0, "picture 1?"),
        ("<image> is <image1>", 1, "<image> is picture 1"),
    ],
)
def test_numbered_marks(question, pictures, expected):
    assert mark_pictures(question, pictures) == expected


# -- rows that cannot be asked --------------------------------------------------------


def test_bad_rows_are_counted_listed_and_left_out():
    rows = [
        {"question": "How many?", "answer": "3", "images": [PICTURE]},
        {"question": "How many?", "answer": None, "images": [PICTURE]},
        {"question": "How many?", "answer": "3", "images": [png()[:90]]},
        {"question": " ", "answer": "3", "images": []},
        {"question": None, "answer": "3", "images": []},
        {"question": "<image><image>?", "answer": "3", "images": [PICTURE]},
        {"question": "質問 ☕ — naïve?", "answer": "“三”", "images": []},
        {"question": "Wide?", "answer": "3", "images": [Image.new("L", (2100, 10))]},
    ]
    found = load_questions(rows, suffix="")
    assert found.numbers == (0, 6)
    assert [bad.row for bad in found.left_out] == [1, 2, 3, 4, 5, 7]
    assert said(found.rows[1]) == "質問 ☕ — naïve?"
    assert str(found) == "questions: 2 questions, 6 left out"


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match=r"not one of 1 rows can be asked .*: row 0"):
        load_questions([{"question": "?", "answer": ""}])
    with pytest.raises(ValueError, match="there are no rows"):
        load_questions([{"question": "?", "answer": "1"}][:0] or Dataset.from_dict({}))


def test_labels_are_told_by_their_names():
    features = Features(
        {"question": Value("string"), "label": ClassLabel(names=["dog", "cat"])}
    )
    rows = Dataset.from_dict({"question": ["?"], "label": [1]}, features=features)
    assert load_questions(rows).rows[0]["answer"] == "cat"


def test_answers_of_several_types():
    rows = [{"question": "?", "answer": answer} for answer in (3, 0.5, "B", "#### 7")]
    assert [row["answer"] for row in load_questions(rows).rows] == [
        "3",
        "0.5",
        "B",
        "7",
    ]


@pytest.mark.parametrize("source", [None, 5, 2.5, b"rows", {"problem": "?"}, [1]])
def test_what_is_no_source_is_told_by_its_type(source):
    with pytest.raises(ValueError, match=f"got {type(source).__name__}"):
        load_questions(source)


def test_a_source_without_a_name_is_refused():
    with pytest.raises(ValueError, match="name is empty"):
        load_questions("")


@pytest.mark.parametrize("array", [np.zeros((4, 4, 3), np.uint8), torch.zeros(3, 4, 4)])
def test_an_array_is_no_picture(array):
    with pytest.raises(ValueError, match=r"PIL\.Image\.fromarray"):
        load_questions([{"problem": "?", "answer": "1", "image": array}])


@pytest.mark.parametrize("wrong", [{"limit": 2.5}, {"limit": True}, {"suffix": 5}])
def test_settings_of_another_type_are_refused(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be"):
        load_questions([{"problem": "?", "answer": "1"}], **wrong)


def test_only_lists_of_dictionaries_are_rows():
    with pytest.raises(ValueError, match="source must be a name, a path"):
        load_questions({"question": ["?"], "answer": ["1"]})


@pytest.mark.parametrize(
    ("name", "nearest"), [("mathvisa", "mathvista"), ("testbd", "testbed")]
)
def test_a_name_written_wrong_is_told_the_nearest(name, nearest, monkeypatch):
    def unreachable(*_):
        raise ConnectionError("no hub here")

    monkeypatch.setattr(splits, "require_hub", unreachable)
    with pytest.raises(
        ValueError, match=rf"no hub here\); did you mean '{nearest}'\?$"
    ):
        load_questions(name)
