"""How do denied calls become events, when an agent in a loop is denied a thousand times a second?

Never more than one event a second for one session, target and verdict: each says how many calls it stands for.
"""

import threading
import time
from typing import Final, NamedTuple

from streams.event.model import NAME_CHARS_MAX, Guard
from streams.feed.guard.denial import Denial
from streams.feed.identity import new_id
from streams.feed.timers import Emits

EVENT_EVERY_MS: Final = 1_000  # per key; what comes in between is counted and told together
KEYS_MAX: Final = 1_000  # told of separately at a time; what is beyond them is counted, but told to nobody


class Caller(NamedTuple):
    """Whose call it was."""

    agent: str
    session_id: str | None
    user_id: str | None
    tenant: str | None
    provider: str | None = None


class _Waiting:
    __slots__ = ("count", "told_ms")

    def __init__(self, told_ms: int) -> None:
        self.told_ms = told_ms
        self.count = 0


class Reports:
    """The events of one guard; without an emitter nobody is told."""

    def __init__(self, emitter: Emits | None) -> None:
        self._emitter = emitter
        self._lock = threading.Lock()
        self._waiting: dict[tuple[Denial, Caller], _Waiting] = {}
        self.events = 0
        self.unreported = 0

    def note(self, denial: Denial, caller: Caller, now_ms: int) -> None:
        """Tell of a denial, at once or together with those that follow; `now_ms` is monotonic."""
        if self._emitter is None:
            return
        with self._lock:
            known = self._waiting.get((denial, caller))
            if known is None:
                if len(self._waiting) >= KEYS_MAX:
                    self.unreported += 1
                    return
                known = self._waiting[denial, caller] = _Waiting(now_ms - EVENT_EVERY_MS)
            known.count += 1
            if now_ms - known.told_ms >= EVENT_EVERY_MS:
                self._tell(denial, caller, known, now_ms)

    def flush(self, now_ms: int, *, all_of_it: bool = False) -> None:
        """Tell of what waits and is due, and forget what has been quiet."""
        with self._lock:
            for (denial, caller), waiting in list(self._waiting.items()):
                if now_ms - waiting.told_ms < EVENT_EVERY_MS and not all_of_it:
                    continue
                if waiting.count:
                    self._tell(denial, caller, waiting, now_ms)
                else:
                    del self._waiting[denial, caller]

    def _tell(self, denial: Denial, caller: Caller, waiting: _Waiting, now_ms: int) -> None:
        assert self._emitter is not None
        self._emitter.emit(
            Guard(
                id=new_id(),
                time=time.time_ns() // 1_000_000,
                agent=caller.agent,
                session_id=caller.session_id,
                user_id=caller.user_id,
                tenant=caller.tenant,
                target=denial.target[:NAME_CHARS_MAX],
                denied_by=denial.denied_by,
                reason=denial.reason[:NAME_CHARS_MAX],
                verdict_id=denial.verdict_id,
                count=waiting.count,
            )
        )
        waiting.told_ms, waiting.count = now_ms, 0
        self.events += 1
