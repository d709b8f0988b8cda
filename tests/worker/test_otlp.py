"""Pushing: to a receiver that answers as a test wants, decodes what it gets, and is away at times."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from aiohttp import web
from exporting import Writer, config, create, exporting, flushes, published, through
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from pages import series, total, value
from through_stages import Stages

from streams.errors import ConfigError
from streams.sink.otlp import Exported, rejected_points
from streams.worker.loopback import HOST, free_ports
from streams.worker.otlp import OtlpConfig, Pusher, Request, headers_of

WAIT_S: Final = 60.0
LOGIN: Final = "Bearer hunter2"
Answer = web.Response | None  # None: taken


class Receiver:
    """An OTLP receiver: keeps what it takes; `answers` are given first, in order, then everything is taken."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.asked_s: list[float] = []

    async def take(self, request: web.Request) -> web.Response:
        self.asked_s.append(time.monotonic())
        self.headers.append({name.lower(): text for name, text in request.headers.items()})
        body = await request.read()  # aiohttp has unpacked it
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            return answer
        self.requests.append(ExportMetricsServiceRequest.FromString(body))
        return web.Response(content_type="application/x-protobuf", body=b"")

    def points(self) -> dict[tuple[str, frozenset[tuple[str, str]]], Any]:
        """Return the newest value of every number it was told."""
        return {
            (metric.name, frozenset((each.key, each.value.string_value) for each in point.attributes)): point.as_int
            for request in self.requests
            for scope in request.resource_metrics[0].scope_metrics
            for metric in scope.metrics
            for point in metric.sum.data_points
        }


@asynccontextmanager
async def listening(receiver: Receiver, port: int = 0) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/metrics", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def pushing(endpoint: str, **fields: Any) -> AsyncIterator[Pusher]:
    body = ExportMetricsServiceRequest().SerializeToString()

    async def make() -> Sequence[Request]:
        return [Exported(body, 5), Exported(body, 2)]

    settings = {"interval_ms": 60_000, "timeout_ms": 5_000, "backoff_s": 0.01, **fields}
    pusher = Pusher(OtlpConfig(endpoint, **settings), make, rejected_points)
    task = asyncio.ensure_future(pusher.run())
    try:
        yield pusher
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_a_push_says_what_it_is_and_carries_the_login() -> None:
    receiver = Receiver()
    async with listening(receiver) as endpoint, pushing(endpoint, headers={"Authorization": LOGIN}) as pusher:
        await until(lambda: pusher.counters.accepted == 7)

    for headers in receiver.headers:
        assert ("application/x-protobuf", "gzip", LOGIN) == tuple(
            headers[name] for name in ("content-type", "content-encoding", "authorization")
        )
    assert pusher.counters.pushed_ms > 0


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_the_specification_calls_retryable_is_sent_again(status: int) -> None:
    receiver = Receiver(web.Response(status=status), web.Response(status=status))
    async with listening(receiver) as endpoint, pushing(endpoint) as pusher:
        await until(lambda: pusher.counters.accepted == 7)

    assert (2, 0, 0) == (pusher.counters.failures, pusher.counters.rejected, pusher.counters.given_up)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500])
async def test_what_is_not_is_sent_once(status: int) -> None:
    receiver = Receiver(web.Response(status=status, headers={"Location": "/elsewhere"}))
    async with listening(receiver) as endpoint, pushing(endpoint) as pusher:
        await until(lambda: pusher.counters.accepted == 2)

    assert 5 == pusher.counters.rejected
    assert 2 == len(receiver.asked_s)
    assert 0 == pusher.counters.failures


async def test_retry_after_is_waited_for() -> None:
    receiver = Receiver(web.Response(status=503, headers={"Retry-After": "1"}))
    async with listening(receiver) as endpoint, pushing(endpoint) as pusher:
        await until(lambda: pusher.counters.accepted == 7)

    assert receiver.asked_s[1] - receiver.asked_s[0] >= 0.99


