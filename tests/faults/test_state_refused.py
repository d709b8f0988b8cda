"""What does not fit is refused at the start, with exit code 78 and what to do; the doctor finds the same."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from fault_table import record
from fleet import Fleet as Agents
from harness import Broker, Fleet, WorkerProcess, eventually

from streams.stage import session_rows
from streams.worker import topics
from streams.worker.checkup import Finding
from streams.worker.connection import KafkaConnection
from streams.worker.doctor import examine

pytestmark = [pytest.mark.kafka, pytest.mark.long]

PARTITIONS: Final = 2
LIKE_EVENTS: Final = ("events", "sessions.changelog", "payloads")


class Bed:
    """A prefix that a worker has worked on; the worker is stopped."""

    def __init__(self, kafka: str, prefix: str, fleet: Fleet) -> None:
        self.kafka, self.prefix = kafka, prefix
        self.connection = KafkaConnection(bootstrap=kafka)
        self.broker = Broker(kafka)
        self.worker: WorkerProcess
        self._fleet = fleet
        self._agents = Agents(3, sessions=40)

    async def make(self) -> None:
        """Let a worker fold some events, and end."""
        await topics.create(self.connection, self.prefix, {"events": PARTITIONS, "rollups": 1})
        await self.publish(200)
        command = ["-m", "streams", "worker", "--bootstrap", self.kafka, "--prefix", self.prefix]
        self.worker = self._fleet.add("worker", command)
        await asyncio.to_thread(eventually, self._read, timeout_s=90, what=self.worker.tail)
        assert 0 == await asyncio.to_thread(self.worker.stop)

    async def publish(self, count: int) -> None:
        events = ((event["session_id"].encode(), json.dumps(event).encode()) for event in self._agents.events(count))
        await asyncio.to_thread(self.broker.publish, f"{self.prefix}events", events)

    def _read(self) -> bool:
        group = f"{self.prefix}workers"
        return all(self.broker.committed(group, self.prefix + each) == self.broker.ends(self.prefix + each)
                   for each in ("events", "rollups"))  # fmt: skip

    async def write(self, suffix: str, partition: int, key: bytes, value: bytes | None) -> None:
        """Write a row as somebody else might."""
        async with AIOKafkaProducer(bootstrap_servers=self.kafka) as producer:
            await producer.send_and_wait(self.prefix + suffix, value, key=key, partition=partition)

    async def refused(self, said: Sequence[str], found: Sequence[str]) -> None:
        """The worker does not start and says why in one line; the doctor has a fault that says so too."""
        self.worker.start()
        assert 78 == await asyncio.to_thread(self.worker.wait, 90), self.worker.tail()
        (line,) = [line for line in self.worker.tail(5).splitlines() if "worker_ended" in line]
        assert all(word in line for word in (*said, "exit_code=78")), line
        findings = await examine(self.connection, self.prefix, f"{self.prefix}workers", None)
        assert any(all(word in str(each) for word in found) for each in _faults(findings)), "\n".join(
            map(str, findings)
        )


def _faults(findings: Sequence[Finding]) -> list[Finding]:
    return [each for each in findings if each.level == "fault" and each.check != "workers"]


@asynccontextmanager
async def admin(kafka: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


@pytest.fixture
async def bed(kafka: str, prefix: str, tmp_path: Path) -> AsyncIterator[Bed]:
    with Fleet(tmp_path) as fleet:
        made = Bed(kafka, prefix, fleet)
        await made.make()
        yield made


@pytest.mark.fault("T18", "T19")
async def test_rows_that_cannot_be_read_and_a_topic_that_is_not_compacted(bed: Bed) -> None:
    """One after the other, each put right again before the next: then the worker starts as if nothing had been."""
    name = f"{bed.prefix}rollups.changelog"
    await topics.alter(bed.connection, {name: {"cleanup.policy": "delete"}})
    await bed.refused([name, "cleanup.policy is delete, expected compact"], ["cleanup.policy", "delete"])
    await topics.alter(bed.connection, {name: {"cleanup.policy": "compact"}})

    await bed.write("rollups.changelog", 0, b"ltool|x", b"\xc1")
    await bed.refused(["ltool|x", "cannot be read", "another topic prefix"], ["ltool|x", "cannot be read"])
    await bed.write("rollups.changelog", 0, b"ltool|x", None)

    stored = {number: rows[b"m"] for number, rows in bed.broker.rows(f"{bed.prefix}sessions.changelog").items()}
    for number, row in stored.items():
        meta = msgspec.msgpack.decode(row, type=session_rows.Meta)
        meta.codec += 1
        await bed.write("sessions.changelog", number, b"m", msgspec.msgpack.encode(meta))
    await bed.refused(["has version 2, this program reads 1", "newer release"], ["rows that cannot be read"])
    for number, row in stored.items():
        await bed.write("sessions.changelog", number, b"m", row)

    bed.worker.start()
    await bed.publish(50)
    await asyncio.to_thread(eventually, bed._read, timeout_s=90, what=bed.worker.tail)
    assert 0 == await asyncio.to_thread(bed.worker.stop)

    await bed.write("commands.changelog", 0, b"r", b"\xc1")
    bed.worker.start()
    assert 78 == await asyncio.to_thread(bed.worker.wait, 90), bed.worker.tail()
    assert "commands.changelog partition 0" in bed.worker.tail(5)
    record("T18", "live", refused=3, exit_code=78, started_after_repair=1)


@pytest.mark.fault("T19")
async def test_partitions_that_were_added(bed: Bed) -> None:
    """To the source alone, then to everything that shares its count: keys have moved all the same."""
    async with admin(bed.kafka) as client:
        await client.create_partitions({f"{bed.prefix}events": NewPartitions(3)})
        await bed.refused(["partition count is 2, expected 3"], ["partition count"])
        await client.create_partitions({bed.prefix + each: NewPartitions(3) for each in LIKE_EVENTS[1:]})
    await bed.refused(["made with 2 partitions, and its topic has 3 now", "new prefix"], ["made with 2 partitions"])
    record("T19", "partitions-added", refused=2, exit_code=78)


@pytest.mark.fault("T19")
async def test_a_changelog_that_has_lost_records(bed: Bed) -> None:
    name = f"{bed.prefix}sessions.changelog"
    await topics.alter(bed.connection, {name: {"cleanup.policy": "compact,delete"}})
    async with admin(bed.kafka) as client:
        await client.delete_records({TopicPartition(name, 0): RecordsToDelete(1)})
    await topics.alter(bed.connection, {name: {"cleanup.policy": "compact"}})

    await bed.refused([f"{name} partition 0 begins at offset 1, expected 0"], ["begins at offset 1, expected 0"])
    record("T19", "changelog-truncated", refused=1, exit_code=78)


@pytest.mark.fault("T19")
async def test_a_source_that_was_created_anew_and_has_been_filled_again(bed: Bed) -> None:
    """Its offsets fit, and nobody would notice that the first of its records are passed over."""
    name = f"{bed.prefix}events"
    async with admin(bed.kafka) as client:
        await client.delete_topics([name])
        while name in await client.list_topics():
            await asyncio.sleep(0.05)
        limits = {"max.message.bytes": str(2 * 1024 * 1024), "message.timestamp.type": "LogAppendTime"}
        while (await client.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=limits)])).topic_errors[0][1]:
            await asyncio.sleep(0.1)
    await asyncio.to_thread(eventually, lambda: len(bed.broker.partitions(name)) == PARTITIONS, timeout_s=30, what=name)
    await bed.publish(1_000)

    await bed.refused(["holds another record at offset", "created anew"], ["holds another record at offset"])
    record("T19", "source-recreated-and-filled", refused=1, exit_code=78)
