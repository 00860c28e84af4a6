"""The card of a run, merged weights, and what would be uploaded."""

import json

import pandas as pd
import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from tests.conftest import ROOT
from vgpo.hub import answering
from vgpo.models.adapters import four_bit_config, prepare_4bit_on_cpu
from vgpo.models.loading import load_model
from vgpo.publish import main, published_files, push
from vgpo.studies import claims
from vgpo.studies.claim_evidence import Recorded
from vgpo.testbed import CHECKPOINT, World
from vgpo.testbed.data import encode_examples
from vgpo.train import main as train
from vgpo.training.merging import merged_model
from vgpo.training.model_card import (
    first_and_last_reward,
    model_card,
    verdict,
    write_card,
)
from vgpo.training.run_record import public_name, read_run_record

RUN = [
    *("--model_name_or_path", "testbed", "--dataset", "testbed"),
    *("--testbed_size", "8", "--per_device_train_batch_size", "8"),
    *("--num_generations", "4", "--max_completion_length", "8", "--max_steps", "2"),
    *("--use_cpu", "true", "--bf16", "false", "--report_to", "none"),
    *("--save_strategy", "no", "--learning_rate", "0.01", "--use_peft", "true"),
    *("--dynamic_sampling", "false", "--gradient_accumulation_steps", "1"),
    *("--rewards", "accuracy", "format", "--lora_r", "4"),
]


def front_matter(card):
    _, words, rest = card.split("---\n", 2)
    return yaml.safe_load(words), rest


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with adapters. Two steps teach nothing, so they are moved by hand."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    train(["--output_dir", str(folder), *RUN])
    file = folder / "adapter_model.safetensors"
    generator = torch.Generator().manual_seed(0)
    save_file(
        {
            name: weight + 0.05 * torch.randn(weight.shape, generator=generator)
            for name, weight in load_file(file).items()
        },
        file,
    )
    return folder


@pytest.fixture
def record(run):
    return read_run_record(run)


def logits(model):
    """Next-token logits of two questions with their pictures."""
    _, processor = load_model(CHECKPOINT)
    examples = [World().example(i, seed=5) for i in range(2)]
    batch = encode_examples(processor, examples)
    batch.pop("labels")
    with torch.no_grad():
        return model.eval()(**batch).logits


# -- the record and the card of a run ------------------------------------------------


def test_a_run_says_what_it_was(record, run):
    assert record["method"] == "vgpo"
    assert record["method_settings"]["strength"] == 0.3
    assert record["rewards"] == ["accuracy_reward", "format_reward"]
    assert record["data"]["train_rows"] == 8 and record["data"]["dataset"] == "testbed"
    assert record["adapters"]["r"] == 4 and not record["four_bit"]
    assert record["settings"]["learning_rate"] == 0.01
    assert record["settings"]["max_steps"] == 2
    assert record["versions"]["trl"] and record["versions"]["torch"]
    text = (run / "training.json").read_text() + (run / "README.md").read_text()
    assert str(run.parent) not in text and "output_dir" not in text


def test_a_run_leaves_its_card(run):
    head, card = front_matter((run / "README.md").read_text())
    assert head["model_name"] == "small" and "license" not in head
    assert head["library_name"] == "peft" and "vgpo" in head["tags"]
    assert verdict()["text"] in card and "no evidence that it is better" in card
    assert "No evaluation was given" in card and "On 8 rows." in card
    settings = yaml.safe_load(card.split("```yaml\n")[1].split("\n```")[0])
    assert settings["settings"]["learning_rate"] == 0.01
    assert "PeftModel.from_pretrained(base, 'small')" in card


def test_a_method_of_which_the_ledger_says_nothing_has_no_verdict(record):
    card = model_card(record | {"method": "dapo"}, name="x")
    assert verdict()["text"] not in card and "*dapo*" in card


def test_the_verdict_of_cards_is_the_ledgers():
    written = yaml.safe_load((ROOT / "book" / "claims.yaml").read_text())
    found = claims.make_verdict(
        written, Recorded(ROOT / "results", ROOT / "recipes" / "experiments")
    )
    assert verdict() == found, "python -m vgpo.studies.claims"


def test_results_licence_and_rewards_are_said(record):
    table = pd.DataFrame(
        {
            "questions": [40],
            "greedy": [0.5],
            "greedy_low": [0.352],
            "greedy_high": 0.648,
        },
        index=["a|b"],
    )
    card = model_card(
        record, name="x", licence="mit", evaluation=table, rewards=(0.25, 0.5)
    )
    head, body = front_matter(card)
    assert head["license"] == "mit" and "`mit`" in body
    assert r"| a\|b | 40 | 0.500 [0.352, 0.648] |" in body
    assert "0.250 over the first 20" in body and "no evaluation: it is" in body


