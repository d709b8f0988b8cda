"""How whole are the numbers of a partition just now?  The share of lately received events that could be used in time.

Never looks at events: it is told how many there have been, all in all, and remembers that for a few minutes.

    applied / (applied + late + rejected) since the minute in which TRUST_MS ago lies; duplicates are no loss
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

from streams.fold.streamtime import MINUTE_MS

TRUST_MS: Final = 5 * MINUTE_MS  # as long as the windows most rules look at
WHOLE_PPM: Final = 1_000_000

Mark: TypeAlias = tuple[int, int, int]  # minute, and by its beginning: applied, late and rejected together


class Trust:
    """The counts of the last minutes; `marks` is stored in the meta row."""

    __slots__ = ("_applied", "_lost", "marks")

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self._applied = 0
        self._lost = 0

    def note(self, now_ms: int, *, applied: int, lost: int) -> int:
        """Take the counts since the beginning; return the share of those lately received that was applied (ppm)."""
        minute_ms = now_ms - now_ms % MINUTE_MS
        marks = self.marks
        if not marks:
            marks.append((minute_ms, self._applied, self._lost))
        elif minute_ms > marks[-1][0]:
            # nothing has come since the minute of the last mark was over: that may have been long ago
            for begun_ms in {marks[-1][0] + MINUTE_MS: None, minute_ms: None}:
                marks.append((begun_ms, self._applied, self._lost))
            while len(marks) > 1 and marks[1][0] <= minute_ms - TRUST_MS:
                del marks[0]
        self._applied, self._lost = applied, lost
        _, applied_before, lost_before = marks[0]
        recent = applied - applied_before + lost - lost_before
        return (applied - applied_before) * WHOLE_PPM // recent if recent > 0 else WHOLE_PPM

    def load(self, marks: list[Mark], applied: int, lost: int) -> None:
        """Take what was stored."""
        self.marks = list(marks)
        self._applied, self._lost = applied, lost


def outcomes_of(counters: Mapping[str, int]) -> tuple[int, int]:
    """Return how many events of the first stage were applied, and how many came late or were rejected."""
    return counters.get("applied", 0), counters.get("late", 0) + counters.get("rejected", 0)
