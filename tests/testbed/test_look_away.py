"""The look-away world: chains add up, sources are true, and the text gives no look
away."""

import hashlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgpo.testbed import (
    CHECKPOINTS,
    COLOURS,
    FAMILIES,
    IMAGE_FAMILIES,
    WORLDS,
    LookAwayWorld,
    World,
    make_dataset,
    trace,
)
from vgpo.testbed.cold_start import COLD_STARTS
from vgpo.testbed.images import TILE
from vgpo.testbed.look_away import (
    LOOK_AWAY_SOURCES,
    LOOKS,
    RECALLS,
    SMALL_TALK,
    look_away_vocabulary,
)
from vgpo.testbed.questions import vocabulary

worlds = st.builds(
    LookAwayWorld,
    forgetfulness=st.sampled_from([0.0, 0.3, 0.9]),
    verbosity=st.sampled_from([0.0, 0.3, 0.9]),
    given_share=st.sampled_from([0.0, 0.4, 0.9]),
    min_terms=st.integers(2, 4),
    max_terms=st.integers(4, 11),
    grids=st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3
    ).map(tuple),
    bars=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
)
anywhere = st.tuples(
    st.integers(0, 10**6), st.sampled_from(("train", "heldout")), st.integers(0, 99)
)
families = st.sampled_from(FAMILIES)


def example_at(world, where, family):
    index, split, seed = where
    return world.example(index, seed=seed, split=split, family=family)


def statements(completion):
    """The steps of a chain without its small talk, as a reader strikes it out: words
    before a step, less the last one before a colour."""
    body = re.search(r"<think>(.*)</think>", completion).group(1)
    for step in body.split(" ."):
        words = step.split()
        chosen = None
        while words and words[0] in SMALL_TALK:
            chosen, words = words[0], words[1:]
        if words:
            yield chosen, words


def follow(completion):
    """What the stated values amount to, recomputed with pencil and paper."""
    values, hits = [], []
    for chosen, words in statements(completion):
        if words[0] in COLOURS:
            assert chosen in LOOKS + RECALLS and words[1] == "="
            values.append((words[0], int(words[2])))
            if words[3:]:
                hits.append(words[3] == "yes")
                assert int(words[4]) == sum(hits)
        elif words[1] == "+":
            a, _, b, _, c = words
            assert int(a) + int(b) == int(c) == sum(v for _, v in values)
        else:
            a, sign, b, _, leader = words
            assert eval(f"{a} {'==' if sign == '=' else sign} {b}")
            assert leader == max(values, key=lambda pair: pair[1])[0]
    return values, hits


@given(worlds, anywhere, families)
@settings(max_examples=150, deadline=None)
def test_every_chain_concludes_what_it_states(world, where, family):
    example = example_at(world, where, family)
    values, hits = follow(example.completion)
    stated = re.search(r"\\boxed\{(.*)\}$", example.completion).group(1)
    if family == "count":
        kind = example.question.split("Count ")[1].split()[0]
        assert hits == [v % 2 == (kind == "odd") for _, v in values]
        assert stated == str(sum(hits))
    elif family == "compare":
        assert stated == max(values, key=lambda pair: pair[1])[0]
    else:
        assert stated == str(sum(v for _, v in values))
    if all(token.faithful for token in example.chain):
        assert stated == example.answer


@given(worlds, anywhere, families)
@settings(max_examples=150, deadline=None)
def test_answers_are_right_by_an_independent_reading_of_picture_and_words(
    world, where, family
):
    example = example_at(world, where, family)
    words, asks = re.fullmatch(r"Given (.*) : (.*) \?", example.question).groups()
    known = {c: int(v) for c, v in re.findall(r"(\w+) = (\d+)", words)}
    assert known == dict(example.given)
    assert not set(known) & set(example.colours)
    known |= dict(zip(example.colours, example.values, strict=True))
    asked = [w for w in asks.split() if w in COLOURS]
    assert len(set(asked)) == len(asked)
    values = [known[c] for c in asked]
    expected = {
        "sum": lambda: sum(values),
        "chart": lambda: sum(values),
        "text": lambda: sum(values),
        "count": lambda: sum(v % 2 == ("odd" in asks.split()) for v in values),
        "compare": lambda: max(asked, key=known.get),
    }[family]()
    assert example.answer == str(expected)
    if family == "compare":
        assert values.count(max(values)) == 1
    else:
        more = family == "count"
        assert world.min_terms + more <= len(asked) <= world.max_terms + more
    if family == "text":
        assert example.image is None and example.reads == 0
        return
    assert example.image.size == (example.columns * TILE, example.rows * TILE)
    assert set(asked) & set(example.colours)
    assert words or world.given_share == 0


