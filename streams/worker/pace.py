"""When is a partition flushed, how much is folded at once, and who is stuck?  Pure: facts in, milliseconds out.

Never sleeps, never reads a clock.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)

# Five requests and their answers in asyncio: 1.1 to 1.7 ms of CPU per transaction, whatever it carries.
TRANSACTION_CPU_MS: Final = 1.5
# Behind a backlog a flush may wait for this share of what the records have waited: a fourth as many take 14 % less CPU.
CATCH_UP: Final = 0.25
TURNS: Final = 5  # how much longer work may wait while others move: a chunk waits behind those of all partitions


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a change may wait for its flush, by load; `share` is what flushing may take of a core."""

    idle_ms: float = 50.0
    gather_ms: float = 10.0  # an eager stage waits this long for the inputs that come together
    busy_ms: float = 500.0
    limit_ms: float = 2000.0  # no change waits longer, whatever the budget says and however old the records are
    pending_limit: int = 200_000  # records; bounds a transaction, and what a crash replays
    idle_load: float = 0.6  # below it changes wait `idle_ms`,
    busy_load: float = 0.85  # above it `busy_ms`: larger flushes cost less per record
    share: float = 0.25


class Seen(NamedTuple):
    """What is known of one partition when the decision falls."""

    now_ms: float  # of the clock that all partitions share
    dirty_ms: float | None  # how long the oldest unflushed change waits; None: there is none
    pending: int  # records folded since the last flush
    drained: bool  # nothing more to read now
    eager: bool  # a stage whose input comes in flushes of the one before
    load: float  # share of a core that the loop has, 0 to 1
    behind_ms: float  # how old the newest record was when it was folded; a clock's error is in it
    budget_ms: float  # until the flush budget is positive again


def flush_wait_ms(pace: Pace, seen: Seen) -> float | None:
    """Return how long the flush can wait; 0 means now, None that there is nothing to flush.

    Partitions of the first stage flush at the same moments, the multiples of the interval: then a partition of the
    second stage has the deltas of all of them in one flush, instead of a flush for each.
    """
    if seen.dirty_ms is None:
        return None
    if seen.pending >= pace.pending_limit:
        return 0.0
    interval = interval_ms(pace, seen.load, seen.behind_ms)
    if seen.eager and seen.drained:
        due_in_ms = pace.gather_ms + interval - pace.idle_ms - seen.dirty_ms
    else:
        since_ms = seen.now_ms - seen.dirty_ms
        due_in_ms = since_ms - since_ms % interval + interval - seen.now_ms
    wait = max(due_in_ms, seen.budget_ms)
    return max(0.0, min(wait, pace.limit_ms - seen.dirty_ms))


