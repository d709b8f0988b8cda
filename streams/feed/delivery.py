"""How records get to Kafka whatever happens on the way: a lane per partition, sent again until they are safe.

Never lets a record leave its lane before it is acknowledged, so that after a failure the same records go again in the
same order; the worker tells by source and number which of them it already has.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from streams.errors import EdgeError
from streams.feed.batch import Origin, Record
from streams.feed.config import EmitterConfig
from streams.feed.counters import Counters, Drop
from streams.feed.outlet import Outlet, TooLargeError

SEND_BYTES: Final = 512 * 1024  # in one request to one partition, before compression
_FRAME_BYTES: Final = 32  # what Kafka's format adds to a record, and some
_log: Final = logging.getLogger("streams.feed")


class _Numbered(NamedTuple):
    number: int
    record: Record


class _Lane:
    """What goes to one partition, oldest first."""

    __slots__ = ("alone", "partition", "records", "task")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.records: deque[_Numbered] = deque()
        self.alone = 0  # so many records go one by one: together they were too large
        self.task: asyncio.Task[None] | None = None

    def head(self) -> list[Record]:
        """Return the records that go in the next request: at least one, then as many as fit."""
        batch: list[Record] = []
        size_bytes = 0
        for _, record in self.records:
            size_bytes += len(record.key) + len(record.value) + _FRAME_BYTES
            if batch and (size_bytes > SEND_BYTES or self.alone):
                break
            batch.append(record)
        return batch


class Delivery:
    """Takes numbered records and reports each that is settled; all of it in one event loop."""

    def __init__(
        self,
        config: EmitterConfig,
        make_outlet: Callable[[], Outlet],
        counters: Counters,
        settled: Callable[[Record], None],
    ) -> None:
        self._config = config
        self._make_outlet = make_outlet
        self._counters = counters
        self._settled = settled
        self.connected: Callable[[], None] = _nothing  # called whenever there is a connection
        self._outlet: Outlet | None = None
        self._waiting: deque[_Numbered] = deque()  # until there is a connection that knows the partitions
        self._lanes: dict[int, _Lane] = {}
        self._broken = asyncio.Event()
        self.last = 0  # number of the newest record

    def put(self, record: Record) -> None:
        """Take a record over; it counts as held until it is settled."""
        self.last += 1
        self._waiting.append(_Numbered(self.last, record))

    def oldest(self) -> int | None:
        """Return the number of the oldest record not settled, None without any."""
        heads = [lane.records[0].number for lane in self._lanes.values() if lane.records]
        if self._waiting:
            heads.append(self._waiting[0].number)
        return min(heads, default=None)

    def go(self) -> None:
        """Send what waits, as far as there is a connection."""
        outlet = self._outlet
        if outlet is None or self._broken.is_set():
            return
        while self._waiting:
            numbered = self._waiting.popleft()
            partition = outlet.partition(numbered.record.key)
            self._lanes.setdefault(partition, _Lane(partition)).records.append(numbered)
        for lane in self._lanes.values():
            if lane.records and lane.task is None:
                lane.task = asyncio.create_task(self._send(lane, outlet))

    async def stay_connected(self) -> None:
        """Connect, and whenever the connection breaks connect anew; ends only by cancellation."""
        failures = 0
        timeout_s = self._config.send_timeout_ms / 1000
        try:
            while True:
                if failures:
                    await asyncio.sleep(self._backoff_s(failures))
                self._broken.clear()
                outlet: Outlet | None = None
                try:
                    outlet = self._make_outlet()
                    async with asyncio.timeout(timeout_s):
                        await outlet.open()
                    self._outlet = outlet
                    self._note_connected()
                    records = self._counters.records
                    self.go()
                    self.connected()
                    await self._broken.wait()
                    failures = 1 if self._counters.records > records else failures + 1
                except Exception as error:  # noqa: BLE001  whatever it is, the events wait and it is tried again
                    self._note_failure(error)
                    failures += 1
                finally:
                    await self._let_go(outlet)
        finally:
            self._counters.connected = False

    def release(self) -> list[Record]:
        """Hand back, oldest first, what waits in memory alone; nothing while it may be on its way."""
        if self._outlet is not None or any(lane.task is not None for lane in self._lanes.values()):
            return []
        released = [each for each in self._waiting if each.record.origin is Origin.MEMORY]
        self._waiting = deque(each for each in self._waiting if each.record.origin is not Origin.MEMORY)
        for lane in self._lanes.values():
            released += [each for each in lane.records if each.record.origin is Origin.MEMORY]
            lane.records = deque(each for each in lane.records if each.record.origin is not Origin.MEMORY)
            lane.alone = min(lane.alone, len(lane.records))
        return [each.record for each in sorted(released, key=lambda each: each.number)]

    def give_up(self) -> None:
        """Drop and count all that is not settled, but for what is on disk and stays there."""
        for lane in self._lanes.values():
            self._waiting.extend(lane.records)
            lane.records.clear()
        while self._waiting:
            record = self._waiting.popleft().record
            if record.origin is Origin.MEMORY:
                self._drop(record, Drop.SEND_FAILED)

    async def _send(self, lane: _Lane, outlet: Outlet) -> None:
        """Send a lane until it is empty; after a failure everything stays where it is."""
        timeout_s = self._config.send_timeout_ms / 1000
        try:
            while lane.records:
                batch = lane.head()
                began_ns = time.monotonic_ns()
                async with asyncio.timeout(timeout_s):
                    sent_bytes = await outlet.send(lane.partition, batch)
                self._counters.sent((time.monotonic_ns() - began_ns) // 1_000, sent_bytes)
                for record in batch:
                    lane.records.popleft()
                    self._counters.acknowledge(record.origin, record.events)
                    self._settled(record)
                lane.alone = max(0, lane.alone - len(batch))
        except TooLargeError as error:
            self._too_large(lane, batch)
            self._break(error)
        except TimeoutError:
            self._break(EdgeError(f"no answer within {self._config.send_timeout_ms} ms", retryable=True))
        except Exception as error:  # noqa: BLE001  whatever it is, the records stay and go again
            self._break(error)
        finally:
            lane.task = None

    def _too_large(self, lane: _Lane, batch: list[Record]) -> None:
        """Send the records of a refused batch one by one; one that was alone is given up."""
        if len(batch) > 1:
            lane.alone = len(batch)
            return
        lane.records.popleft()
        lane.alone = max(0, lane.alone - 1)
        self._drop(batch[0], Drop.TOO_LARGE)

    def _drop(self, record: Record, reason: Drop) -> None:
        self._counters.lose(record.origin, reason, record.events)
        self._settled(record)

    def _break(self, error: Exception) -> None:
        """A producer that failed once has lost count: its next batch would be refused as out of sequence."""
        if not self._broken.is_set():
            self._note_failure(error)
            self._broken.set()

    async def _let_go(self, outlet: Outlet | None) -> None:
        self._outlet = None
        self._counters.connected = False
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:  # the end may come while we let go of a connection that broke
            for lane in self._lanes.values():
                lane.task = None  # one that was cancelled before its first step has not said so itself
            if outlet is not None:
                await outlet.close()

    def _backoff_s(self, failures: int) -> float:
        config = self._config
        longest_ms = min(config.backoff_max_ms, config.backoff_ms << min(failures - 1, 20))
        return longest_ms * random.uniform(0.5, 1.0) / 1000  # noqa: S311  spreads agents, hides nothing

    def _note_connected(self) -> None:
        if self._counters.last_failure is not None:
            _log.info("emitter.connected_again")
        self._counters.connected = True
        self._counters.last_failure = None

    def _note_failure(self, error: Exception) -> None:
        self._counters.failures += 1
        if self._counters.last_failure is None:  # one line per outage, not one per attempt
            _log.warning("emitter.not_connected, events wait: %s %s", type(error).__name__, error)
        self._counters.last_failure = f"{type(error).__name__}: {error}"


def _nothing() -> None:
    """Nobody wants to know."""
