"""How do records reach an agent?  Whole fetch results, one message per partition, from where the state says.

Never commits an offset, never looks into a record, and never resets a position by itself.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchError, FetchResult
from aiokafka.errors import (
    ConsumerStoppedError,
    CorruptRecordException,
    OffsetOutOfRangeError,
)
from aiokafka.protocol.group import HeartbeatRequest
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage

from streams.errors import AgentStreamsError, EdgeError, Fenced, StateRefused
from streams.stage.plan import SourceRecord
from streams.worker.flush import HOPELESS

_T = TypeVar("_T")
_POLL_S: Final = 1.0
# aiokafka leaves the group when nobody fetches for this long; a bulk load may take its time, and we watch ourselves.
_MAX_POLL_MS: Final = 24 * 60 * 60 * 1000


class Chunk(NamedTuple):
    """What one fetch brought of one partition: the log from `start` to `end`, offsets without a record included."""

    tp: TopicPartition
    epoch: int  # of the seek this reading began with: what was read before the last one is stale
    start: int
    end: int  # exclusive
    records: Iterable[SourceRecord]  # unpacked as they are taken, once; an error of the log's bytes is raised then


class Sight(NamedTuple):
    """What the consumer knows of a partition's end."""

    handed_to: int  # offset up to which chunks were handed over since the last seek
    position: int  # the next offset to fetch
    stable_end: int | None  # end of what read_committed may see; None before the first answer
    answered_ms: int  # wall clock of the broker's last answer
    clear_to: int  # from `handed_to` up to here there is no record: aborted ones and the marks of transactions


