"""What processes say of themselves ends as one number per agent, through Kafka, a killed worker and their silence."""

import json
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

import pytest
from changelogs import gauges
from harness import Broker, Fleet, eventually
from pages import Series, series

from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.loopback import free_ports

pytestmark = pytest.mark.kafka

AGENT: Final = frozenset({("agent", "planner")})
TTL_MS: Final = 5 * 60_000
LEFT_MS: Final = 20_000  # of a process's time to live when it is heard of for the last time


class Fleetmates:
    """Processes that publish without our emitter."""

    def __init__(self, broker: Broker, prefix: str) -> None:
        self._broker = broker
        self._topic = f"{prefix}events"
        self._count = 0

    def say(self, source: str, event_ms: int, kind: str = "resource", **fields: Any) -> None:
        """Publish one event and wait until it is there."""
        self._count += 1
        event = {
            "kind": kind,
            "id": f"e{self._count}",
            "time": event_ms,
            "agent": "planner",
            "source": source,
            **fields,
        }
        self._broker.publish(self._topic, [(source.encode(), json.dumps(event).encode())])


async def test_gauges_are_the_last_words_of_live_processes(kafka: str, prefix: str, tmp_path: Path) -> None:
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 3, "rollups": 2}, replication=1)
    broker = Broker(kafka)
    mates = Fleetmates(broker, prefix)
    (port,) = free_ports(1)
    where = ["--bootstrap", kafka, "--prefix", prefix]
    with Fleet(tmp_path) as fleet:
        worker = fleet.add("worker", ["-m", "streams", "worker", *where])
        fleet.add("exporter", ["-m", "streams", "exporter", *where, "--port", str(port)])
        mates.say("host-1", time.time_ns() // 1_000_000, "cycle", phase="planning")
        eventually(lambda: page(port, "agent_events_total", 1), timeout_s=120, what=fleet.logs)
        now_ms = time.time_ns() // 1_000_000
        mates.say("host-1", now_ms, memory_bytes=1_000, threads_busy=1, threads_total=4)
        mates.say("host-2", now_ms - TTL_MS + LEFT_MS, memory_bytes=5_000, threads_busy=3, threads_total=4)
        mates.say("host-1", now_ms, "message", role="user", session_id="s", context_tokens=900, context_limit=1_000)
        both = eventually(lambda: page(port, "agent_memory_usage_bytes", 6_000), timeout_s=30, what=fleet.logs)
        worker.kill()
        mates.say("host-1", now_ms + 1, memory_bytes=2_000, threads_busy=2, threads_total=4)
        mates.say("host-1", now_ms - 1, memory_bytes=7, threads_busy=0, threads_total=4)
        mates.say("host-1", now_ms - TTL_MS - 60_000, "message", role="user", session_id="s", context_tokens=1)
        worker.start()
        # Nobody publishes any more: the tick alone lets host-2 go, and host-1's last word stays.
        one = eventually(lambda: whole(page(port, "agent_memory_usage_bytes", 2_000)), timeout_s=120, what=fleet.logs)
        stored = gauges(broker, prefix)

    assert both["agent_thread_pool_utilization_ratio", AGENT] == 0.5
    assert both["agent_processes", AGENT] == 2
    assert both["agent_memory_peak_bytes", AGENT] == 5_000
    assert one["agent_thread_pool_utilization_ratio", AGENT] == 0.5
    assert one["agent_processes", AGENT] == 1
    assert one["agent_memory_peak_bytes", AGENT] == 5_000
    assert one["agent_context_fullest_ratio", AGENT] == 0.9
    assert one["agent_context_longest_tokens", AGENT] == 900
    assert stored["memory_bytes", "agent|planner"] == {"host-1": (2_000, now_ms + 1)}
    assert one["agent_sources_forgotten_total", frozenset()] == 0
    assert late(one) == 1
    assert one["agent_stream_events_unreconciled", frozenset()] == 0


def late(found: Series) -> float:
    return sum(number for (name, _), number in found.items() if name == "agent_stream_events_late_total")


def whole(found: Series) -> Series:
    """Return a page once it shows what became of every event, which is in another partition; nothing before."""
    return found if found and late(found) == 1 and not found["agent_stream_events_unreconciled", frozenset()] else {}


def page(port: int, name: str, expected: float) -> Series:
    """Return the exporter's page once a metric of the agent shows a number; nothing before."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            found = series(answer.read().decode())
    except OSError:
        return {}
    return found if found.get((name, AGENT)) == expected else {}
