"""The second stage: one partition of rollup deltas into rows by dimension, their panes, alerts and breakers.

Decides which keys get a row of their own, when panes grow coarser, and that no delta is missing or counted twice.
It never drops a delta: whether an event is late or a duplicate was settled in the first stage.
"""

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Final
from zlib import crc32

import msgspec

from streams.errors import InvariantBroken, SequenceGap
from streams.fold.baseline import absorb, concerns, reset
from streams.fold.gauges import gauge_of
from streams.fold.measure import DIMENSIONS, USER, Dimension
from streams.fold.merge import add_delta, add_pane
from streams.fold.panes import PaneKey, Panes, due_ms, home
from streams.fold.rollup import (
    BATCH_SCHEMA,
    Delta,
    EraseOrder,
    LifetimeRow,
    PaneRow,
    ResetOrder,
    RollupBatch,
    decode_lifetime,
    decode_pane,
    encode_row,
)
from streams.fold.session import OVERFLOW
from streams.rule.alert import KEY_EXPIRED, AlertState
from streams.rule.model import Rule, RuleSet
from streams.rule.reading import Key, Reading
from streams.rule.records import Completeness
from streams.stage.accounts import Accounts
from streams.stage.erasing import meant_by
from streams.stage.gauges import GAUGE, GaugeTable
from streams.stage.judging import NO_RULES, Judging
from streams.stage.keys import dimension_key
from streams.stage.loading import UNREADABLE, compact, known_log
from streams.stage.plan import Anchor, Plan, Row, SourceRecord
from streams.stage.readings import KeyReading
from streams.stage.rollup_rows import (
    LIFETIME,
    META_KEY,
    PANE,
    Meta,
    Upstream,
    decode_meta,
    encode_meta,
    is_last,
    lifetime_key,
    newer,
    pane_key,
    told_by,
    unreadable,
)
from streams.topology import ROLLUPS_STAGE

COARSEN_PER_STEP: Final = 2_000  # panes moved per tick or plan, so that a wave of them never holds the loop

_USERS: Final = dimension_key(USER.name, ("",))  # what the keys of users begin with

_decode_batch: Final = msgspec.json.Decoder(RollupBatch).decode


class Keyed:
    """One key: its lifetime row and its panes."""

    __slots__ = ("key", "panes", "row")

    def __init__(self, key: str, row: LifetimeRow) -> None:
        self.key = key
        self.row = row
        self.panes = Panes()


