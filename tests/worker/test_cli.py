"""The command as people and programs run it: in a process of its own, judged by what it writes and how it ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from harness import Fleet, eventually
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from streams import __version__
from streams.__main__ import COMMANDS, build, paragraphs
from streams.event.model import ToolEnd
from streams.settings import PREFIX
from streams.worker.connection import KafkaConnection
from streams.worker.loopback import free_ports
from streams.worker.topics import delete_prefix

ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.executable).with_name("agent-streams")
PROGRAM = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "streams"]
TIMEOUT_S = 120


def environment(**variables: str) -> dict[str, str]:
    """Ours without any setting, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **variables}


def run(*arguments: str, text: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment(**variables),
        cwd=ROOT,
        input=text,
        check=False,
    )


def data(*arguments: str) -> Any:
    """Run a command that is to succeed with --json, and read what it wrote."""
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_installed_command_is_this_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["agent-streams"].partition(":")

    assert callable(getattr(import_module(module), function))


def test_version_is_the_packages() -> None:
    assert run("--version").stdout == f"agent-streams {__version__}\n"


def test_help_names_every_command() -> None:
    done = run("--help")

    assert done.returncode == 0
    for name in COMMANDS:
        assert f" {name} " in done.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_a_command_teaches_by_examples(name: str) -> None:
    done = CliRunner().invoke(build([name]), [name, "--help"], prog_name="agent-streams")

    assert done.exit_code == 0
    assert f"agent-streams {name}" in done.output
    assert "For example:" in done.output


def test_commands_of_a_group_break_their_lines_where_the_terminal_ends() -> None:
    done = CliRunner().invoke(build(["rules"]), ["rules", "load", "--help"], prog_name="agent-streams")

    assert "once every partition goes by them" in " ".join(done.output.split())
    assert all(len(line.rstrip()) > 40 for line in done.output.splitlines() if "It ends with 0" in line)


def test_arguments_are_named_in_capitals_and_by_one_name() -> None:
    """What is to be filled in looks like it; the same thing has the same name in every command."""
    for path, argument in (
        (["tables"], "TABLE"), (["purge"], "session|user"), (["breakers", "show"], "CIRCUIT"),
        (["breakers", "history"], "CIRCUIT"), (["breakers", "force-open"], "CIRCUIT"), (["alerts", "show"], "ID"),
    ):  # fmt: skip
        done = CliRunner().invoke(build(path[:1]), [*path, "--help"], prog_name="agent-streams")

        assert argument in done.output.partition("Options")[0]


def test_help_breaks_its_lines_where_the_terminal_ends_and_keeps_examples() -> None:
    text = """First.

    A sentence that goes
    on here.

        an example
        of two lines
    """

    assert paragraphs(text) == "First.\n\nA sentence that goes on here.\n\n    an example\n    of two lines"


@pytest.mark.parametrize("arguments", [["nonsense"], ["tables", "nonsense"], ["worker", "--nonsense"], ["tables"]])
def test_what_does_not_exist_is_refused_with_status_2(arguments: Sequence[str]) -> None:
    done = run(*arguments)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["worker", "doctor"])
def test_every_wrong_setting_is_named_and_nothing_is_started(name: str) -> None:
    done = run(name, AGENT_STREAMS_HEARTBEAT_MS="often", AGENT_STREAMS_LOG_LEVL="info")

    assert done.returncode == 78
    assert done.stdout == ""
    assert "AGENT_STREAMS_HEARTBEAT_MS = 'often'" in done.stderr
    assert "rename it to AGENT_STREAMS_LOG_LEVEL" in done.stderr
    assert "Traceback" not in done.stderr


def test_broker_that_is_not_there_is_an_outage_and_no_traceback() -> None:
    nowhere = f"127.0.0.1:{free_ports(1)[0]}"
    done = run("tables", "tools", "--bootstrap", nowhere)

    assert done.returncode == 69
    assert nowhere in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_tells_of_a_broker_that_is_not_there_as_a_finding() -> None:
    nowhere = f"127.0.0.1:{free_ports(1)[0]}"
    done = run("doctor", "--bootstrap", nowhere, "--json")

    assert done.returncode == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["check"] == "broker"
    assert finding["level"] == "fault"
    assert nowhere in finding["what"]


