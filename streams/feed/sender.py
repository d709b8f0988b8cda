"""What happens to events once the agent has let go of them: encoded, batched, handed to the delivery.

Runs on an event loop of its own, in a thread of its own. Never forgets an event without counting it, and never holds
more than its policy allows.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol

import msgspec

from streams.event.model import Envelope
from streams.feed.batch import Batcher, Origin, Record, urgent
from streams.feed.config import EmitterConfig
from streams.feed.counters import Counters, Drop
from streams.feed.delivery import Delivery
from streams.feed.encode import Refused, encode_event
from streams.feed.outlet import Outlet
from streams.feed.sample import sent
from streams.feed.spool import Spool, folder_of

SLICE_EVENTS: Final = 1_000  # encoded without a pause: about 4 ms
# While events come, the sender looks for them by itself: waking a thread costs the agent a system call, 15 µs and more.
LOOK_MS: Final = 20  # or the age that batches may have, when that is less
IDLE_MS: Final = 1_000  # after this long without one it sleeps, and the next event pays for waking it
FULL: Final = 2  # half of the queue is so full that what comes goes to disk, connected or not
_log: Final = logging.getLogger("streams.feed")


class Takes(Protocol):
    """Whatever takes events."""

    def emit(self, event: Envelope) -> None:
        """Take one event, at once."""


class _Loop(asyncio.SelectorEventLoop):
    """A loop without helper threads: names are resolved and logins computed in its own.

    Helpers would be waited for when the process ends, however long a name server is silent, and none could be started
    for the last flush: an interpreter that shuts down allows no new threads.
    """

    def run_in_executor(  # type: ignore[override]  # the stubs tie the arguments together, we only pass them on
        self,
        executor: Any,  # noqa: ARG002  as the base class
        func: Callable[..., Any],
        *args: Any,
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  it belongs to whoever awaits the future
            future.set_exception(error)
        return future


class Sender:
    """Takes events from `intake`; `room` is how long that may be; while `asleep` somebody must call `wake`."""

    def __init__(
        self,
        config: EmitterConfig,
        source: str,
        make_outlet: Callable[[], Outlet],
        handlers: Sequence[Takes] = (),
    ) -> None:
        self.intake: deque[Envelope] = deque()
        self.room = config.batch.queue_events
        self.asleep = True
        self.counters = Counters()
        self.held_events = 0
        self.held_bytes = 0
        self._config = config
        self._sampling = config.sample < 1 or config.payload_sample < 1
        self._look_ms = min(LOOK_MS, max(1, config.batch.age_ms))
        self._source = source
        self._source_json = msgspec.json.encode(source)
        self._seq = 0
        self._batcher = Batcher(config.batch)
        self._delivery = Delivery(config, make_outlet, self.counters, self._settled)
        self._delivery.connected = self._connected
        self._handlers = handlers
        self._spool = _spool(config, source, self.counters)
        self._connected_ms = _now_ms()  # when there was a connection last
        self.all_sent = False  # at the end
        self._asked: deque[Future[bool]] = deque()  # to flush, not yet looked at
        self._flushes: deque[tuple[int, Future[bool]]] = deque()  # waiting for the delivery to get beyond a number
        self._deadline: float | None = None  # when set: finish, and end at this time at the latest
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._looked_ms = 0
        self._busy_ms = 0

    # ---- from any thread ---------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Make the sender look at `intake` now."""
        self.asleep = False
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._woken.set)
            except RuntimeError:  # the loop has just ended
                return

    def flush(self) -> Future[bool]:
        """Ask for everything handed over so far to be sent; False when it had to be dropped."""
        asked: Future[bool] = Future()
        self._asked.append(asked)
        self.wake()
        return asked

    def finish(self, within_s: float) -> None:
        """Take no more, send what is there, and end within the given time."""
        self.room = 0
        self._deadline = time.monotonic() + within_s
        self.wake()

    def run(self) -> None:
        """Work until `finish`; a thread's main function."""
        try:
            with asyncio.Runner(loop_factory=_Loop) as runner:
                runner.run(self._run())
        except Exception:  # noqa: BLE001  the outermost loop: the agent must not see it
            _log.exception("emitter.ended: nothing more is sent from %s", self._source)
        finally:
            self.end()

    def forget(self) -> None:
        """Let go of the files on disk: this is a forked child, and they are its parent's."""
        if self._spool is not None:
            self._spool.forget()

    def end(self) -> None:
        """Account for everything that is left; for whoever runs the sender, or never could."""
        self.room = 0
        self._deadline = self._deadline or 0.0
        if self._spool is not None:
            while self.intake:
                self._take(self.intake.popleft(), 0)
        for record in self._batcher.drain():
            self._delivery.put(record)
        all_sent = self.all_sent = self._all_settled() and not self.intake
        if self._spool is not None:
            self._put_on_disk(self._spool, self._delivery.release())
            self._spool.close()
        self._delivery.give_up()
        while self.intake:
            self.intake.popleft()
            self.counters.taken += 1
            self.counters.drop(Drop.SEND_FAILED)
        for _, asked in self._flushes:
            _answer(asked, sent=all_sent)
        while self._asked:
            _answer(self._asked.popleft(), sent=all_sent)

    # ---- in the sender's own thread ----------------------------------------------------------------------------

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        # A connection that is given up leaves failed futures of its own behind, which nobody will ever ask for.
        self._loop.set_exception_handler(lambda _, context: _log.debug("emitter.left_behind: %s", context))
        connection = asyncio.create_task(self._delivery.stay_connected())
        try:
            while not self._finished():
                await self._look()
                await self._rest()
        finally:
            connection.cancel()
            await asyncio.gather(connection, return_exceptions=True)

    async def _look(self) -> None:
        """Encode what the agent handed over, and pass on what is due."""
        now_ms = _now_ms()
        # It came at some time since the last look, so its age counts from there.
        came_ms = max(self._looked_ms, now_ms - self._look_ms)
        self._looked_ms = now_ms
        self._woken.clear()
        if self.counters.connected:
            self._connected_ms = now_ms
        if self._spool is not None:
            self._spool.sync(now_ms)
        asked, came = len(self._asked), len(self.intake)
        if came:
            self._busy_ms = now_ms
        for first in range(0, came, SLICE_EVENTS):
            for _ in range(min(SLICE_EVENTS, came - first)):
                self._take(self.intake.popleft(), came_ms)
            self._pass_on(self._batcher.due(_now_ms()))
            await asyncio.sleep(0)
        if asked or self._deadline is not None:
            self._pass_on(self._batcher.drain())
        else:
            self._pass_on(self._batcher.due(_now_ms()))
        for _ in range(asked):
            self._flushes.append((self._delivery.last, self._asked.popleft()))
        self._answer_flushes()

    def _take(self, event: Envelope, came_ms: int) -> None:
        counters = self.counters
        counters.taken += 1
        config = self._config
        for handler in self._handlers:
            self._show(handler, event)
        if self._sampling and not sent(event, sessions=config.sample, payloads=config.payload_sample):
            counters.drop(Drop.SAMPLED)
            return
        encoded = encode_event(event, source=self._source_json, seq=self._seq, redactor=self._config.redactor)
        if isinstance(encoded, Refused):
            counters.drop(Drop(encoded.value))
            return
        part, redacted = encoded
        if self.held_bytes + len(part) > self._config.batch.queue_bytes:
            counters.drop(Drop.QUEUE_FULL)
            return
        self._seq += 1
        self.held_events += 1
        self.held_bytes += len(part)
        self._make_room()  # at once: what has left the intake for a moment would make room for as much again
        for name, count in redacted.items():
            counters.redacted[name] = counters.redacted.get(name, 0) + count
        key = event.session_id or event.source or self._source
        self._batcher.add(key, part, at_once=urgent(event), now_ms=came_ms)

    def _pass_on(self, records: list[Record]) -> None:
        spool, delivery = self._spool, self._delivery
        if spool is not None and (spool.unread or self._away()):
            # What waits in memory is older than what comes, and a process that is killed would take it along.
            self._put_on_disk(spool, [*delivery.release(), *records])
        else:
            for record in records:
                delivery.put(record)
        if spool is not None and self.counters.connected:
            for record in spool.next():
                delivery.put(record)
        delivery.go()
        self._make_room()

    def _away(self) -> bool:
        """Has no broker answered for long enough, or is there too little room to wait for one?"""
        policy, batch = self._config.spool, self._config.batch
        if self.held_events * FULL > batch.queue_events or self.held_bytes * FULL > batch.queue_bytes:
            return True
        return not self.counters.connected and _now_ms() - self._connected_ms >= policy.after_ms

    def _put_on_disk(self, spool: Spool, records: list[Record]) -> None:
        for record in records:
            self._let_go(record)
        spool.append(records, _now_ms())

    def _connected(self) -> None:
        """Look for what others have left, and at what waits on disk."""
        if self._spool is not None:
            self._spool.adopt()
            self._woken.set()

    def _show(self, handler: Takes, event: Envelope) -> None:
        try:
            handler.emit(event)
        except Exception:  # noqa: BLE001  somebody else's code: the event goes its way whatever happens there
            if not self.counters.handler_failures:
                _log.warning("emitter.handler_failed %s; counted from here on", type(handler).__name__, exc_info=True)
            self.counters.handler_failures += 1

    def _let_go(self, record: Record) -> None:
        self.held_events -= record.events
        self.held_bytes -= record.parts_bytes

    def _settled(self, record: Record) -> None:
        if record.origin is Origin.MEMORY:
            self._let_go(record)
        elif self._spool is not None:
            self._spool.settled()
            self._woken.set()
        self._make_room()
        if self._flushes or self._deadline is not None:
            self._answer_flushes()
            self._woken.set()

    def _make_room(self) -> None:
        if self._deadline is None:
            self.room = self._config.batch.queue_events - self.held_events

    def _answer_flushes(self) -> None:
        if not self._flushes or (self._spool is not None and self._spool.pending):
            return
        oldest = self._delivery.oldest()
        while self._flushes and (oldest is None or oldest > self._flushes[0][0]):
            _answer(self._flushes.popleft()[1], sent=True)

    def _all_settled(self) -> bool:
        return self._delivery.oldest() is None and not (self._spool is not None and self._spool.pending)

    async def _rest(self) -> None:
        """Wait until it is time to look again, or until somebody wakes us."""
        if len(self.intake) > SLICE_EVENTS:
            return
        now_ms = _now_ms()
        idle = now_ms - self._busy_ms > IDLE_MS and not self._batcher.events and not self._to_be_written()
        if idle and self._deadline is None:
            self.asleep = True
            if self.intake or self._asked:  # came before the flag was seen to change, so nobody wakes us for it
                self.asleep = False
                return
            await self._woken.wait()
            self._looked_ms = _now_ms()
            return
        due_ms = self._batcher.due_at_ms()
        until_ms = min(due_ms or now_ms + self._look_ms, now_ms + self._look_ms)
        try:
            async with asyncio.timeout((until_ms - now_ms) / 1000):
                await self._woken.wait()
        except TimeoutError:
            return

    def _finished(self) -> bool:
        if self._deadline is None:
            return False
        waiting = self.held_events or self.intake or (self._spool is not None and self._spool.pending)
        return time.monotonic() >= self._deadline or not waiting

    def _to_be_written(self) -> bool:
        """Is there anything that only memory holds, and should not for long?"""
        spool = self._spool
        return spool is not None and (spool.dirty or self.held_events > 0)


def _spool(config: EmitterConfig, source: str, counters: Counters) -> Spool | None:
    """Return where events wait on disk; None where that is off, or the user has no home to put them."""
    if not config.spool.on:
        return None
    try:
        folder = folder_of(config.spool, config.bootstrap_servers, config.topic)
    except RuntimeError as error:
        _log.warning("spool.off: %s; name a folder with AGENT_STREAMS_EMITTER_SPOOL_FOLDER", error)
        return None
    return Spool(config.spool, folder, source, counters)


def _answer(asked: Future[bool], *, sent: bool) -> None:
    if asked.set_running_or_notify_cancel():
        asked.set_result(sent)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
