"""How does a partition come back?  Fence, read its changelog in bulk, and refuse what does not fit the log.

Never runs inside a rebalance callback: aiokafka sends no heartbeats there.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from streams.errors import ConfigError, EdgeError, StateRefused
from streams.feed.ending import started
from streams.rule.records import rfc3339
from streams.stage.plan import Anchor
from streams.topology import EVENTS, NOTIFY_CHANGELOG, STAGES, TOPICS
from streams.worker.config import WorkerConfig
from streams.worker.counters import Counters
from streams.worker.flush import Writer
from streams.worker.hanging import open_transactions
from streams.worker.partition import Partition, monotonic_ms
from streams.worker.tail import stop_consumer

_log = logging.getLogger(__name__)

_FENCES_AT_ONCE: Final = 8
_FETCH_BYTES: Final = 1024 * 1024  # per partition; some 25,000 rows, decoded without a pause
_MARKED_MS: Final = 5_000  # a coordinator answers before the marks are written, which takes milliseconds
_POLL_MS: Final = 20  # a fetch that brings only transaction marks moves the position, but wakes nobody


# A worker runs without the topic that is notify's alone, and needs no rights to it.
_OURS: Final = [topic for topic in TOPICS if topic != NOTIFY_CHANGELOG]
# What a plan may write to beside its changelog.
_OUTPUTS: Final = [topic for topic in _OURS if topic != EVENTS and topic not in [stage.changelog for stage in STAGES]]


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

    A transaction whose end the broker has lost is ended first, as its other partitions show it: see `_settle`.

    Raises StateRefused when state and log do not fit, and what aiokafka raises while the broker is away.
    """
    started_ms, rows_before = monotonic_ms(), counters.rows_loaded
    writers = await _fence(partitions)
    counts = await _partition_counts(config, writers[0])
    for partition in partitions:
        _check_count(config, partition, counts)
        partition.begin(counts)
    hanging = await _hanging(config, partitions, writers, counts)
    places = [tp for partition in partitions for tp in (partition.source, partition.changelog)]
    async with _reader(config) as reader:
        # All topics at once; asking for offsets learns one topic per 100 ms.
        await reader._client.set_topics({tp.topic for tp in places})  # noqa: SLF001  no public way
        begins = await reader.beginning_offsets(places)
        committed = await ask_committed([partition.source for partition in partitions])
        ends = await reader.end_offsets(places)
        for partition in partitions:
            _check_whole(partition.changelog, begins[partition.changelog])
        lasts = await _read(reader, partitions, begins, ends, counters)
        built = [(partition, partition.build()) for partition in partitions]
        anchors = {partition.source: partition.anchor for partition in partitions}
        strange = await strangers(reader, anchors, begins, ends)
    if hanging:
        for (partition, next_offset), writer in zip(built, writers, strict=True):
            if open_places := hanging.get(partition):
                known = committed.get(partition.source)
                commit = await _was_committed(config, partition, open_places, next_offset, known, lasts)
                await _settle(partition, writer, open_places, commit=commit)
        raise EdgeError("transactions that the broker had left open are ended now: reading again", retryable=True)
    for partition, next_offset in built:
        source = partition.source
        if source in strange:
            raise StateRefused(strange[source])
        log = Log(begins[source], ends[source], committed.get(source))
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


def _check_whole(changelog: TopicPartition, begin: int) -> None:
    """Refuse a changelog that has lost records; compaction lets none go that counts, and keeps the beginning."""
    if begin > 0:
        raise StateRefused(lost_rows(changelog, begin))


def lost_rows(changelog: TopicPartition, begin: int) -> str:
    """Say what a changelog that begins later has lost."""
    return (
        f"{changelog.topic} partition {changelog.partition} begins at offset {begin}, expected 0: records were deleted "
        "from it, by a retention or by somebody, and with them rows that nobody knows any more. Restore the topic (its "
        "cleanup.policy must be compact alone), or start anew under another prefix"
    )


