"""The command for a GPU, in small on a CPU: the very same code."""

import json

import pytest
import torch

from benchmarks import gpu, gpu_parts
from benchmarks.gpu_parts import FULL, TINY
from vgpo.models.adapters import skeleton_of
from vgpo.testbed import build_processor


def recorded(folder, part):
    return json.loads((folder / f"gpu_{part}.json").read_text())


@pytest.mark.parametrize("part", ["scoring", "capture", "attention"])
def test_a_part_is_compared_with_its_plain_form(part, tmp_path):
    gpu.run_part(part, tmp_path, tiny=True)
    found = recorded(tmp_path, part)
    assert found["tiny"] and "failed" not in found and found["seconds"] > 0
    assert {"commit", "cpu", "torch"} <= found["machine"].keys()
    assert found["versions"]["trl"]
    times = found["milliseconds"]
    ratio = found["time_ratio_to_plain"]
    assert set(ratio) == set(times) - {"plain"} and "vgpo" in ratio
    assert min(*times.values(), *ratio.values()) > 0
    # What is compared does the same work: within what a noisy machine may do to it.
    assert min(found["peak_bytes_above_inputs"].values()) > 0


@pytest.mark.parametrize("part", ["lora_3b", "qlora_7b"])
def test_steps_of_both_trainers_are_timed(part, tmp_path):
    gpu.run_part(part, tmp_path, tiny=True)
    found = recorded(tmp_path, part)
    grpo, vgpo = found["steps"]["grpo"], found["steps"]["vgpo"]
    assert found["time_ratio"] == vgpo["milliseconds"] / grpo["milliseconds"]
    assert found["memory_ratio"] == vgpo["peak_bytes"] / grpo["peak_bytes"]
    tokens = TINY.rollouts * TINY.tokens
    assert grpo["generated_tokens_per_second"] == pytest.approx(
        1e3 * tokens / grpo["milliseconds"]
    )
    assert len(grpo["milliseconds_of_rounds"]) == TINY.rounds
    assert found["four_bit"] == part.startswith("qlora")
    assert found["estimated_bytes"] > 0


@pytest.mark.slow
def test_tests_that_need_a_gpu_are_counted(tmp_path):
    gpu.run_part("tests", tmp_path, tiny=True)
    found = recorded(tmp_path, "tests")
    assert found["tests"] >= 4 and found["failures"] == found["errors"] == 0
    if not torch.cuda.is_available():
        assert found["skipped"] == found["tests"]


def test_a_failure_keeps_what_was_measured_before_it(tmp_path, monkeypatch):
    def measure_and_fail(scale, record):
        record(milliseconds={"vgpo": 1.0})
        raise RuntimeError(f"no room\nin {gpu.ROOT}")

    monkeypatch.setattr(gpu_parts, "bench_scoring", measure_and_fail)
    with pytest.raises(RuntimeError):
        gpu.run_part("scoring", tmp_path, tiny=True)
    found = recorded(tmp_path, "scoring")
    assert found["milliseconds"] == {"vgpo": 1.0}
    assert found["failed"] == "RuntimeError: no room in ."


def test_a_way_without_the_memory_leaves_the_others_their_figures():
    def too_much():
        raise torch.OutOfMemoryError("CUDA out of memory")

    found = gpu_parts._compared(
        {"vgpo": lambda: torch.ones(9), "plain": too_much}, TINY, "plain"
    )
    assert found["out_of_memory"] == {"plain": "CUDA out of memory"}
    assert found["milliseconds"].keys() == {"vgpo"}
    assert "time_ratio_to_plain" not in found


def test_slow_parts_are_stopped_and_the_others_go_on(tmp_path, capfd):
    (tmp_path / "gpu_capture.json").write_text('{"milliseconds": "of another run"}')
    done = gpu.run_all(["scoring", "capture"], tmp_path, tiny=True, seconds=2.0)
    assert list(done) == ["scoring", "capture"]
    for part in done:
        assert done[part]["failed"].startswith("stopped: it took more than 0 s")
        assert recorded(tmp_path, part)["failed"] == done[part]["failed"]
    assert "milliseconds" not in recorded(tmp_path, "capture")
    assert recorded(tmp_path, "summary")["parts"] == done


@pytest.mark.slow
def test_the_command_runs_a_part_in_a_process_of_its_own(tmp_path, capfd):
    arguments = ["--tiny", "--parts", "scoring", "--output", str(tmp_path)]
    assert gpu.main([*arguments, "--seconds", "5200"]) == 0
    assert "failed" not in recorded(tmp_path, "scoring")
    assert "ok" in capfd.readouterr().out


def test_all_parts_together_take_less_than_nine_minutes():
    assert sum(gpu.SECONDS.values()) < 9 * 60


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_says_what_to_do(capsys):
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--tiny" in capsys.readouterr().err


def test_an_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--tiny", "--parts", "scoring,lora_9b"])
    assert "no part called lora_9b" in capsys.readouterr().err


def test_the_full_scale_is_the_published_shape_with_the_small_processors_tokens():
    processor = build_processor()
    config = gpu_parts.model_config("7B", FULL)
    text = config.text_config
    assert (text.hidden_size, text.num_hidden_layers) == (3584, 28)
    assert (text.num_attention_heads, text.num_key_value_heads) == (28, 4)
    assert FULL.image[0] * FULL.image[1] == 1200 and FULL.completion == 2048
    assert config.image_token_id == processor.image_token_id
    assert text.eos_token_id == processor.tokenizer.eos_token_id
    parameters = sum(p.numel() for p in skeleton_of(config).parameters())
    assert parameters == pytest.approx(8.29e9, rel=0.01)
    three = skeleton_of(gpu_parts.model_config("3B", FULL))
    assert sum(p.numel() for p in three.parameters()) == pytest.approx(3.75e9, rel=0.01)


@pytest.mark.parametrize("size", ["3B", "7B"])
def test_the_calculator_knows_the_models_that_are_measured(size):
    """4 bits are less than 16, and each more than its weights alone."""
    config = gpu_parts.model_config(size, FULL)
    whole, packed = (
        gpu_parts._estimated(config, FULL, four_bit) for four_bit in (False, True)
    )
    parameters = sum(p.numel() for p in skeleton_of(config).parameters())
    assert parameters / 2 < packed < whole and 2 * parameters < whole


@pytest.mark.parametrize("scale", [FULL, TINY])
def test_the_row_that_is_trained_on_has_the_image_tokens_that_are_recorded(scale):
    processor = build_processor()
    row = gpu_parts._one_row(scale)[0]
    text = processor.apply_chat_template(row["prompt"], tokenize=False)
    ids = processor(images=[row["image"]], text=[text])["input_ids"][0]
    found = list(ids).count(processor.image_token_id)
    assert found == scale.train_image[0] * scale.train_image[1]
