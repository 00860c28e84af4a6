"""Departures one at a time: none is the paper, all are the released code."""

import math
import re
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vgpo
from vgpo.method import released
from vgpo.method.released import factors_from_cosines
from vgpo.studies import departures


def batch(seed, rows=20, tokens=12, generations=4):
    """Random cosines of ragged rows, some without an image, in micro-batches."""
    draw = torch.Generator().manual_seed(seed)
    cosines = torch.rand(rows, tokens, generator=draw) * 1.6 - 0.7
    lengths = torch.randint(1, tokens + 1, (rows,), generator=draw)
    mask = torch.arange(tokens) < lengths[:, None]
    has_image = torch.rand(rows, generator=draw) > 0.15
    group_ids = torch.arange(rows) // generations
    batches = departures.micro_batches(lengths, 60, seed)
    return cosines, mask, group_ids, batches, has_image


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.5, 0.7]))
def test_all_departures_together_are_the_released_code(seed, flag):
    cosines, mask, group_ids, batches, has_image = batch(seed)
    token, trajectory = departures.advantage_factors_with(
        departures.ALL, cosines, mask, group_ids, batches,
        has_image=has_image, tail_ratio=flag, num_generations=4,
    )  # fmt: skip
    for rows in batches:
        # One more column, all padding: an engine pads to a fixed length.
        pad = torch.nn.functional.pad
        theirs = factors_from_cosines(
            pad(cosines[rows], (0, 1)), pad(mask[rows], (0, 1)),
            strength=0.3, start_ratio=flag, top_ratio=0.2, schedule="linear",
            gated=True, num_generations=4, has_image=has_image[rows],
        )  # fmt: skip
        # The released code adds 1e-8 to the range that a row is stretched over, so
        # that its largest weight falls short of 1 by 1e-8 over that range. It shows
        # where the range is next to nothing.
        largest = theirs.intra_normalized.amax(dim=1, keepdim=True)
        short = torch.where(largest > 0.5, 1 - largest, 0)
        apart = (token[rows] - theirs.intra_factor[:, :-1]).abs()
        assert (apart <= 2e-6 + 2 * short).all()
        apart = (trajectory[rows] - theirs.inter_factor).abs()
        assert (apart <= 2e-6 + 2 * short.max()).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.5, 0.7]))
def test_without_departures_it_is_the_paper(seed, tail_ratio):
    cosines, mask, group_ids, batches, has_image = batch(seed)
    token, trajectory = departures.advantage_factors_with(
        (), cosines, mask, group_ids, batches, has_image=has_image,
        tail_ratio=tail_ratio,
    )  # fmt: skip
    focus = torch.where(has_image[:, None], (cosines + 1) / 2, 0)
    weights = vgpo.compensate(focus, mask, tail_ratio=tail_ratio)
    psi = vgpo.intra_trajectory_weights(weights, mask)
    phi = vgpo.inter_trajectory_weights(weights, mask, group_ids)
    torch.testing.assert_close(token, 1 + psi)
    torch.testing.assert_close(trajectory, 1 + phi)


def test_a_row_without_image_falls_to_the_floor_only_among_rows_that_have_one():
    cosines = torch.tensor([[0.9, 0.2], [0.5, 0.2], [0.4, 0.2], [0.0, 0.0]])
    has_image = torch.tensor([True, True, True, False])
    together = torch.zeros(4, dtype=torch.long)
    arguments = (cosines, torch.ones(4, 2), together, [torch.arange(4)])
    for switches, expected in (
        ((), 1.0),
        (("clamps",), 1.0),
        (("no_image", "clamps"), 0.9),
    ):
        _, trajectory = departures.advantage_factors_with(
            switches, *arguments, has_image=has_image
        )
        assert trajectory[3].item() == pytest.approx(expected), switches
    alone = torch.tensor([0, 0, 0, 1])
    _, trajectory = departures.advantage_factors_with(
        ("no_image", "clamps"), *arguments[:2], alone, arguments[3],
        has_image=has_image,
    )  # fmt: skip
    assert trajectory[3].item() == 1.0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 20))
def test_micro_batches_hold_every_row_once_within_the_budget(lengths, budget):
    batches = departures.micro_batches(torch.tensor(lengths), budget, seed=3)
    assert sorted(torch.cat(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        held = sum(lengths[row] for row in rows)
        assert held <= budget or len(rows) == 1


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(1, 5))
def test_runs_are_adjacent_rows_and_what_is_left_over_stands_alone(sizes, generations):
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(1))
    batches = list(order.split(sizes))
    runs = departures.run_ids(batches, generations)
    expected = []
    for rows in batches:
        rows = rows.tolist()
        size = min(generations, len(rows))
        while len(rows) >= size:
            expected.append(set(rows[:size]))
            rows = rows[size:]
        expected += [{row} for row in rows]
    found = [
        set(torch.nonzero(runs == run).flatten().tolist()) for run in runs.unique()
    ]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_padding_sets_the_lower_end_only_where_no_cosine_is_negative():
    mask = torch.ones(1, 3)
    rows = [torch.tensor([0])]
    positive = torch.tensor([[0.2, 0.3, 0.4]])
    scaled = departures.batch_min_max(positive, mask, rows)
    torch.testing.assert_close(scaled, torch.tensor([[0.5, 0.75, 1.0]]))
    scaled = departures.batch_min_max(positive, mask, rows, padded=False)
    torch.testing.assert_close(scaled, torch.tensor([[0.0, 0.5, 1.0]]))
    negative = torch.tensor([[-0.2, 0.0, 0.2]])
    for padded in (True, False):
        scaled = departures.batch_min_max(negative, mask, rows, padded=padded)
        torch.testing.assert_close(scaled, torch.tensor([[0.0, 0.5, 1.0]]))


