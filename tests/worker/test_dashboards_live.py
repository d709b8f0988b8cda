"""Every query of every dashboard and rule, asked of a real Prometheus that scraped a real pipeline: all return data."""

import json
import math
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from exporting import create
from fleet import Fleet
from harness import ROOT, Broker, eventually
from harness import Fleet as Programs
from live_prometheus import Prometheus, prometheus
from through_stages import of_every_kind

from streams.event.model import KINDS
from streams.rule.defaults import default_rules, defaults_text
from streams.sink.dashboards.boards import files
from streams.stage import examples
from streams.topology import EVENTS
from streams.worker.loopback import HOST, free_ports

pytestmark = pytest.mark.kafka

ROUNDS: Final = 12
PER_SECOND: Final = 300  # about a round a second: each number grows within the range of a rate
RATE: Final = "5s"
RANGE: Final = "15s"
RULES: Final = sorted((ROOT / "k8s" / "rules").glob("*.yaml"))
RULED: Final = {rule.name for rule in default_rules().rules}
# None is shipped; this one is never spent.
BUDGETS: Final = """
budgets: [{budget: tokens-day, over: all, of: tokens, limit: 1000000000000000, per: day}]
"""
CAUSED: Final = {"ToolFailing", "EventsRejected", "SessionTokenVelocityHigh", "TokenVelocityHigh"}
EXPORTER: Final = "agent-streams"
WORKER: Final = "agent-streams-worker"
LABEL_VALUES: Final = re.compile(r"label_values\((.*), (\w+)\)")


def traffic() -> Iterator[tuple[bytes, bytes]]:
    """Yield what is published, round by round; it happens when it is asked for."""
    for number in range(ROUNDS):
        yield from one_round(number, int(time.time() * 1000))


