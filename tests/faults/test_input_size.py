"""Records of 1 MB and 8 MB, and rows that grow as far as events can make them: refused by size, or still storable."""

import json
from typing import Any, Final

import pytest
from fault_table import record
from one_stage import T0, One, Record

from streams.event.codec import RECORD_BYTES_MAX
from streams.event.model import ID_CHARS_MAX, NAME_CHARS_MAX
from streams.fold.gauges import SOURCES_MAX
from streams.fold.session import OPEN_MAX
from streams.stage.sessions import SessionsPartition
from streams.topology import EVENTS, ROLLUPS, SESSIONS_CHANGELOG

pytestmark = pytest.mark.fault("T14")

WIDE: Final = "\U0001f600"  # four bytes as stored
ROW_BYTES_MAX: Final = int(SESSIONS_CHANGELOG.config["max.message.bytes"])
BATCH_BYTES_MAX: Final = int(ROLLUPS.config["max.message.bytes"])


def sized(size: int) -> bytes:
    """Make a good event and as much white space as is missing."""
    event = json.dumps({"kind": "cycle", "phase": "planning", "id": f"n{size}", "time": T0, "agent": "a"}).encode()
    return event + b" " * (size - len(event))


def test_records_beyond_the_limit_are_refused_by_size_and_counted_and_the_next_is_folded() -> None:
    one: One[SessionsPartition] = One(lambda: SessionsPartition(0, 1, 1))
    sizes = (RECORD_BYTES_MAX, RECORD_BYTES_MAX + 1, int(EVENTS.config["max.message.bytes"]), 8 * 1024 * 1024)
    for size in (*sizes, 1_000):
        one.state.feed([one.write(sized(size))])
    one.flush()
    counters = one.state.counters()
    letters = one.told("dead-letter")

    assert (2, 3) == (counters["applied"], counters["rejected"])
    assert [("too_large", size) for size in sizes[1:]] == [(each["reason"], each["value_bytes"]) for each in letters]
    assert max(len(send.value or b"") for send in one.sent("dead-letter")) < 2_000
    record("T14", "records", largest_mb=8, refused=3, restarts=0)


def wide(prefix: str, number: int, chars: int) -> str:
    head = f"{prefix}{number}-"
    return head + WIDE * (chars - len(head))


def swollen(number: int) -> list[dict[str, Any]]:
    """Make events that each add as much to one session's row as their fields may hold."""
    name = wide("n", number, NAME_CHARS_MAX)
    common = {"time": T0 + number, "session_id": "s", "agent": wide("a", number, NAME_CHARS_MAX),
              "tenant": WIDE * NAME_CHARS_MAX, "source": wide("h", number, NAME_CHARS_MAX), "seq": number}  # fmt: skip
    call = {"call_id": wide("c", number, ID_CHARS_MAX), "parent_id": wide("c", number - 1, ID_CHARS_MAX)}
    kinds: list[dict[str, Any]] = [
        {"kind": ("tool_start", "model_start", "agent_start")[number % 3]},
        {"kind": "heartbeat"},
        {"kind": "token_usage", "input_tokens": 1},
        {"kind": "tool_end", "call_id": f"x{number}", "status": "error"},
    ]
    return [
        {
            **common,
            **call,
            "tool": name,
            "model": name,
            "provider": name,
            **kind,
            "id": f"{number}-{at}",
            "seq": 4 * number + at,
        }
        for at, kind in enumerate(kinds)
    ]


def test_the_largest_row_that_events_can_make_of_a_session_is_storable() -> None:
    """Else one client could end every worker that its session comes to, again and again."""
    one: One[SessionsPartition] = One(lambda: SessionsPartition(0, 1, 1))
    for number in range(4 * OPEN_MAX):
        for event in swollen(number):
            one.state.feed([one.write(json.dumps(event).encode(), T0)])
    plan = one.flush()
    assert plan is not None
    largest = max(len(key) + len(value or b"") for key, value in plan.rows)

    assert 4 * 4 * OPEN_MAX == one.state.counters()["applied"], one.told("dead-letter")[:1]
    assert 500_000 < largest < ROW_BYTES_MAX
    one.reload()
    assert ["s"] == [key for key, _ in one.state.sessions() if isinstance(key, str)]
    record("T14", "session-row", largest_bytes=largest, limit_bytes=ROW_BYTES_MAX)


def test_a_flush_of_gauges_from_countless_sources_is_storable() -> None:
    one: One[SessionsPartition] = One(lambda: SessionsPartition(0, 1, 1))
    records = []
    for number in range(3 * SOURCES_MAX):
        event = {"kind": "resource", "id": f"e{number}", "time": T0, "agent": WIDE * NAME_CHARS_MAX,
                 "source": wide("h", number, NAME_CHARS_MAX), "memory_bytes": 1, "threads_busy": 1, "threads_total": 1,
                 "pool_active": 1, "pool_idle": 1, "async_tasks": 1, "queue_depth": 1, "cpu": 1.5, "uptime_ms": 1,
                 "batch_efficiency": 0.5, "memory_peak_bytes": 1}  # fmt: skip
        records.append(Record(number, T0, None, json.dumps(event).encode()))
    one.state.feed(records)
    one.flush()
    largest = max(len(send.value or b"") for send in one.sent("rollups"))

    assert 3 * SOURCES_MAX == one.state.counters()["applied"], one.told("dead-letter")[:1]
    assert largest < BATCH_BYTES_MAX
    record("T14", "gauge-flush", sources=3 * SOURCES_MAX, largest_bytes=largest, limit_bytes=BATCH_BYTES_MAX)
