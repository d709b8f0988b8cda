"""Secrets in every text of every kind, and in what is refused: nothing that leaves a worker holds any of them."""

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from harness import Broker, Fleet, eventually
from redis import Redis
from redis_server import redis_server

from streams.event.model import KINDS
from streams.event.redact import FREE_TEXT
from streams.stage import examples
from streams.topology import EVENTS, TOPICS
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.exporter import FORMATS
from streams.worker.loopback import HOST, free_ports

pytestmark = pytest.mark.kafka

# What is planted, and what of it is looked for wherever something comes out.
CANARIES: Final = {
    "ana.canary@leak.example.com": b"canary@leak",
    "4111 1111 1111 1111": b"1111 1111 1111",
    "+1 415 555 2671": b"555 2671",
    "123-45-6789": b"45-6789",
    "DE89 3704 0044 0532 0130 00": b"0044 0532",
    "sk-proj-c4naryc4naryc4naryc4nary": b"c4nary",
    "ghp_c4n4ryc4n4ryc4n4ryc4n4ryc4n4ry": b"c4n4ry",
    "password=hunter2canary": b"hunter2canary",
    "postgres://app:pwcanary@db/x": b"pwcanary",
}
TEXT: Final = "said: " + " , ".join(CANARIES)
RULES: Final = """
groups:
  - name: g
    rules:
      - {alert: Errors, over: tool, value: {sum: tool_calls_error}, window: 5m, above: 0, severity: critical}
      - {alert: SessionErrors, over: session, value: {total: errors}, above: 0, severity: critical, stop: true}
breakers:
  - {over: tool, failure_rate: 50%, window: 1m, min_calls: 1, open_for: 10m, half_open_calls: 1}
"""


def good(now_ms: int) -> Iterator[dict[str, Any]]:
    """Yield an event of every kind with secrets in all of its free text, its attributes included."""
    for number, kind in enumerate(examples.EVENTS):
        plain = examples.event(kind)
        planted = dict.fromkeys(FREE_TEXT.get(KINDS[kind], ()), TEXT)
        status = {"status": "error"} if kind == "tool_end" else {}
        attributes = {"note": TEXT, "canary list": TEXT[:300]}
        yield {
            **plain,
            **planted,
            **status,
            "id": f"good-{number}",
            "seq": number + 1,
            "time": now_ms,
            "attributes": attributes,
        }


def refused(now_ms: int) -> Iterator[bytes]:
    """Yield records that workers refuse, with secrets where they should not be."""
    for number, kind in enumerate(examples.EVENTS):
        plain = {**examples.event(kind), "id": f"bad-{number}", "time": now_ms}
        yield json.dumps({**plain, "time": TEXT}).encode()
        yield json.dumps({**plain, "seq": TEXT}).encode()
        yield json.dumps({**plain, "schema": TEXT}).encode()
        yield json.dumps({**plain, "agent": [TEXT]}).encode()
        yield json.dumps([plain["id"], TEXT]).encode()
        yield json.dumps({**plain, "kind": TEXT}).encode()
        yield json.dumps({**plain, "kind": f"{kind}!", "extra": TEXT}).encode()
        yield json.dumps({"specversion": "1.0", "id": "1", "source": "/", "type": "x", "data": {TEXT: TEXT}}).encode()
    yield TEXT.encode()
    yield TEXT.encode("utf-16")
    yield b'{"kind": "tool_end", "agent": "' + TEXT.encode()
    yield b'"' + TEXT.encode() + b'"'
    yield b"\xff\xfe" + TEXT.encode()


async def test_no_secret_leaves_a_worker(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 2, "rollups": 2})
    now_ms = time.time_ns() // 1_000_000
    records = [*(json.dumps(event).encode() for event in good(now_ms)), *refused(now_ms)]
    rules, receivers = tmp_path / "rules.yaml", tmp_path / "receivers.yaml"
    rules.write_text(RULES)
    (port,) = free_ports(1)
    where = ["--bootstrap", kafka, "--prefix", prefix]
    broker = Broker(kafka)
    with redis_server() as redis, Fleet(tmp_path) as fleet:
        receivers.write_text(f"receivers:\n  - {{name: cache, kind: redis, url: '{redis.url}'}}\n")
        for name, value in {
            "RULES_FILE": str(rules), "REDIS_URL": redis.url, "PAYLOADS": "true", "LOG_LEVEL": "debug",
            "FLUSH_IDLE_MS": "50",
        }.items():  # fmt: skip
            monkeypatch.setenv(f"AGENT_STREAMS_{name}", value)
        fleet.add("worker", ["-m", "streams", "worker", *where])
        fleet.add("exporter", ["-m", "streams", "exporter", *where, "--port", str(port)])
        fleet.add("notify", ["-m", "streams", "notify", *where, "--receivers", str(receivers), "--port", "0"])
        broker.publish(f"{prefix}events", ((b"k", record) for record in records))
        received = "agent_stream_events_received_total{"
        eventually(lambda: counted(page(port), received) >= len(records), timeout_s=60, what=fleet.logs)
        client: Any = Redis.from_url(redis.url)
        eventually(lambda: client.keys("agent-streams:alert:*"), timeout_s=60, what=lambda: f"alerts\n{fleet.logs()}")
        verdicts = f"agent-streams:{prefix}verdicts"
        eventually(lambda: client.hgetall(verdicts), timeout_s=60, what=lambda: f"verdicts\n{fleet.logs()}")
        found: dict[str, bytes] = {f"page {name}": page(port, name) for name in FORMATS}
        found |= {f"redis {key!r}": repr(held(client, key)).encode() for key in client.keys("*")}
        client.close()
        for topic in TOPICS:
            if topic is not EVENTS:
                messages = broker.read(prefix + topic.suffix)
                found[topic.suffix] = b"\n".join(
                    b"|".join((each.key() or b"", each.value() or b"", repr(each.headers()).encode()))
                    for each in messages
                )
        assert {worker.name: worker.stop() for worker in fleet.workers} == dict.fromkeys(
            ("worker", "exporter", "notify"), 0
        )
        for worker in fleet.workers:
            found[f"log {worker.name}"] = worker.log.read_bytes()

    told = {(place, needle) for place, text in found.items() for needle in CANARIES.values() if needle in text}
    assert not told
    assert b"[email]" in found["payloads"]
    assert b"[email]" in found["dead-letter"]
    assert found["alerts"], "an alert was told, so that its text was looked at"
    assert found["breakers"]
    assert all(found[f"log {name}"] for name in ("worker", "exporter"))


def test_every_kind_of_event_is_published_there() -> None:
    assert set(KINDS) == set(examples.EVENTS)
    assert FREE_TEXT.keys() <= set(KINDS.values())


def page(port: int, wanted: str = "prometheus") -> bytes:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics?format={wanted}", timeout=10) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def counted(text: bytes, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.decode().splitlines() if line.startswith(name))


def held(client: Any, key: bytes) -> Any:
    """Return what Redis holds there, whatever its shape."""
    kind = client.type(key)
    return client.hgetall(key) if kind == b"hash" else client.get(key) if kind == b"string" else client.dump(key)