@dataclass(slots=True)
class _Cursor:
    epoch: int
    reached: tuple[int, int]  # end of the last chunk, and of the marks behind it; another thread reads them together


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust carries no types
    """aiokafka's consumer on a loop of its own: heartbeats go on whatever the agents do."""

    logger = logging.getLogger("faust.worker")

    def __post_init__(self) -> None:
        """Begin with no position: a partition is read only after `start_at`."""
        super().__post_init__()
        self._cursors: dict[TopicPartition, _Cursor] = {}
        self._epochs = itertools.count(1)

    def _create_worker_consumer(self, transport: object) -> AIOKafkaConsumer:
        config = self.app.runner.config
        self._assignor = self.app.assignor
        return AIOKafkaConsumer(
            **config.connection.consumer_arguments(),
            client_id=config.instance_id or config.group_id,
            group_id=config.group_id,
            group_instance_id=config.instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=config.session_timeout_ms,
            heartbeat_interval_ms=config.heartbeat_ms,
            rebalance_timeout_ms=config.rebalance_timeout_ms,
            request_timeout_ms=config.request_timeout_ms,
            max_poll_interval_ms=_MAX_POLL_MS,
            fetch_max_wait_ms=config.fetch_wait_ms,
            max_partition_fetch_bytes=config.fetch_bytes,
        )

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Pass on; an exception here would vanish in aiokafka."""
        try:
            await super().on_partitions_revoked(revoked)
        except Exception as error:  # noqa: BLE001  it ends the worker
            self._fail(error)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition], generation_id: int = 0) -> None:
        """Fetch nothing yet, changelogs never and sources once their state is loaded; then pass on."""
        try:
            self._cursors.clear()
            self._ensure_consumer().pause(*(TopicPartition(*tp) for tp in assigned))
            await super().on_partitions_assigned(assigned, generation_id)
        except Exception as error:  # noqa: BLE001  it ends the worker
            self._fail(error)

    async def start_at(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Read on from these offsets; return the epoch that the chunks of each partition carry from now on."""
        return await self._in_thread(self._start_at(offsets))

    async def hold(self, tp: TopicPartition) -> None:
        """Read the partition no more until the next `start_at`."""
        await self._in_thread(self._hold(tp))

    async def chunks(self, timeout_s: float) -> list[Chunk]:
        """Return what was fetched of the active partitions, all of it; empty after the timeout."""
        return await self._in_thread(self._chunks(timeout_s))

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask the broker for the group's offsets; a partition without one is missing."""
        found = await self._in_thread(self._ensure_consumer()._coordinator.fetch_committed_offsets(partitions))
        return {tp: offset.offset for tp, offset in found.items() if offset.offset >= 0}

    async def is_member(self) -> bool:
        """Ask the broker whether our generation is the group's; raises KafkaError when nobody answers."""
        return await self._in_thread(self._is_member())

    def sight(self, tp: TopicPartition) -> Sight | None:
        """Return what is known of the partition; None while it is not being read."""
        cursor = self._cursors.get(tp)
        subscription = self._consumer._subscription.subscription if self._consumer else None
        if cursor is None or subscription is None or subscription.assignment is None:
            return None
        if tp not in subscription.assignment.tps:
            return None
        state = subscription.assignment.state_value(tp)
        if not state.has_valid_position:
            return None
        end, clear_to = cursor.reached
        return Sight(end, state.position, state.lso, state.timestamp or 0, clear_to)

    def trouble(self) -> AgentStreamsError | None:
        """Return why the client will never work again; it tells only those who ask."""
        consumer = self._consumer
        if consumer is None or consumer._coordinator is None:
            return None  # still starting
        error = consumer._coordinator._pending_exception
        if isinstance(error, HOPELESS):
            return EdgeError(f"Kafka refused this worker: {error!r}. Check the ACLs of the group", retryable=False)
        if error is not None:
            return Fenced(f"the group coordinator turned this worker away: {error!r}. Restart it")
        if consumer._coordinator._coordination_task.done() or consumer._fetcher._fetch_task.done():
            return Fenced("the Kafka client's group or fetch task has ended by itself. Restart this worker")
        return None

    def wake(self) -> None:
        """Let a waiting `chunks` look again: a partition has become active."""
        if not self.thread_loop.is_closed():
            self.thread_loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """Do nothing: Faust would close the client on another loop than its own; stopping the thread closes it."""

    def verify_event_path(self, now: float, tp: TopicPartition) -> None:
        """Say nothing: the worker's own watchdog judges progress, Faust's compares two different clocks."""

    async def _hold(self, tp: TopicPartition) -> None:
        if self._cursors.pop(tp, None) is not None and tp in self._ensure_consumer().assignment():
            self._ensure_consumer().pause(tp)

    def _fail(self, error: Exception) -> None:
        self.parent_loop.call_soon_threadsafe(self.app.runner.fail, error)

    async def _start_at(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        consumer = self._ensure_consumer()
        for tp, offset in offsets.items():
            consumer.seek(tp, offset)
            self._cursors[tp] = _Cursor(next(self._epochs), (offset, offset))
            consumer.resume(tp)
        return {tp: self._cursors[tp].epoch for tp in offsets}

    async def _chunks(self, timeout_s: float) -> list[Chunk]:
        fetcher = self._ensure_consumer()._fetcher
        until = time.monotonic() + timeout_s
        with fetcher._subscriptions.fetch_context():
            while True:
                chunks = self._drain(fetcher)
                left_s = until - time.monotonic()
                if chunks or left_s <= 0:
                    return chunks
                waiter = fetcher._create_fetch_waiter()
                await asyncio.wait([waiter], timeout=left_s)
                waiter.cancel()

    def _drain(self, fetcher: Any) -> list[Chunk]:
        """Take all that was fetched. It never suspends: records and positions belong together."""
        consumer = self._ensure_consumer()
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        if not self.consumer.flow_active or fetcher._subscriptions.reassignment_in_progress:
            return []
        # Taken at this moment, not when the call began: a partition may have become active or full meanwhile.
        active = set(self.consumer._active_partitions)
        chunks = []
        for tp in [tp for tp in fetcher._records if tp in active and tp in self._cursors]:
            result = fetcher._records.pop(tp)
            fetcher._notify(fetcher._wait_consume_future)  # there is room for the next fetch
            if isinstance(result, FetchError):
                self._raise(result)
            elif result.check_assignment(tp):
                chunk = self._chunk(tp, result)
                if chunk is not None:
                    chunks.append(chunk)
        return chunks

    def _chunk(self, tp: TopicPartition, result: FetchResult) -> Chunk | None:
        """Open a fetch result; None when it holds marks only, which the next chunk covers."""
        records, end = unpacked(result)
        cursor = self._cursors[tp]
        start, _ = cursor.reached
        try:
            first = next(records, None)
        except CorruptRecordException as error:
            raise damaged(tp, start) from error
        if first is None:
            cursor.reached = start, end
            return None
        cursor.reached = end, end
        return Chunk(tp, cursor.epoch, start, end, itertools.chain((first,), records))

    def _raise(self, result: FetchError) -> None:
        try:
            result.check_raise()
        except OffsetOutOfRangeError as error:
            raise StateRefused(self._out_of_range(error)) from error

    def _out_of_range(self, error: OffsetOutOfRangeError) -> str:
        places = ", ".join(
            f"{tp.topic} partition {tp.partition} offset {offset}" for tp, offset in error.args[0].items()
        )
        return (
            f"the log no longer holds what is to be read next: {places}. Retention or a deletion was faster than the "
            "workers: restore the topic, or lengthen the retention and start anew under another prefix"
        )

    async def _is_member(self) -> bool:
        coordinator = self._ensure_consumer()._coordinator
        if coordinator.generation <= 0 or coordinator._rejoin_needed_fut.done():
            return False
        await coordinator.ensure_coordinator_known()
        request = HeartbeatRequest(coordinator.group_id, coordinator.generation, coordinator.member_id)
        answer = await coordinator._send_req(request)
        return bool(answer.error_code == 0)

    def _wake(self) -> None:
        fetcher = self._consumer._fetcher if self._consumer else None
        if fetcher is not None:
            for waiter in list(fetcher._fetch_waiters):
                fetcher._notify(waiter)

    async def _in_thread(self, work: Coroutine[Any, Any, _T]) -> _T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.thread_loop))


