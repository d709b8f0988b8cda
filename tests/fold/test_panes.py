"""Windows are the sums they claim to be, and growing coarser loses nothing before its time."""

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.fold.merge import add_delta
from streams.fold.panes import LADDER, Panes, due_ms, home
from streams.fold.rollup import Delta, LifetimeRow
from streams.fold.sketch import bin_of
from streams.fold.streamtime import HOUR_MS, MINUTE_MS, PANE_MS

T0 = 1_763_722_800_000  # a full hour
FIVE_MIN_MS = 5 * MINUTE_MS


class Entry(NamedTuple):
    at_ms: int
    calls: int
    us: int


def add(panes: Panes, entry: Entry, clock_ms: int) -> None:
    """Add an entry where it belongs at a clock; what is too old for any pane goes nowhere."""
    at = home(entry.at_ms, clock_ms)
    if at is None:
        return
    delta = Delta("tool", ("t",), entry.at_ms, {"calls": entry.calls}, {"tool_duration": [entry.us]})
    add_delta(LifetimeRow("tool", ("t",), 0, 0, 0), panes.at(at), delta)


def grow_old(panes: Panes, clock_ms: int) -> None:
    """Coarsen everything that is due, as a partition does at a tick."""
    while due := [key for key in panes.rows if due_ms(key) < clock_ms]:
        for key in due:
            panes.coarsen(key)


def held(panes: Panes) -> int:
    return sum(pane.sums.get("calls", 0) for pane in panes.rows.values())


entries = st.builds(Entry, st.integers(T0, T0 + 2 * FIVE_MIN_MS), st.integers(0, 9), st.integers(0, 10**7))
windows = st.integers(1, FIVE_MIN_MS // PANE_MS).map(lambda panes: panes * PANE_MS)


# ---- windows ---------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.lists(entries, max_size=60).map(sorted), windows)
def test_windows_up_to_five_minutes_are_what_a_recount_says(story: list[Entry], window_ms: int) -> None:
    """After every entry, at its time: the caches of sums never show."""
    panes, clock_ms, seen = Panes(), T0, list[Entry]()
    for entry in story:
        clock_ms = max(clock_ms, entry.at_ms)
        grow_old(panes, clock_ms)
        add(panes, entry, clock_ms)
        seen.append(entry)
        end_ms = clock_ms - clock_ms % PANE_MS

        closed = [one for one in seen if end_ms - window_ms <= one.at_ms < end_ms]
        trailing = [one for one in seen if end_ms + PANE_MS - window_ms <= one.at_ms < end_ms + PANE_MS]

        assert sum(one.calls for one in closed) == panes.window_closed("calls", window_ms, clock_ms)
        assert sum(one.calls for one in trailing) == panes.window("calls", window_ms, clock_ms)
        assert sorted(bin_of(one.us) for one in closed) == sorted(
            index for index, n in panes.bins("tool_duration", window_ms, clock_ms).items() for _ in range(n)
        )


@given(st.lists(st.tuples(entries, st.integers(0, FIVE_MIN_MS)), max_size=40), windows)
def test_what_comes_late_into_a_closed_pane_is_in_the_next_sum(story: list[tuple[Entry, int]], window_ms: int) -> None:
    panes, clock_ms = Panes(), T0 + 2 * FIVE_MIN_MS
    seen: list[Entry] = []
    for entry, back_ms in story:
        moved = entry._replace(at_ms=clock_ms - back_ms)
        add(panes, moved, clock_ms)
        seen.append(moved)
        end_ms = clock_ms - clock_ms % PANE_MS

        assert sum(one.calls for one in seen if end_ms - window_ms <= one.at_ms < end_ms) == panes.window_closed(
            "calls", window_ms, clock_ms
        )


def test_an_event_on_the_edge_belongs_to_the_pane_that_begins() -> None:
    panes = Panes()
    add(panes, Entry(T0 + PANE_MS, 1, 0), T0 + PANE_MS)

    assert [(PANE_MS, T0 + PANE_MS)] == list(panes.rows)
    assert 0 == panes.window_closed("calls", PANE_MS, T0 + PANE_MS)
    assert 1 == panes.window("calls", PANE_MS, T0 + PANE_MS)
    assert 1 == panes.window_closed("calls", PANE_MS, T0 + 2 * PANE_MS)


def test_an_hour_of_minutes_is_exact_at_full_minutes() -> None:
    panes = Panes()
    story = [Entry(T0 + n * 7_000, 1, 0) for n in range(HOUR_MS // 7_000)]
    for entry in story:
        grow_old(panes, entry.at_ms)
        add(panes, entry, entry.at_ms)

    now_ms = T0 + HOUR_MS
    grow_old(panes, now_ms)

    for minutes in (1, 5, 15, 60):
        since_ms = now_ms - minutes * MINUTE_MS
        assert sum(1 for one in story if one.at_ms >= since_ms) == panes.window_closed(
            "calls", minutes * MINUTE_MS, now_ms
        )


# ---- coarsening ------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 22 * HOUR_MS), st.integers(1, 9)), max_size=60),
    st.lists(st.integers(0, 22 * HOUR_MS), max_size=8),
)
def test_growing_coarser_conserves_every_sum(story: list[tuple[int, int]], ticks: list[int]) -> None:
    """Whenever ticks come, and whatever came before them, the day's total stands."""
    panes, total = Panes(), 0
    steps = sorted([*story, *((at, 0) for at in ticks)])
    for number, (at, calls) in enumerate(steps, 1):
        grow_old(panes, T0 + at)
        add(panes, Entry(T0 + at, calls, calls), T0 + at)
        total += calls
        histograms = [pane.histograms["tool_duration"] for pane in panes.rows.values()]

        assert total == held(panes) == sum(histogram.sum_us for histogram in histograms)
        assert number == sum(sum(histogram.bins.values()) for histogram in histograms)


@given(st.integers(T0, T0 + 24 * HOUR_MS), st.integers(0, 30 * HOUR_MS))
def test_an_entry_goes_where_time_would_have_moved_it(at_ms: int, age_ms: int) -> None:
    """Adding now to what is old equals having added then and growing old."""
    clock_ms = at_ms + age_ms
    then, now = Panes(), Panes()
    add(then, Entry(at_ms, 3, 5), at_ms)
    grow_old(then, clock_ms)
    add(now, Entry(at_ms, 3, 5), clock_ms)

    assert then.rows == now.rows


@pytest.mark.parametrize(("size_ms", "kept_ms", "coarser_ms"), LADDER)
def test_a_pane_stays_to_the_last_millisecond_of_its_age(size_ms: int, kept_ms: int, coarser_ms: int) -> None:
    last_ms = T0 + size_ms + kept_ms

    assert (size_ms, T0) == home(T0, last_ms)
    assert last_ms == due_ms((size_ms, T0))
    assert ((coarser_ms, T0) if coarser_ms else None) == home(T0, last_ms + 1)


def test_nothing_is_left_after_a_day() -> None:
    panes = Panes()
    add(panes, Entry(T0, 1, 1), T0)
    grow_old(panes, T0 + 26 * HOUR_MS)

    assert {} == panes.rows
    assert 0 == panes.window_closed("calls", HOUR_MS, T0 + 26 * HOUR_MS)
