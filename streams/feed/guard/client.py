"""May this call be made?  One look at what the workers have said, before a tool or a model is called.

    guard = Guard()  # AGENT_STREAMS_EMITTER_GUARD=redis and so on
    guard.check("tool:search", session_id="s1")  # raises CallDenied
    if guard.allow("model:gpt-4o"): ...

Never waits, never does I/O in the agent's threads and raises nothing but CallDenied: a thread of its own reads.
"""

import asyncio
import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypedDict, Unpack, get_args
from weakref import WeakSet

from streams.errors import ConfigError
from streams.feed.config import EmitterConfig
from streams.feed.guard.denial import CallDenied, Denial, denial_of, unknown
from streams.feed.guard.guarding import Guarding
from streams.feed.guard.probes import Probes, probing
from streams.feed.guard.reports import Caller, Reports
from streams.feed.guard.source import Heard, Source, Watcher
from streams.feed.guard.verdicts import DeniedBy, Index, Verdict
from streams.feed.tally import Tally
from streams.feed.timers import Emits

READY_TIMEOUT_MS: Final = 10_000
AGENT: Final = "agent"  # of calls that name none
_POLL_S: Final = 0.02
_log: Final = logging.getLogger("streams.feed")


class Whose(TypedDict, total=False):
    """Whose call it is, and whom it goes to."""

    session_id: str | None
    user: str | None
    tenant: str | None
    agent: str | None
    provider: str | None  # of a model


@dataclass(frozen=True, slots=True)
class GuardStats:
    """What became of all calls a guard was asked about: asked = allowed + denied."""

    source: str
    ready: bool
    stale: bool
    heard_ms_ago: int | None  # None: never
    verdicts: int  # that stop something at the moment
    allowed: int
    allowed_unknown: int  # of those, while nothing was known
    allowed_probes: int  # of those, to try a circuit
    denied: Mapping[str, int]  # by what
    events: int
    unreported: int  # denials that no event tells of: too many different ones at a time
    unreadable: int
    overflowed: int
    failures: int
    last_failure: str | None


