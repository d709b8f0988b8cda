"""Where does a duration belong: which explicit bucket, which log bin; and which value is a quantile.  Pure integers.

Bins are OpenTelemetry's exponential histogram with scale 6: bin i holds (2^(i/64), 2^((i+1)/64)], so the middle of a
bin is at most 0.55 % away from any value in it.  Buckets are cumulative-free counts per upper bound, as Prometheus
scrapes them after summing; a bound belongs to its own bucket (`le`).
"""

from bisect import bisect_left
from collections.abc import Mapping
from math import ceil, isqrt
from typing import Final

SCALE: Final = 6
BINS_PER_OCTAVE: Final = 1 << SCALE
ZERO_BIN: Final = -1_000_000  # exactly zero has no logarithm
OCTAVES: Final = 64  # of the values that have bins of their own; larger ones share the last

# OpenTelemetry GenAI's advised boundaries for durations: 10 ms doubling to 81.92 s; here in µs.
DURATION_BOUNDS_US: Final = tuple(10_000 * 2**n for n in range(14))


def _uppers() -> list[int]:
    """Return the largest integer of each bin, floor(2^((i+1)/64)), from 64 roots with 256 bits behind the point."""
    root = 2 << 512  # 2^(1/64) is six square roots of 2
    for _ in range(6):
        root = isqrt(root) << 256
    root >>= 256
    roots = [1 << 256]
    for _ in range(BINS_PER_OCTAVE - 1):
        roots.append(roots[-1] * root >> 256)
    whole = [each << octave >> 256 for octave in range(OCTAVES) for each in roots]
    return [*whole[1:], 1 << OCTAVES]


# No logarithm is taken of a value, so that every machine puts it into the same bin.
_UPPERS: Final = _uppers()


def bin_of(value: int) -> int:
    """Name the log bin of a non-negative integer."""
    if value <= 1:
        return -1 if value == 1 else ZERO_BIN
    return bisect_left(_UPPERS, value)


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
    """Explicit upper bounds of a histogram's buckets."""

    __slots__ = ("uppers",)

    def __init__(self, uppers: tuple[int, ...]) -> None:
        self.uppers = uppers

    def place(self, value: int) -> tuple[int, int]:
        """Return (bucket, bin) of a value; bucket len(uppers) is +Inf."""
        return bisect_left(self.uppers, value), bin_of(value)


DURATION_BOUNDS: Final = Bounds(DURATION_BOUNDS_US)