def one_round(number: int, now_ms: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield a fleet at work, every kind of event, and what is odd."""
    fleet = Fleet(number, sessions=20, agents=4, tools=8, step_ms=4, start_ms=now_ms, failing_tool="tool-03")
    for event in fleet.events(200):
        event["id"] = f"{number}-{event['id']}"
        event["session_id"] = f"{number}-{event['session_id']}"
        event["source"] = f"{number}-{event['source']}"
        yield _record(event)
    for each in of_every_kind():
        if isinstance(each, bytes):
            yield b"odd", each
        else:
            yield _record({**each, "id": f"{number}-{each['id']}", "session_id": f"every-{number}", "time": now_ms})
    yield from map(_record, of_services(number, now_ms))
    for kind in KINDS:
        own = {"id": f"{number}-{kind}", "time": now_ms, "session_id": f"example-{number}", "source": None, "seq": None}
        yield _record({**examples.event(kind), **own})
    odd = {"kind": "cycle", "phase": "planning", "agent": "planner", "session_id": "odd"}
    yield _record({**odd, "id": f"{number}-fresh", "time": now_ms})
    yield _record({**odd, "id": f"{number}-fresh", "time": now_ms})
    yield _record({**odd, "id": f"{number}-late", "time": now_ms - 600_000})
    yield _record({**odd, "id": f"{number}-early", "time": now_ms + 600_000})
    yield from [(b"odd", b"no event")] * 5  # several in a hundred of the partition's, of which one may be
    runaway = {
        "kind": "token_usage",
        "agent": "planner",
        "session_id": "runaway",
        "model": "gpt-5",
        "provider": "openai",
    }
    yield _record({**runaway, "id": f"{number}-run", "time": now_ms, "input_tokens": 6_000_000, "output_tokens": 9})


def of_services(number: int, now_ms: int) -> Iterator[dict[str, Any]]:
    """Yield a request that thinks, a call between agents, routing, rate limits and a cache."""
    asked = {"target": "writer", "operation": "query", "call_id": f"a{number}"}
    routed = {"provider": "openai", "task_type": "chat", "input_tokens": 90, "output_tokens": 30}
    limited = {"kind": "rate_limit", "endpoint": "/run", "workspace": "acme"}
    cached = {"kind": "cache", "cache": "answers", "operation": "get", "duration_ms": 3}
    events: tuple[dict[str, Any], ...] = (
        {"kind": "agent_start", "call_id": f"t{number}"},
        {"kind": "cycle", "phase": "planning", "duration_ms": 40},
        {"kind": "agent_end", "call_id": f"t{number}", "duration_ms": 900},
        {"kind": "a2a_start", **asked},
        {"kind": "a2a_end", **asked, "duration_ms": 300, "response_bytes": 900},
        {"kind": "ccr", **routed, "duration_ms": 200},
        {**limited, "result": "allowed"},
        {**limited, "result": "denied"},
        {**cached, "result": "hit"},
        {**cached, "result": "miss"},
        {"kind": "skill", "skill": "parse-csv", "action": "saved"},
        {"kind": "skill", "skill": "parse-csv", "action": "executed", "duration_ms": 40},
    )
    for at, event in enumerate(events):
        yield {"id": f"{number}-service-{at}", "time": now_ms, "agent": "planner", "session_id": "services", **event}


def _record(event: dict[str, Any]) -> tuple[bytes, bytes]:
    return event["session_id"].encode(), json.dumps(event).encode()


def asked_by(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield the queries of a dashboard with what they are for; variables stand for everything."""
    board = json.loads(text)
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield f"{name}: {panel['title']} {target['refId']}", filled(board, target["expr"])
    for each in board["annotations"]["list"]:
        yield f"{name}: {each['name']}", filled(board, each["expr"])


def filled(board: dict[str, Any], expr: str) -> str:
    """Put what Grafana would put."""
    expr = expr.replace("$__rate_interval", RATE).replace("$__range", RANGE)
    for variable in board["templating"]["list"]:
        expr = expr.replace(f"${variable['name']}", str(variable.get("allValue", "")))
    return expr


# Nobody is there in this test whom an exporter could push to, and `notify` and its numbers have tests of their own.
MAY_BE_EMPTY: Final = ("agent_exporter_otlp_", "agent_notify_")


def without_data(asking: Prometheus, begin_s: float, end_s: float) -> list[str]:
    """Name the queries that no point came back for."""
    return [
        f"{what}\n    {expr}"
        for name, text in files().items()
        for what, expr in asked_by(name.removesuffix(".json"), text)
        if not any(name in expr for name in MAY_BE_EMPTY)
        and not any(map(math.isfinite, asking.points(expr, begin_s, end_s)))
    ]


def without_values(asking: Prometheus) -> list[str]:
    """Name the variables that there is nothing to choose for."""
    found = []
    for name, text in files().items():
        board = json.loads(text)
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                match = LABEL_VALUES.fullmatch(variable["query"])
                assert match, variable["query"]
                if not asking.get(f"label/{match[2]}/values", **{"match[]": filled(board, match[1])}):
                    found.append(f"{name}: {variable['name']}")
    return found


def fired(asking: Prometheus) -> set[str]:
    """Name the alerts of the rules that the pipeline itself says are firing."""
    found = asking.get("query", query='count by (alert) (agent_alerts{state="firing"} > 0)')["result"]
    return {each["metric"]["alert"] for each in found}


def firing(asking: Prometheus) -> set[str]:
    """Name the alerts that Prometheus says are firing."""
    return {each["labels"]["alertname"] for each in asking.get("alerts")["alerts"] if each["state"] == "firing"}


async def test_every_query_returns_data_and_every_rule_is_evaluated(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter is scraped under two names, as two exporters would be: no number may count double."""
    await create(kafka, prefix)
    own_rules = tmp_path / "rules.yaml"
    own_rules.write_text(defaults_text() + BUDGETS)
    monkeypatch.setenv("AGENT_STREAMS_RULES_FILE", str(own_rules))
    health, port = free_ports(2)
    where = ["--bootstrap", kafka, "--prefix", prefix]
    # Two names of one exporter are two targets with the same numbers.
    jobs = {EXPORTER: [f"{HOST}:{port}", f"localhost:{port}"], WORKER: [f"{HOST}:{health}"]}
    with Programs(tmp_path) as programs, prometheus(tmp_path, jobs, RULES) as asking:
        programs.add("worker", ["-m", "streams", "worker", *where, "--health-port", str(health)])
        programs.add("exporter", ["-m", "streams", "exporter", *where, "--port", str(port)])
        up = partial(asking.value, f'sum(agent_worker_ready) + count(agent_state_age_seconds{{job="{EXPORTER}"}}) == 3')
        eventually(up, timeout_s=120, what=programs.logs)
        begin_s = time.time()
        published = Broker(kafka).publish(prefix + EVENTS.suffix, traffic(), per_second=PER_SECOND)
        received = partial(asking.value, "sum(max without (instance) (agent_stream_events_received_total))")
        eventually(lambda: received() == published, timeout_s=90, what=lambda: f"{published} events, not {received()}")

        def missing() -> list[str]:
            return without_data(asking, begin_s, time.time()) + without_values(asking)

        eventually(lambda: not missing(), timeout_s=30, what=lambda: "data for\n" + "\n".join(missing()))
        rules = [rule for group in asking.get("rules")["groups"] for rule in group["rules"]]
        assert [] == [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"]
        eventually(
            lambda: CAUSED <= fired(asking) == firing(asking) & RULED and "CircuitOpen" in firing(asking),
            timeout_s=60,
            what=lambda: f"two engines that agree: {fired(asking)} are not {firing(asking) & RULED}",
        )
        assert not firing(asking) & {"EventsUnaccounted", "EventsUnreconciled", "WorkersMissing", "ExporterMissing"}
