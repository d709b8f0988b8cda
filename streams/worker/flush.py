"""How is a plan written?  All of it in one transaction of the partition's own producer, or not at all.

Never retries a transaction, never goes on with a producer whose last outcome is in doubt, and never decides when.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.transaction import EndTxnRequest
from aiokafka.structs import OffsetAndMetadata

from streams.errors import EdgeError, Fenced
from streams.feed.ending import started
from streams.stage.plan import Plan
from streams.worker.config import WorkerConfig
from streams.worker.connection import told_to_stop

# Topics we did not create may still have the broker's default limit of 1,048,588 bytes per batch.
_BATCH_BYTES: Final = 900_000
# A single record may be as large as the largest topic allows (rollups: 8 MB).
_REQUEST_BYTES: Final = 8 * 1024 * 1024
# A broker that still ends the last transaction asks for the next step again, in one flush of forty: aiokafka's own
# 100 ms would be what the slowest alerts wait for.
_RETRY_BACKOFF_MS: Final = 20
_CLOSE_S: Final = 1.0
_FENCED: Final = (ProducerFenced, InvalidProducerEpoch)
HOPELESS: Final = (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)  # no repetition cures these


class OutcomeUnknown(EdgeError):
    """The transaction may or may not have been committed: only the changelog knows."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class Writer:
    """The one producer that may write for a source partition, until somebody initialises the next one."""

    def __init__(self, config: WorkerConfig, *, stage: str, source: TopicPartition, changelog: TopicPartition) -> None:
        self._config = config
        self._source = source
        self._changelog = changelog
        self._transactional_id = config.transactional_id(stage, source.partition)
        self._fenced: AIOKafkaProducer | None = None
        self._doubt = False

    async def fence(self) -> Self:
        """Connect and take the partition over: every earlier writer's transaction is ended when this returns.

        Raises KafkaError or TimeoutError, which only the types in `HOPELESS` make final.
        """
        producer = AIOKafkaProducer(
            **self._config.connection.client_arguments(),
            client_id=self._transactional_id,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=self._config.transaction_timeout_ms,
            request_timeout_ms=self._config.request_timeout_ms,
            max_batch_size=_BATCH_BYTES,
            max_request_size=_REQUEST_BYTES,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
        )
        self._watch_for_doubt(producer)
        try:
            async with asyncio.timeout(self._config.request_timeout_ms / 1000):
                await started(producer.start())
        except BaseException:
            await _kill(producer)
            raise
        self._fenced = producer
        return self

    async def partition_count(self, topic: str) -> int:
        """Return how many partitions the topic has; raises UnknownTopicOrPartitionError when it does not exist."""
        return len(await self._producer.partitions_for(topic))

    async def write(self, plan: Plan, *, now_ms: int) -> None:
        """Commit rows, sends and the group's offset together; every record is stamped with the time of this write.

        Raises Fenced, OutcomeUnknown (reload the partition), or EdgeError for what no repetition will cure.
        """
        producer = self._producer
        async with self._judged(producer):
            await self._transact(producer, plan, now_ms)

    async def settle(self, places: Collection[TopicPartition], *, commit: bool) -> None:
        """End what an earlier epoch of this producer left open in `places`: a mark there ends all that is before it.

        The transaction is empty: it needs no more than the right to write, which the open one had. Raises as `write`.
        """
        producer = self._producer
        async with self._judged(producer):
            await producer.begin_transaction()
            for tp in places:
                producer._txn_manager.maybe_add_partition_to_txn(tp)
            await (producer.commit_transaction() if commit else producer.abort_transaction())

    async def close(self) -> None:
        """End the connections; an unfinished transaction is left for the next owner's fence."""
        producer, self._fenced = self._fenced, None
        if producer is not None:
            await _kill(producer)

    @property
    def client(self) -> AIOKafkaClient:
        """The producer's connections, which know the topics it writes to."""
        return self._producer.client

    @property
    def producer_id(self) -> int:
        """The number by which partitions know this producer; its successors have the same."""
        number: int = self._producer._txn_manager.producer_id
        return number

    @contextlib.asynccontextmanager
    async def _judged(self, producer: AIOKafkaProducer) -> AsyncIterator[None]:
        """Say of a transaction that fails inside the block what that means for its partition."""
        try:
            async with asyncio.timeout(self._config.transaction_timeout_ms / 1000):
                yield
        except asyncio.CancelledError as error:
            if told_to_stop():
                raise
            raise OutcomeUnknown(f"transaction for {self._place}: the client gave up a request") from error
        except _FENCED as error:
            raise Fenced(f"another worker has taken over {self._place}; restart this one") from error
        except HOPELESS as error:
            raise EdgeError(f"writing for {self._place} failed for good: {error!r}", retryable=False) from error
        except (KafkaError, OSError) as error:  # TimeoutError is an OSError
            cause = _transaction_error(producer)
            if isinstance(cause, _FENCED):
                raise Fenced(f"another worker has taken over {self._place}; restart this one") from cause
            raise OutcomeUnknown(f"transaction for {self._place}: {cause or error!r}") from error
        if self._doubt:
            raise OutcomeUnknown(f"transaction for {self._place}: its end had to be sent twice")

    @property
    def _producer(self) -> AIOKafkaProducer:
        if self._fenced is None:
            raise OutcomeUnknown(f"the writer of {self._place} is closed")
        return self._fenced

    @property
    def _place(self) -> str:
        return f"{self._source.topic} partition {self._source.partition}"

    async def _transact(self, producer: AIOKafkaProducer, plan: Plan, now_ms: int) -> None:
        batches = await self._encode(producer, plan, now_ms)
        await producer.begin_transaction()
        # Nothing suspends between these as long as each partition has one batch, so one request adds them all.
        sent = [await producer.send_batch(batch, tp.topic, partition=tp.partition) for tp, batch in batches]
        offsets = {self._source: OffsetAndMetadata(plan.next_offset, "")}
        # A failed batch does not fail a commit: every future is awaited before it.
        await asyncio.gather(*sent, producer.send_offsets_to_transaction(offsets, self._config.group_id))
        await producer.commit_transaction()

    async def _encode(
        self, producer: AIOKafkaProducer, plan: Plan, now_ms: int
    ) -> list[tuple[TopicPartition, BatchBuilder]]:
        rows = ((key, value, _NO_HEADERS) for key, value in plan.rows)
        batches = [(self._changelog, batch) for batch in _batches(producer, rows, now_ms)]
        sends: dict[TopicPartition, list[_Record]] = {}
        for send in plan.sends:
            topic = self._config.topic(send.topic)
            partitions = await producer.partitions_for(topic)
            partition = _PARTITIONER(send.key, sorted(partitions), ()) if send.partition is None else send.partition
            sends.setdefault(TopicPartition(topic, partition), []).append((send.key, send.value, list(send.headers)))
        for tp, records in sends.items():
            batches += [(tp, batch) for batch in _batches(producer, records, now_ms)]
        return batches

    def _watch_for_doubt(self, producer: AIOKafkaProducer) -> None:
        """Notice when the request that ends a transaction fails: aiokafka sends it again and reports success.

        The lost one may still arrive, and would end the transaction after this. A new epoch makes it harmless.
        """
        send = producer.client.send

        async def watched(node_id: int, request: object, **options: Any) -> Any:
            try:
                return await send(node_id, request, **options)
            except BaseException:
                self._doubt = self._doubt or isinstance(request, EndTxnRequest)
                raise

        producer.client.send = watched


_Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
_NO_HEADERS: Final[list[tuple[str, bytes]]] = []
_PARTITIONER: Final = DefaultPartitioner()  # murmur2, as Java's


def _batches(producer: AIOKafkaProducer, records: Iterable[_Record], now_ms: int) -> list[BatchBuilder]:
    batch: BatchBuilder = producer.create_batch()
    batches = [batch]
    append = batch.append
    for key, value, headers in records:
        if append(timestamp=now_ms, key=key, value=value, headers=headers) is None:
            batch = producer.create_batch()
            batches.append(batch)
            append = batch.append
            if append(timestamp=now_ms, key=key, value=value, headers=headers) is None:
                raise MessageSizeTooLargeError(f"a record of {len(value or b'')} bytes does not fit into a batch")
    return batches if batches[0].record_count() else []


def _transaction_error(producer: AIOKafkaProducer) -> BaseException | None:
    """Return what ended the transaction, when aiokafka knows: the timeout that follows says less."""
    waiter = producer._txn_manager.wait_for_transaction_end()
    if waiter is None or not waiter.done() or waiter.cancelled():
        return None
    error: BaseException | None = waiter.exception()
    return error


async def _kill(producer: AIOKafkaProducer) -> None:
    """Close without flushing: what is unsent belongs to a transaction that must not be committed any more.

    A rebalance that comes meanwhile cancels whoever closes: that waits, or connections would stay open unseen.
    """
    ending, cancelled = asyncio.ensure_future(_end(producer)), False
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            if ending.cancelled():
                raise
            cancelled = True
    ending.result()
    if cancelled:
        raise asyncio.CancelledError


async def _end(producer: AIOKafkaProducer) -> None:
    producer._closed = True
    _hush(producer)
    producer.client.coordinator_lookup = _closed  # a closed client would look for coordinators for ever
    await producer.client.close()
    task = producer._sender.sender_task
    for _ in range(3):  # its first cancellation waits for requests under way, the next ones do not
        if task is None or task.done():
            break
        task.cancel()
        await asyncio.wait([task], timeout=_CLOSE_S)
    _hush(producer)


def _hush(producer: AIOKafkaProducer) -> None:
    """Look at every error that is kept for somebody who waits: nobody does any more, and asyncio would complain."""
    accumulator, transactions = producer._message_accumulator, producer._txn_manager
    batches = [*accumulator._pending_batches, *(each for queue in accumulator._batches.values() for each in queue)]
    waiters = [transactions._transaction_waiter, transactions._pid_waiter]
    waiters += [future for batch in batches for future in (batch.future, batch._drain_waiter)]
    for waiter in waiters:
        if waiter is not None and waiter.done() and not waiter.cancelled():
            waiter.exception()


async def _closed(*_: object) -> int:
    raise KafkaError("the producer is closed")


__all__ = ["HOPELESS", "OutcomeUnknown", "Writer"]
