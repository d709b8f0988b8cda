"""A worker under steady load, and what a fault costs it: the same run with and without, by turns.

A machine that does other things slows both alike: what is compared is processor time per event, of turns side by side.
"""

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil
from fleet import Fleet as Agents
from harness import Broker, Fleet, WorkerProcess, eventually

# Flushes by the clock would cost an event more the slower the machine is just now: these hold half a second each.
STEADY: Final = {
    "AGENT_STREAMS_FLUSH_IDLE_MS": "500",
    "AGENT_STREAMS_FLUSH_BUSY_MS": "500",
    "AGENT_STREAMS_FLUSH_LIMIT_MS": "500",
}
LEAD: Final = 50_000  # records that wait, where a worker is kept busy
SOME: Final = 2_000  # events between two looks at how far it has got
LAG_S: Final = 240.0  # for a worker to catch up at the end, on a machine that does other things


class Turn(NamedTuple):
    """What a worker did for a while."""

    events: int
    cpu_s: float
    wall_s: float

    @property
    def cost_us(self) -> float:
        """Return processor time per event."""
        return self.cpu_s / self.events * 1e6


class Loss(NamedTuple):
    """What a fault costs: the median of pairs, and how far off that may be (a standard error), as shares."""

    share: float
    error: float
    pairs: int

    @property
    def least(self) -> float:
        """Return the loss that is shown beyond doubt: two standard errors below the median."""
        return self.share - 2 * self.error

    @property
    def most(self) -> float:
        """Return the loss that is beyond doubt not exceeded: two standard errors above the median."""
        return self.share + 2 * self.error


def loss(pairs: Sequence[tuple[Turn, Turn]]) -> Loss:
    """Compare turns without a fault to turns with it; a loss is what the same processor time no longer does."""
    assert len(pairs) > 2, "fewer say nothing of how far off they are"
    shares = [1 - without.cost_us / broken.cost_us for without, broken in pairs]
    # of a median, from the median of distances: one turn in somebody else's burst moves neither
    middle = statistics.median(shares)
    spread = statistics.median(abs(share - middle) for share in shares) * 1.4826
    return Loss(middle, 1.2533 * spread / len(shares) ** 0.5, len(shares))


class Pressed:
    """One worker, and agents that publish at a steady rate in a thread until they are told to stop."""

    def __init__(
        self, bootstrap: str, prefix: str, folder: Path, *, agents: Agents, rate: float | None = None, least: int = 1
    ) -> None:
        """Publish at a rate, or without one as much as keeps the worker busy; a turn has `least` records."""
        self.broker, self.prefix, self.rate, self.least = Broker(bootstrap), prefix, rate, least
        self.fleet = Fleet(folder)
        self.published = 0
        self.extra: list[dict[str, Any]] = []  # to be published next
        self._agents = agents
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._publish)

    @contextmanager
    def working(self) -> Iterator["Pressed"]:
        """Run the worker and publish."""
        with self.fleet:
            self.worker = self.add("worker")
            self._thread.start()
            try:
                eventually(lambda: self.done() > 0, timeout_s=LAG_S, what=self.fleet.logs)
                self._process = psutil.Process(self.worker.pid)
                yield self
            finally:
                self._ends.set()
                self._thread.join()

    def add(self, role: str, *options: str) -> WorkerProcess:
        """Start another process of ours."""
        where = ["--bootstrap", self.broker.bootstrap, "--prefix", self.prefix]
        return self.fleet.add(role, ["-m", "streams", role, *where, *options])

    def done(self) -> int:
        """Return how many records are committed."""
        return sum(self.broker.committed(f"{self.prefix}workers", f"{self.prefix}events").values())

    def turn(self, seconds: float) -> Turn:
        """Let the worker work for a while and say what that took."""
        begun_s, cpu_s, done = time.monotonic(), self._cpu(), self.done()

        def over() -> bool:  # what a turn costs is said of many events, however long they take
            return time.monotonic() - begun_s >= seconds and self.done() >= done + self.least

        eventually(over, timeout_s=seconds + LAG_S, what=self.fleet.logs)
        return Turn(max(1, self.done() - done), self._cpu() - cpu_s, time.monotonic() - begun_s)

    def settle(self) -> int:
        """Publish no more and wait until everything is folded; return how many events there were."""
        self._ends.set()
        self._thread.join()
        eventually(lambda: self.done() >= self.published, timeout_s=2 * LAG_S, what=self.fleet.logs)
        return self.published

    def connected_to(self, port: int) -> bool:
        """Has the worker a connection to this port?"""
        return any(each.raddr and each.raddr.port == port for each in self._process.net_connections())

    def memory_bytes(self) -> int:
        """Return the worker's resident memory."""
        return int(self._process.memory_info().rss)

    def files(self) -> int:
        """Return how many files and sockets the worker has open."""
        return int(self._process.num_fds())

    def _cpu(self) -> float:
        used = self._process.cpu_times()
        return float(used.user + used.system)

    def _publish(self) -> None:
        self.broker.publish(f"{self.prefix}events", self._records(), per_second=self.rate)

    def _records(self) -> Iterator[tuple[bytes, bytes]]:
        while not self._ends.is_set():
            if self.rate is None and self.published - self.done() > LEAD:
                self._ends.wait(0.05)
                continue
            for event in self._now():
                self.published += 1
                yield event["session_id"].encode(), json.dumps(event).encode()

    def _now(self) -> Iterable[dict[str, Any]]:
        """Yield some events as of now."""
        more, self.extra = self.extra, []
        for event in (*more, *self._agents.events(100 if self.rate else SOME)):
            yield {**event, "time": int(time.time() * 1000)}


def what_is_lost(
    pressed: Pressed, limit: float, seconds: float, pairs: tuple[int, int], begin: Callable[[], None],
    end: Callable[[], None],
) -> Loss:  # fmt: skip
    """Take pairs of turns until the loss is beyond doubt below the limit, or above; no fewer and no more than `pairs`.

    Raises AssertionError when that many do not tell: the machine was too busy, and nothing was shown.
    """
    least, most = pairs
    turns = by_turns(pressed, least, seconds, begin, end)
    while not (found := loss(turns)).most < limit and not found.least > limit:
        assert len(turns) < most, f"the machine does too much else to tell a loss of {limit:.0%}: {found}"
        turns += by_turns(pressed, 2, seconds, begin, end)
    return found


def by_turns(
    pressed: Pressed, pairs: int, seconds: float, begin: Callable[[], None], end: Callable[[], None]
) -> list[tuple[Turn, Turn]]:
    """Take turns without and with a fault; each pair in the other order than the one before, so that drift cancels."""
    found = []
    for number in range(pairs):
        turns: dict[bool, Turn] = {}
        for broken in (False, True) if number % 2 == 0 else (True, False):
            if broken:
                begin()
            turns[broken] = pressed.turn(seconds)
            if broken:
                end()
        found.append((turns[False], turns[True]))
    return found
