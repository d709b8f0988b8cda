"""Resets of one row: whatever happens in between, what is shown is the sum since the last one."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.fold.baseline import absorb, concerns, created_ms, merge_times, reset, reset_ms, since_reset
from streams.fold.merge import add_delta
from streams.fold.rollup import Delta, LifetimeRow, ResetOrder, decode_lifetime, encode_row

NAMES = ("events", "errors", "tool_duration")
SUMS = NAMES[:2]

deltas = st.builds(
    lambda sums, samples: Delta("tool", ("t",), -1, sums, {"tool_duration": samples} if samples else {}),
    st.dictionaries(st.sampled_from(SUMS), st.integers(0, 10**12)),
    st.lists(st.integers(0, 10**8), max_size=3),
)
parts = st.none() | st.sets(st.sampled_from(NAMES), min_size=1)
resets = st.tuples(st.integers(0, 10**13), parts)


def new() -> LifetimeRow:
    return LifetimeRow("tool", ("t",), 0, 1_000, 1_000)


def order(at_ms: int, names: set[str] | None = None, **fields: Any) -> ResetOrder:
    return ResetOrder("c", at_ms, names=None if names is None else {"tool": sorted(names)}, **fields)


def numbers(row: LifetimeRow) -> dict[str, int]:
    """Return what a row holds, zeroes left out; a histogram as its sum and, apart, its count."""
    found = dict(row.sums)
    for name, histogram in row.histograms.items():
        found[name] = histogram.sum_us
        found[f"{name}_count"] = sum(histogram.buckets)
    return {name: value for name, value in found.items() if value}


@settings(deadline=None)
@given(st.lists(deltas | resets))
def test_what_is_shown_is_the_sum_since_the_last_reset(story: list[Delta | tuple[int, set[str] | None]]) -> None:
    """Of each number by itself; and lifetimes are as if there had been no reset. Stored and loaded after every step."""
    row, lifetime = new(), new()
    since = {name: new() for name in NAMES}
    begun = dict.fromkeys(NAMES, -1)
    for step in story:
        if isinstance(step, Delta):
            for each in (row, lifetime, *since.values()):
                add_delta(each, None, step)
        else:
            at_ms, names = step
            reset(row, order(at_ms, names))
            for name in NAMES if names is None else names:
                since[name] = new()
                begun[name] = max(begun[name], at_ms)
        row = decode_lifetime(encode_row(row))

    expected: dict[str, int] = {}
    for name, counted in since.items():
        expected |= {key: value for key, value in numbers(counted).items() if key.startswith(name)}
    assert expected == numbers(since_reset(row))
    assert numbers(lifetime) == numbers(row)
    for name, at_ms in begun.items():
        assert at_ms == reset_ms(row, (name,)) == reset_ms(since_reset(row), (name,))
        assert max(1_000, at_ms) == created_ms(row, (name,))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), deltas | resets)))
def test_rows_since_their_resets_add_up(story: list[tuple[int, Delta | tuple[int, set[str] | None]]]) -> None:
    """Overflow: the times of a sum are the newest of its parts, because that is when it went down."""
    rows = [new(), new(), new()]
    for number, step in story:
        if isinstance(step, Delta):
            add_delta(rows[number], None, step)
        else:
            reset(rows[number], order(*step))
    total = new()
    for row in rows:
        merge_times(total, since_reset(row))

    for name in NAMES:
        assert max(reset_ms(row, (name,)) for row in rows) == reset_ms(total, (name,))


def test_a_row_that_never_was_reset_is_shown_as_it_is() -> None:
    row = new()

    assert row is since_reset(row)
    assert (-1, 1_000) == (reset_ms(row, NAMES), created_ms(row, NAMES))


def test_rows_of_the_release_before_can_be_read() -> None:
    stored = msgspec.msgpack.encode(["tool", ["t"], 0, 1, 2, 3, {"events": 4}, {"tool_duration": [5, [0] * 15]}])

    assert decode_lifetime(stored).baseline is None
    assert {"events": 4} == since_reset(decode_lifetime(stored)).sums


def test_an_order_is_about_its_dimension_and_labels() -> None:
    row = LifetimeRow("agent_tool", ("a", "t"), 0, 0, 0)
    told = {
        ("agent_tool", ("a", "t")): True, ("agent_tool", (None, "t")): True, ("agent_tool", (None, None)): True,
        ("agent_tool", ("a", "x")): False, ("agent_tool", ("t", "a")): False, ("tool", ("t",)): False,
        (None, ()): True,
    }  # fmt: skip

    for (dimension, labels), expected in told.items():
        assert expected == concerns(ResetOrder("c", 0, dimension, labels), row)
    assert not concerns(ResetOrder("c", 0, names={"tool": ["events"]}), row)
    assert concerns(ResetOrder("c", 0, names={"agent_tool": ["events"]}), row)


@given(st.lists(st.tuples(st.booleans(), deltas | resets), max_size=12))
@settings(deadline=None)
def test_a_row_that_goes_on_in_another_shows_what_it_showed(history: list[tuple[bool, Any]]) -> None:
    """What somebody has reset does not come back when a name is erased and its numbers go to the row of many."""
    rows = new(), new()
    for first, what in history:
        if isinstance(what, Delta):
            add_delta(rows[first], None, what)
        else:
            reset(rows[first], order(*what))
    into, row = rows
    row.created_ms = 700
    together = [numbers(since_reset(each)) for each in rows]
    times = [reset_ms(each, NAMES) for each in rows]

    absorb(into, row)

    shown = numbers(since_reset(decode_lifetime(encode_row(into))))
    names = set().union(*together)
    assert {name: sum(each.get(name, 0) for each in together) for name in names} == shown
    assert (max(times), 700) == (reset_ms(into, NAMES), into.created_ms)
