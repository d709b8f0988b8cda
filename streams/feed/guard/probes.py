"""Which calls may try whether a circuit still fails?  As many as it publishes, and again when nothing came of those.

Never knows of other processes: each guard has the published number for itself; the workers judge all calls together.
"""

import threading
from typing import Final

from streams.feed.guard.verdicts import Circuit, Verdict

# The ends of probe calls may be lost, and without them a circuit would stay half-open for ever.
AGAIN_MS: Final = 30_000
# An open circuit whose time is over by so much has no owner that says so; then its guards try by themselves.
OVERDUE_MS: Final = 10_000
CIRCUITS_MAX: Final = 1_000  # with permits given away; beyond it the oldest begins anew


def probing(verdict: Verdict, now_ms: int) -> bool:
    """May a call try, at a moment of the wall clock?"""
    if verdict.mode == "probe":
        return True
    until_ms = verdict.about.open_until_ms if isinstance(verdict.about, Circuit) else None
    return until_ms is not None and now_ms >= until_ms + OVERDUE_MS


class Probes:
    """The permits of one guard, from any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, tuple[int, int]] = {}  # by verdict id: since when (monotonic ms), how many

    def take(self, verdict: Verdict, now_ms: int) -> bool:
        """Take a permit; False when there is none left. `now_ms` is monotonic."""
        about = verdict.about
        permits = max(about.half_open_calls, 1) if isinstance(about, Circuit) else 0
        with self._lock:
            since_ms, taken = self._taken.get(about.id, (now_ms, 0))
            if now_ms - since_ms >= AGAIN_MS:
                since_ms, taken = now_ms, 0
            if taken >= permits:
                return False
            self._taken[about.id] = since_ms, taken + 1
            if len(self._taken) > CIRCUITS_MAX:
                del self._taken[next(iter(self._taken))]
            return True
