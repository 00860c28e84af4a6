"""Views of the small world: what the studies hand to the explorer."""

import base64
import io
import re

import pandas as pd
import pytest
from PIL import Image

from tests.conftest import ROOT
from vgpo.explorer.group import starting_point
from vgpo.studies import groups
from vgpo.studies.curves import grid_view, runs_view
from vgpo.studies.experiments.grid import read_grid
from vgpo.studies.experiments.records import grid_records, outcome_table
from vgpo.studies.experiments.report import compare_grid
from vgpo.studies.groups import group_arguments, rollouts_view
from vgpo.testbed import World


def token_rows() -> tuple[pd.DataFrame, object]:
    """The reference chain of a question, and the same with another value read."""
    example = World().example(0, family="sum")
    rows = []
    for row in (0, 1):
        for t, token in enumerate(example.chain, 1):
            faithful = token.faithful and not (row and token.truth)
            rows.append(
                {
                    "row": row, "t": t, "token": token.text, "source": token.source,
                    "tiles": token.tiles, "truth": token.truth, "faithful": faithful,
                    "correct": row == 0, "focus": 0.5, "focus_prediction": 0.6,
                }
            )  # fmt: skip
    return pd.DataFrame(rows), example


def test_reads_misreads_and_the_rest_are_told_apart():
    table, example = token_rows()
    given = group_arguments(table)
    assert given["rewards"] == [1.0, 0.0]
    for token, read, right, wrong in zip(
        example.chain, given["reads"][0], *given["notes"], strict=True
    ):
        assert read == (token.source == "image")
        if token.truth:
            assert right == f"reads tile {token.tiles[0]}"
            shown = f"where the picture shows {token.truth.strip()}"
            assert wrong == f"misreads tile {token.tiles[0]}, {shown}"


def test_a_group_starts_at_a_read_of_a_right_rollout():
    table, example = token_rows()
    data = rollouts_view(table, example).data
    rollout, token = data["chosen"]
    assert rollout == 0 and data["rollouts"][0]["reads"][token]
    assert data["answer"] == example.answer
    assert data["picture"].startswith("data:image/png")
    assert rollouts_view(table, example, chosen=(1, 2)).data["chosen"] == [1, 2]


def test_the_picture_without_a_script_is_of_what_the_page_starts_with(monkeypatch):
    table, example = token_rows()
    drawn = []
    draw = groups.pushes_figure

    def watched(words, verdicts, pushes, **options):
        drawn.append(pushes)
        return draw(words, verdicts, pushes, **options)

    monkeypatch.setattr(groups, "pushes_figure", watched)
    view = rollouts_view(table, example, advantages=[3.0, -0.5])
    assert view.data["advantages"] == [3.0, -0.5]
    (pushes,) = drawn
    assert list(pushes.values()) == [starting_point(view.data)["shaped"]]


@pytest.mark.parametrize("make", [grid_view, runs_view])
def test_recorded_runs_are_shown_with_what_came_out_of_them(make):
    folder = {"grid_view": "experiments/headline", "runs_view": "rl"}[make.__name__]
    data = make(ROOT / "results" / folder).data
    assert data["methods"][0] == "dapo"
    assert "reward" in data["metrics"]
    labels = [c["label"] for c in data["worlds"][0]["comparisons"]]
    assert "accuracy on held-out scans, sampled" in labels
    for run in data["worlds"][0]["runs"]:
        assert all(0 <= value <= 1 for value in run["values"]["reward"])


def shown_views() -> list:
    results = ROOT / "results"
    return [
        rollouts_view(*token_rows()),
        grid_view(results / "experiments/headline"),
        runs_view(results / "rl"),
    ]


def test_where_no_script_runs_there_is_a_picture():
    for view in shown_views():
        content = base64.b64decode(view._repr_mimebundle_()["image/png"])
        drawn = Image.open(io.BytesIO(content))
        assert drawn.width > 500 and len(content) < 60_000, view
        # Something is drawn on it, in more than the ink.
        assert len(drawn.convert("RGBA").getcolors(10_000)) > 10
        [address] = re.findall(r'<img alt="[^"]+" src="([^"]+)"', view.body)
        assert address == as_data(content)


def as_data(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def test_a_folder_without_runs_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        runs_view(tmp_path)


def test_view_and_report_of_a_grid_say_the_same():
    cells = grid_records(
        read_grid(ROOT / "recipes/experiments/headline.yaml"),
        ROOT / "results" / "experiments",
    )
    reported = compare_grid(outcome_table(cells), "dapo").set_index(["outcome", "arm"])
    (world,) = grid_view(cells).data["worlds"]
    shown = {
        comparison["label"]: comparison["rows"] for comparison in world["comparisons"]
    }
    for label, outcome in (
        ("share of right answers, sampled in training, mean over steps", "reward/area"),
        ("accuracy on held-out scans, sampled", "accuracy/sampled"),
    ):
        assert len(shown[label]) > 5
        for row in shown[label]:
            wanted = reported.loc[(outcome, row["method"])]
            assert row["verdict"] == wanted["verdict"]
            assert row["p"] == pytest.approx(wanted["p_corrected"], rel=1e-4)
