"""The forgetting analysis on the small world and on attention known by design."""

import ast
import math
from dataclasses import replace

import families
import jupytext
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from datasets import Dataset
from PIL import Image, ImageDraw
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.conftest import ROOT
from vgpo import figures
from vgpo.analysis import forgetting as module
from vgpo.analysis.forgetting import analyze
from vgpo.models import loading
from vgpo.models.attention import AttentionSplit, attention_split
from vgpo.models.inputs import prepare_inputs
from vgpo.models.loading import load_model
from vgpo.stats.forgetting import accumulation_ratio
from vgpo.studies import forgetting as forgetting_study
from vgpo.studies.forgetting import (
    analyze_checkpoints,
    as_rows,
    compare_layers,
    covered_continuations,
    mean_by,
    paired_changes,
    true_dependence,
)
from vgpo.testbed import (
    World,
    build_processor,
    build_tiny,
    make_dataset,
    messages,
)
from vgpo.testbed.changes import occlude

processor = build_processor()
model = build_tiny(processor, seed=3, hidden_size=64, layers=2).eval()
WORLD = World(grids=((2, 3),), bars=(3,), verbosity=0.3, total_share=0.0)
EXAMPLES = [
    WORLD.example(i, family=family)
    for i, family in enumerate(("sum", "count", "compare", "chart"))
]
CHAINS = [example.completion for example in EXAMPLES]


@pytest.fixture(scope="module")
def found():
    return analyze(
        model,
        processor,
        as_rows(EXAMPLES),
        CHAINS,
        layers="all",
        keep_maps=4,
        progress=False,
    )


