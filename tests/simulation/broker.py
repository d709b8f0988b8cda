"""A Kafka of plain lists: partitions, transactions with fencing, read_committed, group offsets, compaction.

Decides nothing at random and never looks at what a record says; whoever drives it owns the seed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

Place = tuple[str, int]  # topic and partition
EVENTS: Final = "events"
ROLLUPS: Final = "rollups"
COMMANDS: Final = "commands"
DEAD_LETTER: Final = "dead-letter"
ALERTS: Final = "alerts"
BREAKERS: Final = "breakers"


class Record(NamedTuple):
    """What a consumer gets."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Outcome(Enum):
    """What became of the transaction an entry belongs to."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Fenced(Exception):
    """Somebody else has initialised the transactional id since."""


@dataclass(slots=True)
class Transaction:
    """Entries of one producer, decided together."""

    outcome: Outcome = Outcome.OPEN
    places: dict[Place, list["Entry"]] = field(default_factory=dict)
    offsets: dict[Place, int] = field(default_factory=dict)


@dataclass(slots=True)
class Entry:
    """One place in a log: a record, or the marker that ends a transaction there (`record` None)."""

    offset: int
    record: Record | None
    transaction: Transaction | None
    torn: bool = False  # visible although its transaction was aborted

    @property
    def visible(self) -> bool:
        """Does a read_committed consumer see it?"""
        if self.record is None:
            return False
        return self.torn or self.transaction is None or self.transaction.outcome is Outcome.COMMITTED


class Log:
    """One partition."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.end = 0
        self._open: dict[int, int] = {}  # where each open transaction begins here

    def append(self, record: Record | None, transaction: Transaction | None) -> Entry:
        """Append a record, whose offset is given here, or a marker."""
        placed = None if record is None else record._replace(offset=self.end)
        entry = Entry(self.end, placed, transaction)
        self.entries.append(entry)
        self.end += 1
        if transaction is not None and record is None:
            self._open.pop(id(transaction), None)
        elif transaction is not None:
            self._open.setdefault(id(transaction), entry.offset)
        return entry

    @property
    def stable_end(self) -> int:
        """Return the last stable offset: nothing at or behind it may be read yet."""
        return min(self._open.values(), default=self.end)

    def read(self, position: int, most: int, *, committed: bool = True) -> tuple[list[Record], int]:
        """Return visible records from a position on, and the position behind them."""
        end = self.stable_end if committed else self.end
        records: list[Record] = []
        for entry in self._since(position):
            if entry.offset >= end:
                break
            if len(records) >= most:
                return records, position
            position = entry.offset + 1
            if entry.record is not None and (entry.visible or not committed):
                records.append(entry.record)
        return records, max(position, end)

    def _since(self, position: int) -> Iterator[Entry]:
        low, high = 0, len(self.entries)
        while low < high:
            middle = (low + high) // 2
            if self.entries[middle].offset < position:
                low = middle + 1
            else:
                high = middle
        for at in range(low, len(self.entries)):
            yield self.entries[at]

    def compact(self, until: int, *, tombstones: bool) -> None:
        """Keep the newest visible record of each key below an offset; tombstones may go as well."""
        until = min(until, self.stable_end)
        newest: dict[bytes | None, int] = {}
        for entry in self.entries:
            if entry.visible and entry.record is not None and entry.offset < until:
                newest[entry.record.key] = entry.offset
        self.entries = [entry for entry in self.entries if entry.offset >= until or _kept(entry, newest, tombstones)]


def _kept(entry: Entry, newest: dict[bytes | None, int], tombstones: bool) -> bool:
    record = entry.record
    if record is None or not entry.visible or newest[record.key] != entry.offset:
        return False
    return record.value is not None or not tombstones


@dataclass(slots=True)
class _Producer:
    epoch: int = -1
    open: Transaction | None = None


class Broker:
    """All logs, the transaction coordinator and the group's offsets."""

    def __init__(self) -> None:
        self.logs: dict[Place, Log] = {}
        self.offsets: dict[Place, int] = {}
        self.history: dict[Place, list[Record]] = {}  # what became visible, before compaction, in that order
        self._producers: dict[str, _Producer] = {}

    def log(self, topic: str, partition: int) -> Log:
        """Return a partition, empty at first."""
        log = self.logs.get((topic, partition))
        if log is None:
            log = self.logs[topic, partition] = Log()
        return log

    def publish(self, topic: str, partition: int, records: Iterable[Record]) -> list[int]:
        """Append records outside of any transaction; returns their offsets."""
        log = self.log(topic, partition)
        return [log.append(record, None).offset for record in records]

    # ---- transactions ---------------------------------------------------------------------------------------------

    def initialise(self, transactional_id: str, *, torn_rows: int = 0) -> int:
        """End what the id has open, shut out its earlier producers, and return the epoch of the next.

        `torn_rows` of the aborted transaction's first entries stay visible: a broker that breaks its promise.
        """
        producer = self._producers.setdefault(transactional_id, _Producer())
        self._end(producer, Outcome.ABORTED, torn_rows)
        producer.epoch += 1
        return producer.epoch

    def expire(self, transactional_id: str) -> None:
        """Abort an open transaction because it took too long; its producer is shut out."""
        producer = self._producers.get(transactional_id)
        if producer is not None and producer.open is not None:
            self._end(producer, Outcome.ABORTED, 0)
            producer.epoch += 1

    def epoch(self, transactional_id: str) -> int:
        """Return the epoch that may write."""
        return self._producers[transactional_id].epoch

    def send(self, transactional_id: str, epoch: int, place: Place, records: Iterable[Record]) -> None:
        """Append records to the open transaction, beginning one when there is none."""
        transaction = self._transaction(transactional_id, epoch)
        log = self.log(*place)
        entries = transaction.places.setdefault(place, [])
        entries.extend(log.append(record, transaction) for record in records)

    def send_offset(self, transactional_id: str, epoch: int, place: Place, offset: int) -> None:
        """Have the group's offset committed with the open transaction."""
        self._transaction(transactional_id, epoch).offsets[place] = offset

    def commit(self, transactional_id: str, epoch: int) -> None:
        """Make everything in the open transaction visible, together."""
        self._transaction(transactional_id, epoch)
        self._end(self._producers[transactional_id], Outcome.COMMITTED, 0)

    def _transaction(self, transactional_id: str, epoch: int) -> Transaction:
        producer = self._producers[transactional_id]
        if epoch != producer.epoch:
            raise Fenced(f"{transactional_id}: epoch {epoch}, now {producer.epoch}")
        if producer.open is None:
            producer.open = Transaction()
        return producer.open

    def _end(self, producer: _Producer, outcome: Outcome, torn_rows: int) -> None:
        transaction, producer.open = producer.open, None
        if transaction is None:
            return
        transaction.outcome = outcome
        for place, entries in transaction.places.items():
            if place[0].endswith(".changelog"):
                for entry in entries[:torn_rows]:
                    entry.torn = True
            visible = [entry.record for entry in entries if entry.visible and entry.record is not None]
            self.history.setdefault(place, []).extend(visible)
            self.log(*place).append(None, transaction)
        if outcome is Outcome.COMMITTED:
            self.offsets.update(transaction.offsets)
