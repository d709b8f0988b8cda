"""Events over HTTP: 202 means Kafka has them, a refusal says which and why, and pressure says when to come again."""

import asyncio
import gzip
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from changelogs import totals
from harness import Broker, Fleet, eventually
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ConfigError
from streams.event.redact import REDACTOR
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.ingest_door import Limits
from streams.worker.ingest_http import HttpConfig, HttpReceiver
from streams.worker.ingest_rate import CLIENTS_MAX, Rates
from streams.worker.ingest_read import EVENTS_MAX, REFUSED_TOLD, read, told
from streams.worker.ingest_records import TooLarge
from streams.worker.loopback import HOST, free_ports
from streams.worker.web import WebConfig

WAIT_S: Final = 120.0
TOKEN: Final = "a token of forty characters, more or less"  # noqa: S105  of nobody
JSON: Final = {"Content-Type": "application/json"}
LINES: Final = {"Content-Type": "application/x-ndjson"}
PAGE: Final = (Path(__file__).parents[2] / "docs/ingest-http.md").read_text(encoding="utf-8")


def event(number: int, **fields: Any) -> dict[str, Any]:
    about = {"kind": "tool_end", "id": f"e{number}", "time": 1_000 + number, "agent": "a", "tool": "dig"}
    return {**about, "session_id": f"s{number % 5}", **fields}


def parsed(body: object, *, lines: bool = False) -> Any:
    return read(json.dumps(body).encode(), lines=lines, customs={}, redactor=REDACTOR)


# ---- bodies ------------------------------------------------------------------------------------------------------


def test_an_object_an_array_and_lines_are_read_and_a_session_stays_in_order() -> None:
    many = [event(number) for number in range(50)]
    text = b"\n".join(json.dumps(each).encode() for each in many) + b"\n\n"
    by_line = read(text, lines=True, customs={}, redactor=REDACTOR)
    by_array = parsed(many)

    assert (1, ()) == (parsed(event(1)).events, tuple(parsed(event(1)).refused))
    assert by_line == by_array
    assert (50, 50, 5) == (by_array.events, by_array.items, len(by_array.records))
    for record in by_array.records:
        session = int(record.key[1:])
        assert [f"e{number}" for number in range(session, 50, 5)] == [each["id"] for each in json.loads(record.value)]


def test_what_is_refused_is_named_by_its_place_and_the_others_are_taken() -> None:
    bad = [
        event(0), {"kind": "nothing"}, event(2, tool=7), event(3, time="yesterday"), 17,
        {"kind": "custom", "id": "c", "time": 1, "agent": "a", "metric": "m", "metric_kind": "counter",
             "value": 1}, event(6),
    ]  # fmt: skip
    posted = parsed(bad)
    said = told(posted.events, posted.refused)

    assert [(1, "unknown_kind"), (2, "invalid"), (3, "time"), (4, "invalid"), (5, "undeclared")] == [
        (each["index"], each["reason"]) for each in said["first_refused"]
    ]
    assert (2, 5) == (said["accepted"], said["refused"])


def test_only_the_first_of_many_refused_are_named_and_no_value_is_shown() -> None:
    posted = parsed([event(number, tool={"secret": "hunter2"}) for number in range(500)])
    said = told(posted.events, posted.refused)

    assert (0, 500, REFUSED_TOLD) == (said["accepted"], said["refused"], len(said["first_refused"]))
    assert "hunter2" not in json.dumps(said)


def test_free_text_is_redacted() -> None:
    (record,) = parsed(event(1, status="error", error_message="write to ann@example.com")).records
    assert b"write to [email]" in record.value


@pytest.mark.parametrize("body", [b"", b" \n ", b"[{]", b"[1,", b"[]"])
def test_a_body_that_is_none_is_a_fault_of_the_request(body: bytes) -> None:
    with pytest.raises(ValueError, match="the body is"):
        read(body, lines=False, customs={}, redactor=None)


def test_too_many_events_at_once_are_not_taken() -> None:
    with pytest.raises(TooLarge, match=f"{EVENTS_MAX + 1} events, at most {EVENTS_MAX}"):
        read(b"{}\n" * (EVENTS_MAX + 1), lines=True, customs={}, redactor=None)


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_end_in_anything_but_an_answer(body: bytes, lines: bool) -> None:
    try:
        posted = read(body, lines=lines, customs={}, redactor=REDACTOR)
    except ValueError:
        return
    assert posted.events + len(posted.refused) >= 1


# ---- rates -------------------------------------------------------------------------------------------------------


def test_what_came_too_fast_is_owed_and_paid_by_waiting() -> None:
    rates = Rates(100)
    rates.take("a", 1_000, 0.0)

    assert (9, 0) == (rates.wait_s("a", 0.0), rates.wait_s("b", 0.0)), "1000 came, 200 were free: 8 s, and then some"
    assert (1, 0) == (rates.wait_s("a", 8.0), rates.wait_s("a", 8.01))
    rates.take("a", 100, 1_000.0)
    assert 0 == rates.wait_s("a", 1_000.0), "an idle client has two seconds' worth and no more"
    rates.take("a", 100, 1_000.0)
    assert 1 == rates.wait_s("a", 1_000.0)


def test_no_more_clients_are_remembered_than_it_says() -> None:
    rates = Rates(1)
    for number in range(CLIENTS_MAX + 100):
        rates.take(str(number), 10, 0.0)

    assert (0, 9) == (rates.wait_s("0", 0.0), rates.wait_s(str(CLIENTS_MAX), 0.0))
    assert CLIENTS_MAX == len(rates._left)


