"""A cardinality bomb: a million sessions, 100,000 tools and labels of 10 kB within a minute, as fast as they go.

What was there before is counted exactly; what comes is counted whole, in rows of its own or together; a worker and the
exporter's page stay below what they were given.
"""

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from fault_table import record
from fleet import Fleet as Agents
from harness import Broker, Fleet, eventually
from pages import Series, series, total
from psutil import Process
from truth import recount

from streams.sink.metric import KEYS_MAX
from streams.stage.keys import partition_of
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.loopback import HOST, free_ports

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.fault("T13"), pytest.mark.timeout(2_400)]

# A slow machine may be given less: RECORD_FIGURES=1 says what it was.
SESSIONS: Final = int(os.environ.get("BOMB_SESSIONS", "1000000"))
TOOLS: Final = SESSIONS // 10
LABELS: Final = SESSIONS // 100  # of 10 kB: refused
KNOWN: Final = 20_000  # events of agents that behave, before and after
KNOWN_SESSIONS: Final = 100
PARTITIONS: Final = 4
KEPT: Final = SESSIONS // 10  # per partition, as configured: four tenths of the bomb
ACTIVE: Final = max(1_000, KEPT // 10)
BASE_BYTES: Final = 400 << 20  # an idle worker, the fetched records of four partitions, and the tables of rollups
SESSION_BYTES: Final = 1_500  # packed, with its deadlines
ACTIVE_BYTES: Final = 5_000
CAP_BYTES: Final = BASE_BYTES + PARTITIONS * (KEPT * SESSION_BYTES + 2 * ACTIVE * ACTIVE_BYTES)
PAGE_BYTES: Final = 20 << 20  # all dimensions at their caps
WAIT_S: Final = 1_800.0


def bomb(begin_ms: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield one event of each session: the call of a tool that nobody knows, now and then with a name of 10 kB."""
    bad = b"x" * 10_000
    for number in range(SESSIONS):
        session = b"bomb-%d" % number
        refused = number % (SESSIONS // LABELS) == 0
        tool = bad if refused else b"bomb-%d" % (number % TOOLS)
        yield (
            session,
            (
                b'{"kind":"tool_end","id":"b%d","time":%d,"agent":"bomber","session_id":"%s","source":"bomb-%d","seq":%d,'
                b'"tool":"%s","call_id":"b%d","status":"success","duration_ms":5}'
                % (number, begin_ms + number // 1000, session, number % 8, number, tool, number)
            ),
        )


def page_of(port: int) -> tuple[int, Series]:
    """Return the size of the exporter's page, and what is in it."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=60) as answer:
        body = answer.read()
    return len(body), series(body.decode())


def calls_of(found: Series, known: set[str]) -> dict[str, int]:
    """Return calls by tool of those that were there before, as exported."""
    calls: dict[str, int] = {}
    for (name, labels), value in found.items():
        tool = dict(labels).get("tool", "")
        if name == "agent_tool_calls_total" and tool in known:
            calls[tool] = calls.get(tool, 0) + int(value)
    return calls


async def test_a_bomb_of_names_is_bounded_counted_and_hurts_no_tool_that_was_known(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": PARTITIONS, "rollups": 2}, replication=1)
    monkeypatch.setenv("AGENT_STREAMS_SESSIONS", str(KEPT))
    monkeypatch.setenv("AGENT_STREAMS_SESSIONS_ACTIVE", str(ACTIVE))
    broker, (port,) = Broker(kafka), free_ports(1)
    start_ms = int(time.time() * 1000) - 60_000
    known = list(Agents(19, sessions=KNOWN_SESSIONS, tools=20, step_ms=0.5, start_ms=start_ms).events(2 * KNOWN))
    where = ["--bootstrap", kafka, "--prefix", prefix]
    with Fleet(tmp_path) as fleet:
        worker = fleet.add("worker", ["-m", "streams", "worker", *where])
        exporter = fleet.add("exporter", ["-m", "streams", "exporter", *where, "--port", str(port)])
        publish(broker, prefix, known[:KNOWN])
        _, tools = recount(known[:KNOWN])
        shown(port, tools, fleet)
        largest = {worker.name: 0, exporter.name: 0}

        def done() -> bool:
            for each in (worker, exporter):
                largest[each.name] = max(largest[each.name], Process(each.pid).memory_info().rss)
            ends = sum(broker.ends(f"{prefix}events").values())
            return sum(broker.committed(f"{prefix}workers", f"{prefix}events").values()) >= ends

        begun_s = time.monotonic()
        broker.publish(f"{prefix}events", bomb(start_ms + 30_000))
        published_s = time.monotonic() - begun_s
        publish(broker, prefix, known[KNOWN:])
        eventually(done, timeout_s=WAIT_S, what=fleet.logs)
        folded_s = time.monotonic() - begun_s
        _, tools = recount(known)
        size, found = shown(port, tools, fleet)

        whole = {name: int(total(found, f"agent_stream_events_{name}_total")) for name in OUTCOMES}
        record(
            "T13", "bomb", sessions=SESSIONS, tools=TOOLS, long_labels=LABELS, published_s=round(published_s),
            folded_s=round(folded_s), worker_mb=largest["worker"] >> 20, cap_mb=CAP_BYTES >> 20,
            exporter_mb=largest["exporter"] >> 20, page_mb=round(size / 2**20, 1),
        )  # fmt: skip
        assert whole == {
            "received": SESSIONS + 2 * KNOWN,
            "applied": SESSIONS - LABELS + 2 * KNOWN,
            "late": 0,
            "duplicate": 0,
            "rejected": LABELS,
        }
        gone, expected = total(found, "agent_stream_sessions_evicted_total"), evicted(known)
        assert expected <= gone <= expected + KNOWN_SESSIONS, "those that were known go once and come again at most"
        ends = sum(event["kind"] == "tool_end" for event in known)
        assert total(found, "agent_tool_calls_total") == SESSIONS - LABELS + ends
        named = len(
            {dict(labels)["tool"] for name, labels in found if name == "agent_tool_calls_total"} - {"__other__"}
        )
        assert named <= KEYS_MAX["tool"]
        rows = sum(
            key.startswith(b"ltool|") for table in broker.rows(f"{prefix}rollups.changelog").values() for key in table
        )
        assert total(found, "agent_series_overflow_keys", dimension="tool") == rows - named
        assert size <= PAGE_BYTES
        assert largest["worker"] <= CAP_BYTES
        assert worker.stop(60) == 0


OUTCOMES: Final = ("received", "applied", "late", "duplicate", "rejected")


def publish(broker: Broker, prefix: str, events: list[dict[str, Any]]) -> None:
    broker.publish(f"{prefix}events", ((each["session_id"].encode(), json.dumps(each).encode()) for each in events))


def shown(port: int, tools: dict[str, dict[str, int]], fleet: Fleet) -> tuple[int, Series]:
    """Wait until the page shows the calls of these tools; return it."""
    expected = {name: each["calls"] for name, each in tools.items()}

    def found() -> tuple[int, Series] | None:
        try:
            size, page = page_of(port)
        except OSError:
            return None
        return (size, page) if calls_of(page, set(expected)) == expected else None

    whole = eventually(found, timeout_s=300, what=lambda: f"the tools that were known\n{fleet.logs()}")
    assert whole is not None
    return whole


def evicted(known: list[dict[str, Any]]) -> int:
    """Count the sessions that had to go: each partition holds KEPT."""
    held = [0] * PARTITIONS
    begun = (b"bomb-%d" % number for number in range(SESSIONS) if number % (SESSIONS // LABELS))
    for key in (*begun, *{each["session_id"].encode() for each in known}):
        held[partition_of(key, PARTITIONS)] += 1
    return sum(max(0, count - KEPT) for count in held)