async def test_points_a_receiver_refuses_are_counted_and_not_sent_again() -> None:
    partial = ExportMetricsPartialSuccess(rejected_data_points=3, error_message="too old")
    body = ExportMetricsServiceResponse(partial_success=partial).SerializeToString()
    receiver = Receiver(web.Response(body=body, content_type="application/x-protobuf"))
    async with listening(receiver) as endpoint, pushing(endpoint) as pusher:
        await until(lambda: pusher.counters.accepted + pusher.counters.rejected == 7)

    assert (4, 3) == (pusher.counters.accepted, pusher.counters.rejected)
    assert 2 == len(receiver.asked_s)


async def test_a_receiver_that_comes_late_gets_the_next_push_and_what_was_missed_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Given up after each interval, because the next push says the same numbers anew; logged once each way."""
    caplog.set_level(logging.INFO, "streams.worker.otlp")
    (port,) = free_ports(1)
    receiver = Receiver()
    async with pushing(f"http://{HOST}:{port}", interval_ms=500, timeout_ms=500) as pusher:
        await until(lambda: pusher.counters.given_up >= 14)
        assert pusher.counters.failures > 2
        async with listening(receiver, port):
            await until(lambda: pusher.counters.accepted >= 14)

    assert 1 == caplog.text.count("otlp_failed") == caplog.text.count("otlp_pushed")
    assert str(port) not in caplog.text


class Silent(Receiver):
    """Takes everything and says nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.release = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        await self.release.wait()
        return await super().take(request)


async def test_a_receiver_that_says_nothing_is_not_waited_for_longer_than_the_timeout() -> None:
    receiver = Silent()
    async with listening(receiver) as endpoint:
        async with pushing(endpoint, timeout_ms=50) as pusher:
            await until(lambda: pusher.counters.failures >= 2)
        receiver.release.set()


def test_the_address_of_metrics_is_made_as_the_specification_says() -> None:
    for endpoint in ("http://c:4318", "http://c:4318/", "http://c:4318/v1/metrics"):
        assert "http://c:4318/v1/metrics" == OtlpConfig(endpoint).url
    assert "https://c/otlp/v1/metrics" == OtlpConfig("https://c/otlp").url
    assert {"a": "b=c", "x": "y"} == headers_of("a=b=c, x = y,")
    assert LOGIN not in repr(OtlpConfig("http://c", {"Authorization": LOGIN}))
    with pytest.raises(ConfigError, match=r"http:// or https://.*interval_ms: 0 given"):
        OtlpConfig("c:4318", interval_ms=0)


@pytest.mark.kafka
async def test_the_exporter_pushes_what_it_shows_and_shows_pages_whatever_the_receiver_does(
    kafka: str, prefix: str
) -> None:
    """The receiver refuses at first: pages come all the same, and say what became of the points."""
    events = published(1_000)
    stages = Stages()
    through(stages, events)
    await create(kafka, prefix)
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    for sent in flushes(stages):
        await asyncio.to_thread(writer.commit, sent)
    receiver = Receiver(*(web.Response(status=503) for _ in range(3)))
    async with listening(receiver) as endpoint:
        otlp = OtlpConfig(endpoint, interval_ms=30_000, timeout_ms=10_000, backoff_s=0.05)
        async with exporting(config(kafka, prefix, otlp=otlp)) as scraper:
            await scraper.ready()
            page = await scraper.until("agent_events_total", 1_000)
            await until(lambda: bool(receiver.requests))
            accepted = await scraper.until("agent_exporter_otlp_failures_total", 3)
            deadline = time.monotonic() + WAIT_S
            while "\nagent_exporter_otlp_push_timestamp_seconds" not in accepted:
                assert time.monotonic() < deadline
                accepted = await scraper.page()

    expected = {
        frozenset(labels): number for (name, labels), number in series(page).items() if name == "agent_events_total"
    }
    assert expected == {
        labels: number for (name, labels), number in receiver.points().items() if name == "agent_events"
    }
    assert total(series(accepted), "agent_exporter_otlp_points_total", outcome="accepted") > 100
    assert value(series(accepted), "agent_exporter_otlp_push_timestamp_seconds") > 1.7e9