def test_doctor_tells_of_redis_without_its_password() -> None:
    port = free_ports(1)[0]
    done = run(
        "doctor", "--bootstrap", f"127.0.0.1:{port}", AGENT_STREAMS_REDIS_URL=f"redis://:hunter2@127.0.0.1:{port}/0"
    )

    assert done.returncode == 1
    assert "Redis: no answer" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_schema_accepts_what_agents_publish_and_refuses_what_workers_refuse() -> None:
    validator = Draft202012Validator(json.loads(run("schema").stdout))
    event = {"kind": "tool_end", "id": "1", "time": 1, "agent": "a", "session_id": "s", "tool": "search"}

    assert validator.is_valid(event)
    assert not validator.is_valid({**event, "tool": None})
    assert not validator.is_valid({**event, "kind": "nonsense"})
    for name in ("alerts", "breakers", "dead-letter"):
        Draft202012Validator.check_schema(json.loads(run("schema", name).stdout))


def test_settings_that_hold_are_shown_without_secrets() -> None:
    done = run(
        "settings",
        "--json",
        AGENT_STREAMS_APP_ID="mine",
        AGENT_STREAMS_REDIS_URL="redis://:hunter2@localhost:6379/0",
    )

    shown = json.loads(done.stdout)
    assert shown["AGENT_STREAMS_APP_ID"] == "mine"
    assert shown["AGENT_STREAMS_TOPIC_PREFIX"] == "agent."
    assert "hunter2" not in done.stdout


# ---- on a broker ------------------------------------------------------------------------------------------------


class Site:
    """Topics of their own with a worker, and events that some agents have published."""

    def __init__(self, bootstrap: str, prefix: str, begin_ms: int) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.begin_ms = begin_ms
        self.there = ["--bootstrap", bootstrap, "--prefix", prefix]

    def data(self, *arguments: str) -> Any:
        return data(*arguments, *self.there)

    def whole(self) -> bool:
        """Are the first fifteen events in every table?  Their keys are in different partitions."""
        counts = (("all", "events"), ("agents", "tool_calls"), ("tools", "calls"), ("agent-tools", "calls"))
        return all(15 == sum(row[name] for row in self.data("tables", table)["rows"]) for table, name in counts)

    def publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        lines = "\n".join(json.dumps(event) for event in events)
        done = run("publish", "-", *self.there, "--json", text=lines)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["records"] == len(events)


def tool_end(number: int, session: str, tool: str, status: str, time_ms: int) -> dict[str, Any]:
    event = {"kind": "tool_end", "id": f"{session}-{number}", "time": time_ms, "agent": "mine", "session_id": session}
    return {**event, "tool": tool, "status": status, "duration_ms": 100}


