"""The emitter against a real broker: where events land, that all of them do, and what an outage costs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition
from feed_recording import until
from harness import Broker, reach

from streams.event.codec import decode_record
from streams.event.model import Event, ToolStart
from streams.feed.batch import BatchPolicy
from streams.feed.config import Compression, EmitterConfig
from streams.feed.emitter import Emitter
from streams.worker.connection import KafkaConnection
from streams.worker.embedded import EmbeddedKafka
from streams.worker.topics import create

pytestmark = pytest.mark.kafka
REPOSITORY = Path(__file__).parents[2]
EXAMPLE = (REPOSITORY / "docs/examples/langchain_agent.py").read_text(encoding="utf-8")


def event(number: int, session_id: str) -> ToolStart:
    return ToolStart(id=str(number), time=1_000 + number, agent="a", session_id=session_id, tool="t")


def messages(bootstrap: str, topic: str, events: int) -> Iterator[Message]:
    """Read a topic from its beginning with a client of another make: to its end, and until it has yielded so many."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False})
    try:
        partitions = Broker(bootstrap).partitions(topic)
        places = [TopicPartition(topic, each.partition, OFFSET_BEGINNING) for each in partitions]
        consumer.assign(places)
        ends = [reach(consumer, place)[1] for place in places]
        deadline = time.monotonic() + 120
        while events > 0 or any(
            at.offset < end for at, end in zip(consumer.position(places), ends, strict=True) if end > 0
        ):
            assert time.monotonic() < deadline, f"{events} events did not arrive"
            for message in consumer.consume(500, timeout=0.2):
                assert message.error() is None
                events -= len(decode_record(message.value()).events)
                yield message
    finally:
        consumer.close()


def arrived(bootstrap: str, topic: str, events: int) -> list[Event]:
    return [each for one in messages(bootstrap, topic, events) for each in decode_record(one.value()).events]


def run(script: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=120, check=False
    )


async def config_for(kafka: str, prefix: str, **fields: Any) -> EmitterConfig:
    await create(KafkaConnection(bootstrap=kafka), prefix)
    return EmitterConfig(bootstrap_servers=kafka, topic_prefix=prefix, **fields)


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_every_event_arrives_once_in_the_order_of_its_session(
    kafka: str, prefix: str, compression: Compression
) -> None:
    config = await config_for(kafka, prefix, compression=compression)
    async with Emitter(config) as out:
        for number in range(5_000):
            out.emit(event(number, f"s{number % 40}"))
        assert await out.flush()
        stats = out.stats()
    events = arrived(kafka, config.topic, 5_000)

    assert (stats.acknowledged, stats.waiting, stats.dropped) == (5_000, 0, {})
    assert sorted(each.seq or 0 for each in events) == list(range(5_000))
    for session in range(40):
        own = [int(each.id) for each in events if each.session_id == f"s{session}"]
        assert own == list(range(session, 5_000, 40))


async def test_keys_may_be_larger_than_what_they_are_keys_of(kafka: str, prefix: str) -> None:
    config = await config_for(kafka, prefix)
    async with Emitter(config) as out:
        for number in range(6_000):
            out.emit(event(number, f"{number}-" + "ß" * 240))
        assert await out.flush(60_000)
        assert (out.stats().acknowledged, out.stats().failures) == (6_000, 0)

    assert {int(each.id) for each in arrived(kafka, config.topic, 6_000)} == set(range(6_000))


async def test_keys_land_where_every_java_client_puts_them(kafka: str, prefix: str) -> None:
    config = await config_for(kafka, prefix)
    keys = [f"session-{number}-ß" for number in range(200)]
    expected: dict[str, int] = {}
    java_like = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    for key in keys:
        java_like.produce(
            f"{prefix}rollups", key=key, on_delivery=lambda _, sent, key=key: expected.update({key: sent.partition()})
        )
    assert 0 == java_like.flush(60)
    async with Emitter(config) as out:
        for number, key in enumerate(keys):
            out.emit(event(number, key))
    found = {one.key().decode(): one.partition() for one in messages(kafka, config.topic, len(keys))}

    assert {key: partition % 4 for key, partition in found.items()} == expected, "8 partitions of events, 4 of rollups"
    assert len(set(found.values())) == 8