class Guard:
    """Holds calls against circuits, budgets and loops; works from threads and from coroutines alike.

    A target is `tool:name`, `model:name` or `endpoint:name`; session, user, tenant and agent say whose call it is.
    Ask once per call: a half-open circuit lets so many try as it publishes, and every guard has these for itself.
    """

    def __init__(
        self,
        config: EmitterConfig | None = None,
        *,
        emitter: Emits | None = None,
        agent: str = AGENT,
        source: Callable[[EmitterConfig], Source] | None = None,
    ) -> None:
        self.config = config or EmitterConfig.from_env()
        self.policy = self.config.guard
        self._emitter = emitter
        self._agent = agent
        self._make = source or (None if self.policy.source == "off" else _source)
        self._starting = threading.Lock()
        self._closed = False
        self._renew()
        if self._make is not None:
            self._start()
            _remember(self)

    def _renew(self) -> None:
        """Begin as a guard of this process."""
        self._heard = Heard()
        self._probes = Probes()
        self._reports = Reports(self._emitter)
        self._watcher: Watcher | None = None
        self._allowed, self._allowed_unknown, self._allowed_probes = Tally(), Tally(), Tally()
        self._denied = {by: Tally() for by in get_args(DeniedBy)}
        self._reading = threading.Lock()

    # ---- asking ------------------------------------------------------------------------------------------------

    def allow(self, target: str, **whose: Unpack[Whose]) -> bool:
        """Tell whether a call may be made."""
        return self.denial(target, **whose) is None

    def check(self, target: str, **whose: Unpack[Whose]) -> None:
        """Return when a call may be made. Raises CallDenied, which says why not."""
        denial = self.denial(target, **whose)
        if denial is not None:
            raise CallDenied(denial)

    def denial(self, target: str, **whose: Unpack[Whose]) -> Denial | None:
        """Return why a call may not be made, or None when it may."""
        if self._make is None:
            self._allowed.add()
            return None
        if self._watcher is None:
            self._start()
        now_ms = time.monotonic_ns() // 1_000_000
        heard_ms = self._heard.heard_ms
        if heard_ms is None or now_ms - heard_ms > self.policy.stale_after_ms:
            way = self.policy.when_unknown
            if way == "allow":
                self._allowed_unknown.add()
                self._allowed.add()
                return None
            if way == "deny":
                denial = unknown(target, stale=heard_ms is not None)
                return self._deny(denial, self._caller(whose), now_ms)
        index = self._heard.index
        if not index.shapes:
            self._allowed.add()
            return None
        return self._held_against(index, target, self._caller(whose), now_ms)

    def guarding(self, target: str, **whose: Unpack[Whose]) -> Guarding:
        """Return what checks before a `with` block, or before each call of a function it decorates, async or not."""
        return Guarding(lambda: self.check(target, **whose))

    def _caller(self, whose: Whose) -> Caller:
        return Caller(
            whose.get("agent") or self._agent,
            whose.get("session_id"),
            whose.get("user"),
            whose.get("tenant"),
            whose.get("provider"),
        )

    def _held_against(self, index: Index, target: str, caller: Caller, now_ms: int) -> Denial | None:
        kind, _, name = target.partition(":")
        call = {
            "agent": caller.agent,
            "session_id": caller.session_id,
            "user_id": caller.user_id,
            "tenant": caller.tenant,
            "provider": caller.provider,
            kind: name,
        }
        found = index.about(call)
        if not found:
            self._allowed.add()
            return None
        wall_ms = time.time_ns() // 1_000_000
        tries: list[Verdict] = []
        for verdict in found:
            if not probing(verdict, wall_ms):
                return self._deny(denial_of(target, verdict), caller, now_ms)
            tries.append(verdict)
        for verdict in tries:  # only a call that nothing else denies may take a permit
            if not self._probes.take(verdict, now_ms):
                return self._deny(denial_of(target, verdict), caller, now_ms)
        self._allowed_probes.add()
        self._allowed.add()
        return None

    def _deny(self, denial: Denial, caller: Caller, now_ms: int) -> Denial:
        self._denied[denial.denied_by].add()
        try:
            self._reports.note(denial, caller, now_ms)
        except Exception:  # noqa: BLE001  an agent never fails because of its telemetry
            _log.debug("guard.not_reported", exc_info=True)
        return denial

    # ---- its own state -----------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Is there anything it goes by?  One that is off lets every call through."""
        return self._make is not None

    def ready(self) -> bool:
        """Tell whether all that is stopped was read, at least once; a guard that is off is always ready."""
        return self._make is None or self._heard.ready.is_set()

    def wait_ready(self, timeout_ms: int = READY_TIMEOUT_MS) -> bool:
        """Wait until all that is stopped was read; False when it was not in time."""
        return self._make is None or self._heard.ready.wait(timeout_ms / 1000)

    async def await_ready(self, timeout_ms: int = READY_TIMEOUT_MS) -> bool:
        """Do what `wait_ready` does without holding up the event loop."""
        deadline = time.monotonic() + timeout_ms / 1000
        while not self.ready():
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    def stats(self) -> GuardStats:
        """Count what was asked so far."""
        heard, now_ms = self._heard, time.monotonic_ns() // 1_000_000
        ago_ms = None if heard.heard_ms is None else max(0, now_ms - heard.heard_ms)
        with self._reading:
            allowed, unknowns, probes = (
                tally.read() for tally in (self._allowed, self._allowed_unknown, self._allowed_probes)
            )
            denied = {by: count for by, tally in self._denied.items() if (count := tally.read())}
        return GuardStats(
            source=self.policy.source,
            ready=self.ready(),
            stale=self._make is not None and (ago_ms is None or ago_ms > self.policy.stale_after_ms),
            heard_ms_ago=ago_ms,
            verdicts=heard.index.verdicts,
            allowed=allowed,
            allowed_unknown=unknowns,
            allowed_probes=probes,
            denied=denied,
            events=self._reports.events,
            unreported=self._reports.unreported,
            unreadable=heard.standing.unreadable,
            overflowed=heard.standing.overflowed,
            failures=heard.failures,
            last_failure=heard.last_failure,
        )

    def close(self) -> None:
        """End the thread and tell of what was denied; asked later, it goes by what it knew until that is stale."""
        self._closed = True
        watcher = self._watcher
        if watcher is not None:
            watcher.close()
        self._reports.flush(time.monotonic_ns() // 1_000_000, all_of_it=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Guard({self.policy.source!r}, when_unknown={self.policy.when_unknown!r})"

    def _start(self) -> None:
        """Start the thread, unless another thread is about to, or there can be none."""
        if self._closed or self._make is None or not self._starting.acquire(blocking=False):
            return
        try:
            if self._watcher is None:
                heard, reports = self._heard, self._reports

                def beside() -> None:
                    reports.flush(time.monotonic_ns() // 1_000_000)

                self._watcher = Watcher(self._make(self.config), heard, beside)
        except RuntimeError as error:  # the interpreter is shutting down, or there are too many threads
            _log.debug("guard.no_thread: %s", error)
        finally:
            self._starting.release()


def _source(config: EmitterConfig) -> Source:
    # Imported when one is there to be followed: each client takes a tenth of a second and more.
    if config.guard.source == "kafka":
        from streams.feed.guard.kafka import KafkaSource  # noqa: PLC0415  as above

        return KafkaSource(config)
    if config.guard.redis_url is None:
        raise ConfigError("a guard that reads Redis needs its address: set AGENT_STREAMS_REDIS_URL")
    from streams.feed.guard.redis import RedisSource  # noqa: PLC0415  as above

    return RedisSource(config.guard.redis_url, config.topic_prefix)


# ---- the ends and beginnings of processes ----------------------------------------------------------------------

_guards: Final[WeakSet[Guard]] = WeakSet()
_left_behind: Final[list[Watcher | None]] = []
_at_exit: Final = threading.Event()


def _remember(guard: Guard) -> None:
    """Note a guard for the end of the process: before the emitters', which registered when they were imported."""
    _guards.add(guard)
    if not _at_exit.is_set():
        _at_exit.set()
        atexit.register(_close_all)


def _close_all() -> None:
    for guard in list(_guards):
        guard.close()


def _after_fork() -> None:
    """Begin anew: the thread stayed in the parent, and so does what was counted; the first question starts another."""
    for guard in list(_guards):
        _left_behind.append(guard._watcher)  # noqa: SLF001  same module; its sockets belong to the parent
        guard._starting = threading.Lock()  # noqa: SLF001  same module
        guard._renew()  # noqa: SLF001  same module


os.register_at_fork(after_in_child=_after_fork)
