"""How does a process that owns nothing see what the workers have committed?  It reads topics whole, and on from there.

No group, no commits, read_committed; caught up when positions, not records, have reached the end: the last offsets of
a partition are transaction marks.  Never goes on where it cannot know what it missed.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streams.errors import ConfigError, EdgeError, StateRefused
from streams.feed.ending import started
from streams.worker.connection import KafkaConnection, edge_errors, told_to_stop

_log = logging.getLogger(__name__)

RECORDS_PER_STEP: Final = 2_000  # decoding them holds the loop for about 4 ms
_FETCH_BYTES: Final = 1024 * 1024
_FETCH_WAIT_MS: Final = 250
_RETRY_MS: Final = 300  # between requests to a broker that does not answer
_POLL_MS: Final = 100  # an answer that brings only transaction marks moves the position, but wakes nobody
_ASK_S: Final = 0.02
_STOP_S: Final = 5.0
_BACKOFF_S: Final = 0.5
_BACKOFF_LIMIT_S: Final = 5.0

Records: TypeAlias = Sequence[Any]  # aiokafka's ConsumerRecord, in offset order


async def partition_counts(connection: KafkaConnection, names: Sequence[str]) -> dict[str, int]:
    """Return how many partitions each topic has; asks for no more rights than reading them takes.

    Raises ConfigError when one is missing, EdgeError when Kafka fails.
    """
    async with edge_errors(connection, "looking for the topics"):
        admin = AIOKafkaAdminClient(**connection.client_arguments(), client_id="agent-streams-follower")
        try:
            await started(admin.start())
            # Asked for all: naming topics would create them on clusters that create topics by themselves.
            found = {entry["topic"]: len(entry["partitions"]) for entry in await admin.describe_topics()}
        finally:
            await admin.close()
    missing = [name for name in names if not found.get(name)]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)}: missing at {connection.bootstrap}, or not to be read with this login. "
            "Run: agent-streams topics create, or check prefix and ACLs"
        )
    return {name: found[name] for name in names}


class Followed(NamedTuple):
    """One topic: its full name, its partition count, and who takes its records (partition, records)."""

    topic: str
    partitions: int
    take: Callable[[int, Records], None]


class Follower:
    """Reads its topics from their beginnings for as long as `run` runs, through outages of the broker."""

    def __init__(
        self,
        connection: KafkaConnection,
        client_id: str,
        topics: Sequence[Followed],
        *,
        check_ms: int,
        stall_ms: int,
        request_timeout_ms: int,
    ) -> None:
        self._connection = connection
        self._client_id = client_id
        self._topics = topics
        self._take = {
            TopicPartition(each.topic, number): each.take for each in topics for number in range(each.partitions)
        }
        self._check_ms = check_ms
        self._stall_ms = stall_ms
        self._request_timeout_ms = request_timeout_ms
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] | None = None  # as they were at the start
        self._known_ms: dict[TopicPartition, int] = {}
        self._delay_s = _BACKOFF_S
        self._consumer_now: AIOKafkaConsumer | None = None
        self.caught_up = asyncio.Event()
        self.records = 0

    async def run(self) -> None:
        """Read for ever. Raises StateRefused, EdgeError for what no repetition cures, and what takers raise."""
        while True:
            try:
                with edge_errors(self._connection, "following the tables"):
                    async with self._consumer() as consumer:
                        await self._follow(consumer)
            except EdgeError as error:
                if not error.retryable:
                    raise
                reason = str(error)
            except asyncio.CancelledError:
                if told_to_stop():
                    raise
                reason = "the client gave up a request"
            _log.warning("broker_away attempt_again_s=%.1f error=%s", self._delay_s, reason)
            await asyncio.sleep(self._delay_s)
            self._delay_s = min(self._delay_s * 2, _BACKOFF_LIMIT_S)

    def age_ms(self, now_ms: int) -> int:
        """Return how long ago all that had been committed was known to be read."""
        return max(0, now_ms - min((self._known_ms.get(tp, 0) for tp in self._take), default=now_ms))

    async def reach_end(self, topic: str) -> None:
        """Wait until everything is taken that a topic holds now."""
        mine = [tp for tp in self._take if tp.topic == topic]
        ends: dict[TopicPartition, int] | None = None
        while ends is None or not _reached(self._positions, ends):
            if ends is None and self._consumer_now is not None:
                with contextlib.suppress(KafkaError):  # an outage: asked again
                    ends = await self._consumer_now.end_offsets(mine)
            await asyncio.sleep(_ASK_S)

    @contextlib.asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **self._connection.consumer_arguments(),
            client_id=self._client_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
            request_timeout_ms=self._request_timeout_ms,
            retry_backoff_ms=_RETRY_MS,
            metadata_max_age_ms=self._check_ms,
        )
        try:
            await started(consumer.start())
            self._consumer_now = consumer
            yield consumer
        finally:
            self._consumer_now = None
            await stop_consumer(consumer)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        await self._assign(consumer)
        self._delay_s = _BACKOFF_S
        answered_ms, since = 0, time.monotonic()
        while True:
            try:
                batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=RECORDS_PER_STEP)
            except OffsetOutOfRangeError as error:
                raise StateRefused(
                    f"offsets {error.args[0] if error.args else ''} of the tables are gone: the topics were created "
                    "anew or truncated. Restart this process to read them from their beginning"
                ) from error
            for tp, records in batches.items():
                self._take[tp](tp.partition, records)
                # At once: what was taken must never be taken again, or numbers would go back for a moment.
                self._positions[tp] = records[-1].offset + 1
                self.records += len(records)
            await self._note(consumer)
            self._check_counts(consumer)
            heard_ms = max(consumer.last_poll_timestamp(tp) or 0 for tp in self._take)
            if heard_ms != answered_ms:
                answered_ms, since = heard_ms, time.monotonic()
            elif (time.monotonic() - since) * 1000 > self._stall_ms:
                raise EdgeError(f"no answer for {self._stall_ms} ms: connecting anew", retryable=True)

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        """Read every partition from where we are, or from its beginning."""
        partitions = list(self._take)
        consumer.assign(partitions)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for tp, begin in begins.items():
            position = self._positions.setdefault(tp, begin)
            if not begin <= position <= ends[tp]:
                raise StateRefused(
                    f"{tp.topic} partition {tp.partition} holds offsets {begin} to {ends[tp]}, but was read up to "
                    f"{position}: it was created anew or truncated. Restart this process to read it from its beginning"
                )
            consumer.seek(tp, position)
        self._ends = self._ends or ends

    async def _note(self, consumer: AIOKafkaConsumer) -> None:
        """Note how far we are, and up to which moment we know everything."""
        for tp in self._take:
            position = self._positions[tp] = await consumer.position(tp)
            answered_ms, stable = consumer.last_poll_timestamp(tp), consumer.last_stable_offset(tp)
            if answered_ms is not None and stable is not None and position >= stable:
                self._known_ms[tp] = answered_ms
        if not self.caught_up.is_set() and self._ends is not None and _reached(self._positions, self._ends):
            self.caught_up.set()

    def _check_counts(self, consumer: AIOKafkaConsumer) -> None:
        for each in self._topics:
            found = consumer.partitions_for_topic(each.topic)
            # Nothing is known of a topic while its brokers start: that is an outage, not another count.
            if found and len(found) != each.partitions:
                raise StateRefused(
                    f"{each.topic} has {len(found)} partitions, it had {each.partitions} when this process started. "
                    "State and log share partition numbers: create all topics under a new prefix with the count you "
                    "want, and start workers and exporters with it"
                )


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer and close its connections, whatever state they are in.

    Its own `stop` is left half-way, with every connection open, by the cancellation of a request that waits to be
    repeated: what a broker that is away leaves behind.
    """
    try:
        await asyncio.wait([asyncio.gather(consumer.stop(), return_exceptions=True)], timeout=_STOP_S)
    finally:
        client = consumer._client  # noqa: SLF001  there is no other way to the connections
        await asyncio.wait([asyncio.gather(client.close(), return_exceptions=True)], timeout=_STOP_S)


def _reached(positions: dict[TopicPartition, int], ends: dict[TopicPartition, int]) -> bool:
    return all(positions[tp] >= end for tp, end in ends.items())


def rows_of(records: Records) -> Iterable[tuple[bytes, bytes | None]]:
    """Return keys and values of records."""
    return [(record.key, record.value) for record in records]
