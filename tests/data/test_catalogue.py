"""The public sets: what the catalogue says of them, and that their forms are read."""

import io
import json
import zipfile

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from vgpo.data import (
    CATALOGUE,
    PROMPT_SUFFIX,
    SUITES,
    describe,
    load_questions,
    load_rows,
)
from vgpo.data.archives import PictureStore
from vgpo.data.catalogue import locate
from vgpo.studies.small_sets import write_small_set
from vgpo.testbed import World

EXAMPLES = World().examples(3, ("count",), split="heldout")


def said(row):
    return "".join(p["text"] or f"<{p['type']}>" for p in row["prompt"][0]["content"])


# -- what it says -------------------------------------------------------------------


def test_the_paper_has_ten_benchmarks_in_two_averages():
    assert len(SUITES["paper"]) == 10
    assert set(SUITES["math"]) == {
        *("mathvista", "mathverse", "wemath", "mmk12", "geomath", "geometry3k")
    }
    assert set(SUITES["vision"]) == {
        *("logicvista", "counting", "mmmu_pro", "mathverse_v")
    }
    assert {n for n, e in CATALOGUE.items() if e.role == "training"} == {
        *("virl39k", "geometry3k_train")
    }


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_fact_has_its_source_and_nothing_claims_to_be_checked(name):
    entry = CATALOGUE[name]
    needed = {"repository"} | ({"rows"} if entry.rows else set())
    needed |= {"licence"} if entry.licence else set()
    assert needed <= set(entry.facts)
    assert all(entry.facts.values())
    assert not entry.checked
    assert entry.page.endswith(entry.repository)


def test_a_training_set_and_its_evaluation_never_share_a_split():
    places = [(e.repository, e.split, e.config) for e in CATALOGUE.values()]
    assert len(set(places)) == len(places)


def test_the_unverified_set_says_so():
    assert "unverified" in CATALOGUE["geomath"].note.lower()


def test_the_table_points_to_a_page_where_no_licence_is_known():
    table = describe()
    assert list(table.index) == list(CATALOGUE)
    assert table.loc["mathvision", "licence"] == "MIT"
    assert table.loc["mathvista", "licence"].startswith("see https://")
    with pytest.raises(ValueError, match="no data set 'mathvsta' in the catalogue"):
        describe(["mathvsta"])


def test_a_part_of_a_set_is_that_part(tmp_path):
    """Of one whose rows are in a file of another split's name, and of a folder."""
    for name in ("counting", "virl39k"):
        write_small_set(CATALOGUE[name], EXAMPLES, tmp_path)
        split = CATALOGUE[name].split
        assert len(load_questions(name, f"{split}[1:]", root=tmp_path)) == 2
    with pytest.raises(ValueError, match="holds the split 'BUAADreamer_clevr_count"):
        load_questions("counting", "test", root=tmp_path)


def test_rows_to_train_on_are_the_same_questions(tmp_path):
    write_small_set(CATALOGUE["virl39k"], EXAMPLES, tmp_path)
    rows = load_rows("virl39k", root=tmp_path, prompt_suffix="")
    assert [said(row) for row in rows] == [f"<image>{e.question}" for e in EXAMPLES]
    for row, example in zip(rows, EXAMPLES, strict=True):
        assert [np.asarray(p).tolist() for p in row["images"]] == [
            np.asarray(example.image.convert("RGB")).tolist()
        ]


# -- each set's form ----------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_set_is_read_in_its_own_form(name, tmp_path):
    write_small_set(CATALOGUE[name], EXAMPLES, tmp_path)
    found = load_questions(name, root=tmp_path)
    assert len(found) == len(EXAMPLES) and found.left_out == ()
    for row, example in zip(found.rows, EXAMPLES, strict=True):
        assert said(row) == f"<image>{example.question}\n{PROMPT_SUFFIX}"
        assert row["answer"] == example.answer
        assert np.array_equal(np.asarray(row["images"][0]), np.asarray(example.image))


def test_the_copy_of_one_repository_is_a_root_too(tmp_path):
    entry = CATALOGUE["counting"]
    write_small_set(entry, EXAMPLES, tmp_path)
    assert len(load_questions("counting", root=tmp_path / entry.repository)) == 3


