"""How do records of the receiver reach Kafka?  One idempotent producer, acks=all, made anew after any failure.

Says that records are safe only when they are; never keeps one whose sender was told to come again.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.errors import EdgeError
from streams.feed.batch import Record
from streams.feed.compression import compression
from streams.feed.ending import ended, started
from streams.worker.connection import KafkaConnection, edge_errors, told_to_stop

_log: Final = logging.getLogger(__name__)
REQUEST_BYTES_MAX: Final = 2 * 1024 * 1024  # what the events topic takes as one batch
ACK_S: Final = 8.0  # exporters wait 10 s for an answer
CLOSE_S: Final = 2.0
_LINGER_MS: Final = 5
_BACKOFF_S: Final = 0.5
_BACKOFF_LIMIT_S: Final = 5.0


class Producing:
    """The producer of the receiver, kept open by `run`."""

    def __init__(
        self, connection: KafkaConnection, topic: str, *, client: str = "ingest-otlp", ack_s: float = ACK_S
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._client = client
        self._ack_s = ack_s
        self._producer: Any = None
        self._broken = asyncio.Event()
        self.failures = 0

    @property
    def up(self) -> bool:
        """Does Kafka take records?"""
        return self._producer is not None

    async def run(self) -> None:
        """Keep a producer open for ever. Raises EdgeError for what no repetition cures."""
        delay_s = _BACKOFF_S
        while True:
            self._broken.clear()
            try:
                producer = await self._open()
            except EdgeError as error:
                if not error.retryable:
                    raise
                self.failures += 1
                _log.warning("broker_away attempt_again_s=%.1f error=%s", delay_s, error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _BACKOFF_LIMIT_S)
                continue
            delay_s = _BACKOFF_S
            self._producer = producer
            _log.info("ingest_connected topic=%s", self._topic)
            try:
                await self._broken.wait()
                self.failures += 1
            finally:
                self._producer = None
                await _close(producer)

    async def send(self, records: Sequence[Record]) -> None:
        """Write records and wait until all replicas in sync have them. Raises EdgeError."""
        producer = self._producer
        if producer is None:
            raise EdgeError("Kafka is away", retryable=True)
        try:
            async with asyncio.timeout(self._ack_s):
                sent = [await producer.send(self._topic, record.value, key=record.key) for record in records]
                await asyncio.gather(*sent)
        except (KafkaError, OSError) as error:  # TimeoutError is an OSError
            self._fail(producer)
            raise EdgeError(f"Kafka did not acknowledge: {type(error).__name__}", retryable=True) from error
        except asyncio.CancelledError:
            if told_to_stop():
                raise
            self._fail(producer)
            raise EdgeError("Kafka did not acknowledge: the connection was closed", retryable=True) from None

    def _fail(self, producer: Any) -> None:
        """Give up a producer of which nobody knows what it has written; what it wrote twice has the same ids."""
        if producer is self._producer:
            self._producer = None
            self._broken.set()

    async def _open(self) -> Any:
        async with edge_errors(self._connection, f"writing to {self._topic}"):
            producer = AIOKafkaProducer(
                **self._connection.client_arguments(),
                client_id=f"agent-streams-{self._client}",
                enable_idempotence=True,
                acks="all",
                linger_ms=_LINGER_MS,
                compression_type=compression(),
                max_batch_size=REQUEST_BYTES_MAX,
                max_request_size=REQUEST_BYTES_MAX,
            )
            try:
                await started(producer.start())
                await producer.partitions_for(self._topic)
            except BaseException:
                await _close(producer)
                raise
            return producer


async def _close(producer: Any) -> None:
    """Close the connections, even while the broker does not answer; what waits fails first."""
    producer._message_accumulator.fail_all(KafkaError("given up"))  # noqa: SLF001  its own stop waits for them
    await ended(producer.client.close, producer.stop, producer.client.close, each_s=CLOSE_S)