def conversation(image, text="red ?"):
    parts = [{"type": "image", "image": image}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


# The tables -----------------------------------------------------------------


def test_shares_sum_to_one_and_equal_the_attention_of_each_answer(found):
    tokens = found.tokens
    shares = tokens[["image", "query", "generated"]].sum(axis=1)
    np.testing.assert_allclose(shares, 1.0, atol=1e-5)
    assert list(tokens.groupby("row")["layer"].unique().map(list)) == [[0, 1]] * 4
    for row, example in enumerate(EXAMPLES):
        inputs, ids = prepare_inputs(
            model, processor, conversation(example.image, example.question), CHAINS[row]
        )
        split = attention_split(
            model,
            inputs,
            len(ids),
            layers=[1],
            special_token_ids=processor.tokenizer.all_special_ids,
        )
        mine = tokens[(tokens["row"] == row) & (tokens["layer"] == 1)]
        assert list(mine["t"]) == list(range(1, len(ids) + 1))
        assert "".join(mine["token"]) == CHAINS[row]
        np.testing.assert_allclose(mine["image"], split.masses[0, :, 0], atol=1e-6)
        np.testing.assert_allclose(mine["special"], split.special_mass[0, 0], atol=1e-6)


def test_masses_are_padded_and_averaged_over_layers(found):
    masses, mask = found.masses()
    assert masses.shape == (4, max(len(e.chain) for e in EXAMPLES), 3)
    assert mask.sum(dim=1).tolist() == [len(e.chain) for e in EXAMPLES]
    assert not masses[~mask].any()
    first, second = found.masses(layer=0)[0], found.masses(layer=1)[0]
    torch.testing.assert_close(masses, (first + second) / 2)
    with pytest.raises(ValueError, match="layer: 7"):
        found.masses(layer=7)


def test_answers_are_graded_and_their_ratio_is_that_of_their_masses(found):
    assert list(found.responses["answer"][::2]) == [e.answer for e in EXAMPLES]
    assert found.per_answer["correct"].all()  # the chains are the references
    masses, mask = found.masses()
    np.testing.assert_allclose(
        found.per_answer["ratio"], accumulation_ratio(masses[..., 0], mask)
    )


def test_known_attention_gives_known_ratios(monkeypatch):
    """Attention by design: 0.8 on the image at first, 0.2 from the middle on."""

    def designed(model, inputs, completion_length, **options):
        steps = torch.arange(completion_length)
        image = torch.where(steps < completion_length / 2, 0.8, 0.2)
        masses = torch.stack([image, (1 - image) / 2, (1 - image) / 2], dim=-1)
        maps = image[:, None, None].expand(-1, 2, 3) / 6
        return AttentionSplit(
            layers=(1,),
            layer_masses=masses[None, None],
            special_mass=torch.zeros(1, 1, completion_length),
            completion_mask=torch.ones(1, completion_length, dtype=torch.bool),
            image_maps=[[maps]],
            image_attention=maps.flatten(1)[None],
            prompt_tokens=torch.tensor([[6, 2]]),
        )

    monkeypatch.setattr(module, "attention_split", designed)
    rows = as_rows([EXAMPLES[0]] * 3)
    texts = ["red = 5 .", "red =", "red = 5 . blue = 8 ."]  # 4, 2, 8 tokens
    found = analyze(model, processor, rows, texts, progress=False)
    assert found.responses["length"].tolist() == [4, 2, 8]
    np.testing.assert_allclose(found.responses["ratio"], 0.25, atol=1e-6)
    curve = found.curves(bins=4)
    image = curve[curve["kind"] == "image"]["mean"]
    np.testing.assert_allclose(image, [0.8, 0.8, 0.2, 0.2], atol=1e-6)
    summary = found.summary()["value"]
    assert summary["late/early ratio"] == pytest.approx(0.25)
    assert summary["on the image, first fifth"] == pytest.approx(0.8)
    assert summary["on the image, last less first"] == pytest.approx(-0.6)
    assert summary["on generated text, last fifth"] == pytest.approx(0.4)


def test_a_response_of_one_token_has_no_ratio_but_all_else():
    found = analyze(
        model, processor, conversation(EXAMPLES[0].image), ["red"], progress=False
    )
    assert found.responses["length"].tolist() == [1]
    assert math.isnan(found.responses["ratio"].item())
    assert found.summary().loc["late/early ratio", "count"] == 0
    # One answer has no length to compare with another's.
    assert {"example", "heatmaps", "decay"} == set(found.figures())


def test_the_model_writes_what_is_not_given():
    found = analyze(
        model,
        processor,
        conversation(EXAMPLES[0].image),
        max_new_tokens=5,
        progress=False,
    )
    assert found.responses["length"].item() <= 5
    assert "correct" not in found.responses
    with pytest.raises(ValueError, match="answers"):
        found.right_against_wrong()


def test_the_model_comes_back_in_its_own_mode():
    model.train()
    try:
        analyze(model, processor, as_rows(EXAMPLES[:1]), CHAINS[:1], progress=False)
        assert model.training
    finally:
        model.eval()


def test_a_data_set_is_read_as_trl_reads_it():
    rows = make_dataset(3, WORLD, family="sum")
    found = analyze(
        model, processor, rows, list(rows["reference"]), keep_maps=1, progress=False
    )
    assert found.responses["correct"].all()
    assert list(found.kept) == [0]
    assert found.kept[0].images[0].size == rows[0]["image"].size


def test_several_images_keep_their_order():
    wide, tall = Image.new("RGB", (84, 28)), Image.new("RGB", (28, 56), "white")
    place = {"type": "image", "text": ""}
    text = {"type": "text", "text": "red ?"}
    prompt = [{"role": "user", "content": [place, text, place]}]
    found = analyze(
        model,
        processor,
        [{"prompt": prompt, "images": [wide, tall]}],
        ["red = 5"],
        progress=False,
    )
    kept = found.kept[0]
    assert [image.size for image in kept.images] == [(84, 28), (28, 56)]
    assert [tuple(grid.shape) for grid in kept.maps] == [(3, 1, 3), (3, 2, 1)]
    assert kept.aligned
    total = sum(grid.sum(dim=(1, 2)) for grid in kept.maps)
    np.testing.assert_allclose(total, found.tokens["image"], atol=1e-5)
    assert len(found.heatmap_figure(0, steps=[1, 3]).axes) == 4


# Bad input ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("red ?", "messages_or_dataset: must be"),
        ([], "empty"),
        ([[{"role": "user", "content": "red ?"}]], "conversation 0: .*image"),
        ([{"question": "red ?"}], "conversation 0: .*prompt"),
        ([{"prompt": "red ?"}], "conversation 0: .*prompt"),
        (
            [{"prompt": messages(EXAMPLES[0])}],
            "0 images and its prompt 1 places",
        ),
        (
            [{"prompt": messages(EXAMPLES[0]), "images": [EXAMPLES[0].image] * 2}],
            "2 images and its prompt 1 places",
        ),
    ],
)
def test_what_is_no_question_with_an_image_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        analyze(model, processor, asked, progress=False)


