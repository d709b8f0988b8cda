"""Which events travel together, and when do they go?  By count, bytes, age, or at once when one is urgent.  Pure.

Never reorders the events of one key, never splits one, and never looks at a clock: `now_ms` is an argument.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from streams.errors import ConfigError
from streams.event.codec import EVENTS_PER_RECORD_MAX, RECORD_BYTES_MAX
from streams.event.model import KINDS, Degraded, Envelope, Error, Guard, SessionEnd

AGE_MS_MAX: Final = 30_000
# Somebody waits for these: an alert, a breaker or the end of a session hangs on them.
URGENT_KINDS: Final[frozenset[type[Envelope]]] = frozenset({Error, Degraded, Guard, SessionEnd})
_ARRAY_BYTES: Final = 2  # the brackets; each event costs one more, for its comma
# None: the status decides.  Asking a kind for a status that it has not costs an exception, 0.4 µs.
_URGENT: Final[Mapping[type[Envelope], bool | None]] = {
    kind: kind in URGENT_KINDS or (None if "status" in kind.__struct_fields__ else False) for kind in KINDS.values()
}


def urgent(event: Envelope) -> bool:
    """Must this event, and what its session has waiting, go at once?"""
    known = _URGENT.get(type(event))
    return getattr(event, "status", "success") != "success" if known is None else known


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """The limits of one record and of all that waits; a value out of bounds raises ConfigError with every fault."""

    record_events: int = 500
    record_bytes: int = 256 * 1024
    age_ms: int = 20  # how long an event waits for company; alerts are later by as much
    queue_events: int = 20_000
    queue_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        if faults := "; ".join(self._faults()):
            raise ConfigError(faults)

    def _faults(self) -> Iterator[str]:
        bounds = {
            "record_events": EVENTS_PER_RECORD_MAX,
            "record_bytes": RECORD_BYTES_MAX,
            "age_ms": AGE_MS_MAX,
            "queue_events": 10_000_000,
            "queue_bytes": 2**40,
        }
        for name, most in bounds.items():
            value = getattr(self, name)
            least = 0 if name == "age_ms" else 1
            if not least <= value <= most:
                yield f"batch {name}: {value} given, expected {least} to {most}"


class Origin(Enum):
    """Where a record waits until it is acknowledged."""

    MEMORY = 1
    SPOOL = 2  # on disk, written by this process
    LEFT = 3  # on disk, left by another one: its events are not ours to count


class Record(NamedTuple):
    """What becomes one Kafka record: one event, or a JSON array of events of one key."""

    key: bytes
    value: bytes
    events: int
    origin: Origin = Origin.MEMORY

    @property
    def parts_bytes(self) -> int:
        """How many bytes the events have without what joins them?"""
        return len(self.value) - (_ARRAY_BYTES + self.events - 1 if self.events > 1 else 0)


class _Open:
    """The events of one key that wait for company."""

    __slots__ = ("parts", "since_ms", "size_bytes")

    def __init__(self, now_ms: int) -> None:
        self.parts: list[bytes] = []
        self.size_bytes = _ARRAY_BYTES
        self.since_ms = now_ms


class Batcher:
    """Collects encoded events per key; `events` and `size_bytes` tell what waits here."""

    __slots__ = ("_closed", "_open", "_policy", "events", "size_bytes")

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        # In the order they were opened, which is the order they become due in.  A plain dict would look for its first
        # key through all that were taken out before it.
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._closed: list[Record] = []
        self.events = 0
        self.size_bytes = 0

    def add(self, key: str, part: bytes, *, at_once: bool, now_ms: int) -> None:
        """Queue one encoded event behind the others of its key; `at_once` sends them all."""
        waiting = self._open.get(key)
        cost_bytes = len(part) + 1
        if waiting is not None and waiting.size_bytes + cost_bytes > self._policy.record_bytes:
            self._close(key)
            waiting = None
        if waiting is None:
            waiting = self._open[key] = _Open(now_ms)
        waiting.parts.append(part)
        waiting.size_bytes += cost_bytes
        self.events += 1
        self.size_bytes += len(part)
        if at_once or len(waiting.parts) >= self._policy.record_events:
            self._close(key)

    def due(self, now_ms: int) -> list[Record]:
        """Hand over what is full, urgent or old enough, in an order that keeps every key's own."""
        while self._open:
            key, oldest = next(iter(self._open.items()))
            if oldest.since_ms + self._policy.age_ms > now_ms:
                break
            self._close(key)
        return self._hand_over()

    def drain(self) -> list[Record]:
        """Hand over everything."""
        for key in list(self._open):
            self._close(key)
        return self._hand_over()

    def due_at_ms(self) -> int | None:
        """When will the oldest be old enough?  None when nothing waits for company."""
        if not self._open:
            return None
        return next(iter(self._open.values())).since_ms + self._policy.age_ms

    def _close(self, key: str) -> None:
        parts = self._open.pop(key).parts
        # A lone event goes without brackets: the shortest path through every decoder.
        value = parts[0] if len(parts) == 1 else b"[" + b",".join(parts) + b"]"
        self._closed.append(Record(key.encode("utf-8", "surrogatepass"), value, len(parts)))

    def _hand_over(self) -> list[Record]:
        records, self._closed = self._closed, []
        for record in records:
            self.events -= record.events
            self.size_bytes -= record.parts_bytes
        return records
