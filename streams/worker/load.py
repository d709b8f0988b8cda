"""How does a partition come back?  Fence, read its changelog in bulk, and refuse what does not fit the log.

Never runs inside a rebalance callback: aiokafka sends no heartbeats there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from streams.errors import ConfigError, EdgeError, StateRefused
from streams.topology import TOPICS
from streams.worker.config import WorkerConfig
from streams.worker.counters import Counters
from streams.worker.flush import Writer
from streams.worker.partition import Partition, monotonic_ms

_log = logging.getLogger(__name__)

_FENCES_AT_ONCE: Final = 8
_FETCH_BYTES: Final = 1024 * 1024  # per partition; some 25,000 rows, decoded without a pause
_POLL_MS: Final = 20  # a fetch that brings only transaction marks moves the position, but wakes nobody


class Log(NamedTuple):
    """What the broker holds of a source partition, and what the group has committed."""

    begin: int
    end: int
    committed: int | None


async def load(
    config: WorkerConfig,
    partitions: Sequence[Partition],
    ask_committed: Callable[[list[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]],
    counters: Counters,
) -> None:
    """Take these partitions over and read their states; all are `loaded` when it returns.

    The group's offsets are asked for after the fence and before the read: they are written in the same transactions as
    the states, so a state that is behind them was read too early.

    Raises StateRefused when state and log do not fit, and what aiokafka raises while the broker is away.
    """
    started_ms, rows_before = monotonic_ms(), counters.rows_loaded
    writers = await _fence(partitions)
    counts = await _partition_counts(config, writers[0])
    for partition in partitions:
        _check_count(config, partition, counts)
        partition.begin(counts)
    places = [tp for partition in partitions for tp in (partition.source, partition.changelog)]
    async with _reader(config) as reader:
        # All topics at once; asking for offsets learns one topic per 100 ms.
        await reader._client.set_topics({tp.topic for tp in places})  # noqa: SLF001  no public way
        begins = await reader.beginning_offsets(places)
        committed = await ask_committed([partition.source for partition in partitions])
        ends = await reader.end_offsets(places)
        await _read(reader, partitions, begins, ends, counters)
    for partition in partitions:
        source = partition.source
        log = Log(begins[source], ends[source], committed.get(source))
        next_offset = partition.build()
        # State and group offset are one transaction, so the group's is this one, also when it has just moved.
        partition.stand(start_offset(source, next_offset, log), committed=next_offset)
    took_ms = monotonic_ms() - started_ms
    counters.loads += len(partitions)
    counters.load_ms += took_ms
    _log.info(
        "partitions_loaded partitions=%s rows=%d ms=%.0f",
        ",".join(map(repr, partitions)),
        counters.rows_loaded - rows_before,
        took_ms,
    )


def start_offset(source: TopicPartition, next_offset: int | None, log: Log) -> int:
    """Return where to read on; pure. Raises StateRefused when records between state and log are missing."""
    place = f"{source.topic} partition {source.partition}"
    if next_offset is None:
        if log.committed is not None:
            raise StateRefused(
                f"the state of {place} is gone: the group has committed offset {log.committed}, but the changelog has "
                "no row that says so. Counting again from the log would double what was already passed on: restore "
                "the changelog topic, or start anew under another prefix"
            )
        return log.begin
    if log.committed is not None and log.committed > next_offset:
        raise EdgeError(
            f"the state of {place} ends at {next_offset}, but the group has committed {log.committed}: the changelog "
            "cannot be read to its end yet. If this does not pass, somebody moved the group's offsets: move them back",
            retryable=True,
        )
    if next_offset > log.end:
        raise StateRefused(
            f"the log of {place} ends at {log.end}, but its state goes on at {next_offset}: the topic was created "
            "anew or has lost records. Restore the topic, or start anew under another prefix"
        )
    if next_offset < log.begin:
        raise StateRefused(
            f"the log of {place} begins at {log.begin}, but its state goes on at {next_offset}: "
            f"{log.begin - next_offset} records were deleted before they were read. Lengthen the retention, and start "
            "anew under another prefix"
        )
    return next_offset


async def _fence(partitions: Sequence[Partition]) -> list[Writer]:
    few = asyncio.Semaphore(_FENCES_AT_ONCE)

    async def fence(partition: Partition) -> Writer:
        async with few:
            return await partition.fence()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fence(partition)) for partition in partitions]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # they fail alike, and none is better than another
    return [task.result() for task in tasks]


async def _partition_counts(config: WorkerConfig, writer: Writer) -> dict[str, int]:
    """Return how many partitions each declared topic has, by suffix."""
    counts, missing = {}, []
    for topic in TOPICS:
        try:
            counts[topic.suffix] = await writer.partition_count(config.topic(topic.suffix))
        except UnknownTopicOrPartitionError:
            missing.append(config.topic(topic.suffix))
    if missing:
        raise ConfigError(
            f"missing topics: {', '.join(missing)}. Run: agent-streams topics create --prefix {config.prefix}"
        )
    return counts


def _check_count(config: WorkerConfig, partition: Partition, counts: Mapping[str, int]) -> None:
    """Refuse when source and changelog do not share their partition numbers, or this number is gone."""
    stage = partition.stage
    source, changelog = counts[stage.source.suffix], counts[stage.changelog.suffix]
    if source != changelog or partition.source.partition >= source:
        raise StateRefused(
            f"{config.topic(stage.source.suffix)} has {source} partitions and its changelog "
            f"{config.topic(stage.changelog.suffix)} has {changelog}, for partition {partition.source.partition}: "
            "state and log share partition numbers. Create all topics under a new prefix with the count you want"
        )


class _reader:  # noqa: N801  used as a function
    """A consumer of its own for bulk reading; no group, no prefetch of anything else."""

    def __init__(self, config: WorkerConfig) -> None:
        self._consumer = AIOKafkaConsumer(
            **config.connection.client_arguments(),
            client_id=f"{config.group_id}-loader",
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=config.fetch_wait_ms,
            max_partition_fetch_bytes=_FETCH_BYTES,
            request_timeout_ms=config.request_timeout_ms,
        )

    async def __aenter__(self) -> AIOKafkaConsumer:
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise
        return self._consumer

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()


async def _read(
    reader: AIOKafkaConsumer,
    partitions: Sequence[Partition],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    counters: Counters,
) -> None:
    """Read until the position, not a record, has reached the end: the last offsets are transaction marks."""
    unread = {p.changelog: p for p in partitions if begins[p.changelog] < ends[p.changelog]}
    if not unread:
        return
    reader.assign(list(unread))
    for tp in unread:
        reader.seek(tp, begins[tp])
    while unread:
        for tp, records in (await reader.getmany(timeout_ms=_POLL_MS)).items():
            if tp in unread:
                unread[tp].load([(record.key, record.value) for record in records])
                counters.rows_loaded += len(records)
                await asyncio.sleep(0)
        for tp in list(unread):
            if await reader.position(tp) >= ends[tp]:
                del unread[tp]
                reader.pause(tp)
