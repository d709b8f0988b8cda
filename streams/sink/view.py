"""Which rows stand behind each set of labels that readers see: lifetime rows, added up where they share one.

Never reads Kafka or a clock, and never drops a number: a key without a series of its own is part of the overflow's.

Rows are fed as they stand in the changelog and only remembered; `settle` takes in all that was fed before it, so a
page is made of one moment, and a row that changed a hundred times since the last page is decoded once.
"""

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from streams.errors import StateRefused
from streams.fold.baseline import merge_times, since_reset
from streams.fold.circuits import GUARDED
from streams.fold.gauges import GaugeRow, Level, decode_gauge, gauge_of, level_of
from streams.fold.measure import ALL, CIRCUIT_DENIED, DIMENSIONS, PARTITION
from streams.fold.merge import widen
from streams.fold.rollup import LifetimeHistogram, LifetimeRow, LogBins, PaneRow, decode_lifetime, decode_pane
from streams.fold.session import OVERFLOW
from streams.fold.shapes import bounds_of
from streams.fold.sketch import DURATION_BOUNDS_US
from streams.sink.budgets import budget_samples
from streams.sink.levels import Levels
from streams.sink.metric import KEYS_MAX, Sample
from streams.sink.verdicts import Alerts, Breakers

# How the second stage keys its changelog: one letter, then the key (a pane's: size, start, key; the meta row's: none).
LIFETIME: Final = b"l"
PANE: Final = b"p"
META: Final = b"m"
GAUGE: Final = b"g"
META_CODEC: Final = 1

ROWS_PER_STEP: Final = 16  # about 0.2 ms
BREAKER_ROW: Final = b"b"
_TAKEN: Final = frozenset({LIFETIME, META, GAUGE})
BUCKETS: Final = len(DURATION_BOUNDS_US) + 1  # of durations

Labels = tuple[str, ...]
Place = tuple[int, bytes]  # partition, changelog key


class Upstream(Struct, array_like=True):
    """What the second stage knows of a partition of the events topic; what readers do not need is left out."""

    sequence: int
    events: int
    watermark_ms: int


class Meta(Struct, array_like=True):
    """The meta row of a partition of the second stage."""

    next_offset: int
    clock_ms: int
    upstreams: dict[int, Upstream]
    incarnation: int
    codec: int
    forgotten_sources: int = 0
    rules: int = 0
    marks: list[tuple[int, int, int]] = []


_decode_meta: Final = msgspec.msgpack.Decoder(Meta).decode


class Group:
    """All rows behind one set of labels; `row` is their sum, and the row itself when there is only one.

    `shown` is what has been added since their resets: `row` itself for as long as there was none.
    """

    __slots__ = ("_levels", "_resets", "_summed", "dimension", "labels", "members", "row", "shown")

    def __init__(self, dimension: str, labels: Labels) -> None:
        self.dimension = dimension
        self.labels = labels
        self.members: dict[Place, LifetimeRow] = {}
        self.row = self.shown = LifetimeRow(dimension, labels, -1, -1, -1)
        self._levels = Levels()
        self._summed = False
        self._resets = 0  # members that were reset

    @property
    def gauges(self) -> Mapping[str, Level]:
        """What the gauges of all rows say together."""
        return self._levels.merged()

    @property
    def empty(self) -> bool:
        """Has every row gone?"""
        return not self.members and not self._levels

    def put(self, place: Place, row: LifetimeRow | GaugeRow | None) -> None:
        """Put a row in the place of what stood there; None takes it away."""
        if isinstance(row, GaugeRow):
            self._put_level(place, row)
        elif row is None and place not in self.members:
            self._levels.drop(place)
        else:
            self._put(place, row)

    def _put_level(self, place: Place, row: GaugeRow) -> None:
        gauge = gauge_of(row.gauge)
        level = None if gauge is None else level_of(gauge, row.sources)
        if level is None:
            self._levels.drop(place)
        else:
            self._levels.put(place, row.gauge, level)

    def _put(self, place: Place, row: LifetimeRow | None) -> None:
        old = self.members.pop(place, None)
        if row is not None:
            self.members[place] = row
        if len(self.members) > 1 and self._summed and not _narrower(row, old):
            if old is not None:
                _add(self.row, old, -1)
            if row is not None:
                _add(self.row, row, 1)
        else:
            self._sum()
        self._show(old, row)

    def _sum(self) -> None:
        self._summed = len(self.members) > 1
        if not self._summed:
            self.row = next(iter(self.members.values()), self.row)
            return
        self.row = LifetimeRow(self.dimension, self.labels, -1, -1, -1)
        for row in self.members.values():
            _add(self.row, row, 1)

    def _show(self, old: LifetimeRow | None, row: LifetimeRow | None) -> None:
        """Follow what `put` has done; sums of sums since a reset are kept like those of lifetimes."""
        before = self._resets
        self._resets += _was_reset(row) - _was_reset(old)
        if not self._resets or not self._summed:
            self.shown = since_reset(self.row)
        elif before and len(self.members) > 2:  # so it was summed before
            if old is not None:
                _add(self.shown, since_reset(old), -1)
            if row is not None:
                _add(self.shown, since_reset(row), 1)
        else:
            self.shown = LifetimeRow(self.dimension, self.labels, -1, -1, -1)
            for member in self.members.values():
                _add(self.shown, since_reset(member), 1)


