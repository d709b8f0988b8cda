"""A real Alertmanager for a test: it is told by notify, asked over its API, and can be killed and started again."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import eventually

from streams.worker.loopback import HOST, free_ports


class Alertmanager:
    """One that notifies nobody: what it holds is asked for."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
        if program is None:
            pytest.fail("alertmanager is missing: apt-get install prometheus-alertmanager")
        config = self._folder / "alertmanager.yml"
        config.write_text(yaml.safe_dump({"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}))
        command = [
            program,
            f"--config.file={config}",
            f"--storage.path={self._folder / 'alertmanager'}",
            f"--web.listen-address={HOST}:{self.port}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        with (self._folder / "alertmanager.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        eventually(self._ready, timeout_s=60, what="Alertmanager")

    def kill(self) -> None:
        """End it between any two instructions; what fired is forgotten."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def alerts(self) -> dict[str, dict[str, Any]]:
        """Return what fires there, by tool."""
        status, body = self._ask("/api/v2/alerts")
        assert status == 200, body
        return {each["labels"]["tool"]: each for each in json.loads(body)}

    def _ready(self) -> bool:
        try:
            return self._ask("/-/ready")[0] == 200
        except (OSError, HTTPException):
            return False

    def _ask(self, path: str) -> tuple[int, bytes]:
        with closing(HTTPConnection(HOST, self.port, timeout=10)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()


@contextmanager
def alertmanager(folder: Path) -> Iterator[Alertmanager]:
    """Run one; it is gone when the block ends."""
    server = Alertmanager(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
