"""What a session's row keeps, how it is stored, and that nothing in it grows without end."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.event import model
from streams.fold import session
from streams.fold.apply import APPLY
from streams.fold.cells import Cells
from streams.fold.dedup import MARKS_MAX
from streams.fold.session import (
    HEAD_BYTES,
    MODEL,
    OPEN_MAX,
    OVERFLOW,
    PANES_MAX,
    ROW_CODEC,
    TOOLS_MAX,
    Head,
    Pane,
    SessionRow,
    ToolTotals,
)
from streams.fold.streamtime import MINUTE_MS

T0 = 1_763_724_000_000


def row_of(**fields: Any) -> SessionRow:
    return SessionRow(
        **{"agent": "a", "tenant": None, "user_id": None, "started_ms": T0, "last_ms": T0, "seen_ms": T0, **fields}
    )


def apply(row: SessionRow, *events: model.Envelope) -> None:
    """Fold events as if each were on time."""
    for event in events:
        assert isinstance(event.time, int)
        APPLY[type(event)](row, session.pane_at(row, event.time), event, Cells(), event.time, event.time)


# ---- storage ---------------------------------------------------------------------------------------------------

count = st.integers(0, 2**53)
text = st.text(max_size=8)
rows = st.builds(
    SessionRow,
    agent=text,
    tenant=st.none() | text,
    user_id=st.none() | text,
    started_ms=count,
    last_ms=count,
    seen_ms=count,
    incarnation=st.integers(1, 2**40),
    ended_ms=st.just(0) | count,
    end_reason=st.none() | text,
    stamp=st.integers(-1, 2**60),
    events=count,
    cost_nano_usd=count,
    tools=st.dictionaries(text, st.builds(ToolTotals, count, count, count), max_size=3),
    open=st.dictionaries(
        text,
        st.tuples(st.integers(0, 2), text, st.none() | text, st.none() | text, st.none() | text, count),
        max_size=3,
    ),
    marks=st.dictionaries(text, st.tuples(count, st.integers(1, 2**64 - 1)).map(list), max_size=3),
    panes=st.lists(st.builds(Pane, count, count, count), max_size=3),
)


@given(rows)
def test_a_stored_row_comes_back_and_its_head_tells_the_same(row: SessionRow) -> None:
    stored = session.encode(row)

    assert row == session.decode(stored)
    assert Head(ROW_CODEC, row.ended_ms != 0, bool(row.open), row.stamp, row.seen_ms) == session.head(stored)
    assert session.head(stored) == session.head(stored[:HEAD_BYTES])


def test_a_loaded_row_can_be_changed_without_touching_another() -> None:
    """The maps of two rows are never the same object, not even when both are empty."""
    stored = session.encode(row_of())
    one, other = session.decode(stored), session.decode(stored)
    session.mark_of(one, "host", 1)
    session.tool_totals(one, "search").calls += 1
    session.pane_at(one, T0).events += 1

    assert row_of() == other == row_of()


def test_cut_bytes_are_an_error_and_never_a_row() -> None:
    stored = session.encode(row_of(events=3))

    for end in range(HEAD_BYTES, len(stored)):
        with pytest.raises(msgspec.DecodeError):
            session.decode(stored[:end])


# ---- limits ----------------------------------------------------------------------------------------------------


def test_minutes_are_bounded_and_the_oldest_goes() -> None:
    row = row_of()
    for minute in range(PANES_MAX + 9):
        session.pane_at(row, T0 + minute * MINUTE_MS).events += 1

    assert PANES_MAX == len(row.panes)
    assert T0 + 9 * MINUTE_MS == row.panes[0].start_ms


@given(st.lists(st.integers(0, PANES_MAX * MINUTE_MS - 1), max_size=80))
def test_minutes_stand_in_order_whatever_order_events_come_in(story: list[int]) -> None:
    row = row_of()
    for at in story:
        session.pane_at(row, T0 + at).events += 1
    starts = [pane.start_ms for pane in row.panes]

    assert sorted({T0 + at - at % MINUTE_MS for at in story}) == starts
    for pane in row.panes:
        assert sum(1 for at in story if pane.start_ms <= T0 + at < pane.start_ms + MINUTE_MS) == pane.events


@given(
    st.lists(st.tuples(st.integers(0, PANES_MAX * MINUTE_MS - 1), st.integers(0, 9)), max_size=40), st.integers(0, 60)
)
def test_a_window_sums_the_minutes_that_begin_in_it(story: list[tuple[int, int]], minutes: int) -> None:
    row = row_of()
    for at, errors in story:
        session.pane_at(row, T0 + at).errors += errors
    since_ms = T0 + minutes * MINUTE_MS

    assert sum(errors for at, errors in story if T0 + at >= since_ms) == session.window_sum(row, "errors", since_ms)


def test_tools_beyond_their_limit_share_one_total() -> None:
    row = row_of()
    apply(
        row,
        *(
            model.ToolEnd(id="e", time=T0, agent="a", tool=f"t{number % (TOOLS_MAX + 5)}", duration_ms=1)
            for number in range(2 * (TOOLS_MAX + 5))
        ),
    )

    assert TOOLS_MAX + 1 == len(row.tools)
    assert ToolTotals(10, 0, 10_000) == row.tools[OVERFLOW]
    assert ToolTotals(2, 0, 2_000) == row.tools["t0"]
    assert row.tool_calls == sum(totals.calls for totals in row.tools.values())


def test_calls_in_flight_are_bounded_and_the_oldest_is_given_up() -> None:
    row = row_of()
    apply(
        row,
        *(
            model.ModelStart(id="e", time=T0 + number, agent="a", model="m", call_id=f"c{number}")
            for number in range(OPEN_MAX + 7)
        ),
    )

    assert OPEN_MAX == len(row.open)
    assert 7 == row.abandoned
    assert "c6" not in row.open
    assert (MODEL, "a", None, "m", None, T0 + 7) == row.open["c7"]


def test_marks_are_bounded_and_forgetting_is_told() -> None:
    row = row_of()
    forgotten = [session.mark_of(row, f"host-{number}", number) for number in range(MARKS_MAX + 3)]

    assert [0] * MARKS_MAX + [1] * 3 == forgotten
    assert MARKS_MAX == len(row.marks)
    assert "host-2" not in row.marks
    assert [3, 1] == row.marks["host-3"]


# ---- incarnations ----------------------------------------------------------------------------------------------


def test_the_next_incarnation_begins_at_nothing_and_keeps_the_marks() -> None:
    ended = row_of(incarnation=4, ended_ms=T0, end_reason="idle", events=9, errors=2, marks={"host": [7, 1]}, stamp=50)

    following = session.successor(ended, T0 + 5, T0 + 6)

    assert row_of(
        incarnation=5, started_ms=T0 + 5, last_ms=T0 + 5, seen_ms=T0 + 6, marks={"host": [7, 1]}, stamp=50
    ) == (following)
