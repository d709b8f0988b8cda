"""How do deltas travel to the second stage?  Grouped by the partition that owns their key, numbered without gaps.

Never makes a record that a broker would refuse, however many keys a flush has touched.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from streams.fold.rollup import Delta, EraseOrder, RollupBatch
from streams.stage.keys import dimension_key, partition_of
from streams.stage.plan import Send
from streams.topology import ROLLUPS

ROUTES_MAX: Final = 50_000  # remembered partitions of dimension keys
BATCH_BYTES_MAX: Final = 900_000  # a topic with the broker's default limit takes 1,048,588

HEADER_SOURCE: Final = "source"
HEADER_SEQUENCE: Final = "sequence"
HEADER_EVENTS: Final = "events"

_encode: Final = msgspec.json.Encoder().encode


class Batches:
    """What one partition of the first stage sends on."""

    def __init__(self, partition: int, rollup_partitions: int) -> None:
        self._partition = partition
        self._rollup_partitions = rollup_partitions
        self._routes: dict[tuple[str, tuple[str, ...]], int] = {}

    def sends(
        self, deltas: Iterable[Delta], counters: Mapping[str, int], watermark_ms: int, sequences: dict[int, int]
    ) -> list[Send]:
        """Return the records of one flush, one per target while they stay small; `sequences` moves on with them."""
        by_target: dict[int, list[Delta]] = {}
        for delta in deltas:
            by_target.setdefault(self._route(delta), []).append(delta)
        sends: list[Send] = []
        for target, some in sorted(by_target.items()):
            self._add(sends, target, some, counters, watermark_ms, sequences)
        return sends

    def _add(
        self,
        sends: list[Send],
        target: int,
        deltas: Sequence[Delta],
        counters: Mapping[str, int],
        watermark_ms: int,
        sequences: dict[int, int],
        orders: Sequence[EraseOrder] = (),
    ) -> None:
        sequence = sequences.get(target, 0) + 1
        events, late, duplicate, rejected = (
            counters.get(name, 0) for name in ("received", "late", "duplicate", "rejected")
        )
        batch = RollupBatch(self._partition, sequence, events, watermark_ms, list(deltas), late, duplicate, rejected)
        batch.erasures = list(orders)
        value = _encode(batch)
        if len(value) > BATCH_BYTES_MAX and len(deltas) > 1:
            middle = len(deltas) // 2
            self._add(sends, target, deltas[:middle], counters, watermark_ms, sequences)
            self._add(sends, target, deltas[middle:], counters, watermark_ms, sequences)
            return
        sequences[target] = sequence
        headers = (
            (HEADER_SOURCE, b"%d" % self._partition),
            (HEADER_SEQUENCE, b"%d" % sequence),
            (HEADER_EVENTS, b"%d" % events),
        )
        sends.append(Send(ROLLUPS.suffix, target, None, value, headers))

    def orders(
        self,
        orders: Sequence[EraseOrder],
        counters: Mapping[str, int],
        watermark_ms: int,
        sequences: dict[int, int],
    ) -> list[Send]:
        """Return the records that tell every owner of rows what to let go of, behind all deltas so far."""
        sends: list[Send] = []
        for target in range(self._rollup_partitions) if orders else ():
            self._add(sends, target, (), counters, watermark_ms, sequences, orders)
        return sends

    def _route(self, delta: Delta) -> int:
        key = (delta.dimension, delta.labels)
        target = self._routes.get(key)
        if target is None:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            name = dimension_key(delta.dimension, delta.labels).encode()
            target = self._routes[key] = partition_of(name, self._rollup_partitions)
        return target