def test_the_row_at_fault_is_named():
    rows = as_rows([EXAMPLES[0], WORLD.example(0, family="text")])
    with pytest.raises(ValueError, match=r"conversation 1: .*image"):
        analyze(model, processor, rows, ["red", "red"], progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"completions": ["red"] * 2}, "completions: need one per conversation"),
        ({"answers": ["1"] * 2}, "answers: need one per conversation"),
        ({"answers": [""]}, "conversation 0: answer"),
        ({"completions": [""]}, "conversation 0: completion"),
        ({"completions": ["red"], "layers": (9,)}, "layers"),
        ({"completions": ["red"], "alignment": "next"}, "alignment"),
        ({"split": 1.0}, "split"),
        ({"keep_maps": -1}, "keep_maps"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        analyze(
            model,
            processor,
            as_rows(EXAMPLES[:1]),
            **{"completions": ["red = 5"], "progress": False} | options,
        )


def test_another_models_processor_is_refused():
    other = families.build("qwen2_5_vl")
    with pytest.raises(ValueError, match="processor"):
        analyze(other, processor, as_rows(EXAMPLES[:1]), ["red"], progress=False)
    with pytest.raises(ValueError, match="tokenizer"):
        analyze(model, processor.tokenizer, as_rows(EXAMPLES[:1]), ["red"])


def test_a_model_without_image_token_is_refused():
    text_only = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=64, hidden_size=32, num_hidden_layers=1)
    )
    with pytest.raises(ValueError, match="image token"):
        analyze(text_only, processor, as_rows(EXAMPLES[:1]), ["red"], progress=False)


# Figures --------------------------------------------------------------------