async def test_a_script_that_just_ends_has_sent_everything(kafka: str, prefix: str) -> None:
    """By host name: after its last line an interpreter allows no thread that would resolve one."""
    config = await config_for(kafka, prefix)
    script = """
import sys
from streams.event.model import ToolStart
from streams.feed import Emitter
out = Emitter()
for number in range(100):
    out.emit(ToolStart(id=str(number), time=0, agent="a", session_id="s", tool="t"))
"""
    done = run(
        script,
        {
            "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": kafka.replace("127.0.0.1", "localhost"),
            "AGENT_STREAMS_TOPIC_PREFIX": prefix,
            "AGENT_STREAMS_EMITTER_EXIT_FLUSH_MS": "20000",
        },
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert [each.id for each in arrived(kafka, config.topic, 100)] == [str(number) for number in range(100)]


async def test_a_topic_that_is_made_later_gets_what_waited(kafka: str, prefix: str) -> None:
    out = Emitter(
        EmitterConfig(bootstrap_servers=kafka, topic_prefix=prefix, send_timeout_ms=1_000, backoff_max_ms=200)
    )
    out.emit(event(1, "s"))
    until(lambda: out.stats().failures)

    await create(KafkaConnection(bootstrap=kafka), prefix)
    assert await out.flush(60_000)
    await out.aclose()
    assert len(arrived(kafka, f"{prefix}events", 1)) == 1


async def test_a_broker_killed_and_started_again_costs_no_event_and_no_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedKafka(tmp_path) as broker:
        config = await config_for(
            broker.bootstrap, "agent.", send_timeout_ms=3_000, backoff_max_ms=500, batch=BatchPolicy(age_ms=5)
        )
        with Emitter(config) as out:
            number = 0

            def work(until_s: float) -> None:
                nonlocal number
                end = time.monotonic() + until_s
                while time.monotonic() < end:
                    out.emit(event(number, f"s{number % 7}"))
                    number += 1
                    time.sleep(0.001)

            work(1.0)
            broker.kill()
            lasts = time.monotonic() + 60
            while out.stats().connected:
                work(0.1)
                assert time.monotonic() < lasts, "it never noticed"
            work(1.0)
            broker.restart()
            until(lambda: out.stats().connected)
            work(0.5)
            assert out.flush_sync(60_000)
            stats = out.stats()
        events = arrived(broker.bootstrap, config.topic, number)

    firsts: dict[str, list[int]] = defaultdict(list)
    seen: set[int] = set()
    for each in events:
        if each.seq not in seen:
            seen.add(each.seq or 0)
            firsts[each.session_id or ""].append(each.seq or 0)
    assert (stats.acknowledged, stats.dropped) == (number, {})
    assert seen == set(range(number))
    assert all(seqs == sorted(seqs) for seqs in firsts.values())
    noise = [record for record in caplog.records if record.name.startswith(("aiokafka", "asyncio"))]
    assert [record.getMessage() for record in noise if "agent-streams-emitter" in (record.threadName or "")] == []
    assert len([record for record in caplog.records if record.name == "streams.feed"]) <= 4, "one line per outage"


async def test_the_langchain_example_does_what_it_says(kafka: str, prefix: str) -> None:
    config = await config_for(kafka, prefix)
    environ = {"AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": kafka, "AGENT_STREAMS_TOPIC_PREFIX": prefix, "PYTHONPATH": "."}
    done = run(EXAMPLE, environ)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "It rains in Lisbon: take a coat.",
        f"15 of 15 events are in {config.topic}",
    ]
    kinds = [type(each).__name__ for each in arrived(kafka, config.topic, 15)]
    assert kinds == ["AgentStart"] + ["ModelStart", "TokenUsage", "ModelEnd", "ToolStart", "ToolEnd"] * 2 + [
        "ModelStart", "TokenUsage", "ModelEnd", "AgentEnd"
    ]  # fmt: skip


