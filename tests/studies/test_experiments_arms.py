"""The arms: what each makes of the same rollouts, and the truth that oracles see."""

import json
from dataclasses import replace

import pytest
import torch

from vgpo.method.reweighting import intra_trajectory_weights
from vgpo.method.shaping import METHODS, Rollouts, make_method
from vgpo.models.probes import Scored, make_probe
from vgpo.studies.experiments.arms import ARMS, ScoredVGPO, find_arm, permuted
from vgpo.studies.experiments.looking import watchers
from vgpo.studies.experiments.truth import COLUMN, example_of, with_truth
from vgpo.testbed import WORLDS, load_tiny, make_dataset, trace
from vgpo.training.config import VGPOConfig


def rollouts(**signals):
    generator = torch.Generator().manual_seed(5)
    mask = torch.arange(9) < torch.tensor([9, 4, 7, 9])[:, None]
    signals = {
        name: torch.rand(4, 9, generator=generator) if values is None else values
        for name, values in signals.items()
    }
    return Rollouts(
        advantages=torch.tensor([1.0, -1.0, 0.5, -0.5]),
        mask=mask,
        group_ids=torch.tensor([0, 0, 1, 1]),
        signals=signals,
        has_image=torch.tensor([True, True, True, False]),
        rewards=torch.tensor([1.0, 0.0, 1.0, 0.0]),
    )


def test_focus_as_it_is_is_vgpo():
    given = rollouts(focus=None)
    ours = ScoredVGPO(alignment="prediction").shape(given).advantages
    theirs = make_method("vgpo", {"alignment": "prediction"}).shape(given).advantages
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("score", ["reads", "decides"])
def test_an_oracle_puts_the_truth_in_place_of_focus(score):
    truth = (torch.rand(4, 9, generator=torch.Generator().manual_seed(1)) > 0.7).float()
    oracle = ScoredVGPO(score=score, strength=0.0, inter=False)
    assert oracle.signals == {score}
    given = rollouts(**{score: truth})
    # Eq. 8 and 12 by hand: 1 + truth less its mean, where a row has both kinds.
    for row in range(4):
        inside = given.mask[row]
        mine = truth[row][inside]
        centred = mine - mine.mean() if mine.unique().numel() > 1 else 0 * mine
        wanted = given.advantages[row] * (1 + centred)
        got = oracle.shape(given).advantages[row][inside]
        torch.testing.assert_close(got, wanted)


def test_inverted_turns_the_order_round_and_leaves_rows_without_image():
    given = rollouts(focus=None)
    plain = ScoredVGPO(strength=0.0, inter=False)
    inverted = replace(plain, change="inverted")
    psi, turned = (
        method.shape(given).advantages / given.advantages[:, None] - 1
        for method in (plain, inverted)
    )
    seen = given.mask & given.has_image[:, None]
    torch.testing.assert_close(psi[seen], -turned[seen])
    assert torch.equal(turned[3], torch.zeros(9))


