"""Following topics: everything once and in order, whatever the client library does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from confluent_kafka import Producer
from exporting import WAIT_S, create

from streams.errors import ConfigError
from streams.topology import ALERTS
from streams.worker.connection import KafkaConnection
from streams.worker.tail import Followed, Follower, Records, partition_counts

pytestmark = pytest.mark.kafka

COUNT: Final = 5_000


class Taker:
    """Remembers what it was given; may be told to fail once, as the client library does."""

    def __init__(self) -> None:
        self.taken: dict[int, list[int]] = {}
        self.fail: BaseException | None = None

    def take(self, partition: int, records: Records) -> None:
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error
        self.taken.setdefault(partition, []).extend(int(record.value) for record in records)

    @property
    def count(self) -> int:
        return sum(map(len, self.taken.values()))


def write(kafka: str, topic: str, begin: int, count: int) -> None:
    failed: list[object] = []

    def delivered(error: object, _: object) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer({"bootstrap.servers": kafka})
    for number in range(begin, begin + count):
        text = b"%d" % number
        producer.produce(topic, text, text, number % 2, on_delivery=delivered)
    assert not producer.flush(WAIT_S)
    assert not failed


@asynccontextmanager
async def following(kafka: str, topic: str, taker: Taker) -> AsyncIterator["asyncio.Task[None]"]:
    follower = Follower(
        KafkaConnection(bootstrap=kafka),
        "tests",
        [Followed(topic, 2, taker.take)],
        check_ms=10_000,
        stall_ms=30_000,
        request_timeout_ms=15_000,
    )
    task = asyncio.ensure_future(follower.run())
    try:
        async with asyncio.timeout(WAIT_S):
            waiting = asyncio.ensure_future(follower.caught_up.wait())
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(taker: Taker, count: int, task: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(WAIT_S):
        while taker.count < count:
            assert not task.done(), "it has ended without a word"
            await asyncio.sleep(0.02)


async def test_everything_is_taken_once_and_in_order(kafka: str, prefix: str) -> None:
    await create(kafka, prefix)
    topic, taker = prefix + ALERTS.suffix, Taker()
    await asyncio.to_thread(write, kafka, topic, 0, COUNT)
    async with following(kafka, topic, taker) as task:
        assert COUNT == taker.count, "it is caught up when it has taken all that was there"
        await asyncio.to_thread(write, kafka, topic, COUNT, COUNT)
        await until(taker, 2 * COUNT, task)

    assert {0: list(range(0, 2 * COUNT, 2)), 1: list(range(1, 2 * COUNT, 2))} == taker.taken


async def test_a_cancellation_that_is_not_ours_does_not_end_it(kafka: str, prefix: str) -> None:
    """The client library lets those of its own requests out; a task that ends so ends without a word."""
    await create(kafka, prefix)
    topic, taker = prefix + ALERTS.suffix, Taker()
    async with following(kafka, topic, taker) as task:
        taker.fail = asyncio.CancelledError()
        await asyncio.to_thread(write, kafka, topic, 0, COUNT)
        await until(taker, COUNT, task)

    assert {0: list(range(0, COUNT, 2)), 1: list(range(1, COUNT, 2))} == taker.taken


async def test_what_a_taker_raises_ends_it(kafka: str, prefix: str) -> None:
    await create(kafka, prefix)
    topic, taker = prefix + ALERTS.suffix, Taker()
    taker.fail = ConfigError("enough")
    await asyncio.to_thread(write, kafka, topic, 0, 10)
    async with following(kafka, topic, taker) as task:
        await asyncio.wait([task], timeout=WAIT_S)

        with pytest.raises(ConfigError, match="enough"):
            task.result()


async def test_partitions_are_counted_and_missing_topics_named(kafka: str, prefix: str) -> None:
    connection = KafkaConnection(bootstrap=kafka)
    await create(kafka, prefix)
    known = prefix + ALERTS.suffix

    assert {known: 2} == await partition_counts(connection, [known])
    with pytest.raises(ConfigError, match="nowhere: missing at"):
        await partition_counts(connection, [known, "nowhere"])
