"""Runs that are killed, run out of disk or find a damaged checkpoint.

Each ends bit-equal to the run that nothing happened to, or in one clear line. The
runs are of four steps, two of them per generation, so that checkpoints lie in the
middle of one; the checkpoints of the second and the fourth step are kept.
"""

import base64
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from tiny_training import (
    different,
    make_trainer,
    model,
    parameters,
    reward,
    rows_of,
    train,
)
from transformers import Trainer, TrainerState

import vgpo.training.resumable
from vgpo.data import load_rows
from vgpo.train import _closing_words, main
from vgpo.training import checkpoints, refusals, resume, workarounds
from vgpo.training.checkpoints import (
    MANIFEST,
    CheckpointError,
    damage,
    newest_whole,
    write_manifest,
)
from vgpo.training.metrics import read_metrics

OPTIONS = {
    "max_steps": 4,
    "save_strategy": "steps",
    "save_steps": 2,
    "per_device_train_batch_size": 4,
    "steps_per_generation": 2,
    "num_iterations": 2,
}


class Killed(Exception):
    pass


def lora():
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"])


KINDS = {"full": {}, "lora": {"peft_config": lora}}


def run(folder, kind="full", **options):
    made = {name: make() for name, make in KINDS[kind].items()}
    return train(folder, **(OPTIONS | made | options))


@pytest.fixture(scope="module", params=KINDS)
def finished(request, tmp_path_factory):
    """The kind of a run, its folder, and its weights, where nothing happened."""
    folder = tmp_path_factory.mktemp(request.param)
    trainer = run(folder, request.param)
    return request.param, folder, parameters(trainer)


# -- damage -----------------------------------------------------------------------

