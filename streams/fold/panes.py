"""The panes of one key: adding to them, coarsening them with age, and summing trailing windows.

10 s panes for 5 minutes, 1 min panes up to 1 h, 1 h panes up to 24 h; then nothing but the lifetime numbers.
A window is the panes that lie in it; sums over closed panes are kept until a pane closes or a closed one changes.
"""

from collections.abc import Iterator
from typing import Final

from streams.fold.merge import add_counts, add_pane
from streams.fold.rollup import PaneRow
from streams.fold.streamtime import HOUR_MS, MINUTE_MS, PANE_MS

# (pane size, age up to which panes of this size are kept, size of the next coarser pane; 0: dropped)
LADDER: Final = (
    (PANE_MS, 5 * MINUTE_MS, MINUTE_MS),
    (MINUTE_MS, HOUR_MS, HOUR_MS),
    (HOUR_MS, 24 * HOUR_MS, 0),
)
_COARSER: Final = {size_ms: coarser_ms for size_ms, _, coarser_ms in LADDER}
_KEPT: Final = {size_ms: kept_ms for size_ms, kept_ms, _ in LADDER}

PaneKey = tuple[int, int]  # size, start


def home(event_ms: int, clock_ms: int) -> PaneKey | None:
    """Return the pane that holds a moment at its age, or None when it is too old for any."""
    for size_ms, kept_ms, _ in LADDER:
        start_ms = event_ms - event_ms % size_ms
        if clock_ms - (start_ms + size_ms) <= kept_ms:
            return size_ms, start_ms
    return None


def due_ms(key: PaneKey) -> int:
    """Return the moment after which a pane is to be coarsened."""
    size_ms, start_ms = key
    return start_ms + size_ms + _KEPT[size_ms]


class Panes:
    """All panes of one key."""

    __slots__ = ("_closed", "_closed_at", "rows")

    def __init__(self) -> None:
        self.rows: dict[PaneKey, PaneRow] = {}
        self._closed: dict[tuple[str, int], int] = {}  # sums of closed panes by (measure, window)
        self._closed_at = -1  # the end of the window those sums are of

    def at(self, key: PaneKey) -> PaneRow:
        """Return a pane, opening it when needed; the caller is about to add to it."""
        pane = self.rows.get(key)
        if pane is None:
            pane = self.rows[key] = PaneRow(*key)
        if key[1] < self._closed_at:
            self._closed.clear()
        return pane

    def coarsen(self, key: PaneKey) -> PaneKey | None:
        """Move a pane into the next coarser one, whose key is returned; None when the pane just goes."""
        finer = self.rows.pop(key, None)
        self._closed.clear()
        coarser_ms = _COARSER[key[0]]
        if finer is None or not coarser_ms:
            return None
        into = coarser_ms, key[1] - key[1] % coarser_ms
        add_pane(self.at(into), finer)
        return into

    def window_closed(self, measure: str, window_ms: int, now_ms: int) -> int:
        """Sum a measure over the panes that lie in the trailing window and have ended.

        Beyond 5 minutes panes are a minute wide: the one that the window begins inside is left out.
        """
        end_ms = now_ms - now_ms % PANE_MS
        if end_ms != self._closed_at:
            self._closed.clear()
            self._closed_at = end_ms
        total = self._closed.get((measure, window_ms))
        if total is None:
            total = sum(pane.sums.get(measure, 0) for pane in self._within(window_ms, end_ms))
            self._closed[measure, window_ms] = total
        return total

    def window(self, measure: str, window_ms: int, now_ms: int) -> int:
        """Sum a measure over the trailing window: the closed panes of one pane less, and the open one."""
        end_ms = now_ms - now_ms % PANE_MS
        open_pane = self.rows.get((PANE_MS, end_ms))
        closed = self.window_closed(measure, window_ms - PANE_MS, now_ms) if window_ms > PANE_MS else 0
        return closed if open_pane is None else closed + open_pane.sums.get(measure, 0)

    def bins(self, histogram: str, window_ms: int, now_ms: int) -> dict[int, int]:
        """Merge a histogram's bins over the panes that lie in the trailing window and have ended."""
        merged: dict[int, int] = {}
        for pane in self._within(window_ms, now_ms - now_ms % PANE_MS):
            binned = pane.histograms.get(histogram)
            if binned is not None:
                add_counts(merged, binned.bins)
        return merged

    def _within(self, window_ms: int, end_ms: int) -> Iterator[PaneRow]:
        since_ms = end_ms - window_ms
        for (size_ms, start_ms), pane in self.rows.items():
            if since_ms <= start_ms and start_ms + size_ms <= end_ms:
                yield pane