def test_relative_boost_depends_on_the_offset_and_not_on_the_scale():
    focus, mask = torch.tensor([[0.2, 0.3, 0.1, 0.4]]), torch.ones(1, 4)
    boost = departures.relative_boost(focus, mask)
    torch.testing.assert_close(boost, torch.tensor([0.3 * 0.4 / 0.3]))
    torch.testing.assert_close(departures.relative_boost(focus * 2, mask), boost)
    assert departures.relative_boost(focus + 0.3, mask) > boost
    assert len(departures.relative_boost(torch.ones(1, 4), mask)) == 0


def test_ties_are_counted_in_their_own_row_and_among_real_tokens():
    scores = torch.tensor([[0.5, 0.5, 0.5, 0.1], [0.1, 0.5, 0.2, 0.2]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    assert departures.tied_share(scores, mask) == pytest.approx(3 / 7)
    assert math.isnan(departures.tied_share(scores, torch.zeros(2, 4)))


@pytest.mark.parametrize("ratio", [0.07, 0.2, 0.29, 0.57])
def test_lost_tokens_against_decimal_arithmetic(ratio):
    exact = [
        n for n in range(1, 501)
        if int(n * ratio) != int(n * Decimal(str(ratio)))
    ]  # fmt: skip
    assert departures.lost_tokens(500, ratio) == exact


def test_correlation_within_groups_ignores_differences_between_them():
    group_ids = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    by = torch.tensor([1, 2, 3, 1, 2, 3, 4, 4])
    values = torch.tensor([1.0, 3.0, 2.0, 102.0, 104.0, 109.0, 7.0, -7.0])
    r = departures.within_group_correlation(values, by, group_ids)
    expected = [
        np.corrcoef([1, 3, 2], [1, 2, 3])[0, 1],
        np.corrcoef([102, 104, 109], [1, 2, 3])[0, 1],
    ]
    assert r == pytest.approx(np.mean(expected))
    assert math.isnan(
        departures.within_group_correlation(values, torch.ones(8), group_ids)
    )


def test_changes_are_zero_without_departures_and_one_row_per_prompt():
    cosines, mask, group_ids, batches, has_image = batch(0)
    changes = departures.factor_changes(
        {"none": (), "all": departures.ALL}, cosines, mask, group_ids, batches,
        has_image=has_image, num_generations=4,
    )  # fmt: skip
    assert (
        changes.groupby("selection")["prompt"].apply(list).tolist()
        == [sorted(group_ids.unique().tolist())] * 2
    )
    largest = changes.groupby("selection")["change"].max()
    assert largest["none"] == 0 and largest["all"] > 0.05


def test_the_table_has_a_numbered_row_for_each_departure():
    table = departures.departure_table({1: "a", 11: "b"})
    assert table.index.tolist() == list(range(1, 12))
    assert table["measured"].tolist() == ["a", *["–"] * 9, "b"]


def test_departures_have_the_same_numbers_in_the_released_variant():
    """One topic a number, there in prose and here in the table."""
    told = dict(re.findall(r"^(\d+)\. (.+(?:\n   .+)*)", released.__doc__, re.M))
    topics = {
        1: "Groups", 2: "min-maxed over the whole batch", 3: "sum of the min-maxed",
        4: "clamped", 5: "Compensation", 6: "start_ratio", 7: "t/T", 8: "bfloat16",
        9: "without an image", 10: "length", 11: "graded",
    }  # fmt: skip
    assert list(map(int, told)) == list(topics)
    assert len(departures.DEPARTURES) == len(topics)
    for number, words in topics.items():
        assert words in told[str(number)], number


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: departures.micro_batches(torch.tensor([1]), 0), "budget"),
        (lambda: departures.run_ids([torch.tensor([0])], 0), "num_generations"),
        (
            lambda: departures.strangers(torch.zeros(2), torch.zeros(3)),
            r"runs: shape \(3,\)",
        ),
        (lambda: departures.lost_tokens(9, 0.123), "hundredths"),
        (lambda: departures.departure_table({12: ""}), "no departure"),
        (
            lambda: departures.advantage_factors_with(
                ["group"], torch.zeros(1, 1), torch.ones(1, 1),
                torch.zeros(1, dtype=torch.long), [torch.tensor([0])],
            ),
            r"\['group'\]",
        ),
        (
            lambda: departures.within_group_correlation(
                torch.zeros(2), torch.zeros(2), torch.zeros(1)
            ),
            "one length",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
