"""A transaction whose end the broker has lost is ended as it had been decided, before its partition is read.

The loss itself is made by not telling the coordinator of a partition, which is what it then knows of it.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from harness import Broker

from streams.errors import EdgeError, StateRefused
from streams.stage.plan import Plan, Row, Send, SourceRecord
from streams.topology import SESSIONS_STAGE
from streams.worker import topics
from streams.worker.config import WorkerConfig
from streams.worker.connection import KafkaConnection
from streams.worker.counters import Counters
from streams.worker.embedded import EmbeddedKafka
from streams.worker.flush import OutcomeUnknown, Writer
from streams.worker.load import load
from streams.worker.partition import Bench, Partition

pytestmark = pytest.mark.kafka

EVENTS: Final = 10


class Place:
    """A stage whose state is one row: where to read on."""

    pending = 0
    next_offset: int | None = None

    def load(self, rows: Iterable[Row]) -> None:
        for _, value in rows:
            self.next_offset = int(value or b"0")

    def loaded(self) -> None:
        """Nothing is derived."""

    def feed(self, records: Sequence[SourceRecord]) -> None:
        """Nothing is read here."""

    def pass_over(self, offset: int) -> None:
        """Nothing is read here."""

    def tick(self, now_ms: int) -> None:
        """Time means nothing here."""

    def plan(self) -> Plan | None:
        return None


class Scene:
    """One source partition with ten records, of which three are folded; the fourth to seventh are lost in a crash."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.broker = Broker(bootstrap)
        self.config = WorkerConfig(
            connection=KafkaConnection(bootstrap=bootstrap), prefix=prefix, session_timeout_ms=6000, heartbeat_ms=500
        )
        self.partition = Partition(Bench(self.config), SESSIONS_STAGE, self._make, 0, sight=lambda _: None)
        self.changelog = self.partition.changelog
        self.rollups = TopicPartition(self.config.topic("rollups"), 0)

    async def begin(self) -> None:
        await topics.create(self.config.connection, self.config.prefix, {"events": 1, "rollups": 1})
        self.broker.publish(self.config.topic("events"), ((b"", b"%d" % number) for number in range(EVENTS)))
        writer = await self._writer().fence()
        await writer.write(_plan(3), now_ms=0)
        await writer.close()

    async def crash(self, lost: Collection[TopicPartition], *, commit: bool, offsets: bool = True) -> None:
        """Write up to 7, and have the end of it not reach `lost`, nor the group's offset without `offsets`."""
        writer = await self._writer().fence()
        producer = writer._producer
        producer._txn_manager._txn_partitions |= set(lost)
        if not offsets:
            producer._txn_manager._txn_consumer_group = self.config.group_id
        if not commit:
            producer.commit_transaction = _dies
        if commit:
            await writer.write(_plan(7), now_ms=0)
        else:
            with pytest.raises(OutcomeUnknown):
                await writer.write(_plan(7), now_ms=0)
        await writer.close()

    async def load(self) -> None:
        await load(self.config, [self.partition], self._committed, Counters())

    async def load_after_mending(self) -> int:
        """Load twice, as the runner does; return where the partition reads on."""
        with pytest.raises(EdgeError, match="are ended now"):
            await self.load()
        await self.load()
        position = self.partition.position
        await self.partition.spoil()
        return position

    def deltas(self, count: int) -> list[bytes | None]:
        """Return what the next stage may see, once it is so much."""
        return [message.value() for message in self.broker.records(self.rollups.topic, count)]

    async def _committed(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        (source,) = partitions
        found = await asyncio.to_thread(self.broker.committed, self.config.group_id, source.topic)
        return {source: found[0]} if found[0] else {}

    def _writer(self) -> Writer:
        return Writer(self.config, stage="sessions", source=self.partition.source, changelog=self.changelog)

    def _make(self, partition: int, partition_count: int, partitions: Mapping[str, int]) -> Place:
        assert (0, 1, 1) == (partition, partition_count, partitions["rollups"])
        return Place()


def _plan(next_offset: int) -> Plan:
    number = b"%d" % next_offset
    return Plan([(b"m", number)], [Send("rollups", 0, None, number), Send("alerts", 0, b"a", number)], next_offset)


async def _dies() -> None:
    raise KafkaError("a power cut")


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker that takes records of transactions which the coordinator does not know."""
    settings = {"transaction.partition.verification.enable": "false"}
    with EmbeddedKafka(tmp_path_factory.mktemp("forgetful"), settings=settings) as broker:
        yield broker.bootstrap


@pytest.fixture
async def scene(forgetful: str, tmp_path: Path) -> Scene:
    scene = Scene(forgetful, f"{tmp_path.name}.")
    await scene.begin()
    return scene


@pytest.mark.parametrize(
    "lost",
    [lambda scene: [scene.rollups], lambda scene: [scene.changelog], lambda scene: [scene.rollups, scene.changelog]],
    ids=["rollups", "changelog", "both"],
)
@pytest.mark.parametrize("commit", [True, False], ids=["committed", "aborted"])
async def test_it_ends_as_the_partitions_show_that_did_get_the_end(
    scene: Scene, lost: Callable[[Scene], list[TopicPartition]], *, commit: bool
) -> None:
    await scene.crash(lost(scene), commit=commit)

    position = await scene.load_after_mending()

    assert (7 if commit else 3) == position
    assert ([b"3", b"7"] if commit else [b"3"]) == scene.deltas(2 if commit else 1)


async def test_what_nobody_has_seen_is_folded_again(scene: Scene) -> None:
    await scene.crash([scene.rollups, scene.changelog], commit=True, offsets=False)

    assert 3 == await scene.load_after_mending()

    assert [b"3"] == scene.deltas(1)
    writer = await scene._writer().fence()
    await writer.write(_plan(9), now_ms=0)
    await writer.close()
    assert [b"3", b"9"] == scene.deltas(2)


async def test_an_open_transaction_of_somebody_else_is_refused_with_the_command_that_ends_it(scene: Scene) -> None:
    stranger = Writer(scene.config, stage="other", source=scene.partition.source, changelog=scene.changelog)
    await stranger.fence()
    try:
        await stranger._producer.begin_transaction()
        told = await (await stranger._producer.send(scene.changelog.topic, b"1", key=b"m", partition=0))

        ending = rf"abort --topic .*changelog --partition 0 --start-offset {told.offset}"
        with pytest.raises(StateRefused, match=ending):
            await scene.load()
    finally:
        await scene.partition.spoil()
        await stranger.close()
