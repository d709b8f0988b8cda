"""The commands around Kafka as a person or a program uses them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from harness import eventually
from typer.testing import CliRunner, Result

from streams.errors import ConfigError
from streams.topology import TOPICS
from streams.worker import detached
from streams.worker.cli import kafka as kafka_commands
from streams.worker.cli import topics as topics_commands
from streams.worker.cli.publish import publish
from streams.worker.loopback import free_ports

pytestmark = pytest.mark.kafka

app = typer.Typer()
app.add_typer(kafka_commands.app)
app.add_typer(topics_commands.app)
app.command()(publish)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An environment that names no broker, and a state directory of its own."""
    for name in list(os.environ):
        if name.startswith("AGENT_STREAMS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield tmp_path
    detached.stop_detached()


@pytest.mark.usefixtures("no_settings")
def test_without_any_broker_the_message_names_all_ways_to_one() -> None:
    result = run("topics", "check")

    assert isinstance(result.exception, ConfigError)
    for way in ("--bootstrap", "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS", "agent-streams kafka start"):
        assert way in str(result.exception)


@pytest.mark.usefixtures("no_settings")
def test_started_broker_is_found_by_the_other_commands(tmp_path: Path) -> None:
    down = run("kafka", "status", "--json")
    port = free_ports(1)[0]

    def answering() -> Any:
        started = json.loads(run("kafka", "start", "--port", str(port), "--json").stdout)
        return started if started["answering"] else None

    def found() -> Any:
        status = run("kafka", "status")
        return status if status.exit_code == 0 else None

    started = eventually(answering, timeout_s=60, what="Kafka")
    up = eventually(found, timeout_s=60, what="Kafka")
    missing = run("topics", "check", "--json")
    created = run("topics", "create", "--partitions", "events=2", "--partitions", "rollups=1")
    checked = run("topics", "check", "--partitions", "events=2")
    events = tmp_path / "events.jsonl"
    events.write_text('{"agent":"a"}\nnot an event\n')
    published = run("publish", str(events), "--json")
    stopped = run("kafka", "stop")
    again = run("kafka", "stop")

    assert (down.exit_code, json.loads(down.stdout)) == (69, {"running": False, "answering": False})
    assert started["bootstrap"] == f"127.0.0.1:{port}"
    assert f"answers at 127.0.0.1:{port}" in up.stdout
    assert (missing.exit_code, json.loads(missing.stdout)["ok"]) == (78, False)
    assert (created.exit_code, created.stdout.count("created")) == (0, len(TOPICS))
    assert (checked.exit_code, checked.stdout) == (0, "All topics are as declared.\n")
    assert published.exit_code == os.EX_DATAERR
    assert json.loads(published.stdout)["first_refused"] == [{"where": "line 2", "reason": "not a JSON object"}]
    assert (stopped.exit_code, f"Kafka at 127.0.0.1:{port} has stopped" in stopped.stdout) == (0, True)
    assert (again.exit_code, again.stdout) == (0, "No Kafka of ours was running\n")


def test_findings_are_shown_with_their_next_steps(kafka: str, prefix: str) -> None:
    result = run("topics", "check", "--bootstrap", kafka, "--prefix", prefix)

    assert result.exit_code == 78
    assert result.stdout.count("missing") == len(TOPICS)
    assert f"→ Run: agent-streams topics create --prefix {prefix}" in result.stdout


def test_a_plan_ends_with_two_until_there_is_nothing_to_do(kafka: str, prefix: str) -> None:
    there = ("--bootstrap", kafka, "--prefix", prefix)
    empty = run("topics", "plan", *there, "--rate", "events=1000:400")
    assert (2, len(TOPICS)) == (empty.exit_code, empty.stdout.count("+ "))
    assert f"{len(TOPICS)} to create" in empty.stdout
    assert "34.6 GB" in empty.stdout, "1,000 x 400 bytes x 86,400 s, one copy"

    run("topics", "create", *there, "--partitions", "events=2")
    assert run("topics", "plan", *there).exit_code == 0
    refused = run("topics", "plan", *there, "--partitions", "events=4", "--json")
    (change,) = json.loads(refused.stdout)["changes"]
    assert (2, "refuse", "2") == (refused.exit_code, change["action"], change["found"])
    assert any("agent-streams replay" in step for step in change["steps"])


@pytest.mark.parametrize("rate", ["events=many", "planets=1:1", "events=-1:5"])
def test_rates_that_are_none_are_refused(kafka: str, prefix: str, rate: str) -> None:
    result = run("topics", "plan", "--bootstrap", kafka, "--prefix", prefix, "--rate", rate)

    assert isinstance(result.exception, ConfigError)
    assert repr(rate) in str(result.exception)


def test_counts_that_are_none_are_refused(kafka: str, prefix: str) -> None:
    result = run("topics", "create", "--bootstrap", kafka, "--prefix", prefix, "--partitions", "events:8")

    assert isinstance(result.exception, ConfigError)
    assert "'events:8' given, expected TOPIC=N" in str(result.exception)


def test_file_that_is_not_there_is_named(kafka: str) -> None:
    result = run("publish", "/nonexistent/events.jsonl", "--bootstrap", kafka)

    assert isinstance(result.exception, ConfigError)
    assert "/nonexistent/events.jsonl cannot be read" in str(result.exception)


def test_password_comes_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_STREAMS_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("AGENT_STREAMS_KAFKA_SASL_USERNAME", "me")
    monkeypatch.setenv("AGENT_STREAMS_KAFKA_SASL_PASSWORD", "hunter2")
    result = run("topics", "check", "--bootstrap", "127.0.0.1:1")

    assert isinstance(result.exception, ConfigError)
    assert "SASL_SSL" in str(result.exception)
    assert "hunter2" not in str(result.exception)
