"""The token table against passes of one row each, where nothing is padded."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vgpo.method.focus import visual_focus_score, visual_prototype
from vgpo.studies.tables import padded, table_beside_controls, token_table
from vgpo.testbed import (
    FAMILIES,
    World,
    build_processor,
    build_tiny,
    messages,
)

processor = build_processor()
model = build_tiny(processor, seed=2, hidden_size=64, layers=2).eval()
EXAMPLES = [World(verbosity=0.4).example(i, family=f) for i, f in enumerate(FAMILIES)]


@pytest.fixture(scope="module")
def table():
    return token_table(model, processor, EXAMPLES)


def test_rows_of_any_length_equal_a_pass_of_their_own(table):
    for row, example in enumerate(EXAMPLES):
        text = processor.apply_chat_template(
            messages(example), add_generation_prompt=True
        )
        images = None if example.image is None else [example.image]
        batch = processor(
            text=text + example.completion, images=images, return_tensors="pt"
        )
        with torch.no_grad():
            out = model(**batch, output_hidden_states=True)
        states = out.hidden_states[-1]
        length = len(example.chain)
        in_image = batch["input_ids"] == processor.image_token_id
        prototype = visual_prototype(states, in_image)
        mine = table[table["row"] == row]
        for column, shift in (("focus", 0), ("focus_prediction", 1)):
            end = states.shape[1] - shift
            focus = visual_focus_score(states[:, end - length : end], prototype)[0]
            np.testing.assert_allclose(mine[column], focus, atol=1e-5)
        ids = batch["input_ids"][0, -length:]
        log_probs = out.logits[0, -length - 1 : -1].log_softmax(-1)
        expected = log_probs.gather(1, ids[:, None])[:, 0]
        np.testing.assert_allclose(mine["log_prob"], expected, atol=1e-4)


def test_truth_stands_beside_each_token(table):
    for row, example in enumerate(EXAMPLES):
        mine = table[table["row"] == row]
        assert list(mine["token"]) == [t.text for t in example.chain]
        assert list(mine["source"]) == [t.source for t in example.chain]
        assert list(mine["tiles"]) == [t.tiles for t in example.chain]
        assert mine["correct"].all() and (mine["length"] == len(mine)).all()


def test_only_rows_with_an_image_have_focus(table):
    for row, example in enumerate(EXAMPLES):
        seen = (table.loc[table["row"] == row, "focus"] != 0).any()
        assert seen == (example.image is not None)


def test_padding_a_column(table):
    values, mask = padded(table, "focus")
    assert mask.sum(1).tolist() == [len(e.chain) for e in EXAMPLES]
    assert values[~mask].eq(0).all()
    np.testing.assert_allclose(values[mask], table["focus"], atol=0)


def test_completions_must_match_examples():
    with pytest.raises(ValueError, match="completions"):
        token_table(model, processor, EXAMPLES, ["one"])


def test_controls_of_a_table_need_no_looking():
    """Another picture of the same size moves the score, and none of its controls but
    the network that has not learnt to read and still sees."""
    one, *rest = World().examples(30, ("sum",), split="heldout")
    other = next(e for e in rest if (e.rows, e.columns) == (one.rows, one.columns))
    swapped = replace(one, image=other.image)
    true, elsewhere = (
        table_beside_controls(model, processor, [e]) for e in (one, swapped)
    )
    assert (true["focus"] != elsewhere["focus"]).any()
    for blind in ("grey", "grey_prediction", "rule"):
        assert true[blind].tolist() == elsewhere[blind].tolist(), blind
    words = true["token"].str.strip().tolist()
    after = [before == "=" for before in [None, *words[:-1]]]
    assert true["rule"].tolist() == after and any(after)
    again = table_beside_controls(model, processor, [one], seed=1)
    assert (again["untrained"] != true["untrained"]).any()
    assert again["focus"].tolist() == true["focus"].tolist()
