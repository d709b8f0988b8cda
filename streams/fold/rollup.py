"""Numbers by dimension: what one flush adds (deltas), and the rows that deltas are added to.

All merges are sums of integers, hence associative and commutative; nothing here drops or reorders.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Struct

from streams.fold.gauges import GaugeDelta, Labels
from streams.fold.packing import pack
from streams.fold.shapes import bounds_of
from streams.fold.sketch import SCALE, ZERO_BIN, bin_of
from streams.fold.spending import Account
from streams.fold.streamtime import LATE_PANE

BATCH_SCHEMA: Final = 1
# Of lifetime bins: 9 % wide, so that a row of durations from 1 µs to 30 days has at most 330 of them.  A bin of this
# scale is eight of the panes' scale, and merging them loses nothing else.
LIFETIME_SCALE: Final = 3
LIFETIME_SHIFT: Final = SCALE - LIFETIME_SCALE


UNKNOWN: Final = -1  # the extremes of nothing, and of what earlier releases have counted


class Histogram(Struct, array_like=True, gc=False):
    """Observations of one flush: sum, counts by explicit bucket, counts by log bin (empty when late), the extremes.

    The sum and the extremes are in the unit of the histogram's shape, which is µs for durations.
    """

    sum_us: int = 0
    buckets: dict[int, int] = {}
    bins: dict[int, int] = {}
    min_us: int = UNKNOWN
    max_us: int = UNKNOWN


class Exemplar(Struct, array_like=True, gc=False, frozen=True):
    """One duration and the trace it belongs to."""

    trace_id: str
    value_us: int
    event_ms: int


class Delta(Struct, array_like=True, gc=False):
    """What one flush adds to one key of one dimension in one 10 s pane (`pane_ms` below 0: to lifetime numbers only).

    Observations come as they are (`samples`) while they are few, and counted (`histograms`) when that is shorter.
    `exemplars` names a trace for some of them, at most one per histogram. Gauges belong to no pane: they are with any
    one of the deltas of their key, and so are `outcomes`: how the calls ended that a circuit with a count window
    guards, in their order (`streams.fold.circuits` has the codes).
    """

    dimension: str
    labels: tuple[str, ...]
    pane_ms: int
    sums: dict[str, int] = {}
    samples: dict[str, list[int]] = {}
    histograms: dict[str, Histogram] = {}
    exemplars: dict[str, Exemplar] = {}
    gauges: dict[str, GaugeDelta] = {}
    outcomes: bytes = b""


class ResetOrder(Struct, array_like=True, frozen=True, tag="reset"):
    """A reset on its way to the rows: of one dimension (None: of all) and of these labels (None: any).

    `names` are the sums and histograms to reset, by dimension; None: all of them.
    """

    command: str
    time_ms: int
    dimension: str | None = None
    labels: tuple[str | None, ...] = ()
    names: dict[str, list[str]] | None = None


class BreakerOrder(Struct, array_like=True, frozen=True, tag="breaker"):
    """A command to circuits on its way to them: `breaker` is a name such as `tool|search`; * stands for any text."""

    command: str
    time_ms: int
    action: Literal["force-open", "force-close", "disable", "metrics-only", "reset"]
    breaker: str
    by: str
    note: str = ""


class EraseOrder(Struct, array_like=True, frozen=True):
    """A user whose name is to go from the rows; `digest` stands for it, so that no topic holds the name."""

    command: str
    digest: str


class RollupBatch(Struct, omit_defaults=True):
    """All that one flush of one source partition sends to one rollups partition.

    `sequence` has no gaps per (source partition, rollups partition).  The counts are those of the source partition
    since its beginning: how many events it received, and how many of them were late, duplicate and rejected.
    A negative `source` is a partition of the commands topic, −1 − its number: such a batch holds orders and no deltas.
    """

    source: int
    sequence: int
    events: int
    watermark_ms: int
    deltas: list[Delta]
    late: int = 0
    duplicate: int = 0
    rejected: int = 0
    schema: int = BATCH_SCHEMA
    orders: list[ResetOrder] = []
    breaker_orders: list[BreakerOrder] = []
    erasures: list[EraseOrder] = []


def attach(deltas: list[Delta], gauges: Mapping[tuple[str, Labels], dict[str, GaugeDelta]]) -> list[Delta]:
    """Put gauges with the first delta of their key; a key without one gets one of its own, of no pane."""
    missing = dict(gauges)
    for delta in deltas if missing else ():
        found = missing.pop((delta.dimension, delta.labels), None)
        if found is not None:
            delta.gauges = found
    deltas.extend(Delta(*key, LATE_PANE, gauges=found) for key, found in missing.items())
    return deltas


def add_counts(into: dict[int, int], more: dict[int, int]) -> None:
    """Add counts by key."""
    for key, count in more.items():
        into[key] = into.get(key, 0) + count


def add_sums(into: dict[str, int], more: Mapping[str, int]) -> None:
    """Add sums by name."""
    for name, value in more.items():
        into[name] = into.get(name, 0) + value


# ---- the second stage's rows -----------------------------------------------------------------------------------


class LogBins(Struct, array_like=True, gc=False):
    """Durations since `since_ms` as log bins of LIFETIME_SCALE, late ones left out: they come without bins."""

    since_ms: int
    sum_us: int = 0
    bins: dict[int, int] = {}


class LifetimeHistogram(Struct, array_like=True, gc=False):
    """Observations since ever: what the exporter shows; one count per explicit bucket, the last is +Inf.

    `exemplars` are the last traces by bucket, `log_bins` the same more finely where that is asked for.
    """

    sum_us: int
    buckets: list[int]
    min_us: int = UNKNOWN
    max_us: int = UNKNOWN
    exemplars: dict[int, Exemplar] = {}
    log_bins: LogBins | None = None


class Baseline(Struct, array_like=True, gc=False):
    """What a row held when it was last reset, by which command: `streams.fold.baseline` takes it off what is shown.

    `since_ms` is the time of the newest reset of everything (−1: never), `since` those of single sums and histograms.
    """

    command: str
    since_ms: int = -1
    sums: dict[str, int] = {}
    histograms: dict[str, LifetimeHistogram] = {}
    since: dict[str, int] = {}


class LifetimeRow(Struct, array_like=True, gc=False):
    """Everything ever added to one key; `ordinal` is its place in the order of first arrival (sticky admission)."""

    dimension: str
    labels: tuple[str, ...]
    ordinal: int
    created_ms: int
    touched_ms: int
    stamp: int = -1
    sums: dict[str, int] = {}
    histograms: dict[str, LifetimeHistogram] = {}
    baseline: Baseline | None = None
    accounts: dict[str, Account] = {}  # by budget


class PaneHistogram(Struct, array_like=True, gc=False):
    """Observations of one pane as log bins."""

    sum_us: int = 0
    bins: dict[int, int] = {}


class PaneRow(Struct, array_like=True, gc=False):
    """What was added to one key in the half-open pane [start_ms, start_ms + size_ms)."""

    size_ms: int
    start_ms: int
    sums: dict[str, int] = {}
    histograms: dict[str, PaneHistogram] = {}


_unpack_lifetime: Final = msgspec.msgpack.Decoder(LifetimeRow).decode
_unpack_pane: Final = msgspec.msgpack.Decoder(PaneRow).decode


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


def encode_row(row: LifetimeRow | PaneRow) -> bytes:
    """Return a row as stored: a MessagePack array."""
    return pack(row)


def decode_lifetime(stored: bytes) -> LifetimeRow:
    """Read a stored lifetime row."""
    return _unpack_lifetime(stored)


def decode_pane(stored: bytes) -> PaneRow:
    """Read a stored pane row."""
    return _unpack_pane(stored)
