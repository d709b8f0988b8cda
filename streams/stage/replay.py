"""What would rules have told of a stretch of the log?  Both stages over it, in the order of its time; nothing is sent.

Never reads a clock: time is what the records' own timestamps say, and ticks come in steps between them, as they came to
workers that kept up.  Live, a flush is not at the beginning of a step but somewhere in it: times are right to a step.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from streams.event.codec import time_ms
from streams.event.custom import NO_CUSTOMS, Customs
from streams.fold.price import Pricer
from streams.fold.streamtime import PANE_MS
from streams.rule.model import RuleSet
from streams.rule.threshold import judge
from streams.stage.lives import Lives
from streams.stage.plan import Plan, Send, SourceRecord
from streams.stage.rollups import RollupsPartition
from streams.stage.sessions import SessionsPartition
from streams.topology import ALERTS, BREAKERS, ROLLUPS

STEP_MS: Final = 1_000  # finer than any timer people set; a day of silence is then 86,400 steps at most
WARM_UP_MS: Final = 60 * 60_000  # no window is longer; what rows have added up to before is not known all the same
SILENCE_MS: Final = 60_000  # nothing comes for longer and no alert is alive: a step is a pane


class _Time(Struct):
    """What is read of a line to know when it was."""

    time: int | str


_decode_time: Final = msgspec.json.Decoder(_Time).decode
_decode_times: Final = msgspec.json.Decoder(list[_Time]).decode


class Read(NamedTuple):
    """One record as a stage reads it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def read_line(offset: int, line: bytes, before_ms: int) -> Read:
    """Make a record of a line of JSON: written when its event happened, or with the one before if it does not say."""
    try:
        told = _decode_times(line)[0].time if line.lstrip()[:1] == b"[" else _decode_time(line).time
        at_ms = time_ms(told)
    except (msgspec.MsgspecError, LookupError, ValueError, RecursionError):
        at_ms = None
    return Read(offset, before_ms if at_ms is None else at_ms, None, line)


class Replay:
    """Both stages under one rule set; `lives` are the alerts, `circuits` the transitions of breakers."""

    def __init__(
        self,
        rules: RuleSet,
        *,
        partitions: int = 1,
        rollup_partitions: int = 1,
        pricer: Pricer | None = None,
        customs: Customs = NO_CUSTOMS,
        listener: Callable[[Send], None] | None = None,
    ) -> None:
        self.rules = rules
        self.lives = Lives()
        self.circuits: dict[str, int] = {}  # how often each has opened
        self._first = [
            SessionsPartition(number, partitions, rollup_partitions, rules, pricer, customs=customs)
            for number in range(partitions)
        ]
        self._second = [RollupsPartition(number, rollup_partitions, rules) for number in range(rollup_partitions)]
        self._listener = listener  # hears whatever is told of alerts and breakers
        self._ends = [0] * rollup_partitions

    @property
    def quiet(self) -> bool:
        """Is no alert alive?"""
        parts: list[SessionsPartition | RollupsPartition] = [*self._first, *self._second]
        return not any(True for part in parts for _ in part.alive())

    def counters(self) -> dict[str, int]:
        """Return what all partitions have counted: received, applied, late, duplicate, rejected …"""
        total: dict[str, int] = {}
        for part in self._first:
            for name, count in part.counters().items():
                total[name] = total.get(name, 0) + count
        return total

    def feed(self, partition: int, records: Sequence[SourceRecord]) -> None:
        """Fold records of one partition, in offset order."""
        self._first[partition].feed(records)

    def step(self, now_ms: int) -> None:
        """Judge what was fed since the last step by the time of its events, then let time pass up to here."""
        self._flush()
        parts: list[SessionsPartition | RollupsPartition] = [*self._first, *self._second]
        for part in parts:
            if part.next_offset is not None:
                part.tick(now_ms)
        self._flush()
        self._look(now_ms)

    def _flush(self) -> None:
        for first in self._first:
            self._pass_on(first.plan())
        for second in self._second:
            self._tell(second.plan())

    def _pass_on(self, plan: Plan | None) -> None:
        for send in () if plan is None else plan.sends:
            if send.topic == ROLLUPS.suffix and send.partition is not None:
                record = Read(self._ends[send.partition], 0, send.key, send.value, send.headers)
                self._second[send.partition].feed([record])
                self._ends[send.partition] += 1
        self._tell(plan)

    def _tell(self, plan: Plan | None) -> None:
        for send in () if plan is None else plan.sends:
            if self._listener is not None:
                self._listener(send)
            if send.topic == ALERTS.suffix:
                self.lives.take(send.key or b"", send.value)
            elif send.topic == BREAKERS.suffix and send.value is not None:
                name = (send.key or b"").decode()
                self.circuits[name] = self.circuits.get(name, 0) + (b'"state":"open"' in send.value)

    def _look(self, now_ms: int) -> None:
        parts: list[SessionsPartition | RollupsPartition] = [*self._first, *self._second]
        for part in parts:
            for rule, key, _, reading in part.alive():
                self.lives.peak(rule, key, judge(rule, reading).value, now_ms)


