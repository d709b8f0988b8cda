"""The second stage's gauges: one row per key and gauge, and when what it says no longer holds.

Never merges sources: that is the reader's, by the rule of the gauge.  Order, time to live and what is forgotten are
those of `streams.fold.gauges`; here is where rows are kept, by what name they are stored and when they are looked at.
"""

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Final

from streams.fold.gauges import (
    FOR_EVER,
    ONE_FOR_ALL,
    Gauge,
    GaugeDelta,
    GaugeRow,
    Labels,
    Observation,
    decode_gauge,
    drop_expired,
    encode_gauge,
    gauge_of,
    is_live,
    merge_into,
    qualified,
    trim,
    value_at,
)
from streams.fold.rollup import LifetimeRow
from streams.stage.plan import Row

GAUGE: Final = b"g"
EXPIRE_PER_STEP: Final = 2_000  # rows looked at per tick or plan, so that a wave of them never holds the loop

Place = tuple[str, str]  # gauge, key


def gauge_key(place: Place) -> bytes:
    """Write the changelog key of a gauge row: the gauge, then the key it belongs to."""
    return GAUGE + f"{place[0]}:{place[1]}".encode()


def known_gauge(name: str) -> Gauge:
    """Return how a gauge of a row is kept; rows of others are refused before."""
    gauge = gauge_of(name)
    assert gauge is not None, name
    return gauge


class GaugeTable:
    """All gauges of one partition; `forgotten` counts the sources that found no room."""

    def __init__(self) -> None:
        self.forgotten = 0
        self._rows: dict[Place, GaugeRow] = {}
        self._due: list[tuple[int, Place]] = []
        self._armed: dict[Place, int] = {}  # when each row is looked at next: never after its first source expires
        self._dirty: dict[Place, None] = {}

    @property
    def changed(self) -> bool:
        """Is there a row to write?"""
        return bool(self._dirty)

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> Mapping[Place, GaugeRow]:
        """Return every row by gauge and key; it belongs to the table."""
        return self._rows

    def load(self, key: bytes, value: bytes) -> None:
        """Take a stored row. Raises ValueError when it is none of this release's."""
        text, row = key[1:].decode(), decode_gauge(value)
        if gauge_of(row.gauge) is None or not text.startswith(f"{row.gauge}:"):
            raise ValueError(f"no gauge is called {row.gauge!r} here")
        place = row.gauge, text[len(row.gauge) + 1 :]
        self._rows[place] = row
        self._arm(place, row.sources)

    def take(self, key: str, owner: LifetimeRow, labels: Labels, gauges: Mapping[str, GaugeDelta], now_ms: int) -> None:
        """Take what a delta says of gauges; `owner` is the key's lifetime row, which may stand for many labels."""
        for name, delta in gauges.items():
            gauge = known_gauge(name)
            live = {
                source if labels == owner.labels or source == ONE_FOR_ALL else qualified(source, labels): one
                for source, one in delta.sources.items()
                if is_live(gauge, one.event_ms, now_ms)
            }
            self.forgotten += delta.forgotten
            place = name, key
            row = self._rows.get(place)
            if row is None:
                if not live:
                    continue
                row = GaugeRow(owner.dimension, owner.labels, name, owner.ordinal, {})
                self._rows[place] = row
            if merge_into(row.sources, gauge, live):
                self.forgotten += trim(row.sources)
                self._dirty[place] = None
                self._arm(place, live)

    def _arm(self, place: Place, sources: Mapping[str, Observation]) -> None:
        ttl_ms = known_gauge(place[0]).ttl_ms
        if ttl_ms != FOR_EVER and sources:
            due_ms = min([one.event_ms for one in sources.values()]) + ttl_ms
            armed_ms = self._armed.get(place)
            if armed_ms is None or due_ms < armed_ms:
                self._armed[place] = due_ms
                heappush(self._due, (due_ms, place))

    def expire(self, now_ms: int) -> None:
        """Forget what no longer holds, some rows at a time."""
        room = EXPIRE_PER_STEP
        while room > 0 and self._due and self._due[0][0] <= now_ms:
            room -= 1
            due_ms, place = heappop(self._due)
            if self._armed.get(place) == due_ms:  # else it was looked at sooner
                self._expire(place, now_ms)

    def _expire(self, place: Place, now_ms: int) -> None:
        row = self._rows[place]
        if drop_expired(row.sources, known_gauge(place[0]), now_ms):
            self._dirty[place] = None
        del self._armed[place]
        if row.sources:
            self._arm(place, row.sources)
        else:
            del self._rows[place]

    def value(self, gauge: str, key: str, now_ms: int) -> int | None:
        """Return what a key's sources say together at a moment; None when there is nothing to say."""
        row = self._rows.get((gauge, key))
        return None if row is None else value_at(known_gauge(gauge), row.sources, now_ms)

    def changes(self) -> list[Row]:
        """Return the rows that changed since the last call; None for those that are gone."""
        dirty, self._dirty = self._dirty, {}
        return [(gauge_key(place), self._encoded(place)) for place in dirty]

    def _encoded(self, place: Place) -> bytes | None:
        row = self._rows.get(place)
        return None if row is None else encode_gauge(row)
