"""Probes of what a model can still say, on models of which that is known."""

import pytest

from vgpo.studies.probes import CLOSING, cuts, early_answers, tile_probe
from vgpo.testbed import CHECKPOINTS, WORLDS, World, load_tiny
from vgpo.testbed.questions import trace


@pytest.fixture(scope="module")
def examples():
    return World().examples(8, ("sum", "count"), seed=61, split="heldout")


def test_a_chain_is_cut_after_whole_steps(examples):
    for example in examples:
        tokens = [token.text for token in example.chain]
        for fraction in (0.0, 0.3, 0.7):
            kept = tokens[: cuts(tokens, fraction)]
            assert kept == ["<think>"] or kept[-1] == " ."
        kept = tokens[: cuts(tokens, 1.0)]
        assert tokens[len(kept)] == CLOSING


def test_a_cold_start_names_any_tile_at_any_place_and_none_over_grey(tiny, examples):
    chains = [example.completion for example in examples]
    seen = tile_probe(*tiny, examples, chains, fractions=(0.0, 0.5, 1.0))
    assert len(seen) == 3 * len(examples)
    by_fraction = seen.groupby("fraction")["right"].mean()
    assert (by_fraction >= 0.8).all()
    grey = tile_probe(*tiny, examples, chains, fractions=(0.0, 0.5, 1.0), grey=True)
    assert grey["right"].mean() < 0.5
    assert not seen.loc[seen["fraction"] == 0.0, "named"].any()
    assert seen["probability"].between(0, 1).all()
    # The likeliest value has at least the share of one in ten.
    assert (seen.loc[seen["right"], "probability"] > 0.1).all()


def test_a_model_that_looks_away_can_still_look():
    examples = WORLDS["look_away"].examples(24, ("sum",), seed=61, split="heldout")
    found = tile_probe(
        *load_tiny(CHECKPOINTS["look_away"]),
        examples,
        [example.completion for example in examples],
        leads=(" look", " recall"),
        fractions=(0.8,),
    )
    right = found.groupby("lead")["right"].mean()
    assert right["look"] > right["recall"] + 0.3


def test_a_whole_chain_gives_its_own_answer_whatever_the_picture(tiny, examples):
    chains = [example.completion for example in examples]
    for grey in (False, True):
        forced = early_answers(*tiny, examples, chains, (0.0, 1.0), grey=grey)
        whole = forced[forced["fraction"] == 1.0]
        assert whole["right"].mean() >= 0.75
        assert (whole["right"] == whole["same"]).all()  # the chains are the references
        early = forced[forced["fraction"] == 0.0]
        assert early["right"].mean() < whole["right"].mean()


def test_probes_need_an_answer_for_each_question(tiny, examples):
    with pytest.raises(ValueError, match="completions: need one per example"):
        tile_probe(*tiny, examples, ["<think>"])


def test_the_probe_asks_what_the_truth_calls_a_read(examples):
    """The words it appends are those before a value that is looked up."""
    example = examples[0]
    colour, value = example.colours[0], example.values[0]
    (read,) = trace(example, ["<think>", f" {colour}", " =", f" {value}"])[3:]
    assert read.source == "image" and read.truth == f" {value}"
