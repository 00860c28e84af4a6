"""Recorded runs: settings, the record and its reuse, the command line."""

import json

import pytest
from bitsandbytes.nn import Linear4bit

from vgpo.studies.experiments import (
    TRAINED_FAMILIES,
    TestbedRun,
    load_runs,
    run_once,
    testbed_trainer,
)
from vgpo.studies.experiments.runs import main
from vgpo.testbed import FAMILIES

SMALL = {"steps": 1, "prompts_per_step": 1, "rollouts": 2, "max_completion_length": 8}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "ppo"),
        ("adapters", "dora"),
        ("steps", 0),
        ("prompts_per_step", 0),
        ("rollouts", 0),
        ("max_completion_length", 0),
        ("steps", 1.5),
        ("steps", "many"),
        ("rollouts", True),
        ("warmup_steps", -1),
        ("seed", -1),
        ("learning_rate", "1e-4"),
        ("learning_rate", float("nan")),
        ("learning_rate", -1.0),
    ],
)
def test_wrong_settings_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"^{field} must be"):
        TestbedRun(**{field: value})


def test_methods_differ_in_nothing_but_the_method(tmp_path):
    dapo, vgpo = (
        TestbedRun(method=m).config(tmp_path).to_dict() for m in ("dapo", "vgpo")
    )
    changed = {name for name in dapo if dapo[name] != vgpo[name]}
    assert changed == {"method", "intra_trajectory", "inter_trajectory"}


@pytest.mark.parametrize("adapters", ["none", "lora", "qlora"])
def test_what_is_trained(adapters, tmp_path):
    run = TestbedRun(adapters=adapters, **SMALL)
    model = testbed_trainer(run, tmp_path).model
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(("lora_" in name) == (adapters != "none") for name in trained)
    four_bit = [m for m in model.modules() if isinstance(m, Linear4bit)]
    assert bool(four_bit) == (adapters == "qlora")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "vgpo-seed0"
    return folder, run_once(TestbedRun(**SMALL), folder, questions=1)


def test_a_run_is_recorded(recorded):
    folder, record = recorded
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.csv", "run.json"]
    assert set(record["before"]) == set(record["after"]) == set(FAMILIES)
    assert record["run"]["adapters"] == "none"
    assert "reward" in (folder / "metrics.csv").read_text().splitlines()[0]
    table = load_runs(folder.parent)
    assert len(table) == 2 * len(FAMILIES)
    assert set(table["method"]) == {"vgpo"}


def test_a_finished_run_is_not_made_again(recorded):
    folder, record = recorded
    stamp = (folder / "run.json").stat().st_mtime_ns
    assert run_once(TestbedRun(**SMALL), folder) == record
    assert (folder / "run.json").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="other settings"):
        run_once(TestbedRun(**(SMALL | {"seed": 1})), folder)


def test_records_without_a_later_setting_are_read(recorded, tmp_path):
    _, record = recorded
    older = json.loads(json.dumps(record))
    del older["run"]["adapters"]
    (tmp_path / "run.json").write_text(json.dumps(older))
    assert run_once(TestbedRun(**SMALL), tmp_path) == older
    with pytest.raises(ValueError, match="other settings"):
        run_once(TestbedRun(adapters="lora", **SMALL), tmp_path)


def test_no_runs_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no runs recorded"):
        load_runs(tmp_path)


def test_wrong_settings_end_the_command(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--methods", "ppo", "--output", str(tmp_path)])
    assert "method must be one of" in capsys.readouterr().err


def test_recorded_runs_are_of_the_trained_families(root):
    table = load_runs(root / "results" / "rl")
    chosen = table[table["family"].isin(TRAINED_FAMILIES)]
    by_seed = chosen.groupby(["method", "when", "seed"])["accuracy"].mean().unstack()
    assert set(by_seed.columns) == {0, 1, 2}
    # Sampled accuracy rises clearly above the cold start, with every seed.
    for method in ("dapo", "vgpo"):
        rise = by_seed.loc[method, "after"] - by_seed.loc[method, "before"]
        assert (rise > 0.05).all()
