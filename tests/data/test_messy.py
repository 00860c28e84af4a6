"""Questions as they lie about in folders that nobody has tidied."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgpo.data import load_questions, load_rows
from vgpo.pictures import as_rgb

NOISE = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE)


@pytest.fixture
def folder(tmp_path):
    """With three pictures, and what operating systems leave beside them."""
    (tmp_path / "set" / "images").mkdir(parents=True)
    for number in range(3):
        PICTURE.save(tmp_path / "set" / "images" / f"{number}.png")
    (tmp_path / "set" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "set" / "images" / "Thumbs.db").write_bytes(b"")
    return tmp_path / "set"


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(source, **how):
    """Answer and number of pictures of each question."""
    found = load_questions(source, suffix="", **how)
    return [(row["answer"], len(row["images"])) for row in found.rows]


ROW = {"question": "How many?", "answer": "3", "image": "images/0.png"}


# -- files ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Q.JSONL", "q [1].jsonl", "q*.jsonl", "q?.json"])
def test_any_name_of_a_file_is_its_name(name, folder):
    """Capitals in its ending; and what the library takes for a pattern."""
    write(folder / "q1.jsonl", ROW | {"answer": "another file"})
    assert asked(write(folder / name, ROW)) == [("3", 1)]


def test_a_link_to_a_file_is_read_where_it_lies(folder):
    write(folder / "rows.jsonl", ROW)
    os.symlink(folder / "rows.jsonl", folder / "link.jsonl")
    os.symlink("..", folder / "images" / "up")
    assert asked(folder / "link.jsonl") == [("3", 1)]


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    write(folder / "rows.jsonl", ROW)
    assert asked("~/rows.jsonl") == asked(Path("~/rows.jsonl")) == [("3", 1)]


def test_rows_within_an_object_are_found_by_name_and_not_guessed(folder):
    (folder / "rows.json").write_text(json.dumps({"version": "1", "data": [ROW]}))
    with pytest.raises(ValueError, match="column 'data' is a list of rows"):
        load_questions(folder / "rows.json")


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(kind, folder):
    text = {
        "jsonl": json.dumps(ROW),
        "json": json.dumps([ROW]),
        "csv": "question,answer,image\r\nHow many?,3,images/0.png\r\n",
    }[kind]
    (folder / f"rows.{kind}").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert asked(folder / f"rows.{kind}") == [("3", 1)]


def test_names_of_columns_in_any_case_and_with_blanks(folder):
    (folder / "rows.csv").write_text("Question , ANSWER\nHow many?,3\n")
    assert asked(folder / "rows.csv") == [("3", 0)]


@pytest.mark.parametrize(("mark", "kind"), [(";", "csv"), ("\t", "csv"), ("\t", "tsv")])
def test_any_separator_of_a_csv_file(mark, kind, folder):
    rows = ["question,answer,image", '"How many, then?",3,images/0.png']
    text = rows[0].replace(",", mark) + "\n" + mark.join(rows[1].rsplit(",", 2))
    (folder / f"rows.{kind}").write_text(text)
    assert asked(folder / f"rows.{kind}") == [("3", 1)]


def test_values_of_a_csv_file_are_what_is_written_there(folder):
    """Not numbers, truth values and gaps: each of these is somebody's answer."""
    answers = ["007", "0.10", "NA", "True", "1e5", "None", "3"]
    for some in (answers, ["007", "3"], ["True", "False"], ["0.10", "3"]):
        lines = "".join(f"How many?,{answer},\n" for answer in some)
        (folder / "rows.csv").write_text(f"question,answer,image\n{lines}")
        assert asked(folder / "rows.csv") == [(answer, 0) for answer in some]
        rows = load_rows(
            str(folder / "rows.csv"), question_column="question", image_column="image"
        )
        assert rows["answer"][:] == some


@pytest.mark.filterwarnings("ignore:Length of header")
def test_a_comma_too_many_moves_no_value_into_another_column(folder):
    (folder / "rows.csv").write_text("question,answer,image\nWhy?,3,images/0.png,\n")
    assert asked(folder / "rows.csv") == [("3", 1)]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", "question,answer\nWie groß?,3\n"),
        ("rows.csv", "größe,question,answer\n1,Wie groß?,3\n"),
        ("rows.jsonl", '{"question": "Wie groß?", "answer": "3"}\n'),
        ("rows.json", '[{"question": "Wie groß?", "answer": "3"}]'),
    ],
)
def test_a_file_in_another_encoding_says_so(name, text, encoding, folder):
    file = folder / name
    file.write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match="it is not in UTF-8, save it as that"):
        load_questions(file)


def test_numbers_words_gaps_and_lists_in_one_column_of_answers(folder):
    lines = ['"B"', "3", "1.5", "NaN", "null", '["a"]']
    text = "".join(f'{{"question": "?", "answer": {line}}}\n' for line in lines)
    (folder / "rows.jsonl").write_text(text)
    found = load_questions(folder / "rows.jsonl")
    assert found.numbers == (0, 1, 2)
    assert [bad.row for bad in found.left_out] == [3, 4, 5]


