"""What do the partitions say of themselves right now?  The meta rows at the ends of the stages' changelogs.

Never reads a changelog whole: every transaction ends with the meta row, so the newest one stands at the end.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.feed.ending import started
from streams.stage import rollup_rows, session_rows
from streams.topology import ROLLUPS_STAGE, SESSIONS_STAGE
from streams.worker.connection import KafkaConnection, edge_errors
from streams.worker.tail import partition_counts, stop_consumer

LAST_OFFSETS: Final = 1_000  # the newest is the last record but a mark, unless transactions were given up behind it
_POLL_MS: Final = 50
META_KEY: Final = b"m"

_STAGES: Final = (SESSIONS_STAGE, ROLLUPS_STAGE)
_rules_of: Final[Mapping[str, Callable[[int, bytes], int]]] = {
    SESSIONS_STAGE.name: lambda partition, stored: session_rows.decode_meta(partition, stored).rules,
    ROLLUPS_STAGE.name: lambda partition, stored: rollup_rows.decode_meta(partition, stored).rules,
}


class Metas:
    """The version of the rules by partition, `stage-number`: those that have any state; None: not seen yet."""

    def __init__(self, consumer: AIOKafkaConsumer, stages: Mapping[TopicPartition, str]) -> None:
        self._consumer = consumer
        self._stages = stages
        self._ends: dict[TopicPartition, int] = {}
        self.rules: dict[str, int | None] = {}

    async def begin(self) -> None:
        """Stand before the newest meta row of every partition."""
        places = list(self._stages)
        self._consumer.assign(places)
        begins = await self._consumer.beginning_offsets(places)
        self._ends = await self._consumer.end_offsets(places)
        for tp in places:
            self._consumer.seek(tp, max(begins[tp], self._ends[tp] - LAST_OFFSETS))
            if self._ends[tp] > begins[tp]:
                self.rules[self._name(tp)] = None

    async def poll(self) -> None:
        """Take what has come since."""
        for tp, records in (await self._consumer.getmany(timeout_ms=_POLL_MS)).items():
            for record in records:
                if record.key == META_KEY and record.value is not None:
                    self.rules[self._name(tp)] = _rules_of[self._stages[tp]](tp.partition, record.value)

    async def caught_up(self) -> bool:
        """Is everything taken that was there when it began?"""
        return all([await self._consumer.position(tp) >= end for tp, end in self._ends.items()])

    def _name(self, tp: TopicPartition) -> str:
        return f"{self._stages[tp]}-{tp.partition}"


@asynccontextmanager
async def metas(kafka: KafkaConnection, prefix: str) -> AsyncIterator[Metas]:
    """Give the meta rows as they are and become; ConfigError when topics are missing, EdgeError when Kafka fails."""
    names = {prefix + stage.changelog.suffix: stage.name for stage in _STAGES}
    counts = await partition_counts(kafka, list(names))
    stages = {TopicPartition(name, n): stage for name, stage in names.items() for n in range(counts[name])}
    async with edge_errors(kafka, "reading the ends of the changelogs"):
        consumer = AIOKafkaConsumer(
            **kafka.client_arguments(),
            client_id="agent-streams-metas",
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # what was seen as the end may be compacted away a moment later
            isolation_level="read_committed",
        )
        try:
            await started(consumer.start())
            found = Metas(consumer, stages)
            await found.begin()
            yield found
        finally:
            await stop_consumer(consumer)