async def strangers(
    reader: AIOKafkaConsumer,
    anchors: Mapping[TopicPartition, Anchor | None],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> dict[TopicPartition, str]:
    """Return what is wrong with logs that do not hold the record their state knows them by.

    A topic that was deleted, created anew and filled again has the same offsets, but never the same times. A record
    that retention has taken proves nothing.
    """
    wanted = {tp: each for tp, each in anchors.items() if each and begins[tp] <= each.offset < ends[tp]}
    found: dict[TopicPartition, int] = {}
    async for tp, records in _records(
        reader, {tp: each.offset for tp, each in wanted.items()}, {tp: each.offset + 1 for tp, each in wanted.items()}
    ):
        if records[0].offset == wanted[tp].offset:
            found.setdefault(tp, records[0].timestamp)
    return {
        tp: (
            f"{tp.topic} partition {tp.partition} holds another record at offset {each.offset} than its state was made "
            f"of: of {rfc3339(found[tp]) if tp in found else 'no time at all'}, not of {rfc3339(each.time_ms)}. The "
            "topic was created anew. Restore it, or start anew under another prefix"
        )
        for tp, each in wanted.items()
        if found.get(tp) != each.time_ms
    }


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
    for topic in _OURS:
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


async def _hanging(
    config: WorkerConfig, partitions: Sequence[Partition], writers: Sequence[Writer], counts: Mapping[str, int]
) -> dict[Partition, list[TopicPartition]]:
    """Return where transactions of these partitions are open after their fence: the broker has lost their ends.

    Raises StateRefused when a changelog has an open transaction of a producer that is not its writer.
    """
    changelogs = [partition.changelog for partition in partitions]
    outputs = [
        TopicPartition(config.topic(topic.suffix), number)
        for topic in _OUTPUTS
        for number in range(counts[topic.suffix])
    ]
    found = await open_transactions(writers[0].client, [*changelogs, *outputs])
    hanging: dict[Partition, list[TopicPartition]] = {}
    for partition, writer in zip(partitions, writers, strict=True):
        strangers = found.get(partition.changelog, {}).keys() - {writer.producer_id}
        for producer_id in strangers:
            raise StateRefused(_stranger(partition.changelog, producer_id, found[partition.changelog][producer_id]))
        open_places = [tp for tp, begun in found.items() if writer.producer_id in begun]
        if open_places:
            hanging[partition] = open_places
    return hanging


def _stranger(changelog: TopicPartition, producer_id: int, offset: int) -> str:
    return (
        f"{changelog.topic} partition {changelog.partition} has an open transaction of producer {producer_id} from "
        f"offset {offset}, which only its worker may write to: either the broker lost its end, as Kafka 4.2 to 4.4 do "
        "when a partition has no leader (KAFKA-20734), or somebody else writes there. End the other writer, then: "
        f"kafka-transactions.sh abort --topic {changelog.topic} --partition {changelog.partition} "
        f"--start-offset {offset}"
    )


async def _was_committed(
    config: WorkerConfig,
    partition: Partition,
    open_places: Sequence[TopicPartition],
    next_offset: int | None,
    group_offset: int | None,
    lasts: Mapping[TopicPartition, int],
) -> bool:
    """Judge what was decided about the last transaction by those of its partitions that did get its end.

    Every transaction writes the changelog and the group's offset.  Where neither has its end nobody has seen any of
    it, so it may as well never have been: its records are folded again.
    """
    if partition.changelog not in open_places:
        return lasts.get(partition.changelog) == await _last_record(config, partition.changelog)
    return group_offset is not None and (next_offset is None or group_offset > next_offset)


async def _settle(partition: Partition, writer: Writer, places: Sequence[TopicPartition], *, commit: bool) -> None:
    """End an open transaction in these places, and make sure of it."""
    named = ",".join(f"{tp.topic}-{tp.partition}" for tp in places)
    _log.warning("transaction_left_open partition=%r commit=%s places=%s", partition, commit, named)
    await writer.settle(places, commit=commit)
    deadline_ms = monotonic_ms() + _MARKED_MS
    while any(writer.producer_id in begun for begun in (await open_transactions(writer.client, places)).values()):
        if monotonic_ms() > deadline_ms:
            raise StateRefused(
                f"{partition!r}: its transaction in {named} stays open whatever we do. "
                "Find it with kafka-transactions.sh find-hanging, end it with abort, and start again"
            )
        await asyncio.sleep(_POLL_MS / 1000)


async def _last_record(config: WorkerConfig, tp: TopicPartition) -> int | None:
    """Return the offset of the newest record, whether it was committed or not."""
    async with _reader(config, isolation_level="read_uncommitted") as reader:
        await reader._client.set_topics({tp.topic})  # noqa: SLF001  no public way
        begin, end = (await reader.beginning_offsets([tp]))[tp], (await reader.end_offsets([tp]))[tp]
        last: int | None = None
        async for _, records in _records(reader, {tp: begin}, {tp: end}):
            last = records[-1].offset
        return last


class _reader:  # noqa: N801  used as a function
    """A consumer of its own for bulk reading; no group, no prefetch of anything else."""

    def __init__(self, config: WorkerConfig, *, isolation_level: str = "read_committed") -> None:
        self._consumer = AIOKafkaConsumer(
            **config.connection.consumer_arguments(),
            client_id=f"{config.group_id}-loader",
            auto_offset_reset="none",
            isolation_level=isolation_level,
            fetch_max_wait_ms=config.fetch_wait_ms,
            max_partition_fetch_bytes=_FETCH_BYTES,
            request_timeout_ms=config.request_timeout_ms,
        )

    async def __aenter__(self) -> AIOKafkaConsumer:
        try:
            await started(self._consumer.start())
        except BaseException:
            await stop_consumer(self._consumer)
            raise
        return self._consumer

    async def __aexit__(self, *_: object) -> None:
        await stop_consumer(self._consumer)


async def _read(
    reader: AIOKafkaConsumer,
    partitions: Sequence[Partition],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    counters: Counters,
) -> dict[TopicPartition, int]:
    """Load the changelogs; return the offset of each one's last record."""
    unread = {p.changelog: p for p in partitions}
    lasts: dict[TopicPartition, int] = {}
    async for tp, records in _records(reader, {tp: begins[tp] for tp in unread}, ends):
        unread[tp].load([(record.key, record.value) for record in records])
        lasts[tp] = records[-1].offset
        counters.rows_loaded += len(records)
    return lasts


async def _records(
    reader: AIOKafkaConsumer, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> AsyncIterator[tuple[TopicPartition, Sequence[Any]]]:
    """Read until the position, not a record, has reached the end: the last offsets are transaction marks."""
    unread = {tp for tp, begin in begins.items() if begin < ends[tp]}
    if not unread:
        return
    reader.assign(list(unread))
    for tp in unread:
        reader.seek(tp, begins[tp])
    while unread:
        for tp, records in (await reader.getmany(timeout_ms=_POLL_MS)).items():
            if tp in unread:
                yield tp, records
                await asyncio.sleep(0)
        for tp in list(unread):
            if await reader.position(tp) >= ends[tp]:
                unread.remove(tp)
                reader.pause(tp)
