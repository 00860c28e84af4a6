"""Controls: what needs no looking, and what knows nothing, shown as such."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from vgpo.analysis import analyze
from vgpo.analysis.controls import untrained_copy
from vgpo.stats.forgetting import accumulation_ratio
from vgpo.studies.controls import (
    NULLS,
    answers_beside_nulls,
    attention_shares,
    observations,
    rule_and_grey,
    uniform_attention,
)
from vgpo.studies.forgetting import as_rows
from vgpo.testbed import World, make_dataset
from vgpo.testbed.answers import answer


@pytest.fixture(scope="module")
def answered(tiny):
    examples = World().examples(40, ("sum", "count"), seed=60, split="heldout")
    return examples, answer(*tiny, examples, temperature=1.0, max_new_tokens=128)


def test_an_untrained_copy_has_the_shape_and_none_of_the_weights(tiny):
    model, _ = tiny
    copy, other = untrained_copy(model, seed=1), untrained_copy(model, seed=2)
    before = torch.random.get_rng_state()
    again = untrained_copy(model, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    shapes = [[tuple(p.shape) for p in m.parameters()] for m in (model, copy)]
    assert shapes[0] == shapes[1] and not copy.training
    weight = "model.language_model.layers.0.self_attn.q_proj.weight"
    drawn = [dict(m.named_parameters())[weight] for m in (copy, again, other, model)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[3])


def test_the_same_answers_go_through_both(tiny):
    model, processor = tiny
    rows = make_dataset(3, family="sum", seed=4, split="heldout")
    found = analyze(model, processor, rows, keep_maps=0, untrained=True)
    texts = found.per_answer["completion"].tolist()
    given = analyze(model, processor, rows, texts, keep_maps=0)
    null = analyze(untrained_copy(model), processor, rows, texts, keep_maps=0)
    ended = found.tokens["t"] < found.tokens["length"]  # the end is not in a text
    np.testing.assert_allclose(
        found.tokens.loc[ended, "untrained"], null.tokens["image"], atol=1e-6
    )
    assert "untrained" not in given.tokens and given.nulls == ["uniform"]
    assert found.nulls == ["uniform", "untrained"]


def test_the_summary_sets_what_knows_nothing_beside_each_number(tiny, answered):
    model, processor = tiny
    examples, texts = (part[:24] for part in answered)
    found = analyze(
        model, processor, as_rows(examples), texts, keep_maps=0, untrained=True
    )
    _, mask = found.masses()
    even = uniform_attention(processor, examples, mask)[..., 0]
    table = found.tokens
    np.testing.assert_allclose(table["uniform"], even[mask], atol=1e-12)
    summary = found.summary(clusters=[i // 2 for i in range(24)])
    want = np.nanmean(accumulation_ratio(even, mask))
    assert summary.loc["late/early ratio, spread evenly", "value"] == pytest.approx(
        want
    )
    for name in ("on the image, last less first", "late/early ratio"):
        rows = [name, f"{name}, spread evenly", f"{name}, untrained network"]
        places = summary.index.get_indexer(rows).tolist()
        assert places == [places[0], places[0] + 1, places[0] + 2]
        # Random weights spread their attention evenly.
        assert summary.loc[rows[1], "value"] == pytest.approx(
            summary.loc[rows[2], "value"], abs=0.03
        )
    assert summary.loc["right less wrong, untrained network", "count"] == 12
    kinds = found.curves(bins=4)["kind"].unique().tolist()
    assert kinds == ["image", "query", "generated", "uniform", "untrained"]
    with pytest.raises(ValueError, match="clusters: need one per answer"):
        found.summary(clusters=[1])


def test_shares_are_those_of_the_analysis(tiny, answered):
    """Batched here, one answer at a time there."""
    model, processor = tiny
    examples, completions = (part[:6] for part in answered)
    masses, mask = attention_shares(model, processor, examples, completions)
    rows = [
        {"prompt": [{"role": "user", "content": [
            {"type": "image"}, {"type": "text", "text": e.question}]}],
         "image": e.image}
        for e in examples
    ]  # fmt: skip
    theirs, their_mask = analyze(
        model, processor, rows, completions=list(completions), keep_maps=0
    ).masses()
    assert torch.equal(mask, their_mask)
    torch.testing.assert_close(masses, theirs, atol=1e-5, rtol=1e-4)


def test_evenly_spread_attention_by_the_formula(tiny, answered):
    """|V| tiles, the words of "Count 3 ?" or the like, and t - 1 tokens before."""
    _, processor = tiny
    example = answered[0][1]
    assert example.family == "count"
    shares = uniform_attention(processor, [example], torch.ones(1, 5).bool())
    tiles = example.rows * example.columns
    text = f"user\n{example.question}\nassistant\n"
    words = len(processor.tokenizer(text).input_ids)
    wanted = [tiles / (tiles + words + t) for t in range(5)]
    np.testing.assert_allclose(shares[0, :, 0], wanted)


def test_what_knows_nothing_shows_what_a_growing_context_does(tiny, answered):
    answers = answers_beside_nulls(*tiny, *answered)
    table = observations(answers, range(len(answers)), resamples=200)
    assert table.groupby("quantity")["null"].apply(list).iloc[0] == list(NULLS)
    value = table.set_index(["null", "quantity"])["value"]
    for null in NULLS:
        assert value[null, "image, last fifth"] < value[null, "image, first fifth"]
        assert value[null, "generated text, last fifth"] > 0.4
    # The late/early ratio falls with length, though nothing can be forgotten.
    for null in ("untrained", "uniform"):
        assert value[null, "ratio against length"] < -0.5
    # Random weights spread their attention evenly, so the formula will do.
    for quantity in ("image, first fifth", "image, last fifth", "late/early ratio"):
        assert value["untrained", quantity] == pytest.approx(
            value["uniform", quantity], abs=0.03
        )
    # Of the same question there is one answer each.
    same = table[table["quantity"] == "right less wrong, same question"]
    assert same["value"].isna().all()


def test_a_rule_without_a_picture_finds_the_reads(tiny):
    examples = World().examples(30, ("sum", "count"), seed=12, split="heldout")
    table = rule_and_grey(*tiny, examples, resamples=100)
    auroc = table.set_index(["against", "score"])["auroc"]
    assert auroc["all others", "= before"] > 0.9
    assert auroc["all others", "focus, prediction"] > 0.9
    # It hardly misses the picture.
    grey = auroc["all others", "focus, prediction, grey picture"]
    assert abs(grey - auroc["all others", "focus, prediction"]) < 0.1
    # After the same equals sign the rule cannot tell reads from results.
    assert auroc["results", "= before"] == 0.5
    assert (table["low"] <= table["auroc"]).all()
    assert (table["auroc"] <= table["high"]).all()


def test_measuring_loads_no_training_library():
    """A chapter that trains nothing prints none of their warnings."""
    code = "import sys, vgpo.studies.controls; print('peft' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("False", "")
