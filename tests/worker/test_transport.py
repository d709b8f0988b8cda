"""What a chunk holds is what the library itself would have returned: same records, same positions."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.worker.transport import unpacked

TP = TopicPartition("agent.rollups", 0)
PRODUCER, DEAD_PRODUCER = 1, 2
COMMIT, ABORT = b"\x00\x00\x00\x01", b"\x00\x00\x00\x00"


class Assignment:
    """The position that aiokafka keeps for a partition."""

    active = True

    def __init__(self) -> None:
        self.position = 0
        self.paused = False

    def state_value(self, tp: TopicPartition) -> "Assignment":
        assert tp == TP
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def batch(offset: int, values: Iterable[bytes], *, producer: int = -1, control: bool = False) -> bytes:
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=producer >= 0, producer_id=producer, producer_epoch=0, base_sequence=0, batch_size=10**6
    )
    for number, value in enumerate(values):
        builder.append(number, 1000 + number, COMMIT if value == b"commit" else ABORT if control else b"k", value, [])
    data = bytearray(builder.build())
    data[0:8] = offset.to_bytes(8, "big")
    if control:
        data[22] |= 0x20  # the attribute bit of a control batch
    return bytes(data)


LOGS = {
    "plain": batch(0, [b"a", b"b"]) + batch(2, [b"c"]),
    "committed": batch(0, [b"a", b"b"], producer=PRODUCER) + batch(2, [b"commit"], producer=PRODUCER, control=True),
    "aborted": batch(0, [b"x", b"y"], producer=DEAD_PRODUCER)
    + batch(2, [b"a"], producer=PRODUCER)
    + batch(3, [b"abort"], producer=DEAD_PRODUCER, control=True)
    + batch(4, [b"commit"], producer=PRODUCER, control=True),
    "marks-only": batch(0, [b"commit"], producer=PRODUCER, control=True),
    "compacted": batch(5, [b"a"]) + batch(9, [b"b"]),
}


def fetched(log: bytes, *, check: bool = False) -> tuple[FetchResult, Assignment]:
    assignment = Assignment()
    records = PartitionRecords(TP, MemoryRecords(log), [(DEAD_PRODUCER, 0)], 0, None, None, check, 1)
    return FetchResult(TP, assignment=assignment, partition_records=records, backoff=0), assignment


def shown(records: Iterable[Any]) -> list[tuple[Any, ...]]:
    return [(each.offset, each.timestamp, each.key, each.value, list(each.headers)) for each in records]


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS.keys())
def test_a_chunk_is_what_the_library_returns(log: bytes) -> None:
    theirs, their_position = fetched(log)
    ours, our_position = fetched(log)
    expected = shown(theirs.getall())

    records, end = unpacked(ours)

    assert end == our_position.position  # the next fetch does not wait for the records
    assert expected == shown(records)
    assert their_position.position == end == ours._partition_records.next_fetch_offset


def test_records_of_an_aborted_transaction_never_reach_a_chunk() -> None:
    records, _ = unpacked(fetched(LOGS["aborted"])[0])

    assert [b"a"] == [record.value for record in records]


def test_a_fetch_that_brought_nothing_leaves_the_position_alone() -> None:
    result, position = fetched(b"")

    records, end = unpacked(result)

    assert ([], 0, 0) == (list(records), end, position.position)


def test_damaged_bytes_are_an_error_when_their_records_are_taken() -> None:
    damaged = bytearray(batch(0, [b"a", b"b"]) + batch(2, [b"c"]))
    damaged[-1] ^= 1
    records, end = unpacked(fetched(bytes(damaged), check=True)[0])

    assert 3 == end
    assert [b"a", b"b"] == [record.value for record in itertools.islice(records, 2)]
    with pytest.raises(CorruptRecordException):
        next(records)
