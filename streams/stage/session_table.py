"""All rows of one partition of the first stage: in use as objects, and packed to bytes when untouched for a while.

Decides what is packed when.  Never creates, ends or deletes a row: the partition does, in `rows`.
"""

from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from streams.fold import session
from streams.fold.live import LiveRow, unpack
from streams.fold.session import RowKey
from streams.stage.idle import IdleWheel, slot_of
from streams.stage.session_rows import row_key, unreadable

EVICT_TRIES: Final = 64  # stale deadlines skipped per eviction
PACK_AFTER_MS: Final = 60_000  # rows untouched for this long are kept as bytes
PACK_PER_STEP: Final = 2_000  # 30 ms: a wave of sessions that fell silent together never holds the loop


class Bounds(NamedTuple):
    """Sessions that a partition remembers, and those that are objects: twice as many at most, and two flushes."""

    rows: int = 1_000_000  # beyond it the one idle for longest is ended and counted
    active: int = 100_000  # some 450 MB while they are folded into


class SessionTable:
    """Rows by key: `LiveRow`, or its bytes."""

    def __init__(self, partition: int, bounds: Bounds = Bounds()) -> None:  # noqa: B008  never changed
        self.rows: dict[RowKey, Any] = {}
        self.bounds = bounds
        self.partition = partition
        self._young: set[RowKey] = set()  # touched in this period
        self._old: set[RowKey] = set()  # touched in the last one
        self._cold: list[RowKey] = []  # to be packed, if nothing has touched them since
        self._aged_ms = -1

    def all(self) -> Iterable[tuple[RowKey, LiveRow]]:
        """Yield every row, decoded."""
        for key, stored in self.rows.items():
            yield key, self.unpacked(key, stored)

    def peek(self, key: RowKey) -> LiveRow | None:
        """Return a row, decoded, and leave it as it is kept."""
        stored = self.rows.get(key)
        return None if stored is None else self.unpacked(key, stored)

    def unpacked(self, key: RowKey, stored: Any) -> LiveRow:
        """Decode a row unless it is; StateRefused when another release wrote it."""
        if isinstance(stored, LiveRow):
            return stored
        try:
            return unpack(stored)
        except (msgspec.MsgspecError, ValueError) as error:
            raise unreadable(self.partition, row_key(key), error) from error

    def longest_idle(self, idle: IdleWheel) -> RowKey | None:
        """Find the row that nobody has touched for longest, to the minute; its deadline is taken."""
        for tries, (slot, key) in enumerate(idle.soonest(), 1):
            stored = self.rows.get(key)
            if stored is None:
                continue
            due_ms = session.GAP_MS + (session.head(stored).seen_ms if isinstance(stored, bytes) else stored.seen_ms)
            if tries < EVICT_TRIES and slot_of(due_ms) > slot:
                idle.add(due_ms, key)
                continue
            return key
        return None

    def torn(self, closed: Iterable[tuple[str, str]], next_offset: int) -> Iterable[bytes]:
        """Yield closed rows that a torn transaction left without the rows that follow them: they will close again."""
        for session_id, incarnation in closed:
            row = self.peek(session_id)
            if row is None or row.stamp < next_offset:
                yield row_key((session_id, incarnation))

    @property
    def full(self) -> bool:
        """Must a row go before another one comes?"""
        return len(self.rows) >= self.bounds.rows

    def touched(self, keys: Collection[RowKey]) -> None:
        """Note rows that changed, none of which is dirty any more: they are not packed for a period.

        A period ends early when it has touched as many rows as may be active; then as many are packed as were touched.
        """
        self._young.update(keys)
        if len(self._young) > self.bounds.active:
            self._turn()
        if len(self._young) + len(self._old) > self.bounds.active:
            self._pack(2 * len(keys), ())

    def age(self, now_ms: int, dirty: Collection[RowKey]) -> None:
        """Pack rows that were touched in neither of the last two periods, some at a time."""
        if now_ms - self._aged_ms >= PACK_AFTER_MS:
            self._aged_ms = now_ms
            self._turn()
        if self._cold:
            self._pack(PACK_PER_STEP, dirty)

    def _turn(self) -> None:
        self._cold.extend(self._old - self._young)
        self._old, self._young = self._young, set()

    def _pack(self, most: int, dirty: Collection[RowKey]) -> None:
        """Take keys that have been cold for longest, and pack those that still are."""
        rows, young, old = self.rows, self._young, self._old
        part, self._cold = self._cold[:most], self._cold[most:]
        for key in part:
            row = rows.get(key)
            if isinstance(row, LiveRow) and key not in young and key not in old and key not in dirty:
                rows[key] = row.pack()