@pytest.fixture(scope="module")
def site(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A worker that has folded twelve failures of one tool and three calls of another."""
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    found = Site(kafka, prefix, time.time_ns() // 1_000_000)
    created = run("topics", "create", *found.there, "--partitions", "events=2", "--partitions", "rollups=2")
    assert created.returncode == 0, created.stderr
    with Fleet(tmp_path_factory.mktemp("workers")) as fleet:
        worker = fleet.add("worker", ["-m", "streams", "worker", *found.there])
        try:
            found.publish(
                [
                    *(tool_end(n, "loops", "search", "error", found.begin_ms + n) for n in range(12)),
                    *(tool_end(n, "works", "fax", "success", found.begin_ms + n) for n in range(3)),
                ]
            )
            eventually(found.whole, timeout_s=120, what=lambda: f"events in the tables\n{fleet.logs()}")
            yield found
            assert worker.stop() == 0
        finally:
            asyncio.run(delete_prefix(KafkaConnection(bootstrap=kafka), prefix))


@pytest.mark.kafka
def test_tables_show_what_was_published(site: Site) -> None:
    tools = {row["tool"]: row for row in site.data("tables", "tools")["rows"]}
    sessions = {row["session_id"]: row for row in site.data("tables", "sessions")["rows"]}
    partitions = site.data("tables", "partitions")["rows"]
    (agent,) = site.data("tables", "agents")["rows"]

    assert (tools["search"]["calls"], tools["search"]["error_ratio"]) == (12, 1.0)
    assert (tools["fax"]["calls"], tools["fax"]["error_ratio"]) == (3, 0.0)
    assert tools["fax"]["p95_us"] == pytest.approx(100_000, rel=0.01)
    assert (sessions["loops"]["tool_errors"], sessions["works"]["tool_errors"]) == (12, 0)
    received = sum(row["received"] for row in partitions)
    assert received == sum(row["applied"] for row in partitions) == agent["tool_calls"] >= 15


@pytest.mark.kafka
def test_one_row_is_shown_in_full(site: Site) -> None:
    session = site.data("tables", "sessions", "--id", "loops")
    tool = site.data("tables", "tools", "--id", "search")
    used = site.data("tables", "agent-tools", "--id", "mine|search")
    missing = run("tables", "sessions", "--id", "nobody", *site.there)

    assert session["tools"] == {"search": {"calls": 12, "errors": 12, "duration_us": 1_200_000}}
    assert session["started_ms"] == site.begin_ms
    assert tool["sums"]["tool_calls_error"] == 12
    assert tool["histograms"]["tool_duration"]["sum_us"] == 1_200_000
    assert sum(tool["histograms"]["tool_duration"]["buckets_le_seconds"].values()) == 12
    assert used["labels"] == {"agent": "mine", "tool": "search"}
    assert missing.returncode == 78
    assert "session nobody" in missing.stderr


@pytest.mark.kafka
def test_session_in_several_partitions_is_added_up(site: Site) -> None:
    """A client with another partitioner spreads a session over partitions; the table knows one session."""
    events = [tool_end(n, "spread", "post", "success", site.begin_ms + n) for n in range(4)]
    producer = Producer({"bootstrap.servers": site.bootstrap})
    for number, event in enumerate(events):
        producer.produce(f"{site.prefix}events", json.dumps(event).encode(), b"spread", partition=number % 2)
    assert producer.flush(30) == 0

    def spread() -> Any:
        rows = site.data("tables", "sessions")["rows"]
        return next((row for row in rows if row["session_id"] == "spread" and row["events"] == 4), None)

    row = eventually(spread, timeout_s=60, what="the session in the table")
    assert row["partitions"] == 2
    assert row["tool_calls"] == 4
    doctor = run("doctor", *site.there)
    assert "misrouted sessions: 1" in doctor.stdout
    assert "murmur2" in doctor.stdout


@pytest.mark.kafka
def test_tables_for_people_have_whole_names_in_a_pipe(site: Site) -> None:
    done = run("tables", "sessions", *site.there)

    assert done.returncode == 0
    assert "loops" in done.stdout
    assert "…" not in done.stdout


@pytest.mark.kafka
def test_alerts_show_what_fires(site: Site) -> None:
    """They fail now: what failed when these tests began may be over by now."""
    now_ms = time.time_ns() // 1_000_000
    site.publish([tool_end(n, "pages", "pager", "error", now_ms + n) for n in range(12)])

    def fired() -> set[tuple[str, str]]:
        return {
            (alert["alert"], alert["labels"].get("tool") or alert["labels"].get("session_id"))
            for alert in site.data("alerts")["alerts"]
        }

    expected = {("ToolFailing", "pager"), ("SessionToolErrorLoop", "pages")}
    eventually(lambda: expected <= fired(), timeout_s=60, what=lambda: f"{expected}, not only {fired()}")
    assert "ToolFailing" in run("alerts", *site.there).stdout


@pytest.mark.kafka
def test_alerts_followed_are_one_line_each_as_they_come(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "alerts"
    with out.open("wb") as stream:
        following = subprocess.Popen(
            [*PROGRAM, "alerts", "--follow", "--json", *site.there], stdout=stream, env=environment(), cwd=ROOT
        )
    try:
        eventually(lambda: "ToolFailing" in out.read_text(), timeout_s=60, what="the alerts that fire already")
        now_ms = time.time_ns() // 1_000_000
        site.publish([tool_end(n, "again", "telex", "error", now_ms) for n in range(11)])
        eventually(lambda: '"tool":"telex"' in out.read_text(), timeout_s=60, what="a new alert")
        following.send_signal(signal.SIGINT)
        assert following.wait(60) == 0
    finally:
        following.kill()
        following.wait()

    for line in out.read_text().splitlines():
        assert json.loads(line)["state"] in {"pending", "firing", "resolved"}


@pytest.mark.kafka
def test_watched_table_is_written_again_when_it_has_changed(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "tables"

    def newest() -> Any:
        """Return the rows of the last line that is whole."""
        return json.loads(out.read_text().rpartition("\n")[0].splitlines()[-1])["rows"]

    with out.open("wb") as stream:
        watching = subprocess.Popen(
            [*PROGRAM, "tables", "tools", "--watch", "--json", *site.there], stdout=stream, env=environment(), cwd=ROOT
        )
    try:
        eventually(lambda: out.read_text().count("\n") >= 1, timeout_s=60, what="the table")
        before = newest()
        site.publish([tool_end(99, "watched", "post", "success", time.time_ns() // 1_000_000)])
        eventually(lambda: newest() != before, timeout_s=60, what="a change")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 0
    finally:
        watching.kill()
        watching.wait()


@pytest.mark.kafka
def test_board_in_a_pipe_is_lines(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "board"
    with out.open("wb") as stream:
        watching = subprocess.Popen(
            [*PROGRAM, "board", "--every", "0.1", *site.there], stdout=stream, env=environment(), cwd=ROOT
        )
    try:
        eventually(lambda: "received" in out.read_text(), timeout_s=60, what="a line")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 0
    finally:
        watching.kill()
        watching.wait()

    assert "events/s" in out.read_text().splitlines()[0]


@pytest.mark.kafka
def test_doctor_finds_nothing_wrong_where_nothing_is(site: Site) -> None:
    found = site.data("doctor")

    assert found["ok"]
    by_check = {finding["check"]: finding for finding in found["findings"]}
    assert set(by_check) == {"broker", "topics", "workers", "state", "lag", "partitioner", "conservation", "clocks"}
    assert by_check["conservation"]["level"] == "ok"
    assert by_check["state"]["level"] == "ok"


@pytest.mark.kafka
def test_doctor_finds_missing_topics(kafka: str) -> None:
    done = run("doctor", "--bootstrap", kafka, "--prefix", f"none-{uuid.uuid4().hex[:8]}.", "--json")

    assert done.returncode == 1
    faults = [finding for finding in json.loads(done.stdout)["findings"] if finding["level"] == "fault"]
    assert {fault["value"] for fault in faults} == {"missing"}
    assert all("agent-streams topics create" in fault["next_step"] for fault in faults)


@pytest.mark.kafka
def test_worker_without_topics_says_how_to_make_them(kafka: str) -> None:
    done = run("worker", "--bootstrap", kafka, "--prefix", f"none-{uuid.uuid4().hex[:8]}.")

    assert done.returncode == 78
    assert "agent-streams topics create" in done.stderr


@pytest.mark.kafka
def test_worker_shows_its_health_and_exporter_its_metrics(site: Site, tmp_path: Path) -> None:
    health, metrics = free_ports(2)
    with Fleet(tmp_path) as fleet:
        worker = fleet.add("second", ["-m", "streams", "worker", *site.there, "--health-port", str(health)])
        exporter = fleet.add("exporter", ["-m", "streams", "exporter", *site.there, "--port", str(metrics)])
        eventually(lambda: _get(health, "/readyz") == 200, timeout_s=120, what=fleet.logs)
        eventually(lambda: _get(metrics, "/-/ready") == 200, timeout_s=120, what=fleet.logs)

        assert _get(health, "/metrics") == 200
        assert _get(metrics, "/metrics") == 200
        assert worker.stop() == 0
        assert exporter.stop() == 0


def _get(port: int, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def test_events_of_these_tests_are_the_models() -> None:
    """The tests write events by hand, as another client would; the product must agree that they are events."""
    event = tool_end(1, "s", "search", "error", 1)

    assert set(event) - {"kind"} <= set(ToolEnd.__struct_fields__)
