"""How a worker starts, refuses and ends, as the process that a supervisor sees."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka import OFFSET_END
from fleet import Fleet as Agents
from harness import ROOT, Broker, Fleet, WorkerProcess, eventually

from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.loopback import free_ports
from streams.worker.run import EXIT_RESTART

pytestmark = pytest.mark.kafka

_PROGRAM: Final = str(Path(__file__).parent / "counting_worker.py")


@pytest.fixture
def start(kafka: str, prefix: str) -> Callable[[Fleet], WorkerProcess]:
    def start(fleet: Fleet) -> WorkerProcess:
        return fleet.add("worker", [_PROGRAM, "--bootstrap", kafka, "--prefix", prefix, "--session-ms", "6000"])

    return start


async def made(kafka: str, prefix: str) -> Broker:
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 2, "rollups": 1})
    return Broker(kafka)


def publish(broker: Broker, prefix: str, count: int) -> None:
    event = json.dumps({"session": "s", "tool": "t", "n": 1}).encode()
    broker.publish(f"{prefix}events", ((b"%d" % number, event) for number in range(count)))


def work_until_committed(broker: Broker, prefix: str, worker: WorkerProcess, count: int) -> None:
    def committed() -> bool:
        return sum(broker.committed(f"{prefix}workers", f"{prefix}events").values()) == count

    eventually(committed, timeout_s=60, what=worker.tail)


async def recreated(kafka: str, name: str, partitions: int) -> None:
    """Delete the topic and create it anew, empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_topics([name])
    while name in await admin.list_topics():
        await asyncio.sleep(0.05)
    compacted = {"cleanup.policy": "compact"} if name.endswith("changelog") else {}
    limits = {"max.message.bytes": str(8 * 1024 * 1024), **compacted}
    topic = NewTopic(name, partitions, 1, topic_configs=limits)
    while (await admin.create_topics([topic])).topic_errors[0][1]:  # until the deletion is complete
        await asyncio.sleep(0.1)
    await admin.close()
    await asyncio.to_thread(_until_led, kafka, name, partitions)


def _until_led(kafka: str, name: str, partitions: int) -> None:
    broker = Broker(kafka)
    eventually(lambda: len(broker.partitions(name)) == partitions, timeout_s=60, what=f"{name} to be back")


async def test_without_topics_it_ends_with_78_and_the_command_that_helps(
    start: Callable[[Fleet], WorkerProcess], tmp_path: Path, prefix: str
) -> None:
    with Fleet(tmp_path) as fleet:
        worker = start(fleet)

        assert 78 == await asyncio.to_thread(worker.wait, 60)

        assert f"agent-streams topics create --prefix {prefix}" in worker.tail()


@pytest.mark.fault("T19")
async def test_a_recreated_source_is_refused_with_both_numbers(
    kafka: str, prefix: str, tmp_path: Path, start: Callable[[Fleet], WorkerProcess]
) -> None:
    broker = await made(kafka, prefix)
    await asyncio.to_thread(publish, broker, prefix, 100)
    with Fleet(tmp_path) as fleet:
        worker = start(fleet)
        await asyncio.to_thread(work_until_committed, broker, prefix, worker, 100)
        assert 0 == await asyncio.to_thread(worker.stop)
        await recreated(kafka, f"{prefix}events", 2)
        worker.start()

        assert 78 == await asyncio.to_thread(worker.wait, 60), worker.tail()

        assert "ends at 0, but its state goes on at" in worker.tail()


@pytest.mark.fault("T19")
async def test_a_lost_changelog_is_refused(
    kafka: str, prefix: str, tmp_path: Path, start: Callable[[Fleet], WorkerProcess]
) -> None:
    """Counting again from the log would double what the next stage has already got."""
    broker = await made(kafka, prefix)
    await asyncio.to_thread(publish, broker, prefix, 100)
    with Fleet(tmp_path) as fleet:
        worker = start(fleet)
        await asyncio.to_thread(work_until_committed, broker, prefix, worker, 100)
        assert 0 == await asyncio.to_thread(worker.stop)
        await recreated(kafka, f"{prefix}sessions.changelog", 2)
        worker.start()

        assert 78 == await asyncio.to_thread(worker.wait, 60), worker.tail()

        assert "the changelog has no row that says so" in worker.tail()


@pytest.mark.fault("T19")
async def test_a_log_that_has_lost_every_record_to_retention_is_read_on_and_lost_records_are_refused(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """Behind the last record lie the marks of its transaction: the state has to stand behind them too."""
    broker = await made(kafka, prefix)
    rollups = f"{prefix}rollups"
    with Fleet(tmp_path) as fleet:
        worker = fleet.add("worker", ["-m", "streams", "worker", "--bootstrap", kafka, "--prefix", prefix])
        agents = Agents(3)
        await asyncio.to_thread(published, broker, prefix, agents)
        await asyncio.to_thread(stopped_with_all_read, broker, prefix, worker)
        await asyncio.to_thread(broker.delete_before, rollups, {0: OFFSET_END})
        worker.start()
        await asyncio.to_thread(published, broker, prefix, agents)
        await asyncio.to_thread(stopped_with_all_read, broker, prefix, worker)

        broker.publish(rollups, [(None, b"never read")])
        await asyncio.to_thread(broker.delete_before, rollups, {0: OFFSET_END})
        worker.start()

        assert 78 == await asyncio.to_thread(worker.wait, 60), worker.tail()

        assert "1 records were deleted before they were read" in worker.tail()


def published(broker: Broker, prefix: str, agents: Agents) -> None:
    events = ((event["session_id"].encode(), json.dumps(event).encode()) for event in agents.events(200))
    broker.publish(f"{prefix}events", events)


def all_read(broker: Broker, prefix: str, worker: WorkerProcess) -> None:
    """Wait until both stages stand at the ends of their logs, marks included."""
    eventually(lambda: stand_at_the_ends(broker, prefix), timeout_s=90, what=worker.tail)


def stand_at_the_ends(broker: Broker, prefix: str) -> bool:
    group = f"{prefix}workers"
    events = broker.committed(group, f"{prefix}events") == broker.ends(f"{prefix}events")
    return events and broker.committed(group, f"{prefix}rollups") == broker.ends(f"{prefix}rollups")


def stopped_with_all_read(broker: Broker, prefix: str, worker: WorkerProcess) -> None:
    """Stop a worker that has read all; what its first stage writes on its way out is read at its next start."""
    for _ in range(5):
        all_read(broker, prefix, worker)
        assert 0 == worker.stop()
        if stand_at_the_ends(broker, prefix):
            return
        worker.start()
    pytest.fail(f"whenever it stops, it leaves something unread: {worker.tail()}")


async def test_it_waits_for_a_broker_that_is_away_and_stops_when_told(tmp_path: Path) -> None:
    port, _ = free_ports(2)
    with Fleet(tmp_path) as fleet:
        worker = fleet.add("worker", [_PROGRAM, "--bootstrap", f"127.0.0.1:{port}", "--prefix", "away."])
        await asyncio.to_thread(
            eventually, lambda: worker.tail().count("broker_away") >= 2, timeout_s=60, what=worker.tail
        )

        assert 0 == await asyncio.to_thread(worker.stop)


@pytest.mark.fault("T15")
def test_the_watchdog_ends_a_process_whose_loop_stands_still() -> None:
    program = "import time; from streams.worker.run import Watchdog; Watchdog(2000).start(); time.sleep(30)"

    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False, capture_output=True)

    assert EXIT_RESTART == ended.returncode
