"""From a failing tool to a guard that denies it, and back: workers, exporter, Redis and guards as they are deployed."""

import urllib.request
from pathlib import Path
from typing import Any, Final

import pytest
from harness import Fleet, eventually
from redis_server import redis_server

from streams.event.model import TokenUsage, ToolEnd
from streams.feed import CallDenied, Emitter, EmitterConfig, Guard, GuardPolicy, Session
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.loopback import free_ports

pytestmark = pytest.mark.kafka

RULES: Final = """
groups:
  - name: stops
    rules:
      - alert: SessionTokensSpent
        over: session
        value: {total: tokens}
        above: 1000
        severity: critical
        stop: true
        summary: "Session {session_id} has used {value} tokens"
breakers:
  - over: tool
    failure_rate: 50%
    window: 1m
    min_calls: 5
    open_for: 10s
    half_open_calls: 2
"""
PROBES: Final = 2
DENIED: Final = 100


def end(session: Session, status: str, times: int) -> None:
    for _ in range(times):
        session.emit(ToolEnd, tool="search", status=status, duration_ms=5)


def sources(kafka: str, prefix: str, redis_url: str, emitter: Emitter) -> list[Guard]:
    return [
        Guard(
            EmitterConfig(
                bootstrap_servers=kafka,
                topic_prefix=prefix,
                guard=GuardPolicy(source=name, redis_url=redis_url),
            ),
            emitter=emitter if name == "redis" else None,
        )
        for name in ("redis", "kafka")
    ]


async def test_what_workers_judge_guards_carry_out(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 2, "rollups": 2})
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    (port,) = free_ports(1)
    where = ["--bootstrap", kafka, "--prefix", prefix]
    with redis_server() as redis, Fleet(tmp_path) as fleet:
        monkeypatch.setenv("AGENT_STREAMS_RULES_FILE", str(rules))
        monkeypatch.setenv("AGENT_STREAMS_REDIS_URL", redis.url)
        fleet.add("worker", ["-m", "streams", "worker", *where])
        fleet.add("exporter", ["-m", "streams", "exporter", *where, "--port", str(port)])
        with Emitter(EmitterConfig(bootstrap_servers=kafka, topic_prefix=prefix)) as emitter:
            guards = sources(kafka, prefix, redis.url, emitter)
            by_redis, by_kafka = guards
            session = Session(emitter, agent="planner", session_id="s1")
            try:

                def everywhere(target: str, allowed: bool, what: str, **whose: Any) -> None:
                    for guard in guards:
                        eventually(
                            lambda guard=guard: guard.allow(target, **whose) == allowed,  # type: ignore[misc]  # bound at once
                            timeout_s=60,
                            what=lambda guard=guard: f"{what}: {guard.stats()}\n{fleet.logs()}",  # type: ignore[misc]  # as above
                        )

                assert all(guard.wait_ready(60_000) for guard in guards), fleet.logs()
                assert all(guard.allow("tool:search") for guard in guards)
                end(session, "error", 5)
                everywhere("tool:search", False, "the circuit to open")
                assert all(guard.allow("tool:weather") for guard in guards)
                before = by_redis.stats().denied["breaker"]
                for _ in range(DENIED):
                    with pytest.raises(CallDenied, match="5 of 5 calls failed"):
                        by_redis.check("tool:search", session_id="s1", agent="planner")

                session.emit(TokenUsage, model="gpt", input_tokens=2_000)
                everywhere("model:gpt", False, "the session to be stopped", session_id="s1")
                assert all(guard.allow("model:gpt", session_id="s2") for guard in guards)
                with pytest.raises(
                    CallDenied, match="SessionTokensSpent stops session_id s1: Session s1 has used 2,000"
                ):
                    by_kafka.check("model:gpt", session_id="s1")

                everywhere("tool:search", True, "probe calls")
                end(session, "success", PROBES)
                for guard in guards:
                    eventually(lambda guard=guard: guard.stats().verdicts == 1, timeout_s=60, what=fleet.logs)  # type: ignore[misc]  # bound at once
                assert all(guard.allow("tool:search") for _ in range(PROBES * 3) for guard in guards)
            finally:
                for guard in guards:
                    guard.close()
            denied = by_redis.stats().denied
            assert denied["breaker"] >= before + DENIED
            assert by_redis.stats().events < DENIED
        for by, count in denied.items():
            target = "tool:search" if by == "breaker" else "model:gpt"
            line = f'agent_guard_denials_total{{target="{target}",denied_by="{by}"}} {count}\n'
            eventually(lambda line=line: line in page(port), timeout_s=60, what=lambda: page(port))  # type: ignore[misc]  # bound at once


def page(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