@given(worlds, anywhere, families)
@settings(max_examples=150, deadline=None)
def test_tracing_a_reference_chain_finds_the_sources_it_was_written_with(
    world, where, family
):
    example = example_at(world, where, family)
    assert trace(example, [t.text for t in example.chain]) == example.chain


@given(worlds, anywhere, families)
@settings(max_examples=150, deadline=None)
def test_sources_name_the_tiles_that_show_the_value(world, where, family):
    example = example_at(world, where, family)
    shown = dict(zip(example.colours, example.values, strict=True))
    for i, token in enumerate(example.chain):
        assert token.source in LOOK_AWAY_SOURCES
        assert bool(token.tiles) == (token.source in ("image", "memory"))
        assert (token.truth is not None) == bool(token.tiles)
        if token.tiles:
            word, colour = (example.chain[i - k].text.strip() for k in (3, 2))
            assert token.truth == f" {shown[colour]}"
            assert token.tiles == example.tiles_of(example.colours.index(colour))
            assert word in (LOOKS if token.source == "image" else RECALLS)
            assert example.chain[i - 3].source == "decision"
            assert token.faithful or token.source == "memory"
        if token.source == "decision":
            assert example.chain[i + 3].tiles
        if token.source == "question":
            assert token.text.strip() in example.question.split()


def values_of(example):
    """(word before the colour, colour, value) of each colour of a chain."""
    chain = example.chain
    return [
        (word.text.strip(), colour.text.strip(), value)
        for word, colour, equals, value in zip(
            chain, chain[1:], chain[2:], chain[3:], strict=False
        )
        if colour.source == "question" and equals.text == " ="
    ]


@given(worlds, anywhere, families)
@settings(max_examples=100, deadline=None)
def test_a_remembered_value_is_the_one_written_last_and_words_are_never_forgotten(
    world, where, family
):
    example = example_at(world, where, family)
    given, last = dict(example.given), None
    for word, colour, value in values_of(example):
        if colour in given:
            assert value.source == "question" and word in LOOKS
            assert value.text == f" {given[colour]}"
        elif value.source == "memory":
            assert word in RECALLS and value.text == last
        last = value.text


def test_looks_get_rarer_along_the_chain_as_stated():
    f, n = 0.7, 1500
    world = LookAwayWorld(forgetfulness=f, min_terms=6, max_terms=6, given_share=0.2)
    looked = {place: [] for place in range(1, 7)}
    for i in range(n):
        values = values_of(world.example(i, family="sum"))
        assert len(values) == 6
        for place, (_, _, value) in enumerate(values, start=1):
            if value.tiles:
                looked[place].append(value.source == "image")
    stated = 1 - f * np.array([0, 1 / 9, 4 / 9, 1, 1, 1])
    for (place, found), expected in zip(looked.items(), stated, strict=True):
        spread = np.sqrt(max(expected * (1 - expected), 1e-9) / len(found))
        assert abs(np.mean(found) - expected) <= 4 * spread, place


def test_values_from_words_and_from_tiles_follow_the_same_words():
    before = {"question": set(), "image": set(), "memory": set()}
    for example in LookAwayWorld(forgetfulness=0.7).examples(200, ("sum", "count")):
        for word, _, value in values_of(example):
            before[value.source].add(word)
    assert before["image"] == before["question"] == set(LOOKS)
    assert before["memory"] == set(RECALLS)


