"""The receiver of OTLP: what the SDK and recorded programs send ends in the tables once, and nothing is lost for it."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from changelogs import totals
from harness import Broker, Fleet, WorkerProcess, eventually
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode
from otlp_recording import GOLDEN

from streams.errors import ConfigError
from streams.event.otel.points import SESSIONS
from streams.worker import topics
from streams.worker.cli.ingest_otlp import ingest_otlp
from streams.worker.connection import KafkaConnection
from streams.worker.embedded import EmbeddedKafka
from streams.worker.ingest import IngestConfig, Receiver
from streams.worker.ingest_codec import JSON, PROTOBUF
from streams.worker.ingest_door import Limits
from streams.worker.ingest_topic import signal_of
from streams.worker.loopback import HOST, free_ports
from streams.worker.web import WebConfig

WAIT_S: Final = 120.0
SECRET: Final = "a secret of forty characters, more or less"  # noqa: S105  of nobody
OPENAI: Final = (GOLDEN / "openllmetry.pb").read_bytes()


# ---- without Kafka -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def lonely(**changes: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, str, Receiver]]:
    """A receiver whose broker does not exist."""
    (port,) = free_ports(1)
    connection = KafkaConnection(bootstrap=f"{HOST}:{port}")
    receiver = Receiver(IngestConfig(connection=connection, web=WebConfig(port=0), limits=Limits(**changes)))
    running = asyncio.create_task(receiver.run())
    try:
        async with asyncio.timeout(WAIT_S):
            while not receiver.server.address:
                await asyncio.sleep(0.01)
        async with aiohttp.ClientSession() as client:
            yield client, f"http://{receiver.server.address}", receiver
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    ("headers", "body", "status", "says"),
    [
        ({"Content-Type": PROTOBUF}, OPENAI, 503, "waiting for Kafka"),
        ({"Content-Type": "text/plain"}, OPENAI, 415, "Content-Type"),
        ({"Content-Type": PROTOBUF, "Content-Encoding": "br"}, OPENAI, 415, "Content-Encoding"),
        ({"Content-Type": PROTOBUF}, bytes(10_001), 413, "larger than 10000 bytes"),
    ],
)
async def test_what_cannot_be_taken_is_refused_with_the_reason(
    headers: dict[str, str], body: bytes, status: int, says: str
) -> None:
    async with (
        lonely(body_bytes=10_000) as (client, url, _),
        client.post(f"{url}/v1/traces", data=body, headers=headers) as answer,
    ):
        said = await answer.read()

    assert status == answer.status
    assert says.encode() in said
    assert ("1" if status == 503 else None) == answer.headers.get("Retry-After")
    assert PROTOBUF == answer.content_type
    # A google.rpc.Status: field 1 is a code of gRPC, field 2 the message.
    assert b"\x08" == said[:1]
    assert said[4:] == said[-said[3] :]


async def test_a_token_is_asked_for_where_one_is_set_and_is_never_shown() -> None:
    headers = {"Content-Type": JSON}
    async with lonely(token=SECRET) as (client, url, _):
        async with client.post(f"{url}/v1/logs", data=b"{}", headers=headers) as refused:
            said = await refused.json()
        async with client.post(
            f"{url}/v1/logs", data=b"{}", headers={**headers, "Authorization": f"Bearer {SECRET}"}
        ) as let_in:
            pass

    assert (401, "Bearer", 16) == (refused.status, refused.headers["WWW-Authenticate"], said["code"])
    assert 503 == let_in.status
    assert SECRET not in repr(Limits(token=SECRET))


async def test_more_connections_than_allowed_are_told_to_come_again() -> None:
    async with lonely(connections=1) as (client, url, _):
        reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
        async with client.post(f"{url}/v1/traces", data=OPENAI, headers={"Content-Type": PROTOBUF}) as answer:
            said = await answer.read()
        writer.close()
        await writer.wait_closed()
        assert reader.at_eof() or not reader.exception()

    assert (503, "1") == (answer.status, answer.headers["Retry-After"])
    assert b"2 connections" in said


async def test_health_is_shown_while_kafka_is_away() -> None:
    async with lonely() as (client, url, _):
        async with client.get(f"{url}/-/healthy") as healthy, client.get(f"{url}/-/ready") as ready:
            pass
        async with client.get(f"{url}/metrics") as metrics:
            page = await metrics.text()

    assert (200, 503) == (healthy.status, ready.status)
    assert "agent_ingest_up 0.0" in page


def test_limits_that_cannot_be_are_all_named() -> None:
    with pytest.raises(ConfigError, match=r"connections: 0 given.*body bytes: 2 given, expected at most held bytes"):
        IngestConfig(KafkaConnection(bootstrap="b:1"), limits=Limits(connections=0, body_bytes=2, held_bytes=1))


@pytest.mark.parametrize(
    ("topic", "signal"),
    [
        ("otlp_spans", "traces"),
        ("otlp_logs", "logs"),
        ("otlp_metrics", "metrics"),
        ("my.traces", "traces"),
        ("x", None),
    ],
)
def test_a_topic_says_by_its_name_what_it_holds(topic: str, signal: str | None) -> None:
    assert signal == signal_of(topic)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"signal": "traces"}, "--signal: given without --from-topic"),
        ({"from_topic": "otlp_spans", "signal": "spans"}, "--signal: 'spans' given, expected one of traces"),
        ({"from_topic": "telemetry"}, "--from-topic: 'telemetry' does not say what it holds"),
    ],
)
def test_options_that_cannot_be_name_the_next_step(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ingest_otlp(**options)


# ---- with a broker -----------------------------------------------------------------------------------------------


class Ingest:
    """The process, and what it says of itself."""

    def __init__(self, process: WorkerProcess, port: int) -> None:
        self.process = process
        self.url = f"http://{HOST}:{port}"

    async def ready(self) -> None:
        async with aiohttp.ClientSession() as client, asyncio.timeout(WAIT_S):
            while True:
                assert self.process.running, self.process.tail()
                try:
                    async with client.get(f"{self.url}/-/ready") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def post(self, signal: str, body: bytes, kind: str = PROTOBUF, **headers: str) -> tuple[int, bytes]:
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{self.url}/v1/{signal}", data=body, headers={"Content-Type": kind, **headers}) as answer,
        ):
            return answer.status, await answer.read()

    async def numbers(self) -> dict[str, float]:
        async with aiohttp.ClientSession() as client, client.get(f"{self.url}/metrics") as answer:
            lines = [line.rsplit(" ", 1) for line in (await answer.text()).splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}


@contextmanager
def ingest(fleet: Fleet, kafka: str, prefix: str, *more: str) -> Iterator[Ingest]:
    (port,) = free_ports(1)
    where = ["--bootstrap", kafka, "--prefix", prefix, "--port", str(port)]
    process = fleet.add(f"ingest-{port}", ["-m", "streams", "ingest-otlp", *where, *more])
    yield Ingest(process, port)


def work(provider: TracerProvider, session: str) -> None:
    """Do what an instrumented agent does: a request, a model, a tool that fails, each with what is said of it."""
    tracer = provider.get_tracer("by hand")
    about = {"gen_ai.conversation.id": session, "gen_ai.agent.name": "scout"}
    with tracer.start_as_current_span("invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent", **about}):
        model = {"gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o"}
        with tracer.start_as_current_span("chat", attributes={**about, **model}) as span:
            span.set_attributes({"gen_ai.usage.input_tokens": 70, "gen_ai.usage.output_tokens": 7})
        tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "dig"}
        with tracer.start_as_current_span("execute_tool dig", attributes={**about, **tool}) as span:
            span.set_status(Status(StatusCode.ERROR, "no luck"))


def spans_of(session: str) -> tuple[ReadableSpan, ...]:
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "scouts"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    work(provider, session)
    return kept.get_finished_spans()


@pytest.mark.kafka
async def test_what_is_exported_ends_in_the_tables_once(kafka: str, prefix: str, tmp_path: Path) -> None:
    """The SDK's own exporter and a recorded program, each of them sent twice, as after an answer that got lost."""
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 4, "rollups": 2})
    broker = Broker(kafka)
    with Fleet(tmp_path) as fleet, ingest(fleet, kafka, prefix) as receiver:
        fleet.add("worker", ["-m", "streams", "worker", "--bootstrap", kafka, "--prefix", prefix])
        await receiver.ready()
        spans = spans_of("conversation-9")
        exporter = OTLPSpanExporter(endpoint=f"{receiver.url}/v1/traces", compression=Compression.Gzip)
        for _ in range(2):
            assert SpanExportResult.SUCCESS is await asyncio.to_thread(exporter.export, spans)
        exporter.shutdown()  # type: ignore[no-untyped-call]  # theirs says nothing of what it returns
        packed = gzip.compress(OPENAI)
        for _ in range(2):
            assert (200, b"") == await receiver.post("traces", packed, **{"Content-Encoding": "gzip"})
        await says_what_was_wrong(receiver)

        def tables() -> bool:
            sessions, tools = totals(broker, prefix)
            return {"conversation-1", "conversation-9"} <= sessions.keys() and {"dig", "boom", "search"} <= tools.keys()

        eventually(tables, timeout_s=WAIT_S, what=lambda: f"the tables {totals(broker, prefix)}\n{fleet.logs()}")
        sessions, tools = totals(broker, prefix)
        numbers = await receiver.numbers()
        receiver.process.stop()

    mine, theirs = sessions["conversation-9"], sessions["conversation-1"]
    assert (1, 1, 70, 7, 1, 1) == tuple(
        mine[name] for name in ("requests", "model_calls", "input_tokens", "output_tokens", "tool_calls", "tool_errors")
    )
    assert (1, 3, 1, 200, 40, 2, 1) == tuple(
        theirs[name]
        for name in (
            "requests", "model_calls", "model_errors", "input_tokens", "output_tokens", "tool_calls", "tool_errors",
        )
    )  # fmt: skip
    assert {"dig": 1, "search": 1, "boom": 1} == {name: row["calls"] for name, row in tools.items()}
    assert 18 == numbers['agent_ingest_items_total{signal="traces"}'] - 1
    assert 0 == numbers["agent_ingest_held_bytes"]
    assert [0] == receiver.process.exits