def _was_reset(row: LifetimeRow | None) -> bool:
    return row is not None and row.baseline is not None


def _narrower(row: LifetimeRow | None, old: LifetimeRow | None) -> bool:
    """Return whether extremes may have gone with a row: sums can be taken back, extremes cannot."""
    if old is None:
        return False
    for name, before in old.histograms.items():
        after = None if row is None else row.histograms.get(name)
        if after is None or after.min_us > before.min_us >= 0 or after.max_us < before.max_us:
            return True
    return False


def _add(total: LifetimeRow, row: LifetimeRow, sign: int) -> None:
    if row.created_ms >= 0:
        total.created_ms = min(row.created_ms, total.created_ms) if total.created_ms >= 0 else row.created_ms
    total.touched_ms = max(total.touched_ms, row.touched_ms)
    merge_times(total, row)
    sums = total.sums
    for name, value in row.sums.items():
        sums[name] = sums.get(name, 0) + sign * value
    for name, histogram in row.histograms.items():
        known = total.histograms.get(name)
        if known is None:
            known = total.histograms[name] = LifetimeHistogram(0, [0] * len(histogram.buckets))
        known.sum_us += sign * histogram.sum_us
        if sign > 0:
            widen(known, histogram.min_us, histogram.max_us)
        buckets = known.buckets
        for at, count in enumerate(histogram.buckets):
            buckets[at] += sign * count
        if histogram.log_bins is not None:
            _add_log_bins(known, histogram.log_bins, sign)
        if sign > 0 and histogram.exemplars:
            _newer_exemplars(known, histogram)


def _add_log_bins(known: LifetimeHistogram, more: LogBins, sign: int) -> None:
    into = known.log_bins
    if into is None:
        into = known.log_bins = LogBins(more.since_ms)
    into.since_ms = min(into.since_ms, more.since_ms)
    into.sum_us += sign * more.sum_us
    for index, count in more.bins.items():
        into.bins[index] = into.bins.get(index, 0) + sign * count


def _newer_exemplars(known: LifetimeHistogram, more: LifetimeHistogram) -> None:
    """Keep the newer of two traces per bucket; which of the rows it came from does not matter."""
    for bucket, exemplar in more.exemplars.items():
        old = known.exemplars.get(bucket)
        if old is None or old.event_ms <= exemplar.event_ms:
            known.exemplars[bucket] = exemplar


