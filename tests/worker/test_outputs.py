"""From an agent's emitter to every way out: bodies on their topic, exemplars on the page, both profiles as promised."""

import json
import urllib.request
from pathlib import Path
from typing import Final

import pytest
from harness import Broker, Fleet, eventually
from pages import series, total

from streams.feed import Emitter, EmitterConfig, Session
from streams.topology import PAYLOADS
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.loopback import free_ports

pytestmark = pytest.mark.kafka

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
COUNTS: Final = {"events": 2, "rollups": 1}
CALLS: Final = 20


def _page(port: int) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics?format=openmetrics")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  as above
            page: str = answer.read().decode()
    except OSError:
        return ""
    return page


def _published(page: str) -> float:
    return total(series(page), "agent_stream_payloads_total") if page else 0


@pytest.mark.parametrize("profile", ["development", "production"])
async def test_bodies_and_traces_get_where_the_profile_says(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    """The emitter sends bodies either way here: in production it is the worker that counts and drops them."""
    file = tmp_path / "redaction.txt"
    file.write_text("customer CUST-\\d{6}\n")
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, COUNTS)
    monkeypatch.setenv("AGENT_STREAMS_PROFILE", profile)
    monkeypatch.setenv("AGENT_STREAMS_REDACTION_FILE", str(file))
    config = EmitterConfig.from_env(
        bootstrap_servers=kafka, topic_prefix=prefix, payloads=True, payload_sample=1.0, redactor=None
    )
    (port,) = free_ports(1)
    with Fleet(tmp_path) as fleet:
        where = ["--bootstrap", kafka, "--prefix", prefix]
        fleet.add("worker", ["-m", "streams", "worker", *where])
        fleet.add("exporter", ["-m", "streams", "exporter", *where, "--port", str(port)])
        with Emitter(config) as emitter:
            session = Session(emitter, agent="planner", session_id="s", trace_id=TRACE)
            for number in range(CALLS):
                with session.tool_call("search"):
                    session.payload("request", f"{number}: CUST-123456 ann@example.com")
        page = eventually(lambda: (p := _page(port)) and _published(p) == CALLS and p, timeout_s=120, what=fleet.logs)
        bodies = [json.loads(message.value()) for message in Broker(kafka).read(f"{prefix}{PAYLOADS.suffix}")]

    expected = [f"{number}: [customer] [email]" for number in range(CALLS)] if profile == "development" else []
    assert expected == [each["body"] for each in bodies]
    assert f'trace_id="{TRACE}"' in str(page)


async def test_how_long_bodies_are_kept_is_for_the_operator_to_say(kafka: str, prefix: str) -> None:
    """And what the operator has said is no finding."""
    connection = KafkaConnection(bootstrap=kafka)
    await topics.create(connection, prefix, COUNTS, retention_ms={PAYLOADS.suffix: 3_600_000})
    seen = (await topics.look(connection, prefix)).topics

    assert "3600000" == seen[prefix + PAYLOADS.suffix].config["retention.ms"]
    assert [] == await topics.check(connection, prefix, COUNTS)
