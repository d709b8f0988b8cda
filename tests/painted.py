"""A picture as a board would have it, painted by the real stages from what simulated agents publish; no broker."""

from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from streams.event.model import Envelope, partition_key
from streams.rule.defaults import default_rules
from streams.stage.keys import partition_of
from streams.stage.plan import Plan, StagePartition
from streams.stage.rollups import RollupsPartition
from streams.stage.sessions import SessionsPartition
from streams.topology import ROLLUPS, ROLLUPS_CHANGELOG, SESSIONS_CHANGELOG
from streams.worker.crew import Crew, Script, Stranger
from streams.worker.picture import Picture

BEGIN_MS: Final = 1_763_724_000_000
RATE: Final = 200.0
FLUSH_EVENTS: Final = 100
EVENTS: Final = 2
ROLLED: Final = 2


class Record(NamedTuple):
    """One record as stages and followers read it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Painter:
    """Both stages with the shipped rules, and the picture that follows what they write."""

    def __init__(self) -> None:
        self.picture = Picture()
        self._sessions = [SessionsPartition(number, EVENTS, ROLLED, rules=default_rules()) for number in range(EVENTS)]
        self._rollups = [RollupsPartition(number, ROLLED, rules=default_rules()) for number in range(ROLLED)]
        self._ends: dict[tuple[str, int], int] = {}

    def publish(self, values: Iterable[tuple[bytes, bytes]], now_ms: int, *, partition: int | None = None) -> None:
        """Feed records (key and value), and flush both stages."""
        by_partition: dict[int, list[Record]] = {}
        for key, value in values:
            number = partition_of(key, EVENTS) if partition is None else partition
            by_partition.setdefault(number, []).append(Record(self._next("events", number), now_ms, key, value))
        for number, records in by_partition.items():
            self._sessions[number].feed(records)
        self._flush()

    def tick(self, now_ms: int) -> None:
        """Let time pass, and flush both stages."""
        stages: list[StagePartition] = [*self._sessions, *self._rollups]
        for stage in stages:
            stage.tick(now_ms)
        self._flush()

    def _flush(self) -> None:
        for number, first in enumerate(self._sessions):
            self._write(SESSIONS_CHANGELOG.suffix, number, first.plan())
        for number, second in enumerate(self._rollups):
            self._write(ROLLUPS_CHANGELOG.suffix, number, second.plan())

    def _write(self, changelog: str, number: int, plan: Plan | None) -> None:
        if plan is None:
            return
        self.picture.take(changelog, number, [Record(0, 0, key, value) for key, value in plan.rows])
        for send in plan.sends:
            partition = send.partition if send.partition is not None else 0
            record = Record(self._next(send.topic, partition), 0, send.key, send.value, send.headers)
            if send.topic == ROLLUPS.suffix:
                self._rollups[partition].feed([record])
            elif send.topic in {"alerts", "breakers"}:
                self.picture.take(send.topic, partition, [record])

    def _next(self, topic: str, partition: int) -> int:
        offset = self._ends.get((topic, partition), 0)
        self._ends[topic, partition] = offset + 1
        return offset


def record_of(event: Envelope) -> tuple[bytes, bytes]:
    """Return an event as key and value."""
    return partition_key(event).encode(), msgspec.json.encode(event)


def painted(seconds: float, seed: int = 1) -> tuple[Painter, Crew]:
    """Let a crew and a stranger work for so long, and follow them."""
    painter = Painter()
    crew = Crew(seed, rate=RATE, begin_ms=BEGIN_MS, script=Script.of(seconds))
    stranger = Stranger(crew.ledger, BEGIN_MS)
    while crew.at_s < seconds:
        records = [record_of(act.event) for act in islice(crew, FLUSH_EVENTS)]
        while stranger.at_s < crew.at_s:
            records += [(b"legacy-bot-1", value) for value in stranger.records()]
        painter.publish(records, BEGIN_MS + int(crew.at_s * 1000))
    return painter, crew