# ---- without Kafka -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def receiving(bootstrap: str, prefix: str = "agent.", **changes: Any) -> AsyncIterator[tuple[Any, str]]:
    config = HttpConfig(KafkaConnection(bootstrap=bootstrap), prefix, web=WebConfig(port=0), **changes)
    receiver = HttpReceiver(config)
    running = asyncio.create_task(receiver.run())
    try:
        async with asyncio.timeout(WAIT_S):
            while not receiver.server.address:
                await asyncio.sleep(0.01)
        async with aiohttp.ClientSession() as client:
            yield client, f"http://{receiver.server.address}"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    ("headers", "size_bytes", "status", "says"),
    [
        ({**JSON, "Authorization": f"Bearer {TOKEN}"}, 10, 503, "waiting for Kafka"),
        ({**JSON, "Authorization": "Bearer x"}, 10, 401, "Authorization: Bearer … is missing or wrong"),
        ({"Content-Type": "text/plain", "Authorization": f"Bearer {TOKEN}"}, 10, 415, "application/json or"),
        ({**JSON, "Authorization": f"Bearer {TOKEN}"}, 1_001, 413, "larger than 1000 bytes"),
    ],
)
async def test_what_cannot_be_taken_is_refused_before_it_is_read(
    headers: dict[str, str], size_bytes: int, status: int, says: str
) -> None:
    (port,) = free_ports(1)
    limits = Limits(token=TOKEN, body_bytes=1_000)
    async with (
        receiving(f"{HOST}:{port}", limits=limits) as (client, url),
        client.post(f"{url}/v1/events", data=bytes(size_bytes), headers=headers) as answer,
    ):
        said = await answer.json()

    assert status == answer.status
    assert says in said["error"]
    assert ("1" if status == 503 else None) == answer.headers.get("Retry-After")
    assert TOKEN not in repr(HttpConfig(KafkaConnection(bootstrap="b:1"), limits=limits))


def test_limits_that_cannot_be_are_all_named() -> None:
    with pytest.raises(ConfigError, match=r"connections: 0 given.*client rate: 0 given"):
        HttpConfig(KafkaConnection(bootstrap="b:1"), limits=Limits(connections=0), client_rate=0)


async def ready(client: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                async with client.get(f"{url}/-/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass  # it does not listen yet
            await asyncio.sleep(0.05)


# ---- with Kafka --------------------------------------------------------------------------------------------------


@pytest.mark.kafka
async def test_too_fast_a_client_and_what_is_no_event_are_told_so(kafka: str, prefix: str) -> None:
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 1, "rollups": 1})
    async with receiving(kafka, prefix, client_rate=10) as (client, url):
        await ready(client, url)
        async with client.post(f"{url}/v1/events", data=b"[", headers=JSON) as broken:
            pass
        body = gzip.compress(b"\n".join(json.dumps(event(number)).encode() for number in range(200)))
        headers = {**LINES, "Content-Encoding": "gzip"}
        async with client.post(f"{url}/v1/events", data=body, headers=headers) as taken:
            accepted = await taken.json()
        async with client.post(f"{url}/v1/events", data=body, headers=headers) as refused:
            wait_s = int(refused.headers["Retry-After"])
        async with client.get(f"{url}/metrics") as answer:
            page = await answer.text()

    assert (400, 202, {"accepted": 200}, 429) == (broken.status, taken.status, accepted, refused.status)
    assert 0 < wait_s <= 19  # the sooner, the longer the first request took
    assert 'agent_ingest_events_total{signal="events"} 200.0' in page
    assert 'agent_ingest_requests_total{outcome="again",signal="events"} 1.0' in page


@pytest.mark.kafka
async def test_what_the_page_sends_with_curl_ends_in_the_tables_once(kafka: str, prefix: str, tmp_path: Path) -> None:
    """The command, its examples as they stand, sent twice as after an answer that got lost."""
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 2, "rollups": 2})
    (port,) = free_ports(1)
    script = next(
        block for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if "curl" in block
    )
    script = "set -euo pipefail\n" + script.replace(":8468", f":{port}")
    now_s = int(time.time())  # tables keep what has ended for an hour
    script = script.replace("1760000000", str(now_s)).replace("1760000001", str(now_s + 1))
    where = ["--bootstrap", kafka, "--prefix", prefix]
    with Fleet(tmp_path) as fleet:
        process = fleet.add("http", ["-m", "streams", "ingest-http", *where, "--port", str(port)])
        fleet.add("worker", ["-m", "streams", "worker", *where])
        async with aiohttp.ClientSession() as client:
            await ready(client, f"http://{HOST}:{port}")
        assert process.running
        for _ in range(2):
            done = await asyncio.to_thread(
                subprocess.run, ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False
            )
            assert (0, "") == (done.returncode, done.stderr)
            assert '{"accepted":1}\n{"accepted":2}\n' == done.stdout
        broker = Broker(kafka)

        def counted() -> bool:
            sessions, tools = totals(broker, prefix)
            return {"run-7", "run-8"} <= sessions.keys() and "search" in tools

        eventually(counted, timeout_s=WAIT_S, what=lambda: f"the tables {totals(broker, prefix)}\n{fleet.logs()}")
        sessions, tools = totals(broker, prefix)

    assert (1, 2) == (sessions["run-7"]["events"], sessions["run-8"]["events"])
    assert {"calls": 1, "calls_success": 1, "duration_us": 120_000} == tools["search"]
