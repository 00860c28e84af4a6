"""The command line on data by name: of the catalogue, and of files in any form."""

import json

import pytest
from datasets import Dataset, List
from datasets import Image as ImageFeature
from PIL import Image

from vgpo.data import CATALOGUE
from vgpo.studies.small_sets import write_small_set
from vgpo.testbed import World
from vgpo.train import main
from vgpo.training.build import build_trainer, load_data
from vgpo.training.settings import TrainArguments, parse

MODEL = ["--model_name_or_path", "testbed"]
ON_CPU = ["--bf16", "false", "--use_cpu", "true"]
ONE_STEP = ["--max_steps", "1", "--report_to", "none", "--save_strategy", "no"]


def settings(tmp_path, *arguments):
    return parse(["--output_dir", str(tmp_path / "run"), *ON_CPU, *arguments])


FOUR_AT_ONCE = [
    *("--per_device_train_batch_size", "8", "--num_generations", "2"),
    *("--gradient_accumulation_steps", "1", "--max_completion_length", "8"),
]


@pytest.fixture
def copies(tmp_path):
    """Copies of two public sets in their repositories' form, one row damaged."""
    examples = World().examples(6, ("count",))
    file = write_small_set(CATALOGUE["virl39k"], examples, tmp_path)
    rows = Dataset.from_parquet(str(file), keep_in_memory=True)
    kept = rows.cast_column("images", List(ImageFeature(decode=False))).to_list()
    kept[4]["images"][0]["bytes"] = kept[4]["images"][0]["bytes"][:90]
    broken = Dataset.from_list(kept).cast_column("images", List(ImageFeature()))
    broken.to_parquet(file)
    write_small_set(CATALOGUE["counting"], examples[:2], tmp_path)
    return tmp_path


def test_a_name_of_the_catalogue_is_trained_on(copies, tmp_path, caplog):
    arguments = [*MODEL, *FOUR_AT_ONCE, "--dataset", "virl39k"]
    arguments += ["--dataset_root", str(copies), "--rewards", "accuracy"]
    with pytest.raises(ValueError, match=r"'virl39k': 1 of 6 rows .* row 4: .*decoded"):
        build_trainer(*settings(tmp_path, *arguments))
    trainer = build_trainer(
        *settings(tmp_path, *arguments, "--on_bad_row", "skip", *ONE_STEP)
    )
    assert "1 of 6 rows left out: row 4" in caplog.text
    assert len(trainer.train_dataset) == 5
    assert trainer.train_dataset[0]["images"][0].mode == "RGB"
    # Pictures are decoded when a row is asked for: what is kept is bytes.
    kept = trainer.train_dataset.with_format("arrow")[0]["images"][0].as_py()
    assert set(kept[0]) == {"bytes", "path"}
    trainer.train()
    assert trainer.state.global_step == 1


def test_a_part_of_the_catalogues_split_is_kept_to(copies, tmp_path):
    _, args, _ = settings(tmp_path, *FOUR_AT_ONCE, "--eval_strategy", "steps")
    arguments = TrainArguments(
        dataset="virl39k", dataset_root=str(copies), dataset_split="train[:4]"
    )
    with pytest.raises(ValueError, match=r'eval_split: .*Unknown split "test"'):
        load_data(arguments, args, [])
    arguments.eval_split = "train[5:]"
    assert [len(rows) for rows in load_data(arguments, args, [])] == [4, 1]
    # The same questions under another name and in another form
    arguments.eval_split, arguments.eval_dataset = None, "counting"
    train_rows, eval_rows = load_data(arguments, args, [])
    assert len(eval_rows) == 2 and train_rows[0]["answer"] == eval_rows[0]["answer"]


def test_training_on_a_benchmark_is_said(copies, tmp_path, caplog):
    _, args, _ = settings(tmp_path, *FOUR_AT_ONCE)
    arguments = TrainArguments(dataset="counting", dataset_root=str(copies))
    assert len(load_data(arguments, args, [])[0]) == 2
    assert "counting is there for evaluation" in caplog.text


def test_a_name_of_the_catalogue_is_checked(copies, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"dataset: virl39k\ndataset_root: {copies}\non_bad_row: skip\n")
    with pytest.raises(SystemExit) as done:
        main(
            [
                *("--config", str(recipe), "--output_dir", str(tmp_path / "run")),
                *(*ON_CPU, *MODEL, *FOUR_AT_ONCE, "--check"),
            ]
        )
    report = capsys.readouterr().out
    assert done.value.code == 0, report
    assert "data: 5 rows to train on" in report
    assert "5 of 5 references get 1" in report


@pytest.mark.parametrize(
    "row",
    [
        {"query": "<image>How many?", "ground_truth": "3", "image": "a.png"},
        {
            "conversations": [
                {"from": "human", "value": "<image>How many?"},
                {"from": "gpt", "value": "3"},
            ],
            "images": ["a.png"],
        },
    ],
)
def test_any_form_of_a_file_is_trained_on(row, tmp_path):
    Image.new("RGB", (56, 28), "red").save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 4)
    _, args, _ = settings(tmp_path, *FOUR_AT_ONCE)
    rows, _ = load_data(TrainArguments(dataset=str(tmp_path / "rows.jsonl")), args, [])
    assert len(rows) == 4 and rows[0]["answer"] == "3"
    kinds = [part["type"] for part in rows[0]["prompt"][0]["content"]]
    assert kinds[0] == "image" and rows[0]["images"][0].size == (56, 28)
