"""What the exporter's tests need: a writer that is not ours, an exporter that runs, and somebody who asks it."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from confluent_kafka import Producer
from fleet import Fleet
from pages import series, total
from through_stages import EVENT_PARTITIONS, ROLLUP_PARTITIONS, Stages

from streams.fold.measure import MEASURES
from streams.fold.rollup import LifetimeHistogram, LifetimeRow, decode_lifetime, encode_row
from streams.sink.view import BUCKETS
from streams.stage.plan import Row
from streams.stage.rollup_rows import LIFETIME
from streams.topology import ROLLUPS_CHANGELOG
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.exporter import Exporter, ExporterConfig
from streams.worker.web import WebConfig

WAIT_S: Final = 90.0
PARTITIONS: Final = {"events": EVENT_PARTITIONS, "rollups": ROLLUP_PARTITIONS}

Sent = tuple[str, int | None, bytes | None, bytes | None]  # topic suffix, partition (None: by key), key, value


class Writer:
    """Writes as workers do: transactions, one after the other; librdkafka's, not ours."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._prefix = prefix
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "transactional.id": f"{prefix}writer", "partitioner": "murmur2_random"}
        )
        self._producer.init_transactions(WAIT_S)

    def commit(self, sent: Iterable[Sent]) -> None:
        """Write records in one transaction."""
        self.begin(sent)
        self._producer.commit_transaction(WAIT_S)

    def abort(self, sent: Iterable[Sent]) -> None:
        """Write records that nobody may ever see."""
        self.begin(sent)
        self._producer.abort_transaction(WAIT_S)

    def begin(self, sent: Iterable[Sent]) -> None:
        """Write records and leave the transaction open; they are on the broker when this returns."""
        self._producer.begin_transaction()
        for suffix, partition, key, each in sent:
            place = {} if partition is None else {"partition": partition}
            self._producer.produce(self._prefix + suffix, key=key, value=each, **place)
        assert not self._producer.flush(WAIT_S)

    def end(self) -> None:
        """Commit what was left open."""
        self._producer.commit_transaction(WAIT_S)


def rows_of(number: int, rows: Iterable[Row]) -> Iterator[Sent]:
    return ((ROLLUPS_CHANGELOG.suffix, number, key, each) for key, each in rows)


def flushes(stages: Stages, begin: int = 0, end: int | None = None) -> Iterator[list[Sent]]:
    """Yield what each of some flushes of the second stage writes."""
    for number, plan in stages.plans[begin:end]:
        yield [*rows_of(number, plan.rows), *((send.topic, None, send.key, send.value) for send in plan.sends)]


def doubled(sent: Iterable[Sent]) -> list[Sent]:
    """Return the same lifetime rows, each with twice its numbers."""
    rows: list[Sent] = []
    for suffix, partition, key, each in sent:
        if key is not None and each is not None and key[:1] == LIFETIME:
            row = decode_lifetime(each)
            row.sums = {name: 2 * count for name, count in row.sums.items()}
            rows.append((suffix, partition, key, encode_row(row)))
    return rows


class Scraper:
    """An exporter that runs, and who asks it."""

    def __init__(self, exporter: Exporter, client: aiohttp.ClientSession, task: asyncio.Task[None]) -> None:
        self.exporter = exporter
        self.task = task
        self._client = client

    async def get(self, path: str = "/metrics", headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        async with self._client.get(f"http://{self.exporter.server.address}{path}", headers=headers) as answer:
            return answer.status, await answer.text()

    async def page(self, headers: Mapping[str, str] | None = None) -> str:
        status, text = await self.get(headers=headers)
        assert status == 200, text
        return text

    async def ready(self) -> None:
        """Wait until it shows pages."""
        deadline = time.monotonic() + WAIT_S
        while (await self.get("/-/ready"))[0] != 200:
            assert not self.task.done(), self.task.exception()
            assert time.monotonic() < deadline, await self.get("/-/ready")
            await asyncio.sleep(0.02)

    async def until(self, name: str, expected: float, /, **labels: str) -> str:
        """Wait until the series of a metric with these labels add up to a number; return that page."""
        deadline = time.monotonic() + WAIT_S
        while True:
            page = await self.page()
            found = total(series(page), name, **labels)
            if found == expected:
                return page
            assert time.monotonic() < deadline, f"{name} is {found}, not {expected}"
            await asyncio.sleep(0.02)


def config(bootstrap: str, prefix: str, **fields: Any) -> ExporterConfig:
    return ExporterConfig(KafkaConnection(bootstrap=bootstrap), prefix, WebConfig(port=0), **fields)


@asynccontextmanager
async def exporting(settings: ExporterConfig) -> AsyncIterator[Scraper]:
    """Run an exporter inside this loop; it is ended, whatever happens."""
    exporter = Exporter(settings)
    task = asyncio.ensure_future(exporter.run())
    try:
        async with aiohttp.ClientSession() as client:
            while not exporter.server.address:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)
            yield Scraper(exporter, client, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def create(bootstrap: str, prefix: str) -> None:
    await topics.create(KafkaConnection(bootstrap=bootstrap), prefix, PARTITIONS, replication=1)


def published(count: int, *, seed: int = 5) -> list[dict[str, Any]]:
    return list(Fleet(seed, sessions=60, step_ms=20, failing_tool="tool-03").events(count))


def through(stages: Stages, events: list[dict[str, Any]], size: int = 400) -> None:
    for begin in range(0, len(events), size):
        stages.publish(events[begin : begin + size])


async def ended(scraper: Scraper) -> BaseException:
    """Return what an exporter has ended with."""
    async with asyncio.timeout(WAIT_S):
        await asyncio.wait([scraper.task])
    error = scraper.task.exception()
    assert error is not None
    return error


def many_rows(round_number: int) -> list[Row]:
    """Return rows of about 10,000 series, different in every round."""
    rows: list[Row] = []
    for number in range(350):
        row = LifetimeRow("tool", (f"tool-{number:03d}",), number, 1_763_724_000_000, 1_763_724_000_000)
        row.sums = {name: round_number + at for at, name in enumerate(MEASURES) if name.startswith("tool")}
        row.histograms = {"tool_duration": LifetimeHistogram(round_number, [round_number] * BUCKETS)}
        rows.append((LIFETIME + f"tool|tool-{number:03d}".encode(), encode_row(row)))
    return rows


async def asked_from_outside(address: str) -> int:
    """Scrape from another process, so that reading the page takes none of our loop's time; return its lines."""
    program = f"import urllib.request as r; print(len(r.urlopen('http://{address}/metrics').readlines()))"
    asking = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    out, _ = await asking.communicate()
    return int(out)