@pytest.mark.parametrize("size", [(84, 28), (28, 84), (100, 37)])
def test_heatmaps_lie_on_the_picture_edge_to_edge(size):
    image = Image.new("RGB", size)
    shape = (max(1, size[1] // 28), max(1, size[0] // 28))
    values = np.arange(np.prod(shape), dtype=float).reshape(shape)
    figure = figures.attention_maps_figure([image], [[values]], ["t"], [[shape[1] - 1]])
    picture, glow = figure.axes[0].images
    assert list(glow.get_extent()) == list(picture.get_extent())
    assert list(glow.get_extent()) == [0, size[0], size[1], 0]
    # Row 0 on top: the last cell lies at the lower right.
    assert glow.origin == "upper" and (np.asarray(glow.get_array()) == values).all()
    outline = figure.axes[0].patches[0]
    assert outline.get_x() == pytest.approx(size[0] * (shape[1] - 1) / shape[1])
    assert outline.get_y() == 0
    assert outline.get_width() == pytest.approx(size[0] / shape[1])
    assert outline.get_height() == pytest.approx(size[1] / shape[0])


@pytest.mark.parametrize("size", [(140, 62), (50, 170)])
def test_cells_of_the_map_are_the_pixels_beneath_them(size):
    """What is painted on a cell's part of the picture changes that cell's token, on
    pictures that are neither square nor a whole number of tiles."""
    picture = Image.new("RGB", size, "white")
    found = analyze(model, processor, conversation(picture), ["red"], progress=False)
    height, width = found.kept[0].maps[0].shape[1:]
    assert (height > width) == (size[1] > size[0])

    def tokens(image):
        inputs, _ = prepare_inputs(model, processor, conversation(image), "red")
        return inputs["pixel_values"].view(height * width, -1)  # four patches a token

    for row, column in [(0, 0), (0, width - 1), (height - 1, 0), (1, 1)]:
        box = [size[0] * column / width, size[1] * row / height]
        box += [size[0] * (column + 1) / width - 1, size[1] * (row + 1) / height - 1]
        painted = picture.copy()
        ImageDraw.Draw(painted).rectangle(box, fill="black")
        change = (tokens(painted) - tokens(picture)).abs().sum(dim=1)
        assert change.argmax() == row * width + column


def test_maps_and_pictures_must_match(found):
    with pytest.raises(ValueError, match="one per picture"):
        figures.attention_maps_figure(found.kept[0].images, [[]], ["t"])
    with pytest.raises(ValueError, match="steps"):
        found.heatmap_figure(0, steps=[10_000])
    with pytest.raises(ValueError, match="row"):
        found.heatmap_figure(9)
    with pytest.raises(ValueError, match="row"):
        found.example_figure(9)
    kept = {0: replace(found.kept[0], maps=found.kept[0].maps * 2)}
    tiled = replace(found, kept=kept)
    assert "heatmaps" not in tiled.figures()
    with pytest.raises(ValueError, match="grids"):
        tiled.heatmap_figure(0)


def test_every_figure_says_what_its_axes_are(found):
    drawn = found.figures()
    assert set(drawn) == {"example", "heatmaps", "decay", "length", "ratio"}
    for name in ("decay", "length", "ratio"):
        assert all(axes.get_xlabel() for axes in drawn[name].axes)
    labels = [label.get_text() for label in drawn["example"].axes[0].get_xticklabels()]
    chain = [token.text.strip() for token in EXAMPLES[0].chain]
    assert labels == chain[: len(labels)]


def test_what_should_be_looked_at_is_outlined(found):
    figure = found.heatmap_figure(0, steps=[4, 5], targets=[[0], [1, 2]])
    assert [len(axes.patches) for axes in figure.axes[:2]] == [2, 4]


def test_reads_are_drawn_in_their_order():
    table = pd.DataFrame(
        {"value": [0.2, 0.9], "low": [0.1, 0.8], "high": [0.3, 1.0]}, index=[2.0, 1.0]
    )
    axes = figures.reads_figure({"read right": table}).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[1.0, 0.9], [2.0, 0.2]]


def test_tokens_with_a_meaning_to_matplotlib_are_drawn_as_they_are():
    found = analyze(
        model,
        processor,
        conversation(EXAMPLES[0].image),
        ["$ x^2 \\boxed{ _ \n $"],
        progress=False,
    )
    for figure in found.figures().values():
        figure.canvas.draw()


def test_curves_by_group(found):
    curves = found.curves(groups=["a", "a", "b", "b"], bins=5)
    assert len(curves) == 2 * 4 * 5
    nulls = curves[curves["kind"] == "uniform"]
    assert (nulls.groupby("group")["mean"].diff().dropna() < 0).all()
    shares = curves[curves["kind"] != "uniform"]
    total = shares.groupby(["group", "progress"])["mean"].sum()
    np.testing.assert_allclose(total, 1.0, atol=1e-5)
    with pytest.raises(ValueError, match="groups"):
        found.curves(groups=["a"])


# Beside the truth -----------------------------------------------------------


def test_truth_stands_beside_the_attention(found):
    table = true_dependence(found, EXAMPLES)
    for row, example in enumerate(EXAMPLES):
        mine = table[table["row"] == row]
        assert list(mine["source"]) == [t.source for t in example.chain]
        assert list(mine["tiles"]) == [t.tiles for t in example.chain]
        assert mine["nth_read"].max() == example.reads
        maps = found.kept[row].maps[0]
        for t, token in enumerate(example.chain):
            entry = mine.iloc[t]
            if not token.tiles:
                assert math.isnan(entry["points"]) and math.isnan(entry["on_tile"])
                continue
            places = [divmod(tile, example.columns) for tile in token.tiles]
            on_tile = sum(float(maps[t][place]) for place in places)
            assert entry["on_tile"] == pytest.approx(
                on_tile / float(maps[t].sum()), abs=1e-5
            )
            peak = max(float(maps[t][place]) for place in places)
            assert entry["points"] == (peak == float(maps[t].max()))
    with pytest.raises(ValueError, match="examples"):
        true_dependence(found, EXAMPLES[:2])
    with pytest.raises(ValueError, match="keep_maps"):
        true_dependence(replace(found, kept={}), EXAMPLES)


def test_means_weigh_answers_alike():
    table = pd.DataFrame(
        {"row": [0, 0, 0, 1], "kind": list("aaab"), "x": [1.0, 2.0, math.nan, 9.0]}
    )
    means = mean_by(table, "kind", "x")
    assert means["value"].to_dict() == {"a": 1.5, "b": 9.0}
    assert math.isnan(means.loc["b", "low"])


def test_layers_are_compared_one_by_one():
    table = compare_layers(model, processor, EXAMPLES[:2], CHAINS[:2], [0, 1])
    assert list(table["layer"]) == [0, 1]
    for name in ("AUROC", "pointing", "image attention of reads"):
        assert table[name].between(0, 1).all()
    axes = figures.layers_figure(table, ["AUROC", "pointing"]).axes[0]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[0, 1]] * 2
    untrained = table.assign(AUROC=[0.5, 0.25])[["layer", "AUROC"]]
    axes = figures.layers_figure(table, ["AUROC", "pointing"], untrained).axes[0]
    assert [0.5, 0.25] in [line.get_ydata().tolist() for line in axes.lines]
    assert "AUROC, untrained" in [text.get_text() for text in axes.texts]


