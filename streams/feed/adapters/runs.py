"""Which runs of a framework are open, how are they nested, and what do they say when they begin and end?

Frameworks tell of runs that contain runs; some become events, the others only tell who encloses whom. Never reports
the same run twice, never keeps more than a bounded number, and leaves none open below one that has ended.
"""

import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

from streams.event.model import Envelope, ErrorType, TokenUsage
from streams.event.tokens import Usage
from streams.feed.failure import type_of_end
from streams.feed.timers import Emits, Session, current_call

RUNS_MAX: Final = 10_000  # of one emitter; beyond it the oldest is forgotten, its end will be unmatched
ENDED_MAX: Final = 10_000  # ids remembered after their end, against a beginning that is told late or once more


@dataclass(slots=True, eq=False)
class Run:
    """One run. Without `end` it is not reported: a step inside a request."""

    id: Hashable
    parent: "Run | None"
    session: Session
    call_id: str | None = None
    end: type[Envelope] | None = None
    about: dict[str, Any] = field(default_factory=dict)  # fields of start and end alike
    ending: dict[str, Any] = field(default_factory=dict)  # fields the end has besides
    otherwise: ErrorType = "other"
    waits: bool = False  # something below has paused for a human
    guessed: bool = False  # the name in `about` is the best there was; the end may know it better
    failed: str | None = None  # what a server has answered that failed, though the call around it comes back well
    outer: Hashable | None = None  # what was around whoever entered this run
    used: Usage | None = None  # what a stream has said of its tokens by now, told if it has no other end
    began_ns: int = field(default_factory=time.monotonic_ns)
    took_ms: float | None = None  # where the framework says so
    children: dict[Hashable, "Run"] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)  # of a root: how often each tool call was tried
    groups: dict[str, str] = field(default_factory=dict)  # of a root: which tool calls were asked for together

    @property
    def root(self) -> "Run":
        """Return the outermost run."""
        run = self
        while run.parent is not None:
            run = run.parent
        return run

    @property
    def call(self) -> "Run | None":
        """Return the innermost reported run, this one included."""
        run: Run | None = self
        while run is not None and run.call_id is None:
            run = run.parent
        return run

    @property
    def enclosing_id(self) -> str | None:
        """Return the id of the call around this one: of the framework's, else of whoever called the framework."""
        around = self.parent.call if self.parent is not None else None
        return around.call_id if around is not None else current_call()

    def elapsed_ms(self) -> float:
        """Return the time since the run began."""
        return round((time.monotonic_ns() - self.began_ns) / 1e6, 3)

    def emit(self, kind: type[Envelope], name: str, **fields: Any) -> None:
        """Emit an event of this run, `name` being unique within it."""
        self.session.emit(kind, id=f"{self.id}-{name}", call_id=self.call_id, parent_id=self.enclosing_id, **fields)


class Runs:
    """The open runs of one emitter, whoever reports them."""

    def __init__(self) -> None:
        self._open: dict[Hashable, Run] = {}
        self._ended: dict[Hashable, None] = {}

    def get(self, run_id: Hashable) -> Run | None:
        """Return an open run."""
        return self._open.get(run_id)

    def ended(self, run_id: Hashable) -> bool:
        """Has this run ended, as far as that is remembered?"""
        return run_id in self._ended

    def begin(self, run: Run, start: type[Envelope] | None = None) -> bool:
        """Take a run in and report its start; False, and nothing happens, when it is known already."""
        if run.id in self._ended or self._open.setdefault(run.id, run) is not run:
            return False
        if run.parent is not None:
            run.parent.children[run.id] = run
        if len(self._open) > RUNS_MAX:
            self._forget(next(iter(self._open)))
        if start is not None:
            run.emit(start, "start", **run.about)
        return True

    def end(self, run_id: Hashable, status: str, error: BaseException | None = None, **fields: Any) -> None:
        """Report the end of a run, and of what is still open below it; a run that is not open is left alone."""
        run = self._forget(run_id)
        if run is None:
            return
        self._ended[run_id] = None
        if len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        if run.parent is None or status != "success":
            # Cancelled work below is not always told to end.
            for child in list(run.children):
                self.end(child, "cancelled")
        else:  # what goes on below a call that came back well is held by the one around it
            run.parent.children |= run.children
        if run.end is None:
            return
        if run.used is not None and status != "success":
            whose = {"model": run.about["model"], "provider": run.about["provider"]}
            run.emit(TokenUsage, "usage", **whose, **run.used._asdict())
        if run.failed is not None and status == "success":
            status, fields["error_message"] = "error", run.failed
        failed = type_of_end(status, error, run.otherwise)
        if failed is not None:
            fields["attributes"] = run.session.attributes_and(error_type=failed)
        took_ms = run.elapsed_ms() if run.took_ms is None else run.took_ms
        run.emit(run.end, "end", duration_ms=took_ms, status=status, **run.about, **run.ending | fields)

    def _forget(self, run_id: Hashable) -> Run | None:
        run = self._open.pop(run_id, None)
        above = run.parent if run is not None else None
        while above is not None and above.children.pop(run_id, None) is None:
            above = above.parent
        return run


_of_emitters: Final[WeakKeyDictionary[Emits, Runs]] = WeakKeyDictionary()
_lock: Final = Lock()


def runs_of(emitter: Emits) -> Runs:
    """Return the runs of an emitter: one registry, so that two callbacks on the same emitter report a run once."""
    try:
        with _lock:
            return _of_emitters.setdefault(emitter, Runs())
    except TypeError:  # an emitter of somebody's own that has no hash or no weak references
        return Runs()
