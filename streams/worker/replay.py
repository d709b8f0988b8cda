"""How do events get into a fresh prefix, exactly once and as they were?  A range of a log, copied in transactions.

Never touches the prefix it reads, and never writes into state that something else has begun.

What is copied and where it goes on are one transaction: offsets are committed as those of a group of the new prefix,
so a replay that was cut off goes on where it ended, and one that is run again copies what has come since.  Records keep
their partition where the counts are equal, their key, headers and time: the new topic takes producers' times until the
replay has caught up.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.structs import OffsetAndMetadata

from streams.errors import ConfigError, StateRefused
from streams.feed.ending import started
from streams.stage.erasing import ERASE_PARTITION, Erasures, command_of
from streams.stage.keys import partition_of
from streams.topology import COMMANDS, COMMANDS_CHANGELOG, EVENTS, STAGES
from streams.worker import topics
from streams.worker.connection import KafkaConnection, edge_errors
from streams.worker.looking import read_whole
from streams.worker.tail import Records, partition_counts, rows_of, stop_consumer

GROUP: Final = "replay"  # after the new prefix; also its transactional id
BATCH_RECORDS: Final = 2_000  # per transaction: well within its timeout, and a crash reads few again
EARLIEST: Final = "earliest"
_POLL_MS: Final = 200
_TRANSACTION_MS: Final = 60_000
_STAMPED: Final = "message.timestamp.type"
_PRODUCERS: Final = "CreateTime"
_ATTEMPTS: Final = 40
_AGAIN_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Route:
    """From which prefix and time to which prefix; `from_ms` None: from the oldest record there is."""

    source: str
    target: str
    from_ms: int | None
    partitions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Done:
    """What a replay has done: records copied now, where each partition of the source goes on, and by which times."""

    source: str
    target: str
    copied: int
    resumed: bool
    offsets: dict[int, int]
    same_partitions: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


async def replay(kafka: KafkaConnection, route: Route, progress: Callable[[int], None] | None = None) -> Done:
    """Copy the range, up to where the source ends now; ConfigError and StateRefused say what cannot be right."""
    source, target = route.source + EVENTS.suffix, route.target + EVENTS.suffix
    if route.source == route.target:
        raise ConfigError(f"--to-prefix: {route.target} is where the events are; expected another one")
    counts = await partition_counts(kafka, [source])
    offsets = await _goes_on(kafka, route.target, source)
    if not offsets:
        await _prepare(kafka, route, counts[source])
    await _erase(kafka, route)
    await topics.alter(kafka, {target: {_STAMPED: _PRODUCERS}})
    wide = (await partition_counts(kafka, [target]))[target]
    with edge_errors(kafka, f"copying {source} to {target}"):
        async with _Copying(kafka, route.target, source, counts[source]) as copying:
            starts = await copying.starts(route.from_ms, offsets)
            copied = await copying.copy(starts, target, wide, progress or _silent)
            ends = copying.reached
    await topics.alter(kafka, {target: {_STAMPED: EVENTS.config[_STAMPED]}})
    return Done(source, target, copied, bool(offsets), ends, wide == counts[source])


async def _prepare(kafka: KafkaConnection, route: Route, count: int) -> None:
    """Make the topics of the new prefix, and refuse one that has lived."""
    await topics.create(kafka, route.target, {EVENTS.suffix: count, **route.partitions})
    written = await _written(kafka, route.target)
    if written:
        raise StateRefused(
            f"{', '.join(written)}: not empty, and no replay of ours has written there. Events that are copied beside "
            "others would be counted beside them: choose a prefix that nobody uses"
        )


async def _erase(kafka: KafkaConnection, route: Route) -> None:
    """Have the new prefix forget whom the old one has forgotten, before it hears of them; a repeat is none."""
    erasures = Erasures()

    def take(_suffix: str, _partition: int, records: Records) -> None:
        erasures.take(rows_of(records))

    await read_whole(kafka, route.source, [COMMANDS_CHANGELOG.suffix], take)
    topic = route.target + COMMANDS.suffix
    with edge_errors(kafka, f"publishing to {topic}"):
        producer = AIOKafkaProducer(
            **kafka.client_arguments(), client_id="agent-streams-replay", enable_idempotence=True
        )
        try:
            await started(producer.start())
            for row in sorted(erasures.rows.values(), key=lambda each: each.version):
                value = msgspec.json.encode(command_of(row))
                await producer.send_and_wait(topic, value, key=row.command.encode(), partition=ERASE_PARTITION)
        finally:
            await producer.stop()


async def _written(kafka: KafkaConnection, prefix: str) -> list[str]:
    names = [prefix + topic.suffix for stage in STAGES for topic in (stage.source, stage.changelog)]
    counts = await partition_counts(kafka, names)
    places = [TopicPartition(name, number) for name in names for number in range(counts[name])]
    with edge_errors(kafka, f"looking at {prefix}"):
        consumer = AIOKafkaConsumer(**kafka.consumer_arguments(), client_id="agent-streams-replay")
        try:
            await started(consumer.start())
            await consumer._client.set_topics(set(names))  # noqa: SLF001  asking learns one topic per 100 ms
            ends = await consumer.end_offsets(places)
        finally:
            await stop_consumer(consumer)
    return sorted({tp.topic for tp, end in ends.items() if end > 0})


async def _goes_on(kafka: KafkaConnection, target: str, source: str) -> dict[TopicPartition, int]:
    """Return where an earlier run has ended."""
    with edge_errors(kafka, "asking how far the replay is"):
        admin = AIOKafkaAdminClient(**kafka.client_arguments(), client_id="agent-streams-replay")
        try:
            await started(admin.start())
            for attempt in range(_ATTEMPTS):
                try:
                    await admin.find_coordinator(target + GROUP)
                    break
                except GroupCoordinatorNotAvailableError:  # a cluster that never had any group makes its first one
                    if attempt == _ATTEMPTS - 1:
                        raise
                    await asyncio.sleep(_AGAIN_S)
            found = await admin.list_consumer_group_offsets(target + GROUP)
        finally:
            await admin.close()
    return {tp: each.offset for tp, each in found.items() if tp.topic == source and each.offset >= 0}


class _Copying:
    """One run: a reader of the source, and the one producer that may write for this replay."""

    def __init__(self, kafka: KafkaConnection, target: str, source: str, count: int) -> None:
        self._group = target + GROUP
        self._places = [TopicPartition(source, number) for number in range(count)]
        self.reached: dict[int, int] = {}
        self._consumer = AIOKafkaConsumer(
            **kafka.consumer_arguments(),
            client_id="agent-streams-replay",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )
        self._producer = AIOKafkaProducer(
            **kafka.client_arguments(),
            client_id="agent-streams-replay",
            transactional_id=self._group,
            transaction_timeout_ms=_TRANSACTION_MS,
            max_request_size=int(EVENTS.config["max.message.bytes"]),
        )

    async def __aenter__(self) -> Self:
        try:
            await started(self._producer.start())  # it ends the open transaction of a run that was cut off
            await started(self._consumer.start())
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_consumer(self._consumer)
        await self._producer.stop()

    async def starts(self, from_ms: int | None, goes_on: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Return where to begin; StateRefused when the log no longer has what was asked for."""
        await self._consumer._client.set_topics({self._places[0].topic})  # noqa: SLF001  there is no public way
        begins: dict[TopicPartition, int] = await self._consumer.beginning_offsets(self._places)
        ends = await self._consumer.end_offsets(self._places)
        if goes_on:
            starts = {tp: goes_on.get(tp, begins[tp]) for tp in self._places}
            for tp, start in starts.items():
                if not begins[tp] <= start <= ends[tp]:
                    raise StateRefused(
                        f"{tp.topic} partition {tp.partition} holds offsets {begins[tp]} to {ends[tp]}, the replay "
                        f"goes on at {start}: what lies between is gone. Begin anew with another --to-prefix"
                    )
            return starts
        if from_ms is None:
            return begins
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._places, from_ms))
        starts = {tp: ends[tp] if found[tp] is None else found[tp].offset for tp in self._places}
        for tp, start in starts.items():
            if start == begins[tp] > 0:
                oldest_ms = "none" if found[tp] is None else found[tp].timestamp
                raise StateRefused(
                    f"{tp.topic} partition {tp.partition} begins at offset {start}, time {oldest_ms}: records from "
                    f"{from_ms} on may be gone already, and totals since then cannot be right. Begin later, or take "
                    f"what there is: --from {EARLIEST}"
                )
        return starts

    async def copy(
        self, starts: Mapping[TopicPartition, int], target: str, wide: int, progress: Callable[[int], None]
    ) -> int:
        """Copy from there to the end as it is now; return how many records."""
        ends = await self._consumer.end_offsets(self._places)
        unread = {tp for tp, start in starts.items() if start < ends[tp]}
        self.reached = {tp.partition: start for tp, start in starts.items()}
        copied = 0
        self._consumer.assign(self._places)
        for tp, start in starts.items():
            self._consumer.seek(tp, start)
            if tp not in unread:
                self._consumer.pause(tp)
        if not unread:
            # An empty range is a beginning too: what is committed says that this prefix is the replay's.
            await self._transact({}, target, wide)
        while unread:
            batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=BATCH_RECORDS)
            for tp in self._places:
                self.reached[tp.partition] = await self._consumer.position(tp)
            await self._transact(batches, target, wide)
            copied += sum(map(len, batches.values()))
            progress(copied)
            for tp in [tp for tp in unread if self.reached[tp.partition] >= ends[tp]]:
                unread.remove(tp)
                self._consumer.pause(tp)
        return copied

    async def _transact(self, batches: Mapping[TopicPartition, Any], target: str, wide: int) -> None:
        same = wide == len(self._places)
        offsets = {tp: OffsetAndMetadata(self.reached[tp.partition], "") for tp in self._places}
        async with self._producer.transaction():
            sent = [
                await self._producer.send(
                    target,
                    record.value,
                    key=record.key,
                    partition=tp.partition if same else partition_of(record.key or b"", wide),
                    timestamp_ms=record.timestamp,
                    headers=list(record.headers),
                )
                for tp, records in batches.items()
                for record in records
            ]
            await asyncio.gather(*sent)
            await self._producer.send_offsets_to_transaction(offsets, self._group)


def _silent(_: int) -> None:
    """Show nothing."""
