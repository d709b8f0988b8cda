"""One partition of one stage in a test's hands: records in, flushes into a compacted changelog, reload at any time."""

import json
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from streams.fold.rollup import Delta, RollupBatch
from streams.stage.plan import Plan, Send
from streams.stage.rollups import RollupsPartition
from streams.stage.sessions import SessionsPartition

T0: Final = 1_763_724_000_000
P = TypeVar("P", SessionsPartition, RollupsPartition)


class Record(NamedTuple):
    """One record as a stage reads it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class One(Generic[P]):
    """A partition, its log and its changelog; `plans` are all its flushes."""

    def __init__(self, empty: Callable[[], P]) -> None:
        self._empty: Callable[[], P] = empty
        self.state: P = empty()
        self.log: list[Record] = []
        self.rows: dict[bytes, bytes] = {}  # the changelog, compacted
        self.plans: list[Plan] = []

    def write(self, value: bytes | None, timestamp_ms: int = T0) -> Record:
        """Append a record to the log without feeding it."""
        record = Record(len(self.log), timestamp_ms, None, value)
        self.log.append(record)
        return record

    def flush(self) -> Plan | None:
        """Plan, and write the rows."""
        plan: Plan | None = self.state.plan()
        if plan is not None:
            self.plans.append(plan)
            self.keep(plan.rows)
        return plan

    def keep(self, written: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Have the changelog hold these rows as well, each the last of its key."""
        for key, value in written:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    def reload(self) -> None:
        """Throw the partition away and build it from the changelog."""
        self.state = self._empty()
        self.state.load(self.rows.items())
        self.state.loaded()

    def replay(self) -> None:
        """Feed the whole log again, as after a restart whose position is too low."""
        self.state.feed(self.log)

    def sent(self, topic: str) -> list[Send]:
        """Return all that was sent to a topic."""
        return [send for plan in self.plans for send in plan.sends if send.topic == topic]

    def told(self, topic: str) -> list[dict[str, Any]]:
        """Return the JSON of all that was sent to a topic, without tombstones."""
        return [json.loads(send.value) for send in self.sent(topic) if send.value]


def happen(one: One[SessionsPartition], *events: dict[str, Any], timestamp_ms: int | None = None) -> None:
    """Write events, one per record stamped with its own time, and feed them."""
    for event in events:
        at_ms = event["time"] if timestamp_ms is None else timestamp_ms
        one.state.feed([one.write(json.dumps(event).encode(), at_ms)])


def totals(sends: Iterable[Send]) -> dict[tuple[str, tuple[str, ...]], dict[str, int]]:
    """Add up the deltas of rollup records by key."""
    found: dict[tuple[str, tuple[str, ...]], dict[str, int]] = {}
    for delta in deltas(sends):
        sums = found.setdefault((delta.dimension, delta.labels), {})
        for name, value in delta.sums.items():
            sums[name] = sums.get(name, 0) + value
    return found


def deltas(sends: Iterable[Send]) -> list[Delta]:
    """Return the deltas of rollup records in order."""
    batches = [msgspec.json.decode(send.value or b"", type=RollupBatch) for send in sends]
    return [delta for batch in batches for delta in batch.deltas]