class RollupsPartition:
    """All state of one source partition of the second stage."""

    def __init__(
        self, partition: int, partitions: int, rules: RuleSet | None = None, *, log_bins: bool = False,
        rules_version: int = 0,
    ) -> None:  # fmt: skip
        self._partition = partition
        self._partitions = partitions
        self._next = 0
        self._started = False
        self.anchor: Anchor | None = None  # the last record that was read
        self._clock = -1
        self._upstreams: dict[int, Upstream] = {}
        self._keyed: dict[str, Keyed] = {}
        self._named: dict[str, int] = {}  # rows per dimension that the log has given a place of their own so far
        self._targets: dict[tuple[str, tuple[str, ...]], Keyed] = {}
        self._due: list[tuple[int, PaneKey]] = []
        self._holders: dict[PaneKey, dict[str, None]] = {}  # which keys have this pane, in order
        self._dirty_rows: dict[str, Keyed] = {}
        self._reset_rows: dict[str, Keyed] = {}  # changed for readers only: there is nothing to judge anew
        self._dirty_panes: dict[tuple[PaneKey, str], None] = {}
        self._gone: dict[str, None] = {}  # rows that were let go of
        self._fed = 0
        self._passed = False  # over marks, since the last plan
        self._log_bins = log_bins
        self._gauges = GaugeTable()
        self._judging = Judging(rules or NO_RULES, f"{ROLLUPS_STAGE.name}-{partition}", rules_version)
        self._judged_by = 0
        self._accounts = Accounts((rules or NO_RULES).budgets)
        self._loading: dict[bytes, bytes] = {}

    # ---- state --------------------------------------------------------------------------------------------------

    @property
    def next_offset(self) -> int | None:
        """The first source offset not folded in; None without state."""
        return self._next if self._started else None

    @property
    def pending(self) -> int:
        """Records folded since the last plan."""
        return self._fed

    @property
    def clock_ms(self) -> int:
        """The highest of upstream watermarks and ticks; −1 before the first."""
        return self._clock

    def keyed(self) -> Iterator[Keyed]:
        """Yield every key with its rows."""
        yield from self._keyed.values()

    @property
    def gauges(self) -> GaugeTable:
        """The gauges of every key."""
        return self._gauges

    def load(self, rows: Iterable[Row]) -> None:
        """Take changelog rows in log order."""
        compact(self._loading, rows)

    def loaded(self) -> None:
        """Build the state from the rows that are left."""
        loading, self._loading = self._loading, {}
        meta = loading.pop(META_KEY, None)
        if meta is not None:
            self._take_meta(meta)
        panes: list[tuple[bytes, bytes]] = []
        for key, value in loading.items():
            try:
                if key[:1] == LIFETIME:
                    self._take_row(key[1:].decode(), decode_lifetime(value))
                elif key[:1] == PANE:
                    panes.append((key, value))
                elif key[:1] == GAUGE:
                    self._gauges.load(key, value)
                elif not self._judging.load(key, value):
                    raise ValueError("no row has such a key")
            except UNREADABLE as error:
                raise unreadable(self._partition, key, error) from error
        for key, value in panes:
            try:
                self._take_pane(key.split(b":", 2)[2].decode(), decode_pane(value))
            except UNREADABLE as error:
                raise unreadable(self._partition, key, error) from error
        self._judging.loaded()
        for keyed in self._keyed.values():
            if keyed.row.ordinal >= 0:
                self._targets[keyed.row.dimension, keyed.row.labels] = keyed
            self._judging.arm(keyed.row.dimension, (keyed.row.labels,), self._clock)

    def _take_meta(self, stored: bytes) -> None:
        meta = decode_meta(self._partition, stored)
        self.anchor = known_log(f"rollups partition {self._partition}", meta, self._partitions)
        self._next, self._started = meta.next_offset, True
        self._clock, self._upstreams = meta.clock_ms, meta.upstreams
        self._judging.newest_incarnation = meta.incarnation
        self._gauges.forgotten = meta.forgotten_sources
        self._judged_by = meta.rules
        self._named = dict(meta.named)
        self._judging.trust.load(meta.marks, *self._outcomes())

    def _take_row(self, key: str, row: LifetimeRow) -> None:
        self._keyed[key] = Keyed(key, row)
        # One that a torn transaction left counts when the log comes to it; but a user, erased and back, has two places.
        if row.stamp < self._next or row.dimension == USER.name:
            self._named[row.dimension] = max(self._named.get(row.dimension, 0), row.ordinal + 1)

    def _take_pane(self, key: str, pane: PaneRow) -> None:
        at = pane.size_ms, pane.start_ms
        if key not in self._keyed and key.startswith(_USERS):
            # Its user was erased, and the log cleaned, while it was being read: by an owner that is none any more.
            self._dirty_panes[at, key] = None
            return
        self._keyed[key].panes.rows[at] = pane
        self._hold(at, key)

    # ---- records ------------------------------------------------------------------------------------------------

    def feed(self, records: Sequence[SourceRecord]) -> None:
        """Add the deltas of records in offset order."""
        for record in records:
            if record.offset < self._next:
                continue
            batch = self._decode(record)
            if self._expected(batch, record):
                self._add(batch, record.offset)
                for order in batch.orders:
                    self._obey(order, record.offset)
                for told in batch.breaker_orders:
                    # Not rows that a torn transaction left of later records: the log has not come to them.
                    held, come = (each.row for each in self._keyed.values()), self._named.get
                    rows = [(row.dimension, row.labels) for row in held if 0 <= row.ordinal < come(row.dimension, 0)]
                    self._judging.obey(told, rows, record.offset, self._clock, self._read)
                for erasure in batch.erasures:
                    self._forget(erasure, record.offset)
            self._next, self.anchor = record.offset + 1, Anchor(record.offset, record.timestamp)
            self._started = True
            self._fed += 1

    def _decode(self, record: SourceRecord) -> RollupBatch:
        try:
            batch = _decode_batch(record.value or b"")
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise InvariantBroken(
                f"rollups partition {self._partition}, offset {record.offset}: not a rollup batch ({error}). "
                "Only the first stage may write to this topic: check its ACL."
            ) from error
        if batch.schema != BATCH_SCHEMA:
            raise newer(self._partition, f"a batch has schema {batch.schema}, this program reads {BATCH_SCHEMA}")
        return batch

    def _expected(self, batch: RollupBatch, record: SourceRecord) -> bool:
        """Hold a batch against the sequence of its upstream: the last one again is skipped, others end the process."""
        upstream = self._upstreams.get(batch.source)
        if upstream is None:
            upstream = self._upstreams[batch.source] = Upstream()
        digest = crc32(record.value or b"")
        if batch.sequence == upstream.sequence and is_last(batch, digest, upstream):
            return False
        if batch.sequence <= upstream.sequence:
            raise InvariantBroken(
                f"rollups partition {self._partition}, offset {record.offset}: {told_by(batch.source)} sent "
                f"sequence {batch.sequence} again after {upstream.sequence}, and not as it was ({batch.events} "
                f"events by now, {upstream.events} in the last one): one of the two should never have been seen. Has "
                "the broker lost the end of a transaction (KAFKA-20734), or somebody else written to this topic? "
                "Start over under another topic prefix."
            )
        if batch.sequence != upstream.sequence + 1:
            raise SequenceGap(
                f"rollups partition {self._partition}, offset {record.offset}: {told_by(batch.source)} sent "
                f"sequence {batch.sequence} after {upstream.sequence}; what lies between is lost. Was the rollups "
                "topic truncated or its retention too short? Restore it, or start over under another topic prefix."
            )
        upstream.sequence, upstream.events, upstream.digest = batch.sequence, batch.events, digest
        upstream.late, upstream.duplicate, upstream.rejected = batch.late, batch.duplicate, batch.rejected
        upstream.watermark_ms = max(upstream.watermark_ms, batch.watermark_ms)
        self._clock = max(self._clock, batch.watermark_ms)
        return True

    def _add(self, batch: RollupBatch, offset: int) -> None:
        clock_ms = self._clock
        for delta in batch.deltas:
            keyed = self._targets.get((delta.dimension, delta.labels)) or self._admit(delta)
            if delta.gauges:
                self._take_gauges(keyed, delta)
            if delta.outcomes and keyed.row.ordinal >= 0:
                self._take_outcomes(keyed.row, delta.outcomes, offset)
            if offset <= keyed.row.stamp:  # a torn transaction left this row, but not the meta row
                self._named[delta.dimension] = max(self._named.get(delta.dimension, 0), keyed.row.ordinal + 1)
                continue
            self._accounts.open(keyed.row, keyed.panes, clock_ms)
            pane = None
            if delta.pane_ms >= 0:
                at = home(delta.pane_ms, clock_ms)
                if at is not None:
                    pane = keyed.panes.rows.get(at)
                    if pane is None:
                        self._hold(at, keyed.key)
                    pane = keyed.panes.at(at)
                    self._dirty_panes[at, keyed.key] = None
            try:
                add_delta(keyed.row, pane, delta, log_bins=self._log_bins)
            except LookupError as error:
                raise newer(self._partition, f"a batch has a histogram that is unknown here ({error})") from error
            self._accounts.charge(keyed.row, delta, clock_ms)
            keyed.row.touched_ms = clock_ms
            self._dirty_rows[keyed.key] = keyed

    def _take_gauges(self, keyed: Keyed, delta: Delta) -> None:
        """Take gauges, whatever a torn transaction left: an observation that is known already changes nothing."""
        for name in delta.gauges:
            if gauge_of(name) is None:
                raise newer(self._partition, f"a batch has the gauge {name}, which is unknown here")
        self._gauges.take(keyed.key, keyed.row, delta.labels, delta.gauges, self._clock)

    def _take_outcomes(self, row: LifetimeRow, outcomes: bytes, offset: int) -> None:
        """Let a circuit see calls; its own row knows which of them it has seen."""
        try:
            self._judging.outcomes(row.dimension, row.labels, outcomes, offset, self._clock)
        except ValueError as error:
            raise newer(self._partition, f"a batch has outcomes that cannot be read ({error})") from error

    def _admit(self, delta: Delta) -> Keyed:
        """Give a key its row: one of its own while its dimension has room here, else the overflow row."""
        key = dimension_key(delta.dimension, delta.labels)
        keyed = self._keyed.get(key)
        if keyed is None:
            dimension = DIMENSIONS.get(delta.dimension)
            if dimension is None:
                raise newer(self._partition, f"a batch has the dimension {delta.dimension}, which is unknown here")
            ordinal = self._named.get(delta.dimension, 0)
            if ordinal < -(-dimension.rows_max // self._partitions):
                self._named[delta.dimension] = ordinal + 1
                keyed = self._open(key, delta.dimension, delta.labels, ordinal)
            else:
                # Not remembered by its own name, of which there may be millions.
                return self._other(dimension)
        self._targets[delta.dimension, delta.labels] = keyed
        return keyed

    def _other(self, dimension: Dimension) -> Keyed:
        """Return the overflow row of a dimension."""
        labels = (OVERFLOW,) * len(dimension.columns)
        key = dimension_key(dimension.name, labels)
        return self._keyed.get(key) or self._open(key, dimension.name, labels, -1)

    def _open(self, key: str, dimension: str, labels: tuple[str, ...], ordinal: int) -> Keyed:
        keyed = self._keyed[key] = Keyed(key, LifetimeRow(dimension, labels, ordinal, self._clock, self._clock))
        return keyed

    def pass_over(self, offset: int) -> None:
        """Read on from `offset`: what lies before it and was not fed is no record."""
        if self._started and offset > self._next:
            self._next, self._passed = offset, True

    def _obey(self, order: ResetOrder, offset: int) -> None:
        """Carry out a command, at this place between the deltas; a key that has no row of its own has nothing."""
        for key, keyed in self._keyed.items():
            if offset > keyed.row.stamp and concerns(order, keyed.row):
                reset(keyed.row, order)
                self._reset_rows[key] = keyed

    def _forget(self, order: EraseOrder, offset: int) -> None:
        """Let the name of a user go; the numbers stay, in the row that many share."""
        named = {key: keyed.row.labels for key, keyed in self._keyed.items() if keyed.row.dimension == USER.name}
        for key in meant_by(order, named):
            keyed, other = self._keyed.pop(key), self._other(USER)
            # What a torn transaction has left of the shared row holds these numbers already.
            if offset > other.row.stamp:
                absorb(other.row, keyed.row)
                for at, pane in keyed.panes.rows.items():
                    add_pane(other.panes.at(at), pane)
                self._dirty_rows[other.key] = other
            for at in keyed.panes.rows:
                self._holders[at].pop(key, None)
                self._hold(at, other.key)
                self._dirty_panes[at, key] = self._dirty_panes[at, other.key] = None
            self._targets.pop((USER.name, keyed.row.labels), None)
            self._accounts.forget(keyed.row)
            self._dirty_rows.pop(key, None)
            self._reset_rows.pop(key, None)
            self._gone[key] = None
            self._judging.forget(USER.name, keyed.row.labels, self._clock, KEY_EXPIRED)

    # ---- time ---------------------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Let the clock move; panes grow coarser."""
        if now_ms <= self._clock:
            return
        self._clock = now_ms
        self._coarsen()
        self._gauges.expire(now_ms)
        self._judging.weigh(self._clock, self._outcomes)
        self._judging.step(now_ms, self._read)

    def _hold(self, at: PaneKey, key: str) -> None:
        holders = self._holders.get(at)
        if holders is None:
            self._holders[at] = {key: None}
            heappush(self._due, (due_ms(at), at))
        else:
            holders[key] = None

    def _coarsen(self) -> None:
        """Move panes that are old enough into coarser ones, some at a time."""
        room = COARSEN_PER_STEP
        while room > 0 and self._due and self._due[0][0] < self._clock:
            at = self._due[0][1]
            holders = self._holders[at]
            for key in list(holders)[:room]:
                del holders[key]
                self._coarsen_one(at, key)
                room -= 1
            if not holders:
                del self._holders[at]
                heappop(self._due)

    def _coarsen_one(self, at: PaneKey, key: str) -> None:
        into = self._keyed[key].panes.coarsen(at)
        self._dirty_panes[at, key] = None
        if into is not None:
            self._dirty_panes[into, key] = None
            self._hold(into, key)

    # ---- rules --------------------------------------------------------------------------------------------------

    @property
    def judged_by(self) -> int:
        """The version of the rules that the state as last written was judged by."""
        return self._judged_by

    def use(self, rules: RuleSet, version: int) -> None:
        """Go by these rules from now on."""
        if version == self._judging.version:
            return
        judging = self._judging
        judging.use(rules, version)
        self._accounts.use(rules.budgets)
        fresh = {over for over in DIMENSIONS if judging.fresh(over)}
        for keyed in self._keyed.values() if fresh else ():
            if keyed.row.dimension in fresh:
                judging.arm_fresh(keyed.row.dimension, keyed.row.labels, self._clock)
        judging.armed()
        self._passed = self._passed or self._started  # the meta row names the version

    def alive(self) -> Iterable[tuple[Rule, Key, AlertState, Reading]]:
        """Yield every alert that is pending or firing with its row as it is now."""
        return self._judging.alive(self._read)

    def _read(self, over: str, key: Key) -> Reading | None:
        keyed = self._keyed.get(dimension_key(over, key))
        if keyed is None:
            return None
        if self._accounts.open(keyed.row, keyed.panes, self._clock):
            self._reset_rows[keyed.key] = keyed
        return KeyReading(keyed.row, keyed.panes, self._clock, self._gauges, keyed.key)

    def _judge(self) -> None:
        self._judging.weigh(self._clock, self._outcomes)
        judging, clock, gauges = self._judging, self._clock, self._gauges
        for keyed in self._dirty_rows.values():
            row = keyed.row
            reading = KeyReading(row, keyed.panes, clock, gauges, keyed.key)
            judging.touch(row.dimension, row.labels, reading, clock, circuit=row.ordinal >= 0)
        judging.step(clock, self._read)

    def _outcomes(self) -> tuple[int, int]:
        """Count what was applied in the first stage, and what came late or was rejected."""
        upstreams = self._upstreams.values()
        lost = sum([upstream.late + upstream.rejected for upstream in upstreams])
        return sum([upstream.events - upstream.duplicate for upstream in upstreams]) - lost, lost

    def _completeness(self) -> Completeness:
        upstreams = self._upstreams.values()
        return Completeness(
            sum(upstream.late for upstream in upstreams),
            sum(upstream.duplicate for upstream in upstreams),
            sum(upstream.rejected for upstream in upstreams),
        )

    # ---- flush --------------------------------------------------------------------------------------------------

    def plan(self) -> Plan | None:
        """Encode everything that changed since the last plan."""
        self._coarsen()
        self._gauges.expire(self._clock)
        self._judge()
        changed = self._dirty_panes or self._reset_rows or self._gauges.changed or self._judging.changed
        if not (self._fed or self._passed or changed):
            return None
        stamp = self._next - 1
        rows: list[Row] = []
        dirty = self._dirty_rows | self._reset_rows if self._reset_rows else self._dirty_rows
        for key, keyed in dirty.items():
            keyed.row.stamp = max(stamp, keyed.row.stamp)  # a torn transaction may have left more in it
            self._accounts.note(keyed.row, keyed.panes, self._clock)
            rows.append((lifetime_key(key), encode_row(keyed.row)))
        for at, key in self._dirty_panes:
            holder = self._keyed.get(key)
            pane = None if holder is None else holder.panes.rows.get(at)
            rows.append((pane_key(at, key), None if pane is None else encode_row(pane)))
        sends = self._judging.sends(self._completeness()) if self._judging.changed else []
        rows.extend(self._gauges.changes())
        rows.extend(self._judging.rows(stamp))
        # Last: a torn transaction that has let go of a row has written where its numbers went, and none of its panes.
        rows.extend((lifetime_key(key), None) for key in self._gone if key not in self._keyed)
        incarnation, forgotten = self._judging.newest_incarnation, self._gauges.forgotten
        meta = Meta(
            self._next, self._clock, self._upstreams, incarnation, forgotten_sources=forgotten,
            rules=self._judging.version, marks=self._judging.trust.marks, partitions=self._partitions,
            anchor=self.anchor, named=self._named,
        )  # fmt: skip
        rows.append((META_KEY, encode_meta(meta)))
        self._judged_by = meta.rules
        self._dirty_rows, self._reset_rows, self._dirty_panes, self._gone = {}, {}, {}, {}
        self._fed, self._passed = 0, False
        return Plan(rows, sends, self._next)