@pytest.mark.kafka
async def test_what_would_be_too_much_to_hold_is_told_to_come_again(kafka: str, prefix: str) -> None:
    """One sender has sent most of its body, and the next one's does not fit beside it."""
    connection = KafkaConnection(bootstrap=kafka)
    await topics.create(connection, prefix, {"events": 1, "rollups": 1})
    body = as_json(b"x" * 900)
    limits = Limits(body_bytes=1000, held_bytes=1500)
    config = IngestConfig(connection=connection, prefix=prefix, web=WebConfig(port=0), limits=limits)
    receiver = Receiver(config)
    running = asyncio.create_task(receiver.run())
    try:
        async with asyncio.timeout(WAIT_S):
            while receiver.unready():
                await asyncio.sleep(0.01)
            host, _, port = receiver.server.address.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body[:-1])
            while receiver.held_bytes < len(body) - 1:
                await asyncio.sleep(0.01)
            url = f"http://{receiver.server.address}/v1/traces"
            async with aiohttp.ClientSession(headers={"Content-Type": JSON}) as client:
                async with client.post(url, data=body) as full:
                    pass
                writer.write(body[-1:])
                first = await reader.readline()
                async with client.post(url, data=body) as after:
                    pass
            writer.close()
            await writer.wait_closed()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert (429, "1") == (full.status, full.headers["Retry-After"])
    assert b" 200 " in first
    assert (200, 0) == (after.status, receiver.held_bytes)