class View:
    """What the second stage's changelog and the topics of alerts and breakers add up to."""

    def __init__(
        self,
        partitions: int,
        keys_max: Mapping[str, int] = KEYS_MAX,
        *,
        started_ms: int = -1,
        keep_panes: bool = False,
    ) -> None:
        # An ordinal counts arrivals within a partition, so every partition names its share.
        self._shares = {name: -(-keys_max.get(name, KEYS_MAX[name]) // partitions) for name in DIMENSIONS}
        self._keep_panes = keep_panes
        self._fed: dict[Place, bytes | None] = {}
        self._settling: dict[Place, bytes | None] = {}
        self._places: dict[Place, Group] = {}
        self._groups: dict[str, dict[Labels, Group]] = {name: {} for name in DIMENSIONS}
        self._order: dict[str, list[Group]] = {name: [] for name in DIMENSIONS}
        self._panes: dict[Place, bytes] = {}
        self._metas: dict[int, Meta] = {}
        self._accounts: dict[Place, None] = {}  # rows with budgets
        self._watchers: list[set[Group]] = []
        self.alerts = Alerts(started_ms)
        self.breakers = Breakers()

    # ---- feeding ------------------------------------------------------------------------------------------------

    def feed(self, partition: int, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take rows of one partition of the changelog, in log order; values of None are tombstones."""
        fed, keep_panes = self._fed, self._keep_panes
        for key, value in rows:
            kind = key[:1]
            if kind in _TAKEN:
                fed[partition, key] = value
            elif kind == BREAKER_ROW:
                self.breakers.take_row(key[1:], value)
            elif keep_panes and kind == PANE:
                if value is None:
                    self._panes.pop((partition, key), None)
                else:
                    self._panes[partition, key] = value

    def settle(self) -> Iterator[None]:
        """Take in all that was fed so far, a step at a time. Raises StateRefused for rows it cannot read.

        What is left when nobody goes on is taken in the next time.
        """
        settling = self._settling
        settling.update(self._fed)
        self._fed = {}
        while settling:
            for _ in range(min(ROWS_PER_STEP, len(settling))):
                place, value = settling.popitem()
                if place[1][:1] == META:
                    self._take_meta(place[0], value)
                else:
                    self._take_row(place, value)
            yield

    def _take_row(self, place: Place, value: bytes | None) -> None:
        group = self._places.get(place)
        if value is None:
            if group is None:
                return
            del self._places[place]
            self._accounts.pop(place, None)
            group.put(place, None)
            if group.empty:
                del self._groups[group.dimension][group.labels]
                self._order[group.dimension].remove(group)
        else:
            row = _decode(place, value)
            if row.dimension not in DIMENSIONS:  # a newer release has more of them
                return
            if isinstance(row, GaugeRow) and gauge_of(row.gauge) is None:  # as above
                return
            group = group or self._group(place, row)
            group.put(place, row)
            if isinstance(row, LifetimeRow) and row.accounts:
                self._accounts[place] = None
            else:
                self._accounts.pop(place, None)
        for changed in self._watchers:
            changed.add(group)

    def _group(self, place: Place, row: LifetimeRow | GaugeRow) -> Group:
        """Return the group a row belongs to, for as long as the row exists."""
        named = 0 <= row.ordinal < self._shares[row.dimension]
        labels = row.labels if named else (OVERFLOW,) * len(row.labels)
        groups = self._groups[row.dimension]
        group = groups.get(labels)
        if group is None:
            group = groups[labels] = Group(row.dimension, labels)
            insort(self._order[row.dimension], group, key=_labels)
        self._places[place] = group
        return group

    def _take_meta(self, partition: int, value: bytes | None) -> None:
        if value is None:
            return
        try:
            meta = _decode_meta(value)
        except (msgspec.MsgspecError, ValueError) as error:
            raise _newer(partition, f"its meta row cannot be read ({error})") from error
        if meta.codec != META_CODEC:
            raise _newer(partition, f"its meta row has version {meta.codec}, this program reads {META_CODEC}")
        known = self._metas.get(partition)
        if known is not None and meta.next_offset < known.next_offset:
            raise StateRefused(
                f"rollups changelog, partition {partition}: its state goes on at offset {meta.next_offset}, after it "
                f"had reached {known.next_offset}. The topics were created anew: restart this process to read them "
                "from their beginning"
            )
        self._metas[partition] = meta

    # ---- reading ------------------------------------------------------------------------------------------------

    def watch(self) -> set[Group]:
        """Return a set that every changed group is added to from now on; whoever asked empties it."""
        changed: set[Group] = set()
        for order in self._order.values():
            changed.update(order)
        self._watchers.append(changed)
        return changed

    def groups(self, dimension: str) -> list[Group]:
        """Return the groups of a dimension in the order of their labels; it belongs to the view."""
        return self._order[dimension]

    def panes(self) -> Iterator[tuple[str, PaneRow]]:
        """Yield every pane with the key it belongs to; nothing unless they are kept."""
        for (_, key), value in self._panes.items():
            yield key.split(b":", 2)[2].decode(), decode_pane(value)

    @property
    def rows(self) -> int:
        """How many lifetime and gauge rows there are."""
        return len(self._places)

    def samples(self, now_ms: int = -1) -> dict[str, list[Sample]]:
        """Return the metrics that are no rows, by name; budgets as they stand now, or later when the rows are."""
        return {
            "agent_stream_events_unreconciled": [Sample((), self._unreconciled())],
            "agent_stream_watermark_timestamp_seconds": self._watermarks(),
            "agent_series_overflow_keys": self._overflows(),
            "agent_sources_forgotten_total": self._forgotten(),
            **budget_samples(self._budgeted(), max([now_ms, *(meta.clock_ms for meta in self._metas.values())])),
            **self.alerts.samples(),
            **self.breakers.samples(),
            **self._windows(),
            "agent_circuit_breaker_not_permitted_calls_total": self._not_permitted(),
        }

    def _budgeted(self) -> Iterator[LifetimeRow]:
        """Yield the rows with accounts that have series of their own, in the order of their arrival."""
        for place in self._accounts:
            group = self._places[place]
            if OVERFLOW not in group.labels:
                yield group.members[place]

    def _windows(self) -> dict[str, list[Sample]]:
        try:
            return self.breakers.windows()
        except (msgspec.MsgspecError, ValueError) as error:
            raise StateRefused(f"rollups changelog: the row of a circuit cannot be read ({error})") from error

    def _not_permitted(self) -> list[Sample]:
        """Count the calls that guards denied, of every key that a circuit may guard and that was denied one."""
        return [
            Sample((name, "|".join(group.labels)), denied, group.row.created_ms)
            for name in GUARDED
            for group in self._order[name]
            if (denied := group.row.sums.get(CIRCUIT_DENIED, 0))
        ]

    def _unreconciled(self) -> int:
        counted = sum(
            group.row.sums.get("applied", 0) + group.row.sums.get("late", 0) for group in self._order[PARTITION.name]
        )
        return counted - sum(group.row.sums.get("events", 0) for group in self._order[ALL.name])

    def _watermarks(self) -> list[Sample]:
        newest: dict[int, int] = {}
        for meta in self._metas.values():
            for source, upstream in meta.upstreams.items():
                newest[source] = max(newest.get(source, -1), upstream.watermark_ms)
        return [Sample((str(source),), newest[source] / 1000) for source in sorted(newest) if newest[source] >= 0]

    def _forgotten(self) -> list[Sample]:
        return [Sample((), sum(meta.forgotten_sources for meta in self._metas.values()))] if self._metas else []

    def _overflows(self) -> list[Sample]:
        samples: list[Sample] = []
        for name, dimension in DIMENSIONS.items():
            if dimension.columns and self._shares[name]:  # where no key has a series, none is left out
                group = self._groups[name].get((OVERFLOW,) * len(dimension.columns))
                samples.append(Sample((name,), 0 if group is None else len(group.members)))
        return samples


def _labels(group: Group) -> Labels:
    return group.labels


def _decode(place: Place, value: bytes) -> LifetimeRow | GaugeRow:
    try:
        if place[1][:1] == GAUGE:
            return decode_gauge(value)
        row = decode_lifetime(value)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _newer(place[0], f"row {place[1]!r} cannot be read ({error})") from error
    if any(_misshapen(name, histogram) for name, histogram in row.histograms.items()):
        raise _newer(place[0], f"row {place[1]!r} has other histogram buckets than this program")
    return row


def _misshapen(name: str, histogram: LifetimeHistogram) -> bool:
    try:
        return len(histogram.buckets) != len(bounds_of(name).uppers) + 1
    except LookupError:  # a newer release has more of them
        return False


def _newer(partition: int, what: str) -> StateRefused:
    return StateRefused(
        f"rollups changelog, partition {partition}: {what}. It was written by another release: run the same release "
        "here as in the workers"
    )