@pytest.mark.parametrize("licence", ["MIT", "mit\ntags: [x]", "", "a: b"])
def test_a_licence_that_is_no_identifier_is_refused(licence, record):
    with pytest.raises(ValueError, match="licence must be an identifier"):
        model_card(record, name="x", licence=licence)


HOSTILE = "a: \"b'\n---\nlicense: mit\n```\n<script>alert(1)</script> | [x](y) `z` #"


def test_hostile_names_stay_text(record):
    record = record | {
        "base_model": HOSTILE,
        "method": HOSTILE,
        "method_settings": {HOSTILE: HOSTILE},
        "data": record["data"] | {"dataset": HOSTILE, "prompt_suffix": HOSTILE},
    }
    table = pd.DataFrame({"questions": [1], "greedy": [0.5]}, index=[HOSTILE])
    card = model_card(record, name=HOSTILE, evaluation=table)
    head, body = front_matter(card)
    assert set(head) == {
        *("library_name", "model_name", "pipeline_tag", "tags"),
    }
    assert head["model_name"] == " ".join(HOSTILE.split())
    # Outside blocks of code, nothing of it is markup.
    outside, fence = [], None
    for line in body.split("\n"):
        mark = line[: len(line) - len(line.lstrip("`"))]
        if fence is None and len(mark) >= 3:
            fence = mark
        elif fence is not None and line == fence:
            fence = None
        elif fence is None:
            outside.append(line)
    assert fence is None
    text = "\n".join(outside)
    assert "<script" not in text and "[x](y)" not in text and " `z`" not in text
    assert "&lt;script&gt;" in text
    # What a reader copies is code that runs.
    code = body.split("python\n", 1)[1].split("\n```")[0].rstrip("`")
    compile(code, "card", "exec")


def test_a_name_of_the_hub_is_in_the_front_matter(record):
    data = record["data"] | {"dataset": "PAPOGalaxy/PAPO_ViRL39K_train"}
    base = {"base_model": "Qwen/Qwen2.5-VL-7B-Instruct", "data": data}
    head, body = front_matter(model_card(record | base, name="x"))
    assert head["base_model"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert head["datasets"] == ["PAPOGalaxy/PAPO_ViRL39K_train"]
    assert "from_pretrained('Qwen/Qwen2.5-VL-7B-Instruct'" in body


def test_paths_of_this_machine_are_not_published(tmp_path):
    assert public_name(str(tmp_path / "secret" / "rows.csv")).startswith("rows.csv (")
    assert public_name("./rows.csv").startswith("rows.csv (")
    assert public_name("owner/name") == "owner/name"


def test_a_short_log_has_no_first_and_last_steps(run, tmp_path):
    assert first_and_last_reward(run) is None
    lines = [{"step": i, "reward": float(i >= 20)} for i in range(40)]
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(x) + "\n" for x in lines)
    )
    assert first_and_last_reward(tmp_path) == (0.0, 1.0)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"holds no training\.json"):
        main([str(tmp_path)])
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        write_card(tmp_path)


def test_the_code_on_a_card_loads_the_model(run):
    """As it stands there, with the folder for the model's name."""
    for merged in (False, True):
        card = model_card(read_run_record(run), name=str(run), merged=merged)
        code = card.split("```python\n")[1].split("\n```")[0]
        if merged:  # what it would load is not there
            assert "PeftModel" not in code
            continue
        names = {}
        exec(code, names)
        wanted = PeftModel.from_pretrained(
            AutoModelForImageTextToText.from_pretrained(CHECKPOINT), str(run)
        )
        torch.testing.assert_close(logits(names["model"]), logits(wanted))
        assert type(names["processor"]).__name__ == "TestbedProcessor"


# -- merged weights ----------------------------------------------------------------


def test_merged_weights_answer_as_base_and_adapters_do(run, tmp_path):
    base = AutoModelForImageTextToText.from_pretrained(CHECKPOINT)
    before = logits(base)
    with_adapters = logits(PeftModel.from_pretrained(base, str(run)))
    assert not torch.allclose(before, with_adapters, atol=1e-3)
    main([str(run), "--merge", str(tmp_path / "merged"), "--licence", "mit"])
    merged, processor = load_model(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), with_adapters, atol=1e-4, rtol=1e-4)
    assert type(processor).__name__ == "TestbedProcessor"
    head, card = front_matter((tmp_path / "merged" / "README.md").read_text())
    assert head["library_name"] == "transformers" and head["license"] == "mit"
    assert "merged into" in card and "PeftModel" not in card
    assert list((tmp_path / "merged").glob("*.safetensors"))
    assert not list((tmp_path / "merged").glob("*.bin"))
    with pytest.raises(SystemExit, match="is not empty"):
        main([str(run), "--merge", str(tmp_path / "merged")])