def interval_ms(pace: Pace, load: float, behind_ms: float) -> float:
    """Return the flush interval at this load: short while idle, growing in proportion once much of the core is busy.

    Behind a backlog it is more, so that the backlog is gone sooner: whole times `busy_ms`, up to `CATCH_UP` of what the
    records have waited already.
    """
    busy_ms = max(pace.busy_ms, min(pace.limit_ms, CATCH_UP * behind_ms // pace.busy_ms * pace.busy_ms))
    over = (load - pace.idle_load) / (pace.busy_load - pace.idle_load)
    return pace.idle_ms + (busy_ms - pace.idle_ms) * min(1.0, max(0.0, over))


class Budget:
    """CPU time that flushing may spend: refilled with `share` of the time that passes, never more than `burst_ms`."""

    __slots__ = ("_at_ms", "_burst_ms", "_left_ms", "_share")

    def __init__(self, *, share: float, burst_ms: float, now_ms: float) -> None:
        self._share = share
        self._burst_ms = burst_ms
        self._left_ms = burst_ms
        self._at_ms = now_ms

    def spend(self, cost_ms: float, *, now_ms: float) -> None:
        """Book a flush; the budget may go below zero, what follows waits for it."""
        self._refill(now_ms)
        self._left_ms -= cost_ms

    def wait_ms(self, *, now_ms: float, overdraft_ms: float = 0.0) -> float:
        """Return how long until something is left, or until no more than `overdraft_ms` is missing."""
        self._refill(now_ms)
        return max(0.0, -(self._left_ms + overdraft_ms) / self._share)

    def _refill(self, now_ms: float) -> None:
        self._left_ms = min(self._burst_ms, self._left_ms + (now_ms - self._at_ms) * self._share)
        self._at_ms = now_ms


class Load:
    """The share of a core that the loop's thread had in the last window: folding, encoding and talking to the broker.

    A thread that shares its core with the one that fetches never has all of it, however much waits.
    """

    __slots__ = ("_cpu_ms", "_since_ms", "_window_ms", "value")

    def __init__(self, *, window_ms: float, cpu_ms: float, now_ms: float) -> None:
        self._window_ms = window_ms
        self._since_ms = now_ms
        self._cpu_ms = cpu_ms
        self.value = 0.0

    def look(self, cpu_ms: float, *, now_ms: float) -> None:
        """Take in how much CPU time the thread has had since it began."""
        elapsed = now_ms - self._since_ms
        if elapsed >= self._window_ms:
            self.value = min(1.0, (cpu_ms - self._cpu_ms) / elapsed)
            self._cpu_ms = cpu_ms
            self._since_ms = now_ms


class SliceSize:
    """How many records fill a given time, so that they can be folded at once; learnt from the slices before."""

    __slots__ = ("_per_record_ms", "_target_ms")

    SMALLEST: Final = 16  # a record may hold 50 events of 4 µs: 3 ms
    LARGEST: Final = 256  # more have left the processor's cache when they are decoded: 2,000 take 20 % longer

    def __init__(self, target_ms: float) -> None:
        self._target_ms = target_ms
        self._per_record_ms = 0.01  # 10 µs until measured: begin with small slices

    @property
    def records(self) -> int:
        """Return the size of the next slice."""
        return max(self.SMALLEST, min(self.LARGEST, int(self._target_ms / self._per_record_ms)))

    def learn(self, records: int, took_ms: float) -> None:
        """Take in what a slice cost; small ones say little."""
        weight = min(1.0, records / self.SMALLEST) * 0.25
        self._per_record_ms += (max(took_ms / records, 1e-5) - self._per_record_ms) * weight


class Stillness:
    """Has something that has work to do stopped moving?"""

    __slots__ = ("_limit_ms", "_since_ms", "_token")

    def __init__(self, *, limit_ms: float, now_ms: float) -> None:
        self._limit_ms = limit_ms
        self._token: object = None
        self._since_ms = now_ms

    def stuck(self, *, waiting: bool, token: object, now_ms: float, limit_ms: float | None = None) -> bool:
        """Tell whether work waited all the time since `token` last changed, and that is longer than the limit."""
        if not waiting or token != self._token:
            self._token = token
            self._since_ms = now_ms
            return False
        return now_ms - self._since_ms >= (self._limit_ms if limit_ms is None else limit_ms)


class Standstill(Generic[K]):
    """Which of those that share one thread has work to do and does not move any more?"""

    __slots__ = ("_all", "_each", "_limit_ms")

    def __init__(self, *, limit_ms: float, now_ms: float) -> None:
        self._limit_ms = limit_ms
        self._all = Stillness(limit_ms=limit_ms, now_ms=now_ms)
        self._each: dict[K, Stillness] = {}

    def found(self, vitals: Mapping[K, tuple[bool, object]], now_ms: float) -> tuple[K, float] | None:
        """Return one that is stuck, and the time it was given; `vitals` say whether work waits, and a token.

        While others move, it may be a long queue that holds one up: then it has `TURNS` times as long.
        """
        held = self._all.stuck(waiting=True, token=tuple(vitals.values()), now_ms=now_ms)
        limit_ms = self._limit_ms * (1 if held else TURNS)
        for name, (waiting, token) in vitals.items():
            still = self._each.setdefault(name, Stillness(limit_ms=limit_ms, now_ms=now_ms))
            if still.stuck(waiting=waiting, token=token, now_ms=now_ms, limit_ms=limit_ms):
                return name, limit_ms
        return None

    def forget(self, name: K) -> None:
        """Take it that this one is gone; should it come back, it begins anew."""
        self._each.pop(name, None)
