"""How an agent hands over its events: `emit` appends to a queue and returns; a thread of ours does everything else.

Never blocks and never raises in the agent's threads, never holds more than its policy allows, and counts every event
that does not arrive. Works the same from threads and from coroutines.
"""

import asyncio
import atexit
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Final, Self

from msgspec.structs import replace

from streams.event.model import Envelope, Payload
from streams.event.redact import BODY_CHARS_MAX, EDGE_CHARS
from streams.feed.config import EmitterConfig
from streams.feed.counters import Drop
from streams.feed.guard.client import Guard
from streams.feed.identity import new_source
from streams.feed.outlet import THREAD_NAME, Outlet
from streams.feed.report import flat
from streams.feed.sender import Sender, Takes
from streams.feed.stats import EmitterStats
from streams.feed.tally import Tally

FLUSH_TIMEOUT_MS: Final = 10_000
# A body may be as large as 64 ordinary events and more, so the queue takes 64 times fewer before they are encoded.
_BODY_EVENTS: Final = 64
_END_GRACE_S: Final = 0.5
# Every 64th event of a queue's is timed, and each that finds it empty: two clocks would be a tenth of an event's cost.
_TIMED_MASK: Final = 63
_TIMED_KEPT: Final = 1_024
_log: Final = logging.getLogger("streams.feed")


class Emitter:
    """Carries events to Kafka. Its thread starts with the first event; it works until `close` or the process ends.

    A forked child gets an emitter with a name, numbers and a queue of its own. `handlers` are shown every event, before
    it is sampled or redacted, in the emitter's thread.
    """

    def __init__(
        self,
        config: EmitterConfig | None = None,
        *,
        handlers: Sequence[Takes] = (),
        outlet: Callable[[EmitterConfig], Outlet] | None = None,
    ) -> None:
        self.config = config or EmitterConfig.from_env()
        self.payloads = self.config.payloads  # are bodies sent at all?
        self._outlet = outlet
        self._guard: Guard | None = None
        self._handlers = tuple(handlers)
        self._renew()
        _open.add(self)

    def _renew(self) -> None:
        self._making = threading.Lock()
        self._life = _Life(self.config, self._outlet, self._handlers)

    @property
    def guard(self) -> Guard:
        """Return what holds this process's calls against the workers' verdicts; it is made when first asked for."""
        if self._guard is None:
            with self._making:
                if self._guard is None:
                    self._guard = Guard(self.config, emitter=self)
        return self._guard

    @property
    def source(self) -> str:
        """Name this process as its events do."""
        return self._life.source

    def emit(self, event: Envelope) -> None:
        """Hand over one event; returns at once, whatever happens to it, and never raises."""
        life = self._life
        sender = life.sender
        try:
            waiting = len(sender.intake)
            began_ns = 0 if waiting & _TIMED_MASK else perf_counter_ns()
            if type(event) is Payload:
                if not self.payloads:
                    life.refuse(Drop.PAYLOADS_OFF)
                    return
                waiting *= _BODY_EVENTS
                event = _shorter(event)
            if waiting >= sender.room:
                life.refuse(Drop.CLOSED if life.closed else Drop.QUEUE_FULL)
                return
            sender.intake.append(event)
            if sender.asleep:
                life.wake()
            if began_ns:
                life.took_ns.append(perf_counter_ns() - began_ns)
        except Exception:  # noqa: BLE001  an agent never fails because of its telemetry
            life.refuse(Drop.INVALID)

    def flush_sync(self, timeout_ms: int = FLUSH_TIMEOUT_MS) -> bool:
        """Wait until everything emitted so far is safe in Kafka; False when it was not in time."""
        return _result(self._life.flush(), timeout_ms)

    async def flush(self, timeout_ms: int = FLUSH_TIMEOUT_MS) -> bool:
        """Do what `flush_sync` does without holding up the event loop."""
        return await _async_result(self._life.flush(), timeout_ms)

    def close(self, timeout_ms: int = FLUSH_TIMEOUT_MS) -> bool:
        """Send what waits, for so long at the most, and end; what is emitted later is dropped and counted."""
        _open.discard(self)
        self._close_guard()
        return self._life.close(timeout_ms)

    async def aclose(self, timeout_ms: int = FLUSH_TIMEOUT_MS) -> bool:
        """Do what `close` does without holding up the event loop."""
        _open.discard(self)
        if self._guard is not None:
            await asyncio.to_thread(self._close_guard)
        return await _async_result(self._life.finish(timeout_ms), timeout_ms + int(_END_GRACE_S * 1000))

    def _close_guard(self) -> None:
        if self._guard is not None:
            self._guard.close()  # its last events go out with ours

    def stats(self) -> EmitterStats:
        """Count what became of the events so far."""
        return self._life.stats()

    def counters(self) -> Mapping[str, int | float]:
        """Return the same by the names of metrics: agent_emitter_events_total and so on."""
        return flat(self.stats())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"Emitter({self.source!r}, topic={self.config.topic!r})"


