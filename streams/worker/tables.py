"""What do the changelogs say now?  Rows by partition, put together as people ask for them: sessions and dimensions.

Never talks to Kafka and never reads a clock: rows come in as they are read, `now_ms` is an argument.
A session or a key may have rows in several partitions, when clients partition differently: all of them are added up.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from streams.fold import session
from streams.fold.gauges import Level
from streams.fold.measure import DIMENSIONS, OUTCOMES
from streams.fold.merge import add_counts
from streams.fold.panes import PaneKey
from streams.fold.rollup import LifetimeRow, PaneRow, decode_pane
from streams.fold.session import SessionRow, ToolTotals
from streams.fold.sketch import quantile
from streams.sink.view import Group, View
from streams.stage import commands as commands_stage
from streams.stage import rollup_rows, session_rows
from streams.stage.keys import dimension_key
from streams.stage.session_rows import read_row_key
from streams.topology import COMMANDS_CHANGELOG, ROLLUPS_CHANGELOG, SESSIONS_CHANGELOG

WINDOW_MS: Final = 5 * 60_000  # what "now" means in a quantile

_SESSION: Final = b"s"
_PROCESS: Final = b"p"
_CLOSED: Final = b"c"
_META: Final = b"m"

# Every number of a session's row is a sum, except these.
_NOT_SUMS: Final = {"started_ms", "last_ms", "seen_ms", "incarnation", "ended_ms", "stamp"}
_SUMS: Final = tuple(name for name, kind in SessionRow.__annotations__.items() if kind is int and name not in _NOT_SUMS)


class SessionTable:
    """The first stage's rows: sessions, processes, closed incarnations, and what each partition says of its input."""

    def __init__(self) -> None:
        self.meta: dict[int, session_rows.Meta] = {}
        self._rows: dict[bytes, dict[int, bytes]] = {}  # by row key, then partition
        self._alive: set[bytes] = set()  # keys of sessions that have not ended

    def take(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Take a row; no value deletes it."""
        kind = key[:1]
        if key == _META:
            if value is not None:
                self.meta[partition] = session_rows.decode_meta(partition, value)
        elif kind in {_SESSION, _PROCESS, _CLOSED}:
            self._put(partition, key, value)

    def _put(self, partition: int, key: bytes, value: bytes | None) -> None:
        rows = self._rows.setdefault(key, {})
        if value is None:
            rows.pop(partition, None)
        else:
            rows[partition] = value
        if key[:1] == _SESSION and any(not session.head(stored).ended for stored in rows.values()):
            self._alive.add(key)
        else:
            self._alive.discard(key)
        if not rows:
            del self._rows[key]

    @property
    def alive(self) -> int:
        """How many sessions have not ended?"""
        return len(self._alive)

    @property
    def count(self) -> int:
        """How many sessions are there, ended ones included?"""
        return sum(key[:1] == _SESSION for key in self._rows)

    def outcomes(self) -> dict[str, int]:
        """Return what has become of all events, by outcome, and `received`."""
        return {
            name: sum(meta.counters.get(name, 0) for meta in self.meta.values()) for name in ("received", *OUTCOMES)
        }

    def recent(self) -> Iterator[tuple[str, int, SessionRow]]:
        """Yield sessions (id, number of partitions, row), the one seen last first."""
        seen = (
            (max(session.head(stored).seen_ms for stored in rows.values()), key)
            for key, rows in self._rows.items()
            if key[:1] == _SESSION
        )
        for _, key in sorted(seen, reverse=True):
            rows = self._rows[key]
            yield key[1:].decode(), len(rows), merge_sessions(session.decode(stored) for stored in rows.values())

    def get(self, session_id: str) -> SessionRow | None:
        """Return one session's row."""
        rows = self._rows.get(_SESSION + session_id.encode())
        return merge_sessions(session.decode(stored) for stored in rows.values()) if rows else None

    def closed(self, session_id: str) -> list[SessionRow]:
        """Return the earlier incarnations of a session that are still kept, oldest first."""
        found = [
            merge_sessions(session.decode(stored) for stored in rows.values())
            for key, rows in self._rows.items()
            if key[:1] == _CLOSED and read_row_key(key)[0] == session_id
        ]
        return sorted(found, key=lambda row: row.incarnation)

    def processes(self) -> Iterator[tuple[str, SessionRow]]:
        """Yield what belongs to a process and no session, by source or agent."""
        for key, rows in self._rows.items():
            if key[:1] == _PROCESS:
                yield key[1:].decode(), merge_sessions(session.decode(stored) for stored in rows.values())


class Entry(NamedTuple):
    """One key of a dimension: its lifetime numbers and gauges, over all partitions, and its panes."""

    labels: tuple[str, ...]
    row: LifetimeRow
    stored: Mapping[tuple[int, PaneKey], bytes]  # panes, by partition and pane
    gauges: Mapping[str, Level] = {}

    def panes(self, since_ms: int = 0) -> Iterator[PaneRow]:
        """Yield the panes that start at or after a moment."""
        for (_, (_, start_ms)), pane in self.stored.items():
            if start_ms >= since_ms:
                yield decode_pane(pane)

    def sum(self, *measures: str) -> int:
        """Add up lifetime measures."""
        return sum(self.row.sums.get(name, 0) for name in measures)

    def quantile_us(self, histogram: str, q: float, now_ms: int, window_ms: int = WINDOW_MS) -> float | None:
        """Return a quantile over the panes of the trailing window, the open one included; None without observations."""
        bins: dict[int, int] = {}
        for pane in self.panes(now_ms - window_ms):
            if histogram in pane.histograms:
                add_counts(bins, pane.histograms[histogram].bins)
        return quantile(bins, q)


class RollupTable:
    """The second stage's rows: keys of dimensions with their panes, and how far each partition has read.

    The lifetime numbers are those of the exporter's own view, but every key that has a row is shown.
    """

    def __init__(self) -> None:
        self.meta: dict[int, rollup_rows.Meta] = {}
        self._view = View(1, {name: dimension.rows_max for name, dimension in DIMENSIONS.items()})
        self._panes: dict[str, dict[tuple[int, PaneKey], bytes]] = {}  # by key, then partition and pane

    def take(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Take a row; no value deletes it."""
        if key == _META and value is not None:
            self.meta[partition] = rollup_rows.decode_meta(partition, value)
        if key[:1] != rollup_rows.PANE:
            self._view.feed(partition, [(key, value)])
            return
        size, start, name = key[1:].split(b":", 2)
        panes = self._panes.setdefault(name.decode(), {})
        place = partition, (int(size), int(start))
        if value is None:
            panes.pop(place, None)
        else:
            panes[place] = value

    def entries(self, dimension: str) -> list[Entry]:
        """Return every key of a dimension, in the order of its labels."""
        for _ in self._view.settle():
            pass
        return [self._entry(group) for group in self._view.groups(dimension)]

    def get(self, dimension: str, *labels: str) -> Entry | None:
        """Return one key of a dimension."""
        return next((entry for entry in self.entries(dimension) if entry.labels == labels), None)

    def _entry(self, group: Group) -> Entry:
        panes = self._panes.get(dimension_key(group.dimension, group.labels), {})
        return Entry(group.labels, group.row, panes, group.gauges)


@dataclass(slots=True)
class Tables:
    """The changelogs; `take` every row in log order, then ask."""

    sessions: SessionTable = field(default_factory=SessionTable)
    rollups: RollupTable = field(default_factory=RollupTable)
    commands: dict[int, commands_stage.Meta] = field(default_factory=dict)  # how far each of its partitions has read

    def take(self, suffix: str, partition: int, key: bytes, value: bytes | None) -> None:
        """Take a row of the changelog with this suffix; other topics are none of ours."""
        if suffix == SESSIONS_CHANGELOG.suffix:
            self.sessions.take(partition, key, value)
        elif suffix == ROLLUPS_CHANGELOG.suffix:
            self.rollups.take(partition, key, value)
        elif suffix == COMMANDS_CHANGELOG.suffix and key == commands_stage.META_KEY and value is not None:
            self.commands[partition] = commands_stage.read_meta(partition, value)


def merge_sessions(rows: Iterable[SessionRow]) -> SessionRow:
    """Add up the rows of one session; it has ended when all of them have. The first one is changed."""
    merged, *others = sorted(rows, key=lambda row: row.seen_ms, reverse=True)
    for more in others:
        for name in _SUMS:
            setattr(merged, name, getattr(merged, name) + getattr(more, name))
        merged.started_ms = min(merged.started_ms, more.started_ms)
        merged.last_ms = max(merged.last_ms, more.last_ms)
        alive = not (merged.ended_ms and more.ended_ms)
        merged.ended_ms = 0 if alive else max(merged.ended_ms, more.ended_ms)
        merged.end_reason = None if alive else merged.end_reason
        merged.open |= more.open
        merged.marks |= more.marks
        merged.panes = _merge_panes(merged.panes, more.panes)
        for tool, totals in more.tools.items():
            mine = merged.tools.setdefault(tool, ToolTotals())
            mine.calls += totals.calls
            mine.errors += totals.errors
            mine.duration_us += totals.duration_us
    return merged


def _merge_panes(panes: list[session.Pane], more: list[session.Pane]) -> list[session.Pane]:
    by_start = {pane.start_ms: pane for pane in panes}
    for pane in more:
        mine = by_start.setdefault(pane.start_ms, session.Pane(pane.start_ms))
        for name in session.Pane.__struct_fields__[1:]:
            setattr(mine, name, getattr(mine, name) + getattr(pane, name))
    return [by_start[start_ms] for start_ms in sorted(by_start)]
