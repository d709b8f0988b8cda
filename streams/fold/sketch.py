"""Where does a duration belong: which explicit bucket, which log bin; and which value is a quantile.  Pure integers.

Bins are OpenTelemetry's exponential histogram with scale 6: bin i holds (2^(i/64), 2^((i+1)/64)], so the middle of a
bin is at most 0.55 % away from any value in it.  Buckets are cumulative-free counts per upper bound, as Prometheus
scrapes them after summing; a bound belongs to its own bucket (`le`).
"""

from collections.abc import Mapping
from math import ceil, log2
from typing import Final

SCALE: Final = 6
BINS_PER_OCTAVE: Final = 1 << SCALE
ZERO_BIN: Final = -1_000_000  # exactly zero has no logarithm
# A memo entry is about 120 bytes: 8 MB at most for each set of bounds.
MEMO_MAX: Final = 65_536

# OpenTelemetry GenAI's advised boundaries for durations: 10 ms doubling to 81.92 s; here in µs.
DURATION_BOUNDS_US: Final = tuple(10_000 * 2**n for n in range(14))


def bin_of(value: int) -> int:
    """Name the log bin of a non-negative integer."""
    return ceil(log2(value) * BINS_PER_OCTAVE) - 1 if value > 0 else ZERO_BIN


def bin_middle(index: int) -> float:
    """Return the value that is relatively nearest to everything in a bin."""
    if index == ZERO_BIN:
        return 0.0
    low: float = 2.0 ** (index / BINS_PER_OCTAVE)
    high: float = 2.0 ** ((index + 1) / BINS_PER_OCTAVE)
    return 2.0 * low * high / (low + high)


def quantile(bins: Mapping[int, int], q: float) -> float | None:
    """Return the q-quantile (0 to 1) by nearest rank, or None when nothing was observed; relative error ≤ 0.55 %."""
    count = sum(bins.values())
    if not count:
        return None
    rank = max(1, ceil(q * count))
    for index in sorted(bins):
        rank -= bins[index]
        if rank <= 0:
            return bin_middle(index)
    raise AssertionError("ranks exceed the count")


class Bounds:
    """Explicit upper bounds with a memo: durations repeat, so most look-ups are one dict access."""

    __slots__ = ("_memo", "uppers")

    def __init__(self, uppers: tuple[int, ...]) -> None:
        self.uppers = uppers
        self._memo: dict[int, tuple[int, int]] = {}

    def place(self, value: int) -> tuple[int, int]:
        """Return (bucket, bin) of a value; bucket len(uppers) is +Inf."""
        placed = self._memo.get(value)
        if placed is None:
            bucket = 0
            for upper in self.uppers:
                if value <= upper:
                    break
                bucket += 1
            placed = (bucket, bin_of(value))
            if len(self._memo) >= MEMO_MAX:
                self._memo.clear()
            self._memo[value] = placed
        return placed

    def tally(self, values: Mapping[int, int]) -> tuple[dict[int, int], dict[int, int]]:
        """Add up counted values by bucket and by bin."""
        buckets: dict[int, int] = {}
        bins: dict[int, int] = {}
        for value, count in values.items():
            bucket, index = self.place(value)
            buckets[bucket] = buckets.get(bucket, 0) + count
            bins[index] = bins.get(index, 0) + count
        return buckets, bins


DURATION_BOUNDS: Final = Bounds(DURATION_BOUNDS_US)
