"""A guard that reads Kafka knows what is committed, tells silence from loss, and goes on after an outage."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from harness import eventually
from verdict_records import circuit, stopping

from streams.feed import EmitterConfig, Guard, GuardPolicy
from streams.worker import topics
from streams.worker.connection import KafkaConnection

pytestmark = pytest.mark.kafka
STALE_MS = 3_000


async def write(kafka: str, prefix: str, *records: tuple[str, bytes, bytes | None], commit: bool = True) -> None:
    """Write to topics within one transaction, and end it one way or the other."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{prefix}writer", acks="all")
    await producer.start()
    try:
        await producer.begin_transaction()
        for topic, key, value in records:
            await producer.send_and_wait(prefix + topic, value, key=key)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


def until(holds: Callable[[], Any], guard: Guard) -> None:
    eventually(holds, timeout_s=60, what=lambda: str(guard.stats()))


def turned_stale(guard: Guard) -> bool:
    until(lambda: not guard.stats().stale, guard)
    began = time.monotonic()
    until(lambda: guard.stats().stale or time.monotonic() - began > STALE_MS / 1000 + 2, guard)
    return guard.stats().stale


async def test_what_is_committed_is_known_and_silence_is_not_stale(kafka: str, prefix: str) -> None:
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 2, "rollups": 2})
    search = b"tool|search"
    await write(kafka, prefix, ("breakers", search, circuit()), ("alerts", b"f1", stopping()))
    await write(kafka, prefix, ("breakers", b"tool|lost", circuit(labels={"tool": "lost"})), commit=False)
    config = EmitterConfig(
        bootstrap_servers=kafka, topic_prefix=prefix, guard=GuardPolicy(source="kafka", stale_after_ms=STALE_MS)
    )
    with Guard(config) as guard:
        assert guard.wait_ready(60_000), guard.stats()
        assert not guard.allow("tool:search")
        assert not guard.allow("tool:any", session_id="s1")
        assert guard.allow("tool:lost")

        await write(kafka, prefix, ("alerts", b"ack/f1", b'{"fingerprint":"f1"}'), ("alerts", b"f2", b"{"))
        await write(kafka, prefix, ("breakers", search, circuit("closed", 2, since_ms=2_000)))
        until(lambda: guard.allow("tool:search"), guard)
        await write(kafka, prefix, ("alerts", b"f1", None))
        until(lambda: guard.allow("tool:any", session_id="s1"), guard)
        assert (0, 1) == (guard.stats().verdicts, guard.stats().unreadable)

        # Nothing is written any more.  A machine may stand still for seconds; loss taken for silence is so every time.
        assert not all(turned_stale(guard) for _ in range(3))


async def test_an_outage_is_told_and_gone_on_after(kafka: str, prefix: str) -> None:
    config = EmitterConfig(bootstrap_servers=kafka, topic_prefix=prefix, guard=GuardPolicy(source="kafka"))
    with Guard(config) as guard:
        missing = f"{prefix}breakers, {prefix}alerts: missing"
        until(lambda: missing in str(guard.stats().last_failure), guard)
        await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 2, "rollups": 2})
        await write(kafka, prefix, ("breakers", b"tool|search", circuit()))
        until(lambda: guard.ready() and not guard.allow("tool:search"), guard)
        assert guard.stats().last_failure is None
