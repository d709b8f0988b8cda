"""The third source: one partition of commands into orders for the partitions that own what they are about.

Decides which commands make sense and happen, each once.  Never carries one out: the owner of the rows does, at one
place of its own log, between the deltas that come before and after.

An order travels as a rollup batch of its own upstream, numbered without gaps like every other: a repeat is skipped, a
gap ends the process.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from streams.errors import StateRefused
from streams.event.codec import Reason, Rejected
from streams.event.command import Purge, Rules, command_ms, decode_command
from streams.fold.rollup import BreakerOrder, ResetOrder, RollupBatch
from streams.fold.streamtime import SKEW_MS
from streams.stage import attention
from streams.stage.attention import Attention
from streams.stage.batches import HEADER_EVENTS, HEADER_SEQUENCE, HEADER_SOURCE
from streams.stage.deadletter import dead_letter
from streams.stage.erasing import (
    ERASE_KEY,
    ERASE_PARTITION,
    ERASURES_MAX,
    EraseRow,
    decode_erase,
    encode_erase,
    erase_key,
    erase_row,
)
from streams.stage.loading import UNREADABLE, compact, known_log
from streams.stage.orders import Routed, order_of, route
from streams.stage.plan import Anchor, Plan, Row, Send, SourceRecord
from streams.stage.ruling import RULES_KEY, RULES_PARTITION, RulesRow, accept_rules, decode_rules, encode_rules
from streams.topology import COMMANDS, ROLLUPS

META_CODEC: Final = 1
META_KEY: Final = b"m"
ACCEPTED: Final = b"i"
IDS_MAX: Final = 10_000  # accepted commands remembered, the oldest forgotten first: years of what people type
OUTCOMES: Final = ("accepted", "repeated", "rejected")


class Meta(Struct, array_like=True):
    """What a partition remembers beside its rows."""

    next_offset: int
    sequences: dict[int, int] = {}  # last sequence sent, by rollups partition
    counters: dict[str, int] = {}
    codec: int = META_CODEC
    rules: int = 0  # version of the rules that hold
    erasures: int = 0  # version of the newest erasure
    partitions: int = 0  # of the source, when this was written; 0: not noted
    anchor: Anchor | None = None  # the last record that was read


class Accepted(Struct, array_like=True):
    """One accepted command: where it stood, and the sequence of its order by rollups partition."""

    offset: int
    sequences: dict[int, int] = {}


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_meta: Final = msgspec.msgpack.Decoder(Meta).decode
_decode_accepted: Final = msgspec.msgpack.Decoder(Accepted).decode
_encode_batch: Final = msgspec.json.Encoder().encode


def upstream_of(partition: int) -> int:
    """Return the source number of a commands partition: below zero, where no events partition is."""
    return -1 - partition


def accepted_key(command_id: str) -> bytes:
    """Write the changelog key of an accepted command."""
    return ACCEPTED + command_id.encode()


def decode_accepted(stored: bytes) -> Accepted:
    """Read the row of an accepted command."""
    return _decode_accepted(stored)


def decode_meta(stored: bytes) -> Meta:
    """Read a meta row; what `loading.UNREADABLE` names when another release wrote it."""
    meta = _decode_meta(stored)
    if meta.codec != META_CODEC:
        raise ValueError(f"version {meta.codec}, this program reads {META_CODEC}")
    return meta


def read_meta(partition: int, stored: bytes) -> Meta:
    """Read a meta row; StateRefused when another release wrote it."""
    try:
        return decode_meta(stored)
    except UNREADABLE as error:
        raise unreadable(partition, META_KEY, error) from error


class CommandsPartition:
    """All state of one source partition of commands."""

    def __init__(self, partition: int, rollup_partitions: int, partitions: int = 0) -> None:
        self._partition = partition
        self._partitions = partitions  # of the commands topic; 0: whoever asks does not know
        self.anchor: Anchor | None = None  # the last record that was read
        self._rollup_partitions = rollup_partitions
        self._next = 0
        self._started = False
        self._sequences: dict[int, int] = {}
        self._rules_version = 0
        self._rules: RulesRow | None = None  # accepted since the last plan
        self._erasures: dict[str, EraseRow] = {}  # by digest, the oldest first
        self._erasures_version = 0
        self._erasures_changed: dict[str, EraseRow | None] = {}
        self._counters = dict.fromkeys(OUTCOMES, 0)
        self._accepted: dict[str, Accepted] = {}  # by id, the oldest first
        self._changed: dict[str, Accepted | None] = {}
        self._sends: list[Send] = []
        self.attention = Attention()
        self._fed = 0
        self._passed = False  # over marks, since the last plan
        self._loading: dict[bytes, bytes] = {}

    # ---- state --------------------------------------------------------------------------------------------------

    @property
    def next_offset(self) -> int | None:
        """The first source offset not taken; None without state."""
        return self._next if self._started else None

    @property
    def pending(self) -> int:
        """Records taken since the last plan."""
        return self._fed

    def counters(self) -> dict[str, int]:
        """Return how many commands were accepted, repeated and rejected since the beginning."""
        return dict(self._counters)

    def accepted(self) -> dict[str, Accepted]:
        """Return the accepted commands that are remembered, by id, the oldest first."""
        return dict(self._accepted)

    def load(self, rows: Iterable[Row]) -> None:
        """Take changelog rows in log order."""
        compact(self._loading, rows)

    def loaded(self) -> None:
        """Build the state from the rows that are left."""
        loading, self._loading = self._loading, {}
        found: list[tuple[str, Accepted]] = []
        for key, value in loading.items():
            try:
                if key == META_KEY:
                    self._take_meta(decode_meta(value))
                elif key[:1] == ACCEPTED:
                    found.append((key[1:].decode(), decode_accepted(value)))
                elif key == RULES_KEY:
                    decode_rules(value)  # its version is the meta row's; a torn transaction may have left this one
                elif key[:1] == ERASE_KEY:
                    self._erasures[key[1:].decode()] = decode_erase(value)
                elif not self.attention.load(key, value):
                    raise ValueError("no row has such a key")
            except UNREADABLE as error:
                raise unreadable(self._partition, key, error) from error
        self._erasures = dict(sorted(self._erasures.items(), key=lambda item: item[1].version))
        self._accepted = dict(sorted(found, key=_offset))
        self.attention.loaded(self._next)

    def _take_meta(self, meta: Meta) -> None:
        self.anchor = known_log(f"commands partition {self._partition}", meta, self._partitions)
        self._next, self._started = meta.next_offset, True
        self._sequences, self._rules_version = meta.sequences, meta.rules
        self._erasures_version = meta.erasures
        self._counters.update(meta.counters)

    # ---- records ------------------------------------------------------------------------------------------------

    def feed(self, records: Sequence[SourceRecord]) -> None:
        """Take commands in offset order; those below the next offset were taken before and are skipped."""
        for record in records:
            if record.offset >= self._next:
                self._counters[self._take(record)] += 1
                self._next, self.anchor = record.offset + 1, Anchor(record.offset, record.timestamp)
                self._started = True
                self._fed += 1

    def _take(self, record: SourceRecord) -> str:
        """Judge one command; returns its outcome."""
        command = decode_command(record.value)
        if isinstance(command, Rejected):
            return self._refuse(command, record)
        known = self._accepted.get(command.id)
        if known is not None and known.offset < record.offset:  # else a torn transaction has left its row alone
            return "repeated"
        at_ms = command_ms(command, record.timestamp, skew_ms=SKEW_MS)
        if isinstance(command, Rules):
            return self._take_rules(command, record, at_ms)
        if isinstance(command, Purge):
            return self._take_erasure(command, record, at_ms)
        if type(command) in attention.HANDLERS:
            fault = self.attention.take(command, at_ms, record.offset)
            if fault is not None:
                return self._refuse(Rejected(Reason.INVALID, 0, fault, record.value or b""), record)
            self._accept(command.id, record.offset, None)
            return "accepted"
        routed = order_of(route(command, at_ms, self._rollup_partitions), record.value or b"")
        if isinstance(routed, Rejected):
            return self._refuse(routed, record)
        self._accept(command.id, record.offset, routed)
        return "accepted"

    def _take_rules(self, command: Rules, record: SourceRecord, at_ms: int) -> str:
        """Let other rules hold, unless their text is none."""
        if self._partition != RULES_PARTITION:
            why = f"rules are taken from partition {RULES_PARTITION} alone, where their versions have one order"
            return self._refuse(Rejected(Reason.INVALID, 0, why, record.value or b""), record)
        row = accept_rules(command, self._rules_version + 1, at_ms, record.value or b"")
        if isinstance(row, Rejected):
            return self._refuse(row, record)
        self._rules, self._rules_version = row, row.version
        self._remember(command.id, Accepted(record.offset))
        return "accepted"

    def _take_erasure(self, command: Purge, record: SourceRecord, at_ms: int) -> str:
        """Number an erasure and remember it: the partitions that own the rows read it from the changelog."""
        if self._partition != ERASE_PARTITION:
            why = f"erasures are taken from partition {ERASE_PARTITION} alone, where their versions have one order"
            return self._refuse(Rejected(Reason.INVALID, 0, why, record.value or b""), record)
        self._erasures_version += 1
        self._erasures.pop(command.digest, None)
        row = erase_row(command, self._erasures_version, at_ms)
        self._erasures[command.digest] = self._erasures_changed[command.digest] = row
        if len(self._erasures) > ERASURES_MAX:
            oldest = next(iter(self._erasures))
            del self._erasures[oldest]
            self._erasures_changed[oldest] = None
        self._remember(command.id, Accepted(record.offset))
        return "accepted"

    def _refuse(self, rejected: Rejected, record: SourceRecord) -> str:
        self._sends.append(
            dead_letter(rejected, self._partition, record.offset, record.timestamp, topic=COMMANDS.suffix)
        )
        return "rejected"

    def _accept(self, command_id: str, offset: int, routed: Routed | None) -> None:
        """Remember a command, and pass on what others are to do about it."""
        sent = {} if routed is None else {target: self._send(target, routed.order) for target in routed.targets}
        self._remember(command_id, Accepted(offset, sent))

    def _remember(self, command_id: str, accepted: Accepted) -> None:
        self._accepted.pop(command_id, None)
        self._accepted[command_id] = self._changed[command_id] = accepted
        while len(self._accepted) > IDS_MAX:
            oldest = next(iter(self._accepted))
            del self._accepted[oldest]
            self._changed[oldest] = None

    def _send(self, target: int, order: ResetOrder | BreakerOrder) -> int:
        """Send an order to the owner of some rows; returns its sequence."""
        sequence = self._sequences[target] = self._sequences.get(target, 0) + 1
        source, events = upstream_of(self._partition), self._counters["accepted"] + 1
        batch = RollupBatch(source, sequence, events, -1, [])
        if isinstance(order, ResetOrder):
            batch.orders = [order]
        else:
            batch.breaker_orders = [order]
        headers = (
            (HEADER_SOURCE, b"%d" % source),
            (HEADER_SEQUENCE, b"%d" % sequence),
            (HEADER_EVENTS, b"%d" % events),
        )
        self._sends.append(Send(ROLLUPS.suffix, target, None, _encode_batch(batch), headers))
        return sequence

    def pass_over(self, offset: int) -> None:
        """Read on from `offset`: what lies before it and was not fed is no record."""
        if self._started and offset > self._next:
            self._next, self._passed = offset, True

    # ---- time and flush -----------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Let time pass: it ends silences and acknowledgements."""
        self.attention.tick(now_ms)

    def plan(self) -> Plan | None:
        """Encode everything that changed since the last plan."""
        if not (self._fed or self._passed or self.attention.changed):
            return None
        rows: list[Row] = [
            (accepted_key(command_id), None if accepted is None else _encode(accepted))
            for command_id, accepted in self._changed.items()
        ]
        rows += self.attention.rows()
        if self._rules is not None:
            rows.append((RULES_KEY, encode_rules(self._rules)))
        for digest, erasure in self._erasures_changed.items():
            rows.append((erase_key(digest), None if erasure is None else encode_erase(erasure)))
        self._erasures_changed = {}
        meta = Meta(
            self._next, self._sequences, self._counters, rules=self._rules_version, erasures=self._erasures_version,
            partitions=self._partitions, anchor=self.anchor,
        )  # fmt: skip
        rows.append((META_KEY, _encode(meta)))
        sends, self._sends = self._sends + self.attention.sends(), []
        self._changed, self._rules, self._fed, self._passed = {}, None, 0, False
        return Plan(rows, sends, self._next)


def _offset(named: tuple[str, Accepted]) -> int:
    return named[1].offset


def unreadable(partition: int, key: bytes, error: Exception) -> StateRefused:
    """Say that a row is not what this program writes."""
    return StateRefused(
        f"commands partition {partition}: the row {key!r} of its changelog cannot be read ({error}). A newer release "
        "or somebody else wrote it: run that release, restore the topic, or start over under another topic prefix."
    )
