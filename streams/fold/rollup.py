"""Numbers by dimension: what one flush adds (deltas), and the rows that deltas are added to.

They are added up in `streams.fold.merge`.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Struct

from streams.fold.gauges import GaugeDelta, Labels
from streams.fold.packing import pack
from streams.fold.sketch import SCALE
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


def encode_row(row: LifetimeRow | PaneRow) -> bytes:
    """Return a row as stored: a MessagePack array."""
    return pack(row)


def decode_lifetime(stored: bytes) -> LifetimeRow:
    """Read a stored lifetime row."""
    return _unpack_lifetime(stored)


def decode_pane(stored: bytes) -> PaneRow:
    """Read a stored pane row."""
    return _unpack_pane(stored)
