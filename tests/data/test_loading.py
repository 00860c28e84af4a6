"""Data sets as people have them: every row is checked when it is loaded."""

import base64
import io
import json

import numpy as np
import pytest
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    LargeList,
    List,
    Value,
)
from datasets import Image as ImageFeature
from PIL import Image

from vgpo.data import PROMPT_SUFFIX, find_bad_rows, load_rows, to_prompts
from vgpo.data.loading import shared_rows
from vgpo.data.questions import load_questions

NOISE = np.random.default_rng(0).integers(0, 255, (56, 84, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE)


def png(image=PICTURE, kind="png"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


TEXT = base64.b64encode(png()).decode()


def pictures(*sizes):
    return [Image.new("RGB", (size, size)) for size in sizes]


def real_rows():
    return Dataset.from_dict(
        {
            "problem": ["<image>How many?", "Is <image> like <image> ?", "1 + 1 ?"],
            "answer": ["3", "yes", "2"],
            "images": [pictures(28), pictures(28, 56), []],
        }
    ).cast_column("images", List(ImageFeature()))


def parts(row):
    return [p["text"] or p["type"] for p in row["prompt"][0]["content"]]


def written(tmp_path, *rows):
    file = tmp_path / "rows.jsonl"
    base = {"problem": "?", "answer": "3", "images": []}
    file.write_text("".join(json.dumps(base | row) + "\n" for row in rows))
    return str(file)


# -- forms of data sets -------------------------------------------------------------


@pytest.mark.parametrize("form", ["parquet", "disk", "dict"])
def test_rows_of_a_file_become_prompts(form, tmp_path):
    where = tmp_path / "rows.parquet"
    if form == "parquet":
        real_rows().to_parquet(where)
    else:
        where = tmp_path / "rows"
        rows = real_rows()
        (rows if form == "disk" else DatasetDict({"train": rows})).save_to_disk(where)
    rows = load_rows(str(where), "train")
    assert len(rows) == 3
    assert rows[0]["prompt"][0]["role"] == "user"
    assert parts(rows[0]) == ["image", "How many?", f"\n{PROMPT_SUFFIX}"]
    assert parts(rows[1])[:-1] == ["Is", "image", "like", "image", "?"]
    assert parts(rows[2])[:-1] == ["1 + 1 ?"]
    assert [len(row["images"]) for row in rows] == [1, 2, 0]
    assert rows[1]["images"][1].size == (56, 56)
    assert [row["answer"] for row in rows] == ["3", "yes", "2"]


def test_pictures_come_first_where_no_place_is_marked():
    rows = Dataset.from_dict({"q": ["How many?"], "a": ["3"], "i": [pictures(28, 28)]})
    rows = to_prompts(rows.cast_column("i", List(ImageFeature())), "q", "a", "i")
    assert parts(rows[0]) == ["image", "image", "How many?"]


def test_single_picture_column_and_answers_of_any_type():
    features = Features(
        {"q": Value("string"), "a": Value("int64"), "i": ImageFeature()}
    )
    rows = [{"q": "<image>?", "a": 3, "i": pictures(28)[0]}]
    rows.append({"q": "?", "a": 4, "i": None})
    rows = to_prompts(
        Dataset.from_list(rows, features), "q", "a", "i", suffix="Box it."
    )
    assert parts(rows[0]) == ["image", "?", "\nBox it."]
    assert parts(rows[1]) == ["?", "\nBox it."]
    assert [len(row["images"]) for row in rows] == [1, 0]
    assert [row["answer"] for row in rows] == ["3", "4"]


def test_labels_are_told_by_their_names():
    features = Features({"q": Value("string"), "a": ClassLabel(names=["dog", "cat"])})
    rows = Dataset.from_dict({"q": ["Which?"], "a": [1]}, features=features)
    assert to_prompts(rows, "q", "a", "images")[0]["answer"] == "cat"


def test_suffix_asks_for_what_the_rewards_read():
    assert "<think> </think>" in PROMPT_SUFFIX
    assert "\\boxed{}" in PROMPT_SUFFIX


@pytest.mark.parametrize(
    "feature",
    [
        ImageFeature(),
        ImageFeature(decode=False),
        List(ImageFeature()),
        List(ImageFeature(decode=False)),
        LargeList(ImageFeature()),
        Value("binary"),
        List(Value("binary")),
        {"bytes": Value("binary"), "path": Value("string")},
        List({"bytes": Value("binary"), "path": Value("string")}),
    ],
    ids=str,
)
def test_a_picture_in_any_column_type(feature):
    several = isinstance(feature, List | LargeList)
    inner = feature.feature if several else feature
    value = png() if isinstance(inner, Value) else {"bytes": png(), "path": None}
    features = Features({"q": Value("string"), "a": Value("string"), "i": feature})
    row = {"q": "?", "a": "3", "i": [value] if several else value}
    rows = to_prompts(Dataset.from_list([row], features), "q", "a", "i")
    assert np.array_equal(np.asarray(rows[0]["images"][0]), NOISE)


@pytest.mark.parametrize(
    "value",
    [
        "imgs/0.png",
        {"path": "imgs/0.png", "bytes": None},
        TEXT,
        "data:image/png;base64," + TEXT,
    ],
    ids=["path", "dict", "base64", "data address"],
)
@pytest.mark.parametrize("several", [True, False])
def test_a_picture_as_text(value, several, tmp_path, monkeypatch):
    (tmp_path / "imgs").mkdir()
    PICTURE.save(tmp_path / "imgs" / "0.png")
    file = written(tmp_path, {"images": [value] if several else value})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    rows = load_rows(file)
    assert np.array_equal(np.asarray(rows[0]["images"][0]), NOISE)


def test_a_column_that_is_not_there_holds_no_pictures(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"problem": "1 + 1 ?", "answer": "2"}\n')
    assert load_rows(str(file))[0]["images"] == []


# -- splits -------------------------------------------------------------------------


def test_a_split_is_honoured(tmp_path):
    rows = [{"answer": str(i)} for i in range(10)]
    file = written(tmp_path, *rows)
    assert [row["answer"] for row in load_rows(file, "train[80%:]")] == ["8", "9"]
    with pytest.raises(ValueError, match="test"):
        load_rows(file, "test")
    Dataset.from_list(rows).save_to_disk(tmp_path / "one")
    with pytest.raises(ValueError, match="no split 'nonsense', only train"):
        load_rows(str(tmp_path / "one"), "nonsense")


@pytest.mark.parametrize(
    ("split", "answers"),
    [
        ("train", "0123456789"),
        ("train[:3]", "012"),
        ("train[-2:]", "89"),
        ("train[80%:]", "89"),
        ("train[:10%]+train[90%:]", "09"),
        ("train+test", "0123456789x"),
        ("test", "x"),
    ],
)
def test_parts_of_a_saved_data_set_are_named_as_those_of_a_file(
    split, answers, tmp_path
):
    def rows(answers):
        base = {"problem": "?", "images": []}
        return Dataset.from_list([base | {"answer": one} for one in answers])

    both = DatasetDict({"train": rows("0123456789"), "test": rows("x")})
    both.save_to_disk(tmp_path / "both")
    found = load_rows(str(tmp_path / "both"), split)
    assert "".join(row["answer"] for row in found) == answers


@pytest.mark.parametrize("split", ["nope", "train[", "train[x:]", "", "train[:90%"])
def test_a_split_that_a_saved_data_set_has_not(split, tmp_path):
    Dataset.from_list([{"answer": "1"}]).save_to_disk(tmp_path / "one")
    with pytest.raises(ValueError, match=r"no split .* only train and parts"):
        load_rows(str(tmp_path / "one"), split)


def test_rows_are_told_apart_by_question_answer_and_pictures(tmp_path):
    Image.new("RGB", (28, 28)).save(tmp_path / "a.png")
    Image.new("RGB", (28, 28), "red").save(tmp_path / "b.png")
    rows = [{"images": name, "id": i} for i, name in enumerate(["a.png", "b.png", []])]
    rows = [row | {"images": row["images"] or None} for row in rows]
    file = written(tmp_path, *rows)
    (tmp_path / "copy").mkdir()
    # The same rows in another file, under other numbers, in another order
    for name in ("a.png", "b.png"):
        (tmp_path / "copy" / name).write_bytes((tmp_path / name).read_bytes())
    other = [row | {"id": 9 - row["id"]} for row in reversed(rows)]
    copy = written(tmp_path / "copy", *other, {"answer": "4", "images": "a.png"})

    train = load_rows(file)
    assert shared_rows(load_rows(file, "train[:100%]"), train) == 3
    assert shared_rows(load_rows(file, "train[1:]"), train) == 2
    assert shared_rows(load_rows(copy), train) == 3  # of 4
    assert shared_rows(load_rows(file, "train[:1]"), load_rows(file, "train[1:]")) == 0
    assert shared_rows(load_rows("testbed", testbed_size=2), train) == 0


# -- errors -------------------------------------------------------------------------


def test_missing_columns_are_named(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"asked": "1 + 1 ?", "answer": "2"}\n')
    with pytest.raises(ValueError, match="no column of a question among asked, answer"):
        load_rows(str(file))
    with pytest.raises(ValueError, match="no column 'problem', only asked, answer"):
        load_rows(str(file), question_column="problem")
    assert load_rows(str(file), question_column="asked")[0]["answer"] == "2"


def test_pictures_under_an_unknown_name_are_not_passed_over(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    file = written(tmp_path, {"images": None, "image_file": "a.png"})
    text = (tmp_path / "rows.jsonl").read_text().replace('"images": null, ', "")
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"no column of pictures.*perhaps image_file"):
        load_rows(file)
    [picture] = load_rows(file, image_column="image_file")[0]["images"]
    assert picture.size == PICTURE.size


WHOLE = '{"problem": "?", "answer": "3"}\n'
BROKEN = {
    "zero.jsonl": "",
    "blank.jsonl": "\n\n",
    "open.jsonl": '{"problem": "?"\n',
    "half.jsonl": WHOLE + '{"problem": "?", "ans',
    "twice.jsonl": '{"problem": "?", "problem": "!", "answer": "3"}\n',
    "numbers.jsonl": "1\n2\n",
    "zero.csv": "",
    "head.csv": "problem,answer\n",
    "twice.csv": "problem,answer,answer\n?,3,4\n",
    "ragged.csv": "problem,answer\n?,3\n?,3,4,5\n",
    "zero.parquet": "",
    "cut.parquet": "PAR1cut",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named(name, tmp_path):
    (tmp_path / name).write_text(BROKEN[name])
    with pytest.raises(ValueError, match=rf"dataset: '.*{name}' (cannot|has no)") as no:
        load_rows(str(tmp_path / name))
    assert "error occurred while generating" not in str(no.value)


@pytest.mark.parametrize("name", ["head.csv", "list.json", "none.parquet"])
def test_a_table_without_rows_says_that(name, tmp_path):
    path = tmp_path / name
    table = Dataset.from_dict({"problem": ["?"], "answer": ["3"]})
    if name == "none.parquet":
        table.select([]).to_parquet(path)
    else:
        path.write_text("problem,answer\n" if name == "head.csv" else "[]")
    with pytest.raises(ValueError, match=f"{name}' has no rows$"):
        load_rows(str(path))


def test_a_part_without_rows_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text(WHOLE)
    with pytest.raises(ValueError, match=r"has no rows in 'train\[:0\]'"):
        load_rows(str(tmp_path / "rows.jsonl"), "train[:0]")


def test_of_two_columns_of_one_name_none_is_passed_over(tmp_path):
    (tmp_path / "rows.csv").write_text("problem;answer;answer\n?;3;4\n")
    with pytest.raises(ValueError, match="several of its columns are called answer"):
        load_rows(str(tmp_path / "rows.csv"))
    (tmp_path / "rows.csv").write_text(",problem,answer,\n0,?,3,\n")
    assert len(load_rows(str(tmp_path / "rows.csv"))) == 1


@pytest.mark.parametrize("start", ["null", "\ufeff\n null", 'null\n{"problem": "a"}'])
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_a_file_that_begins_with_null_ends_in_no_crash(start, kind, tmp_path):
    file = tmp_path / f"rows.{kind}"
    file.write_text(start, encoding="utf-8")
    with pytest.raises(ValueError, match="begins with null"):
        load_rows(str(file))
    with pytest.raises(ValueError, match="begins with null"):
        load_questions(str(file), limit=1, streaming=True)
    with pytest.raises(ValueError, match=rf"{file.name} begins with null"):
        load_rows(str(tmp_path))


def test_unknown_kind_of_file_is_refused(tmp_path):
    file = tmp_path / "rows.pkl"
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of \.parquet"):
        load_rows(str(file))


def test_an_empty_file_is_refused(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("problem,answer\n")
    with pytest.raises(ValueError, match=r"no data|no rows"):
        load_rows(str(file))


BAD = {
    "damaged picture": ({"images": ["bad.png"]}, "cannot be decoded"),
    "no picture at all": ({"images": ["text.png"]}, "no known image format"),
    "empty picture": ({"images": ["empty.png"]}, "no known image format"),
    "missing picture": ({"images": ["imgs/5.png"]}, "there is no picture"),
    "null in a list": ({"images": [None]}, "picture 1 of 1 is missing"),
    "web address": ({"images": ["https://a.b/c.png"]}, "not downloaded"),
    "damaged base64": ({"images": ["A" * 41]}, "base64 is damaged|no known"),
    "narrow picture": ({"images": ["narrow.png"]}, "more than 200 times"),
    "more marks": ({"problem": "<image><image>?", "images": ["ok.png"]}, "marks 2"),
    "mark without": ({"problem": "<image>?"}, "marks 1"),
    "null question": ({"problem": None}, "must hold text, it holds NoneType"),
    "number as question": ({"problem": 5}, "must hold text, it holds int"),
    "messages": (
        {"problem": [{"role": "user", "content": "?"}]},
        "column 'problem' must hold text, it holds list; a column of chat messages",
    ),
    "empty question": ({"problem": " <image> ", "images": ["ok.png"]}, "is empty"),
    "image token": ({"problem": "<|image_pad|> ?"}, "own image token"),
    "null answer": ({"answer": None}, "column 'answer'"),
    "empty answer": ({"answer": " "}, "column 'answer'"),
    "list of answers": ({"answer": ["3", "three"]}, "column 'answer'"),
    "answer in a dict": ({"answer": {"ground_truth": "3"}}, "column 'answer'"),
    "truth value": ({"answer": True}, "column 'answer'"),
}


@pytest.fixture
def folder(tmp_path):
    content = png()
    (tmp_path / "ok.png").write_bytes(content)
    (tmp_path / "bad.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("RGB", (2100, 10)).save(tmp_path / "narrow.png")
    return tmp_path


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_when_the_data_are_loaded(name, folder):
    row, message = BAD[name]
    rows = {"problem": "?", "answer": "3", "images": ["ok.png"]}
    # JSON lines give a column one type, so the bad row stands alone in its file.
    file = written(folder, row)
    with pytest.raises(ValueError, match=f"row 0: .*{message}"):
        load_rows(file, image_tokens=["<|image_pad|>"])
    assert rows


def test_bad_rows_are_left_out_and_listed(folder, caplog):
    file = written(
        folder,
        {"images": ["ok.png"], "answer": "1"},
        {"images": ["bad.png"], "answer": "2"},
        {"images": ["ok.png"], "answer": "3"},
        {"images": ["ok.png"], "answer": None},
    )
    with pytest.raises(ValueError, match=r"2 of 4 rows .* row 1: .*; row 3: "):
        load_rows(file)
    rows = load_rows(file, on_bad_row="skip")
    assert [row["answer"] for row in rows] == ["1", "3"]
    assert "2 of 4 rows" in caplog.text and "row 3" in caplog.text


def test_nothing_left_is_an_error(folder):
    file = written(folder, {"images": ["bad.png"]})
    with pytest.raises(ValueError, match="not one of 1 rows"):
        load_rows(file, on_bad_row="skip")


def test_wrong_choice_is_refused():
    with pytest.raises(ValueError, match="on_bad_row must be one of"):
        to_prompts(real_rows(), "problem", "answer", "images", on_bad_row="ignore")


def test_bad_rows_are_found_in_order():
    rows = Dataset.from_dict({"q": ["?"] * 600, "a": ["1"] * 599 + [""]})
    assert [bad.row for bad in find_bad_rows(rows, "q", "a", "images")] == [599]


def test_wrapped_references_are_unwrapped(tmp_path):
    rows = [{"answer": text} for text in ("<answer>D</answer>", "so 1\n#### 3")]
    assert [row["answer"] for row in load_rows(written(tmp_path, *rows))] == ["D", "3"]
