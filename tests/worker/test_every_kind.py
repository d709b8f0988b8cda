"""Events of every kind through a real broker, a worker and an exporter: each metric shows what was published."""

import asyncio
import json
import time
import urllib.request
from math import isclose
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer
from harness import Fleet, eventually
from pages import Series, promtool, series, total
from rare import CUSTOMS_JSON, EXPECTED, rare_events, session_end, undeclared

from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.loopback import free_ports

pytestmark = pytest.mark.kafka

Sent = tuple[Any, list[tuple[str, bytes]]]  # an event, and the headers of its record
ENVELOPE: Final = {"specversion": "1.0", "id": "1", "source": "//host", "type": "x", "time": "2025-11-21T11:20:00Z"}
BARE: Final = {"kind": "guard", "agent": "cloud", "session_id": "c", "target": "mail", "denied_by": "budget"}
ALL: Final = {
    **EXPECTED,
    "agent_guard_denials_total": [
        *EXPECTED["agent_guard_denials_total"],
        ({"target": "mail", "denied_by": "budget"}, 2.0),
    ],
}


def publish(bootstrap: str, prefix: str, values: list[Sent]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    for event, headers in values:
        key = event.get("session_id", "none")
        producer.produce(f"{prefix}events", key=key, value=json.dumps(event).encode(), headers=headers)
    assert not producer.flush(30)


async def test_every_kind_arrives(kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also custom ones as they are declared, in envelopes, and refused."""
    monkeypatch.setenv("AGENT_STREAMS_CUSTOM_METRICS", CUSTOMS_JSON)
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 3, "rollups": 2}, replication=1)
    story = present([*rare_events(), *undeclared(), session_end()])
    enveloped = {**ENVELOPE, "data": BARE}
    headers = [(f"ce_{name}", text.encode()) for name, text in {**ENVELOPE, "id": "2"}.items()]
    published: list[Sent] = [(event, []) for event in story] + [(enveloped, []), (enveloped, []), (BARE, headers)]
    (port,) = free_ports(1)
    with Fleet(tmp_path) as fleet:
        where = ["--bootstrap", kafka, "--prefix", prefix]
        fleet.add("worker", ["-m", "streams", "worker", *where])
        fleet.add("exporter", ["-m", "streams", "exporter", *where, "--port", str(port)])
        await asyncio.to_thread(publish, kafka, prefix, published)
        page = await asyncio.to_thread(
            eventually,
            lambda: complete(port, len(published)),
            timeout_s=120,
            what=lambda: f"{wrong(series(asked(port)))}\n{fleet.logs()}",
        )

    found = series(page or "")
    assert len(undeclared()) == total(found, "agent_stream_events_rejected_total", reason="undeclared")
    assert 1 == total(found, "agent_stream_events_duplicate_total")
    assert 0 == total(found, "agent_stream_events_unaccounted")
    assert ("", "", 0) == promtool(page or "")


def present(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move events to now: a session that was silent for months would end, and what it has in flight with it."""
    ahead_ms = time.time_ns() // 1_000_000 - max(event["time"] for event in events)
    return [{**event, "time": event["time"] + ahead_ms} for event in events]


def complete(port: int, count: int) -> str | None:
    """Return the page once everything is received, and every number is what it must be."""
    page = asked(port)
    found = series(page)
    done = count == total(found, "agent_stream_events_received_total") and not wrong(found)
    return page if done and not total(found, "agent_stream_events_unreconciled") else None


def asked(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            page: str = answer.read().decode()
    except OSError:
        return ""
    return page


def wrong(found: Series) -> list[tuple[str, dict[str, str], float, float | None]]:
    """Return what a page does not say as it must: name, labels, expected, found."""
    told = [(name, *sample) for name, samples in ALL.items() for sample in samples]
    shown = [(*each, found.get((each[0], frozenset(each[1].items())))) for each in told]
    return [each for each in shown if each[3] is None or not isclose(each[2], each[3])]
