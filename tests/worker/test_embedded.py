"""The embedded Kafka: a real broker that starts, keeps what it acknowledged, and is never left behind."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.errors import ConfigError, EdgeError
from streams.worker import detached
from streams.worker.embedded import EmbeddedKafka
from streams.worker.loopback import HOST, free_ports, is_free, live_brokers

pytestmark = pytest.mark.kafka


def until(condition: Callable[[], bool], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


async def create(bootstrap: str, name: str, replication: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, replication)])
    await admin.close()


async def write(bootstrap: str, topic: str, values: list[bytes]) -> None:
    async with (
        AIOKafkaProducer(
            bootstrap_servers=bootstrap, transactional_id="writer", transaction_timeout_ms=60_000
        ) as producer,
        producer.transaction(),
    ):
        for value in values:
            await producer.send(topic, value)


async def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed") as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        return [bytes((await consumer.getone()).value or b"") for _ in range(count)]


async def test_acknowledged_records_survive_kill_and_clean_restart(tmp_path: Path) -> None:
    """The folder's name is neither ASCII nor without spaces: people's home directories are not either."""
    with EmbeddedKafka(tmp_path / "Käfka daten ü") as broker:
        await create(broker.bootstrap, "kept", 1)
        await write(broker.bootstrap, "kept", [b"before the kill"])
        broker.kill()
        broker.restart()
        await write(broker.bootstrap, "kept", [b"after the kill"])
        broker.restart()

        assert await read(broker.bootstrap, "kept", 2) == [b"before the kill", b"after the kill"]


def test_second_start_keeps_identity_and_ports(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as broker:
        first = broker.bootstrap
        identity = (tmp_path / "node-1" / "log" / "meta.properties").read_text()
    assert not live_brokers(first)

    with EmbeddedKafka(tmp_path) as broker:
        assert first == broker.bootstrap
        assert identity == (tmp_path / "node-1" / "log" / "meta.properties").read_text()


def test_broker_is_gone_when_its_owner_is_killed(tmp_path: Path) -> None:
    """Kill -9 leaves the owner no chance to stop it."""
    script = (
        "import sys, pathlib\n"
        "from streams.worker.embedded import EmbeddedKafka\n"
        "print(EmbeddedKafka(pathlib.Path(sys.argv[1])).start(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    address = owner.stdout.readline().strip()
    until(lambda: live_brokers(address) == {1})
    owner.kill()
    owner.communicate()

    until(lambda: is_free(int(address.rpartition(":")[2])))


def test_frozen_broker_does_not_answer_until_it_goes_on(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as broker:
        broker.pause()
        assert live_brokers(broker.bootstrap, timeout_s=0.3) == frozenset()
        broker.resume()

        until(lambda: live_brokers(broker.bootstrap) == {1})


def test_busy_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind((HOST, free_ports(1)[0]))
        holder.listen()
        port = holder.getsockname()[1]

        with pytest.raises(ConfigError, match=f"port {port}: in use"):
            EmbeddedKafka(tmp_path, ports=[port]).start()


def test_broker_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    kafka = EmbeddedKafka(tmp_path, settings={"log.segment.bytes": "many"})

    with pytest.raises(EdgeError, match=r"(?s)log\.segment\.bytes"):
        kafka.start()


@pytest.mark.parametrize("nodes", [0, 2, 5])
def test_other_cluster_sizes_are_refused(tmp_path: Path, nodes: int) -> None:
    with pytest.raises(ConfigError, match=f"nodes: {nodes} given, expected 1 or 3"):
        EmbeddedKafka(tmp_path, nodes=nodes)


async def test_three_nodes_take_writes_while_one_is_dead(kafka_cluster: EmbeddedKafka) -> None:
    bootstrap = kafka_cluster.bootstrap
    await create(bootstrap, "copied", 3)
    await write(bootstrap, "copied", [b"with three"])
    kafka_cluster.kill(2)
    await write(bootstrap, "copied", [b"with two"])
    kafka_cluster.restart(2)

    until(lambda: live_brokers(kafka_cluster.nodes[0].address) == {1, 2, 3})  # each learns of it by itself
    assert await read(kafka_cluster.nodes[1].address, "copied", 2) == [b"with three", b"with two"]


def test_detached_broker_outlives_its_starter_and_is_found_and_stopped_by_others(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    script = (
        "import sys, pathlib\n"
        "from streams.worker.detached import start_detached\n"
        "start_detached(pathlib.Path(sys.argv[1]), port=int(sys.argv[2]))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path), str(port)], check=True, timeout=120)
    try:
        found = detached.status(tmp_path)
        assert found is not None
        until(lambda: found.answering)
        assert found.bootstrap == f"{HOST}:{port}"
        assert found == detached.start_detached(tmp_path), "a second start finds the first"
    finally:
        stopped = detached.stop_detached(tmp_path)

    assert stopped == found
    assert not found.running
    assert detached.status(tmp_path) is None
    assert detached.stop_detached(tmp_path) is None


def test_state_of_a_dead_broker_is_not_taken_for_a_live_process(tmp_path: Path) -> None:
    """Its number may belong to anybody by now: here to this very process."""
    state = '{"bootstrap": "127.0.0.1:1", "pid": %d, "data_dir": "x", "config": "/nowhere/server.properties"}'
    (tmp_path / "broker.json").write_text(state % os.getpid())

    assert detached.status(tmp_path) is None