def test_covering_changes_only_what_should_change(monkeypatch):
    """A reader that is perfect by construction: it writes the digit, or 0 where the
    tile is grey all over, and never looks again at what it has written."""
    example = EXAMPLES[0]

    def is_covered(image, tile):
        y, x = divmod(tile, example.columns)
        tile = image.crop((x * 28, y * 28, x * 28 + 28, y * 28 + 28))
        return all(low == high for low, high in tile.getextrema())

    def read_on(model, processor, examples, prefixes, batch_size):
        texts = []
        for asked, prefix in zip(examples, prefixes, strict=True):
            words, total = [], 0
            written = len(processor.tokenizer(prefix).input_ids)
            for i, token in enumerate(example.chain[:-2]):
                word = token.text
                if token.truth is not None:
                    if i >= written and is_covered(asked.image, token.tiles[0]):
                        word = " 0"
                    total += int(word)
                words.append(word)
            texts.append("".join([*words, str(total), "}"]))
        return texts

    monkeypatch.setattr(forgetting_study, "answer", read_on)
    moved = covered_continuations(None, processor, [example] * 30, [CHAINS[0]] * 30)
    own = moved["covered"] == "the tile it reads"
    before = moved["when"] == "before"
    drawn = moved[own & before]
    shown = np.array([int(example.chain[t - 1].text) for t in drawn["t"]])
    assert len(drawn) == 30 and drawn["t"].nunique() > 1 and (shown != 0).any()
    np.testing.assert_array_equal(drawn["answer_moved"], shown != 0)
    np.testing.assert_array_equal(drawn["value_moved"], shown != 0)
    assert not moved[own & ~before]["answer_moved"].any()
    assert (~own).any() and not moved[~own]["answer_moved"].any()


def test_continuations_begin_with_what_was_written():
    moved = covered_continuations(model, processor, EXAMPLES, CHAINS)
    assert set(moved["when"]) == {"before", "after"}
    assert not moved[moved["when"] == "after"]["value_moved"].any()
    for _, entry in moved.iterrows():
        assert EXAMPLES[entry["row"]].chain[entry["t"] - 1].truth is not None
    with pytest.raises(ValueError, match="completions"):
        covered_continuations(model, processor, EXAMPLES, CHAINS[:1])


def test_a_covered_tile_is_grey_and_nothing_else_changes():
    example = EXAMPLES[0]
    covered = np.asarray(occlude(example, [4]).image)
    original = np.asarray(example.image)
    assert (covered[28:56, 28:56] == 128).all()
    covered = covered.copy()
    covered[28:56, 28:56] = original[28:56, 28:56]
    assert (covered == original).all()


# Real models' path ----------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "cold_start.json").write_text("{}")
    return folder


def test_checkpoints_by_name_answer_a_data_set_file(checkpoint, tmp_path):
    rows = Dataset.from_list(
        [
            {"problem": f"<image>{e.question}", "answer": e.answer, "images": [e.image]}
            for e in EXAMPLES[:3]
        ]
    )
    path = tmp_path / "questions.parquet"
    rows.to_parquet(path)
    found = analyze_checkpoints(
        [checkpoint],
        str(path),
        "train",
        questions=2,
        prompt_suffix="",
        max_new_tokens=6,
    )
    assert list(found) == [str(checkpoint)]
    one = found[str(checkpoint)]
    assert one.responses["row"].tolist() == [0, 1]
    assert one.responses["answer"].tolist() == [e.answer for e in EXAMPLES[:2]]
    reference = analyze(
        model, processor, as_rows(EXAMPLES[:2]), max_new_tokens=6, progress=False
    )
    assert one.responses["completion"].equals(reference.responses["completion"])
    np.testing.assert_allclose(
        one.tokens["image"], reference.tokens["image"], atol=1e-6
    )