def test_shuffled_keeps_the_scores_of_each_completion_and_loses_their_places():
    given = rollouts(focus=None, chance=None)
    focus, mask = given.signals["focus"], given.mask
    moved = permuted(focus, given.signals["chance"], mask)
    for row in range(4):
        kept, before = moved[row][mask[row]], focus[row][mask[row]]
        assert torch.equal(kept.sort().values, before.sort().values)
        assert not torch.equal(kept, before)
    placebo = ScoredVGPO(strength=0.0, inter=False, change="shuffled")
    assert placebo.signals == {"focus", "chance"}
    expected = intra_trajectory_weights(moved, mask)
    got = placebo.shape(given).advantages / given.advantages[:, None] - 1
    torch.testing.assert_close(got[mask], expected[mask], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("base", ["vgpo_token", "vgpo_prediction"])
def test_without_both_terms_an_arm_is_dapo(base):
    fields = find_arm(f"{base}_none").fields
    config = VGPOConfig.preset("vgpo", output_dir="unused", use_cpu=True, **fields)
    dapo = VGPOConfig.preset("dapo", output_dir="unused", use_cpu=True)
    given = rollouts(focus=None)
    ours, theirs = (c.make_method() for c in (config, dapo))
    assert not ours.signals
    assert torch.equal(ours.shape(given).advantages, theirs.shape(given).advantages)
    for name in ("loss_type", "epsilon", "epsilon_high", "beta", "dynamic_sampling"):
        assert getattr(config, name) == getattr(dapo, name)


def test_every_arm_makes_a_configuration():
    for arm in ARMS.values():
        VGPOConfig.preset(arm.method, output_dir="unused", use_cpu=True, **arm.fields)
        assert arm.tells
    for name in METHODS:
        assert find_arm(name).method in METHODS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "luck"}, "score must be one of"),
        ({"change": "doubled"}, "change must be one of"),
        ({"variant": "released"}, "variant must be 'paper'"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ScoredVGPO(**settings)


# The truth ---------------------------------------------------------------


@pytest.fixture(scope="module", params=["misread", "look_away"])
def asked(request):
    """A world's rows with their examples, and its tokenizer."""
    world = replace(WORLDS[request.param], families=("sum", "count", "chart", "text"))
    examples = [world.example(i, seed=9) for i in range(12)]
    rows = with_truth(make_dataset(12, world, seed=9), examples)
    return request.param, examples, rows, load_tiny(request.param)[1].tokenizer


def scored(rows, examples, tokenizer, seed=3, first=0):
    """The reference chains, as a probe would see them in training."""
    ids = [tokenizer(e.completion + tokenizer.eos_token).input_ids for e in examples]
    length = max(len(row) for row in ids)
    padded = torch.tensor([row + [0] * (length - len(row)) for row in ids])
    mask = torch.arange(length) < torch.tensor([len(row) for row in ids])[:, None]
    return Scored(
        completion_ids=padded,
        completion_mask=mask,
        log_probs=None,
        entropy=None,
        pixels=None,
        flat_pixels=True,
        black=torch.zeros(3),
        rows=[{k: v for k, v in row.items() if k != "image"} for row in rows],
        decode=lambda row: tokenizer.decode(row, skip_special_tokens=True),
        rescore=None,
        seed=seed,
        first_row=first,
        group_size=1,
    )


def test_rows_hold_the_truth_of_any_completion(asked):
    _, examples, rows, _ = asked
    for row, example in zip(rows, examples, strict=True):
        assert set(row) == {"prompt", "image", "answer", COLUMN}
        again = example_of(row)
        assert type(again) is type(example)
        tokens = [token.text for token in example.chain]
        assert trace(again, tokens) == trace(example, tokens)


@pytest.mark.parametrize(("probe", "source"), [("reads", "image"),
                                               ("decides", "decision")])  # fmt: skip
def test_oracles_see_what_the_chains_were_written_from(probe, source, asked):
    world, examples, rows, tokenizer = asked
    signal = make_probe(probe).measure(scored(rows, examples, tokenizer))
    for row, example in enumerate(examples):
        wanted = [float(token.source == source) for token in example.chain]
        assert signal[row, : len(wanted)].tolist() == wanted
        assert not signal[row, len(wanted) :].any()
    # Only the look-away world has words that decide.
    assert signal.any() == (probe == "reads" or world == "look_away")


def test_chance_is_the_same_for_the_same_row_wherever_it_is(asked):
    _, examples, rows, tokenizer = asked
    probe = make_probe("chance")
    whole = probe.measure(scored(rows, examples, tokenizer))
    assert ((whole >= 0) & (whole < 1)).all()
    # Another process, which has the rows from the fifth on.
    rest = probe.measure(
        scored(rows.select(range(4, 12)), examples[4:], tokenizer, first=4)
    )
    shorter = min(rest.shape[1], whole.shape[1])
    assert torch.equal(whole[4:, :shorter], rest[:, :shorter])
    other = probe.measure(scored(rows, examples, tokenizer, seed=4))
    assert not torch.equal(whole, other)


def test_looks_and_right_reads_are_counted_by_hand(asked):
    world, examples, rows, tokenizer = asked
    looks, right = watchers(lambda ids: tokenizer.decode(ids, skip_special_tokens=True))
    ids = [tokenizer(e.completion).input_ids for e in examples]
    truths = [row[COLUMN] for row in rows]
    text = [place for place, e in enumerate(examples) if e.image is None]
    for shares in (looks(ids, truths), right(ids, truths)):
        for place, share in enumerate(shares):
            # The reference chains look each time, and read what is there.
            assert share == (None if place in text else 1.0)
    picture = next(p for p, e in enumerate(examples) if e.family == "sum")
    words = [t.text for t in examples[picture].chain]
    at = next(i for i, t in enumerate(examples[picture].chain) if t.truth is not None)
    words[at] = f" {(int(words[at]) + 1) % 10}"
    if world == "look_away":
        words[at - 3] = " recall"
    changed = tokenizer("".join(words)).input_ids
    count = sum(t.truth is not None for t in examples[picture].chain)
    missed = (count - 1) / count
    assert right([changed], [truths[picture]]) == [pytest.approx(missed)]
    expected = missed if world == "look_away" else 1.0
    assert looks([changed], [truths[picture]]) == [pytest.approx(expected)]


def test_the_truth_is_text_that_any_library_can_carry(asked):
    _, _, rows, _ = asked
    assert all(isinstance(json.loads(row[COLUMN]), dict) for row in rows)
