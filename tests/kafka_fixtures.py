"""A real broker for every test that asks for one: a named one, a container, or our embedded Kafka; never none.

Which one does not matter to a test; the settings that make tests quick are the embedded broker's in all three cases
but the first.
"""

import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from testcontainers.core.container import DockerContainer

from streams.errors import AgentStreamsError
from streams.worker.connection import KafkaConnection
from streams.worker.embedded import EmbeddedKafka
from streams.worker.kafka_jars import KAFKA_VERSION
from streams.worker.kafka_node import SETTINGS
from streams.worker.loopback import HOST, free_ports, live_brokers
from streams.worker.topics import delete_prefix

CONTAINER_START_S: Final = 180.0  # the image may have to be pulled
START_S: Final = 180.0  # of nodes of ours, on a machine that is busy with other tests


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of one broker for the whole session."""
    named = os.environ.get("KAFKA_BOOTSTRAP")
    if named:
        if not live_brokers(named.partition(",")[0], timeout_s=10):
            pytest.fail(f"KAFKA_BOOTSTRAP is {named}, but no broker answers there")
        yield named
    elif _docker_answers():
        yield from _container()
    else:
        yield from _embedded(tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="module")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Three nodes to kill, pause and restart; replication 3, two in sync. A test leaves them all running."""
    cluster = EmbeddedKafka(tmp_path_factory.mktemp("kafka-cluster"), nodes=3)
    cluster.start(START_S)
    try:
        yield cluster
    finally:
        cluster.stop(timeout_s=1)  # a clean end needs a quorum, and the last two nodes wait seconds for one


@pytest.fixture
async def prefix(kafka: str) -> AsyncIterator[str]:
    """A topic prefix that no other test has; its topics are deleted afterwards."""
    own = f"test-{uuid.uuid4().hex[:12]}."
    yield own
    await delete_prefix(KafkaConnection(bootstrap=kafka), own)


def _docker_answers() -> bool:
    """Ask the engine ourselves: its Python client leaves a socket open when nobody answers."""
    address = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    local = address.scheme == "unix"
    try:
        with socket.socket(socket.AF_UNIX if local else socket.AF_INET) as engine:
            engine.settimeout(2)
            engine.connect(address.path if local else (address.hostname, address.port))
            engine.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return engine.recv(64).split()[1:2] == [b"200"]
    except OSError:
        return False


def _container() -> Iterator[str]:
    (port,) = free_ports(1)
    settings = {
        **SETTINGS,
        "node.id": "1",
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
    }
    container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}").with_bind_ports(9092, port)
    for name, value in settings.items():
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    with container:
        deadline = time.monotonic() + CONTAINER_START_S
        while not live_brokers(f"{HOST}:{port}"):
            if time.monotonic() > deadline:
                pytest.fail(f"the Kafka container did not answer at {HOST}:{port} within {CONTAINER_START_S:g} s")
            time.sleep(0.1)
        yield f"{HOST}:{port}"


def _embedded(folder: Path) -> Iterator[str]:
    broker = EmbeddedKafka(folder)
    try:
        address = broker.start(START_S)
    except AgentStreamsError as error:
        pytest.fail(
            f"no broker for this test: {error}. "
            "Set KAFKA_BOOTSTRAP, start Docker, or pip install 'agent-streams[kafka]'"
        )
    try:
        yield address
    finally:
        broker.stop()
