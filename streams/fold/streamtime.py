"""What time is it in a partition, and is an event too late?  Pure: only records and ticks move time.

watermark   the highest accepted event time; decides lateness, never moved by a wall clock
clock       the highest of watermark and ticks; decides idleness and expiry
"""

from typing import Final

SKEW_MS: Final = 60_000  # further ahead of the record's own timestamp than this, and the publisher's clock is wrong
GRACE_MS: Final = 5 * 60_000  # older than watermark − grace: late, counted in lifetime numbers and in no pane
PANE_MS: Final = 10_000
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
LATE_PANE: Final = -1  # the pane of what is late: none
# What is late and was spent says which hour it belongs to, as −1 − the start of that hour: it has no pane all the same.


def pane_start(event_ms: int, size_ms: int = PANE_MS) -> int:
    """Return the start of the half-open, epoch-aligned pane [start, start + size) that holds a moment."""
    return event_ms - event_ms % size_ms


def late_pane(event_ms: int) -> int:
    """Return what stands in the place of a pane for a late moment: below 0, and its hour can be told from it."""
    return LATE_PANE - (event_ms - event_ms % HOUR_MS)


def moment_of(pane_ms: int) -> int:
    """Return a moment within the pane of a delta, or within the hour of a late one; 0 when neither is known."""
    return pane_ms if pane_ms >= 0 else LATE_PANE - pane_ms
