"""What else may happen to events, besides going to Kafka?  Small handlers that are combined as one likes.

Each takes events by `emit`, as an emitter does: one can stand wherever an emitter can, or be given to one, which then
shows it every event in a thread of its own.  Never waits for Kafka.
"""

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self, TextIO

import msgspec

from streams.event.model import Envelope
from streams.feed.batch import AGE_MS_MAX, urgent
from streams.feed.timers import Emits

BATCH_EVENTS_MAX: Final = 10_000
NAMES_MAX: Final = 1_000  # of tools, models and so on that timings are kept of; the others count as one
OTHERS: Final = "(others)"
_NAMED: Final = ("tool", "model", "operation", "language", "agent")


class Null:
    """Takes everything and does nothing: for tests, and for agents that are told to be silent."""

    def emit(self, event: Envelope) -> None:
        """Do nothing."""


class Printing:
    """Writes a line for every event: what it is, whose, and how it went; `verbose` writes it whole, as JSON."""

    def __init__(self, stream: TextIO | None = None, *, verbose: bool = False) -> None:
        self._stream = stream
        self._verbose = verbose

    def emit(self, event: Envelope) -> None:
        """Write one event."""
        line = msgspec.json.encode(event).decode() if self._verbose else _line(event)
        print(line, file=self._stream or sys.stderr)


class Timing(NamedTuple):
    """How often something ended, how often badly, and how long it took."""

    calls: int
    failed: int
    total_ms: float
    max_ms: float

    @property
    def mean_ms(self) -> float:
        """How long did one take on average?"""
        return self.total_ms / self.calls


class Performance:
    """Adds up how long things took, by kind and name, and what it costs itself to do so. From any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._timings: dict[tuple[str, str], Timing] = {}
        self._events = 0
        self._own_ns = 0

    def emit(self, event: Envelope) -> None:
        """Add one event."""
        began_ns = time.perf_counter_ns()
        duration_ms = getattr(event, "duration_ms", None)
        with self._lock:
            if duration_ms is not None:
                self._add(_kind(event), _name(event), float(duration_ms), getattr(event, "status", "success"))
            self._events += 1
            self._own_ns += time.perf_counter_ns() - began_ns

    @property
    def timings(self) -> Mapping[tuple[str, str], Timing]:
        """What took how long, by kind and name."""
        with self._lock:
            return dict(self._timings)

    @property
    def events(self) -> int:
        """How many it has seen."""
        return self._events

    @property
    def own_us_per_event(self) -> float:
        """How long it took itself, per event."""
        with self._lock:
            return self._own_ns / self._events / 1_000 if self._events else 0.0

    def _add(self, kind: str, name: str, duration_ms: float, status: str) -> None:
        key = (kind, name)
        if key not in self._timings and len(self._timings) >= NAMES_MAX:
            key = (kind, OTHERS)
        calls, failed, total_ms, max_ms = self._timings.get(key, (0, 0, 0.0, 0.0))
        self._timings[key] = Timing(
            calls + 1, failed + (status != "success"), total_ms + duration_ms, max(max_ms, duration_ms)
        )


class Batching:
    """Collects events and hands them on together: so many, or after so long, or at once when one is urgent.

    What is old enough goes with the next event, or by `flush`; leaving it as a context manager flushes.
    """

    def __init__(
        self, hand_over: Callable[[Sequence[Envelope]], None], *, events: int = 100, age_ms: int = 10_000
    ) -> None:
        if not (1 <= events <= BATCH_EVENTS_MAX and 0 <= age_ms <= AGE_MS_MAX):
            limits = f"1 to {BATCH_EVENTS_MAX} events and 0 to {AGE_MS_MAX} ms"
            raise ValueError(f"batching: {events} events and {age_ms} ms given, expected {limits}")
        self._hand_over = hand_over
        self._events = events
        self._age_ms = age_ms
        self._lock = threading.RLock()
        self._waiting: list[Envelope] = []
        self._since_ns = 0

    def emit(self, event: Envelope) -> None:
        """Add one event, and hand over what is due."""
        with self._lock:
            if not self._waiting:
                self._since_ns = time.monotonic_ns()
            self._waiting.append(event)
            old = time.monotonic_ns() - self._since_ns >= self._age_ms * 1_000_000
            if old or urgent(event) or len(self._waiting) >= self._events:
                self.flush()

    def flush(self) -> None:
        """Hand over what waits."""
        with self._lock:  # held meanwhile, so that batches stay in order
            waiting, self._waiting = self._waiting, []
            if waiting:
                self._hand_over(waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()


class Composite:
    """Shows every event to several handlers; one that raises does not keep it from the others, and is counted."""

    def __init__(self, *handlers: Emits) -> None:
        self._handlers = handlers
        self.failures = 0

    @property
    def payloads(self) -> bool:
        """Does any of them take bodies of requests and responses?"""
        return any(getattr(handler, "payloads", True) for handler in self._handlers)

    def emit(self, event: Envelope) -> None:
        """Show one event to all."""
        for handler in self._handlers:
            try:
                handler.emit(event)
            except Exception:  # noqa: BLE001  an agent never fails because of somebody's handler
                self.failures += 1


class Custom:
    """A base for handlers of your own: a method `on_tool_end(event)` is called for that kind, `on_event` for the rest.

    Whatever it raises is counted where it is called from: by the emitter, or by `Composite`.
    """

    def emit(self, event: Envelope) -> None:
        """Call the method of this kind."""
        method = getattr(self, f"on_{_kind(event)}", None) or self.on_event
        method(event)

    def on_event(self, event: Envelope) -> None:
        """Do something about an event whose kind has no method."""


def _kind(event: Envelope) -> str:
    return str(event.__struct_config__.tag)


def _name(event: Envelope) -> str:
    return next((found for field in _NAMED if (found := getattr(event, field, None))), "")


def _line(event: Envelope) -> str:
    about: dict[str, Any] = {"session": event.session_id, "name": _name(event)}
    about |= {name: getattr(event, name, None) for name in ("status", "duration_ms", "error_type")}
    return " ".join([_kind(event), *(f"{name}={value}" for name, value in about.items() if value not in (None, ""))])