def test_the_words_that_choose_are_small_talk_as_well():
    world = LookAwayWorld(verbosity=0.5)
    talk = {
        token.text.strip()
        for example in world.examples(200, ("sum",))
        for token, after in zip(example.chain, example.chain[1:], strict=False)
        if token.source == "filler" and after.text.strip() not in COLOURS
    }
    assert set(LOOKS) | set(RECALLS) < talk
    example = world.example(0, family="sum")
    colour = example.colours[0]
    traced = trace(example, [" look", " recall", f" {colour}", " =", " 3"])
    assert [t.source for t in traced] == [
        "filler", "decision", "question", "text", "memory"
    ]  # fmt: skip


def test_tracing_survives_nonsense():
    example = LookAwayWorld().example(1, family="sum")
    colour, value = f" {example.colours[0]}", example.values[0]
    wrong = f" {(value + 1) % 10}"
    traced = trace(example, [colour, " =", wrong, " ☕", " =", " view"])
    assert [t.source for t in traced] == [
        "question", "text", "image", "text", "text", "filler"
    ]  # fmt: skip
    assert not traced[2].faithful
    assert trace(example, []) == ()
    assert trace(example, [colour])[0].source == "text"


def test_without_slips_every_chain_looks_each_time():
    world = LookAwayWorld(forgetfulness=0.9, verbosity=0.9).without_slips()
    for example in world.examples(40):
        assert all(t.faithful and t.source != "memory" for t in example.chain)
        assert follow(example.completion)


def test_examples_are_a_pure_function_of_seed_split_and_index():
    world = LookAwayWorld(forgetfulness=0.2, verbosity=0.5)
    first = [world.example(i, seed=3) for i in range(20)]
    again = [world.example(i, seed=3) for i in reversed(range(20))][::-1]
    for a, b in zip(first, again, strict=True):
        assert a.completion == b.completion and a.question == b.question
        if a.image is not None:
            assert np.array_equal(np.asarray(a.image), np.asarray(b.image))
    assert [e.completion for e in first] != [
        world.example(i, seed=4).completion for i in range(20)
    ]


def test_the_first_world_is_what_it_was():
    world = World(forgetfulness=0.1, verbosity=0.4)
    examples = [world.example(i, seed=5) for i in range(200)]
    texts = repr([(example.question, example.completion) for example in examples])
    # Recorded before there was a second world.
    assert hashlib.sha256(texts.encode()).hexdigest() == (
        "8caea34db26dfc62003a06365e569a8740f4180a3191ab55fdac8ea681493c3e"
    )


def test_the_vocabulary_extends_the_first_worlds():
    words = look_away_vocabulary()
    assert len(words) == len(set(words))
    assert words[: len(vocabulary())] == vocabulary()
    assert set(WORLDS) == set(CHECKPOINTS) | {"look_away_large"} == set(COLD_STARTS)


def test_it_makes_a_data_set_as_the_first_world_does():
    rows = make_dataset(6, LookAwayWorld(families=("sum", "text")))
    for row, index in zip(rows, range(6), strict=True):
        example = LookAwayWorld(families=("sum", "text")).example(index)
        assert row["answer"] == example.answer and row["question"] == example.question
        assert (row["image"] is None) == (example.image is None)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: LookAwayWorld(total_share=0.5), "total_share"),
        (lambda: LookAwayWorld(min_terms=1), "min_terms"),
        (lambda: LookAwayWorld(min_terms=7), "min_terms"),
        (lambda: LookAwayWorld(max_terms=12), "max_terms"),
        (lambda: LookAwayWorld(forgets_fully_at=1), "forgets_fully_at"),
        (lambda: LookAwayWorld(given_share=1.0), "given_share"),
        (lambda: LookAwayWorld(grids=((3, 4),)), "grids"),
        (lambda: LookAwayWorld(bars=(12,)), "bars"),
        (lambda: LookAwayWorld(forgetfulness=1.0), "forgetfulness"),
        (lambda: LookAwayWorld().example(0, family="maps"), "family"),
    ],
)
def test_wrong_arguments_are_named(make, name):
    with pytest.raises(ValueError, match=name):
        make()


def test_every_family_with_a_picture_has_reads_in_several_places():
    for family in IMAGE_FAMILIES:
        reads = {LookAwayWorld().example(i, family=family).reads for i in range(60)}
        assert len(reads) > 1
