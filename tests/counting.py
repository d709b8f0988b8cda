"""Two stages that only count: the smallest thing that shows a lost, doubled or misplaced record.

The first counts per session and sends per-tool deltas on; the second adds them up per tool and checks the sequence.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from streams.errors import SequenceGap, StateRefused
from streams.stage.plan import Plan, Row, Send, SourceRecord

META = b"meta"
_COUNT = struct.Struct(">qqq")  # count, sum, highest offset folded in
_META = struct.Struct(">qqq")  # next offset, sequence, last tick
_TOTAL = struct.Struct(">qq")  # count, sum


class Event(msgspec.Struct):
    """What the test program publishes."""

    session: str
    tool: str
    n: int


class Delta(msgspec.Struct):
    """What one flush of the first stage adds."""

    source: int
    sequence: int
    tools: dict[str, tuple[int, int]]


class SessionCounts:
    """Counts and sums per session; deltas per tool go to the partition the tool's name falls to."""

    def __init__(self, partition: int, partition_count: int, partitions: Mapping[str, int]) -> None:
        assert 0 <= partition < partition_count
        self.next_offset: int | None = None
        self.pending = 0
        self._partition = partition
        self._targets = partitions["rollups"]
        self._sequence = 0
        self._ticked_ms = 0
        self._counts: dict[bytes, tuple[int, int, int]] = {}
        self._dirty: set[bytes] = set()
        self._deltas: dict[str, tuple[int, int]] = {}
        self._decode = msgspec.json.Decoder(Event).decode

    def load(self, rows: Iterable[Row]) -> None:
        for key, value in rows:
            if value is None:
                self._counts.pop(key, None)
            elif key == META:
                self.next_offset, self._sequence, self._ticked_ms = _META.unpack(value)
            else:
                self._counts[key] = _COUNT.unpack(value)

    def loaded(self) -> None:
        if self._counts and self.next_offset is None:
            raise StateRefused("rows without a meta row")

    def feed(self, records: Sequence[SourceRecord]) -> None:
        counts, deltas, decode = self._counts, self._deltas, self._decode
        for record in records:
            event = decode(record.value or b"")
            key = b"s:" + event.session.encode()
            count, total, highest = counts.get(key, (0, 0, -1))
            assert record.offset > highest, "a record was folded twice"
            counts[key] = (count + 1, total + event.n, record.offset)
            self._dirty.add(key)
            tool_count, tool_sum = deltas.get(event.tool, (0, 0))
            deltas[event.tool] = (tool_count + 1, tool_sum + event.n)
        self.next_offset = records[-1].offset + 1
        self.pending += len(records)

    def pass_over(self, offset: int) -> None:
        """Marks are read again: nothing here expires."""

    def tick(self, now_ms: int) -> None:
        assert now_ms >= self._ticked_ms - 5_000, "time went backwards"
        self._ticked_ms = now_ms

    def plan(self) -> Plan | None:
        if not self.pending:
            return None
        self._sequence += 1
        rows: list[Row] = [(key, _COUNT.pack(*self._counts[key])) for key in self._dirty]
        rows.append((META, _META.pack(self.next_offset or 0, self._sequence, self._ticked_ms)))
        by_target: dict[int, dict[str, tuple[int, int]]] = {target: {} for target in range(self._targets)}
        for tool, delta in self._deltas.items():
            by_target[sum(tool.encode()) % self._targets][tool] = delta
        sends = [
            Send("rollups", target, None, msgspec.json.encode(Delta(self._partition, self._sequence, tools)))
            for target, tools in by_target.items()
        ]
        self._dirty.clear()
        self._deltas.clear()
        self.pending = 0
        return Plan(rows, sends, self.next_offset or 0)


class ToolCounts:
    """Adds deltas up per tool; a sequence that repeats or skips is a lost or doubled record."""

    def __init__(self, partition: int, partition_count: int, partitions: Mapping[str, int]) -> None:
        assert 0 <= partition < partition_count <= partitions["rollups"]
        self.next_offset: int | None = None
        self.pending = 0
        self._totals: dict[bytes, tuple[int, int]] = {}
        self._sequences: dict[int, int] = {}
        self._dirty: set[bytes] = set()

    def load(self, rows: Iterable[Row]) -> None:
        for key, value in rows:
            assert value is not None
            if key == META:
                self.next_offset, self._sequences = msgspec.json.decode(value, type=tuple[int, dict[int, int]])
            else:
                self._totals[key] = _TOTAL.unpack(value)

    def loaded(self) -> None:
        """Nothing is derived."""

    def feed(self, records: Sequence[SourceRecord]) -> None:
        for record in records:
            delta = msgspec.json.decode(record.value or b"", type=Delta)
            last = self._sequences.get(delta.source, 0)
            if delta.sequence != last + 1:
                raise SequenceGap(f"source {delta.source}: sequence {delta.sequence} after {last}")
            self._sequences[delta.source] = delta.sequence
            for tool, (count, total) in delta.tools.items():
                key = b"t:" + tool.encode()
                old_count, old_total = self._totals.get(key, (0, 0))
                self._totals[key] = (old_count + count, old_total + total)
                self._dirty.add(key)
        self.next_offset = records[-1].offset + 1
        self.pending += len(records)

    def pass_over(self, offset: int) -> None:
        """Marks are read again: nothing here expires."""

    def tick(self, now_ms: int) -> None:
        """Time means nothing here."""

    def plan(self) -> Plan | None:
        if not self.pending:
            return None
        rows: list[Row] = [(key, _TOTAL.pack(*self._totals[key])) for key in self._dirty]
        rows.append((META, msgspec.json.encode((self.next_offset, self._sequences))))
        self._dirty.clear()
        self.pending = 0
        return Plan(rows, [], self.next_offset or 0)


def session_totals(rows: Mapping[bytes, bytes]) -> dict[str, tuple[int, int]]:
    """Read count and sum per session from changelog rows."""
    return {key[2:].decode(): _COUNT.unpack(value)[:2] for key, value in rows.items() if key.startswith(b"s:")}


def tool_totals(rows: Mapping[bytes, bytes]) -> dict[str, tuple[int, int]]:
    """Read count and sum per tool from changelog rows."""
    return {key[2:].decode(): _TOTAL.unpack(value) for key, value in rows.items() if key.startswith(b"t:")}