def test_unpacked_archives_are_read_as_well(tmp_path):
    entry = CATALOGUE["counting"]
    write_small_set(entry, EXAMPLES, tmp_path)
    base = tmp_path / entry.repository
    with zipfile.ZipFile(base / entry.archive) as archive:
        archive.extractall(base / "images")
    (base / entry.archive).unlink()
    assert len(load_questions("counting", root=tmp_path)) == 3


def test_a_set_that_is_not_there_says_where_to_get_it(tmp_path):
    with pytest.raises(ValueError, match=r"needs data/AI4Math_MathVista-00000.*fetch"):
        locate(CATALOGUE["mathvista"], tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        locate(CATALOGUE["mathvista"], tmp_path / "nowhere")


def test_one_missing_picture_costs_one_row(tmp_path):
    entry = CATALOGUE["counting"]
    write_small_set(entry, EXAMPLES, tmp_path)
    archive = tmp_path / entry.repository / entry.archive
    with zipfile.ZipFile(archive) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    broken, gone, *_ = contents
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in contents.items():
            if name != gone:
                file.writestr(name, content[:60] if name == broken else content)
    found = load_questions("counting", root=tmp_path)
    assert found.numbers == (2,)
    assert "cannot be decoded" in found.left_out[0].reason
    assert "there is no picture" in found.left_out[1].reason


# -- archives -----------------------------------------------------------------------


def test_an_archive_that_is_none_is_named(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"images\.zip cannot be read as a zip"):
        PictureStore(tmp_path, [tmp_path / "images.zip"])


def test_what_unpacks_to_far_too_much_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.png", b"\0" * 10_000)
    monkeypatch.setattr("vgpo.data.archives.LARGEST_PICTURE", 1_000)
    with pytest.raises(ValueError, match="10,000 bytes"):
        PictureStore(tmp_path, [tmp_path / "a.zip"]).find("./data/images/x.png")


def test_the_longest_ending_of_a_path_wins(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("1.png", b"short")
        file.writestr("set/1.png", b"long")
    store = PictureStore(tmp_path, [tmp_path / "a.zip"])
    assert store.find("./data/images/set/1.png") == b"long"
    assert store.find("data\\images\\set\\1.png") == b"long"
    assert store.find({"path": "other/1.png", "bytes": None}) == b"short"
    assert store.find({"path": "1.png", "bytes": b"own"})["bytes"] == b"own"


def test_a_benchmark_that_asks_for_the_box_itself_is_not_told_twice(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (28, 28)).save(buffer, "png")
    (tmp_path / "1.png").write_bytes(buffer.getvalue())
    ask = "How many? Put it into \\boxed{}."
    turns = [{"role": "user", "content": f"<image>{ask}"}]
    turns.append({"role": "assistant", "content": "3"})
    rows = [{"messages": turns, "images": ["1.png"]}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    found = load_questions(tmp_path / "rows.json")
    assert said(found.rows[0]) == f"<image>{ask}"


def test_streaming_reads_the_first_rows_alone(tmp_path):
    write_small_set(CATALOGUE["virl39k"], EXAMPLES, tmp_path)
    found = load_questions("virl39k", root=tmp_path, limit=2, streaming=True)
    assert [row["answer"] for row in found.rows] == [e.answer for e in EXAMPLES[:2]]
    assert found.rows[0]["images"][0].size == EXAMPLES[0].image.size
    with pytest.raises(ValueError, match="set limit"):
        load_questions("virl39k", root=tmp_path, streaming=True)


def test_streaming_does_not_reach_what_comes_later(tmp_path):
    # More than the reader takes at once.
    lines = [json.dumps({"question": "1 ?" * 300, "answer": "1"})] * 15_000
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join([*lines, "{ broken"]))
    found = load_questions(file, limit=5, streaming=True)
    assert len(found) == 5


def test_rows_of_a_list_keep_their_order():
    rows = Dataset.from_dict({"question": list("abc"), "answer": list("123")})
    found = load_questions(rows, limit=2)
    assert [row["answer"] for row in found.rows] == ["1", "2"]
