"""The generator: answers equal what chains compute, tiles exist, sources are right."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgpo.testbed import (
    COLOURS,
    FAMILIES,
    IMAGE_FAMILIES,
    World,
    draw_bars,
    draw_grid,
    trace,
)
from vgpo.testbed.images import TILE, sample_scan, scan_label
from vgpo.testbed.questions import SOURCES, vocabulary

worlds = st.builds(
    World,
    forgetfulness=st.sampled_from([0.0, 0.1, 0.5]),
    verbosity=st.sampled_from([0.0, 0.4, 0.9]),
    total_share=st.sampled_from([0.0, 0.5, 1.0]),
    max_terms=st.integers(1, 9),
    grids=st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3
    ).map(tuple),
    bars=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
)
anywhere = st.tuples(
    st.integers(0, 10**6), st.sampled_from(("train", "heldout")), st.integers(0, 99)
)


def follow(completion: str) -> str:
    """Recomputes the conclusion of a chain from the values it states, as a reader
    with pencil and paper would, independently of how chains are written."""
    body = re.search(r"<think>(.*)</think>", completion).group(1)
    steps = [s.split() for s in body.split(" .")]
    values, running, leader = [], 0, None
    for words in steps:
        while words and words[0] in {
            "so", "then", "now", "well", "hmm", "okay", "look", "and", "next", "right"
        }:  # fmt: skip
            words = words[1:]
        if len(words) >= 3 and words[0] in COLOURS and words[1] == "=":
            values.append((words[0], int(words[2])))
            if words[3:]:
                assert words[3] in ("yes", "no")
                running += words[3] == "yes"
                assert int(words[4]) == running
        elif len(words) == 5 and words[1] == "+":
            assert int(words[0]) + int(words[2]) == int(words[4])
        elif words and ":" in words:
            leader = words[-1]
            a, sign, b = int(words[0]), words[1], int(words[2])
            assert {"<": a < b, ">": a > b, "=": a == b}[sign]
        else:
            assert not words, words
    if any(" yes " in f" {s} " or " no " in f" {s} " for s in body.split(".")):
        return str(running)
    if leader is not None:
        top = max(v for _, v in values)
        assert leader == next(c for c, v in values if v == top)
        return leader
    return str(sum(v for _, v in values))


@given(worlds, anywhere, st.sampled_from(FAMILIES))
@settings(max_examples=150, deadline=None)
def test_every_chain_concludes_what_it_computes(world, where, family):
    index, split, seed = where
    example = world.example(index, seed=seed, split=split, family=family)
    stated = re.search(r"\\boxed\{(.*)\}$", example.completion).group(1)
    single_comparison = family == "compare" and example.completion.count("=") == 1
    if not single_comparison:
        assert follow(example.completion) == stated
    if all(token.faithful for token in example.chain):
        assert stated == example.answer


@given(worlds, anywhere, st.sampled_from(FAMILIES))
@settings(max_examples=150, deadline=None)
def test_sources_name_tiles_that_exist_and_show_the_value(world, where, family):
    index, split, seed = where
    example = world.example(index, seed=seed, split=split, family=family)
    tiles = example.rows * example.columns
    for token in example.chain:
        assert token.source in SOURCES
        assert bool(token.tiles) == (token.source == "image")
        assert all(0 <= tile < tiles for tile in token.tiles)
        if token.source == "image":
            shown = token.tiles[0] % example.columns if family == "chart" else (
                token.tiles[0]
            )  # fmt: skip
            if token.truth is None:
                assert token.text == f" {example.colours[shown]}"
            else:
                assert token.truth == f" {example.values[shown]}"
        if token.source == "question":
            assert token.text.strip() in example.question.split()
    if family == "text":
        assert example.image is None and example.reads == 0
    else:
        assert example.image.size == (example.columns * TILE, example.rows * TILE)
        assert example.reads >= 1


@given(worlds, anywhere, st.sampled_from(FAMILIES))
@settings(max_examples=80, deadline=None)
def test_colours_are_distinct_and_asked_ones_are_there(world, where, family):
    index, split, seed = where
    example = world.example(index, seed=seed, split=split, family=family)
    assert len(set(example.colours)) == len(example.colours)
    asked = [w for w in example.question.split() if w in COLOURS]
    assert set(asked) <= set(example.colours)


def test_answers_are_right_by_an_independent_reading_of_the_world():
    world = World(total_share=0.4)
    for i in range(300):
        example = world.example(i)
        shown = dict(zip(example.colours, example.values, strict=True))
        kind, *rest = example.question.replace("?", "").split()
        if kind == "Total":
            expected = sum(shown.values())
        elif kind == "Count":
            test = {
                "even": lambda v: v % 2 == 0,
                "odd": lambda v: v % 2 == 1,
            }.get(rest[0], lambda v, n=rest[0]: v == int(n))
            expected = sum(map(test, shown.values()))
        elif kind == "Largest":
            asked = [w for w in rest if w in shown]
            expected = max(asked, key=shown.get)
            assert sum(shown[w] == shown[expected] for w in asked) == 1
        else:
            words = rest[rest.index(":") + 1 :] if kind == "Given" else rest
            expected = sum(shown[w] for w in words if w in shown)
        assert example.answer == str(expected), example


def test_examples_are_a_pure_function_of_seed_split_and_index():
    world = World(forgetfulness=0.2, verbosity=0.5)
    first = [world.example(i, seed=3) for i in range(30)]
    again = [world.example(i, seed=3) for i in reversed(range(30))][::-1]
    for a, b in zip(first, again, strict=True):
        assert a.completion == b.completion and a.question == b.question
        if a.image is not None:
            assert np.array_equal(np.asarray(a.image), np.asarray(b.image))
    other = [world.example(i, seed=4).completion for i in range(30)]
    assert other != [e.completion for e in first]


def test_slips_grow_with_the_place_in_the_chain_as_stated():
    f = 0.1
    world = World(grids=((3, 3),), families=("count",), forgetfulness=f)
    slips = np.zeros(9)
    n = 600
    for i in range(n):
        reads = [t for t in world.example(i).chain if t.truth is not None]
        slips += [not t.faithful for t in reads]
    # A random digit is the right one in a tenth of the cases.
    expected = 0.9 * (1 - (1 - f) ** np.arange(1, 10))
    spread = np.sqrt(expected * (1 - expected) / n)
    assert np.all(np.abs(slips / n - expected) < 4 * spread)


def test_text_control_never_slips_and_quiet_worlds_have_no_filler():
    loud = World(forgetfulness=0.9, verbosity=0.9)
    quiet = loud.without_slips()
    assert any(t.source == "filler" for t in loud.example(0).chain)
    for i in range(50):
        assert all(t.faithful for t in loud.example(i, family="text").chain)
        assert all(t.faithful and t.source != "filler" for t in quiet.example(i).chain)


def test_heldout_scans_are_never_drawn_in_training():
    rng = np.random.default_rng(0)
    drawn = {
        split: {sample_scan(d, split, rng) for d in range(10) for _ in range(800)}
        for split in ("train", "heldout")
    }
    assert not drawn["train"] & drawn["heldout"]
    assert len(drawn["heldout"]) > 300 and len(drawn["train"]) > 1200
    assert all(scan_label(sample_scan(d, "train", rng)) == d for d in range(10))


def test_pictures_show_their_colours_and_heights():
    rng = np.random.default_rng(0)
    names = list(COLOURS)
    scans = [sample_scan(0, "train", rng) for _ in names]
    grid = np.asarray(draw_grid(names, scans, 4, rng, noise=0.0))
    for i, name in enumerate(names):
        y, x = divmod(i, 4)
        assert tuple(grid[y * TILE, x * TILE]) == COLOURS[name]
    bars = np.asarray(draw_bars(["red", "blue"], [1, 9], rng, noise=0.0))
    red = (bars == COLOURS["red"]).all(-1)
    blue = (bars == COLOURS["blue"]).all(-1)
    assert red[:, 14].sum() == 9 and blue[:, 42].sum() == 81
    assert red[-1, 14] and blue[-1, 42] and not red[:, 28:].any()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: World(forgetfulness=1.0), "forgetfulness"),
        (lambda: World(verbosity=-0.1), "verbosity"),
        (lambda: World(total_share=1.5), "total_share"),
        (lambda: World(families=("sums",)), "families"),
        (lambda: World(families=()), "families"),
        (lambda: World(grids=((4, 4),)), "grids"),
        (lambda: World(grids=()), "grids"),
        (lambda: World(bars=(0,)), "bars"),
        (lambda: World(max_terms=0), "max_terms"),
        (lambda: World(noise=9), "noise"),
        (lambda: World().example(-1), "index"),
        (lambda: World().example(0, split="test"), "split"),
        (lambda: World().example(0, family="maps"), "family"),
        (lambda: draw_grid(["red"], [1, 2], 1, np.random.default_rng(0)), "scans"),
        (lambda: draw_bars(["red"], [10], np.random.default_rng(0)), "heights"),
    ],
)
def test_wrong_arguments_are_named(make, name):
    with pytest.raises(ValueError, match=name):
        make()


def test_vocabulary_has_each_word_once():
    words = vocabulary()
    assert len(words) == len(set(words))


def test_every_family_has_reads_in_several_places():
    for family in IMAGE_FAMILIES:
        reads = {World().example(i, family=family).reads for i in range(60)}
        assert len(reads) > 1


@given(worlds, anywhere, st.sampled_from(FAMILIES))
@settings(max_examples=150, deadline=None)
def test_tracing_a_reference_chain_finds_the_sources_it_was_written_with(
    world, where, family
):
    index, split, seed = where
    example = world.example(index, seed=seed, split=split, family=family)
    assert trace(example, [t.text for t in example.chain]) == example.chain


def test_tracing_marks_a_misread_and_survives_nonsense():
    example = World(grids=((2, 2),)).example(1, family="sum")
    colour, value = example.colours[0], example.values[0]
    wrong = f" {(value + 1) % 10}"
    traced = trace(example, ["<think>", f" {colour}", " =", wrong, " ☕", " ="])
    assert traced[3].tiles == (0,) and traced[3].truth == f" {value}"
    assert not traced[3].faithful
    assert traced[4].source == traced[5].source == "text"
    assert trace(example, []) == ()


def test_examples_are_of_each_family_by_turns():
    world = World()
    found = world.examples(3, ("chart", "sum"), seed=4, split="heldout")
    expected = [
        world.example(index, seed=4, split="heldout", family=family).question
        for index in range(3)
        for family in ("chart", "sum")
    ]
    assert [example.question for example in found] == expected
    assert [e.family for e in world.examples(1)] == list(FAMILIES)
    assert world.examples(0) == []
    with pytest.raises(ValueError, match="split"):
        world.examples(1, split="test")
