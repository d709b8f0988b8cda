"""What is one node of the embedded Kafka told: its settings, its logging, its Java options and environment.

Writes files and nothing else; starting and ending is `embedded`'s.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams.worker.loopback import HOST

LOG_TAIL_LINES: Final = 15

JVM: Final = (
    "-XX:+UseSerialGC",  # one heap of 256 MB on a shared machine: the smallest footprint
    "-XX:TieredStopAtLevel=1",  # 15 % less memory and time to ready
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "--sun-misc-unsafe-memory-access=allow",  # Kafka unmaps its index files so; without it Java 24+ prints warnings
    "--enable-native-access=ALL-UNNAMED",  # zstd and snappy, the same
)

SETTINGS: Final = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # Timed-out transactions are looked for every 10 s by default: that long would readers wait after a kill -9.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    # A dead node is fenced after 3 s instead of 9.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "log.segment.delete.delay.ms": "1000",
    # The cleaner's map lives in the heap, 128 MB by default; 16 MB hold 600,000 keys per pass.
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "log.cleaner.backoff.ms": "2000",
    "num.network.threads": "2",
    "num.io.threads": "4",
}

_LOGGING: Final = """\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {folder}/server.log
appender.file.filePattern = {folder}/server.log.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{ISO8601}} %p %c: %m%n%ex
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
"""


@dataclass(frozen=True, slots=True)
class Node:
    """One broker of the cluster, which is a controller too."""

    number: int
    folder: Path
    port: int
    controller_port: int

    @property
    def address(self) -> str:
        """Return what clients connect to."""
        return f"{HOST}:{self.port}"

    @property
    def config(self) -> Path:
        """Return its settings file; the path also tells our processes from others."""
        return self.folder / "server.properties"

    @property
    def logging(self) -> Path:
        """Return where it is told what to log."""
        return self.folder / "log4j2.properties"

    @property
    def console(self) -> Path:
        """Return the file that takes what Java itself prints."""
        return self.folder / "console.log"

    @property
    def log(self) -> Path:
        """Return the folder of its records."""
        return self.folder / "log"

    @property
    def lock(self) -> Path:
        """Return the file that a running broker holds locked."""
        return self.log / ".lock"

    @property
    def formatted(self) -> bool:
        """Has its storage been prepared before?"""
        return (self.log / "meta.properties").exists()


def write_files(nodes: Sequence[Node], settings: Mapping[str, str]) -> None:
    """Write what every node reads at its start; `settings` win over ours."""
    for node in nodes:
        node.folder.mkdir(exist_ok=True)
        node.config.write_text(_properties(node, nodes, settings))
        node.logging.write_text(_LOGGING.format(folder=_escaped(str(node.folder))))


def log_tail(node: Node) -> str:
    """Return the newest lines a node wrote, for a message to people."""
    lines = [
        line
        for file in (node.console, node.folder / "server.log")
        if file.exists()
        for line in file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    ]
    return "\n".join([f"the end of its logs in {node.folder}:", *lines])


def child_environment() -> dict[str, str]:
    """Return what Java needs and no more: no secret and no JAVA_TOOL_OPTIONS of ours reaches the broker."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "LC_ALL": "C.UTF-8"}  # in the plain C locale Java cannot open a path that is not ASCII


def _properties(node: Node, nodes: Sequence[Node], settings: Mapping[str, str]) -> str:
    copies = len(nodes)
    enough = str(max(1, copies - 1))  # of three copies two must be written
    values = {
        **SETTINGS,
        "node.id": str(node.number),
        "controller.quorum.voters": ",".join(f"{each.number}@{HOST}:{each.controller_port}" for each in nodes),
        "listeners": f"PLAINTEXT://{node.address},CONTROLLER://{HOST}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{node.address}",
        "log.dirs": str(node.log),
        "default.replication.factor": str(copies),
        "min.insync.replicas": enough,
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": enough,
        "share.coordinator.state.topic.replication.factor": str(copies),
        "share.coordinator.state.topic.min.isr": enough,
        **settings,
    }
    return "".join(f"{name}={_escaped(value)}\n" for name, value in values.items())


def _escaped(text: str) -> str:
    """Write a value as Java's property files want it: they are Latin-1, with the escapes that JSON has too."""
    return json.dumps(text)[1:-1]
