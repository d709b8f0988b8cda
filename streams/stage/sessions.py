"""The first stage: one partition of events into session rows, rollup deltas, session alerts and dead letters.

Decides which events count (late, duplicate, skewed, rejected), when a session ends, and what a flush writes.
Never talks to Kafka and never reads a clock: records and ticks come in, plans go out.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from streams.event.codec import MS_END, RECORD_BYTES_MAX, Rejected, decode_one, decode_record, time_ms, untimely
from streams.event.custom import NO_CUSTOMS, Customs
from streams.event.model import Envelope, Payload
from streams.fold import measure
from streams.fold.apply import apply, count_session, end
from streams.fold.cells import Cells
from streams.fold.dedup import IdWindow
from streams.fold.live import LivePane, LiveRow
from streams.fold.price import Pricer
from streams.fold.rollup import Delta, attach
from streams.fold.session import CLOSED_KEPT_MS, GAP_MS, RowKey
from streams.fold.streamtime import GRACE_MS, LATE_PANE, MINUTE_MS, PANE_MS, SKEW_MS, late_pane, pane_start
from streams.rule.alert import AlertState
from streams.rule.model import Rule, RuleSet
from streams.rule.reading import SESSION, Key, Reading
from streams.rule.records import Completeness
from streams.stage import session_rows
from streams.stage.arming import Arming
from streams.stage.asides import OFF, Asides, PayloadPolicy
from streams.stage.batches import Batches
from streams.stage.erasing import Erasing, Erasures
from streams.stage.idle import IdleWheel
from streams.stage.judging import NO_RULES, Judging
from streams.stage.keys import partition_of
from streams.stage.loading import UNREADABLE, compact, known_log
from streams.stage.plan import Anchor, Plan, Row, Send, SourceRecord
from streams.stage.readings import SessionReading
from streams.stage.restoring import restore
from streams.stage.session_rows import META_KEY, Meta, read_row_key, row_key, stamped
from streams.stage.session_table import Bounds, SessionTable
from streams.stage.trust import outcomes_of
from streams.topology import SESSIONS_STAGE

__all__ = ["Meta", "SessionsPartition", "read_row_key", "row_key"]

BLOCK_EVENTS: Final = 64  # decoded, then folded while they are still in the processor's cache
ARRAY: Final = ord("[")
EXPIRE_PER_TICK: Final = 5_000  # rows looked at per tick, so that a wave of idle sessions never holds the loop
ENDED_REASON: Final = "session_ended"


class SessionsPartition:
    """All state of one source partition of the first stage."""

    def __init__(
        self, partition: int, partitions: int, rollup_partitions: int,
        rules: RuleSet | None = None, pricer: Pricer | None = None, payloads: PayloadPolicy = OFF,
        customs: Customs = NO_CUSTOMS, rules_version: int = 0, bounds: Bounds = Bounds(),  # noqa: B008  never changed
    ) -> None:  # fmt: skip
        self._partition, self._customs = partition, customs
        self._partitions = partitions
        self._meta: Meta | None = None
        self._next = 0
        self._started = False
        self.anchor: Anchor | None = None  # the last record that was read
        self._watermark = self._clock = -1
        self._replay_below = 0  # a torn transaction left rows that hold offsets below this; the meta row does not
        self._table = SessionTable(partition, bounds)
        self._rows = self._table.rows
        self._dirty: dict[RowKey, LiveRow] = {}
        self._idle = IdleWheel()  # each row once, never later than its deadline would be if it were touched now
        self._closed = IdleWheel()  # when rows of closed incarnations go
        self._ids = IdWindow()
        self._cells = Cells(pricer, rules.outcomes() if rules else None)
        self._counted: dict[str, int] = {}  # since the last plan
        self._beside: dict[bytes, LiveRow | None] = {}  # changes that are not in `_dirty`: closed rows, deletions
        self._sends: list[Send] = []
        self._batches = Batches(partition, rollup_partitions)
        self._fed = 0
        self._passed = False  # over marks, since the last plan
        self._asides = Asides(partition, payloads)
        self._judging = Judging(rules or NO_RULES, f"{SESSIONS_STAGE.name}-{partition}", rules_version)
        self._arming = Arming()
        self._erasing = Erasing()
        self._loading: dict[bytes, bytes] = {}

    # ---- state --------------------------------------------------------------------------------------------------

    @property
    def next_offset(self) -> int | None:
        """The first source offset not folded in; None without state."""
        return self._next if self._started else None

    @property
    def pending(self) -> int:
        """Records folded since the last plan, and what the bodies among them weigh."""
        return self._fed + self._asides.pending

    @property
    def watermark_ms(self) -> int:
        """The highest event time accepted; −1 before the first."""
        return self._watermark

    def counters(self) -> dict[str, int]:
        """Return what the partition has counted since its beginning: received, applied, late, duplicate, rejected …"""
        return session_rows.added(self._meta, self._counted)

    def sessions(self) -> Iterable[tuple[RowKey, LiveRow]]:
        """Yield every row, decoded."""
        return self._table.all()

    def load(self, rows: Iterable[Row]) -> None:
        """Take changelog rows in log order."""
        compact(self._loading, rows)

    def loaded(self) -> None:
        """Build the state from the rows that are left."""
        loading, self._loading = self._loading, {}
        meta = loading.pop(META_KEY, None)
        if meta is not None:
            self._take_meta(meta)
        found = restore(loading, self._table, self._idle, self._closed, self._next, self._clock)
        self._replay_below = found.replay_below
        self._judging.arm(SESSION, found.waiting, self._clock)
        self._judging.arm(SESSION, found.quiet, self._clock, in_flight=False)
        for key, value in found.others:
            try:
                if key[:1] == b"i":
                    self._ids.load(int(key[1:]), value)
                elif not any(keep.load(key, value) for keep in (self._cells.norms, self._erasing, self._judging)):
                    raise ValueError("no row has such a key")
            except UNREADABLE as error:
                raise session_rows.unreadable(self._partition, key, error) from error
        self._ids.loaded()
        self._judging.loaded()
        self._erasing.loaded(self._meta.erased if self._meta else 0)
        for torn in self._table.torn(found.torn, self._next):
            self._beside[torn] = None

    def _take_meta(self, stored: bytes) -> None:
        self._meta = meta = session_rows.decode_meta(self._partition, stored)
        self.anchor = known_log(f"sessions partition {self._partition}", meta, self._partitions)
        self._next, self._started = meta.next_offset, True
        self._watermark, self._clock = meta.watermark_ms, meta.clock_ms
        self._judging.newest_incarnation = meta.incarnation
        self._judging.trust.load(meta.marks, *outcomes_of(self.counters()))

    # ---- records ------------------------------------------------------------------------------------------------

    def feed(self, records: Sequence[SourceRecord]) -> None:
        """Fold records in offset order; records below the next offset were folded before and are skipped."""
        events: list[Any] = []
        origins: list[SourceRecord] = []  # of each event
        for record in records:
            if record.offset < self._next:
                continue
            if len(events) >= BLOCK_EVENTS:
                self._fold(events, origins)
                events, origins = [], []
            value = record.value
            try:
                if value is None or len(value) > RECORD_BYTES_MAX or value[0] == ARRAY:
                    self._decode(record, events, origins)
                else:
                    events.append(decode_one(value))
                    origins.append(record)
            except Exception:  # noqa: BLE001  msgspec raises more than its own errors; decode_record never does
                self._decode(record, events, origins)
            self._fed += 1
        if records:
            if (last := records[-1]).offset >= self._next:
                self._next, self.anchor = last.offset + 1, Anchor(last.offset, last.timestamp)
            self._started = True
        self._fold(events, origins)

    def _decode(self, record: SourceRecord, events: list[Any], origins: list[SourceRecord]) -> None:
        """Decode, with care, what is not one good event."""
        good, rejected = decode_record(record.value, self._customs, record.headers)
        events.extend(good)
        origins.extend([record] * len(good))
        if rejected:
            self._refuse(record, rejected)

    def _fold(self, events: list[Any], origins: list[Any]) -> None:
        """Fold events in order: the hot path, one flat loop on purpose (see fold.apply)."""
        if self._erasing.known:
            events, origins = self._erasing.sieve(events, origins, self._counted)
        rows, dirty, cells, counted, ids = self._rows, self._dirty, self._cells, self._counted, self._ids
        replay_below, watermark, clock = self._replay_below, self._watermark, self._clock
        late = duplicate = refused = 0
        record: Any = None
        stamped_ms = 0
        last_id: str | None = None  # records of many events are of one session
        last_row: LiveRow | None = None
        for event, origin in zip(events, origins):  # noqa: B905  as long as each other; strict is not compiled well
            if origin is not record:
                record = origin
                stamped_ms = record.timestamp
            timed: Any = event.time
            if isinstance(timed, int) and timed < MS_END:
                event_ms: int = timed
            else:
                told = time_ms(timed)
                if told is None:  # only in a record of one event: `decode_record` has looked at all others
                    refused += 1
                    self._refuse(record, (untimely(record.value or b"", 0),))
                    continue
                event_ms = told
            if event_ms - stamped_ms > SKEW_MS:
                event_ms = stamped_ms if stamped_ms >= 0 else max(watermark, 0)
                counted["skewed"] = counted.get("skewed", 0) + 1
            session_id: str | None = event.session_id
            key: Any = session_id
            row: LiveRow | None = None
            if session_id is not None and session_id == last_id:
                row = last_row
            else:
                if session_id is None:
                    key = (event.source or event.agent,)
                stored: Any = rows.get(key)
                if isinstance(stored, LiveRow):
                    row = stored
                elif stored is not None:
                    row = self._table.unpacked(key, stored)
                    rows[key] = row
            seq: int | None = event.seq
            source: str | None = event.source
            if replay_below and row is not None and record.offset <= row.stamp:
                duplicate += 1
                watermark = max(watermark, event_ms)  # it counted when it was folded, and its id was remembered
                if seq is None or source is None:
                    ids.repeated(event.id)
                continue
            if seq is None or source is None:
                if ids.repeated(event.id):
                    duplicate += 1
                    continue
                source = None
            elif row is not None:
                mark = row.marks.get(source)
                if mark is not None:
                    if mark.repeated(seq):
                        duplicate += 1
                        continue
                    source = None
            if event_ms > watermark:
                watermark = event_ms
                if event_ms > clock:  # noqa: PLR1730  max() takes three times as long
                    clock = event_ms
            if row is None:
                row = self._create(key, event, event_ms, watermark, clock)
            elif row.ended_ms:
                row = self._reopen(key, row, event_ms, watermark, clock)
            if source is not None and seq is not None and row.mark(source, seq):
                counted["forgotten_marks"] = counted.get("forgotten_marks", 0) + 1
            last_id, last_row = session_id, row
            row.events += 1
            row.seen_ms = clock
            if event_ms > row.last_ms:  # noqa: PLR1730  as above
                row.last_ms = event_ms
            if not row.dirty:
                row.dirty = True
                dirty[key] = row
            if event_ms >= watermark - GRACE_MS:
                panes = row.panes
                pane: LivePane | None = panes[-1] if panes else None
                if pane is None or not 0 <= event_ms - pane.start_ms < MINUTE_MS:
                    pane = row.pane_at(event_ms)
                pane.events += 1
                apply(row, pane, event, cells, event_ms - event_ms % PANE_MS, event_ms)
            else:
                late += 1
                row.late += 1
                apply(row, None, event, cells, late_pane(event_ms), event_ms)
            if event.trace_id is not None or event.__class__ is Payload:
                self._asides.take(event, event_ms=event_ms, offset=record.offset, counted=counted)
        self._watermark, self._clock = watermark, clock
        applied = len(events) - late - duplicate - refused
        for outcome, count in (("applied", applied), ("late", late), ("duplicate", duplicate)):
            if count:
                counted[outcome] = counted.get(outcome, 0) + count

    def _create(self, key: RowKey, event: Envelope, event_ms: int, watermark: int, clock: int) -> LiveRow:
        if self._table.full:
            self._evict()
        row = LiveRow(event.agent, event.tenant, event.user_id, event_ms, event_ms, clock)
        self._idle.add(clock + GAP_MS, key)
        self._begin(key, row, watermark)
        if isinstance(key, str) and partition_of(key.encode(), self._partitions) != self._partition:
            self._count("misrouted")
        return row

    def _reopen(self, key: RowKey, row: LiveRow, event_ms: int, watermark: int, clock: int) -> LiveRow:
        """Begin the next incarnation of an ended row; a session's old totals are kept apart for their time."""
        following = row.successor(event_ms, clock)
        self._begin(key, following, watermark)  # its deadline stands already, at most GAP_MS from now
        if isinstance(key, str):
            closed = (key, str(row.incarnation))
            self._beside[row_key(closed)] = row
            self._closed.add(row.seen_ms + CLOSED_KEPT_MS, closed)
            self._judging.end(SESSION, (key,), clock, ENDED_REASON)
            self._count("reopened")
        return following

    def _begin(self, key: RowKey, row: LiveRow, watermark: int) -> None:
        self._rows[key] = row
        if isinstance(key, str):
            pane_ms = pane_start(row.started_ms) if row.started_ms >= watermark - GRACE_MS else LATE_PANE
            count_session(row, measure.SESSION_STARTED, self._cells, pane_ms)

    def _refuse(self, record: SourceRecord, rejected: Sequence[Rejected]) -> None:
        for one in rejected:
            self._count("rejected")
            self._count(f"rejected_{one.reason.value}")
        self._sends.extend(self._asides.letters(rejected, record))

    def _count(self, name: str) -> None:
        self._counted[name] = self._counted.get(name, 0) + 1

    def pass_over(self, offset: int) -> None:
        """Read on from `offset`: what lies before it and was not fed is no record."""
        if self._started and offset > self._next:
            self._next, self._passed = offset, True

    # ---- time ---------------------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Let the clock move: idle sessions end, old closed rows go, rows nobody touches are packed."""
        if now_ms <= self._clock:
            return
        self._clock = now_ms
        for key in self._closed.due(now_ms, EXPIRE_PER_TICK):
            self._beside[row_key(key)] = None
        for key in self._idle.due(now_ms, EXPIRE_PER_TICK):
            self._expire(key, now_ms)
        self._passed = self._erasing.expire(now_ms) or self._passed
        self._arming.step(self._rows, self._judging, now_ms)
        self._judging.weigh(self._clock, lambda: outcomes_of(self.counters()))
        self._judging.step(now_ms, self._read)
        self._table.age(now_ms, self._dirty)

    def _expire(self, key: RowKey, now_ms: int) -> None:
        row = self._table.peek(key)
        if row is None:
            return
        due_ms = row.seen_ms + (CLOSED_KEPT_MS if row.ended_ms else GAP_MS)
        if due_ms > now_ms:
            self._idle.add(min(due_ms, now_ms + GAP_MS), key)
        elif row.ended_ms:
            self._delete(key)
        else:
            self._end(key, row, "idle")
            self._idle.add(now_ms + GAP_MS, key)

    def _end(self, key: RowKey, row: LiveRow, reason: str) -> None:
        """End a row at the start of its silence; it is kept a while for its marks and totals."""
        pane_ms = self._pane_now()
        end(row, row.last_ms, reason, self._cells, pane_ms)
        if isinstance(key, str):
            count_session(row, measure.SESSION_ENDED, self._cells, pane_ms)
        row.seen_ms = self._clock
        row.dirty = True
        self._rows[key] = self._dirty[key] = row

    def _pane_now(self) -> int:
        return pane_start(self._watermark) if self._watermark >= 0 else LATE_PANE

    def _delete(self, key: RowKey) -> None:
        if self._erasing.busy:
            self._erasing.leaves(key, self._table, self._clock)
        del self._rows[key]
        self._dirty.pop(key, None)
        self._beside[row_key(key)] = None

    def _evict(self) -> None:
        """Make room: delete the row that nobody has touched for longest, to the minute."""
        key = self._table.longest_idle(self._idle)
        if key is not None:
            self._remove(key)
            self._count("evicted")

    def _remove(self, key: RowKey) -> None:
        """Delete a row before its time; what it has in flight is abandoned."""
        row = self._table.peek(key)
        if row is not None and not row.ended_ms:
            self._end(key, row, "evicted")
            if isinstance(key, str):
                self._judging.end(SESSION, (key,), self._clock, ENDED_REASON)
        self._delete(key)

    def erase(self, erasures: Erasures) -> bool:
        """Begin with the erasures that are new; returns whether there are any."""
        begun = self._erasing.begin(erasures, self._rows, self._closed.keys, self._clock) and self._started
        self._passed = self._passed or begun
        return begun

    def _erase(self) -> None:
        """Let go of some of what is to be erased."""
        for name in self._erasing.outlived(self._rows, lambda: self._judging.kept_keys(SESSION)):
            self._judging.forget(SESSION, (name,), self._clock, ENDED_REASON)
        for key in self._erasing.step(self._table, self._dirty, self._clock):
            if isinstance(key, str):
                self._judging.forget(SESSION, (key,), self._clock, ENDED_REASON)
            if key in self._rows:
                self._remove(key)
            else:
                self._beside[row_key(key)] = None

    # ---- rules --------------------------------------------------------------------------------------------------

    @property
    def judged_by(self) -> int:
        """The version of the rules that the state as last written was judged by."""
        return self._meta.rules if self._meta else 0

    def use(self, rules: RuleSet, version: int) -> None:
        """Go by these rules from now on."""
        if version != self._judging.version:
            self._judging.use(rules, version)
            self._cells.guard(rules.outcomes())
            self._arming.begin(self._rows, self._judging)
            self._passed = self._passed or self._started  # the meta row names the version

    def alive(self) -> Iterable[tuple[Rule, Key, AlertState, Reading]]:
        """Yield every alert that is pending or firing with its row as it is now."""
        return self._judging.alive(self._read)

    def _read(self, _over: str, key: Key) -> Reading | None:
        row = self._table.peek(key[0])
        return None if row is None or row.ended_ms else SessionReading(row, self._clock, self._cells.norms)

    def _judge(self) -> None:
        """Judge the sessions that changed, and end the alerts of those that ended."""
        judging, clock, norms = self._judging, self._clock, self._cells.norms
        judging.weigh(clock, lambda: outcomes_of(self.counters()))
        for key, row in self._dirty.items():
            if key.__class__ is not str:
                continue
            if row.ended_ms:
                judging.end(SESSION, (key,), clock, ENDED_REASON)
            else:
                judging.touch(SESSION, (key,), SessionReading(row, clock, norms), clock)
        self._arming.step(self._rows, judging, clock)
        judging.step(clock, self._read)

    # ---- flush --------------------------------------------------------------------------------------------------

    def plan(self) -> Plan | None:
        """Encode everything that changed since the last plan."""
        self._erase()
        self._judge()
        changed = self._dirty or self._beside or self._counted or self._cells or self._judging.changed
        if not (self._fed or self._passed or changed):
            return None
        stamp = self._next - 1
        rows: list[Row] = self._erasing.drain()
        # First: a row may be deleted and begun anew between two flushes, and the changelog's last word counts.
        rows += [(raw, None if closed is None else stamped(closed, stamp)) for raw, closed in self._beside.items()]
        for key, row in self._dirty.items():
            row.dirty = False
            rows.append((row_key(key), stamped(row, stamp)))
        rows.extend((b"i%d" % segment, packed) for segment, packed in self._ids.changes())
        rows.extend(self._cells.norms.drain())
        meta = self._advance_meta()
        counters = meta.counters
        complete = Completeness(counters.get("late", 0), counters.get("duplicate", 0), counters.get("rejected", 0))
        deltas = self._asides.attach(self._cells.deltas())
        deltas = attach(deltas, self._cells.gauges.drain(self._partition, stamp))
        if self._counted:
            deltas.append(Delta("partition", (str(self._partition),), self._pane_now(), dict(self._counted)))
        sends = self._sends + self._batches.sends(deltas, counters, self._watermark, meta.sequences)
        sends += self._batches.orders(self._erasing.orders(), counters, self._watermark, meta.sequences)
        sends += self._judging.sends(complete) + self._asides.hand_over()
        rows.extend(self._judging.rows())
        rows.append((META_KEY, session_rows.encode_meta(meta)))
        self._meta = meta
        self._table.touched(self._dirty)
        self._dirty, self._beside, self._sends = {}, {}, []
        self._counted, self._fed, self._passed = {}, 0, self._erasing.busy
        return Plan(rows, sends, self._next)

    def _advance_meta(self) -> Meta:
        judging = self._judging
        meta = Meta(self._next, self._watermark, self._clock, {}, {}, judging.newest_incarnation,
                    rules=judging.version, marks=judging.trust.marks, erased=self._erasing.version,
                    partitions=self._partitions, anchor=self.anchor)  # fmt: skip
        return session_rows.following(meta, self._meta, self._counted)
