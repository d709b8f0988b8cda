"""What is stopped, as the workers write it: the breaker and the alert topic, read whole and then followed.

No group, no commits, read_committed.  Silence is no loss: the broker is asked every second how far the topics go, and
only who has read that far says so.
"""

import asyncio
import logging
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError

from streams.errors import EdgeError
from streams.feed.config import EmitterConfig
from streams.feed.ending import ended, started
from streams.feed.guard.source import THREAD_NAME, Heard
from streams.feed.guard.verdicts import BREAKER, STOP
from streams.feed.reach import obstacle
from streams.topology import ALERTS, BREAKERS

ASK_S: Final = 1.0
POLL_MS: Final = 100
STOP_S: Final = 1.0
RECORDS_PER_STEP: Final = 2_000  # decoding them keeps the agent's threads from running for about 4 ms
_FETCH_WAIT_MS: Final = 500  # without news; what is committed is answered at once
_REQUEST_MS: Final = 10_000


class KafkaSource:
    """Follows the two topics through outages: after one it goes on where it was."""

    def __init__(self, config: EmitterConfig) -> None:
        self._config = config
        self._names = {config.topic_prefix + BREAKERS.suffix: BREAKER, config.topic_prefix + ALERTS.suffix: STOP}
        self._positions: dict[TopicPartition, int] = {}

    async def follow(self, heard: Heard) -> None:
        """Read for ever. Raises EdgeError and what aiokafka raises."""
        consumer = AIOKafkaConsumer(
            **self._config.client_arguments(),
            client_id="agent-streams-guard",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            request_timeout_ms=_REQUEST_MS,
        )
        try:
            await started(consumer.start())
            await self._assign(consumer, heard)
            await self._read(consumer, heard)
        except KafkaConnectionError as error:
            found = await obstacle(self._config.client_arguments())
            if found is not None:
                raise EdgeError(str(found), retryable=True) from error
            raise
        finally:
            # Its own end may be cut short, with connections left; there is no other way to those.
            await ended(consumer.stop, consumer._client.close, each_s=STOP_S)  # noqa: SLF001  as above

    async def _assign(self, consumer: Any, heard: Heard) -> None:
        """Go on where we were; begin anew when the topics are not those we knew."""
        partitions = await self._partitions()
        consumer.assign(partitions)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        known = self._positions
        if known.keys() != begins.keys() or any(not begins[tp] <= at <= ends[tp] for tp, at in known.items()):
            heard.standing.clear()
            self._positions = begins
        for tp, position in self._positions.items():
            consumer.seek(tp, position)

    async def _partitions(self) -> list[TopicPartition]:
        """Find the partitions of both topics. Raises EdgeError when one is missing."""
        admin = AIOKafkaAdminClient(**self._config.client_arguments(), client_id="agent-streams-guard")
        try:
            await started(admin.start())
            # Asked for all: naming topics would create them on clusters that create topics by themselves.
            found = {entry["topic"]: len(entry["partitions"]) for entry in await admin.describe_topics()}
        finally:
            await ended(admin.close, each_s=STOP_S)
        if missing := [topic for topic in self._names if not found.get(topic)]:
            raise EdgeError(f"{', '.join(missing)}: missing, or not to be read with this login", retryable=True)
        return [TopicPartition(topic, number) for topic in self._names for number in range(found[topic])]

    async def _read(self, consumer: Any, heard: Heard) -> None:
        asked_s = 0.0
        loop = asyncio.get_running_loop()
        partitions = list(self._positions)
        ends: dict[TopicPartition, int] | None = None
        while True:
            if ends is None and loop.time() - asked_s >= ASK_S:
                ends, asked_s = await consumer.end_offsets(partitions), loop.time()
            try:
                batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_PER_STEP)
            except OffsetOutOfRangeError:
                self._positions = {}  # compacted away or created anew: everything is read again
                raise
            for tp, records in batches.items():
                self._take(heard, self._names[tp.topic], records)
                self._positions[tp] = records[-1].offset + 1
            if batches and heard.ready.is_set():
                heard.show()
            # The last offsets of a partition are transaction marks: positions tell, not records.
            if ends is not None and await self._reached(consumer, ends):
                if not heard.ready.is_set():
                    heard.show()
                heard.alive()
                ends = None

    async def _reached(self, consumer: Any, ends: dict[TopicPartition, int]) -> bool:
        for tp in ends:
            self._positions[tp] = await consumer.position(tp)
        return all(self._positions[tp] >= end for tp, end in ends.items())

    @staticmethod
    def _take(heard: Heard, kind: str, records: Any) -> None:
        for record in records:
            # What people say about an alert (`ack/…`) lies beside it on its topic.
            if record.key is not None and not (kind is STOP and b"/" in record.key):
                heard.standing.take(kind + record.key.decode("utf-8", "replace"), record.value)


class _Hush(logging.Filter):
    """Keeps what aiokafka logs in our thread out of the agent's log; we tell of an outage once."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.threadName != THREAD_NAME


_hush: Final = _Hush()
for _name in (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.consumer",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.subscription_state",
):
    logging.getLogger(_name).addFilter(_hush)