DAMAGES = {
    "deleted": lambda path, data: path.unlink(),
    "empty": lambda path, data: path.write_bytes(b""),
    "cut short": lambda path, data: path.write_bytes(data[: len(data) // 2]),
    "one byte short": lambda path, data: path.write_bytes(data[:-1]),
    "garbage": lambda path, data: path.write_bytes(b"\xa7" * len(data)),
    "zeros at its end": lambda path, data: path.write_bytes(
        data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
    ),
}
READ_BY_A_RESUMED_RUN = (
    "trainer_state.json",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "rollouts_0.safetensors",
)


def files_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_to_any_file_is_found_and_the_checkpoint_before_is_taken(how, finished):
    _, folder, _ = finished
    newest = folder / "checkpoint-4"
    assert newest_whole(folder) == (str(newest), [])
    assert len(files_of(newest)) > 8
    for path in files_of(newest):
        data = path.read_bytes()
        DAMAGES[how](path, data)
        try:
            found, passed_over = newest_whole(folder)
        finally:
            path.write_bytes(data)
        if path.name == MANIFEST and how == "deleted":
            # All else is there.
            assert found == str(newest)
            continue
        if len(data) == 0 or (path.name == MANIFEST and how == "one byte short"):
            continue  # a line end
        assert found == str(folder / "checkpoint-2"), path.name
        assert len(passed_over) == 1
        assert passed_over[0].startswith(f"{newest}: {path.name}")
    assert damage(newest) is None


@pytest.mark.parametrize("how", DAMAGES)
def test_checkpoint_of_an_earlier_release_is_judged_by_its_files(how, finished):
    kind, folder, _ = finished
    newest = folder / "checkpoint-4"
    weights = "adapter_model" if kind == "lora" else "model"
    manifest = (newest / MANIFEST).read_bytes()
    (newest / MANIFEST).unlink()
    try:
        assert damage(newest) is None
        for name in (*READ_BY_A_RESUMED_RUN, f"{weights}.safetensors"):
            path = newest / name
            data = path.read_bytes()
            DAMAGES[how](path, data)
            found = damage(newest)
            path.write_bytes(data)
            if how == "deleted" and name.startswith("rollouts"):
                assert found is None  # as in a checkpoint of plain TRL
            elif how == "zeros at its end" and name.endswith("safetensors"):
                pass  # the format holds no checksum
            elif how == "one byte short" and name.endswith("json"):
                pass
            else:
                assert found is not None, name
                assert path.stem.removeprefix("adapter_") in found
    finally:
        (newest / MANIFEST).write_bytes(manifest)


@pytest.mark.parametrize("name", READ_BY_A_RESUMED_RUN)
def test_a_checkpoint_named_and_damaged_is_refused_with_the_cure(
    name, finished, tmp_path
):
    _, folder, _ = finished
    path = folder / "checkpoint-4" / name
    data = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(CheckpointError) as refused:
            make_trainer(tmp_path).train(
                resume_from_checkpoint=str(folder / "checkpoint-4")
            )
    finally:
        path.write_bytes(data)
    for told in (str(folder / "checkpoint-4"), name, "auto"):
        assert told in str(refused.value)


def test_a_long_file_is_looked_at_throughout(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_BLOCK", 16)
    path = tmp_path / "optimizer.pt"
    data = bytes(range(256)) * 64  # 16 blocks of 64 places are a quarter of it
    path.write_bytes(data)
    whole = checkpoints._digest(path)
    assert whole == checkpoints._digest(path)
    for place in (0, len(data) // 2, len(data) - 1):
        torn = bytearray(data)
        torn[place - place % 256 : place + 300] = b"\xa7" * 300
        path.write_bytes(torn[: len(data)])
        assert checkpoints._digest(path) != whole


@pytest.mark.parametrize("lost", ["optimizer.pt", "model.safetensors", MANIFEST])
def test_run_goes_on_from_the_newest_whole_checkpoint_to_the_same_weights(
    lost, finished, tmp_path, capsys
):
    kind, folder, weights = finished
    if kind == "lora":
        lost = lost.replace("model.", "adapter_model.")
    shutil.copytree(folder, tmp_path / "cut")
    (tmp_path / "cut" / "checkpoint-4" / lost).write_bytes(b"")
    trainer = run(tmp_path / "cut", kind, resume="auto")
    assert not different(parameters(trainer), weights)
    told = capsys.readouterr().out
    assert f"Passed over {tmp_path / 'cut' / 'checkpoint-4'}: {lost}" in told
    assert f"Resuming from {tmp_path / 'cut' / 'checkpoint-2'}." in told
    # The damaged one has been written anew.
    assert damage(tmp_path / "cut" / "checkpoint-4") is None


def test_none_whole_is_said_and_the_run_begins_anew(tmp_path, capsys):
    run(tmp_path, max_steps=2)
    (tmp_path / "checkpoint-2" / "scheduler.pt").unlink()
    trainer = make_trainer(tmp_path, **OPTIONS)
    assert trainer.newest_checkpoint() is None
    told = capsys.readouterr().out
    assert "scheduler.pt is missing" in told
    assert "No whole checkpoint: a new run." in told


def test_model_without_its_optimizer_is_no_checkpoint(tmp_path):
    run(tmp_path, max_steps=2, save_only_model=True)
    found, passed_over = newest_whole(tmp_path)
    assert found is None
    assert "save_only_model" in passed_over[0]


@pytest.fixture
def of_two_processes(finished, tmp_path):
    """A checkpoint as two processes leave it, and without a manifest."""
    _, folder, _ = finished
    made = tmp_path / "checkpoint-4"
    shutil.copytree(folder / "checkpoint-4", made)
    (made / MANIFEST).unlink()
    (made / "rng_state.pth").rename(made / "rng_state_0.pth")
    (made / "rollouts_0.safetensors").unlink()
    for rank in range(2):
        resume.save_rollouts(made, rank, [], {"step": 4, "processes": 2})
    shutil.copy(made / "rng_state_0.pth", made / "rng_state_1.pth")
    return made


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize(
    "name", ["rng_state_0.pth", "rng_state_1.pth", "rollouts_1.safetensors"]
)
def test_every_process_has_its_files(name, manifest, of_two_processes):
    assert damage(of_two_processes) is None
    if manifest:
        write_manifest(of_two_processes, 4)
        assert damage(of_two_processes) is None
    (of_two_processes / name).unlink()
    assert name in damage(of_two_processes)


# -- kills and full disks ---------------------------------------------------------

SAVING = {
    "the model": (Trainer, "save_model"),
    "optimizer and scheduler": (Trainer, "_save_optimizer_and_scheduler"),
    "rollouts": (resume, "save_rollouts"),
    "random states": (Trainer, "_save_rng_state"),
    "the trainer's state": (TrainerState, "save_to_json"),
    "the manifest": (checkpoints, "write_manifest"),
    "rotation": (vgpo.training.resumable, "rotate_checkpoints"),
}


def stop_at(monkeypatch, what, stop, *, before):
    """Has the second call of a step of saving end in ``stop``, before or after it."""
    owner, name = SAVING[what]
    original, calls = getattr(owner, name), []

    def stopped(*arguments, **named):
        calls.append(name)
        if len(calls) == 2 and before:
            raise stop
        out = original(*arguments, **named)
        if len(calls) == 2:
            raise stop
        return out

    monkeypatch.setattr(owner, name, stopped)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, parameters(run(folder))


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("what", SAVING)
def test_killed_while_saving(what, before, uninterrupted, tmp_path, monkeypatch):
    """Only one checkpoint is kept, so that there are times with none but the new."""
    folder, weights = uninterrupted
    with monkeypatch.context() as patched, pytest.raises(Killed):
        stop_at(patched, what, Killed(), before=before)
        run(tmp_path, save_total_limit=1)
    found, _ = newest_whole(tmp_path)
    assert found is not None
    trainer = run(tmp_path, save_total_limit=1, resume="auto")
    assert not different(parameters(trainer), weights)
    if found.endswith("checkpoint-2"):
        assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    assert damage(tmp_path / "checkpoint-4") is None
    ours, theirs = read_metrics(tmp_path), read_metrics(folder)
    assert ours["step"].tolist() == theirs["step"].tolist()
    assert ours["reward"].equals(theirs["reward"])


FULL = {
    "of Python": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "of safetensors": SafetensorError("I/O error: No space left (os error 28)"),
    "of PyTorch": RuntimeError("PytorchStreamWriter failed writing file data/0"),
}


@pytest.mark.parametrize("error", FULL)
def test_full_disk_is_one_clear_line(error, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(CheckpointError) as told:
        stop_at(patched, "optimizer and scheduler", FULL[error], before=True)
        run(tmp_path)
    assert "\n" not in str(told.value)
    for part in ("checkpoint-4", "make room", "--resume_from_checkpoint auto"):
        assert part in str(told.value)
    found, passed_over = newest_whole(tmp_path)
    assert found == str(tmp_path / "checkpoint-2")
    assert "checkpoint-4" in passed_over[0]


def test_other_errors_keep_their_own_words(tmp_path):
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        checkpoints.writing(tmp_path),
    ):
        raise RuntimeError("out of memory")


# -- the command line -------------------------------------------------------------

COMMAND = [
    *("--model_name_or_path", "testbed", "--dtype", "float32", "--use_cpu", "true"),
    *("--bf16", "false", "--dataset", "testbed", "--testbed_size", "8"),
    *("--per_device_train_batch_size", "4", "--num_generations", "4"),
    *("--gradient_accumulation_steps", "1", "--max_completion_length", "4"),
    *("--dynamic_sampling", "false", "--report_to", "none", "--disable_tqdm", "true"),
    *("--save_strategy", "steps", "--save_steps", "1", "--learning_rate", "1e-3"),
    *("--logging_steps", "1"),
]


def command(folder, *others):
    main([*COMMAND, "--output_dir", str(folder), *others])


def state_of(folder):
    return {p: p.read_bytes() for p in files_of(folder)}


def test_the_same_command_on_a_finished_run_changes_nothing(tmp_path, capsys):
    again = partial(command, tmp_path, "--resume_from_checkpoint", "auto")
    again("--max_steps", "2")
    before = state_of(tmp_path)
    capsys.readouterr()
    again("--max_steps", "2")
    assert state_of(tmp_path) == before
    assert "This run is finished" in capsys.readouterr().out
    # Killed after the last checkpoint, before the model was written to its end.
    (tmp_path / "model.safetensors").write_bytes(b"")
    again("--max_steps", "2")
    weights = load_file(tmp_path / "model.safetensors")
    last = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(torch.equal(weights[name], last[name]) for name in last)
    rows = read_metrics(tmp_path)
    assert rows.query("loss.notna()")["step"].tolist() == [1, 2]
    assert rows["train_runtime"].notna().sum() == 1
    again("--max_steps", "3")
    rows = read_metrics(tmp_path)
    assert rows.query("loss.notna()")["step"].tolist() == [1, 2, 3]


def test_finished_by_epochs_and_without_checkpoints(tmp_path, capsys):
    again = partial(
        command,
        tmp_path,
        *("--resume_from_checkpoint", "auto", "--num_train_epochs", "1"),
        *("--testbed_size", "2", "--save_strategy", "no"),
    )
    again()
    before = state_of(tmp_path)
    again()
    assert state_of(tmp_path) == before
    assert "This run is finished" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["true", "nope", "runs/nope/checkpoint-3"])
def test_what_is_no_checkpoint_is_said_before_a_model_is_loaded(wrong, tmp_path):
    with pytest.raises(SystemExit, match="there is no folder") as ended:
        command(tmp_path, "--resume_from_checkpoint", wrong)
    assert wrong in str(ended.value)
    assert "auto" in str(ended.value)


def test_output_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(SystemExit, match=r"trainer_state\.json is missing"):
        command(tmp_path, "--resume_from_checkpoint", str(tmp_path))


@pytest.mark.slow
def test_killed_by_the_system_at_any_moment(root, tmp_path):
    """Signal 9, at the beginning of a save and in the midst of it."""
    line = [sys.executable, "-m", "vgpo.train", *COMMAND, "--max_steps", "3"]
    line += ["--output_dir", str(tmp_path / "cut"), "--resume_from_checkpoint", "auto"]
    started = subprocess.Popen(
        line,
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while started.poll() is None:
        if (tmp_path / "cut" / "checkpoint-2").exists():
            started.send_signal(signal.SIGKILL)
    started.communicate(timeout=60)
    assert started.returncode == -signal.SIGKILL
    command(tmp_path / "cut", "--max_steps", "3", "--resume_from_checkpoint", "auto")
    command(tmp_path / "whole", "--max_steps", "3")
    ours, theirs = (
        load_file(tmp_path / name / "model.safetensors") for name in ("cut", "whole")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# -- other settings ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"method": "dapo"}, "method VGPO("),
        ({"steps_per_generation": 1}, "steps_per_generation 2 -> 1"),
        (
            {"per_device_train_batch_size": 8, "steps_per_generation": 1},
            "per_device_train_batch_size 4 -> 8",
        ),
        ({"scale_rewards": "none"}, "scale_rewards group -> none"),
    ],
)
def test_rollouts_of_other_settings_are_not_gone_on_with(
    changed, told, uninterrupted, tmp_path, caplog
):
    folder, _ = uninterrupted
    shutil.copytree(folder / "checkpoint-2", tmp_path / "checkpoint-2")
    trainer = run(tmp_path, resume=str(tmp_path / "checkpoint-2"), **changed)
    assert trainer.state.global_step == 4
    assert told in caplog.text
    assert "new rollouts are made" in caplog.text


def test_the_same_settings_go_on_without_a_word(uninterrupted, tmp_path, caplog):
    folder, weights = uninterrupted
    shutil.copytree(folder / "checkpoint-2", tmp_path / "checkpoint-2")
    trainer = run(tmp_path, resume=str(tmp_path / "checkpoint-2"))
    assert not different(parameters(trainer), weights)
    assert "new rollouts" not in caplog.text


# -- weights ----------------------------------------------------------------------


@pytest.mark.parametrize("in_place", [True, False])
def test_weights_come_back_exactly_in_every_type(in_place, tmp_path, monkeypatch):
    mixed = model().to(torch.bfloat16)
    mixed.lm_head.to(torch.float32)
    with torch.no_grad():
        mixed.lm_head.weight.add_(torch.rand_like(mixed.lm_head.weight) / 100)
    mixed.save_pretrained(tmp_path)
    other = model().to(torch.bfloat16)
    other.lm_head.to(torch.float32)
    places = other.state_dict()
    if not in_place:
        monkeypatch.setattr(resume, "_places", lambda model: None)
    resume.load_weights(other, tmp_path)
    for name, value in mixed.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
        assert other.state_dict()[name].dtype == value.dtype
        assert places[name].data_ptr() == other.state_dict()[name].data_ptr()


def test_weights_are_filled_in_place():
    tiny = model()
    own = {value.data_ptr() for value in tiny.state_dict().values()}
    places = resume._places(tiny)
    assert {value.data_ptr() for value in places.values()} == own
    assert places.keys() != tiny.state_dict().keys()


@pytest.mark.parametrize("kind", KINDS)
def test_best_model_is_the_best(kind, tmp_path):
    """A reward that falls from evaluation to evaluation, so that the first is best."""

    def falling(completion_ids, trainer_state=None, **columns):
        return [value - trainer_state.global_step for value in reward(completion_ids)]

    trainer = run(
        tmp_path,
        kind,
        reward_funcs=falling,
        eval_dataset=make_trainer(tmp_path / "rows").train_dataset.select(range(4)),
        per_device_eval_batch_size=16,
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_reward",
        greater_is_better=True,
    )
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-2")
    trainer.save_model(tmp_path / "final")
    name = "adapter_model" if kind == "lora" else "model"
    final, best, last = (
        load_file(tmp_path / folder / f"{name}.safetensors")
        for folder in ("final", "checkpoint-2", "checkpoint-4")
    )
    assert all(torch.equal(final[key], best[key]) for key in best)
    assert any(not torch.equal(final[key], last[key]) for key in last)


# -- small things -----------------------------------------------------------------


def test_completions_logged_after_resuming_are_those_of_the_whole_run(tmp_path):
    """The table shows the last generation's rows until there is another."""
    options = {"log_completions": True, "num_completions_to_print": 0, "save_steps": 1}
    run(tmp_path, **options)
    table = tmp_path / "completions" / "completions_00002.parquet"
    whole = pd.read_parquet(table)
    table.unlink()
    run(tmp_path, max_steps=2, resume=str(tmp_path / "checkpoint-1"), **options)
    assert len(whole) == 8
    pd.testing.assert_frame_equal(pd.read_parquet(table), whole)


@pytest.mark.parametrize(
    ("families", "without"),
    [(["sum", "text", "count", "text"], [1, 3]), (["sum"], []), (["text"], [0])],
)
def test_rows_without_image_are_found(families, without):
    rows = rows_of(*families)
    assert refusals.rows_without_image(rows) == without
    lists = rows.map(lambda row: {"images": [row["image"]] if row["image"] else []})
    assert refusals.rows_without_image(lists) == without
    if without:
        assert refusals.rows_without_image(rows.select(without[:1])) == [0]


@pytest.mark.parametrize("column", ["images", "image", "photo"])
@pytest.mark.parametrize("form", ["path", "paths", "bytes", "base64", "struct", "null"])
def test_rows_without_image_are_found_in_data_of_any_form(form, column, tmp_path):
    Image.new("RGB", (28, 28)).save(tmp_path / "a.png")
    raw = (tmp_path / "a.png").read_bytes()
    with_one = {
        "path": str(tmp_path / "a.png"),
        "paths": [str(tmp_path / "a.png")] * 2,
        "bytes": raw,
        "base64": base64.b64encode(raw).decode(),
        "struct": {"bytes": raw, "path": None},
        "null": None,
    }[form]
    kept = [None, with_one, [] if form == "paths" else None]
    rows = {"problem": ["?"] * 3, "answer": ["3"] * 3, column: kept}
    Dataset.from_dict(rows).save_to_disk(tmp_path / "rows")
    loaded = load_rows(str(tmp_path / "rows"), image_column=column)
    expected = [i for i in range(3) if not loaded[i]["images"]]
    assert expected == ([0, 1, 2] if form == "null" else [0, 2])
    assert refusals.rows_without_image(loaded) == expected


def test_engine_that_cannot_mix_rows_says_so_before_the_first_step(tmp_path):
    trainer = make_trainer(tmp_path, train_dataset=rows_of("sum", "text"))
    trainer.is_fsdp_enabled = True
    with pytest.raises(ValueError, match=r"1 of its 2 rows have no image \(rows 1\)"):
        trainer._check_images()
    for families in (["sum", "count"], ["text", "text"]):
        trainer.train_dataset = rows_of(*families)
        trainer._check_images()


@pytest.mark.parametrize(("shift", "words"), [(0, 0), (-2, 1), (1, 1)])
def test_rewards_of_another_scale_are_said_once(shift, words, tmp_path, caplog):
    def shifted(completion_ids, **columns):
        return [value + shift for value in reward(completion_ids)]

    train(
        tmp_path,
        reward_funcs=shifted,
        max_steps=2,
        dynamic_sampling=True,
        dynamic_sampling_max_attempts=2,
    )
    assert caplog.text.count("for rewards in [0, 1]") == words


def test_closing_words_claim_no_model_that_is_not_there(tmp_path):
    trainer = make_trainer(tmp_path)
    assert "no model" in _closing_words(trainer)
    trainer.save_model(tmp_path)
    assert _closing_words(trainer) == (
        f"Model, metrics.jsonl and a model card are in {tmp_path}."
    )
    trainer.args.load_best_model_at_end = True
    assert "It is the last" in _closing_words(trainer)


def test_metrics_of_an_earlier_run_are_kept(tmp_path, caplog):
    for _ in range(3):
        train(tmp_path, max_steps=1)
    assert "now metrics-1.jsonl" in caplog.text
    assert "now metrics-2.jsonl" in caplog.text
    names = ["metrics.jsonl", "metrics-1.jsonl", "metrics-2.jsonl"]
    lengths = [len((tmp_path / name).read_text().splitlines()) for name in names]
    assert lengths == [2, 2, 2]


def test_a_second_trainer_adds_no_second_hook(tmp_path):
    tiny = model()
    for name in ("one", "two"):
        make_trainer(tmp_path / name, model=tiny)
    hooks = list(tiny._forward_pre_hooks.values())
    assert hooks.count(workarounds.empty_pixels) == 1


def test_manifest_says_the_step_and_every_file(uninterrupted):
    folder, _ = uninterrupted
    told = json.loads((folder / "checkpoint-4" / MANIFEST).read_text())
    assert told["step"] == 4
    there = {p.name for p in Path(folder / "checkpoint-4").iterdir()} - {MANIFEST}
    assert told["files"].keys() == there
