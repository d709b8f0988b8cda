"""What a session's row keeps while it is folded into, and that nothing in it grows without end."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from stored_rows import rows

from streams.event import model
from streams.fold import session
from streams.fold.apply import apply
from streams.fold.cells import Cells
from streams.fold.dedup import MARKS_MAX
from streams.fold.live import LiveRow, live, unpack
from streams.fold.session import MODEL, OPEN_MAX, OVERFLOW, PANES_MAX, TOOLS_MAX, SessionRow
from streams.fold.streamtime import MINUTE_MS

T0 = 1_763_724_000_000


def row_of(**fields: Any) -> SessionRow:
    return SessionRow(
        **{"agent": "a", "tenant": None, "user_id": None, "started_ms": T0, "last_ms": T0, "seen_ms": T0, **fields}
    )


def fold(row: LiveRow, *events: model.Envelope) -> None:
    """Fold events as if each were on time."""
    for event in events:
        assert isinstance(event.time, int)
        apply(row, row.pane_at(event.time), event, Cells(), event.time, event.time)


# ---- storage ---------------------------------------------------------------------------------------------------


@given(rows)
def test_a_live_row_holds_all_of_a_stored_one(row: SessionRow) -> None:
    assert session.encode(row) == live(row).pack() == unpack(session.encode(row)).pack()


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5 * MINUTE_MS), st.booleans()), max_size=30))
def test_minutes_packed_before_are_packed_again_when_they_change(story: list[tuple[int, bool]]) -> None:
    often, once = live(row_of()), live(row_of())
    for at, pack in story:
        often.pane_at(T0 + at).errors += 1
        once.pane_at(T0 + at).errors += 1
        if pack:
            often.pack()

    assert once.pack() == often.pack()


def test_a_loaded_row_can_be_changed_without_touching_another() -> None:
    """The maps of two rows are never the same object, not even when both are empty."""
    stored = session.encode(row_of())
    one, other = unpack(stored), unpack(stored)
    one.mark("host", 1)
    one.tool("search").calls += 1
    one.pane_at(T0).events += 1

    assert stored == other.pack() == live(row_of()).pack()


# ---- limits ----------------------------------------------------------------------------------------------------


def test_minutes_are_bounded_and_the_oldest_goes() -> None:
    row = live(row_of())
    for minute in range(PANES_MAX + 9):
        row.pane_at(T0 + minute * MINUTE_MS).events += 1

    assert PANES_MAX == len(row.panes)
    assert T0 + 9 * MINUTE_MS == row.panes[0].start_ms


@given(st.lists(st.integers(0, PANES_MAX * MINUTE_MS - 1), max_size=80))
def test_minutes_stand_in_order_whatever_order_events_come_in(story: list[int]) -> None:
    row = live(row_of())
    for at in story:
        row.pane_at(T0 + at).events += 1
    starts = [pane.start_ms for pane in row.panes]

    assert sorted({T0 + at - at % MINUTE_MS for at in story}) == starts
    for pane in row.panes:
        assert sum(1 for at in story if pane.start_ms <= T0 + at < pane.start_ms + MINUTE_MS) == pane.events


def test_tools_beyond_their_limit_share_one_total() -> None:
    row = live(row_of())
    fold(
        row,
        *(
            model.ToolEnd(id="e", time=T0, agent="a", tool=f"t{number % (TOOLS_MAX + 5)}", duration_ms=1)
            for number in range(2 * (TOOLS_MAX + 5))
        ),
    )

    assert TOOLS_MAX + 1 == len(row.tools)
    overflow = row.tools[OVERFLOW]
    assert (10, 0, 10_000) == (overflow.calls, overflow.errors, overflow.duration_us)
    assert (2, 2_000) == (row.tools["t0"].calls, row.tools["t0"].duration_us)
    assert row.tool_calls == sum(totals.calls for totals in row.tools.values())


def test_calls_in_flight_are_bounded_and_the_oldest_is_given_up() -> None:
    row = live(row_of())
    fold(
        row,
        *(
            model.ModelStart(id="e", time=T0 + number, agent="a", model="m", call_id=f"c{number}")
            for number in range(OPEN_MAX + 7)
        ),
    )

    assert OPEN_MAX == len(row.open)
    assert 7 == row.abandoned
    assert "c6" not in row.open
    assert (MODEL, "a", None, "m", None, T0 + 7) == row.open["c7"].values()


def test_marks_are_bounded_and_forgetting_is_told() -> None:
    row = live(row_of())
    forgotten = [row.mark(f"host-{number}", number) for number in range(MARKS_MAX + 3)]

    assert [0] * MARKS_MAX + [1] * 3 == forgotten
    assert MARKS_MAX == len(row.marks)
    assert "host-2" not in row.marks
    assert [3, 1] == row.marks["host-3"].values()


# ---- incarnations ----------------------------------------------------------------------------------------------


def test_the_next_incarnation_begins_at_nothing_and_keeps_the_marks() -> None:
    ended = row_of(incarnation=4, ended_ms=T0, end_reason="idle", events=9, errors=2, marks={"host": [7, 1]}, stamp=50)

    following = live(ended).successor(T0 + 5, T0 + 6)

    assert row_of(
        incarnation=5, started_ms=T0 + 5, last_ms=T0 + 5, seen_ms=T0 + 6, marks={"host": [7, 1]}, stamp=50
    ) == session.decode(following.pack())


def test_a_sum_beyond_what_is_stored_stays_at_the_largest() -> None:
    row = live(row_of(input_tokens=2**64 - 5))
    row.pane_at(T0).input_tokens = 2**70
    row.pane_at(T0 + MINUTE_MS)
    fold(row, *(model.TokenUsage(id="e", time=T0, agent="a", model="m", input_tokens=9) for _ in range(2)))

    stored = session.decode(row.pack())

    assert [2**64 - 1] * 2 == [stored.input_tokens, stored.panes[0].input_tokens]