class _Life:
    """An emitter within one process: from its start or the fork that made it to its end."""

    __slots__ = (
        "_config",
        "_ended",
        "_reading",
        "_refused",
        "_starting",
        "_thread",
        "closed",
        "sender",
        "source",
        "took_ns",
    )

    def __init__(
        self, config: EmitterConfig, outlet: Callable[[EmitterConfig], Outlet] | None, handlers: Sequence[Takes]
    ) -> None:
        self.source = new_source()
        self.sender = Sender(config, self.source, lambda: (outlet or _kafka())(config), handlers)
        self.took_ns: deque[int] = deque(maxlen=_TIMED_KEPT)
        self.closed = False
        self._config = config
        self._refused = {reason: Tally() for reason in (Drop.QUEUE_FULL, Drop.CLOSED, Drop.INVALID, Drop.PAYLOADS_OFF)}
        self._reading = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended: Future[bool] = Future()

    def refuse(self, reason: Drop) -> None:
        """Count an event that was not taken."""
        self._refused[reason].add()

    def wake(self) -> None:
        """Wake the sender, and start its thread when there is none."""
        if self._thread is not None or self._start():
            self.sender.wake()

    def flush(self) -> Future[bool]:
        """Ask for everything so far to be sent."""
        if self.closed:
            return self._ended
        if self._thread is None:
            done: Future[bool] = Future()
            done.set_result(not self.sender.intake)
            return done
        return self.sender.flush()

    def finish(self, timeout_ms: int) -> Future[bool]:
        """Begin the end; the result says whether everything was sent."""
        if not self.closed:
            self.closed = True
            self.sender.finish(timeout_ms / 1000)
            if self._thread is None:
                self.sender.end()
                self._note_end()
        return self._ended

    def close(self, timeout_ms: int) -> bool:
        """End, and wait for it a little longer than it may take."""
        sent = _result(self.finish(timeout_ms), timeout_ms + int(_END_GRACE_S * 1000))
        if sent and self._thread is not None:
            self._thread.join(_END_GRACE_S)
        return sent

    def stats(self) -> EmitterStats:
        """Put the counters of both sides together."""
        counters = self.sender.counters
        with self._reading:
            dropped = {reason: tally.read() for reason, tally in self._refused.items()}
        refused = sum(dropped.values())
        for reason, count in counters.dropped.copy().items():
            dropped[reason] = dropped.get(reason, 0) + count
        emitted = refused + counters.taken + len(self.sender.intake)
        acknowledged = counters.acknowledged
        took_ns = self.took_ns.copy()
        return EmitterStats(
            source=self.source,
            connected=counters.connected,
            emitted=emitted,
            acknowledged=acknowledged,
            waiting=emitted - acknowledged - sum(dropped.values()),
            waiting_bytes=self.sender.held_bytes,
            dropped={reason.value: count for reason, count in dropped.items() if count},
            redacted=counters.redacted.copy(),
            records=counters.records,
            sent_bytes=counters.sent_bytes,
            failures=counters.failures,
            last_failure=counters.last_failure,
            sends=counters.sends,
            send_us=counters.send_us,
            send_us_max=counters.send_us_max,
            caller_ns=sum(took_ns) // len(took_ns) if took_ns else 0,
            caller_ns_max=max(took_ns, default=0),
            sample=self._config.sample,
            handler_failures=counters.handler_failures,
            spooled=counters.spooled,
            spool_bytes=counters.spool_bytes,
            spool_failures=counters.spool_failures,
            spool_torn_bytes=counters.spool_torn_bytes,
            left_acknowledged=counters.left_acknowledged,
            left_lost=counters.left_lost,
        )

    def _start(self) -> bool:
        if self.closed or not self._starting.acquire(blocking=False):
            return False  # or another thread is about to
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, args=(self.sender,), name=THREAD_NAME, daemon=True)
                thread.start()
                self._thread = thread
                _flush_when_a_child_ends()
        except RuntimeError as error:  # the interpreter is shutting down, or there are too many threads
            _log.debug("emitter.no_thread: %s", error)
            return False
        else:
            return True
        finally:
            self._starting.release()

    def _run(self, sender: Sender) -> None:
        sender.run()
        self.closed = True
        self._note_end()

    def _note_end(self) -> None:
        self._ended.set_result(self.sender.all_sent)


def _kafka() -> Callable[[EmitterConfig], Outlet]:
    from streams.feed.kafka import KafkaOutlet  # noqa: PLC0415  takes 0.3 s: only the sender's thread waits for it

    return KafkaOutlet


def _shorter(event: Payload) -> Payload:
    """Let go of the tail of an enormous body at once; the sender cuts the rest, and counts all of it."""
    body: Any = event.body
    keep = BODY_CHARS_MAX + EDGE_CHARS
    if not isinstance(body, str) or len(body) <= keep:
        return event
    cut_bytes = event.cut_bytes + len(body[keep:].encode("utf-8", "replace"))
    return replace(event, body=body[:keep], cut_bytes=cut_bytes)


def _result(future: Future[bool], timeout_ms: int) -> bool:
    try:
        return future.result(timeout_ms / 1000)
    except FutureTimeoutError:
        return False


async def _async_result(future: Future[bool], timeout_ms: int) -> bool:
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            return await asyncio.shield(asyncio.wrap_future(future))
    except TimeoutError:
        return False


# ---- the ends and beginnings of processes ----------------------------------------------------------------------

_open: Final[set[Emitter]] = set()
_left_behind: Final[list[_Life]] = []


def _close_all() -> None:
    """Send what waits before the process is gone, within what the configuration allows; all at once."""
    emitters = list(_open)
    for emitter in emitters:
        emitter._life.finish(emitter.config.exit_flush_ms)  # noqa: SLF001  same module
    for emitter in emitters:
        emitter.close(emitter.config.exit_flush_ms)


def _after_fork() -> None:
    """Begin anew: the thread stayed in the parent, and so does everything that was queued there."""
    for emitter in _open:
        # Kept, never closed: its sockets and selector belong to the parent.
        _left_behind.append(emitter._life)  # noqa: SLF001  same module
        emitter._life.sender.forget()  # noqa: SLF001  same module
        emitter._renew()  # noqa: SLF001  same module


def _flush_when_a_child_ends() -> None:
    """A child of multiprocessing ends without `atexit`; it has finalizers of its own, cleared at its start."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, _close_all, exitpriority=1)


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
