"""What is typed wrongly: a line that names the argument and the cure, no traceback."""

import json
import re
from types import SimpleNamespace

import pytest

from tests.evaluation.records import record
from vgpo.evaluation import evaluate, load_run, robustness
from vgpo.evaluation.__main__ import main
from vgpo.models.loading import load_model
from vgpo.testbed import CHECKPOINT

SHORT = {"max_new_tokens": 2, "suffix": "", "progress": False}
ASKED = ["--model", str(CHECKPOINT), "--suite", "testbed", "--limit", "1"]


def refused(arguments, capsys):
    """The last line of the message, and what stands before it."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    *before, last = capsys.readouterr().err.splitlines()
    return last, before


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("max_prompt_tokens", 0),
        ("max_prompt_tokens", -1),
        ("seed", -1),
        ("samples", 1.5),
        ("max_new_tokens", True),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", float("nan")),
    ],
)
def test_a_refused_setting_leaves_no_folder_behind(setting, value, tiny, tmp_path):
    wrong = SHORT | {setting: value}
    with pytest.raises(ValueError, match=rf"^{setting} must "):
        evaluate(*tiny, "testbed", limit=1, out=tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_an_answer_takes_other_settings(tiny, tmp_path):
    run = evaluate(*tiny, "testbed", limit=1, out=tmp_path, **SHORT)
    (tmp_path / "records.jsonl").unlink()  # stopped before the first answer
    assert not load_run(tmp_path).records
    other = SHORT | {"max_new_tokens": 3}
    again = evaluate(*tiny, "testbed", limit=1, out=tmp_path, **other)
    assert again.settings["decoding"]["max_new_tokens"] == 3
    assert len(again.records) == len(run.records) == 1


def test_a_folder_that_cannot_be_made_is_named_as_out(tiny, tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ValueError, match=r"^out: .*run cannot be made \("):
        evaluate(*tiny, "testbed", limit=1, out=tmp_path / "notes" / "run", **SHORT)


@pytest.mark.parametrize("written", ["", '{"name": ', "[]", '{"name": "a"}', "\udcff"])
def test_a_damaged_run_says_which_file_and_what_to_do(written, tmp_path):
    data = written.encode("utf-8", "surrogateescape")
    (tmp_path / "run.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"run\.json is damaged \(.*another folder"):
        load_run(tmp_path)


def test_a_folder_of_runs_says_which_there_are(tmp_path):
    for view in ("none", "blank"):
        (tmp_path / view).mkdir()
        (tmp_path / view / "run.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds no run: .* in blank, none$"):
        load_run(tmp_path)


def test_robustness_needs_a_degraded_view(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"^views: .*blank"):
        robustness(*tiny, "testbed", views=["none"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"^views: 'dark' is none of"):
        robustness(*tiny, "testbed", views=["blank", "dark"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_picture_cannot_be_swapped_and_the_reason_is_told(tiny):
    with pytest.raises(ValueError, match=r"^views: swapped .*no other picture"):
        robustness(*tiny, "testbed", limit=1, views=["swapped"], **SHORT)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"^name: .*weights.safetensors is a file; na"):
        load_model(tmp_path / "weights.safetensors")


def test_the_message_is_a_line_and_no_list_of_all_options(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    last, before = refused(["run", *ASKED, *out, "--view", "dark"], capsys)
    assert "--view" in last and "'blank'" in last
    assert len(before) <= 2


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("limitt: 3", r"config: .*'limitt' is no setting of run; did you mean limit\?"),
        ("nothing_like_it: 3", r"config: .*'nothing_like_it' is no setting of run; th"),
        ("config: a.yaml", r"config: .*'config' is no setting of run"),
        ("help: true", r"config: .*'help' is no setting of run"),
        ("limit: {a: 3}", r"config: .*limit must be a value or a list of them, got "),
    ],
)
def test_a_wrong_line_of_a_recipe_is_named(written, message, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(written + "\n")
    out = ["--out", str(tmp_path / "run"), "--config", str(recipe)]
    last, before = refused(["run", *ASKED, *out], capsys)
    assert re.search(message, last) and str(recipe) in last
    assert not before


def test_a_recipe_with_a_setting_of_the_other_command_is_refused(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("views: [blank]\n")
    given = ["run", *ASKED, "--out", str(tmp_path / "x"), "--config", str(recipe)]
    last, _ = refused(given, capsys)
    assert "'views' is no setting of run; did you mean view?" in last


def test_a_page_is_a_file(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    settings = {"name": "a", "sets": {"a": 1}, "view": "none", "decoding": {}}
    (run / "run.json").write_text(json.dumps(settings))
    (run / "records.jsonl").write_text(json.dumps(record(0, greedy=True)) + "\n")
    for page in (tmp_path, run / "run.json" / "page.html"):
        last, _ = refused(["browse", str(run), "--page", str(page)], capsys)
        assert "page: " in last and str(page) in last and "file" in last


def test_a_comparison_names_what_differs_and_nothing_else(monkeypatch, capsys):
    settings = {"greedy": True, "samples": 0, "seed": 0}
    found = SimpleNamespace(
        settings={
            "decoding": (settings, settings | {"samples": 2}),
            "suffix": ("a", "b"),
        },
        table=load_table(),
        only_first=0,
        only_second=20,
    )
    monkeypatch.setattr("vgpo.evaluation.__main__.compare", lambda *_, **__: found)
    monkeypatch.setattr("vgpo.evaluation.__main__.load_run", lambda path: path)
    assert main(["compare", "a", "b"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "the runs differ in decoding: samples 0 and 2"
    assert said[1] == "the runs differ in suffix: 'a' and 'b'"
    # A stopped run beside a whole one: the rest is not passed over in silence.
    assert said[2].startswith("20 questions of the second run are not in the other")
    assert not any(line.startswith("0 questions") for line in said)


def load_table():
    import pandas as pd

    return pd.DataFrame({"questions": [1]})
