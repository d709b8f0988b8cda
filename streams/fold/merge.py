"""What deltas add to the rows of their key, and rows to each other.

All merges are sums of integers, hence associative and commutative; nothing here drops or reorders.
"""

from collections import Counter
from collections.abc import Mapping

from streams.fold.rollup import (
    LIFETIME_SHIFT,
    Delta,
    LifetimeHistogram,
    LifetimeRow,
    LogBins,
    PaneHistogram,
    PaneRow,
)
from streams.fold.shapes import bounds_of
from streams.fold.sketch import ZERO_BIN, bin_of


def add_counts(into: dict[int, int], more: dict[int, int]) -> None:
    """Add counts by key."""
    for key, count in more.items():
        into[key] = into.get(key, 0) + count


def add_sums(into: dict[str, int], more: Mapping[str, int]) -> None:
    """Add sums by name."""
    for name, value in more.items():
        into[name] = into.get(name, 0) + value


def add_delta(row: LifetimeRow, pane: PaneRow | None, delta: Delta, *, log_bins: bool = False) -> None:
    """Add a delta to the lifetime numbers and, unless it is late, to its pane; to log bins only where they are kept.

    Raises LookupError for a histogram that this release does not have.
    """
    add_sums(row.sums, delta.sums)
    if pane is not None:
        add_sums(pane.sums, delta.sums)
    for name, values in delta.samples.items():
        _add_samples(name, _lifetime(row, name), None if pane is None else _binned(pane, name), values)
    for name, more in delta.histograms.items():
        lifetime = _lifetime(row, name)
        lifetime.sum_us += more.sum_us
        widen(lifetime, more.min_us, more.max_us)
        for bucket, count in more.buckets.items():
            lifetime.buckets[bucket] += count
        if pane is not None:
            binned = _binned(pane, name)
            binned.sum_us += more.sum_us
            add_counts(binned.bins, more.bins)
    for name in (*delta.samples, *delta.histograms):
        _add_log_bins(row, _lifetime(row, name), delta, name, kept=log_bins)
    for name, exemplar in delta.exemplars.items():
        _lifetime(row, name).exemplars[bounds_of(name).place(exemplar.value_us)[0]] = exemplar


def _add_samples(name: str, lifetime: LifetimeHistogram, binned: PaneHistogram | None, values: list[int]) -> None:
    if not values:
        return
    total = sum(values)
    place = bounds_of(name).place
    lifetime.sum_us += total
    widen(lifetime, min(values), max(values))
    buckets = lifetime.buckets
    if binned is None:
        for value in values:
            buckets[place(value)[0]] += 1
        return
    binned.sum_us += total
    bins = binned.bins
    for value in values:
        bucket, index = place(value)
        buckets[bucket] += 1
        bins[index] = bins.get(index, 0) + 1


def _add_log_bins(row: LifetimeRow, lifetime: LifetimeHistogram, delta: Delta, name: str, *, kept: bool) -> None:
    """Add what is binned; bins that are not kept any more go, because nobody may take them for the present."""
    if not kept:
        lifetime.log_bins = None
        return
    if delta.pane_ms < 0:
        return
    into = lifetime.log_bins
    if into is None:
        into = lifetime.log_bins = LogBins(max(row.touched_ms, row.created_ms))
    values = delta.samples.get(name, ())
    fine = Counter(bin_of(value) for value in values)
    into.sum_us += sum(values)
    counted = delta.histograms.get(name)
    if counted is not None:
        fine.update(counted.bins)
        into.sum_us += counted.sum_us
    bins = into.bins
    for index, count in fine.items():
        coarse = index if index == ZERO_BIN else index >> LIFETIME_SHIFT
        bins[coarse] = bins.get(coarse, 0) + count


def widen(seen: LifetimeHistogram, min_us: int, max_us: int) -> None:
    """Let the extremes of a histogram hold some more."""
    if min_us >= 0 and not 0 <= seen.min_us <= min_us:
        seen.min_us = min_us
    seen.max_us = max(seen.max_us, max_us)


def _lifetime(row: LifetimeRow, name: str) -> LifetimeHistogram:
    histogram = row.histograms.get(name)
    if histogram is None:
        histogram = row.histograms[name] = LifetimeHistogram(0, [0] * (len(bounds_of(name).uppers) + 1))
    return histogram


def _binned(pane: PaneRow, name: str) -> PaneHistogram:
    histogram = pane.histograms.get(name)
    if histogram is None:
        histogram = pane.histograms[name] = PaneHistogram()
    return histogram


def add_lifetime(into: LifetimeRow, row: LifetimeRow) -> None:
    """Add the lifetime numbers of one row to those of another; traces and log bins stay behind."""
    add_sums(into.sums, row.sums)
    for name, held in row.histograms.items():
        lifetime = _lifetime(into, name)
        lifetime.sum_us += held.sum_us
        lifetime.buckets = [one + more for one, more in zip(lifetime.buckets, held.buckets, strict=True)]
        widen(lifetime, held.min_us, held.max_us)


def add_pane(pane: PaneRow, finer: PaneRow) -> None:
    """Add a finer pane to a coarser one."""
    add_sums(pane.sums, finer.sums)
    for name, more in finer.histograms.items():
        binned = _binned(pane, name)
        binned.sum_us += more.sum_us
        add_counts(binned.bins, more.bins)
