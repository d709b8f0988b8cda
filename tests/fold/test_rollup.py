"""Adding up is associative and commutative, so no order of flushes, panes or partitions can show in a number."""

from collections import Counter
from copy import deepcopy

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.fold.merge import add_delta, add_pane
from streams.fold.rollup import (
    Delta,
    Histogram,
    LifetimeRow,
    PaneHistogram,
    PaneRow,
    RollupBatch,
    decode_lifetime,
    decode_pane,
    encode_row,
)
from streams.fold.sketch import DURATION_BOUNDS, DURATION_BOUNDS_US

names = st.sampled_from(("events", "errors", "tool_calls"))
histogram_names = st.sampled_from(("tool_duration", "first_token"))
sums = st.dictionaries(names, st.integers(0, 2**60))
values = st.lists(st.integers(0, 2 * DURATION_BOUNDS_US[-1]), min_size=1, max_size=8)
bins = st.dictionaries(st.integers(-5, 5), st.integers(1, 2**40), max_size=4)


def counted(seen: list[int]) -> Histogram:
    places = [DURATION_BOUNDS.place(value) for value in seen]
    buckets, bins = Counter(bucket for bucket, _ in places), Counter(index for _, index in places)
    return Histogram(sum(seen), buckets, bins, min(seen), max(seen))


deltas = st.builds(
    Delta,
    st.just("tool"),
    st.just(("t",)),
    st.just(0),
    sums,
    st.dictionaries(histogram_names, values),
    st.dictionaries(histogram_names, values.map(counted)),
)
panes = st.builds(
    PaneRow,
    st.just(10_000),
    st.just(0),
    sums,
    st.dictionaries(histogram_names, st.builds(PaneHistogram, st.integers(0, 2**60), bins)),
)


def added(story: list[Delta]) -> tuple[LifetimeRow, PaneRow]:
    row, pane = LifetimeRow("tool", ("t",), 0, 0, 0), PaneRow(10_000, 0)
    for delta in story:
        add_delta(row, pane, delta)
    return row, pane


def merged(*story: PaneRow) -> PaneRow:
    """Add copies of panes, left to right."""
    total = PaneRow(60_000, 0)
    for pane in story:
        add_pane(total, pane)
    return total


# ---- deltas ----------------------------------------------------------------------------------------------------


@given(st.lists(deltas, max_size=6).flatmap(lambda story: st.tuples(st.just(story), st.permutations(story))))
def test_deltas_may_come_in_any_order(both: tuple[list[Delta], list[Delta]]) -> None:
    story, shuffled = both

    assert added(story) == added(shuffled)


@given(st.lists(deltas, max_size=4))
def test_adding_a_delta_leaves_the_delta_as_it_was(story: list[Delta]) -> None:
    before = deepcopy(story)
    added(story)

    assert before == story


@given(st.lists(deltas, max_size=6))
def test_a_late_delta_adds_the_same_to_the_lifetime_numbers(story: list[Delta]) -> None:
    row, _ = added(story)
    late = LifetimeRow("tool", ("t",), 0, 0, 0)
    for delta in story:
        add_delta(late, None, delta)

    assert row == late


@given(st.lists(deltas, max_size=6))
def test_lifetime_and_pane_tell_the_same_story(story: list[Delta]) -> None:
    row, pane = added(story)

    assert row.sums == pane.sums
    assert list(row.histograms) == list(pane.histograms)
    for name, lifetime in row.histograms.items():
        assert lifetime.sum_us == pane.histograms[name].sum_us
        assert sum(lifetime.buckets) == sum(pane.histograms[name].bins.values())


@given(values)
def test_raw_and_counted_durations_add_the_same(seen: list[int]) -> None:
    raw = added([Delta("tool", ("t",), 0, {}, {"tool_duration": seen})])
    tallied = added([Delta("tool", ("t",), 0, {}, {}, {"tool_duration": counted(seen)})])

    assert raw == tallied


@pytest.mark.parametrize("place", range(len(DURATION_BOUNDS_US) + 1))
def test_every_duration_lands_in_one_bucket(place: int) -> None:
    value = (*DURATION_BOUNDS_US, DURATION_BOUNDS_US[-1] + 1)[place]
    row, _ = added([Delta("tool", ("t",), 0, {}, {"tool_duration": [value]})])

    assert [int(place == at) for at in range(len(DURATION_BOUNDS_US) + 1)] == row.histograms["tool_duration"].buckets


# ---- panes -----------------------------------------------------------------------------------------------------


@given(panes, panes)
def test_adding_panes_is_commutative(one: PaneRow, other: PaneRow) -> None:
    assert merged(one, other) == merged(other, one)


@given(panes, panes, panes)
def test_adding_panes_is_associative(one: PaneRow, two: PaneRow, three: PaneRow) -> None:
    assert merged(merged(one, two), three) == merged(one, merged(two, three))


@given(panes, panes)
def test_a_coarser_pane_shares_nothing_with_the_finer_ones(one: PaneRow, other: PaneRow) -> None:
    """A finer pane that lives on (or was copied) never grows with what it was added to."""
    before = deepcopy((one, other))
    merged(one, other, one)

    assert before == (one, other)


@given(st.lists(deltas, max_size=6), st.integers(0, 6))
def test_panes_of_parts_add_up_to_the_pane_of_the_whole(story: list[Delta], cut: int) -> None:
    _, whole = added(story)
    _, first = added(story[:cut])
    _, second = added(story[cut:])

    assert merged(whole) == merged(first, second)


# ---- storage and transport -------------------------------------------------------------------------------------


@given(st.lists(deltas, max_size=4))
def test_stored_rows_come_back(story: list[Delta]) -> None:
    row, pane = added(story)

    assert row == decode_lifetime(encode_row(row))
    assert pane == decode_pane(encode_row(pane))


@given(st.lists(deltas, max_size=4))
def test_a_batch_survives_its_transport(story: list[Delta]) -> None:
    """JSON has only text as keys of objects; bins and buckets come back as numbers all the same."""
    batch = RollupBatch(3, 17, 1_000, 5, story, late=1, duplicate=2, rejected=3)

    assert batch == msgspec.json.decode(msgspec.json.encode(batch), type=RollupBatch)
