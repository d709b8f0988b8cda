"""What the pages suppose: topics, workers, an exporter and a receiver of OTLP, started as the README says."""

import asyncio
import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from harness import ROOT, eventually

from streams.worker.connection import KafkaConnection
from streams.worker.loopback import free_ports
from streams.worker.topics import delete_prefix

START_S: Final = 240.0
STOP_S: Final = 60.0
PROGRAM: Final = '#!/bin/sh\nexec "{python}" -m streams "$@"\n'
SERVERS: Final = ("worker", "exporter", "ingest-otlp")


@dataclass(frozen=True)
class Running:
    """Where the pages' own addresses are here."""

    bootstrap: str
    prefix: str
    exporter: int
    health: int
    ingest: int
    programs: Path

    def here(self, text: str) -> str:
        """Return a page's text with the addresses and topics of this machine."""
        for said, meant in (
            ("localhost:9092", self.bootstrap),
            ("broker-1:9092", self.bootstrap),
            ("127.0.0.1:8464", f"127.0.0.1:{self.exporter}"),
            ("localhost:8464", f"127.0.0.1:{self.exporter}"),
            ("127.0.0.1:8465", f"127.0.0.1:{self.health}"),
            ("127.0.0.1:8467", f"127.0.0.1:{self.ingest}"),
            ("agent.events", f"{self.prefix}events"),
            ("agent.alerts", f"{self.prefix}alerts"),
            ("agent.dead-letter", f"{self.prefix}dead-letter"),
        ):
            text = text.replace(said, meant)
        return text

    def environment(self) -> dict[str, str]:
        """Return ours, with what a reader would have set."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AGENT_STREAMS_")},
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
            "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "AGENT_STREAMS_TOPIC_PREFIX": self.prefix,
            "AGENT_STREAMS_EXPORTER_PORT": str(self.exporter),
            "AGENT_STREAMS_INGEST_PORT": str(self.ingest),
        }


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def running(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One worker, one exporter and one receiver on topics of their own, until the module ends."""
    programs = tmp_path_factory.mktemp("programs")
    for name, text in (("agent-streams", PROGRAM), ("python", '#!/bin/sh\nexec "{python}" "$@"\n')):
        (programs / name).write_text(text.format(python=sys.executable))
        (programs / name).chmod(0o755)
    exporter, health, ingest = free_ports(3)
    made = Running(kafka, f"docs-{uuid.uuid4().hex[:8]}.", exporter, health, ingest, programs)
    environment = made.environment()
    with ExitStack() as stack:
        stack.callback(lambda: asyncio.run(delete_prefix(KafkaConnection(bootstrap=kafka), made.prefix)))
        subprocess.run(
            ["agent-streams", "topics", "create"], env=environment, check=True, capture_output=True, timeout=START_S
        )
        for command, port in zip(SERVERS, (made.health, made.exporter, made.ingest), strict=True):
            options = ["--health-port", str(port)] if command == "worker" else ["--port", str(port)]
            log = stack.enter_context((programs / f"{command}.log").open("wb"))
            process = subprocess.Popen(["agent-streams", command, *options], env=environment, stdout=log, stderr=log)
            stack.callback(_stop, process)
        for command, port in zip(SERVERS, (made.health, made.exporter, made.ingest), strict=True):
            said = programs / f"{command}.log"
            eventually(partial(_answers, port), timeout_s=START_S, what=said.read_text)
        yield made


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