def test_adapters_over_4_bits_are_merged_into_what_they_were_trained_on(run, tmp_path):
    """Into the 4 bits, unpacked: not into the weights before they were rounded."""
    for file in run.glob("adapter*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    record = read_run_record(run) | {"four_bit": True}
    (tmp_path / "training.json").write_text(json.dumps(record))
    model = AutoModelForImageTextToText.from_pretrained(
        CHECKPOINT,
        quantization_config=four_bit_config(
            AutoModelForImageTextToText.from_pretrained(CHECKPOINT).config,
            torch.float32,
        ),
        dtype=torch.float32,
    )
    prepare_4bit_on_cpu(model)
    wanted = logits(PeftModel.from_pretrained(model, str(run)))
    merged = merged_model(tmp_path)
    torch.testing.assert_close(logits(merged), wanted, atol=1e-3, rtol=1e-3)
    unrounded = logits(merged_model(run))
    assert not torch.allclose(logits(merged), unrounded, atol=1e-2)


def test_a_run_without_adapters_has_nothing_to_merge(tmp_path, record):
    (tmp_path / "training.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="holds no adapters to merge"):
        main([str(tmp_path), "--merge", str(tmp_path / "merged")])


def test_a_base_that_is_nowhere_is_told_at_once(run, tmp_path, monkeypatch):
    def refuse(*others, **named):
        raise ConnectionError("the hub does not answer")

    # What loads, and asks the hub six times for each of six files, is never called.
    monkeypatch.setattr("vgpo.models.loading.require_hub", refuse)
    monkeypatch.setattr("vgpo.training.merging.AutoModelForImageTextToText", None)
    base = ["--base", "runs/nosuch"]
    with pytest.raises(SystemExit, match="base: there is no folder 'runs/nosuch'; the"):
        main([str(run), "--merge", str(tmp_path / "merged"), *base])
    assert not (tmp_path / "merged").exists()


def test_merging_says_nothing_of_old_names(run, tmp_path, recwarn):
    merged_model(run)
    assert not [w for w in recwarn if "is_gradient_checkpointing" in str(w.message)]


# -- upload ------------------------------------------------------------------------


class Hub:
    """Notes what it is asked for."""

    def __init__(self):
        self.asked = []

    def create_repo(self, repository, **options):
        self.asked.append(("create", repository, options))

    def upload_folder(self, **options):
        self.asked.append(("upload", options))
        return "https://hub/commit"


def test_only_what_others_need_is_uploaded_and_only_to_a_private_place(run, tmp_path):
    for path in run.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "optimizer.pt").write_bytes(b"")
    (tmp_path / "training_args.bin").write_bytes(b"")
    (tmp_path / "checkpoint-2").mkdir()
    hub = Hub()
    with pytest.raises(ValueError, match="by a path of this machine"):
        push(tmp_path, "me/model", hub)
    assert hub.asked == []
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "Qwen/Qwen2.5-VL-7B-Instruct"
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    assert push(tmp_path, "me/model", hub) == "https://hub/commit"
    (_, repository, created), (_, uploaded) = hub.asked
    assert repository == "me/model" and created["private"]
    sent = uploaded["allow_patterns"]
    assert {"README.md", "adapter_model.safetensors", "training.json"} <= set(sent)
    assert not {"optimizer.pt", "training_args.bin", "checkpoint-2"} & set(sent)
    assert sent == published_files(tmp_path)


def test_nothing_is_uploaded_unless_it_is_asked_for(run, monkeypatch):
    def refuse(*others, **named):
        raise AssertionError("the hub was asked for something")

    monkeypatch.setattr("vgpo.publish.HfApi", refuse)
    main([str(run), "--name", "mine"])
    assert front_matter((run / "README.md").read_text())[0]["model_name"] == "mine"
    write_card(run)


def test_a_folder_without_a_model_is_not_uploaded(tmp_path):
    with pytest.raises(ValueError, match="holds no model with a card"):
        push(tmp_path, "me/model", Hub())


def test_without_a_connection_one_line_says_so(tmp_path, run, monkeypatch):
    """The client's HTTP library has errors of its own, which are no OSError."""

    class ConnectError(Exception):
        pass

    class Away(Hub):
        def create_repo(self, repository, **options):
            raise ConnectError("Name or service not known")

    merged = tmp_path / "merged"
    monkeypatch.setattr("vgpo.publish.HfApi", Away)
    with pytest.raises(SystemExit, match="hub does not answer: Name or service"):
        main([str(run), "--merge", str(merged), "--push_to_hub", "me/model"])


@pytest.mark.parametrize("error", [TypeError, FileNotFoundError])
def test_other_errors_are_not_taken_for_a_lost_connection(error):
    with pytest.raises(error), answering():
        raise error("a fault")
