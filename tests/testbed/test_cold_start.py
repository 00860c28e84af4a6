"""The cold start: the same weights after a kill, whole files, clear complaints."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file

from vgpo.testbed import LookAwayWorld, World, load_tiny
from vgpo.testbed.answers import answer
from vgpo.testbed.cold_start import (
    COLD_STARTS,
    STAGES,
    ColdStartConfig,
    LargeColdStart,
    LookAwayColdStart,
    _load_state,
    batches,
    encoded_batches,
    main,
    reading_hits,
    teaching_loss,
    train,
)
from vgpo.testbed.data import encode_examples
from vgpo.testbed.model import build_tiny
from vgpo.testbed.processor import build_processor

SHORT = ColdStartConfig(
    steps=6, batch_size=4, warmup_steps=2, decay_steps=2, threads=1, seed=3
)


def run(folder, config=SHORT, **options):
    counts = {"curve_count": 1, "final_count": 2}
    options = {"evaluate_every": 3, "save_every": 2} | counts | options
    return train(config, folder, **options)


@pytest.fixture(scope="module", autouse=True)
def short_answers():
    """An untrained model never stops by itself, and nobody reads what it says."""
    import vgpo.testbed.cold_start as module

    def answer_briefly(*arguments, max_new_tokens=None, **named):
        return answer(*arguments, max_new_tokens=6, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "answer", answer_briefly)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, short_answers):
    return run(tmp_path_factory.mktemp("cold_start") / "whole")


class Killed(Exception):
    pass


def test_an_interrupted_run_ends_in_the_same_weights(finished, tmp_path, monkeypatch):
    import vgpo.testbed.cold_start as module

    steps = 0
    real = module.encode_examples

    def dies_in_the_fifth_step(processor, examples):
        nonlocal steps
        steps += 1
        if steps == 5:
            raise Killed
        return real(processor, examples)

    monkeypatch.setattr(module, "encode_examples", dies_in_the_fifth_step)
    with pytest.raises(Killed):
        run(tmp_path)
    monkeypatch.undo()
    run(tmp_path)
    whole = load_file(finished / "model.safetensors")
    resumed = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    untimed = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(f)]
        for f in ((finished / "curve.csv").open(), (tmp_path / "curve.csv").open())
    ]
    assert untimed[0] == untimed[1]


def test_a_finished_run_is_a_checkpoint_with_its_record(finished):
    model, processor = load_tiny(finished)
    assert not (finished / "state.safetensors").exists()
    assert (finished / "cold_start.json").exists()
    assert not list(finished.glob(".*"))
    batch = encode_examples(processor, [World().example(0)])
    assert torch.isfinite(model(**batch).loss)


@pytest.mark.slow
def test_a_killed_process_leaves_a_state_that_can_be_read(tmp_path):
    command = [sys.executable, "-m", "vgpo.testbed.cold_start", "--output"]
    command += [str(tmp_path), "--steps", "100000", "--batch-size", "2"]
    command += ["--save-every", "1", "--threads", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    state = tmp_path / "state.safetensors"
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    config = ColdStartConfig(steps=100000, batch_size=2, threads=1)
    model = build_tiny(build_processor(), seed=0)
    optimizer = torch.optim.AdamW(model.parameters())
    progress = _load_state(state, config, model, optimizer)
    assert progress.step >= 1
    assert not (tmp_path / "model.safetensors").exists()


def test_other_settings_do_not_silently_continue_a_run(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="cannot be read"):
        run(tmp_path)
    (tmp_path / "state.safetensors").unlink()
    _interrupt_after_first_save(tmp_path)
    with pytest.raises(ValueError, match="learning_rate"):
        run(tmp_path, replace(SHORT, learning_rate=2e-3))


def _interrupt_after_first_save(folder, config=SHORT):
    import vgpo.testbed.cold_start as module

    real = module._save_state

    def save_then_stop(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_save_state", save_then_stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder, config)


def test_batches_are_a_pure_function_of_step_and_stage():
    config = replace(SHORT, batch_size=3)
    stream = batches(config, 0, 4)
    through = [next(stream) for _ in range(12)]
    stream = batches(config, 7, 4)
    late = [next(stream) for _ in range(5)]
    for a, b in zip(through[7:], late, strict=True):
        assert [e.completion for e in a] == [e.completion for e in b]
    questions = [e.completion + e.question for b in through for e in b]
    assert len(set(questions)) > 0.9 * len(questions)


def test_reading_is_judged_against_the_picture_not_the_taught_slip():
    processor = build_processor()
    world = World(forgetfulness=0.6)
    examples = [world.example(i) for i in range(12)]
    assert not all(t.faithful for e in examples for t in e.chain)
    labels = encode_examples(processor, examples)["labels"]
    vocabulary = len(processor.tokenizer)
    ids = labels.clamp(min=0)
    for row, example in enumerate(examples):
        start = labels.shape[1] - 1 - len(example.chain)
        for place, token in enumerate(example.chain):
            if token.truth is not None:
                (true_id,) = processor.tokenizer.encode(token.truth)
                ids[row, start + place] = true_id
    seer = torch.nn.functional.one_hot(ids.roll(-1, 1), vocabulary).float()
    hits = reading_hits(seer, labels, examples, processor)
    assert len(hits) == sum(e.reads for e in examples)
    assert all(right for _, right in hits)
    parrot = torch.nn.functional.one_hot(labels.clamp(min=0).roll(-1, 1), vocabulary)
    taught = reading_hits(parrot.float(), labels, examples, processor)
    faithful = [t.faithful for e in examples for t in e.chain if t.truth is not None]
    assert [right for _, right in taught] == faithful


def test_the_look_away_cold_start_goes_on_from_the_first_worlds_weights():
    first, known = load_tiny()
    model, processor = LookAwayColdStart(seed=3).start()
    text = "<|im_start|>user\nAdd red + blue ?<|im_end|>\n<think> red = 5 ."
    with torch.no_grad():
        old = first(**known(text=text, return_tensors="pt")).logits
        new = model.eval()(**processor(text=text, return_tensors="pt")).logits
    vocab, ids = known.tokenizer.get_vocab(), processor.tokenizer.get_vocab()
    assert set(vocab) < set(ids) and len(ids) == len(vocab) + 5
    words = sorted(vocab)
    torch.testing.assert_close(
        new[..., [ids[w] for w in words]], old[..., [vocab[w] for w in words]]
    )
    assert torch.isfinite(new).all()


def test_only_values_looked_up_are_judged_as_reads_and_weigh_more():
    processor = LookAwayColdStart().start()[1]
    world = LookAwayWorld(forgetfulness=0.9)
    examples = [world.example(i, family="sum") for i in range(8)]
    tokens = [t for e in examples for t in e.chain]
    looked_up = sum(t.source == "image" for t in tokens)
    assert any(t.source == "memory" for t in tokens)
    labels = encode_examples(processor, examples)["labels"]
    logits = torch.zeros(*labels.shape, len(processor.tokenizer))
    assert len(reading_hits(logits, labels, examples, processor)) == looked_up
    # A model that is sure of every token but those looked up, where it knows nothing.
    logits = (
        50.0
        * torch.nn.functional.one_hot(
            labels.clamp(min=0).roll(-1, 1), logits.shape[-1]
        ).float()
    )
    for row, example in enumerate(examples):
        start = labels.shape[1] - 2 - len(example.chain)
        for place, token in enumerate(example.chain):
            if token.source == "image":
                logits[row, start + place] = 0
    count = len(tokens) + len(examples)  # each chain ends in <|im_end|>
    loss = teaching_loss(logits, labels, examples, image_weight=4.0)
    expected = 4 * looked_up / (count + 3 * looked_up) * math.log(logits.shape[-1])
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_a_look_away_run_is_resumed_to_the_same_weights(tmp_path):
    config = LookAwayColdStart(
        steps=4, batch_size=2, warmup_steps=1, decay_steps=1, seed=3
    )
    whole = load_file(run(tmp_path / "whole", config) / "model.safetensors")
    _interrupt_after_first_save(tmp_path / "half", config)
    assert (tmp_path / "half" / "state.safetensors").exists()
    resumed = load_file(run(tmp_path / "half", config) / "model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    record = json.loads((tmp_path / "half" / "cold_start.json").read_text())
    assert "--world look_away" in record["command"]
    assert "--steps 4" in record["command"] and "--seed 3" in record["command"]
    assert "forgetfulness" not in record["command"]


TINY_LARGE = LargeColdStart(
    steps=5, batch_size=4, warmup_steps=2, decay_steps=2, seed=3,
    hidden_size=192, layers=5, vision_layers=2, device="cpu",
)  # fmt: skip


def test_the_larger_model_is_the_same_by_examples_drawn_ahead(tmp_path):
    plain = run(tmp_path / "plain", TINY_LARGE)
    ahead = run(tmp_path / "ahead", TINY_LARGE, workers=2)
    weights = [load_file(folder / "model.safetensors") for folder in (plain, ahead)]
    assert all(torch.equal(weights[1][name], one) for name, one in weights[0].items())
    record = json.loads((ahead / "cold_start.json").read_text())
    model = load_tiny(ahead)[0]
    assert record["parameters"] == sum(p.numel() for p in model.parameters())
    assert len(model.model.language_model.layers) == 5


def test_examples_drawn_ahead_begin_within_a_pool():
    processor = TINY_LARGE.start()[1]
    config = replace(TINY_LARGE, steps=20)
    one = encoded_batches(config, processor, 3, 0)
    two = encoded_batches(config, processor, 3, 0, workers=1)
    for (batch, examples), (other, same) in zip(islice(one, 10), two, strict=False):
        assert [e.chain for e in examples] == [e.chain for e in same]
        assert all(torch.equal(batch[name], other[name]) for name in batch)


def test_the_default_larger_model_is_of_twenty_million_parameters():
    model = LargeColdStart().start()[0]
    assert 2e7 < sum(p.numel() for p in model.parameters()) < 2.5e7


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--world", "look_away_large", "--output", str(tmp_path)])
    assert "device: there is no GPU" in capsys.readouterr().err


def test_a_setting_of_another_world_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--layers", "3", "--output", str(tmp_path)])
    assert "--layers: the cold start of misread has no such" in capsys.readouterr().err


def test_a_checkpoint_that_is_not_shipped_says_how_to_make_it():
    with pytest.raises(FileNotFoundError, match="--world look_away_large --output"):
        load_tiny("look_away_large")


@pytest.mark.parametrize("world", COLD_STARTS)
def test_the_recorded_command_repeats_the_settings(world, monkeypatch, tmp_path):
    import vgpo.testbed.cold_start as module

    seen = []
    monkeypatch.setattr(module, "train", lambda config, **_: seen.append(config))
    config = replace(COLD_STARTS[world](), steps=7, forgetfulness=0.5)
    words = module._command(config).split()
    main(words[words.index("--output") :])
    assert seen == [config] and type(seen[0]) is type(config)


def test_stages_grow_up_to_the_small_world():
    config = ColdStartConfig()
    sizes = [max(r * c for r, c in stage["grids"]) for stage in STAGES]
    assert sizes == sorted(sizes)
    assert config.world().grids == World().grids and config.world().bars == World().bars


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"steps": 0}, "steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"pass_mark": 2.0}, "pass_mark"),
        ({"forgetfulness": 1.0}, "forgetfulness"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_settings_are_named(wrong, name):
    with pytest.raises(ValueError, match=name):
        ColdStartConfig(**wrong)


def test_command_line_names_the_wrong_option(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--output", str(tmp_path), "--verbosity", "1.5"])
    assert "verbosity" in capsys.readouterr().err


def test_a_missing_or_damaged_checkpoint_says_which_file_and_the_cure(
    finished, tmp_path
):
    with pytest.raises(FileNotFoundError, match=r"^folder: there is no .*cold_start"):
        load_tiny(tmp_path / "nowhere")
    for file in finished.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="cold_start"):
        load_tiny(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors.*cold_start"):
        load_tiny(tmp_path)
