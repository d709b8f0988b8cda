"""What a stage is to whoever drives it: records and ticks go in, flush plans come out.  Pure.

Two drivers exist: the Faust worker (`streams.worker`) and the deterministic simulation (`tests/simulation`).
Neither decides anything; both do this, per source partition and in this order:

    load(rows) … loaded()                    once, from the changelog, before the first record
    feed(records) / pass_over(offset) / tick(now_ms)      any number of times
    plan() → write all of it in ONE transaction

When a transaction fails or its outcome is unknown the driver throws the whole partition away and loads it anew:
a partition needs no rollback, and nothing outside the changelog is state.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from streams.rule.model import RuleSet


class SourceRecord(Protocol):
    """One record as read from Kafka; aiokafka's ConsumerRecord fits as it is."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int:
        """When it was written, as stamped by producer or broker; ms, −1 for none."""

    @property
    def key(self) -> bytes | None:
        """What it was partitioned by."""

    @property
    def value(self) -> bytes | None:
        """What it holds; None for a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Its headers, in order."""


Row: TypeAlias = tuple[bytes, bytes | None]  # changelog key and value; None deletes


class Send(NamedTuple):
    """One record to another topic; `partition` None lets the key decide."""

    topic: str  # suffix, as in streams.topology
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Plan(NamedTuple):
    """All that one flush writes, in one transaction: rows, sends, and the offset to go on from."""

    rows: list[Row]
    sends: list[Send]
    next_offset: int


class StagePartition(Protocol):
    """The state of one source partition and every decision about its records."""

    @property
    def next_offset(self) -> int | None:
        """The first source offset not yet folded in; None when there is no state (start at the log's beginning)."""

    def load(self, rows: Iterable[Row]) -> None:
        """Take changelog rows in log order; may be called many times. Raises StateRefused on a newer row codec."""

    def loaded(self) -> None:
        """All rows are in: build what is derived from them."""

    def feed(self, records: Sequence[SourceRecord]) -> None:
        """Fold records, in offset order. Bad input is counted and dead-lettered; raises only InvariantBroken."""

    def pass_over(self, offset: int) -> None:
        """Know that everything below `offset` is folded or no record: a log ends in the marks of transactions.

        Without it a log whose records have all expired would seem to begin behind records that nobody has read.
        """

    def tick(self, now_ms: int) -> None:
        """Let wall time pass; called only while the partition is caught up, never backwards."""

    def plan(self) -> Plan | None:
        """Encode everything that changed since the last plan; None when nothing did."""

    @property
    def pending(self) -> int:
        """How many records were folded since the last plan: what a driver weighs when it decides to flush."""


class Anchor(NamedTuple):
    """A record by which a log is known again: one that is created anew has another there, or none."""

    offset: int
    time_ms: int


@runtime_checkable
class Anchored(StagePartition, Protocol):
    """What a stage partition has besides when its state says by which record its log is known."""

    @property
    def anchor(self) -> Anchor | None:
        """The last record that was read; None: not known."""


@runtime_checkable
class Erasable(StagePartition, Protocol):
    """What a stage partition has besides when it keeps rows of sessions and users."""

    def erase(self, erasures: Any) -> bool:
        """Begin with the erasures that are new (`stage.erasing.Erasures`); returns whether there are any."""


@runtime_checkable
class Judged(StagePartition, Protocol):
    """What a stage partition has besides when it judges by rules; they may change between any two other calls."""

    @property
    def judged_by(self) -> int:
        """The version of the rules that the state as last written was judged by; older ones must not judge it again."""

    def use(self, rules: RuleSet, version: int) -> None:
        """Go by these rules from now on, as if the partition had just been loaded with them."""