def as_json(padding: bytes) -> bytes:
    """Return a request that holds nothing, in so many bytes and a few."""
    return b'{"resourceSpans": [], "x": "' + padding + b'"}'


@pytest.mark.kafka
@pytest.mark.long
async def test_what_was_answered_200_is_there_after_the_broker_was_killed(tmp_path: Path) -> None:
    """Senders come again after every other answer, as exporters do; what is repeated has the same ids."""
    prefix, requests = "outage.", 400
    with EmbeddedKafka(tmp_path / "kafka") as broker, Fleet(tmp_path) as fleet:
        bootstrap = broker.bootstrap
        await topics.create(KafkaConnection(bootstrap=bootstrap), prefix, {"events": 2, "rollups": 1})
        answers: list[int] = []
        with ingest(fleet, bootstrap, prefix) as receiver:
            await receiver.ready()

            async def send(number: int) -> None:
                while True:
                    status, _ = await receiver.post("traces", request(number))
                    answers.append(status)
                    if status == 200:
                        return
                    await asyncio.sleep(0.2)

            async def all_of(first: int) -> None:
                for number in range(first, requests + 1, 8):
                    await send(number)

            async with asyncio.TaskGroup() as group, asyncio.timeout(180):
                for first in range(1, 9):
                    group.create_task(all_of(first))
                while len(answers) < 100:
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(broker.kill)
                while 503 not in answers:
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(broker.restart)
        found = set(ids(Broker(bootstrap), prefix))

    assert requests == answers.count(200)
    assert 3 * requests == len(found)


