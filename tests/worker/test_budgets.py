"""A budget through Kafka: spent, told with stop, shown by exporter and command, through kill -9, until the day ends.

Days are those of events: the records are stamped by their publisher, a day ahead, so that no clock needs to be set.
"""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from harness import ROOT, Broker, Fleet, eventually
from pages import Series, series

from streams.topology import EVENTS
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.loopback import free_ports

pytestmark = pytest.mark.kafka

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
USD: Final = 10**9
NOW_MS: Final = time.time_ns() // 1_000_000
MIDNIGHT: Final = NOW_MS - NOW_MS % DAY_MS + 2 * DAY_MS
EVENING: Final = MIDNIGHT - 2 * HOUR_MS
PERSON: Final = "pseudonym-4711"
RULES: Final = """
budgets:
  - {budget: tenant-day, over: tenant, of: cost, limit: 10 USD, per: day, warn_at: [50%], stop: true}
  - {budget: user-month, over: user, of: tokens, limit: 1000, per: month}
"""
FORMATS: Final = ("prometheus", "openmetrics", "json", "csv", "influx")


class Spenders:
    """Agents that publish usage, stamped by themselves."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        self._topic = f"{prefix}events"

    def spend(self, number: int, event_ms: int, stamp_ms: int, usd: int) -> None:
        """Publish one report and wait until it is there."""
        event = {"kind": "token_usage", "id": f"u{number}", "time": event_ms, "agent": "a", "session_id": "s",
                 "model": "m", "tenant": "acme", "user_id": PERSON, "input_tokens": 10,
                 "cost_nano_usd": usd * USD}  # fmt: skip
        self._producer.produce(self._topic, key=b"s", value=json.dumps(event).encode(), timestamp=stamp_ms)
        assert 0 == self._producer.flush(30)


def alerts(broker: Broker, prefix: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the records of all transitions, by alert and state."""
    records = [json.loads(message.value() or b"{}") for message in broker.read(f"{prefix}alerts")]
    return {(record["alert"], record["state"]): record for record in records}


def resolved(broker: Broker, prefix: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the same once the spent budget is whole again; nothing before."""
    told = alerts(broker, prefix)
    return told if ("BudgetSpent:tenant-day", "resolved") in told else {}


def page(port: int, wanted: str = "prometheus") -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics?format={wanted}", timeout=30) as answer:
            text: str = answer.read().decode()
    except OSError:
        return ""
    return text


def spent(port: int, usd: float) -> Series:
    """Return the exporter's page once the tenant has spent so much; nothing before."""
    found = series(page(port))
    labels = frozenset({("budget", "tenant-day"), ("key", "acme"), ("unit", "usd")})
    return found if found.get(("agent_budget_spent", labels)) == usd else {}


def all_spent(*where: str) -> Any:
    """Return the budgets once the user's is as far as the tenant's: they are in different partitions."""
    standing = command("budgets", *where)
    return standing if 110 in {each["spent"] for each in standing["budgets"]} else None


def command(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "streams", *arguments, "--json"],
        capture_output=True, text=True, timeout=120, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_a_budget_is_spent_told_shown_and_comes_back_with_the_day(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamped = {
        **EVENTS.config,
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": str(10 * DAY_MS),
    }
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(f"{prefix}events", 2, 1, config=stamped)])[f"{prefix}events"].result(30)
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"rollups": 2}, replication=1)
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    monkeypatch.setenv("AGENT_STREAMS_RULES_FILE", str(rules))
    broker, agents = Broker(kafka), Spenders(kafka, prefix)
    (port,) = free_ports(1)
    where = ["--bootstrap", kafka, "--prefix", prefix]
    with Fleet(tmp_path) as fleet:
        worker = fleet.add("worker", ["-m", "streams", "worker", *where])
        fleet.add("exporter", ["-m", "streams", "exporter", *where, "--port", str(port)])
        for number in range(10):
            agents.spend(number, EVENING + number, EVENING + number, 1)
        found = eventually(lambda: spent(port, 10), timeout_s=180, what=fleet.logs)
        worker.kill()
        agents.spend(11, EVENING - HOUR_MS, EVENING + 11, 2)  # late
        agents.spend(3, EVENING + 3, EVENING + 12, 1)  # once more
        worker.start()
        after = eventually(lambda: spent(port, 12), timeout_s=180, what=fleet.logs)
        standing = eventually(lambda: all_spent(*where), timeout_s=180, what=fleet.logs)
        table = command("tables", "users", *where)
        pages = {wanted: page(port, wanted) for wanted in FORMATS}
        told = alerts(broker, prefix)
        agents.spend(20, MIDNIGHT + 60_000, MIDNIGHT + 60_000, 3)
        eventually(lambda: spent(port, 3), timeout_s=180, what=fleet.logs)
        ended = eventually(lambda: resolved(broker, prefix), timeout_s=180, what=fleet.logs)
        advice = command("advice", *where)

    assert {("BudgetWarning:tenant-day:50", "firing"), ("BudgetSpent:tenant-day", "firing")} == told.keys()
    fired = told["BudgetSpent:tenant-day", "firing"]
    assert fired["stop"]
    assert {"budget": "tenant-day", "tenant": "acme"} == fired["labels"]
    assert (10 * USD, 0, MIDNIGHT) == tuple(fired["budget"][name] for name in ("spent", "remaining", "period_end_ms"))
    assert "period_ended" == ended["BudgetSpent:tenant-day", "resolved"]["reason"]
    key = frozenset({("budget", "tenant-day"), ("key", "acme")})
    assert 10 == found["agent_budget_limit", key | {("unit", "usd")}]
    assert 24 == found["agent_budget_burn", key | {("window", "1h")}]  # a day's limit within an hour
    assert 0 == after["agent_budget_remaining", key | {("unit", "usd")}]
    by_budget = {each["budget"]: each for each in standing["budgets"]}
    assert (12 * USD, {"tenant": "acme"}) == tuple(by_budget["tenant-day"][name] for name in ("spent", "labels"))
    assert (110, {"user_id": PERSON}) == tuple(by_budget["user-month"][name] for name in ("spent", "labels"))
    assert [PERSON] == [row["user_id"] for row in table["rows"]]
    assert all(text and PERSON not in text and "user-month" not in text for text in pages.values())
    assert 20 < advice["rows_looked_at"]