class _Batches:
    """The batches of a fetch result, read ahead: their heads say where it ends."""

    def __init__(self, records: Any) -> None:
        self.end: int | None = None  # None: there is no batch
        self._left: deque[Any] = deque()
        while records.has_next():
            self._left.append(records.next_batch())
        if self._left:
            self.end = self._left[-1].next_offset

    def has_next(self) -> bool:
        return bool(self._left)

    def next_batch(self) -> Any:
        return self._left.popleft()


def unpacked(result: FetchResult) -> tuple[Iterator[SourceRecord], int]:
    """Return the records of a fetch result and the offset behind it, from which the next fetch begins already.

    Fast on purpose: no ConsumerRecord is made of a record, and each is unpacked only when it is taken, so that it is
    still in the processor's cache when it is decoded: 1.0 instead of 1.3 µs for both, and 1.2 µs less than the
    library's own way (tests/worker/test_transport.py compares the two).  Aborted transactions and marks are left out
    by the library's generator as ever.
    """
    opened = result._partition_records
    opened._consumer_record = _as_it_is
    opened._records = batches = _Batches(opened._records)
    end = opened.next_fetch_offset if batches.end is None else batches.end
    result._assignment.state_value(result._topic_partition).consumed_to(end)
    return opened._records_iterator, end


def damaged(tp: TopicPartition, offset: int) -> EdgeError:
    """Say that bytes of the log are not what was written."""
    return EdgeError(
        f"a batch from offset {offset} on of {tp.topic} partition {tp.partition} came damaged (its CRC is wrong). "
        "Restart this worker: should it come damaged again, the broker's log is, and has to be restored from a replica",
        retryable=True,
    )


def _as_it_is(_: TopicPartition, record: SourceRecord) -> SourceRecord:
    return record


class Consumer(driver.Consumer):  # type: ignore[misc]  # Faust carries no types
    """Faust's consumer without its commits, acks and gaps: positions are the state's."""

    logger = logging.getLogger("faust.worker")

    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Start reading where the loaded states end; called when a rebalance is done, before flow resumes."""
        await self.app.runner.resume()

    async def getmany(self, timeout: float = _POLL_S) -> AsyncIterator[tuple[TopicPartition, ConsumerMessage]]:  # noqa: ASYNC109  the name is Faust's
        """Yield each fetched chunk as one message.

        What is dropped here, or later because flow stopped, is read again: every resume begins with a seek.
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        for chunk in await self._thread.chunks(timeout):
            if not self.flow_active:
                return
            yield chunk.tp, self._to_message(chunk.tp, chunk)

    def _to_message(self, tp: TopicPartition, record: Chunk) -> ConsumerMessage:
        # The stream drops a message of another generation without a word; staleness is judged by the chunk's epoch.
        generation = self.app.consumer_generation_id
        head = (tp.topic, tp.partition, record.start, 0.0, 0, None, None, record, None)
        return ConsumerMessage(*head, tp=tp, generation_id=generation)

    def on_buffer_drop(self, tp: TopicPartition) -> None:
        """Fetch the partition again, at once: its agent has room."""
        super().on_buffer_drop(tp)
        self._thread.wake()

    def resume_partitions(self, tps: Iterable[TopicPartition]) -> None:
        """Fetch from these partitions again, at once."""
        super().resume_partitions(tps)
        self._thread.wake()

    async def _drain_messages(self, fetcher: Any) -> None:
        """Hand chunks to the agents until the fetcher stops; a worker in which this ends before has to be restarted."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                async for _, message in self.getmany(_POLL_S):
                    await self.callback(message)
                await asyncio.sleep(0)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not (self.app.should_stop or fetcher.should_stop):
                self.app.runner.fail(Fenced("the task that hands on what was fetched has ended by itself; restart"))
                raise


class Transport(driver.Transport):  # type: ignore[misc]  # Faust carries no types
    """Makes our consumer; producers are the partitions' own."""

    Consumer = Consumer


__all__ = ["Chunk", "Consumer", "ConsumerThread", "Sight", "Transport", "damaged", "unpacked"]