# ---- an outage that outlives the agent ---------------------------------------------------------------------------

BEFORE, DURING, AFTER = 1_000, 30_000, 500
# Emits so many events, each time a line says so; a line of what is where follows when nothing is in memory alone, and
# the broker has everything where it is to be `sent`.
AGENT = """
import dataclasses, json, sys, time
from streams.event.model import ToolStart
from streams.feed import Emitter
out = Emitter()
number = 0
for line in sys.stdin:
    count, how = line.split()
    for number in range(number, number + int(count)):
        out.emit(ToolStart(id=str(number), time=number, agent="a", session_id=f"s{number % 7}", tool="t"))
    number += 1
    while (
        (stats := out.stats()).emitted < number or stats.waiting_bytes
        or stats.waiting > (0 if how == "sent" else stats.spooled)
    ):
        time.sleep(0.01)
    print(json.dumps(dataclasses.asdict(stats)), flush=True)
out.close(60_000)
print(json.dumps(dataclasses.asdict(out.stats())), flush=True)
"""


class Agent:
    def __init__(self, bootstrap: str, state: Path) -> None:
        environ = {
            "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "AGENT_STREAMS_EMITTER_SEND_TIMEOUT_MS": "1500",
            "AGENT_STREAMS_EMITTER_QUEUE_EVENTS": "100000",
            "XDG_STATE_HOME": str(state),
            "PYTHONPATH": str(REPOSITORY),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", AGENT], env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def emit(self, events: int, how: str = "kept") -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{events} {how}\n")
        self.process.stdin.flush()
        return self.said()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()

    def said(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


def segments(state: Path) -> list[str]:
    """Return what waits on disk; folders may go while they are looked through, which `rglob` does not forgive."""
    return [name for _, _, names in os.walk(state) for name in names if name.endswith(".seg")]


async def test_nothing_is_lost_when_broker_and_agent_die_one_after_the_other(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with EmbeddedKafka(tmp_path / "kafka") as broker:
        config = await config_for(broker.bootstrap, "agent.")
        first = Agent(broker.bootstrap, state)
        second = None
        try:
            before = first.emit(BEFORE, "sent")
            broker.kill()
            during = first.emit(DURING)
            first.process.send_signal(signal.SIGKILL)
            assert first.process.wait(60) == -signal.SIGKILL
            second = Agent(broker.bootstrap, state)
            second.emit(AFTER)
            broker.restart()
            assert second.process.stdin is not None
            until(lambda: not segments(state))
            second.process.stdin.close()
            after = second.said()
            assert second.process.wait(60) == 0
        finally:
            for agent in (first, second):
                if agent is not None:
                    agent.close()
        events = arrived(broker.bootstrap, config.topic, _all(after, before))

    seen: Counter[tuple[str | None, int | None]] = Counter()
    firsts: dict[tuple[str | None, str | None], list[int]] = defaultdict(list)
    for each in events:
        seen[each.source, each.seq] += 1
        if seen[each.source, each.seq] == 1:
            firsts[each.source, each.session_id].append(int(each.id))
    assert (0, {}) == (before["waiting"], before["dropped"])
    assert (BEFORE, DURING, {}) == (during["acknowledged"], during["waiting"], during["dropped"])
    assert (AFTER, 0, {}) == (after["acknowledged"], after["waiting"], after["dropped"])
    assert (DURING, 0) == (after["left_acknowledged"], after["left_lost"])
    assert [BEFORE + DURING, AFTER] == sorted(
        (len([key for key in seen if key[0] == source]) for source in {key[0] for key in seen}), reverse=True
    )
    assert all(ids == sorted(ids) for ids in firsts.values()), "each session in its order"


def _all(after: dict[str, Any], before: dict[str, Any]) -> int:
    return int(before["acknowledged"] + after["acknowledged"] + after["left_acknowledged"])
