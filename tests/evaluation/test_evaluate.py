"""From a public set's files to a page of answers."""

import itertools
import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import vgpo
from tests.conftest import ROOT
from tests.evaluation.conftest import EXAMPLES
from vgpo.data import CATALOGUE, SUITES, load_questions
from vgpo.evaluation import compare, evaluate, load_run, robustness
from vgpo.evaluation.__main__ import _parser, _with_config, main
from vgpo.evaluation.decoding import VLLM, Decoding, Prompt, Transformers
from vgpo.evaluation.views import VIEWS, degrade, partners
from vgpo.testbed import CHECKPOINT, load_tiny
from vgpo.testbed.answers import answer

SHORT = {"max_new_tokens": 80, "suffix": "", "progress": False}


def texts(run):
    return [a["text"] for r in run.records for a in r["answers"]]


@pytest.fixture(scope="module")
def evaluated(tiny, root, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "counting"
    how = {"root": root, "out": out, "batch_size": 3, "samples": 2, **SHORT}
    return evaluate(*tiny, "counting", **how)


# -- the records --------------------------------------------------------------------


def test_greedy_answers_are_those_of_the_model(evaluated):
    """By the library's own generation, all in one batch."""
    expected = answer(*load_tiny(), EXAMPLES, max_new_tokens=80)
    by_row = {r["row"]: r["answers"][0]["text"] for r in evaluated.records}
    assert [by_row[i] for i in range(len(EXAMPLES))] == expected


def test_each_question_has_all_that_a_reader_needs(evaluated):
    record = evaluated.records[0]
    assert record["reference"] == EXAMPLES[0].answer
    assert record["question"] == f"<image>{EXAMPLES[0].question}"
    width, height = EXAMPLES[0].image.size
    assert record["pixels"] == width * height
    assert record["image_tokens"] == width * height // 28**2
    assert record["prompt_tokens"] > record["image_tokens"]
    assert [one["sample"] for one in record["answers"]] == [-1, 0, 1]
    [picture] = record["pictures"]
    kept = Image.open(evaluated.folder / "pictures" / f"{picture['id']}.png")
    assert np.array_equal(np.asarray(kept), np.asarray(EXAMPLES[0].image))


def test_settings_say_what_was_asked_how(evaluated):
    settings = evaluated.settings
    assert settings["decoding"]["max_new_tokens"] == 80
    assert settings["pixels"]["size"]["shortest_edge"] == 784
    assert settings["backend"]["name"] == "transformers"
    assert len(settings["model"]) == 64
    assert settings["sets"] == {"counting": len(EXAMPLES)}


def test_samples_do_not_depend_on_the_global_seed(evaluated, tiny, root):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    how = {"root": root, "batch_size": 3, "samples": 2, **SHORT}
    again = evaluate(*tiny, "counting", **how)
    assert texts(again) == texts(evaluated)
    assert torch.equal(torch.get_rng_state(), before)
    other = evaluate(*tiny, "counting", seed=1, greedy=False, **how)
    assert texts(other) != [
        a["text"] for r in evaluated.records for a in r["answers"][1:]
    ]


# -- stopped and resumed ------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_stopped_run_ends_as_one_that_was_not(kept, evaluated, tiny, root, tmp_path):
    lines = (evaluated.folder / "records.jsonl").read_text().splitlines()
    (tmp_path / "run.json").write_bytes((evaluated.folder / "run.json").read_bytes())
    half = lines[kept][:30]  # what a kill leaves of a line
    (tmp_path / "records.jsonl").write_text("\n".join([*lines[:kept], half]))
    how = {"root": root, "out": tmp_path, "batch_size": 3, "samples": 2, **SHORT}
    again = evaluate(*tiny, "counting", **how)
    assert again.records == evaluated.records


def test_what_is_done_is_not_asked_again(evaluated, tiny, root, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("asked again")

    monkeypatch.setattr(Transformers, "answer", refuse)
    how = {"root": root, "out": evaluated.folder, "batch_size": 3, "samples": 2}
    assert evaluate(*tiny, "counting", **how, **SHORT).records == evaluated.records


def test_other_settings_need_another_folder(evaluated, tiny, other, root):
    how = {"root": root, "out": evaluated.folder, "batch_size": 3, **SHORT}
    with pytest.raises(ValueError, match="a run with other decoding; name another"):
        evaluate(*tiny, "counting", samples=3, **how)
    with pytest.raises(ValueError, match="a run with other model;"):
        evaluate(*other, "counting", samples=2, **how)
    with pytest.raises(ValueError, match="a run with other max_prompt_tokens;"):
        evaluate(*tiny, "counting", samples=2, max_prompt_tokens=99, **how)


def test_rows_that_have_changed_need_another_folder(tiny, tmp_path):
    rows = [{"question": "red ?", "answer": "3"}, {"question": "two ?", "answer": "4"}]
    how = {"out": tmp_path, "max_new_tokens": 2, "suffix": "", "progress": False}
    evaluate(*tiny, rows, **how)
    rows[1]["answer"] = "5"
    with pytest.raises(ValueError, match=r"answers to 1 questions .* have changed"):
        evaluate(*tiny, rows, **how)
    assert len(load_run(tmp_path).records) == 2


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(root, tmp_path):
    """Killed for good, with half a line left, and the same command given again."""

    def command(out):
        settings = {"suite": "counting logicvista", "root": root, "out": out}
        settings |= {"model": CHECKPOINT, "samples": 1, "batch-size": 1}
        settings |= {"max-new-tokens": 24, "min-pixels": 784}
        given = [f"--{name} {value}".split() for name, value in settings.items()]
        return ["run", "--suffix=", *itertools.chain(*given)]

    process = subprocess.Popen(
        [sys.executable, "-m", "vgpo.evaluation", *command(tmp_path / "killed")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    records = tmp_path / "killed" / "records.jsonl"
    try:
        while process.poll() is None:
            if records.is_file() and b"\n" in records.read_bytes():
                break
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    written = records.read_text().splitlines()
    assert 1 <= len(written) < 8
    records.write_text("\n".join([*written, written[0][:50]]))
    for name in ("killed", "whole"):
        assert main(command(tmp_path / name)) == 0
    whole, killed = (load_run(tmp_path / name) for name in ("whole", "killed"))
    assert len(whole.records) == 8
    assert killed.records == whole.records
    assert len(records.read_text().splitlines()) == 8  # and none of them twice


def test_a_file_is_no_folder_for_a_run(tiny, tmp_path):
    (tmp_path / "run").write_text("notes")
    with pytest.raises(ValueError, match=r"out: .*run is a file"):
        evaluate(*tiny, "testbed", limit=1, out=tmp_path / "run", **SHORT)
    assert (tmp_path / "run").read_text() == "notes"


# -- rows that cannot be asked --------------------------------------------------------


def test_what_cannot_be_asked_is_listed_and_the_rest_is_asked(tiny, tmp_path):
    rows = [
        {"question": "red ?", "answer": "3", "images": [EXAMPLES[0].image]},
        {"question": "red ?", "answer": None, "images": [EXAMPLES[0].image]},
        {"question": "red " * 200 + "?", "answer": "3", "images": []},
        {"question": "red ?", "answer": "3", "images": [b"no picture"]},
        {"question": "red ?", "answer": "3", "images": [EXAMPLES[0].image]},
        {"question": "質問 ☕ ?", "answer": "三", "images": []},
    ]
    how = {"out": tmp_path, "max_prompt_tokens": 100, "max_new_tokens": 4}
    for _ in range(2):  # going on changes nothing
        run = evaluate(*tiny, rows, suffix="", progress=False, **how)
        assert [one["row"] for one in run.records] == [0, 4, 5]
        reasons = {one["row"]: one["reason"] for one in run.left_out}
        assert sorted(reasons) == [1, 2, 3] and len(run.left_out) == 3
        assert "longer than max_prompt_tokens" in reasons[2]
        assert run.summary().loc["questions", "left_out"] == 3
    ids = [one["question_id"] for one in run.records]
    assert ids[1] == ids[0] + "-2"  # the same question twice is two


def test_a_question_with_the_models_own_image_token_is_left_out(tiny):
    """It would be taken for a picture, and end the run."""
    rows = [
        {"question": "<|image_pad|> red ?", "answer": "3"},
        {
            "question": "red <|vision_start|>?",
            "answer": "3",
            "image": EXAMPLES[0].image,
        },
        {"question": "red ?", "answer": "3"},
    ]
    run = evaluate(
        *tiny, load_questions(rows, suffix=""), max_new_tokens=2, progress=False
    )
    assert [one["row"] for one in run.records] == [2]
    reasons = {one["row"]: one["reason"] for one in run.left_out}
    assert "'<|image_pad|>' as text" in reasons[0] and sorted(reasons) == [0, 1]


def test_a_set_that_is_left_out_as_a_whole_is_told(tiny, root, tmp_path, capsys):
    given = ["run", "--model", str(CHECKPOINT), "--root", str(root), "--limit", "2"]
    given += ["--suite", "counting", "--max-prompt-tokens", "3", "--min-pixels", "784"]
    assert main([*given, "--out", str(tmp_path / "run")]) == 0
    row = load_run(tmp_path / "run").summary().loc["counting"]
    assert (row["questions"], row["left_out"]) == (0, 2)
    said = capsys.readouterr().out
    assert "counting" in said and "2 questions are left out, as row " in said
    assert "longer than max_prompt_tokens" in said and "left_out.jsonl" in said


def test_a_set_needs_a_name_of_its_own(tiny, root):
    with pytest.raises(ValueError, match="counting is there more than once"):
        evaluate(*tiny, ["counting", "counting"], root=root, **SHORT)
    with pytest.raises(ValueError, match="dataset must be"):
        evaluate(*tiny, 5, **SHORT)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"samples": -1}, "samples"),
        ({"greedy": False}, "nothing to answer"),
        ({"samples": 1, "temperature": 0}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"view": "upside down"}, "view"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_loaded(setting, message):
    with pytest.raises(ValueError, match=message):
        evaluate(None, None, "nowhere", **setting)


# -- every public set, from end to end ------------------------------------------------


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_set_from_its_files_to_a_page(name, tiny, other, root, tmp_path):
    how = {"root": root, "limit": 2, "max_new_tokens": 24, "progress": False}
    runs = [
        evaluate(*one, name, out=tmp_path / str(place), suffix="", **how)
        for place, one in enumerate((tiny, other))
    ]
    assert [len(run.records) for run in runs] == [2, 2]
    found = compare(*runs)
    assert found.table.loc[name, "questions"] == 2
    page = vgpo.evaluation.browse(*runs).page()
    assert page.count("data:image/png;base64,") >= 2


def test_a_suite_is_its_sets(tiny, root):
    run = evaluate(
        *tiny, "vision", root=root, limit=1, suffix="", max_new_tokens=2, progress=False
    )
    assert list(run.summary().index) == [
        *("logicvista", "counting", "mmmu_pro", "mathverse_v")
    ]


# -- degraded pictures ----------------------------------------------------------------


def test_views_change_pictures_and_nothing_else():
    picture = EXAMPLES[0].image
    for view in ("patches", "noise", "blank"):
        changed = degrade(view, picture, seed=0)
        assert changed.size == picture.size
        assert np.asarray(changed).tolist() != np.asarray(picture).tolist()
        assert np.array_equal(degrade(view, picture, 0), changed)
    assert degrade("none", picture, 0) is picture
    with pytest.raises(ValueError, match="view must be"):
        degrade("swapped", picture, 0)


def test_partners_have_as_many_pictures_and_never_the_same():
    pictures = [("a",), ("b",), ("a",), ("c", "d"), (), ("e", "f"), ("g", "h", "i")]
    found = partners(pictures, seed=3)
    assert found[4] is None and found[6] is None
    assert (found[3], found[5]) == (5, 3)
    for place in (0, 1, 2):
        assert len(pictures[found[place]]) == 1
        assert pictures[found[place]] != pictures[place]


def test_robustness_pairs_each_view_with_the_true_pictures(tiny, root, tmp_path):
    found = robustness(
        *tiny, "counting", views=["blank", "swapped"], root=root, out=tmp_path, **SHORT
    )
    assert list(found.runs) == ["none", "blank", "swapped"]
    assert found.table["view"].tolist() == ["blank", "swapped"]
    assert found.table["questions"].tolist() == [4, 4]
    ids = {
        view: [(r["question_id"], r["pictures"]) for r in run.records]
        for view, run in found.runs.items()
    }
    assert ids["none"] == ids["blank"] == ids["swapped"]
    assert texts(found.runs["none"]) != texts(found.runs["blank"])
    assert load_run(tmp_path / "blank").settings["view"] == "blank"
    with pytest.raises(ValueError, match="name the views in views"):
        robustness(*tiny, "counting", view="blank")


# -- backends -------------------------------------------------------------------------


def test_the_models_own_settings_do_not_leak_into_the_answers(tiny):
    model, processor = load_tiny()
    questions = load_questions("testbed", limit=2)
    prompts = [Prompt(r["prompt"], tuple(r["images"])) for r in questions.rows]
    decoding = Decoding(max_new_tokens=12)
    plain = Transformers(model, processor).answer(prompts, decoding, None)
    model.generation_config.update(num_beams=3, repetition_penalty=5.0, do_sample=True)
    assert Transformers(model, processor).answer(prompts, decoding, None) == plain
    assert {one.finish for one in plain} <= {"stop", "length"}
    assert all(one.tokens == 12 for one in plain if one.finish == "length")


def test_vllm_that_is_not_there_says_so(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match="pip install vllm"):
        VLLM("model", tiny[1])


# -- the command line -----------------------------------------------------------------


def test_the_command_line_runs_compares_and_shows(root, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {CHECKPOINT}\nsuite: [counting]\nroot: {root}\nsuffix: ''\n"
        "max_new_tokens: 48\nlimit: 3\nmin_pixels: 784\n"
    )
    for name in ("one", "two"):
        out = str(tmp_path / name)
        assert main(["run", "--config", str(recipe), "--out", out]) == 0
    assert "counting" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert "+0.000" in capsys.readouterr().out
    page = tmp_path / "page.html"
    runs = [str(tmp_path / name) for name in ("one", "two")]
    assert main(["browse", *runs, "--page", str(page)]) == 0
    assert "<!doctype html>" in page.read_text()[:20]
    settings = json.loads((tmp_path / "one" / "run.json").read_text())
    assert settings["suffix"] == {"counting": ""}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "nowhere", "nowhere"], "holds no run"),
        (["browse", "a", "b", "c", "--page", "x.html"], "one run or two"),
        (["run", "--config", "nowhere.yaml"], "cannot be read"),
        (
            ["run", "--model", "/nowhere", "--suite", "testbed", "--out", "x"],
            "/nowhere",
        ),
    ],
)
def test_a_wrong_command_ends_with_a_message(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_the_sets_are_listed(capsys):
    assert main(["sets"]) == 0
    assert "PAPO-Galaxy/PAPO_eval" in capsys.readouterr().out


def test_every_view_has_a_name_on_the_command_line():
    assert VIEWS[0] == "none" and len(set(VIEWS)) == 5


def test_files_of_one_name_are_told_apart_by_names_of_their_own(tmp_path, capsys):
    files = [tmp_path / folder / "test.jsonl" for folder in ("a", "b", "c=d")]
    for file in files:
        file.parent.mkdir()
        file.write_text('{"question": "2 + 3 ?", "answer": "5"}\n')
    given = ["run", "--model", str(CHECKPOINT), "--out", str(tmp_path / "run")]
    given += ["--suffix=", "--max-new-tokens", "2", "--suite"]
    with pytest.raises(SystemExit, match="2"):
        main([*given, *map(str, files)])
    assert "NAME=PATH" in capsys.readouterr().err
    assert main([*given, f"a={files[0]}", f"b={files[1]}", str(files[2])]) == 0
    run = load_run(tmp_path / "run")
    assert [one["set"] for one in run.records] == ["a", "b", "test"]


def test_a_stop_by_the_keyboard_says_how_to_go_on(monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vgpo.evaluation.__main__.load_run", stop)
    with pytest.raises(SystemExit, match="130"):
        main(["compare", "a", "b"])
    assert "the same command goes on" in capsys.readouterr().err


# -- recipes --------------------------------------------------------------------------

RECIPES = sorted((ROOT / "recipes" / "evaluation").glob("*.yaml"))


@pytest.mark.parametrize(
    "path", [p for p in RECIPES if "notebook" not in p.stem], ids=lambda p: p.stem
)
def test_recipes_are_settings_of_the_command_line(path):
    parser = _parser()
    args = parser.parse_args(_with_config(parser, ["run", "--config", str(path)]))
    assert (args.min_pixels, args.max_pixels) == (262_144, 4_194_304)
    assert args.max_new_tokens == 2048
    assert all(one in SUITES or one in CATALOGUE for one in args.suite)


def test_the_command_line_wins_over_the_recipe():
    parser = _parser()
    given = ["run", "--config", str(RECIPES[-1]), "--max-new-tokens", "7"]
    assert parser.parse_args(_with_config(parser, given)).max_new_tokens == 7


# -- vLLM, by what it is called with --------------------------------------------------


class Engine:
    """What vLLM's LLM is asked, and an answer of its form."""

    def __init__(self, **settings):
        self.settings = settings

    def generate(self, asked, how, use_tqdm):
        self.asked, self.how = asked, how
        one = SimpleNamespace(text="so \\boxed{1}", token_ids=[1, 2], finish_reason="")
        one.finish_reason = "length" if how["max_tokens"] == 2 else "stop"
        return [SimpleNamespace(outputs=[one]) for _ in asked]


@pytest.fixture
def vllm(monkeypatch):
    """In the place of the library, which needs a GPU."""
    module = SimpleNamespace(
        LLM=Engine, SamplingParams=lambda **how: how, __version__="0"
    )
    monkeypatch.setitem(sys.modules, "vllm", module)


def test_vllm_gets_prompts_pictures_and_settings(vllm, tiny, root):
    backend = VLLM("name", tiny[1])
    assert backend.engine.settings["trust_remote_code"] is False
    run = evaluate(
        None, tiny[1], "counting", backend=backend, name="m", root=root, **SHORT
    )
    assert backend.engine.how["temperature"] == 0
    [one, *_] = backend.engine.asked
    assert one["prompt"].count("<|image_pad|>") == 1
    assert isinstance(one["multi_modal_data"]["image"][0], Image.Image)
    assert run.settings["backend"] == {"name": "vllm", "version": "0"}
    assert run.summary().loc["counting", "cut_off"] == 0
    several = Prompt(
        [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}],
        (EXAMPLES[0].image, EXAMPLES[1].image),
    )
    decoding = Decoding(samples=1, temperature=0.7, top_p=0.9, max_new_tokens=3)
    backend.answer([several], decoding, 2**40)
    [one] = backend.engine.asked
    assert len(one["multi_modal_data"]["image"]) == 2
    assert one["prompt"].count("<|image_pad|>") == 2
    how = backend.engine.how
    assert (how["temperature"], how["top_p"], how["max_tokens"]) == (0.7, 0.9, 3)
    assert 0 <= how["seed"] < 2**31
    cut = backend.answer([], Decoding(max_new_tokens=2, samples=1), 5)
    assert cut == [] and backend.engine.how["seed"] == 5


def test_vllm_makes_as_many_pixels_as_it_is_told(vllm, root, tmp_path, monkeypatch):
    """Else it goes by the checkpoint, whatever the run's settings say."""
    engines = []
    monkeypatch.setattr(
        sys.modules["vllm"],
        "LLM",
        lambda **settings: engines.append(Engine(**settings)) or engines[0],
    )
    given = [
        "run",
        "--backend",
        "vllm",
        "--model",
        str(CHECKPOINT),
        "--root",
        str(root),
    ]
    given += ["--suite", "counting", "--limit", "1", "--out", str(tmp_path / "run")]
    assert main([*given, "--min-pixels", "784", "--max-pixels", "7840"]) == 0
    pixels = {"min_pixels": 784, "max_pixels": 7840}
    assert engines[0].settings["mm_processor_kwargs"] == pixels
    size = load_run(tmp_path / "run").settings["pixels"]["size"]
    assert size == {"shortest_edge": 784, "longest_edge": 7840}


def test_the_command_line_says_that_vllm_is_not_there(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "vllm", None)
    given = ["run", "--backend", "vllm", "--model", str(CHECKPOINT)]
    with pytest.raises(SystemExit, match="2"):
        main([*given, "--suite", "testbed", "--out", str(tmp_path / "run")])
    assert "pip install vllm" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
