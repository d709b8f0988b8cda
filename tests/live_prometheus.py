"""A real Prometheus for a test: it scrapes what it is told to, evaluates rules, and is asked over HTTP."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import yaml
from harness import eventually

from streams.worker.loopback import HOST, free_ports

EVERY: Final = "500ms"


class Prometheus:
    """Who asks it."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str, **query: Any) -> Any:
        """Return what an endpoint of its API answers."""
        status, body = self._ask(f"/api/v1/{path}?{urlencode(query, doseq=True)}")
        assert status == 200, body
        return json.loads(body)["data"]

    def ready(self) -> bool:
        """Say whether it answers queries."""
        try:
            return self._ask("/-/ready")[0] == 200
        except OSError:
            return False

    def _ask(self, path: str) -> tuple[int, bytes]:
        with closing(HTTPConnection(HOST, self._port, timeout=10)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def value(self, expr: str) -> float | None:
        """Return the one value that an expression has now."""
        found = self.get("query", query=expr)["result"]
        return float(found[0]["value"][1]) if found else None

    def points(self, expr: str, begin_s: float, end_s: float) -> list[float]:
        """Return every value that an expression had."""
        found = self.get("query_range", query=expr, start=begin_s, end=end_s, step=1)["result"]
        return [float(value) for series in found for _, value in series["values"]]


@contextmanager
def prometheus(folder: Path, jobs: Mapping[str, Sequence[str]], rules: Sequence[Path]) -> Iterator[Prometheus]:
    """Run one that scrapes the targets of each job twice a second; it is gone when the block ends."""
    program = shutil.which("prometheus")
    assert program, "prometheus is missing: apt-get install prometheus"
    config = folder / "prometheus.yml"
    scraped = [{"job_name": job, "static_configs": [{"targets": list(targets)}]} for job, targets in jobs.items()]
    intervals = {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY}
    config.write_text(
        yaml.safe_dump({"global": intervals, "rule_files": [str(each) for each in rules], "scrape_configs": scraped})
    )
    (port,) = free_ports(1)
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={HOST}:{port}",
        "--log.level=warn",
    ]
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            asking = Prometheus(port)
            eventually(asking.ready, timeout_s=60, what="a Prometheus that answers")
            yield asking
        finally:
            process.terminate()