async def says_what_was_wrong(receiver: Ingest) -> None:
    """Bad requests get an answer each, in their own encoding, and what is good in them counts."""
    status, said = await receiver.post("traces", b"\xff\xff\xff")
    assert (400, True) == (status, b"protobuf" in said)
    status, said = await receiver.post("traces", b'{"resourceSpans": 1}', JSON)
    assert (400, 3) == (status, json.loads(said)["code"])
    status, said = await receiver.post("traces", b"[" * 100_000, JSON)
    assert 400 == status
    status, said = await receiver.post("traces", b"no gzip", **{"Content-Encoding": "gzip"})
    assert (400, True) == (status, b"gzip" in said)
    status, said = await receiver.post("traces", gzip.compress(bytes(20_000_000)), **{"Content-Encoding": "gzip"})
    assert (413, True) == (status, b"unpacked" in said)
    assert (200, b"{}") == await receiver.post("logs", b"{}", JSON)
    idless = ExportTraceServiceRequest()
    idless.resource_spans.add().scope_spans.add().spans.add(name="x")
    status, said = await receiver.post("traces", idless.SerializeToString())
    partial = ExportTraceServiceResponse.FromString(said).partial_success
    assert (200, 1, True) == (status, partial.rejected_spans, "trace id" in partial.error_message)
    point = {"asInt": "1", "timeUnixNano": "1750000000000000000", "attributes": []}
    metric = {
        "name": SESSIONS,
        "sum": {"dataPoints": [point], "aggregationTemporality": 2},
    }
    body = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()
    status, said = await receiver.post("metrics", body, JSON)
    told = json.loads(said)["partialSuccess"]
    assert (200, "1", True) == (status, told["rejectedDataPoints"], "delta" in told["errorMessage"])


RECORDS: Final = 400


def request(number: int) -> bytes:
    """Return one collector's record: a chat of its own."""
    made = ExportTraceServiceRequest()
    scope = made.resource_spans.add().scope_spans.add()
    span = scope.spans.add(
        trace_id=number.to_bytes(16), span_id=number.to_bytes(8), name="chat",
        start_time_unix_nano=1_750_000_000_000_000_000, end_time_unix_nano=1_750_000_001_000_000_000,
    )  # fmt: skip
    for name, value in {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}.items():
        span.attributes.add(key=name).value.string_value = value
    span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 3
    return made.SerializeToString()


@pytest.mark.kafka
async def test_what_a_collector_wrote_becomes_events_exactly_once_through_a_kill(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """Two processes share a topic, one of them is killed in its work, and its share goes on where it committed."""
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 2, "rollups": 1})
    broker, topic = Broker(kafka), f"{prefix}otlp_spans"
    broker.create(topic, 2)
    total = 2 * RECORDS
    with (
        Fleet(tmp_path) as fleet,
        ingest(fleet, kafka, prefix, "--from-topic", topic) as one,
        ingest(fleet, kafka, prefix, "--from-topic", topic) as other,
    ):
        await one.ready()
        await other.ready()
        broker.publish(topic, ((str(number).encode(), request(number)) for number in range(1, RECORDS + 1)))
        eventually(lambda: len(ids(broker, prefix)) > 0, timeout_s=WAIT_S, what=fleet.logs)
        one.process.kill()
        one.process.start()
        later = ((str(number).encode(), request(number)) for number in range(RECORDS + 1, total + 1))
        broker.publish(topic, [*later, (b"bad", b"\xff\xff"), (b"json", b'{"resourceSpans": []}')])
        eventually(lambda: len(set(ids(broker, prefix))) == 3 * total, timeout_s=WAIT_S, what=fleet.logs)
        found = ids(broker, prefix)

    assert 3 * total == len(found) == len(set(found))


def ids(broker: Broker, prefix: str) -> list[str]:
    """Return the ids of all events."""
    found = []
    for message in broker.read(f"{prefix}events"):
        value = json.loads(message.value())
        found += [each["id"] for each in (value if isinstance(value, list) else [value])]
    return found