# -- pictures -------------------------------------------------------------------------


def test_pictures_as_windows_names_them(folder):
    rows = [ROW | {"image": path} for path in ("images\\0.png", ".\\images\\1.png")]
    assert asked(write(folder / "rows.jsonl", *rows)) == [("3", 1)] * 2


def test_a_list_of_pictures_in_a_csv_file(folder):
    (folder / "rows.csv").write_text(
        "question,answer,images\n"
        "Two?,2,\"['images/0.png', 'images/1.png']\"\n"
        'Two?,2,"[""images/0.png"", ""images/1.png""]"\n'
        "One?,1,images/0.png\nNone?,0,\n"
    )
    assert asked(folder / "rows.csv") == [("2", 2), ("2", 2), ("1", 1), ("0", 0)]


def test_no_path_is_no_picture(folder):
    rows = [ROW | {"image": path} for path in ("", " ", None, "images/0.png")]
    found = [("3", 0), ("3", 0), ("3", 0), ("3", 1)]
    assert asked(write(folder / "rows.jsonl", *rows)) == found


def test_what_is_no_picture_is_left_out_with_its_reason(folder):
    (folder / "images" / "empty.png").write_bytes(b"")
    reasons = {
        "images": "no picture",
        "images/0.PNG": "no picture",
        "images/empty.png": "0 bytes",
        "/dev/zero": "no picture",
        "../set/.DS_Store": "no known image format",
        "hf://some/set.png": "not downloaded",
        "images/0.png": None,
    }
    rows = [ROW | {"image": path} for path in reasons]
    found = load_questions(write(folder / "rows.jsonl", *rows))
    assert found.numbers == (len(rows) - 1,)
    for bad, reason in zip(found.left_out, reasons.values(), strict=False):
        assert reason in bad.reason


def test_no_question_is_asked_without_its_picture(folder):
    """Two files put together, one of which calls its pictures by another name."""
    other = {"question": "How many?", "answer": "4", "images": ["images/1.png"]}
    text = {"question": "2 + 3?", "answer": "5"}
    rows = [ROW, other, text]
    for source in (rows, write(folder / "rows.jsonl", *rows)):
        found = load_questions(source, columns={"images": "image"})
        assert 1 in found.numbers  # who names a column knows
    found = load_questions(folder / "rows.jsonl")
    assert [bad.row for bad in found.left_out] == [0]
    assert "'images' has no picture, and 'image' has one" in found.left_out[0].reason


@pytest.mark.parametrize("mode", ["LAB", "HSV", "CMYK", "YCbCr", "P", "La", "F", "1"])
def test_a_picture_of_any_mode_is_taken_as_it_is(mode):
    image = PICTURE.convert("LA").convert("La") if mode == "La" else None
    row = {"question": "?", "answer": "1", "image": image or PICTURE.convert(mode)}
    [asked] = load_questions([row]).rows
    np.testing.assert_array_equal(asked["images"][0], as_rgb(row["image"]))


def test_a_picture_without_a_scale_costs_one_row():
    deep = Image.fromarray(np.full((20, 20), -7.5, dtype=np.float32))
    rows = [{"question": "?", "answer": "1", "image": deep}]
    found = load_questions([*rows, {"question": "?", "answer": "2"}])
    assert found.numbers == (1,)
    assert "scale" in found.left_out[0].reason


def test_a_turned_photograph_stays_upright_in_memory(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    PICTURE.save(tmp_path / "1.png", exif=exif)
    rows = [{"question": "?", "answer": "1", "image": Image.open(tmp_path / "1.png")}]
    assert load_questions(rows).rows[0]["images"][0].size == (40, 56)


# -- folders --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["questions.csv", "q.json", "Q.JSONL"])
def test_a_table_beside_more_pictures_is_the_set(name, folder):
    """The library takes such a folder for a set of pictures without questions."""
    text = "question,answer,image\nHow many?,3,images/0.png\n"
    (folder / name).write_text(text if name.endswith("csv") else json.dumps(ROW) + "\n")
    assert asked(folder) == [("3", 1)]
    columns = {"question_column": "question", "image_column": "image"}
    assert len(load_rows(str(folder), **columns)) == 1
    with pytest.raises(ValueError, match='Unknown split "test"'):
        load_questions(folder, "test")
    write(folder / "more.jsonl", ROW)
    with pytest.raises(ValueError, match=r"2 tables .*name the table itself"):
        load_questions(folder)


def test_what_the_library_met_is_told(folder):
    write(
        folder / "images" / "metadata.jsonl",
        {"file_name": "0.png", "question": "?", "answer": 3},
        {"file_name": "1.png", "question": "?", "answer": "B"},
    )
    with pytest.raises(ValueError, match="changed from number to string"):
        load_questions(folder)


def test_tables_of_any_depth_are_found(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    write(tmp_path / "a" / "b" / "rows.jsonl", {"question": "?", "answer": "3"})
    os.symlink("..", tmp_path / "a" / "up")
    assert asked(tmp_path) == [("3", 0)]
