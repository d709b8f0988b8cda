"""OTLP that is on Kafka already, as a collector's exporter writes it: each record's events exactly once.

What was read and what was made of it are one transaction.  Each partition has a producer of its own whose transactional
id fences whoever owned the partition before; only then is asked how far that one got.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import ProducerFenced
from prometheus_client.exposition import choose_encoder

from streams.errors import EdgeError, Fenced
from streams.event.redact import REDACTOR, Redactor
from streams.feed.batch import Record
from streams.feed.compression import compression
from streams.feed.ending import started
from streams.topology import EVENTS
from streams.worker.connection import KafkaConnection, edge_errors, told_to_stop
from streams.worker.ingest_codec import Translator, looks_like_json
from streams.worker.ingest_health import Counters, registry_of, strange_route
from streams.worker.ingest_produce import REQUEST_BYTES_MAX
from streams.worker.ingest_records import Signal
from streams.worker.process import until_signal
from streams.worker.web import Page, WebConfig, WebServer

_log: Final = logging.getLogger(__name__)
RECORDS_MAX: Final = 200  # of one transaction: a record of a collector holds up to some thousand spans
POLL_MS: Final = 200
TRANSACTION_MS: Final = 10_000  # how long the open transaction of a dead owner blocks readers
_BACKOFF_S: Final = 0.5
_BACKOFF_LIMIT_S: Final = 10.0
# How a topic's name ends tells what its records hold; the first three are a collector's defaults.
ENDINGS: Final = {
    "spans": Signal.TRACES,
    "logs": Signal.LOGS,
    "metrics": Signal.METRICS,
    "traces": Signal.TRACES,
}


def signal_of(topic: str) -> Signal | None:
    """Tell by its name what a topic holds; None when it does not say."""
    return next((signal for ending, signal in ENDINGS.items() if topic.endswith(ending)), None)


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """Which topic is read, and where the process says how it is."""

    connection: KafkaConnection
    topic: str
    signal: Signal
    web: WebConfig
    prefix: str = "agent."
    claude_code: str = "events"
    redactor: Redactor | None = field(default=REDACTOR, repr=False)

    @property
    def group(self) -> str:
        """Name the consumer group; every topic has its own."""
        return f"{self.prefix}ingest-otlp.{self.topic}"


class TopicIngest:
    """One process of the group that reads the topic."""

    title = "AgentStreams OTLP from a topic"
    formats = ("prometheus",)

    def __init__(self, config: TopicConfig) -> None:
        self._config = config
        self.counters = Counters.of(Signal)
        self.translator = Translator(config.redactor, claude_code=config.claude_code)
        self.held_bytes = 0
        self.failures = 0
        self.up = False
        self.strange = self.translator.strange
        self._registry = registry_of(self)
        self.server = WebServer(config.web, self, [strange_route(self.strange)])

    async def run(self) -> None:
        """Read for ever. Raises ConfigError, Fenced, and EdgeError for what no repetition cures."""
        await self.server.start()
        delay_s = _BACKOFF_S
        try:
            while True:
                reading = _Reading(self, self._config)
                try:
                    await reading.run()
                except EdgeError as error:
                    if not error.retryable:
                        raise
                    self.failures += 1
                    delay_s = _BACKOFF_S if reading.carried else min(delay_s * 2, _BACKOFF_LIMIT_S)
                    _log.warning("broker_away attempt_again_s=%.1f error=%s", delay_s, error)
                except asyncio.CancelledError:
                    if told_to_stop():
                        raise
                    self.failures += 1
                finally:
                    self.up = False
                    await reading.close()
                await asyncio.sleep(delay_s)
        finally:
            await self.server.stop()

    # ---- what the server asks ---------------------------------------------------------------------------------

    @property
    def producing(self) -> "TopicIngest":
        """Return what writes to Kafka: this."""
        return self

    @property
    def connections(self) -> int:
        """How many are connected."""
        return self.server.connections

    def unready(self) -> str | None:
        """Say why nothing is read."""
        return None if self.up else "waiting for Kafka"

    async def page(self, accept: str, wanted: str | None) -> Page:  # noqa: ARG002  there is one format
        """Make the page; it is shown ready or not, because that is when it is needed."""
        encode, content_type = choose_encoder(accept)
        return Page(encode(self._registry), content_type)


class _Reading(ConsumerRebalanceListener):  # type: ignore[misc]  # no type information in that package
    """One membership of the group, from joining it to the first failure."""

    def __init__(self, owner: TopicIngest, config: TopicConfig) -> None:
        self._owner = owner
        self._config = config
        self._events = config.prefix + EVENTS.suffix
        self._producers: dict[TopicPartition, Any] = {}
        self._consumer: Any = None
        self._busy = asyncio.Lock()  # partitions are let go between transactions
        self.carried = 0

    async def run(self) -> None:
        config = self._config
        async with edge_errors(config.connection, f"reading {config.topic}"):
            self._consumer = AIOKafkaConsumer(
                **config.connection.client_arguments(),
                client_id="agent-streams-ingest-otlp",
                group_id=config.group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
            )
            self._consumer.subscribe([config.topic], listener=self)
            await started(self._consumer.start())
            self._owner.up = True
            while True:
                found = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_MAX)
                for partition, records in found.items():
                    async with self._busy:
                        await self._take(partition, records)

    async def close(self) -> None:
        """Leave the group, and end what was not committed."""
        for producer in self._producers.values():
            await _stop(producer)
        self._producers.clear()
        if self._consumer is not None:
            await _stop(self._consumer)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Let partitions go, after the transaction that is open."""
        async with self._busy:
            for partition in revoked:
                producer = self._producers.pop(partition, None)
                if producer is not None:
                    await _stop(producer)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Take partitions over with their first records."""

    async def _take(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        if partition not in self._consumer.assignment():
            return
        producer = self._producers.get(partition)
        if producer is None:
            await self._take_over(partition, records[0].offset)
            return
        try:
            await self._carry(producer, partition, records)
        except ProducerFenced as error:
            raise Fenced(f"{partition.topic} partition {partition.partition} has another owner now") from error

    async def _take_over(self, partition: TopicPartition, first: int) -> None:
        """Fence whoever owned the partition, and read on where that one has committed."""
        name = f"{self._config.group}-{partition.partition}"
        producer = AIOKafkaProducer(
            **self._config.connection.client_arguments(),
            client_id="agent-streams-ingest-otlp",
            transactional_id=name,
            transaction_timeout_ms=TRANSACTION_MS,
            compression_type=compression(),
            max_batch_size=REQUEST_BYTES_MAX,
            max_request_size=REQUEST_BYTES_MAX,
        )
        self._producers[partition] = producer
        await started(producer.start())
        committed = await self._consumer.committed(partition)
        self._consumer.seek(partition, first if committed is None else committed)
        _log.info("partition_taken topic=%s partition=%d", partition.topic, partition.partition)

    async def _carry(self, producer: Any, partition: TopicPartition, records: Sequence[Any]) -> None:
        """Write what these records become and how far they were read, in one transaction."""
        # In a thread: a collector's records may take seconds, and the group must hear from us meanwhile.
        made = await asyncio.to_thread(self._translated, records)
        async with producer.transaction():
            sent = [await producer.send(self._events, record.value, key=record.key) for record in made.records]
            await asyncio.gather(*sent)
            offsets = {partition: records[-1].offset + 1}
            await producer.send_offsets_to_transaction(offsets, self._config.group)
        made.count(self._owner.counters)
        self.carried += len(records)

    def _translated(self, records: Sequence[Any]) -> "_Made":
        signal, made = self._config.signal, _Made(self._config.signal)
        for record in records:
            value = record.value or b""
            try:
                made.add(self._owner.translator.carry(signal, value, as_json=looks_like_json(value)))
            except ValueError as error:
                made.refused += 1
                where = f"topic={record.topic} partition={record.partition} offset={record.offset}"
                _log.warning("record_refused %s bytes=%d error=%s", where, len(value), error)
        return made


class _Made:
    """What the records of one transaction became; counted when it is committed."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._carried: list[Any] = []
        self.records: list[Record] = []
        self.refused = 0

    def add(self, carried: Any) -> None:
        self._carried.append(carried)
        self.records += carried.records

    def count(self, counters: Counters) -> None:
        for carried in self._carried:
            counters.request(self._signal, "taken")
            counters.carry(self._signal, carried)
        for _ in range(self.refused):
            counters.request(self._signal, "refused")


async def _stop(client: Any) -> None:
    try:
        async with asyncio.timeout(5):
            await client.stop()
    except Exception:  # noqa: BLE001  a client that failed may fail once more while it closes, in any way
        _log.debug("ingest_stop_failed", exc_info=True)


def run(config: TopicConfig) -> int:
    """Read until a signal or a failure, and return the exit code."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it reaches us as an exception
    return asyncio.run(until_signal(TopicIngest(config).run(), log=_log, ended="ingest_ended"))
