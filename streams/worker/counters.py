"""What has this worker done so far?  Plain numbers that its health endpoint reads.

Never a metric of the product: those are in the changelogs; these end with the process.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

_RECENT: Final = 1024  # flushes; a minute or more below half load


@dataclass(slots=True)
class Counters:
    """Sums since the start of the process, and the durations of the newest flushes."""

    records: int = 0
    chunks: int = 0
    stale_chunks: int = 0  # read before the last seek: dropped, and read again
    ticks: int = 0
    transactions: int = 0
    rows: int = 0
    sends: int = 0
    transaction_ms: float = 0.0
    encode_ms: float = 0.0
    fold_ms: float = 0.0
    unknown_outcomes: int = 0  # transactions after which a partition was loaded anew
    retries: int = 0  # attempts to load or to connect that failed
    rebalances: int = 0
    loads: int = 0  # partitions loaded from their changelog
    rows_loaded: int = 0
    load_ms: float = 0.0
    recent_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def flushed(self, *, rows: int, sends: int, took_ms: float) -> None:
        """Count a committed transaction."""
        self.transactions += 1
        self.rows += rows
        self.sends += sends
        self.transaction_ms += took_ms
        self.recent_ms.append(took_ms)

    def flush_quantile_ms(self, q: float) -> float:
        """Return how long the newest flushes took: 0.5 the median; 0 before the first."""
        ordered = sorted(self.recent_ms)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0
