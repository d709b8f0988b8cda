"""What a partition folds, drops and refuses, and when time passes for it: without a broker."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException

from streams.errors import EdgeError, InvariantBroken
from streams.stage.plan import Plan, Row, SourceRecord
from streams.topology import SESSIONS_STAGE
from streams.worker.config import WorkerConfig
from streams.worker.connection import KafkaConnection
from streams.worker.partition import Bench, Partition
from streams.worker.transport import Chunk, Sight

EPOCH = 7


@dataclass(slots=True)
class Record:
    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = b""
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Remembering:
    """A stage that remembers what it was told."""

    next_offset: int | None = None
    pending: int = 0
    slices: list[list[int]] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    passed: int = 0

    def load(self, rows: Iterable[Row]) -> None:
        for _, value in rows:
            self.next_offset = int(value or b"0")

    def loaded(self) -> None:
        """Nothing is derived."""

    def feed(self, records: Sequence[SourceRecord]) -> None:
        self.slices.append([record.offset for record in records])
        self.next_offset = records[-1].offset + 1

    def pass_over(self, offset: int) -> None:
        self.passed = offset

    def tick(self, now_ms: int) -> None:
        self.ticks.append(now_ms)

    def plan(self) -> Plan | None:
        return None


class Scene:
    """One partition whose state says 100, and whose consumer knows what the test says."""

    def __init__(self, *, next_offset: int | None = 100, slice_ms: float = 8.0) -> None:
        connection = KafkaConnection(bootstrap="localhost:9092")
        self.stage = Remembering()
        self.sight = Sight(handed_to=100, position=100, stable_end=100, answered_ms=_wall_ms(), clear_to=100)
        bench = Bench(WorkerConfig(connection=connection, slice_ms=slice_ms, tick_ms=1))
        self.partition = Partition(bench, SESSIONS_STAGE, self._make, 0, sight=lambda _: self.sight)
        self.partition.begin({"events": 1})
        self.partition.load([] if next_offset is None else [(b"m", b"%d" % next_offset)])
        self.partition.build()
        self.partition.stand(100, committed=next_offset)
        self.partition.resume(EPOCH)
        self.counters = bench.counters

    def _make(self, partition: int, partition_count: int, partitions: Mapping[str, int]) -> Remembering:
        assert (0, 1, {"events": 1}) == (partition, partition_count, partitions)
        return self.stage

    def tick(self) -> list[int]:
        self.partition._maybe_tick(float("inf"))
        return self.stage.ticks


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def chunk(start: int, end: int, offsets: Iterable[int], *, epoch: int = EPOCH) -> Chunk:
    return Chunk(TopicPartition("agent.events", 0), epoch, start, end, [Record(offset) for offset in offsets])


async def test_a_chunk_covers_offsets_that_hold_no_record() -> None:
    """Transaction marks and compaction leave holes; the next chunk begins behind them."""
    scene = Scene()

    await scene.partition.feed(chunk(100, 110, [101, 105]))
    await scene.partition.feed(chunk(110, 112, [110]))

    assert [[101, 105], [110]] == scene.stage.slices
    assert 112 == scene.partition.position


async def test_a_chunk_that_was_read_before_the_last_seek_is_dropped() -> None:
    scene = Scene()

    await scene.partition.feed(chunk(100, 101, [100], epoch=EPOCH - 1))

    assert ([], 100, 1) == (scene.stage.slices, scene.partition.position, scene.counters.stale_chunks)


async def test_a_chunk_that_does_not_follow_is_an_end() -> None:
    scene = Scene()

    with pytest.raises(InvariantBroken, match="folded up to 100, but the chunk begins at 101"):
        await scene.partition.feed(chunk(101, 102, [101]))

    assert [] == scene.stage.slices


async def test_a_batch_that_came_damaged_ends_the_worker_with_its_place() -> None:
    def damaged() -> Iterator[Record]:
        yield from (Record(offset) for offset in range(100, 116))
        raise CorruptRecordException

    scene = Scene()

    with pytest.raises(EdgeError, match=r"a batch from offset 100 on of agent\.events partition 0 came damaged"):
        await scene.partition.feed(chunk(100, 300, ())._replace(records=damaged()))


async def test_a_large_chunk_is_folded_in_slices() -> None:
    scene = Scene(slice_ms=0.0)

    await scene.partition.feed(chunk(100, 300, range(100, 300)))

    assert len(scene.stage.slices) > 1
    assert list(range(100, 300)) == [offset for part in scene.stage.slices for offset in part]


async def test_a_partition_that_is_revoked_within_a_chunk_stands_where_its_state_does() -> None:
    scene = Scene(slice_ms=0.0)
    feeding = scene.partition.feed(chunk(100, 300, range(100, 300)))
    feeding.send(None)  # up to the first pause

    scene.partition.suspend()
    with pytest.raises(StopIteration):
        feeding.send(None)

    assert 1 == len(scene.stage.slices)
    assert scene.stage.next_offset == scene.partition.position < 300


def test_time_passes_only_for_a_partition_that_is_caught_up() -> None:
    scene = Scene()
    scene.sight = scene.sight._replace(stable_end=101)
    assert [] == scene.tick()
    scene.sight = scene.sight._replace(stable_end=None)
    assert [] == scene.tick()

    scene.sight = scene.sight._replace(stable_end=100)

    assert 1 == len(scene.tick())


def test_behind_the_last_record_there_may_be_transaction_marks() -> None:
    scene = Scene()

    scene.sight = scene.sight._replace(position=102, stable_end=102, clear_to=102)

    assert 1 == len(scene.tick())
    assert 0 == scene.partition.lag
    assert 102 == scene.stage.passed


def test_time_does_not_pass_while_chunks_wait_or_the_broker_is_silent() -> None:
    scene = Scene()
    scene.sight = scene.sight._replace(handed_to=101, position=101, stable_end=101)
    assert [] == scene.tick()

    scene.sight = Sight(handed_to=100, position=100, stable_end=100, answered_ms=_wall_ms() - 60_000, clear_to=100)

    assert [] == scene.tick()


def test_time_does_not_pass_before_the_first_record() -> None:
    assert [] == Scene(next_offset=None).tick()


def test_lag_counts_the_offsets_that_are_not_folded() -> None:
    scene = Scene()

    scene.sight = scene.sight._replace(handed_to=120, position=120, stable_end=150)

    assert 50 == scene.partition.lag


def test_what_waits_in_our_hands_is_a_standstill_but_a_silent_broker_is_not() -> None:
    scene = Scene()
    assert not scene.partition.vital()[0]
    scene.sight = scene.sight._replace(stable_end=150)
    assert scene.partition.vital()[0]

    scene.sight = scene.sight._replace(answered_ms=_wall_ms() - 60_000)

    assert not scene.partition.vital()[0]
