"""Files that a kill leaves whole."""

import json
import os
import stat

import pytest

from vgpo.files import append_json_line, read_json_lines, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "content",
    ["three\nlines\u2028of text\r\n", b"\x00\xff", lambda to: to.write_text("by hand")],
    ids=["text", "bytes", "a function"],
)
def test_the_file_holds_what_was_given_and_nothing_lies_beside_it(tmp_path, content):
    target = tmp_path / "new" / "folder" / "a.txt"
    write_atomically(target, content)
    expected = {str: lambda: content.encode(), bytes: lambda: content}
    assert target.read_bytes() == expected.get(type(content), lambda: b"by hand")()
    assert names(target.parent) == ["a.txt"]


def test_an_earlier_file_is_replaced_whole(tmp_path):
    target = tmp_path / "a.txt"
    write_atomically(target, "a long earlier text")
    write_atomically(target, "short")
    assert target.read_text() == "short"


def test_others_can_read_the_file_as_one_written_plainly(tmp_path):
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "ours", "")
    modes = [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("plain", "ours")]
    assert modes[0] == modes[1]


def full_disk(descriptor):
    raise OSError("no space left on device")


def cut_short(path):
    path.write_text("half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["the disk is full", "the writer is interrupted"])
def test_a_write_cut_short_leaves_the_earlier_file_alone(tmp_path, monkeypatch, how):
    target = tmp_path / "a.txt"
    target.write_text("earlier")
    content = "later"
    if how == "the disk is full":
        monkeypatch.setattr(os, "fsync", full_disk)
    else:
        content = cut_short
    with pytest.raises((OSError, KeyboardInterrupt)):
        write_atomically(target, content)
    assert target.read_text() == "earlier"
    assert names(tmp_path) == ["a.txt"]


def test_lines_come_back_in_order(tmp_path):
    path = tmp_path / "runs" / "log.jsonl"
    records = [
        {"step": i, "text": "a\nb\u2028c \u00e9", "none": None} for i in range(3)
    ]
    for record in records:
        append_json_line(path, record)
    assert read_json_lines(path) == records
    assert len(path.read_bytes().split(b"\n")) == 4


def test_a_kill_at_any_byte_loses_at_most_the_line_it_cut(tmp_path):
    path = tmp_path / "log.jsonl"
    records = [{"step": 1}, {"text": "\u00e9 \u2028 {}"}, {"step": [2, {"a": "}"}]}]
    lines = [json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in records]
    whole = b"".join(lines)
    # An object is complete with its last brace, before its line end.
    ends = [sum(map(len, lines[: i + 1])) - 1 for i in range(3)]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = records[: sum(end <= cut for end in ends)]
        assert read_json_lines(path) == kept
        append_json_line(path, {"last": True})
        assert read_json_lines(path) == [*kept, {"last": True}]
        assert path.read_bytes().endswith(b'\n{"last": true}\n') or not kept


def test_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\r\n{"a": 2}\r\n')
    assert read_json_lines(path) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("bad", ["{oops}", "", "[1]", "3", "\udcff"])
def test_a_broken_line_that_no_kill_explains_is_named(tmp_path, bad):
    path = tmp_path / "log.jsonl"
    text = '{"a": 1}\n' + bad + '\n{"a": 2}\n'
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"line 2 of .*log\.jsonl"):
        read_json_lines(path)


def test_what_json_cannot_say_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "log.jsonl"
    append_json_line(path, {"a": 1})
    with pytest.raises(ValueError):
        append_json_line(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        append_json_line(path, {"a": {1, 2}})
    assert read_json_lines(path) == [{"a": 1}]
