"""A worker on a real Kafka, with a clock that steps, clients that repeat themselves, and records of every size."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest
from aiokafka import AIOKafkaProducer
from changelogs import totals
from fault_table import record
from fleet import Fleet as Agents
from harness import ROOT, Broker, Fleet, WorkerProcess, eventually
from truth import listed_cost, recount

from streams.worker import topics
from streams.worker.connection import KafkaConnection

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.fault("T12", "T14", "T20")]

EVENTS: Final = 12_000
PARTS: Final = 6
STEPS_MS: Final = (0, 300_000, -300_000, 300_000, 0, -300_000)
TOPIC_BYTES: Final = 10 * 1024 * 1024  # an operator's: larger than we take
SIZES: Final = (1024 * 1024 + 1, 8 * 1024 * 1024)
WATERMARK: Final = 1  # its place in the meta row of the first stage


def sent(events: list[dict[str, Any]]) -> Iterator[tuple[bytes, bytes]]:
    """Send one event in ten again, a while later, and neighbours in another order."""
    rng = random.Random(5)
    places = [(number + rng.uniform(0, 20), event) for number, event in enumerate(events)]
    places += [(number + rng.uniform(0, 900), event) for number, event in enumerate(events) if rng.random() < 0.1]
    for _, event in sorted(places, key=lambda place: place[0]):
        yield event["session_id"].encode(), json.dumps(event).encode()


async def publish_large(kafka: str, topic: str) -> None:
    """Publish what is no event of a size that we take; as large as the topic lets it be."""
    async with AIOKafkaProducer(bootstrap_servers=kafka, max_request_size=TOPIC_BYTES) as producer:
        for size in SIZES:
            await producer.send_and_wait(topic, b"{" + b" " * (size - 1), key=b"large")


async def test_totals_are_exact_and_what_is_too_large_is_refused(kafka: str, prefix: str, tmp_path: Path) -> None:
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 2, "rollups": 1})
    await topics.alter(KafkaConnection(bootstrap=kafka), {f"{prefix}events": {"max.message.bytes": str(TOPIC_BYTES)}})
    wrong = tmp_path / "wrong-by-ms"
    wrong.write_text("0")
    now_ms = int(time.time() * 1_000)
    events = list(Agents(12, sessions=100, tools=10, step_ms=5, start_ms=now_ms - EVENTS * 5).events(EVENTS))
    records = list(sent(events))
    broker = Broker(kafka)
    with Fleet(tmp_path) as fleet:
        command = [str(ROOT / "tests" / "faults" / "stepping_worker.py"), str(wrong), "worker"]
        worker = fleet.add("worker", [*command, "--bootstrap", kafka, "--prefix", prefix])
        share = -(-len(records) // PARTS)
        for part, step_ms in zip(range(PARTS), STEPS_MS, strict=True):
            await asyncio.to_thread(
                step, broker, prefix, records[part * share : (part + 1) * share], wrong, step_ms, worker
            )
            await publish_large(kafka, f"{prefix}events")
        truth = recount(events, listed_cost)
        await asyncio.to_thread(eventually, lambda: totals(broker, prefix) == truth, timeout_s=90, what=fleet.logs)
        letters = [json.loads(message.value()) for message in broker.read(f"{prefix}dead-letter")]
        metas = [
            msgpack.unpackb(rows[b"m"], strict_map_key=False)
            for rows in broker.rows(f"{prefix}sessions.changelog").values()
        ]
        counters = [meta[3] for meta in metas]

        assert sorted(SIZES * PARTS) == sorted(each["value_bytes"] for each in letters)
        assert {"too_large"} == {each["reason"] for each in letters}
        assert len(records) - EVENTS == sum(each.get("duplicate", 0) for each in counters)
        assert 0 == sum(each.get("late", 0) + each.get("skewed", 0) for each in counters)
        assert max(meta[WATERMARK] for meta in metas) <= int(time.time() * 1_000) + 60_000
        assert 0 == await asyncio.to_thread(worker.stop), worker.tail()
        assert [0] == worker.exits
    record("T12", "worker-steps", steps=len(STEPS_MS), minutes=5, events=EVENTS, late=0)
    record("T14", "live", records=len(letters), largest_mb=8, refused=len(letters), restarts=0)
    record("T20", "live", events=EVENTS, repeated=len(records) - EVENTS, missing=0, twice=0)


def step(
    broker: Broker, prefix: str, records: list[tuple[bytes, bytes]], wrong: Path, step_ms: int, worker: WorkerProcess
) -> None:
    """Publish half, let the clock step while the worker reads, publish the rest, and wait until all is read."""
    half = len(records) // 2
    broker.publish(f"{prefix}events", itertools.islice(records, half))
    wrong.write_text(str(step_ms))
    broker.publish(f"{prefix}events", records[half:])
    ends = broker.ends(f"{prefix}events")

    def read() -> bool:
        done = broker.committed(f"{prefix}workers", f"{prefix}events")
        return worker.running and all(done[number] >= end for number, end in ends.items())

    eventually(read, timeout_s=90, what=worker.tail)
