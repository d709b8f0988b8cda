"""The changelogs as tables: rows of several partitions are added up, deleted rows are gone, windows end when told."""

from collections import Counter

import pytest
from painted import BEGIN_MS, Painter, painted, record_of

from streams.event.model import SessionEnd, ToolEnd, ToolStart
from streams.fold.session import CLOSED_KEPT_MS, SessionRow
from streams.worker.columns import DIMENSION_COLUMNS, PLURALS, SESSION_COLUMNS, as_dict
from streams.worker.rows import entry_dict, flat, session_dict
from streams.worker.tables import Tables, merge_sessions

NOW_MS = BEGIN_MS + 20_000


def call(number: int, session: str = "s", tool: str = "search", at_ms: int = BEGIN_MS, **fields: object) -> ToolEnd:
    named = {"agent": "a", "session_id": session, "tool": tool, "duration_ms": 100}
    return ToolEnd(id=f"{session}-{tool}-{number}", time=at_ms, **named, **fields)  # type: ignore[arg-type]  # mixed


def test_session_of_several_partitions_is_one_row() -> None:
    """A client that partitions differently spreads a session; both halves stand in the changelog."""
    painter = Painter()
    painter.publish([record_of(call(1)), record_of(call(2, tool="fax"))], BEGIN_MS, partition=0)
    painter.publish([record_of(call(3, status="error", at_ms=BEGIN_MS + 70_000))], BEGIN_MS + 70_000, partition=1)
    sessions = painter.picture.tables.sessions
    ((session_id, partitions, row),) = sessions.recent()

    assert (session_id, partitions) == ("s", 2)
    assert row == sessions.get("s")
    assert (row.events, row.tool_calls, row.tool_errors) == (3, 3, 1)
    assert {tool: (totals.calls, totals.errors) for tool, totals in row.tools.items()} == {
        "search": (2, 1),
        "fax": (1, 0),
    }
    assert (row.started_ms, row.last_ms) == (BEGIN_MS, BEGIN_MS + 70_000)
    assert [pane.tool_calls for pane in row.panes] == [2, 1]
    assert (sessions.count, sessions.alive) == (1, 1)
    assert sum(meta.counters.get("misrouted", 0) for meta in sessions.meta.values()) == 1


def test_session_is_alive_while_one_of_its_rows_is() -> None:
    rows = [SessionRow("a", None, None, 0, 1, 2, ended_ms=5, end_reason="done"), SessionRow("a", None, None, 3, 4, 5)]
    ended = [SessionRow("a", None, None, 0, 1, 2, ended_ms=5, end_reason="done") for _ in range(2)]

    assert merge_sessions(rows).ended_ms == 0
    assert merge_sessions(rows).end_reason is None
    assert merge_sessions(ended).ended_ms == 5


def test_ended_session_counts_as_ended_and_is_gone_when_its_row_is() -> None:
    painter = Painter()
    painter.publish([record_of(call(1))], BEGIN_MS)
    painter.publish([record_of(SessionEnd(id="end", time=BEGIN_MS + 1, agent="a", session_id="s"))], BEGIN_MS + 1)
    sessions = painter.picture.tables.sessions
    ended = (sessions.count, sessions.alive)
    painter.tick(BEGIN_MS + 2 * CLOSED_KEPT_MS)
    painter.tick(BEGIN_MS + 2 * CLOSED_KEPT_MS + 1)

    assert ended == (1, 0)
    assert (sessions.count, sessions.alive) == (0, 0)
    assert sessions.get("s") is None


def test_earlier_incarnations_of_a_session_are_shown_beside_it() -> None:
    painter = Painter()
    painter.publish([record_of(call(n)) for n in range(3)], BEGIN_MS)
    painter.publish([record_of(SessionEnd(id="end", time=BEGIN_MS + 1, agent="a", session_id="s"))], BEGIN_MS + 1)
    painter.publish([record_of(call(9))], BEGIN_MS + 2)
    sessions = painter.picture.tables.sessions
    row = sessions.get("s")
    (earlier,) = sessions.closed("s")

    assert row is not None
    assert (row.incarnation, row.tool_calls) == (2, 1)
    assert (earlier.incarnation, earlier.tool_calls) == (1, 3)


def test_sessions_come_with_the_last_seen_first() -> None:
    painter = Painter()
    for number, session in enumerate(("first", "second", "third")):
        painter.publish([record_of(call(1, session, at_ms=BEGIN_MS + number))], BEGIN_MS + number)

    assert [session for session, _, _ in painter.picture.tables.sessions.recent()] == ["third", "second", "first"]


