"""Clocks of publishers that are wrong in every way, and a worker's that steps: time stays bounded, nothing hangs."""

import itertools
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
from aiokafka import TopicPartition
from fault_table import record
from loop_watch import what_others_left_set_aside
from one_stage import T0, Record

from streams import clock
from streams.fold.measure import OUTCOMES
from streams.fold.streamtime import GRACE_MS, SKEW_MS
from streams.stage.sessions import SessionsPartition
from streams.topology import SESSIONS_STAGE
from streams.worker.config import WorkerConfig
from streams.worker.connection import KafkaConnection
from streams.worker.partition import Bench, Partition
from streams.worker.transport import Chunk, Sight

pytestmark = pytest.mark.fault("T12")

HOUR_MS: Final = 60 * 60_000
HANG_MS: Final = 100.0
# How a publisher's clock is wrong, and what must become of its events.
CLOCKS: Final[dict[str, Callable[[int], int | str]]] = {
    "right": lambda now_ms: now_ms,
    "an hour behind": lambda now_ms: now_ms - HOUR_MS,
    "an hour ahead": lambda now_ms: now_ms + HOUR_MS,
    "seconds": lambda now_ms: now_ms // 1_000,
    "microseconds": lambda now_ms: now_ms * 1_000,
    "year 9999": lambda _: "9999-12-31T23:59:59Z",
    "year 9999 in ms": lambda _: 253_402_300_799_999,  # of a size that means microseconds: 1978
    "1970": lambda _: 0,
}
AHEAD: Final = {"an hour ahead", "year 9999"}
BEHIND: Final = {"an hour behind", "seconds", "year 9999 in ms", "1970"}


def test_the_watermark_is_bounded_and_late_and_skewed_are_what_was_injected() -> None:
    """Microseconds are told by their size; seconds are not, and are milliseconds of 1970."""
    rng = random.Random(12)
    state = SessionsPartition(0, 1, 1)
    injected: dict[str, int] = dict.fromkeys(("late", "skewed", "rejected"), 0)
    slowest_ms = 0.0
    with what_others_left_set_aside():
        for number in range(4_000):
            now_ms = T0 + number * 100
            which = "right" if number < 10 or rng.random() < 0.6 else rng.choice(sorted(CLOCKS))
            told_ms = CLOCKS[which](now_ms)
            event = {"kind": "cycle", "phase": "planning", "id": f"e{number}", "time": told_ms, "agent": "a",
                     "session_id": f"s{number % 50}"}  # fmt: skip
            began_ms = time.thread_time() * 1_000
            state.feed([Record(number, now_ms, None, json.dumps(event).encode())])
            if number % 100 == 99:
                state.tick(now_ms)
                state.plan()
            slowest_ms = max(slowest_ms, time.thread_time() * 1_000 - began_ms)
            injected["late"] += which in BEHIND
            injected["skewed"] += which in AHEAD
            assert T0 <= state.watermark_ms <= now_ms + SKEW_MS
    counters = state.counters()

    assert injected == {name: counters.get(name, 0) for name in injected}
    assert 4_000 == sum(counters.get(name, 0) for name in OUTCOMES)
    assert slowest_ms < HANG_MS
    record("T12", "publishers", events=4_000, late=injected["late"], future=injected["skewed"],
           slowest_step_ms=round(slowest_ms, 1))  # fmt: skip


def test_a_clock_just_within_the_bound_moves_the_watermark_by_no_more_than_it() -> None:
    state = SessionsPartition(0, 1, 1)
    for number, ahead_ms in enumerate((0, SKEW_MS, SKEW_MS + 1)):
        event = {"kind": "cycle", "phase": "planning", "id": str(number), "time": T0 + ahead_ms, "agent": "a"}
        state.feed([Record(number, T0, None, json.dumps(event).encode())])

    assert T0 + SKEW_MS == state.watermark_ms
    assert 1 == state.counters()["skewed"]
    assert GRACE_MS > SKEW_MS, "or one publisher's clock could make the events of all others late"


class Walls:
    """A worker's partition, and the wall clock it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = T0
        self.state: Any = None
        monkeypatch.setattr(clock, "now_ms", lambda: self.now_ms)
        bench = Bench(WorkerConfig(connection=KafkaConnection(bootstrap="localhost:9092"), tick_ms=1))
        self.partition = Partition(bench, SESSIONS_STAGE, self._make, 0, sight=lambda _: self._sight())
        self.partition.begin({"events": 1})
        self.partition.build()
        self.partition.stand(0, committed=None)
        self.partition.resume(1)
        self.end = 0

    def _make(self, partition: int, partition_count: int, partitions: Mapping[str, int]) -> SessionsPartition:
        self.state = made = SessionsPartition(partition, partition_count, partitions["events"])
        return made

    def _sight(self) -> Sight:
        return Sight(self.end, self.end, self.end, self.now_ms, self.end)

    async def publish(self, real_ms: int) -> None:
        """Fold one event of the broker's time, which does not step."""
        event = {
            "kind": "cycle",
            "phase": "planning",
            "id": f"e{self.end}",
            "time": real_ms,
            "agent": "a",
            "session_id": "s",
        }
        records = [Record(self.end, real_ms, None, json.dumps(event).encode())]
        await self.partition.feed(Chunk(TopicPartition("agent.events", 0), 1, self.end, self.end + 1, records))
        self.end += 1
        self.partition._maybe_tick(float("inf"))


async def test_steps_of_the_workers_clock_make_nothing_late_and_never_move_time_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    walls = Walls(monkeypatch)
    seen: list[int] = []
    steps = itertools.cycle((0, 5 * 60_000, -5 * 60_000))
    for number in range(300):
        real_ms = T0 + number * 1_000
        walls.now_ms = real_ms + next(steps)
        await walls.publish(real_ms)
        seen.append(walls.partition._ticked_ms)

    assert {"applied": 300} == {
        name: walls.state.counters()[name] for name in walls.state.counters() if name in OUTCOMES
    }
    assert T0 + 299_000 == walls.state.watermark_ms
    assert sorted(seen) == seen
    record("T12", "worker-clock", steps=300, step_minutes=5, late=0)
