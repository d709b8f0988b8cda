"""What do the gauges behind one set of labels say?  Rows of levels in, one merged level per gauge out.

Never expires anything: a row holds what was live when it was written, and goes when nothing of it is.
"""

from typing import Final

from streams.fold.gauges import Level, gauge_of, together

_NOTHING: Final[dict[str, Level]] = {}


class Levels:
    """The gauges of one group of keys, by the row they stand in; merged when somebody looks."""

    __slots__ = ("_by_gauge", "_merged", "_stale", "_where")

    def __init__(self) -> None:
        self._where: dict[object, str] = {}  # the gauge of each row
        self._by_gauge: dict[str, dict[object, Level]] = {}
        self._merged: dict[str, Level] = {}
        self._stale: set[str] = set()

    def __len__(self) -> int:
        return len(self._where)

    def put(self, place: object, gauge: str, level: Level) -> None:
        """Put what a row says in the place of what it said."""
        self._where[place] = gauge
        self._by_gauge.setdefault(gauge, {})[place] = level
        self._stale.add(gauge)

    def drop(self, place: object) -> None:
        """Take a row away, if it is one of these."""
        gauge = self._where.pop(place, None)
        if gauge is not None:
            del self._by_gauge[gauge][place]
            self._stale.add(gauge)

    def merged(self) -> dict[str, Level]:
        """Return what all rows say together, by gauge; it belongs to these levels."""
        if not self._where:
            return _NOTHING
        for gauge in self._stale:
            rule = gauge_of(gauge)
            level = None if rule is None else together(rule.merge, self._by_gauge[gauge].values())
            if level is None:
                self._merged.pop(gauge, None)
            else:
                self._merged[gauge] = level
        self._stale.clear()
        return self._merged
