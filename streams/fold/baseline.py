"""What has been added to a row since it was reset?  A reset notes what the row holds; that is taken off what is shown.

Never changes a lifetime number: a reset can be looked behind for ever, and nothing that judges or adds up notices it.
"""

from collections.abc import Iterable
from typing import Final

from streams.fold.merge import add_lifetime
from streams.fold.rollup import Baseline, LifetimeHistogram, LifetimeRow, LogBins, ResetOrder

NEVER: Final = Baseline("")


def concerns(order: ResetOrder, row: LifetimeRow) -> bool:
    """Is this one of the rows that an order is about?"""
    if order.names is not None and row.dimension not in order.names:
        return False
    if order.dimension is None:
        return True
    return order.dimension == row.dimension and all(
        wanted is None or wanted == label for wanted, label in zip(order.labels, row.labels, strict=True)
    )


def reset(row: LifetimeRow, order: ResetOrder) -> None:
    """Let what is shown of a row begin anew; times only move forward, so a later order never dates a row back."""
    before = row.baseline or NEVER
    if order.names is None:
        since_ms = max(order.time_ms, before.since_ms)
        later = {name: at_ms for name, at_ms in before.since.items() if at_ms > since_ms}
        row.baseline = Baseline(order.command, since_ms, dict(row.sums), _copies(row, row.histograms), later)
        return
    names = order.names[row.dimension]
    row.baseline = Baseline(
        order.command,
        before.since_ms,
        before.sums | {name: row.sums[name] for name in names if name in row.sums},
        before.histograms | _copies(row, (name for name in names if name in row.histograms)),
        before.since | {name: max(order.time_ms, _since(before, name)) for name in names},
    )


def _copies(row: LifetimeRow, names: Iterable[str]) -> dict[str, LifetimeHistogram]:
    found = row.histograms
    return {name: _copy(found[name]) for name in names}


def _copy(held: LifetimeHistogram) -> LifetimeHistogram:
    fine = held.log_bins
    kept = None if fine is None else LogBins(fine.since_ms, fine.sum_us, dict(fine.bins))
    return LifetimeHistogram(held.sum_us, list(held.buckets), log_bins=kept)


def reset_ms(row: LifetimeRow, names: Iterable[str]) -> int:
    """Return when any of these sums and histograms of a row was last reset; −1 for never."""
    baseline = row.baseline
    return -1 if baseline is None else max((_since(baseline, name) for name in names), default=-1)


def created_ms(row: LifetimeRow, names: Iterable[str]) -> int:
    """Return when what is shown of these sums and histograms began; −1 for unknown."""
    return max(row.created_ms, reset_ms(row, names))


def since_reset(row: LifetimeRow) -> LifetimeRow:
    """Return what has been added since; the row itself if it never was reset, else one that keeps only its times."""
    baseline = row.baseline
    if baseline is None:
        return row
    gone = baseline.sums.get
    sums = {name: value - gone(name, 0) for name, value in row.sums.items()}
    histograms = {name: _less(held, baseline.histograms.get(name)) for name, held in row.histograms.items()}
    times = Baseline(baseline.command, baseline.since_ms, since=baseline.since)
    return LifetimeRow(
        row.dimension, row.labels, row.ordinal, row.created_ms, row.touched_ms, row.stamp, sums, histograms, times
    )


def absorb(into: LifetimeRow, row: LifetimeRow) -> None:
    """Let a row go on as a part of another: its numbers, what of them was reset, and since when they count."""
    add_lifetime(into, row)
    into.created_ms = min(into.created_ms, row.created_ms)
    if row.baseline is None:
        return
    known = into.baseline or NEVER
    kept = {name: _copy(held) for name, held in known.histograms.items()}
    gone = LifetimeRow(row.dimension, row.labels, -1, -1, -1, -1, dict(known.sums), kept)
    theirs = row.baseline
    add_lifetime(gone, LifetimeRow(row.dimension, row.labels, -1, -1, -1, -1, theirs.sums, theirs.histograms))
    merge_times(into, row)
    times = into.baseline or NEVER
    command = known.command or theirs.command
    into.baseline = Baseline(command, times.since_ms, gone.sums, gone.histograms, times.since)


def _since(baseline: Baseline, name: str) -> int:
    return max(baseline.since_ms, baseline.since.get(name, -1))


def _less(held: LifetimeHistogram, gone: LifetimeHistogram | None) -> LifetimeHistogram:
    if gone is None:
        return held
    buckets = [count - before for count, before in zip(held.buckets, gone.buckets, strict=True)]
    fine = _less_bins(held.log_bins, gone.log_bins)
    # The extremes stay those of the lifetime: they cannot be taken back.
    return LifetimeHistogram(held.sum_us - gone.sum_us, buckets, held.min_us, held.max_us, held.exemplars, fine)


def _less_bins(held: LogBins | None, gone: LogBins | None) -> LogBins | None:
    """Take off what was there at the reset; bins that were begun anew since hold nothing of it."""
    if held is None or gone is None or held.since_ms != gone.since_ms:
        return held
    left = {index: count - gone.bins.get(index, 0) for index, count in held.bins.items()}
    return LogBins(held.since_ms, held.sum_us - gone.sum_us, {index: count for index, count in left.items() if count})


def merge_times(into: LifetimeRow, row: LifetimeRow) -> None:
    """Let a sum of rows begin no earlier than the newest reset of any of them: that is when it went down."""
    if row.baseline is None:
        return
    known = into.baseline or NEVER
    since = dict(known.since)
    for name, at_ms in row.baseline.since.items():
        since[name] = max(at_ms, since.get(name, -1))
    into.baseline = Baseline("", max(known.since_ms, row.baseline.since_ms), since=since)
