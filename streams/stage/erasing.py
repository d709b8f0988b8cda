"""Which sessions and users must be forgotten, and what must never come back?  Known by digests, never by names.

Never deletes a row itself: it names the rows, some at a time, and the partition that owns them lets go of them.

An erasure is accepted once, by the commands stage, and numbered (`EraseRow`).  Each partition of events carries it out
between two batches and notes up to when (`Erased`): no event of that session or user from before is taken again.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from streams.event.codec import MS_END, Reason, time_ms
from streams.event.command import Purge
from streams.fold.live import LiveRow
from streams.fold.rollup import EraseOrder
from streams.fold.session import RowKey
from streams.fold.streamtime import SKEW_MS
from streams.stage.plan import Row, SourceRecord
from streams.stage.session_table import SessionTable

SESSION: Final = "session"
USER: Final = "user"
ERASE_KEY: Final = b"e"  # in the commands changelog, before the digest
ERASED_KEY: Final = b"x"  # in the sessions changelog, before the digest
ERASE_PARTITION: Final = 0  # of the commands topic, however many it has: erasures have one order
ERASURES_MAX: Final = 10_000  # remembered, the oldest forgotten first: a request an hour for a year
KEPT_MS: Final = 90 * 24 * 60 * 60 * 1000  # as long as commands are kept; events are kept for a week
ROWS_PER_STEP: Final = 1_000  # 10 ms at most, when every row has to be unpacked
MEMO_MAX: Final = 50_000  # ids whose verdict is remembered, so that an event costs no digest


class EraseRow(Struct, frozen=True, array_like=True):
    """One accepted command."""

    version: int
    scope: str
    digest: str
    at_ms: int
    by: str
    note: str | None
    command: str


class Erased(Struct, array_like=True):
    """What a partition has let go of: events up to `cutoff_ms` are refused; whose version, and since when."""

    cutoff_ms: int
    version: int


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_row: Final = msgspec.msgpack.Decoder(EraseRow).decode
_decode_erased: Final = msgspec.msgpack.Decoder(Erased).decode


def digest_of(scope: str, name: str) -> str:
    """Return what stands for an id: whoever does not know it cannot read it back."""
    return sha256(f"{scope}:{name}".encode("utf-8", "surrogatepass")).hexdigest()


def erase_row(command: Purge, version: int, at_ms: int) -> EraseRow:
    """Make the row of a command."""
    return EraseRow(version, command.scope, command.digest, at_ms, command.by, command.note, command.id)


def command_of(row: EraseRow) -> Purge:
    """Return the command that makes the same row elsewhere, for the same moment."""
    scope: Literal["session", "user"] = "user" if row.scope == USER else "session"
    return Purge(id=row.command, time=row.at_ms, by=row.by, note=row.note, scope=scope, digest=row.digest)


def erase_key(digest: str) -> bytes:
    """Write the changelog key of an accepted erasure."""
    return ERASE_KEY + digest.encode()


def encode_erase(row: EraseRow) -> bytes:
    """Write an accepted erasure."""
    return _encode(row)


def decode_erase(stored: bytes) -> EraseRow:
    """Read an accepted erasure."""
    return _decode_row(stored)


class Erasures:
    """Every erasure that was accepted and is remembered, as the commands changelog tells it."""

    def __init__(self) -> None:
        self.rows: dict[str, EraseRow] = {}  # by digest
        self.version = 0

    def take(self, rows: Iterable[Row]) -> bool:
        """Take rows in log order; returns whether there is a new one."""
        before = self.version
        for key, value in rows:
            if key[:1] != ERASE_KEY:
                continue
            if value is None:
                self.rows.pop(key[1:].decode(), None)
                continue
            row = decode_erase(value)
            self.rows[row.digest] = row
            self.version = max(self.version, row.version)
        return self.version > before


class Erasing:
    """The erasures of one partition of events: those it has carried out, and the one it is at."""

    def __init__(self) -> None:
        self.known: dict[str, Erased] = {}  # by digest, the oldest first
        self.version = 0  # of the last one that is carried out
        self._until = 0  # of the last one that has begun
        self._todo: dict[str, EraseRow] = {}
        self._scan: list[RowKey] = []
        self._closed: Callable[[], Iterable[RowKey]] | None = None  # names the closed rows; None: they are in the scan
        self._at = 0
        self._memo: dict[tuple[str, str], int] = {}
        self._changed: dict[str, Erased | None] = {}
        self._orders: list[EraseOrder] = []

    @property
    def busy(self) -> bool:
        """Are there rows that have not been looked at?"""
        return bool(self._todo)

    def outlived(self, rows: Container[RowKey], alerts: Callable[[], Iterable[tuple[str, ...]]]) -> list[str]:
        """Name the sessions that are being erased and have no row any more, but an alert: it goes later, or stays."""
        if not self._todo:
            return []
        return [name for name, *_ in alerts() if name not in rows and self._under_way(name)]

    def leaves(self, key: RowKey, table: SessionTable, clock_ms: int) -> None:
        """A row goes by itself while it is looked for: remember whose it was, for what outlives it."""
        if isinstance(key, str) and self._meant(key, table):
            self._note(digest_of(SESSION, key), clock_ms, self._until)

    def load(self, key: bytes, value: bytes) -> bool:
        """Take a stored row; False when it is none of these."""
        if key[:1] != ERASED_KEY:
            return False
        self.known[key[1:].decode()] = _decode_erased(value)
        return True

    def loaded(self, version: int) -> None:
        """All rows are in; `version` is that of the meta row."""
        self.known = dict(sorted(self.known.items(), key=lambda item: (item[1].version, item[0])))
        self.version = self._until = version

    def begin(
        self, erasures: Erasures, rows: Iterable[RowKey], closed: Callable[[], Iterable[RowKey]], clock_ms: int
    ) -> bool:
        """Begin with the erasures that are new; returns whether there are any.

        From here on their events are refused; `closed` come last, because a user's sessions are found on the way.
        They are named behind the last row and not now: until then, later events may close what is looked for.
        """
        if erasures.version <= self._until:
            return False
        self._until = erasures.version
        for row in sorted(erasures.rows.values(), key=lambda each: each.version):
            if row.version > self.version:
                self._todo[row.digest] = row
                self._note(row.digest, row.at_ms, row.version)
        self._scan, self._at, self._closed = [*rows], 0, closed
        for digest in self._todo:
            self._note(digest, clock_ms, self._until)
        return True

    def step(self, table: SessionTable, dirty: dict[RowKey, LiveRow], clock_ms: int) -> Iterator[RowKey]:
        """Yield the rows to let go of among the next ones; the caller does so at once.

        A process goes on without the name of its user: it is none of them, and its row is dirty.
        """
        if not self._todo:
            return
        if self._closed is not None and self._at + ROWS_PER_STEP >= len(self._scan):
            self._scan, self._closed = [*self._scan, *self._closed()], None
        part = self._scan[self._at : self._at + ROWS_PER_STEP]
        self._at += len(part)
        for key in part:
            if not self._meant(key, table):
                continue
            if isinstance(key, tuple) and len(key) == 1:
                _unname(key, table, dirty)
                continue
            if isinstance(key, str):
                self._note(digest_of(SESSION, key), clock_ms, self._until)
            yield key
        if self._at >= len(self._scan):
            self._finish(clock_ms)

    def sieve(
        self, events: list[Any], origins: list[SourceRecord], counted: dict[str, int]
    ) -> tuple[list[Any], list[SourceRecord]]:
        """Leave out, and count as rejected, what was erased: an excerpt in a dead letter would bring it back."""
        kept, kept_origins = [], []
        for event, origin in zip(events, origins, strict=True):
            if self._refuses(event, origin):
                for name in ("rejected", f"rejected_{Reason.ERASED.value}"):
                    counted[name] = counted.get(name, 0) + 1
            else:
                kept.append(event)
                kept_origins.append(origin)
        return kept, kept_origins

    def expire(self, now_ms: int) -> bool:
        """Forget what is older than anything that can still be read, and what is too much; was there any?"""
        before = len(self.known)
        while self.known:
            digest, oldest = next(iter(self.known.items()))
            if oldest.cutoff_ms > now_ms - KEPT_MS and len(self.known) <= ERASURES_MAX:
                break
            del self.known[digest]
            self._changed[digest] = None
            self._memo.clear()
        return len(self.known) < before

    def drain(self) -> list[Row]:
        """Return what changed since the last call as rows; they belong before what they delete, should it be torn."""
        changed, self._changed = self._changed, {}
        return [
            (ERASED_KEY + digest.encode(), None if erased is None else _encode(erased))
            for digest, erased in changed.items()
        ]

    def orders(self) -> list[EraseOrder]:
        """Return what the second stage must let go of: behind every delta that was sent of it."""
        orders, self._orders = self._orders, []
        return orders

    def _note(self, digest: str, cutoff_ms: int, version: int) -> None:
        before = self.known.pop(digest, None)
        latest_ms = cutoff_ms if before is None else max(before.cutoff_ms, cutoff_ms)
        self.known[digest] = self._changed[digest] = Erased(latest_ms, version)
        self._memo.clear()

    def _under_way(self, session_id: str) -> bool:
        """Is a session being erased, for itself or with its user?"""
        erased = self.known.get(digest_of(SESSION, session_id))
        return erased is not None and erased.version > self.version

    def _meant(self, key: RowKey, table: SessionTable) -> bool:
        if isinstance(key, str) and digest_of(SESSION, key) in self._todo:
            return True
        users = any(row.scope == USER for row in self._todo.values())
        if isinstance(key, tuple) and len(key) == 2:
            return self._under_way(key[0]) or (users and _ownerless(*key, table))
        if not users:
            return False
        row = table.peek(key)
        return row is not None and row.user_id is not None and digest_of(USER, row.user_id) in self._todo

    def _finish(self, clock_ms: int) -> None:
        self._orders += [EraseOrder(row.command, row.digest) for row in self._todo.values() if row.scope == USER]
        for digest in self._todo:
            self._note(digest, clock_ms, self._until)
        self.version = self._until
        self._todo, self._scan, self._closed = {}, [], None

    def _refuses(self, event: Any, origin: SourceRecord) -> bool:
        cutoff_ms = max(self._cutoff(SESSION, event.session_id), self._cutoff(USER, event.user_id))
        if cutoff_ms < 0:
            return False
        told = event.time if isinstance(event.time, int) and event.time < MS_END else time_ms(event.time)
        if told is None:
            return True
        # A clock that runs ahead is set to the record's own, as where events are folded.
        event_ms = origin.timestamp if 0 <= origin.timestamp < told - SKEW_MS else told
        return event_ms <= cutoff_ms

    def _cutoff(self, scope: str, name: str | None) -> int:
        if name is None:
            return -1
        found = self._memo.get((scope, name))
        if found is None:
            erased = self.known.get(digest_of(scope, name))
            found = -1 if erased is None else erased.cutoff_ms
            if len(self._memo) >= MEMO_MAX:
                self._memo.clear()
            self._memo[scope, name] = found
        return found


def _unname(key: RowKey, table: SessionTable, dirty: dict[RowKey, LiveRow]) -> None:
    row = table.peek(key)
    if row is not None:
        row.user_id, row.dirty = None, True
        table.rows[key] = dirty[key] = row


def _ownerless(session_id: str, incarnation: str, table: SessionTable) -> bool:
    """Has a closed row lost its session, or come before a new one of that name?  Nobody knows its user, so it goes."""
    row = table.peek(session_id)
    return row is None or int(incarnation) >= row.incarnation


def meant_by(order: EraseOrder, labels: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the keys whose user an order means."""
    return [key for key, (name, *_) in labels.items() if digest_of(USER, name) == order.digest]
