"""How records reach Kafka: one idempotent producer, acks=all, at most one batch per partition on its way.

Never reorders: what is on its way to a partition is acknowledged before the next batch of that partition leaves.
Never keeps a queue of its own: everything that waits, waits in the sender, where it is counted and bounded.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import DefaultPartitioner

from streams.errors import EdgeError
from streams.feed.batch import Record
from streams.feed.compression import compression
from streams.feed.config import EmitterConfig
from streams.feed.ending import ended, started
from streams.feed.outlet import THREAD_NAME, TooLargeError
from streams.feed.reach import obstacle

BATCH_BYTES_MAX: Final = 2 * 1024 * 1024  # more than a sender ever hands over at once
CLOSE_TIMEOUT_S: Final = 2.0
KEYS_REMEMBERED: Final = 10_000  # partitions of keys: the hash is plain Python and takes 10 µs
_RETRY_BACKOFF_MS: Final = 250
_log: Final = logging.getLogger("streams.feed")


class KafkaOutlet:
    """One producer from open to close."""

    def __init__(self, config: EmitterConfig) -> None:
        self._config = config
        self._producer: Any = None
        self._partitions: list[int] = []
        self._known: dict[bytes, int] = {}

    async def open(self) -> None:
        """Connect and read the topic's partitions. Raises EdgeError."""
        config = self._config
        try:
            self._producer = AIOKafkaProducer(
                **config.client_arguments(),
                client_id="agent-streams-emitter",
                enable_idempotence=True,
                acks="all",
                compression_type=compression(config.compression),
                max_batch_size=BATCH_BYTES_MAX,
                max_request_size=BATCH_BYTES_MAX,
                request_timeout_ms=config.send_timeout_ms,
                retry_backoff_ms=_RETRY_BACKOFF_MS,
            )
            await started(self._producer.start())
            self._partitions = sorted(await self._producer.partitions_for(config.topic))
        except (KafkaError, OSError, RuntimeError) as error:  # RuntimeError: the compression's library is missing
            found = await obstacle(config.client_arguments()) if isinstance(error, KafkaConnectionError) else None
            if found is not None:  # an agent goes on all the same, and a certificate may be renewed meanwhile
                raise EdgeError(f"topic {config.topic}: {found}", retryable=True) from error
            raise EdgeError(
                f"Kafka at {config.bootstrap_servers}, topic {config.topic}: {type(error).__name__} {error}. "
                "Is it running, does the topic exist, and may this agent write to it?",
                retryable=True,
            ) from error

    def partition(self, key: bytes) -> int:
        """Hash as Java's client does, so that all agents put a session into the same place."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= KEYS_REMEMBERED:
                self._known.clear()
            found = self._known[key] = DefaultPartitioner()(key, self._partitions, self._partitions)
        return found

    async def send(self, partition: int, records: Sequence[Record]) -> int:
        """Write one batch and wait until all replicas in sync have it. Raises EdgeError, TooLargeError."""
        batch = self._producer.create_batch()
        topic = self._config.topic
        for record in records:
            if batch.append(key=record.key, value=record.value, timestamp=None) is None:
                raise TooLargeError(f"{topic}: {len(records)} records are more than {BATCH_BYTES_MAX} bytes")
        batch.close()
        try:
            await (await self._producer.send_batch(batch, topic, partition=partition))
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise TooLargeError(f"{topic}: {batch.size()} bytes are more than the topic takes") from error
        except (KafkaError, OSError) as error:
            raise EdgeError(f"{topic} partition {partition}: {type(error).__name__} {error}", retryable=True) from error
        return int(batch.size())

    async def close(self) -> None:
        """Close the connections, even while the broker does not answer."""
        producer = self._producer
        if producer is None:
            return
        # Its own stop waits for batches to arrive, which we send again through another producer; so they fail first,
        # then the connections.  What it was about to repeat meanwhile may have opened others.
        producer._message_accumulator.fail_all(KafkaError("given up"))  # noqa: SLF001  there is no other way
        await ended(producer.client.close, producer.stop, producer.client.close, each_s=CLOSE_TIMEOUT_S)


class _Hush(logging.Filter):
    """Keeps what aiokafka logs in our thread out of the agent's log: it tells every attempt, we tell every outage."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.threadName != THREAD_NAME or _log.isEnabledFor(logging.DEBUG)


_hush: Final = _Hush()
for _name in (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.producer.producer",
    "aiokafka.producer.sender",
):
    logging.getLogger(_name).addFilter(_hush)
