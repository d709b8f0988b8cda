"""How fast are the topics written to, and how large are their records?  Asked of the logs themselves.

Only looks: joins no group, commits nothing, and reads no more than the newest records of each partition.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.feed.ending import started
from streams.worker.connection import KafkaConnection, edge_errors
from streams.worker.tail import stop_consumer
from streams.worker.topic_plan import Rate

WINDOW_MS: Final = 60 * 60 * 1000  # an hour: long enough to smooth a burst, short enough to be about today
SAMPLE_RECORDS: Final = 200  # per partition, for their mean size
_POLL_MS: Final = 200
_SAMPLE_POLLS: Final = 25  # without progress a sample ends: marks of transactions are offsets without records


async def measure(connection: KafkaConnection, topics: Mapping[str, int], now_ms: int) -> dict[str, Rate]:
    """Return the rates of these topics (full name, partition count) over the last hour; one that is empty is missing.

    Offsets are counted, and marks of transactions are offsets too: a rate may be a few per flush too high.
    """
    with edge_errors(connection, "measuring the topics"):
        consumer = AIOKafkaConsumer(
            **connection.consumer_arguments(),
            client_id="agent-streams-topics",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )
        try:
            await started(consumer.start())
            return await _measure(consumer, topics, now_ms)
        finally:
            await stop_consumer(consumer)


async def _measure(consumer: AIOKafkaConsumer, topics: Mapping[str, int], now_ms: int) -> dict[str, Rate]:
    places = [TopicPartition(name, number) for name, count in topics.items() for number in range(count)]
    await consumer._client.set_topics(set(topics))  # noqa: SLF001  asking for offsets learns one topic per 100 ms
    begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    since = await consumer.offsets_for_times(dict.fromkeys(places, now_ms - WINDOW_MS))
    written: dict[str, int] = {}
    for tp in places:
        first = since[tp].offset if since[tp] is not None else ends[tp]
        written[tp.topic] = written.get(tp.topic, 0) + ends[tp] - first
    sizes = await _sizes(consumer, {tp: max(begins[tp], ends[tp] - SAMPLE_RECORDS) for tp in places}, ends)
    return {name: Rate(written[name] * 1000 / WINDOW_MS, sizes[name]) for name in topics if sizes.get(name)}


async def _sizes(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[str, float]:
    """Return the mean size of each topic's newest records."""
    unread = {tp for tp, start in starts.items() if start < ends[tp]}
    if not unread:
        return {}
    consumer.assign(sorted(unread))
    for tp in unread:
        consumer.seek(tp, starts[tp])
    counted: dict[str, tuple[int, int]] = {}
    polls = 0
    while unread and polls < _SAMPLE_POLLS:
        batches = await consumer.getmany(timeout_ms=_POLL_MS)
        polls = 0 if batches else polls + 1
        for tp, records in batches.items():
            count, total = counted.get(tp.topic, (0, 0))
            counted[tp.topic] = count + len(records), total + sum(map(_bytes, records))
        for tp in list(unread):
            if await consumer.position(tp) >= ends[tp]:
                unread.remove(tp)
                consumer.pause(tp)
    return {name: total / count for name, (count, total) in counted.items()}


def _bytes(record: Any) -> int:
    parts: Iterable[bytes | None] = (record.key, record.value, *(value for _, value in record.headers))
    return sum(len(part) for part in parts if part is not None)