def test_totals_of_all_dimensions_are_those_of_the_ledger() -> None:
    painter, crew = painted(20)
    tables = painter.picture.tables
    calls: Counter[str] = Counter({tool: statuses.total() for tool, statuses in crew.ledger.tools.items()})

    by_tool = {
        entry.labels[0]: as_dict(DIMENSION_COLUMNS["tool"], entry, NOW_MS) for entry in tables.rollups.entries("tool")
    }
    by_use: Counter[str] = Counter()
    for entry in tables.rollups.entries("agent_tool"):
        by_use[entry.labels[1]] += int(as_dict(DIMENSION_COLUMNS["agent_tool"], entry, NOW_MS)["calls"] or 0)
    assert {tool: row["calls"] for tool, row in by_tool.items()} == by_use == calls
    everything = tables.rollups.get("all")
    assert everything is not None
    assert everything.sum("input_tokens") == crew.ledger.totals["input_tokens"]
    assert (
        sum(entry.sum("input_tokens") for entry in tables.rollups.entries("model"))
        == crew.ledger.totals["input_tokens"]
    )


def test_quantiles_are_those_of_the_last_five_minutes() -> None:
    painter = Painter()
    painter.publish([record_of(call(n)) for n in range(10)], BEGIN_MS)
    entry = painter.picture.tables.rollups.get("tool", "search")
    assert entry is not None

    assert entry.quantile_us("tool_duration", 0.95, BEGIN_MS) == pytest.approx(100_000, rel=0.01)
    assert entry.quantile_us("tool_duration", 0.95, BEGIN_MS + 10 * 60_000) is None
    assert as_dict(DIMENSION_COLUMNS["tool"], entry, BEGIN_MS + 10 * 60_000)["calls"] == 10


def test_in_flight_is_what_has_started_and_neither_ended_nor_been_given_up() -> None:
    painter = Painter()
    starts = [
        ToolStart(id=f"start-{n}", time=BEGIN_MS, agent="a", session_id="s", call_id=f"c{n}", tool="search")
        for n in range(3)
    ]
    painter.publish([record_of(start) for start in starts], BEGIN_MS)
    painter.publish([record_of(call(1, call_id="c0"))], BEGIN_MS)
    (entry,) = painter.picture.tables.rollups.entries("tool")
    row = painter.picture.tables.sessions.get("s")

    assert row is not None
    assert as_dict(DIMENSION_COLUMNS["tool"], entry, BEGIN_MS)["in_flight"] == 2
    assert as_dict(SESSION_COLUMNS, row, BEGIN_MS)["in_flight"] == 2
    assert set(session_dict("s", row)["open"]) == {"c1", "c2"}


def test_every_dimension_has_columns_and_every_column_shows_every_row() -> None:
    painter, _ = painted(5)
    tables = painter.picture.tables
    for dimension in PLURALS.values():
        for entry in tables.rollups.entries(dimension):
            for column in DIMENSION_COLUMNS[dimension]:
                assert column.text(entry, NOW_MS)
            assert entry_dict(dimension, tuple("abc"[: len(entry.labels)]), entry, NOW_MS)["sums"]
    for _, _, row in tables.sessions.recent():
        for session_column in SESSION_COLUMNS:
            assert session_column.text(row, NOW_MS)


def test_key_in_full_says_what_sources_said_and_how_long_calls_took() -> None:
    painter = Painter()
    depth = {"agent": "a", "tool": "search", "queue_depth": 3, "time": BEGIN_MS}
    starts = [ToolStart(id=f"q-{host}", source=host, seq=1, **depth) for host in ("h1", "h2")]  # type: ignore[arg-type]  # mixed
    painter.publish([record_of(each) for each in (*starts, call(1), call(2, at_ms=BEGIN_MS + 1))], BEGIN_MS)
    entry = painter.picture.tables.rollups.get("tool", "search")
    assert entry is not None
    shown = entry_dict("tool", ("tool",), entry, NOW_MS)

    assert {"tool_queue_depth": 6} == shown["gauges"]
    assert (100_000, 100_000) == tuple(shown["histograms"]["tool_duration"][f"{each}_us"] for each in ("min", "max"))


def test_row_in_full_holds_every_field_in_the_unit_its_name_says() -> None:
    row = SessionRow("a", None, None, BEGIN_MS, BEGIN_MS, BEGIN_MS, cost_nano_usd=1_500_000_000, tool_us=2_500_000)
    shown = session_dict("s", row)
    text = dict(flat(shown))

    assert set(shown) == {"session_id", *SessionRow.__struct_fields__}
    assert text["cost_nano_usd"] == "1.5 USD"
    assert text["tool_us"] == "2.5s"
    assert text["started_ms"].startswith("2025-")
    assert text["ended_ms"] == text["tenant"] == "–"


def test_tables_are_empty_before_anything_is_read() -> None:
    tables = Tables()

    assert tables.sessions.outcomes()["received"] == 0
    assert list(tables.sessions.recent()) == []
    assert tables.rollups.entries("tool") == []
    assert tables.rollups.get("all") is None