def test_changes_are_those_of_each_question(found):
    """Every answer looks 0.1 more; one ratio is missing; one answer is now wrong."""
    one_layer = found.responses[found.responses["layer"] == 0]
    tokens = found.tokens[found.tokens["layer"] == 0]
    before = replace(found, tokens=tokens, responses=one_layer)
    more = tokens.assign(image=tokens["image"] + 0.1)
    worse = one_layer.assign(correct=one_layer["row"] != 2)
    changes = paired_changes(before, replace(before, tokens=more, responses=worse))
    assert changes.loc["image", "value"] == pytest.approx(0.1, abs=1e-6)
    assert changes.loc["image", "low"] == pytest.approx(0.1, abs=1e-6)
    assert changes.loc["image", "count"] == 4
    assert changes.loc["correct", ["before", "after"]].tolist() == [1.0, 0.75]
    assert changes.loc["length", "value"] == 0
    fewer = replace(before, tokens=tokens[tokens["row"] < 2])
    fewer = replace(fewer, responses=one_layer[one_layer["row"] < 2])
    with pytest.raises(ValueError, match="after"):
        paired_changes(before, fewer)


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("forgetting_*.yaml")))
def test_recipes_set_what_the_chapter_takes(recipe):
    notebook = jupytext.read(ROOT / "notebooks" / "01b_forgetting_real.py")
    [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    names = {node.targets[0].id for node in ast.parse(cell.source).body}
    parameters = yaml.safe_load(recipe.read_text())
    assert set(parameters) <= names
    assert {"models", "dataset"} <= set(parameters)


def test_checkpoints_need_names_and_questions(checkpoint):
    with pytest.raises(ValueError, match="names"):
        analyze_checkpoints([], "x", "train", 2)
    with pytest.raises(ValueError, match="questions"):
        analyze_checkpoints([checkpoint], "x", "train", 0)


def test_a_checkpoint_without_a_processor_is_refused(checkpoint, tmp_path):
    build_tiny(processor, hidden_size=64, layers=1).save_pretrained(tmp_path)
    processor.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no processor that reads images"):
        load_model(tmp_path)


def test_a_tokenizer_alone_is_no_processor(checkpoint, monkeypatch):
    monkeypatch.setattr(
        loading.AutoProcessor, "from_pretrained", lambda name: processor.tokenizer
    )
    with pytest.raises(ValueError, match="only a tokenizer"):
        load_model(checkpoint)


def test_a_stopped_analysis_goes_on(tmp_path, monkeypatch):
    """Answers in the file are not written again; a half-written line is."""
    path = tmp_path / "runs" / "answers.jsonl"
    rows = as_rows(EXAMPLES[:3])

    def run(some):
        return analyze(
            model,
            processor,
            some,
            max_new_tokens=8,
            completions_file=path,
            progress=False,
        )

    whole = analyze(model, processor, rows, max_new_tokens=8, progress=False)
    run(rows[:2])
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(first + second[: len(second) // 2])

    asked = []
    generate = type(model).generate

    def counted(self, *arguments, **named):
        asked.append(named["input_ids"])
        return generate(self, *arguments, **named)

    monkeypatch.setattr(type(model), "generate", counted)
    resumed = run(rows)
    assert len(asked) == 2
    pd.testing.assert_frame_equal(resumed.tokens, whole.tokens)
    pd.testing.assert_frame_equal(resumed.responses, whole.responses)
    assert len(path.read_text().splitlines()) == 3
    run(rows)
    assert len(asked) == 2
    run([{**rows[0], "image": EXAMPLES[1].image}])  # another picture: asked again
    assert len(asked) == 3


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text('{"asked": "x"}\n')
    rows = as_rows(EXAMPLES[:1])
    with pytest.raises(ValueError, match=r"completions_file: line 1 of .*notes\.jsonl"):
        analyze(model, processor, rows, completions_file=path)
    with pytest.raises(ValueError, match="nothing to keep"):
        analyze(model, processor, rows, CHAINS[:1], completions_file=path)