class Merge:
    """Records of several partitions, handed on in the order of their time as far as all partitions are known."""

    def __init__(self, partitions: int) -> None:
        self._waiting: list[deque[tuple[int, SourceRecord]]] = [deque() for _ in range(partitions)]
        self._known_ms = [-1] * partitions
        self._ended = [False] * partitions

    def wants(self, until_ms: int) -> list[int]:
        """Return the partitions of which more must be read before time can go on to a moment."""
        told = enumerate(zip(self._known_ms, self._ended, strict=True))
        return [number for number, (known_ms, ended) in told if not ended and known_ms < until_ms]

    def push(self, partition: int, records: Iterable[SourceRecord]) -> None:
        """Take records in offset order; a timestamp that goes back counts as the one before."""
        known_ms, waiting = self._known_ms[partition], self._waiting[partition]
        for record in records:
            known_ms = max(known_ms, record.timestamp)
            waiting.append((known_ms, record))
        self._known_ms[partition] = known_ms

    def end(self, partition: int) -> None:
        """Nothing more will come from this partition."""
        self._ended[partition] = True

    @property
    def first_ms(self) -> int | None:
        """The time of the first record that waits; None: none does."""
        return min((waiting[0][0] for waiting in self._waiting if waiting), default=None)

    def take(self, until_ms: int) -> list[tuple[int, list[SourceRecord]]]:
        """Take the records from before a moment, by partition."""
        taken: list[tuple[int, list[SourceRecord]]] = []
        for number, waiting in enumerate(self._waiting):
            records: list[SourceRecord] = []
            while waiting and waiting[0][0] < until_ms:
                records.append(waiting.popleft()[1])
            if records:
                taken.append((number, records))
        return taken


class Pace:
    """Moves replays through time, all of them alike: `go` as far as everything is known, `finish` to the end."""

    def __init__(self, replays: Sequence[Replay], merge: Merge, *, step_ms: int = STEP_MS) -> None:
        self._replays = replays
        self._merge = merge
        self._step_ms = step_ms
        self.now_ms = -1
        self.records = 0

    def wants(self) -> list[int]:
        """Return the partitions of which more must be read before time can go on; none: all has been read."""
        return self._merge.wants(self._until(self._merge.first_ms))

    def go(self) -> None:
        """Hand on what is known of every partition."""
        while (first_ms := self._merge.first_ms) is not None:
            until_ms = self._until(first_ms)
            if self._merge.wants(until_ms):
                return
            if self.now_ms < 0:
                self.now_ms = first_ms - first_ms % self._step_ms
            else:
                self._step(until_ms)

    def finish(self, end_ms: int) -> None:
        """Hand on the rest, and let time pass to the end of the range."""
        self.go()
        while 0 <= self.now_ms < end_ms:
            self._step(min(self._until(end_ms), end_ms))

    def _until(self, next_ms: int | None) -> int:
        """Choose the end of the next step; in silence nothing can happen but at the ends of panes."""
        if self.now_ms < 0:
            return 0
        if next_ms is not None and next_ms - self.now_ms > SILENCE_MS and all(replay.quiet for replay in self._replays):
            return self.now_ms - self.now_ms % PANE_MS + PANE_MS
        return self.now_ms + self._step_ms

    def _step(self, until_ms: int) -> None:
        for partition, records in self._merge.take(until_ms):
            self.records += len(records)
            for replay in self._replays:
                replay.feed(partition, records)
        self.now_ms = until_ms
        for replay in self._replays:
            replay.step(until_ms)
